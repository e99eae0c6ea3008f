"""Which back end there is, what it is told of trials, and what is shown of many."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from bench.runner import folder, pool
from bench.runner.attempt import Effort
from bench.runner.backends import NEEDS, Backend, Message, NotBegun, Work, connect, place
from bench.runner.cost import Cost
from bench.runner.monitor import MAX_ROWS, Bar, Monitor
from bench.runner.pool import in_order, run_trials
from bench.runner.summary import describe
from bench.store.trials import read_trials
from bench.suite.model import SuiteError
from bench.suite.resolving import load, resolved, trials
from bench.suite.trial import Trial
from bench.trial.link import Progress
from bench.trial.worker import Outcome

pytestmark = pytest.mark.usefixtures("sigterm_as_before")
SUITE: dict[str, Any] = {
    "name": "tiny",
    "steps": 200,
    "seeds": 2,
    "evaluate": {"every": 100, "episodes": 1},
    "tasks": ["games/driving"],
    "algorithms": {"happo": None, "mappo": None},
    "defaults": {"envs": 2, "rollout_length": 10},
}


def planned(where: Path, **changes: Any) -> tuple[list[Trial], dict[str, Any]]:
    path = where / "suite.yaml"
    path.write_text(yaml.safe_dump(SUITE | changes))
    suite, document = load(path)
    return trials(suite, path), document


class Double(Backend):
    """Gives an answer at once."""

    jobs, pause = 4, 0.0

    def __init__(self, answer: Callable[[Trial], Any]):
        self.answer, self.given = answer, list[Work[Any]]()

    def at_once(self, cores: int) -> int:
        return self.jobs

    def run(
        self, function: Any, work: Iterable[Work[Any]], ask: Any, hear: Callable[[Message], None]
    ) -> Generator[Any]:
        for each in work:
            self.given.append(each)
            trial, _ = each.item
            hear(Progress(trial.name, 100, 1.0, 2.0))
            yield self.answer(trial)


def run(where: Path, answer: Callable[[Trial], Any], **changes: Any) -> tuple[int, Double]:
    """A whole run of the suite on a double."""
    todo, document = planned(where, **changes)
    results, backend = where / "tiny", Double(answer)
    folder.prepare(todo, document, resolved(todo, {t.task.label: 2 for t in todo}), results)
    prices = {t: Cost(2.0 if t.label == "mappo" else 1.0, 1e9, 1.0, 1.0) for t in todo}
    return run_trials(todo, results, Effort(env_threads=3), prices, backend), backend


def done(trial: Trial) -> Outcome:
    return Outcome(trial, "done", seconds=2.0, evaluation=1.0)


def test_trials_are_given_out_in_rounds_by_seed_the_longest_first(tmp_path: Path) -> None:
    code, backend = run(tmp_path, done)
    assert code == 0
    given = [(w.item[0].seed, w.item[0].label) for w in backend.given]
    assert given == [(0, "mappo"), (0, "happo"), (1, "mappo"), (1, "happo")]
    assert {(w.cores, w.memory) for w in backend.given} == {(1, 10**9)}  # games are stepped by one thread
    (robot,) = planned(tmp_path, tasks=["mamujoco/Hopper-3x1"], algorithms={"happo": None}, seeds=1)[0]
    assert Effort(env_threads=3).cores(robot) == 3


def test_a_trial_that_another_holds_is_given_out_again(tmp_path: Path) -> None:
    seen: set[Trial] = set()

    def busy_once(trial: Trial) -> Outcome:
        if trial in seen:
            return done(trial)
        seen.add(trial)
        return Outcome(trial, "busy")

    code, backend = run(tmp_path, busy_once)
    assert (code, len(backend.given)) == (0, 8)


def test_a_trial_that_another_run_holds_is_not_given_out_while_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looks = iter([True, True, False])
    monkeypatch.setattr(pool, "at_work", lambda trial, results: next(looks))
    answers = iter(["busy", "done"])
    code, backend = run(tmp_path, lambda t: replace(done(t), status=next(answers)), seeds=1, algorithms={"happo": None})
    assert (code, len(backend.given)) == (0, 2)
    assert "Waiting for 1 trial of another run in" in capsys.readouterr().out


def test_a_trial_that_was_told_to_stop_is_not_said_to_be_of_another_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = iter(["running", "done"])
    code, _ = run(tmp_path, lambda t: replace(done(t), status=next(answers)), seeds=1, algorithms={"happo": None})
    assert code == 0
    assert "another run" not in capsys.readouterr().out


def test_a_trial_that_no_worker_may_begin_fails_the_run_and_stays_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _ = run(tmp_path, lambda trial: NotBegun((trial, 1e9), "its node has torch 1 there, 2 here"))
    assert code == 1
    assert "torch 1 there, 2 here" in capsys.readouterr().out
    assert {about["status"] for about in read_trials(tmp_path / "tiny")} == {"waiting"}


def test_a_folder_that_is_prepared_again_is_not_written_again(tmp_path: Path) -> None:
    run(tmp_path, done)
    stubs = sorted(tmp_path.rglob("trial.json"))
    before = [path.stat().st_ino for path in stubs]
    run(tmp_path, done)
    assert [path.stat().st_ino for path in stubs] == before


def test_the_order_of_trials_is_that_of_seeds_before_costs(tmp_path: Path) -> None:
    todo, _ = planned(tmp_path)
    prices = {t: Cost(100.0 * t.seed, 1.0, 1.0, 1.0) for t in todo}
    assert [t.seed for t in in_order(reversed(todo), prices)] == [0, 0, 1, 1]


@pytest.mark.parametrize("name", NEEDS)
def test_an_engine_that_is_not_installed_is_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, NEEDS[name], None)
    for module in [m for m in sys.modules if m.startswith(("bench.runner.backends.", f"{NEEDS[name]}."))]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(SuiteError) as raised:
        connect(name, "there", None)
    package, hint = NEEDS[name], f"pip install -e '.[{name}]'"
    assert str(raised.value) == f"--on {name}: the package {package} is not installed; {hint}"


def test_this_machine_has_no_address() -> None:
    with pytest.raises(SuiteError, match="--address there: nobody is asked with --on local"):
        connect("local", "there", None)


def test_a_worker_that_does_not_see_the_results_differs(tmp_path: Path) -> None:
    _, _ = run(tmp_path, done)
    here = place.here(tmp_path / "tiny")
    (tmp_path / "other").mkdir()
    wrong = place.differences(here, place.here(tmp_path / "other"))
    assert wrong == f"results not there there, {here['results']} here"


def test_differences_name_both_values() -> None:
    own = {"Python": "3.11.7", "torch": "2.13.0", "NUMERICS": 3}
    assert place.differences(own, {"Python": "3.12.1", "torch": "2.13.0"}) == (
        "Python 3.12.1 there, 3.11.7 here; NUMERICS None there, 3 here"
    )


# What is shown


def shown(monitor: Monitor) -> str:
    console = Console(width=140, file=None)
    with console.capture() as captured:
        console.print(monitor.table())
    return captured.get()


def test_of_many_trials_the_table_shows_pairings_and_the_first_that_run(tmp_path: Path) -> None:
    todo, _ = planned(tmp_path, seeds=5000)
    monitor = Monitor(todo, [3600.0] * len(todo), 100)
    for trial in todo[:60]:
        monitor.hear(Progress(trial.name, 100, 1.0, 7.0, left=1.0))
    for trial in todo[:10]:
        monitor.ended(done(trial))
    text = shown(monitor)
    assert "10 of 10000 trials done, 0 failed, about 4 d 3 h left" in text
    assert "5 of 5000" in text
    assert "and 30 trials more" in text
    assert len(text.splitlines()) < MAX_ROWS + 20
    assert len([*monitor.lines()]) == MAX_ROWS + 1


def test_of_few_trials_the_table_shows_those_that_run(tmp_path: Path) -> None:
    todo, _ = planned(tmp_path)
    monitor = Monitor(todo, [10.0] * 4, 1)
    monitor.hear(Progress(todo[0].name, 50, 1.0, 7.0, left=3.0))
    text = shown(monitor)
    assert "0 of 4 trials done, 0 failed, about 0:00:33 left" in text
    assert "50 (25%)" in text
    assert "of 2" not in text


def test_a_suite_takes_as_long_as_the_last_of_its_trials(tmp_path: Path) -> None:
    todo, _ = planned(tmp_path)
    monitor = Monitor(todo[:1], [10.0], 2)
    monitor.hear(Progress(todo[0].name, 50, 1.0, 7.0, left=1800.0))  # alone on two jobs
    assert "about 0:30:00 left" in shown(monitor)


def test_where_nobody_knows_how_many_run_at_once_those_that_run_count(tmp_path: Path) -> None:
    todo, _ = planned(tmp_path)
    monitor = Monitor(todo, [10.0] * 4, 0)
    for trial in todo[:2]:
        monitor.hear(Progress(trial.name, 100, 1.0, 7.0, left=1.0))  # and 20 s of those that wait
    assert "0 of 4 trials done, 0 failed, about 0:00:11 left" in shown(monitor)


def test_the_bar_of_one_trial_shows_how_far_it_is(tmp_path: Path) -> None:
    trial = planned(tmp_path)[0][0]
    bar = Bar(trial)
    bar.hear(Progress(trial.name, 50, seconds=1.0, evaluation=7.0, left=3.0))
    text = shown(bar)
    assert "happo seed 0" in text
    assert "━" in text
    assert "50 steps (25%)  return 7  50 steps/s  0:00:03 left" in text


@pytest.mark.parametrize(
    ("at_once", "in_parallel", "time", "memory"),
    [
        (3, 3, "about 0:00:20, 3 at once", "about 6.0 GB"),
        (9, 9, "about 0:00:15, 4 at once", "about 8.0 GB"),
        (9, 2, "about 0:00:30, 4 at once", "about 8.0 GB"),  # more trials than processors
        (0, 0, "between about 0:00:15, all at once, and 0:01:00, one after the other", "up to 2.0 GB each"),
    ],
)
def test_a_plan_says_how_long_it_takes_where_that_is_known(
    tmp_path: Path, at_once: int, in_parallel: int, time: str, memory: str
) -> None:
    todo, _ = planned(tmp_path)
    text = describe(todo, {t: Cost(15.0, 2e9, 1.0, 1.0) for t in todo}, tmp_path, at_once, in_parallel)
    assert f"  time        {time}\n  memory      {memory}\n" in text


def test_this_machine_runs_as_many_trials_as_have_their_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    here = connect("local", None, None)
    for cores, jobs in ((1, 8), (2, 4), (3, 2), (16, 1)):
        here.share_out(cores)
        assert (here.jobs, here.at_once(cores)) == (jobs, jobs)
    asked = connect("local", None, 5)
    asked.share_out(4)
    assert asked.jobs == 5
    many = connect("local", None, 20)
    assert (many.at_once(1), many.in_parallel(1)) == (20, 8)
