"""`bench.plan`: what a trial takes of a worker, what the command says, and what it refuses."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench import plan
from bench.runner import preparing
from bench.runner.cost import CHECKPOINT_BYTES, POLICY_BYTES, Cost
from bench.runner.pool import in_order
from bench.runner.simulation import FILES_AT_END, FILES_PER_SAVE, FILES_PER_START
from bench.store import files
from bench.store.places import working
from bench.suite.resolving import load, trials
from bench.suite.trial import Trial
from bench.trial import worker

SUITE: dict[str, Any] = {
    "name": "tiny",
    "steps": 400,
    "seeds": 3,
    "evaluate": {"every": 200, "episodes": 1},
    "tasks": ["games/driving"],
    "algorithms": {"ippo": None, "maddpg": {"buffer_size": 300, "warmup_steps": 100, "batch_size": 10}},
    "defaults": {"envs": 5, "rollout_length": 20, "hidden_sizes": [4]},
}
HOURS = {"ippo": 1.0, "maddpg": 2.0}
"""What the trials take here, evaluations of a hundredth of an hour included."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump(SUITE))
    return path


@pytest.fixture
def priced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the seconds that measuring takes."""

    def costs(some: list[Trial], env_threads: int, link: object) -> dict[Trial, Cost]:
        return {t: Cost(HOURS[t.label] * 3600, 2e9, 3e6, 12e6, 36.0) for t in some}

    monkeypatch.setattr(preparing, "costs", costs)
    monkeypatch.setattr(plan, "start_seconds", lambda *_: 0.0)


def planned(path: Path) -> list[Trial]:
    return trials(load(path)[0], path)


def main(path: Path, *arguments: str) -> int:
    return plan.main([str(path), "--results", str(path.parent), *arguments])


# A trial on a worker


def test_a_trial_takes_its_cost_and_its_start(path: Path) -> None:
    """Of 100 s, 23 evaluations of 1 s: three of the grid, and ten times two at the end. Training is 77 s in two."""
    job = plan.job(planned(path)[0], Cost(100.0, 2e9, 3e6, 2e6, 1.0), start=0.5, speed=1.0)
    assert (job.start, job.first, job.interval, job.saves, job.last) == (0.5, 1, 77 / 2 + 1, 3, 20)
    assert job.seconds == 100.5


def test_a_worker_twice_as_fast_takes_half_of_all(path: Path) -> None:
    cost = Cost(100.0, 2e9, 3e6, 2e6, 1.0)
    assert plan.job(planned(path)[0], cost, 0.5, speed=2.0).seconds == 100.5 / 2


def test_a_replay_is_full_when_as_many_steps_are_done_as_it_holds(path: Path) -> None:
    (maddpg,) = [t for t in planned(path) if t.label == "maddpg" and t.seed == 0]
    job = plan.job(maddpg, Cost(100.0, 2e9, POLICY_BYTES, CHECKPOINT_BYTES + 9e6, 1.0), 0.5, 1.0)
    assert job.sizes().tolist() == [2e6, 2e6 + 9e6 * 200 / 300, 11e6]


@pytest.mark.parametrize(("update", "every"), [(0.3, 1.2), (0.5, 1.5), (1.5, 1.5)])
def test_progress_is_written_after_the_first_update_beyond_a_second(path: Path, update: float, every: float) -> None:
    trial = planned(path)[0]  # four updates
    job = plan.job(trial, Cost(4 * update, 2e9, 3e6, 2e6, 0.0), 0.5, 1.0)
    assert job.progress == pytest.approx(4 * update / every)


def test_a_trial_writes_the_files_that_are_counted(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for progress.json, which follows the clock, beyond that of each checkpoint."""
    written, write = Counter[str](), files.write_bytes

    def counted(target: Path, *arguments: Any, **options: Any) -> None:
        written[target.name] += 1
        write(target, *arguments, **options)

    monkeypatch.setattr(files, "write_bytes", counted)
    trial = planned(path)[0]
    assert worker.run(trial, tmp_path / "tiny").status == "done"
    saves = plan.job(trial, Cost(1.0, 1.0, 1.0, 1.0), 0.0, 1.0).saves
    assert (saves, written["progress.json"] >= saves) == (3, True)
    progress = written["progress.json"] - saves
    no_updates_yet = 1  # the table is not written at the first checkpoint
    counted_files = FILES_PER_START + saves * FILES_PER_SAVE + FILES_AT_END
    assert written.total() - progress == counted_files - no_updates_yet


# The order


def test_trials_are_handed_out_in_rounds_by_seed_the_longest_of_each_first(path: Path) -> None:
    some = planned(path)
    order = in_order(some, {t: Cost(HOURS[t.label], 0, 0, 0) for t in some})
    assert [(t.seed, t.label) for t in order] == [(s, label) for s in range(3) for label in ("maddpg", "ippo")]


# The command


@pytest.mark.usefixtures("priced")
def test_the_output(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On two workers: 2 + 2 + 2 hours of maddpg and 1 + 1 + 1 of ippo, 9 in all, of which one worker has 5."""
    assert main(path, "--workers", "2", "--workers-per-node", "2", "--node-memory", "16") == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0] == "6 trials of 2 pairings on 2 workers with 1 core, as fast as this machine"
    assert lines[1].startswith("  makespan    5:00:00; the longest trial takes 2:00:00")
    assert lines[2] == "  efficiency  90.0%: workers have a trial for 9:00:00 in all"
    assert "failures" not in lines[3]
    assert lines[3].endswith("18.0 MB in 30 files stay")
    assert re.search(r"node memory +25.0%  of 16.0 GB", out)
    assert re.search(r"longest trial +40.0%  of the makespan; more than about 5 workers would not shorten it", out)
    shares = [float(share) for share in re.findall(r"^  \S.{14}\s*([\d.]+)%", out.partition("How much")[2], re.M)]
    assert len(shares) == 5
    assert shares == sorted(shares, reverse=True)


@pytest.mark.usefixtures("priced")
def test_speed_and_failures_change_it(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(path, "--workers", "2", "--speed", "2", "--fail-rate", "1", "--seed", "3") == 0
    first = capsys.readouterr().out
    assert "2 times as fast as this machine" in first
    assert int(re.search(r"by (\d+) failures?", first)[1]) > 0  # type: ignore[index]
    assert main(path, "--workers", "2", "--speed", "2", "--fail-rate", "1", "--seed", "3") == 0
    assert capsys.readouterr().out == first


@pytest.mark.usefixtures("priced")
def test_in_an_object_store_there_are_objects_and_none_of_them_is_progress(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARL_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(preparing, "fetched", working)  # of an empty store
    assert plan.main([str(path), "--workers", "2", "--results", "s3://bucket/marl"]) == 0
    out = capsys.readouterr().out
    assert "objects stay" in out
    assert "store's objects" in out
    assert "files" not in out


@pytest.mark.usefixtures("priced")
def test_a_part_of_a_changed_suite(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(path, "--workers", "1", "--set", "seeds=5", "--only", "algorithm=ippo") == 0
    assert capsys.readouterr().out.startswith("5 trials of 1 pairing on 1 worker with 1 core,")


def test_costs_and_the_start_are_measured_and_nothing_is_written(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(path.parent.rglob("*"))
    assert main(path, "--workers", "2") == 0
    assert sorted(path.parent.rglob("*")) == before
    assert re.search(
        r"makespan +\d+:\d\d:\d\d; the longest trial takes .* \d+\.\d s of it to start", capsys.readouterr().out
    )


@pytest.mark.usefixtures("priced")
def test_trials_that_are_done_are_not_planned(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "read_status", lambda *_: {"status": "done"})
    assert main(path, "--workers", "2") == 0
    assert capsys.readouterr().out == f"Nothing to run: 6 trials done already in {tmp_path}\n"


# Errors


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "the following arguments are required: --workers"),
        (["--workers", "0"], "argument --workers: '0' is not a whole number from 1 to 100000"),
        (["--workers", "2", "--fail-rate", "-1"], "argument --fail-rate: '-1' is not a number from 0 to 1000"),
        (["--workers", "2", "--speed", "fast"], "argument --speed: 'fast' is not a number from 0.01 to 100"),
        (["--workers", "2", "--node-memory", "nan"], "argument --node-memory: 'nan' is not a number from 0.1 to 1e+06"),
        (["--workers", "2", "--seed", "x"], "argument --seed: invalid int value: 'x'"),
    ],
)
def test_arguments_that_are_refused(
    path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(path, *arguments)
    assert capsys.readouterr().err == f"python -m bench.plan: {says}; --help shows what is valid\n"


def test_a_suite_that_is_wrong_is_refused_as_bench_run_does(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(path, "--workers", "2", "--set", "steps=401") == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "steps" in err


@pytest.mark.usefixtures("priced")
def test_a_rate_at_which_trials_would_never_end_is_refused(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """MADDPG trains 2 - 0.23 hours in two parts, each evaluated: 0.895 hours, in which it fails 8.95 times."""
    assert main(path, "--workers", "2", "--fail-rate", "10") == 2
    assert capsys.readouterr().err == (
        "--fail-rate 10: games/driving maddpg seed 0 works up to 0:53:42 without a checkpoint, in which its process "
        "would fail 8.9 times; give up to 3.4 per hour, or lower evaluate.every\n"
    )


def test_a_worker_has_the_cores_that_a_trial_keeps_busy(
    path: Path, tmp_path: Path, priced: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    common = [str(path), "--results", str(tmp_path), "--workers", "4", "--env-threads", "4"]  # games heed no threads
    assert plan.main([*common, "--set", "learner_threads=2"]) == 0
    out = capsys.readouterr().out
    assert "on 4 workers with 2 cores" in out
    assert "up to 4 workers" in out


# Trials that go on, and checkpoints that stay


def test_of_a_trial_that_goes_on_the_rest_is_simulated(path: Path) -> None:
    """Half of the two points of the grid and of the 77 s of training, and no first evaluation."""
    job = plan.job(planned(path)[0], Cost(100.0, 2e9, 3e6, 2e6, 1.0, share=0.5), start=0.5, speed=1.0)
    assert (job.first, job.interval, job.saves, job.last) == (77 / 2 + 1, 77 / 2 + 1, 1, 20)


def test_a_checkpoint_that_is_kept_is_written_once(path: Path) -> None:
    trial = replace(planned(path)[0], keep=True)
    cost = Cost(100.0, 2e9, 3e6 + CHECKPOINT_BYTES, CHECKPOINT_BYTES, 1.0)
    kept, deleted = plan.job(trial, cost, 0.5, 1.0), plan.job(planned(path)[0], replace(cost, disk=3e6), 0.5, 1.0)
    assert kept == deleted
