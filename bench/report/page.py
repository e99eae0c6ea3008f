"""Tables as Markdown, and the page: one HTML file that opens offline, on a phone and on paper."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from bench.cli.command import counted, enumerated
from bench.report import (
    about,
    answer,
    audit,
    budgets,
    drilldown,
    formats,
    games,
    monotonic,
    plots,
    published,
    reaching,
    sensitivity,
    stats,
    videos,
)
from bench.report.aggregate import Aggregate
from bench.report.algorithms import Algorithms, in_order
from bench.report.certificates_page import Certificates
from bench.report.claims import Verdict
from bench.report.formats import NONE, number, shown, span, visible
from bench.report.load import SuiteResults, parts_run, trial_name

TEMPLATES = Path(__file__).parent / "templates"
ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(TEMPLATES),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    finalize=shown,
    trim_blocks=True,
    lstrip_blocks=True,
)
SCRIPT = (TEMPLATES / "page.js").read_text()
# The page may run this script and no other, whatever its labels say.
ENVIRONMENT.globals["script"] = Markup(SCRIPT)
ENVIRONMENT.globals["script_hash"] = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
FEW_GAPS = 20
"""Undone trials up to which each that has not begun is named too."""
GLYPHS = {"o": "●", "s": "■", "D": "◆", "v": "▼", "^": "▲", "X": "✖", "P": "✚", "p": "⬟"}


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A frame as one mapping per row."""
    return [{str(column): value for column, value in row.items()} for row in frame.to_dict("records")]


def count(found: int, planned: int) -> str:
    """ "3", or "2 of 3" where trials are missing."""
    return str(found) if found == planned else f"{found} of {planned}"


def duration(seconds: float) -> str:
    """Seconds as "45 s", "2.5 min", "12 min" or "3.4 h"."""
    if pd.isna(seconds):
        return NONE
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def returns_rows(table: pd.DataFrame) -> list[dict[str, str]]:
    """`stats.returns_table` as text for people: one mapping from heading to cell per row."""
    return [
        {
            "task": row["task"],
            "algorithm": row["algorithm"],
            "seeds": count(row["seeds"], row["planned"]) + (f", {row['failed']} failed" if row["failed"] else ""),
            "steps": f"{row['steps']:,}",
            "final IQM": _value(row, "final"),
            "95% interval": span(row["final_low"], row["final_high"]),
            "mean": number(row["final_mean"]),
            "median": number(row["final_median"]),
            "min to max": _range(row["final_min"], row["final_max"]),
            "absolute IQM": _value(row, "absolute"),
            "absolute 95% interval": span(row["absolute_low"], row["absolute_high"]),
            "step of the best policy": best_step(row),
            "time per trial": duration(row["seconds"]),
            "steps/s": NONE if pd.isna(row["steps_per_second"]) else f"{row['steps_per_second']:,.0f}",
        }
        for row in rows_of(table)
    ]


def _range(low: float, high: float) -> str:
    return NONE if pd.isna(low) else f"{number(low)} to {number(high)}"


def _value(row: dict[str, Any], kind: str) -> str:
    """The IQM; a policy that diverged is no missing value."""
    return "not finite" if row["seeds"] and pd.isna(row[f"{kind}_iqm"]) else number(row[f"{kind}_iqm"])


def best_step(row: dict[str, Any]) -> str:
    """The median over seeds, and the range where they differ: "60,000 (40,000 to 120,000)"."""
    median, low, high = (row[f"best_step_{key}"] for key in ("median", "min", "max"))
    if pd.isna(median):
        return NONE
    return f"{median:,.0f}" + (f" ({low:,.0f} to {high:,.0f})" if low < high else "")


def short_rows(table: pd.DataFrame) -> list[dict[str, str]]:
    """The table of returns in four columns, for a terminal."""
    return [
        {
            "task": row["task"],
            "algorithm": row["algorithm"],
            "seeds": row["seeds"],
            "final IQM [95% interval]": f"{row['final IQM']} {row['95% interval'].replace(NONE, '')}".strip(),
        }
        for row in returns_rows(table)
    ]


def markdown(rows: list[dict[str, str]]) -> str:
    """Rows as a Markdown table, padded so that it can be read as it stands; text left, numbers right."""
    cells = [list(rows[0])] + [[_markdown_text(text) for text in row.values()] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    sides = ["<" if heading in ("task", "algorithm") else ">" for heading in rows[0]]
    layout = "| " + " | ".join(f"{{:{side}{width}}}" for side, width in zip(sides, widths, strict=True)) + " |\n"
    rule = ["-" * (width - 1) + ("-" if side == "<" else ":") for side, width in zip(sides, widths, strict=True)]
    return "".join(layout.format(*line) for line in [cells[0], rule, *cells[1:]])


def _markdown_text(text: str) -> str:
    """`text` so that Markdown shows it as it is written; an underscore between letters is none of its signs."""
    return re.sub(r"([\\`*<$|~]|\[(?=[^\d-])|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", visible(text).replace("\n", " "))


def gaps(suite: SuiteResults, states: pd.DataFrame) -> list[dict[str, str]]:
    """Every trial that is not done, or whose returns are not finite: where it stands, and why."""
    known = {(trial["task"], trial["algorithm"], trial["seed"]): trial for trial in suite.trials}
    undone = states[states["state"] != "done"]
    waiting = undone["state"].isin(["waiting", "missing"]) if len(undone) > FEW_GAPS else undone["state"].isin([])
    rows = [
        {"trial": counted(len(part), "trial"), "state": str(word), "reached": NONE, "why": "not begun", "traceback": ""}
        for word, part in undone[waiting].groupby("state")
    ]
    for row in rows_of(undone[~waiting]):
        reached = "0" if pd.isna(row["reached"]) else f"{row['reached']:,.0f}"
        trial = known.get((row["task"], row["algorithm"], row["seed"]), {})
        attempts = trial.get("attempts", 1)
        tried = f"attempt {attempts}: " if attempts > 1 else ""
        error = row["error"].strip()
        rows.append(
            {
                "trial": trial_name(row),
                "state": row["state"],
                "reached": f"{reached} of {row['steps']:,}",
                "why": tried + error.splitlines()[-1].strip() if error else tried.rstrip(": ") or _more_steps(trial),
                "traceback": error if "\n" in error else "",
            }
        )
    for row in rows_of(stats.diverged(suite.records)):
        rows.append(
            {
                "trial": trial_name(row),
                "state": "diverged",
                "reached": f"from {row['step']:,}",
                "why": "a return is not a finite number",
                "traceback": "",
            }
        )
    return rows


def facts(suite: SuiteResults, states: pd.DataFrame) -> dict[str, str]:
    """What was run, in a few lines."""
    records, trials = suite.records, suite.trials
    episodes = records.groupby(["task", "algorithm", "seed", "kind", "step"], observed=True).size()
    fresh = episodes[episodes.index.get_level_values("kind") == "final"]
    seeds = sorted(states["seed"].unique())
    sizes = " x ".join(str(states[axis].nunique()) for axis in ("task", "algorithm", "seed"))
    done = int((states["state"] == "done").sum())
    found = {
        "trials": f"{count(done, len(states))} done (tasks x algorithms x seeds: {sizes})",
        **_skipped(suite),
        "seeds": ", ".join(map(str, seeds)),
        "steps per trial": formats.counts(states["steps"]),
        "evaluation": f"{formats.counts(episodes.xs('grid', level='kind'))} episodes at each point of the grid"
        + (f", every {formats.counts(trial['evaluate']['every'] for trial in trials)} steps" if trials else ""),
        "training time": duration(float(states["seconds"].sum())),
    }
    if len(fresh):
        found["at the end"] = f"{formats.counts(fresh)} fresh episodes each of the last and of the best policy"
    if trials:
        evaluation = sum(trial.get("evaluation_seconds") or 0.0 for trial in trials)
        found["evaluation time"] = duration(evaluation)
    return found


def _more_steps(trial: Mapping[str, Any]) -> str:
    """Where a trial had ended before it was given more steps."""
    ends = [f"{budget['steps']:,}" for budget in trial.get("earlier_budgets", []) if "files" in budget]
    return f"ended at {ends[-1]} steps, given more" if ends else ""


def _skipped(suite: SuiteResults) -> dict[str, str]:
    """The pairings that the suite leaves out: each algorithm with its tasks."""
    labels = sorted({label for _, label in suite.skipped})
    tasks = {label: enumerated(sorted(task for task, other in suite.skipped if other == label)) for label in labels}
    parts = [f"{enumerated(alike)} on {where}" for where, alike in _by_value(tasks, suite).items()]
    return {"skipped by the suite": "; ".join(parts)} if parts else {}


def _by_value(values: Mapping[str, str], suite: SuiteResults) -> dict[str, list[str]]:
    """Each value with the labels that have it."""
    found: dict[str, list[str]] = {}
    for label in in_order(values, suite.algorithms.methods):
        found.setdefault(values[label], []).append(label)
    return found


def warnings(suite: SuiteResults, states: pd.DataFrame) -> list[str]:
    """What must be said before any number is read."""
    found = []
    seeds = stats.begun_seeds(states)
    most = max(seeds, default=0)
    if most < stats.ENOUGH_SEEDS:
        found.append(
            f"Few seeds: only {formats.counts(seeds or [0], 'seed')} of each algorithm on a task. Do not rank "
            "algorithms by them: runs that differ in nothing but the seed can differ by thousands. A 95% interval that "
            f"can be trusted needs at least {stats.ENOUGH_SEEDS} seeds, so none is shown."
        )
    if few := [str(count) for count in sorted({*seeds}) if count in stats.BARELY_COVERING]:
        found.append(
            f"Intervals of {enumerated(few)} seeds: where 30% of seeds fail outright and the others agree "
            "closely, they cover 83 to 92%, not 95%. No method that was tried covers there and is not too wide "
            "elsewhere."
        )
    undone = int((states["state"] != "done").sum())
    if undone:
        of = counted(len(states), "trial")
        verb = "is" if undone == 1 else "are"
        found.append(f"Incomplete: {undone} of {of} {verb} not done; the table says how many seeds count.")
    unplayed = int(((states["state"] == "incomplete") & (states["reached"] >= states["steps"])).sum())
    if unplayed:
        found.append(
            f"No fresh episodes: {unplayed} of {counted(len(states), 'trial')} trained to the end and lack records of "
            "kinds final and absolute, as trials of older versions do; they count as not done."
        )
    ran = [parts for trial in suite.trials if (parts := parts_run(trial))]
    commits = Counter(commit for parts in ran for commit in {str(part.get("commit")) for part in parts})
    if len(commits) > 1:
        each = ", ".join(f"{commit[:10]} ({counted(trials, 'trial')})" for commit, trials in sorted(commits.items()))
        found.append(f"Mixed commits: the trials were not all run by the same code: {each}.")
    if dirty := sum(any(part.get("dirty") for part in parts) for parts in ran):
        found.append(f"Uncommitted changes: {dirty} of {counted(len(ran), 'trial')} ran code that no commit holds.")
    budgets = _by_value(audit.tunings(suite.trials), suite)
    if len(budgets) > 1:
        each = "; ".join(f"{enumerated(labels)}: {budget}" for budget, labels in budgets.items())
        found.append(f"Unequal tuning: {each}. A larger tuning budget alone can explain a better result.")
    return found + about.alike(suite)


def _figures(certificates: Certificates, algorithms: Algorithms) -> dict[str, Markup]:
    return {
        task: plots.inline(figure, f"updates{index}", f"KL and gain over training on {task}", algorithms)
        for index, (task, figure) in enumerate(certificates.figures.items())
    }


def html(
    suite: SuiteResults,
    states: pd.DataFrame,
    curves: pd.DataFrame,
    table: pd.DataFrame,
    certificates: Certificates,
    over_tasks: Aggregate | None,
    verdicts: Sequence[Verdict] = (),
    refresh: int = 0,
) -> str:
    """The page; with `refresh` it loads itself again after so many seconds."""
    tasks = sorted(states["task"].unique())
    rows = formats.without_empty(returns_rows(table))
    labels, algorithms = in_order(states["algorithm"]), suite.algorithms
    return ENVIRONMENT.get_template("report.html").render(
        name=suite.name,
        answer=answer.context(suite, verdicts),
        aggregate=over_tasks and over_tasks.context,
        aggregate_panels=[
            plots.inline(figure, f"aggregate{index}", "Over all tasks", algorithms)
            for index, figure in enumerate(over_tasks.parts if over_tasks else ())
        ],
        reaching=reaching.rows(reaching.table(suite.records, states), algorithms),
        improvement=monotonic.context(suite),
        games=games.make(suite, states),
        sensitivity=sensitivity.of_suite(suite),
        published=published.rows(tasks),
        published_panels=published.panels(table),
        refresh=refresh,
        warnings=warnings(suite, states),
        facts=facts(suite, states),
        gaps=gaps(suite, states),
        panels=plots.panels(curves, states, algorithms),
        time_panels=plots.panels(curves, states, algorithms, "seconds"),
        caption=plots.curve_caption(states),
        styles={label: algorithms.styles[label] for label in labels},
        glyphs=GLYPHS,
        tables={task: [row for row in rows if row["task"] == task] for task in tasks},
        budgets=budgets.rows(suite.records, states, table),
        few_seeds=table["seeds"].min() <= 3,
        mamujoco=any(task.startswith("mamujoco/") for task in tasks),
        compared=about.compared(suite, labels),
        provenance=about.provenance(suite),
        hashes=about.config_hashes(suite),
        audits=audit.audits(suite.trials, suite.records, algorithms.methods),
        unrecorded=audit.UNRECORDED,
        certificates=certificates,
        certificate_figures=_figures(certificates, algorithms),
        entries=drilldown.entries(suite, states),
        settings_tables=drilldown.settings_tables(suite),
        videos=videos.of_suite(suite.folder),
    )
