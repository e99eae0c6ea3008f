"""Runs that are killed, orphaned, paused and doubled: the numbers of a run that was left alone."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import torch
import yaml
from engines import run_here, runs_a_trial

from bench.store import files
from bench.store.trials import TABLES, read_trials, trial_files
from bench.store.verifying import findings

ROOT = Path(__file__).resolve().parents[3]
SUITE: dict[str, Any] = {
    "name": "tiny",
    "steps": 4000,
    "seeds": 1,
    "evaluate": {"every": 400, "episodes": 1},
    "tasks": [{"name": "mamujoco/Hopper-3x1", "episode_length": 50}],
    "algorithms": {
        **dict.fromkeys(("happo", "hatrpo")),
        "maddpg": {"warmup_steps": 100, "batch_size": 16, "buffer_size": 4000},
    },
    "defaults": {"envs": 4, "rollout_length": 25, "hidden_sizes": [16]},
}
TIMES = ("seconds", "steps_per_second")
WAYS = ("parent", "worker", "group", "paused")
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="pauses and kills processes as Linux does"),
    pytest.mark.usefixtures("sigterm_as_before"),
]


class Torture:
    """A results folder, and the processes that work on it."""

    def __init__(self, folder: Path, seed: int):
        self.folder, self.random = folder, random.Random(seed)
        self.ways = itertools.cycle(self.random.sample(WAYS, len(WAYS)))
        self.paused: list[psutil.Process] = []
        self.known: set[psutil.Process] = set()
        """All processes that a kill could have hit."""
        self.suite = folder / "suite.yaml"
        self.suite.write_text(yaml.safe_dump(SUITE, sort_keys=False))

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "bench.run", str(self.suite), "--results", str(self.folder), "--jobs", "2"]
        return subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

    def wait_until_at_work(self, run: subprocess.Popen[bytes]) -> None:
        """Until a trial writes its first or its next checkpoint, or the run is over."""
        before = self.newest_checkpoint()
        end = time.monotonic() + 120
        while run.poll() is None and self.newest_checkpoint() == before and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(self.random.uniform(0, 0.5))

    def newest_checkpoint(self) -> float:
        times = []
        for path in self.folder.rglob("checkpoint.pt"):
            try:
                times.append(path.stat().st_mtime)
            except FileNotFoundError:  # replaced while we looked
                continue
        return max(times, default=0.0)

    def kill(self, run: subprocess.Popen[bytes]) -> None:
        """Kill the command, one of its processes or all of them, or the command alone while the others are paused."""
        try:
            children = psutil.Process(run.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return
        self.known |= {*children}
        way = next(self.ways)
        victims: list[Any] = [run]
        if way == "worker" and (trials := [child for child in children if runs_a_trial(child)]):
            victims = [self.random.choice(trials)]
        elif way == "group":
            victims = [*children, run]
        for child in children if way == "paused" else []:
            if attempted(child.suspend):
                self.paused.append(child)
        for victim in victims:
            attempted(victim.kill)

    def let_go(self) -> None:
        for process in self.paused:
            attempted(process.resume)
        self.paused.clear()


def attempted(action: Any) -> bool:
    """Whether a process was still there to be signalled."""
    try:
        action()
    except (psutil.NoSuchProcess, ProcessLookupError):
        return False
    return True


def alive(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those of some processes that have not ended."""
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def untimed(folder: Path, name: str) -> pd.DataFrame:
    frame = files.read_table(folder / "tiny" / f"{name}.parquet")
    return frame.drop(columns=[column for column in TIMES if column in frame])


@pytest.mark.long
@pytest.mark.parametrize("kills", [4, 40])
def test_no_kill_changes_a_number(tmp_path: Path, kills: int) -> None:
    calm, folder = tmp_path / "calm", tmp_path / "torture"
    for place in (calm, folder):
        place.mkdir()
    run_here(calm, **SUITE)
    torture = Torture(folder, seed=kills)
    runs: list[subprocess.Popen[bytes]] = []
    try:
        for k in range(kills):
            runs = [run for run in runs if run.poll() is None]
            while len(runs) < 1 + k % 2:  # every other time two runs share the folder
                runs.append(torture.start())
            torture.wait_until_at_work(runs[0])
            if torture.random.random() < 0.5:
                torture.let_go()
            torture.kill(torture.random.choice(runs))
        torture.let_go()
        for run in runs:
            run.wait(300)
        assert torture.known
        deadline = time.monotonic() + 30
        while alive(torture.known) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert alive(torture.known) == []  # those of a command that was killed end by themselves
        run_here(folder, **SUITE)
    finally:
        torture.let_go()
        for process in alive(torture.known):
            attempted(process.kill)
    abouts = read_trials(folder / "tiny")
    assert {about["status"] for about in abouts} == {"done"}
    assert max(about["attempts"] for about in abouts) > 1
    for name in TABLES:
        pd.testing.assert_frame_equal(untimed(folder, name), untimed(calm, name), check_exact=True)
    for path in trial_files(calm / "tiny", "policy.pt"):
        one, other = (torch.load(p, weights_only=True) for p in (path, folder / path.relative_to(calm)))
        for policy in ("best", "last"):
            assert all(torch.equal(one[policy][key], other[policy][key]) for key in one[policy])
    assert [found.wrong for found in findings(folder / "tiny") if found.wrong] == []
    assert [*folder.rglob("*.tmp")] == []
