"""What the commands share: exit statuses, Ctrl-C, closed output, a full disk, integer arguments, plurals."""

from __future__ import annotations

import os
import signal
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable, Sequence
from functools import wraps
from types import FrameType
from typing import NoReturn

BAD_INPUT, INTERRUPTED, UNREAD = 2, 130, 141
"""Exit statuses; the last two are those of programs that SIGINT and SIGPIPE end."""
MOST = 1024
"""So many jobs or threads may be asked for."""


def begin() -> None:
    """Before the imports that take seconds: until `main` begins, Ctrl-C ends the process with one line.

    An exception amid imports would show their traceback, and some of them take it for a failure of their own.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else the caller wants it ignored
        signal.signal(signal.SIGINT, _quit)


def _quit(number: int, frame: FrameType | None) -> NoReturn:
    os.write(2, b"Stopped.\n")
    os._exit(INTERRUPTED)


def entry(main: Callable[[Sequence[str] | None], int]) -> Callable[..., int]:
    """`main` with one line where an exception of the outside world would end it, and its output written out."""

    @wraps(main)
    def guarded(arguments: Sequence[str] | None = None) -> int:
        if signal.getsignal(signal.SIGINT) is _quit:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            try:
                return main(arguments)
            finally:
                _write_out()
        except KeyboardInterrupt:
            print("Stopped.", file=sys.stderr)
            return INTERRUPTED
        except OSError as error:
            return _failed(error)

    return guarded


def _write_out() -> None:
    print(end="", flush=True)  # unlike sys.stdout.flush() nothing where there is no output


def _failed(error: OSError) -> int:
    """Say what could not be read or written; the status to end with."""
    try:
        _write_out()  # mostly fails again where it was the output, and would at the interpreter's end
    except OSError as failure:
        mute(failure)
        return UNREAD if isinstance(failure, BrokenPipeError) else BAD_INPUT
    if isinstance(error, BrokenPipeError):
        return UNREAD
    print(f"{error.filename}: {error.strerror}" if error.filename else error, file=sys.stderr)
    return BAD_INPUT


def mute(failure: OSError) -> None:
    """After a failure to print: what is printed from now on goes nowhere. Says why, unless nobody reads it any more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not isinstance(failure, BrokenPipeError):
        print(f"standard output: {failure.strerror}", file=sys.stderr)


def up_to(most: int) -> Callable[[str], int]:
    """The type of an argument that is a count from 1 to `most`."""

    def count(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 20 and 1 <= int(text) <= most):
            raise ArgumentTypeError(f"{text!r} is not a whole number from 1 to {most}")
        return int(text)

    return count


positive = up_to(MOST)
"""The type of a number of jobs, threads, seeds or trials on a command line."""


def counted(number: int, noun: str) -> str:
    """ "1 trial" or "2 trials"."""
    return f"{number} {noun}{'s' * (number != 1)}"
