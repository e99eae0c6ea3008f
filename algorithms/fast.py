"""Speed, behind three names that plain torch can replace: nobody needs to read this file to follow a method.

| name            | what a few lines of plain torch would do                                                       |
|-----------------|------------------------------------------------------------------------------------------------|
| `Linear`        | `nn.Linear`                                                                                    |
| `BatchedActors` | each actor's `network(normaliser(observation))`, one actor after the other                     |
| `Jacobian`      | `torch.func.jvp` and `torch.autograd.grad` of a network's outputs in its parameters            |

tests/algorithms/test_fast.py compares whole updates of the methods with both: equal to 1e-12 in float64, to 1e-5 in
float32. Each saves at least 5% of the time of training: on HalfCheetah-2x3, measured in pairs on a core of an AMD EPYC,
training takes 1.26 times as long with plain layers (HAPPO), 1.05 times with plain acting (HAPPO; 1.11 on 6x1) and 1.49
times with plain Jacobian products (HATRPO, products by PyTorch).
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from algorithms.validation import SettingError

MANY_ROWS = 128
"""From this many rows on oneDNN's product is faster than MKL's: its calls cost more, its arithmetic less."""
VARIABLE = "MARL_BENCH_MATMUL"
"""The environment variable that chooses the library of matrix products: `onednn` or `torch`."""


# --- Matrix products ------------------------------------------------------------------------------------------------
#
# PyTorch multiplies float32 matrices with MKL, which takes a slow path on x86 processors that are not Intel's
# (pytorch#38412): on a Zen 5 core 110 GFLOP/s, where oneDNN in the same wheel reaches 250. The results differ in the
# last bits, so the choice follows the processor's vendor, never a timing, and stands in every trial's provenance.


def matmul_library() -> str:
    """Which library multiplies large float32 matrices: `onednn` on x86 processors of others than Intel, else `torch`.

    Raises SettingError where the environment variable MARL_BENCH_MATMUL asks for another, or for oneDNN without it.
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted not in ("", "onednn", "torch"):
        raise SettingError(VARIABLE, f"{wanted[:40]!r} in the environment is none of onednn, torch")
    exists = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    if wanted == "onednn" and not exists:
        raise SettingError(VARIABLE, f"onednn: PyTorch {torch.__version__} of this machine lacks its linear operator")
    return wanted or ("onednn" if exists and _is_x86_of_another_vendor() else "torch")


def _is_x86_of_another_vendor() -> bool:
    """Whether the processor is x86 and not Intel's; macOS runs on Intel's or on ARM."""
    if platform.machine().lower() not in ("x86_64", "amd64") or platform.system() == "Darwin":
        return False
    cpuinfo = Path("/proc/cpuinfo")
    vendor = cpuinfo.read_text(errors="replace") if cpuinfo.exists() else platform.processor()
    return "GenuineIntel" not in vendor


class Linear(nn.Linear):
    """y = x W^T + b.  [..., F] -> [..., O]"""

    def forward(self, x: Tensor) -> Tensor:
        """The product by oneDNN where that is faster, else by PyTorch's own choice."""
        if _takes_onednn(x):
            y: Tensor = _OneDNNLinear.apply(x.reshape(-1, x.shape[-1]), self.weight, self.bias)
            return y.unflatten(0, x.shape[:-1])
        return super().forward(x)


def _takes_onednn(x: Tensor) -> bool:
    rows = x.shape[:-1].numel()
    return rows >= MANY_ROWS and x.dtype == torch.float32 and _uses_onednn()


@cache
def _uses_onednn() -> bool:
    return matmul_library() == "onednn"


class _OneDNNLinear(torch.autograd.Function):
    """oneDNN's product and its two gradients.  [B, F] -> [B, O]"""

    @staticmethod
    def forward(ctx: Any, x: Tensor, W: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(x, W)
        return _product(x, W, b)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, W = ctx.saved_tensors
        of_x, of_W, of_b = ctx.needs_input_grad
        dx = dW = None
        if of_x:
            dx = _product(dy, W.t())
        if of_W:  # faster with the longer side of dW as columns
            narrow = dy.shape[1] <= x.shape[1]
            dW = _product(dy.t(), x.t()) if narrow else _product(x.t(), dy.t()).t().contiguous()
        return dx, dW, dy.sum(0) if of_b else None


def _product(x: Tensor, W: Tensor, b: Tensor | None = None) -> Tensor:
    """x W^T + b by oneDNN.  [B, F], [O, F], [O] -> [B, O]"""
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, W, b, "none", [], "")
    return y


# --- Acting ---------------------------------------------------------------------------------------------------------


class BatchedActors:
    """The networks of N actors as one batch, to act with: a copy of their weights, padded with zeros to common sizes.

    The scale and shift of a layer norm are folded into the next linear layer, so outputs are equal up to rounding.
    """

    def __init__(self, actors: Sequence[Any]):
        normalisers = [actor.normaliser for actor in actors]
        self.clip = normalisers[0].clip
        self.same_size = len({x.mean.shape for x in normalisers}) == 1
        self.mean = _stacked([x.mean[None] for x in normalisers])  # [N, 1, F]
        self.scale = _stacked([torch.rsqrt(x.var + 1e-8)[None] for x in normalisers])
        rows = [_folded(actor.network) for actor in actors]
        self.layers = [tuple(map(_stacked, zip(*layer, strict=True))) for layer in zip(*rows, strict=True)]
        self.sizes = [row[-1][1].shape[1] for row in rows]

    @torch.no_grad()
    def __call__(self, observations: Sequence[Tensor]) -> list[Tensor]:
        """Each actor's outputs (means, or logits) for its own observations.  N x [E, O_i] -> N x [E, W_i]"""
        x = torch.stack(list(observations)) if self.same_size else _stacked(observations)
        x = ((x - self.mean) * self.scale).clamp_(-self.clip, self.clip)
        *hidden, (W_out, b_out) = self.layers
        for W, b in hidden:
            h = torch.baddbmm(b, x, W).relu_()
            x = torch.layer_norm(h, h.shape[-1:])
        outputs = torch.baddbmm(b_out, x, W_out)
        return [y[:, :size] for y, size in zip(outputs, self.sizes, strict=True)]


@torch.no_grad()
def _folded(network: nn.Sequential) -> list[tuple[Tensor, Tensor]]:
    """W^T [F, O] and b [1, O] of each linear layer; for one after a layer norm with scale s and shift t instead
    diag(s) W^T and b + W t."""
    layers: list[tuple[Tensor, Tensor]] = []
    norm: nn.LayerNorm | None = None
    for layer in network:
        if isinstance(layer, nn.LayerNorm):
            norm = layer
        elif isinstance(layer, nn.Linear):
            W: Tensor = layer.weight
            b: Tensor = layer.bias
            if norm is not None:
                W, b = W * norm.weight, b + W @ norm.bias
            layers.append((W.t(), b[None]))
    return layers


def _stacked(matrices: Sequence[Tensor]) -> Tensor:
    """Matrices [r_i, c_i] padded with zeros to the largest, as one [N, r, c]."""
    rows, columns = (max(m.shape[axis] for m in matrices) for axis in (0, 1))
    padding = [(0, columns - m.shape[1], 0, rows - m.shape[0]) for m in matrices]
    return torch.stack([nn.functional.pad(m, p) if any(p) else m for m, p in zip(matrices, padding, strict=True)])


# --- Jacobian products ----------------------------------------------------------------------------------------------


class Jacobian:
    """J, the derivative of an `mlp`'s outputs at inputs x in its parameters, for any number of products.

    J v is carried from layer to layer (Pearlmutter 1994); J^T u is autograd's backward pass. `outputs` is [B, O].
    """

    def __init__(self, network: nn.Sequential, x: Tensor):
        self.parameters: list[Tensor] = list(network.parameters())
        self.linears = [layer for layer in network if isinstance(layer, nn.Linear)]
        self.norms = [layer for layer in network if isinstance(layer, nn.LayerNorm)]
        self.inputs = [x]  # of each linear layer, before the scale and shift of the layer norm
        self.normalised: list[tuple[Tensor, Tensor, Tensor]] = []  # input, mean and 1 / std of each layer norm
        for layer in network:
            if isinstance(layer, nn.LayerNorm):
                h = x.detach()
                z, mean, inverse = torch.native_layer_norm(h, h.shape[1:], None, None, layer.eps)
                self.inputs.append(z)
                self.normalised.append((h, mean, inverse))
            x = layer(x)
        self.graph, self.outputs = x, x.detach()

    @torch.no_grad()
    def times(self, v: Sequence[Tensor]) -> Tensor:
        """J v [B, O], v holding a tensor of each parameter's shape.

        Behind a layer norm z s + t, a layer has W' = W diag(s) and b' = b + W t; with dz = 0 in the first, whose inputs
        do not move, dy = z dW'^T + db' + dz W'^T.
        """
        d = dict(zip(self.parameters, v, strict=True))
        first = self.linears[0]
        dy = _linear(self.inputs[0], d[first.weight], d[first.bias])
        layers = zip(self.linears[1:], self.norms, self.inputs[1:], self.normalised, strict=True)
        for linear, norm, z, (h, mean, inverse) in layers:
            dh = torch.ops.aten.threshold_backward(dy, h, 0)  # ReLU
            W, s, t = linear.weight, norm.weight, norm.bias
            dW = d[W] * s + W * d[s]
            db = d[linear.bias] + d[W] @ t + W @ d[t]
            # dz = (dh - E[dh] - z E[z dh]) / deviation is symmetric in dh, so the backward pass of z gives it.
            given = (dh, h, h.shape[1:], mean, inverse, None, None)
            dz, *_ = torch.ops.aten.native_layer_norm_backward(*given, [True, False, False])
            dy = _linear(dz, W * s, plus=_linear(z, dW, db))
        return dy

    def transposed_times(self, u: Tensor) -> list[Tensor]:
        """J^T u, a tensor of each parameter's shape.  [B, O]"""
        return list(torch.autograd.grad(self.graph, self.parameters, u, retain_graph=True))


def _linear(x: Tensor, W: Tensor, b: Tensor | None = None, plus: Tensor | None = None) -> Tensor:
    """x W^T + b + plus, by the library that `Linear` takes.  [B, F] -> [B, O]"""
    if _takes_onednn(x):
        y: Tensor = (
            _product(x, W, b) if plus is None else torch.ops.mkldnn._linear_pointwise.binary(x, plus, W, b, "add")
        )
        return y
    y = nn.functional.linear(x, W, b)
    return y if plus is None else y + plus
