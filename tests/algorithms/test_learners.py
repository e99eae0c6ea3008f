"""What holds for every learner: generators, checkpoints, and the end of an update that diverges."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from helpers import (
    EVERY,
    ON_POLICY,
    acted,
    build,
    equal_team,
    finite,
    parameters,
    record_turns,
    rollout,
    same,
    saved_and_loaded,
    seeds,
    team,
)
from torch import Tensor

from algorithms import Diverged

# Normalisers


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("explore", [True, False])
def test_acting_does_not_move_the_observation_moments(name: str, explore: bool) -> None:
    members = team()
    learner = build(name, members)
    learner.update(rollout(members))
    before = parameters(learner)
    learner.act([x[0] + 3 for x in rollout(members, seed=1).observations], explore)
    assert same(parameters(learner), before)


# Random numbers


@pytest.mark.parametrize("name", EVERY)
def test_global_randomness_is_neither_used_nor_touched(name: str) -> None:
    members = team()
    results = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        state = torch.random.get_rng_state()
        learner = build(name, members)
        learner.update(acted(learner, members))
        learner.act([x[0] for x in rollout(members).observations], explore=True)
        assert torch.equal(torch.random.get_rng_state(), state)
        results.append(parameters(learner))
    assert same(*results)


@pytest.mark.parametrize("name", EVERY)
def test_acting_without_exploration_draws_no_random_number(name: str) -> None:
    members = team()
    learner = build(name, members)
    observations = [x[0] for x in rollout(members).observations]
    before = [g.get_state() for g in learner.generators.values()]
    first, second = (learner.act(observations, explore=False) for _ in range(2))
    assert same(first, second)
    assert same([g.get_state() for g in learner.generators.values()], before)


@pytest.mark.parametrize("name", EVERY)
def test_exploration_draws_from_its_own_generator_only(name: str) -> None:
    members = team()
    learner = build(name, members)
    observations = [x[0] for x in rollout(members).observations]
    before = {purpose: g.get_state() for purpose, g in learner.generators.items()}
    first, second = (learner.act(observations, explore=True) for _ in range(2))
    assert not same(first, second)
    changed = [p for p, g in learner.generators.items() if not torch.equal(g.get_state(), before[p])]
    assert changed == ["exploration"]


@pytest.mark.parametrize("name", EVERY)
def test_the_initialisation_seed_changes_the_initial_weights_and_nothing_else(name: str) -> None:
    members = team()
    usual, other = build(name, members), build(name, members, seed=seeds(initialisation=9))
    for ours, theirs in zip([*usual.actors, *usual.critics], [*other.actors, *other.critics], strict=True):
        weights = [(p, q) for p, q in zip(ours.parameters(), theirs.parameters(), strict=True) if p.dim() == 2]
        assert not any(torch.equal(p, q) for p, q in weights)
    for purpose in ("exploration", "order", "minibatches"):
        assert torch.equal(usual.generators[purpose].get_state(), other.generators[purpose].get_state())


@pytest.mark.parametrize("purpose", ["exploration", "order", "minibatches"])
@pytest.mark.parametrize("name", EVERY)
def test_no_other_seed_changes_the_initial_weights(name: str, purpose: str) -> None:
    members = team()
    assert same(parameters(build(name, members)), parameters(build(name, members, seed=seeds(**{purpose: 9}))))


def test_the_exploration_seed_changes_what_is_sampled_but_not_what_is_learned_from_given_data() -> None:
    members = team()
    usual, other = build("happo", members), build("happo", members, seed=seeds(exploration=9))
    data = rollout(members)
    observations = [x[0] for x in data.observations]
    assert not same(usual.act(observations, True), other.act(observations, True))
    usual.update(data)
    other.update(data)
    assert same(parameters(usual), parameters(other))


def test_the_minibatch_seed_matters_only_where_there_are_minibatches() -> None:
    members, data = team(), rollout(team())

    def learned(parts: int, seed: int) -> list[Tensor]:
        learner = build(
            "mappo", members, seed=seeds(minibatches=seed), actor_minibatches=parts, critic_minibatches=parts
        )
        learner.update(data)
        return parameters(learner)

    assert same(learned(1, 1), learned(1, 2))
    assert not same(learned(3, 1), learned(3, 2))


# Checkpoints


@pytest.mark.parametrize("name", EVERY)
def test_a_learner_goes_on_from_a_checkpoint_bit_for_bit(name: str) -> None:
    members = team()
    given: dict[str, Any] = {"critic_minibatches": 3}
    if name == "maddpg":
        given = {"n_step": 2, "warmup_steps": 40}
    elif name not in ("hatrpo", "matrpo"):
        given |= {"actor_minibatches": 2}
    learner = build(name, members, **given)
    for k in range(3):
        learner.update(acted(learner, members, seed=k))
    fresh = build(name, members, seed=dict.fromkeys(seeds(), 0), **given)
    fresh.load_state_dict(saved_and_loaded(learner.state_dict()))
    assert fresh.gradient_updates == learner.gradient_updates > 0
    for k in range(3, 5):
        rows = [one.update(acted(one, members, seed=k)) for one in (learner, fresh)]
        assert rows[0] == rows[1]
    assert same(parameters(learner), parameters(fresh))
    observations = [x[0] for x in rollout(members).observations]
    assert same(learner.act(observations, True), fresh.act(observations, True))


@pytest.mark.parametrize("name", EVERY)
def test_a_state_handed_over_in_memory_does_not_tie_two_learners_together(name: str) -> None:
    """Optimisers share the tensors of a loaded state: each learner would then move with the other's momentum."""
    members = team()
    learner, alone, fresh = build(name, members), build(name, members), build(name, members)
    for one in (learner, alone):
        one.update(rollout(members, seed=0))
    fresh.load_state_dict(learner.state_dict())
    fresh.update(rollout(members, seed=1))
    for one in (learner, alone):
        one.update(rollout(members, seed=2))
    assert same(parameters(learner), parameters(alone))


@pytest.mark.parametrize("name", EVERY)
def test_an_update_writes_into_the_memory_that_the_parameters_already_have(name: str) -> None:
    """Parameters that become views of one long vector lie at other addresses, where matrix products round otherwise:
    a run resumed from a checkpoint, at fresh addresses, would not go on bit for bit."""
    members = team()
    learner = build(name, members)
    before = [p.data_ptr() for network in (*learner.actors, *learner.critics) for p in network.parameters()]
    learner.update(acted(learner, members))
    after = [p.data_ptr() for network in (*learner.actors, *learner.critics) for p in network.parameters()]
    assert after == before


@pytest.mark.parametrize("name", EVERY)
def test_the_policy_alone_is_enough_to_act_as_before(name: str) -> None:
    members = team()
    learner, fresh = build(name, members), build(name, members, seed=dict.fromkeys(seeds(), 0))
    learner.update(rollout(members))
    fresh.policy.load_state_dict(saved_and_loaded(learner.policy.state_dict()))
    observations = [x[0] for x in rollout(members).observations]
    assert same(learner.act(observations, False), fresh.act(observations, False))


# Numbers that are not finite


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["reward", "observation", "state"])
@pytest.mark.parametrize("name", EVERY)
def test_a_number_that_is_not_finite_ends_the_update_with_its_rows(name: str, where: str, bad: float) -> None:
    """A trial that goes on with them writes nonsense for days; the rows say where it began."""
    members = team()
    learner = build(name, members, **({"batch_size": 256} if name == "maddpg" else {}))  # type: ignore[arg-type]
    data = rollout(members)
    {"reward": data.reward, "observation": data.observations[1], "state": data.state}[where][4, 1] = bad
    if where == "state" and name in ("ippo", "haippo"):
        assert finite(learner.update(data))  # nobody looks at the state
        return
    with pytest.raises(Diverged) as caught:
        learner.update(data)
    assert caught.value.rows
    assert all("agent" in row for row in caught.value.rows)


@pytest.mark.parametrize("rate", ["critic_lr", "actor_lr"])
@pytest.mark.parametrize("name", ["ippo", "mappo", "happo", "haippo", "maddpg"])
def test_a_parameter_that_is_not_finite_ends_the_update(name: str, rate: str) -> None:
    """A step of 3e38 leads out of float32, though the loss before it was fine."""
    once: dict[str, Any] = {"update_to_data": 0.034} if name == "maddpg" else {"critic_epochs": 1, "actor_epochs": 1}
    members = team()
    learner = build(name, members, **once, **{rate: 3e38})  # type: ignore[arg-type]
    with pytest.raises(Diverged):
        learner.update(rollout(members))


def test_an_actor_that_diverges_stops_the_update_before_the_next_agent_moves() -> None:
    members = team()
    learner = build("happo", members, actor_lr=3e38, actor_epochs=1)
    turns = record_turns(learner)
    with pytest.raises(Diverged) as caught:
        learner.update(rollout(members))
    assert len(turns) == len(caught.value.rows) == 1


@pytest.mark.parametrize("name", EVERY)
def test_a_rollout_of_another_team_or_without_its_ends_is_refused_before_anything_moves(name: str) -> None:
    """Without them the value at a time limit would be that of the next episode's first state."""
    members = team()
    learner = build(name, members)
    before = parameters(learner)
    without = rollout(members)
    without.ends, without.end_state = without.ends[:-1], without.end_state[:-1]
    wide = rollout(members)
    wide.actions = [x.expand(*x.shape[:2], 2 * x.shape[2]) if x.shape[2] == 1 else x for x in wide.actions]
    for data, wrong in (
        (without, "ends of the rollout: "),
        (wide, "actions of the rollout: "),
        (rollout(equal_team()), "observations of the rollout: "),
    ):
        with pytest.raises(ValueError, match=wrong):
            learner.update(data)
    assert same(parameters(learner), before)


@pytest.mark.parametrize("name", ON_POLICY)
def test_observations_of_other_shapes_are_refused(name: str) -> None:
    """All actors act as one batch, in which they would be padded or broadcast."""
    learner = build(name, team((3, 4), (1, 1)))
    three, four = torch.zeros(2, 3), torch.zeros(2, 4)
    for wrong in ([four, three], [three, four[:, :2]], [three[:1], four], [three], [three[0], four[0]]):
        with pytest.raises(ValueError, match=r"^observations are \[.*\], not \[\[\d, 3\], \[\d, 4\]\]$"):
            learner.act(wrong, True)
    assert len(learner.act([three, four], True)) == 2


def test_the_state_of_another_learner_is_refused_before_anything_is_loaded() -> None:
    hatrpo, happo = build("hatrpo", team()), build("happo", team(), seed=seeds(initialisation=5))
    hatrpo.update(rollout(team()))
    before = parameters(happo)
    with pytest.raises(ValueError, match="it lacks actor optimiser 0, actor optimiser 1"):
        happo.load_state_dict(hatrpo.state_dict())
    assert same(parameters(happo), before)
    assert happo.gradient_updates == 0
