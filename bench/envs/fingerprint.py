"""The physics of every robot, as numbers that golden.json holds: do they agree with those of this machine?

Every robot plays STEPS steps of fixed actions from a fixed state, and the states and rewards on the way are compared
with the stored ones. They must agree within TOLERANCE, because processors and compilers round differently, and the
MuJoCo version must be the same, because some versions differ by no more than that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bench.envs.mujoco import MujocoBatch
from bench.envs.robots import ROBOTS, Array
from bench.store import files
from bench.store.provenance import mujoco_version
from bench.store.trials import GOLDEN

PATH = Path(__file__).with_name("golden.json")


STEPS, EVERY = 20, 5
"""Long enough for every foot to touch the floor, short enough that nothing falls over and chaos has not grown."""


POSES = {"Pusher": {1: 0.35, 7: -0.63, 8: 0.36}}
"""Robot -> index in qpos -> where it begins instead of at 0: Pusher's arm is lowered and its object at the fingers."""


TOLERANCE = 1e-7
"""The largest deviation that is allowed, relative for numbers above 1 and absolute for others.

Noise of 1e-14 in state and actions at every step, far more than another processor's rounding, grows to 3e-9. Beyond
rounding, the versions 3.3 to 4.0 differ by 2e-6 or more, and so does a gear that is 0.1% off."""


Numbers = dict[str, dict[str, list[float]]]
"""Step -> field (qpos, qvel, reward) -> its numbers."""


@cache
def verdict(robot: str) -> str:
    """`golden`, or in one line how the physics of this robot differ from those of golden.json."""
    found, expected = mujoco_version(), read()["mujoco"]
    wrong = _wrong_numbers(robot)
    if found == expected:
        return wrong or GOLDEN
    return f"MuJoCo {found}, not {expected}, " + (f"and {wrong}" if wrong else "though the numbers agree")


def _wrong_numbers(robot: str) -> str:
    """What is wrong with the numbers of this robot; nothing where they agree."""
    try:
        deviation, where = largest_deviation(play(robot), read()["robots"][robot])
    except Exception as error:  # another version may lack what Gymnasium or we need; that is a verdict too
        return f"cannot be played: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
    return "" if deviation <= TOLERANCE else f"{where} is off by {deviation:.1g}"


def play(robot: str) -> Numbers:
    """The states and rewards of the fixed episode, at every fifth step.

    State and actions are closed forms, and sines of different phase, so that no two joints move alike.
    """
    with closing(MujocoBatch(robot, ROBOTS[robot].whole, [np.random.SeedSequence(0)], auto_reset=False)) as batch:
        model = batch.model
        qpos = model.qpos0 + 0.02 * np.sin(1.0 + np.arange(model.nq))
        for index, value in POSES.get(robot, {}).items():
            qpos[index] += value
        batch.begin(0, qpos, 0.02 * np.sin(2.0 + np.arange(model.nv)))
        numbers = {}
        for step in range(1, STEPS + 1):
            batch.step([0.5 * np.sin(step + np.arange(model.nu))[None]])
            if step % EVERY == 0:
                fields = {"qpos": batch.fields["qpos"][0], "qvel": batch.fields["qvel"][0], "reward": batch.reward}
                numbers[str(step)] = {field: values.tolist() for field, values in fields.items()}
    return numbers


def largest_deviation(found: Numbers, expected: Numbers) -> tuple[float, str]:
    """How far off the number is that is off the furthest, and which one; infinite where numbers are missing or NaN."""
    return max(_deviations(found, expected), key=lambda one: one[0])


def _deviations(found: Numbers, expected: Numbers) -> Iterator[tuple[float, str]]:
    """The largest deviation of each field at each step."""
    for step, fields in expected.items():
        for field, values in fields.items():
            x, y = np.array(found[step][field]), np.array(values)
            if x.shape != y.shape:
                yield np.inf, f"{field} with {x.size} numbers instead of {y.size}"
                continue
            off = _off(x, y)
            worst = int(off.argmax())
            yield float(off[worst]), f"{field}[{worst}] at step {step}"


def _off(found: Array, expected: Array) -> Array:
    return np.nan_to_num(np.abs(found - expected) / np.maximum(1.0, np.abs(expected)), nan=np.inf, posinf=np.inf)


def read() -> Any:
    """The contents of golden.json."""
    return files.read_json(PATH)


def write() -> None:
    """Store the numbers found here, each list on one line."""
    golden = {"mujoco": mujoco_version(), "robots": {robot: play(robot) for robot in ROBOTS}}
    text = json.dumps(golden, indent=1, allow_nan=False)
    lists = re.compile(r"\[[^\]]*\]")
    files.write_text(PATH, lists.sub(lambda found: " ".join(found[0].split()), text) + "\n")
