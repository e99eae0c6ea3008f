"""Whole runs whose results lie in a store: on several machines, killed, and cut off from it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
import pandas as pd
import pytest
from engines import wait_until
from object_store import BUCKET, S3, SECRET, serving

from bench.api import read
from bench.report.__main__ import main as report
from bench.run import main
from bench.runner import pool
from bench.runner.attempt import Effort
from bench.runner.backends import Backend
from bench.runner.backends.local import Here
from bench.runner.cost import Cost
from bench.runner.monitor import Monitor
from bench.store.lease import take
from bench.store.remote import Remote, StoreGone
from bench.store.trials import of_earlier_budgets
from bench.suite.resolving import load, trials
from bench.suite.trial import Trial
from bench.trial import worker
from bench.trial.link import Link
from bench.trial.session import Session
from bench.trial.status import at_work
from bench.trial.worker import Outcome
from bench.verify import main as verify

pytestmark = pytest.mark.usefixtures("sigterm_as_before", "costs_are_known")
ROOT = Path(__file__).parents[3]
SUITE = """
name: tiny
steps: 1200
seeds: 1
evaluate: {every: 400, episodes: 2}
tasks: [games/driving]
algorithms: {ippo: , happo: }
defaults: {envs: 10, rollout_length: 4, gamma: 0.9, hidden_sizes: [8]}
"""
TIMES = ["seconds"]


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("suite") / "tiny.yaml"
    path.write_text(SUITE)
    return path


@pytest.fixture(scope="module")
def local(suite: Path, tmp_path_factory: pytest.TempPathFactory, sigterm_as_before: None) -> pd.DataFrame:
    """The records of an undisturbed run into a folder."""
    folder = tmp_path_factory.mktemp("local")
    assert main([str(suite), "--jobs", "1", "--results", str(folder)]) == 0
    return records(folder / "tiny")


def records(place: Path | str) -> pd.DataFrame:
    return read(place).records.drop(columns=TIMES)


def of_happo(local: pd.DataFrame) -> pd.DataFrame:
    return local[local["algorithm"] == "happo"].reset_index(drop=True)


def started(suite: Path, place: str, cache: Path, *more: str, into: Path = Path(os.devnull)) -> subprocess.Popen[str]:
    """A run on another machine, in a group of processes of its own, with all that it says in a file."""
    with into.open("w") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "bench.run", str(suite), "--results", place, *more],
            cwd=ROOT,
            env={**os.environ, "MARL_BENCH_CACHE": str(cache)},
            start_new_session=True,
            text=True,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def in_the_middle(process: subprocess.Popen[str], s3: S3, prefix: str) -> None:
    """Wait until the store has a checkpoint of a run."""
    wait_until(lambda: any(name.endswith("checkpoint.pt") for name in s3.objects(prefix)), process)


def killed_in_the_middle(process: subprocess.Popen[str], s3: S3, prefix: str) -> None:
    """SIGKILL for a run and all its processes, as soon as the store has a checkpoint of it."""
    try:
        in_the_middle(process, s3, prefix)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class Cut(Link):
    """A trial that loses its store after some steps."""

    def __init__(self, s3: S3):
        self.s3, self.left = s3, 30

    def beat(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.s3.stop()


class Robbed(Link):
    """A trial whose lease another machine takes over after some steps."""

    def __init__(self, place: Remote, trial: Trial):
        self.place, self.name, self.left = place, f"{trial.folder(Path()).as_posix()}/.lease", 30
        self.said: list[str] = []

    def beat(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.place.delete(self.name)
            assert take(self.place, self.name, "another machine")

    def say(self, line: str) -> None:
        self.said.append(line)


def test_a_trial_is_given_more_steps_on_another_machine(
    suite: Path, local: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [str(suite), "--jobs", "1", "--only", "algorithm=happo", "--results", f"file://{tmp_path}/store"]
    monkeypatch.setenv("MARL_BENCH_CACHE", str(tmp_path / "a"))
    assert main([*command, "--keep", "--set", "steps=800"]) == 0
    monkeypatch.setenv("MARL_BENCH_CACHE", str(tmp_path / "b"))
    assert main(command) == 0
    found = records(f"file://{tmp_path}/store/tiny")
    pd.testing.assert_frame_equal(found[~of_earlier_budgets(found)].reset_index(drop=True), of_happo(local))
    assert of_earlier_budgets(found).sum() == 40
    assert verify([f"file://{tmp_path}/store/tiny"]) == 0


def test_a_trial_that_was_taken_over_is_left_to_the_other_machine(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARL_BENCH_CACHE", str(tmp_path / "a"))
    place = Remote(f"file://{tmp_path}/store/tiny")
    trial = trials(load(suite)[0], suite)[0]
    link = Robbed(place, trial)
    assert worker.run(trial, place, link=link).status == "busy"
    assert len(link.said) == 1
    assert "another run took this over" in link.said[0]
    assert at_work(trial, place)
    assert list(read(str(place)).records["step"].unique()) == [0]  # what the store had before


def test_the_failure_that_a_store_has_names_no_folder_of_the_machine(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARL_BENCH_CACHE", str(tmp_path / "a"))
    place = Remote(f"file://{tmp_path}/store/tiny")
    trial = trials(load(suite)[0], suite)[0]

    def fail(self: Session) -> None:
        raise RuntimeError(f"{self.folder}: broken")

    monkeypatch.setattr(Session, "begin", fail)
    assert worker.run(trial, place).status == "failed"
    found = place.read(f"{trial.folder(Path()).as_posix()}/trial.json")
    assert found
    about = json.loads(found.content)
    assert about["error"].startswith(f"RuntimeError: {place}/trials/games_driving")
    assert 'File "bench/trial/worker.py"' in about["traceback"]
    assert str(tmp_path / "a") not in about["traceback"]
    assert str(ROOT) not in about["traceback"]


@pytest.mark.long
def test_a_run_that_was_killed_goes_on_on_another_machine(
    suite: Path, local: pd.DataFrame, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"s3://{BUCKET}/killed"
    killed_in_the_middle(started(suite, place, tmp_path / "a", "--jobs", "1", "--lease", "2"), s3, "killed/")
    monkeypatch.setenv("MARL_BENCH_CACHE", str(tmp_path / "b"))
    monkeypatch.chdir(tmp_path)
    assert main([str(suite), "--jobs", "1", "--results", place, "--lease", "2"]) == 0
    pd.testing.assert_frame_equal(records(f"{place}/tiny"), local)
    assert sorted(read(f"{place}/tiny").trials["attempts"]) == [1, 2]
    assert verify([f"{place}/tiny"]) == 0
    assert report([f"{place}/tiny"]) == 0
    assert (tmp_path / "results/tiny/report.html").exists()
    found = s3.objects("killed/")
    assert not any(name.endswith("checkpoint.pt") for name in found)
    for secret in (SECRET, str(tmp_path), str(ROOT), str(suite.parent), str(Path.home())):
        assert [name for name, content in found.items() if secret.encode() in content] == []


@pytest.mark.long
def test_a_run_that_loses_its_store_says_so_once_and_goes_on_when_it_is_back(
    suite: Path, local: pd.DataFrame, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, said = f"s3://{BUCKET}/dies", tmp_path / "said"
    options = ["--results", place, "--jobs", "1", "--lease", "2"]
    process = started(suite, place, tmp_path / "a", *options[2:], into=said)
    try:
        in_the_middle(process, s3, "dies/")
        os.killpg(process.pid, signal.SIGSTOP)  # the server takes half a second to stop
        s3.stop()
        os.killpg(process.pid, signal.SIGCONT)
        assert process.wait(60) == 1
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        s3.start()
    text = said.read_text()
    assert text.count("not reached for") == text.count(f"{place}/tiny: not reached for") == 1
    assert "failed" not in text
    assert "StoreGone" not in text
    stopped, again = text.splitlines()[-2:]
    assert stopped == f"Stopped: 2 of 2 trials not done: {place}/tiny does not answer"
    command = f"python -m bench.run {suite} --results {place} --jobs 1 --lease 2"
    assert again == f"The same command goes on, on this machine: {command}"
    monkeypatch.setenv("MARL_BENCH_CACHE", str(tmp_path / "a"))
    assert main([str(suite), *options]) == 0
    pd.testing.assert_frame_equal(records(f"{place}/tiny"), local)
    assert sorted(read(f"{place}/tiny").trials["attempts"]) == [1, 2]


@pytest.mark.long
def test_a_run_whose_bucket_vanishes_stops_and_no_trial_has_failed(suite: Path, s3: S3, tmp_path: Path) -> None:
    place, said = "s3://vanishes/marl", tmp_path / "said"
    client: Any = boto3.client("s3")
    client.create_bucket(Bucket="vanishes")
    process = started(suite, place, tmp_path / "a", "--jobs", "1", into=said)

    def listed() -> list[dict[str, Any]]:
        return client.list_objects_v2(Bucket="vanishes").get("Contents", [])

    try:
        wait_until(lambda: any(each["Key"].endswith("checkpoint.pt") for each in listed()), process)
        os.killpg(process.pid, signal.SIGSTOP)
        for each in listed():
            client.delete_object(Bucket="vanishes", Key=each["Key"])
        client.delete_bucket(Bucket="vanishes")
        os.killpg(process.pid, signal.SIGCONT)
        assert process.wait(60) == 1
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    text = said.read_text()
    assert "failed" not in text
    stopped, again = text.splitlines()[-2:]
    why = f"{place}/tiny: there is no such bucket (NoSuchBucket)"
    assert stopped == f"Stopped: 2 of 2 trials not done: {why}"
    assert again.startswith("The same command goes on")


def test_what_is_deleted_in_the_store_meanwhile_is_said_and_run_again(
    suite: Path,
    local: pd.DataFrame,
    s3: S3,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MARL_BENCH_CACHE", str(tmp_path / "a"))
    place, join = f"s3://{BUCKET}/deleted", pool.join_tables

    def deleting(results: Remote) -> None:
        for entry in results.entries():
            if "/happo/" in entry.name:
                results.delete(entry.name)
        join(results)

    options = [str(suite), "--jobs", "1", "--results", place]
    monkeypatch.setattr(pool, "join_tables", deleting)
    assert main(options) == 1
    assert f"happo seed 0: done, and deleted in {place}/tiny meanwhile" in capsys.readouterr().err
    monkeypatch.setattr(pool, "join_tables", join)
    assert main(options) == 0
    pd.testing.assert_frame_equal(records(f"{place}/tiny"), local)


@pytest.mark.long
def test_two_runs_at_once_share_the_trials(
    suite: Path,
    local: pd.DataFrame,
    s3: S3,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One is paused in its first trial, for which the other waits when it has ended the second."""
    place = f"s3://{BUCKET}/two"
    other = started(suite, place, tmp_path / "a", "--jobs", "1")
    monkeypatch.setenv("MARL_BENCH_CACHE", str(tmp_path / "b"))
    try:
        in_the_middle(other, s3, "two/")
        os.killpg(other.pid, signal.SIGSTOP)
        goes_on = threading.Timer(4.0, os.killpg, (other.pid, signal.SIGCONT))
        goes_on.start()
        assert main([str(suite), "--jobs", "1", "--results", place]) == 0
        goes_on.join()
        assert other.wait(60) == 0
    finally:
        with suppress(ProcessLookupError):
            os.killpg(other.pid, signal.SIGKILL)
    assert f"Waiting for 1 trial of another run in {place}/tiny" in capsys.readouterr().out
    found = read(f"{place}/tiny")
    assert list(found.trials["attempts"]) == [1, 1]
    pd.testing.assert_frame_equal(found.records.drop(columns=TIMES), local)
    assert verify([f"{place}/tiny"]) == 0


def test_a_suite_that_was_changed_is_refused_with_the_address_of_its_results(
    suite: Path, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MARL_BENCH_CACHE", str(tmp_path / "a"))
    place = f"s3://{BUCKET}/changed"
    assert main([str(suite), "--jobs", "1", "--results", place, "--only", "algorithm=happo"]) == 0
    capsys.readouterr()
    assert main([str(suite), "--results", place, "--set", "defaults.gamma=0.8"]) == 2
    err = capsys.readouterr().err
    assert "happo/seed-00: holds a trial with other settings" in err
    assert err.startswith(f"{place}/tiny/trials")
    assert str(tmp_path) not in err, "the folder of this machine's cache"


class InTurn(Backend):
    """One piece of work after the other."""

    remote, pause = False, 0.0

    def at_once(self, cores: int) -> int:
        return 1

    def run(self, function: Any, work: Any, ask: Any, hear: Any) -> Generator[Any]:
        for each in work:
            yield function(each.item, Here(hear, lambda: False))


@pytest.fixture
def run_of_two(suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Iterator[Outcome]]:
    """The outcomes of two trials in a store; what attempts give is in `pool.Attempt`."""
    monkeypatch.setenv("MARL_BENCH_CACHE", str(tmp_path / "a"))
    monkeypatch.setattr(pool, "STORE_PAUSE", 0.0)
    place = Remote(f"file://{tmp_path}/store/tiny")
    place.folder.mkdir(parents=True)
    todo = trials(load(suite)[0], suite)
    monitor = Monitor(todo, [1.0, 1.0], 1)
    prices = {t: Cost(1.0, 1e9, 1.0, 1.0) for t in todo}
    return lambda: pool.outcomes(todo, place, Effort(), prices, InTurn(), monitor)


def attempts(monkeypatch: pytest.MonkeyPatch, *statuses: str) -> list[str]:
    """Let attempts end like this, one after the other, and then well; gives the trials that began."""
    left, began = [*statuses], list[str]()

    def attempt(priced: tuple[Trial, float], channel: Here) -> Outcome:
        began.append(priced[0].label)
        return Outcome(priced[0], left.pop(0) if left else "done", "gone for 3 s")

    monkeypatch.setattr(pool, "Attempt", lambda *_: attempt)
    return began


def test_no_trial_begins_once_one_was_cut_off_from_a_store_that_stays_away(
    run_of_two: Callable[[], Iterator[Outcome]], monkeypatch: pytest.MonkeyPatch
) -> None:
    began = attempts(monkeypatch, "cut off")
    monkeypatch.setattr(Remote, "trouble", lambda _: "the store does not answer")
    with pytest.raises(StoreGone, match="does not answer"):
        [*run_of_two()]
    assert began == ["ippo"]


def test_a_trial_that_was_cut_off_goes_on_when_the_store_answers_again(
    run_of_two: Callable[[], Iterator[Outcome]], monkeypatch: pytest.MonkeyPatch
) -> None:
    began = attempts(monkeypatch, "cut off")
    assert [(one.trial.label, one.status) for one in run_of_two()] == [("happo", "done"), ("ippo", "done")]
    assert began == ["ippo", "happo", "ippo"]


def test_a_trial_that_alone_is_cut_off_has_failed_after_its_retries(
    run_of_two: Callable[[], Iterator[Outcome]], monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts(monkeypatch, "cut off", "done", "cut off")
    ended = [*run_of_two()]
    assert [(one.trial.label, one.status) for one in ended] == [("happo", "done"), ("ippo", "failed")]
    assert ended[1].error == "gone for 3 s"


def test_a_look_at_what_another_run_holds_that_fails_is_left_to_an_attempt(
    run_of_two: Callable[[], Iterator[Outcome]], monkeypatch: pytest.MonkeyPatch
) -> None:
    began = attempts(monkeypatch, "busy")

    def gone(trial: Trial, results: Remote) -> bool:
        raise StoreGone("the store does not answer")

    monkeypatch.setattr(pool, "at_work", gone)
    assert [(one.trial.label, one.status) for one in run_of_two()] == [("happo", "done"), ("ippo", "done")]
    assert began == ["ippo", "happo", "ippo"]


def test_results_may_lie_in_a_folder_that_is_used_as_a_store(
    suite: Path, local: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARL_BENCH_CACHE", str(tmp_path / "a"))
    place = f"file://{tmp_path}/store"
    assert main([str(suite), "--jobs", "1", "--results", place, "--only", "algorithm=happo"]) == 0
    pd.testing.assert_frame_equal(records(f"{place}/tiny"), of_happo(local))


def test_a_trial_outlives_a_lost_connection_and_says_when_it_stays_lost(
    suite: Path, local: pd.DataFrame, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARL_BENCH_CACHE", str(tmp_path / "a"))
    place = Remote(f"s3://{BUCKET}/lost/tiny", lease=3, patience=3)
    trial = next(t for t in trials(load(suite)[0], suite) if t.label == "happo")
    with monkeypatch.context() as patch:
        pauses = []

        def back_after_two(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 2:
                s3.start()

        patch.setattr(time, "sleep", back_after_two)
        assert worker.run(trial, place, until=400, link=Cut(s3)).status == "running"
        assert pauses[:2] == [0.5, 1.0]
    outcome = worker.run(trial, place, link=Cut(s3))
    assert outcome.status == "cut off"
    assert outcome.error.startswith(f"{place}: not reached for ")
    about = json.loads((trial.folder(place.folder) / "trial.json").read_text())
    assert (about["status"], (trial.folder(place.folder) / "checkpoint.pt").exists()) == ("running", True)
    s3.start()
    assert worker.run(trial, place).status == "done"
    pd.testing.assert_frame_equal(records(str(place)), of_happo(local))
