"""Ray: an existing cluster, or one that this command starts for itself.

A task of Ray is a process that waits for the trial's own process. Ray raises KeyboardInterrupt in it when it is
cancelled, and ends it when the command is gone.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Hashable, Iterable
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError, TaskCancelledError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from bench.runner.backends import Hear, Message, Work
from bench.runner.backends.placing import POLL_SECONDS, Gone, Placed, Raised, Room, knock
from bench.suite.model import SuiteError

SETTLE_SECONDS = 20.0


class Mailbox:
    """Keeps what tasks tell until the command asks."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def put(self, message: Message) -> None:
        """From a task."""
        self.messages.append(message)

    def take(self) -> list[Message]:
        """All there are."""
        taken, self.messages = self.messages, []
        return taken


class Ray(Placed):
    """A driver of a cluster."""

    def __init__(self, jobs: int):
        self.jobs = jobs
        self.mailbox = _mailbox()
        self.hear: Hear = print
        self.at_work: set[Any] = set()

    def close(self) -> None:
        ray.shutdown()

    def rooms(self) -> dict[str, Room]:
        """A node has the CPUs and the memory that Ray was told of."""
        return {
            node["NodeID"]: Room(node["Resources"].get("CPU", 0), node["Resources"].get("memory", 0))
            for node in ray.nodes()
            if node["Alive"]
        }

    def start(self, worker: str, function: Callable[..., Any], work: Work[Any]) -> Hashable:
        """Ray is not to run it elsewhere by itself: whoever places it knows what is free."""
        affinity = NodeAffinitySchedulingStrategy(worker, soft=False)
        options = {"num_cpus": work.cores, "memory": work.memory, "scheduling_strategy": affinity, "max_retries": 0}
        task = ray.remote(_serve).options(**options).remote(function, work.item, self.mailbox)
        self.at_work.add(task)
        return task

    def ended(self, seconds: float) -> list[tuple[Hashable, Any]]:
        """All that has ended by now."""
        try:
            for message in ray.get(self.mailbox.take.remote()):
                self.hear(message)
        except RayError:  # what tasks at work tell is lost, which costs no number
            self.mailbox = _mailbox()
        if not (tasks := [*self.at_work]):
            time.sleep(seconds)
            return []
        ray.wait(tasks, num_returns=1, timeout=seconds)
        found, _ = ray.wait(tasks, num_returns=len(tasks), timeout=0)
        self.at_work -= {*found}
        return [(task, _result(task)) for task in found]

    def forget(self, handle: Any) -> None:
        self.at_work.discard(handle)
        ray.cancel(handle)

    def listen(self, hear: Hear) -> None:
        self.hear = hear

    def settle(self, handles: Iterable[Any]) -> None:
        """Cancelled tasks end their processes, and then themselves."""
        left = [*handles]
        for task in left:
            self.forget(task)
        if left:
            ray.wait(left, num_returns=len(left), timeout=SETTLE_SECONDS)


def _mailbox() -> Any:
    """On the node of this command, which other nodes do not take with them."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(Mailbox).remote()


def _result(task: Any) -> Any:
    try:
        return ray.get(task, timeout=POLL_SECONDS)
    except (TaskCancelledError, GetTimeoutError):
        return Gone()
    except RayTaskError as error:
        return Raised(f"{type(error.cause).__name__}: {error.cause}")
    except RayError:  # a worker or node that died
        return Gone()


class _Task:
    """The channel of a task, in its process; a task that is to end meets KeyboardInterrupt."""

    def __init__(self, mailbox: Any):
        self.mailbox = mailbox

    def tell(self, message: Message) -> None:
        self.mailbox.put.remote(message)

    def is_set(self) -> bool:
        return False


def _serve(function: Callable[..., Any], item: Any, mailbox: Any) -> Any:
    """In a worker."""
    os.environ["OMP_NUM_THREADS"] = "1"  # as bench.run sets it, for the processes that are started here
    return function(item, _Task(mailbox))


def connect(address: str | None, jobs: int | None) -> Ray:
    """Without `jobs` as many as the nodes have room for; without an address a cluster of this machine alone."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anybody
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what Ray will do, and else warns of
    alone = address is None and "RAY_ADDRESS" not in os.environ
    own: dict[str, Any] = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"} if alone else {}
    try:
        if address not in (None, "auto", "local"):
            knock(address)
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (OSError, ValueError, RuntimeError) as error:
        raise SuiteError(
            f"--address {address}: no cluster of Ray answers there: {error}; valid: HOST:6379, auto, local"
        ) from None
    return Ray(jobs or 0)
