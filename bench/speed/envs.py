"""How fast the environments are: bare physics, the batch of this benchmark, Gymnasium and MaMuJoCo, in one run.

The bare rate is that of `mj_step` alone, its controls set beforehand, over the very states that the batch goes through
in the same round: rates move by a tenth with the states. All take turns in short rounds, so that what else the machine
does meets all of them; the ratios are medians over rounds. Every few rounds ours and the bare one are built anew: where
their numbers happen to lie in memory moves their ratio by a hundredth.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from bench.envs.closing import close
from bench.envs.mujoco import MujocoBatch
from bench.envs.robots import Array, reference
from bench.envs.views import physics
from bench.tasks import registry
from bench.tasks.mujoco import robot_parts
from bench.tasks.registry import Task

ENVS = 20
BUILDS = 4
ROUNDS = 6
"""From one building to the next."""
SECONDS = 0.15
"""Of one way in one round, about."""


def measure(task: Task, env_threads: int) -> dict[str, Any]:
    """Steps/s of each way and the ratios of ours to the others, of threads to one thread."""
    random = np.random.default_rng(0)
    rates: dict[str, list[float]] = {way: [] for way in ("raw", "ours", "threads", "gymnasium", "mamujoco")}
    with _stepper(task, layer=False) as gym, _stepper(task, layer=True) as mamujoco_layer:
        for _ in range(BUILDS):
            with closing(_batch(task, 1)) as batch, closing(_batch(task, env_threads)) as threaded:
                raw = Raw(batch)
                actions = _actions(batch, random, 30)
                seconds, _ = _play(batch, actions)
                steps = max(10, int(30 * SECONDS / seconds))
                for _ in range(ROUNDS):
                    actions = _actions(batch, random, steps)
                    raw.start()
                    threaded.load_state_dict(batch.state_dict())
                    seconds, beginnings = _play(batch, actions)
                    rates["ours"].append(steps * ENVS / seconds)
                    rates["raw"].append(steps * ENVS / raw.play(actions, beginnings))
                    rates["threads"].append(steps * ENVS / _play(threaded, actions)[0])
                    rates["gymnasium"].append(gym(SECONDS))
                    rates["mamujoco"].append(mamujoco_layer(SECONDS))
    median = {way: float(np.median(values)) for way, values in rates.items()}
    ratio = {way: float(np.median(np.array(rates["ours"]) / np.array(rates[way]))) for way in rates}
    return {
        "task": task.label,
        "raw_steps_per_second": median["raw"],
        "steps_per_second": median["ours"],
        "gymnasium_steps_per_second": median["gymnasium"],
        "mamujoco_steps_per_second": median["mamujoco"],
        "ratio": ratio["raw"],
        "over_gymnasium": ratio["gymnasium"],
        "over_mamujoco": ratio["mamujoco"],
        "env_threads": env_threads,
        "threads_over_one": 1 / ratio["threads"],
    }


def _batch(task: Task, env_threads: int) -> MujocoBatch:
    seeds = np.random.SeedSequence(0).spawn(ENVS)
    batch = registry.make(task, seeds, env_threads=env_threads)
    assert isinstance(batch, MujocoBatch)
    return batch


def _actions(batch: MujocoBatch, random: np.random.Generator, steps: int) -> list[list[NDArray[np.float32]]]:
    """T x N x [E, A_i] in [-1, 1]"""
    spaces = batch.team.action_spaces
    return [
        [random.uniform(-1, 1, (batch.envs, space.size)).astype(np.float32) for space in spaces] for _ in range(steps)
    ]


Beginnings = dict[int, dict[int, Array]]
"""step -> environment -> the physics of the episode that began after that step"""


def _play(batch: MujocoBatch, actions: Sequence[Sequence[NDArray[Any]]]) -> tuple[float, Beginnings]:
    """Seconds in `step`, and the episodes that began meanwhile."""
    seconds, beginnings = 0.0, {}
    for t, action in enumerate(actions):
        start = time.perf_counter()
        batch.step(action)
        seconds += time.perf_counter() - start
        if len(batch.ended):
            beginnings[t] = {int(e): batch.physics[e].copy() for e in batch.ended}
    return seconds, beginnings


class Raw:
    """`mj_step` from the states of a batch, through the episodes that it went through."""

    def __init__(self, batch: MujocoBatch):
        self.batch, self.model = batch, batch.model
        self.data = [mujoco.MjData(batch.model) for _ in range(batch.envs)]

    def start(self) -> None:
        """Stand where the batch stands."""
        for e in range(self.batch.envs):
            self._set(e, self.batch.physics[e])

    def _set(self, e: int, state: Array) -> None:
        physics(self.data[e])[:] = state

    def play(self, actions: Sequence[Sequence[NDArray[Any]]], beginnings: Beginnings) -> float:
        """Seconds in `mj_step` under the same actions."""
        step, model, frames, seconds = mujoco.mj_step, self.model, self.batch.frame_skip, 0.0
        for t, action in enumerate(actions):
            self.batch.set_control(action)
            for data, control in zip(self.data, self.batch.control, strict=True):
                data.ctrl[:] = control
            start = time.perf_counter()
            for data in self.data:
                step(model, data, frames)
            seconds += time.perf_counter() - start
            for e, state in beginnings.get(t, {}).items():
                self._set(e, state)
        return seconds


@contextmanager
def _stepper(task: Task, layer: bool) -> Iterator[Callable[[float], float]]:
    """A function of seconds that steps Gymnasium's environment, or MaMuJoCo's around it, and gives steps/s."""
    robot, partition = robot_parts(task.name)
    environment = reference(robot, partition, task.options.named()["obsk"])
    gym = environment.single_agent_env
    random = np.random.default_rng(0)
    low, high = gym.action_space.low, gym.action_space.high
    controls = [random.uniform(low, high) for _ in range(512)]
    if layer:
        target, turns = environment, [environment.map_global_action_to_local_actions(c) for c in controls]
    else:
        target, turns = gym, controls
    target.reset(seed=0)

    def play(at_least: float) -> float:
        steps, start = 0, time.perf_counter()
        while time.perf_counter() - start < at_least:
            for turn in turns:
                _, _, terminated, truncated, _ = target.step(turn)
                if layer:
                    terminated, truncated = terminated["agent_0"], truncated["agent_0"]
                if terminated or truncated:
                    target.reset()
                steps += 1
        return steps / (time.perf_counter() - start)

    try:
        yield play
    finally:
        close(environment)
