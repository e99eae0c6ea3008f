"""Studies: read one from its folder, and say what a budget of tuning trials buys each algorithm."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from scipy.stats import quantile_test

from bench.report import stats
from bench.report.algorithms import Algorithms, in_order
from bench.report.load import ReportError
from bench.store import files
from bench.store.resolved import Resolved
from bench.store.studies import earlier_references

NEEDED = {"trials": int, "seeds": int, "steps": int, "tasks": list, "space": dict}
"""The keys of study.yaml without which there is no report, and what they hold."""
UNSAID = {"first_seed": 1000, "objectives": ["return"], "pruner": "none", "sampler": "tpe"}
"""What files from before `bench.tune` wrote these keys in any case mean where they leave them out."""
COLUMNS = ("study", "algorithm", "number", "state", "value", "seconds", "default", "params", "returns")
BUDGETS = (1, 2, 3, 5, 10, 20, 50, 100)
"""Numbers of trials that the table shows, as far as all algorithms have that many, and the last that they all have."""


@dataclass(frozen=True)
class StudyResults:
    """The results of a study, from which its report is made."""

    folder: Path
    trials: pd.DataFrame
    """One row per finished tuning trial: `tuning.parquet`, with `score` (see `scores`)."""
    importances: pd.DataFrame
    document: dict[str, Any]
    """The study file, with what it leaves unsaid."""
    algorithms: Algorithms
    earlier: Mapping[str, float]
    """Tasks whose reference scores were measured again since -> the return that was 1 in the study."""

    @property
    def name(self) -> str:
        """The study's name: that of its folder."""
        return self.folder.resolve().name

    @property
    def labels(self) -> list[str]:
        """The algorithms with finished tuning trials, in the order of all tables and figures."""
        return in_order(self.trials["algorithm"], self.algorithms.methods)


def load(folder: Path) -> StudyResults:
    """The study in `folder`, or a `ReportError`."""
    path = folder / "tuning.parquet"
    if not path.is_file():
        raise ReportError(f"{folder}: no tuning trial is finished yet; run `python -m bench.tune` on {folder.name}")
    try:
        trials = files.read_table(path)
        importances = files.read_table(folder / "importances.parquet")
        earlier = earlier_references(folder)
        resolved = Resolved.read(folder)
        document = yaml.safe_load((folder / "study.yaml").read_text())
    except (files.StoreError, OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ReportError(" ".join(str(error).split())) from error
    if missing := [column for column in COLUMNS if column not in trials.columns]:
        raise ReportError(f"{path}: lacks {', '.join(missing)}; a table of tuning trials has {', '.join(COLUMNS)}")
    document = _checked(folder / "study.yaml", document)
    algorithms = Algorithms.of(resolved, {label: label for label in trials["algorithm"]})
    return StudyResults(folder, trials.assign(score=scores(trials)), importances, document, algorithms, earlier)


def _checked(path: Path, document: Any) -> dict[str, Any]:
    """What a study file says, with what it leaves unsaid."""
    found = document if isinstance(document, dict) else {}
    wrong = ", ".join(key for key, kind in NEEDED.items() if not isinstance(found.get(key), kind))
    if wrong:
        raise ReportError(f"{path}: not as bench.tune writes it; missing or of the wrong type: {wrong}")
    return UNSAID | found


def scores(trials: pd.DataFrame) -> pd.Series[float]:
    """The normalised return of each tuning trial; one that was cut counts with what it had reached.

    Where it had not come to all tasks and seeds it counts there as the defaults do: tasks differ in what is reached on
    them. One that diverged counts as a random policy (0), or as the worst trial of the study where that is less: the
    same for all algorithms, so that none gains by diverging more often.
    """
    of_defaults = trials[trials["default"] & (trials["state"] == "complete")].set_index("algorithm")["returns"]
    wholes = of_defaults.map(json.loads).to_dict()

    def value(row: dict[Any, Any]) -> Any:
        whole, own = wholes.get(row["algorithm"], {}), json.loads(row["returns"])
        return _by_task(whole | own).mean() if row["state"] == "pruned" and own.keys() < whole.keys() else row["value"]

    values = pd.Series([value(row) for row in trials.to_dict("records")], trials.index, dtype=float)
    return values.fillna(np.nanmin([0.0, *values]))


def median_best(values: stats.Floats) -> stats.Floats:
    """The median of the best of k of the K values, drawn without replacement, for k = 1 ... K, [K].

    The best of k is at most the i-th smallest value in C(i, k) of the C(K, k) subsets of size k; the median is the
    first value at which these are half of all. Unit: that of the values. Source: Lourie, He and Cho 2024, "Show your
    work with confidence", who take the median of the best instead of its mean: bounds of it need no bound of values.
    """
    ordered, K = np.sort(values), len(values)
    return np.array([ordered[next(i for i in range(K) if 2 * comb(i + 1, k) >= comb(K, k))] for k in range(1, K + 1)])


def median_best_interval(values: stats.Floats) -> tuple[stats.Floats, stats.Floats]:
    """95% interval of the median of the best of k trials of such a search, for k = 1 ... K, [K] each.

    The best of k independent trials is at most x with probability F(x)^k, so its median is the quantile of 2^(-1/k) of
    one trial. Its interval is that between two order statistics, which covers at least 95% whatever F is. An end is
    infinite where the K values do not bound it: what more than about K / 5 trials could reach, K trials cannot exclude.
    """
    levels = 0.5 ** (1 / np.arange(1, len(values) + 1))
    found = [quantile_test(values, p=level).confidence_interval(stats.CONFIDENCE) for level in levels]
    low, high = (np.array([getattr(one, end) for one in found], dtype=np.float64) for end in ("low", "high"))
    return np.nan_to_num(low, nan=-np.inf), np.nan_to_num(high, nan=np.inf)


def budget_curves(study: StudyResults) -> pd.DataFrame:
    """One row per algorithm and number of trials k: `best`, the median of the best of k, with `low` and `high`.

    Every search begins with the defaults: a budget of k is they, and k - 1 of the other trials. Of the defaults alone
    there is no interval.
    """
    parts = []
    for label in study.labels:
        mine = study.trials[(study.trials["algorithm"] == label) & study.trials["score"].notna()]
        first, values = (mine.loc[mine["default"] == x, "score"].to_numpy(np.float64) for x in (True, False))
        low, high = median_best_interval(values)
        curve = pd.DataFrame({"best": median_best(values), "low": low, "high": high})
        if len(first):
            curve = pd.concat([pd.DataFrame({"best": first}), curve]).clip(lower=first[0])
            curve.iloc[0] = first[0], np.nan, np.nan
        parts.append(curve.assign(algorithm=label, trials=np.arange(1, len(curve) + 1)))
    return pd.concat(parts, ignore_index=True)[["algorithm", "trials", "best", "low", "high"]]


def budgets(curves: pd.DataFrame) -> list[int]:
    """The numbers of trials at which algorithms are compared: all have that many."""
    most = int(curves.groupby("algorithm")["trials"].max().min())
    return [k for k in BUDGETS if k < most] + [most]


def leaders(curves: pd.DataFrame, k: int) -> list[str]:
    """The algorithm with the highest median best of k trials, and those whose intervals overlap its own.

    Without an interval, or with one without a width, which is of a single trial, nothing is told apart.
    """
    here = curves[curves["trials"] == k]
    place = int(here["best"].to_numpy().argmax())
    top, known = here.iloc[place], here["low"] < here["high"]
    level = ~((here["high"] < top["low"]) & known & known.iloc[place])
    return in_order([str(top["algorithm"]), *here.loc[level, "algorithm"]])


def defaults(study: StudyResults) -> dict[str, float]:
    """label -> the normalised return of the defaults; NaN where they diverged or have not been tried."""
    rows = study.trials[study.trials["default"]].set_index("algorithm")["value"].astype(float)
    return {label: float(rows.get(label, np.nan)) for label in study.labels}


def sensitivity(study: StudyResults) -> pd.DataFrame:
    """One row per algorithm: `trials`, `tasks`, `one` setting for all tasks, one for `each`, and what that would `add`.

    `one`: the normalised return, mean over tasks, of the best complete tuning trial. `each`: the mean over tasks of
    what the best complete trial reached there. Their difference says how much an algorithm gains from being tuned for
    each task. Both are maxima over noisy trials, the second more so. Source: Adkins, Bowling and White 2024, "A method
    for evaluating hyperparameter sensitivity in reinforcement learning".
    """
    rows = []
    for label in study.labels:
        chosen = (study.trials["algorithm"] == label) & (study.trials["state"] == "complete")
        returns = study.trials.loc[chosen, "returns"].map(json.loads)
        table = pd.DataFrame([_by_task(each) for each in returns])  # [trials, tasks]
        if len(table):
            one, each = table.mean(axis=1).max(), table.max().mean()
            rows.append((label, len(table), len(table.columns), one, each, each - one))
    return pd.DataFrame(rows, columns=["algorithm", "trials", "tasks", "one", "each", "add"])


def _by_task(returns: Mapping[str, float]) -> pd.Series[float]:
    """task -> mean over its seeds of the normalised returns of a tuning trial."""
    found = pd.Series(returns, dtype=float)
    return found.groupby([pairing.rpartition(" seed ")[0] for pairing in found.index]).mean()


def parameters(study: StudyResults, label: str) -> pd.DataFrame:
    """One row per tuning trial and parameter of an algorithm: `parameter`, `setting`, `score`, `state`."""
    mine = study.trials[study.trials["algorithm"] == label]
    rows = [
        (name, value, row["score"], row["state"], row["default"])
        for _, row in mine.iterrows()
        for name, value in json.loads(row["params"]).items()
    ]
    columns = ["parameter", "setting", "score", "state", "default"]
    # As objects: pandas would make numbers of one kind of them, and 5.0 is none of the choices 2 and 5.
    return pd.DataFrame(rows, columns=columns, dtype=object).astype({"score": float, "default": bool})


def searched(study: StudyResults, label: str, parameter: str) -> dict[str, Any]:
    """What the study file says of the range of a parameter; a label's own goes over what is shared."""
    space = study.document["space"]
    found = space.get("own", {}).get(label, {}).get(parameter) or space.get("shared", {}).get(parameter)
    if not found:
        raise ReportError(f"{study.folder / 'study.yaml'}: space: says nothing of {parameter} of {label}")
    return dict(found)


def held(value: Any) -> str:
    """A choice as text, a list as the tables hold it."""
    return json.dumps(value) if isinstance(value, list) else str(value)
