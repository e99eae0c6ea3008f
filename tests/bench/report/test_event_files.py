"""Event files for TensorBoard: what is in them, and what is said where TensorBoard is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_report import TASK, write_trial

from bench.report.__main__ import main
from bench.store import files
from bench.store.trials import identity, read_trial, trial_folder


def write(folder: Path) -> Path:
    """A trial with two updates of two agents; returns the folder of its events."""
    write_trial(folder, "happo", 3, returns=(0.0, 10.0, 20.0))
    place = trial_folder(folder, TASK, "happo", 3)
    about = read_trial(place / "trial.json")
    rows = [(step, agent, kl) for step, agent, kl in ((100, "a", 0.1), (200, "a", 0.2), (100, "team", None))]
    updates = pd.DataFrame(rows, columns=["step", "agent", "kl_mean"])
    checksum = files.write_table(
        place / "updates.parquet",
        updates.assign(suite="demo", task=TASK, algorithm="happo", seed=3),
        identity(about),
    )
    files.write_sealed_json(
        place / "trial.json",
        {k: v for k, v in about.items() if k != "checksum"} | {"files": about["files"] | {"updates.parquet": checksum}},
    )
    return folder / "tensorboard" / "mamujoco_HalfCheetah-6x1" / "happo" / "seed-03"


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder)).Reload()
    return {tag: [(x.step, round(x.value, 4)) for x in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_every_trial_is_a_run_with_its_returns_and_diagnostics(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write(tmp_path / "demo")
    for _ in range(2):  # the second time they are written anew
        assert main([str(tmp_path / "demo"), "--tensorboard"]) == 0
    assert scalars(run) == {
        "return/grid": [(0, 0.0), (100, 10.0), (200, 20.0)],
        "return/final": [(200, 20.0)],
        "return/absolute": [(200, 25.0)],
        "kl_mean/a": [(100, 0.1), (200, 0.2)],
    }
    assert f"tensorboard --logdir {tmp_path / 'demo' / 'tensorboard'}" in capsys.readouterr().out


def test_without_tensorboard_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "demo")
    monkeypatch.setitem(sys.modules, "tensorboard.summary.writer.event_file_writer", None)
    assert main([str(tmp_path / "demo"), "--tensorboard"]) == 2
    err = capsys.readouterr().err
    assert err == "bench.report: --tensorboard: needs the extra tensorboard: pip install -e '.[tensorboard]'\n"
