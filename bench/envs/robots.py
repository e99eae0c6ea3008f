"""The robots of Multi-Agent MuJoCo: how each is cut into agents, begins an episode and is rewarded.

Gymnasium-Robotics' MaMuJoCo is the reference and the source: `reference` builds it, constants are read from it, and
what stands here is its Python per step (rewards, terminations, resets) written once for E environments at a time.
"""

from __future__ import annotations

import contextlib
import io
import math
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Fields = Mapping[str, Array]
"""Arrays of `mujoco.MjData` by their names there, each [E, size]."""
MAX_SEGMENTS = 100


class Transition(NamedTuple):
    """One step of E environments as the reward sees it."""

    before: Array
    after: Array
    """The forward positions before and after."""
    fields: Fields
    action: Array
    """[E, nu] in the units of the actuators"""
    dt: float


Reward = Callable[[Any, Transition], tuple[Array, NDArray[np.bool_]]]
"""(Gymnasium's environment, transition) -> reward [E], terminated [E]"""
Reset = Callable[[Any, np.random.Generator], tuple[Array, Array]]
"""(Gymnasium's environment, generator) -> qpos, qvel, with the draws in Gymnasium's order"""


def _squares(x: Array) -> Array:
    """The sum of squares of each row, in NumPy's order of summation.  [E, n] -> [E]"""
    return np.add.reduce(np.square(x), axis=1)


def _bounded(x: Array, bounds: tuple[float, float]) -> Array:
    return np.minimum(np.maximum(x, bounds[0]), bounds[1])  # as np.clip, at a third of its overhead


def _control_cost(env: Any, step: Transition) -> Array:
    return env._ctrl_cost_weight * _squares(step.action)


def _forward(env: Any, step: Transition) -> Array:
    return env._forward_reward_weight * ((step.after - step.before) / step.dt)


def _never(step: Transition) -> NDArray[np.bool_]:
    return np.zeros(len(step.action), dtype=np.bool_)


def _run(env: Any, step: Transition) -> tuple[Array, NDArray[np.bool_]]:
    """HalfCheetah-v5 and Swimmer-v5: forward velocity less control cost; never terminates."""
    return _forward(env, step) - _control_cost(env, step), _never(step)


def _run_together(env: Any, step: Transition) -> tuple[Array, NDArray[np.bool_]]:
    """CoupledHalfCheetah: the means over two cheetahs of forward velocity and of control cost."""
    velocity = (step.after - step.before) / step.dt  # [E, 2]
    forward = env._forward_reward_weight * (velocity[:, 0] + velocity[:, 1]) / 2.0
    costs = [env._ctrl_cost_weight * _squares(half) for half in np.split(step.action, 2, axis=1)]
    return forward - (costs[0] + costs[1]) / 2.0, _never(step)


def _stand(env: Any, step: Transition) -> tuple[Array, NDArray[np.bool_]]:
    """Hopper-v5 and Walker2d-v5: forward velocity and a reward while healthy, less control cost."""
    z, angle = step.fields["qpos"][:, 1], step.fields["qpos"][:, 2]
    (z_low, z_high), (angle_low, angle_high) = env._healthy_z_range, env._healthy_angle_range
    healthy = (z_low < z) & (z < z_high) & (angle_low < angle) & (angle < angle_high)
    if hasattr(env, "_healthy_state_range"):
        low, high = env._healthy_state_range
        rest = np.concatenate([step.fields["qpos"][:, 2:], step.fields["qvel"]], axis=1)
        healthy &= np.all((low < rest) & (rest < high), axis=1)
    return (_forward(env, step) + healthy * env._healthy_reward) - _control_cost(env, step), ~healthy


def _crawl(env: Any, step: Transition) -> tuple[Array, NDArray[np.bool_]]:
    """Ant-v5: as above, less a cost of contact forces; unhealthy when out of its height range or not finite."""
    qpos, qvel, z = step.fields["qpos"], step.fields["qvel"], step.fields["qpos"][:, 2]
    low, high = env._healthy_z_range
    finite = np.logical_and.reduce(np.isfinite(qpos), 1) & np.logical_and.reduce(np.isfinite(qvel), 1)
    healthy = finite & (low <= z) & (z <= high)
    force = _bounded(step.fields["cfrc_ext"], env._contact_force_range)
    contact_cost = env._contact_cost_weight * _squares(force)
    cost = _control_cost(env, step) + contact_cost
    return (_forward(env, step) + healthy * env._healthy_reward) - cost, ~healthy


def _walk(env: Any, step: Transition) -> tuple[Array, NDArray[np.bool_]]:
    """Humanoid-v5: forward velocity of the centre of mass, else as Ant, with the contact cost bounded."""
    low, high = env._healthy_z_range
    z = step.fields["qpos"][:, 2]
    healthy = (low < z) & (z < high)
    contact_cost = env._contact_cost_weight * _squares(step.fields["cfrc_ext"])
    cost = _control_cost(env, step) + _bounded(contact_cost, env._contact_cost_range)
    return (_forward(env, step) + healthy * env._healthy_reward) - cost, ~healthy


def _stand_up(env: Any, step: Transition) -> tuple[Array, NDArray[np.bool_]]:
    """HumanoidStandup-v5: height over the time step and 1, less control and impact costs; never terminates."""
    height = step.fields["qpos"][:, 2] / env.model.opt.timestep
    impact_cost = env._impact_cost_weight * _squares(step.fields["cfrc_ext"])
    return height - _control_cost(env, step) - _bounded(impact_cost, env._impact_cost_range) + 1, _never(step)


def _between(env: Any, fields: Fields, one: str, other: str) -> Array:
    """The vectors from body `other` to body `one`.  -> [E, 3]"""
    xpos = fields["xpos"].reshape(-1, env.model.nbody, 3)
    return xpos[:, env.model.body(one).id] - xpos[:, env.model.body(other).id]


def _distance(env: Any, fields: Fields, one: str, other: str) -> Array:
    vector = np.ascontiguousarray(_between(env, fields, one, other))
    return np.sqrt(np.vecdot(vector, vector))  # as NumPy's norm of one vector; its norm over an axis rounds otherwise


def _reach(env: Any, step: Transition) -> tuple[Array, NDArray[np.bool_]]:
    """Reacher-v5: less the distance of the fingertip from the target and control cost; never terminates."""
    distance = -_distance(env, step.fields, "fingertip", "target") * env._reward_dist_weight
    return distance + -_squares(step.action) * env._reward_control_weight, _never(step)


def _push(env: Any, step: Transition) -> tuple[Array, NDArray[np.bool_]]:
    """Pusher-v5: less the distances of object to goal and arm to object and control cost; never terminates."""
    near = -_distance(env, step.fields, "object", "tips_arm") * env._reward_near_weight
    distance = -_distance(env, step.fields, "object", "goal") * env._reward_dist_weight
    control = -_squares(step.action) * env._reward_control_weight
    return distance + control + near, _never(step)


def _around(env: Any, random: np.random.Generator) -> tuple[Array, Array]:
    """Around the initial state: uniform positions and velocities."""
    scale, model = env._reset_noise_scale, env.model
    qpos = env.init_qpos + random.uniform(low=-scale, high=scale, size=model.nq)
    return qpos, env.init_qvel + random.uniform(low=-scale, high=scale, size=model.nv)


def _around_normal(env: Any, random: np.random.Generator) -> tuple[Array, Array]:
    """Around the initial state: uniform positions, normally distributed velocities."""
    scale, model = env._reset_noise_scale, env.model
    qpos = env.init_qpos + random.uniform(low=-scale, high=scale, size=model.nq)
    return qpos, env.init_qvel + scale * random.standard_normal(model.nv)


def _new_target(env: Any, random: np.random.Generator) -> tuple[Array, Array]:
    """Reacher-v5: a target within a disc of 0.2 m around the arm's root."""
    qpos = random.uniform(low=-0.1, high=0.1, size=env.model.nq) + env.init_qpos
    target = random.uniform(low=-0.2, high=0.2, size=2)
    while np.linalg.norm(target) >= 0.2:
        target = random.uniform(low=-0.2, high=0.2, size=2)
    qpos[-2:] = target
    qvel = env.init_qvel + random.uniform(low=-0.005, high=0.005, size=env.model.nv)
    qvel[-2:] = 0
    return qpos, qvel


def _new_object(env: Any, random: np.random.Generator) -> tuple[Array, Array]:
    """Pusher-v5: an object more than 0.17 m away from the goal, which is at the origin."""

    def draw() -> Array:
        return np.array([random.uniform(low=-0.3, high=0), random.uniform(low=-0.2, high=0.2)])

    place = draw()
    while np.linalg.norm(place) <= 0.17:
        place = draw()
    qpos = env.init_qpos.copy()
    qpos[-4:-2], qpos[-2:] = place, 0
    qvel = env.init_qvel + random.uniform(low=-0.005, high=0.005, size=env.model.nv)
    qvel[-4:] = 0
    return qpos, qvel


def _angles_and_reach(env: Any, fields: Fields) -> Array:
    """Reacher's computed features: cosines and sines of its joints, and the way from target to fingertip.  -> [E, 7]"""
    angle = np.ascontiguousarray(fields["qpos"][:, :2])
    return np.concatenate([np.cos(angle), np.sin(angle), _between(env, fields, "fingertip", "target")], axis=1)


def _nothing(env: Any, fields: Fields) -> Array:
    return np.zeros((len(fields["qpos"]), 0))


def _root(env: Any, fields: Fields) -> Callable[[], Array]:
    x = fields["qpos"][:, 0]
    return x.copy


def _roots(env: Any, fields: Fields) -> Callable[[], Array]:
    xs = fields["qpos"][:, :: env.model.nq // 2]
    return xs.copy


def _torso(env: Any, fields: Fields) -> Callable[[], Array]:
    x = fields["xpos"][:, 3 * env._main_body]
    return x.copy


def _centre_of_mass(env: Any, fields: Fields) -> Callable[[], Array]:
    mass, total = env.model.body_mass, env.model.body_mass.sum()
    xs = fields["xipos"][:, ::3]
    return lambda: np.add.accumulate(mass * xs, 1)[:, -1] / total  # one body after the other, as NumPy sums over them


@dataclass(frozen=True)
class Robot:
    """What MaMuJoCo knows of a robot, its reward and its resets."""

    partitions: tuple[str, ...]
    """Ways into agents that MaMuJoCo has; for a robot of segments, the one that the papers use."""
    reward: Reward
    reset: Reset = _around
    sliced: tuple[str, ...] = ()
    """More ways: NxM are N contiguous slices of M joints in the order of the actuators."""
    joints: int = 0
    """Actuated joints, or those of one segment."""
    reads: tuple[str, ...] = ()
    """Fields that reward and position read besides qpos and qvel."""
    position: Callable[[Any, Fields], Callable[[], Array]] = _root
    """(Gymnasium's environment, fields) -> what tells the forward positions [E] at any time from then on."""
    derived: Callable[[Any, Fields], Array] = _nothing
    """Features [E, D] that observations compute rather than gather."""
    episode_length: int = 1000
    """Gymnasium's, in steps."""
    segments: tuple[str, str] | None = None
    """For a robot of any number of segments: MaMuJoCo's module that writes its model, and Gymnasium's environment."""

    @property
    def whole(self) -> str:
        """The partition into one agent, which observes the state."""
        return f"1x{math.prod(_numbers(self.partitions[0])) if self.segments else self.joints}"

    def listed(self) -> tuple[str, ...]:
        """Its partitions, the fewest agents first; of a robot of segments, which has any NxM, those of the papers."""
        cuts = sorted((*self.partitions, *self.sliced), key=lambda cut: int(re.findall("[0-9]+", cut)[0]))
        return (*cuts, self.whole)

    def has(self, partition: str) -> bool:
        """Whether there is such a partition."""
        if not self.segments:
            return partition in self.listed()
        form = re.fullmatch(r"[1-9][0-9]{0,2}x[1-9][0-9]{0,2}", partition)
        return bool(form) and 2 <= math.prod(_numbers(partition)) <= MAX_SEGMENTS


def _numbers(partition: str) -> list[int]:
    return [int(number) for number in partition.split("x")]


_CRAWLER: dict[str, Any] = {
    "reward": _crawl,
    "reset": _around_normal,
    "reads": ("cfrc_ext", "xpos"),
    "position": _torso,
}

ROBOTS: dict[str, Robot] = {
    "Ant": Robot(("2x4", "2x4d", "4x2"), sliced=("8x1",), joints=8, **_CRAWLER),
    "HalfCheetah": Robot(("2x3", "6x1"), _run, _around_normal, sliced=("3x2",), joints=6),
    "Hopper": Robot(("3x1",), _stand, joints=3),
    "Walker2d": Robot(("2x3",), _stand, sliced=("3x2", "6x1"), joints=6),
    "Humanoid": Robot(
        ("9|8",), _walk, sliced=("17x1",), joints=17, reads=("cfrc_ext", "xipos"), position=_centre_of_mass
    ),
    "HumanoidStandup": Robot(("9|8",), _stand_up, sliced=("17x1",), joints=17, reads=("cfrc_ext",)),
    "Swimmer": Robot(("2x1",), _run, joints=2),
    "Reacher": Robot(
        ("2x1",), _reach, _new_target, joints=2, reads=("xpos",), derived=_angles_and_reach, episode_length=50
    ),
    "Pusher": Robot(("3p",), _push, _new_object, joints=7, reads=("xpos",), episode_length=100),
    "CoupledHalfCheetah": Robot(("1p1",), _run_together, _around_normal, joints=12, position=_roots),
    "ManySegmentSwimmer": Robot(("10x2",), _run, joints=1, segments=("many_segment_swimmer", "Swimmer-v5")),
    "ManySegmentAnt": Robot(("2x3",), joints=4, segments=("many_segment_ant", "Ant-v5"), **_CRAWLER),
}


def reference(robot: str, partition: str, obsk: int) -> Any:
    """MaMuJoCo's own environment, built without the notice that its import prints, its races and its luck.

    MaMuJoCo sorts the joints that an agent sees by name, but three of Pusher's have the same: their order then depends
    on where Python happened to put them in memory. Here it is that of the actuators.
    """
    with contextlib.redirect_stderr(io.StringIO()):
        from gymnasium_robotics import mamujoco_v1
    whole = partition.startswith("1x")
    made = mamujoco_v1.parallel_env(robot, **_arguments(robot, partition, whole), agent_obsk=None if whole else obsk)
    if not whole:
        for seen in made.k_dicts:
            for joints in seen.values():
                joints.sort(key=lambda joint: (joint.label, joint.act_ids))
    return made


def _arguments(robot: str, partition: str, whole: bool) -> dict[str, Any]:
    """What MaMuJoCo is to be told for a partition, be it one of its own or not."""
    from gymnasium_robotics.envs.multiagent_mujoco.obsk import get_parts_and_edges

    spec = ROBOTS[robot]
    if spec.segments:
        return {"agent_conf": partition, "gym_env": _of_segments(*spec.segments, math.prod(_numbers(partition)))}
    if whole:
        return {"agent_conf": None}
    if partition not in spec.sliced:
        return {"agent_conf": partition}
    (joints,), edges, free = get_parts_and_edges(robot, None)
    factorization = {"partition": _slices(joints, partition), "edges": edges, "globals": free}
    return {"agent_conf": partition, "agent_factorization": factorization}


def _of_segments(writer: str, gym_id: str, segments: int) -> Any:
    """The environment of a robot of segments, its model in a folder of its own.

    MaMuJoCo writes it into site-packages, and processes that do so at the same time delete each other's.
    """
    import gymnasium

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "model.xml"))
        import_module(f"gymnasium_robotics.envs.multiagent_mujoco.{writer}").gen_asset(segments, path)
        return gymnasium.make(gym_id, xml_file=path)


def _slices(joints: Sequence[Any], partition: str) -> list[tuple[Any, ...]]:
    """NxM: the joints in the order of their actuators, cut into N slices of M."""
    agents, size = _numbers(partition)
    ordered = sorted(joints, key=lambda joint: joint.act_ids)
    return [tuple(ordered[i * size : (i + 1) * size]) for i in range(agents)]
