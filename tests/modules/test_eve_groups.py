"""Alliances and corporations are brought up to date: politely, whole, leavers cleared, the vanished marked."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pytest

from peregrine.domain.moment import MINUTE
from peregrine.modules.esi.alliances import BATCH, Alliances
from peregrine.modules.esi.corporations import Corporations
from peregrine.ports.esi import CorporationFacts, EsiRefused, EsiUnavailable
from peregrine.ports.eve import Alliance, Corporation
from peregrine.ports.eve_modules import AlliancesImported, CorporationsUpdated
from peregrine.stores.memory_eve import MemoryEve
from peregrine.testing.clock import ManualClock, run_virtual
from peregrine.testing.eve_contract import a_character, a_corporation, an_alliance
from tests.modules.eve_world import Dead, Dying, Run, TinyEsi, away, distant

ALLIANCE, CORPORATION = 99_000_000, 98_000_000


def an_alliance_fact(id: int, **more: Any) -> Alliance:
    whole: dict[str, Any] = {"name": f"A{id}", "ticker": "A", "date_founded": 1, "creator_corporation_id": 2,
                             "creator_character_id": 3, "executor_corporation_id": 4}  # fmt: skip
    return Alliance(alliance_id=id, **(whole | more))


def a_corporation_fact(id: int, *, is_closed: bool = False, **more: Any) -> CorporationFacts:
    whole: dict[str, Any] = {"name": f"C{id}", "ticker": "C", "member_count": 5, "tax_rate": 0.1, "ceo_id": 7,
                             "alliance_id": ALLIANCE}  # fmt: skip
    return CorporationFacts(Corporation(corporation_id=id, **(whole | more)), is_closed)


class World:
    """An EVE of so many alliances and corporations, and an empty store."""

    def __init__(self, count: int = 0) -> None:
        self.clock = ManualClock()
        self.esi = TinyEsi(self.clock)
        self.store = MemoryEve()
        self.esi.alliances = {ALLIANCE + n: an_alliance_fact(ALLIANCE + n) for n in range(count)}
        self.esi.corporations = {CORPORATION + n: a_corporation_fact(CORPORATION + n) for n in range(count)}

    async def knows(self, *ids: int) -> None:
        """The store knows corporations of these ids, and nothing true of them."""
        await self.store.put_corporations([Corporation(corporation_id=id, name="", ticker="") for id in ids], now=1)

    async def alliances(self, run: Run | None = None) -> AlliancesImported:
        return await Alliances(self.esi, distant(self.store), self.clock).bulk_import_alliances(run or Run(self.clock))

    async def corporations(self, workers: int = 10, run: Run | None = None) -> CorporationsUpdated:
        module = Corporations(self.esi, distant(self.store), self.clock)
        return await module.update_all_corporations(run or Run(self.clock), workers)


def tell(story: Coroutine[Any, Any, None]) -> None:
    run_virtual(story)


# ── alliances ────────────────────────────────────────────────────────────────────────────────────


def test_every_alliance_is_imported_in_polite_batches() -> None:
    async def story() -> None:
        world = World(95)
        run, began = Run(world.clock), world.clock.monotonic()

        result = await world.alliances(run)

        assert result == AlliancesImported(total=95, processed=95, created=95, updated=0, failed=0, skipped=0)
        assert world.esi.at_once_max == BATCH
        assert world.clock.monotonic() - began >= 9 * 200
        assert run.steps[-1] == 1.0
        (one,) = await world.store.alliances_of([ALLIANCE])
        assert replace(one, created_at=0, updated_at=0) == replace(
            an_alliance(ALLIANCE), name=f"A{ALLIANCE}", ticker="A", date_founded=1, creator_corporation_id=2,
            creator_character_id=3, executor_corporation_id=4, faction_id=None,
        )  # fmt: skip

    tell(story())


def test_a_second_import_writes_changes_alone() -> None:
    async def story() -> None:
        world = World(20)
        await world.alliances()
        world.esi.alliances[ALLIANCE] = an_alliance_fact(ALLIANCE, executor_corporation_id=None)

        result = await world.alliances()

        assert (result.created, result.updated, result.skipped) == (0, 1, 19)
        (closed,) = await world.store.alliances_of([ALLIANCE])
        assert closed.executor_corporation_id is None

    tell(story())


def test_alliances_that_are_not_listed_any_more_are_marked() -> None:
    async def story() -> None:
        world = World(20)
        await world.alliances()
        del world.esi.alliances[ALLIANCE + 5]

        await world.alliances()

        assert ALLIANCE + 5 not in await world.store.alliance_ids(after=0, limit=99)
        (gone,) = await world.store.alliances_of([ALLIANCE + 5])
        assert gone.deleted_at is not None

    tell(story())


def test_a_list_that_looks_cut_off_marks_nobody() -> None:
    async def story() -> None:
        world = World(40)
        await world.alliances()
        world.esi.listed = []
        run = Run(world.clock)

        await world.alliances(run)

        assert len(await world.store.alliance_ids(after=0, limit=99)) == 40
        assert any("none of them is marked" in line for line in run.lines)

    tell(story())


def test_an_alliance_that_esi_will_not_tell_of_stops_nobody() -> None:
    async def story() -> None:
        world = World(20)
        world.esi.odd = {ALLIANCE + 3: EsiRefused(400, ""), ALLIANCE + 4: away()}

        result = await world.alliances()

        assert (result.processed, result.created, result.failed) == (20, 18, 2)

    tell(story())


def test_an_import_ends_when_esi_is_away() -> None:
    async def story() -> None:
        world = World(500)
        world.esi.odd = {id: away() for id in list(world.esi.alliances)[100:]}

        with pytest.raises(EsiUnavailable):
            await world.alliances()

        assert len(await world.store.alliance_ids(after=0, limit=999)) == 100
        assert len(world.esi.asked) < 200

    tell(story())


@pytest.mark.parametrize("writes", [0, 1, 2, 3])
def test_an_import_that_dies_is_finished_by_the_next(writes: int) -> None:
    async def story() -> None:
        world = World(20)
        dying = Dying(world.store, at=writes, verbs=["put_alliances", "vanish_alliances"])
        await world.store.put_alliances([an_alliance(1)], now=1)
        module = Alliances(world.esi, dying, world.clock)  # type: ignore[arg-type]
        try:
            await module.bulk_import_alliances(Run(world.clock))
        except Dead:
            assert writes < 3

        await world.alliances()

        assert list(await world.store.alliance_ids(after=0, limit=99)) == sorted(world.esi.alliances)

    tell(story())


# ── corporations ─────────────────────────────────────────────────────────────────────────────────


def test_every_known_corporation_is_updated_by_ten_workers() -> None:
    """Also those that only a character names; with a pause each, and a line for every hundred."""

    async def story() -> None:
        world = World(250)
        await world.knows(*list(world.esi.corporations)[:249])
        await world.store.put_characters([a_character(1, corporation_id=CORPORATION + 249)], now=1)
        run, began = Run(world.clock), world.clock.monotonic()

        result = await world.corporations(run=run)

        assert result == CorporationsUpdated(total=250, updated=250, unchanged=0, failed=0, vanished=0)
        assert world.esi.at_once_max == 10
        assert world.clock.monotonic() - began >= 25 * 150
        assert run.lines == [f"{n} of 250 corporations" for n in (100, 200, 250)]
        again = await world.corporations()
        assert (again.updated, again.unchanged) == (0, 250)

    tell(story())


@pytest.mark.parametrize("workers", [0, -3, 1, 10_000])
def test_workers_are_at_least_one_and_never_a_crowd(workers: int) -> None:
    async def story() -> None:
        world = World(120)
        await world.knows(*world.esi.corporations)

        result = await world.corporations(workers)

        assert result.updated == 120
        assert world.esi.at_once_max == min(max(1, workers), 50)

    tell(story())


def test_a_leaver_loses_its_alliance() -> None:
    async def story() -> None:
        world = World()
        await world.store.put_corporations([a_corporation(CORPORATION)], now=1)
        world.esi.corporations = {CORPORATION: a_corporation_fact(CORPORATION, alliance_id=None)}

        await world.corporations()

        (left,) = await world.store.corporations_of([CORPORATION])
        assert (left.alliance_id, left.created_at) == (None, 1)

    tell(story())


def test_closed_and_unknown_corporations_are_marked_and_not_asked_about_again() -> None:
    async def story() -> None:
        world = World(3)
        await world.knows(*world.esi.corporations)
        del world.esi.corporations[CORPORATION + 1]
        world.esi.corporations[CORPORATION + 2] = a_corporation_fact(CORPORATION + 2, is_closed=True, ceo_id=None)

        result = await world.corporations()

        assert (result.updated, result.vanished) == (2, 2)
        assert list(await world.store.corporation_ids(after=0, limit=9)) == [CORPORATION]
        (_, gone, closed) = await world.store.corporations_of([CORPORATION, CORPORATION + 1, CORPORATION + 2])
        assert gone.deleted_at is not None
        assert closed.deleted_at is not None
        assert closed.name == f"C{CORPORATION + 2}"

    tell(story())


def test_single_failures_stop_nobody() -> None:
    async def story() -> None:
        world = World(30)
        await world.knows(*world.esi.corporations)
        world.esi.odd = {CORPORATION + 3: EsiRefused(400, ""), CORPORATION + 14: away()}

        result = await world.corporations()

        assert (result.updated, result.failed) == (28, 2)

    tell(story())


def test_nothing_learnt_is_lost_while_another_worker_writes() -> None:
    """Workers go on learning while a hundred are written; each corporation is written all the same."""

    async def story() -> None:
        world = World(1_000)
        await world.knows(*world.esi.corporations)

        class Slow:
            """A store whose writes take their time."""

            def __getattr__(self, name: str) -> Any:
                return getattr(world.store, name)

            async def put_corporations(self, *given: Any, **named: Any) -> Any:
                await world.clock.advance(3_000)
                return await world.store.put_corporations(*given, **named)

        module = Corporations(world.esi, Slow(), world.clock)
        result = await module.update_all_corporations(Run(world.clock), 10)

        assert result.updated == 1_000
        names = {one.name for one in await world.store.corporations_of(list(world.esi.corporations))}
        assert len(names) == 1_000

    tell(story())


def test_a_cancel_keeps_what_was_written() -> None:
    async def story() -> None:
        world = World(1_000)
        await world.knows(*world.esi.corporations)
        run = asyncio.create_task(world.corporations())
        await world.clock.advance(4_000)

        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

        assert world.esi.at_once == 0
        asked = len(world.esi.asked)
        await world.clock.advance(10 * MINUTE)
        assert len(world.esi.asked) == asked
        names = [one.name for one in await world.store.corporations_of(list(world.esi.corporations))]
        assert names.count("") % 100 == 0
        assert 0 < names.count("") < 1_000
        result = await world.corporations()
        assert result.updated == names.count("")

    tell(story())


def test_a_run_that_was_cut_off_is_taken_up_where_it_ended() -> None:
    """More corporations than a run has time for: those at the end have their turn all the same."""

    async def story() -> None:
        world = World(400)
        await world.knows(*world.esi.corporations)
        module = Corporations(world.esi, distant(world.store), world.clock)
        run = asyncio.create_task(module.update_all_corporations(Run(world.clock), 10))
        await world.clock.advance(3_100)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        asked = len(world.esi.asked)

        await module.update_all_corporations(Run(world.clock), 10)

        later = world.esi.asked[asked:]
        assert later[0] > CORPORATION + 150
        assert sorted(later) == sorted(world.esi.corporations)
        await module.update_all_corporations(Run(world.clock), 1)
        assert world.esi.asked[-400] == CORPORATION

    tell(story())


@pytest.mark.parametrize("writes", range(5))
def test_an_update_that_dies_leaves_whole_corporations(writes: int) -> None:
    async def story() -> None:
        world = World(250)
        await world.knows(*world.esi.corporations)
        dying = Dying(world.store, at=writes, verbs=["put_corporations", "vanish_corporations"])
        module = Corporations(world.esi, dying, world.clock)  # type: ignore[arg-type]
        try:
            await module.update_all_corporations(Run(world.clock), 10)
        except Dead:
            pass
        names = [one.name for one in await world.store.corporations_of(list(world.esi.corporations))]
        assert all(name in ("", f"C{CORPORATION + n}") for n, name in enumerate(names))

        result = await world.corporations()

        assert (result.updated, result.unchanged) == (names.count(""), 250 - names.count(""))

    tell(story())
