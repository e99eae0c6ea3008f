"""Closing environments, which may hold simulators, windows and files."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

from bench.envs.errors import error_line_with_place


def close(environment: Any) -> None:
    """Close an environment. What that raises is told on stderr and hinders nothing: the numbers are there already."""
    try:
        getattr(environment, "close", str)()  # what is no ParallelEnv may have none
    except (Exception, SystemExit) as error:
        _tell_once(f"{type(environment).__name__}: close raised {error_line_with_place(error)}")


@cache
def _tell_once(line: str) -> None:
    """The copies of an environment fail alike, in every evaluation anew."""
    print(line, file=sys.stderr, flush=True)
