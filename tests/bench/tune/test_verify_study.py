"""`bench.verify` of a study: what is whole passes, and each thing that no longer agrees with the records is named."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from test_tune import main

from bench import publish, verify
from bench.report.__main__ import main as report
from bench.store import files, scores
from bench.store.files import StoreError
from bench.store.studies import earlier_references, tuning_trials
from bench.store.verifying_study import findings_of_study

pytestmark = pytest.mark.usefixtures("sigterm_as_before")


@pytest.fixture(scope="module")
def ran(tiny_study: Path) -> Path:
    """The tiny study, whole."""
    return tiny_study


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
    assert "returns: as the records have them\n" in out


def test_a_return_that_is_not_that_of_the_records_is_named(study: Path) -> None:
    def flatter(table: pd.DataFrame) -> pd.DataFrame:
        made = {name: value + 1 for name, value in json.loads(table["returns"].tolist()[1]).items()}
        return table.assign(returns=table["returns"].mask(table.index == 1, json.dumps(made)))

    edit(study, flatter)
    (found,) = wrong(study)
    assert "happo trial 1: value " in found


def test_returns_are_those_of_the_records_even_if_their_mean_is_the_value(study: Path) -> None:
    def flatter(table: pd.DataFrame) -> pd.DataFrame:
        chosen, made = table.index == 1, {"mamujoco/Hopper-3x1 seed 1000": 9.0}
        return table.assign(
            returns=table["returns"].mask(chosen, json.dumps(made)), value=table["value"].mask(chosen, 9.0)
        )

    edit(study, flatter)
    assert wrong(study)[0].startswith(
        f"{study / 'tuning.parquet'}: happo trial 1, mamujoco/Hopper-3x1 seed 1000: 9, but its records give"
    )


def test_a_reference_that_was_measured_anew_since_is_said_and_no_error(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = scores.score("mamujoco/Hopper-3x1")
    assert old is not None
    assert old.reference is not None
    new = scores.Score(old.random, old.random + 2 * (old.reference - old.random))
    monkeypatch.setattr(scores, "score", lambda task: new)
    assert wrong(study) == []
    notes = [found.note for found in findings_of_study(study)]
    assert "as the records have them; where 1 was another return than now: mamujoco/Hopper-3x1" in notes


def test_the_report_says_which_return_was_the_reference_and_no_trial_is_added_to_it(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task = "mamujoco/Hopper-3x1"
    old = scores.score(task)
    assert old is not None
    assert old.reference is not None
    assert earlier_references(study) == {}
    new = scores.Score(old.random, old.random + 2 * (old.reference - old.random))
    monkeypatch.setattr(scores, "score", lambda _: new)
    assert earlier_references(study) == {task: pytest.approx(old.reference)}
    assert report([str(study)]) == 0
    assert f"since then measured again; {task}: {old.reference:,.0f})" in (study / "report.html").read_text()
    capsys.readouterr()
    assert main(study.parent, "--trials", "4") == 2
    assert f"measured again since: {task}, where 1 was a return of {old.reference:,.0f}" in capsys.readouterr().err


def test_a_value_that_is_not_the_mean_of_the_returns_is_named(study: Path) -> None:
    edit(study, lambda table: table.assign(value=table["value"].mask(table.index == 2, 9.0)))
    assert any("happo trial 2: value 9 is not the mean over its tasks" in found for found in wrong(study))


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
    _, _, lines = path.read_text().partition("\n")  # the first is the checksum
    path.write_text(re.sub(r"clip: [\d.]+", "clip: 0.5", lines))
    (found,) = wrong(study)
    assert found.startswith(f"{path}: happo.clip is 0.5, but trial ")
    path.write_text("a: [")
    assert "best.yaml: cannot be read" in wrong(study)[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"algorithms": {"happo": None}}, "algorithms: happo; tuning: happo, hatrpo; must be those with complete"),
        ({"tuning": {}}, "tuning: none; must be those with complete tuning trials, happo, hatrpo"),
        ({"algorithms": {"happo": None, "hatrpo": {}}}, "best.yaml: not as the benchmark writes it: AttributeError"),
    ],
)
def test_best_settings_of_another_form_are_named(study: Path, change: dict[str, Any], words: str) -> None:
    path = study / "best.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | change))
    (found,) = wrong(study)
    assert words in found


@pytest.mark.parametrize(("key", "value"), [("first_seed", 2000), ("trials", 9), ("study", "other"), ("hash", "0")])
def test_best_settings_say_where_they_were_tuned(study: Path, key: str, value: object) -> None:
    path = study / "best.yaml"
    document = yaml.safe_load(path.read_text())
    document["tuning"]["happo"][key] = value
    path.write_text(yaml.safe_dump(document))
    assert wrong(study)[0].startswith(f"{path}: tuning.happo.{key} is {value}, not ")


def test_lines_that_changed_below_their_checksum_are_named(study: Path) -> None:
    path = study / "best.yaml"
    path.write_text(path.read_text() + "# more\n")
    assert "changed after it was written: its lines have the checksum" in wrong(study)[0]


def test_a_damaged_or_lost_table_is_named(study: Path) -> None:
    path = study / "tuning.parquet"
    path.write_bytes(path.read_bytes()[:-50])
    assert [str(path) in found for found in wrong(study)] == [True]
    path.unlink()
    assert wrong(study) == [f"{path}: is missing; run bench.tune on the study again, which writes it anew"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t[t["algorithm"] != "hatrpo"], "has no tuning trial of hatrpo"),
        (lambda t: t.assign(state="winner"), "states are complete, pruned, fail, not winner"),
        (lambda t: t.drop(columns="state"), "tuning.parquet: not as the benchmark writes it: KeyError"),
        (lambda t: t.assign(returns="{"), "tuning.parquet: not as the benchmark writes it: JSONDecodeError"),
    ],
)
def test_a_table_that_lacks_or_has_what_it_should_not_is_named(
    study: Path, change: Callable[[pd.DataFrame], pd.DataFrame], words: str
) -> None:
    edit(study, change)
    assert words in wrong(study)[0]


def test_a_study_file_that_is_no_yaml_is_named(study: Path) -> None:
    (study / "study.yaml").write_text("{{{")
    assert wrong(study)[0].startswith(f"{study / 'study.yaml'}: cannot be read (")


def test_a_study_that_has_not_ended_is_checked_as_far_as_it_is(ran: Path, tmp_path: Path) -> None:
    study = tmp_path / "tiny"
    shutil.copytree(ran, study)
    for name in ("tuning.parquet", "best.yaml", "importances.parquet"):
        (study / name).unlink()
    assert wrong(study) == []
    (path, *_) = study.glob("tuning/happo/trial-0000/trials/*/*/*/records.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    assert str(path) in wrong(study)[0]


def test_an_algorithm_of_which_nothing_has_ended_is_no_loss(ran: Path, tmp_path: Path) -> None:
    """As after Ctrl-C: the tables are written, and the first tuning trial of HATRPO is under way."""
    study = tmp_path / "tiny"
    shutil.copytree(ran, study)
    for path in study.glob("tuning/hatrpo/trial-*"):
        if path.name != "trial-0000":
            shutil.rmtree(path)
    for path in study.glob("tuning/hatrpo/trial-0000/trials/*/*/*/trial.json"):
        files.write_sealed_json(path, files.read_sealed_json(path) | {"status": "stopped"})
    edit(study, lambda t: t[t["algorithm"] != "hatrpo"])
    assert not any("hatrpo" in said and "no tuning trial" in said for said in wrong(study))


def test_a_published_study_that_is_opened_or_goes_on_keeps_what_it_has(ran: Path, tmp_path: Path) -> None:
    """`tuning/` is then there and empty, and later has the new tuning trials only."""
    published, again = tmp_path / "tiny", tmp_path / "again" / "tiny"
    publish.publish_study(ran, published)
    assert main(tmp_path) == 0
    assert wrong(published) == []
    assert main(tmp_path, "--trials", "4") == 0
    assert len(list(published.glob("tuning/*/trial-*"))) == 2
    assert wrong(published) == []
    for target in (again, published):
        assert publish.publish_study(published, target) == 8
        assert {*tuning_trials(target)} == {(label, k) for label in ("happo", "hatrpo") for k in range(4)}
        assert wrong(target) == []
    with pytest.raises(StoreError, match=r"has 2 trials that .* has not: happo 3, hatrpo 3; delete it if"):
        publish.publish_study(ran, again)


def test_a_study_that_is_not_whole_is_not_published(
    ran: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "tiny"
    shutil.copytree(ran, study)
    path = study / "best.yaml"
    path.write_text(path.read_text() + "# more\n")
    assert publish.main([str(study), "--into", str(tmp_path / "into")]) == 2
    assert "changed after it was written" in capsys.readouterr().err
    assert not (tmp_path / "into").exists()


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
