"""MADDPG (Lowe et al. 2017): deterministic actors, a central critic Q_i(s, a^1..a^N) per agent, off-policy from replay.

Critic i regresses on  y = r + gamma Q_i'(s', mu_1'(o_1'), ..., mu_N'(o_N')), primes marking slowly moving targets;
actor i climbs  E[Q_i(s, a^1, ..., mu_i(o_i), ..., a^N)]  with the others' actions as they stand in the replay.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from algorithms.config import MADDPGSettings
from algorithms.networks import ActionValueCritic, DeterministicActor, Normalised, optimisers
from algorithms.replay import Batch, Replay
from algorithms.rollout import Rollout, Row, Team, check_finite, generators, pack, unpack


class MADDPG:
    """A team of deterministic actors, each with a critic of its own that sees everything."""

    def __init__(self, team: Team, settings: MADDPGSettings, seeds: Mapping[str, int]):
        self.team, self.settings = team, settings
        self.generators = generators(seeds)
        self.gradient_updates = 0
        self.steps = 0
        c, init = settings, self.generators["initialisation"]
        joint = sum(space.size for space in team.action_spaces)

        self.actors = [
            DeterministicActor(size, space.size, c.hidden_sizes, init)
            for size, space in zip(team.observation_sizes, team.action_spaces, strict=True)
        ]
        self.critics = [ActionValueCritic(team.state_size, joint, c.hidden_sizes, init) for _ in self.actors]
        self.target_actors = copy.deepcopy(self.actors)
        self.target_critics = copy.deepcopy(self.critics)
        for target in (*self.target_actors, *self.target_critics):
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

    @torch.no_grad()
    def act(self, observations: Sequence[Tensor], explore: bool) -> list[Tensor]:
        """N x [E, O_i] -> N x [E, A_i]: mu(o), with Gaussian noise if exploring, uniform during the warm-up."""
        actions = [actor(actor.see(x)) for actor, x in zip(self.actors, observations, strict=True)]
        if not explore:
            return actions
        generator, c = self.generators["exploration"], self.settings
        if self.steps < c.warmup_steps:
            return [torch.rand(a.shape, generator=generator) * 2 - 1 for a in actions]
        noise = [torch.randn(a.shape, generator=generator) for a in actions]
        return [(a + c.exploration_noise * e).clamp(-1, 1) for a, e in zip(actions, noise, strict=True)]

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
        with torch.no_grad():
            next_actions = [
                actor(actor.see(x)) for actor, x in zip(self.target_actors, batch.next_observations, strict=True)
            ]
        rows: list[Row] = []
        for i, critic in enumerate(self.critics):
            critic_loss, q = self._critic_step(critic, self.target_critics[i], batch, next_actions)
            rows.append({"agent": str(i), "critic_loss": critic_loss, "q_mean": q})
        for i, actor in enumerate(self.actors):
            rows[i]["objective"] = self._actor_step(i, actor, self.critics[i], batch)
        self._move_targets()
        self.gradient_updates += 1
        return rows

    def _critic_step(
        self, critic: ActionValueCritic, target: ActionValueCritic, batch: Batch, next_actions: list[Tensor]
    ) -> tuple[float, float]:
        """Squared error to y = R + gamma^m Q'(s', mu'(o')), R the sum of m <= n_step rewards."""
        with torch.no_grad():
            following = target(target.see(batch.next_state), next_actions)
            y = batch.returns + batch.discount * following.masked_fill(batch.discount == 0, 0)
        q = critic(critic.see(batch.state), batch.actions)
        loss = nn.functional.mse_loss(q, y)
        self._descend(critic, loss)
        return loss.item(), q.mean().item()

    def _actor_step(self, i: int, actor: DeterministicActor, critic: ActionValueCritic, batch: Batch) -> float:
        """Climb Q_i with the agent's own action from its policy and the others' from the replay."""
        own = actor(actor.see(batch.observations[i]))
        actions = [*batch.actions[:i], own, *batch.actions[i + 1 :]]
        critic.requires_grad_(False)
        objective = critic(critic.see(batch.state), actions).mean()
        self._descend(actor, -objective)
        critic.requires_grad_(True)
        return objective.item()

    def _descend(self, network: Normalised, loss: Tensor) -> None:
        network.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), self.settings.max_grad_norm)
        network.optimiser.step()

    @torch.no_grad()
    def _move_targets(self) -> None:
        """target += tau (network - target)."""
        targets = [*self.target_actors, *self.target_critics]
        for target, network in zip(targets, [*self.actors, *self.critics], strict=True):
            for slow, fast in zip(target.parameters(), network.parameters(), strict=True):
                slow.lerp_(fast, self.settings.polyak)

    def _update_moments(self, rollout: Rollout) -> None:
        """Take the new observations into the normalisers; a target sees through its network's moments."""
        for actor, target, x in zip(self.actors, self.target_actors, rollout.observations, strict=True):
            actor.moments.update(x[:-1])
            target.moments.load_state_dict(actor.moments.state_dict())
        for critic, slow in zip(self.critics, self.target_critics, strict=True):
            critic.moments.update(rollout.state[:-1])
            slow.moments.load_state_dict(critic.moments.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """Networks, targets, moments, optimisers, replay, generators and counters."""
        return {"gradient_updates": self.gradient_updates, "steps": self.steps, **pack(self.parts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.gradient_updates, self.steps = state["gradient_updates"], state["steps"]
        unpack(self.parts, state)
