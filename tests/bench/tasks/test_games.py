"""Games as tasks: names, options, identity, exact scores, and the suite of them."""

from __future__ import annotations

from typing import Any

import pytest

from algorithms import Continuous, Discrete, SettingError
from bench import check, reference
from bench.envs.games import Ridge, Table
from bench.store import scores
from bench.suite.resolving import load, trials
from bench.suite.shipped import find
from bench.tasks import games, registry

NAMES = [name for name in registry.names() if name.startswith("games/")]


def refusal(name: str, options: dict[str, Any]) -> SettingError:
    with pytest.raises(SettingError) as caught:
        registry.task(name, options)
    return caught.value


def test_every_kind_of_game_is_listed() -> None:
    assert {name.removeprefix("games/").partition("-")[0] for name in NAMES} == {
        "random",
        "coordination",
        "driving",
        "ridge",
    }


@pytest.mark.parametrize(
    ("name", "options", "space", "agents", "state", "length"),
    [
        ("games/random-7", {}, Discrete((3,)), 3, 5, 20),
        (
            "games/random-7",
            {"agents": 2, "states": 9, "actions": 4, "episode_length": 6},
            Discrete((4,)),
            2,
            9,
            6,
        ),
        ("games/coordination-8", {}, Discrete((2,)), 8, 1, None),
        ("games/driving", {}, Discrete((2,)), 2, 1, None),
        ("games/ridge", {"agents": 3}, Continuous(1), 3, 1, None),
    ],
)
def test_a_game_has_the_sizes_that_its_name_and_options_say(
    name: str, options: dict[str, Any], space: Any, agents: int, state: int, length: int | None
) -> None:
    task = registry.task(name, options)
    team = registry.team(task)
    assert team.action_spaces == (space,) * agents
    assert (team.state_size, task.episode_length, task.robot) == (state, length, None)
    assert task.label == ":".join([name, *(f"{key}={value}" for key, value in options.items())])
    assert task.origin() == {"games": 1}


@pytest.mark.parametrize("name", ["games/coordination-10", "games/random-12345"])
def test_a_game_that_is_not_listed_passes_all_checks(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check, "speed", lambda *_: "fast")
    assert check.main([name]) == 0
    assert "FAILED" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "name", ["games/coordination-3", "games/coordination-0", "games/random", "games/random-01", "games/random--1"]
)
def test_a_name_of_no_game_is_refused_with_those_there_are(name: str) -> None:
    error = refusal(name, {})
    assert error.key == "name"
    assert "games/coordination-<even number of agents up to 16>" in str(error)


def test_a_misspelt_game_is_told_the_near_one() -> None:
    assert "did you mean games/driving?" in str(refusal("games/drivin", {}))


def test_options_are_those_of_the_game() -> None:
    assert refusal("games/driving", {"agents": 2}).key == "agents"
    assert "has no options" in str(refusal("games/coordination-2", {"agents": 2}))
    assert refusal("games/ridge", {"agents": 1}).key == "agents"
    assert refusal("games/random-0", {"state": 3}).key == "state"
    assert "100,000,000,000,000 probabilities" in str(
        refusal("games/random-0", {"states": 1000, "agents": 4, "actions": 100})
    )


def test_what_is_known_of_a_game_comes_with_its_name() -> None:
    task = registry.task("games/random-1", {"agents": 2})
    table = games.known(task.name, task.options)
    assert isinstance(table, Table)
    assert (table.states, table.actions) == (5, (3, 3))
    ridge = registry.task("games/ridge", {"steepness": 2})
    assert games.known(ridge.name, ridge.options) == Ridge(agents=4, steepness=2.0)


@pytest.mark.parametrize("name", NAMES)
def test_recorded_scores_are_the_exact_ones(name: str) -> None:
    task = registry.task(name, {})
    entry = scores.read()[name]
    assert reference.exact_entry(task) == entry
    found, exact = scores.score(name), task.exact_scores()
    assert found is not None
    assert exact is not None
    assert (found.random, found.reference) == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_uniform_actions_earn_the_exact_score(name: str) -> None:
    task = registry.task(name, {})
    measured, known = reference.random_score(task, episodes=1000), task.exact_scores()
    assert known is not None
    assert abs(measured["mean"] - known[0]) < 4 * measured["standard_error"]
    assert measured["standard_error"] > 0


def test_exact_scores_are_not_measured(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(reference, "run_trials", None)
    assert reference.main(["games/driving"]) == 0
    assert '"reference": {"mean": 1.0, "exact": true}' in capsys.readouterr().out


def test_the_suite_shares_actors_only_where_the_proposition_speaks_of_it() -> None:
    path = find("games")
    planned = trials(load(path)[0], path)
    shared = {t.task.name for t in planned if t.label == "mappo-shared"}
    assert shared == {"games/coordination-2", "games/coordination-4", "games/coordination-6"}
    assert {getattr(t.settings, "share_actors", False) for t in planned if t.label != "mappo-shared"} == {False}
    assert {t.settings.share_actors for t in planned if t.label == "mappo-shared"} == {"without_index"}  # type: ignore[union-attr]
    assert {t.task.name for t in planned} == {*NAMES} - {"games/random-1"}, "one random game in two minutes"
