"""Fixtures that test files share."""

from __future__ import annotations

import itertools
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.report import plots
from bench.runner import attempt, preparing, process, threads
from bench.runner.cost import Cost
from bench.suite.trial import Trial
from bench.trial.link import Link
from bench.tune import pool as tuning_pool


@pytest.fixture(scope="module")
def sigterm_as_before() -> Iterator[None]:
    """main() says what SIGTERM and SIGHUP do; other tests should not meet it."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True, scope="session")
def ctrl_c_is_heard() -> None:
    """A shell ignores SIGINT on behalf of what it runs in the background, and commands take that for their own."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def one_job_runs_in_this_process() -> Iterator[None]:
    """What commands do in processes of their own happens here with one job, so that tests can patch it."""
    own_process = process.call

    def call(function: Callable[..., Any], *arguments: Any, **how: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            return own_process(function, *arguments, **how)
        return function(*arguments, link=Link())

    with pytest.MonkeyPatch.context() as patch:
        for module in (attempt, preparing, tuning_pool):
            patch.setattr(module, "call", call)
        yield


@pytest.fixture(autouse=True, scope="session")
def disks_are_not_waited_for() -> Iterator[None]:
    """Files survive a kill without it, and no test cuts the power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


@pytest.fixture(autouse=True, scope="session")
def processes_have_what_tests_import() -> None:
    """What tests hand to processes of their own stands in test files, whose imports take a second and a half."""
    process._context.set_forkserver_preload(["bench.report.__main__", "bench.tune.__main__", process.PRELOADED])


@pytest.fixture(scope="module")
def costs_are_known() -> Iterator[None]:
    """Nothing is measured before a run in this process: a trial is said to take a second and one GB."""

    def costs(trials: Iterable[Trial], env_threads: int, link: Link | None) -> dict[Trial, Cost]:
        return dict.fromkeys(trials, Cost(1.0, 1e9, 1.0, 1.0))

    with pytest.MonkeyPatch.context() as patch:
        for module in (preparing, threads):
            patch.setattr(module, "costs", costs)
        yield


@pytest.fixture
def few_open_files() -> Iterator[None]:
    """Meanwhile twenty files more than now may be open, whose numbers are the lowest that are free."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = {*map(int, os.listdir("/dev/fd"))}
    free = (number for number in itertools.count() if number not in used)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next(itertools.islice(free, 20, None)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def all_figure_files() -> None:
    """For a test that looks at the files of figures."""


@pytest.fixture(autouse=True)
def figure_files_hold_a_word(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """They take most of the time of a report: without `all_figure_files` only the figures of the page are rendered."""
    if "all_figure_files" not in request.fixturenames:
        monkeypatch.setattr(
            plots,
            "all_formats",
            lambda name, figure: {f"{name}.{kind}": kind.encode() for kind in ("svg", "png", "pdf")},
        )


@pytest.fixture(scope="session")
def tiny_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny study, run with one job and without interruption; nobody writes into it."""
    from test_tune import main  # imports much that only this needs

    folder = tmp_path_factory.mktemp("tiny_study")
    assert main(folder) == 0
    return folder / "tiny"
