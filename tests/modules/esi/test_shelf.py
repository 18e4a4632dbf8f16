"""What the room keeps on the store's shelf: answers over restarts and instances, and texts that all change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from peregrine.domain.errors import Unavailable
from peregrine.domain.moment import HOUR, MINUTE, SECOND, Duration
from peregrine.modules.esi.cache import MemoryCache
from peregrine.modules.esi.shelf import USEFUL_FOR, ShelfCache, ShelfState
from peregrine.modules.esi.throttle import Limits
from peregrine.modules.esi.turnstile import LocalState
from peregrine.ports.esi import Kept
from peregrine.ports.records import Record, RecordStore
from peregrine.ports.shared import Shared, SharedState
from peregrine.stores.memory_records import MemoryRecords
from peregrine.stores.sqlite.store import SqliteStore
from peregrine.testing.fake_esi import FakeEsi
from tests.modules.esi.sky import NOON, Direct, Rig, StepClock, client_of, in_virtual_time, made_world, sky

CORPORATION = 98_000_000
LIMITS = Limits()
KEPT = Kept('"tag"', NOON + HOUR, '{"name":"Grüße \\ud800","n":1}'.encode())


@pytest.fixture(params=["memory", "sqlite"])
async def records(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RecordStore]:
    if request.param == "memory":
        yield MemoryRecords()
        return
    store = SqliteStore(tmp_path / "store.db", ballast_bytes=0)
    await store.open()
    yield store
    await store.close()


# ── answers ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kept", [KEPT, Kept("", NOON + 1, b"", 404), Kept('"t"', NOON - 5, b"[]")])
async def test_an_answer_outlives_its_process(records: RecordStore, kept: Kept) -> None:
    clock = StepClock()
    await ShelfCache(records, clock).put("/alliances/1", kept)

    assert await ShelfCache(records, clock).get("/alliances/1") == kept
    assert await ShelfCache(records, clock).get("/alliances/2") is None


async def test_the_newest_answer_of_any_instance_counts(records: RecordStore) -> None:
    clock = StepClock()
    one, two = ShelfCache(records, clock), ShelfCache(records, clock)
    await one.put("k", KEPT)
    await two.put("k", replace(KEPT, expires_at=NOON + 3 * HOUR, body=b"{}"))

    assert await one.get("k") == KEPT
    clock.pass_by(2 * HOUR)
    assert (await one.get("k") or KEPT).body == b"{}"


async def test_an_answer_is_forgotten_when_it_is_of_no_use(records: RecordStore) -> None:
    clock = StepClock()
    await ShelfCache(records, clock).put("k", KEPT)
    clock.pass_by(HOUR + USEFUL_FOR)

    assert await ShelfCache(records, clock).get("k") is None
    assert await records.sweep_records(now=clock.now(), limit=10) == 1


class SlowShelf:
    """What outlives a process, a second away; a process that has died writes nothing more."""

    def __init__(self, kept: dict[str, Kept]) -> None:
        self.kept = kept
        self.is_dead = False

    async def get(self, key: str) -> Kept | None:
        return self.kept.get(key)

    async def put(self, key: str, kept: Kept) -> None:
        await asyncio.sleep(1)  # not a wait: the record travels, in virtual time
        if not self.is_dead:
            self.kept[key] = kept


@given(dies_at=st.integers(1, 5000))
@settings(max_examples=25)
@example(dies_at=900)
def test_a_process_that_dies_loses_no_more_answers_than_may_fly_and_only_those_are_asked_for_again(
    dies_at: Duration,
) -> None:
    """Decision 0140: between ESI's answer and its record there is no safe place, and nothing else is asked early."""

    async def main() -> None:
        made, kept = sky(), dict[str, Kept]()
        fake = made.fake

        def asking(shelf: SlowShelf) -> list[asyncio.Task[Any]]:
            client = made.another(Rig(cache=shelf))
            return [asyncio.create_task(client.corporation(CORPORATION + one)) for one in range(60)]

        dying = SlowShelf(kept)
        questions = asking(dying)
        await made.clock.advance(dies_at)
        dying.is_dead = True
        for question in questions:
            question.cancel()
        await asyncio.gather(*questions, return_exceptions=True)
        told = [entry.path for entry in fake.journal.entries if entry.status == 200]
        lost = {path for path in told if not any(key.endswith(path) for key in kept)}
        await asyncio.gather(*asking(SlowShelf(kept)))

        early = [text.split()[1] for text in fake.journal.violations()]
        assert sorted(early) == sorted(lost)
        assert len(lost) <= LIMITS.flights
        assert set(fake.journal.kinds) <= {"early"}

    in_virtual_time(main())


@pytest.mark.parametrize("body", [b"\xff\xfe", b"a\x00b", b"x" * 600_000], ids=["no text", "NUL", "large"])
async def test_what_a_shelf_can_not_hold_stays_in_memory(records: RecordStore, body: bytes) -> None:
    clock = StepClock()
    cache = ShelfCache(records, clock)
    await cache.put("k", replace(KEPT, body=body))

    assert (await cache.get("k") or KEPT).body == body
    assert await ShelfCache(records, clock).get("k") is None


class Away(MemoryRecords):
    """A shelf that can't be reached."""

    async def get_record(self, collection: str, key: str, *, now: int) -> Record | None:
        raise Unavailable("away")

    async def put_record(self, record: Record, *, expected_revision: int | None, now: int) -> Record:
        raise Unavailable("away")


async def test_while_the_store_is_away_memory_must_do() -> None:
    clock = StepClock()
    cache = ShelfCache(Away(), clock)
    await cache.put("k", KEPT)
    clock.pass_by(2 * HOUR)

    assert await cache.get("k") == KEPT
    assert await cache.get("other") is None


async def test_a_client_that_was_restarted_asks_for_nothing_before_it_expires(records: RecordStore) -> None:
    clock = StepClock()
    fake = FakeEsi(clock, made_world())
    http = Direct(fake)
    for _ in range(3):
        esi = client_of(http, clock, Rig(cache=ShelfCache(records, clock, MemoryCache(size_max=10_000))))
        for number in range(40):
            seen = await esi.corporation(98_000_000 + number)
            assert seen.facts is not None
    clock.pass_by(HOUR)
    await client_of(http, clock, Rig(cache=ShelfCache(records, clock))).corporation(98_000_001)

    assert fake.journal.statuses == {200: 40, 304: 1}
    assert fake.journal.violations() == []


# ── shared texts ─────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(params=["memory", "sqlite", "local"])
async def state(request: pytest.FixtureRequest, tmp_path: Path, clock: StepClock) -> AsyncIterator[SharedState]:
    if request.param == "local":
        yield LocalState(clock)
        return
    if request.param == "memory":
        yield ShelfState(MemoryRecords(), clock)
        return
    store = SqliteStore(tmp_path / "store.db", ballast_bytes=0)
    await store.open()
    yield ShelfState(store, clock)
    await store.close()


@pytest.fixture
def clock() -> StepClock:
    return StepClock()


async def test_a_text_is_written_only_over_what_was_seen(state: SharedState) -> None:
    assert await state.read("k") == Shared()
    assert await state.swap("k", "one", seen=0, ttl=MINUTE)
    first = await state.read("k")
    assert (first.text, await state.swap("k", "two", seen=0, ttl=MINUTE)) == ("one", False)
    assert await state.swap("k", "two", seen=first.version, ttl=MINUTE)
    assert not await state.swap("k", "three", seen=first.version, ttl=MINUTE)

    assert (await state.read("k")).text == "two"
    assert await state.read("other") == Shared()


async def test_a_text_expires_and_its_version_never_comes_again(state: SharedState, clock: StepClock) -> None:
    await state.swap("k", "one", seen=0, ttl=MINUTE)
    first = await state.read("k")
    clock.pass_by(MINUTE)
    assert await state.read("k") == Shared()
    assert not await state.swap("k", "late", seen=first.version, ttl=MINUTE)
    assert await state.swap("k", "two", seen=0, ttl=MINUTE)

    assert (await state.read("k")).version not in (0, first.version)
    assert not await state.swap("k", "late", seen=first.version, ttl=MINUTE)


async def test_of_many_who_saw_the_same_one_writes(state: SharedState) -> None:
    async def add() -> None:
        while True:
            seen = await state.read("k")
            if await state.swap("k", str(int(seen.text or 0) + 1), seen=seen.version, ttl=10 * SECOND):
                return

    await asyncio.gather(*(add() for _ in range(30)))

    assert (await state.read("k")).text == "30"
