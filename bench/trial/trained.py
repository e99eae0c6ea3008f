"""The team that a finished trial trained, loaded from its folder: to act, to be evaluated, shown or exported."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from algorithms import Discrete, Learner, SettingError, Team
from algorithms.registry import Settings
from bench.store.files import StoreError
from bench.store.remote import local_folder
from bench.store.trials import as_ended, check_policy, find_trial, read_trial
from bench.suite.restored import restored
from bench.tasks import registry
from bench.tasks.registry import Task
from bench.trial.collect import play_episodes
from bench.trial.session import OTHER_LAYOUT
from bench.trial.setup import episode_seeds, one_thread, seeds


@dataclass(frozen=True, eq=False)
class TrainedTeam:
    """N agents as a trial trained them; `load_team` makes it."""

    task: Task
    """What it was trained on: `task.name`, `task.label`, and what `bench.tasks.registry.make` takes."""
    algorithm: str
    """The label of the algorithm."""
    seed: int
    """The seed of the trial."""
    policy: str
    """`best` or `last`."""
    settings: Settings = field(repr=False)
    """The settings of the algorithm."""
    sizes: Team = field(repr=False)
    """N (`sizes.size`), `observation_sizes`, `action_spaces` and `state_size`."""
    learner: Learner = field(repr=False)
    """The learner, with the networks in `learner.policy`; critics and optimisers are untrained."""

    def act(
        self, observations: Sequence[ArrayLike], masks: Sequence[ArrayLike | None] | None = None
    ) -> list[NDArray[Any]]:
        """The deterministic actions of all agents.

        Args:
            observations: N arrays `[E, O_i]` of E environments, or `[O_i]` of one, as the task's batch has them
                (`bench.tasks.registry.make`).
            masks: N arrays `[E, L_i]` or `[L_i]` of which choices are allowed, L_i being those of all components of
                an action; None for an agent, or for all of them, that may choose anything.

        Returns:
            N arrays `[E, A_i]` or `[A_i]`: float32 in [-1, 1], which the task maps to its own bounds, or, of discrete
            actions, int64 indices, one for each component.

        Raises:
            ValueError: Another number of arrays, or another shape.
        """
        spaces = self.sizes.action_spaces
        seen = _tensors("observations", observations, self.sizes.observation_sizes, np.float32)
        choices = [space.choice_count if isinstance(space, Discrete) else 0 for space in spaces]
        allowed = None if masks is None else _tensors("masks", masks, choices, np.bool_)
        if len({len(x) for x in [*seen, *(allowed or [])] if x is not None}) > 1:
            raise ValueError("observations and masks: of different numbers of environments")
        actions = self.learner.act([x for x in seen if x is not None], explore=False, masks=allowed)
        made = [
            action.numpy().astype(np.int64) if isinstance(space, Discrete) else action.clamp(-1, 1).numpy()
            for action, space in zip(actions, spaces, strict=True)
        ]
        return [action[0] for action in made] if np.ndim(observations[0]) == 1 else made

    def evaluate(self, episodes: int = 20, seed: int = 0) -> NDArray[np.float64]:
        """The undiscounted team return of each of so many deterministic episodes, [episodes].

        Equal seeds and numbers of episodes give equal episodes, which no trial trains or is evaluated on. Raises
        ValueError for a number of episodes below 1 or a negative seed.
        """
        if episodes < 1:
            raise ValueError(f"episodes: {episodes} is not at least 1")
        with one_thread():
            return play_episodes(self.learner, self.task, episode_seeds(seed, episodes)).returns


def _tensors(
    what: str, arrays: Sequence[ArrayLike | None], sizes: Sequence[int], dtype: type[np.generic]
) -> list[Tensor | None]:
    """N arrays [E, F_i] or [F_i] as copies [E, F_i]; a mask may be None."""
    if len(arrays) != len(sizes):
        raise ValueError(f"{what}: {len(arrays)} arrays for {len(sizes)} agents")
    made: list[Tensor | None] = []
    for i, (x, size) in enumerate(zip(arrays, sizes, strict=True)):
        if x is None and dtype is np.bool_:
            made.append(None)
            continue
        rows = np.array(x, dtype, ndmin=2)
        if rows.ndim > 2 or rows.shape[1] != size:
            raise ValueError(f"{what}: agent {i} has an array of shape {np.shape(x)}, not ({size},) or (E, {size})")  # type: ignore[arg-type]
        made.append(torch.from_numpy(rows))
    return made


def load_team(folder: str | Path, policy: Literal["best", "last"] = "best") -> TrainedTeam:
    """The team that a finished trial trained.

    Args:
        folder: Folder of a trial that is done, or was before it was given more steps, or of a team of a published
            suite: `results/<suite>/<task>/<algorithm>/<seed>`, or the column `folder` of `read(...).trials`.
        policy: `best`: the policy with the highest mean return on the evaluation grid; `last`: the last one, which
            published teams have not.

    Raises:
        ValueError: Another policy than these, an empty name, a place in a store, or a task or an algorithm that is not
            installed here.
        bench.store.files.StoreError: The folder holds no finished trial, or one of another version of the benchmark.
    """
    if policy not in ("best", "last"):
        raise ValueError(f"policy: {policy!r} is neither 'best' nor 'last'")
    if folder == "":
        raise ValueError("folder: ''; a published trial whose trained team is not published has none")
    try:
        local_folder(str(folder))
    except ArgumentTypeError as error:
        raise ValueError(f"folder: {error}; bench.read has those of copies") from None
    place = find_trial(Path(folder))
    about, path = _about(place), place / "policy.pt"
    try:
        trial = restored(about)
        sizes = registry.team(trial.task)
        learner = trial.method.build(sizes, trial.settings, seeds(trial.seed)[0])
        check_policy(path, about)
        saved = torch.load(path, weights_only=True)
        if policy not in saved:
            raise StoreError(f"{path}: has no policy {policy!r}; that of a published team has only the best")
        learner.policy.load_state_dict(saved[policy])
        if hasattr(learner, "steps"):
            learner.steps = trial.steps  # in its warm-up MADDPG would explore at random
    except SettingError as error:
        raise ValueError(f"{folder}: {error.key}: {error}") from error
    except (*OTHER_LAYOUT, OSError) as error:
        raise StoreError(f"{path}: cannot be read, or is of another version of the benchmark ({error})") from error
    return TrainedTeam(trial.task, trial.label, trial.seed, policy, trial.settings, sizes, learner)


def _about(folder: Path) -> dict[str, Any]:
    """What the `trial.json` of a finished trial says."""
    about = as_ended(read_trial(folder / "trial.json"))
    if about.get("status") != "done":
        raise StoreError(f"{folder}: this trial is {about.get('status')}, not done; a trial leaves its team at its end")
    return about
