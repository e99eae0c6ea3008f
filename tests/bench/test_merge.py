"""Which of two copies of a trial `bench.merge` takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.merge import further, main
from bench.store import files
from bench.store.trials import LOCK, identity, trial_folder


def trial(suite: Path, status: str, step: int) -> Path:
    """A trial that was evaluated last at a step."""
    about: dict[str, Any] = {"suite": "s", "task": "t", "algorithm": "happo", "seed": 0, "config_hash": "0"}
    about |= {"status": status, "steps": 300, "evaluate": {"every": 100, "episodes": 1}}
    folder = trial_folder(suite, "t", "happo", 0)
    files.write_sealed_json(folder / "trial.json", about)
    files.write_table(folder / "records.parquet", pd.DataFrame({"step": [0, step]}), identity(about))
    return folder


@pytest.mark.parametrize(("here", "there"), [("running", "stopped"), ("stopped", "running"), ("failed", "stopped")])
def test_of_two_copies_that_have_not_ended_the_further_one_is_taken(tmp_path: Path, here: str, there: str) -> None:
    trial(tmp_path / "here", here, 100)
    folder = trial(tmp_path / "there", there, 200)
    assert [found for found, _ in further(tmp_path / "here", [tmp_path / "there"])] == [folder]
    assert further(tmp_path / "there", [tmp_path / "here"]) == []


def test_a_trial_at_which_another_process_is_at_work_is_not_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = trial(tmp_path / "here", "running", 100), trial(tmp_path / "there", "stopped", 200)
    before = (here / "trial.json").read_bytes()
    lock = files.try_lock(here / LOCK)
    assert lock is not None
    assert main([str(tmp_path / "here"), str(tmp_path / "there")]) == 2
    assert f"{here}: another process is at work on this trial; wait for it" in capsys.readouterr().err
    assert (here / "trial.json").read_bytes() == before
    lock.release()
    assert main([str(tmp_path / "here"), str(tmp_path / "there")]) == 0
    assert (here / "trial.json").read_bytes() == (there / "trial.json").read_bytes()
