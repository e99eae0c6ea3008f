"""The improvement meter: what each agent's own step did to the return of the joint policy.

Multi-agent trust-region learning promises that no update lowers J(π), the expected return of the joint policy. This
measures it, before an update and after the step of each actor. In games J is computed exactly; elsewhere the joint
policies play the same episodes with the same noise (common random numbers). Training does not notice: a second learner
plays, with generators of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import numpy as np
from torch import Tensor, nn

from algorithms import Learner
from algorithms.rollout import Diagnostics
from bench.envs.batch import EnvBatch
from bench.suite.trial import Trial
from bench.tasks import registry
from bench.trial.collect import play
from bench.trial.exact_return import exact_return
from bench.trial.setup import EVALUATION_SEED, EVALUATION_STREAMS, seed_noise, seeds

Policy = dict[str, Tensor]
COLUMNS = ("improvement", "improvement_error", "expected_return")
"""What it adds to the rows of updates; that of the team it makes where the learner says nothing of an update."""


class ImprovementMeter:
    """Measures J(π) around every k-th update of a learner, whose `update` goes through `measured`."""

    def __init__(self, trial: Trial, learner: Learner, batch: EnvBatch, beat: Callable[[], None]):
        """`batch` is the one in which the learner acts, which is only asked what kind of a game it is."""
        self.trial, self.learner, self.batch, self.beat = trial, learner, batch, beat
        self.updates = 0
        """Since the beginning of the trial: which are measured, and in which episodes, follows from that."""
        self.seconds = 0.0
        """That the last update was measured for."""
        self._player: Learner | None = None

    def measured(self, update: Callable[[], list[Diagnostics]]) -> list[Diagnostics]:
        """What an update returns; every k-th time with `improvement`, its standard error and `expected_return`.

        An agent's row has what its own step changed, that of the team what the whole update did: differences of the
        mean return over the same episodes, in units of the return, and the mean return afterwards. In games it is the
        exact J, with the discount of the method (below 1) and an error of 0. Normalisers, which move last, stand still.
        """
        self.updates += 1
        self.seconds = 0.0
        if self.updates % self.trial.improvement_every:
            return update()
        policies: list[Policy] = [self._policy()]
        acted: list[int] = []
        with self._watched(policies, acted):
            rows = update()
        if not acted:  # a learner whose actors take no steps of their own: the whole update is one
            policies.append(self._policy())
        start = time.perf_counter()
        returns = self._returns(policies)
        self.seconds = time.perf_counter() - start
        gains = {k: _gain(returns[n], returns[n + 1]) for n, k in enumerate(acted)}
        groups = getattr(self.learner, "groups", [])
        of_agent = {str(i): gains[k] for k, group in enumerate(groups) if k in gains for i in group}
        of_agent["team"] = _gain(returns[0], returns[-1])
        if all(row["agent"] != "team" for row in rows):
            rows = [*rows, {"agent": "team"}]
        return [row | of_agent.get(str(row["agent"]), {}) for row in rows]

    def _policy(self) -> Policy:
        return {key: value.clone() for key, value in self.learner.policy.state_dict().items()}

    def _watched(self, policies: list[Policy], acted: list[int]) -> _Watched:
        def seen(k: int) -> None:
            acted.append(k)
            policies.append(self._policy())

        return _Watched(self.learner, seen)

    def _returns(self, policies: Sequence[Policy]) -> list[np.ndarray]:
        """[K] undiscounted returns of each joint policy, of the same episodes with the same noise; in games [1]: J."""
        if self._player is None:
            team, settings = self.batch.team, self.trial.settings
            self._player = self.trial.method.build(team, settings, seeds(self.trial.seed)[0])
        found = []
        for policy in policies:
            self._player.policy.load_state_dict(policy)
            found.append(self._return(self._player))
        return found

    def _return(self, player: Learner) -> np.ndarray:
        gamma = getattr(self.trial.settings, "gamma", None)
        if gamma is not None and (J := exact_return(player, self.batch, gamma)) is not None:
            return np.array([J])
        key = (len(EVALUATION_STREAMS), self.updates)
        episodes = np.random.SeedSequence(EVALUATION_SEED, spawn_key=key).spawn(self.trial.improvement_episodes)
        seed_noise(player, self.updates)
        with closing(registry.make(self.trial.task, episodes, auto_reset=False)) as batch:
            return play(player, batch, self.beat, explore=hasattr(player, "policies")).returns


class _Watched:
    """While it lasts, `seen` is told the index of every actor of a learner that has taken its step."""

    def __init__(self, learner: Any, seen: Callable[[int], object]):
        self.learner, self.seen = learner, seen

    def __enter__(self) -> None:
        self.step = getattr(self.learner, "actor_step", None)
        if self.step is not None:
            self.learner.actor_step = self._stepped

    def _stepped(self, actor: nn.Module, *arguments: Any) -> tuple[Tensor, Diagnostics]:
        assert self.step is not None
        result: tuple[Tensor, Diagnostics] = self.step(actor, *arguments)
        self.seen(next(k for k, one in enumerate(self.learner.actors) if one is actor))
        return result

    def __exit__(self, *_: object) -> None:
        if self.step is not None:
            self.learner.actor_step = self.step


def _gain(before: np.ndarray, after: np.ndarray) -> Diagnostics:
    """The mean difference over K episodes, its standard error (0 for the one exact value), and the mean afterwards."""
    difference = after - before
    error = difference.std(ddof=1) / np.sqrt(len(difference)) if len(difference) > 1 else 0.0
    return dict(zip(COLUMNS, map(float, (difference.mean(), error, after.mean())), strict=True))
