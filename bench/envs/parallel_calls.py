"""Calls into a PettingZoo `ParallelEnv`; what it raises, or answers against the rules, is an EnvError."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from bench.envs.errors import EnvError, error_line_with_place
from bench.envs.rules import NUMBERS, reset_error
from bench.envs.spaces import ActionDecoder, ObservationEncoder, control, sense


def describe_agents(
    environments: Sequence[ParallelEnv[str, Any, Any]],
) -> tuple[list[str], list[ObservationEncoder], list[ActionDecoder]]:
    """The agents and how they observe and act, the same in all copies."""
    for environment in environments:
        if not isinstance(environment, ParallelEnv):
            raise EnvError(f"{type(environment).__name__} is no pettingzoo.ParallelEnv")
    first = environments[0]
    agents = list(first.possible_agents)
    if not agents or len({*agents}) < len(agents):
        raise EnvError(f"possible_agents must be different names, at least one, not {agents}")
    senses: list[Any] = []
    controls: list[Any] = []
    for agent in agents:
        seen, done = first.observation_space(agent), first.action_space(agent)
        for what, space, make, into in (("observation", seen, sense, senses), ("action", done, control, controls)):
            try:
                into.append(make(space))
            except (ValueError, AttributeError) as error:
                raise EnvError(f"the {what} space of agent {agent}: {error}") from error
        for other in environments[1:]:
            if list(other.possible_agents) != agents:
                raise EnvError(f"possible_agents are {agents} in one copy and {list(other.possible_agents)} in another")
            if (other.observation_space(agent), other.action_space(agent)) != (seen, done):
                raise EnvError(f"the spaces of agent {agent} differ between two copies of the environment")
    return agents, senses, controls


def reset(environment: ParallelEnv[str, Any, Any], seed: int, agents: Sequence[str]) -> tuple[Any, Any]:
    """The observations and infos of a reset, after which all of `agents` must be there; raises EnvError."""
    try:
        answer: Any = environment.reset(seed=seed)
    except MemoryError:  # no fault of the environment
        raise
    except (Exception, SystemExit) as error:
        raise EnvError(f"reset raised {error_line_with_place(error)}") from error
    if wrong := reset_error(answer, environment.agents, environment.possible_agents, agents, seed):
        raise EnvError(wrong)
    observations, infos = answer
    return observations, infos


def state_of(environment: ParallelEnv[str, Any, Any]) -> NDArray[Any] | None:
    """The environment's own state as one row; None where it has none: `state` is no method, or is not implemented."""
    try:
        state = environment.state()
    except NotImplementedError:
        return None
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:
        # An attribute may hide the method, also one of the environment that PettingZoo's wrappers are around.
        if isinstance(error, TypeError) and not callable(getattr(environment.unwrapped, "state", None)):
            return None
        raise EnvError(f"state raised {error_line_with_place(error)}") from error
    try:
        row = flat(state)
    except ValueError as error:
        raise EnvError(f"state {error}") from error
    if not row.size:
        raise EnvError("state has no numbers at all")
    return row


def flat(state: Any) -> NDArray[Any]:
    """An array, or the arrays in a dict (by its sorted keys, as Gymnasium's), tuple or list one after the other.

    Raises ValueError for anything that is no number.
    """
    if hasattr(state, "keys"):
        state = tuple(state[key] for key in sorted(state, key=str))
    if isinstance(state, tuple | list) and not all(isinstance(part, NUMBERS) for part in state):
        return np.concatenate([flat(part) for part in state])
    row = np.asarray(state)
    if row.dtype.kind not in "fiub":
        raise ValueError(f"holds {state!r:.60}, which is no number")
    return row.reshape(-1)
