# PYTHON_ARGCOMPLETE_OK
"""How fast training (`python -m bench.speed`) and the environments alone (`python -m bench.speed envs`) are.

Each stands beside a limit measured in the same run: bare `mj_step` over the same states under the same controls and,
for training, the bare matrix products of every network pass that the algorithm needs, each by the library that is the
fastest here. It is a benchmark, not a test: seconds differ between machines and hours, ratios much less. Close other
programs first.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from bench.cli import command

if __name__ == "__main__":
    command.begin()

import itertools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

import algorithms
from algorithms import Diverged, SettingError
from algorithms.registry import Settings
from bench.envs.robots import ROBOTS
from bench.speed import envs, history, training, trials
from bench.store import files
from bench.store.provenance import matrix_products
from bench.suite.trial import Trial
from bench.suite.yaml12 import parse
from bench.tasks import registry
from bench.tasks.registry import Task
from bench.trial.setup import prepare_process

TASKS = (
    "mamujoco/HalfCheetah-2x3",
    "mamujoco/HalfCheetah-6x1",
    "mamujoco/Ant-4x2",
    "mamujoco/Humanoid-17x1",
)
TRIED = """What makes training fast stands in algorithms/fast.py, each part at least 5% of a training step: matrix
products by oneDNN on x86 processors that are not Intel's, where MKL is slow (on a Zen 5 core less than half the speed);
all actors acting as one batched network; HATRPO's products with the Jacobian carried forward without autograd. The rest
is plain PyTorch. Passes written by hand (layer norms folded into the next layer, rows in pieces that stay in the cache,
no autograd, Adam on one vector) were removed: on a Zen 5 core HAPPO trained at 16,460 steps/s with them and trains at
16,160 without, both with oneDNN's products. Measured while they were there, on one core of an EPYC with AVX-512 or a
Xeon with AMX, these did not pay: torch.compile (no faster than those passes, and 7 to 25 s of compilation);
set_float32_matmul_precision("medium"), other numbers for updates 2% faster (about 10% with AMX) and acting 10% slower;
bfloat16 throughout (what products gain, layer norms lose); huge pages (0 to 3%); the noise of a rollout drawn at once
(0.4%); for MADDPG's batches of 256, all critics as one batched product. ReLU and layer norm as one loop compiled by
Numba gained 9 to 20% of an update, and is not there since algorithms/ imports nothing but PyTorch."""
UNDISTURBED = 0.9
"""The share of a core below which somebody else had too much of it."""


@command.entry
def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables, and write them where asked."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.json and (options.json.is_dir() or not options.json.parent.is_dir()):
        parser.error(f"--json {options.json}: not a file in an existing folder")
    if options.what == "envs" and (options.algorithm or options.set or options.append):
        parser.error("--algorithm, --set and --append: envs measures no algorithm")
    if options.what == "training" and options.env_threads:
        parser.error("--env-threads: training is measured on one core")
    try:
        chosen = [registry.task(name, {}) for name in options.task]
    except SettingError as error:
        parser.error(f"--task: {error}")
    for task in chosen:
        if task.robot is None:
            parser.error(
                f"--task: {task.name} has no bare physics to compare with, being none of MuJoCo's; "
                "`python -m bench.check` tells the speed of its environment"
            )
    if options.what == "envs":
        firsts = [f"mamujoco/{robot}-{spec.partitions[0]}" for robot, spec in ROBOTS.items()]
        rows = _envs(chosen or [registry.task(name, {}) for name in firsts], options.env_threads or 2)
    else:
        names = options.algorithm or [name for name, method in algorithms.METHODS.items() if not method.ablation]
        try:
            changes = dict(_setting(text) for text in options.set)
            pairings = planned(chosen or [registry.task(name, {}) for name in TASKS], names, changes)
        except SettingError as error:
            parser.error(f"--set {error.key}: {error}")
        try:
            rows = _training(pairings, changes)
        except Diverged as error:
            return command.refused(f"bench.speed: with these settings training diverges: {error}")
    if options.json:
        files.write_json(options.json, rows)
    if options.append:
        history.append(options.append, rows)
    return 0


def _parser() -> command.Parser:
    parser = command.Parser(prog="python -m bench.speed", description=__doc__, epilog=TRIED)
    parser.add_argument(
        "what", nargs="?", choices=["training", "envs"], default="training", help="training unless told"
    )
    parser.add_argument(
        "--task",
        action="append",
        default=[],
        help=f"only this one, any number of times; unless told {', '.join(TASKS)}, for envs each robot in its first "
        "partition",
    )
    parser.add_argument(
        "--algorithm",
        action="append",
        default=[],
        choices=list(algorithms.METHODS),
        help="only this one, any number of times; unless told all but the ablations",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SETTING=VALUE",
        help="for every algorithm that has it: actor_epochs=15",
    )
    parser.add_argument(
        "--env-threads",
        type=command.positive,
        metavar="N",
        help="for envs: compare so many threads with one; default: 2",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows there")
    parser.add_argument(
        "--append",
        type=history.file,
        metavar="FILE.csv",
        help="for training: also add a row per task and algorithm there, with date, commit and machine",
    )
    return parser


def planned(chosen: Sequence[Task], names: Sequence[str], changes: Mapping[str, Any]) -> list[Trial]:
    """One trial per task and algorithm, with the settings given; refuses what no algorithm or team allows."""
    settings = {name: _settings(name, changes) for name in names}
    known = {field.name for s in settings.values() for field in fields(s)}
    for key in changes:
        if key not in known:
            raise SettingError(key, f"no such setting; valid: {', '.join(sorted(known))}")
    made = []
    for task, (name, own) in itertools.product(chosen, settings.items()):
        algorithms.check(registry.team(task), own)
        block = own.envs * own.rollout_length
        made.append(Trial("speed", task, name, algorithms.METHODS[name], own, 0, block, block, 1))
    return made


def _setting(text: str) -> tuple[str, Any]:
    """SETTING=VALUE, the value read as in suites."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise SettingError(text, "write SETTING=VALUE, for example actor_epochs=15")
    if key == "warmup_steps":
        raise SettingError(key, "is always 0 here: nothing is learned in the warm-up")
    try:
        return key, parse(value)
    except yaml.YAMLError:
        raise SettingError(key, f"{value!r} is not YAML") from None


def _settings(name: str, changes: Mapping[str, Any]) -> Settings:
    """The defaults of an algorithm under those given that it has; MADDPG learns from the first step on."""
    method = algorithms.METHODS[name]
    known = {field.name for field in fields(method.settings)}
    own = {key: value for key, value in changes.items() if key in known}
    return method.configure({"warmup_steps": 0, **own} if "warmup_steps" in known else own)


def _envs(chosen: Sequence[Task], env_threads: int) -> list[dict[str, Any]]:
    """Print a row per task as it is measured."""
    print(f"Steps/s of {envs.ENVS} environments; ratios are medians of {envs.BUILDS * envs.ROUNDS} alternating rounds")
    print(
        f"{'task':<34} {'mj_step':>8} {'ours':>8} {'gymnasium':>9} {'mamujoco':>8}  {'ours/mj_step':>12}"
        f" {'ours/mamujoco':>13} {f'{env_threads} threads/1':>11}"
    )
    rows = []
    for task in chosen:
        row = envs.measure(task, env_threads)
        print(
            f"{row['task']:<34} {row['raw_steps_per_second']:>8,.0f} {row['steps_per_second']:>8,.0f}"
            f" {row['gymnasium_steps_per_second']:>9,.0f} {row['mamujoco_steps_per_second']:>8,.0f}"
            f"  {row['ratio']:>12.3f} {row['over_mamujoco']:>13.2f} {row['threads_over_one']:>11.2f}",
            flush=True,
        )
        rows.append(row)
    return rows


def _training(pairings: Sequence[Trial], changes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Print the tables, a row of each pairing as it is measured; a JSON row holds them all and what was `given`."""
    prepare_process()
    print(f"Training on one core, medians of {training.ROUNDS} or more rounds; training and its limit take turns")
    print(
        f"{matrix_products(algorithms.matmul_library())}; those of the limit by the fastest library, column oneDNN: "
        "its share of their seconds"
    )
    print(
        f"{'':<36} {'steps/s':>29}  {'training over':>14}  {'':>6} "
        f" {'share of a trial of 1M steps and 20 x 16 episodes':>59}"
    )
    print(
        f"{'task':<26} {'algorithm':<9} {'training':>9} {'limit':>9} {'mj_step':>9}  {'mj_step':>8} {'limit':>5}"
        f"  {'oneDNN':>6} " + "".join(f" {part:>11}" for part in training.PARTS) + "  core"
    )
    rows = []
    for trial in pairings:
        row = training.measure(trial)
        print(
            f"{row['task']:<26} {row['algorithm']:<9} {row['steps_per_second']:>9,.0f}"
            f" {row['limit_steps_per_second']:>9,.0f} {row['raw_steps_per_second']:>9,.0f}"
            f"  {row['over_raw']:>8.3f} {row['ratio']:>5.2f}  {row['products_onednn_share']:>6.0%} "
            + "".join(f" {row[part]:>11.1%}" for part in training.PARTS)
            + f"  {row['core_share']:>4.0%}",
            flush=True,
        )
        rows.append(row | {"settings": dict(changes)})
    _together(pairings, rows)
    lowest = min(min(row["core_share"], row["two_core_share"]) for row in rows)
    if lowest < UNDISTURBED:
        print(f"\nOther programs were at work: down to {lowest:.0%} of a core was left. Close them and measure again.")
    return rows


def _together(pairings: Sequence[Trial], rows: Sequence[dict[str, Any]]) -> None:
    """Print the tables of trials at once and of memory, and add their columns to the rows."""
    print(
        f"\nSteps/s of two trials at once over twice one alone, median of {trials.ROUNDS} rounds; peak memory of each"
    )
    print(f"{'task':<26} {'algorithm':<9} {'two / twice one':>15}  core {'MB':>7} {'MB with a full replay':>21}")
    for trial, row in zip(pairings, rows, strict=True):
        row |= trials.measure(trial)
        full, peak = row["peak_memory_full_replay_mb"], row["peak_memory_mb"]
        print(
            f"{row['task']:<26} {row['algorithm']:<9} {row['two_over_twice_one']:>15.2f}"
            f"  {row['two_core_share']:>4.0%} {peak:>7,.0f}" + (f" {full:>21,.0f}" if full > peak else ""),
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
