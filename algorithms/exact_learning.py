"""Exact multi-agent trust-region learning as a method among the others, where the game is known (`Team.model`).

Its policies are tables and its updates those of `exact.py`: it looks at the model and at none of the samples. Beside it
the methods that learn from samples can be seen to keep, or to break, what the theory promises.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from algorithms.config import ExactSettings
from algorithms.distributions import MaskedCategorical
from algorithms.exact import Game, expected_return, sequential_update, simultaneous_update
from algorithms.rollout import Diagnostics, Rollout, Team, check_finite, generators, pack, unpack


class TabularActor(nn.Module):
    """pi(a|s), a table of probabilities.  [S, A], float64"""

    def __init__(self, states: int, actions: int, generator: torch.Generator):
        super().__init__()
        logits = 0.1 * torch.randn(states, actions, dtype=torch.float64, generator=generator)
        self.register_buffer("probability", logits.softmax(-1))

    probability: Tensor

    def forward(self, observation: Tensor) -> MaskedCategorical:
        """[.., S], the state one-hot (all zeros in one-step games: the state 0) -> distribution over [.., 1]"""
        logits = self.probability.log().clamp(min=torch.finfo(torch.float64).min)  # finite, as are entropy and KL then
        return MaskedCategorical(logits[observation.argmax(-1)], (self.probability.shape[1],))


class ExactLearning:
    """Exact updates of tabular policies, by default algorithm 1 of Kuba et al. 2022, whose return never falls.

    `delta` above 0 bounds the mean KL instead of penalising the greatest; `update: simultaneous` updates all agents
    against the old joint policy. Neither of these has that guarantee.
    """

    def __init__(self, team: Team, settings: ExactSettings, seeds: Mapping[str, int]):
        model = team.model
        assert model is not None, "registry.check refuses a team without a model"
        self.team, self.settings = team, settings
        self.game = Game(model.transition, model.reward, model.initial, settings.gamma)
        self.generators = generators(seeds)
        self.gradient_updates = 0
        states, init = len(model.initial), self.generators["initialisation"]
        self.actors = [TabularActor(states, actions, init) for actions in self.game.actions]
        self.policy = nn.ModuleList(self.actors)
        self.parts = {"policy": self.policy, **self.generators}

    def act(
        self, observations: Sequence[Tensor], explore: bool, masks: Sequence[Tensor | None] | None = None
    ) -> list[Tensor]:
        """N x [E, O] -> N x [E, 1]: the likeliest action, or a sample; these games forbid no action."""
        policies = self.policies(observations)
        if not explore:
            return [policy.mode.float() for policy in policies]
        actions, generator = [], self.generators["exploration"]
        for policy in policies:
            noise = torch.randn(policy.log_p.shape, dtype=torch.float64, generator=generator)
            actions.append(policy.sample(noise).float())
        return actions

    def policies(
        self, observations: Sequence[Tensor], masks: Sequence[Tensor | None] | None = None
    ) -> list[MaskedCategorical]:
        """N x [E, O] -> the distribution of each agent's action, of E samples."""
        return [actor(x) for actor, x in zip(self.actors, observations, strict=True)]

    def update(self, rollout: Rollout) -> list[Diagnostics]:
        """One iteration of the exact algorithm on the model; the rollout is not looked at."""
        c, pi = self.settings, [actor.probability for actor in self.actors]
        delta = c.delta or None
        if c.update == "sequential":
            order = torch.randperm(len(pi), generator=self.generators["order"]).tolist()
            new = sequential_update(self.game, pi, order, delta)
        else:
            new = simultaneous_update(self.game, pi, delta)
        for actor, probability in zip(self.actors, new, strict=True):
            actor.probability = probability
        rows: list[Diagnostics] = [{"agent": "team", "objective": expected_return(self.game, new)}]
        check_finite(rows, self.actors)
        return rows

    def state_dict(self) -> dict[str, Any]:
        """Tables and generators."""
        return {"gradient_updates": self.gradient_updates, **pack(self.parts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        unpack(self.parts, state)
        self.gradient_updates = state["gradient_updates"]
