"""Studies: what they refuse, equal budgets whatever is killed, numbers that repeat, and what is made of them."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
import yaml
from optuna.trial import TrialState
from scipy import stats

import algorithms
from bench import publish, reference, run
from bench.envs.mujoco import MujocoBatch
from bench.report import study_results
from bench.report.__main__ import main as report
from bench.report.algorithms import Algorithms
from bench.runner import preparing as suite_preparing
from bench.runner.cost import Cost
from bench.runner.process import Died
from bench.store import files, scores
from bench.store.resolved import Resolved
from bench.store.trials import read_trials, trial_folder
from bench.store.verifying_study import findings_of_study
from bench.suite import model, resolving
from bench.suite.model import SuiteError
from bench.suite.trial import Trial
from bench.tasks import registry
from bench.trial import collect, session, status, worker
from bench.trial.collect import play
from bench.trial.link import Link
from bench.tune import __main__ as tune
from bench.tune import pool as tuning_pool
from bench.tune import preparing, queue, results, space, storage, study, work

ROOT = Path(__file__).resolve().parents[3]
RATE: dict[str, Any] = {"kind": "float", "low": 1e-4, "high": 5e-3, "log": True}
TINY: dict[str, Any] = {
    "name": "tiny",
    "steps": 100,
    "seeds": 1,
    "evaluate": {"every": 50, "episodes": 2},
    "tasks": ["mamujoco/Hopper-3x1"],
    "algorithms": {"happo": None, "hatrpo": None},
    "defaults": {"envs": 2, "rollout_length": 25, "hidden_sizes": [16]},
    "trials": 3,
    "space": {"shared": {"critic_lr": RATE}, "own": {"happo": {"clip": {"kind": "float", "low": 0.05, "high": 0.3}}}},
}
ONE: dict[str, Any] = {"algorithms": {"happo": None}}


pytestmark = pytest.mark.usefixtures("sigterm_as_before")


def write_study(folder: Path, **changes: Any) -> Path:
    path = folder / "study_file.yaml"
    path.write_text(yaml.safe_dump(TINY | changes, sort_keys=False))
    return path


def main(folder: Path, *arguments: str, jobs: int = 1, **changes: Any) -> int:
    """bench.tune in this process, without the seconds that measuring the costs takes."""
    path = write_study(folder, **changes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            preparing, "costs", lambda trials, fresh_episodes, link: {t: Cost(1.0, 1e9, 1.0, 1.0) for t in trials}
        )
        return tune.main([str(path), "--results", str(folder), "--jobs", str(jobs), *arguments])


def table(folder: Path) -> pd.DataFrame:
    """The tuning trials without what depends on the machine's speed."""
    return files.read_table(folder / "tiny" / "tuning.parquet").drop(columns="seconds")


def states(folder: Path, label: str = "happo") -> list[TrialState]:
    opened = storage.open_storage(str(folder / "tiny" / "journal.log"))
    return [t.state for t in optuna.load_study(study_name=f"tiny/{label}", storage=opened).trials]


def refusal(folder: Path, **changes: Any) -> str:
    with pytest.raises(SuiteError) as refused:
        study.load(write_study(folder, **changes))
    message = str(refused.value)
    assert "\n" not in message
    assert "study_file.yaml" in message  # a long path is cut in its middle
    return message


@pytest.fixture(scope="module")
def whole(tiny_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tiny study, run with one job and without interruption."""
    folder = tmp_path_factory.mktemp("whole")
    shutil.copytree(tiny_study, folder / "tiny")
    return folder


# Scores


def test_what_is_wrong_in_a_part_of_the_file_is_answered_with_the_keys_of_that_part(tmp_path: Path) -> None:
    assert refusal(tmp_path, space={"shred": {}}).endswith(
        "space.shred: unknown key; did you mean shared?; valid: shared, own"
    )
    assert "per_task" in refusal(tmp_path, per_task={"mamujoco/Hopper-3x1": {"happo": None}})


def test_a_fraction_is_in_no_range_of_whole_numbers() -> None:
    whole = space.Int(kind="int", low=1, high=20)
    assert [whole.has(value) for value in (1, 20, 2.0, 2.5, 21, True)] == [True, True, True, False, False, False]


def test_memory_is_that_of_the_largest_settings_in_the_space(tmp_path: Path) -> None:
    (trial,) = study.load(write_study(tmp_path, **ONE))[0].defaults["happo"]
    choices: dict[str, list[Any]] = {"hidden_sizes": [[8], [64, 64]], "envs": [2, 4]}
    found = preparing._largest(trial, {k: space.Categorical(kind="categorical", choices=c) for k, c in choices.items()})
    assert {**dataclasses.asdict(trial.settings), "envs": 4, "hidden_sizes": [64, 64]} == dataclasses.asdict(
        found.settings
    )


def test_what_was_not_active_in_the_best_trial_is_kept_at_its_default(tmp_path: Path) -> None:
    """Else a suite's own default would take its place."""
    row = {"algorithm": "happo", "number": 0, "state": "complete", "value": 1.0, "params": '{"actor_minibatches": 1}'}
    best = yaml.safe_load(results._best_yaml(plan_of(tmp_path), pd.DataFrame([row])))["algorithms"]["happo"]
    assert (best["actor_minibatches"], best["clip"]) == (1, 0.2)


def test_a_trial_is_cut_only_at_the_step_that_was_reported_last() -> None:
    """After an interruption earlier steps are gone through again, and Optuna would cut for the value of the last."""
    searched = optuna.create_study(pruner=optuna.pruners.ThresholdPruner(upper=1.0))
    searched.tell(searched.ask(), 0.0)
    own = searched.ask()
    for step, value in ((1, 0.0), (2, 9.0)):
        own.report(value, step)
    assert [work._prune(own, step) for step in (1, 2)] == [False, True]


def test_a_normalised_return_is_0_at_random_and_1_at_the_reference() -> None:
    score = scores.Score(random=10.0, reference=30.0)
    assert [score.normalised(x) for x in (10.0, 30.0, 20.0, 0.0)] == [0.0, 1.0, 0.5, -0.5]


def test_what_agents_observe_changes_no_score_and_the_length_of_episodes_does() -> None:
    assert scores.key("mamujoco/Hopper-3x1:observation=global") == "mamujoco/Hopper-3x1"
    assert scores.key("mamujoco/Hopper-3x1:obsk=2:episode_length=50") == "mamujoco/Hopper-3x1:episode_length=50"
    assert scores.score("mamujoco/Hopper-3x1:episode_length=50") is None


def test_every_recorded_reference_is_far_above_random_and_says_how_it_was_made() -> None:
    entries = {name: entry for name, entry in scores.read().items() if "reference" in entry}
    assert {"mamujoco/HalfCheetah-2x3", "mamujoco/Hopper-3x1"} <= set(entries)
    for entry in entries.values():
        if entry["reference"].get("exact"):
            assert entry["reference"]["mean"] > entry["random"]["mean"]
            continue
        assert entry["reference"]["mean"] > entry["random"]["mean"] + 10 * entry["random"]["standard_error"]
        assert {"algorithm", "settings", "steps", "seeds", "commit"} <= set(entry["reference"])
        assert min(entry["reference"]["seeds"]) >= study.FIRST_TUNING_SEED


def test_references_are_of_the_defaults_that_there_are_now() -> None:
    """A default that changes moves 1: measure all references again, with `bench.reference TASK ... --write`."""
    defaults = json.loads(json.dumps(dataclasses.asdict(algorithms.settings("happo", {}))))
    for name, entry in scores.read().items():
        trained = entry.get("reference", {}).get("settings", {})
        assert {key: defaults.get(key) for key in trained} == trained, name


# The file


def test_a_study_on_reported_seeds_is_refused(tmp_path: Path) -> None:
    assert "first_seed: 999 is below 1000" in refusal(tmp_path, first_seed=999)


def test_a_reference_is_measured_over_equal_parts_of_whole_updates(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        reference.main(["mamujoco/Hopper-3x1", "--steps", "5"])
    assert stopped.value.code == 2
    assert "--steps 5: must be a multiple of 40000" in capsys.readouterr().err


def test_a_reference_is_not_measured_into_a_store(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        reference.main(["mamujoco/Hopper-3x1", "--results", "s3://bucket/marl"])
    assert "is no folder" in capsys.readouterr().err


def test_a_task_without_reference_names_the_command_that_makes_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    message = refusal(Path(), tasks=["mamujoco/ManySegmentAnt-2x4"])
    assert "python -m bench.reference 'mamujoco/ManySegmentAnt-2x4' --write" in message
    assert "mamujoco/Hopper-3x1" in message
    assert message.count("mamujoco/ManySegmentAnt-2x4") == 2  # not among those that have one


def test_a_task_with_options_that_change_returns_has_no_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    message = refusal(Path(), tasks=[{"name": "mamujoco/Hopper-3x1", "episode_length": 25}])
    assert "a task has none with options" in message
    assert "bench.reference" not in message


def test_a_condition_on_a_value_that_its_parameter_cannot_take_is_refused(tmp_path: Path) -> None:
    epochs = {"kind": "int", "low": 1, "high": 9}
    clip = {"kind": "float", "low": 0.1, "high": 0.3, "when": {"actor_epochs": 10}}
    message = refusal(tmp_path, space=TINY["space"] | {"own": {"happo": {"actor_epochs": epochs, "clip": clip}}})
    assert "when.actor_epochs: 10 is not among the values" in message


def test_a_suite_and_a_study_name_each_others_command(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"suite.yaml: says neither trials nor space: .*`python -m bench.run` runs"):
        study.load(suite_file(tmp_path), ["trials=3"])
    with pytest.raises(SuiteError, match=r"study_file.yaml: (trials|space): .*`python -m bench.tune` runs"):
        resolving.load(write_study(tmp_path))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pruner": "median", "objectives": ["return", "seconds"]}, ["pruner: median", "valid: none"]),
        ({"pruner": "wilcoxon"}, ["wilcoxon needs at least 5", "these are 1"]),
        ({"pruner": "median", "steps": 50}, ["median needs evaluations before the end"]),
        ({"pruner": "hyperband"}, ["pruner", "'median'", "hyperband"]),
        ({"objectives": ["seconds"]}, ["objectives", "[return, seconds]"]),
        ({"per_task": {"mamujoco/Hopper-3x1": {"happo": "skip"}}}, ["per_task", "every algorithm on every task"]),
        ({"per_task": {"mamujoco/Hopper-3x1": {"happo": {"clip": 0.1}}}}, ["happo.clip", "is tuned by this study"]),
        ({"trails": 3}, ["trails: unknown key", "did you mean trials?"]),
        ({"trials": 0}, ["trials", "greater than or equal to 1"]),
    ],
)
def test_what_a_study_must_not_say_is_refused(tmp_path: Path, changes: dict[str, Any], words: list[str]) -> None:
    message = refusal(tmp_path, **changes)
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"kind": "real"}, ["kind: 'real' is none of float, int, categorical"]),
        ({"kind": "float", "low": 0.3, "high": 0.1}, ["low must be below high, not 0.3 and 0.1"]),
        ({"kind": "float", "low": 0, "high": 0.5, "log": True}, ["above 0 where log is true"]),
        ({"kind": "float", "low": 0.1, "high": 0.5, "step": 0.1}, ["clip.step: unknown key", "valid: when, kind, low"]),
        ({"kind": "float", "low": 0.1}, ["clip.high: missing"]),
        ({"kind": "categorical", "choices": [0.1, 0.3]}, ["its default 0.2 lies outside"]),
        ({"kind": "categorical", "choices": [0.2, "wide"]}, ["clip=wide", "'wide' is not a number"]),
        ({"kind": "float", "low": -0.1, "high": 0.3}, ["clip=-0.1", "out of range"]),
        ({**RATE, "high": 0.3, "when": {"delta": 1}}, ["when.delta: not a parameter before it; valid: critic_lr"]),
        ({**RATE, "high": 0.3, "when": {"critic_lr": 1e-3}}, ["when.critic_lr: is a float; a condition needs an int"]),
        ({"kind": "categorical", "choices": [0.1, "wide"]}, ["clip=wide: 'wide' is not a number"]),
        ({"kind": "categorical", "choices": [0.2]}, ["clip.choices: needs at least 2 choices"]),
        ({**RATE, "high": 0.3, "when": {"a": 1, "b": 2}}, ["clip.when: 2 entries are more than 1"]),
        ({"kind": "categorical", "choices": [0.1, 0.1]}, ["clip.choices: 0.1 stands there twice"]),
    ],
)
def test_a_wrong_range_is_refused_by_its_name(tmp_path: Path, entry: dict[str, Any], words: list[str]) -> None:
    message = refusal(tmp_path, space=TINY["space"] | {"own": {"happo": {"clip": entry}}})
    assert "space" in message
    assert [word for word in words if word not in message] == []


def test_a_setting_that_an_algorithm_lacks_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, space=TINY["space"] | {"own": {"hatrpo": {"clip": RATE}}})
    assert "space.own.hatrpo.clip: hatrpo has no such setting; valid: envs" in message
    assert "nothing to tune of hatrpo" in refusal(tmp_path, space={"own": {"happo": {"clip": RATE | {"high": 0.3}}}})
    assert "no algorithm of this study" in refusal(tmp_path, space={"shared": {"critic_lr": RATE, "tau": RATE}})


def test_values_that_do_not_fit_the_grid_together_are_refused(tmp_path: Path) -> None:
    lengths = {"kind": "categorical", "choices": [25, 50]}
    envs = {"kind": "int", "low": 1, "high": 2}
    message = refusal(tmp_path, space={"shared": {"rollout_length": lengths, "envs": envs}})
    assert "rollout_length x envs = 100" in message
    assert "rollout_length=50, envs=2" in message


GRID: dict[str, Any] = {"steps": 2000, "evaluate": {"every": 500, "episodes": 2}}


@pytest.mark.parametrize("pruner", ["none", "median"])
def test_a_value_inside_a_range_that_misses_the_grid_is_refused_with_those_that_fit(
    tmp_path: Path, pruner: str
) -> None:
    envs = {"kind": "int", "low": 1, "high": 10}
    message = refusal(tmp_path, **GRID, **ONE, pruner=pruner, space={"shared": {"envs": envs}})
    assert "evaluate.every: 500 is not a multiple of happo's rollout_length x envs = 75" in message
    assert "happo with envs=3; write kind: categorical, choices: [1, 2, 4, 5, 10])" in message
    study.load(write_study(tmp_path, **GRID, **ONE, space={"shared": {"envs": envs | {"high": 2}}}))
    fitting = {"kind": "categorical", "choices": [1, 2, 4, 5, 10]}
    study.load(write_study(tmp_path, **GRID, **ONE, space={"shared": {"envs": fitting}}))


def test_a_range_of_which_only_the_default_fits_the_grid_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, **ONE, space={"shared": {"envs": {"kind": "int", "low": 2, "high": 2000}}})
    assert "with envs=3; only 2 fits)" in message


def test_a_combination_that_a_condition_rules_out_need_not_fit_the_grid(tmp_path: Path) -> None:
    lengths = {"kind": "categorical", "choices": [25, 50]}
    envs = {"kind": "categorical", "choices": [1, 2], "when": {"rollout_length": 25}}
    changes: dict[str, Any] = {"space": {"shared": {"rollout_length": lengths, "envs": envs}}}
    defaults = {"rollout_length": 25, "hidden_sizes": [16]}
    study.load(write_study(tmp_path, defaults=defaults | {"envs": 1}, **changes))
    message = refusal(tmp_path, defaults=defaults | {"envs": 2}, **changes)
    assert "happo with rollout_length=50; 2 of 3 combinations fit" in message


def test_more_combinations_than_can_be_tried_are_refused(tmp_path: Path) -> None:
    many = {"kind": "int", "low": 1, "high": 101}
    message = refusal(tmp_path, space={"shared": {"rollout_length": many, "envs": many | {"high": 100}}})
    assert "rollout_length and envs of happo have more than 10,000 combinations" in message
    assert "narrow the range, or give choices (kind: categorical)" in message


@pytest.mark.parametrize(
    ("kind", "bound", "words"),
    [
        ("int", 10**22, "high: input should be less than or equal to 9007199254740992"),
        ("int", 2**53 + 1, "high: input should be less than or equal to 9007199254740992"),
        ("float", float("inf"), "high: "),
        ("float", float("nan"), "high: "),
        ("float", 1e31, "high: input should be less than or equal to"),
        ("float", 10**400, "high: "),
    ],
)
def test_a_bound_that_float64_does_not_hold_is_refused(tmp_path: Path, kind: str, bound: Any, words: str) -> None:
    entry = {"kind": kind, "low": 1, "high": bound}
    assert f"space.shared.critic_epochs.{words}" in refusal(tmp_path, space={"shared": {"critic_epochs": entry}})


# The space


def parameters(**entries: dict[str, Any]) -> space.Parameters:
    return {name: space.PARAMETER_KINDS[entry["kind"]].model_validate(entry) for name, entry in entries.items()}


def test_a_conditional_parameter_is_asked_for_only_where_its_condition_holds() -> None:
    mine = parameters(
        share={"kind": "categorical", "choices": [True, False]},
        clip={"kind": "float", "low": 0.1, "high": 0.3, "when": {"share": True}},
    )
    asked = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    points = [space.ask(asked.ask(), mine) for _ in range(20)]
    assert {tuple(p) for p in points} == {("share", "clip"), ("share",)}
    assert all(("clip" in p) == p["share"] for p in points)


def test_a_list_is_text_to_optuna_and_a_list_again_as_a_setting() -> None:
    mine = parameters(hidden_sizes={"kind": "categorical", "choices": [[16], [8, 8]]})
    asked = optuna.create_study(sampler=optuna.samplers.RandomSampler(0)).ask()
    value = space.ask(asked, mine)["hidden_sizes"]
    assert value in ([16], [8, 8])
    assert asked.params == {"hidden_sizes": json.dumps(value)}


def test_pairs_of_extremes_are_all_pairs_of_bounds_and_choices() -> None:
    mine = parameters(
        a={"kind": "int", "low": 1, "high": 9}, b={"kind": "categorical", "choices": ["x", "y", "z"]}, c=RATE
    )
    found = [tuple(p.items()) for p in space.extremes(mine)]
    assert len(found) == len(set(found)) == 2 * 3 + 2 * 2 + 3 * 2


# Running


def test_one_job_gives_the_same_study_to_the_bit(tmp_path: Path, whole: Path) -> None:
    assert main(tmp_path) == 0
    pd.testing.assert_frame_equal(table(tmp_path), table(whole), check_exact=True)
    assert (tmp_path / "tiny" / "best.yaml").read_text() == (whole / "tiny" / "best.yaml").read_text()


def test_budgets_are_equal_and_the_defaults_come_first(whole: Path) -> None:
    rows = table(whole)
    assert list(rows.groupby("algorithm").size()) == [3, 3]
    first = rows[rows["default"]].set_index("algorithm")["params"].map(json.loads)
    assert first["happo"] == {"critic_lr": 5e-4, "clip": 0.2}
    assert first["hatrpo"] == {"critic_lr": 5e-4}


def test_the_value_is_the_normalised_last_evaluation(whole: Path) -> None:
    row = table(whole).iloc[0]
    folder = whole / "tiny" / "tuning" / "happo" / "trial-0000"
    records = files.read_table(trial_folder(folder, "mamujoco/Hopper-3x1", "happo", 1000) / "records.parquet")
    assert set(records["kind"]) == {"grid"}
    last = records[records["step"] == 100]["episode_return"].mean()
    score = scores.read()["mamujoco/Hopper-3x1"]
    low, high = score["random"]["mean"], score["reference"]["mean"]
    assert row["value"] == pytest.approx((last - low) / (high - low), rel=1e-12)


def test_a_study_evaluates_on_episodes_of_its_own_and_its_trials_say_so(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, _ = study.load(write_study(tmp_path))
    defaults = plan.defaults["happo"][0]
    folder = whole / "tiny" / "tuning" / "happo" / "trial-0000"
    assert status.read_status(defaults, folder)["evaluation_seeds"] == "study"
    in_a_suite = dataclasses.replace(defaults, evaluation_seeds="suite")
    assert in_a_suite.config_hash() != defaults.config_hash()
    starts = []

    def look(learner: Any, batch: MujocoBatch, *beat: Any) -> Any:
        starts.append({tuple(row) for row in batch.state.tolist()})
        return play(learner, batch, *beat)

    monkeypatch.setattr(collect, "play", look)
    worker.run(defaults, tmp_path / "study", until=0)
    worker.run(in_a_suite, tmp_path / "suite")
    of_study, of_suite, *_, fresh = starts
    assert (len(of_study), len(of_suite), len(fresh)) == (2, 2, 20)
    assert not of_study & of_suite
    assert not of_study & fresh


def test_nothing_is_left_to_do_in_a_finished_study_and_a_larger_budget_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(tmp_path, **ONE, trials=1) == 0
    before = table(tmp_path)
    assert main(tmp_path, **ONE, trials=1) == 0
    pd.testing.assert_frame_equal(table(tmp_path), before)
    assert "the defaults, " in capsys.readouterr().out
    assert main(tmp_path, "--trials", "2", **ONE) == 0
    assert len(table(tmp_path)) == 2


def test_a_published_study_has_its_evidence_and_is_read_and_finished_like_the_one_it_was_made_of(
    tmp_path: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert publish.main([str(whole / "tiny"), "--into", str(tmp_path)]) == 0
    there = tmp_path / "tiny"
    rows, trials, records = (
        files.read_table(there / f"{name}.parquet") for name in ("tuning", "tuning_trials", "tuning_records")
    )
    assert {*zip(trials["algorithm"], trials["number"], strict=True)} == {
        *zip(rows["algorithm"], rows["number"], strict=True)
    }
    assert all("provenance" in json.loads(about) for about in trials["about"])
    last = records[records["step"] == records["step"].max()].groupby(["algorithm", "number"])["episode_return"].mean()
    assert len(last) == len(rows)
    assert report([str(there)]) == 0
    capsys.readouterr()
    assert main(tmp_path) == 0
    assert "done        all" in capsys.readouterr().out
    pd.testing.assert_frame_equal(table(tmp_path), table(whole), check_exact=True)


def test_a_study_that_has_not_ended_or_has_no_trials_beside_it_is_not_published(
    tmp_path: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(study: Path) -> str:
        assert publish.main([str(study), "--into", str(tmp_path / "into")]) == 2
        assert not (tmp_path / "into").exists()
        return capsys.readouterr().err

    one, two = (Path(shutil.copytree(whole / "tiny", tmp_path / name / "tiny")) for name in ("one", "two"))
    (one / "best.yaml").unlink()
    assert "best.yaml: cannot be read; run bench.tune on the study again" in refused(one)
    (one / "tuning.parquet").unlink()
    assert "tuning.parquet: is missing; bench.tune writes it when it ends" in refused(one)
    shutil.rmtree(two / "tuning")
    assert "happo trial 0: its trials are not there" in refused(two)


def test_ctrl_c_stops_with_130_and_the_same_command_gives_the_numbers_of_a_study_without_it(
    tmp_path: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real, calls = session.Session.train, [0]

    def train(self: session.Session) -> None:
        calls[0] += 1
        if calls[0] == 7:  # the second half of the fourth tuning trial, of two updates each
            raise KeyboardInterrupt
        real(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session.Session, "train", train)
        assert main(tmp_path) == tune.INTERRUPTED
    assert "same command goes on" in capsys.readouterr().err
    assert len(table(tmp_path)) == 3
    assert TrialState.RUNNING in [*states(tmp_path), *states(tmp_path, "hatrpo")]
    assert main(tmp_path) == 0
    pd.testing.assert_frame_equal(table(tmp_path), table(whole), check_exact=True)


@pytest.mark.parametrize("pruner", ["none", "median"])
@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [(session.Session, "_write_checkpoint", 3), (worker, "close_attempt", 1)],
    ids=["before-the-checkpoint", "before-the-status"],
)
def test_a_trial_that_is_stopped_after_its_last_tables_is_ended_with_its_tuning_trial(
    tmp_path: Path, owner: Any, name: str, call: int, pruner: str
) -> None:
    real, calls = getattr(owner, name), [0]

    def stopped(*arguments: Any, **more: Any) -> Any:
        calls[0] += 1
        if calls[0] == call:
            raise KeyboardInterrupt
        return real(*arguments, **more)

    one: dict[str, Any] = {"trials": 1, "pruner": pruner, **ONE}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, stopped)
        assert main(tmp_path, **one) == tune.INTERRUPTED
    assert main(tmp_path, **one) == 0
    (about,) = read_trials(tmp_path / "tiny" / "tuning" / "happo" / "trial-0000")
    assert about["status"] == "done"
    assert [*tmp_path.rglob("checkpoint*.pt")] == []
    assert [found.wrong for found in findings_of_study(tmp_path / "tiny") if found.wrong] == []


def test_a_study_that_means_something_else_under_the_same_name_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(tmp_path, **ONE, trials=1) == 0
    assert main(tmp_path, "--set", "defaults.gamma=0.9", **ONE, trials=1) == tune.BAD_INPUT
    err = capsys.readouterr().err
    assert "means something else" in err
    assert err.count("\n") == 1


def test_a_storage_of_another_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    (tmp_path / "other").mkdir()
    assert main(tmp_path, "--storage", url, **ONE, trials=1) == 0
    assert main(tmp_path / "other", "--storage", url, **ONE, trials=1) == tune.BAD_INPUT
    assert "belongs to another folder" in capsys.readouterr().err


def test_a_storage_that_is_forgotten_or_lost_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "optuna.log"
    assert main(tmp_path, "--storage", str(path), **ONE, trials=1) == 0
    assert main(tmp_path, **ONE, trials=1) == tune.BAD_INPUT
    assert "whose storage is ../optuna.log, not journal.log" in capsys.readouterr().err
    path.unlink()
    assert main(tmp_path, "--storage", str(path), **ONE, trials=1) == tune.BAD_INPUT
    assert "does not know; bring the storage back" in capsys.readouterr().err


def test_sqlite_gives_the_study_of_the_journal(tmp_path: Path, whole: Path) -> None:
    assert main(tmp_path, "--storage", f"sqlite:///{tmp_path / 'optuna.db'}") == 0
    pd.testing.assert_frame_equal(table(tmp_path), table(whole), check_exact=True)
    assert not (tmp_path / "tiny" / "journal.log").exists()


@pytest.mark.parametrize("url", ["nosuch://host/db", "postgresql+nodriver://host/db", "sqlite:////no/such/place.db"])
def test_a_storage_that_cannot_be_opened_is_one_line(
    tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(tmp_path, "--storage", url, **ONE) == tune.BAD_INPUT
    err = capsys.readouterr().err
    assert err.startswith(f"--storage {url}: cannot be opened")
    assert err.count("\n") == 1


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true"])
def test_a_database_in_memory_is_refused_before_anything_is_made(
    tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(tmp_path, "--storage", url, **ONE) == tune.BAD_INPUT
    out, err = capsys.readouterr()
    assert "not shared by workers" in err
    assert "give a file: sqlite:///path" in err
    assert (out, err.count("\n")) == ("", 1)
    assert [p.name for p in tmp_path.iterdir()] == ["study_file.yaml"]


def test_a_study_that_grew_is_the_one_of_that_budget_from_the_start(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert main(tmp_path / "a", "--trials", "7", **ONE) == 0
    assert main(tmp_path / "b", "--trials", "3", **ONE) == 0
    assert main(tmp_path / "b", "--trials", "7", **ONE) == 0
    pd.testing.assert_frame_equal(table(tmp_path / "a"), table(tmp_path / "b"), check_exact=True)


def test_a_budget_below_what_has_finished_is_refused_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(tmp_path, **ONE, trials=2) == 0
    before = (tmp_path / "tiny" / "study.yaml").read_text()
    capsys.readouterr()
    for more in ([], ["--dry-run"]):
        assert main(tmp_path, "--trials", "1", *more, **ONE) == tune.BAD_INPUT
        out, err = capsys.readouterr()
        assert "2 trials of happo have finished already; a study only grows; valid: --trials 2 or more" in err
        assert (out, err.count("\n")) == ("", 1)
    assert (tmp_path / "tiny" / "study.yaml").read_text() == before


def test_a_dry_run_refuses_what_the_run_does_before_costs_are_measured(
    tmp_path: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    path = str(write_study(tmp_path))
    said = {
        "means something else": ["--results", str(whole), "--set", "defaults.gamma=0.9"],
        "whose storage is journal.log": ["--results", str(whole), "--storage", str(tmp_path / "other.log")],
        "cannot be opened": ["--results", str(tmp_path), "--storage", "nosuch://x"],
        "is a file, not a folder": ["--results", str(tmp_path / "file")],
        f"{tmp_path / 'file'}: is a file": ["--results", str(tmp_path), "--storage", str(tmp_path / "file" / "a.log")],
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparing, "costs", lambda trials, **_: {t: pytest.fail("measured") for t in trials})
        for words, arguments in said.items():
            for more in ([], ["--dry-run"]):
                assert tune.main([path, *arguments, *more]) == tune.BAD_INPUT
                out, err = capsys.readouterr()
                assert words in err
                assert (out, err.count("\n")) == ("", 1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "study_file.yaml"]


@pytest.mark.parametrize("storage", ["journal.log", "sqlite:///{}/x.db"])
def test_a_dry_run_makes_nothing(tmp_path: Path, storage: str) -> None:
    where = storage.format(tmp_path) if "://" in storage else str(tmp_path / storage)
    assert main(tmp_path, "--dry-run", "--storage", where) == 0
    assert [p.name for p in tmp_path.iterdir()] == ["study_file.yaml"]


def test_a_finished_study_is_said_to_be_done_and_measures_nothing(
    tmp_path: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = whole / "tiny" / "best.yaml"
    before = best.read_text()
    best.unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparing, "costs", lambda trials, **_: {t: pytest.fail("measured") for t in trials})
        assert tune.main([str(write_study(tmp_path)), "--results", str(whole)]) == 0
    out = capsys.readouterr().out
    assert "all 3 trials of each algorithm" in out
    assert "time " not in out
    assert best.read_text() == before


def test_the_plan_says_what_is_done_and_the_time_for_the_rest(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(write_study(tmp_path))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            preparing, "costs", lambda trials, fresh_episodes, link: {t: Cost(60.0, 1e9, 1.0, 1.0) for t in trials}
        )
        assert tune.main([path, "--results", str(whole), "--trials", "5", "--jobs", "1", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "done        6 (happo 3, hatrpo 3), 4 to run" in out
    assert "time        about 0:04:00" in out


def test_a_password_is_not_shown() -> None:
    assert storage.hide_password("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"
    assert storage.hide_password("sqlite:///x.db") == "sqlite:///x.db"
    assert storage.hide_password("mysql://h/db?user=u&password=secret&x=1") == "mysql://h/db?user=u&password=***&x=1"


# Points


def plan_of(folder: Path, **changes: Any) -> study.Plan:
    """A study of one algorithm with a condition among its parameters, for points that are drawn and not trained."""
    own = {
        "actor_minibatches": {"kind": "categorical", "choices": [1, 2]},
        "clip": {"kind": "float", "low": 0.05, "high": 0.3, "when": {"actor_minibatches": [2]}},
    }
    space = {"shared": {"critic_lr": RATE}, "own": {"happo": own}}
    return study.load(write_study(folder, **ONE, trials=9, space=space, **changes))[0]


def drawn(plan: study.Plan, folder: Path, failing: bool = False) -> list[dict[str, Any]]:
    """The points of a study whose objective is known at once, or that all fail."""
    made = queue.Queue(plan, folder, str(folder / "journal.log"))
    while claim := made.claim(since=1.0):
        if failing:
            claim.trial.study.tell(claim.trial, state=TrialState.FAIL)
        else:
            claim.trial.study.tell(claim.trial, -claim.values["critic_lr"])
        claim.lock.release()
    return [t.params for t in made.trials("happo")]


def test_a_claim_that_fails_holds_no_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the trials after it would go first, while the error is looked at, and be judged by others than in turn."""

    def broken(*_: Any) -> None:
        raise RuntimeError("the storage is gone")

    made = queue.Queue(plan_of(tmp_path), tmp_path, str(tmp_path / "journal.log"))
    with monkeypatch.context() as patch:
        patch.setattr(queue, "ask", broken)
        with pytest.raises(RuntimeError) as kept:
            made.claim(since=1.0)
    assert (claim := made.claim(since=1.0)), kept
    assert claim.trial.number == 0


def test_a_study_killed_at_any_line_of_its_journal_draws_the_same_points(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    whole = tmp_path / "whole"
    whole.mkdir()
    points = drawn(plan, whole)
    assert len(points) == 9
    assert {"clip" in each for each in points} == {True, False}
    lines = (whole / "journal.log").read_bytes().splitlines(keepends=True)
    for count in range(len(lines)):
        killed = tmp_path / f"killed-{count}"
        killed.mkdir()
        shutil.copy(whole / "study.json", killed)
        (killed / "journal.log").write_bytes(b"".join(lines[:count]))
        assert drawn(plan, killed) == points, f"killed after line {count}: {lines[count]!r}"


THREE: dict[str, Any] = {
    "envs": {"kind": "categorical", "choices": [1, 2]},
    "rollout_length": {"kind": "categorical", "choices": [5, 25]},
    "actor_minibatches": {"kind": "int", "low": 1, "high": 10},
}
"""Any two values suit each other, as long as the third setting has its default; a rollout of five steps does not have
ten minibatches."""


def test_a_point_that_cannot_be_trained_is_drawn_again_and_the_budget_stays(tmp_path: Path) -> None:
    plan = study.load(write_study(tmp_path, **ONE, trials=12, space={"shared": {"critic_lr": RATE} | THREE}))[0]
    whole = tmp_path / "whole"
    whole.mkdir()
    points = drawn(plan, whole)
    assert len(points) == 12
    assert all(p["actor_minibatches"] <= p["envs"] * p["rollout_length"] for p in points)
    trials = queue.Queue(plan, whole, str(whole / "journal.log")).trials("happo")
    reasons = [reason for t in trials for reason in t.user_attrs.get("refused", [])]
    assert reasons
    assert all(reason.startswith("actor_minibatches: ") and "holds 5 samples" in reason for reason in reasons)
    lines = (whole / "journal.log").read_bytes().splitlines(keepends=True)
    for count in range(10, len(lines), 12):
        killed = tmp_path / f"killed-{count}"
        killed.mkdir()
        shutil.copy(whole / "study.json", killed)
        (killed / "journal.log").write_bytes(b"".join(lines[:count]))
        assert drawn(plan, killed) == points


def test_points_that_were_drawn_again_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    real, refusals = study.Plan.refusal, iter(["clip: 0.25 is out", "clip: 0.26 is out"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            study.Plan,
            "refusal",
            lambda plan, label, values: next(refusals, "") if values["clip"] != 0.2 else real(plan, label, values),
        )
        assert main(tmp_path, **ONE, trials=2) == 0
    assert "happo: 2 points that cannot be trained, drawn again at no cost; the last: clip: 0.26 is" in (
        capsys.readouterr().out
    )
    assert list(table(tmp_path)["refused"].map(json.loads)) == [[], ["clip: 0.25 is out", "clip: 0.26 is out"]]


def test_a_space_without_a_point_that_can_be_trained_ends_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queue, "DRAWS", 12)
        patch.setattr(study.Plan, "refusal", lambda _, __, values: "" if values["clip"] == 0.2 else "clip: too wide")
        assert main(tmp_path, **ONE, trials=2) == tune.BAD_INPUT
    err = capsys.readouterr().err
    assert "study_file.yaml: space: of 12 points drawn for trial 1 of happo none can be trained; narrow" in err
    assert err.count("\n") == 1
    assert states(tmp_path) == [TrialState.COMPLETE]


def test_a_point_in_the_storage_that_cannot_be_trained_is_refused(tmp_path: Path) -> None:
    plan = study.load(write_study(tmp_path, **ONE, trials=3, space={"shared": {"critic_lr": RATE} | THREE}))[0]
    made = queue.Queue(plan, tmp_path, str(tmp_path / "journal.log"))
    point = {"critic_lr": 1e-3, "envs": 1, "rollout_length": 5, "actor_minibatches": 9}
    made.study("happo").add_trial(optuna.create_trial(state=TrialState.WAITING, system_attrs={"fixed_params": point}))
    claim = made.claim(since=1.0)
    assert claim is not None
    claim.trial.study.tell(claim.trial, 0.0)
    with pytest.raises(SuiteError, match=r"its trial 1 of happo cannot be trained, .* 9 is out of"):
        made.claim(since=1.0)


def test_trials_that_fail_count_towards_the_random_ones(tmp_path: Path) -> None:
    """An algorithm that diverges often is not searched at random for longer than the others."""
    failing = drawn(plan_of(tmp_path), tmp_path, failing=True)
    assert len(failing) == 9
    (tmp_path / "random").mkdir()
    random = drawn(plan_of(tmp_path, sampler="random"), tmp_path / "random", failing=True)
    assert [one == other for one, other in zip(failing, random, strict=True)] == [True] * 5 + [False] * 4


# Settings that fail, and everything else that does


def test_settings_that_diverge_fail_and_count(tmp_path: Path) -> None:
    wild = {"kind": "float", "low": 1e-4, "high": 1e9, "log": True}
    changes: dict[str, Any] = {
        "space": {"shared": {"critic_lr": wild, "actor_lr": wild}},
        "sampler": "random",
        "trials": 4,
        **ONE,
    }
    real = session.Session.train

    def train(self: session.Session) -> None:
        if dataclasses.asdict(self.trial.settings)["critic_lr"] > 1:
            raise session.Diverged("a loss of inf", [])
        real(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session.Session, "train", train)
        assert main(tmp_path, **changes) == 0
    rows = table(tmp_path)
    assert len(rows) == 4
    failed = rows[rows["state"] == "fail"]
    assert len(failed) in (1, 2, 3)
    assert failed["value"].isna().all()
    assert failed["error"].str.contains("a loss of inf").all()
    assert [*tmp_path.rglob("checkpoint*.pt")] == [], "no failed one goes on"


def test_a_trial_that_diverged_counts_the_seconds_that_it_trained(tmp_path: Path) -> None:
    real, seconds = session.Session.train, []

    def train(self: session.Session) -> None:
        update = self.learner.update

        def diverges(rollout: Any) -> Any:
            raise session.Diverged("a loss of inf", update(rollout))

        if self.step == 150:
            self.learner.update = diverges  # type: ignore[method-assign]
        try:
            real(self)
        finally:
            seconds.append(self.seconds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session.Session, "train", train)
        assert main(tmp_path, trials=1, steps=200, evaluate={"every": 100, "episodes": 1}, **ONE) == 0
    row = files.read_table(tmp_path / "tiny" / "tuning.parquet").iloc[0]
    assert row["state"] == "fail"
    assert row["seconds"] == pytest.approx(seconds[3], rel=1e-12)


def test_any_other_error_puts_a_tuning_trial_aside_and_the_same_command_takes_it_up(
    tmp_path: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real, calls = session.Session.train, [0]

    def train(self: session.Session) -> None:
        calls[0] += 1
        if calls[0] == 3:  # the second tuning trial
            raise OSError("no space left on device")
        real(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session.Session, "train", train)
        assert main(tmp_path) == 1
    out, err = capsys.readouterr()
    assert "no space left on device" in out
    assert "1 tuning trial was put aside" in err
    assert len(table(tmp_path)) == 5
    assert main(tmp_path) == 0
    assert sorted(table(tmp_path)["number"]) == [0, 0, 1, 1, 2, 2]


# Processes that are killed


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bench.tune", str(folder / "study_file.yaml"), "--results", str(folder)]
    return subprocess.Popen(
        [*command, "--jobs", "1", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for(condition: Any, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 90
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.long
@pytest.mark.parametrize("storage", ["journal", "sqlite"])
def test_two_processes_of_which_one_is_killed_keep_the_budget_exactly(tmp_path: Path, storage: str) -> None:
    """The first five points of a study do not depend on what has ended, so two processes draw those of one."""
    changes = ONE | {"trials": 2, "steps": 800}
    write_study(tmp_path, **changes)
    arguments = [] if storage == "journal" else ["--storage", f"sqlite:///{tmp_path / 'optuna.db'}"]
    folder = tmp_path / "tiny" / "tuning" / "happo"
    victim = start(tmp_path, *arguments)

    def kill_when_both_work() -> None:
        wait_for(lambda: len(list(folder.glob("trial-*"))) >= 2, victim)
        os.killpg(victim.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_when_both_work)
    try:
        wait_for(lambda: list(folder.rglob("checkpoint.pt")), victim)
        killer.start()
        assert main(tmp_path, *arguments, **changes) == 0
    finally:
        if victim.poll() is None:
            os.killpg(victim.pid, signal.SIGKILL)
        victim.communicate()
    killer.join()
    rows = table(tmp_path)
    assert list(rows["number"]) == [0, 1]
    assert set(rows["state"]) == {"complete"}
    assert len(list(folder.glob("trial-*"))) == 2
    attempts = [json.loads(path.read_text())["attempts"] for path in sorted(folder.rglob("trial.json"))]
    assert attempts == [2, 1]  # the first was taken over
    (tmp_path / "alone").mkdir()
    assert main(tmp_path / "alone", **changes) == 0
    pd.testing.assert_frame_equal(table(tmp_path / "alone"), rows, check_exact=True)
    assert main(tmp_path, *arguments, **changes) == 0  # nothing is left to do
    pd.testing.assert_frame_equal(table(tmp_path), rows)


def dies_once(t: Trial, folder: Path, until: int, link: Link) -> Any:
    """The first process is killed in the middle of its trial."""
    mark = folder.parents[2] / "killed"
    if not mark.exists():
        mark.touch()
        whole_run(t, folder, until=50, link=link)
        os.kill(os.getpid(), signal.SIGKILL)
    return whole_run(t, folder, until=until, link=link)


whole_run = worker.run


def test_a_killed_process_costs_no_tuning_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tuning_pool, "work", kill_in_process)
    assert main(tmp_path, jobs=2, **ONE, trials=2) == 0
    assert (tmp_path / "tiny" / "killed").exists()
    assert "trial 0: its process was ended by SIGKILL" in capsys.readouterr().out
    assert list(table(tmp_path)["state"]) == ["complete"] * 2


def test_a_tuning_trial_whose_process_always_dies_is_put_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tuning_pool, "work", always_die)
    assert main(tmp_path, "--retries", "0", jobs=2, **ONE, trials=2) == 1
    out, err = capsys.readouterr()
    assert "aside  happo trial 1  its process was ended by SIGKILL (killed, or out of memory?)" in out
    assert "2 tuning trials were put aside" in err
    monkeypatch.undo()
    assert main(tmp_path, **ONE, trials=2) == 0
    assert list(table(tmp_path)["state"]) == ["complete"] * 2


def test_one_that_is_claimed_again_before_it_is_put_aside_is_put_aside_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning_pool, "put_aside", lambda *about: about[:2])
    claims: Any = SimpleNamespace(trial_folder=lambda label, number: Path())
    workers = tuning_pool._Workers(claims, 1, print)
    ended: list[Any] = [[*workers.outcomes(Died("killed", "happo trial 0"))] for _ in range(3)]
    assert ended == [[], [("happo", 0)], []]


whole_work = work.work


def kill_in_process(*arguments: Any, link: Link) -> Any:
    """`work` with `dies_once` in the place of `worker.run`, which processes import anew."""
    worker.run = dies_once  # type: ignore[assignment]
    return whole_work(*arguments, link=link)  # type: ignore[misc]


def always_die(*arguments: Any, link: Link) -> Any:
    """`work` that is killed when it has claimed a tuning trial."""
    worker.run = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
    return whole_work(*arguments, link=link)  # type: ignore[misc]


# Pruning


def test_the_median_pruner_sees_the_objective_itself_at_every_point_of_the_grid(tmp_path: Path) -> None:
    tasks = ["mamujoco/Hopper-3x1", "mamujoco/Walker2d-2x3"]
    assert main(tmp_path, pruner="median", trials=1, seeds=2, tasks=tasks, **ONE) == 0
    opened = storage.open_storage(str(tmp_path / "tiny" / "journal.log"))
    only = optuna.load_study(study_name="tiny/happo", storage=opened).trials[0]
    assert list(only.intermediate_values) == [50, 100]
    assert only.intermediate_values[100] == only.value
    returns = only.user_attrs["returns"]
    means = [np.mean([returns[f"{task} seed {seed}"] for seed in (1000, 1001)]) for task in tasks]
    assert only.value == pytest.approx(np.mean(means), rel=1e-12)


def test_a_study_cut_by_the_median_is_the_same_when_interrupted_between_grid_points(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    changes: dict[str, Any] = {"pruner": "median", "trials": 2, "seeds": 2, **ONE}
    assert main(tmp_path / "a", **changes) == 0
    real, calls = session.Session.train, [0]

    def train(self: session.Session) -> None:
        calls[0] += 1
        if calls[0] == 4:  # the second seed on its way to the second point
            raise KeyboardInterrupt
        real(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session.Session, "train", train)
        assert main(tmp_path / "b", **changes) == tune.INTERRUPTED
    assert main(tmp_path / "b", **changes) == 0
    pd.testing.assert_frame_equal(table(tmp_path / "a"), table(tmp_path / "b"), check_exact=True)


@pytest.mark.parametrize("pruner", ["median", pytest.param("wilcoxon", marks=pytest.mark.long)])
def test_a_pruner_cuts_what_is_worse_and_never_the_defaults(tmp_path: Path, pruner: str) -> None:
    """Returns are made up: the higher the critic's step size above the default, the worse."""

    def evaluations(t: Trial, folder: Path) -> pd.DataFrame:
        frame = whole_evaluations(t, folder)
        worse = 1e6 * max(dataclasses.asdict(t.settings)["critic_lr"] - 5e-4, 0.0)
        return frame.assign(**{"return": 2000.0 - worse + t.seed % 7 if worse else 2000.0})

    whole_evaluations = work.evaluations
    high = {"shared": {"critic_lr": {"kind": "float", "low": 5e-4, "high": 5e-3}}}
    changes: dict[str, Any] = {"space": high, "evaluate": {"every": 50, "episodes": 1}, "sampler": "random"}
    changes |= {"seeds": 1, "steps": 100} if pruner == "median" else {"seeds": 6, "steps": 50}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "evaluations", evaluations)
        assert main(tmp_path, pruner=pruner, trials=7, **changes, **ONE) == 0
    rows = table(tmp_path)
    assert rows["state"].iloc[0] == "complete"
    assert "pruned" in set(rows["state"])
    assert len(rows) == 7
    assert [*tmp_path.rglob("checkpoint*.pt")] == [], "none that was cut goes on"


# Two objectives


def test_two_objectives_keep_both_values_and_the_return_chooses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(tmp_path, objectives=["return", "seconds"], trials=2, **ONE) == 0
    assert "best settings are those of the highest return; the seconds are reported only" in capsys.readouterr().out
    opened = storage.open_storage(str(tmp_path / "tiny" / "journal.log"))
    values = [t.values for t in optuna.load_study(study_name="tiny/happo", storage=opened).trials]
    rows = files.read_table(tmp_path / "tiny" / "tuning.parquet")
    assert values == rows[["value", "seconds"]].to_numpy().tolist()


# What is made of it


def suite_file(folder: Path, **changes: Any) -> Path:
    keys = ("steps", "seeds", "evaluate", "tasks", "algorithms", "defaults")
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump({"name": "mine", **{key: TINY[key] for key in keys}} | changes, sort_keys=False))
    return path


def test_numbers_are_printed_with_the_digits_that_tell_them_apart() -> None:
    assert results.distinct(0.05812, 0.05799) == ("0.05812", "0.05799")
    assert results.distinct(0.058123, 0.058121) == ("0.058123", "0.058121")
    assert results.distinct(1.5, 0.1) == ("1.500", "0.1000")
    assert len(set(results.distinct(0.1, np.nextafter(0.1, 1)))) == 2


def test_best_settings_have_no_anchors(tmp_path: Path) -> None:
    assert main(tmp_path, trials=1) == 0
    text = (tmp_path / "tiny" / "best.yaml").read_text()
    assert text.count("hidden_sizes: [16]") == 2
    assert "&" not in text


def test_the_command_for_another_suite_can_be_pasted(whole: Path, tmp_path: Path) -> None:
    plan, _ = study.load(write_study(tmp_path))
    lines = results.summary(plan, files.read_table(whole / "tiny" / "tuning.parquet"), Path("a b/tiny"))
    assert lines.splitlines()[-1] == "  python -m bench.run SUITE.yaml --include 'a b/tiny/best.yaml'"


def test_a_changed_digit_in_the_best_settings_is_refused_unless_it_is_meant(tmp_path: Path, whole: Path) -> None:
    best, suite = tmp_path / "best.yaml", suite_file(tmp_path)
    text = (whole / "tiny" / "best.yaml").read_text()
    first, rest = text.split("\n", 1)
    assert first.startswith("# Checksum of the lines below: ")
    number = rest.index("critic_lr: 0.") + len("critic_lr: 0.")
    changed = rest[:number] + "1" + rest[number:]
    best.write_text(f"{first}\n{changed}")
    with pytest.raises(SuiteError) as refused:
        resolving.load(suite, (), [best])
    assert str(refused.value).startswith(f"{best}: changed after it was written")
    assert "if the change is meant, delete its first line" in str(refused.value)
    best.write_text(changed)
    assert resolving.load(suite, (), [best])


def test_any_flipped_bit_in_the_best_settings_is_refused_or_without_effect(tmp_path: Path, whole: Path) -> None:
    best, suite = tmp_path / "best.yaml", suite_file(tmp_path)
    content = (whole / "tiny" / "best.yaml").read_bytes()
    best.write_bytes(content)
    meant = resolving.load(suite, (), [best])
    found = []
    for place in range(0, 8 * len(content), 13):
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        best.write_bytes(changed)
        found.append(loaded_or_refused(suite, best))
    refused = [each for each in found if isinstance(each, str)]
    assert len(refused) > 100
    assert not any("\n" in each for each in refused)
    assert all(each == meant for each in found if not isinstance(each, str))


def loaded_or_refused(suite: Path, best: Path) -> Any:
    try:
        return resolving.load(suite, (), [best])
    except SuiteError as error:
        return str(error)


def test_settings_of_one_label_are_included_once(tmp_path: Path, whole: Path) -> None:
    best = whole / "tiny" / "best.yaml"
    other = tmp_path / "other.yaml"
    other.write_text(best.read_text())
    with pytest.raises(SuiteError) as refused:
        resolving.load(suite_file(tmp_path), (), [best, other])
    assert str(refused.value).startswith(f"{other}: algorithms.happo: {best} brings settings of happo too")


def test_what_is_set_over_included_settings_is_said(
    tmp_path: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(suite_file(tmp_path)), "--include", str(whole / "tiny" / "best.yaml"), "--dry-run"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            suite_preparing, "costs", lambda trials, env_threads, link: {t: Cost(1.0, 1e9, 1.0, 1.0) for t in trials}
        )
        assert run.main([*arguments, "--results", str(tmp_path), "--set", "algorithms.happo.clip=0.123"]) == 0
    assert "happo (3 trials of tiny; by --set: clip), hatrpo (3 trials of tiny);" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_an_included_file_that_cannot_be_read_is_said_to_come_from_a_study(tmp_path: Path, name: str) -> None:
    with pytest.raises(SuiteError, match=r"cannot be read .*; a study leaves results/<study>/best.yaml$"):
        resolving.load(suite_file(tmp_path), (), [tmp_path / name])


def test_best_settings_go_over_a_suites_own_and_set_over_them(tmp_path: Path, whole: Path) -> None:
    best = whole / "tiny" / "best.yaml"
    tuned = yaml.safe_load(best.read_text())["algorithms"]["happo"]
    path = suite_file(tmp_path, algorithms={"happo": {"critic_lr": 0.1, "gamma": 0.9}, "mappo": None})
    loaded, document = resolving.load(path, ["algorithms.happo.clip=0.123"], [best])
    happo, mappo = (next(t for t in resolving.trials(loaded, path) if t.label == label) for label in ("happo", "mappo"))
    assert dataclasses.asdict(happo.settings)["critic_lr"] == tuned["critic_lr"]
    assert (happo.settings.gamma, happo.settings.clip) == (0.9, 0.123)  # type: ignore[union-attr]
    assert happo.tuning is not None
    assert (happo.tuning.study, happo.tuning.trials, happo.tuning.used()) == ("tiny", 3, range(1000, 1001))
    assert mappo.tuning is None
    assert model.Suite.model_validate(document) == loaded  # what is kept beside the results says the same


def test_a_trial_says_where_its_settings_were_tuned(tmp_path: Path, whole: Path) -> None:
    path = suite_file(tmp_path, algorithms={"happo": None, "mappo": None})
    arguments = [str(path), "--results", str(tmp_path), "--include", str(whole / "tiny" / "best.yaml"), "--jobs", "1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            suite_preparing, "costs", lambda trials, env_threads, link: {t: Cost(1.0, 1e9, 1.0, 1.0) for t in trials}
        )
        assert run.main(arguments) == 0
    about = {a["algorithm"]: a["tuning"] for a in read_trials(tmp_path / "mine")}
    assert about["happo"]["study"] == "tiny"
    assert about["happo"]["trials"] == 3
    assert about["mappo"] is None


@pytest.mark.parametrize("first", [1000, 999])
def test_a_suite_on_the_seeds_its_settings_were_tuned_on_is_refused(tmp_path: Path, whole: Path, first: int) -> None:
    path = suite_file(tmp_path, first_seed=first, seeds=2)
    with pytest.raises(SuiteError, match=rf"first_seed: {first} with seeds: 2 meets the seeds 1000 to 1000"):
        resolving.trials(resolving.load(path, (), [whole / "tiny" / "best.yaml"])[0], path)


def test_other_seeds_from_1000_up_and_untuned_suites_on_them_are_fine(tmp_path: Path, whole: Path) -> None:
    path = suite_file(tmp_path, first_seed=1001)
    assert resolving.trials(resolving.load(path, (), [whole / "tiny" / "best.yaml"])[0], path)
    path = suite_file(tmp_path, first_seed=1000)
    assert resolving.trials(resolving.load(path)[0], path)


def test_settings_of_other_algorithms_cannot_be_included(tmp_path: Path, whole: Path) -> None:
    best = whole / "tiny" / "best.yaml"
    with pytest.raises(SuiteError, match="none of happo, hatrpo is an algorithm of"):
        resolving.load(suite_file(tmp_path, algorithms={"mappo": None}), (), [best])
    with pytest.raises(SuiteError, match=r"algorithms.happo: settings of happo; happo is mappo in"):
        resolving.load(suite_file(tmp_path, algorithms={"happo": {"algorithm": "mappo"}}), (), [best])


# The verdicts


def ended(*rows: tuple[str, int, str, float | None, dict[str, float]]) -> pd.DataFrame:
    """Rows of `tuning.parquet`: label, number, state, value, returns."""
    table = pd.DataFrame(rows, columns=["algorithm", "number", "state", "value", "returns"])
    return table.assign(
        returns=[json.dumps(returns) for returns in table["returns"]], value=table["value"].astype(float)
    )


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("happo", 0, "pruned", 2.0, {})], "no tuning trial was completed"),
        ([("ippo", 0, "complete", 2.0, {})], "no tuning trial was completed"),
        (
            [("happo", 0, "fail", None, {}), ("happo", 1, "complete", 0.25, {}), ("happo", 2, "pruned", 0.5, {})],
            "best 0.2500 (trial 1); the defaults diverged",
        ),
        ([("happo", 1, "complete", 0.25, {})], "best 0.2500 (trial 1); the defaults have not been tried"),
        (
            [("happo", 0, "complete", 0.5, {}), ("happo", 1, "complete", 0.5, {}), ("happo", 2, "fail", None, {})],
            "the defaults, 0.5000, were the best of 3 trials",
        ),
        (
            [
                ("happo", 0, "complete", 0.5, {"a": 0.4, "b": 0.6}),
                ("happo", 1, "complete", 0.75, {"a": 0.9, "b": 0.6}),
                ("happo", 2, "complete", 0.75, {"a": 0.75, "b": 0.75}),  # as good, but later
                ("ippo", 3, "complete", 9.0, {"a": 9.0, "b": 9.0}),
            ],
            "best 0.7500 (trial 1) beats the defaults, 0.5000, in 1 of 2 pairings of task and seed",
        ),
        (
            [("happo", 0, "complete", 0.5, {"a": 0.5}), ("happo", 1, "complete", 0.500001, {"a": 0.500001})],
            "best 0.500001 (trial 1) beats the defaults, 0.500000, in 1 of 1 pairing of task and seed",
        ),
    ],
)
def test_a_line_says_whether_anything_beat_the_defaults(
    rows: list[tuple[str, int, str, float | None, dict[str, float]]], said: str
) -> None:
    assert results.verdict(ended(*rows), "happo") == said


# The report


def test_the_median_best_of_k_is_that_of_all_subsets_of_k() -> None:
    values = np.array([3.0, -1.0, 4.0, 1.0, 5.5])
    brute = [sorted(max(chosen) for chosen in combinations(values, k)) for k in range(1, 6)]
    assert study_results.median_best(values).tolist() == [best[(len(best) - 1) // 2] for best in brute]


def test_the_median_best_of_hundreds_of_trials_is_finite() -> None:
    found = study_results.median_best(np.arange(400.0))
    assert (found[0], found[-1]) == (199.0, 399.0)
    assert (np.diff(found) >= 0).all()


@pytest.mark.parametrize("trials", [1, 8, 24, 60])
def test_the_interval_of_the_median_best_covers(trials: int) -> None:
    """Exactly, whatever the distribution: of the trials a binomial number lies below the quantile of 2^(-1/k)."""
    low, high = study_results.median_best_interval(np.arange(1.0, trials + 1))  # ends are ranks
    for k, (first, last) in enumerate(zip(low, high, strict=True), start=1):
        below = stats.binom(trials, 0.5 ** (1 / k))
        assert below.cdf(min(last, trials + 1) - 1) - below.cdf(max(first, 0) - 1) >= 0.95


def test_a_budget_begins_with_the_defaults() -> None:
    """The defaults and k - 1 of the others: what is worse than the defaults is never the best."""
    values = [0.5, 0.1, 0.9, 0.3, 0.7, 0.2, 0.4]
    trials = pd.DataFrame({"algorithm": "happo", "score": values, "default": [x == 0.5 for x in values]})
    labels = Algorithms({"happo": "happo"}, ["happo"])
    curve = study_results.budget_curves(study_results.StudyResults(Path("s"), trials, pd.DataFrame(), {}, labels, {}))
    assert curve["trials"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    best = study_results.median_best(np.array(values[1:])).clip(min=0.5)
    assert curve["best"].tolist() == [0.5, *best]
    assert curve.loc[0, ["low", "high"]].isna().all()
    assert (curve["low"][1:] >= 0.5).all()
    untried = trials[~trials["default"]]
    curve = study_results.budget_curves(study_results.StudyResults(Path("s"), untried, pd.DataFrame(), {}, labels, {}))
    assert curve["best"].tolist() == study_results.median_best(np.array(values[1:])).tolist()


def test_what_many_trials_reach_few_do_not_bound() -> None:
    """Of 24 trials: the interval of the best of 4 ends, that of the best of 5 does not: 24 of 24 are below the quantile
    of 2^(-1/5) with a chance of 3.6%."""
    low, high = study_results.median_best_interval(np.arange(24.0))
    assert np.isfinite(high).tolist() == [k <= 4 for k in range(1, 25)]
    assert np.isfinite(low).all()
    assert np.isinf(study_results.median_best_interval(np.ones(1))).all()


def test_sensitivity_is_what_tuning_for_each_task_would_add() -> None:
    returns = [{"a seed 1": 1.0, "a seed 2": 3.0, "b seed 1": 0.0}, {"a seed 1": 0.0, "a seed 2": 0.0, "b seed 1": 1.0}]
    trials = pd.DataFrame({"algorithm": "happo", "state": "complete", "returns": [json.dumps(x) for x in returns]})
    cut = pd.DataFrame({"algorithm": ["happo"], "state": ["pruned"], "returns": ['{"a seed 1": 9.0}']})
    labels = Algorithms({"happo": "happo"}, ["happo"])
    study = study_results.StudyResults(Path("s"), pd.concat([trials, cut]), pd.DataFrame(), {}, labels, {})
    (row,) = study_results.sensitivity(study).to_dict("records")
    assert row == {"algorithm": "happo", "trials": 2, "tasks": 2, "one": 1.0, "each": 1.5, "add": 0.5}


def test_a_trial_that_diverged_counts_alike_for_all_algorithms() -> None:
    frame = pd.DataFrame({"algorithm": ["a", "a", "a", "b"], "value": [0.4, None, 0.2, None]})
    frame = frame.assign(state="complete", default=False, returns="{}")
    assert study_results.scores(frame).tolist() == [0.4, 0.0, 0.2, 0.0]
    assert study_results.scores(frame.replace(0.2, -0.5)).tolist() == [0.4, -0.5, -0.5, -0.5]
    assert study_results.scores(frame.assign(value=None)).tolist() == [0.0] * 4


def test_a_trial_that_was_cut_before_a_task_counts_there_as_the_defaults() -> None:
    """As the Wilcoxon pruner cuts: 0.9 on the easier of two tasks is not better than 0.55 on both."""
    returns = ['{"a seed 1": 1.0, "b seed 1": 0.1}', '{"a seed 1": 0.9}']
    frame = pd.DataFrame({"algorithm": "happo", "state": ["complete", "pruned"], "default": [True, False]})
    found = study_results.scores(frame.assign(value=[0.55, 0.9], returns=returns))
    assert found.tolist() == pytest.approx([0.55, 0.5])


def test_choices_that_are_whole_numbers_stay_so_beside_fractions(whole: Path, tmp_path: Path) -> None:
    """Pandas would make 5.0 of them, which is none of the choices."""
    folder = shutil.copytree(whole / "tiny", tmp_path / "tiny")
    trials = files.read_table(folder / "tuning.parquet")
    trials["params"] = ['{"actor_epochs": 5, "clip": 0.2}'] * len(trials)
    files.write_table(folder / "tuning.parquet", trials)
    document = yaml.safe_load((folder / "study.yaml").read_text())
    searched = {
        "actor_epochs": {"kind": "categorical", "choices": [2, 5]},
        "clip": {"kind": "float", "low": 0.1, "high": 1},
    }
    document["space"] = {"shared": searched}
    (folder / "study.yaml").write_text(yaml.safe_dump(document))
    assert report([str(folder)]) == 0


@pytest.mark.parametrize(("random_only", "left"), [(False, {"games/a", "games/b"}), (True, {"games/b"})])
def test_unless_told_only_tasks_without_numbers_are_measured(
    monkeypatch: pytest.MonkeyPatch, random_only: bool, left: set[str]
) -> None:
    known = {"games/a": scores.Score(0.0, None), "games/c": scores.Score(0.0, 1.0)}
    monkeypatch.setattr(reference.registry, "names", lambda: ["games/a", "games/b", "games/c"])
    monkeypatch.setattr(reference.scores, "score", known.get)
    assert {*reference.without_numbers(random_only)} == left


def test_reference_scores_name_the_versions_that_they_depend_on() -> None:
    own, zoo = ({*reference._versions(registry.task(name, {}))} for name in ("mamujoco/Hopper-3x1", "games/driving"))
    assert own == {"mujoco"}
    assert "mujoco" not in zoo


def test_where_no_task_lacks_numbers_that_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reference, "without_numbers", lambda _: [])
    assert reference.main([]) == 0
    assert capsys.readouterr().out == "All tasks have their numbers; name those to be measured again.\n"


def test_the_leader_is_named_with_those_whose_intervals_reach_it() -> None:
    curves = pd.DataFrame(
        {
            "algorithm": ["happo", "mappo", "ippo"],
            "trials": [1, 1, 1],
            "best": [3.0, 2.0, 1.0],
            "low": [2.0, 1.5, 0.5],
            "high": [4.0, 2.1, 1.9],
        }
    )
    assert study_results.leaders(curves, 1) == ["happo", "mappo"]
    unknown = curves.assign(low=curves["low"].mask(curves["algorithm"] == "happo"))  # of the defaults alone
    assert study_results.leaders(unknown, 1) == ["happo", "mappo", "ippo"]
    for label, single in (("happo", 3.0), ("ippo", 1.0)):  # the defaults again, as the best of two often are
        mine = curves["algorithm"] == label
        point = curves.assign(low=curves["low"].mask(mine, single), high=curves["high"].mask(mine, single))
        assert "ippo" in study_results.leaders(point, 1)


def test_the_report_knows_a_study_by_its_folder(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report([str(whole / "tiny")]) == 0
    assert "k = 3" in capsys.readouterr().out
    page = (whole / "tiny" / "report.html").read_text()
    for words in ("Which algorithm wins with which budget", "Best settings", "History", "Slices", "With 1 trial: "):
        assert words in page
    assert "Incomplete" not in page
    for name in ("budget.svg", "budget.png", "budget.csv", "budget.md"):
        assert (whole / "tiny" / name).stat().st_size > 0


def test_a_study_is_reported_in_the_order_of_what_it_was_resolved_to(whole: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(whole / "tiny", tmp_path / "tiny")
    found = Resolved.read(folder)
    assert found is not None
    assert {label: about.method for label, about in found.algorithms.items()} == {"happo": "happo", "hatrpo": "hatrpo"}
    assert study_results.load(folder).labels == ["happo", "hatrpo"]
    turned = dict(reversed(found.algorithms.items())) | {"later": found.algorithms["happo"]}  # type: ignore[call-overload]
    dataclasses.replace(found, algorithms=turned).write(folder)
    assert study_results.load(folder).labels == ["hatrpo", "happo"]
    assert report([str(folder)]) == 0
    assert "later lacks all" in (folder / "report.html").read_text()
    (folder / "resolved.json").unlink()
    assert study_results.load(folder).labels == ["happo", "hatrpo"]


def test_a_study_without_a_finished_trial_has_no_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "study.yaml").write_text("trials: 3\n")
    assert report([str(tmp_path)]) == 2
    assert "no tuning trial is finished yet" in capsys.readouterr().err


@pytest.mark.parametrize("change", [{"seeds": None}, {"tasks": "a", "space": None}, {"trials": "3"}, {"steps": None}])
def test_a_study_file_that_lacks_what_a_report_needs_is_refused(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any]
) -> None:
    folder = shutil.copytree(whole / "tiny", tmp_path / "tiny")
    document = yaml.safe_load((folder / "study.yaml").read_text()) | change
    kept = {key: value for key, value in document.items() if value is not None}
    (folder / "study.yaml").write_text(yaml.safe_dump(kept))
    assert report([str(folder)]) == 2
    assert f"{folder / 'study.yaml'}: not as bench.tune writes it" in (line := capsys.readouterr().err)
    assert line.endswith(f" missing or of the wrong type: {', '.join(change)}\n")


def test_a_study_file_without_the_range_of_a_parameter_is_refused(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(whole / "tiny", tmp_path / "tiny")
    document = yaml.safe_load((folder / "study.yaml").read_text())
    (folder / "study.yaml").write_text(yaml.safe_dump(document | {"space": {"own": TINY["space"]["own"]}}))
    assert report([str(folder)]) == 2
    assert "space: says nothing of critic_lr of happo" in capsys.readouterr().err


def test_the_study_file_in_the_results_says_what_was_searched_by_default(whole: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(whole / "tiny", tmp_path / "tiny")
    document = yaml.safe_load((folder / "study.yaml").read_text())
    said = {"first_seed": 1000, "objectives": ["return"], "pruner": "none", "sampler": "tpe", "sampler_seed": 0}
    assert document == TINY | said
    (folder / "study.yaml").write_text(yaml.safe_dump(TINY))  # as it was written before
    assert study_results.load(folder).document == TINY | {key: said[key] for key in study_results.UNSAID}


@pytest.mark.parametrize("name", ["tune_quick", "tune_mamujoco"])
def test_the_studies_that_come_with_the_repository_are_valid(name: str) -> None:
    plan, _ = study.load(ROOT / "suites" / f"{name}.yaml")
    assert plan.study.name == name
    assert plan.labels == ["ippo", "mappo", "happo", "hatrpo", "maddpg"]


# Clocks


def test_when_a_tuning_trial_was_put_aside_is_told_by_the_clock_of_the_command(tmp_path: Path) -> None:
    """Not by that of the server on which the file lies."""
    assert main(tmp_path, trials=1, **ONE) == 0
    plan = study.load(tmp_path / "study_file.yaml", ["trials=1"])[0]
    own = queue.Queue(plan, tmp_path / "tiny", str(tmp_path / "tiny" / "journal.log"))
    folder, before = own.trial_folder("happo", 0), time.time()
    work.put_aside("happo", 0, folder, "a full disk")
    os.utime(folder / "aside.json", (before - 3600, before - 3600))
    assert own.time_put_aside("happo", 0) >= before


def test_a_tuning_trial_of_which_a_trial_is_held_elsewhere_is_put_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mean without it would be that of fewer tasks."""
    monkeypatch.setattr(tuning_pool, "work", always_busy)
    assert main(tmp_path, trials=1, jobs=2, **ONE) == 1
    assert "1 tuning trial was put aside" in capsys.readouterr().err


def always_busy(*arguments: Any, link: Link) -> Any:
    """`work` that finds another process at work on its trials."""
    worker.run = lambda t, *_, **__: worker.Outcome(t, "busy")
    return whole_work(*arguments, link=link)  # type: ignore[misc]


def test_the_sampler_looks_where_returns_are_high(tmp_path: Path) -> None:
    """The returns of `drawn` fall with the step size."""
    plan = study.load(write_study(tmp_path, **ONE, trials=25, space={"shared": {"critic_lr": RATE}}))[0]
    rates = [point["critic_lr"] for point in drawn(plan, tmp_path)]
    assert np.median(rates[15:]) < np.median(rates[1:5]) / 2


def test_importances_are_for_the_return_also_with_two_objectives(tmp_path: Path) -> None:
    ranges = {"shared": {"critic_lr": RATE}, "own": {"happo": {"clip": {"kind": "float", "low": 0.05, "high": 0.3}}}}
    plan = study.load(
        write_study(tmp_path, **ONE, trials=20, space=ranges, objectives=["return", "seconds"], sampler="random")
    )[0]
    made = queue.Queue(plan, tmp_path, str(tmp_path / "journal.log"))
    while claim := made.claim(since=1.0):
        claim.trial.study.tell(claim.trial, [claim.values["clip"], claim.values["critic_lr"]])
        claim.lock.release()
    share = results.importances(plan, made).set_index("parameter")["importance"]
    assert share["clip"] > 0.7


@pytest.mark.parametrize("kind", ["float", "int"])
def test_a_range_on_a_logarithmic_scale_is_drawn_from_on_it(kind: str) -> None:
    asked = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    mine = parameters(x={"kind": kind, "low": 1, "high": 10_000, "log": True})
    assert np.median([space.ask(asked.ask(), mine)["x"] for _ in range(50)]) < 1000


def test_the_median_cuts_nothing_in_the_first_quarter_nor_among_the_first_four(tmp_path: Path) -> None:
    path = write_study(tmp_path, **ONE, pruner="median", steps=400, trials=9, sampler="random")
    one = queue.Queue(study.load(path)[0], tmp_path, str(tmp_path / "journal.log")).study("happo")

    def cut(after: int, step: int) -> bool:
        fresh = optuna.create_study(direction="maximize", pruner=one.pruner)
        for _ in range(after):
            trial = fresh.ask()
            for at in range(50, 401, 50):
                trial.report(1.0, at)
            fresh.tell(trial, 1.0)
        trial = fresh.ask()
        for at in range(50, step + 1, 50):
            trial.report(0.0, at)
        return trial.should_prune()

    assert [cut(3, 400), cut(4, 50), cut(4, 400)] == [False, False, True]


@pytest.mark.parametrize(
    "change", [{"pruner": "median"}, {"sampler": "random"}, {"sampler_seed": 1}, {"objectives": ["return", "seconds"]}]
)
def test_whatever_the_search_depends_on_changes_the_meaning_of_a_study(tmp_path: Path, change: dict[str, Any]) -> None:
    one, other = (study.load(write_study(tmp_path, **ONE, **given))[0].hash for given in ({}, change))
    assert one != other
