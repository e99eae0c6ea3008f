"""The running state of a trial: train, evaluate on the grid, save, and resume where an earlier run stopped.

A trial is saved at every evaluation: first its tables, for those who want to see how far it is, then `checkpoint.pt`,
which holds all that the trial goes on from, the rows of its tables included. The checkpoint before it is kept: if the
last one turns out to be damaged, the trial goes on from there. Killed at any time, a trial loses the work since the
last evaluation. Results are bitwise the same however often that happens.
"""

from __future__ import annotations

import copy
import hashlib
import io
import pickle
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pandas as pd
import torch

from algorithms import Diagnostics, Diverged, Rollout
from bench.envs.errors import EnvError, lacks_memory
from bench.store import files
from bench.store.checksums import Damaged, check_archive
from bench.store.trials import (
    CHECKPOINTS,
    EARLIER_BUDGETS,
    FRESH_FACTOR,
    earlier_steps,
    of_earlier_budgets,
    read_table_of,
)
from bench.suite.trial import Trial
from bench.trial.collect import Collector, play_episodes
from bench.trial.improvement import ImprovementMeter
from bench.trial.link import Link, Progress
from bench.trial.setup import evaluation_seeds, learner_and_batch

PROGRESS_SECONDS = 1.0
OTHER_LAYOUT = (LookupError, ValueError, TypeError, AttributeError, RuntimeError, EOFError, pickle.UnpicklingError)
"""What reading a checkpoint of another version raises."""


class Best(TypedDict):
    """The policy with the highest mean return of all evaluations, and when it was evaluated."""

    evaluation: float
    step: int
    gradient_updates: int
    seconds: float
    policy: dict[str, Any]


class Session:
    """The running state of a trial between its checkpoints."""

    def __init__(
        self,
        trial: Trial,
        folder: Path,
        env_threads: int = 1,
        link: Link | None = None,
        earlier_budgets: Sequence[Mapping[str, Any]] = (),
    ):
        self.trial, self.folder, self.env_threads, self.link = trial, folder, env_threads, link or Link()
        self.owner, self.earlier_budgets = trial.identity(), earlier_budgets
        folder.mkdir(parents=True, exist_ok=True)
        self._folder_id = files.folder_id(folder)
        self._identity: Diagnostics = {key: self.owner[key] for key in ("suite", "task", "algorithm", "seed")}
        self.step, self.seconds, self.evaluation_seconds = 0, 0.0, 0.0
        self.best: Best | None = None
        self.records: list[pd.DataFrame] = []
        self.updates: list[pd.DataFrame] = []
        self.rows: list[Diagnostics] = []
        """Of the updates since the tables were written."""
        self.evaluation: float | None = None
        self._last_progress = self._last_evaluation_seconds = 0.0
        self.checksums: dict[str, str] = {}
        """File name -> checksum, of the files that stay when the trial is done."""
        self.learner, self.batch = learner_and_batch(trial, env_threads)
        try:
            self.collector = Collector(self.batch, trial.settings.rollout_length, self.link.beat)
            self.meter = (
                ImprovementMeter(trial, self.learner, self.batch, self.link.beat) if trial.improvement_every else None
            )
            self._resume()
            self._take_earlier_episodes()
        except BaseException:
            self.close()
            raise

    def train_until(self, step: int) -> None:
        """Train to a step of the grid, evaluating and saving at each point on the way."""
        self.begin()
        while self.step < step:
            self.train()
            if self.step % self.trial.every == 0:
                self._evaluate_and_save()

    def begin(self) -> None:
        """Evaluate the untrained policy, unless that was done."""
        if self.evaluation is None:
            self._evaluate_and_save()

    def train(self) -> None:
        """One rollout and one update."""
        start = time.perf_counter()
        rollout = self.collector.collect(self.learner)
        try:
            rows = self._update(rollout)
        except Diverged as error:
            self._take(error.rows, rollout.reward.numel(), time.perf_counter() - start)
            self.write_tables()
            raise
        aside = self.meter.seconds if self.meter else 0.0
        self._take(rows, rollout.reward.numel(), time.perf_counter() - start - aside)
        self.evaluation_seconds += aside
        if time.monotonic() - self._last_progress > PROGRESS_SECONDS:
            self._write_progress()

    def _update(self, rollout: Rollout) -> list[Diagnostics]:
        if self.meter is None:
            return self.learner.update(rollout)
        return self.meter.measured(lambda: self.learner.update(rollout))

    def _take(self, rows: list[Diagnostics], steps: int, seconds: float) -> None:
        self.step += steps
        self.seconds += seconds
        about = {**self._identity, "step": self.step, "steps_per_second": steps / seconds}
        self.rows += [about | row for row in rows]

    def _evaluate_and_save(self) -> None:
        """Evaluate with K deterministic episodes, keep the policy if it is the best so far, and save everything."""
        frame = self._episodes("grid", self.trial.episodes, self.trial.evaluation_seeds)
        self.records.append(frame)
        mean = self.evaluation = float(frame["episode_return"].to_numpy().mean())
        if not np.isfinite(mean):
            self.records.pop()
            self.write_tables()
            raise Diverged(f"the evaluation at step {self.step} gave a return of {mean}", [])
        if self.best is None or mean > self.best["evaluation"]:
            self.best = {
                "evaluation": mean,
                "step": self.step,
                "gradient_updates": self.learner.gradient_updates,
                "seconds": self.seconds,
                "policy": copy.deepcopy(self.learner.policy.state_dict()),
            }
        self.write_tables()
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
        for played in (final, absolute):
            if not np.isfinite(mean := float(played["episode_return"].to_numpy().mean())):
                raise Diverged(f"the fresh episodes of the policy of step {played['step'][0]} gave {mean}", [])
        self.records += [final, absolute]
        buffer = io.BytesIO()
        torch.save({"trial": self.owner, "best": self.best["policy"], "last": last}, buffer)
        files.write_bytes(self.folder / "policy.pt", buffer.getvalue())
        self.checksums["policy.pt"] = hashlib.sha256(buffer.getvalue()).hexdigest()
        self.write_tables()

    def _episodes(self, kind: str, count: int, stream: str) -> pd.DataFrame:
        """Play `count` episodes on the evaluation seeds of a stream: one row each."""
        start = time.perf_counter()
        seeds = evaluation_seeds(stream, count)
        played = play_episodes(self.learner, self.trial.task, seeds, self.env_threads, self.link.beat)
        seconds = time.perf_counter() - start
        self.evaluation_seconds += seconds
        self._last_evaluation_seconds = seconds if kind == "grid" else 0.0
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

    def write_tables(self) -> None:
        """Write what there is so far."""
        files.refuse_other_folder(self.folder, self._folder_id)
        if self.rows:
            self.updates.append(pd.DataFrame(self.rows))
            self.rows = []
        for name, parts in (("records.parquet", self.records), ("updates.parquet", self.updates)):
            if parts:
                parts[:] = [pd.concat(parts, ignore_index=True)]
                self.checksums[name] = files.write_table(self.folder / name, parts[0], self.owner)

    def _write_checkpoint(self) -> None:
        """Save everything that the next step depends on."""
        environments = {
            key: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
            for key, value in self.batch.state_dict().items()
        }
        last, previous = (self.folder / name for name in CHECKPOINTS)
        tables = {"records": self.records, "updates": self.updates}
        saved = {
            "trial": self.owner,
            "tables": {name: [part.to_parquet(index=False) for part in parts] for name, parts in tables.items()},
            "step": self.step,
            "seconds": self.seconds,
            "evaluation_seconds": self.evaluation_seconds,
            "best": self.best,
            "evaluation": self.evaluation,
            "learner": self.learner.state_dict(),
            "environments": environments,
        }
        files.write_bytes(last, partial(torch.save, saved), keep=previous)  # a replay buffer is large: into the file

    def _resume(self) -> None:
        """Go on from the last checkpoint, from the one before it if that is damaged, or from the beginning."""
        damaged = []
        for path in (self.folder / name for name in CHECKPOINTS):
            if not path.exists():
                continue
            try:
                saved = self._checked(path)
            except Damaged as error:
                damaged.append(path)
                reason = f"{path}: {error}"
                continue
            self._load(path, saved)
            for broken in damaged:
                self.link.say(f"{reason}; going on from the checkpoint before it, at step {self.step:,}")
                broken.unlink()  # else the next one would keep it in the place of the whole one
            return
        if damaged:
            raise files.StoreError(f"{reason}; delete its folder to start this trial anew")

    def _checked(self, path: Path) -> dict[str, Any]:
        """What a checkpoint holds. Raises Damaged for one that is not as it was written, or of another trial."""
        check_archive(path)
        try:
            saved: dict[str, Any] = torch.load(path, weights_only=True)
            owner = saved["trial"]
        except OTHER_LAYOUT as error:
            if lacks_memory(error):
                raise
            raise self._other_version(path) from error
        if owner != self.owner and not earlier_steps(owner, self.owner, self.earlier_budgets):
            raise Damaged(f"belongs to another trial: {owner}, not {self.owner}")
        return saved

    def _take_earlier_episodes(self) -> None:
        """The fresh episodes at the end of earlier budgets: the table has those that a checkpoint lacks."""
        if not self.earlier_budgets or not (self.folder / "records.parquet").exists():
            return
        about = {**self.owner, "status": "running", EARLIER_BUDGETS: self.earlier_budgets}
        table = read_table_of(self.folder, "records", about)
        self.records = [part[~of_earlier_budgets(part)] for part in self.records]
        self.records.insert(0, table[of_earlier_budgets(table)])

    def _load(self, path: Path, saved: dict[str, Any]) -> None:
        try:
            self.learner.load_state_dict(saved["learner"])
            self.batch.load_state_dict(saved["environments"])
            self.step, self.seconds = saved["step"], saved["seconds"]
            self.evaluation_seconds, self.best = saved["evaluation_seconds"], saved["best"]
            self.evaluation = saved["evaluation"]
            if self.meter:
                self.meter.updates = self.step // (self.trial.settings.rollout_length * self.trial.settings.envs)
            self.records, self.updates = (
                [pd.read_parquet(io.BytesIO(part)) for part in saved["tables"][name]] for name in ("records", "updates")
            )
        except EnvError:  # the checkpoint is sound, the environment is not
            raise
        except OTHER_LAYOUT as error:
            raise self._other_version(path) from error

    def _other_version(self, path: Path) -> files.StoreError:
        return files.StoreError(
            f"{path}: not a readable checkpoint, or one of another version of the benchmark; "
            "delete its folder to start this trial anew"
        )

    def close(self) -> None:
        """Close the training environments."""
        self.batch.close()

    def _seconds_left(self) -> float | None:
        """At the pace so far, and for fresh episodes at that of the last evaluation."""
        if not self.step:
            return None
        so_far = self.seconds + self.evaluation_seconds
        return so_far * (self.trial.steps / self.step - 1) + 2 * FRESH_FACTOR * self._last_evaluation_seconds

    def _write_progress(self) -> None:
        """Say how far it is, and write it for those who see nothing but the folder."""
        self._last_progress = time.monotonic()
        self.link.progress(Progress(self.trial.name, self.step, self.seconds, self.evaluation, self._seconds_left()))
        progress = {"step": self.step, "seconds": self.seconds, "evaluation": self.evaluation}
        files.write_json(self.folder / "progress.json", progress)
