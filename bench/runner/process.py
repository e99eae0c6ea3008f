"""Work in a process of its own: whatever becomes of it, the command and all other work go on.

Processes are forked from a server that has imported torch and the benchmark and has run nothing, so that one starts in
some hundredths of a second and inherits no threads.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import Any, NoReturn, Protocol

import psutil

from bench.envs.errors import error_line, error_line_with_place
from bench.trial.link import Link, Progress
from bench.trial.worker import Stopped

POLL_SECONDS = 0.5
GRACE_SECONDS = 5.0
"""Time that a process has to close its environments before it is killed."""
TRIM = "MALLOC_TRIM_THRESHOLD_"
"""Dask sets it for its workers: glibc then returns the memory of every update, and trials take 2 to 5 times as long."""
_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
_context: Any = multiprocessing.get_context(_METHOD)
PRELOADED = "bench.runner.preloaded"
_context.set_forkserver_preload([PRELOADED])


class Died(Exception):
    """A process ended, or had to be ended, without a result; the message says why."""

    def __init__(self, reason: str, doing: str):
        super().__init__(reason, doing)
        self.reason, self.doing = reason, doing

    def __str__(self) -> str:
        return f"{self.doing}: {self.reason}" if self.doing else self.reason


class Stop(Protocol):
    """Whether work is to end where it is."""

    def is_set(self) -> bool: ...


@dataclass(frozen=True)
class Limits:
    """Beyond which a process is ended."""

    stall: float
    """Seconds without a step of its environments."""
    memory: float = float("inf")
    """Bytes of resident memory."""


def call(
    function: Callable[..., Any],
    *arguments: Any,
    limits: Limits,
    say: Callable[[str], None],
    progress: Callable[[Progress], None] = lambda _: None,
    stop: Stop | None = None,
) -> Any:
    """`function(*arguments, link=...)` in a process of its own.

    What it says through its `link` goes to `say` and `progress`. Raises Died if it gives no result, and Stopped if
    `stop` was set and the process has been ended.
    """
    process, ours, beats = _started(pickle.dumps((function, arguments)))
    try:
        result = _watch(process, ours, beats, limits, {"line": say, "progress": progress}, stop or threading.Event())
        process.join(GRACE_SECONDS)
        return result
    finally:
        _end(process)
        ours.close()


def _started(work: bytes) -> tuple[Any, Connection, Any]:
    """A process that does this work, the pipe on which it is heard, and the count of its beats; raises Died."""
    # A worker of Dask is a daemon, which may have no children because they would outlive it. Ours follow it.
    multiprocessing.current_process()._config.pop("daemon", None)  # type: ignore[attr-defined]
    os.environ.pop(TRIM, None)
    try:
        with ExitStack() as unless_started:
            ours, theirs = _context.Pipe(duplex=False)
            unless_started.enter_context(ours)
            with theirs:
                beats = _context.RawValue(ctypes.c_uint64)
                process = _context.Process(target=_serve, args=(theirs, beats, work))
                process.start()
            unless_started.pop_all()
    except (OSError, EOFError) as error:  # too many open files; no fork; or what was forked dies before it begins
        raise Died(f"its process cannot be started: {error_line(error)}", "") from error
    return process, ours, beats


def _watch(
    process: Any,
    pipe: Connection,
    beats: Any,
    limits: Limits,
    hear: Mapping[str, Callable[[Any], None]],
    stop: Stop,
) -> Any:
    """Wait for the result of a process, as long as it keeps within its limits."""
    last, since, doing = -1, time.monotonic(), ""
    while not stop.is_set():
        ready = wait([pipe, process.sentinel], POLL_SECONDS)
        if pipe in ready:
            try:
                kind, content = pipe.recv()
            except (EOFError, OSError):  # OSError: it was killed amid a message
                raise Died(_ending(process), doing) from None
            if kind == "result":
                return content
            if kind == "error":
                raise Died(content, doing)
            if kind == "at":
                doing = content
            else:
                hear[kind](content)
        elif ready:
            raise Died(_ending(process), doing)
        if beats.value != last:
            last, since = beats.value, time.monotonic()
        elif time.monotonic() - since > limits.stall:
            raise Died(f"made no step for {limits.stall:.0f} s", doing)
        if (used := _memory(process.pid)) > limits.memory:
            raise Died(f"took {used / 1e9:.1f} GB of memory, over {limits.memory / 1e9:.1f} GB", doing)
    raise Stopped


def _memory(pid: int) -> int:
    """Resident bytes of a process; 0 for one that has ended, or cannot be looked at for lack of open files."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except (psutil.Error, OSError):
        return 0


def _ending(process: Any) -> str:
    """How a process ended that gave no result."""
    process.join(GRACE_SECONDS)
    code = process.exitcode
    if code is not None and code < 0:
        why = " (killed, or out of memory?)" if code == -signal.SIGKILL else ""
        return f"its process was ended by {_signal_name(-code)}{why}"
    return f"its process ended with status {code}"


def _signal_name(number: int) -> str:
    """SIGSEGV, or "signal 40": most real-time signals have no name."""
    return signal.Signals(number).name if number in [*signal.Signals] else f"signal {number}"


def _end(process: Any) -> None:
    """See that a process is gone: give it time to close its environments, then kill it."""
    if process.exitcode is None:
        process.terminate()
        process.join(GRACE_SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()


class _PipeLink(Link):
    """The way from such a process to the one that started it."""

    def __init__(self, pipe: Connection, beats: Any):
        self._pipe, self._beats = pipe, beats

    def beat(self) -> None:
        self._beats.value += 1

    def at(self, doing: str) -> None:
        self.beat()
        self._pipe.send(("at", doing))

    def progress(self, progress: Progress) -> None:
        self._pipe.send(("progress", progress))

    def say(self, line: str) -> None:
        self._pipe.send(("line", line))


def _serve(pipe: Connection, beats: Any, work: bytes) -> None:
    """In the process: call the function and send its result, or what it raised."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command, which ends us with SIGTERM
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):  # Slurm sends its warning to every process of a job
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    threading.Thread(target=_follow_parent, daemon=True).start()
    link = _PipeLink(pipe, beats)
    link.beat()
    try:
        function, arguments = pickle.loads(work)
        answer = ("result", function(*arguments, link=link))
    except Stopped:
        return
    except BaseException as error:  # the code of an environment may raise anything
        answer = ("error", error_line_with_place(error))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what is left takes no time
    pipe.send(answer)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Stopped


def _follow_parent() -> None:
    """End this process when the one that started it has ended, however that ended."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(1)
