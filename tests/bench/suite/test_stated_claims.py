"""Claims in suite files: checked before anything runs, and kept as they were stated before the results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.store.resolved import Claim
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


def stated(folder: Path, **about: Any) -> Claim:
    path = folder / "demo.yaml"
    path.write_text(yaml.safe_dump(SUITE | {"claims": {"beats": BEATS | about}}))
    suite, _ = load(path)
    return claims(suite, trials(suite, path), path)["beats"]


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
    ],
)
def test_what_nobody_could_decide_is_refused_by_name(tmp_path: Path, about: dict[str, Any], words: str) -> None:
    with pytest.raises(SuiteError) as error:
        stated(tmp_path, **about)
    assert str(error.value).startswith(f"{tmp_path / 'demo.yaml'}: {words}")
    assert "\n" not in str(error.value)


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
