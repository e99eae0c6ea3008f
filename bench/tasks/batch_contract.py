"""The contract of a batch of environments, and its speed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.envs.batch import EnvBatch
from bench.envs.parallel import ParallelBatch
from bench.envs.parallel_calls import reset
from bench.envs.random_play import random_actions
from bench.envs.rules import LARGEST
from bench.envs.spaces import sense
from bench.tasks.random_episodes import SHORT, ContractError, TaskUnderCheck, new_environment, seed_sequences
from bench.tasks.registry import Task

ENVS = 20
"""Environments in the batch whose speed is measured."""
SPEED_SECONDS = 3.0


def batch_is_the_environment(subject: TaskUnderCheck) -> str:
    """The batch returns what single environments return, across resets."""
    batch = subject.batch(seed_sequences(2))
    assert isinstance(batch, ParallelBatch)
    bare, random = [new_environment(subject) for _ in range(2)], np.random.default_rng(0)
    for one, seed in zip(bare, batch.seeds, strict=True):
        reset(one, int(seed), batch.agents)
    for step in range(1, SHORT + 1):
        actions = random_actions(batch, random)
        columns = batch.converted(np.concatenate(actions, axis=1, dtype=np.float32))
        batch.step(actions)
        for e, one in enumerate(bare):
            acted = list(one.agents)
            seen, reward, *_ = one.step({name: columns[batch.agents.index(name)][e] for name in acted})
            if (mean := reduce(add, [float(reward[name]) for name in acted]) / len(acted)) != batch.reward[e]:
                raise ContractError(f"step {step}: reward {batch.reward[e]}, the environment's mean is {mean}")
            if e in batch.ended:
                seen = reset(one, int(batch.seeds[e]), batch.agents)[0]
            for i, name in enumerate(batch.agents):
                row = np.zeros_like(batch.observations[i][e])
                if name in one.agents:
                    sense(one.observation_space(name)).write(row, seen[name])
                if not np.array_equal(row, batch.observations[i][e]):
                    raise ContractError(f"step {step}: another observation of {name}")
    return f"says what the environment says, {SHORT} steps of 2 environments"


def trace(batch: EnvBatch, steps: int, random: np.random.Generator) -> list[dict[str, NDArray[Any]]]:
    """All outputs of a batch in some steps of random actions, by name."""
    names = batch.agents if isinstance(batch, ParallelBatch) else range(batch.team.size)
    outputs = []
    for _ in range(steps):
        batch.step(random_actions(batch, random))
        now: dict[str, Any] = {"reward": batch.reward, "termination": batch.terminated, "truncation": batch.truncated}
        now |= {"ended": batch.ended, "state": batch.state, "presence": batch.active, "last presence": batch.end_active}
        for of, rows in (
            ("observation", batch.observations),
            ("last observation", batch.end_observations),
            ("mask", batch.masks or ()),
            ("last mask", batch.end_masks or ()),
        ):
            now |= {f"{of} of agent {name}": x for name, x in zip(names, rows, strict=False)}
        outputs.append({what: np.array(x) for what, x in now.items() if x is not None})
    return outputs


def first_difference(one: Sequence[Mapping[str, NDArray[Any]]], other: Sequence[Mapping[str, NDArray[Any]]]) -> str:
    """The first difference between the traces of two batches; empty if they are the same."""
    for step, (a, b) in enumerate(zip(one, other, strict=True), 1):
        for what, x in a.items():
            y = b[what]
            if x.shape != y.shape:
                return f"at step {step} environments {x.tolist()} ended, and {y.tolist()}"
            if (bad := np.argwhere(x != y)).size:
                e, *place = bad[0].tolist()
                e = a["ended"][e] if what.startswith("last") else e
                return f"at step {step} {what}{place or ''} of environment {e} is {x[*bad[0]]} and {y[*bad[0]]}"
    return ""


def numbers(subject: TaskUnderCheck) -> str:
    """Outputs of the batch have the sizes of the team and are finite."""
    batch = subject.batch(seed_sequences(3))
    random, team = np.random.default_rng(0), batch.team
    for step in range(SHORT):
        shapes = [x.shape for x in [batch.state, *batch.observations]]
        if shapes != [(3, size) for size in (team.state_size, *team.observation_sizes)]:
            raise ContractError(f"step {step}: sizes {shapes} do not fit {team}")
        outputs: list[tuple[str, NDArray[Any]]] = [
            ("state", batch.state),
            *((f"observation {i}", x) for i, x in enumerate(batch.observations)),
        ]
        if any(x.dtype != np.float32 or not np.isfinite(x).all() for _, x in outputs):
            raise ContractError(f"step {step}: a state or observation is not finite in float32")
        batch.step(random_actions(batch, random))
        if not np.isfinite(batch.reward).all():
            raise ContractError(f"step {step}: the team reward is not finite")
        for what, x in [*outputs, ("team reward", batch.reward)]:
            if (most := float(np.abs(x).max())) > LARGEST:
                raise ContractError(f"step {step}: the {what} reaches {most:g}, beyond {LARGEST:g}")
    return f"state {team.state_size}, observations {', '.join(map(str, team.observation_sizes))}, all finite"


def batch_seeds(subject: TaskUnderCheck) -> str:
    """Two batches of the same seeds return bitwise the same."""
    one, other = (trace(subject.batch(seed_sequences(3)), SHORT, np.random.default_rng(0)) for _ in range(2))
    if where := first_difference(one, other):
        raise ContractError(f"two batches of the same seeds differ: {where}")
    others = trace(subject.batch(seed_sequences(3, 1)), SHORT, np.random.default_rng(0))
    return "same seeds, same episodes; " + (
        "other seeds, others" if first_difference(one, others) else "other seeds too"
    )


def resume(subject: TaskUnderCheck) -> str:
    """A new batch continues bitwise the same from a saved state."""
    batch, fresh = subject.batch(seed_sequences(3)), subject.batch(seed_sequences(3, 1))
    trace(batch, SHORT // 2 + 3, np.random.default_rng(0))
    fresh.load_state_dict(batch.state_dict())
    one, other = (trace(each, SHORT, np.random.default_rng(1)) for each in (batch, fresh))
    if where := first_difference(one, other):
        raise ContractError(f"a batch that goes on from a saved state differs: {where}")
    return "a new batch goes on from a saved state to the bit"


def speed(task: Task, subject: TaskUnderCheck) -> str:
    """Steps/s of the batch and of single environments in a plain loop over the same episodes."""
    batch = subject.batch(seed_sequences(ENVS))
    random = np.random.default_rng(0)
    spent = {"batched": 0.0, "bare": 0.0}
    steps, start = 0, time.perf_counter()
    bare = [new_environment(subject) for _ in range(ENVS)] if subject.make and isinstance(batch, ParallelBatch) else []
    for e, one in enumerate(bare):
        one.reset(seed=int(batch.seeds[e]))  # type: ignore[attr-defined]
    while time.perf_counter() - start < SPEED_SECONDS:
        actions = random_actions(batch, random)
        began = time.perf_counter()
        batch.step(actions)
        spent["batched"] += time.perf_counter() - began
        steps += ENVS
        if bare:
            assert isinstance(batch, ParallelBatch)
            spent["bare"] += _bare(batch, bare, batch.converted(np.concatenate(actions, axis=1, dtype=np.float32)))
    rates = ", ".join(f"{way} {steps / seconds:,.0f} steps/s" for way, seconds in spent.items() if seconds)
    more = f"\n        `python -m bench.speed envs --task '{task.name}'` compares it with bare physics"
    return f"{rates} ({ENVS} environments){more if task.robot is not None else ''}"


def _bare(batch: ParallelBatch, bare: Sequence[Any], columns: list[list[Any]]) -> float:
    """Seconds that single environments need for the step that the batch just took, in the same episodes."""
    begun = time.perf_counter()
    for e, one in enumerate(bare):
        one.step({name: columns[i][e] for i, name in enumerate(batch.agents) if name in one.agents})
        if e in batch.ended:
            one.reset(seed=int(batch.seeds[e]))
    return time.perf_counter() - begun
