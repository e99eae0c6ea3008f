"""Multi-agent trust-region learning without approximation, on finite Markov games whose model is known (Kuba et al.,
ICLR 2022, arXiv 2109.11251): the ground truth that HATRPO and HAPPO approximate.

Letters are the paper's. pi is the joint policy before the update, one tensor [S, A_i] per agent; rho its discounted
state distribution, V and Q its values, A = Q - V. Agents are updated in an order i_1, ..., i_n; `agents` are the first
m of them, `updated` the new policies of i_1, ..., i_{m-1}, and `candidate` one that i_m may choose. All tensors are
float64. Updates leave actions of probability 0 at 0; `compound_advantage` needs positive policies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

JointPolicy = Sequence[Tensor]
"""n tensors [S, A_i] of probabilities."""

LARGEST_KL = 30.0
"""Bound of the search for KLmax, which without a penalty (C = 0) would have no end. At this KL from a policy that is
not yet greedy the gain that is left is about e^-30 of the whole."""

NEVER = 1e-300
"""Probabilities up to this one count as 0."""


@dataclass(frozen=True)
class Game:
    """A cooperative Markov game of n agents, S states and A_i actions of agent i, that never ends. float64."""

    transition: Tensor
    """[S, A_1, ..., A_n, S]: the probability of the next state, on the last axis."""
    reward: Tensor
    """[S, A_1, ..., A_n]: the team reward."""
    initial: Tensor
    """[S]: the probability of the first state."""
    gamma: float
    """Discount, at least 0 and below 1."""

    def __post_init__(self) -> None:
        for name in ("transition", "reward", "initial"):
            if getattr(self, name).dtype != torch.float64:
                raise ValueError(f"{name} must be float64, not {getattr(self, name).dtype}")
        S = len(self.initial)
        for name, shape in (("reward", (S, *self.actions)), ("transition", (S, *self.actions, S)), ("initial", (S,))):
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} is {[*getattr(self, name).shape]}, not {[*shape]}")
        for name in ("transition", "initial"):
            p = getattr(self, name)
            if not ((p >= 0).all() and torch.allclose(p.sum(-1), torch.ones(()).double(), rtol=0, atol=1e-9)):
                raise ValueError(f"{name} holds no probabilities: they must be at least 0 and add up to 1")
        if not 0 <= self.gamma < 1:
            raise ValueError(f"gamma must be at least 0 and below 1, not {self.gamma}")

    @property
    def actions(self) -> tuple[int, ...]:
        """A_1, ..., A_n."""
        return tuple(self.reward.shape[1:])


# The joint policy's values


def average(x: Tensor, policies: JointPolicy) -> Tensor:
    """E_{a^1 ~ policies[0], ..., a^k ~ policies[k-1]}[x]: [S, A_1, ..., A_k, ...] -> [S, ...]"""
    for policy in policies:
        x = torch.einsum("sa,sa...->s...", policy, x)
    return x


def state_values(game: Game, pi: JointPolicy) -> Tensor:
    """V(s) = r_pi(s) + gamma sum_s' P_pi(s, s') V(s'), solved as (I - gamma P_pi) V = r_pi.  [S]"""
    P, r = average(game.transition, pi), average(game.reward, pi)  # [S, S], [S]
    V: Tensor = torch.linalg.solve(torch.eye(len(r), dtype=r.dtype) - game.gamma * P, r)
    return V


def action_values(game: Game, pi: JointPolicy) -> Tensor:
    """Q(s, a) = r(s, a) + gamma sum_s' P(s' | s, a) V(s').  [S, A_1, ..., A_n]"""
    return game.reward + game.gamma * game.transition @ state_values(game, pi)


def expected_return(game: Game, pi: JointPolicy) -> float:
    """J(pi) = E[sum_t gamma^t r(s_t, a_t)] = sum_s initial(s) V(s)."""
    return game.initial.dot(state_values(game, pi)).item()


def state_distribution(game: Game, pi: JointPolicy) -> Tensor:
    """rho(s) = sum_t gamma^t Pr(s_t = s), solved as (I - gamma P_pi)^T rho = initial.  [S]

    Its sum is 1 / (1 - gamma), as J is a sum over time; E_{s ~ rho} stands for the sum over s weighted by it.
    """
    P = average(game.transition, pi)
    rho: Tensor = torch.linalg.solve(torch.eye(len(P), dtype=P.dtype) - game.gamma * P.T, game.initial)
    return rho


# What a subset of agents contributes


def multi_agent_values(game: Game, pi: JointPolicy, agents: Sequence[int]) -> Tensor:
    """Q^{i_1:m}(s, a^{i_1:m}) = E_{a^-i_1:m ~ pi^-i_1:m}[Q(s, a^{i_1:m}, a^{-i_1:m})].  [S, A_{i_1}, ..., A_{i_m}]

    Without agents it is V, with all of them Q, its axes in their order (Kuba et al. 2022, definition 1).
    """
    others = [k for k in range(len(pi)) if k not in agents]
    Q = action_values(game, pi).permute(0, *(1 + k for k in [*others, *agents]))
    return average(Q, [pi[k] for k in others])


def multi_agent_advantage(game: Game, pi: JointPolicy, given: Sequence[int], agents: Sequence[int]) -> Tensor:
    """A^{i_1:m}(s, a^{j_1:k}, a^{i_1:m}) = Q^{j_1:k, i_1:m}(s, a^{j_1:k}, a^{i_1:m}) - Q^{j_1:k}(s, a^{j_1:k}),
    where `given` are j_1, ..., j_k and `agents` i_1, ..., i_m, disjoint and each in any order.

    Returns [S, A_{j_1}, ..., A_{j_k}, A_{i_1}, ..., A_{i_m}] (Kuba et al. 2022, definition 1). For all agents and none
    given it is the joint advantage A = Q - V. Decomposition lemma (lemma 1 there):
    A^{i_1:m}(s, a^{i_1:m}) = sum_j A^{i_j}(s, a^{i_1:j-1}, a^{i_j}).
    """
    if len({*given, *agents}) < len(given) + len(agents):
        raise ValueError(f"agents must be named once each, not {[*given]} and {[*agents]}")
    Q, baseline = (multi_agent_values(game, pi, subset) for subset in ([*given, *agents], given))
    return Q - baseline[(..., *[None] * len(agents))]


def expected_advantage(game: Game, pi: JointPolicy, agents: Sequence[int], updated: JointPolicy) -> Tensor:
    """g(s, a^{i_m}) = E_{a^{i_1:m-1} ~ updated}[A^{i_m}(s, a^{i_1:m-1}, a^{i_m})], what i_m can gain.  [S, A_{i_m}]"""
    *before, last = agents
    return average(multi_agent_advantage(game, pi, before, [last]), updated)


def surrogate(game: Game, pi: JointPolicy, agents: Sequence[int], updated: JointPolicy, candidate: Tensor) -> float:
    """L^{i_1:m}(updated, candidate) = E_{s ~ rho, a^{i_1:m-1} ~ updated, a^{i_m} ~ candidate}[A^{i_m}(s, a^{i_1:m-1},
    a^{i_m})] (Kuba et al. 2022, definition 2): 0 where the candidate is the agent's old policy."""
    g = expected_advantage(game, pi, agents, updated)
    return state_distribution(game, pi).dot(average(g, [candidate])).item()


def compound_advantage(game: Game, pi: JointPolicy, agents: Sequence[int], updated: JointPolicy) -> Tensor:
    """M(s, a) = (prod_{j<m} updated^{i_j}(a^{i_j}|s) / pi^{i_j}(a^{i_j}|s)) A(s, a).  [S, A_1, ..., A_n]

    With ratio = candidate / pi^{i_m}, E_{s ~ rho, a ~ pi}[(ratio - 1) M] = L^{i_1:m}(updated, candidate) (Kuba et al.
    2022), so that samples of pi and the joint advantage are enough. The -1 subtracts E[M], which no candidate changes.
    """
    M = multi_agent_advantage(game, pi, [], range(len(pi)))
    for i, policy in zip(agents[:-1], updated, strict=True):
        M = M * along(policy / pi[i], i, M.dim())
    return M


def along(x: Tensor, agent: int, dim: int) -> Tensor:
    """[S, A_i] -> [S, 1, ..., A_i, ..., 1], to be multiplied with what has the axes of all agents."""
    return x.view(len(x), *(x.shape[1] if k == agent + 1 else 1 for k in range(1, dim)))


# The lower bound


def kl(old: Tensor, new: Tensor) -> Tensor:
    """KL(old(.|s), new(.|s)) = sum_a old log(old / new), in each state.  [S, A_i] -> [S]

    Each term has new - old added, which sums to 0 and leaves none negative: so small divergences keep their digits.
    """
    change = new - old
    relative = change / old
    log_ratio = torch.where(relative.abs() < 0.5, torch.log1p(relative), torch.log(new / old))
    return (change - torch.where(old > NEVER, old * log_ratio, 0.0)).sum(-1)


def kl_max(old: Tensor, new: Tensor) -> float:
    """D_KL^max(old, new) = max_s KL(old(.|s), new(.|s))."""
    return kl(old, new).max().item()


def penalty_coefficient(game: Game, pi: JointPolicy) -> float:
    """C = 4 gamma max_{s,a} |A(s, a)| / (1 - gamma)^2, A the joint advantage."""
    A = multi_agent_advantage(game, pi, [], range(len(pi)))
    return 4 * game.gamma * A.abs().max().item() / (1 - game.gamma) ** 2


def lower_bound(game: Game, pi: JointPolicy, new: JointPolicy, order: Sequence[int]) -> float:
    """J(pi) + sum_m [L^{i_1:m}(new^{i_1:m-1}, new^{i_m}) - C KLmax(pi^{i_m}, new^{i_m})], which is at most J(new), for
    any order i_1, ..., i_n (Kuba et al. 2022, lemma 2). `new` has agent i's policy at i."""
    _check_order(order, len(pi))
    C = penalty_coefficient(game, pi)
    bound = expected_return(game, pi)
    for m, i in enumerate(order):
        updated = [new[j] for j in order[:m]]
        penalty = C * kl_max(pi[i], new[i]) if C else 0.0  # the KL is infinite where an action is dropped
        bound += surrogate(game, pi, order[: m + 1], updated, new[i]) - penalty
    return bound


# One iteration


def sequential_update(game: Game, pi: JointPolicy, order: Sequence[int], delta: float | None = None) -> list[Tensor]:
    """new^{i_m} = argmax_candidate L^{i_1:m}(new^{i_1:m-1}, candidate) - C KLmax(pi^{i_m}, candidate), m = 1, ..., n.

    Multi-agent policy iteration with monotonic improvement (Kuba et al. 2022, algorithm 1): J(new) >= J(pi), for any
    order. With `delta` each agent maximises L^{i_1:m} within a mean KL of delta instead, which HATRPO approximates and
    which has no such guarantee. Returns n policies [S, A_i], agent i's at i.
    """
    _check_order(order, len(pi))
    new = list(pi)
    for m, i in enumerate(order):
        g = expected_advantage(game, pi, order[: m + 1], [new[j] for j in order[:m]])
        new[i] = best_response(game, pi, i, g, delta)
    return new


def _check_order(order: Sequence[int], n: int) -> None:
    if sorted(order) != list(range(n)):
        raise ValueError(f"order is {[*order]}, which does not name each agent from 0 to {n - 1} once")


def simultaneous_update(game: Game, pi: JointPolicy, delta: float | None = None) -> list[Tensor]:
    """new^i = argmax_candidate L^i(candidate) - C KLmax(pi^i, candidate), for all agents against the old joint policy.

    Any one of these steps alone keeps J(new) >= J(pi); all of them together may lower J, as each was chosen as if the
    others stayed. `delta` as in `sequential_update`. Returns n policies [S, A_i].
    """
    return [best_response(game, pi, i, expected_advantage(game, pi, [i], []), delta) for i in range(len(pi))]


def best_response(game: Game, pi: JointPolicy, i: int, g: Tensor, delta: float | None) -> Tensor:
    """Agent i's new policy, penalised, or within delta where that is given.  g [S, A_i] -> [S, A_i]"""
    rho = state_distribution(game, pi)
    if delta is None:
        return maximise_penalised(rho, g, pi[i], penalty_coefficient(game, pi))
    return maximise_within(rho, g, pi[i], delta)


# The maximisers. Both have their maximum among the policies of `tilt`, one number z(s) in each state: what is left is
# one number for all states, the KL bound d or the multiplier, and it is found where the slope changes its sign.


def gaps(old: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """(max g - g(a)) / w and w = max g - min g, in each state, the maximum over what old takes.  [S, A], [S]"""
    best = g.masked_fill(old <= NEVER, -torch.inf).amax(-1, keepdim=True)
    gap = (best - g).clamp(min=0)
    w = gap.amax(-1)
    return gap / w.clamp(min=NEVER)[:, None], w


def tilt(old: Tensor, gap: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """argmax_p sum_a p(a) g(a) - lambda KL(old, p) in each state: p(a) = old(a) / (1 + z gap(a)) / Z, from
    g(a) + lambda old(a) / p(a) = nu with nu = max g + w / z. (old exp(g / lambda) / Z would be that of KL(p, old).)

    old, gap [S, A], z [..., S] -> p [..., S, A] and lambda / w = 1 / (z Z) [..., S], which falls in z.
    """
    weight = old / (1 + z[..., None] * gap)
    Z = weight.sum(-1)
    return weight / Z[..., None], 1 / (z * Z)


def maximise_penalised(rho: Tensor, g: Tensor, old: Tensor, C: float) -> Tensor:
    """argmax_new sum_s rho(s) sum_a new(a|s) g(s, a) - C max_s KL(old(.|s), new(.|s)).  rho [S], g, old, new [S, A]

    For a given d = max_s KL each state takes its best policy with KL(old, new) = d. The slope of the maximum in d is
    sum_s rho(s) lambda(s) - C, and falls. Never worse than `old`, which is kept where nothing better was found.
    """
    gap, w = gaps(old, g)

    def bounded(d: Tensor) -> tuple[Tensor, Tensor]:
        z = bisect(lambda z: kl(old, tilt(old, gap, z)[0]) < d[:, None], (len(d), len(rho)))
        return tilt(old, gap, z)

    d = last_where(lambda d: bounded(d)[1] @ (rho * w) > C, 1e-24, LARGEST_KL)
    new = bounded(d)[0][0]
    gain = rho.dot(average(g, [new - old])).item() - C * kl_max(old, new)
    return new if gain > 0 else old


def maximise_within(rho: Tensor, g: Tensor, old: Tensor, delta: float) -> Tensor:
    """argmax_new sum_s rho(s) sum_a new(a|s) g(s, a), s.t. E_{s ~ rho}[KL(old(.|s), new(.|s))] <= delta.

    lambda is the same in all states, and the mean KL falls in it. The mean is over rho / sum rho.
    """
    gap, w = gaps(old, g)

    def multiplied(inverse: Tensor) -> Tensor:
        """By 1 / lambda, in units of the largest w.  [K] -> [K, S, A]"""
        wanted = w / w.max().clamp(min=NEVER) * inverse[:, None]
        z = bisect(lambda z: tilt(old, gap, z)[1] * wanted > 1, (len(inverse), len(rho)))
        return tilt(old, gap, z)[0]

    inverse = last_where(lambda x: kl(old, multiplied(x)) @ (rho / rho.sum()) <= delta, 1e-12, 1e12)
    new = multiplied(inverse)[0]
    return new if rho.dot(average(g, [new - old])) > 0 else old


def bisect(is_below: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> Tensor:
    """The z in [1e-15, 1e300] at which `is_below` turns from true to false, for each element; halved in log z."""
    low, high = torch.full(shape, log(1e-15)).double(), torch.full(shape, log(1e300)).double()
    for _ in range(46):
        middle = (low + high) / 2
        below = is_below(middle.exp())
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return low.exp()


def last_where(holds: Callable[[Tensor], Tensor], low: float, high: float) -> Tensor:
    """The largest x in [low, high] up to which `holds` is true, to a millionth of it, from 128 at a time.  [1]"""
    left, right = log(low), log(high)
    for _ in range(4):
        x = torch.linspace(left, right, 128, dtype=torch.float64)
        k = int(holds(x.exp()).long().cumprod(0).sum())
        left, right = x[max(k - 1, 0)].item(), x[min(k, 127)].item()
    return torch.tensor([left], dtype=torch.float64).exp()
