"""Trials that are given more steps go on to the numbers that they would have had with them from the beginning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml

from bench import run
from bench.cli.command import BAD_INPUT
from bench.publish import publish
from bench.report import budgets, formats, stats
from bench.report import load as loading
from bench.store import files
from bench.store.trials import TABLES, as_ended, of_earlier_budgets, read_trials
from bench.store.verifying import findings
from bench.suite.resolving import load, trials
from bench.trial import session, status, worker
from bench.trial.budget import lengthen, reached
from bench.trial.exporting import export
from bench.trial.status import at_work
from bench.trial.trained import load_team

FIVE = ("ippo", "mappo", "happo", "hatrpo", "maddpg")
SUITE: dict[str, Any] = {
    "name": "tiny",
    "steps": 100,
    "seeds": 1,
    "evaluate": {"every": 50, "episodes": 2},
    "tasks": [{"name": "mamujoco/Hopper-3x1", "episode_length": 25}],
    "algorithms": {
        **dict.fromkeys(FIVE[:4]),
        "maddpg": {"warmup_steps": 0, "batch_size": 16, "buffer_size": 150},
    },
    "defaults": {"envs": 2, "rollout_length": 25, "hidden_sizes": [16]},
}
HAPPO = ("--only", "algorithm=happo")

pytestmark = pytest.mark.usefixtures("sigterm_as_before", "costs_are_known")


def main(results: Path, *arguments: str, **changes: Any) -> int:
    """bench.run in this process."""
    results.mkdir(exist_ok=True)
    path = results / "suite.yaml"
    path.write_text(yaml.safe_dump(SUITE | changes, sort_keys=False))
    return run.main([str(path), "--results", str(results), "--jobs", "1", *arguments])


def joined(results: Path, name: str) -> pd.DataFrame:
    return files.read_table(results / "tiny" / f"{name}.parquet").drop(
        columns={"records": "seconds", "updates": "steps_per_second"}[name]
    )


def wrong(results: Path) -> list[str]:
    return [finding.wrong for finding in findings(results / "tiny") if finding.wrong]


def folder_of(results: Path, label: str) -> Path:
    return results / "tiny" / "trials" / "mamujoco_Hopper-3x1_episode_length=25" / label / "seed-00"


@pytest.fixture(scope="module")
def at_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("at_once")
    assert main(results, steps=200) == 0
    return results


@pytest.fixture(scope="module")
def in_parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("in_parts")
    assert main(results, "--keep") == 0
    assert main(results, "--set", "steps=200") == 0
    return results


def assert_continued(in_parts: Path, at_once: Path, labels: tuple[str, ...]) -> None:
    for name in TABLES:
        part, whole = (joined(folder, name) for folder in (in_parts, at_once))
        part, whole = (frame[frame["algorithm"].isin(labels)] for frame in (part, whole))
        if name == "records":
            part = part[~of_earlier_budgets(part)]
        part, whole = (frame.dropna(axis="columns", how="all") for frame in (part, whole))  # columns of other methods
        one, other = (frame.reset_index(drop=True) for frame in (part, whole))
        pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_all_five_methods_end_with_the_numbers_of_a_run_at_once(in_parts: Path, at_once: Path) -> None:
    assert_continued(in_parts, at_once, FIVE)
    for label in FIVE:
        one, other = (torch.load(folder_of(x, label) / "policy.pt") for x in (in_parts, at_once))
        for which in ("best", "last"):
            assert all(torch.equal(one[which][key], other[which][key]) for key in other[which])


def test_the_fresh_episodes_of_the_earlier_budget_stay(in_parts: Path) -> None:
    records = joined(in_parts, "records")
    counts = records.groupby("kind").size() / len(FIVE)
    assert counts.to_dict() == {"grid": 10, "final": 20, "absolute": 20, "final@100": 20, "absolute@100": 20}
    assert set(records.loc[records["kind"] == "final@100", "step"]) == {100}


def test_results_of_two_budgets_are_whole(in_parts: Path) -> None:
    assert wrong(in_parts) == []
    assert {a["status"] for a in read_trials(in_parts / "tiny")} == {"done"}


def test_a_trial_that_stops_between_the_budgets_goes_on(
    tmp_path: Path, at_once: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(tmp_path, "--keep", *HAPPO) == 0

    def dies(self: session.Session) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:  # the tables of the new budget are there, its checkpoint is not
        patch.setattr(session.Session, "_write_checkpoint", dies)
        assert main(tmp_path, "--set", "steps=200", *HAPPO) == 1
    assert wrong(tmp_path) == []
    assert main(tmp_path, "--set", "steps=200", *HAPPO) == 0
    assert_continued(tmp_path, at_once, ("happo",))
    assert of_earlier_budgets(joined(tmp_path, "records")).sum() == 40


def test_a_trial_that_had_not_ended_goes_on_without_having_kept_anything(
    tmp_path: Path, at_once: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = worker._train

    def stops(running: session.Session, until: int, hold: Any) -> None:
        real(running, 50, hold)
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(worker, "_train", stops)
        assert main(tmp_path, *HAPPO) == 1
    assert main(tmp_path, "--set", "steps=200", *HAPPO) == 0
    assert_continued(tmp_path, at_once, ("happo",))
    assert not of_earlier_budgets(joined(tmp_path, "records")).any()


def test_a_progress_file_that_says_nothing_costs_the_estimate_only(tmp_path: Path) -> None:
    assert main(tmp_path, "--keep", *HAPPO) == 0
    path = tmp_path / "suite.yaml"
    (longer,) = [t for t in trials(load(path, ["steps=200"])[0], path) if t.label == "happo"]
    lengthen([longer], set(), tmp_path / "tiny")
    for content in ("", "{}", "[]", '{"step": null}', '{"step": "far"}'):
        (longer.folder(tmp_path / "tiny") / "progress.json").write_text(content)
        assert reached(longer, tmp_path / "tiny") == 100, content
    assert main(tmp_path, "--dry-run", "--set", "steps=200", *HAPPO) == 0


def test_without_a_checkpoint_one_line_asks_before_trials_start_over(
    tmp_path: Path, at_once: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(tmp_path, *HAPPO) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "tiny").rglob("*.*") if path.is_file()}
    capsys.readouterr()
    assert main(tmp_path, "--set", "steps=200", *HAPPO) == BAD_INPUT
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    for words in (
        "1 trial ended with fewer steps and kept no whole checkpoint",
        "happo seed 0",
        "--restart",
        "--set name=NEW",
    ):
        assert words in err
    assert {path: path.read_bytes() for path in before} == before
    assert main(tmp_path, "--set", "steps=200", "--restart", *HAPPO) == 0
    assert_continued(tmp_path, at_once, ("happo",))
    assert of_earlier_budgets(joined(tmp_path, "records")).sum() == 40


def test_what_was_kept_and_then_deleted_is_asked_for_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(tmp_path, "--keep", *HAPPO) == 0
    (folder_of(tmp_path, "happo") / "checkpoint.pt").unlink()
    assert main(tmp_path, *HAPPO) == 0, "it is done all the same"
    assert main(tmp_path, "--set", "steps=200", *HAPPO) == BAD_INPUT
    assert "--restart" in capsys.readouterr().err


def test_trials_that_were_not_selected_have_the_new_budget_too(tmp_path: Path) -> None:
    two = {"algorithms": {"happo": None, "mappo": None}}
    assert main(tmp_path, "--keep", **two) == 0
    assert main(tmp_path, "--set", "steps=200", *HAPPO, **two) == 0
    assert {a["algorithm"]: (a["status"], a["steps"]) for a in read_trials(tmp_path / "tiny")} == {
        "happo": ("done", 200),
        "mappo": ("stopped", 200),
    }
    assert wrong(tmp_path) == []
    loaded = loading.load(tmp_path / "tiny")
    assert set(loaded.records.loc[loaded.records["algorithm"] == "mappo", "kind"]) == {
        "grid",
        "final@100",
        "absolute@100",
    }


def test_fewer_steps_and_another_setting_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(tmp_path, "--keep", *HAPPO) == 0
    assert main(tmp_path, *HAPPO, "--set", "steps=50") == BAD_INPUT
    assert main(tmp_path, *HAPPO, "--set", "steps=200", "--set", "algorithms.happo.clip=0.1") == BAD_INPUT
    err = capsys.readouterr().err
    assert err.count("choose another name or folder") == 2
    assert "(steps 100, now 50; config" in err
    assert "steps can only be added" in err
    assert "(steps 100, now 200; clip 0.2, now 0.1; config" in err


def test_a_trial_at_which_another_run_is_at_work_keeps_all_from_being_given_more_steps(tmp_path: Path) -> None:
    two = {"algorithms": {"happo": None, "mappo": None}}
    assert main(tmp_path, "--keep", **two) == 0
    lock = files.try_lock(folder_of(tmp_path, "mappo") / ".lock")
    assert lock
    assert main(tmp_path, "--set", "steps=200", **two) == BAD_INPUT
    lock.release()
    assert {about["steps"] for about in read_trials(tmp_path / "tiny")} == {100}


def test_a_trial_at_which_another_run_is_at_work_is_left_to_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(tmp_path, "--keep", *HAPPO) == 0
    lock = files.try_lock(folder_of(tmp_path, "happo") / ".lock")
    assert lock
    assert main(tmp_path, "--set", "steps=200", *HAPPO) == BAD_INPUT
    assert "another process is at work on this trial with fewer steps" in capsys.readouterr().err
    lock.release()
    assert read_trials(tmp_path / "tiny")[0]["steps"] == 100


def test_a_kept_checkpoint_is_one_file_and_no_part_of_the_meaning(tmp_path: Path) -> None:
    assert main(tmp_path, "--keep", *HAPPO) == 0
    folder = folder_of(tmp_path, "happo")
    assert [path.name for path in folder.glob("checkpoint*")] == ["checkpoint.pt"]
    kept = read_trials(tmp_path / "tiny")[0]
    assert main(tmp_path / "without", *HAPPO) == 0
    assert read_trials(tmp_path / "without" / "tiny")[0]["config_hash"] == kept["config_hash"]


def test_a_budget_may_grow_twice(tmp_path: Path, at_once: Path) -> None:
    assert main(tmp_path, "--keep", *HAPPO, steps=50) == 0
    assert main(tmp_path, "--keep", *HAPPO, steps=100) == 0
    assert main(tmp_path, *HAPPO, steps=200) == 0
    assert_continued(tmp_path, at_once, ("happo",))
    kinds = joined(tmp_path, "records").groupby("kind").size().to_dict()
    assert kinds == {"grid": 10} | dict.fromkeys(
        ("final", "absolute", "final@50", "absolute@50", "final@100", "absolute@100"), 20
    )


def test_the_team_of_a_trial_that_is_given_steps_again_before_it_ended_is_that_of_its_last_end() -> None:
    ends = [{"steps": 100, "files": {"policy.pt": "its checksum"}}, {"steps": 200}]
    ended = as_ended({"status": "stopped", "steps": 300, "earlier_budgets": ends})
    assert (ended["status"], ended["steps"]) == ("done", 100)


def test_a_trial_that_failed_before_a_budget_counts_in_its_row() -> None:
    task = "mamujoco/HalfCheetah-2x3"
    rows = [(seed, kind, 100, 2000.0) for seed in range(4) for kind in ("final@100", "absolute@100")]
    records = pd.DataFrame(rows, columns=["seed", "kind", "step", "episode_return"]).assign(
        task=task, algorithm="happo"
    )
    states = pd.DataFrame({"task": task, "algorithm": "happo", "seed": range(5), "state": ["done"] * 4 + ["failed"]})
    found = budgets.earlier_returns(records, states)
    assert found["seeds"].tolist() == [5, 5]
    assert found["failed"].tolist() == [1, 1]
    assert (found["low"] < found["iqm"]).all()


def test_the_report_shows_both_budgets(in_parts: Path) -> None:
    suite = loading.load(in_parts / "tiny")
    states = stats.trial_states(suite.records, suite.trials, order=FIVE)
    rows = budgets.rows(suite.records, states, stats.returns_table(suite.records, states))
    assert [(row["algorithm"], row["steps"]) for row in rows[:4]] == [
        ("ippo", "100"),
        ("ippo", "200"),
        ("mappo", "100"),
        ("mappo", "200"),
    ]
    earlier = suite.records.query("algorithm == 'ippo' and kind == 'final@100'")["episode_return"].mean()
    assert rows[0]["final IQM"] == formats.number(earlier)
    assert rows[1]["final IQM"] != rows[0]["final IQM"]


def damage(results: Path) -> Path:
    path = folder_of(results, "happo") / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-100])
    return path


def test_a_damaged_checkpoint_is_found_before_a_trial_is_given_more_steps(
    tmp_path: Path, at_once: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(tmp_path, "--keep", *HAPPO) == 0
    path = damage(tmp_path)
    assert [f"{path}: " in line for line in wrong(tmp_path)] == [True]
    before = path.with_name("trial.json").read_bytes()
    assert main(tmp_path, "--set", "steps=200", *HAPPO) == BAD_INPUT
    assert "--restart" in capsys.readouterr().err
    assert path.with_name("trial.json").read_bytes() == before
    assert main(tmp_path, "--set", "steps=200", "--restart", *HAPPO) == 0
    assert "longer      1 trial to start over" in capsys.readouterr().out
    assert_continued(tmp_path, at_once, ("happo",))


def test_a_trial_that_was_not_selected_is_asked_for_when_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two = {"algorithms": {"happo": None, "mappo": None}}
    assert main(tmp_path, "--keep", **two) == 0
    (folder_of(tmp_path, "mappo") / "checkpoint.pt").unlink()
    capsys.readouterr()
    assert main(tmp_path, "--set", "steps=200", *HAPPO, **two) == 0, "mappo was not asked for"
    said = capsys.readouterr().out
    assert "longer      1 trial to go on from fewer steps; 1 trial not selected, and no longer done" in said
    assert "200 per trial, 200 in all, 100 still to be made" in said
    assert main(tmp_path, "--set", "steps=200", **two) == BAD_INPUT
    assert "mappo seed 0" in capsys.readouterr().err
    assert main(tmp_path, "--set", "steps=200", "--restart", **two) == 0


def test_a_trial_that_is_given_more_steps_still_has_its_team(tmp_path: Path) -> None:
    two = {"algorithms": {"happo": None, "mappo": None}}
    assert main(tmp_path, "--keep", **two) == 0
    folder = folder_of(tmp_path, "mappo")
    before = load_team(folder).learner.policy.state_dict()
    export(folder, tmp_path / "before")
    assert main(tmp_path, "--set", "steps=200", *HAPPO, **two) == 0
    after = load_team(folder).learner.policy.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)
    export(folder, tmp_path / "after")
    for name in ("model.safetensors", "README.md", "config.json"):
        assert (tmp_path / "after" / name).read_bytes() == (tmp_path / "before" / name).read_bytes()


def test_two_runs_that_ask_for_the_same_steps_share_the_trials(tmp_path: Path) -> None:
    assert main(tmp_path, "--keep", *HAPPO) == 0
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump(SUITE | {"steps": 200}))
    planned = [t for t in trials(load(path)[0], path) if t.label == "happo"]
    lengthen(planned, set(), tmp_path / "tiny")
    lock = files.try_lock(folder_of(tmp_path, "happo") / ".lock")
    assert lock, "the first of them is at work"
    lengthen(planned, set(), tmp_path / "tiny")
    lock.release()


@pytest.mark.usefixtures("few_open_files")
def test_more_trials_than_files_may_be_open_are_given_more_steps(tmp_path: Path) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump(SUITE | {"seeds": 10}))
    for t in trials(load(path)[0], path):
        status.register(t, tmp_path / "tiny")
        status.record_failure(t, tmp_path / "tiny", "a full disk")
    planned = trials(load(path, ["steps=200"])[0], path)
    assert len(planned) == 50
    lengthen(planned, set(), tmp_path / "tiny")
    assert {(a["status"], a["steps"]) for a in read_trials(tmp_path / "tiny")} == {("failed", 200)}


def test_a_trial_that_failed_at_its_beginning_has_nothing_to_lose(
    tmp_path: Path, at_once: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(running: session.Session) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(session.Session, "begin", fails)
        assert main(tmp_path, *HAPPO) == 1
        assert main(tmp_path, "--set", "steps=200", *HAPPO) == 1
    assert main(tmp_path, "--set", "steps=200", *HAPPO) == 0
    assert_continued(tmp_path, at_once, ("happo",))


def test_published_trials_are_given_no_more_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(tmp_path, "--keep", *HAPPO) == 0
    publish(tmp_path / "tiny", tmp_path / "published" / "tiny")
    assert main(tmp_path / "published", "--set", "steps=200", *HAPPO) == BAD_INPUT
    assert "published trials cannot be given more steps" in capsys.readouterr().err


def test_nobody_begins_a_trial_while_it_is_given_more_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(tmp_path, "--keep", *HAPPO) == 0
    path = tmp_path / "suite.yaml"
    (longer,) = [t for t in trials(load(path, ["steps=200"])[0], path) if t.label == "happo"]
    free = []

    def write_sealed_json(path: Path, value: Any) -> None:
        free.append(not at_work(longer, tmp_path / "tiny"))

    monkeypatch.setattr(files, "write_sealed_json", write_sealed_json)
    lengthen([longer], set(), tmp_path / "tiny")
    assert free == [False]
