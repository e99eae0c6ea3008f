"""The share of updates that lowered the return, by hand, and what it says of a claim."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bench.report import monotonic
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


def test_exact_returns_have_no_error() -> None:
    found = monotonic.measured(updates({0: [1e-9, 0.0, -1e-9]}, error=0.0))
    assert found[found["agent"] == "team"]["surely"].tolist() == [False, False, True]


def test_shares_are_of_the_whole_update_and_of_single_steps() -> None:
    table = monotonic.shares(monotonic.measured(updates({0: [1.0, -2.0], 1: [-2.0, -2.0]}))).set_index("whose")
    assert [*table.loc["team", ["updates", "lowered", "surely", "change"]]] == [4, 0.75, 0.75, -1.25]
    assert [*table.loc["one agent", ["updates", "lowered", "surely", "change"]]] == [4, 0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("falls", "verdict"),
    [
        ([10, 11, 9, 10, 12], "contradicted"),
        ([0, 0, 0, 0, 0], "supported"),
        ([0, 5, 0, 2, 0], "undecided"),
        ([0, 12, 0, 2, 0], "undecided"),  # 7% of the updates
        ([40, 0, 0, 0, 0], "undecided"),  # 20%, from one seed
    ],
)
def test_the_verdict_is_whether_more_fall_than_chance_allows(falls: list[int], verdict: str) -> None:
    whole = whole_updates({seed: [-3.0] * count + [2.0] * (40 - count) for seed, count in enumerate(falls)})
    assert monotonic.evidence(whole).effect == pytest.approx(np.mean(falls) / 40)
    assert monotonic.decide(lambda _: whole, [5]).verdict == verdict


def test_updates_of_which_no_change_is_seen_support_nothing() -> None:
    whole = whole_updates({seed: [0.5, -0.5] * 40 for seed in range(5)})
    assert monotonic.evidence(whole).effect == 0.0
    assert monotonic.decide(lambda _: whole, [5]).verdict == "undecided"


def test_rises_in_one_seed_support_nothing() -> None:
    one = whole_updates({seed: [2.0 if seed == 0 else 0.0] * 40 for seed in range(5)})
    assert one["raised"].mean() == 0.2
    assert monotonic.decide(lambda _: one, [5]).verdict == "undecided"


def test_few_updates_without_a_fall_are_no_support() -> None:
    """Of 5 that agree the share may be up to 52% (Clopper and Pearson), of 80 up to 5%."""
    few, enough = (whole_updates({seed: [2.0] * count for seed in range(5)}) for count in (1, 16))
    assert monotonic.evidence(few).low == 0.0
    assert monotonic.evidence(few).high == pytest.approx(0.522, abs=5e-4)
    assert monotonic.decide(lambda _: few, [5]).verdict == "undecided"
    assert monotonic.decide(lambda _: enough, [5]).verdict == "supported"


def test_a_verdict_on_updates_stays_and_asks_for_more_at_each_of_many_looks() -> None:
    found = {5: None, 6: whole_updates({seed: [2.0] * 40 for seed in range(6)}), 7: whole_updates({0: [-3.0]})}
    decision = monotonic.decide(found.get, [5, 6, 7])
    assert (decision.verdict, decision.seeds) == ("supported", 6)
    enough = whole_updates({seed: [2.0] * 16 for seed in range(5)})
    assert monotonic.decide(lambda _: enough, [5, 6, 7, 8, 9, 10]).verdict == "undecided"
    assert monotonic.decide(lambda _: enough, [5], comparisons=9).verdict == "undecided"


def whole_updates(changes: dict[int, list[float]]) -> pd.DataFrame:
    """The rows of `measured` of whole updates."""
    found = monotonic.measured(updates(changes))
    return found[found["agent"] == "team"]


def test_without_the_meter_there_is_nothing() -> None:
    found = monotonic.measured(updates({0: [1.0]}).drop(columns=["improvement", "improvement_error"]))
    assert monotonic.evidence(found) == NOTHING
    assert monotonic.decide(lambda _: found, [5]).verdict == "undecided"
