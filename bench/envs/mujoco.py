"""Multi-Agent MuJoCo as one batch: a plain loop over the environments, with rewards and observations of all E at once.

MaMuJoCo's environment is built once per batch and its observation functions are compiled into index arrays by probing
them with marked data (`compile_view`). Stepping then costs little more than the physics. An environment is a row of
numbers: all of them are stepped in one `mujoco.MjData` per thread, which so stays in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any, Literal, NamedTuple

import mujoco
import numpy as np
from numpy.typing import NDArray

from algorithms import Continuous, Team
from bench.envs.closing import close
from bench.envs.robots import ROBOTS, Array, Transition, reference
from bench.envs.views import FIELDS, View, arrays, compile_view, layout

ObservationMode = Literal["local", "global", "paper"]


class Share(NamedTuple):
    """Environments that one thread steps one after the other, and what is copied for each: memoryviews, which are
    written in a third of the time that arrays take."""

    data: Any
    physics: memoryview
    control: memoryview
    work: list[tuple[memoryview, memoryview, list[tuple[memoryview, memoryview]]]]
    """For each live environment its physics, its control, and where each array goes and is to be found after a step"""


# Unstable physics end a trial by the numbers they give; MuJoCo's own way is to fill the terminal and leave a
# MUJOCO_LOG.TXT wherever the user happens to be.
mujoco.set_mju_user_warning(lambda message: None)


class MujocoBatch:
    """E copies of one MaMuJoCo task. See `bench.envs.batch.EnvBatch` for the attributes.

    Besides them `fields` holds MuJoCo's arrays of all environments, each [E, size], and `physics` [E, P] what the next
    step depends on: whoever writes there moves an environment.
    """

    # Actions are continuous, and robots lose no limb.
    masks: list[NDArray[np.bool_] | None] | None = None
    end_masks: list[NDArray[np.bool_] | None] | None = None
    active: NDArray[np.bool_] | None = None
    end_active: NDArray[np.bool_] | None = None

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
        env_threads: int = 1,
    ):
        self.envs, self.auto_reset, self.episode_length = len(seeds), auto_reset, episode_length
        self._standardises = observation == "paper"
        self.robot_name, self.robot = robot, ROBOTS[robot]
        with ExitStack() as opened:
            mamujoco = reference(robot, partition, obsk)
            opened.callback(close, mamujoco)
            threads = min(env_threads, self.envs)
            self._pool = opened.enter_context(ThreadPoolExecutor(threads - 1)) if threads > 1 else None
            self._lay_out_team(mamujoco, observation)
            self._begin_all(seeds, threads)
            self._opened = opened.pop_all()

    def close(self) -> None:
        """End the threads, and close MaMuJoCo's environment, of which the batch has the model and the resets."""
        self._opened.close()

    def _lay_out_team(self, mamujoco: Any, observation: ObservationMode) -> None:
        """What is read from MaMuJoCo's environment: model, observations, and which action is whose."""
        self._gym = mamujoco.single_agent_env.unwrapped
        self.model: Any = self._gym.model
        self.frame_skip, self.dt = self._gym.frame_skip, self._gym.dt
        act_ids = [[node.act_ids for node in part] for part in mamujoco.agent_action_partitions]
        self._compile(mamujoco, observation)
        self.team = Team(
            observation_sizes=tuple(block.stop - block.start for block in self._blocks[1:]),
            action_spaces=tuple(Continuous(len(ids)) for ids in act_ids),
            state_size=self._blocks[0].stop,
            observes_id=observation != "local",
            first_equal_feature=tuple(self._firsts.tolist()),
        )
        bounds = self.model.actuator_ctrlrange
        self._center, self._half = bounds.mean(axis=1), (bounds[:, 1] - bounds[:, 0]) / 2
        self._scales, self._shifts = bool((self._half != 1).any()), bool((self._center != 0).any())
        self._actuators = np.argsort([a for ids in act_ids for a in ids])  # where each actuator's action comes from
        self._reorders = bool((np.diff(self._actuators) != 1).any())
        self.control = np.zeros((self.envs, self.model.nu))

    def _begin_all(self, seeds: Sequence[np.random.SeedSequence], threads: int) -> None:
        """Begin an episode in each environment, and share them among the threads."""
        self._random = [np.random.Generator(np.random.PCG64(seed)) for seed in seeds]
        self._elapsed = np.zeros(self.envs, dtype=np.int64)
        self.reward = np.zeros(self.envs)
        self.terminated = np.zeros(self.envs, dtype=np.bool_)
        self.truncated = np.zeros(self.envs, dtype=np.bool_)
        self._data = [mujoco.MjData(self.model) for _ in range(threads)]
        self._arrays = arrays(self._data[0])
        self._step_only(np.ones(self.envs, dtype=np.bool_))
        for e in range(self.envs):
            self._reset(e)
        self._positions = self.robot.position(self._gym, self.fields)
        self._position = self._positions()
        self._observe()
        self._no_ends()

    def _compile(self, mamujoco: Any, observation: ObservationMode) -> None:
        """Lay out the raw row (fields, derived features, the constants 0 and 1) and the features gathered from it.

        Features stand as [state | observation of agent 0 | ...], so that one gather and one clip serve all.
        """
        data, agents = self._gym.data, len(mamujoco.agent_action_partitions)
        places = layout(data)
        derive = partial(self.robot.derived, self._gym)
        state = compile_view(self._gym._get_obs, data, derive)
        views = [state]
        total = places[FIELDS[-1]].stop
        derived = derive({field: np.zeros((1, place.stop - place.start)) for field, place in places.items()}).shape[1]
        for i in range(agents):
            if observation == "local":
                views.append(compile_view(partial(mamujoco._get_obs_agent, i), data, derive))
            else:
                one_hot = total + derived + np.eye(agents, dtype=np.intp)[i]
                free = np.full(agents, np.inf)
                views.append(
                    View(
                        np.concatenate([state.index, one_hot]),
                        np.concatenate([state.low, -free]),
                        np.concatenate([state.high, free]),
                    )
                )
        index = np.concatenate([view.index for view in views])
        # Rounding first and clipping then is the same, at half the memory; standardising takes the full precision.
        dtype = np.float64 if self._standardises else np.float32
        self._low = np.concatenate([view.low for view in views]).astype(dtype)
        self._high = np.concatenate([view.high for view in views]).astype(dtype)
        self._clips = bool(np.isfinite(self._low).any() or np.isfinite(self._high).any())
        sizes = [len(view.index) for view in views]
        self._blocks = [slice(end - size, end) for size, end in zip(sizes, np.cumsum(sizes).tolist(), strict=True)]
        # Features that are gathered, clipped and standardised alike are equal: of each the first. Standardised,
        # observations share one mean and deviation, being the same numbers in another order, the state has its own.
        alike = [index, self._low, self._high, self._standardises * (np.arange(len(index)) >= sizes[0])]
        _, first, which = np.unique(np.stack(alike), axis=1, return_index=True, return_inverse=True)
        self._firsts = first[which.reshape(-1)]

        constants = 2 * (observation != "local")
        self._lay_out(index, places, derived, derived + constants)
        self._raw[:, self._raw.shape[1] - constants :] = [0.0, 1.0][:constants]
        self._needs_contact = "cfrc_ext" in self.fields
        self._features = np.zeros((self.envs, len(index)), dtype=np.float32)
        self.state, *self.observations = [self._features[:, block] for block in self._blocks]

    def _lay_out(self, index: NDArray[np.intp], places: Mapping[str, slice], derived: int, tail: int) -> None:
        """The raw rows, without the fields that nothing reads."""
        read = {"physics", *self.robot.reads}
        used = [
            field
            for field in ("physics", *FIELDS)
            if field in read or ((places[field].start <= index) & (index < places[field].stop)).any()
        ]
        total = places[FIELDS[-1]].stop
        columns = np.concatenate([np.arange(total)[places[field]] for field in used])
        first = len(columns)
        columns = np.concatenate([columns, np.arange(total, total + tail)])
        self._index = np.searchsorted(columns, index)
        self._raw = np.zeros((self.envs, len(columns)))
        self._derived = self._raw[:, first : first + derived]
        starts = {field: int(np.searchsorted(columns, places[field].start)) for field in (*used, "qpos", "qvel")}
        self.fields = {
            field: self._raw[:, start : start + places[field].stop - places[field].start]
            for field, start in starts.items()
        }
        self._copied = {field: self.fields[field] for field in used}
        self.physics = self.fields["physics"]

    def set_control(self, actions: Sequence[NDArray[Any]]) -> None:
        """Clip N x [E, A_i] actions to [-1, 1] and map them to each actuator's own range, in `control` [E, nu]."""
        control = self.control
        np.concatenate(actions, axis=1, out=control)
        ordered = control.take(self._actuators, axis=1) if self._reorders else control
        np.minimum(ordered, 1.0, out=control)
        np.maximum(control, -1.0, out=control)
        if self._scales:
            control *= self._half
        if self._shifts:
            control += self._center

    def step(self, actions: Sequence[NDArray[Any]]) -> None:
        """Set the controls, advance the physics, then rewards, ends, resets and observations."""
        self.set_control(actions)
        self._advance()
        self._elapsed += self._live
        before, self._position = self._position, self._positions()
        step = Transition(before, self._position, self.fields, self.control, self.dt)
        self.reward, self.terminated = self.robot.reward(self._gym, step)
        self.truncated = self._elapsed >= self.episode_length
        over = (self.terminated | self.truncated) & self._live
        if np.count_nonzero(over):
            self._end(np.flatnonzero(over))
        elif len(self.ended):
            self._no_ends()
        self._observe()

    def _advance(self) -> None:
        """Step the environments, the first share of them in this thread."""
        if self._pool is None:
            self._simulate(self._shares[0])
            return
        others = [self._pool.submit(self._simulate, share) for share in self._shares[1:]]
        self._simulate(self._shares[0])
        for other in others:
            other.result()

    def _simulate(self, share: Share) -> None:
        """The loop over environments: set physics and control, step (which lets other threads run), copy."""
        model, frames, needs_contact = self.model, self.frame_skip, self._needs_contact
        step, contact = mujoco.mj_step, mujoco.mj_rnePostConstraint
        data, physics, control, work = share
        for before, wanted, fields in work:
            physics[:], control[:] = before, wanted
            step(model, data, frames)
            if needs_contact:  # Gymnasium's way: a sensor inside an RK4 step would give other numbers
                contact(model, data)
            for ours, theirs in fields:
                ours[:] = theirs

    def _step_only(self, live: NDArray[np.bool_]) -> None:
        """From now on step these environments, in about equal shares for the threads."""
        self._live = live
        blocks = np.array_split(np.arange(self.envs), len(self._data))
        self._shares = [self._share(data, block[live[block]]) for data, block in zip(self._data, blocks, strict=True)]

    def _share(self, data: Any, block: NDArray[np.intp]) -> Share:
        theirs = arrays(data)
        return Share(
            data,
            theirs["physics"].data,
            data.ctrl.data,
            [
                (
                    self.physics[e].data,
                    self.control[e].data,
                    [(ours[e].data, theirs[field].data) for field, ours in self._copied.items()],
                )
                for e in block
            ],
        )

    def _no_ends(self) -> None:
        self.ended = np.zeros(0, dtype=np.intp)
        self.end_state, *self.end_observations = [self._features[:0, block] for block in self._blocks]

    def _end(self, ended: NDArray[np.intp]) -> None:
        """Keep the last observations of the episodes that ended, and begin new ones or leave them be."""
        self._derive()
        self.ended, last = ended, self._seen(self._raw[ended])
        self.end_state, *self.end_observations = [last[:, block] for block in self._blocks]
        if self.auto_reset:
            for e in ended:
                self._reset(e)
            self._position = self._positions()
        else:
            live = self._live.copy()
            live[ended] = False
            self._step_only(live)

    def _reset(self, e: int) -> None:
        """A new episode from Gymnasium's distribution, drawn from the environment's own generator in its order."""
        self._set(e, *self.robot.reset(self._gym, self._random[e]))

    def begin(self, e: int, qpos: Array, qvel: Array) -> None:
        """A new episode of environment e from this state."""
        self._set(e, qpos, qvel)
        self._position = self._positions()
        self._observe()

    def _set(self, e: int, qpos: Array, qvel: Array) -> None:
        data = self._data[0]
        mujoco.mj_resetData(self.model, data)
        data.qpos[:], data.qvel[:] = qpos, qvel
        mujoco.mj_forward(self.model, data)
        for field, ours in self._copied.items():
            ours[e] = self._arrays[field]
        self._elapsed[e] = 0

    def _derive(self) -> None:
        if self._derived.size:
            self._derived[:] = self.robot.derived(self._gym, self.fields)

    def _observe(self) -> None:
        """The state and observations of all environments, from their raw rows."""
        self._derive()
        if self._standardises:
            self._features[:] = self._seen(self._raw)
        else:
            self._seen(self._raw, self._features)

    def _seen(self, raw: Array, out: NDArray[np.float32] | None = None) -> NDArray[Any]:
        """Gather, clip and, in the mode `paper`, standardise each over its own features.  [., R] -> [., F]"""
        gathered = raw.astype(self._low.dtype, copy=False).take(self._index, 1, out, "clip")  # "clip" spares a buffer
        if self._clips:
            np.maximum(gathered, self._low, out=gathered)
            np.minimum(gathered, self._high, out=gathered)
        if self._standardises:
            for block in self._blocks[:2]:
                x = gathered[:, block]
                x -= x.mean(axis=1, keepdims=True)
                x /= x.std(axis=1, keepdims=True)
            gathered = gathered[:, self._firsts].astype(np.float32)
        return gathered

    def state_dict(self) -> dict[str, Any]:
        """Physics, clocks, generators and the observations to act on."""
        return {
            "raw": self._raw.copy(),
            "elapsed": self._elapsed.copy(),
            "random": [generator.bit_generator.state for generator in self._random],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on, bit for bit, where `state_dict` was taken."""
        self._raw[:] = state["raw"]
        self._elapsed[:] = state["elapsed"]
        for generator, kept in zip(self._random, state["random"], strict=True):
            generator.bit_generator.state = kept
        self._position = self._positions()
        self._observe()
