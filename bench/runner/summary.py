"""What a command prints before a suite runs: its trials, what they will cost, and a warning of other physics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from pathlib import Path

from bench.cli.command import counted
from bench.cli.display import clock
from bench.envs import fingerprint
from bench.runner.cost import Cost
from bench.store.remote import Remote
from bench.store.trials import GOLDEN
from bench.suite.trial import Trial


def describe(
    selected: Sequence[Trial],
    prices: Mapping[Trial, Cost],
    results: Path | Remote,
    at_once: int,
    in_parallel: int,
    longer: Set[Trial] = frozenset(),
    lost: Set[Trial] = frozenset(),
) -> str:
    """The selected trials, and the time, memory and disk that those still to run (`prices`) will need.

    `at_once`: trials at once, `in_parallel` of them with cores of their own; 0 where nobody knows yet. `longer`: trials
    of the suite that are given more steps; `lost`: those selected that start over.
    """
    todo = list(prices)
    tasks = list(dict.fromkeys(t.task.label for t in selected))
    labels = list(dict.fromkeys(t.label for t in selected))
    seeds = list(dict.fromkeys(t.seed for t in selected))
    skipped = len(tasks) * len(labels) - len({(t.task, t.label) for t in selected})
    less = f", {counted(skipped, 'pairing')} skipped" if skipped else ""
    matrix = " x ".join([counted(len(tasks), "task"), counted(len(labels), "algorithm"), counted(len(seeds), "seed")])
    lines = [
        f"{counted(len(selected), 'trial')}: {matrix}{less} -> {results}",
        f"  tasks       {', '.join(tasks)}",
        f"  algorithms  {', '.join(labels)}",
        f"  seeds       {', '.join(map(str, seeds))}",
    ]
    if tuned := {t.label: t.tuning for t in selected if t.tuning}:
        budgets = [
            f"{label} ({counted(x.trials, 'trial')} of {x.study}{x.overridden and f'; by --set: {x.overridden}'})"
            for label, x in tuned.items()
        ]
        lines.append(
            f"  tuned       {', '.join(budgets)}; untuned: {', '.join(x for x in labels if x not in tuned) or 'none'}"
        )
    if done := len(selected) - len(todo):
        lines.append(f"  {done} {'is' if done == 1 else 'are'} done already, {len(todo)} to run")
    if longer or lost:
        lines.append(f"  longer      {_more_steps(selected, longer, lost)}")
    if todo:
        lines += _needs(prices, at_once, in_parallel)
    return "\n".join(lines)


def _more_steps(selected: Sequence[Trial], longer: Set[Trial], lost: Set[Trial]) -> str:
    """What becomes of trials that are given more steps."""
    going_on, others = (longer & {*selected}) - lost, longer - {*selected}
    parts = [
        f"{counted(len(going_on), 'trial')} to go on from fewer steps" if going_on else "",
        f"{counted(len(lost), 'trial')} to start over" if lost else "",
        f"{counted(len(others), 'trial')} not selected, and no longer done: more steps are for all" if others else "",
    ]
    return "; ".join(filter(None, parts))


def _needs(prices: Mapping[Trial, Cost], at_once: int, in_parallel: int) -> list[str]:
    """What the trials that are still to run will need."""
    todo, seconds = list(prices), [cost.seconds_left for cost in prices.values()]
    most = min(at_once or len(todo), len(todo))
    memory = sorted((cost.memory for cost in prices.values()), reverse=True)
    checkpoints = sum(sorted((cost.checkpoint for cost in prices.values()), reverse=True)[:most])
    disk = sum(cost.disk for cost in prices.values()) + checkpoints
    if at_once:
        time = f"about {clock(max(sum(seconds) / min(most, in_parallel), max(seconds)))}, {most} at once"
        space = f"about {sum(memory[:most]) / 1e9:.1f} GB"
    else:
        time = f"between about {clock(max(seconds))}, all at once, and {clock(sum(seconds))}, one after the other"
        space = f"up to {memory[0] / 1e9:.1f} GB each"
    steps, left = sum(t.steps for t in todo), sum(round(t.steps * cost.share) for t, cost in prices.items())
    still = f", {left:,} still to be made" if left < steps else ""
    return [
        f"  steps       {todo[0].steps:,} per trial, {steps:,} in all{still}",
        f"  time        {time}",
        f"  memory      {space}",
        f"  disk        about {disk / 1e6:,.0f} MB, {checkpoints / 1e6:,.0f} MB of it only while it runs",
    ]


def physics_warning(todo: Sequence[Trial]) -> str:
    """One line if the physics of a robot differ from golden.json: its results could not be reported; else empty."""
    verdicts = {t.task.robot: fingerprint.verdict(t.task.robot) for t in todo if t.task.robot is not None}
    wrong = "; ".join(f"{robot}: {verdict}" for robot, verdict in verdicts.items() if verdict != GOLDEN)
    return wrong and (
        f"Warning: other physics than golden.json's ({wrong}); bench.report will refuse these trials. "
        "Install what constraints.txt names"
    )
