"""The layers of all networks, and the three ways of passing through them that autograd would make dear: without a
gradient, with one, and along a direction in the parameters.

With h = max(W x + b, 0) and z = (h - E[h]) / s, a layer behind a layer norm gives y = W' (gamma z + beta) + b'. The
norm's scale, shift and mean can be folded into it, so that only 1 / s, one number per row, is left to multiply by:
    y = V (h / s) + c,     V = U - E[U] over its inputs,     U = W' diag(gamma),     c = b' + W' beta
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import pairwise
from math import ceil
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

HIDDEN_GAIN = 2**0.5
EPSILON = 1e-5
"""What layer norms add to the variance."""
PIECE = 2048
"""Rows that a network takes at a time, at most."""


class MLP(nn.Sequential):
    """Linear, ReLU, LayerNorm for each hidden layer, then a linear head."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., F] -> [..., O]; folding the layer norms pays from about 1,000 rows on."""
        if torch.is_grad_enabled() or x.shape[:-1].numel() <= PIECE // 2:
            return super().forward(x)
        there = Passage(self)
        rows = [there.forward(piece).clone() for (piece,) in pieces(x.flatten(0, -2))]
        return torch.cat(rows).unflatten(0, x.shape[:-1])


def mlp(sizes: Sequence[int], head_gain: float, generator: torch.Generator) -> MLP:
    """Linear, ReLU, LayerNorm for each hidden layer, then a linear head; orthogonal weights, zero biases."""
    layers: list[nn.Module] = []
    for index, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        is_head = index == len(sizes) - 2
        linear = nn.utils.skip_init(nn.Linear, fan_in, fan_out)  # the default init would draw from global randomness
        nn.init.orthogonal_(linear.weight, head_gain if is_head else HIDDEN_GAIN, generator=generator)
        nn.init.zeros_(linear.bias)
        layers += [linear] if is_head else [linear, nn.ReLU(inplace=True), nn.LayerNorm(fan_out)]
    return MLP(*layers)


def pieces(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The rows of all tensors in about equal pieces of at most PIECE."""
    count = max(ceil(len(tensors[0]) / PIECE), 1)
    return zip(*(x.tensor_split(count) for x in tensors), strict=True)


@cache
def workspace(name: str | int, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
    """Memory that is only needed until the next piece: used again and again, it stays in the processor's cache."""
    return torch.empty(rows, columns, dtype=dtype)


@torch.no_grad()
def folded(network: nn.Sequential) -> Iterator[tuple[Tensor, Tensor]]:
    """V [O, F] and c [O] of each linear layer; W and b of the first, which has no layer norm before it."""
    norm: nn.LayerNorm | None = None
    for layer in network:
        if isinstance(layer, nn.LayerNorm):
            norm = layer
        elif isinstance(layer, nn.Linear) and norm is None:
            yield layer.weight, layer.bias
        elif isinstance(layer, nn.Linear) and norm is not None:
            U = layer.weight * norm.weight
            yield U.sub_(row_means(U)), torch.addmv(layer.bias, layer.weight, norm.bias)


def row_means(x: Tensor) -> Tensor:
    """x.mean(1, keepdim=True), as a product, which is faster for weights."""
    return torch.mv(x, x.new_full(x.shape[1:], 1 / x.shape[1])).unsqueeze_(1)


class Passage:
    """Rows on their way through an `mlp`, piece by piece, and the sum of their gradients on the way back.

    What autograd would do, with the layer norms folded and in memory that the next passage writes over, or in its own.
    """

    def __init__(self, network: nn.Sequential, own_memory: bool = False):
        self.linears = [layer for layer in network if isinstance(layer, nn.Linear)]
        self.norms = [layer for layer in network if isinstance(layer, nn.LayerNorm)]
        self.layers = list(folded(network))
        self.sums = [(torch.empty_like(V), torch.empty_like(c)) for V, c in self.layers]
        (V, _), (_, dc) = self.layers[0], self.sums[0]
        self.sums[0] = (V.new_empty(V.shape[::-1]).t(), dc)  # few inputs: the product is faster column by column
        self.again = False  # whether the sums hold something
        self.kept: list[tuple[Tensor, Tensor, Tensor]] = []
        self.own_memory = own_memory

    def _room(self, name: str | int, rows: int, columns: int, like: Tensor) -> Tensor:
        own = self.own_memory
        return like.new_empty(rows, columns) if own else workspace(name, PIECE, columns, like.dtype)[:rows]

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """The outputs for one piece, which hold until the next.  [B, F] -> [B, O]"""
        rows = len(x)
        self.kept = [(x, x, x)]
        for k, (V, c) in enumerate(self.layers):
            h = torch.addmm(c, x, V.t(), out=self._room(k, rows, len(V), x))
            if k < len(self.norms):
                mean = h.relu_().mean(1, keepdim=True)
                size = torch.linalg.vector_norm(h, dim=1, keepdim=True)
                var = size.square_().mul_(1 / h.shape[1]).addcmul_(mean, mean, value=-1).add_(EPSILON)
                scale = var.clamp_(min=EPSILON).rsqrt_()  # 1 / s; rounding may have left var below 0
                x = h.mul_(scale)
                self.kept.append((x, mean.mul_(scale), scale))
        return h

    def _through_norm(self, k: int, dx: Tensor) -> Tensor:
        """(dx - E[dx] - z E[z dx]) / s: what moves z as dx moves h, and what z's gradient dx is to h."""
        x, mean, scale = self.kept[k]
        given = (dx, x, x.shape[1:], mean, torch.ones_like(mean), None, None)
        dh, *_ = torch.ops.aten.native_layer_norm_backward(*given, [True, False, False])
        return dh.mul_(scale)

    @torch.no_grad()
    def backward(self, dy: Tensor) -> None:
        """Add what one piece gives to the gradients of V and c, dy [B, O] being that of its outputs."""
        one = dy.new_ones(len(dy))
        for k in range(len(self.layers) - 1, -1, -1):
            (x, *_), (V, _), (dV, dc) = self.kept[k], self.layers[k], self.sums[k]
            dV.addmm_(dy.t(), x, beta=self.again)
            dc.addmv_(dy.t(), one, beta=self.again)
            if k:
                dh = self._through_norm(k, torch.mm(dy, V, out=self._room("dx", len(dy), V.shape[1], x)))
                dy = torch.ops.aten.threshold_backward.grad_input(dh, x, 0, grad_input=dh)
        self.again = True

    @torch.no_grad()
    def finish(self, place: Callable[[Tensor], Any] = attrgetter("grad")) -> None:
        """Write the gradients of the network's parameters, by the chain rule through the folding, and begin anew."""
        for layer, (_, dc) in zip(self.linears, self.sums, strict=True):
            place(layer.bias).copy_(dc)
        place(self.linears[0].weight).copy_(self.sums[0][0])
        for layer, norm, (dV, dc) in zip(self.linears[1:], self.norms, self.sums[1:], strict=True):
            dU = dV.sub_(row_means(dV))
            torch.mul(dU, norm.weight, out=place(layer.weight)).addr_(dc, norm.bias)
            torch.sum(dU.mul_(layer.weight), 0, out=place(norm.weight))
            torch.mv(layer.weight.t(), dc, out=place(norm.bias))
        self.again = False

    @torch.no_grad()
    def tangent(self, v: Mapping[Tensor, Tensor]) -> Tensor:
        """J v [B, O] for the piece that went forward, J its Jacobian in the parameters; v has a tensor for each."""
        dx: Tensor | None = None  # the network's input does not move
        for k, (layer, (V, _), (x, *_)) in enumerate(zip(self.linears, self.layers, self.kept, strict=True)):
            W, dV, dc = layer.weight, v[layer.weight], v[layer.bias]
            if k:
                gamma, beta = self.norms[k - 1].weight, self.norms[k - 1].bias
                dc = dc + dV @ beta + W @ v[beta]
                dU = dV * gamma + W * v[gamma]
                dV = dU - row_means(dU)
            dy = torch.addmm(dc, x, dV.t())
            if dx is not None:
                dy.addmm_(dx, V.t())
            if k < len(self.norms):
                dx = self._through_norm(k + 1, torch.ops.aten.threshold_backward(dy, self.kept[k + 1][0], 0))
        return dy


def flat(network: nn.Module, gradient: bool = False) -> Tensor:
    """One vector of which all parameters of a network, or their gradients, become views.

    Each begins at a multiple of 64 bytes, as on its own: how products round depends on that.
    """
    parameters = list(network.parameters())
    sizes = [ceil(p.numel() / 16) * 16 for p in parameters]
    vector = torch.zeros(sum(sizes))
    for p, part in zip(parameters, vector.split(sizes), strict=True):
        view = part[: p.numel()].view_as(p)
        if gradient:
            p.grad = view
        else:
            p.data = view.copy_(p.data)
    return vector


class FlatAdam(torch.optim.Adam):
    """Adam on all parameters of a network as one vector: one kernel a step instead of one per tensor."""

    def __init__(self, network: nn.Module, lr: float, eps: float):
        self.vector = nn.Parameter(flat(network))
        self.gradient = self.vector.grad = flat(network, gradient=True)
        super().__init__([self.vector], lr, eps=eps, fused=True)
