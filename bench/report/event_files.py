"""`--tensorboard`: the returns and diagnostics of every trial as event files, which TensorBoard shows."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path

from bench.cli.installation import installing
from bench.report.load import ReportError, SuiteResults
from bench.store.tracking import points, runs_folder, write_events

FOLDER = "tensorboard"
KEY = ["task", "algorithm", "seed"]


def refuse_without_tensorboard() -> None:
    """Raise ReportError where TensorBoard is not installed."""
    try:
        importlib.import_module("tensorboard.summary.writer.event_file_writer")
    except ImportError:
        raise ReportError(f"--tensorboard: needs the extra tensorboard: {installing('tensorboard')}") from None


def write(suite: SuiteResults) -> Path:
    """Write `tensorboard/<task>/<algorithm>/seed-NN/` into the folder of a suite anew, one run per trial.

    Tags: `return/grid`, `return/final`, `return/absolute`, and `<column>/<agent>` for the columns of `updates`. The x
    axis has environment steps.
    """
    target = suite.folder / FOLDER
    shutil.rmtree(target, ignore_errors=True)
    of_updates = dict(iter(suite.updates.groupby(KEY, observed=True))) if len(suite.updates) else {}
    for key, records in suite.records.groupby(KEY, observed=True):
        task, algorithm, seed = map(str, key)
        folder = runs_folder(suite.folder, task, algorithm, int(seed))
        write_events(folder, points(records, of_updates.get(key)))
    return target
