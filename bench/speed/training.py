"""How fast training is: steps/s of each algorithm beside the physics of the very same steps."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np

import algorithms
from bench.collect import Collector
from bench.envs.mujoco import MujocoBatch
from bench.suite import Trial
from bench.tasks import Task
from bench.trial import learner_and_batch

STEPS = 12_000
"""Environment steps of a round."""
ROUNDS = 5


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
