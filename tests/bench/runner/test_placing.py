"""Placing work on workers that come and go, with an engine that does at once what it is told."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any

import pytest

from bench.runner.backends import Lost, Message, Work
from bench.runner.backends import placing as placing_module
from bench.runner.backends.placing import MOST_LOSSES, Gone, Placed, Queue, Raised, Room

GIGABYTE = 10**9


class Engine(Placed):
    """Ends the oldest piece of work at every look, with its item doubled."""

    def __init__(self, jobs: int = 0, **rooms: Room):
        self.jobs, self.there = jobs, dict(rooms)
        self.versions = dict.fromkeys(rooms, 1)
        """What each worker answers when it is asked."""
        self.going: list[tuple[int, str, Any, Work[Any]]] = []
        self.log: list[tuple[str, Any]] = []
        """(worker, item) in the order in which work was begun."""
        self.most_at_once, self.handles, self.settled = 0, 0, list[Hashable]()
        self.before_ending: Callable[[Engine], None] = lambda engine: None

    def rooms(self) -> dict[str, Room]:
        return dict(self.there)

    def start(self, worker: str, function: Callable[..., Any], work: Work[Any]) -> Hashable:
        self.handles += 1
        self.going.append((self.handles, worker, function, work))
        if work.cores:
            self.log.append((worker, work.item))
        self.most_at_once = max(self.most_at_once, sum(1 for *_, work in self.going if work.cores))
        return self.handles

    def ended(self, seconds: float) -> list[tuple[Hashable, Any]]:
        self.before_ending(self)
        if not self.going:
            return []
        handle, worker, function, work = self.going.pop(0)
        if worker not in self.there:
            return []  # nobody says so: the engine does not know
        return [(handle, function(work.item, None) if work.cores else {"version": self.versions[worker]})]

    def forget(self, handle: Hashable) -> None:
        self.going = [each for each in self.going if each[0] != handle]

    def listen(self, hear: Callable[[Message], None]) -> None:
        pass

    def settle(self, handles: Iterable[Hashable]) -> None:
        self.settled = [*handles]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placing_module, "POLL_SECONDS", 0.0)


def doubled(item: Any, channel: Any) -> Any:
    return 2 * item


def run(engine: Engine, work: Iterable[Work[Any]], function: Any = doubled) -> tuple[list[Any], list[str]]:
    """The results, and what was said."""
    said: list[Any] = []
    return [*engine.run(function, work, lambda: {"version": 1}, said.append)], said


def test_work_begins_in_its_order_on_all_workers() -> None:
    engine = Engine(one=Room(1, 0), two=Room(1, 0))
    results, _ = run(engine, [Work(k) for k in range(5)])
    assert sorted(results) == [0, 2, 4, 6, 8]
    assert [item for _, item in engine.log] == [0, 1, 2, 3, 4]
    assert {worker for worker, _ in engine.log} == {"one", "two"}


def test_a_worker_gets_as_much_as_its_cores_hold() -> None:
    engine = Engine(one=Room(5, 0))
    run(engine, [Work(k, cores=2) for k in range(6)])
    assert engine.most_at_once == 2


def test_a_worker_gets_as_much_as_its_memory_holds() -> None:
    engine = Engine(one=Room(8, 3 * GIGABYTE))
    run(engine, [Work(k, 1, GIGABYTE) for k in range(6)])
    assert engine.most_at_once == 3


def test_no_more_is_begun_than_there_are_jobs() -> None:
    engine = Engine(jobs=2, one=Room(8, 0))
    run(engine, [Work(k) for k in range(6)])
    assert engine.most_at_once == 2


def test_small_work_goes_before_large_work_that_has_no_room_yet() -> None:
    engine = Engine(one=Room(2, 3 * GIGABYTE))
    run(engine, [Work(0, 1, 2 * GIGABYTE), Work(1, 1, 2 * GIGABYTE), Work(2, 1, GIGABYTE)])
    assert [item for _, item in engine.log] == [0, 2, 1]


def test_the_work_of_a_worker_that_is_gone_is_done_by_another() -> None:
    def leave(engine: Engine) -> None:
        if len(engine.log) == 2:
            engine.there.pop("one", None)

    engine = Engine(one=Room(1, 0), two=Room(1, 0))
    engine.before_ending = leave
    results, _ = run(engine, [Work(k) for k in range(3)])
    assert sorted(results) == [0, 2, 4]
    assert engine.log[0] == ("one", 0)
    assert ("two", 0) in engine.log
    assert [item for _, item in engine.log].index(2) > engine.log.index(("two", 0))  # what came back goes first


def test_a_worker_that_is_gone_with_its_work_is_said_once() -> None:
    def leave(engine: Engine) -> None:
        if len(engine.log) == 3:
            engine.there.pop("one", None)

    engine = Engine(one=Room(2, 0), two=Room(1, 0), idle=Room(0, 0))
    engine.before_ending = leave
    results, said = run(engine, [Work(k) for k in range(4)])
    assert sorted(results) == [0, 2, 4, 6]
    assert said == ["Worker one is gone with 2 trials, to go on elsewhere from the last checkpoint"]


def test_a_worker_that_dropped_its_work_and_stays_is_said_once() -> None:
    answers = [7, Gone()]
    results, said = run(Engine(one=Room(2, 0)), [Work(7)], lambda item, channel: answers.pop())
    assert results == [7]
    assert said == ["Worker one dropped 1 trial, to go on from the last checkpoint"]


def test_a_worker_that_comes_gets_work() -> None:
    def come(engine: Engine) -> None:
        if len(engine.log) == 1:
            engine.there["two"], engine.versions["two"] = Room(1, 0), 1

    engine = Engine(one=Room(1, 0))
    engine.before_ending = come
    run(engine, [Work(k) for k in range(6)])
    assert "two" in {worker for worker, _ in engine.log}


def test_a_worker_with_other_versions_gets_no_work_and_both_values_are_said() -> None:
    engine = Engine(one=Room(1, 0), old=Room(1, 0))
    engine.versions["old"] = 0
    _, said = run(engine, [Work(k) for k in range(4)])
    assert {worker for worker, _ in engine.log} == {"one"}
    assert said == ["Worker old gets no work: version 0 there, 1 here"]


def test_work_that_loses_its_workers_again_and_again_is_given_up() -> None:
    engine = Engine(one=Room(1, 0))
    results, _ = run(engine, [Work(7)], lambda item, channel: Gone())
    assert results == [Lost(7, f"{MOST_LOSSES} workers were lost under it")]
    assert len(engine.log) == MOST_LOSSES


def test_a_worker_that_lost_work_is_asked_again_before_it_gets_any() -> None:
    answers = [7, Gone()]
    engine = Engine(one=Room(2, 0))
    asked: list[str] = []
    start = engine.start

    def noted(worker: str, function: Any, work: Work[Any]) -> Hashable:
        asked.append("ask" if not work.cores else "work")
        return start(worker, function, work)

    engine.start = noted  # type: ignore[method-assign]
    results, _ = run(engine, [Work(7)], lambda item, channel: answers.pop())
    assert asked == ["ask", "work", "ask", "work"]
    assert results == [7]


def test_work_that_raises_is_given_up_at_once() -> None:
    engine = Engine(one=Room(1, 0))
    results, _ = run(engine, [Work(7)], lambda item, channel: Raised("ImportError: bench"))
    assert results == [Lost(7, "ImportError: bench")]
    assert len(engine.log) == 1


def test_whoever_leaves_early_has_all_that_goes_on_ended() -> None:
    engine = Engine(one=Room(2, 0))
    results = engine.run(doubled, [Work(k) for k in range(4)], lambda: {"version": 1}, print)
    next(results)
    results.close()
    assert len(engine.settled) == 1  # of the two that had begun one has ended


def test_nobody_who_takes_the_work_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[None] = []

    def come_late(engine: Engine) -> None:
        looks.append(None)
        if len(looks) == 50:
            engine.there["one"], engine.versions["one"] = Room(4, 64 * GIGABYTE), 1

    engine = Engine()
    engine.before_ending = come_late
    _, said = run(engine, [Work(0, 4, 3 * GIGABYTE)])
    assert said == ["Waiting for a worker with 4 free cores and 3.0 GB; none is there"]


def test_endless_work_is_asked_for_only_when_there_is_room() -> None:
    asked: list[None] = []

    def endless() -> Iterable[Work[int]]:
        while len(asked) < 10_000:
            asked.append(None)
            yield Work(len(asked))

    engine = Engine(one=Room(1, 0))
    results = engine.run(doubled, endless(), lambda: {"version": 1}, print)
    assert [next(results) for _ in range(3)] == [2, 4, 6]
    results.close()
    assert len(asked) <= 4


def test_a_queue_gives_what_came_back_first() -> None:
    queue = Queue([Work("a"), Work("b", 2), Work("c")])
    first = queue.take(lambda work: True)
    assert first == (0, Work("a"))
    assert queue.take(lambda work: work.cores == 1) == (2, Work("c"))
    queue.back(*first)
    assert queue.take(lambda work: True) == (0, Work("a"))
    assert queue.take(lambda work: True) == (1, Work("b", 2))
    assert queue.empty()


def test_what_work_needs_is_said_in_words() -> None:
    queue = Queue([Work("a", memory=3 * 10**9)])
    assert not queue.empty()
    assert queue.needs() == "a free core and 3.0 GB"
