"""Claims in suite files: checked before anything runs, and kept as they were stated before the results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.store.resolved import Claim, by_robot
from bench.suite.claims import claims, kept
from bench.suite.model import SuiteError
from bench.suite.resolving import load, trials

SUITE: dict[str, Any] = {
    "name": "demo",
    "steps": 8000,
    "seeds": 5,
    "evaluate": {"every": 4000, "episodes": 2},
    "tasks": ["mamujoco/Hopper-3x1", {"name": "mamujoco/HalfCheetah-2x3", "episode_length": 50}],
    "algorithms": {"happo": None, "mappo": None},
}
BEATS = {"says": "HAPPO outperforms MAPPO.", "algorithms": ["happo"], "against": ["mappo"]}


def stated(folder: Path, suite: dict[str, Any] = SUITE, **about: Any) -> Claim:
    path = folder / "demo.yaml"
    path.write_text(yaml.safe_dump(suite | {"claims": {"beats": BEATS | about}}))
    read, _ = load(path)
    return claims(read, trials(read, path), path)["beats"]


def test_a_claim_is_about_all_tasks_by_their_labels_unless_it_names_some(tmp_path: Path) -> None:
    cheetah = "mamujoco/HalfCheetah-2x3:episode_length=50"
    assert stated(tmp_path).tasks == ["mamujoco/Hopper-3x1", cheetah]
    assert stated(tmp_path, tasks=[cheetah]).tasks == [cheetah]


def test_defaults_of_a_claim(tmp_path: Path) -> None:
    claim = stated(tmp_path)
    assert (claim.kind, claim.measure, claim.margin, claim.ended_before) == ("outperforms", "final", 0.1, 0)


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({"against": ["mapo"]}, "claims.beats.against: mapo is not an algorithm of this suite; did you mean mappo?"),
        ({"algorithms": ["x"]}, "claims.beats.algorithms: x is not an algorithm of this suite; valid: happo, mappo"),
        ({"tasks": ["mamujoco/Hopper"]}, "claims.beats.tasks: mamujoco/Hopper is not a task of this suite"),
        ({"against": []}, "claims.beats.against: missing; outperforms needs at least one algorithm"),
        ({"against": ["happo"]}, "claims.beats.against: happo cannot be compared with itself"),
        ({"kind": "improves_monotonically"}, "claims.beats.against: improves_monotonically compares with nobody"),
        ({"kind": "wins"}, "claims.beats.kind: "),
        ({"margin": 0.0}, "claims.beats.margin: "),
        ({"margin": float("nan")}, "claims.beats.margin: "),
        ({"measure": "best"}, "claims.beats.measure: "),
        ({"algorithms": []}, "claims.beats.algorithms: needs at least one algorithm"),
        ({"unknown": 1}, "claims.beats.unknown: unknown key; valid: says, kind, algorithms, against, tasks, measure"),
        ({"says": ""}, "claims.beats.says: "),
        ({"algorithms": ["happo", "happo"]}, "claims.beats.algorithms: happo stands there more than once"),
        ({"against": ["mappo"] * 2}, "claims.beats.against: mappo stands there more than once"),
        ({"tasks": ["mamujoco/Hopper-3x1"] * 2}, "claims.beats.tasks: mamujoco/Hopper-3x1 stands there more than once"),
        (
            {"kind": "grows_with_agents"},
            "claims.beats: grows_with_agents needs tasks of one robot with different numbers of agents for happo and ",
        ),
    ],
)
def test_what_nobody_could_decide_is_refused_by_name(tmp_path: Path, about: dict[str, Any], words: str) -> None:
    with pytest.raises(SuiteError) as error:
        stated(tmp_path, **about)
    assert str(error.value).startswith(f"{tmp_path / 'demo.yaml'}: {words}")
    assert "\n" not in str(error.value)


def test_what_per_task_leaves_nothing_of_is_refused(tmp_path: Path) -> None:
    cheetah = "mamujoco/HalfCheetah-2x3:episode_length=50"
    skipping = {
        **SUITE,
        "algorithms": SUITE["algorithms"] | {"ippo": None},
        "per_task": {cheetah: {"happo": "skip"}, "mamujoco/Hopper-3x1": {"mappo": "skip"}},
    }
    with pytest.raises(SuiteError, match=r"claims\.beats: per_task skips happo or mappo on each of its tasks$"):
        stated(tmp_path, skipping)
    alone: dict[str, Any] = {"kind": "improves_monotonically", "against": []}
    with pytest.raises(SuiteError, match=r"claims\.beats: per_task skips happo on each of its tasks$"):
        stated(tmp_path, skipping, tasks=[cheetah], **alone)
    assert stated(tmp_path, skipping, **alone).algorithms == ["happo"]
    assert stated(tmp_path, skipping, against=["ippo"]).against == ["ippo"]


def test_claims_about_updates_that_too_few_episodes_measure_are_refused(tmp_path: Path) -> None:
    """In 8 episodes 6% of updates that change nothing would seem to lower the return; J of games is exact."""
    alone: dict[str, Any] = {"kind": "improves_monotonically", "against": []}
    meter = SUITE | {"diagnostics": {"improvement_every": 2, "improvement_episodes": 8}}
    with pytest.raises(SuiteError, match=r"improvement_episodes: 8 tell no .* claims\.beats needs at least 16$"):
        stated(tmp_path, meter, **alone)
    enough = {"diagnostics": {"improvement_every": 2, "improvement_episodes": 16}}
    for suite in (SUITE | enough, meter | {"tasks": ["games/driving"]}):
        assert stated(tmp_path, suite, **alone).algorithms == ["happo"]
    undiscounted = meter | {"tasks": ["games/driving"], "algorithms": {"happo": {"gamma": 1}, "mappo": None}}
    with pytest.raises(SuiteError, match="improvement_episodes: 8 tell no"):  # episodes are played there
        stated(tmp_path, undiscounted, **alone)
    assert stated(tmp_path, undiscounted | {"tasks": ["games/ridge"]}, **alone).algorithms == ["happo"]


def test_growth_is_decided_by_the_partitions_that_both_algorithms_have(tmp_path: Path) -> None:
    partitions = {**SUITE, "tasks": ["mamujoco/HalfCheetah-2x3", "mamujoco/HalfCheetah-6x1"]}
    assert stated(tmp_path, partitions, kind="grows_with_agents").kind == "grows_with_agents"
    skipping = partitions | {"per_task": {"mamujoco/HalfCheetah-6x1": {"mappo": "skip"}}}
    with pytest.raises(SuiteError, match=r"with different numbers of agents for happo and mappo$"):
        stated(tmp_path, skipping, kind="grows_with_agents")


def test_robots_with_several_numbers_of_agents() -> None:
    agents = {"m/Ant-2x4": 2, "m/Ant-4x2:obsk=0": 4, "m/Hopper-3x1": 3, "m/Reacher-2x1": 2, "m/Reacher-2x1:obsk=0": 2}
    named = {f"mamujoco/{task.removeprefix('m/')}": count for task, count in agents.items()}
    assert by_robot(named) == [["mamujoco/Ant-2x4", "mamujoco/Ant-4x2:obsk=0"]]
    own = {"python:meeting:Meeting:robots=2": 2, "python:meeting:Meeting:robots=5": 5, "python:chase:Chase": 5}
    games = {"games/coordination-2": 2, "games/coordination-4": 4, "games/random-0:agents=2": 2, "games/random-1": 3}
    assert by_robot(own | games) == [[*own][:2], [*games][:2]]


CLAIM = Claim("HAPPO outperforms MAPPO.", "outperforms", ["happo"], ["mappo"], ["a"], "final", 0.1)


def test_before_there_are_results_claims_may_change() -> None:
    now = {"beats": Claim(**vars(CLAIM) | {"margin": 0.2})}
    assert kept(now, {"beats": CLAIM}, 0, Path("demo")) == now


@pytest.mark.parametrize(
    ("now", "words"),
    [
        ({"beats": Claim(**vars(CLAIM) | {"margin": 0.2})}, "claims.beats: margin is 0.2 and was 0.1"),
        ({}, "claims.beats: is not there any more"),
    ],
)
def test_after_the_first_result_they_may_not(now: dict[str, Claim], words: str) -> None:
    with pytest.raises(SuiteError, match=f"^demo: {words}, but it was stated before the results"):
        kept(now, {"beats": CLAIM}, 1, Path("demo"))


def test_a_claim_that_is_added_later_says_after_how_many_trials() -> None:
    first = kept({"beats": CLAIM}, {}, 7, Path("demo"))
    assert first["beats"].ended_before == 7
    assert kept({"beats": CLAIM}, first, 9, Path("demo")) == first
