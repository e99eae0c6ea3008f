"""The trained teams of a published suite: of each task and algorithm the one whose best policy has the median return.

<suite>/policies/<task>/<label>/seed-NN/trial.json    as that of the trial, with this policy.pt as its only file
                                        policy.pt     the best policy; weight matrices in 16 bits instead of 32
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from bench.store.files import StoreError
from bench.store.trials import (
    POLICIES,
    ROUNDED,
    TRIALS,
    Teams,
    as_ended,
    check_policy,
    identity,
    read_trial,
    read_trial_in_place,
    trial_files,
    trials_by_folder,
)
from bench.trial.session import OTHER_LAYOUT


def median_teams(suite_folder: Path, records: pd.DataFrame) -> tuple[Teams, list[str]]:
    """The trained teams to publish of a suite's results.

    Of an even number of seeds the lower of the two in the middle is taken. Where only some trials have kept their
    policies, as in results that went on from a published folder, it is that whose return is nearest to the median;
    there is a line for each of these.

    Args:
        suite_folder: the results of the suite.
        records: the records of all its trials.
    """
    folders = {(a["task"], a["algorithm"], a["seed"]): folder for folder, a in _kept(suite_folder).items()}
    teams, lines = {}, []
    done = {(a["task"], a["algorithm"], a["seed"]) for a in trials_by_folder(suite_folder).values() if _has_ended(a)}
    for (task, label), returns in _returns(records, done).items():
        median, *_ = order = from_the_median(returns)
        if seeds := [seed for seed in order if (task, label, seed) in folders]:
            teams[task, label] = _smaller(folders[task, label, seeds[0]])
            if seeds[0] != median:
                lines.append(
                    f"{task} {label}: the team is of seed {seeds[0]}, {returns[seeds[0]]:,.1f}; the policies of seed "
                    f"{median}, which has the median return, {returns[median]:,.1f}, are not there"
                )
    return teams, lines


def _has_ended(about: Mapping[str, Any]) -> bool:
    """Whether a trial is done, or was before it was given more steps."""
    return bool(as_ended(about)["status"] == "done")


def _returns(records: pd.DataFrame, done: Collection[tuple[str, str, int]]) -> dict[tuple[str, str], dict[int, float]]:
    """Task and algorithm -> seed -> the mean return of the best policy on its fresh episodes, of trials that are done.

    Others may have such episodes, where they failed or were stopped while they wrote what is last.
    """
    best = records[records["kind"] == "absolute"]
    keys = ["task", "algorithm", "seed"]
    means = best.groupby(keys, observed=True)["episode_return"].mean().reset_index()
    found: dict[tuple[str, str], dict[int, float]] = {}
    for task, label, seed, value in zip(*(means[key] for key in [*keys, "episode_return"]), strict=True):
        if (task, label, seed) in done:
            found.setdefault((task, label), {})[seed] = value
    return found


def from_the_median(returns: Mapping[int, float]) -> list[int]:
    """The seeds from that with the median return, the lower of two in the middle, outwards."""
    median = sorted(returns.values())[(len(returns) - 1) // 2]
    return sorted(returns, key=lambda seed: (abs(returns[seed] - median), seed))


def _kept(suite_folder: Path) -> dict[Path, dict[str, Any]]:
    """The trials that have kept their policies, those of the suite itself after published ones."""
    found = [path.parent for within in (POLICIES, TRIALS) for path in trial_files(suite_folder, "policy.pt", within)]
    abouts = {folder: read_trial_in_place(folder / "trial.json") for folder in found}
    return {folder: about for folder, about in abouts.items() if _has_ended(about)}


def _smaller(folder: Path) -> tuple[bytes, dict[str, Any]]:
    """The `policy.pt` and the `trial.json` to publish of a trial."""
    about, path = as_ended(read_trial(folder / "trial.json")), folder / "policy.pt"
    check_policy(path, about)
    try:
        best = torch.load(path, weights_only=True)["best"]
    except OTHER_LAYOUT as error:
        raise StoreError(f"{path}: is of another version of the benchmark ({error})") from error
    buffer = io.BytesIO()
    torch.save({"trial": identity(about), "best": rounded(best)}, buffer)
    checksum = hashlib.sha256(buffer.getvalue()).hexdigest()
    return buffer.getvalue(), about | {"files": {path.name: checksum}, ROUNDED: "16 bits"}


def rounded(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state with its 32-bit matrices in 16 bits; vectors, as biases and running moments, are as they were."""
    return {key: x.half() if x.ndim == 2 and x.dtype == torch.float32 else x for key, x in state.items()}
