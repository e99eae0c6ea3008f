"""The page and tables of a study."""

from __future__ import annotations

import json
import shlex
from typing import Any

import numpy as np
import pandas as pd

from bench.report import formats, page, plots, sensitivity, study_plots, study_results
from bench.report.formats import normalised
from bench.report.study_results import StudyResults
from bench.store.studies import best


def contents(study: StudyResults, refresh: int = 0) -> dict[str, bytes]:
    """File name -> content of all that the report on a study consists of; `refresh` as that of `page.html`."""
    curves = study_results.budget_curves(study)
    rows = budget_rows(study, curves)
    figure = study_plots.budget(study, curves)
    return {
        **plots.all_formats("budget", figure),
        "budget.csv": curves.to_csv(index=False, float_format="%.6g", lineterminator="\n").encode(),
        "budget.md": page.markdown(rows).encode(),
        "budget.tex": formats.latex(rows).encode(),
        "report.html": html(study, curves, rows, refresh).encode(),
    }


def budget_rows(study: StudyResults, curves: pd.DataFrame) -> list[dict[str, str]]:
    """Median of the best of k trials per algorithm, as text."""
    defaults = study_results.defaults(study)
    rows = []
    for label in study.labels:
        mine = {at["trials"]: at for at in page.rows_of(curves[curves["algorithm"] == label])}
        row = {"algorithm": label, "defaults": normalised(defaults[label])}
        for k in study_results.budgets(curves):
            row[f"k = {k}"] = f"{normalised(mine[k]['best'])} {_span(mine[k]['low'], mine[k]['high'])}".strip()
        rows.append(row)
    return rows


def _span(low: float, high: float) -> str:
    """ "[1.000, ∞)": an interval that may be without an end; nothing where there is none."""
    if np.isnan(low):
        return ""
    ends = ("(-∞" if np.isinf(low) else f"[{normalised(low)}", "∞)" if np.isinf(high) else f"{normalised(high)}]")
    return ", ".join(ends)


def winners(curves: pd.DataFrame) -> list[str]:
    """In one line per budget: who leads, and who cannot be told from the leader."""
    lines = []
    for k in study_results.budgets(curves):
        first, *level = study_results.leaders(curves, k)
        word = "trial" if k == 1 else "trials"
        less = f"; no interval tells it apart from {', '.join(level)}" if level else ""
        lines.append(f"With {k} {word}: {first}{less}.")
    return lines


def best_rows(study: StudyResults) -> list[dict[str, str]]:
    """Per algorithm: the best settings, and whether they beat the defaults."""
    rows = []
    defaults = study_results.defaults(study)
    for label in study.labels:
        mine = study.trials[study.trials["algorithm"] == label]
        states = mine["state"].value_counts()
        top = best(study.trials, label)
        rows.append(
            {
                "algorithm": label,
                "trials": page.count(len(mine), study.document["trials"]),
                "cut": str(states.get("pruned", 0)),
                "diverged": str(states.get("fail", 0)),
                "defaults": normalised(defaults[label]),
                "best": formats.NONE if top is None else normalised(top["value"]),
                "better than the defaults": _beats(top, mine),
                "time": page.duration(float(mine["seconds"].sum())),
                "settings": "" if top is None else _settings(top),
            }
        )
    return rows


def _settings(top: dict[str, Any]) -> str:
    values = json.loads(top["params"])
    shown = {name: f"{value:.3g}" if isinstance(value, float) else value for name, value in values.items()}
    return ", ".join(f"{name} {value}" for name, value in shown.items())


def _beats(top: dict[str, Any] | None, mine: pd.DataFrame) -> str:
    """ "no", or in how many pairings of task and seed the best settings had the higher return."""
    first = mine[mine["default"] & (mine["state"] == "complete")]
    if top is None or first.empty:
        return formats.NONE
    if top["default"]:
        return "no"
    ours, theirs = json.loads(top["returns"]), json.loads(str(first["returns"].iloc[0]))
    return f"in {sum(ours[key] > theirs[key] for key in theirs)} of {len(theirs)}"


def facts(study: StudyResults) -> dict[str, str]:
    """What was searched, in a few lines."""
    about = study.document
    first, seeds = about["first_seed"], about["seeds"]
    tasks = [entry if isinstance(entry, str) else entry["name"] for entry in about["tasks"]]
    return {
        "budget": f"{about['trials']} trials for each algorithm, the defaults first",
        "tasks": ", ".join(tasks),
        "seeds": (f"{first}" if seeds == 1 else f"{first} to {first + seeds - 1}") + ", for tuning only",
        "steps": f"{about['steps']:,} per task and seed",
        "sampler": f"{about['sampler']}, pruner {about['pruner']}",
        "training time": page.duration(float(study.trials["seconds"].sum())),
    }


def html(study: StudyResults, curves: pd.DataFrame, rows: list[dict[str, str]], refresh: int = 0) -> str:
    """The page."""
    labels = study.labels
    figures = {"budget": study_plots.budget(study, curves), "history": study_plots.history(study)}
    if len(study.importances):
        figures["importance"] = study_plots.importance(study)
    if "seconds" in study.document["objectives"]:
        figures["trade_off"] = study_plots.trade_off(study)
    figures |= {f"slices of {label}": study_plots.slices(study, label) for label in labels}
    budget = study.document["trials"]
    missing = {label: budget - int((study.trials["algorithm"] == label).sum()) for label in labels}
    short = [f"{label} lacks {count}" for label, count in missing.items() if count > 0]
    absent = [label for label in study.algorithms.methods if label not in labels]
    return page.ENVIRONMENT.get_template("tuning.html").render(
        name=study.name,
        refresh=refresh,
        best_file=shlex.quote(str(study.folder / "best.yaml")),
        warnings=[f"Incomplete: of {budget} tuning trials {', '.join([*short, *(f'{x} lacks all' for x in absent)])}."]
        if short or absent
        else [],
        facts=facts(study),
        earlier=[f"{task}: {value:,.0f}" for task, value in study.earlier.items()],
        figures={
            key: plots.inline(figure, f"figure{index}", key, study.algorithms)
            for index, (key, figure) in enumerate(figures.items())
        },
        labels=labels,
        budgets=rows,
        winners=winners(curves),
        best=best_rows(study),
        sensitivity=sensitivity.rows(study),
        styles={label: study.algorithms.styles[label] for label in labels},
        glyphs=page.GLYPHS,
        sampler=study.document["sampler"],
    )
