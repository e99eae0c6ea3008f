"""How large and how slow a report may be."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import test_report
from test_report import write_trial

from algorithms import METHODS
from bench.report import plots
from bench.report.algorithms import Algorithms

SIX = ("ippo", "mappo", "mappo-shared", "happo", "hatrpo", "maddpg")
MEGABYTE = 1 << 20


def test_a_figure_of_the_page_is_small() -> None:
    """6 algorithms at 21 points with bands."""
    steps, rng = np.arange(21) * 50_000, np.random.default_rng(0)
    parts = []
    for label in SIX:
        iqm = rng.normal(size=21).cumsum() * 100
        part = {
            "step": steps,
            "iqm": iqm,
            "low": iqm - 50,
            "high": iqm + 50,
            "points": [[]] * 21,
            "seeds": 5,
            "failed": 0,
        }
        parts.append(pd.DataFrame({"task": "Ant", "algorithm": label, **part, "planned": 5}))
    rows = [
        {"task": "Ant", "algorithm": label, "seed": seed, "state": "done", "reached": 10**6, "steps": 10**6}
        for label, seed in product(SIX, range(5))
    ]
    algorithms = Algorithms({label: label.split("-")[0] for label in SIX}, [*METHODS])
    (panel,) = plots.panels(pd.concat(parts), pd.DataFrame(rows), algorithms)
    assert len(panel) < 25_000


@pytest.mark.long
def test_a_report_on_300_trials_takes_20_seconds_a_gigabyte_and_a_page_of_6_megabytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10 tasks, 6 algorithms, 5 seeds, 21 evaluations of 16 episodes."""
    monkeypatch.setattr(test_report, "STEPS", 2000)
    rng = np.random.default_rng(0)
    for task, label, seed in product([f"mamujoco/Ant-{k}" for k in range(10)], SIX, range(5)):
        returns = tuple(1000 * rng.random(21).cumsum())
        write_trial(tmp_path / "demo", label, seed, task=task, returns=returns, episodes=16)
    start = time.monotonic()
    subprocess.run([sys.executable, "-m", "bench.report", str(tmp_path / "demo")], check=True, capture_output=True)
    assert time.monotonic() - start < 20
    unit = 1 if sys.platform == "darwin" else 1024
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit < 1024 * MEGABYTE
    assert (tmp_path / "demo" / "report.html").stat().st_size < 6 * MEGABYTE
