"""Multi-Agent MuJoCo as one batch: a plain loop over MuJoCo data, with rewards and observations of all E at once.

Gymnasium-Robotics' MaMuJoCo is the reference and the source: it is built once per batch, its constants are read from
it, and its observation functions are compiled into index arrays by probing them with marked data (`compile_view`).
Stepping then costs little more than the physics.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import mujoco
import numpy as np
from numpy.typing import NDArray

from algorithms import Continuous, Team

Array = NDArray[np.float64]
ObservationMode = Literal["local", "global", "paper"]
FIELDS = ("qpos", "qvel", "cfrc_ext")
"""The arrays of `mujoco.MjData` that observations of the robots below are gathered from."""


@dataclass(frozen=True)
class Transition:
    """One step of E environments as the reward sees it, with `before` and `after` the forward position."""

    before: Array
    after: Array
    fields: Mapping[str, Array]
    action: Array
    dt: float


@dataclass(frozen=True)
class Robot:
    """What MaMuJoCo knows of a robot, and its reward as a function of E transitions at once."""

    partitions: tuple[str, ...]
    reward: Callable[[Any, Transition], tuple[Array, NDArray[np.bool_]]]
    """(Gymnasium's environment, transition) -> reward [E], terminated [E]"""
    gaussian_velocity: bool
    """Whether a reset draws velocities from a normal distribution; otherwise from a uniform one."""
    position: Callable[[Any], Array] = lambda data: data.qpos
    """Whose first entry is the forward position."""


def _control_cost(env: Any, step: Transition) -> Array:
    return env._ctrl_cost_weight * np.sum(np.square(step.action), axis=1)


def _forward(env: Any, step: Transition) -> Array:
    return env._forward_reward_weight * ((step.after - step.before) / step.dt)


def _run(env: Any, step: Transition) -> tuple[Array, NDArray[np.bool_]]:
    """HalfCheetah-v5: forward velocity less control cost; never terminates."""
    reward = _forward(env, step) - _control_cost(env, step)
    return reward, np.zeros(len(reward), dtype=np.bool_)


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
    healthy = np.isfinite(qpos).all(axis=1) & np.isfinite(qvel).all(axis=1) & (low <= z) & (z <= high)
    force = np.clip(step.fields["cfrc_ext"], *env._contact_force_range)
    contact_cost = env._contact_cost_weight * np.sum(np.square(force), axis=1)
    cost = _control_cost(env, step) + contact_cost
    return (_forward(env, step) + healthy * env._healthy_reward) - cost, ~healthy


ROBOTS: dict[str, Robot] = {
    "Ant": Robot(("2x4", "2x4d", "4x2"), _crawl, True, position=lambda data: data.xpos[1]),
    "HalfCheetah": Robot(("2x3", "6x1"), _run, True),
    "Hopper": Robot(("3x1",), _stand, False),
    "Walker2d": Robot(("2x3",), _stand, False),
}


def reference(robot: str, partition: str, obsk: int) -> Any:
    """MaMuJoCo's own environment, built without the notice that its import prints."""
    with contextlib.redirect_stderr(io.StringIO()):
        from gymnasium_robotics import mamujoco_v1
    return mamujoco_v1.parallel_env(robot, partition, agent_obsk=obsk)


@dataclass(frozen=True)
class View:
    """A compiled observation: which numbers of the raw row it gathers, and between which bounds it clips each."""

    index: NDArray[np.intp]
    low: Array
    high: Array


def compile_view(observe: Callable[[], Array], data: Any) -> View:
    """Find what `observe` gathers from `data`, by marking every number of FIELDS with one of its own.

    A first probe within every clip's bounds tells the indices, two more far beyond them tell the bounds; an
    observation that computes rather than gathers matches no mark and is refused.
    """
    arrays = [getattr(data, field) for field in FIELDS]
    saved = [array.copy() for array in arrays]
    total = sum(array.size for array in arrays)

    def probe(values: Array) -> Array:
        for array, part in zip(arrays, np.split(values, np.cumsum([a.size for a in arrays])[:-1]), strict=True):
            array[...] = part.reshape(array.shape)
        return np.asarray(observe(), dtype=np.float64)

    try:
        marks = np.sort(np.random.default_rng(0).uniform(-0.9, 0.9, total))  # no mark is a simple function of others
        seen, high, low = probe(marks), probe(np.full(total, 1e9)), probe(np.full(total, -1e9))
    finally:
        for array, old in zip(arrays, saved, strict=True):
            array[...] = old
    index = np.searchsorted(marks, seen).clip(0, total - 1)
    if not np.array_equal(marks[index], seen):
        raise NotImplementedError("an observation that is not a gather of qpos, qvel and cfrc_ext")
    return View(index, np.where(low == -1e9, -np.inf, low), np.where(high == 1e9, np.inf, high))


# Unstable physics end a trial by the numbers they give; MuJoCo's own way is to fill the terminal and leave a
# MUJOCO_LOG.TXT wherever the user happens to be.
mujoco.set_mju_user_warning(lambda message: None)


class MujocoBatch:
    """E copies of one MaMuJoCo task. See `bench.envs.batch.EnvBatch` for the attributes."""

    def __init__(
        self,
        robot: str,
        partition: str,
        seeds: Sequence[np.random.SeedSequence],
        *,
        observation: ObservationMode = "local",
        obsk: int = 1,
        episode_length: int = 1000,
        auto_reset: bool = True,
    ):
        self.envs, self.auto_reset, self.episode_length = len(seeds), auto_reset, episode_length
        self._standardises = observation == "paper"
        self.robot = ROBOTS[robot]
        mamujoco = reference(robot, partition, obsk)
        self._gym = mamujoco.single_agent_env.unwrapped
        self.model: Any = self._gym.model
        self._act_ids = [[node.act_ids for node in part] for part in mamujoco.agent_action_partitions]
        self._compile(mamujoco, observation)

        bounds = self.model.actuator_ctrlrange
        self._center, self._half = bounds.mean(axis=1), (bounds[:, 1] - bounds[:, 0]) / 2
        self._dt = self._gym.dt
        self.frame_skip = self._gym.frame_skip
        self._random = [np.random.Generator(np.random.PCG64(seed)) for seed in seeds]
        self.data = [mujoco.MjData(self.model) for _ in seeds]
        self.control = np.zeros((self.envs, self.model.nu))
        self._before = np.zeros(self.envs)
        self._elapsed = np.zeros(self.envs, dtype=np.int64)
        self._live = list(range(self.envs))
        self.reward = np.zeros(self.envs)
        self.terminated = np.zeros(self.envs, dtype=np.bool_)
        self.truncated = np.zeros(self.envs, dtype=np.bool_)
        # Pairs of (row of ours, MuJoCo's array): copying them after a step is all that Python does per environment.
        self._position = np.zeros((self.envs, 1))
        self._copies = [
            [(self._fields[name][e], getattr(data, name).reshape(-1)) for name in self._fields]
            + [(self._position[e], self.robot.position(data)[:1])]
            for e, data in enumerate(self.data)
        ]
        for e in self._live:
            self._reset(e)
        self._observe()
        self._mark_ends(np.zeros(0, dtype=np.intp))

    def _compile(self, mamujoco: Any, observation: ObservationMode) -> None:
        """Lay out the raw row (FIELDS, then the constants 0 and 1) and the features gathered from it.

        Features stand as [state | observation of agent 0 | ...], so that one gather and one clip serve all.
        """
        data, agents = self._gym.data, len(self._act_ids)
        views = [compile_view(self._gym._get_obs, data)]
        for i in range(agents):
            if observation == "local":
                views.append(compile_view(partial(mamujoco._get_obs_agent, i), data))
            else:
                total = sum(getattr(data, field).size for field in FIELDS)
                one_hot = total + np.eye(agents, dtype=np.intp)[i]
                free = np.full(agents, np.inf)
                state = views[0]
                views.append(
                    View(
                        np.concatenate([state.index, one_hot]),
                        np.concatenate([state.low, -free]),
                        np.concatenate([state.high, free]),
                    )
                )
        self._index = np.concatenate([view.index for view in views])
        self._low = np.concatenate([view.low for view in views])
        self._high = np.concatenate([view.high for view in views])
        self._clips = bool(np.isfinite(self._low).any() or np.isfinite(self._high).any())
        sizes = [len(view.index) for view in views]
        self._blocks = [slice(end - size, end) for size, end in zip(sizes, np.cumsum(sizes), strict=True)]
        self._allocate()
        self.team = Team(
            observation_sizes=tuple(sizes[1:]),
            action_spaces=tuple(Continuous(len(ids)) for ids in self._act_ids),
            state_size=sizes[0],
            observes_id=observation != "local",
        )

    def _allocate(self) -> None:
        """The raw rows, with a view of each field that anything reads, and the features."""
        fields = {field: getattr(self._gym.data, field).size for field in FIELDS}
        self._raw = np.zeros((self.envs, sum(fields.values()) + 2))
        self._raw[:, -1] = 1.0
        ends = np.cumsum(list(fields.values()))
        used = {"qpos", "qvel"} | {FIELDS[k] for k in np.searchsorted(ends, self._index, side="right") if k < 3}
        self._fields = {
            field: self._raw[:, end - size : end]
            for (field, size), end in zip(fields.items(), ends, strict=True)
            if field in used
        }
        self._needs_contact = "cfrc_ext" in self._fields
        self._gathered = np.zeros((self.envs, len(self._index)))
        self._features = np.zeros((self.envs, len(self._index)), dtype=np.float32)
        self.state, *self.observations = [self._features[:, block] for block in self._blocks]

    def set_control(self, actions: Sequence[NDArray[Any]]) -> None:
        """Clip N x [E, A_i] actions to [-1, 1] and map them to each actuator's own range, in `control` [E, nu]."""
        for ids, action in zip(self._act_ids, actions, strict=True):
            self.control[:, ids] = action
        np.clip(self.control, -1.0, 1.0, out=self.control)
        self.control *= self._half
        self.control += self._center

    def step(self, actions: Sequence[NDArray[Any]]) -> None:
        """Set the controls, advance the physics, then rewards, ends, resets and observations."""
        self.set_control(actions)
        self._before[:] = self._position[:, 0]
        self._advance()
        self._elapsed[self._live] += 1

        step = Transition(self._before, self._position[:, 0], self._fields, self.control, self._dt)
        self.reward, self.terminated = self.robot.reward(self._gym, step)
        self.truncated = self._elapsed >= self.episode_length
        self._observe()
        over = self.terminated | self.truncated
        self._mark_ends(np.array([e for e in self._live if over[e]], dtype=np.intp))
        if len(self.ended):
            self._begin_again()

    def _advance(self) -> None:
        """The loop over MuJoCo data: set the control, step, copy out."""
        model, frames = self.model, self.frame_skip
        control, data, copies = self.control, self.data, self._copies
        for e in self._live:
            data[e].ctrl[:] = control[e]
            mujoco.mj_step(model, data[e], frames)
            if self._needs_contact:  # Gymnasium's way: a sensor inside an RK4 step would give other numbers
                mujoco.mj_rnePostConstraint(model, data[e])
            for ours, theirs in copies[e]:
                ours[:] = theirs

    def _mark_ends(self, ended: NDArray[np.intp]) -> None:
        self.ended = ended
        self.end_state, *self.end_observations = [self._features[ended, block] for block in self._blocks]

    def _begin_again(self) -> None:
        if self.auto_reset:
            for e in self.ended:
                self._reset(e)
            self._observe()
        else:
            self._live = [e for e in self._live if e not in self.ended]

    def _reset(self, e: int) -> None:
        """A new episode from Gymnasium's distribution, drawn from the environment's own generator in its order."""
        data, random, scale = self.data[e], self._random[e], self._gym._reset_noise_scale
        mujoco.mj_resetData(self.model, data)
        qpos = self._gym.init_qpos + random.uniform(low=-scale, high=scale, size=self.model.nq)
        if self.robot.gaussian_velocity:
            qvel = self._gym.init_qvel + scale * random.standard_normal(self.model.nv)
        else:
            qvel = self._gym.init_qvel + random.uniform(low=-scale, high=scale, size=self.model.nv)
        data.qpos[:], data.qvel[:] = qpos, qvel
        mujoco.mj_forward(self.model, data)
        self._elapsed[e] = 0
        for ours, theirs in self._copies[e]:
            ours[:] = theirs

    def _observe(self) -> None:
        """Gather, clip and, in the mode `paper`, standardise each observation over its own features."""
        np.take(self._raw, self._index, axis=1, out=self._gathered, mode="clip")
        if self._clips:
            np.clip(self._gathered, self._low, self._high, out=self._gathered)
        if self._standardises:
            for block in self._blocks:
                x = self._gathered[:, block]
                x -= x.mean(axis=1, keepdims=True)
                x /= x.std(axis=1, keepdims=True)
        self._features[:] = self._gathered

    def state_dict(self) -> dict[str, Any]:
        """Physics, clocks, generators and the observations to act on."""
        kind = mujoco.mjtState.mjSTATE_INTEGRATION
        physics = np.zeros((self.envs, mujoco.mj_stateSize(self.model, kind)))
        for row, data in zip(physics, self.data, strict=True):
            mujoco.mj_getState(self.model, data, row, kind)
        return {
            "physics": physics,
            "elapsed": self._elapsed.copy(),
            "position": self._position.copy(),
            "raw": self._raw.copy(),
            "random": [generator.bit_generator.state for generator in self._random],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on, bit for bit, where `state_dict` was taken."""
        for e, row in enumerate(state["physics"]):
            mujoco.mj_setState(self.model, self.data[e], np.asarray(row), mujoco.mjtState.mjSTATE_INTEGRATION)
            self._random[e].bit_generator.state = state["random"][e]
        self._elapsed[:] = state["elapsed"]
        self._position[:] = state["position"]
        self._raw[:] = state["raw"]
        self._observe()
