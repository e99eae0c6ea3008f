"""What a `ParallelEnv` may answer: one set of rules, for the batch that trains and for `bench.check`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

LARGEST = 1e18
"""Beyond this the squares of numbers, which moments are made of, overflow in float32."""
NUMBERS = (float, int, np.floating, np.integer, np.bool_)
"""Types of a reward or a flag."""
ANSWERS = ("observations", "rewards", "terminations", "truncations", "infos")
"""What a step returns: a dict of agents each."""


def mean_reward(rewards: Mapping[str, Any], names: Sequence[str]) -> float:
    """The team reward: the mean over these agents in float64, added up in their order.

    Raises ValueError where one has none (not even a default of the dict), or one that `number_error` refuses.
    """
    total = 0.0
    for name in names:
        reward = rewards.get(name)
        x = float(reward) if isinstance(reward, NUMBERS) else np.nan
        if not -LARGEST <= x <= LARGEST:
            raise ValueError
        total += x
    return total / len(names)


def number_error(x: Any) -> str:
    """Why x cannot be calculated with, as the rest of a sentence; empty if it can."""
    if not isinstance(x, NUMBERS):
        return f"is no number but {x!r:.60}"
    value = x if isinstance(x, int) else float(x)
    return "" if -LARGEST <= value <= LARGEST else f"is {x!s:.60}{beyond_largest(value)}"


def beyond_largest(x: float) -> str:
    return f", beyond {LARGEST:g}" if abs(x) > LARGEST and abs(x) != np.inf else ""


def form_error(answer: Any) -> str:
    """What is wrong with the form of what `step` returned; empty if nothing is."""
    if not isinstance(answer, tuple | list) or len(answer) != len(ANSWERS):
        return f"step must return {', '.join(ANSWERS[:-1])} and {ANSWERS[-1]}, a dict of agents each"
    for what, found in zip(ANSWERS, answer, strict=True):
        if not (hasattr(found, "keys") and hasattr(found, "get")):
            return f"{what} must be a dict of agents, not {found!r:.60}"
    return ""


def answer_error(answer: Any, acted: Sequence[str]) -> tuple[str, str | None]:
    """What is wrong with what `step` returned to those who acted, and of whom that is told; empty if nothing is."""
    if wrong := form_error(answer):
        return wrong, None
    for what, found in zip(ANSWERS, answer, strict=True):
        for name in acted:
            if name not in found:
                return f"agent {name} acted and got no {what[:-1]}", None
    for what, found in zip(ANSWERS[1:4], answer[1:4], strict=True):
        for name in acted:
            if wrong := number_error(found[name]):
                return f"{what[:-1]} {wrong}", name
    for name in acted:
        if wrong := info_error(answer[4][name]):
            return wrong, name
    return "", None


def info_error(info: Any) -> str:
    return "" if hasattr(info, "keys") else f"info is no dict but {info!r:.60}"


def agents_error(
    agents: Sequence[str], acted: Collection[str], over: Collection[str], possible: Collection[str], where: str
) -> str:
    """What is wrong with `agents` after a step at which those of `over` were terminated or truncated.

    Exactly those are left out from then on, until the next reset; empty if nothing is wrong.
    """
    for k, name in enumerate(agents):
        if name not in possible:
            return f"agent {name} appeared, which is none of possible_agents, at {where}"
        if name not in acted:
            return f"{name} came back at {where}"
        if name in over:
            return f"{name} was terminated or truncated at {where} and is still in agents"
        if name in agents[:k]:
            return f"{name} is in agents twice at {where}"
    for name in acted:
        if name not in over and name not in agents:
            return f"{name} left at {where} and was neither terminated nor truncated"
    return ""


def reset_error(answer: Any, agents: Sequence[str], possible: Sequence[str], first: Sequence[str], seed: int) -> str:
    """What is wrong after a reset, at which everyone is there; `first` are possible_agents as they were at first."""
    if not (isinstance(answer, tuple | list) and len(answer) == 2 and all(hasattr(x, "keys") for x in answer)):
        return "reset must return observations and infos, a dict of agents each"
    if list(possible) != list(first):
        return f"possible_agents were {list(first)} and became {list(possible)}, after the reset to seed {seed}"
    for name in first:
        if name not in agents:
            return f"agent {name} is not there after the reset to seed {seed}, and is one of possible_agents"
    if len(agents) > len(first):
        return f"agents are {list(agents)} after the reset to seed {seed}, and possible_agents {list(first)}"
    for what, found in zip(("observation", "info"), answer, strict=True):
        for name in first:
            if name not in found:
                return f"the reset to seed {seed} gave agent {name} no {what}"
    for name in first:
        if info_error(answer[1][name]):
            is_ = f"{name}'s is {answer[1][name]!r:.60}"
            return f"reset must return a dict of agents as infos, with a dict for each: {is_}"
    return ""
