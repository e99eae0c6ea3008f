"""The processes that trials run in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
SCRIPT = """
import os
from bench.runner.process import Limits, call

def found(link):
    return os.environ.get("MALLOC_TRIM_THRESHOLD_")

if __name__ == "__main__":
    print(call(found, limits=Limits(60), say=print))
"""


def test_memory_of_trials_is_kept_on_workers_of_dask_too(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "65536", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(tmp_path / "script.py")]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"
