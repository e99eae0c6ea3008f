"""Trials as tasks of submitit, which runs them on this machine here."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from engines import assert_same_records, finish, run_here, start, wait_until

from bench.runner.backends import connect
from bench.store.trials import read_trials, trial_files
from bench.suite.model import SuiteError

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="signals processes as Linux does"),
    pytest.mark.usefixtures("sigterm_as_before"),
]


def task_processes(folder: Path) -> list[psutil.Process]:
    """The processes that submitit started for a folder and that wait for a trial, not those that started them."""
    return [
        p
        for p in psutil.process_iter(["cmdline"])
        if "submitit.core._submit" in (p.info["cmdline"] or []) and str(folder) in " ".join(p.info["cmdline"])
    ]


def test_a_task_that_times_out_is_started_again_and_changes_no_number(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    changes: dict[str, Any] = {"steps": 3000, "algorithms": {"happo": None}}
    run = start(there, "--on", "slurm", "--address", f"cluster=local,folder={tmp_path / 'submitit'}", **changes)
    wait_until(lambda: trial_files(there / "tiny", "checkpoint.pt"), run)
    (timed_out,) = task_processes(tmp_path)
    timed_out.send_signal(signal.SIGUSR2)  # as Slurm warns of a timeout; submitit starts it again
    finish(run, seconds=300)
    assert [about["attempts"] for about in read_trials(there / "tiny")] == [2]
    run_here(here, **changes)
    assert_same_records(there, here)


@pytest.mark.long
def test_tasks_that_time_out_and_are_killed_change_no_number(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    changes = {"seeds": 2, "steps": 8000}
    run = start(there, "--on", "slurm", "--address", f"cluster=local,folder={tmp_path / 'submitit'}", **changes)
    wait_until(lambda: len(trial_files(there / "tiny", "checkpoint.pt")) >= 2, run)
    timed_out, killed = task_processes(tmp_path)[:2]
    timed_out.send_signal(signal.SIGUSR2)  # as Slurm warns of a timeout; submitit starts it again
    killed.kill()
    finish(run, seconds=300)
    assert max(about["attempts"] for about in read_trials(there / "tiny")) > 1
    run_here(here, **changes)
    assert_same_records(there, here)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("cpu", "--address: 'cpu' is not KEY=VALUE"),
        ("cluster=local,walltime=3", "submitit refuses --address: .*walltime"),
        ("cluster=nowhere", "submitit refuses --address: .*nowhere"),
    ],
)
def test_parameters_that_submitit_does_not_know_are_refused(address: str, message: str) -> None:
    with pytest.raises(SuiteError, match=message):
        connect("slurm", address, None)
