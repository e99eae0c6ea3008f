"""Dask: an existing cluster, by the address of its scheduler.

A task of Dask is a thread of a worker that waits for the trial's own process. It ends that process when the task is
cancelled, also because the command is gone, and when the worker is about to stop.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import pickle
import queue
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from typing import Any
from uuid import uuid4

import dask
import distributed
from distributed import Client, Future, Security, get_worker, rpc
from distributed.comm.addressing import parse_address
from distributed.comm.registry import get_backend
from distributed.core import Status

from bench.runner.backends import Hear, Message, Work
from bench.runner.backends.placing import CONNECT_SECONDS, Gone, Placed, Raised, Room, knock
from bench.suite.model import SuiteError

SETTLE_SECONDS = 20.0
RUNNING = (Status.running.name, Status.paused.name)
_at_work, _counting = Counter[str](), threading.Lock()
"""In a worker: how many tasks of each command go on."""


class Dask(Placed):
    """A client of a scheduler."""

    def __init__(self, client: Client, jobs: int):
        self.client, self.jobs, self.topic = client, jobs, f"bench-{uuid4().hex}"
        self.done: queue.SimpleQueue[Future] = queue.SimpleQueue()

    def close(self) -> None:
        self.client.close()

    def rooms(self) -> dict[str, Room]:
        """A worker has as many cores as threads, and the memory of its limit."""
        if self.client.status != "running":
            raise SuiteError("--on dask: the scheduler is gone; the same command goes on once there is one again")
        workers = self.client.scheduler_info(n_workers=-1)["workers"]
        return {
            address: Room(about["nthreads"], about["memory_limit"] or math.inf)
            for address, about in workers.items()
            if about["status"] in RUNNING
        }

    def start(self, worker: str, function: Callable[..., Any], work: Work[Any]) -> Hashable:
        """Dask is not to run it elsewhere by itself: whoever places it knows what is free."""
        future = self.client.submit(
            _serve, function, work.item, self.topic, workers=[worker], pure=False, retries=0, key=f"bench-{uuid4().hex}"
        )
        future.add_done_callback(self.done.put)
        return future

    def ended(self, seconds: float) -> list[tuple[Hashable, Any]]:
        """All that has ended by now."""
        found = []
        try:
            found.append(self.done.get(timeout=seconds))
            while True:
                found.append(self.done.get_nowait())
        except queue.Empty:
            return [(future, _result(future)) for future in found]

    def forget(self, handle: Hashable) -> None:
        self.client.cancel([handle], force=True)

    def listen(self, hear: Hear) -> None:
        self.client.subscribe_topic(self.topic, lambda event: hear(pickle.loads(event[1])))

    def settle(self, handles: Iterable[Hashable]) -> None:
        """Cancelled tasks see so themselves; the workers say when they have."""
        self.client.unsubscribe_topic(self.topic)
        if self.client.status == "running" and (left := [*handles]):
            self.client.cancel(left, force=True)
            self.client.run(_quiet, self.topic, on_error="ignore")


def _result(future: Future) -> Any:
    """Dask waits without end for a result whose worker has gone with it, as no other worker may compute it again."""
    try:
        if future.status == "finished":
            return future.result(timeout=CONNECT_SECONDS)
        error = None if future.status == "cancelled" else future.exception(timeout=CONNECT_SECONDS)
    except (TimeoutError, distributed.CancelledError):
        return Gone()
    if error is None or isinstance(error, distributed.KilledWorker | distributed.CancelledError):
        return Gone()
    return Raised(f"{type(error).__name__}: {error}")


class _Task:
    """The channel of a task, in its worker."""

    def __init__(self, topic: str):
        self.worker, self.topic = get_worker(), topic
        self.key = self.worker.get_current_task()

    def tell(self, message: Message) -> None:
        self.worker.log_event(self.topic, pickle.dumps(message))

    def is_set(self) -> bool:
        task = self.worker.state.tasks.get(self.key)
        return task is None or task.state != "executing" or self.worker.status.name not in RUNNING


def _serve(function: Callable[..., Any], item: Any, topic: str) -> Any:
    """In a worker."""
    os.environ["OMP_NUM_THREADS"] = "1"  # as bench.run sets it, for the processes that are started here
    _count(topic, 1)
    try:
        return function(item, _Task(topic))
    finally:
        _count(topic, -1)


def _count(topic: str, change: int) -> None:
    """Tasks run in several threads of a worker."""
    with _counting:
        _at_work[topic] += change


async def _quiet(topic: str) -> None:
    """In a worker: wait until no task of a command goes on."""
    for _ in range(round(SETTLE_SECONDS / 0.1)):
        if not _at_work[topic]:
            return
        await asyncio.sleep(0.1)


def connect(address: str | None, jobs: int | None) -> Dask:
    """Without `jobs` as many as the workers have room for. From now on Dask logs nothing in this process."""
    if address is None:
        raise SuiteError("--on dask: needs --address, that of a scheduler: tcp://HOST:8786")
    _silence()
    try:
        get_backend(parse_address(address)[0])
        if address.startswith("tls:") and not dask.config.get("distributed.comm.tls.client.cert", None):
            raise ValueError("tls needs certificates, which Dask's configuration names: distributed.comm.tls")
        knock(address)
        asyncio.run(_introduced(address))
        return Dask(Client(address, timeout=CONNECT_SECONDS, set_as_default=False), jobs or 0)
    except Exception as error:  # what listens there may be anything, and answer anything
        reason = str(error) or "it takes connections and says nothing"
        raise SuiteError(
            f"--address {address}: no scheduler of Dask answers there: {reason}; valid: tcp://HOST:8786"
        ) from None


async def _introduced(address: str) -> None:
    """Raise what is wrong with who listens at an address. The end of a client that cannot begin prints a traceback."""
    arguments = Security().get_connection_args("client")
    async with (
        asyncio.timeout(CONNECT_SECONDS + 1),  # Dask has none for what comes after the connection
        rpc(address, timeout=CONNECT_SECONDS, connection_args=arguments) as listener,
    ):
        about = await listener.identity()
    if about["type"] != "Scheduler":
        raise ValueError(f"a {about['type']} of Dask does")


def _silence() -> None:
    """What Dask logs when its scheduler is gone or the command ends, the command says in a line of its own."""
    for name in ("distributed", *logging.root.manager.loggerDict):
        if name.partition(".")[0] in ("distributed", "tornado"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
