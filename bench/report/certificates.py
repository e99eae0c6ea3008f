"""Certificates of the updates: how far each one moved the policies, what it was to gain and what it gained.

All numbers come from the table `updates`, one row per update and agent; that of a published suite holds at most 100
updates of each agent and trial, and those around which the return was measured. What a method does not record has no
number. Over all updates, agents and seeds of a pairing of task and algorithm:

`kl_mean`         E[KL(old_i, new_i)] of an update of agent i, its mean; `kl_mean_max` that of the greatest update
`kl_max`          the greatest KL of any single sample
`kl_joint`        sum_i KL_i of one update: KL(old, new) of the team's policy, a product over agents; mean and max
`clip_fraction`   share of samples with |ratio - 1| > epsilon at the end of an update. A sample has no gradient
                  where moreover M has the sign of ratio - 1, so this bounds the share of zero gradients from above
`predicted_gain`  alpha^j g^T step of accepted updates, mean; `gain` is E[(ratio - 1) M] of the same updates, mean;
                  `realised` = sum gain / sum predicted
`backtracks`      how often the line search shortened an accepted step, mean
`rejected`        share of updates of which the line search accepted no step
`inside`          share of updates with E[KL] <= delta, where the method has a delta
`ess`             (sum f)^2 / (n sum f^2) of the factor f, the share of samples that still count: the median of all
                  updates, and in `ess_lowest` that of the position where it is lowest
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bench.report.algorithms import in_order

DIAGNOSTICS = (
    "position",
    "kl_mean",
    "kl_max",
    "kl_joint",
    "clip_fraction",
    "accepted",
    "backtracks",
    "predicted_gain",
    "gain",
    "factor_max",
    "factor_ess",
)
"""The columns that certificates are made of."""
TEAM = "team"
POINTS = 60
"""Points that a curve over training has at most."""
SLACK = 1e-6
"""Share of delta by which KL may exceed it through rounding: the line search adds in float32."""
HEADINGS = {
    "updates": "updates, all agents and seeds",
    "kl_mean": "KL, mean",
    "kl_mean_max": "KL, greatest update",
    "kl_max": "KL, greatest sample",
    "kl_joint": "joint KL, mean",
    "kl_joint_max": "joint KL, greatest",
    "clip_fraction": "clipped samples",
    "predicted_gain": "predicted gain",
    "gain": "realised gain",
    "realised": "realised / predicted",
    "backtracks": "backtracks",
    "rejected": "rejected",
    "inside": "inside the trust region",
    "factor_max": "greatest factor",
    "ess": "effective samples, median",
    "ess_lowest": "effective samples, lowest position",
}
"""Columns of `table` after task and algorithm, with what the page calls them."""


def prepared(updates: pd.DataFrame, trials: Sequence[Mapping[str, Any]] = ()) -> pd.DataFrame:
    """The columns that are needed, NaN where there are none, with four more: `is_team`; `has_joint`, whether the
    trial recorded its joint KL; its `delta`, and `samples` = T E, NaN where it has none."""
    if updates.empty:
        return pd.DataFrame()
    keys = {key: updates[key].astype("category") for key in ("task", "algorithm")}
    frame = pd.DataFrame({**keys, "seed": updates["seed"], "step": updates["step"]})
    for name in DIAGNOSTICS:
        frame[name] = updates[name].astype(float) if name in updates.columns else np.nan
    frame["is_team"] = (updates["agent"] == TEAM).to_numpy()
    has = frame["kl_joint"].notna()
    of_trial = [frame[key] for key in ("task", "algorithm", "seed")]
    frame["has_joint"] = has.groupby(of_trial, observed=True).transform("any")
    settings = {(t["task"], t["algorithm"]): t.get("settings", {}) for t in trials}
    codes = keys["task"].cat.codes.to_numpy().astype(int), keys["algorithm"].cat.codes.to_numpy().astype(int)
    for name in ("delta", "samples"):
        lookup = [
            [_setting(settings.get((task, label), {}), name) for label in keys["algorithm"].cat.categories]
            for task in keys["task"].cat.categories
        ]
        frame[name] = np.array(lookup, dtype=np.float64)[codes]
    return frame


def _setting(settings: Mapping[str, Any], name: str) -> float:
    if name == "delta":
        return float(settings.get("delta", np.nan))
    return float(settings.get("envs", np.nan)) * float(settings.get("rollout_length", np.nan))


def table(frame: pd.DataFrame, order: Iterable[str] = ()) -> pd.DataFrame:
    """One row per task and algorithm of a `prepared` frame, over all its updates, agents and seeds."""
    if frame.empty:
        return pd.DataFrame(columns=["task", "algorithm", *HEADINGS])
    keys = ["task", "algorithm"]
    accepted = frame.loc[frame["accepted"] == 1, [*keys, "predicted_gain", "gain", "backtracks"]]
    # a team's row holds no diagnostics of agents, so leaving it in costs no copy and changes nothing but the count
    groups, of_accepted = frame.groupby(keys, observed=True), accepted.groupby(keys, observed=True)
    sums = of_accepted[["predicted_gain", "gain"]].sum(min_count=1)
    joint = _joint(frame).groupby(keys, observed=True)["kl_joint"].agg(["mean", "max"])
    lowest = positions(frame).groupby(keys, observed=True)["ess"].min()
    found = pd.DataFrame(
        {
            "updates": groups["is_team"].agg("size") - groups["is_team"].sum(),
            "kl_mean": groups["kl_mean"].mean(),
            "kl_mean_max": groups["kl_mean"].max(),
            "kl_max": groups["kl_max"].max(),
            "kl_joint": joint["mean"],
            "kl_joint_max": joint["max"],
            "clip_fraction": groups["clip_fraction"].mean(),
            "predicted_gain": of_accepted["predicted_gain"].mean(),
            "gain": of_accepted["gain"].mean(),
            "realised": sums["gain"] / sums["predicted_gain"],
            "backtracks": of_accepted["backtracks"].mean(),
            "rejected": 1 - groups["accepted"].mean(),
            "inside": _inside(frame),
            "factor_max": groups["factor_max"].max(),
            "ess": groups["factor_ess"].median(),
            "ess_lowest": lowest,
        }
    )
    return _in_order(found.reset_index(), order)


def _inside(frame: pd.DataFrame) -> pd.Series[float]:
    """The share of updates with KL <= delta, by task and algorithm; those without a delta are left out."""
    known = frame.loc[frame["kl_mean"].notna() & frame["delta"].notna(), ["task", "algorithm", "kl_mean", "delta"]]
    inside = (known["kl_mean"] <= known["delta"] * (1 + SLACK)).astype(float)
    return inside.groupby([known["task"], known["algorithm"]], observed=True).mean()


def _joint(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per update of a trial: `kl_joint` as it was recorded, else the sum of the agents' `kl_mean`."""
    keys = ["task", "algorithm", "seed", "step"]
    team = frame.loc[frame["is_team"] & frame["kl_joint"].notna(), [*keys, "kl_joint"]]
    lacks = frame["kl_mean"].notna() & ~frame["has_joint"]
    if not lacks.any():
        return team
    sums = frame[lacks].groupby(keys, observed=True)["kl_mean"].sum().rename("kl_joint").reset_index()
    return pd.concat([team, sums], ignore_index=True)


def positions(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per task, algorithm and position 1 ... N in the order of the update: `ess`, the median effective share of
    the samples, and `samples`, how many of the rollout's T E that are."""
    names = ["task", "algorithm", "position", "ess", "samples"]
    if frame.empty:
        return pd.DataFrame(columns=names)
    has_factor = frame["factor_ess"].notna() & frame["position"].notna()
    rows = frame.loc[has_factor, ["task", "algorithm", "position", "factor_ess", "samples"]]
    groups = rows.groupby(["task", "algorithm", "position"], observed=True)
    found = groups.agg(ess=("factor_ess", "median"), samples=("samples", "first")).reset_index()
    found["samples"] = found["ess"] * found["samples"]
    found["position"] = found["position"].astype(int) + 1
    return found[names]


def over_training(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per task, algorithm and point of training: the median over seeds and agents of `kl_mean` and of `gain`.

    Training is cut into 60 equal parts, of which those without an update have no row; `step` is the last of its part.
    """
    names = ["task", "algorithm", "step", "kl_mean", "gain"]
    if frame.empty:
        return pd.DataFrame(columns=names)
    agents = frame.loc[frame["kl_mean"].notna(), ["task", "algorithm", "step", "kl_mean", "gain"]]
    last = agents.groupby("task", observed=True)["step"].transform("max").to_numpy(np.float64)
    part = np.ceil(agents["step"].to_numpy() * POINTS / np.maximum(last, 1)).astype(int)
    groups = agents.assign(part=part).groupby(["task", "algorithm", "part"], observed=True)
    return groups.agg(step=("step", "max"), kl_mean=("kl_mean", "median"), gain=("gain", "median")).reset_index()[names]


def _in_order(found: pd.DataFrame, order: Iterable[str]) -> pd.DataFrame:
    """Rows by task, then in the order of the algorithms."""
    found = found.assign(task=found["task"].astype(str), algorithm=found["algorithm"].astype(str))
    place = {label: index for index, label in enumerate(in_order(found["algorithm"], order))}
    rank = found["algorithm"].map(place)
    return found.assign(rank=rank).sort_values(["task", "rank"], ignore_index=True).drop(columns="rank")


def csv(found: pd.DataFrame, places: pd.DataFrame) -> bytes:
    """`table` with a column for the effective samples of each position, as CSV."""
    wide = places.pivot_table(index=["task", "algorithm"], columns="position", values="ess", observed=True)
    wide.columns = [f"ess_position_{place}" for place in wide.columns]
    wide = wide.reset_index().astype({"task": str, "algorithm": str})
    joined = found.merge(wide, on=["task", "algorithm"], how="left") if len(wide) else found
    return joined.to_csv(index=False, float_format="%.6g", lineterminator="\n").encode()
