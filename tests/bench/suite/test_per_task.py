"""`per_task` of a suite: settings for one pairing of task and algorithm, or none of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from test_report import states_of, write_trial
from test_suite import SMALL, document, hashes, made, refusal, says, write

from bench import run
from bench.report import __main__ as report
from bench.report import stats
from bench.store import files
from bench.store.resolved import Resolved
from bench.store.trials import read_trials
from bench.suite.resolving import load, trials
from bench.suite.trial import Trial

HOPPER, CHEETAH = "mamujoco/Hopper-3x1", "mamujoco/HalfCheetah-2x3"


def pairings(found: list[Trial]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((t.task.name, t.label) for t in found))


def one(found: list[Trial], task: str, label: str) -> Any:
    return next(t.settings for t in found if (t.task.name, t.label) == (task, label))


# What it does


def test_a_pairings_settings_win_over_those_of_the_label_and_of_all(tmp_path: Path) -> None:
    found = made(
        tmp_path,
        defaults=SMALL["defaults"] | {"gamma": 0.9, "gae_lambda": 0.8},
        algorithms={"happo": {"gamma": 0.91, "clip": 0.1}, "mappo": None},
        per_task={HOPPER: {"happo": {"gamma": 0.92}}},
    )
    assert [one(found, HOPPER, "happo").gamma, one(found, CHEETAH, "happo").gamma] == [0.92, 0.91]
    assert [one(found, task, "mappo").gamma for task in (HOPPER, CHEETAH)] == [0.9, 0.9]
    changed = one(found, HOPPER, "happo")
    assert (changed.clip, changed.gae_lambda, changed.hidden_sizes) == (0.1, 0.8, (16,))


def test_a_pairing_may_take_back_what_its_task_does_not_allow(tmp_path: Path) -> None:
    found = made(
        tmp_path,
        algorithms={"mappo": {"share_actors": True}},
        per_task={HOPPER: {"mappo": {"share_actors": False}}},
    )
    assert [one(found, task, "mappo").share_actors for task in (HOPPER, CHEETAH)] == [False, True]


def test_a_skipped_pairing_has_no_trials(tmp_path: Path) -> None:
    found = made(tmp_path, per_task={HOPPER: {"clipped": "skip", "maddpg": "skip"}})
    assert pairings(found) == [(HOPPER, "happo"), (CHEETAH, "happo"), (CHEETAH, "clipped"), (CHEETAH, "maddpg")]
    assert len(found) == 4 * SMALL["seeds"]


def test_a_pairing_that_would_be_refused_may_be_skipped(tmp_path: Path) -> None:
    """Hopper's agents observe 8 and 9 numbers: they cannot share an actor."""
    shared = {"happo": None, "mappo-shared": {"algorithm": "mappo", "share_actors": True}}
    found = made(tmp_path, algorithms=shared, per_task={HOPPER: {"mappo-shared": "skip"}})
    assert pairings(found) == [(HOPPER, "happo"), (CHEETAH, "happo"), (CHEETAH, "mappo-shared")]


def test_a_task_is_named_by_its_label_too(tmp_path: Path) -> None:
    found = made(tmp_path, per_task={f"{CHEETAH}:episode_length=50": {"happo": {"clip": 0.3}}})
    assert [one(found, task, "happo").clip for task in (HOPPER, CHEETAH)] == [0.2, 0.3]


def test_a_name_means_all_tasks_of_that_name_unless_one_has_it_as_its_label(tmp_path: Path) -> None:
    def clips(*tasks: Any) -> dict[str, float]:
        found = made(tmp_path, tasks=list(tasks), per_task={HOPPER: {"happo": {"clip": 0.3}}})
        return {t.task.label: t.settings.clip for t in found if t.label == "happo"}  # type: ignore[union-attr]

    far, short = {"name": HOPPER, "obsk": 2}, {"name": HOPPER, "episode_length": 50}
    assert clips(far, short) == {f"{HOPPER}:obsk=2": 0.3, f"{HOPPER}:episode_length=50": 0.3}
    assert clips(HOPPER, far) == {HOPPER: 0.3, f"{HOPPER}:obsk=2": 0.2}


def test_two_keys_may_speak_of_one_task_if_of_different_algorithms(tmp_path: Path) -> None:
    both = {CHEETAH: {"happo": {"clip": 0.3}}, f"{CHEETAH}:episode_length=50": {"maddpg": "skip"}}
    found = made(tmp_path, per_task=both)
    assert one(found, CHEETAH, "happo").clip == 0.3
    assert (CHEETAH, "maddpg") not in pairings(found)


def test_only_the_hash_of_the_pairing_changes(tmp_path: Path) -> None:
    before, after = hashes(tmp_path), hashes(tmp_path, per_task={CHEETAH: {"happo": {"clip": 0.3}}})
    assert {key for key in before if before[key] != after[key]} == {(CHEETAH, "happo")}


def test_a_setting_that_a_pairing_has_anyway_leaves_its_hash(tmp_path: Path) -> None:
    assert hashes(tmp_path, per_task={CHEETAH: {"happo": {"clip": 0.2}}}) == hashes(tmp_path)


def test_set_reaches_a_pairing_although_its_task_holds_a_slash(tmp_path: Path) -> None:
    assert one(made(tmp_path, f"per_task.{CHEETAH}.happo.clip=0.3"), CHEETAH, "happo").clip == 0.3
    assert (CHEETAH, "happo") not in pairings(made(tmp_path, f"per_task.{CHEETAH}.happo=skip"))


TEXT = f"""
tasks: [{HOPPER}, {CHEETAH}]
algorithms: {{happo: , mappo: , mappo-shared: {{algorithm: mappo, share_actors: true}}}}
per_task:
  {HOPPER}: {{happo: &careful {{clip: 0.05, actor_epochs: 7}}, mappo: *careful, mappo-shared: skip}}
  {CHEETAH}: &all {{happo: *careful}}
"""


def test_anchors_serve_several_pairings_and_set_changes_only_one(tmp_path: Path) -> None:
    path = write(tmp_path, yaml.safe_dump(document(tasks=None, algorithms=None)) + TEXT)

    def clips(*overrides: str) -> list[float]:
        found = trials(load(path, overrides)[0], path)
        return [one(found, *pairing).clip for pairing in ((HOPPER, "happo"), (HOPPER, "mappo"), (CHEETAH, "happo"))]

    assert clips() == [0.05, 0.05, 0.05]
    assert clips(f"per_task.{HOPPER}.mappo.clip=0.3") == [0.05, 0.3, 0.05]


# What is refused


@pytest.mark.parametrize(
    ("per_task", "parts"),
    [
        ([1], ["per_task:", "[1]", "a mapping of names to settings"]),
        ({"mamujoco/Ant-2x4": {"happo": "skip"}}, ["per_task.mamujoco/Ant-2x4:", "not a task of this suite", HOPPER]),
        ({5: {"happo": "skip"}}, [": per_task: the key 5 is not a word"]),
        ({HOPPER: None}, [f"per_task.{HOPPER}:", "None", "a mapping of names to settings"]),
        ({HOPPER: "skip"}, [f"per_task.{HOPPER}:", "'skip'", "a mapping of names to settings"]),
        ({HOPPER: {}}, [f"per_task.{HOPPER}:", "says nothing", "happo, clipped, maddpg"]),
        ({HOPPER: {"hatrpo": "skip"}}, [f"per_task.{HOPPER}.hatrpo:", "not an algorithm", "happo, clipped, maddpg"]),
        ({HOPPER: {"mappo": "skip"}}, [f"per_task.{HOPPER}.mappo:", "happo, clipped, maddpg"]),
        ({HOPPER: {"happo": None}}, [f"per_task.{HOPPER}.happo:", "None", "skip"]),
        ({HOPPER: {"happo": {}}}, [f"per_task.{HOPPER}.happo:", "{}", "skip"]),
        ({HOPPER: {"happo": "Skip"}}, [f"per_task.{HOPPER}.happo:", "'Skip'", "the word skip"]),
        ({HOPPER: {"happo": False}}, [f"per_task.{HOPPER}.happo:", "False", "skip"]),
        ({HOPPER: {"happo": [0.1]}}, [f"per_task.{HOPPER}.happo:", "[0.1]", "skip"]),
        ({HOPPER: {"happo": {"clipp": 1}}}, [f"per_task.{HOPPER}.happo.clipp:", "'clipp'", "valid", "clip"]),
        ({HOPPER: {"happo": {"delta": 1}}}, [f"per_task.{HOPPER}.happo.delta:", "unknown setting"]),
        ({HOPPER: {"happo": {1: 2}}}, [f"per_task.{HOPPER}.happo.1:", "unknown setting"]),
        ({HOPPER: {"happo": {"clip": "0.1"}}}, [f"per_task.{HOPPER}.happo.clip:", "'0.1'", "a number"]),
        ({HOPPER: {"happo": {"gamma": 2}}}, [f"per_task.{HOPPER}.happo.gamma:", "2", "0 to 1"]),
        (
            {HOPPER: {"clipped": {"algorithm": "happo"}}},
            [f"per_task.{HOPPER}.clipped.algorithm:", "'happo'", "under algorithms"],
        ),
        (
            {HOPPER: {"happo": {"share_actors": True}}},
            [f"per_task.{HOPPER}.happo.share_actors:", "its update is sequential"],
        ),
        (
            {HOPPER: {"clipped": {"share_actors": True}}},
            [f"per_task.{HOPPER}.clipped.share_actors:", f"on {HOPPER}", "8/1", "may skip"],
        ),
        (
            {HOPPER: {"happo": {"actor_minibatches": 101}}},
            [f"per_task.{HOPPER}.happo.actor_minibatches:", "101", "holds 100 samples"],
        ),
        # twice, or all
        (
            {CHEETAH: {"happo": {"clip": 0.1}}, f"{CHEETAH}:episode_length=50": {"happo": "skip"}},
            [f"per_task.{CHEETAH}:episode_length=50.happo:", f"per_task.{CHEETAH}.happo", "already"],
        ),
        (
            {HOPPER: dict.fromkeys(["happo", "clipped", "maddpg"], "skip")},
            ["per_task:", f"every algorithm on {HOPPER}", "out of tasks"],
        ),
        (
            {HOPPER: {"maddpg": "skip"}, CHEETAH: {"maddpg": "skip"}},
            ["per_task:", "maddpg on every task", "out of algorithms"],
        ),
        # the grid of evaluations, by pairing
        (
            {CHEETAH: {"maddpg": {"rollout_length": 30}}},
            ["evaluate.every: 200", "maddpg's rollout_length x envs = 60", CHEETAH, "nearest is 180"],
        ),
        ({CHEETAH: {"happo": {"envs": 3}}}, ["evaluate.every: 200", "happo's", "= 150", CHEETAH]),
    ],
)
def test_a_bad_entry_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], per_task: Any, parts: list[str]
) -> None:
    path = write(tmp_path, per_task=per_task)
    says(refusal(tmp_path, capsys, path), f"{path}: ", *parts)


def test_a_setting_of_the_label_that_does_not_suit_a_task_is_named_where_it_stands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes: dict[str, Any] = {
        "algorithms": {"mappo": {"share_actors": True}},
        "per_task": {HOPPER: {"mappo": {"clip": 0.1}}},
    }
    path = write(tmp_path, **changes)
    says(refusal(tmp_path, capsys, path), f"{path}: algorithms.mappo.share_actors: on {HOPPER}", "per_task may skip")


def test_a_rollout_length_that_does_not_fit_is_fine_where_every_task_replaces_it(tmp_path: Path) -> None:
    replaced = {task: {"maddpg": {"rollout_length": 10}} for task in (HOPPER, CHEETAH)}
    algorithms = {"happo": None, "maddpg": {"rollout_length": 30, "batch_size": 16}}
    found = made(tmp_path, algorithms=algorithms, per_task=replaced)
    assert {t.settings.rollout_length for t in found if t.label == "maddpg"} == {10}


# What is made of pairings that there are not


def test_a_dry_run_says_how_many_pairings_are_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, per_task={HOPPER: {"clipped": "skip"}})
    assert run.main([str(path), "--results", str(tmp_path / "results"), "--dry-run"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("10 trials: 2 tasks x 3 algorithms x 2 seeds, 1 pairing skipped -> ")


def test_a_skipped_pairing_is_not_missing_from_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "demo"
    for task, label in (("a", "happo"), ("a", "mappo"), ("b:obsk=2", "happo")):
        write_trial(folder, label, task=task)
    assert report.main([str(folder)]) == 0
    assert "Incomplete: 1 of 4" in capsys.readouterr().out
    Resolved([], ["a", "b:obsk=2"], {}, [("b:obsk=2", "mappo")]).write(folder)
    assert report.main([str(folder)]) == 0
    assert "Incomplete" not in capsys.readouterr().out
    page = (folder / "report.html").read_text()
    assert "skipped by the suite" in page
    assert "mappo on b:obsk=2" in page
    assert "missing" not in page.partition("</style>")[2]
    assert list(pd.read_csv(folder / "returns.csv")["task"]) == ["a", "a", "b:obsk=2"]


def test_algorithms_that_are_skipped_on_the_same_tasks_are_said_together(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    for task, label in (("a", "happo"), ("a", "mappo"), ("a", "ippo"), ("b", "happo"), ("c", "happo")):
        write_trial(folder, label, task=task)
    Resolved([], ["a", "b", "c"], {}, [(task, label) for task in "cb" for label in ("mappo", "ippo")]).write(folder)
    assert report.main([str(folder)]) == 0
    assert "ippo and mappo on b and c" in (folder / "report.html").read_text()


def test_a_pairing_that_was_run_before_it_was_skipped_keeps_its_rows(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    write_trial(folder, "happo", 0)
    write_trial(folder, "mappo", 0)
    write_trial(folder, "happo", 1)
    task = states_of(folder)["task"].iloc[0]
    records, found = files.read_table(folder / "records.parquet"), read_trials(folder)
    states = stats.trial_states(records, found, {(task, "mappo")}, ["mappo", "happo"])
    assert states[["algorithm", "seed"]].to_numpy().tolist() == [["mappo", 0], ["happo", 0], ["happo", 1]]


def test_a_trial_that_waits_for_what_is_now_skipped_is_forgotten(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    write_trial(folder, "happo")
    write_trial(folder, "mappo", returns=(), absolute=None, status="waiting")
    task = states_of(folder)["task"].iloc[0]
    records, found = files.read_table(folder / "records.parquet"), read_trials(folder)
    assert list(stats.trial_states(records, found, {(task, "mappo")})["algorithm"]) == ["happo"]


@pytest.mark.parametrize("text", ["[1]", "{}", '{"methods": 5}', "a: [", '{"a": NaN'])
def test_a_broken_suite_file_is_named_by_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    folder = tmp_path / "demo"
    write_trial(folder)
    files.write_text(folder / "resolved.json", text)
    assert report.main([str(folder)]) == 2
    says(capsys.readouterr().err, str(folder / "resolved.json"), "carries no checksum")


@pytest.mark.usefixtures("sigterm_as_before", "costs_are_known")
def test_a_run_writes_no_trial_of_a_skipped_pairing_and_reports_on_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = [{"name": name, "episode_length": 20} for name in (HOPPER, CHEETAH)]
    short: dict[str, Any] = {"steps": 100, "evaluate": {"every": 100, "episodes": 1}, "seeds": 1, "tasks": tasks}
    path = write(tmp_path, **short, per_task={HOPPER: {"clipped": "skip", "maddpg": "skip"}})
    assert run.main([str(path), "--results", str(tmp_path / "results"), "--jobs", "1"]) == 0
    assert len(read_trials(tmp_path / "results" / "demo")) == 4
    found = Resolved.read(tmp_path / "results" / "demo")
    assert found is not None
    assert found.skipped == [(f"{HOPPER}:episode_length=20", label) for label in ("clipped", "maddpg")]
    assert {label: about.method for label, about in found.algorithms.items()} == {
        "clipped": "mappo",
        "happo": "happo",
        "maddpg": "maddpg",
    }
    assert [*found.algorithms] == ["clipped", "happo", "maddpg"]  # mappo, of which clipped is one, comes first
    capsys.readouterr()
    assert report.main([str(tmp_path / "results" / "demo")]) == 0
    assert "Incomplete" not in capsys.readouterr().out
