"""A whole store is moved, compared, and neither half of it nor what was left behind is started by mistake."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from peregrine.domain.errors import Conflict, Unavailable, UnsafeStore
from peregrine.domain.moment import MINUTE
from peregrine.ports.host import Instance
from peregrine.ports.moving import Item, Kind, StoredTask
from peregrine.stores.sqlite.store import SqliteStore
from peregrine.testing.builders import NOW, a_task, an_instance
from peregrine.testing.clock import ManualClock
from peregrine.testing.moving_contract import everything
from peregrine.testing.store_contract.story import tell
from peregrine.usecases.moving import MOVES, Road, close_source, move, refuse_moved, release, user_of
from tests.stores.sqlite_places import a_store


class Wobbly(SqliteStore):
    """A store that fails, or alters what it is given, once so many batches are laid down."""

    fails_after: int | None = None
    alters = False
    laid = 0

    async def lay_items(self, items: Sequence[Item]) -> int:
        if self.fails_after is not None and self.laid >= self.fails_after:
            raise Unavailable("the store is away")
        self.laid += 1
        if self.alters:
            items = [replace(i, cursor=i.cursor + 1) if isinstance(i, StoredTask) else i for i in items]
        return await super().lay_items(items)


@pytest.fixture
async def road(tmp_path: Path) -> AsyncIterator[Road]:
    source, target = a_store(tmp_path / "source.db"), Wobbly(tmp_path / "target.db", ballast_bytes=0)
    await source.open()
    await target.open()
    yield Road(source=source, target=target, source_name="here", target_name="there", clock=ManualClock(NOW))
    await source.close()
    await target.close()


def nobody(kind: Kind, done: int, of: int) -> None:
    """Hears how far it is."""


async def without_moves(store: SqliteStore) -> list[Item]:
    return [item for item in await everything(store) if getattr(item, "collection", "") != MOVES]


async def test_everything_is_moved_and_counted(road: Road) -> None:
    await tell(road.source, 3, 150)
    heard: dict[Kind, tuple[int, int]] = {}

    moved = await move(road, lambda kind, done, of: heard.update({kind: (done, of)}))

    assert isinstance(road.source, SqliteStore)
    assert isinstance(road.target, SqliteStore)
    assert await without_moves(road.target) == await everything(road.source)
    assert heard == {kind: (count, count) for kind, count in moved.items()}
    await refuse_moved(road.target, road.clock)


async def test_a_move_that_was_cut_off_is_not_started_and_goes_on(road: Road) -> None:
    await tell(road.source, 4, 150)
    assert isinstance(road.target, Wobbly)
    road.target.fails_after = 2
    with pytest.raises(Unavailable):
        await move(road, nobody)
    with pytest.raises(UnsafeStore, match="was not finished"):
        await refuse_moved(road.target, road.clock)
    road.target.fails_after = None

    await move(road, nobody)

    assert isinstance(road.source, SqliteStore)
    assert await without_moves(road.target) == await everything(road.source)
    await refuse_moved(road.target, road.clock)


async def test_what_arrives_otherwise_than_it_was_sent_is_found(road: Road) -> None:
    await road.source.create_tasks([a_task()])
    assert isinstance(road.target, Wobbly)
    road.target.alters = True

    with pytest.raises(Conflict, match="not as they were"):
        await move(road, nobody)

    with pytest.raises(UnsafeStore):
        await refuse_moved(road.target, road.clock)


async def test_nothing_is_moved_into_a_store_that_holds_something(road: Road) -> None:
    await road.target.create_tasks([a_task("other")])

    with pytest.raises(Conflict, match="holds 1 tasks already"):
        await move(road, nobody)


async def test_nothing_is_moved_into_what_was_moved_from_elsewhere(road: Road) -> None:
    await road.source.create_tasks([a_task()])
    await move(road, nobody)

    for again in (road, replace(road, source_name="elsewhere")):
        with pytest.raises(Conflict, match="holds what was moved from here"):
            await move(again, nobody)


async def test_a_source_is_not_started_any_more_unless_it_is_released(road: Road) -> None:
    await move(road, nobody)
    await refuse_moved(road.source, road.clock)

    await close_source(road)

    with pytest.raises(UnsafeStore, match="moved to there"):
        await refuse_moved(road.source, road.clock)
    assert await release(road.source, road.clock)
    await refuse_moved(road.source, road.clock)
    assert not await release(road.source, road.clock)


# ── who uses it ──────────────────────────────────────────────────────────────────────────────────


class Around:
    """A host that knows who is gone."""

    def __init__(self, *gone: str) -> None:
        self._gone = gone

    def is_gone(self, instance: Instance) -> bool:
        return instance.id in self._gone

    def is_alive(self, instance: Instance) -> bool:
        return instance.host == "here"


async def found(road: Road, host: Around, *during: Instance) -> str | None:
    async def wait() -> None:
        for one in during:
            await road.source.announce(one, now=NOW + MINUTE)

    user = await user_of(road.source, host, wait, lambda text: None)
    return None if user is None else user.id


async def test_who_uses_a_store_is_found_by_watching(road: Road) -> None:
    dead, alive, late = (an_instance(id) for id in ("dead", "alive", "late"))
    assert await found(road, Around()) is None
    await road.source.announce(dead, now=NOW)

    assert await found(road, Around("dead"), alive) is None, "who is gone for certain need not be watched"
    await road.source.retire([alive.id])
    assert await found(road, Around()) is None, "who does not count on is dead"
    assert await found(road, Around(), late) == "late", "who comes meanwhile is alive"
    await road.source.announce(an_instance("neighbour", host="here"), now=NOW)
    assert await found(road, Around()) == "neighbour", "who is seen need not be watched"
