"""The share of updates that lowered the return, by hand, and what it says of a claim."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_report import write_trial

from bench.report import monotonic
from bench.report.load import load
from bench.report.stats import NOTHING


def updates(changes: dict[int, list[float]], error: float = 1.0) -> pd.DataFrame:
    """Seed -> changes of the whole update, each beside one of an agent that rises."""
    rows = [("a", "happo", seed, k, "team", x, error) for seed, of in changes.items() for k, x in enumerate(of)]
    rows += [("a", "happo", seed, k, "0", 1.0, error) for seed, of in changes.items() for k in range(len(of))]
    rows.append(("a", "happo", 0, 99, "team", np.nan, np.nan))  # not measured
    columns = ["task", "algorithm", "seed", "step", "agent", "improvement", "improvement_error"]
    return pd.DataFrame(rows, columns=columns)


def test_a_fall_within_the_error_is_no_sure_one() -> None:
    """The 95% quantile of Student's t with 15 degrees of freedom is 1.753."""
    found = monotonic.measured(updates({0: [1.8, -1.0, -1.76, -1.7]}))
    team = found[found["agent"] == "team"]
    assert team["lowered"].tolist() == [False, True, True, True]
    assert team["surely"].tolist() == [False, False, True, False]
    assert team["raised"].tolist() == [True, False, False, False]


def test_of_updates_that_change_nothing_at_most_a_twentieth_seems_to_lower_the_return() -> None:
    difference = np.random.default_rng(0).normal(size=(100_000, 16))
    table = pd.DataFrame({"task": "a", "algorithm": "happo", "seed": 0, "step": 0, "agent": "team"}, range(100_000))
    means, errors = difference.mean(axis=1), difference.std(axis=1, ddof=1) / 4
    found = monotonic.measured(table.assign(improvement=means, improvement_error=errors))
    assert found["surely"].mean() == pytest.approx(monotonic.CHANCE, abs=0.002)


def test_updates_that_were_not_measured_change_no_judgement_on_others() -> None:
    """As in a suite that measures every third update, and records J where it does."""
    table = updates({0: [-3.0, 0.5, 3.0]}).query("agent == 'team'").assign(expected_return=100.0)
    sparse = table.set_index(3 * np.arange(len(table))).reindex(range(3 * len(table)))
    found = monotonic.measured(sparse)
    assert found["lowered"].tolist() == [True, False, False]
    assert found["surely"].tolist() == [True, False, False]
    assert found["raised"].tolist() == [False, False, True]


def test_exact_returns_have_no_error() -> None:
    found = monotonic.measured(updates({0: [1e-9, 0.0, -1e-9]}, error=0.0))
    assert found[found["agent"] == "team"]["surely"].tolist() == [False, False, True]


def test_shares_are_of_the_whole_update_and_of_single_steps() -> None:
    table = monotonic.shares(monotonic.measured(updates({0: [1.0, -2.0], 1: [-2.0, -2.0]}))).set_index("whose")
    assert [*table.loc["team", ["updates", "lowered", "surely", "change"]]] == [4, 0.75, 0.75, -1.25]
    assert [*table.loc["one agent", ["updates", "lowered", "surely", "change"]]] == [4, 0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("falls", "trials", "verdict"),
    [
        ([16], 80, "contradicted"),
        ([16], 5, "undecided"),  # 40% of 200 updates, but of five trials
        ([10], 80, "undecided"),  # 25%, as may seem to by chance
        ([0], 80, "supported"),
        ([0], 72, "supported"),
        ([0], 71, "undecided"),  # of 71 trials without a fall the share may be 5.06%
        ([0, 5, 0, 2, 0], 80, "undecided"),  # 3.5%
        ([40, 0, 0, 0], 80, "undecided"),  # 25%, from a quarter of the trials
    ],
)
def test_the_verdict_is_whether_more_fall_than_chance_allows(falls: list[int], trials: int, verdict: str) -> None:
    counts = [falls[seed % len(falls)] for seed in range(trials)]
    whole = whole_updates({seed: [-3.0] * count + [2.0] * (40 - count) for seed, count in enumerate(counts)})
    assert monotonic.evidence(whole).effect == pytest.approx(np.mean(counts) / 40)
    assert monotonic.decide(lambda _: whole, [5]).verdict == verdict


@pytest.mark.parametrize("sign", [1, -1])
def test_updates_that_leave_a_skewed_mean_as_it_is_decide_nothing(sign: int) -> None:
    """A tenth of 16 episodes gains 9, the others lose 1, or the other way round: 18% seem sure to lower the return, or
    to raise it. 10 tasks of 5 seeds with 8 measured updates each."""
    random = np.random.default_rng(0)
    rows = pd.DataFrame(
        [(task, seed, k) for task in "abcdefghij" for seed in range(5) for k in range(8)],
        columns=["task", "seed", "step"],
    )
    difference = sign * np.where(random.random((len(rows), 16)) < 0.1, 9.0, -1.0)
    table = rows.assign(algorithm="happo", agent="team", improvement=difference.mean(axis=1))
    whole = monotonic.measured(table.assign(improvement_error=difference.std(axis=1, ddof=1) / 4))
    assert 0.1 < whole["surely" if sign == 1 else "raised"].mean() < 0.25
    assert monotonic.decide(lambda _: whole, [5]).verdict == "undecided"


def test_updates_of_which_no_change_is_seen_support_nothing() -> None:
    whole = whole_updates({seed: [0.5, -0.5] * 40 for seed in range(80)})
    assert monotonic.evidence(whole).effect == 0.0
    assert monotonic.decide(lambda _: whole, [5]).verdict == "undecided"


def test_rises_in_a_quarter_of_the_trials_support_nothing() -> None:
    one = whole_updates({seed: [0.0 if seed % 4 else 2.0] * 40 for seed in range(80)})
    assert one["raised"].mean() == 0.25
    assert monotonic.decide(lambda _: one, [5]).verdict == "undecided"


def test_few_updates_that_agree_leave_a_share_that_may_be_another() -> None:
    """Of 5 that agree the share may be up to 52% (Clopper and Pearson)."""
    few = whole_updates({seed: [2.0] for seed in range(5)})
    assert monotonic.evidence(few).low == 0.0
    assert monotonic.evidence(few).high == pytest.approx(0.522, abs=5e-4)


def test_a_verdict_on_updates_stays_and_asks_for_more_at_each_of_many_looks() -> None:
    enough = whole_updates({seed: [2.0] * 40 for seed in range(80)})
    found = {5: None, 6: whole_updates({seed: [2.0] * 40 for seed in range(120)}), 7: whole_updates({0: [-3.0]})}
    decision = monotonic.decide(found.get, [5, 6, 7])
    assert (decision.verdict, decision.seeds) == ("supported", 6)
    assert monotonic.decide(lambda _: enough, [5]).verdict == "supported"
    assert monotonic.decide(lambda _: enough, [5, 6, 7, 8, 9, 10]).verdict == "undecided"
    assert monotonic.decide(lambda _: enough, [5], comparisons=9).verdict == "undecided"


def test_fewer_than_five_seeds_on_a_task_decide_nothing() -> None:
    many = whole_updates({seed: [2.0] * 40 for seed in range(80)})
    few = whole_updates({seed: [2.0] * 40 for seed in range(4)}).assign(task="b")
    assert monotonic.decide(lambda _: pd.concat([many, few]), [5]).verdict == "undecided"


def whole_updates(changes: dict[int, list[float]]) -> pd.DataFrame:
    """The rows of `measured` of whole updates."""
    found = monotonic.measured(updates(changes))
    return found[found["agent"] == "team"]


def test_the_step_of_an_actor_that_all_agents_share_is_the_whole_update(tmp_path: Path) -> None:
    for label, shared in (("mappo", False), ("mappo-shared", True)):
        write_trial(tmp_path, label, task="a", settings={"share_actors": shared})
    table = pd.concat([updates({0: [1.0, -2.0]}).assign(algorithm=label) for label in ("mappo", "mappo-shared")])
    own, shared = monotonic.context(replace(load(tmp_path), updates=table))["algorithms"]
    assert (own["updates measured"], own["agents' steps that lowered it"]) == ("2", "0.0%")
    assert (shared["updates measured"], shared["agents' steps that lowered it"]) == ("2", "–")


def test_without_the_meter_there_is_nothing() -> None:
    found = monotonic.measured(updates({0: [1.0]}).drop(columns=["improvement", "improvement_error"]))
    assert monotonic.evidence(found) == NOTHING
    assert monotonic.decide(lambda _: found, [5]).verdict == "undecided"
