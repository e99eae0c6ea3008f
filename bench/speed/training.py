"""How fast training is: steps/s of an algorithm, where its seconds go, and how much faster it could be at most.

The limit is the same work without all that can be thought away: `mj_step` alone over the very states that training went
through, and the bare matrix products of `bench.speed.products`. Both are measured in each round after training, so that
what else the machine does meets all three; rates are medians over rounds, and the ratio is that of the rates.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

import algorithms
from algorithms import Diagnostics
from algorithms.maddpg import MADDPG
from bench.envs.mujoco import MujocoBatch
from bench.speed import products
from bench.speed.envs import Beginnings, Raw
from bench.suite.trial import Trial
from bench.tasks import registry
from bench.trial.collect import Collector
from bench.trial.setup import learner_and_batch

ROUNDS = 3
"""At least; more while there is time."""
TIME = 6.0
"""Seconds after which no round begins but those that must."""
SECONDS = 0.6
"""Of training in one round, at least."""
REPLAY = 50_000
"""Transitions in the replay before rounds begin: more than the cache holds, so that sampling costs what it will."""
STEPS, POINTS, EPISODES = 1_000_000, 20, 16
"""The trial of which the split is told: its steps, its evaluations and the episodes of each."""
PROBE = 40
"""Steps of an evaluation that are timed."""
PARTS = ("physics", "acting", "learning", "evaluation", "bookkeeping")


@dataclass(frozen=True)
class Round:
    """Seconds per environment step of training and its parts, of bare physics and of bare products."""

    training: float
    physics: float
    acting: float
    learning: float
    bookkeeping: float
    raw: float
    products: float
    evaluation: float
    """Seconds of one evaluation whose episodes all last to their limit."""


class Bench:
    """A learner at work, its parts timed and its steps written down, for bare physics to follow."""

    def __init__(self, trial: Trial):
        self.trial = trial
        self.learner, batch = learner_and_batch(trial)
        assert isinstance(batch, MujocoBatch)
        self.batch, self.raw = batch, Raw(batch)
        self.collector = Collector(batch, trial.settings.rollout_length)
        self.passes = products.table(self.learner)
        self.ways = products.fastest(self.passes)
        self.seconds = dict.fromkeys(("physics", "acting", "learning", "recording"), 0.0)
        self.actions: list[list[np.ndarray]] = []
        self.beginnings: Beginnings = {}
        self._time(batch, "step", "physics")
        self._time(self.learner, "act", "acting")
        self._time(self.learner, "update", "learning")
        self._record()
        rollout = self.collector.collect(self.learner)
        if isinstance(self.learner, MADDPG):
            replay_buffer, E = self.learner.replay_buffer, self.batch.envs
            while replay_buffer.filled < min(replay_buffer.rows, REPLAY // E):
                replay_buffer.add(rollout)
        self.learner.update(rollout)

    def _time(self, owner: Any, method: str, part: str) -> None:
        """From now on the seconds of a method are added up."""
        inner = getattr(owner, method)

        def timed(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            result = inner(*arguments, **named)
            self.seconds[part] += time.perf_counter() - start
            return result

        setattr(owner, method, timed)

    def _record(self) -> None:
        """From now on every action and every episode's beginning is kept; the seconds that takes are no training's."""
        inner = self.batch.step

        def recorded(actions: Sequence[np.ndarray]) -> None:
            inner(actions)
            start = time.perf_counter()
            self.actions.append([x.copy() for x in actions])
            if len(self.batch.ended):
                begun = {int(e): self.batch.physics[e].copy() for e in self.batch.ended}
                self.beginnings[len(self.actions) - 1] = begun
            self.seconds["recording"] += time.perf_counter() - start

        setattr(self.batch, "step", recorded)  # noqa: B010 (mypy would have no method assigned to)

    def round(self) -> Round:
        """Train for some updates, then step the bare physics through the same and time the bare products."""
        self.raw.start()
        self.actions, self.beginnings = [], {}
        self.seconds = dict.fromkeys(self.seconds, 0.0)
        rows: list[Diagnostics] = []
        updates, start = 0, time.perf_counter()
        while not updates or time.perf_counter() - start < SECONDS:
            rows += self._update()
            updates += 1
        pd.DataFrame(rows)  # as a trial does when it stores what it learned
        training = time.perf_counter() - start - self.seconds["recording"]
        raw = self.raw.play(self.actions, self.beginnings)
        steps = len(self.actions) * self.batch.envs
        parts = {part: self.seconds[part] / steps for part in ("physics", "acting", "learning")}
        return Round(
            training=training / steps,
            **parts,
            bookkeeping=training / steps - sum(parts.values()),
            raw=raw / steps,
            products=products.seconds(self.passes, self.ways) * updates / steps,
            evaluation=self._evaluation(),
        )

    def _update(self) -> list[Diagnostics]:
        """One rollout and one update, as `bench.trial` takes them: the rows get the names of their trial."""
        t = self.trial
        about: Diagnostics = {"suite": t.suite, "task": t.task.label, "algorithm": t.label, "seed": t.seed}
        return [about | row for row in self.learner.update(self.collector.collect(self.learner))]

    def _evaluation(self) -> float:
        """Seconds of one evaluation, from a few steps of it. All its environments are stepped throughout."""
        seeds, learner = np.random.SeedSequence(0).spawn(EPISODES), self.learner
        start = time.perf_counter()
        with closing(registry.make(self.trial.task, seeds)) as batch:
            made = time.perf_counter()
            for _ in range(PROBE):
                actions = learner.act([torch.from_numpy(x) for x in batch.observations], explore=False)
                batch.step([action.numpy() for action in actions])
            each = (time.perf_counter() - made) / PROBE
        assert self.trial.task.episode_length is not None  # MuJoCo's tasks have one
        return made - start + each * self.trial.task.episode_length

    def close(self) -> None:
        """Close the environments."""
        self.batch.close()


def measure(trial: Trial) -> dict[str, Any]:
    """Steps/s of training, of bare physics and of the limit; the ratios to both; the split of a whole trial.

    `ratio` is to the limit, `over_raw` to bare physics; `matmul` is the library that multiplies matrices in training,
    and `products_onednn_share` is oneDNN's share of the products' seconds in the limit.
    `core_share` is how much of one core the measurement had: well below 1, other programs had the rest.
    """
    taken: list[Round] = []
    with closing(Bench(trial)) as bench:
        start, cpu = time.perf_counter(), time.process_time()
        while len(taken) < ROUNDS or time.perf_counter() - start < TIME:
            taken.append(bench.round())
        core = (time.process_time() - cpu) / (time.perf_counter() - start)
    rounds = pd.DataFrame(map(asdict, taken))
    steps, raw, limit = (
        float(1 / x.median()) for x in (rounds["training"], rounds["raw"], rounds["raw"] + rounds["products"])
    )
    return {
        "task": trial.task.label,
        "algorithm": trial.label,
        "steps_per_second": steps,
        "limit_steps_per_second": limit,
        "ratio": steps / limit,
        "raw_steps_per_second": raw,
        "over_raw": steps / raw,
        "matmul": algorithms.matmul_library(),
        "rounds": len(rounds),
        "core_share": core,
        "products_onednn_share": products.onednn_share(bench.passes, bench.ways),
        "products_seconds_per_million_steps": float(rounds["products"].median() * 1e6),
        **split(rounds),
    }


def split(rounds: pd.DataFrame) -> dict[str, float]:
    """The share of each part in a whole trial of STEPS steps with POINTS evaluations; they add up to 1."""
    seconds = {part: float(rounds[part].median()) * STEPS for part in PARTS}
    seconds["evaluation"] = float(rounds["evaluation"].median()) * POINTS
    return {part: value / sum(seconds.values()) for part, value in seconds.items()}
