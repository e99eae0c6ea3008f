"""The TRPO step of one actor: Fisher-vector products, conjugate gradients and the backtracking line search."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import acted, build, finite, generator, hessian_of_the_mean_kl, record_turns, same, team
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from algorithms import Samples, trust_region
from algorithms.config import TrustRegionSettings
from algorithms.distributions import DiagonalGaussian
from algorithms.networks import Actor, CategoricalActor, GaussianActor, mlp
from algorithms.trust_region import conjugate_gradient, fisher_vector_product, line_search, trust_region_step


def gaussian_actor() -> GaussianActor:
    """An actor whose means are far from zero and differ between observations."""
    actor = GaussianActor(3, 2, (8, 8), -0.5, generator(1))
    actor.network = mlp([3, 8, 8, 2], 1.0, generator(2))
    return actor


def twelve_samples() -> tuple[Samples, Tensor]:
    """Samples of a `gaussian_actor`, and an advantage M of each."""
    observation, action = torch.randn(12, 3, generator=generator(3)), torch.randn(12, 2, generator=generator(4))
    return Samples(observation, action, None), torch.randn(12, generator=generator(5))


# The line search


def line_search_on(
    actor: GaussianActor, length: float, predicted: float, sign: int = 1, **given: Any
) -> tuple[Tensor, dict[str, Any], list[float]]:
    """A line search along `length` times the surrogate's gradient: the ratio, the row, and the gain of every try."""
    samples, M = twelve_samples()
    M = sign * (M + 1)
    old: DiagonalGaussian = actor(samples.observation)
    old_log_prob = old.log_prob(samples.action)
    surrogate = (torch.exp(old_log_prob - old_log_prob.detach()) * M).mean()
    step = length * parameters_to_vector(torch.autograd.grad(surrogate, list(actor.parameters())))
    gains: list[float] = []

    def watching(module: Any, args: Any, new: DiagonalGaussian) -> None:
        ratio = torch.exp(new.log_prob(samples.action) - old_log_prob)
        gains.append(((ratio.double() - 1) * M).mean().item())

    watch = actor.register_forward_hook(watching)
    _, ratio, row = line_search(actor, samples, M, old, step, predicted, TrustRegionSettings(**given))
    watch.remove()
    return ratio, dict(row), gains


@pytest.mark.parametrize("sign", [1, -1])
def test_a_zero_step_improves_the_surrogate_by_exactly_zero(sign: int) -> None:
    """A search that compares two different surrogates sees a gain where nothing moved, for M or for -M."""
    ratio, row, gains = line_search_on(gaussian_actor(), 0.0, 0.0, sign, max_backtracks=3)
    assert gains == [0, 0, 0]
    assert (row["accepted"], row["gain"]) == (0, 0.0)
    assert torch.equal(ratio, torch.ones(12))


def test_a_line_search_accepts_a_step_that_gains_what_was_promised() -> None:
    actor = gaussian_actor()
    before = [p.clone() for p in actor.parameters()]
    ratio, row, gains = line_search_on(actor, 1e-3, 1e-9, accept_ratio=1.0)
    assert (row["accepted"], row["backtracks"], len(gains)) == (1, 0, 1)
    assert row["predicted_gain"] == 1e-9
    assert row["gain"] == pytest.approx(gains[0], rel=1e-4)
    assert not same(list(actor.parameters()), before)
    assert not torch.equal(ratio, torch.ones(12))


def test_a_line_search_that_is_promised_too_much_restores_the_parameters_bit_for_bit() -> None:
    actor = gaussian_actor()
    before = [p.clone() for p in actor.parameters()]
    ratio, row, gains = line_search_on(actor, 1e-3, 1e9, accept_ratio=1.0)
    assert len(gains) == 10
    assert min(gains) > 0  # every try did gain, but not what was promised
    assert (row["accepted"], row["backtracks"], row["gain"]) == (0, 10, 0.0)
    assert same(list(actor.parameters()), before)
    assert torch.equal(ratio, torch.ones(12))


def test_a_line_search_rejects_what_gains_but_leaves_the_trust_region() -> None:
    actor = gaussian_actor()
    before = [p.clone() for p in actor.parameters()]
    _, row, gains = line_search_on(actor, 0.05, 1e-9, delta=1e-9)
    assert min(gains) > 0
    assert row["accepted"] == 0
    assert same(list(actor.parameters()), before)


# The step


def test_the_trust_region_ratio_is_one_number_per_sample() -> None:
    samples, M = twelve_samples()
    ratio, row = trust_region_step(gaussian_actor(), samples, M, TrustRegionSettings(), generator())
    assert row["accepted"] == 1
    assert ratio.shape == (12,)


@pytest.mark.parametrize("name", ["hatrpo", "matrpo"])
def test_a_rejected_step_leaves_the_actor_alone_and_reports_no_kl(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search is sent downhill, so that no step along it can be accepted; a rejected KL must not be logged."""
    monkeypatch.setattr(trust_region, "conjugate_gradient", lambda product, b, steps: -b)
    members = team()
    learner = build(name, members)
    turns = record_turns(learner)
    team_row = learner.update(acted(learner, members))[-1]
    assert len(turns) == 3
    for turn in turns:
        assert same(list(turn.old.parameters()), list(turn.new.parameters()))
        assert torch.equal(turn.ratio, torch.ones(30))
        assert torch.equal(turn.M, turns[0].M)  # nobody moved, so nobody's advantage is reweighed
        assert turn.row["accepted"] == 0
        assert turn.row["kl_mean"] == turn.row["kl_max"] == turn.row["kl_top_share"] == turn.row["gain"] == 0
    assert team_row["kl_joint"] == 0


def test_a_step_with_too_large_a_kl_is_shortened_until_it_fits() -> None:
    actor = gaussian_actor()
    samples, M = twelve_samples()
    c = TrustRegionSettings(delta=1.0, damping=0.0, accept_ratio=0.0, max_backtracks=50)
    old = copy.deepcopy(actor)
    _, row = trust_region_step(actor, samples, M, c, generator())
    assert row["accepted"] == 1
    assert row["backtracks"] > 0  # type: ignore[operator]
    with torch.no_grad():
        kl = old(samples.observation).kl_divergence(actor(samples.observation))
    assert kl.mean().item() <= 1.0


def test_a_trust_region_step_begins_with_the_gradient_of_the_surrogate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all samples, at the old policy, and of the log standard deviation too."""
    actor, (samples, M) = gaussian_actor(), twelve_samples()
    old = copy.deepcopy(actor)
    received: list[Tensor] = []

    def watching(product: Any, b: Tensor, steps: int) -> Tensor:
        received.append(b)
        return conjugate_gradient(product, b, steps)

    monkeypatch.setattr(trust_region, "conjugate_gradient", watching)
    ratio, row = trust_region_step(actor, samples, M, TrustRegionSettings(), generator())
    log_prob = old(samples.observation).log_prob(samples.action)
    surrogate = (torch.exp(log_prob - log_prob.detach()) * M).mean()
    gradient = parameters_to_vector(torch.autograd.grad(surrogate, list(old.parameters())))
    torch.testing.assert_close(received[0], gradient, rtol=1e-4, atol=1e-6)
    assert row["gradient_norm"] == pytest.approx(gradient.norm().item(), rel=1e-4)
    new_log_prob = actor(samples.observation).log_prob(samples.action)
    torch.testing.assert_close(ratio, torch.exp(new_log_prob - log_prob), rtol=1e-5, atol=1e-6)


def test_without_any_advantage_a_trust_region_step_leaves_the_parameters_untouched() -> None:
    actor, (samples, M) = gaussian_actor(), twelve_samples()
    before = [p.clone() for p in actor.parameters()]
    ratio, row = trust_region_step(actor, samples, torch.zeros_like(M), TrustRegionSettings(), generator())
    assert same(list(actor.parameters()), before)
    assert torch.equal(ratio, torch.ones(12))
    assert row["accepted"] == 0
    assert finite([row])


# Conjugate gradients


def test_conjugate_gradient_solves_a_positive_definite_system_in_as_many_steps_as_it_has_rows() -> None:
    """[[4, 1], [1, 3]] x = [1, 2] has the solution [1/11, 7/11]."""
    A = torch.tensor([[4.0, 1.0], [1.0, 3.0]])
    x = conjugate_gradient(lambda v: A @ v, torch.tensor([1.0, 2.0]), 2)
    torch.testing.assert_close(x, torch.tensor([1 / 11, 7 / 11]))


def test_conjugate_gradient_of_nothing_is_nothing() -> None:
    A = torch.tensor([[4.0, 1.0], [1.0, 3.0]])
    assert torch.equal(conjugate_gradient(lambda v: A @ v, torch.zeros(2), 10), torch.zeros(2))


def test_conjugate_gradient_goes_on_past_the_solution_without_dividing_by_zero() -> None:
    b = torch.tensor([1.0, 2.0])
    torch.testing.assert_close(conjugate_gradient(lambda v: 2 * v, b, 50), b / 2)


def test_conjugate_gradient_of_a_zero_matrix_stays_finite() -> None:
    assert conjugate_gradient(torch.zeros_like, torch.tensor([1.0, -2.0]), 10).isfinite().all()


@pytest.mark.parametrize("steps", [1, 2, 5, 10])
def test_an_iterate_of_conjugate_gradients_is_as_long_as_its_share_of_the_right_hand_side(steps: int) -> None:
    """x^T A x = x^T b however early the iteration stops: the step's length needs no product more."""
    root = torch.randn(12, 12, generator=generator(), dtype=torch.float64)
    A, b = root @ root.T, torch.randn(12, generator=generator(1), dtype=torch.float64)
    x = conjugate_gradient(lambda v: A @ v, b, steps)
    torch.testing.assert_close(x.dot(A @ x), x.dot(b))


# The Fisher-vector product


def gaussian_of_two_scales() -> GaussianActor:
    actor = gaussian_actor()
    with torch.no_grad():
        actor.log_std.copy_(torch.tensor([-1.0, 0.3]))
    return actor


POLICIES: dict[str, Callable[[], Actor]] = {
    "gaussian": gaussian_of_two_scales,
    "categorical": lambda: CategoricalActor(3, (4,), (8, 8), generator(1)),
    "of two choices": lambda: CategoricalActor(3, (2, 3), (8, 8), generator(1)),
    "masked": lambda: CategoricalActor(3, (2, 3), (8, 8), generator(1)),
}
"""One small actor of each policy class, that observes three numbers."""


@pytest.fixture(params=POLICIES)
def small_actor(request: pytest.FixtureRequest) -> tuple[Actor, Samples]:
    """An actor and ten samples, whose normaliser and parameters are no round numbers: a fresh LayerNorm (gamma 1, beta
    0) would hide mistakes."""
    actor, random = POLICIES[request.param](), generator(6)
    with torch.no_grad():
        for p in actor.parameters():
            p += 0.1 * torch.randn(p.shape, generator=random)  # type: ignore[misc]
    actor.normaliser.update(0.3 + 2 * torch.randn(50, 3, generator=random))
    mask = None
    if request.param == "masked":
        mask = torch.rand(10, 5, generator=random) < 0.5
        mask[:, [1, 4]] = True  # one choice of each component
    return actor, Samples(torch.randn(10, 3, generator=random), torch.zeros(10, 2), mask)


def in_double(actor: Actor, samples: Samples) -> tuple[Actor, Samples]:
    observation, action = samples.observation.double(), samples.action.double()
    return copy.deepcopy(actor).double(), Samples(observation, action, samples.mask)


@pytest.mark.parametrize("damping", [0.0, 0.1])
def test_the_fisher_product_is_the_dense_hessian_of_the_mean_kl_times_the_vector(
    small_actor: tuple[Actor, Samples], damping: float
) -> None:
    actor, samples = in_double(*small_actor)
    H = hessian_of_the_mean_kl(actor, samples)
    v = torch.randn(len(H), generator=generator(), dtype=torch.float64)
    product, expected = fisher_vector_product(actor, samples, damping), H @ v + damping * v
    assert (product(v) - expected).norm() < 1e-10 * expected.norm()
    torch.testing.assert_close(product(v), expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(product(2 * v), 2 * product(v))  # nothing of one product is left for the next


def test_the_fisher_product_in_single_precision_is_off_by_less_than_a_hundred_thousandth(
    small_actor: tuple[Actor, Samples],
) -> None:
    exact = hessian_of_the_mean_kl(*in_double(*small_actor))
    v = torch.randn(len(exact), generator=generator())
    found, expected = fisher_vector_product(*small_actor, damping=0.0)(v), exact @ v.double()
    assert found.dtype == torch.float32
    assert (found - expected).norm() < 1e-5 * expected.norm()


def test_in_log_sigma_the_fisher_matrix_of_a_gaussian_is_two_on_the_diagonal() -> None:
    """Which pins the scale: neither the mean over samples nor the sum over action dimensions is lost."""
    actor, (samples, _) = gaussian_of_two_scales(), twelve_samples()
    product = fisher_vector_product(actor, samples, 0.0)
    assert next(name for name, _ in actor.named_parameters()) == "log_std"
    v = torch.zeros(sum(p.numel() for p in actor.parameters()))
    v[1] = 1.0
    torch.testing.assert_close(product(v), 2 * v)
