"""Whatever a suite holds, it becomes a plan or one line: no traceback, no wait, no memory filled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
MEGABYTES = 500
"""Of the whole process, about 340 of them for what the command imports."""


def check(folder: Path, first: int, count: int) -> None:
    """Outcomes of as many cases, from that seed on; `mutants.case(seed, folder)` makes one again."""
    script = [sys.executable, str(Path(__file__).with_name("mutants.py")), str(first), str(count), str(folder)]
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        script, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, timeout=60 + 10 * count
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert (len(found), done.stderr) == (count, "")
    for case in found:
        line = case["err"]
        if case["status"] == 0:
            assert (bool(case["out"]), line) == (True, ""), case
        else:
            assert (case["status"], case["out"]) == (2, ""), case
            assert line.endswith("\n"), case
            assert line[:-1].isprintable(), case
            assert 0 < len(line[:-1]) <= 300, case
        assert case["megabytes"] < MEGABYTES, case
    assert {case["status"] for case in found} == {0, 2}


def test_twenty_suites_that_nobody_would_write_are_a_plan_or_one_line(tmp_path: Path) -> None:
    check(tmp_path, first=60, count=20)


@pytest.mark.long
def test_three_hundred_more_are_too(tmp_path: Path) -> None:
    check(tmp_path, first=80, count=300)
