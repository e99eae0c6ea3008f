"""Who may import whom. The order is data, below; a module that is not in it has no place yet."""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# A module imports only from lines above its own. The algorithms stand above all of `bench`.
ALGORITHMS = [
    ["rollout", "validation"],
    ["config"],
    ["fast", "distributions"],
    ["networks", "advantages", "replay_buffer"],
    ["clip", "trust_region"],
    ["on_policy", "maddpg"],
    ["registry"],
    [""],  # the public face
]
BENCH = [
    ["", "envs", "yaml12", "provenance", "command", "envs.raised"],
    ["store", "display", "plugins", "envs.batch", "envs.robots", "envs.spaces"],
    ["scores", "envs.mujoco", "envs.pettingzoo", "envs.games"],
    ["kinds", "golden", "methods"],
    ["tasks"],
    ["suite", "collect"],
    ["checkpoint"],
    ["trial"],
    ["plan", "monitor"],
    [
        "run",
        "play",
        "speed",
        "verify",
        "doctor",
        "check",
        "speed.envs",
        "speed.products",
        "speed.trials",
        "speed.history",
    ],
    ["speed.training", "reference", "tune", "tune.space"],
    ["speed.__main__", "tune.study"],
    ["tune.ledger"],
    ["tune.work"],
    ["tune.results", "tune.progress"],
    ["tune.__main__"],
]
REPORT = [
    ["stats", "load"],
    ["plots", "claims", "audit", "tuning"],
    ["page", "tuning_plots"],
    ["tuning_page"],
    ["__main__"],
]
MEETING_PLACE = {"bench", "bench.command", "bench.store", "bench.scores"}
"""All of `bench` that the report may import besides itself: where its two wings meet, and how commands end."""
HEAVY = {"torch", "gymnasium", "gymnasium_robotics", "mujoco", "pettingzoo", "mpe2", "algorithms"}
"""What a report must open without."""


@cache
def modules() -> dict[str, Path]:
    """Every module of ours by its dotted name."""
    found = {}
    for path in sorted([*ROOT.glob("algorithms/**/*.py"), *ROOT.glob("bench/**/*.py")]):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def targets(source: str) -> set[str]:
    """What a source imports, wherever it stands: our modules by their full names, others by their first word."""
    named: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            base = str(node.module)
            full = {f"{base}.{alias.name}" for alias in node.names}
            ours = full & set(modules())
            named |= ours | ({base} if ours != full else set())
    return {name if name.split(".")[0] in ("algorithms", "bench") else name.split(".")[0] for name in named}


def imports(module: str) -> set[str]:
    return targets(modules()[module].read_text())


def levels(prefix: str, order: list[list[str]]) -> dict[str, int]:
    return {f"{prefix}.{name}".rstrip("."): level for level, line in enumerate(order) for name in line}


def backwards(module: str, level: dict[str, int]) -> list[str]:
    """What a module imports that stands on its own line of the order or below."""
    return [f"{module} imports {name}" for name in sorted(imports(module)) if level.get(name, -1) >= level[module]]


def within(name: str, package: str) -> bool:
    return f"{name}.".startswith(f"{package}.")


def named(package: str) -> list[str]:
    return [name for name in modules() if within(name, package)]


def bench_but_report() -> list[str]:
    return [name for name in named("bench") if not within(name, "bench.report")]


def test_the_reader_of_imports_tells_a_module_from_what_is_in_it() -> None:
    source = "import torch.nn\nfrom bench import store, tasks\ndef f():\n    from algorithms.config import strict\n"
    assert targets(source) == {"torch", "bench.store", "bench.tasks", "algorithms.config"}


@pytest.mark.parametrize(("prefix", "order"), [("algorithms", ALGORITHMS), ("bench", BENCH), ("bench.report", REPORT)])
def test_every_module_has_its_place_in_the_order(prefix: str, order: list[list[str]]) -> None:
    members = bench_but_report() if prefix == "bench" else named(prefix)
    assert sorted({*members} - {*levels(prefix, order), "bench.report"}) == []


def test_algorithms_import_torch_the_standard_library_and_themselves() -> None:
    allowed = {"torch", *sys.stdlib_module_names, *named("algorithms")}
    assert {name: imports(name) - allowed for name in named("algorithms") if imports(name) - allowed} == {}


def test_algorithms_import_one_way() -> None:
    level = levels("algorithms", ALGORITHMS)
    assert [line for name in named("algorithms") for line in backwards(name, level)] == []


def test_only_the_registry_knows_which_step_and_which_loop_go_together() -> None:
    assert not imports("algorithms.on_policy") & {"algorithms.clip", "algorithms.trust_region", "algorithms.maddpg"}
    assert not imports("algorithms.maddpg") & {"algorithms.on_policy", "algorithms.advantages"}


def test_the_benchmark_imports_one_way() -> None:
    level = levels("bench", BENCH)
    assert [line for name in bench_but_report() for line in backwards(name, level)] == []


def test_environments_know_nothing_of_learning_tasks_or_trials() -> None:
    for name in named("bench.envs"):
        assert "torch" not in imports(name)
        ours = {target for target in imports(name) if target.split(".")[0] in ("algorithms", "bench")}
        assert all(target == "algorithms" or within(target, "bench.envs") for target in ours), name


def test_the_report_imports_one_way() -> None:
    level = levels("bench.report", REPORT)
    inside = [name for name in named("bench.report") if name != "bench.report"]
    assert [line for name in inside for line in backwards(name, level)] == []


def test_the_report_and_the_store_need_neither_torch_nor_environments_nor_algorithms() -> None:
    for name in [*named("bench.report"), "bench.store"]:
        assert not {target.split(".")[0] for target in imports(name)} & HEAVY, name


def test_the_two_wings_meet_only_in_the_store_and_the_reference_scores() -> None:
    for name in named("bench.report"):
        ours = {target for target in imports(name) if target.split(".")[0] == "bench"}
        assert {target for target in ours if not within(target, "bench.report")} <= MEETING_PLACE, name
    for name in bench_but_report():
        assert not any(within(target, "bench.report") for target in imports(name)), name


def test_the_store_imports_nothing_of_ours() -> None:
    assert not {target.split(".")[0] for target in imports("bench.store")} & {"algorithms", "bench"}
