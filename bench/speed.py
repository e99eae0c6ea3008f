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
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import torch

import algorithms
from algorithms import SettingError
from bench import store, tasks
from bench.collect import Collector
from bench.envs import speed
from bench.envs.mujoco import MujocoBatch
from bench.envs.robots import ROBOTS
from bench.suite import Trial
from bench.tasks import Task
from bench.trial import learner_and_batch

STEPS = 12_000
"""Environment steps of a round."""
ROUNDS = 5


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
    print(f"Steps/s of {speed.ENVS} environments; ratios are medians of {speed.ROUNDS} alternating rounds")
    print(
        f"{'task':<34} {'mj_step':>8} {'ours':>8} {'gymnasium':>9} {'mamujoco':>8}  {'ours/mj_step':>12}"
        f" {'ours/mamujoco':>13} {f'{env_threads} threads/1':>11}"
    )
    rows = []
    for task in chosen:
        row = speed.measure(task, env_threads)
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
    print(f"{task.label}, one core, medians of {ROUNDS} alternating rounds")
    print(f"{'algorithm':<10} {'training':>10} {'mj_step':>10} {'ratio':>6}")
    rows = []
    for name in algorithms.METHODS:
        row = measure(task, name)
        print(
            f"{row['algorithm']:<10} {row['steps_per_second']:>10,.0f} {row['raw_steps_per_second']:>10,.0f}"
            f" {row['ratio']:>6.3f}",
            flush=True,
        )
        rows.append(row)
    return rows


def measure(task: Task, name: str) -> dict[str, Any]:
    """Steps/s of whole training (acting, physics, learning) and of `mj_step` alone, in turns."""
    settings = algorithms.settings(name, {"warmup_steps": 0} if name == "maddpg" else {})
    block = settings.envs * settings.rollout_length
    trial = Trial("speed", task, name, name, settings, 0, block, block, 1)
    learner, batch = learner_and_batch(trial)
    _, scratch = learner_and_batch(trial)
    assert isinstance(batch, MujocoBatch)
    assert isinstance(scratch, MujocoBatch)
    collector = Collector(batch, settings.rollout_length)
    learner.update(collector.collect(learner))
    training, raw = [], []
    for _ in range(ROUNDS):
        before, seconds, steps, actions = batch.state_dict(), 0.0, 0, []
        while steps < STEPS:
            start = time.perf_counter()
            rollout = collector.collect(learner)
            learner.update(rollout)
            seconds += time.perf_counter() - start
            steps += block
            actions.append([x.numpy().copy() for x in rollout.actions])
        training.append(steps / seconds)
        scratch.load_state_dict(before)
        raw.append(raw_rate(scratch, [np.concatenate(one) for one in zip(*actions, strict=True)]))
    return {
        "task": task.label,
        "algorithm": name,
        "steps_per_second": float(np.median(training)),
        "raw_steps_per_second": float(np.median(raw)),
        "ratio": float(np.median(np.array(training) / np.array(raw))),
    }


def raw_rate(batch: MujocoBatch, actions: Sequence[np.ndarray]) -> float:
    """Steps/s of `mj_step` alone, from the batch's states under N x [T, E, A_i] actions, mapped beforehand."""
    controls = np.zeros((len(actions[0]), *batch.control.shape))
    for t, row in enumerate(controls):
        batch.set_control([x[t] for x in actions])
        row[:] = batch.control
    start = time.perf_counter()
    for row in controls:
        for data, control in zip(batch.data, row, strict=True):
            data.ctrl[:] = control
            mujoco.mj_step(batch.model, data, batch.frame_skip)
    return controls.shape[0] * controls.shape[1] / (time.perf_counter() - start)


if __name__ == "__main__":
    sys.exit(main())
