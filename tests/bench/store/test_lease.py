"""Leases: who holds what, by a store's clock that the tests turn on."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass, field

import pytest

from bench.store import lease
from bench.store.lease import Lease, TakenOver, is_free, take
from bench.store.remote import Found, Version


@dataclass
class Store:
    """A store in memory, with a clock of its own."""

    lease: float = 180.0
    clock: float = 1000.0
    objects: dict[str, Found] = field(default_factory=dict)
    answers_get_lost: bool = False
    _count: int = 0

    def create(self, name: str, content: bytes) -> Version | None:
        return None if name in self.objects else self._write(name, content)

    def replace(self, name: str, content: bytes, version: Version) -> Version | None:
        found = self.objects.get(name)
        return self._write(name, content) if found and found.version == version else None

    def read(self, name: str) -> Found | None:
        return self.objects.get(name)

    def now(self) -> float:
        return self.clock

    def hasty(self) -> Store:
        return self

    def _write(self, name: str, content: bytes) -> Version | None:
        self._count += 1
        self.objects[name] = Found(content, Version(str(self._count)), self.clock)
        return None if self.answers_get_lost else self.objects[name].version


def taken(store: Store, token: str) -> Lease:
    found = take(store, "lease", token)
    assert found
    return found


def test_one_takes_a_lease_and_the_next_is_refused() -> None:
    store = Store()
    assert is_free(store, "lease", "a")
    taken(store, "a")
    assert not is_free(store, "lease", "b")
    assert take(store, "lease", "b") is None


def test_a_lease_that_is_released_is_free_at_once() -> None:
    store = Store()
    taken(store, "a").release()
    assert is_free(store, "lease", "b")
    taken(store, "b")


def test_a_lease_lasts_until_its_time_is_over_and_not_longer() -> None:
    store = Store()
    taken(store, "a")
    store.clock += 180
    assert take(store, "lease", "b") is None
    store.clock += 1
    taken(store, "b")


def test_a_lease_that_is_renewed_lasts_from_then_on() -> None:
    store = Store()
    own = taken(store, "a")
    store.clock += 179
    own.renew()
    store.clock += 179
    assert take(store, "lease", "b") is None


def test_how_long_a_lease_lasts_is_up_to_who_holds_it() -> None:
    store = Store()
    taken(store, "a")
    store.lease = 10
    store.clock += 100
    assert take(store, "lease", "b") is None


def test_an_owner_that_was_taken_over_learns_so_and_does_no_harm() -> None:
    store = Store()
    own = taken(store, "a")
    store.clock += 181
    taken(store, "b").renew()
    for _ in range(2):
        with pytest.raises(TakenOver, match="lease: another run took this over"):
            own.renew()
    own.release()
    assert not is_free(store, "lease", "c")


def test_an_owner_that_was_silent_for_long_goes_on_where_nobody_took_over() -> None:
    store = Store()
    own = taken(store, "a")
    store.clock += 10_000
    own.renew()
    assert take(store, "lease", "b") is None


def test_of_two_who_take_over_one_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    taken(store, "a")
    store.clock += 181
    seen = store.objects["lease"]
    taken(store, "b")
    monkeypatch.setattr(store, "read", lambda name: seen)  # what c read before b wrote
    assert take(store, "lease", "c") is None


def test_the_lease_of_a_process_of_our_own_that_has_ended_is_ours() -> None:
    store = Store()
    before = taken(store, "a")
    taken(store, "a")
    with pytest.raises(TakenOver):
        before.renew()


def test_a_write_whose_answer_was_lost_has_succeeded() -> None:
    store = Store()
    taken(store, "a").release()
    store.answers_get_lost = True
    own = take(store, "lease", "b")
    assert own
    own.renew()


def test_a_lease_that_somebody_deleted_is_made_anew_by_its_owner_unless_another_one_was_first() -> None:
    store = Store()
    own = taken(store, "a")
    store.objects.clear()
    own.renew()
    assert take(store, "lease", "b") is None
    store.objects.clear()
    taken(store, "b")
    with pytest.raises(TakenOver):
        own.renew()


def test_what_is_no_lease_is_free() -> None:
    store = Store()
    store.create("lease", b"")
    taken(store, "a")


def test_a_lease_is_renewed_while_it_is_kept_and_released_after() -> None:
    store = Store(lease=0.01)
    own = taken(store, "a")
    end = time.monotonic() + 30
    with own.kept():
        before = store.objects["lease"].version
        while store.objects["lease"].version == before:
            assert time.monotonic() < end
    assert is_free(store, "lease", "b")


def test_a_lease_is_renewed_six_times_while_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def watching(work: object, seconds: float) -> nullcontext[None]:
        asked.append(seconds)
        return nullcontext()

    monkeypatch.setattr(lease, "repeatedly", watching)
    with taken(Store(lease=180.0), "a").kept():
        assert asked == [30.0]
