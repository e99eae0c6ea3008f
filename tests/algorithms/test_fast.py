"""The fast code against plain torch: whole updates of every method, and each name of `algorithms.fast` on its own."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import plain
import pytest
import torch
from helpers import EVERY, build, equal_team, generator, masks_at, parameters, rollout, same, team
from torch import Tensor, nn

import algorithms
from algorithms import METHODS, Diagnostics, Discrete, SettingError, Team, fast
from algorithms.config import ClipSettings, MADDPGSettings, TrustRegionSettings
from algorithms.networks import mlp

NAMES = ("Linear", "BatchedActors", "Jacobian")
"""What a few lines of plain torch can replace."""
HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
onednn = pytest.mark.skipif(not HAS_ONEDNN, reason="this build of PyTorch has no oneDNN linear operator")


def trained(network: Any, change: float = 0.3) -> Any:
    """The network with layer norms and a normaliser that are not those of a new one."""
    with torch.no_grad():
        for k, p in enumerate(network.parameters()):
            p += change * torch.randn(p.shape, generator=generator(k))
    network.normaliser.update(1 + 2 * torch.randn(50, len(network.normaliser.mean), generator=generator()))
    return network


# Whole updates


PLAIN, MULTI = Discrete((4,)), Discrete((2, 3))
KINDS: dict[str, tuple[Team, dict[str, Any]]] = {
    "continuous": (team(), {}),
    "discrete": (team(actions=(PLAIN, Discrete((2,)), MULTI)), {}),
    "masked": (team(actions=(MULTI, 1, PLAIN), masked=True), {}),
    "leaving": (team(actions=(MULTI, 1, PLAIN), masked=True, leaves=True), {}),
    "shared actors": (equal_team(3), {"share_actors": True}),
    "shared masked actors": (team((4, 4), (MULTI, MULTI), masked=True, leaves=True), {"share_actors": True}),
    "minibatches": (team(), {"actor_minibatches": 2, "critic_minibatches": 2}),
    "value clipping": (team(), {"value_clip": 0.001}),
}
"""Teams, and settings for those methods that have them."""


def given(name: str, kind: str) -> dict[str, Any]:
    """What of the settings of a kind a method has."""
    known = {field.name for field in fields(METHODS[name].settings)}
    return {key: value for key, value in KINDS[kind][1].items() if key in known}


CASES = [
    (name, kind)
    for name in METHODS
    for kind in KINDS
    if bool(given(name, kind)) is bool(KINDS[kind][1])
    and ("share_actors" not in given(name, kind) or METHODS[name].can_share_actors)
]
WELL_CONDITIONED: dict[type, dict[str, Any]] = {
    ClipSettings: {"initial_log_std": 0.0, "actor_lr": 0.003},
    TrustRegionSettings: {"initial_log_std": 0.0, "damping": 30.0},
    MADDPGSettings: {"batch_size": 256, "buffer_size": 10_000, "update_to_data": 0.01},  # 3 steps of 360 are due
}
"""Settings with which roundings stay roundings. At the published damping of 0.1, with eigenvalues of H up to 100, ten
steps of conjugate gradients are far from converged and amplify a rounding more than 10,000-fold; ratios of actions that
are many standard deviations away lose digits too, and so do KL divergences of 1e-6, which small learning rates make."""


def use(patch: pytest.MonkeyPatch, how: str) -> None:
    """Replace the fast names by the plain ones, or say whether they multiply by oneDNN."""
    if how == "plain":
        for name in NAMES:
            patch.setattr(fast, name, getattr(plain, name))
    elif how == "chosen":
        patch.setattr(fast, "_uses_onednn", lambda: fast.matmul_library() == "onednn")
    else:
        patch.setattr(fast, "_uses_onednn", lambda: how == "oneDNN")


Result = tuple[list[Diagnostics], list[Tensor]]


def updated(name: str, kind: str, how: str) -> Result:
    """The diagnostics of one update, then all parameters and moments, and actions with exploration and without."""
    members, _ = KINDS[kind]
    data = rollout(members, T=120, E=3)  # enough for minibatches and leaving agents to have 128 samples
    with pytest.MonkeyPatch.context() as patch:
        use(patch, how)
        learner = build(name, members, **WELL_CONDITIONED[METHODS[name].settings], **given(name, kind))
        for network in (*learner.actors, *learner.critics):
            trained(network, change=0.1)
        rows = learner.update(data)
        observations = [x[-1] for x in data.observations]
        actions = [learner.act(observations, explore, masks_at(data, -1)) for explore in (True, False)]
    assert learner.gradient_updates > 0
    return rows, [*parameters(learner), *actions[0], *actions[1]]


def assert_equal(ours: Result, theirs: Result, tolerance: float) -> None:
    """Of a small KL single precision has few digits, and of the share of its greatest parts none to compare."""
    skipped = {"agent"} if torch.get_default_dtype() == torch.float64 else {"agent", "kl_top_share"}
    assert [row["agent"] for row in ours[0]] == [row["agent"] for row in theirs[0]]
    for rows in zip(ours[0], theirs[0], strict=True):
        row, other = ({key: value for key, value in row.items() if key not in skipped} for row in rows)
        assert row == pytest.approx(other, rel=tolerance, abs=tolerance)
    for x, y in zip(ours[1], theirs[1], strict=True):
        torch.testing.assert_close(x, y, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_an_update_in_double_precision_is_that_of_plain_torch(name: str, kind: str, float64: None) -> None:
    assert_equal(updated(name, kind, "fast"), updated(name, kind, "plain"), 1e-12)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_an_update_is_that_of_plain_torch_with_onednn_and_without(
    name: str, kind: str, products: list[tuple[int, ...]]
) -> None:
    plainly, without = updated(name, kind, "plain"), updated(name, kind, "torch")
    assert not products
    assert_equal(without, plainly, 1e-5)
    if HAS_ONEDNN:
        with_it = updated(name, kind, "oneDNN")
        assert len(products) > 10
        assert_equal(with_it, plainly, 1e-5)
        assert_equal(with_it, without, 1e-5)


def test_every_method_is_compared_on_every_kind_of_team_and_setting_that_it_has() -> None:
    assert {name for name, _ in CASES} == {*EVERY}
    assert [kind for name, kind in CASES if name == "mappo"] == [*KINDS]
    assert [kind for name, kind in CASES if name == "maddpg"] == ["continuous", "discrete", "masked", "leaving"]
    assert {name for name, kind in CASES if "shared" in kind} == {"ippo", "mappo", "matrpo"}
    assert {name for name, kind in CASES if kind == "value clipping"} == {*EVERY} - {"maddpg"}


def test_plain_torch_replaces_every_name_that_methods_use() -> None:
    sources = [path for path in Path(algorithms.__file__).parent.glob("*.py") if path.name != "fast.py"]
    used = {name for path in sources for name in re.findall(r"\bfast\.(\w+)", path.read_text())}
    assert used == {*NAMES}
    assert all(hasattr(plain, name) for name in NAMES)


# Linear


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    """The shapes (rows, inputs, outputs) of the products that oneDNN is asked for."""
    asked: list[tuple[int, ...]] = []
    product = fast._product

    def counted(x: Tensor, W: Tensor, b: Tensor | None = None) -> Tensor:
        asked.append((*x.shape, len(W)))
        return product(x, W, b)

    monkeypatch.setattr(fast, "_product", counted)
    return asked  # type: ignore[return-value]


def linears(inputs: int, outputs: int) -> tuple[fast.Linear, nn.Linear]:
    """Two layers of the same weights: ours and PyTorch's."""
    theirs = nn.utils.skip_init(nn.Linear, inputs, outputs)
    with torch.no_grad():
        for p in theirs.parameters():
            p.copy_(torch.randn(p.shape, generator=generator(len(p))))
    ours = nn.utils.skip_init(fast.Linear, inputs, outputs)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def apart(x: Tensor | None, y: Tensor | None) -> float:
    """|x - y| / |y|"""
    assert x is not None
    assert y is not None
    assert x.shape == y.shape
    return ((x - y).norm() / y.norm()).item()


def assert_linear(x: Tensor, outputs: int, upstream: Callable[[Tensor], Tensor] | None = None) -> None:
    """Outputs and all gradients are those of PyTorch's layer, for random gradients of the outputs or given ones."""
    ours, theirs = linears(x.shape[-1], outputs)
    ends = []
    for layer in (ours, theirs):
        leaf = x.detach().requires_grad_()
        y = layer(leaf)
        dy = torch.randn(y.shape, generator=generator(7)) if upstream is None else upstream(y.detach())
        gradients = torch.autograd.grad(y, [leaf, layer.weight, layer.bias], dy)
        ends.append([y, *gradients])
    assert all(apart(a, b) < 2e-6 for a, b in zip(*ends, strict=True))


SHAPES = [(128, 3, 5), (129, 1, 7), (300, 17, 1), (130, 1, 1), (256, 64, 128), (1000, 128, 6), (4000, 11, 128)]


@onednn
@pytest.mark.parametrize("shape", SHAPES)
def test_a_linear_layer_is_pytorchs_with_its_gradients(
    shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch, products: list[tuple[int, ...]]
) -> None:
    monkeypatch.setattr(fast, "_uses_onednn", lambda: True)
    rows, inputs, outputs = shape
    assert_linear(torch.randn(rows, inputs, generator=generator()), outputs)
    assert len(products) == 3
    assert products[:2] == [(rows, inputs, outputs), (rows, outputs, inputs)]
    assert sorted(products[2]) == sorted(shape)


@onednn
@pytest.mark.parametrize(
    "x",
    [
        torch.randn(6, 200, generator=generator()).t(),
        torch.randn(200, 12, generator=generator())[:, ::2],
        torch.randn(200, 7, generator=generator())[:, 1:],
        torch.randn(400, 6, generator=generator())[::2],
        torch.randn(1, 6, generator=generator()).expand(200, 6),
        torch.randn(20, 6, 10, generator=generator()).transpose(1, 2),
    ],
    ids=["transposed", "every other column", "from the second column", "every other row", "expanded", "three axes"],
)
@pytest.mark.parametrize("outputs", [1, 3, 9])
def test_inputs_may_lie_in_memory_as_they_like(x: Tensor, outputs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "_uses_onednn", lambda: True)
    assert_linear(x, outputs)


@onednn
@pytest.mark.parametrize(
    "upstream",
    [
        torch.ones_like,
        lambda y: torch.ones(()).expand_as(y),  # as `y.sum().backward()` gives it
        lambda y: torch.randn(y.shape[::-1], generator=generator(7)).t(),
    ],
    ids=["ones", "expanded", "transposed"],
)
@pytest.mark.parametrize("outputs", [1, 3, 9])
def test_gradients_may_lie_in_memory_as_they_like(
    upstream: Callable[[Tensor], Tensor], outputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast, "_uses_onednn", lambda: True)
    assert_linear(torch.randn(200, 6, generator=generator()), outputs, upstream)


@onednn
def test_inputs_of_three_axes_give_outputs_of_three_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "_uses_onednn", lambda: True)
    ours, theirs = linears(4, 3)
    x = torch.randn(5, 40, 4, generator=generator())
    assert ours(x).shape == (5, 40, 3)
    torch.testing.assert_close(ours(x), theirs(x))
    assert_linear(x, 3)


@onednn
def test_from_128_rows_on_the_product_is_onednns(
    monkeypatch: pytest.MonkeyPatch, products: list[tuple[int, ...]]
) -> None:
    monkeypatch.setattr(fast, "_uses_onednn", lambda: True)
    ours, theirs = linears(4, 3)
    x = torch.randn(128, 4, generator=generator())
    assert torch.equal(ours(x[:127]), theirs(x[:127]))
    assert ours(x[0]).shape == (3,)
    assert ours(x[:0]).shape == (0, 3)
    assert products == []
    ours(x)
    ours(x.view(4, 32, 4))
    assert products == [(128, 4, 3)] * 2


@onednn
def test_double_precision_is_pytorchs_bit_for_bit(
    float64: None, monkeypatch: pytest.MonkeyPatch, products: list[tuple[int, ...]]
) -> None:
    monkeypatch.setattr(fast, "_uses_onednn", lambda: True)
    ours, theirs = linears(4, 3)
    x = torch.randn(500, 4, generator=generator())
    assert torch.equal(ours(x), theirs(x))
    assert products == []


@onednn
def test_frozen_weights_get_no_gradient_and_cost_none(
    monkeypatch: pytest.MonkeyPatch, products: list[tuple[int, ...]]
) -> None:
    monkeypatch.setattr(fast, "_uses_onednn", lambda: True)
    x = torch.randn(200, 4, generator=generator())
    gradients = []
    for layer in linears(4, 3):
        leaf = x.clone().requires_grad_()
        layer.requires_grad_(False)(leaf).square().sum().backward()
        assert layer.weight.grad is None
        assert layer.bias.grad is None
        gradients.append(leaf.grad)
    assert apart(*gradients) < 1e-6
    assert products == [(200, 4, 3), (200, 3, 4)]


@onednn
def test_inputs_that_need_no_gradient_cost_none(
    monkeypatch: pytest.MonkeyPatch, products: list[tuple[int, ...]]
) -> None:
    monkeypatch.setattr(fast, "_uses_onednn", lambda: True)
    x = torch.randn(200, 4, generator=generator())
    ours, theirs = linears(4, 3)
    for layer in (ours, theirs):
        layer(x).square().sum().backward()
    assert apart(ours.weight.grad, theirs.weight.grad) < 1e-6
    assert apart(ours.bias.grad, theirs.bias.grad) < 1e-6
    assert len(products) == 2


def without_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if PyTorch had been built for ARM or macOS."""
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace())


def test_a_linear_layer_works_where_pytorch_has_no_onednn_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    without_the_operator(monkeypatch)
    monkeypatch.delenv(fast.VARIABLE, raising=False)
    monkeypatch.setattr(fast, "_uses_onednn", lambda: fast.matmul_library() == "onednn")
    assert_linear(torch.randn(300, 5, generator=generator()), 4)
    assert_linear(torch.randn(3, 100, 5, generator=generator()), 4)


@pytest.mark.parametrize("name", EVERY)
def test_every_method_learns_where_pytorch_has_no_onednn_operator(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = updated(name, "leaving", "torch")
    without_the_operator(monkeypatch)
    monkeypatch.delenv(fast.VARIABLE, raising=False)
    assert_equal(updated(name, "leaving", "chosen"), expected, 0.0)


# Acting


def test_matrices_are_stacked_with_zeros_around_the_smaller() -> None:
    both = fast._stacked([torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0], [4.0]])])
    assert both.tolist() == [[[1.0, 2.0], [0.0, 0.0]], [[3.0, 0.0], [4.0, 0.0]]]


@pytest.mark.parametrize("kind", ["continuous", "masked", "shared actors"])
def test_batched_actors_give_the_outputs_of_networks_of_all_sizes(kind: str, float64: None) -> None:
    members, _ = KINDS[kind]
    actors = [trained(actor) for actor in build("happo", members).actors]
    inputs = [5 * torch.randn(7, size, generator=generator()) for size in members.observation_sizes]
    pairs = zip(fast.BatchedActors(actors)(inputs), plain.BatchedActors(actors)(inputs), strict=True)
    for ours, theirs in pairs:
        assert not ours.requires_grad
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-12, atol=1e-12)


def test_batched_actors_clip_what_lies_ten_standard_deviations_away() -> None:
    members = team((4, 4), (2, 2))
    actors = [trained(actor) for actor in build("happo", members).actors]
    far, further = (fast.BatchedActors(actors)([torch.full((1, 4), x)] * 2) for x in (1e3, 1e4))
    assert same(far, further)


def test_batched_actors_leave_their_inputs_and_networks_alone() -> None:
    members = team((4, 4), (2, 2))
    actors = build("happo", members).actors
    before = [x.clone() for actor in actors for x in actor.state_dict().values()]
    inputs = [torch.full((3, 4), 20.0) for _ in range(2)]
    fast.BatchedActors(actors)(inputs)
    assert same([x for actor in actors for x in actor.state_dict().values()], before)
    assert all((x == 20).all() for x in inputs)


def test_batched_actors_are_a_copy_of_the_weights() -> None:
    actors = build("happo", team()).actors
    inputs = [torch.ones(2, size) for size in team().observation_sizes]
    batched = fast.BatchedActors(actors)
    before = batched(inputs)
    for actor in actors:
        trained(actor)
    assert same(batched(inputs), before)


# Jacobian products


def deep(sizes: list[int], seed: int = 0) -> nn.Sequential:
    """An MLP of which no parameter is round."""
    net = mlp(sizes, 1.0, generator(seed))
    with torch.no_grad():
        for k, p in enumerate(net.parameters()):
            p += 0.3 * torch.randn(p.shape, generator=generator(k))  # type: ignore[misc]
    return net


def direction(net: nn.Module, seed: int) -> list[Tensor]:
    return [torch.randn(p.shape, generator=generator(seed + k)) for k, p in enumerate(net.parameters())]


SIZES = [[3, 8, 5, 2], [1, 4, 1], [3, 2], [5, 16, 16, 16, 3]]


@pytest.mark.parametrize("sizes", SIZES)
def test_a_jacobian_gives_the_outputs_and_gradients_of_autograd(sizes: list[int], float64: None) -> None:
    net, x = deep(sizes), torch.randn(6, sizes[0], generator=generator())
    u = torch.randn(6, sizes[-1], generator=generator(1))
    J = fast.Jacobian(net, x)
    torch.testing.assert_close(J.outputs, net(x).detach(), rtol=1e-12, atol=1e-12)
    for found, expected in zip(J.transposed_times(u), torch.autograd.grad(net(x), [*net.parameters()], u), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("sizes", SIZES)
def test_a_jacobian_serves_any_number_of_products_while_others_are_made(sizes: list[int], float64: None) -> None:
    net, x = deep(sizes), torch.randn(6, sizes[0], generator=generator())
    ours, theirs = (module.Jacobian(net, x) for module in (fast, plain))
    other = deep(sizes, seed=1)
    fast.Jacobian(other, -x).times(direction(other, 0))
    for k in range(2):
        v, u = direction(net, k), torch.randn(6, sizes[-1], generator=generator(k))
        torch.testing.assert_close(ours.times(v), theirs.times(v), rtol=1e-12, atol=1e-12)
        for found, expected in zip(ours.transposed_times(u), theirs.transposed_times(u), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_a_jacobian_by_hand() -> None:
    """y = w x + b at x = 2: J (dw, db) = 2 dw + db, J^T u = (2 u, u)."""
    net = nn.Sequential(nn.Linear(1, 1))
    J = fast.Jacobian(net, torch.tensor([[2.0]]))
    assert J.times([torch.tensor([[3.0]]), torch.tensor([0.5])]).item() == 6.5
    assert [x.item() for x in J.transposed_times(torch.tensor([[4.0]]))] == [8.0, 4.0]


def test_both_products_are_of_one_matrix(float64: None) -> None:
    """u^T (J v) = (J^T u)^T v."""
    net, x = deep([3, 8, 5, 2]), torch.randn(40, 3, generator=generator())
    J, v, u = fast.Jacobian(net, x), direction(net, 0), torch.randn(40, 2, generator=generator(1))
    through_outputs = (u * J.times(v)).sum()
    through_parameters = sum((a * b).sum() for a, b in zip(J.transposed_times(u), v, strict=True))
    torch.testing.assert_close(through_outputs, through_parameters)


@pytest.mark.parametrize("how", [pytest.param("oneDNN", marks=onednn), "torch"])
def test_jacobian_products_in_single_precision_are_as_exact_as_single_precision_is(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, how)
    net, x = deep([5, 64, 64, 3]), torch.randn(500, 5, generator=generator())
    v, u = direction(net, 0), torch.randn(500, 3, generator=generator(1))
    ours = fast.Jacobian(net, x)
    found = [ours.outputs, ours.times(v), *ours.transposed_times(u)]
    exact = plain.Jacobian(net.double(), x.double())
    expected = [exact.outputs, exact.times([p.double() for p in v]), *exact.transposed_times(u.double())]
    assert all(apart(a, b) < 1e-5 for a, b in zip(found, expected, strict=True))


def test_a_jacobian_bears_features_that_all_agree(float64: None) -> None:
    """Where a layer norm's inputs do not vary, its derivative is as large as its epsilon lets it be."""
    net = deep([2, 4, 1])
    with torch.no_grad():
        net[0].weight.zero_()  # type: ignore[operator]
        net[0].bias.fill_(1.0)  # type: ignore[operator]
    x, v = torch.ones(3, 2), direction(net, 0)
    torch.testing.assert_close(fast.Jacobian(net, x).times(v), plain.Jacobian(net, x).times(v))


# The library of matrix products


INTEL, AMD = "vendor_id\t: GenuineIntel\n", "vendor_id\t: AuthenticAMD\n"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Pretend to be another machine, which has oneDNN unless told otherwise and where nobody chose a library."""

    def pretend(
        kind: str = "x86_64", system: str = "Linux", cpuinfo: str | None = AMD, processor: str = "", has: bool = True
    ) -> None:
        path = tmp_path / "cpuinfo"
        if cpuinfo is not None:
            path.write_text(cpuinfo)
        monkeypatch.setattr(fast, "Path", lambda name: path if name == "/proc/cpuinfo" else Path(name))
        for name, value in (("machine", kind), ("system", system), ("processor", processor)):
            monkeypatch.setattr(platform, name, lambda value=value: value)
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: has)
        monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace(_linear_pointwise=None) if has else SimpleNamespace())
        monkeypatch.delenv(fast.VARIABLE, raising=False)

    return pretend


@pytest.mark.parametrize(
    ("given", "library"),
    [
        ({"cpuinfo": AMD}, "onednn"),
        ({"cpuinfo": INTEL}, "torch"),
        ({"cpuinfo": "vendor_id\t: HygonGenuine\n"}, "onednn"),
        ({"cpuinfo": AMD, "kind": "AMD64"}, "onednn"),
        ({"cpuinfo": AMD, "kind": "aarch64"}, "torch"),
        ({"cpuinfo": None, "kind": "arm64", "system": "Darwin"}, "torch"),
        ({"cpuinfo": None, "system": "Darwin", "processor": "i386"}, "torch"),
        ({"cpuinfo": None, "system": "Windows", "processor": "AMD64 Family 25, AuthenticAMD"}, "onednn"),
        ({"cpuinfo": None, "system": "Windows", "processor": "Intel64 Family 6, GenuineIntel"}, "torch"),
        ({"cpuinfo": AMD, "has": False}, "torch"),
    ],
)
def test_the_library_follows_the_vendor(machine: Callable[..., None], given: dict[str, Any], library: str) -> None:
    machine(**given)
    assert algorithms.matmul_library() == library


@pytest.mark.parametrize("cpuinfo", [AMD, INTEL])
@pytest.mark.parametrize("wanted", ["onednn", "torch"])
def test_the_environment_variable_chooses_the_library(
    machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch, cpuinfo: str, wanted: str
) -> None:
    machine(cpuinfo=cpuinfo)
    monkeypatch.setenv("MARL_BENCH_MATMUL", wanted)
    assert fast.matmul_library() == wanted


def test_an_empty_environment_variable_chooses_nothing(
    machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(cpuinfo=INTEL)
    monkeypatch.setenv("MARL_BENCH_MATMUL", "")
    assert fast.matmul_library() == "torch"


@pytest.mark.parametrize("wanted", ["mkl", "OneDNN", "x" * 1000])
def test_another_library_is_refused_by_name_with_the_valid_ones(
    machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    machine()
    monkeypatch.setenv("MARL_BENCH_MATMUL", wanted)
    with pytest.raises(SettingError, match="none of onednn, torch") as refused:
        fast.matmul_library()
    assert refused.value.key == "MARL_BENCH_MATMUL"
    assert repr(wanted[:40]) in str(refused.value)
    assert len(str(refused.value)) < 100


def test_onednn_is_refused_where_pytorch_has_no_operator_of_it(
    machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(has=False)
    monkeypatch.setenv("MARL_BENCH_MATMUL", "onednn")
    with pytest.raises(SettingError, match="lacks its linear operator"):
        fast.matmul_library()
    monkeypatch.setenv("MARL_BENCH_MATMUL", "torch")
    assert fast.matmul_library() == "torch"


@pytest.mark.parametrize("wanted", ["torch", pytest.param("onednn", marks=onednn)])
def test_a_process_multiplies_by_the_library_that_its_environment_chose(
    monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    monkeypatch.setenv("MARL_BENCH_MATMUL", wanted)
    code = "from algorithms import fast; print(fast.matmul_library(), fast._uses_onednn())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [wanted, str(wanted == "onednn")]
