"""Studies that are killed at every line of their journal and between: the results of a study that was not."""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine
from test_tune import ONE, main, start, table, write_study

from bench.store import files
from bench.tune.journal import Journal

pytestmark = pytest.mark.usefixtures("sigterm_as_before")

SMALL: dict[str, Any] = {
    **ONE,
    "defaults": {"envs": 2, "rollout_length": 5, "hidden_sizes": [4]},
    "steps": 40,
    "evaluate": {"every": 10, "episodes": 1},
    "pruner": "median",
    "trials": 7,
    "sampler_seed": 1,
    "space": {
        "shared": {"gamma": {"kind": "float", "low": 0.5, "high": 0.999}},
        "own": {"happo": {"actor_lr": {"kind": "float", "low": 1e-4, "high": 1e-1, "log": True}}},
    },
}
"""Seven tuning trials in two seconds, of which the median cuts some."""


class Killed(BaseException):
    """What no code of the benchmark expects."""


@contextmanager
def killed_at(event: int, lines_only: bool) -> Iterator[None]:
    """Die at a line of the journal, before it or in its middle, or (else) at the writing of any other file."""
    append, write, left = Journal.append_logs, files.write_bytes, [event]

    def dying() -> bool:
        left[0] -= 1
        return left[0] < 0

    def append_logs(self: Journal, logs: list[dict[str, Any]]) -> None:
        if dying():
            if event % 2:
                with self.path.open("ab") as file:
                    file.write(b'{"op_code":5,"worker_id":"4b31'[: 1 + event % 30])
            raise Killed
        append(self, logs)

    def write_bytes(path: Path, content: Any, **how: Any) -> None:
        if not lines_only and dying():
            raise Killed
        write(path, content, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "append_logs", append_logs)
        patch.setattr(files, "write_bytes", write_bytes)
        yield


def assert_equal_results(folder: Path, other: Path) -> None:
    """Equal tuning trials, best settings and importances."""
    pd.testing.assert_frame_equal(table(folder), table(other), check_exact=True)
    for name in ("best.yaml", "importances.parquet"):
        assert (folder / "tiny" / name).read_bytes() == (other / "tiny" / name).read_bytes(), name


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small study, without interruption."""
    folder = tmp_path_factory.mktemp("small")
    assert main(folder, **SMALL) == 0
    assert "pruned" in set(table(folder)["state"])
    assert len(files.read_table(folder / "tiny" / "importances.parquet")) == 2
    return folder


def kills(folder: Path, *arguments: str, at: Callable[[int], AbstractContextManager[None]]) -> int:
    """Begin the small study until it ends, each time to be killed; how often it was."""
    for count in range(200):
        with at(count):
            try:
                assert main(folder, *arguments, **SMALL) == 0
                return count
            except Killed:
                continue
    pytest.fail("it does not get on")


@pytest.mark.long
@pytest.mark.parametrize("each", [4, 5])
def test_a_study_killed_at_its_journal_again_and_again_gives_the_same_results(
    tmp_path: Path, small: Path, each: int
) -> None:
    """A tuning trial ends with four lines, which are written again if the last one is missing."""
    assert kills(tmp_path, at=lambda count: killed_at(each + count % 2, lines_only=True)) >= 70 // (each + 1)
    assert_equal_results(tmp_path, small)


@pytest.mark.long
@pytest.mark.parametrize("first", [6, *range(8, 30, 5)])
def test_a_study_killed_at_any_file_that_it_writes_gives_the_same_results(
    tmp_path: Path, small: Path, first: int
) -> None:
    """Six writes are those from a checkpoint to the next."""
    assert kills(tmp_path, at=lambda count: killed_at(first + 7 * count % 23, lines_only=False)) > 5
    assert_equal_results(tmp_path, small)


@contextmanager
def killed_at_statement(number: int) -> Iterator[None]:
    """Die at a statement that writes into a database."""
    left = [number]

    def execute(_c: Any, _k: Any, statement: str, *_: Any) -> None:
        if "_watch" in threading.current_thread().name:  # it only shows how far the study is
            return
        left[0] -= statement.startswith(("INSERT", "UPDATE"))
        if left[0] < 0:
            raise Killed

    event.listen(Engine, "before_cursor_execute", execute)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", execute)


@pytest.mark.long
@pytest.mark.parametrize("first", [7, 9, 12])
def test_a_study_killed_at_its_database_again_and_again_gives_the_same_results(
    tmp_path: Path, small: Path, first: int
) -> None:
    storage = f"sqlite:///{tmp_path / 'optuna.db'}"
    assert kills(tmp_path, "--storage", storage, at=lambda count: killed_at_statement(first + count % 2)) > 5
    assert_equal_results(tmp_path, small)


@pytest.mark.long
def test_a_study_killed_once_at_any_line_of_its_journal_gives_the_same_results(tmp_path: Path, small: Path) -> None:
    for line in range(len((small / "tiny" / "journal.log").read_bytes().splitlines())):
        folder = tmp_path / str(line)
        folder.mkdir()
        with killed_at(line, lines_only=True), pytest.raises(Killed):
            main(folder, **SMALL)
        assert main(folder, **SMALL) == 0
        assert_equal_results(folder, small)
        shutil.rmtree(folder)


@pytest.mark.long
@pytest.mark.parametrize("database", [False, True])
def test_two_processes_killed_at_any_time_give_the_results_of_one(tmp_path: Path, database: bool) -> None:
    """Points at random and without a pruner, which do not depend on the order in which tuning trials end."""
    changes = SMALL | {"steps": 2000, "evaluate": {"every": 100, "episodes": 1}, "pruner": "none", "sampler": "random"}
    alone, both, chance = tmp_path / "alone", tmp_path / "both", random.Random(0)
    for folder in (alone, both):
        folder.mkdir()
        write_study(folder, **changes)
    assert main(alone, **changes) == 0
    storage = ["--storage", f"sqlite:///{both / 'optuna.db'}"] if database else []
    running = [start(both, *storage) for _ in range(2)]
    try:
        for kill in range(8):
            time.sleep(chance.uniform(3, 8))
            victim = running[kill % 2]
            os.killpg(victim.pid, signal.SIGKILL)
            victim.communicate()
            running[kill % 2] = start(both, *storage)
        ends = [process.communicate(timeout=300) for process in running]
    finally:
        for process in running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
    assert [process.returncode for process in running] == [0, 0], ends
    assert_equal_results(both, alone)
