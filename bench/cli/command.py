"""What the commands share: exit statuses, one-line messages, Ctrl-C, closed output, a full disk, counts, lists."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
import threading
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import wraps
from types import FrameType
from typing import Any, NoReturn

BAD_INPUT, INTERRUPTED, UNREAD = 2, 130, 141
"""Exit statuses; the last two are those of programs that SIGINT and SIGPIPE end."""
MOST = 1024
"""So many jobs or threads may be asked for."""
LONGEST = 300
"""Characters of a message."""
LONGEST_WORDS = (100, 60)
"""Characters of each word of a message that would be longer; the second where it becomes short enough by that."""


def one_line(text: object) -> str:
    """`text` as one printable line of at most LONGEST characters.

    Whatever would steer a terminal is shown as its escape. What is too long, words before the whole, is cut in the
    middle: what a message begins with (the file, the key) and what it ends with (the valid values) stay.
    """
    line = " ".join(_printable(part.strip()) for part in str(text).splitlines())
    shorter = [" ".join(_short(word, most) for word in line.split(" ")) for most in LONGEST_WORDS]
    return next((tried for tried in (line, *shorter) if len(tried) <= LONGEST), _without_middle(shorter[0]))


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _short(word: str, most: int) -> str:
    tail = most // 3
    return word if len(word) <= most else f"{word[: most - tail - 3]}...{word[-tail:]}"


def _without_middle(line: str) -> str:
    """The first two thirds of LONGEST and the last third, of whole words."""
    tail = LONGEST // 3
    return f"{line[: LONGEST - tail - 5].rpartition(' ')[0]} ... {line[-tail:].partition(' ')[2]}"


def end_as_after_ctrl_c() -> None:
    """Let SIGTERM, and SIGHUP of a terminal that is closed, act as Ctrl-C; not SIGHUP under nohup, which ignores it."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


def say(line: str) -> None:
    """A line on stderr."""
    print(line, file=sys.stderr)


def refused(error: object) -> int:
    """Say in one line on stderr why something is not done; the status to end with."""
    say(one_line(error))
    return BAD_INPUT


class Parser(ArgumentParser):
    """argparse without abbreviations, which says what is wrong in one line."""

    def __init__(self, **options: Any):
        super().__init__(allow_abbrev=False, **options)

    def parse_args(self, *arguments: Any, **options: Any) -> Any:
        """As argparse does; where a shell asks how a line may go on, answer it and end (with argcomplete installed)."""
        if "_ARGCOMPLETE" in os.environ:
            with suppress(ImportError):
                import argcomplete

                argcomplete.autocomplete(self)
        return super().parse_args(*arguments, **options)

    def error(self, message: str) -> NoReturn:
        """End with status 2 and one line on stderr."""
        self.exit(refused(f"{self.prog}: {message}; --help shows what is valid"))


_importing = threading.Event()
"""Between `begin` and `main`."""


def begin() -> None:
    """Before the imports that take seconds: until `main` begins, Ctrl-C ends the process with one line.

    An exception amid imports would show their traceback, and some of them take it for a failure of their own. What is
    imported stays for good, so no garbage is looked for in it, now or at the end: that takes longer than some commands.
    """
    _importing.set()
    gc.disable()
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
        if _importing.is_set():
            _importing.clear()
            gc.freeze()
            gc.enable()
        if isinstance(sys.stdout, io.TextIOWrapper):  # a folder's name need not be text, nor a terminal show all text
            sys.stdout.reconfigure(errors="backslashreplace")
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
    return refused(f"{error.filename}: {error.strerror}" if error.filename else error)


def mute(failure: OSError) -> None:
    """After a failure to print: what is printed from now on goes nowhere. Says why, unless nobody reads it any more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not isinstance(failure, BrokenPipeError):
        print(f"standard output: {failure.strerror}", file=sys.stderr)


def up_to(most: int, least: int = 1) -> Callable[[str], int]:
    """The type of an argument that is a whole number from `least`, 0 or 1, to `most`."""

    def count(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
            raise ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return count


def between(least: float, most: float) -> Callable[[str], float]:
    """The type of an argument that is a number from `least` to `most`."""

    def number(text: str) -> float:
        with suppress(ValueError):
            if least <= float(text) <= most:
                return float(text)
        raise ArgumentTypeError(f"{text!r} is not a number from {least:g} to {most:g}")

    return number


positive = up_to(MOST)
"""The type of a number of jobs, threads, seeds or trials on a command line."""


def counted(number: int, noun: str) -> str:
    """ "1 trial" or "2 trials"."""
    return f"{number} {noun}{'s' * (number != 1)}"


def enumerated(words: Sequence[str]) -> str:
    """ "a", "a and b" or "a, b and c"."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def first_of(words: Sequence[str], most: int = 3, between: str = ", ") -> str:
    """ "a, b, c and 2 more": the first `most` words, and how many more there are."""
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return between.join(words[:most]) + more
