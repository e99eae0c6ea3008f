"""A trained team as a folder that Hugging Face's hub shows and anybody loads: weights, configuration, card, loader."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from algorithms import Discrete, SettingError
from algorithms.maddpg import MADDPG
from algorithms.networks import OBSERVATION_CLIP
from algorithms.on_policy import OnPolicy
from bench.store import files
from bench.store.files import StoreError
from bench.store.trials import (
    AT,
    ROUNDED,
    as_ended,
    identity,
    is_published_team,
    read_table_of,
    read_trial,
    trial_table,
)
from bench.trial import card
from bench.trial.trained import TrainedTeam, load_team

CONFIG, WEIGHTS = "config.json", "model.safetensors"
LOADER = Path(__file__).with_name("exported_policy.py")


def export(place: Path, target: Path, policy: Literal["best", "last"] = "best") -> None:
    """Write the team that the trial in the folder `place` trained into the folder `target`.

    Raises StoreError where that holds anything but an earlier export of the same trial (names that begin with a dot do
    not count), SettingError for a method whose policies are no networks that the loader knows, and ModuleNotFoundError
    without the package safetensors. Then nothing is written.
    """
    from safetensors.torch import save  # of an extra

    now = read_trial(place / "trial.json")
    about = as_ended(now)
    _refuse_others(target, about)
    team = load_team(place, policy)
    config = _config(team, about)
    returns = card.returns(_records(place, now, about["steps"]))
    weights = {f"actors.{key}": x.contiguous() for key, x in team.learner.policy.state_dict().items()}
    contents = {  # all is made before anything is written; the configuration, which says whose they are, comes first
        CONFIG: json.dumps(config, indent=2, allow_nan=False).encode() + b"\n",
        WEIGHTS: save(weights, metadata={"format": "pt"}),
        "policy.py": LOADER.read_bytes(),
        "README.md": card.text(config, returns).encode(),
    }
    for name, content in contents.items():
        files.write_bytes(target / name, content)


def _records(place: Path, now: Mapping[str, Any], steps: int) -> pd.DataFrame:
    """The records of a trial, the fresh episodes after so many steps as those at its end."""
    if is_published_team(place):
        records = trial_table(place.absolute().parents[3], "records", now)
    else:
        records = read_table_of(place, "records", now)
    return records if steps == now["steps"] else records.assign(kind=records["kind"].str.removesuffix(f"{AT}{steps}"))


def _refuse_others(target: Path, about: Mapping[str, Any]) -> None:
    """Refuse a folder that holds something else."""
    if target.exists() and not target.is_dir():
        raise StoreError(f"{target}: is no folder")
    if not target.exists() or all(path.name.startswith(".") for path in target.iterdir()):
        return
    try:
        found = files.read_json(target / CONFIG)["trial"]
    except (StoreError, LookupError, TypeError):
        raise StoreError(f"{target}: is not empty, and holds no export of a trial") from None
    if found != identity(about):
        raise StoreError(f"{target}: holds an export of another trial: {found}")


def _config(team: TrainedTeam, about: Mapping[str, Any]) -> dict[str, Any]:
    """All that the loader needs, and where it comes from."""
    learner: Any = team.learner
    if not isinstance(learner, OnPolicy | MADDPG):
        raise SettingError(
            "algorithm",
            f"{about['method']} cannot be exported: its policy is none of the networks that policy.py knows",
        )
    groups = getattr(learner, "groups", [[i] for i in range(team.sizes.size)])
    actor_of = {i: k for k, group in enumerate(groups) for i in group}
    has_mask = team.sizes.has_mask or (False,) * team.sizes.size
    return {
        "task": {"name": team.task.name, "label": team.task.label, "options": about["options"]},
        "algorithm": team.algorithm,
        "method": about["method"],
        "policy": team.policy,
        "agents": [
            {"observation_size": size, **_action(space), "masked": mask, "actor": actor_of[i]}
            for i, (size, space, mask) in enumerate(
                zip(team.sizes.observation_sizes, team.sizes.action_spaces, has_mask, strict=True)
            )
        ],
        "hidden_sizes": list(team.settings.hidden_sizes),  # type: ignore[union-attr]
        "appends_index": getattr(learner, "appends_id", False),
        "tanh": isinstance(learner, MADDPG),
        "observation_clip": OBSERVATION_CLIP,
        "settings": asdict(team.settings),
        "steps": about["steps"],
        "rounded_to": about.get(ROUNDED, ""),
        "trial": identity(about),
        "provenance": about["provenance"],
    }


def _action(space: Any) -> dict[str, Any]:
    if isinstance(space, Discrete):
        return {"action": "discrete", "choices": list(space.choices)}
    return {"action": "continuous", "action_size": space.size}
