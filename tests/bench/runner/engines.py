"""What the tests of engines share: a short suite of all five methods, the command in a process of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import yaml

from bench import run
from bench.runner import preparing
from bench.runner.cost import Cost
from bench.store import files
from bench.store.trials import TABLES, read_trials

ROOT = Path(__file__).resolve().parents[3]
SUITE: dict[str, Any] = {
    "name": "tiny",
    "steps": 1200,
    "seeds": 1,
    "evaluate": {"every": 100, "episodes": 2},
    "tasks": ["games/driving"],
    "algorithms": {
        **dict.fromkeys(("ippo", "mappo", "happo", "hatrpo")),
        "maddpg": {"warmup_steps": 0, "batch_size": 16, "buffer_size": 200},
    },
    "defaults": {"envs": 2, "rollout_length": 10, "hidden_sizes": [8], "actor_epochs": 1, "critic_epochs": 1},
}
TIMES = ("seconds", "steps_per_second")


def start(folder: Path, *arguments: str, **changes: Any) -> subprocess.Popen[str]:
    """`bench.run` on the suite, in a process group of its own that hears Ctrl-C."""
    folder.mkdir(exist_ok=True)
    suite = folder / "suite.yaml"
    suite.write_text(yaml.safe_dump(SUITE | changes, sort_keys=False))
    command = [sys.executable, "-m", "bench.run", str(suite), "--results", str(folder), *arguments]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a child inherits an ignored signal
    try:
        return subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
    finally:
        signal.signal(signal.SIGINT, before)


def run_here(folder: Path, **changes: Any) -> None:
    """The same suite in this process, one trial after the other."""
    folder.mkdir(exist_ok=True)
    suite = folder / "suite.yaml"
    suite.write_text(yaml.safe_dump(SUITE | changes, sort_keys=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            preparing, "costs", lambda trials, env_threads, link: {t: Cost(1.0, 1e9, 1.0, 1.0) for t in trials}
        )
        assert run.main([str(suite), "--results", str(folder), "--jobs", "1"]) == 0


def finish(command: subprocess.Popen[str], status: int = 0, seconds: float = 120) -> tuple[str, str]:
    """What a command printed that ended with a status."""
    try:
        out, err = command.communicate(timeout=seconds)
    finally:
        if command.poll() is None:
            command.kill()
    assert command.returncode == status, out + err
    return out, err


def wait_until(condition: Callable[[], Any], command: subprocess.Popen[str] | None = None, seconds: float = 60) -> None:
    """Wait for something to come true, while the command runs."""
    end = time.monotonic() + seconds
    while not condition():
        assert command is None or command.poll() is None, command.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


def runs_a_trial(process: psutil.Process) -> bool:
    """Whether it is no fork server and no tracker of resources, but a process that a fork server made."""
    try:
        parent = process.parent()
        return parent is not None and "forkserver" in " ".join(parent.cmdline())
    except psutil.NoSuchProcess:
        return False


def with_status(folder: Path, status: str) -> int:
    """How many trials have a status."""
    return sum(about["status"] == status for about in read_trials(folder / "tiny"))


def assert_same_records(one: Path, other: Path) -> None:
    """Equal tables but for times."""
    for name in TABLES:
        tables = [files.read_table(folder / "tiny" / f"{name}.parquet") for folder in (one, other)]
        one_table, other_table = (t.drop(columns=[column for column in TIMES if column in t]) for t in tables)
        pd.testing.assert_frame_equal(one_table, other_table, check_exact=True)


def assert_no_places(folder: Path, *words: str) -> None:
    """No `trial.json`, nor what the suite was resolved to, names any of these."""
    for path in [*folder.rglob("tiny/**/*.json"), *folder.rglob("tiny/*.yaml")]:
        text = path.read_text()
        found = [word for word in words if re.search(rf"(?<![\w.-]){re.escape(word)}(?![\w.-])", text)]
        assert found == [], path
