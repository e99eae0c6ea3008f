"""MADDPG (Lowe et al. 2017): deterministic actors, a central critic Q_i(s, a^1..a^N) per agent, off-policy from replay.

Critic i regresses on  y = r + gamma Q_i'(s', mu_1'(o_1'), ..., mu_N'(o_N')), primes marking slowly moving targets;
actor i climbs  E[Q_i(s, a^1, ..., mu_i(o_i), ..., a^N)]  with the others' actions as they stand in the replay.

A discrete action enters critics as one-hot vectors. mu chooses what it scores highest of what is allowed, its gradient
is that of a straight-through Gumbel-softmax sample. The action of an agent that has left enters as zeros, and its actor
learns nothing from such samples.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from algorithms.categorical import decode, encode, gumbel, straight_through, width
from algorithms.config import MADDPGSettings
from algorithms.layers import flat
from algorithms.networks import ActionValueCritic, Normalised, deterministic_actor, optimisers
from algorithms.replay import Batch, Replay
from algorithms.rollout import Discrete, Rollout, Row, Team, check_finite, generators, pack, unpack


class MADDPG:
    """A team of deterministic actors, each with a critic of its own that sees everything."""

    def __init__(self, team: Team, settings: MADDPGSettings, seeds: Mapping[str, int]):
        self.team, self.settings = team, settings
        self.generators = generators(seeds)
        self.gradient_updates = 0
        self.steps = 0
        c, init = settings, self.generators["initialisation"]
        self.widths = [width(space) for space in team.action_spaces]
        discrete = torch.tensor([isinstance(space, Discrete) for space in team.action_spaces])
        self.chosen = discrete.repeat_interleave(torch.tensor(self.widths)) if discrete.any() else None

        self.actors = [
            deterministic_actor(size, space, c.hidden_sizes, init)
            for size, space in zip(team.observation_sizes, team.action_spaces, strict=True)
        ]
        self.critics = [ActionValueCritic(team.state_size, sum(self.widths), c.hidden_sizes, init) for _ in self.actors]
        for critic in self.critics:
            critic.moments = self.critics[0].moments  # all see the same states
        self.target_actors = copy.deepcopy(self.actors)
        self.target_critics = copy.deepcopy(self.critics)
        networks, targets = [*self.actors, *self.critics], [*self.target_actors, *self.target_critics]
        for network, target in zip(networks, targets, strict=True):
            target.moments = network.moments
            target.requires_grad_(False)
        self.replay = Replay(team, c.buffer_size, c.envs)
        self.policy = nn.ModuleList(self.actors)
        self.parts = {
            "policy": self.policy,
            "critics": nn.ModuleList(self.critics),
            "target actors": nn.ModuleList(self.target_actors),
            "target critics": nn.ModuleList(self.target_critics),
            "replay": self.replay,
            **self.generators,
            **optimisers("actor", self.actors, c.actor_lr, eps=1e-8),
            **optimisers("critic", self.critics, c.critic_lr, eps=1e-8),
        }
        self.fast = [network.optimiser.vector.data for network in networks]
        self.slow = [flat(target) for target in targets]

    @torch.no_grad()
    def act(
        self, observations: Sequence[Tensor], explore: bool, masks: Sequence[Tensor | None] | None = None
    ) -> list[Tensor]:
        """N x [E, O_i], masks N x [E, L_i] -> N x [E, A_i]: mu(o), or if exploring mu(o) with Gaussian noise.

        Discrete actions are then drawn from the softmax of the scores. During the warm-up all are uniform.
        """
        joint = torch.cat([actor(actor.see(x)) for actor, x in zip(self.actors, observations, strict=True)], dim=-1)
        c, generator = self.settings, self.generators["exploration"]
        if explore and self.steps < c.warmup_steps:
            joint = torch.rand(joint.shape, generator=generator) * 2 - 1
        elif explore:
            z = torch.randn(joint.shape, generator=generator)
            noisy = (joint + c.exploration_noise * z).clamp(-1, 1)
            joint = noisy if self.chosen is None else torch.where(self.chosen, joint + gumbel(z), noisy)
        return self._each(decode, joint.split(self.widths, dim=-1), masks or [None] * self.team.size)

    def update(self, rollout: Rollout) -> list[Row]:
        """Store the rollout, then take `update_to_data` gradient steps per environment step, none in the warm-up."""
        c = self.settings
        before = max(self.steps, c.warmup_steps)
        self.steps += rollout.reward.numel()
        self.replay.add(rollout)
        self._update_moments(rollout)
        due = int(c.update_to_data * self.steps) - int(c.update_to_data * before)
        rows: list[Row] = []
        if self.replay.filled < c.n_step:
            return rows
        for _ in range(due):
            batch = self.replay.sample(c.batch_size, c.n_step, c.gamma, self.generators["minibatches"])
            rows = self._gradient_step(batch)
        check_finite(rows, [*self.actors, *self.critics])
        return rows

    def _gradient_step(self, batch: Batch) -> list[Row]:
        """Every critic, then every actor, then every target moves once."""
        batch = self._seen(batch)
        with torch.no_grad():
            outputs = [mu(x) for mu, x in zip(self.target_actors, batch.next_observations, strict=True)]
            next_actions = self._joint(self._each(decode, outputs, batch.next_masks), batch.next_active)
        rows: list[Row] = []
        for i, critic in enumerate(self.critics):
            critic_loss, q = self._critic_step(critic, self.target_critics[i], batch, next_actions)
            rows.append({"agent": str(i), "critic_loss": critic_loss, "q_mean": q})
        for i, actor in enumerate(self.actors):
            rows[i]["objective"] = self._actor_step(i, actor, self.critics[i], batch)
        torch._foreach_lerp_(self.slow, self.fast, self.settings.polyak)  # target += tau (network - target)
        self.gradient_updates += 1
        return rows

    def _seen(self, batch: Batch) -> Batch:
        """The batch as the networks see it: observations by each actor's moments, states by those of all critics."""
        see = self.critics[0].see
        return replace(
            batch,
            observations=[actor.see(x) for actor, x in zip(self.actors, batch.observations, strict=True)],
            next_observations=[actor.see(x) for actor, x in zip(self.actors, batch.next_observations, strict=True)],
            state=see(batch.state),
            next_state=see(batch.next_state),
            actions=self._joint(batch.actions, batch.active),
        )

    def _joint(self, actions: Sequence[Tensor], active: Tensor | None) -> list[Tensor]:
        """The actions as critics see them, zeros where an agent is not there.  N x [B, A_i], [B, N] -> N x [B, W_i]"""
        encoded = self._each(encode, actions)
        return encoded if active is None else [a * there[:, None] for a, there in zip(encoded, active.T, strict=True)]

    def _each(self, f: Callable[..., Tensor], *of_agents: Sequence[Any]) -> list[Tensor]:
        """f(space, ...) of every agent."""
        return [f(*given) for given in zip(self.team.action_spaces, *of_agents, strict=True)]

    def _critic_step(
        self, critic: ActionValueCritic, target: ActionValueCritic, batch: Batch, next_actions: list[Tensor]
    ) -> tuple[float, float]:
        """Squared error to y = R + gamma^m Q'(s', mu'(o')), R the sum of m <= n_step rewards."""
        with torch.no_grad():
            following = target(batch.next_state, next_actions)
            y = batch.returns + batch.discount * following.masked_fill(batch.discount == 0, 0)
        q = critic(batch.state, batch.actions)
        loss = nn.functional.mse_loss(q, y)
        self._descend(critic, loss)
        return loss.item(), q.mean().item()

    def _actor_step(self, i: int, actor: Normalised, critic: ActionValueCritic, batch: Batch) -> float:
        """Climb Q_i with the agent's own action from its policy and the others' from the replay."""
        own, space = actor(batch.observations[i]), self.team.action_spaces[i]
        if isinstance(space, Discrete):
            noise = gumbel(torch.randn(own.shape, generator=self.generators["minibatches"]))
            own = straight_through(own, space.choices, batch.masks[i], noise, self.settings.gumbel_temperature)
        q = critic(batch.state, [*batch.actions[:i], own, *batch.actions[i + 1 :]])
        if batch.active is None:
            objective = q.mean()
        else:
            there = batch.active[:, i]
            objective = (q * there).sum() / there.sum().clamp(min=1)
        self._descend(actor, -objective)
        return objective.item()

    def _descend(self, network: Normalised, loss: Tensor) -> None:
        """One step of this network down the loss, and of no other."""
        network.optimiser.gradient.zero_()
        loss.backward(inputs=list(network.parameters()))
        network.move(self.settings.max_grad_norm)

    def _update_moments(self, rollout: Rollout) -> None:
        """Take the new observations and states into the normalisers, which targets share with their networks."""
        for i, (actor, x) in enumerate(zip(self.actors, rollout.observations, strict=True)):
            actor.moments.update(x[:-1][rollout.there([i])])
        self.critics[0].moments.update(rollout.state[:-1])

    def state_dict(self) -> dict[str, Any]:
        """Networks, targets, moments, optimisers, replay, generators and counters."""
        return {"gradient_updates": self.gradient_updates, "steps": self.steps, **pack(self.parts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.gradient_updates, self.steps = state["gradient_updates"], state["steps"]
        unpack(self.parts, state)
