"""Errors of environments, of memory, and what code of the user's own raised in one line."""

from __future__ import annotations

import os
import sysconfig
import traceback
from pathlib import Path

NOT_THEIRS = (
    *(str(Path(__file__).parents[2] / folder) + os.sep for folder in ("algorithms", "bench")),
    *{sysconfig.get_path(scheme) + os.sep for scheme in ("stdlib", "purelib", "platlib")},
    "<",
)
"""How files begin that hold none of the user's code: ours, Python's, installed packages."""


class EnvError(RuntimeError):
    """An environment that violates the ParallelEnv API; the message says which, and how."""


def error_line(error: BaseException) -> str:
    """An exception in one line."""
    try:
        text = str(error)
    except Exception as second:  # of a class of the user's
        text = f"(its message raised {type(second).__name__})"
    name = type(error).__name__
    return " ".join(f"{name}: {text}".split()) if text else name


def error_line_with_place(error: BaseException) -> str:
    """An exception in one line, with the innermost place in the user's code, or in any where none of it is."""
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    theirs = [place for place in places if not place[0].startswith(NOT_THEIRS)]
    return error_line(error) + "".join(f" ({file}:{line})" for file, line in (theirs or places)[-1:])


def lacks_memory(error: BaseException) -> bool:
    """Whether an error means too little memory, for which torch has no exception type."""
    words = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and ("not enough memory" in words or "can't allocate" in words)
    )
