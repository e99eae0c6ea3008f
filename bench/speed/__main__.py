"""How fast training (`python -m bench.speed`) and the environments alone (`python -m bench.speed envs`) are.

Each stands beside the bare physics measured in the same run. It is a benchmark, not a test: seconds differ between
machines and hours, ratios much less. The raw rate is that of `mj_step` from the same states under the same controls,
one environment after the other on one core, with nothing else in the loop. Close other programs first.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import algorithms
from algorithms import SettingError
from bench import store, tasks
from bench.envs.robots import ROBOTS
from bench.speed import envs, training
from bench.tasks import Task


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(prog="python -m bench.speed", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "what", nargs="?", choices=["training", "envs"], default="training", help="training unless told"
    )
    parser.add_argument(
        "--task", help="mamujoco/HalfCheetah-2x3 unless told; for envs each robot in its first partition"
    )
    parser.add_argument("--env-threads", type=int, default=2, help="for envs: compare so many threads with one")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows there")
    options = parser.parse_args(arguments)
    if options.json and (options.json.is_dir() or not options.json.parent.is_dir()):
        parser.error(f"--json {options.json}: not a file in an existing folder")
    if not 1 <= options.env_threads <= 1024:
        parser.error(f"--env-threads {options.env_threads}: must be from 1 to 1024")
    try:
        chosen = [tasks.task(options.task, {})] if options.task else []
    except SettingError as error:
        parser.error(f"--task: {error}")
    if options.what == "envs":
        firsts = [f"mamujoco/{robot}-{spec.partitions[0]}" for robot, spec in ROBOTS.items()]
        rows = _envs(chosen or [tasks.task(name, {}) for name in firsts], options.env_threads)
    else:
        rows = _training(chosen[0] if chosen else tasks.task("mamujoco/HalfCheetah-2x3", {}))
    if options.json:
        store.write_json(options.json, rows)
    return 0


def _envs(chosen: Sequence[Task], env_threads: int) -> list[dict[str, Any]]:
    """Print a row per task as it is measured."""
    print(f"Steps/s of {envs.ENVS} environments; ratios are medians of {envs.ROUNDS} alternating rounds")
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


def _training(task: Task) -> list[dict[str, Any]]:
    """Print a row per algorithm as it is measured."""
    torch.set_num_threads(1)
    print(f"{task.label}, one core, medians of {training.ROUNDS} alternating rounds")
    print(f"{'algorithm':<10} {'training':>10} {'mj_step':>10} {'ratio':>6}")
    rows = []
    for name in algorithms.METHODS:
        row = training.measure(task, name)
        print(
            f"{row['algorithm']:<10} {row['steps_per_second']:>10,.0f} {row['raw_steps_per_second']:>10,.0f}"
            f" {row['ratio']:>6.3f}",
            flush=True,
        )
        rows.append(row)
    return rows


if __name__ == "__main__":
    sys.exit(main())
