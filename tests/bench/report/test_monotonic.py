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
    found = monotonic.measured(updates({0: [1.0, -1.0, -2.0, -1.6]}))
    team = found[found["agent"] == "team"]
    assert team["lowered"].tolist() == [False, True, True, True]
    assert team["surely"].tolist() == [False, False, True, False]


def test_exact_returns_have_no_error() -> None:
    found = monotonic.measured(updates({0: [1e-9, 0.0, -1e-9]}, error=0.0))
    assert found[found["agent"] == "team"]["surely"].tolist() == [False, False, True]


def test_shares_are_of_the_whole_update_and_of_single_steps() -> None:
    table = monotonic.shares(monotonic.measured(updates({0: [1.0, -2.0], 1: [-2.0, -2.0]}))).set_index("whose")
    assert [*table.loc["team", ["updates", "lowered", "surely", "change"]]] == [4, 0.75, 0.75, -1.25]
    assert [*table.loc["one agent", ["updates", "lowered", "surely", "change"]]] == [4, 0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("falls", "verdict"),
    [([10, 11, 9, 10, 12], "contradicted"), ([0, 0, 0, 0, 0], "supported"), ([0, 5, 0, 2, 0], "undecided")],
)
def test_the_verdict_is_whether_more_fall_than_chance_allows(falls: list[int], verdict: str) -> None:
    of = {seed: [-3.0] * count + [1.0] * (40 - count) for seed, count in enumerate(falls)}
    one = monotonic.evidence(monotonic.measured(updates(of)), "happo", ["a"])
    assert one.effect == pytest.approx(np.mean(falls) / 40)
    assert monotonic.decision(one).verdict == verdict


def test_without_the_meter_there_is_nothing() -> None:
    found = monotonic.measured(updates({0: [1.0]}).drop(columns=["improvement", "improvement_error"]))
    assert monotonic.evidence(found, "happo", ["a"]) == NOTHING
    assert monotonic.decision(NOTHING).verdict == "undecided"
