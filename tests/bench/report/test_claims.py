"""The verdicts on a suite's claims, from its folder to the page."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_report import write_trial

from bench.report import answer, claims, monotonic, stats
from bench.report.__main__ import main
from bench.report.load import SuiteResults, load
from bench.store.resolved import Algorithm, Claim, Resolved
from bench.store.scores import score

CHEETAH, HOPPER = "mamujoco/HalfCheetah-2x3", "mamujoco/Hopper-3x1"
SEVERAL = [CHEETAH, HOPPER, "mamujoco/Walker2d-2x3", "mamujoco/Ant-4x2", "mamujoco/Ant-2x4"]
BEATS = Claim("HAPPO outperforms MAPPO.", "outperforms", ["happo"], ["mappo"], [CHEETAH, HOPPER], "final", 0.1)


def reference(task: str, normalised: float) -> float:
    """The return with that normalised value."""
    known = score(task)
    assert known is not None
    assert known.reference is not None
    return known.random + normalised * (known.reference - known.random)


def write(folder: Path, levels: dict[str, float], claim: Claim = BEATS, seeds: int = 5, **changes: Any) -> SuiteResults:
    """A suite in which the seeds of each algorithm lie around its normalised level, 0.01 apart."""
    for algorithm, level in levels.items():
        for task in claim.tasks:
            for seed in range(seeds):
                final = reference(task, level + 0.01 * (seed - 2))
                write_trial(folder, algorithm, seed, task=task, final=final, absolute=final)
    labels = {label: Algorithm(label, "", False) for label in levels}
    about: dict[str, Any] = {"claims": {"beats": claim}, "looks": [5]} | changes
    Resolved([*levels], claim.tasks, labels, [], **about).write(folder)
    return load(folder)


def only(suite: SuiteResults) -> claims.Verdict:
    (verdict,) = claims.verdicts(suite)
    return verdict


@pytest.mark.parametrize(
    ("happo", "mappo", "word"),
    [(1.5, 1.0, "supported"), (1.0, 1.5, "contradicted"), (1.001, 1.0, "equivalent")],
)
def test_a_claim_has_the_verdict_that_the_returns_give_it(
    tmp_path: Path, happo: float, mappo: float, word: str
) -> None:
    verdict = only(write(tmp_path, {"happo": happo, "mappo": mappo}))
    assert verdict.verdict == word
    (pair,) = verdict.comparisons
    assert pair.evidence.effect == pytest.approx(happo - mappo)
    assert (pair.evidence.tasks, pair.evidence.seeds, pair.decision.seeds) == (2, 5, 5)
    assert np.isnan(pair.seeds_needed)
    assert claims.sentence(verdict) == f"{word} against mappo"


def test_a_claim_about_several_is_as_good_as_its_weakest_comparison(tmp_path: Path) -> None:
    claim = Claim("HAPPO outperforms all.", "outperforms", ["happo"], ["mappo", "ippo"], [CHEETAH], "final", 0.1)
    write(tmp_path, {"happo": 1.5, "mappo": 1.0, "ippo": 1.5}, claim)
    for seed, level in enumerate((1.52, 1.49, 1.5, 1.48, 1.51)):  # as high, in another order
        write_trial(tmp_path, "ippo", seed, task=CHEETAH, final=reference(CHEETAH, level))
    verdict = only(load(tmp_path))
    assert verdict.verdict == "equivalent"
    assert claims.sentence(verdict) == "supported against mappo; equivalent against ippo"


def test_a_claim_is_about_the_policy_that_it_names(tmp_path: Path) -> None:
    """The last policies of HAPPO are better than MAPPO's, its best ones worse."""
    claim = replace(BEATS, measure="absolute")
    write(tmp_path, {"happo": 1.5, "mappo": 1.0}, claim)
    for task, seed in product(claim.tasks, range(5)):
        final, absolute = (reference(task, level + 0.01 * (seed - 2)) for level in (1.5, 0.5))
        write_trial(tmp_path, "happo", seed, task=task, final=final, absolute=absolute)
    assert only(load(tmp_path)).verdict == "contradicted"


def test_the_first_five_seeds_are_those_from_the_suites_first_on(tmp_path: Path) -> None:
    for task, algorithm, seed in product(BEATS.tasks, ("happo", "mappo"), range(3, 8)):
        final = reference(task, (1.5 if algorithm == "happo" else 1.0) + 0.01 * seed)
        write_trial(tmp_path, algorithm, seed, task=task, final=final)
    labels = {label: Algorithm(label, "", False) for label in ("happo", "mappo")}
    Resolved([*labels], BEATS.tasks, labels, [], claims={"beats": BEATS}, looks=[5], first_seed=3).write(tmp_path)
    assert only(load(tmp_path)).verdict == "supported"


def test_seeds_from_before_the_first_seed_was_changed_decide_nothing(tmp_path: Path) -> None:
    for task, algorithm, seed in product(BEATS.tasks, ("happo", "mappo"), range(10)):
        level = {"mappo": 1.0, "happo": 1.5 if seed >= 5 else 0.2}[algorithm]
        write_trial(tmp_path, algorithm, seed, task=task, final=reference(task, level + 0.01 * seed))
    labels = {label: Algorithm(label, "", False) for label in ("happo", "mappo")}
    Resolved([*labels], BEATS.tasks, labels, [], claims={"beats": BEATS}, looks=[5], first_seed=5).write(tmp_path)
    found = only(load(tmp_path))
    assert found.verdict == "supported"
    assert found.comparisons[0].evidence.seeds == 5


def test_nothing_is_decided_while_a_trial_of_the_planned_seeds_lacks(tmp_path: Path) -> None:
    write(tmp_path, {"happo": 1.5, "mappo": 1.0}, seeds=6)
    suite = write(tmp_path, {"happo": 1.5, "mappo": 1.0}, seeds=6, looks=[7])
    assert only(suite).verdict == "undecided"
    assert claims.open_pairings([only(suite)]) == {(t, a) for t in (CHEETAH, HOPPER) for a in ("happo", "mappo")}


def test_undecided_comparisons_say_how_many_seeds_would_decide(tmp_path: Path) -> None:
    claim = Claim("HAPPO outperforms MAPPO.", "outperforms", ["happo"], ["mappo"], [CHEETAH], "final", 0.1)
    write(tmp_path, {"happo": 1.0, "mappo": 1.0}, claim)
    for seed, level in enumerate((1.3, 1.1, 0.9, 1.2, 0.95)):
        write_trial(tmp_path, "happo", seed, task=CHEETAH, final=reference(CHEETAH, level))
    verdict = only(load(tmp_path))
    (pair,) = verdict.comparisons
    assert verdict.verdict == "undecided"
    assert 5 < pair.seeds_needed < 100
    assert claims.sentence(verdict) == f"undecided against mappo (about {pair.seeds_needed:.0f} seeds would decide)"


def test_no_number_of_seeds_would_decide_where_effect_and_test_point_to_different_sides(tmp_path: Path) -> None:
    """Small losses on three tasks, large gains on two: the mean of the middle is a gain, the ranks say a loss."""
    gains = dict(zip(SEVERAL, (-0.05, -0.05, -0.05, 1.0, 2.0), strict=True))
    claim = Claim("HAPPO outperforms MAPPO.", "outperforms", ["happo"], ["mappo"], [*gains], "final", 0.1)
    write(tmp_path, {"happo": 1.0, "mappo": 1.0}, claim)
    for (task, gain), seed in product(gains.items(), range(5)):
        final = reference(task, 1.0 + gain + 0.01 * (seed - 2))
        write_trial(tmp_path, "happo", seed, task=task, final=final)
    (pair,) = (verdict := only(load(tmp_path))).comparisons
    assert (pair.verdict, pair.evidence.p) == ("undecided", 1.0)
    assert np.isnan(pair.seeds_needed)
    assert claims.sentence(verdict) == "undecided against mappo"


def test_seeds_that_would_decide_are_those_at_the_level_of_all_open_comparisons(tmp_path: Path) -> None:
    claim = Claim("It does.", "outperforms", ["happo"], ["mappo", "ippo", "hatrpo"], [CHEETAH], "final", 0.1)
    write(tmp_path, {"happo": 1.0, "mappo": 1.0, "ippo": 1.0, "hatrpo": 1.0}, claim)
    for seed, level in enumerate((1.3, 1.1, 0.9, 1.2, 0.95)):
        write_trial(tmp_path, "happo", seed, task=CHEETAH, final=reference(CHEETAH, level))
    for pair in only(load(tmp_path)).comparisons:
        found = pair.evidence
        needed = stats.seeds_needed(found.effect, found.low, found.high, 5, 0.1, level=0.05 / 3)
        assert pair.verdict == "undecided"
        assert 5 < pair.seeds_needed == needed


@pytest.mark.parametrize(
    ("needed", "said"),
    [
        ((9.0, 12.0), " (about 12 seeds would decide)"),
        ((9.0, np.inf), " (more than 1,000 seeds would decide)"),
        ((9.0, np.nan), ""),
    ],
)
def test_the_most_seeds_that_any_comparison_needs_are_said(
    tmp_path: Path, needed: tuple[float, float], said: str
) -> None:
    claim = Claim("HAPPO outperforms all.", "outperforms", ["happo"], ["mappo", "ippo"], [CHEETAH], "final", 0.1)
    verdict = only(write(tmp_path, {"happo": 1.0, "mappo": 1.0, "ippo": 1.0}, claim, looks=[6]))
    pairs = [replace(pair, seeds_needed=n) for pair, n in zip(verdict.comparisons, needed, strict=True)]
    assert claims.sentence(replace(verdict, comparisons=pairs)) == f"undecided against mappo, ippo{said}"


def test_more_seeds_are_asked_for_only_where_a_claim_is_open(tmp_path: Path) -> None:
    """With six seeds the level at five is lower, and the decision may fall there all the same."""
    suite = write(tmp_path, {"happo": 1.5, "mappo": 1.0}, looks=[5, 6, 7])
    assert only(suite).verdict == "supported"
    assert claims.open_pairings([only(suite)]) == set()
    assert "Of 28 trials with all seeds 8 were not needed." in " ".join(answer.notes(suite, [only(suite)]))


def test_trials_that_have_not_run_are_not_said_to_be_spared(tmp_path: Path) -> None:
    write(tmp_path, {"happo": 1.0, "mappo": 1.0}, seeds=2)
    suite = write(tmp_path, {"happo": 1.0, "mappo": 1.0}, seeds=2, looks=[5, 6])
    assert answer.saved(suite, [only(suite)]) == ""
    suite = write(tmp_path, {"happo": 1.5, "mappo": 1.0}, looks=[5, 6, 7])
    write_trial(tmp_path, "happo", 5, task=CHEETAH, returns=(), final=None, absolute=None, status="waiting")
    assert answer.saved(load(tmp_path), [only(suite)]) == ""
    shutil.rmtree(tmp_path / "trials")
    suite = write(tmp_path, {"happo": 1.5}, looks=[5, 6, 7])
    labels = {label: Algorithm(label, "", False) for label in ("happo", "mappo")}
    assert suite.resolved is not None
    suite = replace(suite, resolved=replace(suite.resolved, algorithms=labels))
    assert answer.saved(suite, [only(suite)]) == ""  # there is nothing to compare with


def test_a_claim_that_is_contradicted_asks_for_no_more_seeds(tmp_path: Path) -> None:
    """Whatever the open comparison with IPPO gives, the claim stays contradicted."""
    claim = Claim(
        "HAPPO outperforms all.", "outperforms", ["happo"], ["mappo", "ippo"], [CHEETAH, HOPPER], "final", 0.1
    )
    write(tmp_path, {"happo": 1.0, "mappo": 1.5, "ippo": 1.0}, claim)
    for seed, level in enumerate((1.4, 0.7, 1.3, 0.6, 1.2)):
        for task in claim.tasks:
            write_trial(tmp_path, "ippo", seed, task=task, final=reference(task, level))
    verdict = only(load(tmp_path))
    assert [pair.verdict for pair in verdict.comparisons] == ["contradicted", "undecided"]
    assert verdict.verdict == "contradicted"
    assert claims.open_pairings([verdict]) == set()


def test_effect_interval_and_p_are_those_of_the_seeds_at_which_the_verdict_fell(tmp_path: Path) -> None:
    write(tmp_path, {"happo": 1.5, "mappo": 1.0})
    (at_five,) = only(write(tmp_path, {"happo": 1.5, "mappo": 1.0}, looks=[5, 6])).comparisons
    for task in (CHEETAH, HOPPER):
        for algorithm in ("happo", "mappo"):
            write_trial(tmp_path, algorithm, 5, task=task, final=reference(task, 1.0))
    (pair,) = only(load(tmp_path)).comparisons
    assert (pair.decision.seeds, pair.evidence) == (5, at_five.evidence)


def test_a_failed_trial_counts_as_the_worst_of_the_two_that_are_compared(tmp_path: Path) -> None:
    """MAPPO is below a random policy, at -1.02, -1.01, ...: so low HAPPO's failed seed is on both tasks."""
    write(tmp_path, {"happo": 1.5, "mappo": -1.0})
    for task in (CHEETAH, HOPPER):
        write_trial(tmp_path, "happo", 0, task=task, returns=(), status="failed", error="Diverged")
    (before,) = only(load(tmp_path)).comparisons
    differences = sorted([0.0] * 2 + [2.5] * 8)
    assert before.evidence.effect == pytest.approx(np.mean(differences[2:8]))
    assert before.evidence.low < before.evidence.effect
    for task in (CHEETAH, HOPPER):
        write_trial(tmp_path, "ippo", 0, task=task, final=reference(task, -9.0))
        write_trial(tmp_path, "mappo", 5, task=task, final=reference(task, -9.0))
    assert only(load(tmp_path)).comparisons[0] == before


def test_failures_elsewhere_are_not_counted_for_a_claim(tmp_path: Path) -> None:
    claim = Claim("HAPPO outperforms MAPPO.", "outperforms", ["happo"], ["mappo"], [CHEETAH], "final", 0.1)
    write(tmp_path, {"happo": 1.5, "mappo": 1.0}, claim)
    write_trial(tmp_path, "happo", 0, task=HOPPER, returns=(), status="failed", error="Diverged")
    suite = load(tmp_path)
    assert answer.changed_without_failed(suite, [only(suite)]) == []


def test_tasks_without_reference_scores_are_left_out_and_said(tmp_path: Path) -> None:
    claim = Claim("It does.", "outperforms", ["happo"], ["mappo"], [CHEETAH, "mamujoco/Humanoid-17x1"], "final", 0.1)
    for algorithm in ("happo", "mappo"):
        for seed in range(5):
            write_trial(tmp_path, algorithm, seed, task="mamujoco/Humanoid-17x1")
    suite = write(tmp_path, {"happo": 1.5, "mappo": 1.0}, Claim(**vars(claim) | {"tasks": [CHEETAH]}))
    Resolved(["happo", "mappo"], claim.tasks, {}, [], claims={"beats": claim}, looks=[5]).write(tmp_path)
    suite = load(tmp_path)
    assert (only(suite).verdict, only(suite).comparisons[0].evidence.tasks) == ("supported", 1)
    assert "mamujoco/Humanoid-17x1" in answer.notes(suite, [only(suite)])[0]


def test_skipped_pairings_are_no_gap(tmp_path: Path) -> None:
    suite = write(tmp_path, {"happo": 1.5, "mappo": 1.0}, Claim(**vars(BEATS) | {"tasks": [CHEETAH]}))
    Resolved(["happo", "mappo"], BEATS.tasks, {}, [(HOPPER, "mappo")], claims={"beats": BEATS}, looks=[5]).write(
        tmp_path
    )
    suite = load(tmp_path)
    assert only(suite).verdict == "supported"


def test_a_trend_over_the_number_of_agents(tmp_path: Path) -> None:
    tasks = {"mamujoco/HalfCheetah-2x3": 2, "mamujoco/HalfCheetah-6x1": 6}
    claim = Claim("It grows.", "grows_with_agents", ["happo"], ["mappo"], [*tasks], "final", 0.1)
    write(tmp_path, {"happo": 1.0, "mappo": 1.0}, claim)
    for seed in range(5):
        task = "mamujoco/HalfCheetah-6x1"
        write_trial(tmp_path, "happo", seed, task=task, final=reference(task, 2.0 + 0.01 * seed))
    labels = {label: Algorithm(label, "", False) for label in ("happo", "mappo")}
    Resolved([*labels], [*tasks], labels, [], tasks, {"grows": claim}, 0, [5]).write(tmp_path)
    verdict = only(load(tmp_path))
    assert verdict.verdict == "supported"
    assert verdict.comparisons[0].evidence.effect == pytest.approx(1.02 / np.log2(3), rel=1e-6)


@pytest.mark.parametrize(("grown", "word"), [(1.0, "undecided"), (2.5, "supported")])
def test_a_trend_of_the_scale_alone_is_undecided(tmp_path: Path, grown: float, word: str) -> None:
    """MAPPO is at 1 everywhere, HAPPO above it by the same return on both tasks, or by more where agents are more; what
    is 1 is half of the return on the task with more agents."""
    few, many = "mamujoco/Walker2d-2x3", "mamujoco/Walker2d-6x1"
    spans = {task: reference(task, 1.0) - reference(task, 0.0) for task in (few, many)}
    assert spans[many] < spans[few]
    tasks = {few: 2, many: 6}
    claim = Claim("It grows.", "grows_with_agents", ["happo"], ["mappo"], [*tasks], "final", 0.1)
    write(tmp_path, {"happo": 1.0, "mappo": 1.0}, claim)
    for (task, seed), factor in zip(product(tasks, range(5)), [1.001] * 5 + [grown] * 5, strict=True):
        final = reference(task, 1.0) + 500 * factor + seed
        write_trial(tmp_path, "happo", seed, task=task, final=final, absolute=final)
    labels = {label: Algorithm(label, "", False) for label in ("happo", "mappo")}
    Resolved([*labels], [*tasks], labels, [], tasks, {"grows": claim}, 0, [5]).write(tmp_path)
    verdict = only(load(tmp_path))
    (pair,) = verdict.comparisons
    assert pair.evidence.effect > 0.1
    assert pair.robustness is not None
    assert np.sign(pair.robustness.one_scale) == (1 if word == "supported" else -1)
    assert verdict.verdict == word


def test_a_trend_asks_for_no_seeds_of_a_robot_with_one_number_of_agents(tmp_path: Path) -> None:
    tasks = {"mamujoco/HalfCheetah-2x3": 2, "mamujoco/HalfCheetah-6x1": 6, HOPPER: 3}
    claim = Claim("It grows.", "grows_with_agents", ["happo"], ["mappo"], [*tasks], "final", 0.1)
    suite = write(tmp_path, {"happo": 1.0, "mappo": 1.0}, claim, seeds=4, agents=tasks)
    assert only(suite).verdict == "undecided"
    assert {task for task, _ in claims.open_pairings([only(suite)])} == {*tasks} - {HOPPER}


def test_monotonic_improvement_is_undecided_where_it_was_not_measured(tmp_path: Path) -> None:
    claim = Claim("Updates improve.", "improves_monotonically", ["happo"], [], [CHEETAH], "final", 0.1)
    verdict = only(write(tmp_path, {"happo": 1.0}, claim))
    assert verdict.verdict == "undecided"
    assert "not measured" in claims.sentence(verdict)


def measured_updates(tasks: dict[str, float], seeds: int = 5, count: int = 40) -> pd.DataFrame:
    """Whole updates of HAPPO, one a fall by 3, the others rises by 2: task -> the standard error."""
    rows = [
        ("demo", task, "happo", seed, k, "team", -3.0 if (seed, k) == (0, 0) else 2.0, error)
        for task, error in tasks.items()
        for seed in range(seeds)
        for k in range(count)
    ]
    columns = ["suite", "task", "algorithm", "seed", "step", "agent", "improvement", "improvement_error"]
    return pd.DataFrame(rows, columns=columns)


def test_a_claim_about_updates_is_decided_by_its_own_tasks(tmp_path: Path) -> None:
    """One fall contradicts where J is exact, whatever is measured on other tasks of the suite."""
    claim = Claim("Updates improve.", "improves_monotonically", ["happo"], [], [CHEETAH], "final", 0.1)
    suite = write(tmp_path, {"happo": 1.0}, claim)
    sampled, exact = (replace(suite, updates=measured_updates({CHEETAH: e, HOPPER: 1.0})) for e in (1.0, 0.0))
    assert (only(sampled).verdict, only(exact).verdict) == ("undecided", "contradicted")
    assert (
        claims.sentence(only(exact))
        == "contradicted for happo (0.5% of its measured updates surely lowered the return)"
    )


def test_a_claim_about_updates_waits_for_all_planned_trials_and_tasks(tmp_path: Path) -> None:
    claim = Claim("Updates improve.", "improves_monotonically", ["happo"], [], [CHEETAH, HOPPER], "final", 0.1)
    suite = write(tmp_path, {"happo": 1.0}, claim, looks=[5, 6])
    for tasks, verdict in (({CHEETAH: 0.0}, "undecided"), ({CHEETAH: 0.0, HOPPER: 0.0}, "contradicted")):
        assert only(replace(suite, updates=measured_updates(tasks))).verdict == verdict
    write_trial(tmp_path, "happo", 4, task=HOPPER, returns=(), final=None, absolute=None, status="running")
    found = only(replace(load(tmp_path), updates=measured_updates({CHEETAH: 0.0, HOPPER: 0.0})))
    assert found.verdict == "undecided"
    assert claims.open_pairings([found]) == {(CHEETAH, "happo"), (HOPPER, "happo")}


def test_updates_of_a_pairing_that_is_skipped_now_are_left_out(tmp_path: Path) -> None:
    claim = Claim("Updates improve.", "improves_monotonically", ["happo"], [], [CHEETAH, HOPPER], "final", 0.1)
    write(tmp_path, {"happo": 1.0}, claim)
    labels = {"happo": Algorithm("happo", "", False)}
    about: dict[str, Any] = {"claims": {"beats": claim}, "looks": [5], "skipped": [(HOPPER, "happo")]}
    Resolved(["happo"], claim.tasks, labels, **about).write(tmp_path)
    found = only(replace(load(tmp_path), updates=measured_updates({CHEETAH: 0.0, HOPPER: 0.0})))
    assert (found.verdict, found.comparisons[0].evidence.tasks) == ("contradicted", 1)


def test_the_page_says_what_leaving_out_failed_trials_would_change(tmp_path: Path) -> None:
    write(tmp_path, {"happo": 1.5, "mappo": 1.0}, seeds=6)
    for task in (CHEETAH, HOPPER):
        write_trial(tmp_path, "happo", 0, task=task, returns=(), status="failed", error="Diverged")
    suite = write_looks(tmp_path, [6])
    (row,) = answer.context(suite, claims.verdicts(suite))["without_failed"]
    assert row == {
        "claim": "beats",
        "comparison": "happo against mappo",
        "failed": "2",
        "verdict": "supported",
        "effect": "+0.500",
        "without": "supported",
        "effect without": "+0.500",
    }


def test_a_verdict_without_failed_trials_waits_for_those_that_run(tmp_path: Path) -> None:
    write(tmp_path, {"happo": 1.5, "mappo": 1.0}, seeds=6)
    write_trial(tmp_path, "happo", 0, task=CHEETAH, returns=(), status="failed", error="Diverged")
    suite = write_looks(tmp_path, [10])
    (row,) = answer.context(suite, claims.verdicts(suite))["without_failed"]
    assert (row["verdict"], row["without"]) == ("undecided", "undecided")


def test_updates_of_failed_trials_are_left_out_with_them(tmp_path: Path) -> None:
    claim = Claim("Updates improve.", "improves_monotonically", ["happo"], [], [CHEETAH], "final", 0.1)
    write(tmp_path, {"happo": 1.0}, claim, seeds=6)
    write_trial(tmp_path, "happo", 0, task=CHEETAH, returns=(), status="failed", error="Diverged")
    suite = replace(load(tmp_path), updates=measured_updates({CHEETAH: 1.0}, seeds=6))
    (row,) = answer.context(suite, claims.verdicts(suite))["without_failed"]
    assert (row["effect"], row["effect without"]) == ("0.4%", "0.0%")


def test_where_only_failed_trials_measured_updates_nothing_is_left_without_them(tmp_path: Path) -> None:
    claim = Claim("Updates improve.", "improves_monotonically", ["happo"], [], [CHEETAH], "final", 0.1)
    write(tmp_path, {"happo": 1.0}, claim)
    write_trial(tmp_path, "happo", 0, task=CHEETAH, returns=(), status="failed", error="Diverged")
    suite = replace(load(tmp_path), updates=measured_updates({CHEETAH: 1.0}, seeds=1))
    (row,) = answer.context(suite, claims.verdicts(suite))["without_failed"]
    assert row["without"] == "undecided, 0 seeds on a task being too few"


def test_a_verdict_without_failed_trials_says_where_too_few_seeds_are_left(tmp_path: Path) -> None:
    write(tmp_path, {"happo": 1.5, "mappo": 1.0})
    write_trial(tmp_path, "happo", 0, task=CHEETAH, returns=(), status="failed", error="Diverged")
    suite = write_looks(tmp_path, [5])
    (row,) = answer.context(suite, claims.verdicts(suite))["without_failed"]
    assert row["without"] == "undecided, 4 seeds on a task being too few"


def test_the_page_says_at_which_seeds_and_levels_claims_are_decided(tmp_path: Path) -> None:
    """With one comparison, Holm's p is that of the test: at five of ten seeds at most 3.1%, then 2.8%."""
    late = replace(BEATS, ended_before=7)
    suite = write(tmp_path, {"happo": 1.0, "mappo": 1.0}, late, looks=[5, 10])
    found = [only(suite)]
    assert found[0].verdict == "undecided"
    first, second = (f"{level:.1%}" for level in stats.levels([5, 10], 0.05))
    assert answer.notes(suite, found)[:2] == [
        "Stated when there were results already: beats after 7 trials.",
        "Can be decided at 5 or 10 seeds, with one error rate for all looks: the least corrected p of what is "
        f"undecided must be at most {first}, {second} there.",
    ]
    suite = write(tmp_path, {"happo": 1.5, "mappo": 1.0}, looks=[5, 10])  # decided, so that no level is left to reach
    assert "Can be decided at 5 or 10 seeds, with one error rate for all looks." in answer.notes(suite, [only(suite)])
    suite = write(tmp_path, {"happo": 1.5, "mappo": 1.0}, looks=[3])
    assert answer.notes(suite, [only(suite)]) == ["Nothing is decided with fewer than 5 seeds."]


def write_looks(folder: Path, looks: list[int]) -> SuiteResults:
    labels = {label: Algorithm(label, "", False) for label in ("happo", "mappo")}
    Resolved([*labels], BEATS.tasks, labels, [], claims={"beats": BEATS}, looks=looks).write(folder)
    return load(folder)


def test_the_report_writes_and_prints_the_verdicts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "demo"
    write(folder, {"happo": 1.5, "mappo": 1.0})
    assert main([str(folder), "--claims"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("SUPPORTED: HAPPO outperforms MAPPO.\n  supported against mappo\n")
    assert not (folder / "report.html").exists()
    assert main([str(folder)]) == 0
    document = json.loads((folder / "claims.json").read_text())
    assert document["claims"]["beats"]["verdict"] == "supported"
    (pair,) = document["claims"]["beats"]["comparisons"]
    assert pair["effect"] == pytest.approx(0.5)
    assert pair["seeds_needed"] is None
    assert pair["decided_at_seeds"] == 5
    assert pair["p_holm"] == pair["p"] < 0.001  # of one comparison
    assert pair["robustness"] == {
        "other_policy": pytest.approx(0.5),
        "mean": pytest.approx(0.5),
        "all_pairs": pytest.approx(0.5),
        "one_scale": None,
        "least": pytest.approx(0.5),
        "most": pytest.approx(0.5),
        "tasks": {task: pytest.approx(0.5) for task in BEATS.tasks},
    }
    assert document["error_rate"] == {"differences": pytest.approx(0.05), "equivalences": pytest.approx(0.025)}
    html = (folder / "report.html").read_text()
    assert 'class="claim supported"' in html
    assert "The same effects, computed otherwise" in html


def test_no_p_is_published_before_the_seeds_of_a_look_are_there(tmp_path: Path) -> None:
    suite = write(tmp_path, {"happo": 1.5, "mappo": 1.0}, seeds=3)
    assert suite.resolved is not None
    (pair,) = claims.document(claims.verdicts(suite), suite.resolved)["claims"]["beats"]["comparisons"]
    assert (pair["effect"], pair["p"], pair["p_holm"]) == (pytest.approx(0.5), None, None)


def test_shares_of_updates_are_no_differences(tmp_path: Path) -> None:
    """One of 200 updates falls: table and terminal say per cent, and nothing is computed otherwise."""
    claim = Claim("Updates improve.", "improves_monotonically", ["happo"], [], [CHEETAH], "final", 0.1)
    suite = write(tmp_path, {"happo": 1.0}, claim)
    found = claims.verdicts(replace(suite, updates=measured_updates({CHEETAH: 0.1})))
    (row,) = answer.comparison_rows(found)
    assert row["effect"] == "0.5%"
    assert row["95% interval"].startswith("[0.0%, ")
    assert answer.robustness_rows(found) == []


def test_a_suite_without_claims_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "demo"
    write(folder, {"happo": 1.5}, claims={})
    assert main([str(folder), "--claims"]) == 0
    assert capsys.readouterr().out == "demo: states no claims\n"


def test_the_seeds_asked_for_decide_at_the_last_look(tmp_path: Path) -> None:
    claim = Claim("It does.", "outperforms", ["happo"], ["mappo"], [CHEETAH], "final", 0.1)
    write(tmp_path, {"happo": 1.0, "mappo": 1.0}, claim, looks=[5, 10])
    for seed, level in enumerate((1.3, 1.1, 0.9, 1.2, 0.95)):
        write_trial(tmp_path, "happo", seed, task=CHEETAH, final=reference(CHEETAH, level))
    (pair,) = only(load(tmp_path)).comparisons
    e, (first, last) = pair.evidence, stats.levels([5, 10], 0.05)
    assert first != last
    assert 5 < pair.seeds_needed == stats.seeds_needed(e.effect, e.low, e.high, 5, 0.1, last)


def test_algorithms_of_all_claims_about_updates_share_the_error_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = Claim("Updates improve.", "improves_monotonically", ["happo", "mappo"], [], [CHEETAH], "final", 0.1)
    suite = write(tmp_path, {"happo": 1.0, "mappo": 1.0}, claim)
    asked, decide = [], monotonic.decide

    def asking(updates: Any, levels: Any, enough: Any, comparisons: int) -> Any:
        asked.append(comparisons)
        return decide(updates, levels, enough, comparisons)

    monkeypatch.setattr(monotonic, "decide", asking)
    only(replace(suite, updates=measured_updates({CHEETAH: 1.0})))
    assert asked == [2, 2]


def test_the_share_of_updates_is_that_of_the_seeds_at_which_the_verdict_fell(tmp_path: Path) -> None:
    claim = Claim("Updates improve.", "improves_monotonically", ["happo"], [], [CHEETAH], "final", 0.1)
    suite = write(tmp_path, {"happo": 1.0}, claim, seeds=6, looks=[5, 6])
    (one,) = only(replace(suite, updates=measured_updates({CHEETAH: 0.0}, seeds=6))).comparisons
    assert (one.decision.seeds, one.evidence.seeds) == (5, 5)


def test_one_task_on_which_returns_are_sampled_makes_no_claim_exact(tmp_path: Path) -> None:
    claim = Claim("Updates improve.", "improves_monotonically", ["happo"], [], [CHEETAH, HOPPER], "final", 0.1)
    suite = write(tmp_path, {"happo": 1.0}, claim)
    assert only(replace(suite, updates=measured_updates({CHEETAH: 0.0, HOPPER: 1.0}))).verdict == "undecided"
