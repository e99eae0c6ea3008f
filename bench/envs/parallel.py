"""PettingZoo's parallel environments as one batch: E copies stepped one after the other in this process.

An episode is taken for a function of its seed and its actions. Each begins with a reset to a seed of its own, and a
batch goes on where it was by playing its episodes again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from algorithms import Discrete, Team
from bench.envs.errors import EnvError, one_line_with_place
from bench.envs.parallel_calls import (
    LARGEST,
    beyond_largest,
    close_all,
    complaint,
    describe_agents,
    flat,
    reading_error,
    reset,
    state_of,
    wrong_end,
)
from bench.envs.spaces import write_mask

SEEDS = 2**31
"""Seeds of episodes are below this: every kind of generator takes them."""


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
        try:
            self.environments += (make() for _ in seeds)
            self._begin_all(seeds, own_state, leaves)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close every environment."""
        close_all(self.environments)
        self.environments = []

    def _begin_all(self, seeds: Sequence[np.random.SeedSequence], own_state: bool, leaves: bool) -> None:
        """Lay out what the environments say, and begin an episode in each."""
        self.agents, self._senses, self._controls = describe_agents(self.environments)
        self._random = [np.random.Generator(np.random.PCG64(seed)) for seed in seeds]
        self.seeds = np.array([generator.integers(SEEDS) for generator in self._random])
        _, infos = reset(self.environments[0], int(self.seeds[0]))  # a first look: who has a mask, is there a state
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
        self._rewards: list[Any] = [{} for _ in seeds]  # of each agent, for whoever asks why the team's is not finite
        self.terminated = np.zeros(self.envs, dtype=np.bool_)
        self.truncated = np.zeros(self.envs, dtype=np.bool_)
        self._live = list(range(self.envs))
        self._first: list[int] | None = None  # who is there after a reset
        self._there = [list(range(len(self.agents))) for _ in seeds]  # the agents that act next
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
        environment, agents, there = self.environments[e], self.agents, self._there[e]
        names = [agents[i] for i in there]
        try:
            answer = environment.step(dict(zip(names, [actions[i] for i in there], strict=True)))
        except MemoryError:  # no fault of the environment
            raise
        except (Exception, SystemExit) as error:
            raise EnvError(f"environment {e}: step raised {one_line_with_place(error)}") from error
        try:
            observations, rewards, terminated, truncated, infos = answer
            self._rewards[e] = rewards
            self.reward[e] = sum([float(rewards[name]) for name in names]) / len(names)
            died = [i for i, name in zip(there, names, strict=True) if terminated[name]]
            cut = [i for i, name in zip(there, names, strict=True) if truncated[name] and not terminated[name]]
        except (KeyError, TypeError, ValueError) as error:
            raise EnvError(f"environment {e}: {complaint(answer, names)}") from error
        self._elapsed[e] += 1
        after = there
        if died or cut or environment.agents != names:
            after = self._remaining(e, [*died, *cut], observations, infos)
            if after and len(after) < len(there):
                self._change(e, after)
        over, timed_out = not after, self._elapsed[e] == self.episode_length
        self._write(e, there if over else after, observations, infos)
        if over or timed_out:
            self._end_episode(e, cut if over else after)
            return True
        self.terminated[e] = self.truncated[e] = False
        return False

    def _remaining(self, e: int, gone: Sequence[int], observations: Any, infos: Any) -> list[int]:
        """Who is there to act next. Refuses agents that stay, leave or come back although they must not."""
        named, acted = self._named(e), [self.agents[i] for i in self._there[e]]
        if wrong := wrong_end(acted, [self.agents[i] for i in gone], named, observations, infos):
            self._refuse(e, wrong)
        return sorted(map(self.agents.index, named))

    def _named(self, e: int) -> list[str]:
        """A copy of the environment's `agents`, which must be agents that it has."""
        named = list(self.environments[e].agents)
        if strangers := [name for name in named if name not in self.agents]:
            raise EnvError(f"environment {e}: agent {strangers[0]} appeared, which is none of possible_agents")
        return named

    def _refuse(self, e: int, wrong: str) -> NoReturn:
        raise EnvError(f"environment {e}: {wrong} at step {self._elapsed[e]} of seed {self.seeds[e]}")

    def _change(self, e: int, there: list[int]) -> None:
        """From now on these agents are there."""
        if self.active is None and len(there) < len(self.agents):
            gone = next(name for i, name in enumerate(self.agents) if i not in there)
            raise EnvError(
                f"environment {e}: agent {gone} is not there before the episode's end, which nobody leaves here"
            )
        self._there[e] = there
        self._present[e] = False
        self._present[e, there] = True
        self._blank(e, there)

    def _blank(self, e: int, but: Sequence[int]) -> None:
        """Agents that are not there observe zeros, and all choices are open to them."""
        for i, (row, mask) in enumerate(zip(self._rows[e], self._masks, strict=True)):
            if i not in but:
                if self.active is not None:
                    row[:] = 0
                if mask is not None:
                    mask[e] = True

    def _write(self, e: int, seen_by: Sequence[int], observations: Any, infos: Any) -> None:
        """Put what these agents observe, and the state, into the environment's row."""
        if not (hasattr(observations, "keys") and hasattr(infos, "keys")):
            raise EnvError(f"environment {e}: observations and infos must be a dict of agents each")
        rows = self._rows[e]
        for i in seen_by:
            name = self.agents[i]
            if name not in observations:
                raise EnvError(f"environment {e}, agent {name}: no observation")
            try:
                self._senses[i].write(rows[i], observations[name])
                if (mask := self._masks[i]) is not None:
                    in_info = not self._senses[i].masked
                    if in_info and "action_mask" not in infos.get(name, ()):
                        self._refuse(e, f"agent {name}: its info lacks action_mask")
                    write_mask(mask[e], (infos if in_info else observations)[name]["action_mask"])
                elif "action_mask" in infos.get(name, ()):
                    raise ValueError("comes with an action_mask, which the first reset did not give")
            except EnvError:
                raise
            except Exception as error:
                if not hasattr(infos.get(name, {}), "keys"):
                    raise EnvError(f"environment {e}, agent {name}: info is no dict but {infos[name]!r}") from error
                raise EnvError(f"environment {e}, agent {name}: observation {reading_error(error)}") from error
        if self.own_state:
            self._write_state(e)

    def _write_state(self, e: int) -> None:
        try:
            state = flat(self.environments[e].state())
            if state.size != self.state.shape[1]:
                raise ValueError(f"has {state.size} numbers, at first {self.state.shape[1]}")
            self.state[e] = state
        except Exception as error:
            raise EnvError(f"environment {e}: state {reading_error(error)}") from error

    def _end_episode(self, e: int, cut: list[int]) -> None:
        """How an episode ended: these agents were cut off, and might have gone on from what they observed last."""
        self.terminated[e], self.truncated[e] = not cut, bool(cut)
        self._cut[e] = False
        self._cut[e, cut] = True
        self._blank(e, cut)

    def _check(self, rows: slice | NDArray[np.intp]) -> None:
        """Refuse what is not finite or too large, and agents that have no choice left."""
        if not ((np.abs(self._features[rows]) <= LARGEST).all() and (np.abs(self.reward) <= LARGEST).all()):
            self._refuse_numbers()
        if self.masks is None:
            return
        for name, mask, firsts in zip(self.agents, self._masks, self._firsts, strict=True):
            if mask is not None:
                possible = np.logical_or.reduceat(mask, firsts, axis=1).all(axis=1)
                if not possible.all():
                    raise EnvError(f"environment {int(possible.argmin())}, agent {name}: action_mask allows nothing")

    def _refuse_numbers(self) -> None:
        """Say what is not finite or beyond LARGEST."""
        for e, (rewards, rows) in enumerate(zip(self._rewards, self._rows, strict=True)):
            for name, reward in rewards.items():
                if not abs(reward) <= LARGEST:
                    raise EnvError(f"environment {e}, agent {name}: reward is {reward}{beyond_largest(reward)}")
            for name, row in zip(self.agents, rows, strict=True):
                if len(bad := np.flatnonzero(~(np.abs(row) <= LARGEST))):
                    x = row[bad[0]]
                    raise EnvError(f"environment {e}, agent {name}: observation[{bad[0]}] is {x}{beyond_largest(x)}")
        e, k = np.argwhere(~(np.abs(self.state) <= LARGEST))[0]
        raise EnvError(f"environment {e}: state[{k}] is {self.state[e, k]}{beyond_largest(self.state[e, k])}")

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
        observations, infos = reset(self.environments[e], seed)
        self._elapsed[e] = 0
        there = sorted(map(self.agents.index, self._named(e)))
        if not there:
            raise EnvError(f"environment {e}: no agent is there after a reset")
        self._first = self._first or there
        for i in {*self._first} ^ {*there}:
            is_ = "is not" if i in self._first else "is"
            after = f"after the reset to seed {seed}, unlike after the first one"
            raise EnvError(f"environment {e}: agent {self.agents[i]} {is_} there {after}")
        self._change(e, there)
        self._write(e, there, observations, infos)

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
