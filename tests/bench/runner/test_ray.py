"""Trials on a cluster of Ray whose nodes come and go: the numbers of a local run. Needs the extra `ray`."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from engines import assert_no_places, assert_same_records, finish, run_here, start, wait_until, with_status

from bench.cli.command import INTERRUPTED
from bench.runner.backends import connect
from bench.store.trials import trial_files
from bench.suite.model import SuiteError

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("sigterm_as_before")]
CLUSTER = """
import sys
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
print(cluster.address, flush=True)
for line in sys.stdin:
    if line == "add\\n":
        nodes.append(cluster.add_node(num_cpus=1))
    else:
        cluster.remove_node(nodes.pop(0), allow_graceful=line == "stop\\n")
    print("ok", flush=True)
cluster.shutdown()
"""


class Nodes:
    """A head that runs nothing and three nodes, in processes of their own on this machine."""

    def __init__(self) -> None:
        environment = os.environ | {"RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0"}
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", CLUSTER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self.address = self._line()

    def _line(self) -> str:
        assert self.process.stdout
        while line := self.process.stdout.readline():
            if line == "ok\n" or line.count(":") == 1:
                return line.strip()
        raise AssertionError("the cluster has ended")

    def do(self, what: str) -> None:
        """Add a node, stop one, or kill one."""
        assert self.process.stdin
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        self._line()


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    import_module("ray")  # not installed: an error, not a skip
    made = Nodes()
    yield made
    made.process.communicate(timeout=60)


def test_nodes_that_are_killed_added_and_stopped_change_no_number(tmp_path: Path, nodes: Nodes) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    changes: dict[str, Any] = {"seeds": 5, "steps": 4000}
    run = start(there, "--on", "ray", "--address", nodes.address, **changes)
    wait_until(lambda: trial_files(there / "tiny", "checkpoint.pt"), run)
    nodes.do("kill")
    nodes.do("add")
    wait_until(lambda: with_status(there, "done") > 1, run)
    nodes.do("stop")
    out, _ = finish(run, seconds=600)
    assert out.count("  done  ") == 25
    assert " is gone with 1 trial, to go on elsewhere from the last checkpoint\n" in out
    run_here(here, **changes)
    assert_same_records(there, here)
    assert_no_places(there, nodes.address, socket.gethostname(), str(there))


def test_ctrl_c_stops_the_trials_on_the_nodes(tmp_path: Path, nodes: Nodes) -> None:
    run = start(tmp_path, "--on", "ray", "--address", nodes.address, steps=1_000_000, algorithms={"happo": None})
    wait_until(lambda: trial_files(tmp_path / "tiny", "checkpoint.pt"), run)
    run.send_signal(signal.SIGINT)
    _, err = finish(run, INTERRUPTED, seconds=60)
    assert "Stopped. The same command goes on" in err
    wait_until(lambda: with_status(tmp_path, "stopped") == 1)


@pytest.mark.parametrize(("address", "reason"), [("there", "it has no port"), ("127.0.0.1:9", ".*refused")])
def test_a_cluster_that_does_not_answer_is_one_line(address: str, reason: str) -> None:
    with pytest.raises(SuiteError, match=f"--address {address}: no cluster of Ray answers there: {reason}.*; valid: "):
        connect("ray", address, None)
