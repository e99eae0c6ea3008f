"""The matrix products that an update cannot do without: the other half, beside bare physics, of a trial's limit.

A layer of a network that R rows pass through is one product of [R, fan_in] by [fan_in, fan_out], and so is each of its
two gradients. The table is made from a learner's own networks and settings; biases, activations, normalisation, losses
and optimisers count nothing. Each product is computed by the library that is faster on this processor, PyTorch's own
choice (`torch.mm`) or oneDNN, whichever of them training uses. To choose, products are timed alone; a pass is timed as
a whole, its products one after the other on all its rows, each reading what those before it wrote: alone, in a warm
cache, products are faster than any pass can be.

    all on-policy  each actor acts on E rows, T times; each critic forward over the rollout for the values; each epoch
                   of a critic forward and backward over the rollout
    clip           one pass forward for the old log-probabilities, each epoch of an actor forward and backward, and one
                   pass forward for the ratio afterwards
    trust region   one pass forward and backward for g, which gives the old log-probabilities too; per conjugate
                   gradient step one product with the Fisher matrix of all samples; one pass for the line search,
                   which gives the ratio too
    maddpg         each actor acts on E rows, T times; per gradient step, over the B rows of a batch: target actors and
                   target critics forward, critics forward and backward, actors forward and backward, and critics
                   forward and backward to the agent's own action

Backward means a product for the gradient of each layer's weights and one for that of its input, the latter not for the
first layer, whose input is data. What can be had from these passes costs nothing: the Fisher matrix's activations are
those of g's pass, and the curvature along the direction follows from the last residual.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn

from algorithms import Learner
from algorithms.config import ClipSettings, OnPolicySettings, TrustRegionSettings
from algorithms.distributions import encoded_size
from algorithms.maddpg import MADDPG
from algorithms.on_policy import OnPolicy

TRIES = 20
"""So often a product is computed in each way, to choose one."""
AT_LEAST = 8e-3
"""Seconds for which a pass is repeated to be timed; the mean counts, as what disturbs it disturbs training too."""


Kind = Literal["forward", "weights", "inputs"]


@dataclass(frozen=True)
class Product:
    """rows x fan_in x fan_out multiplications and additions, and which of the three matrices they give."""

    rows: int
    fan_in: int
    fan_out: int
    kind: Kind
    """The layer's output [rows, fan_out], or the gradient of its weights [fan_out, fan_in] or input [rows, fan_in]."""
    layer: int = 0
    """Which of its network: it reads what the one before wrote."""


@dataclass(frozen=True)
class Pass:
    """One passage through a network, and how often an update takes it."""

    what: str
    times: float
    products: tuple[Product, ...]


def layers(network: nn.Module) -> list[tuple[int, int]]:
    """(fan_in, fan_out) of each layer, in their order."""
    return [(p.shape[1], p.shape[0]) for p in network.parameters() if p.dim() == 2]


def forward(network: nn.Module, rows: int) -> tuple[Product, ...]:
    """One product per layer."""
    return tuple(Product(rows, *sizes, "forward", k) for k, sizes in enumerate(layers(network)))


def backward(network: nn.Module, rows: int) -> tuple[Product, ...]:
    """Two products per layer, from the last to the first; one in that: nobody asks for the gradient of the data."""
    return tuple(
        Product(rows, *sizes, kind, k)
        for k, sizes in reversed([*enumerate(layers(network))])
        for kind in (("weights", "inputs") if k else ("weights",))
    )


def tangent(network: nn.Module, rows: int) -> tuple[Product, ...]:
    """Forward mode, d(x W) = x dW + dx W: two products per layer, one in the first, where the data's dx is 0."""
    return forward(network, rows) + forward(network, rows)[1:]


def table(learner: Learner) -> list[Pass]:
    """All passes of one update of `learner` and of the collection before it."""
    if isinstance(learner, MADDPG):
        return list(_maddpg(learner))
    assert isinstance(learner, OnPolicy)
    return [*_actors(learner), *_critics(learner)]


def _actors(learner: OnPolicy) -> Iterator[Pass]:
    c = learner.settings
    for k, (actor, group) in enumerate(zip(learner.actors, learner.groups, strict=True)):
        rows = c.rollout_length * c.envs * len(group)
        yield Pass(f"actor {k} acts", c.rollout_length, forward(actor, c.envs * len(group)))
        if isinstance(c, TrustRegionSettings):
            yield from _trust_region(f"actor {k}", actor, c, len(group))
        else:
            assert isinstance(c, ClipSettings)
            yield Pass(f"actor {k} old log-probabilities", 1, forward(actor, rows))
            yield from _epochs(f"actor {k}", actor, rows, c.actor_epochs, c.actor_minibatches)
            yield Pass(f"actor {k} ratio", 1, forward(actor, rows))


def _trust_region(name: str, actor: nn.Module, c: TrustRegionSettings, agents: int) -> Iterator[Pass]:
    """A product with the Fisher matrix, J^T M J v, is one pass in forward mode (J v) and one in reverse mode (J^T)."""
    rows = c.rollout_length * c.envs * agents
    yield Pass(f"{name} gradient", 1, forward(actor, rows) + backward(actor, rows))
    yield Pass(f"{name} conjugate gradient", c.cg_steps, tangent(actor, rows) + backward(actor, rows))
    yield Pass(f"{name} line search", 1, forward(actor, rows))


def _critics(learner: OnPolicy) -> Iterator[Pass]:
    """The values of the states after the last step and of those that ended episodes are few, and left out."""
    c: OnPolicySettings = learner.settings
    agents = [1] if learner.is_centralised else [len(group) for group in learner.groups]
    for k, (critic, count) in enumerate(zip(learner.critics, agents, strict=True)):
        rows = c.rollout_length * c.envs * count
        yield Pass(f"critic {k} values", 1, forward(critic, rows))
        yield from _epochs(f"critic {k}", critic, rows, c.critic_epochs, c.critic_minibatches)


def _epochs(name: str, network: nn.Module, rows: int, epochs: int, parts: int) -> Iterator[Pass]:
    """Forward and backward over all rows, in each epoch, in nearly equal parts as `rollout.minibatches` cuts them."""
    for size, count in Counter(len(part) for part in torch.arange(rows).tensor_split(parts)).items():
        yield Pass(f"{name} epochs", epochs * count, forward(network, size) + backward(network, size))


def _maddpg(learner: MADDPG) -> Iterator[Pass]:
    c, B = learner.settings, learner.settings.batch_size
    times = c.update_to_data * c.envs * c.rollout_length
    for i, (actor, critic) in enumerate(zip(learner.actors, learner.critics, strict=True)):
        yield Pass(f"actor {i} acts", c.rollout_length, forward(actor, c.envs))
        yield Pass(f"target actor {i}", times, forward(actor, B))
        yield Pass(f"target critic {i}", times, forward(critic, B))
        yield Pass(f"critic {i}", times, forward(critic, B) + backward(critic, B))
        yield Pass(f"actor {i}", times, forward(actor, B) + backward(actor, B))
        (_, first), *_ = layers(critic)
        inputs = [x for x in backward(critic, B) if x.kind == "inputs"]
        own = Product(B, encoded_size(learner.team.action_spaces[i]), first, "inputs")
        yield Pass(f"critic {i} to action", times, (*forward(critic, B), *inputs, own))


# --- Ways to compute a product --------------------------------------------------------------------------------------


@dataclass
class Matrix:
    """What products read and write: PyTorch's writes into the memory that is there, oneDNN's brings its own."""

    now: Tensor


def _torch_forward(x: Matrix, W: Matrix, y: Matrix) -> None:
    torch.mm(x.now, W.now.t(), out=y.now)


def _torch_weights(dy: Matrix, x: Matrix, dW: Matrix) -> None:
    torch.mm(dy.now.t(), x.now, out=dW.now)


def _torch_inputs(dy: Matrix, W: Matrix, dx: Matrix) -> None:
    torch.mm(dy.now, W.now, out=dx.now)


def _onednn_forward(x: Matrix, W: Matrix, y: Matrix) -> None:
    y.now = _onednn(x.now, W.now)


def _onednn_weights(dy: Matrix, x: Matrix, dW: Matrix) -> None:
    dW.now = _onednn(dy.now.t(), x.now.t())


def _onednn_weights_transposed(dy: Matrix, x: Matrix, dW: Matrix) -> None:
    """dW^T = x^T dy: faster where dW has more rows than columns."""
    dW.now = _onednn(x.now.t(), dy.now.t()).t()


def _onednn_inputs(dy: Matrix, W: Matrix, dx: Matrix) -> None:
    dx.now = _onednn(dy.now, W.now.t())


def _onednn(a: Tensor, b: Tensor) -> Tensor:
    """a b^T  [B, F], [O, F] -> [B, O]"""
    product: Tensor = torch.ops.mkldnn._linear_pointwise.default(a, b, None, "none", [], "")
    return product


Library = Literal["torch", "onednn"]
Multiply = Callable[[Matrix, Matrix, Matrix], None]
"""(factor, factor, result)"""
WAYS: dict[Kind, list[tuple[Library, Multiply]]] = {
    "forward": [("torch", _torch_forward), ("onednn", _onednn_forward)],
    "weights": [("torch", _torch_weights), ("onednn", _onednn_weights), ("onednn", _onednn_weights_transposed)],
    "inputs": [("torch", _torch_inputs), ("onednn", _onednn_inputs)],
}


@dataclass(frozen=True)
class Way:
    """How a product is computed, and the seconds that this takes alone."""

    library: Library
    multiply: Multiply
    seconds: float


Ways = Mapping[Product, Way]


def fastest(passes: Iterable[Pass]) -> Ways:
    """The fastest way to compute each product of these passes on this processor."""
    once = cache(_fastest)  # of equal products, in whichever layer
    return {x: once(replace(x, layer=0)) for p in passes for x in p.products}


def _fastest(product: Product) -> Way:
    has_onednn = _has_onednn()
    ways = [(library, multiply) for library, multiply in WAYS[product.kind] if library == "torch" or has_onednn]
    least = _alone(product, [multiply for _, multiply in ways])
    return min((Way(*way, seconds) for way, seconds in zip(ways, least, strict=True)), key=lambda way: way.seconds)


def _has_onednn() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _alone(product: Product, multiplies: Sequence[Multiply]) -> list[float]:
    """The least seconds of one product in each of these ways, which take turns: what disturbs one must not choose."""
    works = [[(multiply, *matrices) for matrices in _laid_out([product])] for multiply in multiplies]
    with _full_precision():
        rounds = [[_repeat(work, 1) for work in works] for _ in range(TRIES)]
    return [min(seconds) for seconds in zip(*rounds, strict=True)]


def onednn_share(passes: Iterable[Pass], ways: Ways) -> float:
    """The share of the products' seconds, each alone, that are oneDNN's."""
    seconds = {"torch": 0.0, "onednn": 0.0}
    for p in passes:
        for product in p.products:
            seconds[ways[product].library] += p.times * ways[product].seconds
    return seconds["onednn"] / sum(seconds.values())


# --- Timing ---------------------------------------------------------------------------------------------------------


def seconds(passes: Iterable[Pass], ways: Ways) -> float:
    """What all passes of a table take, those of equal products timed once and counted as often as they occur."""
    once = cache(lambda products: _timed(products, ways))  # within this call only: the next measures the machine anew
    return sum(p.times * once(p.products) for p in passes)


def _timed(products: tuple[Product, ...], ways: Ways) -> float:
    """Seconds of the products of a pass one after the other."""
    work = [(ways[x].multiply, *matrices) for x, matrices in zip(products, _laid_out(products), strict=True)]
    with _full_precision():
        count = math.ceil(AT_LEAST / min(_repeat(work, 1) for _ in range(3)))
        return _repeat(work, max(count, 1))


@contextmanager
def _full_precision() -> Iterator[None]:
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)


def _repeat(work: Sequence[tuple[Multiply, Matrix, Matrix, Matrix]], count: int) -> float:
    """Seconds of one of `count` times all products."""
    start = time.perf_counter()
    for _ in range(count):
        for multiply, a, b, result in work:
            multiply(a, b, result)
    return (time.perf_counter() - start) / count


def _laid_out(products: Sequence[Product]) -> list[tuple[Matrix, Matrix, Matrix]]:
    """Two factors and the result of each product: matrices as `nn.Linear` and its gradient have them, all allocated.

    Every layer has its own input x, weights W and their gradients dx and dW, so that each product reads what those
    before it wrote; the output of layer k is the input of layer k + 1.
    """

    @cache
    def matrix(name: str, layer: int, rows: int, columns: int) -> Matrix:
        return Matrix(torch.ones(rows, columns))

    work = []
    for p in products:
        W, dW = (matrix(name, p.layer, p.fan_out, p.fan_in) for name in ("W", "dW"))
        x, dx = (matrix(name, p.layer, p.rows, p.fan_in) for name in ("x", "dx"))
        y, dy = (matrix(name, p.layer + 1, p.rows, p.fan_out) for name in ("x", "dx"))
        work.append({"forward": (x, W, y), "weights": (dy, x, dW), "inputs": (dy, W, dx)}[p.kind])
    return work
