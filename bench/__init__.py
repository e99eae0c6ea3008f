"""How the algorithms are compared: tasks, suites, trials, records, reports.

From Python: `bench.train`, `bench.load_team` and `bench.read`. Each is imported when it is first used, so that a report
needs neither torch nor environments.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.api import load_team, train
    from bench.store.results import read

__all__ = ["load_team", "read", "train"]

_MODULES = {"load_team": "bench.api", "read": "bench.store.results", "train": "bench.api"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'bench' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
