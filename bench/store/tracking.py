"""Trackers of experiments, which are told of trials in local files: TensorBoard, Weights & Biases, MLflow.

A trial is one run. It is written whole, from the trial's tables, when the trial has ended: these are equal to the bit
however often it was interrupted, so no run has a point twice or lacks one. `tracked.json` says whose runs are whole.
One that is not, because its writer was killed or the trial was run again, is deleted and written anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.store import files
from bench.store.files import slug
from bench.store.trials import identity, read_table_of, trials_by_folder

MARKS, LOCK = "tracked.json", ".tracked.lock"
NO_METRICS = ("suite", "task", "algorithm", "seed", "step", "agent")
"""Columns of `updates` that say what a row is about."""
MOST_METRICS, MOST_PARAMETERS = 1000, 100
"""That MLflow takes at once."""
Points = Mapping[int, Mapping[str, float]]
"""step -> metric -> value"""


@dataclass(frozen=True)
class Run:
    """What a tracker is told of a trial."""

    id: str
    """Equal for equal trials."""
    suite: str
    task: str
    algorithm: str
    seed: int
    config: Mapping[str, Any]
    points: Points

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.task} {self.algorithm} seed {self.seed}"


def points(records: pd.DataFrame, updates: pd.DataFrame | None) -> Points:
    """`return/<kind>`, the mean over an evaluation's episodes, and `<column>/<agent>` of `updates`, by steps.

    MLflow takes no "@": a `final@400000` of an earlier budget is `return/final-at-400000`.
    """
    found: dict[int, dict[str, float]] = {}
    means = records.groupby(["kind", "step"], observed=True)["episode_return"].mean(skipna=False)
    for row in means.reset_index().to_dict("records"):
        metric = f"return/{row['kind']}".replace("@", "-at-")
        found.setdefault(int(row["step"]), {})[metric] = float(row["episode_return"])
    for step, metric, value in _diagnostics(updates):
        found.setdefault(step, {})[metric] = value
    return {step: found[step] for step in sorted(found)}


def _diagnostics(updates: pd.DataFrame | None) -> Iterator[tuple[int, str, float]]:
    if updates is None:
        return
    numbers = [x for x in updates if x not in NO_METRICS and pd.api.types.is_numeric_dtype(updates[x])]
    for agent, rows in updates.groupby("agent", observed=True):
        for name in numbers:
            steps, values = rows["step"].to_numpy(), rows[name].to_numpy(np.float64)
            for step, value in zip(steps[~np.isnan(values)], values[~np.isnan(values)], strict=True):
                yield int(step), f"{name}/{agent}", float(value)


def runs_folder(suite: Path, task: str, algorithm: str, seed: int) -> Path:
    """Where the event files of a trial lie."""
    return suite / "tensorboard" / slug(task) / slug(algorithm) / f"seed-{seed:02d}"


def write_events(folder: Path, found: Points) -> None:
    """Write the points of one trial as an event file into a folder, anew."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    shutil.rmtree(folder, ignore_errors=True)
    writer = EventFileWriter(str(folder))
    for step, metrics in found.items():
        for tag, value in metrics.items():
            writer.add_event(Event(step=step, summary=Summary(value=[Summary.Value(tag=tag, simple_value=value)])))
    writer.close()


def _tensorboard(suite: Path, run: Run) -> None:
    write_events(runs_folder(suite, run.task, run.algorithm, run.seed), run.points)


def _wandb(suite: Path, run: Run) -> None:
    """Offline unless WANDB_MODE says otherwise: `wandb sync` uploads what lies in `<suite>/wandb`."""
    import wandb

    os.environ.setdefault("WANDB_MODE", "offline")
    os.environ.setdefault("WANDB_SILENT", "true")
    for old in (suite / "wandb").glob(f"offline-run-*-{run.id}"):
        shutil.rmtree(old)
    about = {"project": run.suite, "group": run.task, "name": run.name, "id": run.id, "config": dict(run.config)}
    with wandb.init(dir=str(suite), **about) as live:
        for step, metrics in run.points.items():
            live.log(dict(metrics), step=step)


def _mlflow(suite: Path, run: Run) -> None:
    """Into the folder `<suite>/mlruns`."""
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # which newer versions want to be asked for
    from mlflow.entities import Metric, Param
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=(suite / "mlruns").absolute().as_uri())
    known = client.get_experiment_by_name(run.suite)
    experiment = known.experiment_id if known else client.create_experiment(run.suite)
    for old in client.search_runs([experiment], f"tags.trial = '{run.id}'"):
        client.delete_run(old.info.run_id)
    made = client.create_run(experiment, run_name=run.name, tags={"trial": run.id}).info.run_id
    metrics = [Metric(key, value, 0, step) for step, found in run.points.items() for key, value in found.items()]
    for k in range(0, len(metrics), MOST_METRICS):
        client.log_batch(made, metrics=metrics[k : k + MOST_METRICS])
    parameters = [Param(key, str(value)) for key, value in run.config.items()]
    for k in range(0, len(parameters), MOST_PARAMETERS):
        client.log_batch(made, params=parameters[k : k + MOST_PARAMETERS])
    client.set_terminated(made)


TRACKERS: Mapping[str, Callable[[Path, Run], None]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
}
"""Name, which is also that of the package and of the extra -> what writes a run into the folder of a suite."""


def write_runs(suite: Path, tracker: str, beat: Callable[[], None]) -> int:
    """Write the runs of all trials that have ended since; `beat` is called after each. Returns how many.

    Does nothing where another process is at it. Whatever the tracker raises goes through.
    """
    if not suite.is_dir():  # the run was refused
        return 0
    with files.locked(suite / LOCK) as free:
        return _write_new(suite, tracker, beat) if free else 0


def _write_new(suite: Path, tracker: str, beat: Callable[[], None]) -> int:
    path = suite / MARKS
    marks = files.read_sealed_json(path) if path.exists() else {}
    count = 0
    for folder, about in trials_by_folder(suite).items():
        mark = {"status": about["status"], "files": about.get("files"), "attempts": about.get("attempts")}
        run_id = _id(about)
        if about["status"] not in ("done", "failed") or marks.get(tracker, {}).get(run_id) == mark:
            continue
        if not (folder / "records.parquet").exists():  # failed before it was evaluated, or published
            continue
        TRACKERS[tracker](suite, _run(folder, about, run_id))
        marks.setdefault(tracker, {})[run_id] = mark
        files.write_sealed_json(path, marks)
        beat()
        count += 1
    return count


def _id(about: Mapping[str, Any]) -> str:
    canonical = json.dumps(identity(about), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _run(folder: Path, about: Mapping[str, Any], run_id: str) -> Run:
    records = read_table_of(folder, "records", about)
    updates = read_table_of(folder, "updates", about) if (folder / "updates.parquet").exists() else None
    config = {key: about[key] for key in ("task", "algorithm", "method", "seed", "steps", "config_hash", "status")}
    config |= {"commit": about["provenance"]["commit"]}
    config |= {f"options.{key}": value for key, value in about["options"].items()} | dict(about["settings"])
    own = {key: about[key] for key in ("suite", "task", "algorithm", "seed")}
    return Run(id=run_id, **own, config=config, points=points(records, updates))
