"""Affiliations of all characters are brought up to date: in batches, changes alone, one bad id sinks nobody else."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest

from peregrine.domain.moment import DAY, HOUR, MINUTE
from peregrine.modules.esi.characters import DOOMHEIM, POISON_MAX, Characters
from peregrine.ports.esi import EsiRefused, EsiUnavailable
from peregrine.ports.eve import Affiliation
from peregrine.ports.eve_modules import AffiliationsUpdated
from peregrine.stores.memory_eve import MemoryEve
from peregrine.stores.memory_records import MemoryRecords
from peregrine.testing.clock import ManualClock, run_virtual
from peregrine.testing.eve_contract import a_character
from tests.modules.eve_world import Dead, Dying, Run, TinyEsi, away, distant

FIRST = 90_000_000
OLD, NEW = 98_000_001, 98_000_002


class World:
    """So many characters in the store; those in *moved* belong elsewhere by now."""

    def __init__(self, count: int) -> None:
        self.clock = ManualClock()
        self.esi = TinyEsi(self.clock)
        self.store, self.records = MemoryEve(), MemoryRecords()
        self.ids = range(FIRST, FIRST + count)
        self.module = Characters(self.esi, distant(self.store), self.records, self.clock)

    async def filled(self, moved: Sequence[int] = ()) -> None:
        everyone = [a_character(id, corporation_id=OLD, alliance_id=99_000_001, faction_id=None) for id in self.ids]
        await self.store.put_characters(everyone, now=self.clock.now())
        self.esi.members = {id: Affiliation(id, OLD, 99_000_001) for id in self.ids}
        for id in moved:
            self.esi.members[id] = Affiliation(id, NEW)

    async def run(self, run: Run | None = None) -> AffiliationsUpdated:
        return await self.module.update_all_affiliations(run or Run(self.clock))

    async def corporation_of(self, id: int) -> tuple[int, int | None]:
        (found,) = await self.store.affiliations_of([id])
        return found.corporation_id, found.alliance_id


def counts(result: AffiliationsUpdated) -> tuple[int, int, int]:
    return result.updated_characters, result.failed_characters, result.skipped_characters


def tell(story: Coroutine[Any, Any, None]) -> None:
    run_virtual(story)


def test_changes_alone_are_written() -> None:
    """In batches of a thousand, three at once; who left the alliance has none any more."""

    async def story() -> None:
        world = World(5_500)
        await world.filled(moved=[FIRST, FIRST + 5_000])
        run = Run(world.clock)

        result = await world.run(run)

        assert counts(result) == (2, 0, 5_498)
        assert sorted(map(len, world.esi.asked)) == [500, 1000, 1000, 1000, 1000, 1000]
        assert world.esi.at_once_max == 3
        assert await world.corporation_of(FIRST + 5_000) == (NEW, None)
        assert await world.corporation_of(FIRST + 1) == (OLD, 99_000_001)
        assert run.steps[-1] == 1.0
        assert counts(await world.run()) == (0, 0, 5_500)

    tell(story())


def test_one_bad_id_sinks_nobody_else_and_is_left_alone_for_a_week() -> None:
    async def story() -> None:
        world = World(1_000)
        await world.filled(moved=world.ids)
        world.esi.poison = {FIRST + 333, FIRST + 334}
        run = Run(world.clock)

        assert counts(await world.run(run)) == (998, 2, 0)
        assert len([line for line in run.lines if "left alone" in line]) == 2
        questions = len(world.esi.asked)

        assert counts(await world.run()) == (0, 0, 1_000)
        assert len(world.esi.asked) == questions + 1
        await world.clock.advance(8 * DAY)
        world.esi.poison = set()
        assert counts(await world.run()) == (2, 0, 998)

    tell(story())


def test_when_everything_is_refused_the_run_ends() -> None:
    """A changed route would otherwise cost a refusal for each character there is."""

    async def story() -> None:
        world = World(3_000)
        await world.filled()
        world.esi.poison = set(world.ids)

        with pytest.raises(EsiRefused):
            await world.run()

        assert len(world.esi.asked) < 5 * POISON_MAX

    tell(story())


def test_deleted_characters_are_not_asked_about() -> None:
    async def story() -> None:
        world = World(10)
        await world.filled()
        await world.store.set_affiliations([Affiliation(FIRST, DOOMHEIM)], now=1)

        assert counts(await world.run()) == (0, 0, 10)
        assert world.esi.asked == [list(world.ids)[1:]]

    tell(story())


def test_who_is_missing_in_an_answer_counts_as_failed() -> None:
    async def story() -> None:
        world = World(10)
        await world.filled(moved=world.ids)
        del world.esi.members[FIRST + 3]

        assert counts(await world.run()) == (9, 1, 0)

    tell(story())


def test_a_downtime_is_waited_for() -> None:
    """Quarter of an hour away, and the run ends well, all in one: nothing was asked meanwhile."""

    async def story() -> None:
        world = World(2_000)
        await world.filled(moved=world.ids)
        world.esi.trouble = [away(15 * 60), away(15 * 60)]
        run = Run(world.clock, timeout=30 * MINUTE)
        began = world.clock.monotonic()

        assert counts(await world.run(run)) == (2_000, 0, 0)

        assert 15 * MINUTE <= world.clock.monotonic() - began < 16 * MINUTE
        assert len([line for line in run.lines if line.startswith("held for 15m")]) == 1
        assert len(world.esi.asked) == 4

    tell(story())


def test_a_downtime_longer_than_the_run_may_take_ends_it() -> None:
    async def story() -> None:
        world = World(2_000)
        await world.filled()
        world.esi.trouble = [away(15 * 60)] * 9

        with pytest.raises(EsiUnavailable):
            await world.run(Run(world.clock, timeout=10 * MINUTE))

        assert len(world.esi.asked) <= 2

    tell(story())


def test_one_batch_that_gets_no_answer_leaves_the_others() -> None:
    async def story() -> None:
        world = World(3_000)
        await world.filled(moved=world.ids)
        world.esi.seconds = 0.0
        world.esi.trouble = [away(), None, None, away(), away()]

        assert counts(await world.run()) == (2_000, 1_000, 0)

    tell(story())


@pytest.mark.parametrize("writes", range(6))
def test_whoever_dies_between_two_writes_leaves_what_is_true(writes: int) -> None:
    """Every character has its old or its new place whole, and the next run brings the rest."""

    async def story() -> None:
        world = World(5_000)
        await world.filled(moved=world.ids)
        dying = Dying(world.store, at=writes, verbs=["set_affiliations"])
        world.module = Characters(world.esi, dying, world.records, world.clock)  # type: ignore[arg-type]
        if writes < 5:
            with pytest.raises(Dead):
                await world.run()
        else:
            await world.run()

        places = {(one.corporation_id, one.alliance_id) for one in await world.store.affiliations_of(world.ids)}
        assert places <= {(OLD, 99_000_001), (NEW, None)}
        world.module = Characters(world.esi, world.store, world.records, world.clock)
        assert counts(await world.run()) == (5_000 - writes * 1_000, 0, writes * 1_000)

    tell(story())


def test_a_cancel_ends_it_at_once() -> None:
    async def story() -> None:
        world = World(50_000)
        await world.filled()
        run = asyncio.create_task(world.run())
        await world.clock.advance(1_050)

        run.cancel()
        began = world.clock.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await run

        assert world.clock.monotonic() == began
        assert world.esi.at_once == 0
        asked = len(world.esi.asked)
        await world.clock.advance(HOUR)
        assert len(world.esi.asked) == asked < 50

    tell(story())


def test_ten_times_the_characters_take_hardly_more_memory() -> None:
    """What a run holds grows by eight bytes a character: a million of them is some megabytes."""

    class Sparse:
        """Characters that are made when they are looked at, and remembered by nobody."""

        def __init__(self, count: int) -> None:
            self.count = count

        async def character_ids(self, *, after: int, limit: int) -> Sequence[int]:
            start = max(after + 1, FIRST)
            return range(start, min(start + limit, FIRST + self.count))

        async def affiliations_of(self, ids: Sequence[int]) -> Sequence[Affiliation]:
            return [Affiliation(id, OLD) for id in ids]

        async def set_affiliations(self, changes: Sequence[Affiliation], *, now: int) -> int:
            return len(changes)

    class Willing(TinyEsi):
        """Everybody has moved."""

        async def affiliations(self, ids: Sequence[int]) -> Sequence[Affiliation]:
            return [Affiliation(id, NEW) for id in ids]

    async def story(count: int) -> None:
        clock = ManualClock()
        module = Characters(Willing(clock), Sparse(count), MemoryRecords(), clock)  # type: ignore[arg-type]
        assert counts(await module.update_all_affiliations(Run(clock))) == (count, 0, 0)

    def peak(count: int) -> int:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        run_virtual(story(count))
        return tracemalloc.get_traced_memory()[1] - before

    tracemalloc.start()
    try:
        peak(20_000)
        small, large = peak(20_000), peak(200_000)
    finally:
        tracemalloc.stop()

    # 180,000 more ids of eight bytes, in an array that grows by doubling at worst.
    assert large - small < 180_000 * 24
