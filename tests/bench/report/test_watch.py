"""`bench.report --watch`: a page that follows the trials."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from test_report import write_trial

from bench.report import watch
from bench.report.__main__ import main

REFRESH = re.compile(r'data-refresh="\d+"')


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("demo")


def between_polls(monkeypatch: pytest.MonkeyPatch, *steps: Callable[[], object]) -> None:
    """What happens while the command sleeps; then Ctrl-C."""
    waiting = iter(steps)

    def sleep(seconds: float) -> None:
        step = next(waiting, None)
        if step is None:
            raise KeyboardInterrupt
        step()

    monkeypatch.setattr(time, "sleep", sleep)


def page(suite: Path) -> str:
    return (suite / "report.html").read_text()


def test_the_page_is_written_again_when_a_trial_advances_and_ends_without_refresh(
    suite: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_trial(suite, seed=0)
    seen = []
    between_polls(
        monkeypatch,
        lambda: seen.append(page(suite)),
        lambda: write_trial(suite, seed=1, returns=(0.0, 1.0), final=None, absolute=None, status="running"),
        lambda: seen.append(page(suite)),
    )
    assert main(["--watch", str(suite)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in lines] == [
        "demo/report.html: 1 of 1 trial done",
        "demo/report.html: 1 of 2 trials done",
        "demo/report.html: 1 of 2 trials done",
    ]
    assert [bool(REFRESH.search(text)) for text in [*seen, page(suite)]] == [True, True, False]
    assert 'http-equiv="refresh"' in seen[0]
    assert 'http-equiv="refresh"' not in page(suite)


def test_a_page_without_watching_has_no_refresh_and_is_that_of_a_watch_that_ended(
    suite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_trial(suite)
    assert main([str(suite)]) == 0
    once = page(suite)
    between_polls(monkeypatch)
    assert main(["--watch", str(suite)]) == 0
    assert page(suite) == once


def test_nothing_is_written_while_nothing_advances(
    suite: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_trial(suite)
    between_polls(monkeypatch, lambda: None, lambda: None, lambda: None)
    assert main(["--watch", str(suite)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_suite_without_records_is_waited_for(
    suite: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_trial(suite, returns=(), status="running")
    between_polls(monkeypatch, lambda: None, lambda: write_trial(suite))
    assert main(["--watch", str(suite)]) == 0
    first, *others = capsys.readouterr().out.splitlines()
    assert "no records yet" in first
    assert [line.endswith("1 of 1 trial done") for line in others] == [True, True]


def test_a_suite_that_cannot_be_reported_on_in_the_end_is_refused(
    suite: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    between_polls(monkeypatch)
    assert main(["--watch", str(suite)]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_one_that_cannot_be_reported_on_in_the_end_keeps_no_other_from_its_last_page(
    suite: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_trial(suite)
    between_polls(monkeypatch)
    assert main(["--watch", "no", str(suite), "none"]) == 2
    assert not REFRESH.search(page(suite))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("bench.report: no: no such folder")
    assert "; none: no such folder" in line


def test_what_the_report_writes_itself_is_no_advance(suite: Path) -> None:
    write_trial(suite)
    before = watch.modified(suite)
    assert main([str(suite)]) == 0
    assert watch.modified(suite) == before
    (trial,) = suite.glob("trials/*/*/*/trial.json")
    os.utime(trial, ns=(1, 1))
    assert watch.modified(suite) != before


@pytest.mark.parametrize("option", ["--claims", "--strict-fair", "--tensorboard"])
def test_watching_with_an_option_that_it_would_not_heed_is_refused(
    option: str, suite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--watch", option, str(suite)])
    assert "--watch goes with no other option" in capsys.readouterr().err
