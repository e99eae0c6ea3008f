"""Work placed on workers that come and go: what the back ends of Dask and Ray have in common.

The engine starts what it is told to on the worker it is told to, and says what became of it. Which worker that is, is
decided here: one that is in order (`place`), with cores and memory to spare. So a worker that is gone gives its work
back at once, one that comes is asked what it is before it gets any, and trials begin in their order.
"""

from __future__ import annotations

import heapq
import math
import socket
import time
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from bench.cli.command import counted
from bench.runner.backends import Ask, Backend, Channel, Function, Hear, Lost, T, Work, place

CONNECT_SECONDS = 8.0
POLL_SECONDS = 1.0
MOST_LOSSES = 10
"""So many workers may be lost under one piece of work before it is given up."""
AHEAD = 1000
"""So many pieces of work are looked at for one that fits what is free."""


@dataclass(frozen=True)
class Room:
    """What a worker has, or has to spare."""

    cores: float
    memory: float
    """Bytes."""

    def holds(self, work: Work[Any]) -> bool:
        return self.cores >= work.cores and self.memory >= work.memory

    def less(self, work: Work[Any], times: int = 1) -> Room:
        return Room(self.cores - times * work.cores, self.memory - times * work.memory)


@dataclass(frozen=True)
class Gone:
    """In the place of a result: the worker is no longer there, or the engine has dropped the work."""


@dataclass(frozen=True)
class Raised:
    """In the place of a result: what the function raised."""

    reason: str


class Placed(Backend):
    """A back end whose engine is told which worker starts what."""

    @abstractmethod
    def rooms(self) -> dict[str, Room]:
        """The workers that are there, with all that they have. One that is about to stop is not there any more."""

    @abstractmethod
    def start(self, worker: str, function: Callable[..., Any], work: Work[Any]) -> Hashable:
        """Begin `function(work.item, channel)` on a worker; returns what `ended` will call it."""

    @abstractmethod
    def ended(self, seconds: float) -> list[tuple[Hashable, Any]]:
        """What has ended since, with its result, Gone or Raised; waits for the first at most so many seconds."""

    @abstractmethod
    def forget(self, handle: Hashable) -> None:
        """Have what was begun ended where it is, if its worker lives; `ended` need not say so."""

    @abstractmethod
    def listen(self, hear: Hear) -> None:
        """Hand what work tells to `hear` from now on."""

    @abstractmethod
    def settle(self, handles: Iterable[Hashable]) -> None:
        """Have all of this end where it is, and wait until none of it is at work on a living worker."""

    def at_once(self, cores: int) -> int:
        """What there is room for now."""
        room = sum(int(room.cores // cores) for room in self.rooms().values())
        return min(room, self.jobs) if self.jobs else room

    def run(self, function: Function[T], work: Iterable[Work[T]], ask: Ask, hear: Hear) -> Generator[Any]:
        """Each run asks the workers anew."""
        self.listen(hear)
        placing = _Placing(self, function, work, ask, hear)
        try:
            yield from placing.results()
        finally:
            self.settle([*placing.at_work, *placing.asked])


class _Placing:
    """One run: what waits, what is at work where, and what is free."""

    def __init__(self, engine: Placed, function: Function[T], work: Iterable[Work[T]], ask: Ask, hear: Hear):
        self.engine, self.function, self.ask, self.hear = engine, function, ask, hear
        self.here = ask()
        self.queue = Queue(work)
        self.at_work: dict[Hashable, tuple[str, int, Work[Any]]] = {}
        self.asked: dict[Hashable, str] = {}
        """Handle -> the worker that is being asked what it is."""
        self.free: dict[str, Room] = {}
        """What each worker that is in order has to spare."""
        self.rooms: dict[str, Room] = {}
        self.losses = Counter[int]()
        """Number of a piece of work -> how often it has lost its worker."""
        self.dropped = Counter[str]()
        """Worker -> how many pieces of work it has lost since the last look."""
        self.looked, self.idle_since, self.announced = -POLL_SECONDS, time.monotonic(), False

    def results(self) -> Generator[Any]:
        """Place work and collect results until there is neither."""
        while True:
            if time.monotonic() - self.looked >= POLL_SECONDS:
                yield from self._look()
            self._place()
            if not self.at_work and self.queue.empty():
                return
            self._announce()
            for handle, result in self.engine.ended(POLL_SECONDS):
                if (worker := self.asked.pop(handle, None)) is not None:
                    self._judge(worker, result)
                elif (own := self.at_work.pop(handle, None)) is not None:
                    yield from self._take(*own, result)

    def _look(self) -> Iterator[Lost[Any]]:
        """See which workers have come, and take back the work of those that are gone."""
        self.looked = time.monotonic()
        before, self.rooms = self.rooms, self.engine.rooms()
        for worker in [w for w in self.free if w not in self.rooms]:
            del self.free[worker]
        for handle in [h for h, worker in self.asked.items() if worker not in self.rooms]:
            self.engine.forget(handle)
            del self.asked[handle]
        for handle in [h for h, (worker, _, _) in self.at_work.items() if worker not in self.rooms]:
            self.engine.forget(handle)
            yield from self._give_back(*self.at_work.pop(handle))
        self._say_lost()
        for worker in [w for w in self.rooms if w not in before]:
            self.asked[self.engine.start(worker, _answer, Work(self.ask, cores=0))] = worker

    def _say_lost(self) -> None:
        """Say which workers have lost trials since the last look, most of them because they are gone."""
        for worker, count in self.dropped.items():
            trials = counted(count, "trial")
            if worker in self.rooms:
                self.hear(f"Worker {worker} dropped {trials}, to go on from the last checkpoint")
            else:
                self.hear(f"Worker {worker} is gone with {trials}, to go on elsewhere from the last checkpoint")
        self.dropped.clear()

    def _judge(self, worker: str, found: Any) -> None:
        """Take a worker that is in order; say of another what differs."""
        if isinstance(found, Gone):
            self._suspect(worker)
            return
        wrong = found.reason if isinstance(found, Raised) else place.differences(self.here, found)
        if wrong:
            self.hear(f"Worker {worker} gets no work: {wrong}")
        elif worker in self.rooms:
            self.free[worker] = self.rooms[worker]
            for _, _, work in [own for own in self.at_work.values() if own[0] == worker]:
                self.free[worker] = self.free[worker].less(work)

    def _suspect(self, worker: str) -> None:
        """Ask a worker again, at the next look, that may be dying while its engine does not know yet."""
        self.rooms.pop(worker, None)
        self.free.pop(worker, None)

    def _place(self) -> None:
        """Begin what fits, in its order."""
        open_for_more = not self.engine.jobs or len(self.at_work) < self.engine.jobs
        while open_for_more and any(room.cores >= 1 for room in self.free.values()):
            found = self.queue.take(lambda work: any(room.holds(work) for room in self.free.values()))
            if found is None:
                return
            number, work = found
            worker = next(name for name, room in self.free.items() if room.holds(work))
            handle = self.engine.start(worker, self.function, work)
            self.at_work[handle] = (worker, number, work)
            self.free[worker] = self.free[worker].less(work)
            open_for_more = not self.engine.jobs or len(self.at_work) < self.engine.jobs

    def _take(self, worker: str, number: int, work: Work[Any], result: Any) -> Iterator[Any]:
        if worker in self.free:
            self.free[worker] = self.free[worker].less(work, -1)
        if isinstance(result, Gone):
            self._suspect(worker)
            yield from self._give_back(worker, number, work)
        elif isinstance(result, Raised):
            yield Lost(work.item, result.reason)
        else:
            yield result

    def _give_back(self, worker: str, number: int, work: Work[Any]) -> Iterator[Lost[Any]]:
        self.losses[number] += 1
        if self.losses[number] < MOST_LOSSES:
            self.dropped[worker] += 1
            self.queue.back(number, work)
        else:
            yield Lost(work.item, f"{MOST_LOSSES} workers were lost under it")

    def _announce(self) -> None:
        """Say once that nobody takes the work that there is."""
        if self.at_work or self.asked:
            self.idle_since = time.monotonic()
        elif not self.announced and time.monotonic() - self.idle_since > 2 * POLL_SECONDS:
            self.announced = True
            needs = self.queue.needs()
            self.hear(f"Waiting for a worker with {needs}; {self._largest_worker()}")

    def _largest_worker(self) -> str:
        """The cores and the memory of the largest worker, in words."""
        if not self.rooms:
            return "none is there"
        cores, memory = max(r.cores for r in self.rooms.values()), max(r.memory for r in self.rooms.values())
        largest = f"{cores:g} cores and {memory / 1e9:.1f} GB" if memory < math.inf else f"{cores:g} cores"
        return f"the largest of the {len(self.rooms)} there has {largest}"


class Queue:
    """Work in its order, from which the first piece is taken that fits; what came back goes before what is new."""

    def __init__(self, work: Iterable[Work[Any]]):
        self.source = enumerate(work)
        self.waiting: dict[tuple[int, int], list[tuple[int, Work[Any]]]] = {}
        """What a piece of work needs -> a heap of all that need as much, by number."""
        self.count, self.exhausted = 0, False

    def back(self, number: int, work: Work[Any]) -> None:
        heapq.heappush(self.waiting.setdefault((work.cores, work.memory), []), (number, work))
        self.count += 1

    def take(self, fits: Callable[[Work[Any]], bool]) -> tuple[int, Work[Any]] | None:
        """The first that fits, of those that wait and of up to AHEAD new ones."""
        while True:
            fitting = [heap for heap in self.waiting.values() if heap and fits(heap[0][1])]
            if fitting:
                self.count -= 1
                return heapq.heappop(min(fitting, key=lambda heap: heap[0][0]))
            if self.count >= AHEAD or not self._next():
                return None

    def _next(self) -> bool:
        """Ask for one more piece of work."""
        new = None if self.exhausted else next(self.source, None)
        if new is None:
            self.exhausted = True
            return False
        self.back(*new)
        return True

    def empty(self) -> bool:
        return not self.count and (self.exhausted or not self._next())

    def needs(self) -> str:
        """What the first piece of work needs, for people."""
        _, first = min((heap[0] for heap in self.waiting.values() if heap), key=lambda entry: entry[0])
        cores = "a free core" if first.cores == 1 else f"{first.cores} free cores"
        return f"{cores} and {first.memory / 1e9:.1f} GB"


def knock(address: str) -> None:
    """Raise ValueError with the reason for an address at which nobody can listen, or nobody does.

    Engines try for long, one of them deaf to Ctrl-C.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not (host and port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
        raise ValueError("it has no port from 1 to 65535")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except socket.gaierror:
        raise ValueError(f"there is no host {host}") from None
    except UnicodeError:
        raise ValueError(f"{host!r} is no name of a host") from None
    except OSError as error:
        raise ValueError(error.strerror or error) from None


def _answer(ask: Ask, channel: Channel) -> dict[str, Any]:
    """Runs on a worker: what it is."""
    return ask()
