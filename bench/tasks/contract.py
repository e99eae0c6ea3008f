"""The contract of a PettingZoo environment: checks of a single environment, over episodes of random actions."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from bench.envs.parallel import ParallelBatch
from bench.envs.parallel_calls import reset
from bench.envs.rules import LARGEST, agents_error, info_error, number_error
from bench.envs.spaces import control, sense
from bench.tasks import random_episodes
from bench.tasks.random_episodes import (
    SHORT,
    ContractError,
    EnvOutput,
    TaskUnderCheck,
    deep_copy,
    mask_of,
    new_environment,
    play_episode,
    read_mask,
    seed_sequences,
)

OPPOSED = -0.5
"""A correlation of an agent's reward with the others' below this makes their task no cooperative one."""


def agents(subject: TaskUnderCheck) -> str:
    """Agents have distinct names, the same in every copy, and are all there after every reset."""
    first, second = new_environment(subject), new_environment(subject)
    names = list(first.possible_agents)
    if not names or len({*names}) < len(names):
        raise ContractError(f"possible_agents must be different names, at least one, not {names}")
    for seed, environment in ((0, first), (1, first), (0, second)):
        reset(environment, seed, names)
    return f"{len(names)}, the same after every reset"


def spaces_(subject: TaskUnderCheck) -> str:
    """Each agent's spaces are supported, and the same at every call."""
    first, second = new_environment(subject), new_environment(subject)
    for name in first.possible_agents:
        for what, of, use in (("observation", "observation_space", sense), ("action", "action_space", control)):
            space = getattr(first, of)(name)
            if getattr(first, of)(name) != space or getattr(second, of)(name) != space:
                raise ContractError(f"the {what} space of {name} is another one each time")
            try:
                made: Any = use(space)
            except (ValueError, AttributeError) as error:
                raise ContractError(f"the {what} space of {name}: {error}") from None
            if what == "action":
                subject.controls[name] = made
    kinds = {type(first.action_space(name)).__name__ for name in first.possible_agents}
    return f"actions {', '.join(sorted(kinds))}"


def observations(subject: TaskUnderCheck) -> str:
    """Every agent in `agents` gets an observation of its space: shape, dtype, bounds, finite."""
    environment = new_environment(subject)
    for output in subject.outputs():
        for name in dict.fromkeys([*output.agents, *output.acted]):
            if name not in output.observations:
                raise ContractError(f"{name} got none at {output.where}")
            space, seen = environment.observation_space(name), output.observations[name]
            if isinstance(space, spaces.Box) and not isinstance(seen, np.ndarray | np.generic):
                raise ContractError(f"that of {name} at {output.where} is no array but {type(seen).__name__}")
            if isinstance(space, spaces.Box):
                _refuse_unlike(space, np.asarray(seen), f"that of {name} at {output.where}")
            elif not space.contains(seen):
                raise ContractError(f"that of {name} at {output.where} is not in its space {space}: {seen!r}")
    return "complete, finite, and of their spaces"


def _refuse_unlike(space: spaces.Box, seen: Any, what: str) -> None:
    if seen.shape != space.shape:
        raise ContractError(f"{what} has shape {seen.shape}, its space {space.shape}")
    if seen.dtype != space.dtype:
        raise ContractError(f"{what} has dtype {seen.dtype}, its space {space.dtype}")
    size = np.abs(seen.astype(np.float64))
    for complaint, bad in (("finite", ~np.isfinite(size)), (f"within {LARGEST:g}", size > LARGEST)):
        if bad.any():
            k = int(np.flatnonzero(bad)[0])
            raise ContractError(f"{what} is not {complaint}: [{k}] is {seen.reshape(-1)[k]}")
    if not space.contains(seen):
        raise ContractError(f"{what} lies outside the bounds of its space {space}")


def rewards(subject: TaskUnderCheck) -> str:
    """Every agent that acted gets one finite number."""
    for output in subject.outputs():
        for name in output.acted:
            if name not in output.rewards:
                raise ContractError(f"{name} acted and got none at {output.where}")
            if wrong := number_error(output.rewards[name]):
                raise ContractError(f"that of {name} at {output.where} {wrong}")
    return "complete and finite" + _how_rewards_differ(subject)


def _how_rewards_differ(subject: TaskUnderCheck) -> str:
    """What a user should know of rewards that are not the same for all agents, since the team's is their mean."""
    names = list(subject.controls)
    rows = [[float(x.rewards[name]) for name in names] for x in subject.outputs() if {*names} <= {*x.acted}]
    table = np.array(rows).reshape(-1, len(names))
    if (table == table[:, :1]).all():
        return ""
    i, correlation = _most_opposed(table)
    if correlation >= OPPOSED:
        return "; agents' rewards differ, and the team reward is their mean"
    opposed = f"opposed (what {names[i]} gains the others lose, correlation {correlation:.2f})"
    return f"; agents' rewards are {opposed}: no cooperative task, and the team reward is their mean"


def _most_opposed(table: NDArray[np.float64]) -> tuple[int, float]:
    """The agent whose reward goes most against the sum of the others', and their correlation.  [T, N]

    It is that of the changes from step to step, since two rewards that only drift seem to be related; 0 where it is
    within three standard errors of none.
    """
    changes = np.diff(table, axis=0)
    others = changes.sum(axis=1, keepdims=True) - changes
    scale = np.abs(changes).max(initial=0.0)
    found = [(0.0, 0)]
    for i, (own, rest) in enumerate(zip(changes.T, others.T, strict=True)):
        if len(own) and min(own.std(), rest.std()) > 1e-9 * scale:
            correlation = float(np.corrcoef(own, rest)[0, 1])
            found.append((correlation if correlation < -min(3 / np.sqrt(len(own)), 0.99) else 0.0, i))
    correlation, i = min(found)
    return i, correlation


def ends(subject: TaskUnderCheck) -> str:
    """Agents leave exactly when they are terminated or truncated, and do not come back; episodes end."""
    early = False
    for episode in subject.episodes:
        for output in episode[1:]:
            for name in output.acted:
                for what, found in (("termination", output.terminated), ("truncation", output.truncated)):
                    if name not in found:
                        raise ContractError(f"{name} acted and got no {what} at {output.where}")
                    if wrong := number_error(found[name]):
                        raise ContractError(f"the {what} of {name} at {output.where} {wrong}")
            over = [name for name in output.acted if output.terminated[name] or output.truncated[name]]
            if wrong := agents_error(output.agents, output.acted, over, subject.controls, output.where):
                raise ContractError(wrong)
            early |= bool(over and output.agents)
    steps = max(map(len, subject.episodes)) - 1
    if not subject.ended and subject.limit is None and steps >= random_episodes.STEPS:
        raise ContractError(f"an episode had not ended after {steps} steps: give the task an episode_length")
    unseen = "" if subject.ended or subject.limit else f"; an episode had not ended after {steps} steps"
    return ("agents go one by one" if early else "all agents go at once") + unseen


def masks(subject: TaskUnderCheck) -> str:
    """A mask has an entry for each choice and allows at least one."""
    sources = dict[str, str]()
    choosing = [(output, name) for output in subject.outputs() for name in _choosing(output)]
    for output, name in choosing:
        allowed = mask_of(output.observations.get(name), output.infos.get(name))
        space: Any = subject.controls[name].space
        if allowed is not None:
            in_info = mask_of(output.observations.get(name), None) is None
            sources[name] = "info" if in_info else "observation"
            read_mask(space, allowed, f"that of {name} at {output.where}")
    for output, name in choosing:
        if name in sources and mask_of(output.observations.get(name), output.infos.get(name)) is None:
            where = output.where if output.agents else f"the episode's end, {output.where}"
            raise ContractError(f"agent {name}: {sources[name]} lacks action_mask at {where}")
    return f"of {len(sources)} agents, which always have a choice" if sources else "none"


def _choosing(output: EnvOutput) -> list[str]:
    """Whose masks are read: those who act next, and those who were cut off by the end and might have acted."""
    cut = (name for name in output.acted if output.truncated.get(name) and not output.terminated.get(name))
    return output.agents or [*cut]


def infos(subject: TaskUnderCheck) -> str:
    """Every agent that acted gets an info, a dict."""
    for output in subject.outputs():
        for name in output.acted:
            if name not in output.infos:
                raise ContractError(f"{name} acted and got none at {output.where}")
            if wrong := info_error(output.infos[name]):
                raise ContractError(f"that of {name} at {output.where}: {wrong}")
    return "complete"


def state(subject: TaskUnderCheck) -> str:
    """`state()`, if it is used, is always available, finite and of one length."""
    batch = subject.batch(seed_sequences(1))
    assert isinstance(batch, ParallelBatch)
    if not batch.own_state:
        return "all observations"
    sizes = set()
    for output in subject.outputs():
        if output.state is None:
            raise ContractError(f"there is none at {output.where}, but at a first reset")
        if isinstance(output.state, str):
            raise ContractError(f"{output.state} at {output.where}")
        sizes.add(output.state.size)
        if len(sizes) > 1:
            raise ContractError(f"has {' and '.join(map(str, sorted(sizes)))} numbers at {output.where}")
        if not (np.abs(output.state.astype(np.float64)) <= LARGEST).all():
            raise ContractError(f"is not finite or beyond {LARGEST:g} at {output.where}")
    return f"{sizes.pop()} numbers of its own"


def seeds(subject: TaskUnderCheck) -> str:
    """A reset to a seed gives the same start, in this copy and in a new one."""
    environment, names = new_environment(subject), [*subject.controls]
    first = deep_copy(reset(environment, 0, names)[0])
    other = deep_copy(reset(environment, 1, names)[0])
    if where := difference(first, deep_copy(reset(environment, 0, names)[0])):
        raise ContractError(f"ignored: two resets to seed 0 differ in {where}")
    if where := difference(first, reset(new_environment(subject), 0, names)[0]):
        raise ContractError(f"a reset to seed 0 differs between two copies in {where}")
    return "tell episodes apart" if difference(first, other) else "every seed starts alike"


def replay(subject: TaskUnderCheck) -> str:
    """The same seed and actions give bitwise the same episode, in a new copy and after another episode."""
    environment = new_environment(subject)
    traces: list[list[EnvOutput]] = [[], [], []]
    for one, episode in zip((environment, new_environment(subject), environment), traces, strict=True):
        play_episode(subject, one, 5, np.random.default_rng(5), episode, SHORT)
    for other, how in ((traces[1], "in a new copy"), (traces[2], "in the same copy, later")):
        for a, b in zip(traces[0], other, strict=False):
            for what in ("observations", "rewards", "terminated", "truncated", "infos", "agents", "state"):
                if where := difference(getattr(a, what), getattr(b, what)):
                    raise ContractError(f"the same seed and actions {how}: {what} differ at {a.where} in {where}")
    return f"{len(traces[0]) - 1} steps, the same to the bit"


def difference(a: Any, b: Any, where: str = "") -> str:
    """The place of the first difference between two values; empty if they are the same."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return next((found for key in a if (found := difference(a[key], b[key], f"{where} {key}"))), "")
    if isinstance(a, np.ndarray | np.number | float) and isinstance(b, np.ndarray | np.number | float):
        x, y = np.asarray(a), np.asarray(b)
        same = x.shape == y.shape and np.array_equal(x, y, equal_nan=x.dtype.kind == "f" == y.dtype.kind)
        return "" if same else where.strip() or "its numbers"
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        pairs = enumerate(zip(a, b, strict=True))
        return next((found for k, (x, y) in pairs if (found := difference(x, y, f"{where} [{k}]"))), "")
    return "" if type(a) is type(b) and a == b else where.strip() or "what there is"
