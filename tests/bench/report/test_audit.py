"""The fairness audit: what differs, what differs by method, what is refused, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from test_report import TASK, refused, suite, write_trial

from bench import publish
from bench.report import audit
from bench.report.__main__ import main

__all__ = ["suite"]
ON_POLICY = {"envs": 4, "rollout_length": 50, "gae_lambda": 0.95, "critic_epochs": 5, "critic_minibatches": 1}
CLIP = {**ON_POLICY, "actor_epochs": 5, "actor_minibatches": 1, "clip": 0.2, "entropy_coef": 0.0}
TRUST_REGION = {**ON_POLICY, "delta": 0.01, "cg_steps": 10}
REPLAY = {
    "envs": 4,
    "rollout_length": 10,
    "update_to_data": 0.03,
    "batch_size": 500,
    "buffer_size": 1000,
    "n_step": 20,
}
NONE = pd.DataFrame()
PROVENANCE = {"commit": "c0ffee", "machine": {"cpu": "some CPU"}, "matmul": "torch", "numerics": 1, "versions": {}}


def trial(algorithm: str = "mappo", seed: int = 0, **changes: Any) -> dict[str, Any]:
    """What a trial.json says, as far as the audit reads it."""
    about = {
        "task": TASK,
        "algorithm": algorithm,
        "seed": seed,
        "steps": 200,
        "status": "done",
        "settings": CLIP,
        "options": {"observation": "local"},
        "provenance": PROVENANCE,
    }
    return about | changes


def verdicts(*trials: dict[str, Any], records: pd.DataFrame = NONE) -> dict[str, str]:
    """Fact -> verdict, of trials of one task."""
    (found,) = audit.audits(trials, records)
    return {fact.name: fact.verdict for fact in (*found.unequal, *found.partial, *found.equal)}


def test_equal_algorithms_have_no_rows() -> None:
    (found,) = audit.audits([trial("mappo"), trial("happo")], NONE)
    assert found.unequal == found.partial == ()
    assert audit.unfair([found]) == []


def test_a_setting_that_was_chosen_differently_differs_and_comes_first() -> None:
    changed = trial("happo", settings=CLIP | {"clip": 0.1})
    (found,) = audit.audits([trial("mappo"), changed, trial("maddpg", settings=REPLAY)], NONE)
    assert found.unequal[0] == audit.Fact("clip", {"mappo": "0.2", "happo": "0.1", "maddpg": "–"}, "differs")
    assert {fact.verdict for fact in found.unequal[1:]} == {"by method"}
    assert audit.unfair([found]) == [f"{TASK}: clip: mappo 0.2, happo 0.1, maddpg –"]


def test_what_only_some_methods_have_is_by_method() -> None:
    found = verdicts(trial("happo"), trial("hatrpo", settings=TRUST_REGION))
    assert found["clip"] == found["delta"] == found["entropy coefficient"] == "by method"
    assert "differs" not in found.values()


def test_the_use_of_data_by_hand_and_by_method_between_kinds() -> None:
    """5 epochs of one minibatch per 4 x 50 steps: 25 gradient steps per 1,000 steps, each on 200; else 30 of 500."""
    (found,) = audit.audits([trial("mappo"), trial("maddpg", settings=REPLAY)], NONE)
    facts = {fact.name: fact for fact in found.unequal}
    steps = facts["gradient steps per 1,000 environment steps of the critic"]
    assert (steps.values, steps.verdict) == ({"mappo": "25", "maddpg": "30"}, "by method")
    assert facts["samples per gradient step of the critic"].values == {"mappo": "200", "maddpg": "500"}
    assert facts["uses of each environment step by the critic"].values == {"mappo": "5", "maddpg": "15"}
    assert facts["return estimate"].values == {"mappo": "GAE, lambda 0.95", "maddpg": "20-step"}


def test_a_shared_network_takes_each_step_on_the_samples_of_all_agents() -> None:
    """Of a shared actor M is [T, E N]; the critic of IPPO is shared with it, that of MAPPO sees the state once."""
    shared = CLIP | {"share_actors": "without_index"}
    both = [trial(f"{name}-shared", method=name, settings=shared) for name in ("mappo", "ippo")]
    (found,) = audit.audits([trial("mappo", settings=CLIP | {"share_actors": False}), *both], NONE)
    facts = {fact.name: fact for fact in (*found.unequal, *found.equal)}
    all_agents = "200 of each agent"
    actor, critic = (facts[f"samples per gradient step of the {who}"] for who in ("actor", "critic"))
    assert actor.values == {"mappo": "200", "mappo-shared": all_agents, "ippo-shared": all_agents}
    assert critic.values == {"mappo": "200", "mappo-shared": "200", "ippo-shared": all_agents}
    assert actor.verdict == critic.verdict == facts["parameter sharing"].verdict == "differs"
    assert set(facts["uses of each environment step by the actor"].values.values()) == {"5"}


def test_the_use_of_data_differs_within_a_kind() -> None:
    found = verdicts(trial("mappo"), trial("ippo", settings=CLIP | {"critic_epochs": 10}))
    assert found["gradient steps per 1,000 environment steps of the critic"] == "differs"
    assert found["samples per gradient step of the critic"] == "equal"


def test_one_natural_gradient_step_is_by_method() -> None:
    found = verdicts(trial("mappo"), trial("hatrpo", settings=TRUST_REGION))
    assert found["gradient steps per 1,000 environment steps of the actor"] == "by method"
    assert found["gradient steps per 1,000 environment steps of the critic"] == "equal"


def test_gradient_steps_are_measured_at_the_last_evaluation() -> None:
    columns = ["task", "algorithm", "seed", "kind", "step", "gradient_updates"]
    rows = [(TASK, "mappo", seed, "grid", step, step // 50) for seed in (0, 1) for step in (0, 100, 200)]
    rows += [(TASK, "mappo", 0, "absolute", 100, 99), (TASK, "happo", 0, "grid", 200, 8)]
    (found,) = audit.audits([trial("mappo"), trial("happo")], pd.DataFrame(rows, columns=columns))
    (fact,) = found.unequal
    assert fact.values == {"mappo": "20", "happo": "40"}
    assert fact.verdict == "differs"


@pytest.mark.parametrize(
    ("fact", "changes"),
    [
        ("tuning", {"tuning": {"trials": 8, "steps": 1000, "seeds": 2, "study": "s"}}),
        ("commit", {"provenance": PROVENANCE | {"commit": "badcafe"}}),
        ("processor", {"provenance": PROVENANCE | {"machine": {"cpu": "another"}}}),
        ("NUMERICS", {"provenance": PROVENANCE | {"numerics": 2}}),
        ("matrix library", {"provenance": PROVENANCE | {"matmul": "onednn"}}),
    ],
)
def test_what_is_not_part_of_a_method_differs(fact: str, changes: dict[str, Any]) -> None:
    found = verdicts(trial("mappo"), trial("happo", **changes))
    assert [name for name, verdict in found.items() if verdict == "differs"] == [fact]


def test_seeds_that_differ_are_counted() -> None:
    old = trial("mappo", 1, provenance=PROVENANCE | {"commit": "badcafe"})
    (found,) = audit.audits([trial("mappo"), old, trial("happo"), trial("happo", 1)], NONE)
    (fact,) = found.unequal
    assert fact.values == {"mappo": "badcafe (1 seed), c0ffee (1 seed)", "happo": "c0ffee"}


def test_a_trial_that_was_continued_elsewhere_says_both() -> None:
    moved = trial("mappo", earlier_provenance=[PROVENANCE | {"machine": {"cpu": "old"}}])
    (found,) = audit.audits([moved], NONE)
    assert {fact.name: fact.values["mappo"] for fact in found.equal}["processor"] == "old then some CPU"


def test_tasks_with_equal_facts_stand_together_and_trials_that_wait_say_nothing() -> None:
    found = audit.audits([trial(task="a"), trial(task="b"), trial("happo", status="waiting", task="a")], NONE)
    assert [one.tasks for one in found] == [("a", "b")]
    assert found[0].labels == ("mappo",)
    assert audit.audits([], NONE) == []


@pytest.mark.parametrize(
    ("value", "shown"),
    [(True, "yes"), (1000, "1,000"), (5e-4, "0.0005"), (500.0, "500"), ([128, 128], "128 x 128"), (None, "–")],
)
def test_values_as_text(value: object, shown: str) -> None:
    assert audit.text(value) == shown


# on the page


def test_strict_fair_refuses_what_differs_and_writes_nothing(suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_trial(suite, "mappo", settings=CLIP)
    write_trial(suite, "happo", settings=CLIP | {"clip": 0.1})
    assert main([str(suite), "--strict-fair"]) == 2
    assert not (suite / "report.html").exists()
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "not a fair comparison: mamujoco/HalfCheetah-6x1: clip: " in line
    assert main([str(suite)]) == 0
    assert '<span class="fewer">differs</span>' in (suite / "report.html").read_text()


def test_strict_fair_allows_what_is_by_method(suite: Path) -> None:
    write_trial(suite, "happo", settings=CLIP)
    write_trial(suite, "hatrpo", settings=TRUST_REGION)
    assert main([str(suite), "--strict-fair"]) == 0
    assert "By method, as only these have it" in (suite / "report.html").read_text()


def test_a_published_folder_is_audited(suite: Path, tmp_path: Path) -> None:
    write_trial(suite, "mappo", settings=CLIP)
    write_trial(suite, "happo", settings=CLIP | {"clip": 0.1})
    publish.publish(suite, tmp_path / "published")
    assert main([str(tmp_path / "published"), "--strict-fair"]) == 2
    assert main([str(tmp_path / "published")]) == 0
    assert '<span class="fewer">differs</span>' in (tmp_path / "published" / "report.html").read_text()


def test_a_folder_without_trials_cannot_be_audited(suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_trial(suite)
    assert main([str(suite)]) == 0
    for path in suite.rglob("trial.json"):
        path.unlink()
    assert main([str(suite), "--strict-fair"]) == 2
    assert "cannot be audited" in capsys.readouterr().err
    assert main([str(suite)]) == 0
    assert "no trials.parquet of a trial that has begun" in (suite / "report.html").read_text()


def test_one_algorithm_has_nothing_to_be_compared_with(suite: Path) -> None:
    write_trial(suite)
    assert main([str(suite), "--strict-fair"]) == 0
    assert "One algorithm: there is nothing to compare" in (suite / "report.html").read_text()


def test_options_and_numerics_that_differ_are_refused_by_name(suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_trial(suite, "mappo", options={"observation": "local"})
    write_trial(suite, "happo", options={"observation": "global"})
    assert f'{{"observation": "global"}}: {TASK} happo seed 0' in refused(suite, capsys)
    write_trial(suite, "happo", options={"observation": "local"}, provenance={"numerics": 1})
    write_trial(suite, "happo", 1, options={"observation": "local"}, provenance={"numerics": 2})
    assert "different NUMERICS" in refused(suite, capsys)
