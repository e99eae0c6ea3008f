"""Who may import whom. The order is data, below; a module that is not in it has no place yet."""

from __future__ import annotations

import ast
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LONGEST = 350
"""Lines of a file in bench/: a longer one has two jobs."""

# Read `a` above `b` as "b may import a". The algorithms stand above all of `bench`.
ALGORITHMS = [
    ["rollout", "validation"],
    ["config", "fast", "distributions"],
    ["networks", "advantages", "replay_buffer"],
    ["clip", "trust_region"],
    ["on_policy", "maddpg", "exact"],
    ["exact_learning"],
    ["registry"],
    [""],  # the public face
]
BENCH = [["store", "cli"], ["envs"], ["tasks"], ["suite"], ["trial"], ["runner"]]
COMMANDS = [
    "run",
    "plan",
    "check",
    "play",
    "export",
    "verify",
    "merge",
    "publish",
    "doctor",
    "golden",
    "reference",
    "speed",
    "tune",
    "tasks.__main__",
]
PYTHON = ["api"]
"""What people import; like a command it imports the machinery, and nothing imports it but the public face, `bench`."""
FACES = ["bench", "bench.__main__"]
"""The public face, and the list of commands."""
REPORT_MAY_IMPORT = ["store", "cli", "report"]
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


@cache
def imports(module: str) -> set[str]:
    return targets(modules()[module].read_text())


def within(name: str, package: str) -> bool:
    return f"{name}.".startswith(f"{package}.")


def named(package: str) -> list[str]:
    return [name for name in modules() if within(name, package)]


def is_command(module: str) -> bool:
    return any(within(module, f"bench.{command}") for command in [*COMMANDS, *PYTHON, "report"])


def level(module: str) -> int:
    """Where the package of a module of the machinery stands in the order."""
    part = module.split(".")[1]
    return next(k for k, line in enumerate(BENCH) if part in line)


def machinery() -> list[str]:
    return [name for name in named("bench") if not is_command(name) and name not in FACES]


def test_the_reader_of_imports_tells_a_module_from_what_is_in_it() -> None:
    source = "import torch.nn\nfrom bench.store import files\ndef f():\n    from algorithms.config import strict\n"
    assert targets(source) == {"torch", "bench.store.files", "algorithms.config"}


def test_the_order_names_what_exists_and_every_module_has_its_place() -> None:
    assert sorted(f"algorithms.{name}".rstrip(".") for line in ALGORITHMS for name in line) == named("algorithms")
    assert {name.split(".")[1] for name in machinery()} == {name for line in BENCH for name in line}
    assert {*FACES} <= {*modules()}
    for command in [*COMMANDS, *PYTHON, "report"]:
        assert f"bench.{command}" in modules()


def test_algorithms_import_torch_the_standard_library_and_themselves() -> None:
    allowed = {"torch", *sys.stdlib_module_names, *named("algorithms")}
    assert {name: imports(name) - allowed for name in named("algorithms") if imports(name) - allowed} == {}


def test_algorithms_import_one_way() -> None:
    levels = {f"algorithms.{name}".rstrip("."): k for k, line in enumerate(ALGORITHMS) for name in line}
    upwards = [
        f"{name} imports {target}"
        for name in named("algorithms")
        for target in sorted(imports(name) & {*levels})
        if levels[target] > levels[name]
    ]
    assert upwards == []


def test_only_the_registry_knows_which_step_and_which_loop_go_together() -> None:
    assert not imports("algorithms.on_policy") & {"algorithms.clip", "algorithms.trust_region", "algorithms.maddpg"}
    assert not imports("algorithms.maddpg") & {"algorithms.on_policy", "algorithms.advantages"}


def test_the_machinery_imports_one_way_and_no_command() -> None:
    upwards = [
        f"{name} imports {target}"
        for name in machinery()
        for target in sorted(imports(name) & {*named("bench")})
        if is_command(target) or level(target) > level(name)
    ]
    assert upwards == []


@pytest.mark.parametrize("package", ["algorithms", "bench"])
def test_no_module_imports_itself_by_a_detour(package: str) -> None:
    TopologicalSorter({name: imports(name) & {*named(package)} - {name, package} for name in named(package)}).prepare()


def test_no_command_imports_another_and_only_commands_the_report() -> None:
    for name in {*named("bench")} - {"bench"}:
        own = [command for command in [*COMMANDS, *PYTHON, "report"] if within(name, f"bench.{command}")]
        others = {target for target in imports(name) if within(target, "bench") and is_command(target)}
        if own:  # a command may ask the report's rooms what results say
            others -= {*named("bench.report")} - {"bench.report.__main__"}
        assert {target for target in others if not own or not within(target, f"bench.{own[0]}")} == set(), name


def test_the_public_face_and_the_list_of_commands_are_light() -> None:
    assert imports("bench") <= {"__future__", "importlib", "typing", "bench.api", "bench.store.results"}
    assert imports("bench.__main__") <= {*sys.stdlib_module_names, "bench.cli.command"}


def test_environments_know_nothing_of_learning_tasks_or_trials() -> None:
    for name in named("bench.envs"):
        assert "torch" not in imports(name)
        ours = {target for target in imports(name) if target.split(".")[0] in ("algorithms", "bench")}
        assert all(target == "algorithms" or target.split(".")[1] in ("envs", "store") for target in ours), name


def test_the_report_the_store_and_the_command_line_need_neither_torch_nor_environments_nor_algorithms() -> None:
    for name in [*named("bench.report"), *named("bench.store"), *named("bench.cli")]:
        assert not {target.split(".")[0] for target in imports(name)} & HEAVY, name


def test_the_report_meets_the_rest_only_in_the_store_and_the_command_line() -> None:
    allowed = {name for package in REPORT_MAY_IMPORT for name in named(f"bench.{package}")}
    for name in named("bench.report"):
        assert {target for target in imports(name) if within(target, "bench")} <= allowed, name


def test_every_file_of_the_benchmark_has_one_job() -> None:
    long = {name: len(path.read_text().splitlines()) for name, path in modules().items() if within(name, "bench")}
    assert {name: lines for name, lines in long.items() if lines > LONGEST} == {}
