"""`bench.verify` of a study: what is whole passes, and each thing that no longer agrees with the records is named."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from test_tune import main

from bench import publish, verify
from bench.store import files
from bench.store.verifying_study import findings_of_study

pytestmark = pytest.mark.usefixtures("sigterm_as_before")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny study, whole."""
    folder = tmp_path_factory.mktemp("ran")
    assert main(folder) == 0
    return folder / "tiny"


@pytest.fixture(params=["ran", "published"])
def study(request: pytest.FixtureRequest, ran: Path, tmp_path: Path) -> Path:
    """A copy of it as it ran, and its published form."""
    target = tmp_path / "tiny"
    if request.param == "ran":
        shutil.copytree(ran, target)
    else:
        publish.publish_study(ran, target)
    return target


def wrong(folder: Path) -> list[str]:
    return [found.wrong for found in findings_of_study(folder) if found.wrong]


def edit(folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame], name: str = "tuning") -> None:
    path = folder / f"{name}.parquet"
    files.write_table(path, change(files.read_table(path)))


def test_a_whole_study_passes(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify.main([str(study)]) == 0
    out = capsys.readouterr().out
    assert "tuning trials: happo 3 complete; hatrpo 3 complete" in out
    assert "those of the best tuning trials of happo, hatrpo" in out
    assert ("files: those of 6 trials" in out) == (study / "tuning").exists()


def test_a_return_that_is_not_that_of_the_records_is_named(study: Path) -> None:
    def flatter(table: pd.DataFrame) -> pd.DataFrame:
        made = {name: value + 1 for name, value in json.loads(table["returns"].tolist()[1]).items()}
        return table.assign(returns=table["returns"].mask(table.index == 1, json.dumps(made)))

    edit(study, flatter)
    (found,) = wrong(study)
    assert "happo trial 1, mamujoco/Hopper-3x1 seed 1000: " in found
    assert "but the records give" in found


def test_a_value_that_is_not_the_mean_of_the_returns_is_named(study: Path) -> None:
    edit(study, lambda table: table.assign(value=table["value"].mask(table.index == 2, 9.0)))
    assert any("happo trial 2: has the value 9, but the mean over its tasks is" in found for found in wrong(study))


def test_a_tuning_trial_that_is_there_twice_is_named(study: Path) -> None:
    edit(study, lambda table: pd.concat([table, table[:1]], ignore_index=True))
    assert "a tuning trial is in the table twice" in wrong(study)


def test_trials_that_were_deleted_are_missed(study: Path) -> None:
    if (study / "tuning").exists():
        shutil.rmtree(study / "tuning" / "hatrpo" / "trial-0002")
    else:
        edit(study, lambda t: t[(t["algorithm"] != "hatrpo") | (t["number"] != 2)], "tuning_trials")
    assert wrong(study)[0] == "hatrpo trial 2: its trials are not there: mamujoco/Hopper-3x1 seed 1000"


def test_best_settings_that_were_edited_are_named(study: Path) -> None:
    path = study / "best.yaml"
    path.write_text(re.sub(r"clip: [\d.]+", "clip: 0.5", path.read_text()))
    (found,) = wrong(study)
    assert found.startswith(f"{path}: happo.clip is 0.5, but trial ")
    path.write_text("a: [")
    assert "best.yaml: cannot be read" in wrong(study)[0]


def test_a_damaged_or_lost_table_is_named(study: Path) -> None:
    path = study / "tuning.parquet"
    path.write_bytes(path.read_bytes()[:-50])
    assert wrong(study) == [found for found in wrong(study) if str(path) in found] != []
    path.unlink()
    assert wrong(study) == []
    assert [found.note for found in findings_of_study(study)] == ["none has ended yet"]


def test_records_that_lost_rows_are_named(ran: Path, tmp_path: Path) -> None:
    study = tmp_path / "tiny"
    publish.publish_study(ran, study)
    edit(study, lambda table: table[:-1], "tuning_records")
    assert any(
        "hatrpo trial 2: mamujoco/Hopper-3x1 hatrpo seed 1000: an evaluation has other" in x for x in wrong(study)
    )


def test_nothing_of_a_study_is_replayed(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify.main([str(study), "--replay", "2"]) == 0
    assert "replay: none: only trials of suites are made again" in capsys.readouterr().out
