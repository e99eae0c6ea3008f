"""MADDPG (Lowe et al. 2017): deterministic actors, a central critic Q_i(s, a^1..a^N) per agent, off-policy.

Critic i regresses on  y = sum_{k<m} gamma^k r_{t+k} + gamma^m Q'_i(s', mu'_1(o'_1), ..., mu'_N(o'_N)),  where Q' and
mu' are target networks, s' and o' what follows after m = n_step steps, or fewer where the episode ended; the second
term is 0 after a termination. The rewards are those of the behaviour policy, uncorrected. Actor i climbs
E[Q_i(s, a^1, ..., mu_i(o_i), ..., a^N)]  with the other agents' actions from the replay buffer.

Discrete actions enter critics one-hot. When acting greedily and in y, mu takes the likeliest allowed choice; in the
actor's objective a straight-through Gumbel-softmax sample takes its place. The action of an agent that has left enters
as zeros, and its actor learns nothing from such samples (of a batch without others Adam's momentum alone moves it).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from algorithms.config import MADDPGSettings
from algorithms.distributions import argmax, encode, encoded_size, gumbel, gumbel_softmax, masked
from algorithms.networks import ActionValueCritic, DeterministicActor, give_optimisers, minimise
from algorithms.replay_buffer import ReplayBuffer, Transitions
from algorithms.rollout import Diagnostics, Discrete, Rollout, Space, Team, check_finite, generators, pack, unpack


class MADDPG:
    """A team of deterministic actors, each with a critic of its own that sees everything."""

    def __init__(self, team: Team, settings: MADDPGSettings, seeds: Mapping[str, int]):
        self.team, self.settings = team, settings
        self.generators = generators(seeds)
        self.gradient_updates = 0
        self.steps = 0
        c, init = settings, self.generators["initialisation"]

        self.actors = [
            DeterministicActor(size, space, c.hidden_sizes, init)
            for size, space in zip(team.observation_sizes, team.action_spaces, strict=True)
        ]
        joint_action_size = sum(map(encoded_size, team.action_spaces))
        self.critics = [
            ActionValueCritic(team.state_size, joint_action_size, c.hidden_sizes, init) for _ in self.actors
        ]
        for critic in self.critics:
            critic.normaliser = self.critics[0].normaliser  # all see the same states
        self.target_actors, self.target_critics = copy.deepcopy(self.actors), copy.deepcopy(self.critics)
        for network, target in self._with_targets():
            target.normaliser = network.normaliser
            target.requires_grad_(False)
        self.replay_buffer = ReplayBuffer(team, c.buffer_size, c.envs)
        self.policy = nn.ModuleList(self.actors)
        self.parts = {
            "policy": self.policy,
            "critics": nn.ModuleList(self.critics),
            "target actors": nn.ModuleList(self.target_actors),
            "target critics": nn.ModuleList(self.target_critics),
            "replay buffer": self.replay_buffer,
            **self.generators,
            **give_optimisers("actor", self.actors, c.actor_lr, eps=1e-8),
            **give_optimisers("critic", self.critics, c.critic_lr, eps=1e-8),
        }

    def _with_targets(self) -> list[tuple[nn.Module, nn.Module]]:
        """Every network with its target."""
        networks: list[nn.Module] = [*self.actors, *self.critics]
        return list(zip(networks, [*self.target_actors, *self.target_critics], strict=True))

    @torch.no_grad()
    def act(
        self, observations: Sequence[Tensor], explore: bool, masks: Sequence[Tensor | None] | None = None
    ) -> list[Tensor]:
        """N x [E, O_i], masks N x [E, L_i] -> N x [E, A_i]: mu(o), or if exploring mu(o) with Gaussian noise.

        When exploring, discrete actions are drawn from the softmax of the logits. During the warm-up all are uniform.
        """
        c, generator = self.settings, self.generators["exploration"]
        warm_up = explore and self.steps < c.warmup_steps
        actions = []
        for actor, x, space, mask in zip(
            self.actors, observations, self.team.action_spaces, masks or [None] * self.team.size, strict=True
        ):
            output = actor(x)  # [E, A], or logits [E, L]
            if warm_up:
                output = torch.rand(output.shape, generator=generator) * 2 - 1
            elif explore:
                z = torch.randn(output.shape, generator=generator)
                output = output + gumbel(z) if actor.is_discrete else (output + c.exploration_noise * z).clamp(-1, 1)
            actions.append(decode(output, space, mask))
        return actions

    def update(self, rollout: Rollout) -> list[Diagnostics]:
        """Store the rollout, then take `update_to_data` gradient steps per environment step, none for the warm-up nor
        for rollouts after which fewer than `n_step` steps are stored.

        Returns the diagnostics of the last gradient step, and nothing where none was taken.
        """
        rollout.check(self.team)
        c = self.settings
        before = max(self.steps, c.warmup_steps)
        self.steps += rollout.reward.numel()
        self.replay_buffer.add(rollout)
        self._update_normalisers(rollout)
        due = int(c.update_to_data * self.steps) - int(c.update_to_data * before)
        rows: list[Diagnostics] = []
        if self.replay_buffer.filled < c.n_step:
            return rows
        for _ in range(due):
            batch = self.replay_buffer.sample(c.batch_size, c.n_step, c.gamma, self.generators["minibatches"])
            rows = self._gradient_step(batch)
        check_finite(rows, [*self.actors, *self.critics])
        return rows

    def _gradient_step(self, batch: Transitions) -> list[Diagnostics]:
        """One step of every critic, then of every actor, then of every target."""
        actions = self._encoded(batch.actions, batch.active)
        with torch.no_grad():
            mu = [
                decode(target(x), space, mask)
                for target, x, space, mask in zip(
                    self.target_actors, batch.next_observations, self.team.action_spaces, batch.next_masks, strict=True
                )
            ]
            next_actions = self._encoded(mu, batch.next_active)
        rows: list[Diagnostics] = []
        for i, (critic, target) in enumerate(zip(self.critics, self.target_critics, strict=True)):
            rows.append({"agent": str(i), **self._critic_step(critic, target, batch, actions, next_actions)})
        for i in range(self.team.size):
            rows[i]["objective"] = self._actor_step(i, batch, actions)
        for network, target_network in self._with_targets():
            soft_update(target_network, network, self.settings.tau)
        self.gradient_updates += 1
        return rows

    def _critic_step(
        self,
        critic: ActionValueCritic,
        target: ActionValueCritic,
        batch: Transitions,
        actions: list[Tensor],
        next_actions: list[Tensor],
    ) -> Diagnostics:
        """One step on the squared error to y = R + gamma^m Q'(s', mu'(o')), R the sum of m discounted rewards."""
        with torch.no_grad():
            next_q = target(batch.next_state, next_actions)
            y = batch.reward_sum + batch.discount * next_q.masked_fill(batch.discount == 0, 0)  # [B]
        q = critic(batch.state, actions)
        loss = nn.functional.mse_loss(q, y)
        minimise(loss, critic, self.settings.max_grad_norm)
        return {"critic_loss": loss.item(), "q_mean": q.mean().item()}

    def _actor_step(self, i: int, batch: Transitions, actions: list[Tensor]) -> float:
        """One step up E[Q_i], the agent's own action from its policy and the others' from the replay buffer."""
        actor, critic, space = self.actors[i], self.critics[i], self.team.action_spaces[i]
        mu = actor(batch.observations[i])
        if isinstance(space, Discrete):
            noise = torch.randn(mu.shape, generator=self.generators["minibatches"])
            mu = gumbel_softmax(mu, space.choices, batch.masks[i], noise, self.settings.gumbel_temperature)
        critic.requires_grad_(False)  # only the actor learns here
        q = critic(batch.state, [*actions[:i], mu, *actions[i + 1 :]])
        critic.requires_grad_(True)
        if batch.active is None:
            objective = q.mean()
        else:
            active = batch.active[:, i]
            objective = (q * active).sum() / active.sum().clamp(min=1)
        minimise(-objective, actor, self.settings.max_grad_norm)
        return objective.item()

    def _encoded(self, actions: Sequence[Tensor], active: Tensor | None) -> list[Tensor]:
        """Actions as critics see them, zeros where an agent has left.  N x [B, A_i], [B, N] -> N x [B, encoded size]"""
        encoded = [encode(a, space) for a, space in zip(actions, self.team.action_spaces, strict=True)]
        return encoded if active is None else [a * here[:, None] for a, here in zip(encoded, active.T, strict=True)]

    def _update_normalisers(self, rollout: Rollout) -> None:
        """Update the normalisers, which targets share with their networks, with the new observations and states."""
        for i, (actor, x) in enumerate(zip(self.actors, rollout.observations, strict=True)):
            actor.normaliser.update(x[:-1][rollout.active_samples([i])])
        self.critics[0].normaliser.update(rollout.state[:-1])

    def state_dict(self) -> dict[str, Any]:
        """Networks, targets, normalisers, optimisers, replay buffer, generators and counters."""
        return {"gradient_updates": self.gradient_updates, "steps": self.steps, **pack(self.parts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        unpack(self.parts, state)
        self.gradient_updates, self.steps = state["gradient_updates"], state["steps"]


def decode(output: Tensor, space: Space, mask: Tensor | None) -> Tensor:
    """The action of an actor's output: itself, or the likeliest allowed choices.  [.., A] or [.., L] -> [.., A]"""
    return argmax(masked(output, mask), space.choices) if isinstance(space, Discrete) else output


@torch.no_grad()
def soft_update(target: nn.Module, network: nn.Module, tau: float) -> None:
    """target += tau (network - target), parameter by parameter."""
    for p_target, p in zip(target.parameters(), network.parameters(), strict=True):
        p_target.lerp_(p, tau)
