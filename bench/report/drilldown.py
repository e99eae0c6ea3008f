"""One entry for every trial: how it went, what it ran with and on, and how its diagnostics moved; settings in full."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bench.report import stats
from bench.report.algorithms import in_order
from bench.report.audit import NONE, text
from bench.report.load import SuiteResults
from bench.report.videos import Video, of_trial
from bench.store.provenance import commit_in_words
from bench.store.resolved import Resolved

POINTS = 60
"""Points of a sparkline at most."""
WIDTH, HEIGHT = 120, 24
LONGEST_ERROR, LONGEST_TRACEBACK = 400, 2000
"""Characters; of a traceback the last, which say where it happened."""
SPARKLINES = {
    "kl_mean": "KL",
    "entropy": "entropy",
    "critic_loss": "critic loss",
    "gradient_norm": "gradient norm",
    "q_mean": "action value",
}
"""Columns of `updates` that are drawn where a trial has them: means over the agents of an update."""
VERSIONS = ("torch", "mujoco", "numpy")


@dataclass(frozen=True)
class Sparkline:
    """A line without axes."""

    name: str
    path: str
    """The attribute `d` of an SVG path in a box of 120 x 24."""
    low: str
    high: str


@dataclass(frozen=True)
class Entry:
    """What the page shows of one trial."""

    task: str
    algorithm: str
    seed: int
    state: str
    facts: Mapping[str, str]
    changed: Sequence[tuple[str, str, str]] | None
    """Settings that are not at their defaults: name, value, default. None: the defaults are not recorded."""
    sparklines: Sequence[Sparkline]
    error: str
    traceback: str
    videos: Sequence[Video]


def entries(suite: SuiteResults, states: pd.DataFrame) -> list[Entry]:
    """One entry for every trial that is known, in the order of `states`."""
    known = {(trial["task"], trial["algorithm"], trial["seed"]): trial for trial in suite.trials}
    finals, absolutes = (_returns(suite.records, kind) for kind in ("final", "absolute"))
    lines = sparklines(suite.records, suite.updates)
    found = []
    for row in states[states["state"] != "missing"].to_dict("records"):
        key = (row["task"], row["algorithm"], row["seed"])
        trial = known.get(key, {})
        results = {"final return": finals.get(key, np.nan), "absolute return": absolutes.get(key, np.nan)}
        found.append(
            Entry(
                *key,
                state=row["state"],
                facts=_facts(row, results, trial),
                changed=changed(trial, suite.resolved),
                sparklines=lines.get(key, []),
                error=cut(row["error"], LONGEST_ERROR),
                traceback=cut(str(trial.get("traceback") or ""), LONGEST_TRACEBACK, last=True),
                videos=of_trial(suite.folder, *key),
            )
        )
    return found


def cut(said: str, longest: int, last: bool = False) -> str:
    """Text of at most that many characters, its first or its last."""
    said = said.strip()
    if len(said) <= longest:
        return said
    return "…" + said[-longest:] if last else said[:longest] + "…"


def _returns(records: pd.DataFrame, kind: str) -> dict[tuple[str, str, int], float]:
    found = stats.seed_returns(records, kind)
    keys = zip(found["task"], found["algorithm"], found["seed"], strict=True)
    return dict(zip(keys, found["value"], strict=True))


def _facts(row: Mapping[Any, Any], results: Mapping[str, float], trial: Mapping[str, Any]) -> dict[str, str]:
    """What a trial did and where it ran, as text; what is not recorded is left out."""
    reached = 0 if pd.isna(row["reached"]) else row["reached"]
    facts = {"steps": f"{reached:,.0f} of {row['steps']:,}"}
    facts |= {what: f"{value:z,.5g}" for what, value in results.items() if not pd.isna(value)}
    if not pd.isna(row["seconds"]):
        facts["seconds of training"] = f"{row['seconds']:,.0f}"
    if not trial:
        return facts
    facts["attempts"] = str(trial.get("attempts", 1))
    source = trial["provenance"]
    facts["commit"] = commit_in_words(source, 12)
    versions = source.get("versions", {})
    facts["versions"] = ", ".join(f"{name} {versions[name]}" for name in VERSIONS if name in versions) or "unknown"
    facts["processor"] = str(source.get("machine", {}).get("cpu") or "unknown")
    if earlier := trial.get("earlier_provenance"):
        facts["earlier commits"] = ", ".join(str(part.get("commit"))[:12] for part in earlier)
    return facts


def changed(trial: Mapping[str, Any], resolved: Resolved | None) -> list[tuple[str, str, str]] | None:
    """Name, value and default of the settings that are not at their defaults; None where these are not recorded."""
    about = resolved.algorithms.get(trial.get("algorithm", "")) if resolved else None
    if about is None or not about.defaults:
        return None
    return [
        (name, text(value), text(about.defaults[name]))
        for name, value in trial.get("settings", {}).items()
        if name in about.defaults and value != about.defaults[name]
    ]


def sparklines(records: pd.DataFrame, updates: pd.DataFrame) -> dict[tuple[str, str, int], list[Sparkline]]:
    """(task, label, seed) -> the lines of its return on the grid and of its diagnostics."""
    found: dict[tuple[str, str, int], list[Sparkline]] = {}
    grid = stats.seed_returns(records, "grid")
    for key, rows in grid.groupby(["task", "algorithm", "seed"], sort=False):
        found[_key(key)] = _line("return", rows["step"].to_numpy(float), rows["value"].to_numpy(float))
    columns = [name for name in SPARKLINES if name in updates.columns]
    if not columns:
        return found
    codes = [updates[key].astype("category") for key in ("task", "algorithm")]
    groups = updates[columns].groupby([*codes, updates["seed"], updates["step"]], observed=True)
    means = groups.mean().reset_index()
    for key, rows in means.groupby(["task", "algorithm", "seed"], sort=False, observed=True):
        steps = rows["step"].to_numpy(float)
        for name in columns:
            found.setdefault(_key(key), []).extend(_line(SPARKLINES[name], steps, rows[name].to_numpy(float)))
    return found


def _key(key: Any) -> tuple[str, str, int]:
    task, label, seed = key
    return str(task), str(label), int(seed)


def _line(name: str, steps: stats.Floats, values: stats.Floats) -> list[Sparkline]:
    """A sparkline in a list, empty if it has fewer than two points."""
    finite = np.isfinite(values)
    steps, values = steps[finite], values[finite]
    if len(values) < 2:
        return []
    chosen = np.unique(np.linspace(0, len(values) - 1, POINTS).round().astype(int))
    low, high = float(values[chosen].min()), float(values[chosen].max())
    return [Sparkline(name, path(steps[chosen], values[chosen]), f"{low:.3g}", f"{high:.3g}")]


def path(x: stats.Floats, y: stats.Floats) -> str:
    """An SVG path through the points, in a box of 120 x 24 whose upper edge is the greatest y."""
    across = np.round((x - x.min()) / (np.ptp(x) or 1) * WIDTH).astype(int)
    scale = np.ptp(y)
    down = np.round((y.max() - y) / scale * HEIGHT) if scale else np.full(len(y), HEIGHT / 2)
    points = [f"{a} {b}" for a, b in zip(across, down.astype(int), strict=True)]
    return "M" + "L".join(points)


def settings_tables(suite: SuiteResults) -> dict[str, list[tuple[str, str, str]]]:
    """label -> every setting: name, value, and its default or a dash where that is not recorded.

    A value that is not the same on all tasks says on which it holds.
    """
    found = {}
    for label in in_order((trial["algorithm"] for trial in suite.trials), suite.algorithms.methods):
        of_task = {trial["task"]: trial.get("settings", {}) for trial in suite.trials if trial["algorithm"] == label}
        about = suite.resolved.algorithms.get(label) if suite.resolved else None
        defaults = about.defaults if about else {}
        names = dict.fromkeys(name for settings in of_task.values() for name in settings)
        if names:
            found[label] = [
                (name, _by_task(of_task, name), text(defaults[name]) if name in defaults else NONE) for name in names
            ]
    return found


def _by_task(of_task: Mapping[str, Mapping[str, Any]], name: str) -> str:
    """One value, or each with its tasks: "0.2 on a, b; 0.3 on c"."""
    tasks: dict[str, list[str]] = {}
    for task in sorted(of_task):
        tasks.setdefault(text(of_task[task].get(name)), []).append(task)
    if len(tasks) == 1:
        return next(iter(tasks))
    return "; ".join(f"{value} on {', '.join(names)}" for value, names in tasks.items())
