"""The processes that trials run in."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench.runner import process
from bench.runner.process import Died, Limits, call

ROOT = Path(__file__).parents[3]
SCRIPT = """
import os
from bench.runner.process import Limits, call

def found(link):
    return os.environ.get("MALLOC_TRIM_THRESHOLD_")

if __name__ == "__main__":
    print(call(found, limits=Limits(60), say=print))
"""


@pytest.mark.long
def test_memory_of_trials_is_kept_on_workers_of_dask_too(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "65536", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(tmp_path / "script.py")]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"


@pytest.mark.parametrize("error", [EOFError(), BrokenPipeError(32, "Broken pipe"), BlockingIOError(11, "no processes")])
def test_a_process_that_cannot_be_started_is_said(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `start` raises where the fork server cannot fork, or its process dies before it has read what to do."""

    class Unstartable:
        def start(self) -> None:
            raise error

    monkeypatch.setattr(process._context, "Process", lambda **_: Unstartable())
    opened = []
    for _ in range(2):  # the first call opens files that stay
        with pytest.raises(Died, match=f"its process cannot be started: {type(error).__name__}"):
            call(abs, -1, limits=Limits(60), say=print)
        opened.append(open_files())
    assert opened[0] == opened[1]


@pytest.mark.parametrize("part", ["Pipe", "RawValue"])
def test_a_process_for_which_no_more_files_may_be_open_is_said(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_many(*_: Any, **__: Any) -> Any:
        raise OSError(24, "Too many open files")

    before = open_files()
    monkeypatch.setattr(process._context, part, too_many)
    with pytest.raises(Died, match=r"its process cannot be started: OSError: .* Too many open files"):
        call(abs, -1, limits=Limits(60), say=print)
    assert open_files() == before


def test_a_process_whose_memory_cannot_be_looked_at_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_many(pid: int) -> Any:
        raise OSError(24, "Too many open files", f"/proc/{pid}/stat")

    monkeypatch.setattr(psutil, "Process", too_many)
    assert process._memory(os.getpid()) == 0


def open_files() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def test_a_process_that_dies_amid_a_message_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = multiprocessing.Pipe(duplex=False)
    os.write(theirs.fileno(), (1000).to_bytes(4, "big") + b"the beginning")
    theirs.close()

    silent, held = multiprocessing.Pipe(duplex=False)

    class Ended:
        sentinel, pid, exitcode = silent, os.getpid(), -9

        def join(self, timeout: float) -> None:
            pass

    beats: Any = type("Beats", (), {"value": 0})()
    with pytest.raises(Died, match="its process was ended by SIGKILL"):
        process._watch(Ended(), ours, beats, Limits(60), {}, multiprocessing.Event())
    for end in (ours, silent, held):
        end.close()


def test_who_says_what_it_does_is_alive() -> None:
    ours, theirs = multiprocessing.Pipe(duplex=False)
    beats: Any = type("Beats", (), {"value": 0})()
    process._PipeLink(theirs, beats).at("reading 10,000 trials")
    assert beats.value == 1
    ours.close()
    theirs.close()
