"""The section on games: exact returns by hand, from the table of updates."""

from __future__ import annotations

import pandas as pd
import pytest
from scipy import stats as distributions

from bench.report import games, monotonic, stats

COLUMNS = ["task", "algorithm", "seed", "step", "agent", "improvement", "improvement_error", "expected_return"]


def updates(task: str = "games/driving", error: float = 0.0) -> pd.DataFrame:
    """Two seeds of happo that begin at 0.25, with one agent's row beside that of the team."""
    rows = []
    for seed, (first, second) in enumerate([(0.5, 1.0), (0.75, 0.5)]):
        rows.append((task, "happo", seed, 200, "0", 9.0, error, 9.0))
        rows.append((task, "happo", seed, 200, "team", first - 0.25, error, first))
        rows.append((task, "happo", seed, 400, "team", second - first, error, second))
    return pd.DataFrame(rows, columns=COLUMNS)


def test_the_exact_return_has_a_point_before_the_first_update() -> None:
    J = games.exact_returns(updates())
    assert J["J"].tolist() == [0.25, 0.5, 1.0, 0.25, 0.75, 0.5]
    assert J["step"].tolist() == [0, 200, 400] * 2


def test_where_the_first_updates_were_not_measured_that_point_stands_one_update_before() -> None:
    unmeasured = pd.DataFrame([("games/driving", "happo", 0, 40, "0")], columns=[*COLUMNS[:5]])
    J = games.exact_returns(pd.concat([unmeasured, updates()]))
    assert J["J"].tolist() == [0.25, 0.5, 1.0, 0.25, 0.75, 0.5]
    assert J["step"].tolist() == [160, 200, 400, 0, 200, 400]


def test_where_returns_were_sampled_there_is_none() -> None:
    assert games.exact_returns(updates(error=0.1)).empty
    assert games.exact_returns(updates().drop(columns="expected_return")).empty
    assert games.exact_returns(pd.DataFrame()).empty


@pytest.mark.parametrize(
    ("task", "unit", "after"), [("games/driving", 1, (0.5 + 0.25) / 2), ("games/random-0", 100, 50)]
)
def test_a_failed_trial_counts_as_random_where_the_score_is_a_J_else_as_the_worst(
    task: str, unit: int, after: float
) -> None:
    """The score of random-0, 10.6, is a return of 20 steps, J that of a discounted episode without an end."""
    J = games.exact_returns(updates(task)).replace({"J": {1.0: 0.5}})
    J = J.assign(J=unit * J["J"])[(J["seed"] == 0) | (J["step"] < 400)]
    states = pd.DataFrame({"task": task, "algorithm": "happo", "seed": [0, 1], "state": ["done", "failed"]})
    curves = games.curves_of(J, states)
    assert curves["iqm"].tolist() == [0.25 * unit, 0.625 * unit, after]
    assert curves["failed"].tolist() == [0, 0, 1]


def final(values: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"task": "games/driving", "algorithm": "happo", "seed": range(len(values)), "value": values})


def test_a_row_has_the_last_policies_and_counts_the_seeds_that_found_the_optimum() -> None:
    (row,) = games.table(games.exact_returns(updates()), final([1.0, 0.0]), "games/driving", ["ippo", "happo"])
    assert row == {
        "algorithm": "happo",
        "seeds": "2",
        "J, IQM": "0.7500",
        "95% interval": "–",
        "least": "0.5000",
        "greatest": "1.0000",
        "likeliest actions optimal": "1 of 2 [1%, 99%]",
    }


def test_what_has_no_optimum_to_be_found_has_no_such_column() -> None:
    J = games.exact_returns(updates("games/ridge"))
    (row,) = games.table(J, final([]), "games/ridge", ["happo"])
    assert "likeliest actions optimal" not in row


def test_an_optimum_that_is_not_recorded_is_not_looked_for() -> None:
    task = "games/coordination-8"
    (row,) = games.table(games.exact_returns(updates(task)), final([1.0]).assign(task=task), task, ["happo"])
    assert row["likeliest actions optimal"] == "–"


@pytest.mark.parametrize(("agents", "bound"), [(2, "0.5000"), (4, "0.1250"), (6, "0.0312")])
def test_the_bound_on_shared_policies(agents: int, bound: str) -> None:
    assert (
        games.bound(f"games/coordination-{agents}")
        == f"A policy that all agents share earns at most 2/2^{agents} = {bound}."
    )


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.97])
def test_the_interval_of_a_number_of_trials_covers_what_it_says(share: float) -> None:
    """Summed over all outcomes of ten trials, so nothing is simulated."""
    covered = 0.0
    for found in range(11):
        low, high = (float(end) / 100 for end in stats.of_trials(found, 10).split("[")[1].rstrip("%]").split("%, "))
        if low - 0.005 <= share <= high + 0.005:  # the ends are rounded to per cents
            covered += float(distributions.binom.pmf(found, 10, share))
    assert covered >= 0.95


def test_where_every_return_is_exact_one_fall_contradicts_and_none_supports() -> None:
    falls = monotonic.measured(updates())
    assert falls["exact"].all()
    assert not monotonic.measured(updates(error=0.1))["exact"].any()
    rises = pd.DataFrame([("g", seed, False, True) for seed in range(5)], columns=["task", "seed", "surely", "raised"])
    fall = rises.assign(surely=rises["seed"] == 0)
    still = rises.assign(raised=False)
    for whole, verdict in ((rises, "supported"), (fall, "contradicted"), (still, "undecided")):
        assert monotonic.decide({5: whole}.get, [5], exact=True).verdict == verdict


def test_updates_whose_steps_were_all_rejected_are_not_exact() -> None:
    """The same policy plays the same episodes: no change, without error."""
    rejected = updates(task="mamujoco/HalfCheetah-2x3").assign(improvement=0.0)
    assert games.exact_returns(rejected).empty
    assert not monotonic.measured(rejected)["exact"].any()


def test_rounding_lowers_no_exact_return() -> None:
    table = updates()
    table.loc[table["step"] == 400, "improvement"] = [-1e-15, -1e-9]
    found = monotonic.measured(table)
    assert found[found["step"] == 400]["lowered"].tolist() == [False, True]
    large = monotonic.measured(table.assign(expected_return=1e4))  # as with a discount of .9999
    assert large[large["step"] == 400]["lowered"].tolist() == [False, False]


def test_the_table_by_algorithm_says_shares_of_updates_and_of_steps_of_agents() -> None:
    (row,) = monotonic.by_algorithm(monotonic.measured(updates()))
    assert row["updates measured"] == "4"
    assert row["lowered the return"].startswith("25.0%")  # one fall of four, from 0.75 to 0.5
    assert row["surely raised it"].startswith("75.0%")
    assert row["trials with a fall"] == "1 of 2 [1%, 99%]"
    assert "trials with a fall" not in monotonic.by_algorithm(monotonic.measured(updates(error=0.1)))[0]
    assert row["agents' steps that lowered it"] == "0.0%"
