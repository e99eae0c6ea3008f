"""IPPO, MAPPO, HAPPO and HATRPO: one loop with three choices.

|        | critic        | update       | one actor's step |
|--------|---------------|--------------|------------------|
| ippo   | decentralised | simultaneous | clip             |
| mappo  | centralised   | simultaneous | clip             |
| happo  | centralised   | sequential   | clip             |
| hatrpo | centralised   | sequential   | trust region     |

In a sequential update (Kuba et al., ICLR 2022) agents are updated one after another, in a new random order each time.
Let ratio_m = new(a^m|o^m) / old(a^m|o^m) for the m-th agent of that order. Its step climbs E[ratio_m M_m], where
M_m = (prod_{j<m} ratio_j) A(s, a) weights the samples as if the agents before it had already acted by their new
policies. The gains E[(ratio_m - 1) M_m] of all agents add up to that of the team, E[(prod_j ratio_j - 1) A]. In a
simultaneous update the factor stays 1. MAPPO and HAPPO differ in this factor and the random order, and in nothing else:
see `_update_actors`, `_weighted` and `_order`.

Where an agent has left, its samples enter neither its actor's step nor its normaliser, and its ratio counts as 1 in the
factor. A centralised critic's advantage is standardised over all steps, a decentralised one's over those of its agent.
Critics are fitted on all steps, which all enter their normalisers; where an agent is absent its decentralised critic's
input is a zero observation (death masking, Yu et al. 2022), with the agent's index where that is appended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from algorithms import fast
from algorithms.advantages import explained_variance, gae, standardise
from algorithms.config import ClipSettings, OnPolicySettings, TrustRegionSettings
from algorithms.distributions import Policy, encoded_size
from algorithms.networks import ValueCritic, give_optimisers, minimise, stochastic_actor
from algorithms.rollout import (
    Diagnostics,
    Rollout,
    Samples,
    Team,
    check_finite,
    generators,
    minibatches,
    pack,
    unpack,
)
from algorithms.validation import SettingError

Critic = Literal["centralised", "decentralised"]
Update = Literal["simultaneous", "sequential"]
Step = Callable[..., tuple[Tensor, Diagnostics]]
"""step(actor, samples, M [B], settings, generator) -> (ratio [B], diagnostics); the generator draws minibatches."""


@dataclass
class CriticData:
    """What one critic sees of a rollout and learns from: the state, or the observations of one agent."""

    x: Tensor
    """[T, E, F]"""
    advantage: Tensor
    """[T, E], by the critic before it learns."""
    returns: Tensor
    """[T, E]: A + V, what the critic is fitted to."""


class OnPolicy:
    """A team of actors and one or more critics that learn from what the current policies just did."""

    def __init__(
        self,
        team: Team,
        settings: OnPolicySettings,
        seeds: Mapping[str, int],
        *,
        critic: Critic,
        update: Update,
        step: Step,
    ):
        for key, value, valid in (("critic", critic, Critic), ("update", update, Update)):
            if value not in get_args(valid):
                raise SettingError(key, f"{value!r} is none of: {', '.join(get_args(valid))}")
        if settings.share_actors and update == "sequential":
            raise SettingError(
                "share_actors", "must be false in a sequential update: the actor would change between agents"
            )
        self.team, self.settings = team, settings
        self.is_centralised, self.is_sequential, self.actor_step = critic == "centralised", update == "sequential", step
        self.generators = generators(seeds)
        self.gradient_updates = 0
        self.steps = 0
        c, init = settings, self.generators["initialisation"]

        # groups[k]: the agents for which actor k acts
        self.groups = [list(range(team.size))] if c.share_actors else [[i] for i in range(team.size)]
        self.appends_id = c.share_actors is True and not team.observes_id
        sizes = [size + team.size * self.appends_id for size in team.observation_sizes]
        self.actors = [
            stochastic_actor(sizes[i], team.action_spaces[i], c.hidden_sizes, c.initial_log_std, init)
            for i, *_ in self.groups
        ]
        self.actor_of = [actor for actor, group in zip(self.actors, self.groups, strict=True) for _ in group]  # agent i
        critic_sizes = [team.state_size] if self.is_centralised else [sizes[i] for i, *_ in self.groups]
        self.critics = [ValueCritic(size, c.hidden_sizes, init) for size in critic_sizes]

        self.policy = nn.ModuleList(self.actors)
        self._batched: fast.BatchedActors | None = None  # a copy of the actors' parameters, until they change
        for actor in self.actors:
            actor.register_load_state_dict_post_hook(self._policy_changed)
        self.parts = {"policy": self.policy, "critics": nn.ModuleList(self.critics), **self.generators}
        if isinstance(c, ClipSettings):  # a trust-region step needs no optimiser
            self.parts |= give_optimisers("actor", self.actors, c.actor_lr, eps=1e-5)
        self.parts |= give_optimisers("critic", self.critics, c.critic_lr, eps=1e-5)

    @torch.no_grad()
    def act(
        self, observations: Sequence[Tensor], explore: bool, masks: Sequence[Tensor | None] | None = None
    ) -> list[Tensor]:
        """N x [E, O_i], masks N x [E, L_i] -> N x [E, A_i]; samples may lie beyond [-1, 1], environments clip them."""
        policies = self.policies(observations, masks)
        if not explore:
            return [policy.mode for policy in policies]
        sizes = [encoded_size(space) for space in self.team.action_spaces]
        noise = torch.randn(len(observations[0]), sum(sizes), generator=self.generators["exploration"])
        return [policy.sample(z) for policy, z in zip(policies, noise.split(sizes, dim=-1), strict=True)]

    @torch.no_grad()
    def policies(self, observations: Sequence[Tensor], masks: Sequence[Tensor | None] | None = None) -> list[Policy]:
        """N x [E, O_i], masks N x [E, L_i] -> the distribution of each agent's action, of E samples.

        Raises ValueError for observations of other shapes.
        """
        found = [x.shape for x in observations]
        shapes = [(len(observations[0]), size) for size in self.team.observation_sizes]
        if found != shapes:
            raise ValueError(f"observations are {[[*shape] for shape in found]}, not {[[*shape] for shape in shapes]}")
        if self._batched is None:
            self._batched = fast.BatchedActors(self.actor_of)
        outputs = self._batched([self._with_id(x, i) for i, x in enumerate(observations)])
        masks = masks or [None] * self.team.size
        return [actor.distribution(y, mask) for actor, y, mask in zip(self.actor_of, outputs, masks, strict=True)]

    def update(self, rollout: Rollout) -> list[Diagnostics]:
        """One iteration: advantages by the present critics, then the actors' steps, then the critics' fit, then the
        normalisers of observations (that of returns is updated just before its critic's fit)."""
        rollout.check(self.team)
        self._policy_changed()
        self._decay_learning_rates()
        data = self._critic_data(rollout)
        if self.is_centralised:
            [[of_team]] = data
            advantages = [standardise(of_team.advantage)] * self.team.size  # the joint advantage serves every agent
        else:
            each = [x for group in data for x in group]
            advantages = [standardise(x.advantage, rollout.active_samples([i])) for i, x in enumerate(each)]
        rows = self._update_actors(rollout, advantages)
        rows.append(self._fit_critics(data) | {"kl_joint": sum(float(row.get("kl_mean", 0)) for row in rows)})
        self._update_normalisers(rollout, data)
        self.steps += rollout.reward.numel()
        check_finite(rows, [*self.actors, *self.critics])
        return rows

    def _policy_changed(self, *_: Any) -> None:
        """As by an update, or by `load_state_dict` of the policy or an actor; other changes go unnoticed."""
        self._batched = None

    def _update_actors(self, rollout: Rollout, advantages: list[Tensor]) -> list[Diagnostics]:
        """Each actor steps on M = factor * A, where the factor compounds in a sequential update.  A: N x [T, E]

        The agents of `group` are the paper's agent i_m, or all that share actor k.
        """
        waiting = self._order()
        rows: list[Diagnostics] = []
        factor = torch.ones_like(rollout.reward)  # [T, E]
        for position in range(len(waiting)):
            k = waiting.pop(self._next(rollout, waiting, factor, advantages))  # the first, unless the order is greedy
            group = self.groups[k]
            M = self._weighted(factor, advantages, group)
            ratio, row = self._step(rollout, k, M, self._step_settings(rows))
            rows += [{"agent": str(i), "position": position, **_factor_diagnostics(factor), **row} for i in group]
            check_finite(rows, [self.actors[k]])
            if self.is_sequential:
                factor = factor * ratio
        return rows

    def _weighted(self, factor: Tensor, advantages: list[Tensor], group: list[int]) -> Tensor:
        """M, the advantage of each of an actor's agents weighted by the factor.  [T, E], of a shared actor [T, E N]"""
        bound = self.settings.factor_bound
        weight = factor.clamp(max=bound) if bound else factor
        return torch.cat([weight * advantages[i] for i in group], dim=1)

    def _order(self) -> list[int]:
        """The actors in the order of their steps, as far as that is known before the first."""
        count = len(self.actors)
        if self.is_sequential and self.settings.order == "random":
            return torch.randperm(count, generator=self.generators["order"]).tolist()
        return list(range(count))

    def _next(self, rollout: Rollout, waiting: list[int], factor: Tensor, advantages: list[Tensor]) -> int:
        """The index in `waiting` of the next actor: 0, or in greedy order that of the steepest surrogate."""
        if self.settings.order != "greedy":
            return 0
        slopes = [
            self._surrogate_slope(rollout, k, self._weighted(factor, advantages, self.groups[k])) for k in waiting
        ]
        return max(range(len(waiting)), key=slopes.__getitem__)

    def _surrogate_slope(self, rollout: Rollout, k: int, M: Tensor) -> float:
        """The norm of the gradient of E[ratio M] at actor k's old policy, where it is that of E[log pi M].  M [T, E]"""
        active = rollout.active_samples(self.groups[k])
        if not active.any():
            return 0.0
        actor, samples = self.actors[k], self._samples(rollout, self.groups[k], active)
        surrogate = (actor(samples.observation, samples.mask).log_prob(samples.action) * M[active]).mean()
        gradient = torch.autograd.grad(surrogate, list(actor.parameters()))
        return parameters_to_vector(gradient).norm().item()

    def _step_settings(self, rows: Sequence[Diagnostics]) -> OnPolicySettings:
        """The settings of the next step: of a joint KL budget an equal share of what the agents of `rows` left."""
        c = self.settings
        if not isinstance(c, TrustRegionSettings) or c.kl_budget == "agent":
            return c
        left = c.delta - sum(float(row.get("kl_mean", 0)) for row in rows)
        return replace(c, delta=max(left, 0.0) / (self.team.size - len(rows)))

    def _step(self, rollout: Rollout, k: int, M: Tensor, settings: OnPolicySettings) -> tuple[Tensor, Diagnostics]:
        """Actor k's step on the samples of active agents; elsewhere the ratio is 1.  M [T, E] -> ratio [T, E]"""
        ratio, active = torch.ones_like(M), rollout.active_samples(self.groups[k])
        if not active.any():
            return ratio, {}
        samples = self._samples(rollout, self.groups[k], active)
        generator = self.generators["minibatches"]
        new_over_old, row = self.actor_step(self.actors[k], samples, M[active], settings, generator)
        if new_over_old.shape != (len(samples),):
            raise ValueError(f"the step's ratio is {[*new_over_old.shape]}, not {[len(samples)]}")
        ratio[active] = new_over_old.detach()
        return ratio, row

    def _samples(self, rollout: Rollout, group: list[int], active: Tensor) -> Samples:
        """The active samples of an actor's agents, laid side by side along the axis of environments."""
        observation = torch.cat([self._with_id(rollout.observations[i][:-1], i) for i in group], dim=1)
        action = torch.cat([rollout.actions[i] for i in group], dim=1)
        masks = [rollout.masks[i] for i in group] if rollout.masks else [None]
        mask = None if masks[0] is None else torch.cat([m[:-1] for m in masks if m is not None], dim=1)[active]
        return Samples(observation[active], action[active], mask)

    def _critic_data(self, rollout: Rollout) -> list[list[CriticData]]:
        """For each critic what it sees of the rollout: once for each agent it evaluates, or once if centralised."""
        if self.is_centralised:
            return [[self._estimate(self.critics[0], rollout, rollout.state, rollout.end_state)]]
        x, x_end = (
            [self._with_id(x, i) for i, x in enumerate(observations)]
            for observations in (rollout.observations, rollout.end_observations)
        )
        pairs = zip(self.critics, self.groups, strict=True)
        return [[self._estimate(critic, rollout, x[i], x_end[i]) for i in group] for critic, group in pairs]

    @torch.no_grad()
    def _estimate(self, critic: ValueCritic, rollout: Rollout, x: Tensor, x_end: Tensor) -> CriticData:
        """GAE by one critic, from rows [T + 1, E, F] and the true successors at episode ends [K, F]."""
        value = critic.value(x)
        next_value = rollout.successors(value, critic.value(x_end))
        c, r = self.settings, rollout
        A = gae(r.reward, value[:-1], next_value, r.terminated, r.truncated, c.gamma, c.gae_lambda)
        return CriticData(x[:-1], A, A + value[:-1])

    def _fit_critics(self, data: list[list[CriticData]]) -> Diagnostics:
        """Huber regression of every critic on its standardised returns."""
        c, losses, explained = self.settings, [], []
        for critic, group in zip(self.critics, data, strict=True):
            x = torch.cat([d.x for d in group], dim=1).flatten(0, 1)  # [B, F]
            returns = torch.cat([d.returns for d in group], dim=1).flatten()
            advantage = torch.cat([d.advantage for d in group], dim=1).flatten()
            explained.append(explained_variance(returns - advantage, returns))
            critic.return_normaliser.update(returns)
            target = critic.return_normaliser(returns)
            with torch.no_grad():
                old_value = critic(x) if c.value_clip else target  # without clipping nobody looks at it
            for _ in range(c.critic_epochs):
                for index in minibatches(len(x), c.critic_minibatches, self.generators["minibatches"]):
                    loss = value_loss(c, critic(x[index]), target[index], old_value[index])
                    minimise(loss, critic, c.max_grad_norm)
            losses.append(loss.item())
        self.gradient_updates += c.critic_epochs * min(c.critic_minibatches, len(x))
        return {
            "agent": "team",
            "critic_loss": sum(losses) / len(losses),
            "explained_variance": sum(explained) / len(explained),
        }

    def _update_normalisers(self, rollout: Rollout, data: list[list[CriticData]]) -> None:
        """Update the normalisers of observations, which have been the same throughout the update."""
        for actor, group in zip(self.actors, self.groups, strict=True):
            observation = torch.cat([self._with_id(rollout.observations[i][:-1], i) for i in group], dim=1)
            actor.normaliser.update(observation[rollout.active_samples(group)])
        for critic, of_critic in zip(self.critics, data, strict=True):
            critic.normaliser.update(torch.cat([d.x for d in of_critic], dim=1))

    def _decay_learning_rates(self) -> None:
        """lr max(0, 1 - steps before this update / lr_decay_steps)."""
        if not self.settings.lr_decay_steps:
            return
        left = max(0.0, 1 - self.steps / self.settings.lr_decay_steps)
        for part in self.parts.values():
            if isinstance(part, torch.optim.Optimizer):
                part.param_groups[0]["lr"] = part.defaults["lr"] * left

    def _with_id(self, observation: Tensor, agent: int) -> Tensor:
        """The observation, with the agent's one-hot index behind it where actors are shared and it lacks one."""
        if not self.appends_id:
            return observation
        one_hot = observation.new_zeros(*observation.shape[:-1], self.team.size)
        one_hot[..., agent] = 1
        return torch.cat([observation, one_hot], dim=-1)

    def state_dict(self) -> dict[str, Any]:
        """Networks, normalisers, optimisers, generators and counters."""
        return {"gradient_updates": self.gradient_updates, "steps": self.steps, **pack(self.parts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        unpack(self.parts, state)
        self.gradient_updates, self.steps = state["gradient_updates"], state["steps"]


def value_loss(c: OnPolicySettings, V: Tensor, G: Tensor, V_old: Tensor) -> Tensor:
    """E[max(h(V - G), h(V_old + clip(V - V_old, -epsilon, epsilon) - G))], epsilon = value_clip and h Huber's loss.

    A sample pulls V towards its target by no more than epsilon per update, as in OpenAI's code of PPO. With value_clip
    0 it is E[h(V - G)]. All are [B], in standard deviations of returns; V_old is the network's output before the fit,
    which is not rescaled to the updated normaliser of returns.
    """
    loss = nn.functional.huber_loss(V, G, delta=c.huber_delta, reduction="none")
    if c.value_clip:
        near = V.clamp(V_old - c.value_clip, V_old + c.value_clip)
        loss = torch.max(loss, nn.functional.huber_loss(near, G, delta=c.huber_delta, reduction="none"))
    return loss.mean()


def _factor_diagnostics(factor: Tensor) -> Diagnostics:
    """Of the compounded ratio of the agents updated before, in float64: its tail is heavy when they are many.

    The effective sample size (sum f)^2 / (n sum f^2) is the share of samples that still count.
    """
    f = factor.double()
    return {
        "factor_mean": f.mean().item(),
        "factor_max": f.max().item(),
        "factor_ess": (f.sum() ** 2 / (f.numel() * f.square().sum())).item(),
    }
