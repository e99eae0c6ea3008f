"""The running state of a trial: train, evaluate on the grid, save, and resume where an earlier run stopped.

A trial is saved at every evaluation: first its tables, then `checkpoint.pt`. If it is killed between the two, the
tables are ahead of the checkpoint, and resuming drops the rows beyond it; killed at any other time, it loses the work
since the last evaluation. Results are bitwise the same however often that happens.
"""

from __future__ import annotations

import copy
import os
import pickle
import time
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pandas as pd
import torch

from algorithms import Diagnostics, Diverged
from bench.envs.errors import EnvError
from bench.store import files
from bench.suite.trial import Trial
from bench.trial.collect import Collector, play_episodes
from bench.trial.setup import evaluation_seeds, learner_and_batch

FRESH_FACTOR = 10
"""At the end the last and the best policy each play this many times `episodes` (Gorsane et al. 2022)."""


PROGRESS_SECONDS = 1.0


OTHER_LAYOUT = (LookupError, ValueError, TypeError, AttributeError, RuntimeError, EOFError, pickle.UnpicklingError)
"""What reading a truncated checkpoint, or one of another version, raises."""


class Best(TypedDict):
    """The policy with the highest mean return of all evaluations, and when it was evaluated."""

    evaluation: float
    step: int
    gradient_updates: int
    seconds: float
    policy: dict[str, Any]


class Session:
    """The running state of a trial between its checkpoints."""

    def __init__(self, trial: Trial, folder: Path, owner: int, env_threads: int = 1):
        self.trial, self.folder, self.owner, self.env_threads = trial, folder, owner, env_threads
        self._identity: Diagnostics = {
            "suite": trial.suite,
            "task": trial.task.label,
            "algorithm": trial.label,
            "seed": trial.seed,
        }
        self.learner, self.batch = learner_and_batch(trial, env_threads)
        self.collector = Collector(self.batch, trial.settings.rollout_length)
        self.step, self.seconds, self.evaluation_seconds = 0, 0.0, 0.0
        self.best: Best | None = None
        self.records: list[pd.DataFrame] = []
        self.updates: list[pd.DataFrame] = []
        self._rows: list[Diagnostics] = []  # of updates since the tables were written
        self.evaluation: float | None = None
        self._last_progress = 0.0
        if (folder / "checkpoint.pt").exists():
            self._resume()

    def train_until(self, step: int) -> None:
        """Train to a step of the grid, evaluating and saving at each point on the way."""
        if not self.records:
            self._evaluate_and_save()
        while self.step < step:
            self._train()
            if self.step % self.trial.every == 0:
                self._evaluate_and_save()

    def _train(self) -> None:
        """One rollout and one update."""
        start = time.perf_counter()
        rollout = self.collector.collect(self.learner)
        try:
            rows = self.learner.update(rollout)
        except Diverged as error:
            self._take(error.rows, rollout.reward.numel(), time.perf_counter() - start)
            self._write_tables()
            raise
        self._take(rows, rollout.reward.numel(), time.perf_counter() - start)
        if time.monotonic() - self._last_progress > PROGRESS_SECONDS:
            self._write_progress()

    def _take(self, rows: list[Diagnostics], steps: int, seconds: float) -> None:
        self.step += steps
        self.seconds += seconds
        about = {**self._identity, "step": self.step, "steps_per_second": steps / seconds}
        self._rows += [about | row for row in rows]

    def _evaluate_and_save(self) -> None:
        """Evaluate with K deterministic episodes, keep the policy if it is the best so far, and save everything."""
        frame = self._episodes("grid", self.trial.episodes, self.trial.evaluation_seeds)
        self.records.append(frame)
        mean = self.evaluation = float(frame["episode_return"].to_numpy().mean())
        if not np.isfinite(mean):
            raise Diverged(f"the evaluation at step {self.step} gave a return of {mean}", [])
        if self.best is None or mean > self.best["evaluation"]:
            self.best = {
                "evaluation": mean,
                "step": self.step,
                "gradient_updates": self.learner.gradient_updates,
                "seconds": self.seconds,
                "policy": copy.deepcopy(self.learner.policy.state_dict()),
            }
        self._write_tables()
        self._write_checkpoint()
        self._write_progress()

    def play_fresh_episodes(self) -> None:
        """Evaluate the last policy (`final`) and the best of the grid (`absolute`) on the same fresh episodes.

        If the last policy is the best one, it is played once and recorded as both.
        """
        assert self.best is not None
        last = copy.deepcopy(self.learner.policy.state_dict())
        count = FRESH_FACTOR * self.trial.episodes
        final = self._episodes("final", count, "fresh")
        if self.best["step"] == self.step:
            absolute = final.assign(kind="absolute")
        else:
            self.learner.policy.load_state_dict(self.best["policy"])
            absolute = self._episodes("absolute", count, "fresh")
            for column in ("step", "gradient_updates", "seconds"):  # those of the policy that was played
                absolute[column] = self.best[column]
        self.records += [final, absolute]
        _save(self.folder / "policy.pt", {"best": self.best["policy"], "last": last})
        self._write_tables()

    def _episodes(self, kind: str, count: int, stream: str) -> pd.DataFrame:
        """Play `count` episodes on the evaluation seeds of a stream: one row each."""
        start = time.perf_counter()
        played = play_episodes(self.learner, self.trial.task, evaluation_seeds(stream, count), self.env_threads)
        self.evaluation_seconds += time.perf_counter() - start
        return pd.DataFrame(
            {
                **self._identity,
                "kind": kind,
                "step": self.step,
                "gradient_updates": self.learner.gradient_updates,
                "episode": np.arange(count),
                "episode_return": played.returns,
                "length": played.lengths,
                "seconds": self.seconds,
            }
        )

    def _write_tables(self) -> None:
        if self._rows:
            self.updates.append(pd.DataFrame(self._rows))
            self._rows = []
        files.write_table(self.folder / "records.parquet", pd.concat(self.records, ignore_index=True))
        if self.updates:
            frame = pd.concat(self.updates, ignore_index=True)
            files.write_table(self.folder / "updates.parquet", frame)

    def _write_checkpoint(self) -> None:
        """Save everything that the next step depends on, and reset the count of attempts."""
        environments = {
            key: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
            for key, value in self.batch.state_dict().items()
        }
        _save(
            self.folder / "checkpoint.pt",
            {
                "step": self.step,
                "seconds": self.seconds,
                "evaluation_seconds": self.evaluation_seconds,
                "best": self.best,
                "evaluation": self.evaluation,
                "learner": self.learner.state_dict(),
                "environments": environments,
            },
        )
        about = files.read_json(self.folder / "trial.json")
        files.write_json(self.folder / "trial.json", about | {"attempts": 1})

    def _resume(self) -> None:
        """Load the checkpoint, and the rows of the tables up to it."""
        path = self.folder / "checkpoint.pt"
        try:
            saved = torch.load(path, weights_only=True)
            self.learner.load_state_dict(saved["learner"])
            self.batch.load_state_dict(saved["environments"])
            self.step, self.seconds = saved["step"], saved["seconds"]
            self.evaluation_seconds, self.best = saved["evaluation_seconds"], saved["best"]
            self.evaluation = saved["evaluation"]
        except EnvError:  # the checkpoint is sound, the environment is not
            raise
        except OTHER_LAYOUT as error:
            raise files.StoreError(
                f"{path}: not a readable checkpoint, or one of another version of the benchmark; "
                f"delete {self.folder} to start this trial anew"
            ) from error
        records = files.read_table(self.folder / "records.parquet")
        self.records = [records[(records["step"] <= self.step) & (records["kind"] == "grid")]]
        if self.step > 0 and (self.folder / "updates.parquet").exists():
            updates = files.read_table(self.folder / "updates.parquet")
            self.updates = [updates[updates["step"] <= self.step]]

    def _write_progress(self) -> None:
        """Write what the live display shows; a worker whose owner is gone exits here."""
        if self.owner not in (os.getpid(), os.getppid()):
            os._exit(1)
        self._last_progress = time.monotonic()
        progress = {"step": self.step, "seconds": self.seconds, "evaluation": self.evaluation}
        files.write_json(self.folder / "progress.json", progress)


def _save(path: Path, value: Any) -> None:
    files.write_bytes(path, partial(torch.save, value))  # directly into the file: a replay buffer is large
