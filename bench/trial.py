"""One trial: train, evaluate on the grid, store, and go on where an earlier run stopped.

A trial saves itself at every evaluation: first its tables, then `checkpoint.pt`. A kill between the two leaves tables
that are ahead of the checkpoint, and resuming drops the rows beyond it; a kill at any other time costs the work since
the last evaluation. The numbers are the same, to the bit, however often that happens.
"""

from __future__ import annotations

import copy
import os
import pickle
import signal
import time
import traceback
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pandas as pd
import torch

import algorithms
from algorithms import Diagnostics, Diverged, Learner
from bench import golden, methods, store, tasks
from bench.collect import Collector, play
from bench.envs.batch import EnvBatch
from bench.envs.pettingzoo import EnvError
from bench.provenance import provenance
from bench.suite import Trial
from bench.tasks import Task

MAX_ATTEMPTS = 3
"""Starts without a new checkpoint in between after which a trial whose pool died runs alone, so a death is its own."""
FRESH_FACTOR = 10
"""The last and the best policy each play this many times the episodes of one evaluation (Gorsane et al. 2022)."""
AT_ONCE = 160
"""Episodes that are evaluated as one batch, at most: an environment in Python may take megabytes."""
EVALUATION_SEED = 210911251
"""What evaluation episodes are drawn from: the same for all trials, and apart from what any of them trains on."""
EVALUATION_STREAMS = ("suite", "fresh", "study")
"""Of evaluation seeds: for the grid of suites, for the episodes at the end of a trial, and for the grid of studies."""
PROGRESS_SECONDS = 1.0
OTHER_LAYOUT = (LookupError, ValueError, TypeError, AttributeError, RuntimeError, EOFError, pickle.UnpicklingError)
"""What reading a checkpoint raises that is cut short, or laid out in another way."""


@dataclass(frozen=True)
class Outcome:
    """How a trial ended: `done`, or `failed` with the reason."""

    trial: Trial
    status: str
    error: str = ""
    seconds: float = 0.0
    """Of training."""
    evaluation: float | None = None
    """Mean return of the last evaluation."""
    diverged: bool = False
    """Failed by what its settings led to, which would happen again."""


def seeds(seed: int) -> tuple[dict[str, int], np.random.SeedSequence]:
    """One seed per purpose of the learner and one for the environments, spawned from the trial's seed."""
    *purposes, environments = np.random.SeedSequence(seed).spawn(len(algorithms.PURPOSES) + 1)
    numbers = [int(child.generate_state(1, np.uint64)[0] >> 1) for child in purposes]
    return dict(zip(algorithms.PURPOSES, numbers, strict=True)), environments


def evaluation_seeds(stream: str, count: int) -> list[np.random.SeedSequence]:
    """The seeds of the first `count` episodes of a stream; no two streams have one in common."""
    streams = np.random.SeedSequence(EVALUATION_SEED).spawn(len(EVALUATION_STREAMS))
    return streams[EVALUATION_STREAMS.index(stream)].spawn(count)


def prepare_process() -> None:
    """One thread, as joblib runs a single job in the parent, where more would give other bits; and a heap that stays.

    glibc hands freed memory back above thresholds that rise with the largest block ever freed, up to 32 MB. Below that
    the activations of every update, some MB, would be given back and faulted in again.
    """
    torch.set_num_threads(1)
    torch.empty(30 * 2**18)  # 30 MB, freed at once


def learner_and_batch(trial: Trial, env_threads: int = 1) -> tuple[Learner, EnvBatch]:
    """The untrained learner and the training environments of a trial."""
    methods.method(trial.algorithm)  # of the user's own, it has yet to be found in this process
    own, environments = seeds(trial.seed)
    batch = tasks.make(trial.task, environments.spawn(trial.settings.envs), env_threads=env_threads)
    return algorithms.build(trial.algorithm, batch.team, trial.settings, own), batch


def run(trial: Trial, suite_folder: Path, owner: int, env_threads: int = 1, until: int | None = None) -> Outcome:
    """Bring a trial to its end, from its checkpoint if it has one. Never raises: an error is the outcome.

    Given a step `until`, a point of the grid, it goes no further and plays no fresh episodes; before the last step
    the outcome is `running`, and the checkpoint stays.

    `owner` is the process that asked for it: this one, or the parent of this worker, which leaves Ctrl-C to the owner
    and ends itself when the owner is gone. `env_threads` step the environments; the numbers do not depend on it.
    """
    folder = trial.folder(suite_folder)
    if os.getpid() != owner:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        prepare_process()
        about = _open(trial, folder)
        try:
            session = Session(trial, folder, owner, env_threads)
            session.train_until(trial.steps if until is None else until)
            if until is None:
                session.play_fresh_episodes()
        except Exception as error:
            store.write_json(
                folder / "trial.json",
                about | {"status": "failed", "error": _reason(error), "traceback": traceback.format_exc()},
            )
            return Outcome(trial, "failed", _reason(error), diverged=isinstance(error, Diverged))
        if session.step < trial.steps:
            return Outcome(trial, "running", seconds=session.seconds, evaluation=session.evaluation)
        about |= {
            "status": "done",
            "seconds": session.seconds,
            "evaluation_seconds": session.evaluation_seconds,
            "finished": _now(),
        }
        store.write_json(folder / "trial.json", about)
        (folder / "checkpoint.pt").unlink(missing_ok=True)
        (folder / "progress.json").unlink(missing_ok=True)
        return Outcome(trial, "done", seconds=session.seconds, evaluation=session.evaluation)
    except Exception as error:  # not even the failure could be written: a full disk, a lost mount, a broken trial.json
        return Outcome(trial, "failed", _reason(error))


def register(trial: Trial, suite_folder: Path) -> None:
    """Write down a trial that has yet to start, so that a report knows what is missing."""
    if read_status(trial, suite_folder).get("status", "waiting") == "waiting":
        about = _about(trial) | {"status": "waiting", "attempts": 0}
        store.write_json(trial.folder(suite_folder) / "trial.json", about)


def read_status(trial: Trial, suite_folder: Path) -> dict[str, Any]:
    """The trial's `trial.json`; empty where it never started, or is done and lost what it recorded."""
    path = trial.folder(suite_folder) / "trial.json"
    about = store.read_trial(path) if path.exists() else {}
    return {} if about.get("status") == "done" and not (path.parent / "records.parquet").exists() else about


def _open(trial: Trial, folder: Path) -> dict[str, Any]:
    """Count the attempt, and write it down before anything is computed."""
    for left in folder.glob(".*.tmp"):  # of a write that a kill cut short
        left.unlink(missing_ok=True)
    path = folder / "trial.json"
    old = store.read_trial(path) if path.exists() else {}
    about = _about(trial) | {
        "status": "running",
        "attempts": old.get("attempts", 0) + 1,
        "started": old.get("started", _now()),
        "earlier_provenance": old.get("earlier_provenance", []),
    }
    if (folder / "checkpoint.pt").exists() and old["provenance"] != about["provenance"]:
        about["earlier_provenance"].append(old["provenance"])  # it goes on under another commit, machine or physics
    store.write_json(path, about)
    return about


def _about(trial: Trial) -> dict[str, Any]:
    """A trial's identity and origin."""
    return {
        "suite": trial.suite,
        "task": trial.task.label,
        "algorithm": trial.label,
        "method": trial.algorithm,
        "seed": trial.seed,
        "steps": trial.steps,
        "evaluate": {"every": trial.every, "episodes": trial.episodes},
        "evaluation_seeds": trial.evaluation_seeds,
        "settings": asdict(trial.settings),
        "options": trial.task.options.named(),
        "config_hash": trial.config_hash(),
        "tuning": trial.tuning and trial.tuning.model_dump(),
        "error": "",
        "provenance": provenance()
        | {
            "physics": physics(trial.task),
            "task": trial.task.origin(),
            "numerics": algorithms.NUMERICS,
            "matmul": algorithms.matmul_library(),
        },
    }


def physics(task: Task) -> str:
    """The verdict of `bench.golden` on a task's robot."""
    return store.NO_PHYSICS if task.robot is None else golden.verdict(task.robot)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


class Best(TypedDict):
    """The policy with the highest mean return at an evaluation, and where it stood in training."""

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
        """Train to a point of the grid, evaluating and saving at each on the way."""
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
        """K deterministic episodes; the best policy is kept; then everything goes to disk."""
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
        """Play the last policy (`final`) and the best of the grid (`absolute`) on the same fresh episodes; keep both.

        Where the last policy is the best one, it is played once and recorded as both.
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
            for column in ("step", "gradient_updates", "seconds"):  # of the policy that was played
                absolute[column] = self.best[column]
        self.records += [final, absolute]
        _save(self.folder / "policy.pt", {"best": self.best["policy"], "last": last})
        self._write_tables()

    def _episodes(self, kind: str, count: int, stream: str) -> pd.DataFrame:
        """Play `count` episodes on the evaluation seeds of a stream: one row each."""
        start = time.perf_counter()
        drawn = evaluation_seeds(stream, count)
        parts = []
        for first in range(0, count, AT_ONCE):
            seeds = drawn[first : first + AT_ONCE]
            batch = tasks.make(self.trial.task, seeds, auto_reset=False, env_threads=self.env_threads)
            parts.append(play(self.learner, batch))
        self.evaluation_seconds += time.perf_counter() - start
        return pd.DataFrame(
            {
                **self._identity,
                "kind": kind,
                "step": self.step,
                "gradient_updates": self.learner.gradient_updates,
                "episode": np.arange(count),
                "episode_return": np.concatenate([part.returns for part in parts]),
                "length": np.concatenate([part.lengths for part in parts]),
                "seconds": self.seconds,
            }
        )

    def _write_tables(self) -> None:
        if self._rows:
            self.updates.append(pd.DataFrame(self._rows))
            self._rows = []
        store.write_table(self.folder / "records.parquet", pd.concat(self.records, ignore_index=True))
        if self.updates:
            frame = pd.concat(self.updates, ignore_index=True)
            store.write_table(self.folder / "updates.parquet", frame)

    def _write_checkpoint(self) -> None:
        """Everything that the next step depends on; then the attempts so far are forgiven."""
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
        about = store.read_json(self.folder / "trial.json")
        store.write_json(self.folder / "trial.json", about | {"attempts": 1})

    def _resume(self) -> None:
        """Take over the checkpoint, and of the tables what is not beyond it."""
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
            raise store.StoreError(
                f"{path}: not a readable checkpoint, or one of another version of this suite; "
                f"delete {self.folder} to start this trial anew"
            ) from error
        records = store.read_table(self.folder / "records.parquet")
        self.records = [records[(records["step"] <= self.step) & (records["kind"] == "grid")]]
        if self.step > 0 and (self.folder / "updates.parquet").exists():
            updates = store.read_table(self.folder / "updates.parquet")
            self.updates = [updates[updates["step"] <= self.step]]

    def _write_progress(self) -> None:
        """What the live table shows; also the moment at which a worker without its owner ends itself."""
        if self.owner not in (os.getpid(), os.getppid()):
            os._exit(1)
        self._last_progress = time.monotonic()
        progress = {"step": self.step, "seconds": self.seconds, "evaluation": self.evaluation}
        store.write_json(self.folder / "progress.json", progress)


def _save(path: Path, value: Any) -> None:
    store.write_bytes(path, partial(torch.save, value))  # straight into the file: a replay is large
