"""IPPO, MAPPO, HAPPO and HATRPO: one loop with three choices.

|        | critic sees     | actors move | one actor's step |
|--------|-----------------|-------------|------------------|
| ippo   | own observation | all at once | clip             |
| mappo  | state           | all at once | clip             |
| happo  | state           | one by one  | clip             |
| hatrpo | state           | one by one  | trust region     |

"One by one" (Kuba et al., ICLR 2022): agents move in an order drawn anew at each update, and agent m climbs
E[(new^m / old^m) M_m] with M_m = (prod_{j<m} new^j / old^j) A(s, a), the advantage times the ratios of those before it.
"All at once" leaves that factor at 1. That is the whole difference between MAPPO and HAPPO: see `_move_actors`.

Of an agent that leaves early the steps without it do not count: they enter neither its actor's step, moments and
diagnostics nor its part of the factor, and own advantages are standardised without them. Critics are fitted at all
steps, those of own observations to the zeros that an absent agent sees (death masking, Yu et al. 2022).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from algorithms.categorical import decode, gumbel, width
from algorithms.config import ClipSettings, OnPolicySettings, SettingError
from algorithms.networks import Stack, StochasticActor, ValueCritic, descend, optimisers, stacked, stochastic_actor
from algorithms.returns import explained_variance, gae, standardise
from algorithms.rollout import Discrete, Rollout, Row, Team, check_finite, generators, minibatches, pack, unpack

CriticSees = Literal["own observation", "state"]
ActorsMove = Literal["all at once", "one by one"]
Step = Callable[..., tuple[Tensor, Row]]
View = tuple[Tensor, Tensor]
"""What a critic sees of a rollout: the rows [T + 1, E, F] and the true successors at episode ends [K, F]."""


class OnPolicy:
    """A team of actors and one or more critics that learn from what the current policies just did."""

    def __init__(
        self,
        team: Team,
        settings: OnPolicySettings,
        seeds: Mapping[str, int],
        *,
        critic_sees: CriticSees,
        actors_move: ActorsMove,
        step: Step,
    ):
        for key, told, valid in (("critic_sees", critic_sees, CriticSees), ("actors_move", actors_move, ActorsMove)):
            if told not in get_args(valid):
                raise SettingError(key, f"{told!r} is none of: {', '.join(get_args(valid))}")
        self.team, self.settings = team, settings
        self.critic_sees, self.actors_move, self.step = critic_sees, actors_move, step
        self.generators = generators(seeds)
        self.gradient_updates = 0
        self.steps = 0
        c, init = settings, self.generators["initialisation"]

        self.appends_id = c.share_actors and not team.observes_id
        agents = range(team.size)
        self.groups = [list(agents)] if c.share_actors else [[i] for i in agents]  # the agents of each actor
        sizes = [size + team.size * self.appends_id for size in team.observation_sizes]
        self.actors = [
            stochastic_actor(sizes[i], team.action_spaces[i], c.hidden_sizes, c.initial_log_std, init)
            for i, *_ in self.groups
        ]
        inputs = [team.state_size] if critic_sees == "state" else [sizes[i] for i, *_ in self.groups]
        self.critics = [ValueCritic(size, c.hidden_sizes, init) for size in inputs]

        self.policy = nn.ModuleList(self.actors)
        self._stack: Stack | None = None  # what acts, until the policy changes
        self.policy.register_load_state_dict_post_hook(lambda *_: vars(self).update(_stack=None))
        self.parts = {"policy": self.policy, "critics": nn.ModuleList(self.critics), **self.generators}
        if isinstance(c, ClipSettings):  # a trust-region step needs no optimiser
            self.parts |= optimisers("actor", self.actors, c.actor_lr, eps=1e-5)
        self.parts |= optimisers("critic", self.critics, c.critic_lr, eps=1e-5)

    @torch.no_grad()
    def act(
        self, observations: Sequence[Tensor], explore: bool, masks: Sequence[Tensor | None] | None = None
    ) -> list[Tensor]:
        """N x [E, O_i], masks N x [E, L_i] -> N x [E, A_i]; tails of samples reach beyond [-1, 1], environments clip.

        A normal number z serves a Gaussian as it is, and a categorical as the Gumbel noise of u = Phi(z).
        """
        spaces = self.team.action_spaces
        if self._stack is None:
            actors = [actor for actor, group in zip(self.actors, self.groups, strict=True) for _ in group]
            self._stack = Stack(actors, [actor.network for actor in actors])
            self._scale = stacked([actor.noise_scale[None] for actor in actors])  # [N, 1, A]
            discrete = torch.tensor([isinstance(space, Discrete) for space in spaces])[:, None, None]
            self._discrete = discrete if discrete.any() else None
        seen = [self._with_id(x, i) for i, x in enumerate(observations)] if self.appends_id else observations
        output = self._stack(seen)  # [N, E, A]: means, or logits
        if explore:
            noise = torch.randn(output.shape, generator=self.generators["exploration"])
            if self._discrete is not None:
                noise = torch.where(self._discrete, gumbel(noise), noise)
            output.addcmul_(self._scale, noise)
        own = zip(spaces, output.unbind(), masks or [None] * len(spaces), strict=True)
        return [decode(a, x[:, : width(a)], mask) for a, x, mask in own]

    def update(self, rollout: Rollout) -> list[Row]:
        """One iteration: advantages by the critics as they are, then actors, then critics, then the moments."""
        self._decay_step_sizes()
        views = self._critic_views(rollout)
        estimates = [
            [self._estimate(critic, view, rollout) for view in group]
            for critic, group in zip(self.critics, views, strict=True)
        ]
        plain = [A for group in estimates for A, _ in group]
        if self.critic_sees == "state":
            advantages = [standardise(plain[0])] * self.team.size  # the joint advantage serves every agent
        else:
            advantages = [standardise(A, rollout.there([i])) for i, A in enumerate(plain)]
        rows = self._move_actors(rollout, advantages)
        rows.append(self._fit_critics(views, estimates))
        self._update_moments(rollout, views)
        self._stack = None
        self.steps += rollout.reward.numel()
        check_finite(rows, [*self.actors, *self.critics])
        return rows

    def _decay_step_sizes(self) -> None:
        """Adam's step size is lr max(0, 1 - steps before this update / lr_decay_steps)."""
        if not self.settings.lr_decay_steps:
            return
        left = max(0.0, 1 - self.steps / self.settings.lr_decay_steps)
        for part in self.parts.values():
            if isinstance(part, torch.optim.Optimizer):
                part.param_groups[0]["lr"] = part.defaults["lr"] * left

    def _move_actors(self, rollout: Rollout, advantages: list[Tensor]) -> list[Row]:
        """Each actor takes its step on M = factor * A, where the factor compounds if actors move one by one."""
        order = list(range(len(self.actors)))
        if self.actors_move == "one by one":
            order = torch.randperm(len(order), generator=self.generators["order"]).tolist()
        rows: list[Row] = []
        factor = torch.ones_like(rollout.reward)  # [T, E]
        for position, k in enumerate(order):
            actor, group = self.actors[k], self.groups[k]
            there = rollout.there(group)
            # A shared actor sees its agents side by side, as if each were another set of environments.
            seen = torch.cat([self._seen(rollout, actor, i) for i in group], dim=1)[there]
            action = torch.cat([rollout.actions[i] for i in group], dim=1)[there]
            M = torch.cat([factor * advantages[i] for i in group], dim=1)
            ratio, row = torch.ones_like(M), Row()
            if len(seen):
                c, generator = self.settings, self.generators["minibatches"]
                new_over_old, row = self.step(actor, seen, action, M[there], c, generator)
                if new_over_old.shape != seen.shape[:-1]:
                    raise ValueError(f"the step's ratio is {[*new_over_old.shape]}, not {[*seen.shape[:-1]]}")
                ratio[there] = new_over_old
            rows += [{"agent": str(i), "position": position, **_factor_row(factor), **row} for i in group]
            check_finite(rows, [actor])
            if self.actors_move == "one by one":
                factor = factor * ratio
        return rows

    def _seen(self, rollout: Rollout, actor: StochasticActor, i: int) -> Tensor:
        """What an actor sees of agent i: the normalised observation, and behind it the mask if there is one."""
        seen = actor.see(self._with_id(rollout.observations[i][:-1], i))
        mask = rollout.masks[i] if rollout.masks else None
        return seen if mask is None else torch.cat([seen, mask[:-1]], dim=-1)

    def _estimate(self, critic: ValueCritic, view: View, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """GAE of what one critic sees, and its targets A + V.  -> [T, E], [T, E]"""
        x, x_end = view
        with torch.no_grad():
            value = critic.value(x)
            following = rollout.successors(value, critic.value(x_end))
        c = self.settings
        A = gae(rollout.reward, value[:-1], following, rollout.terminated, rollout.truncated, c.gamma, c.gae_lambda)
        return A, A + value[:-1]

    def _fit_critics(self, views: list[list[View]], estimates: list[list[tuple[Tensor, Tensor]]]) -> Row:
        """Huber regression of every critic on its standardised targets."""
        c, losses, explained = self.settings, [], []
        for critic, group, targets in zip(self.critics, views, estimates, strict=True):
            seen = critic.see(torch.cat([x[:-1] for x, _ in group], dim=1)).flatten(0, 1)
            returns = torch.cat([G for _, G in targets], dim=1).flatten()
            advantages = torch.cat([A for A, _ in targets], dim=1).flatten()
            explained.append(explained_variance(returns - advantages, returns))
            critic.returns.update(returns)
            target = critic.returns.normalise(returns)
            data = [seen, target]
            if c.value_clip:
                with torch.no_grad():
                    data.append(critic(seen))

            def fit(value: Tensor, *rest: Tensor) -> Tensor:
                return value_loss(c, value.squeeze(-1), *rest)

            for _ in range(c.critic_epochs):
                for part in minibatches(len(target), c.critic_minibatches, self.generators["minibatches"]):
                    loss, _ = descend(critic, critic.scaled_value, fit, [x[part] for x in data], c.max_grad_norm)
            losses.append(loss)
        self.gradient_updates += c.critic_epochs * c.critic_minibatches
        return {
            "agent": "team",
            "critic_loss": sum(losses) / len(losses),
            "explained_variance": sum(explained) / len(explained),
        }

    def _update_moments(self, rollout: Rollout, views: list[list[View]]) -> None:
        """Take the rollout's observations into the normalisers, which stood still until now."""
        for actor, group in zip(self.actors, self.groups, strict=True):
            seen = torch.cat([self._with_id(rollout.observations[i][:-1], i) for i in group], dim=1)
            actor.moments.update(seen[rollout.there(group)])
        for critic, group_views in zip(self.critics, views, strict=True):
            critic.moments.update(torch.cat([x[:-1] for x, _ in group_views], dim=1))

    def _critic_views(self, rollout: Rollout) -> list[list[View]]:
        """What each critic sees: the state, or the observations of the agents that it judges."""
        if self.critic_sees == "state":
            return [[(rollout.state, rollout.end_state)]]
        return [
            [(self._with_id(rollout.observations[i], i), self._with_id(rollout.end_observations[i], i)) for i in group]
            for group in self.groups
        ]

    def _with_id(self, observation: Tensor, agent: int) -> Tensor:
        """The observation with the agent's one-hot index behind it, where actors are shared and it lacks one."""
        if not self.appends_id:
            return observation
        one_hot = observation.new_zeros(*observation.shape[:-1], self.team.size)
        one_hot[..., agent] = 1
        return torch.cat([observation, one_hot], dim=-1)

    def state_dict(self) -> dict[str, Any]:
        """Networks, moments, optimisers, generators and counters."""
        return {"gradient_updates": self.gradient_updates, "steps": self.steps, **pack(self.parts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.gradient_updates, self.steps = state["gradient_updates"], state["steps"]
        unpack(self.parts, state)


def value_loss(c: OnPolicySettings, V: Tensor, G: Tensor, V_old: Tensor | None = None) -> Tensor:
    """max(h(V - G), h(V_old + clip(V - V_old, -epsilon, epsilon) - G)), epsilon = value_clip and h Huber's loss.

    A sample pulls V towards its target by no more than epsilon per update, as in OpenAI's code of PPO.
    Without V_old it is h(V - G). All are [B], in standard deviations of returns.
    """
    loss = nn.functional.huber_loss(V, G, delta=c.huber_delta, reduction="none")
    if V_old is None:
        return loss
    near = V.clamp(V_old - c.value_clip, V_old + c.value_clip)
    return torch.max(loss, nn.functional.huber_loss(near, G, delta=c.huber_delta, reduction="none"))


def _factor_row(factor: Tensor) -> Row:
    """The compounded ratio of the agents that moved before: its tail is heavy when they are many.

    The effective sample size (sum f)^2 / (n sum f^2) is the share of samples that still count.
    """
    return {
        "factor_mean": factor.mean().item(),
        "factor_max": factor.max().item(),
        "factor_ess": (factor.sum() ** 2 / (factor.numel() * factor.square().sum())).item(),
    }
