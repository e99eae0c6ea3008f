"""Calls into a PettingZoo `ParallelEnv`, and its answers in words where they cannot be used."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from bench.envs.errors import EnvError, one_line_with_place
from bench.envs.spaces import ActionDecoder, ObservationEncoder, control, sense

LARGEST = 1e18
"""Beyond this the squares of numbers, which moments are made of, overflow in float32."""


def beyond_largest(x: Any) -> str:
    return f", beyond {LARGEST:g}" if np.isfinite(x) else ""


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


def reset(environment: ParallelEnv[str, Any, Any], seed: int) -> tuple[Any, Any]:
    """What a reset says; raises EnvError for what it must not be."""
    try:
        answer = environment.reset(seed=seed)
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:
        raise EnvError(f"reset raised {one_line_with_place(error)}") from error
    if not (isinstance(answer, tuple | list) and len(answer) == 2 and all(hasattr(x, "keys") for x in answer)):
        raise EnvError("reset must return observations and infos, a dict of agents each")
    observations, infos = answer
    for agent, info in infos.items():
        if not hasattr(info, "keys"):
            raise EnvError(f"reset must return a dict of agents as infos, with a dict for each: {agent}'s is {info!r}")
    return observations, infos


def state_of(environment: ParallelEnv[str, Any, Any]) -> NDArray[Any] | None:
    """The environment's own state, flat; None where it has none: `state` is no method, or is not implemented."""
    own = getattr(environment, "state", None)
    if not callable(own):
        return None
    try:
        state = own()
    except NotImplementedError:
        return None
    except (Exception, SystemExit) as error:
        raise EnvError(f"state raised {one_line_with_place(error)}") from error
    try:
        return flat(state)
    except ValueError as error:
        raise EnvError(f"state {error}") from error


def flat(state: Any) -> NDArray[Any]:
    """An array, or the arrays in a dict (by its sorted keys), tuple or list one after the other, as one row."""
    if hasattr(state, "keys"):
        state = tuple(state[key] for key in sorted(state))
    if isinstance(state, tuple | list):
        return np.concatenate([flat(part) for part in state]) if state else np.zeros(0)
    row = np.asarray(state)
    if row.dtype.kind not in "fiub":
        raise ValueError(f"holds {state!r:.60}, which is no number")
    return row.reshape(-1)


def close_all(environments: Sequence[ParallelEnv[str, Any, Any]]) -> None:
    """Close environments. One that cannot be closed is told of, and hinders nothing."""
    for environment in environments:
        try:
            getattr(environment, "close", str)()  # what is no ParallelEnv may have none
        except Exception as error:
            warnings.warn(f"close raised {one_line_with_place(error)}", RuntimeWarning, stacklevel=3)


def complaint(answer: Any, names: Sequence[str]) -> str:
    """What is wrong with what `step` returned."""
    if not isinstance(answer, tuple | list) or len(answer) != 5:
        return "step must return observations, rewards, terminations, truncations and infos, a dict of agents each"
    for what, found in zip(("reward", "termination", "truncation"), answer[1:4], strict=True):
        for name in names:
            if not hasattr(found, "keys") or name not in found:
                return f"agent {name} acted and got no {what}"
            if np.ndim(found[name]) or not isinstance(found[name], int | float | np.number | np.bool_):
                return f"agent {name}: {what} is no number but {found[name]!r}"
    return "step returned what cannot be read"


def wrong_end(acted: Sequence[str], over: Sequence[str], named: Sequence[str], observations: Any, infos: Any) -> str:
    """What is wrong where some of the agents that acted are over, and `named` are there now; empty if nothing is."""
    for name in acted:
        if name in over and name in named:
            return f"agent {name} was terminated or truncated and is still in agents"
        if name not in over and name not in named:
            return f"agent {name} left and was neither terminated nor truncated"
    if back := [name for name in named if name not in acted]:
        return f"agent {back[0]} came back before the episode's end"
    for name in over:
        for what, answers in (("observation", observations), ("info", infos)):
            if name not in answers:
                return f"agent {name} acted and got no {what}"
    return ""


def reading_error(error: Exception) -> str:
    """What went wrong in reading an observation or state, as the rest of a sentence."""
    return f"lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
