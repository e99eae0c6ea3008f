"""How every command ends when someone stops it, stops reading it, or leaves it no room to write."""

from __future__ import annotations

import errno
import gc
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import pytest
import yaml

from bench import golden, run
from bench.cli import command
from bench.cli.display import clock
from bench.report import __main__ as report
from bench.runner.monitor import Monitor
from bench.speed import __main__ as speed
from bench.suite.resolving import load, trials
from bench.suite.trial import Trial
from bench.tasks import __main__ as tasks_main
from bench.trial.worker import Outcome

MAINS = {"tasks": tasks_main.main, "golden": golden.main, "report": report.main, "run": run.main, "speed": speed.main}
FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no device that is always full")


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C as on a terminal, for this process and its children, even where pytest was started with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        gc.unfreeze()
        gc.enable()


def unread() -> TextIO:
    """A pipe whose reader is gone."""
    reading, writing = os.pipe()
    os.close(reading)
    return os.fdopen(writing, "w")


def saying(*lines: str) -> Callable[..., int]:
    """A command that prints these lines."""

    @command.entry
    def main(arguments: object = None) -> int:
        for line in lines:
            print(line)
        return 0

    return main


# Ctrl-C


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
@pytest.mark.parametrize("name", MAINS)
def test_ctrl_c_amid_the_imports_is_one_line_and_130(name: str) -> None:
    with interruptible():
        process = subprocess.Popen(
            [sys.executable, "-X", "importtime", "-m", f"bench.{name}", "--help"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert process.stderr is not None
    for line in process.stderr:  # the first module of numpy is there, most imports are still to come
        if "numpy" in line:
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert [line for line in err.splitlines() if not line.startswith("import time:")] == ["Stopped."]
    assert (out, process.returncode) == ("", 130)


def test_ctrl_c_in_a_command_is_one_line_and_130(capsys: pytest.CaptureFixture[str]) -> None:
    @command.entry
    def main(arguments: object = None) -> int:
        raise KeyboardInterrupt

    assert main() == 130
    assert capsys.readouterr().err == "Stopped.\n"


def test_a_command_that_begins_raises_keyboard_interrupt_again() -> None:
    with interruptible():
        command.begin()
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        saying()()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_command_looks_for_no_garbage_in_what_it_imports() -> None:
    with interruptible():
        before = gc.get_freeze_count()
        command.begin()
        assert not gc.isenabled()
        saying()()
        assert gc.isenabled()
        assert gc.get_freeze_count() > before + 100_000


def test_a_caller_who_wants_no_garbage_collection_has_none() -> None:
    with interruptible():
        gc.disable()
        saying()()
        assert not gc.isenabled()


def test_ctrl_c_stays_ignored_where_the_caller_wants_that() -> None:
    with interruptible():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        command.begin()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


# Output that goes nowhere


@pytest.mark.parametrize("name", MAINS)
def test_a_command_that_nobody_reads_ends_quietly(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with unread() as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert MAINS[name](["--help"]) == 141
    assert capsys.readouterr().err == ""


@needs_full
@pytest.mark.parametrize("name", MAINS)
def test_a_command_whose_output_is_full_says_so_in_one_line(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with FULL.open("w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert MAINS[name](["--help"]) == 2
    assert capsys.readouterr().err == "standard output: No space left on device\n"


@needs_full
def test_the_interpreter_has_nothing_to_add_at_its_end() -> None:
    with FULL.open("w") as full, unread() as out:
        for stdout, status, line in ((full, 2, "standard output: No space left on device\n"), (out, 141, "")):
            done = subprocess.run(
                [sys.executable, "-m", "bench.tasks"], stdout=stdout, stderr=subprocess.PIPE, text=True
            )
            assert (done.returncode, done.stderr) == (status, line)


def test_what_was_printed_before_the_reader_left_is_no_error_of_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with unread() as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert saying("word " * 10_000, "more")() == 141  # more than a buffer holds: print itself fails
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "some/file"), "some/file: No space left on device\n"),
        (OSError(errno.EAGAIN, "Resource temporarily unavailable"), "[Errno 11] Resource temporarily unavailable\n"),
    ],
)
def test_another_error_of_the_system_is_one_line_too(
    error: OSError, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    @command.entry
    def main(arguments: object = None) -> int:
        print("so far so good")
        raise error

    assert main() == 2
    assert capsys.readouterr() == ("so far so good\n", line)


def test_what_cannot_be_encoded_is_printed_as_its_escape(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of a folder need not be UTF-8, nor a terminal show more than ASCII."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    assert saying("results/é\udcff")() == 0
    assert written.getvalue() == b"results/\\xe9\\udcff\n"


# Bad input in one line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a.yaml: steps: missing", "a.yaml: steps: missing"),
        ("two\n  lines\r\n", "two lines"),
        ("a  b", "a  b"),  # as a file may be called
        ("\x1b[31mred\x07\x00", "\\x1b[31mred\\x07\\x00"),
        ("\udcff \u202e \t", "\\udcff \\u202e"),
        ("é 😀", "é 😀"),
        ("x" * 300, "x" * 300),
        ("key: " + "x" * 296 + "; valid: 1", "key: " + "x" * 64 + "..." + "x" * 32 + "; valid: 1"),
    ],
)
def test_a_message_is_one_printable_line(text: str, line: str) -> None:
    assert command.one_line(text) == line


def test_a_long_message_keeps_its_beginning_and_its_end_in_whole_words() -> None:
    line = command.one_line("a.yaml: key: " + "word " * 10_000 + "is not valid; valid: 1, 2")
    assert line.startswith("a.yaml: key: word word")
    assert line.endswith("word is not valid; valid: 1, 2")
    assert " word ... word " in line
    assert 280 < len(line) <= 300


def test_long_words_are_cut_before_the_message_is() -> None:
    path = "/very/long/" + "folder/" * 12 + "suite.yaml"
    line = command.one_line(f"{path}: holds trials of {path}; bring back {path}, or delete what is in {path}")
    assert line.count("/very/long/") == 4
    assert " ... " not in line
    assert command.one_line(line) == line


def test_a_wrong_argument_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    parser = command.Parser(prog="python -m bench.x")
    parser.add_argument("--jobs", type=command.positive)
    for arguments, said in ((["--jobs", "9" * 5000], "argument --jobs: '999"), (["--job", "1"], "unrecognized")):
        with pytest.raises(SystemExit) as stopped:
            parser.parse_args(arguments)
        line = capsys.readouterr().err
        assert stopped.value.code == 2
        assert line.startswith(f"python -m bench.x: {said}")
        assert line.endswith("; --help shows what is valid\n")
        assert line.count("\n") == 1
        assert len(line) <= 301


# Trials go on when nobody reads what is said of them


def one_trial(folder: Path) -> Trial:
    suite = {
        "name": "one",
        "steps": 100,
        "seeds": 1,
        "evaluate": {"every": 100, "episodes": 1},
        "tasks": ["mamujoco/Hopper-3x1"],
        "algorithms": {"happo": {"envs": 2, "rollout_length": 50}},
    }
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump(suite))
    return trials(load(path)[0], path)[0]


def test_the_monitor_goes_on_without_a_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = one_trial(tmp_path)
    with unread() as out:
        monkeypatch.setattr(sys, "stdout", out)
        with Monitor([trial], [1.0], 1) as monitor:
            monitor.ended(Outcome(trial, "done", "", 1.0, 5.0))
            monitor.ended(Outcome(trial, "done", "", 1.0, 5.0))
    assert capsys.readouterr().err == ""


@needs_full
def test_the_monitor_goes_on_on_a_full_disk_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = one_trial(tmp_path)
    with FULL.open("w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        with Monitor([trial], [1.0], 1) as monitor:
            monitor.ended(Outcome(trial, "done", "", 1.0, 5.0))
            monitor.ended(Outcome(trial, "done", "", 1.0, 5.0))
    assert capsys.readouterr().err == "standard output: No space left on device\n"


def test_the_monitor_prints_no_minus_zero(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trial = one_trial(tmp_path)
    with Monitor([trial], [1.0], 1) as monitor:
        monitor.ended(Outcome(trial, "done", "", 1.0, -0.3))
    assert "return 0 " in capsys.readouterr().out


# Words


@pytest.mark.parametrize(("number", "words"), [(0, "0 trials"), (1, "1 trial"), (2, "2 trials")])
def test_one_is_no_plural(number: int, words: str) -> None:
    assert command.counted(number, "trial") == words


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0:00:00"), (3_661, "1:01:01"), (172_799, "47:59:59"), (172_800, "2 d 0 h"), (1_000_000, "11 d 14 h")],
)
def test_times_from_two_days_on_are_in_days(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown
