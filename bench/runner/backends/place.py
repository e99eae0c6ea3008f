"""What must be equal wherever trials of one run are computed, and how workers find out."""

from __future__ import annotations

import hashlib
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import algorithms
from bench.store import files
from bench.store.provenance import commit_in_words, provenance
from bench.store.remote import Remote
from bench.store.resolved import NAME


def here(results: Path | Remote) -> dict[str, Any]:
    """Versions, the commit, and which results lie at `results`, as this process finds them.

    A worker that does not share the folder of results would train into one of its own.
    """
    return {
        "Python": platform.python_version(),
        "torch": metadata.version("torch").partition("+")[0],
        "MuJoCo": metadata.version("mujoco"),
        "NUMERICS": algorithms.NUMERICS,
        "commit": commit_in_words(provenance()),
        "results": _checksum(results),
    }


def _checksum(results: Path | Remote) -> str:
    """Of what the suite was resolved to."""
    if isinstance(results, Remote):
        found = results.read(NAME)
        return hashlib.sha256(found.content).hexdigest()[:12] if found else "not there"
    try:
        return files.sha256(results / NAME)[:12]
    except OSError:
        return "not there"


def differences(own: dict[str, Any], theirs: dict[str, Any]) -> str:
    """What a worker has that differs, with both values; empty where nothing does."""
    return "; ".join(
        f"{key} {theirs.get(key)} there, {value} here" for key, value in own.items() if theirs.get(key) != value
    )
