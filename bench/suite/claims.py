"""The claims of a suite: checked against its tasks and algorithms, and kept as they were stated before the results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from algorithms.validation import near
from bench.store.resolved import FEWEST_EPISODES, Claim, by_robot
from bench.suite import model
from bench.suite.model import Suite, SuiteError
from bench.suite.trial import Trial
from bench.tasks import registry


def claims(suite: Suite, planned: Sequence[Trial], path: Path) -> dict[str, Claim]:
    """name -> claim, with its tasks; refuses one that names what the suite has not, or that nothing could decide."""
    tasks = list(dict.fromkeys(trial.task.label for trial in planned))
    stated = {}
    for name, claim in suite.claims.items():
        for key, what, names, valid in (
            ("algorithms", "an algorithm", claim.algorithms, [*suite.algorithms]),
            ("against", "an algorithm", claim.against, [*suite.algorithms]),
            ("tasks", "a task", claim.tasks, tasks),
        ):
            for one in names:
                if one not in valid:
                    hint = f"{near(one, valid)}; valid: {', '.join(valid)}"
                    raise SuiteError(f"{path}: claims.{name}.{key}: {one} is not {what} of this suite{hint}")
                if names.count(one) > 1:  # each comparison more makes all the others harder to decide
                    raise SuiteError(f"{path}: claims.{name}.{key}: {one} stands there more than once")
        if wrong := _undecidable(claim):
            raise SuiteError(f"{path}: claims.{name}.against: {wrong}")
        stated[name] = Claim(**claim.model_dump() | {"tasks": claim.tasks or tasks})
        if few := _too_few_episodes(stated[name], planned):
            raise SuiteError(
                f"{path}: diagnostics.improvement_episodes: {few} tell no sure change of the return from chance; "
                f"claims.{name} needs at least {FEWEST_EPISODES}"
            )
        if wrong := _undecidable_by_tasks(stated[name], planned):
            raise SuiteError(f"{path}: claims.{name}: {wrong}")
    return stated


def _undecidable(claim: model.Claim) -> str:
    """Why nobody could decide the claim; empty if somebody could."""
    alone = claim.kind == "improves_monotonically"
    if alone and claim.against:
        return f"{claim.kind} compares with nobody; leave it out"
    if not alone and not claim.against:
        return f"missing; {claim.kind} needs at least one algorithm to compare with"
    if both := {*claim.algorithms} & {*claim.against}:
        return f"{min(both)} cannot be compared with itself"
    return ""


def _undecidable_by_tasks(claim: Claim, planned: Sequence[Trial]) -> str:
    """Why the tasks of the claim could decide nothing about one of its comparisons; empty if they could."""
    runs = {(trial.task, trial.label) for trial in planned if trial.task.label in claim.tasks}
    for labels in product(*filter(None, (claim.algorithms, claim.against))):
        shared = {task for task, _ in runs if all((task, label) in runs for label in labels)}
        if not shared:
            return f"per_task skips {' or '.join(labels)} on each of its tasks"
        if claim.kind == "grows_with_agents" and not by_robot({t.label: registry.team(t).size for t in shared}):
            return f"{claim.kind} needs tasks of one robot with different numbers of agents for {' and '.join(labels)}"
    return ""


def _too_few_episodes(claim: Claim, planned: Sequence[Trial]) -> int:
    """In how many episodes updates are measured if they are too few for the claim, else 0."""
    if claim.kind != "improves_monotonically":
        return 0
    about = [trial for trial in planned if trial.task.label in claim.tasks and trial.label in claim.algorithms]
    played = [trial.improvement_episodes for trial in about if trial.improvement_every and not trial.measures_exactly]
    return min((episodes for episodes in played if episodes < FEWEST_EPISODES), default=0)


def kept(now: Mapping[str, Claim], before: Mapping[str, Claim], ended: int, place: object) -> dict[str, Claim]:
    """The claims of a place in which so many trials have ended: those are still what was stated before."""
    for name, claim in before.items():
        if ended and (name not in now or replace(now[name], ended_before=claim.ended_before) != claim):
            changed = next(_changes(claim, now[name])) if name in now else "is not there any more"
            raise SuiteError(
                f"{place}: claims.{name}: {changed}, but it was stated before the results that are there; keep it, or "
                "choose another name or folder"
            )
    known = {name: claim.ended_before for name, claim in before.items()}
    return {name: replace(claim, ended_before=known.get(name, ended)) for name, claim in now.items()}


def _changes(before: Claim, now: Claim) -> Iterator[str]:
    for key in ("kind", "algorithms", "against", "tasks", "measure", "margin", "says"):
        was, is_ = getattr(before, key), getattr(now, key)
        if was != is_:
            yield f"{key} is {is_!r:.60} and was {was!r:.60}"
