"""Trials on a cluster of Dask whose workers come and go: the numbers of a local run."""

from __future__ import annotations

import json
import logging
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
from engines import (
    SUITE,
    assert_no_places,
    assert_same_records,
    finish,
    run_here,
    runs_a_trial,
    start,
    wait_until,
    with_status,
)

from bench.cli.command import BAD_INPUT, INTERRUPTED
from bench.runner.backends import Work, connect, dask, placing
from bench.runner.backends.placing import Gone
from bench.store.files import try_lock
from bench.store.trials import trial_files
from bench.suite.model import SuiteError

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="kills processes as Linux does"),
    pytest.mark.usefixtures("sigterm_as_before"),
]


class Cluster:
    """A scheduler and workers, on this machine and for nobody else."""

    def __init__(self, folder: Path):
        self.folder, self.started = folder, list[psutil.Popen]()
        file = folder / "scheduler.json"
        self.start("scheduler", "--port", "0", "--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(file))
        wait_until(file.exists)
        self.address: str = json.loads(file.read_text())["address"]

    def start(self, *arguments: str) -> psutil.Popen:
        made = psutil.Popen(
            [sys.executable, "-m", "distributed.cli.dask_" + arguments[0], *arguments[1:], "--host", "127.0.0.1"],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.started.append(made)
        return made

    def worker(self) -> psutil.Popen:
        return self.start("worker", self.address, "--nthreads", "1", "--no-dashboard")

    def close(self) -> None:
        for process in self.started:
            family = [process, *process.children(recursive=True)] if process.is_running() else []
            for one in family:
                one.kill()
            process.wait(10)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("dask"))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def all_workers() -> list[psutil.Popen]:
    return []


@pytest.fixture
def workers(cluster: Cluster, all_workers: list[psutil.Popen]) -> list[psutil.Popen]:
    """Two, of which some may have worked for the test before."""
    all_workers += [cluster.worker() for _ in range(2 - len(all_workers))]
    return all_workers


def training(workers: list[psutil.Popen]) -> list[psutil.Popen]:
    """The workers that have a trial."""
    return [worker for worker in workers if any(map(runs_a_trial, worker.children(recursive=True)))]


def on(cluster: Cluster) -> tuple[str, ...]:
    return ("--on", "dask", "--address", cluster.address)


@pytest.mark.long
def test_ctrl_c_stops_the_trials_on_the_workers(tmp_path: Path, cluster: Cluster, workers: list[psutil.Popen]) -> None:
    run = start(tmp_path, *on(cluster), steps=1_000_000, algorithms={"happo": None})
    wait_until(lambda: trial_files(tmp_path / "tiny", "checkpoint.pt"), run)
    run.send_signal(signal.SIGINT)
    _, err = finish(run, INTERRUPTED, seconds=40)
    assert err == "Stopped. The same command goes on from the last evaluation of each trial.\n"
    assert with_status(tmp_path, "stopped") == 1
    (folder,) = (path.parent for path in trial_files(tmp_path / "tiny", "trial.json"))
    lock = try_lock(folder / ".lock")
    assert lock is not None
    lock.release()


@pytest.mark.parametrize("many", [False, pytest.param(True, marks=pytest.mark.long)], ids=["3 trials", "25 trials"])
def test_workers_that_are_killed_added_and_stopped_change_no_number(
    tmp_path: Path, cluster: Cluster, workers: list[psutil.Popen], many: bool
) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    few = {"algorithms": {label: SUITE["algorithms"][label] for label in ("happo", "hatrpo", "maddpg")}}
    changes: dict[str, Any] = {"seeds": 5, "steps": 8000} if many else few
    run = start(there, *on(cluster), **changes)
    wait_until(lambda: trial_files(there / "tiny", "checkpoint.pt") and training(workers), run)
    victim = next(iter(training(workers)), workers[0])
    for one in [*victim.children(recursive=True), victim]:
        if "forkserver" not in " ".join(one.cmdline()):  # the trial's own process is to see for itself
            one.kill()
    workers.remove(victim)
    workers.append(cluster.worker())
    wait_until(lambda: with_status(there, "done"), run)
    workers.pop(0).terminate()
    out, _ = finish(run, seconds=600)
    assert out.count("  done  ") == (25 if many else 3)
    assert not many or " is gone with 1 trial, to go on elsewhere from the last checkpoint\n" in out
    run_here(here, **changes)
    assert_same_records(there, here)
    assert_no_places(there, cluster.address, socket.gethostname(), str(there))


@pytest.mark.long
def test_a_result_that_is_lost_with_its_worker_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker had ended the work, and went before the command had fetched what became of it."""
    own = Cluster(tmp_path)
    try:
        worker = own.worker()
        with closing(connect("dask", own.address, None)) as engine:
            assert isinstance(engine, dask.Dask)
            wait_until(engine.rooms)
            (address,) = engine.rooms()
            handle = engine.start(address, placing._answer, Work(dict))
            wait_until(lambda: not engine.done.empty())
            for one in [*worker.children(recursive=True), worker]:
                one.kill()
            wait_until(lambda: not engine.rooms())
            monkeypatch.setattr(dask, "CONNECT_SECONDS", 1.0)
            assert engine.ended(1.0) == [(handle, Gone())]
    finally:
        own.close()


@pytest.mark.long
def test_a_scheduler_that_is_killed_is_one_line_and_changes_no_number(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    changes: dict[str, Any] = {"steps": 6000, "algorithms": {"happo": None, "ippo": None}}
    for attempt in ("killed", "again"):
        (tmp_path / attempt).mkdir()
        own = Cluster(tmp_path / attempt)
        try:
            for _ in range(2):
                own.worker()
            run = start(there, *on(own), **changes)
            if attempt == "killed":
                wait_until(lambda: trial_files(there / "tiny", "checkpoint.pt"), run)
                own.started[0].kill()
                _, err = finish(run, BAD_INPUT)
                assert err.splitlines()[1:] == [
                    "--on dask: the scheduler is gone; the same command goes on once there is one again"
                ]
            else:
                finish(run)
        finally:
            own.close()
    run_here(here, **changes)
    assert_same_records(there, here)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("tcp://127.0.0.1:9", "Connection refused"),
        ("there", "it has no port from 1 to 65535"),
        ("tcp://there:99999", "it has no port from 1 to 65535"),
        ("tcp://:8786", "it has no port"),
        ("tcp://there.invalid:8786", "there is no host there.invalid"),
        ("ftp://127.0.0.1:9", "unknown address scheme 'ftp'"),
        ("tls://127.0.0.1:9", "tls needs certificates, which Dask's configuration names: distributed.comm.tls"),
    ],
)
def test_a_scheduler_that_does_not_answer_is_one_line_and_leaves_no_client(
    address: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask, "CONNECT_SECONDS", 0.1)
    monkeypatch.setattr(dask, "Client", None)  # one that cannot begin prints a traceback when it is collected
    with pytest.raises(SuiteError) as raised:
        connect("dask", address, None)
    assert str(raised.value).startswith(f"--address {address}: no scheduler of Dask answers there: {reason}")
    assert str(raised.value).endswith("; valid: tcp://HOST:8786")


def test_what_is_no_scheduler_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask, "CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(dask, "Client", None)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            with server.accept()[0] as caller:
                caller.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")

        threading.Thread(target=greet, daemon=True).start()
        with pytest.raises(SuiteError, match="no scheduler of Dask answers there: "):
            connect("dask", f"127.0.0.1:{server.getsockname()[1]}", None)


def test_dask_logs_nothing_where_the_command_runs() -> None:
    with pytest.raises(SuiteError):
        connect("dask", "there", None)
    for name in ("distributed.client", "distributed.comm.tcp", "distributed", "tornado.application"):
        assert not logging.getLogger(name).isEnabledFor(logging.CRITICAL)
