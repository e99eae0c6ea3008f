"""Trials as tasks of submitit, which runs them on this machine here."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from engines import assert_same_records, finish, run_here, start, wait_until, with_status

from bench.cli.command import INTERRUPTED
from bench.runner.backends import Work, connect, slurm
from bench.runner.backends.slurm import Slurm
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


@pytest.mark.long
def test_tasks_that_time_out_and_are_killed_change_no_number(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    changes = {"seeds": 5, "steps": 4000}
    run = start(there, "--on", "slurm", "--address", f"cluster=local,folder={tmp_path / 'submitit'}", **changes)
    wait_until(lambda: len(trial_files(there / "tiny", "checkpoint.pt")) >= 2, run)
    timed_out, killed = task_processes(tmp_path)[:2]
    timed_out.send_signal(signal.SIGUSR2)  # as Slurm warns of a timeout; submitit starts it again
    killed.kill()
    finish(run, seconds=300)
    assert max(about["attempts"] for about in read_trials(there / "tiny")) > 1
    run_here(here, **changes)
    assert_same_records(there, here)


@pytest.mark.long
def test_ctrl_c_stops_the_tasks(tmp_path: Path) -> None:
    address = f"cluster=local,folder={tmp_path / 'submitit'}"
    run = start(tmp_path, "--on", "slurm", "--address", address, steps=1_000_000, algorithms={"happo": None})
    wait_until(lambda: trial_files(tmp_path / "tiny", "checkpoint.pt"), run)
    group = [run.pid, *(p.pid for p in psutil.Process(run.pid).children(recursive=True))]
    for pid in group:  # as a terminal does
        os.kill(pid, signal.SIGINT)
    _, err = finish(run, INTERRUPTED, seconds=60)
    assert "Stopped. The same command goes on" in err
    assert "Traceback" not in err
    wait_until(lambda: with_status(tmp_path, "stopped") == 1)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("cpu", "--address: 'cpu' is not KEY=VALUE"),
        (
            "timeout_mn=3",
            "--address timeout_mn=3: .* did you mean timeout_min. valid: cluster, folder, name, timeout_min",
        ),
        (
            "cluster=local,walltime=3",
            "--address walltime=3: submitit knows no such parameter; valid: cluster, folder, ",
        ),
        ("slurm_partiton=cpu", "did you mean slurm_partition. valid: slurm_account, "),
        ("cluster=local,timeout_min=1h", "--address timeout_min=1h: '1h' is not a whole number"),
        ("cluster=local,stderr_to_stdout=1", "--address stderr_to_stdout=1: '1' is not true or false"),
        ("cluster=local,timeout_min=-5", "--address timeout_min=-5: '-5' is not a whole number"),
        ("cluster=local,nodes=0", "--address nodes=0: '0' is not a whole number"),
        ("cluster=local,mem_gb=-1", "--address mem_gb=-1: '-1' is not a number above 0"),
        ("timeout_min=3,timeout_min=4", "--address timeout_min=4: timeout_min is given twice"),
        ("cluster=local,folder=/proc/here", "--address folder=/proc/here: cannot be written: "),
        ("cluster=nowhere", "--address cluster=nowhere: no such cluster; valid: slurm, local"),
        ("cluster=local,nodes=2", "submitit refuses --address: .*only one node"),
    ],
)
def test_parameters_that_submitit_does_not_know_are_refused(address: str, message: str) -> None:
    with pytest.raises(SuiteError, match=message):
        connect("slurm", address, None)


def test_parameters_that_are_lists_are_written_as_one_entry(tmp_path: Path) -> None:
    lists = {key: slurm._parsed(key, "module load python") for key in ("slurm_setup", "slurm_srun_args")}
    assert [*lists.values()] == [["module load python"]] * 2
    assert slurm._parsed("slurm_partition", "²") == "²"
    with pytest.raises(SuiteError, match=r"slurm_additional_parameters=x: is a mapping, which cannot be written here$"):
        connect("slurm", f"cluster=local,folder={tmp_path},slurm_additional_parameters=x", None)


@pytest.mark.parametrize("torn", range(1, 60, 7))
def test_a_message_that_is_torn_ends_nothing(tmp_path: Path, torn: int) -> None:
    """As on a full disk, and the task that begins again appends to it."""
    post = slurm._Post(tmp_path)
    whole = pickle.dumps({"progress": ["happo seed 0"], "step": 12_345, "said": "something " * 9})
    post.box(0).write_bytes(whole + whole[:torn] + whole)
    post.box(1).write_bytes(whole)
    assert len([*post.take()]) >= 2
    slurm._Channel(tmp_path / "not there" / "box").tell("lost")


def test_a_task_that_was_ended_before_its_work_was_begins_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As by a preemption: it tells by its result that it was told to end."""

    def told_to_end(item: int, channel: Any) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return item

    task = slurm._Task(told_to_end, dict, {})
    before = signal.getsignal(signal.SIGTERM)
    try:
        ended = task(7, tmp_path / "box")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert isinstance(ended, slurm._GivenBack)
    results = [ended, 7]

    class Preempted(Job):
        def result(self) -> Any:
            return results.pop(0)

    monkeypatch.setattr(Slurm, "_submit", lambda self, task, work, numbers, post: {Preempted(0, tmp_path): numbers[0]})
    monkeypatch.setattr(slurm, "POLL_SECONDS", 0.0)
    said: list[Any] = []
    backend = connect("slurm", f"cluster=local,folder={tmp_path}", 1)
    assert [*backend.run(lambda item, channel: item, [Work(7)], dict, said.append)] == [7]
    assert said == ["A task of Slurm was ended with 1 trial, to go on from the last checkpoint"]
    assert not [*tmp_path.glob("*/told-*")]


def test_without_slurm_there_is_a_way_to_try(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(SuiteError, match=r"srun and sbatch are not installed here; .*: --address cluster=local"):
        connect("slurm", "slurm_partition=cpu", None)


def test_on_a_cluster_as_many_run_at_once_as_were_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    folder = f"folder={tmp_path}"
    assert [connect("slurm", folder, jobs).at_once(2) for jobs in (None, 7)] == [0, 7]


def test_on_this_machine_as_many_run_at_once_as_have_their_cores(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    local = f"cluster=local,folder={tmp_path},mem_gb=1.5"
    assert [connect("slurm", local, jobs).at_once(3) for jobs in (None, 7)] == [2, 7]


class Job:
    """A task that has ended as soon as one looks."""

    def __init__(self, item: int, results: Path):
        self.item, self.paths = item, SimpleNamespace(result_pickle=results)

    def done(self, force_check: bool = False) -> bool:
        return True

    def result(self) -> int:
        return 2 * self.item


def test_on_this_machine_no_more_is_submitted_than_runs_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    submitted: list[int] = []

    def submit(self: Slurm, task: Any, work: Any, numbers: list[int], post: Any) -> dict[Job, int]:
        submitted.append(len(numbers))
        return {Job(work[number].item, tmp_path): number for number in numbers}

    monkeypatch.setattr(Slurm, "_submit", submit)
    monkeypatch.setattr(slurm, "POLL_SECONDS", 0.0)
    backend = connect("slurm", f"cluster=local,folder={tmp_path}", 2)
    results = [*backend.run(lambda item, channel: item, [Work(k) for k in range(5)], dict, print)]
    assert sorted(results) == [0, 2, 4, 6, 8]
    assert submitted == [2, 2, 1]
