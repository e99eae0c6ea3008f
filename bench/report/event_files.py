"""`--tensorboard`: the returns and diagnostics of every trial as event files, which TensorBoard shows."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.report import stats
from bench.report.load import ReportError, SuiteResults
from bench.store.files import slug
from bench.store.trials import joined

FOLDER = "tensorboard"
KEY = ["task", "algorithm", "seed"]
KINDS = ("grid", "final", "absolute")


def write(suite: SuiteResults) -> Path:
    """Write `tensorboard/<task>/<algorithm>/seed-NN/` into the folder of a suite anew, one run per trial.

    Tags: `return/grid`, `return/final`, `return/absolute`, and `<column>/<agent>` for the columns of `updates`. The x
    axis has environment steps. A ReportError where TensorBoard is not installed.
    """
    try:
        writer = importlib.import_module("tensorboard.summary.writer.event_file_writer").EventFileWriter
    except ImportError:
        raise ReportError("--tensorboard: needs the package tensorboard; pip install tensorboard") from None
    target = suite.folder / FOLDER
    shutil.rmtree(target, ignore_errors=True)
    updates = joined(suite.folder, "updates")
    of_updates = {} if updates is None else dict(iter(updates.groupby(KEY, observed=True)))
    for key, records in suite.records.groupby(KEY, observed=True):
        task, algorithm, seed = key
        folder = target / slug(str(task)) / slug(str(algorithm)) / f"seed-{seed:02d}"
        file = writer(str(folder))
        for tag, step, value in (*_returns(records), *_diagnostics(of_updates.get(key))):
            file.add_event(_event(tag, step, value))
        file.close()
    return target


def _returns(records: pd.DataFrame) -> Iterator[tuple[str, int, float]]:
    for kind in KINDS:
        for row in stats.seed_returns(records, kind).to_dict("records"):
            yield f"return/{kind}", int(row["step"]), float(row["value"])


def _diagnostics(updates: pd.DataFrame | None) -> Iterator[tuple[str, int, float]]:
    if updates is None:
        return
    columns = [name for name in updates.columns if name not in (*KEY, "suite", "step", "agent")]
    numbers = [name for name in columns if pd.api.types.is_numeric_dtype(updates[name])]
    for agent, rows in updates.groupby("agent", observed=True):
        for name in numbers:
            steps, values = rows["step"].to_numpy(), rows[name].to_numpy(np.float64)
            for step, value in zip(steps[~np.isnan(values)], values[~np.isnan(values)], strict=True):
                yield f"{name}/{agent}", int(step), float(value)


def _event(tag: str, step: int, value: float) -> Any:
    event = importlib.import_module("tensorboard.compat.proto.event_pb2").Event
    summary = importlib.import_module("tensorboard.compat.proto.summary_pb2").Summary
    return event(step=step, summary=summary(value=[summary.Value(tag=tag, simple_value=value)]))
