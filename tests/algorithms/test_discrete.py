"""Discrete actions, masks of them, and agents that leave before the episode ends."""

from __future__ import annotations

import copy
import dataclasses
import math
from itertools import accumulate, pairwise, product
from typing import Any

import pytest
import torch
from helpers import (
    EVERY,
    acted,
    build,
    finite,
    generator,
    hessian_of_the_mean_kl,
    masks_at,
    parameters,
    record_turns,
    rollout,
    same,
    seeds,
    team,
)
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

import algorithms
from algorithms import Discrete, Rollout, Samples, SettingError, Team
from algorithms.advantages import standardise
from algorithms.config import TrustRegionSettings
from algorithms.distributions import MaskedCategorical, argmax, encode, gumbel, gumbel_softmax, masked, one_hot
from algorithms.maddpg import decode
from algorithms.networks import CategoricalActor
from algorithms.replay_buffer import ReplayBuffer, transition_bytes
from algorithms.trust_region import fisher_vector_product, trust_region_step

PLAIN, MULTI = Discrete((4,)), Discrete((2, 3))
SPACES: dict[str, tuple[Any, ...]] = {
    "discrete": (PLAIN, Discrete((2,)), Discrete((3,))),
    "multi-discrete": (MULTI, PLAIN, Discrete((1, 2, 2))),
    "mixed": (MULTI, 1, PLAIN),
}
TEAMS: dict[str, Team] = {
    "discrete": team(actions=SPACES["discrete"]),
    "masked": team(actions=SPACES["discrete"], masked=True),
    "multi-discrete": team(actions=SPACES["multi-discrete"], masked=True),
    "mixed": team(actions=SPACES["mixed"], masked=True),
    "leaving": team(actions=SPACES["mixed"], masked=True, leaves=True),
    "continuous, leaving": team(leaves=True),
}


# The distribution


CHOICES = [(3,), (2, 3), (2, 1, 4)]


def joint_choices(choices: tuple[int, ...]) -> Tensor:
    """All joint choices, one a row."""
    return torch.tensor(list(product(*(range(n) for n in choices))), dtype=torch.float64)


def random_mask(choices: tuple[int, ...], rows: int, seed: int) -> Tensor:
    """At least one choice of each component allowed."""
    made = torch.stack([torch.randint(n, (rows,), generator=generator(seed)) for n in choices], dim=-1).double()
    return one_hot(made, choices).bool() | (torch.rand(rows, sum(choices), generator=generator(seed)) < 0.4)


def table(logits: Tensor, choices: tuple[int, ...], mask: Tensor) -> Tensor:
    """The probability of every joint choice by its definition, one row of logits.  [L] -> [joint choices]"""
    weight = logits.exp() * mask
    first = [0, *accumulate(choices)]
    parts = [weight[a:b] / weight[a:b].sum() for a, b in pairwise(first)]
    return torch.stack(
        [math.prod(p[int(k)] for p, k in zip(parts, row, strict=True)) for row in joint_choices(choices)]  # type: ignore[misc]
    )


@pytest.mark.parametrize("has_mask", [False, True])
@pytest.mark.parametrize("choices", CHOICES)
@pytest.mark.parametrize("seed", range(3))
def test_log_probability_entropy_and_kl_are_those_of_the_table_of_all_joint_choices(
    choices: tuple[int, ...], has_mask: bool, seed: int
) -> None:
    logits, others = 2 * torch.randn(2, 5, sum(choices), generator=generator(seed), dtype=torch.float64)
    mask = random_mask(choices, 5, seed) if has_mask else torch.ones(5, sum(choices), dtype=torch.bool)
    old, new = (MaskedCategorical(x, choices, mask if has_mask else None) for x in (logits, others))
    joint = joint_choices(choices)
    for b in range(5):
        p, q = (table(x[b], choices, mask[b]) for x in (logits, others))
        assert p.sum().item() == pytest.approx(1)
        found = MaskedCategorical(old.log_p[b].expand(len(joint), -1), choices).log_prob(joint).exp()
        torch.testing.assert_close(found, p, rtol=1e-12, atol=0)
        p, q = p[p > 0], q[p > 0]
        torch.testing.assert_close(old.entropy()[b], -(p * p.log()).sum())
        torch.testing.assert_close(old.kl_divergence(new)[b], (p * (p / q).log()).sum())
    assert old.log_prob(joint[:1].expand(5, -1)).shape == old.entropy().shape == old.kl_divergence(new).shape == (5,)


def test_the_entropy_and_kl_of_one_to_three_odds_by_hand() -> None:
    """p = (1/4, 3/4): H = log 4 - 3/4 log 3; against (1/2, 1/2) the KL is log 2 - H."""
    p, even = (MaskedCategorical(torch.tensor([0.0, math.log(odds)]), (2,)) for odds in (3, 1))
    assert p.entropy().item() == pytest.approx(math.log(4) - 0.75 * math.log(3))
    assert p.kl_divergence(even).item() == pytest.approx(math.log(2) - p.entropy().item())
    assert p.log_prob(torch.tensor([1.0])).item() == pytest.approx(math.log(0.75))


def test_one_component_is_the_plain_categorical_of_torch() -> None:
    a, b = torch.randn(2, 6, 4, generator=generator())
    ours, theirs = [MaskedCategorical(x, (4,)) for x in (a, b)], [Categorical(logits=x) for x in (a, b)]
    action = torch.tensor([0, 1, 2, 3, 0, 1])
    torch.testing.assert_close(ours[0].log_prob(action[:, None].float()), theirs[0].log_prob(action))
    torch.testing.assert_close(ours[0].entropy(), theirs[0].entropy())
    torch.testing.assert_close(ours[0].kl_divergence(ours[1]), kl_divergence(*theirs))


@pytest.mark.parametrize("what", ["log_prob", "entropy", "kl"])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_forbidden_logits_have_no_probability_and_no_gradient_and_nothing_is_nan(what: str, scale: float) -> None:
    choices, mask = (2, 3), random_mask((2, 3), 40, 0)
    logits, others = (scale * torch.randn(40, 5, generator=generator(k)) for k in (1, 2))
    logits.requires_grad_(True)
    policy, old = (MaskedCategorical(x, choices, mask) for x in (logits, others))
    assert (policy.log_p.exp()[~mask] == 0).all()
    action = argmax(masked(torch.rand(40, 5, generator=generator()), mask), choices)
    value = {"log_prob": policy.log_prob(action), "entropy": policy.entropy(), "kl": old.kl_divergence(policy)}[what]
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert value.isfinite().all()
    assert gradient.isfinite().all()
    assert (gradient[~mask] == 0).all()
    assert scale > 1 or (gradient[mask] != 0).any()  # a certain choice has no slope


def test_of_an_agent_that_may_do_nothing_all_numbers_are_finite() -> None:
    logits = torch.randn(3, 5, generator=generator(), requires_grad=True)
    policy = MaskedCategorical(logits, (2, 3), torch.zeros(3, 5, dtype=torch.bool))
    (policy.log_prob(torch.zeros(3, 2)) + policy.entropy() + policy.kl_divergence(policy)).sum().backward()
    torch.testing.assert_close(policy.entropy(), torch.full((3,), math.log(2) + math.log(3)))
    assert logits.grad is not None
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("choices", CHOICES)
def test_what_is_encoded_is_decoded(choices: tuple[int, ...]) -> None:
    joint, space = joint_choices(choices), Discrete(choices)
    encoded = encode(joint, space)
    assert encoded.shape == (len(joint), space.choice_count)
    assert (encoded.sum(-1) == space.size).all()
    assert torch.equal(decode(encoded, space, None), joint)


def test_a_one_hot_vector_by_hand() -> None:
    assert one_hot(torch.tensor([[1.0, 0.0, 2.0]]), (2, 1, 3)).tolist() == [[0, 1, 1, 0, 0, 1]]


# Acting


@pytest.mark.parametrize("name", EVERY)
def test_samples_follow_the_softmax_of_the_allowed_logits(name: str) -> None:
    members = team(actions=(MULTI, 1, PLAIN), masked=True)
    learner, E = build(name, members), 20_000
    for actor in learner.actors:
        torch.nn.init.normal_([p for p in actor.parameters() if p.dim() == 1][-1], generator=generator(5))  # bias
    observations = [torch.ones(E, size) for size in members.observation_sizes]
    mask = torch.tensor([True, True, True, False, True])
    first, _, last = learner.act(observations, True, [mask.expand(E, -1), None, None])
    with torch.no_grad():
        logits = [actor.network(actor.normaliser(x[:1])) for actor, x in zip(learner.actors, observations, strict=True)]
        p = MaskedCategorical(logits[0], MULTI.choices, mask)
        q = MaskedCategorical(logits[2], PLAIN.choices)
    torch.testing.assert_close(one_hot(first, MULTI.choices).mean(0), p.log_p.exp()[0], atol=0.015, rtol=0)
    torch.testing.assert_close(one_hot(last, PLAIN.choices).mean(0), q.log_p.exp()[0], atol=0.015, rtol=0)


WARMING_UP: dict[str, Any] = {"warmup_steps": 10**6}


@pytest.mark.parametrize(("name", "given"), [*((name, {}) for name in EVERY), ("maddpg", WARMING_UP)])
def test_forbidden_choices_are_never_made_however_likely_they_would_be(name: str, given: dict[str, int]) -> None:
    members, E = team(actions=SPACES["multi-discrete"], masked=True), 10_000
    learner = build(name, members, **given)  # type: ignore[arg-type]
    masks = [random_mask(space.choices, E, k) for k, space in enumerate(SPACES["multi-discrete"])]
    for actor, mask in zip(learner.actors, masks, strict=True):
        with torch.no_grad():  # what the first environment forbids is what all would choose
            [p for p in actor.parameters() if p.dim() == 1][-1][~mask[0]] += 50.0
    observations = [torch.randn(E, size, generator=generator()) for size in members.observation_sizes]
    for explore in (True, False):
        actions = learner.act(observations, explore, masks)
        for space, action, mask in zip(SPACES["multi-discrete"], actions, masks, strict=True):
            assert action.dtype == torch.float32
            assert not (one_hot(action, space.choices).bool() & ~mask).any()


@pytest.mark.parametrize("name", EVERY)
def test_an_evaluated_policy_makes_the_most_probable_allowed_choices(name: str) -> None:
    members = TEAMS["mixed"]
    learner, data = build(name, members), rollout(TEAMS["mixed"])
    masks = masks_at(data, 0)
    assert masks is not None
    actions = learner.act([x[0] for x in data.observations], False, masks)
    for k in (0, 2):
        actor, x, space = learner.actors[k], data.observations[k][0], members.action_spaces[k]
        scores = actor.network(actor.normaliser(x))
        assert isinstance(space, Discrete)
        assert torch.equal(actions[k], argmax(masked(scores, masks[k]), space.choices))


@pytest.mark.parametrize(("name", "given"), [("happo", {}), ("maddpg", {}), ("maddpg", WARMING_UP)])
def test_masks_do_not_change_how_many_random_numbers_are_drawn(name: str, given: dict[str, int]) -> None:
    members = TEAMS["masked"]
    data = rollout(members)
    observations = [x[0] for x in data.observations]
    learners = [build(name, members, **given) for _ in range(2)]  # type: ignore[arg-type]
    learners[0].act(observations, True, masks_at(data, 0))
    learners[1].act(observations, True)
    assert same(*([learner.generators["exploration"].get_state()] for learner in learners))


def test_the_warm_up_is_uniform_over_what_is_allowed() -> None:
    members, E = team(actions=(PLAIN, 1, MULTI), masked=True), 20_000
    learner = build("maddpg", members, **WARMING_UP)
    mask = torch.tensor([True, False, True, True]).expand(E, -1)
    observations = [torch.zeros(E, size) for size in members.observation_sizes]
    first, second, third = learner.act(observations, True, [mask, None, None])
    expected = torch.tensor([1 / 3, 0, 1 / 3, 1 / 3])
    torch.testing.assert_close(one_hot(first, (4,)).mean(0), expected, atol=0.015, rtol=0)
    torch.testing.assert_close(
        one_hot(third, (2, 3)).mean(0), torch.tensor([1 / 2] * 2 + [1 / 3] * 3), atol=0.015, rtol=0
    )
    assert second.std().item() == pytest.approx(1 / math.sqrt(3), rel=0.05)


def test_gumbel_noise_of_normal_numbers_is_that_of_their_quantiles() -> None:
    """Phi(0) = 1/2: -log log 2. A quantile of nearly 1 stays finite in single precision."""
    assert gumbel(torch.zeros(())).item() == pytest.approx(-math.log(math.log(2)))
    assert gumbel(torch.tensor([-6.0, 6.0])).isfinite().all()
    noise = gumbel(torch.randn(100_000, generator=generator()))
    assert noise.mean().item() == pytest.approx(0.5772, abs=0.02)
    assert noise.std().item() == pytest.approx(math.pi / math.sqrt(6), abs=0.02)


# One actor's step


def masked_actor(double: bool = False) -> tuple[CategoricalActor, Samples]:
    """An actor of (2, 3) choices with no round parameter, and 24 samples of what it observed, did and might do."""
    actor, random = CategoricalActor(3, (2, 3), (8, 8), generator(1)), generator(6)
    with torch.no_grad():
        for p in actor.parameters():
            p += 0.3 * torch.randn(p.shape, generator=random)  # type: ignore[misc]
    if double:
        actor = actor.double()
    x = torch.randn(24, 3, generator=generator(), dtype=torch.float64 if double else torch.float32)
    mask = random_mask((2, 3), 24, 3)
    return actor, Samples(x, argmax(masked(torch.rand(24, 5, generator=generator(2)), mask), (2, 3)), mask)


def test_the_fisher_product_under_a_mask_is_the_dense_hessian_of_the_mean_kl() -> None:
    actor, samples = masked_actor(double=True)
    H = hessian_of_the_mean_kl(actor, samples)
    v = torch.randn(len(H), generator=generator(), dtype=torch.float64)
    found = fisher_vector_product(actor, samples, 0.1)(v)
    torch.testing.assert_close(found, H @ v + 0.1 * v, rtol=1e-8, atol=1e-8)


def head(network: Any) -> list[Tensor]:
    """The weights and biases of an actor's logits."""
    return list(network[-1].parameters())


def always_forbidden(data: Rollout, columns: dict[int, list[int]]) -> None:
    """Forbid some choices throughout; actions are drawn again from what is left."""
    assert data.masks is not None
    assert data.end_masks is not None
    for i, forbidden in columns.items():
        space, mask, end = TEAMS["multi-discrete"].action_spaces[i], data.masks[i], data.end_masks[i]
        assert isinstance(space, Discrete)
        assert mask is not None
        assert end is not None
        for x in (mask, end):
            x.fill_(True)
            x[..., forbidden] = False
        random = torch.rand(mask[:-1].shape, generator=generator(i))
        data.actions[i] = argmax(masked(random, mask[:-1]), space.choices)


@pytest.mark.parametrize("name", EVERY)
def test_what_is_always_forbidden_is_never_learned_about(name: str) -> None:
    """The gradient in forbidden logits is 0 exactly, and so is its natural gradient: their weights do not move."""
    members, forbidden = TEAMS["multi-discrete"], {0: [1, 3], 1: [0], 2: [2]}
    given: dict[str, Any] = {"entropy_coef": 0.01} if name in ("ippo", "mappo", "happo", "haippo") else {}
    learner = build(name, members, **given)
    networks = [actor.network for actor in learner.actors]
    before = copy.deepcopy([head(network) for network in networks])
    for k in range(3):
        data = rollout(members, seed=k)
        always_forbidden(data, forbidden)
        assert finite(learner.update(data))
    for i, columns in forbidden.items():
        free = [k for k in range(before[i][0].shape[0]) if k not in columns]
        for old, new in zip(before[i], head(networks[i]), strict=True):
            assert torch.equal(old[columns], new[columns])
            assert not torch.equal(old[free], new[free])


def test_the_fisher_product_has_nothing_in_forbidden_logits() -> None:
    actor, samples = masked_actor()
    assert samples.mask is not None
    samples.mask[:, 1] = False  # the second choice of the first component
    samples.mask[:, 0] = True
    v = torch.randn(sum(p.numel() for p in actor.parameters()), generator=generator())
    rows = fisher_vector_product(actor, samples, 0.0)(v)
    assert (rows[-5:][:2] == 0).all()  # of one choice that is left there is nothing to learn either
    assert (rows[-5:][2:] != 0).all()


def test_a_masked_actor_moves_only_within_its_trust_region() -> None:
    actor, samples = masked_actor()
    old = copy.deepcopy(actor)
    M, c = torch.randn(24, generator=generator(5)), TrustRegionSettings()
    ratio, row = trust_region_step(actor, samples, M, c, generator())
    assert row["accepted"] == 1
    with torch.no_grad():
        before, after = (policy(samples.observation, samples.mask) for policy in (old, actor))
        assert row["kl_mean"] == pytest.approx(before.kl_divergence(after).mean().item(), rel=1e-5)
        assert 0 < row["kl_mean"] <= c.delta  # type: ignore[operator]
        change = after.log_prob(samples.action) - before.log_prob(samples.action)
        torch.testing.assert_close(ratio, change.exp())


# What holds exactly


@pytest.mark.parametrize("pair", [("happo", "mappo"), ("hatrpo", "matrpo"), ("haippo", "ippo")])
@pytest.mark.parametrize("space", [PLAIN, MULTI])
def test_with_one_agent_one_by_one_is_all_at_once_bit_for_bit(pair: tuple[str, str], space: Discrete) -> None:
    members = team((5,), (space,), masked=True)
    learners = [build(name, members) for name in pair]
    for learner in learners:
        for k in range(3):
            learner.update(rollout(members, seed=k))
    assert same(*(parameters(learner) for learner in learners))


@pytest.mark.parametrize("kind", TEAMS)
@pytest.mark.parametrize("name", ["hatrpo", "matrpo"])
def test_a_trust_region_step_stays_within_delta_and_never_lowers_the_surrogate(name: str, kind: str) -> None:
    members = TEAMS[kind]
    learner = build(name, members)
    turns = record_turns(learner)
    for k in range(3):
        learner.update(acted(learner, members, seed=k))
    for turn in turns:
        with torch.no_grad():
            x = (turn.samples.observation, turn.samples.mask)
            kl = turn.old(*x).kl_divergence(turn.new(*x)).mean().item()
        assert kl <= 0.01 * (1 + 1e-6)
        assert (turn.recomputed_ratio() * turn.M).mean().item() - turn.M.mean().item() >= -1e-7
        assert turn.row["kl_mean"] == pytest.approx(kl, rel=1e-5, abs=1e-8)
    assert sum(turn.row["accepted"] for turn in turns) > len(turns) / 2


@pytest.mark.parametrize("kind", TEAMS)
def test_at_learning_rate_zero_every_ratio_is_one(kind: str) -> None:
    members = TEAMS[kind]
    learner = build("happo", members, actor_lr=0.0)
    turns = record_turns(learner)
    learner.update(rollout(members))
    assert all((turn.ratio == 1).all() for turn in turns)


def test_agents_of_equal_choices_may_share_an_actor() -> None:
    members = team((4, 4), (MULTI, MULTI), masked=True, leaves=True)
    for name in ("ippo", "mappo", "matrpo"):
        learner = build(name, members, share_actors=True)
        assert len(learner.actors) == 1
        assert finite(learner.update(acted(learner, members)))


@pytest.mark.parametrize(
    ("members", "sizes"),
    [
        (team((4, 4), (PLAIN, 4)), "4/4, 4/Discrete(4)"),
        (team((4, 4), (PLAIN, MULTI)), "4/Discrete(2, 3), 4/Discrete(4)"),
        (
            dataclasses.replace(team((4, 4), (PLAIN, PLAIN)), has_mask=(True, False)),
            "4/Discrete(4), 4/Discrete(4) masked",
        ),
    ],
)
def test_agents_of_unequal_choices_cannot_share_an_actor(members: Team, sizes: str) -> None:
    with pytest.raises(SettingError, match="equal observation sizes, action spaces and masks") as caught:
        algorithms.check(members, algorithms.settings("mappo", {"share_actors": True}))
    assert str(caught.value).endswith(sizes)


# Agents that leave


def garbage(data: Rollout, members: Team, what_critics_see: bool) -> Rollout:
    """Noise in place of what absent agents did and may do, and of what they saw unless critics see it."""
    assert data.active is not None
    assert data.end_active is not None
    data, random = copy.deepcopy(data), generator(99)
    assert data.active is not None
    for i, space in enumerate(members.action_spaces):
        gone, gone_after = ~data.active[..., i], ~data.end_active[..., i]  # type: ignore[index]
        if not what_critics_see:
            for x, away in ((data.observations[i], gone), (data.end_observations[i], gone_after)):
                x[away] = 5 * torch.randn(x.shape, generator=random)[away]
        action = data.actions[i]
        noise = torch.randn(action.shape, generator=random)
        if isinstance(space, Discrete):
            noise = argmax(torch.rand(*action.shape[:-1], space.choice_count, generator=random), space.choices)
            for masks, away in ((data.masks, gone), (data.end_masks, gone_after)):
                if masks is not None and (mask := masks[i]) is not None:
                    mask[away] = (torch.rand(mask.shape, generator=random) < 0.5)[away]
        action[gone[:-1]] = noise[gone[:-1]]
    return data


@pytest.mark.parametrize("kind", ["leaving", "continuous, leaving"])
@pytest.mark.parametrize("name", EVERY)
def test_what_stands_in_place_of_an_absent_agent_teaches_nothing(name: str, kind: str) -> None:
    """But that critics of own observations see zeros there."""
    members = TEAMS[kind]
    plain, noisy = build(name, members), build(name, members)
    for k in range(3):
        data = rollout(members, seed=k)
        other = garbage(data, members, what_critics_see=name in ("ippo", "haippo"))
        assert not all(torch.equal(x, y) for x, y in zip(data.actions, other.actions, strict=True))
        assert plain.update(data) == noisy.update(other)
    assert same(parameters(plain), parameters(noisy))


@pytest.mark.parametrize("name", ["happo", "hatrpo"])
def test_the_factor_stays_where_an_agent_is_absent_and_compounds_where_it_is_there(name: str) -> None:
    members = TEAMS["leaving"]
    learner, data = build(name, members), rollout(TEAMS["leaving"])
    critic = copy.deepcopy(learner.critics[0])
    turns = record_turns(learner)
    estimate = learner._estimate(critic, data, data.state, data.end_state).advantage
    learner.update(data)
    assert data.active is not None
    assert len(turns) == 3
    factor = torch.ones(10, 3)
    for turn in turns:
        there = data.active[:-1, :, turn.agent]
        assert turn.M.shape == (int(there.sum()),)
        torch.testing.assert_close(turn.M, (factor * standardise(estimate))[there])
        factor[there] *= turn.ratio
        assert not torch.equal(turn.ratio, torch.ones_like(turn.ratio))


def test_own_advantages_are_standardised_over_the_steps_with_the_agent() -> None:
    """Of 1, 2, 3 and 100 the last is not there: mean 2, variance 2/3."""
    A = standardise(torch.tensor([[1.0, 2.0], [3.0, 100.0]]), torch.tensor([[True, True], [True, False]]))
    torch.testing.assert_close(A[0], torch.tensor([-math.sqrt(1.5), 0.0]))
    members = TEAMS["leaving"]
    for name, plain in (("ippo", False), ("mappo", True)):
        learner, data = build(name, members), rollout(members)
        turns = record_turns(learner)
        learner.update(data)
        means = [abs(turn.M.mean().item()) < 1e-6 for turn in turns]
        assert all(means) is not plain


@pytest.mark.parametrize("name", EVERY)
def test_if_everyone_stays_all_numbers_are_those_of_a_team_that_cannot_leave(name: str) -> None:
    members = team()
    staying, free = build(name, members), build(name, dataclasses.replace(members, agents_leave=True))
    for k in range(3):
        data = rollout(members, seed=k)
        told = copy.deepcopy(data)
        told.active = torch.ones(11, 3, 3, dtype=torch.bool)
        told.end_active = torch.ones(len(data.ends), 3, dtype=torch.bool)
        ours, theirs = staying.update(data), free.update(told)
        if name == "maddpg":  # whose mean over all samples is a sum of products and a quotient: equal but for rounding
            torch.testing.assert_close(parameters(staying), parameters(free), rtol=1e-3, atol=1e-5)
        else:
            assert ours == theirs
            assert same(parameters(staying), parameters(free))


@pytest.mark.parametrize("name", EVERY)
def test_an_agent_that_never_was_there_does_not_move(name: str) -> None:
    members = TEAMS["leaving"]
    learner, data = build(name, members), rollout(TEAMS["leaving"])
    assert data.active is not None
    data.active[..., 2] = False
    data.active[..., 0] = True
    before = [x.clone() for x in learner.actors[2].state_dict().values()]
    rows = learner.update(data)
    assert finite(rows)
    assert "2" in {row["agent"] for row in rows}
    assert same(list(learner.actors[2].state_dict().values()), before)
    assert all(learner.actors[k].normaliser.count > 0 for k in (0, 1))


@pytest.mark.parametrize("name", ["ippo", "happo"])
def test_an_agent_that_was_there_less_often_than_there_are_minibatches_learns_from_what_there_is(name: str) -> None:
    members = TEAMS["leaving"]
    learner, data = build(name, members, actor_minibatches=5), rollout(TEAMS["leaving"])
    assert data.active is not None
    data.active[..., 2] = False
    data.active[:2, 0] = True
    before = [x.clone() for x in learner.actors[2].parameters()]
    data.active[:2, 0, 2] = True
    assert finite(learner.update(data))
    assert not same(list(learner.actors[2].parameters()), before)
    assert learner.actors[2].normaliser.count == 2


def test_the_moments_of_actors_are_those_of_what_present_agents_saw() -> None:
    members = TEAMS["leaving"]
    for name in ("ippo", "maddpg"):
        learner, data = build(name, members), rollout(TEAMS["leaving"])
        learner.update(data)
        assert data.active is not None
        for i, actor in enumerate(learner.actors):
            x = data.observations[i][:-1][data.active[:-1, :, i]]
            torch.testing.assert_close(actor.normaliser.mean, x.mean(0), rtol=1e-4, atol=1e-6)
            if name == "ippo":  # its critics are fitted to the zeros too
                all_of_it = data.observations[i][:-1].mean((0, 1))
                torch.testing.assert_close(learner.critics[i].normaliser.mean, all_of_it, rtol=1e-4, atol=1e-6)


# Every method on every kind of team


@pytest.mark.parametrize("kind", TEAMS)
@pytest.mark.parametrize("name", EVERY)
def test_every_method_trains_and_goes_on_from_a_checkpoint_bit_for_bit(name: str, kind: str) -> None:
    members = TEAMS[kind]
    learner, fresh = build(name, members), build(name, members)
    for k in range(2):
        assert finite(learner.update(acted(learner, members, seed=k)))
    fresh.load_state_dict(copy.deepcopy(learner.state_dict()))
    for k in range(2, 4):
        ours, theirs = (acted(one, members, seed=k) for one in (learner, fresh))
        assert same(ours.actions, theirs.actions)
        assert learner.update(ours) == fresh.update(theirs)
    assert same(parameters(learner), parameters(fresh))


BEFORE = {
    "ippo": 1600.7725366140542,
    "mappo": 982.0880641806065,
    "happo": 982.0908928553802,
    "hatrpo": 986.3139393866779,
    "matrpo": 986.3580776806207,
    "haippo": 1600.774492162647,
    "maddpg": 1434.2177560197758,
}
"""The sum of all absolute parameters and moments after three updates, of the code before it was plain torch."""


@pytest.mark.parametrize("name", EVERY)
def test_continuous_teams_learn_what_they_learned_before(name: str, float64: None) -> None:
    defaults: dict[str, Any] = {} if name == "maddpg" else {"initial_log_std": -0.5}
    if name in ("hatrpo", "matrpo"):
        defaults["damping"] = 0.1
    learner = build(name, team(), **defaults)
    for k in range(3):
        learner.update(rollout(team(), seed=k))
    assert sum(p.abs().sum().item() for p in parameters(learner)) == pytest.approx(BEFORE[name], rel=1e-9)


# MADDPG


def test_a_straight_through_sample_is_one_hot_with_the_gradient_of_the_softmax() -> None:
    logits, w = torch.randn(50, 5, generator=generator(), requires_grad=True), torch.randn(5, generator=generator(1))
    z = torch.randn(50, 5, generator=generator(2))
    noise = gumbel(z)
    sample = gumbel_softmax(logits, (2, 3), None, z, 0.7)
    torch.testing.assert_close(sample, one_hot(argmax(logits + noise, (2, 3)), (2, 3)))
    (found,) = torch.autograd.grad((sample * w).sum(), logits)
    y = [x.softmax(-1) for x in ((logits + noise) / 0.7).split((2, 3), -1)]
    parts = zip(y, w.split((2, 3)), strict=True)
    by_hand = torch.cat([p * (v - (p * v).sum(-1, keepdim=True)) / 0.7 for p, v in parts], dim=-1)
    torch.testing.assert_close(found, by_hand)


def test_a_straight_through_sample_leaves_forbidden_choices_alone_at_any_temperature() -> None:
    mask = random_mask((2, 3), 50, 0)
    mask[0] = False  # of an agent that is not there
    noise = torch.randn(50, 5, generator=generator(2))
    for temperature in (1e-3, 1.0, 100.0):
        logits = (100 * ~mask).float().requires_grad_(True)
        sample = gumbel_softmax(logits, (2, 3), mask, noise, temperature)
        (gradient,) = torch.autograd.grad((sample * torch.arange(5.0)).sum(), logits)
        assert not sample[1:][~mask[1:]].any()
        assert sample.isfinite().all()
        assert gradient.isfinite().all()
        assert (gradient[~mask] == 0).all()


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_an_actors_gradient_passes_through_a_straight_through_sample_at_the_temperature(temperature: float) -> None:
    members = team((4, 3), (MULTI, PLAIN), masked=True)
    learner = build("maddpg", members, update_to_data=1e-9, gumbel_temperature=temperature, max_grad_norm=1e9)
    learner.update(rollout(members))
    batch = learner.replay_buffer.sample(64, 1, 0.9, generator())
    actions = learner._encoded(batch.actions, batch.active)
    received: list[Tensor] = []
    learner.critics[0].register_forward_pre_hook(lambda module, args: received.append(args[1][0]))
    actor, critic, state = copy.deepcopy(learner.actors[0]), learner.critics[0], learner.state_dict()["minibatches"]
    noise = torch.randn(64, 5, generator=torch.Generator().set_state(state.clone()))
    own = gumbel_softmax(actor(batch.observations[0]), (2, 3), batch.masks[0], noise, temperature)
    gradients = torch.autograd.grad(-critic(batch.state, [own, actions[1]]).mean(), list(actor.parameters()))
    learner._actor_step(0, batch, actions)
    seen = received[-1].detach()
    assert {*seen.round(decimals=5).flatten().tolist()} == {0.0, 1.0}
    assert not seen[~batch.masks[0]].any()
    for p, gradient in zip(learner.actors[0].parameters(), gradients, strict=True):
        torch.testing.assert_close(p.grad, gradient, rtol=1e-4, atol=1e-7)


def test_critics_see_one_hot_vectors_and_zeros_of_those_who_are_not_there() -> None:
    members = TEAMS["leaving"]
    learner, data = build("maddpg", members, update_to_data=1e-9), rollout(TEAMS["leaving"])
    learner.update(data)
    batch = learner.replay_buffer.sample(200, 1, 0.9, generator())
    seen = learner._encoded(batch.actions, batch.active)
    for i, space in enumerate(members.action_spaces):
        there = batch.active[:, i]
        assert torch.equal(seen[i][there], encode(batch.actions[i][there], space))
        assert not seen[i][~there].any()
        assert not there.all()
    assert [x.shape[-1] for x in seen] == [5, 1, 4]
    assert [critic.network[0].in_features for critic in learner.critics] == [6 + 10] * 3


def test_an_actor_climbs_the_mean_over_the_samples_with_its_agent() -> None:
    members = TEAMS["continuous, leaving"]
    learner = build("maddpg", members, update_to_data=1e-9)
    learner.update(rollout(members))
    batch = learner.replay_buffer.sample(50, 1, 0.9, generator())
    actions = learner._encoded(batch.actions, batch.active)
    with torch.no_grad():
        q = learner.critics[1](batch.state, [actions[0], learner.actors[1](batch.observations[1]), actions[2]])
    objective = learner._actor_step(1, batch, actions)
    assert objective == pytest.approx(q[batch.active[:, 1]].mean().item(), rel=1e-4)


def test_targets_take_the_best_allowed_choices_of_those_who_are_still_there(monkeypatch: pytest.MonkeyPatch) -> None:
    members = TEAMS["leaving"]
    learner = build("maddpg", members, update_to_data=1e-9)
    learner.update(rollout(members))
    batch = learner.replay_buffer.sample(200, 1, 0.9, generator())
    handed: list[list[Tensor]] = []
    monkeypatch.setattr(learner, "_critic_step", lambda c, t, b, a, after: (handed.append(after), {})[1])  # type: ignore[func-returns-value]
    learner._gradient_step(batch)
    with torch.no_grad():
        for i in (0, 2):
            space, scores = members.action_spaces[i], learner.target_actors[i](batch.next_observations[i])
            best = one_hot(argmax(masked(scores, batch.next_masks[i]), space.choices), space.choices)  # type: ignore[union-attr]
            torch.testing.assert_close(handed[0][i], best * batch.next_active[:, i, None])


def told(T: int) -> tuple[Team, Rollout]:
    """Two agents whose masks and presence tell the step: of a team of 256 choices and of two choices each."""
    members = team((1, 1), (Discrete((256,)), Discrete((2, 2))), state=1, masked=True, leaves=True)
    data = rollout(members, T=T, E=2, ending=0.3)
    data.state[..., 0] = torch.arange(T + 1)[:, None] + torch.tensor([0.0, 100.0])
    return members, data


@pytest.mark.parametrize("n", [1, 3])
def test_masks_presence_and_choices_are_sampled_as_they_were(n: int) -> None:
    members, data = told(12)
    replay_buffer = ReplayBuffer(members, 40, 2)
    replay_buffer.add(data)
    batch = replay_buffer.sample(300, n, 0.9, generator())
    assert replay_buffer.actions.dtype == torch.uint8
    assert data.active is not None
    assert data.end_active is not None
    assert data.masks is not None
    assert data.end_masks is not None
    assert batch.active is not None
    assert batch.next_active is not None
    over = {(int(t), int(e)): k for k, (t, e) in enumerate(data.ends)}
    for b, number in enumerate(batch.state.flatten().tolist()):
        t, e = int(number % 100), int(number // 100)
        last = next(step for step in range(t, t + n) if (step, e) in over or step == t + n - 1)
        k = over.get((last, e))
        assert torch.equal(batch.active[b], data.active[t, e])
        assert torch.equal(batch.next_active[b], data.active[last + 1, e] if k is None else data.end_active[k])
        for i in range(2):
            now, after, mask, end = batch.masks[i], batch.next_masks[i], data.masks[i], data.end_masks[i]
            assert now is not None
            assert after is not None
            assert mask is not None
            assert end is not None
            assert torch.equal(batch.actions[i][b], data.actions[i][t, e])
            assert torch.equal(now[b], mask[t, e])
            assert torch.equal(after[b], mask[last + 1, e] if k is None else end[k])


def test_a_transition_takes_a_byte_for_each_choice_and_four_for_each_number() -> None:
    plain = team((5, 3), (PLAIN, MULTI), state=6)
    assert transition_bytes(plain) == 4 * (6 + 5 + 3) + 3 + 4 + 2
    both = dataclasses.replace(plain, has_mask=(False, True), agents_leave=True)
    assert transition_bytes(both) == transition_bytes(plain) + 4 * (5 + 2)
    assert transition_bytes(team((5, 3), (PLAIN, 2), state=6)) == 4 * (6 + 5 + 3) + 4 * 3 + 4 + 2


# Learning


PAYOFF = torch.tensor([[1.0, 1.0, 1.0], [1.0, 2.0, 2.0], [1.0, 2.0, 3.0]])
"""The weakest link: both agents are paid for the lesser of their two choices. (Every number is an equilibrium, at which
MADDPG may stay with other seeds: its gradient looks at the critic between choices.)"""


def game(learner: Any, members: Team, T: int, E: int) -> Rollout:
    """T rounds of E games of one step, in which there is nothing to see."""
    one = [torch.ones(T + 1, E, 1), torch.ones(T + 1, E, 1)]
    actions = learner.act([x[:-1].reshape(-1, 1) for x in one], explore=True)
    a, b = (x.long().flatten() for x in actions)
    end = torch.ones(T, E, dtype=torch.bool)
    return Rollout(
        observations=one,
        state=one[0].clone(),
        actions=[x.view(T, E, 1) for x in actions],
        reward=PAYOFF[a, b].view(T, E),
        terminated=end,
        truncated=~end,
        ends=end.nonzero(),
        end_observations=[torch.ones(T * E, 1)] * 2,
        end_state=torch.ones(T * E, 1),
    )


GAME: dict[str, tuple[int, dict[str, Any]]] = {
    "mappo": (40, {"actor_lr": 0.01}),
    "happo": (40, {"actor_lr": 0.01}),
    "hatrpo": (60, {"delta": 0.02}),
    "maddpg": (40, {"actor_lr": 0.01, "critic_lr": 0.01, "batch_size": 64, "buffer_size": 3000, "gamma": 0.0}),
}


@pytest.mark.parametrize("name", GAME)
def test_two_agents_learn_to_be_strong_together(name: str) -> None:
    updates, given = GAME[name]
    members = team((1, 1), (Discrete((3,)), Discrete((3,))), state=1)
    learner = build(name, members, seed=seeds(initialisation=1), **given)
    for _ in range(updates):
        learner.update(game(learner, members, T=20, E=3))
    actions = learner.act([torch.ones(1, 1)] * 2, explore=False)
    assert [x.item() for x in actions] == [2.0, 2.0]


def test_agents_see_their_masks_when_they_act() -> None:
    """The best choice is forbidden in every other game: then it is the second best, by the same actor."""
    members = team((1,), (Discrete((3,)),), state=1, masked=True)
    learner, act = build("happo", members, actor_lr=0.01), None
    mask = torch.ones(20 * 3, 3, dtype=torch.bool)
    mask[::2, 2] = False
    for _ in range(40):
        x = torch.ones(21, 3, 1)
        (act,) = learner.act([x[:-1].reshape(-1, 1)], True, [mask])
        end = torch.ones(20, 3, dtype=torch.bool)
        masks = torch.cat([mask.view(20, 3, 3), torch.ones(1, 3, 3, dtype=torch.bool)])
        learner.update(
            Rollout(
                [x],
                x.clone(),
                [act.view(20, 3, 1)],
                act.view(20, 3).clone(),
                end,
                ~end,
                end.nonzero(),
                [torch.ones(60, 1)],
                torch.ones(60, 1),
                masks=[masks],
                end_masks=[torch.ones(60, 3, dtype=torch.bool)],
            )
        )
    (best,) = learner.act([torch.ones(2, 1)], False, [mask[:2]])
    assert best.flatten().tolist() == [1.0, 2.0]
