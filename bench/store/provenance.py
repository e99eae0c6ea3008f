"""Where a result comes from: commit, versions, machine."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

LIBRARIES = ("torch", "mujoco", "gymnasium", "gymnasium-robotics", "pettingzoo", "mpe2", "numpy", "pandas", "joblib")

CODE = (":/", ":(top,exclude)results")
"""What git is asked about: a run that goes on in a published folder changes its tables itself."""


@cache
def mujoco_version() -> str:
    """The version whose physics a trial ran on: part of the trial's identity."""
    return metadata.version("mujoco")


@cache
def provenance() -> dict[str, Any]:
    """The commit (and whether files other than results differed), the versions of what computes, and the machine."""
    commit = _git("rev-parse", "HEAD") if _is_checkout() else None
    return {
        "commit": commit or "unknown",
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no", "--", *CODE)) if commit else None,
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in LIBRARIES}},
        "machine": {"cpu": _cpu(), "cores": os.cpu_count(), "system": platform.platform()},
    }


def commit_in_words(provenance: Mapping[str, Any], digits: int = 40) -> str:
    """The commit, and whether files differed from it: "1a2b3c4d with uncommitted changes"."""
    changed = " with uncommitted changes" if provenance.get("dirty") else ""
    return str(provenance.get("commit") or "unknown")[:digits] + changed


def matrix_products(library: str) -> str:
    """Which library multiplies matrices on which processor, for people: the last bits of results depend on it."""
    name = {"onednn": "oneDNN", "torch": "PyTorch's own choice"}[library]
    return f"matrix products by {name} ({_cpu()})"


def _is_checkout() -> bool:
    """Whether this file lies in a checkout of the benchmark, and not in an environment inside another project's."""
    root = _git("rev-parse", "--show-toplevel")
    return root is not None and Path(root).resolve() == Path(__file__).resolve().parents[2]


def _git(*arguments: str) -> str | None:
    """What git says of the folder that this file lies in; None where there is no git or no checkout."""
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _cpu() -> str:
    """The processor's name: platform.processor() is empty or an architecture on Linux."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
