"""What networks do in another way than one by one or all at once, against the plain way."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from helpers import build, rollout, same, team
from torch import Tensor, nn

from algorithms import layers
from algorithms.layers import MLP, Passage, mlp
from algorithms.networks import RunningMoments, Stack, descend, optimisers, stacked
from algorithms.rollout import Diverged, check_finite


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def trained(network: Any) -> Any:
    """The network with layer norms and moments that are not those of a new one."""
    with torch.no_grad():
        for k, p in enumerate(network.parameters()):
            p += 0.3 * torch.randn(p.shape, generator=generator(k))
    network.moments.update(3 + 2 * torch.randn(50, len(network.moments.mean), generator=generator()))
    return network


def test_matrices_are_stacked_with_zeros_around_the_smaller() -> None:
    both = stacked([torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0], [4.0]])])
    assert both.tolist() == [[[1.0, 2.0], [0.0, 0.0]], [[3.0, 0.0], [4.0, 0.0]]]


def test_a_stack_gives_the_outputs_of_networks_of_all_sizes() -> None:
    members = team()
    actors = [trained(actor) for actor in build("happo", members).actors]
    inputs = [5 * torch.randn(7, size, generator=generator()) for size in members.observation_sizes]
    outputs = Stack(actors, [actor.mean for actor in actors])(inputs)
    for actor, x, y, space in zip(actors, inputs, outputs, members.action_spaces, strict=True):
        torch.testing.assert_close(y[:, : space.size], actor.mean(actor.see(x)), rtol=1e-4, atol=1e-5)


def test_a_stack_leaves_its_inputs_and_networks_alone() -> None:
    members = team((4, 4), (2, 2))
    actors = build("happo", members).actors
    before = [x.clone() for actor in actors for x in actor.state_dict().values()]
    inputs = [torch.full((3, 4), 20.0) for _ in range(2)]
    Stack(actors, [actor.mean for actor in actors])(inputs)
    assert same([x for actor in actors for x in actor.state_dict().values()], before)
    assert all((x == 20).all() for x in inputs)


@pytest.mark.parametrize("name", ["mappo", "hatrpo"])
def test_the_policy_acts_anew_after_each_update(name: str) -> None:
    members = team()
    learner, data = build(name, members), rollout(members)
    observations = [x[0] for x in data.observations]
    before = [x.clone() for x in learner.act(observations, explore=False)]
    learner.update(data)
    after = learner.act(observations, explore=False)
    assert not same(before, after)
    for actor, x, action in zip(learner.actors, observations, after, strict=True):
        torch.testing.assert_close(action, actor.mean(actor.see(x)))


def test_rows_in_pieces_give_the_outputs_of_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    net = mlp([3, 8, 2], 1.0, generator())
    x = torch.randn(5, 7, 3, generator=generator())
    monkeypatch.setattr(layers, "PIECE", 8)
    with torch.no_grad():
        torch.testing.assert_close(net(x), nn.Sequential.forward(net, x))
        assert net(x[:0]).shape == (0, 7, 2)
    assert net(x).requires_grad


def test_a_passage_gives_the_outputs_and_gradients_of_autograd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "PIECE", 8)
    net = mlp([3, 8, 5, 2], 1.0, generator()).double()
    with torch.no_grad():
        for k, p in enumerate(net.parameters()):
            p += 0.3 * torch.randn(p.shape, generator=generator(k))
    x = torch.randn(6, 3, generator=generator(), dtype=torch.float64)
    dy = torch.randn(6, 2, generator=generator(1), dtype=torch.float64)
    y = net(x)
    y.backward(dy)
    expected = [p.grad.clone() for p in net.parameters() if p.grad is not None]
    there = Passage(net)
    torch.testing.assert_close(there.forward(x), y.detach(), rtol=1e-12, atol=1e-12)
    there.backward(dy)
    there.finish()
    for p, gradient in zip(net.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, gradient, rtol=1e-10, atol=1e-12)


def test_a_passage_of_its_own_memory_serves_any_number_of_products_while_others_pass() -> None:
    """J v by `torch.func`, J^T dy by autograd, twice, and after another network of the same sizes."""
    net = mlp([3, 8, 5, 2], 1.0, generator()).double()
    tensors = list(net.parameters())
    with torch.no_grad():
        for k, p in enumerate(tensors):
            p += 0.3 * torch.randn(p.shape, generator=generator(k))
    x = torch.randn(6, 3, generator=generator(), dtype=torch.float64)
    there = Passage(net, own_memory=True)
    there.forward(x)
    Passage(mlp([3, 8, 5, 2], 1.0, generator(1)).double()).forward(-x)
    for k in range(2):
        v = {p: torch.randn(p.shape, generator=generator(k), dtype=torch.float64) for p in tensors}
        at, along = ({name: f(p) for name, p in net.named_parameters()} for f in (Tensor.detach, v.__getitem__))
        _, Jv = torch.func.jvp(lambda at: torch.func.functional_call(net, at, x), (at,), (along,))
        torch.testing.assert_close(there.tangent(v), Jv, rtol=1e-10, atol=1e-12)
        dy = torch.randn(6, 2, generator=generator(k), dtype=torch.float64)
        found = {p: torch.full_like(p, torch.nan) for p in tensors}
        there.backward(dy)
        there.finish(found.__getitem__)
        for p, gradient in zip(tensors, torch.autograd.grad(net(x), tensors, dy), strict=True):
            torch.testing.assert_close(found[p], gradient, rtol=1e-10, atol=1e-12)


def test_a_passage_bears_features_that_all_agree() -> None:
    net = mlp([2, 4, 1], 1.0, generator())
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].bias.fill_(1.0)  # a variance of 0 beside a mean square of 1
        torch.testing.assert_close(net(torch.ones(3, 2)), torch.zeros(3, 1), rtol=0, atol=1e-3)


def test_few_rows_go_through_the_layers_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folding the layer norms costs as much as some hundred rows: of MADDPG's target networks it took a tenth."""
    monkeypatch.setattr(layers, "Passage", None)
    net, x = mlp([3, 8, 2], 1.0, generator()), torch.randn(256, 3, generator=generator())
    with torch.no_grad():
        assert torch.equal(net(x), nn.Sequential.forward(net, x))


def test_rows_stay_whole_where_a_gradient_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "PIECE", 8)
    net, x = mlp([3, 8, 2], 1.0, generator()), torch.randn(20, 3, generator=generator())
    assert torch.equal(net(x), nn.Sequential.forward(net, x))
    assert isinstance(net, MLP)


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_one_descent_in_pieces_is_one_step_of_adam_on_the_mean(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "PIECE", piece)
    ours = build("happo", team((3,), (1,))).critics[0]
    theirs = copy.deepcopy(ours)
    x, y = torch.randn(20, 6, generator=generator()), torch.randn(20, generator=generator(1))

    def loss(value: Tensor, y: Tensor) -> Tensor:
        return (value.squeeze(-1) - y).square()

    optimisers("", [ours], 1e-2, eps=1e-5)
    adam = torch.optim.Adam(theirs.parameters(), 1e-2, eps=1e-5)
    value, norm = descend(ours, ours.scaled_value, loss, [x, y], max_grad_norm=0.1)
    whole = (theirs(x) - y).square().mean()
    whole.backward()
    expected = nn.utils.clip_grad_norm_(theirs.parameters(), 0.1)
    adam.step()
    assert value == pytest.approx(whole.item(), rel=1e-5)
    assert norm == pytest.approx(expected.item(), rel=1e-5)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_moments_bear_the_largest_observations_that_an_environment_may_give() -> None:
    moments = RunningMoments((500,))
    x = torch.full((4000, 500), 1e18)
    x[::2] = -1e18
    moments.update(x)
    torch.testing.assert_close(moments.var, torch.full((500,), 1e36), rtol=1e-3, atol=0)
    check_finite([], [moments])  # though the sum of its variances is none that float32 has


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_number_that_is_not_finite_is_found(bad: float) -> None:
    moments = RunningMoments((3,))
    moments.mean[1] = bad
    with pytest.raises(Diverged, match="not finite"):
        check_finite([], [moments])
