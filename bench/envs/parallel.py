"""PettingZoo's parallel environments as one batch: E copies stepped one after the other in this process.

An episode is taken for a function of its seed and its actions. Each begins with a reset to a seed of its own, and a
batch goes on where it was by playing its episodes again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from algorithms import Discrete, Team
from bench.envs.closing import close
from bench.envs.errors import EnvError, error_line_with_place
from bench.envs.parallel_calls import describe_agents, reset, state_of
from bench.envs.rules import LARGEST, agents_error, answer_error, beyond_largest, info_error, mean_reward
from bench.envs.spaces import write_mask

SEEDS = 2**31
"""Seeds of episodes are below this: every kind of generator takes them."""
ENDLESS = 100_000
"""Steps after which an episode that nothing cuts is taken for endless."""


class ParallelBatch:
    """E copies of a ParallelEnv. See `bench.envs.batch.EnvBatch` for the attributes."""

    def __init__(
        self,
        make: Callable[[], ParallelEnv[str, Any, Any]],
        seeds: Sequence[np.random.SeedSequence],
        *,
        episode_length: int | None = None,
        own_state: bool = True,
        leaves: bool = True,
        auto_reset: bool = True,
    ):
        """`episode_length` cuts episodes that last longer. `own_state`: the environment's `state()`, where it has one,
        instead of all observations. `leaves`: whether agents may leave before the episode ends."""
        self.envs, self.auto_reset, self.episode_length = len(seeds), auto_reset, episode_length
        self.environments: list[ParallelEnv[str, Any, Any]] = []
        with ExitStack() as opened:
            for _ in seeds:
                self.environments.append(make())
                opened.callback(close, self.environments[-1])
            self._lay_out(seeds, own_state, leaves)
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Close every environment."""
        self._opened.close()

    def _lay_out(self, seeds: Sequence[np.random.SeedSequence], own_state: bool, leaves: bool) -> None:
        """Lay out what the environments say, and begin an episode in each."""
        self.agents, self._senses, self._controls = describe_agents(self.environments)
        self._random = [np.random.Generator(np.random.PCG64(seed)) for seed in seeds]
        self.seeds = np.array([generator.integers(SEEDS) for generator in self._random])
        # A first look: who has a mask, and is there a state?
        _, infos = reset(self.environments[0], int(self.seeds[0]), self.agents)
        self._lay_out_features(state_of(self.environments[0]) if own_state else None)
        self._lay_out_masks(infos)
        self._present = np.ones((self.envs, len(self.agents)), dtype=np.bool_)
        self._cut = np.zeros_like(self._present)  # of an episode that ended: who was there and might have gone on
        self.active = self._present if leaves else None
        self.team = Team(
            observation_sizes=tuple(sense.size for sense in self._senses),
            action_spaces=tuple(control.space for control in self._controls),
            state_size=self.state.shape[1],
            first_equal_feature=() if self.own_state else 2 * tuple(range(self.state.shape[1])),
            agents_leave=leaves,
            has_mask=() if self.masks is None else tuple(mask is not None for mask in self.masks),
        )
        self.reward = np.zeros(self.envs)
        self.terminated = np.zeros(self.envs, dtype=np.bool_)
        self.truncated = np.zeros(self.envs, dtype=np.bool_)
        self._live = list(range(self.envs))
        self._acting = [list(range(len(self.agents))) for _ in seeds]  # the agents that act next
        self._names = [self.agents for _ in seeds]  # the same by name
        self._elapsed = np.zeros(self.envs, dtype=np.int64)
        self._history: list[NDArray[np.float32]] = []  # [E, A] for each step since the oldest episode's first
        for e, seed in enumerate(self.seeds):
            self._begin(e, int(seed))
        self._check(slice(None))
        self._no_ends()

    def _lay_out_features(self, state: NDArray[Any] | None) -> None:
        """The rows of all environments: [state | o_1 | ... | o_N], only the latter where they are the state."""
        self.own_state = state is not None
        head = 0 if state is None else state.size
        sizes = [sense.size for sense in self._senses]
        ends = (head + np.cumsum(sizes)).tolist()
        self._blocks = [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]
        self._state_block = slice(0, head or ends[-1])
        self._features = np.zeros((self.envs, ends[-1]), dtype=np.float32)
        self._rows = [[row[block] for block in self._blocks] for row in self._features]
        self.state = self._features[:, self._state_block]
        self.observations = [self._features[:, block] for block in self._blocks]
        widths = [control.space.size for control in self._controls]
        places = np.cumsum(widths).tolist()
        self._columns = [slice(place - width, place) for width, place in zip(widths, places, strict=True)]

    def _lay_out_masks(self, infos: Any) -> None:
        """A mask for each agent whose observation or first info holds one, and where its components begin in it."""
        self._masks: list[NDArray[np.bool_] | None] = []
        self._firsts: list[list[int]] = []
        for agent, seen, done in zip(self.agents, self._senses, self._controls, strict=True):
            masked, space = seen.masked or "action_mask" in infos.get(agent, ()), done.space
            if masked and not isinstance(space, Discrete):
                raise EnvError(f"agent {agent} has an action_mask and no choices: its action space is a Box")
            choices = space.choices if masked and isinstance(space, Discrete) else ()
            self._masks.append(np.ones((self.envs, sum(choices)), dtype=np.bool_) if masked else None)
            self._firsts.append(np.cumsum((0, *choices[:-1])).tolist())
        self.masks = self._masks if any(mask is not None for mask in self._masks) else None

    def step(self, actions: Sequence[NDArray[Any]]) -> None:
        """Step one environment after the other, then look at all that they said at once, then begin new episodes."""
        joint = np.concatenate(actions, axis=1, dtype=np.float32)
        self._history.append(joint)
        columns = self.converted(joint)
        ended = [e for e in self._live if self._advance(e, [column[e] for column in columns])]
        self._check(slice(None))
        if ended:
            self._end(np.array(ended))
        elif len(self.ended):
            self._no_ends()

    def converted(self, joint: NDArray[np.float32]) -> list[list[Any]]:
        """[E, A] -> the environments' actions of each agent, N x E"""
        return [control.convert(joint[:, place]) for control, place in zip(self._controls, self._columns, strict=True)]

    def _advance(self, e: int, actions: Sequence[Any]) -> bool:
        """Step one environment and write down what it says; whether its episode is over."""
        environment, acting, names = self.environments[e], self._acting[e], self._names[e]
        self._elapsed[e] += 1
        try:
            answer: Any = environment.step(dict(zip(names, [actions[i] for i in acting], strict=True)))
        except MemoryError:  # no fault of the environment
            raise
        except (Exception, SystemExit) as error:
            raise self._error(e, f"step raised {error_line_with_place(error)}") from error
        try:
            observations, rewards, terminated, truncated, infos = answer
            self.reward[e] = mean_reward(rewards, names)
            goes_on = [terminated.get(name) is truncated.get(name) is False for name in names]
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise self._answer_error(e, answer) from error
        after, cut = acting, list[int]()
        if not all(goes_on) or list(environment.agents) != names:
            after, cut = self._remaining(e, answer)
        over, timed_out = not after, self._elapsed[e] == self.episode_length
        self._write(e, acting if over else after, cut if over else after, observations, infos)
        if over or timed_out:
            self._end_episode(e, cut if over else after)
            return True
        if self._elapsed[e] >= ENDLESS and self.episode_length is None:
            raise self._error(e, "an episode had not ended: give the task an episode_length; it was")
        self.terminated[e] = self.truncated[e] = False
        return False

    def _remaining(self, e: int, answer: Any) -> tuple[list[int], list[int]]:
        """Who is there to act next, and who was cut off, after a step at which perhaps somebody left."""
        acting, names = self._acting[e], self._names[e]
        if answer_error(answer, names)[0]:
            raise self._answer_error(e, answer)
        _, _, terminated, truncated, _ = answer
        over = [name for name in names if terminated[name] or truncated[name]]
        if wrong := agents_error(list(self.environments[e].agents), names, over, self.agents, self._where(e)):
            raise EnvError(f"environment {e}: {wrong}")
        after = [i for i in acting if self.agents[i] not in over]
        if after and over:
            self._change(e, after)
        return after, [self.agents.index(name) for name in over if not terminated[name]]

    def _where(self, e: int) -> str:
        step = self._elapsed[e]
        return f"step {step} of seed {self.seeds[e]}" if step else f"the reset to seed {self.seeds[e]}"

    def _error(self, e: int, wrong: str, agent: str | None = None) -> EnvError:
        """What is wrong with an environment, or with what an agent got, and at which step of which episode."""
        whose = "" if agent is None else f", agent {agent}"
        return EnvError(f"environment {e}{whose}: {wrong} at {self._where(e)}")

    def _answer_error(self, e: int, answer: Any) -> EnvError:
        wrong, agent = answer_error(answer, self._names[e])
        return self._error(e, wrong or "step returned what cannot be read", agent)

    def _change(self, e: int, acting: list[int]) -> None:
        """From now on these agents act."""
        if self.active is None and len(acting) < len(self.agents):
            gone = next(name for i, name in enumerate(self.agents) if i not in acting)
            raise self._error(e, f"agent {gone} is not there before the episode's end, which nobody leaves here,")
        self._acting[e], self._names[e] = acting, [self.agents[i] for i in acting]
        self._present[e] = False
        self._present[e, acting] = True
        self._blank(e, acting)

    def _blank(self, e: int, but: Sequence[int]) -> None:
        """Agents that are not there observe zeros, and all choices are open to them."""
        for i, (row, mask) in enumerate(zip(self._rows[e], self._masks, strict=True)):
            if i not in but:
                if self.active is not None:
                    row[:] = 0
                if mask is not None:
                    mask[e] = True

    def _write(self, e: int, seen_by: Sequence[int], choose: Sequence[int], observations: Any, infos: Any) -> None:
        """Put what these agents observe, which of their choices are open, and the state into the environment's row."""
        rows = self._rows[e]
        for i in seen_by:
            name = self.agents[i]
            if name not in observations:
                raise self._error(e, "no observation", name)
            try:
                self._senses[i].write(rows[i], observations[name])
            except Exception as error:
                raise self._error(e, f"observation {_reading_error(error)}", name) from error
            if (info := infos.get(name)) is None or not hasattr(info, "keys"):
                raise self._error(e, info_error(info) if name in infos else "no info", name)
            if self._masks[i] is None and "action_mask" in info:
                raise self._error(e, "info brings an action_mask, and the first reset brought none", name)
        if self.masks is not None:
            self._write_masks(e, choose, observations, infos)
        if self.own_state:
            self._write_state(e)

    def _write_masks(self, e: int, choose: Sequence[int], observations: Any, infos: Any) -> None:
        for i in choose:
            mask, name = self._masks[i], self.agents[i]
            if mask is None:
                continue
            what, source = ("observation", observations) if self._senses[i].masked else ("info", infos)
            try:
                write_mask(mask[e], source[name]["action_mask"])
            except Exception as error:
                raise self._error(e, f"{what} {_reading_error(error)}", name) from error

    def _write_state(self, e: int) -> None:
        try:
            state = state_of(self.environments[e])
            if state is None:
                raise EnvError("there is no state, and there was one at first,")
            if state.size != self.state.shape[1]:
                raise EnvError(f"state has {state.size} numbers, at first {self.state.shape[1]},")
        except EnvError as error:
            raise self._error(e, str(error)) from error
        self.state[e] = state

    def _end_episode(self, e: int, cut: list[int]) -> None:
        """How an episode ended: these agents were cut off, and might have gone on from what they observed last."""
        self.terminated[e], self.truncated[e] = not cut, bool(cut)
        self._cut[e] = False
        self._cut[e, cut] = True
        self._blank(e, cut)

    def _check(self, rows: slice | NDArray[np.intp]) -> None:
        """Refuse what is not finite or too large, and agents that have no choice left."""
        if not (np.abs(self._features[rows]) <= LARGEST).all():
            self._refuse_numbers()
        if self.masks is None:
            return
        for name, mask, firsts in zip(self.agents, self._masks, self._firsts, strict=True):
            if mask is not None:
                possible = np.logical_or.reduceat(mask, firsts, axis=1).all(axis=1)
                if not possible.all():
                    raise self._error(int(possible.argmin()), "action_mask allows nothing", name)

    def _refuse_numbers(self) -> None:
        """Say what is not finite or beyond LARGEST."""
        blocks = [*zip(self.agents, self._blocks, strict=True), (None, self._state_block)]
        e, k = np.argwhere(~(np.abs(self._features) <= LARGEST))[0]
        agent, block = next((agent, block) for agent, block in blocks if block.start <= k < block.stop)
        x = self._features[e, k]
        what = f"{'state' if agent is None else 'observation'}[{k - block.start}]"
        raise self._error(e, f"{what} is {x}{beyond_largest(float(x))}", agent)

    def _no_ends(self) -> None:
        self._tell_ends(np.zeros(0, dtype=np.intp))

    def _tell_ends(self, ended: NDArray[np.intp]) -> None:
        """Keep copies of the last rows of the episodes that ended."""
        self.ended, last = ended, self._features[ended]
        self.end_state = last[:, self._state_block]
        self.end_observations = [last[:, block] for block in self._blocks]
        if self.masks is None:
            self.end_masks = None
        else:
            self.end_masks = [None if mask is None else mask[ended] for mask in self._masks]
        self.end_active = None if self.active is None else self._cut[ended]

    def _end(self, ended: NDArray[np.intp]) -> None:
        """Tell of the episodes that ended, and begin new ones or leave them be."""
        self._tell_ends(ended)
        if not self.auto_reset:
            self._live = [e for e in self._live if e not in ended]
            return
        for e in ended:
            self.seeds[e] = self._random[e].integers(SEEDS)
            self._begin(e, int(self.seeds[e]))
        self._check(ended)
        del self._history[: len(self._history) - int(self._elapsed.max())]

    def _begin(self, e: int, seed: int) -> None:
        """A new episode from a seed."""
        self._elapsed[e] = 0
        try:
            observations, infos = reset(self.environments[e], seed, self.agents)
        except EnvError as error:
            raise EnvError(f"environment {e}: {error}") from error
        everyone = list(range(len(self.agents)))
        self._change(e, everyone)
        self._write(e, everyone, everyone, observations, infos)

    def state_dict(self) -> dict[str, Any]:
        """The seed and the actions of every episode, the generators, and what was observed last."""
        length = int(self._elapsed.max())
        history = self._history[len(self._history) - length :]
        return {
            "seeds": self.seeds.copy(),
            "elapsed": self._elapsed.copy(),
            "actions": np.array(history, dtype=np.float32).reshape(length, self.envs, self._columns[-1].stop),
            "features": self._features.copy(),
            "random": [generator.bit_generator.state for generator in self._random],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Play every episode again up to where `state_dict` was taken; refuses one that now goes another way."""
        elapsed = np.asarray(state["elapsed"])
        self.seeds = np.asarray(state["seeds"]).copy()
        self._history = list(np.asarray(state["actions"]).copy())
        columns = [self.converted(joint) for joint in self._history]
        for e, steps in enumerate(elapsed):
            self._random[e].bit_generator.state = state["random"][e]
            self._begin(e, int(self.seeds[e]))
            over = [self._advance(e, [column[e] for column in step]) for step in columns[len(columns) - int(steps) :]]
            if any(over) or not np.array_equal(self._features[e], np.asarray(state["features"])[e]):
                raise EnvError(
                    f"environment {e}: its episode went another way when it was played again with the same seed and "
                    "actions, so it cannot go on; `python -m bench.check` says where"
                )
        self._no_ends()


def _reading_error(error: Exception) -> str:
    """What went wrong in reading an observation or a mask, as the rest of a sentence."""
    return f"lacks {error.args[0]}" if isinstance(error, KeyError) else " ".join(str(error).split())
