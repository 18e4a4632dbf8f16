"""All that a store holds can be laid down in MongoDB, read out of it again, and works there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from peregrine.domain.errors import Conflict
from peregrine.ports.moving import Kind
from peregrine.stores.mongo import moving
from peregrine.stores.mongo.commands import EXECUTIONS, TASKS
from peregrine.testing.builders import a_task
from peregrine.testing.moving_contract import CHECKS, Check, everything, move
from tests.services.mongo_places import MongoStores
from tests.services.test_mongo_store_takeover import an_old_execution, an_old_task
from tests.stores.sqlite_places import a_store

pytestmark = [pytest.mark.anyio, pytest.mark.services]


@pytest.fixture
async def others(mongo_uri: str, mongo_place: str) -> AsyncIterator[MongoStores]:
    """Stores on another database."""
    given = MongoStores(mongo_uri, f"{mongo_place}_too")
    yield given
    await given.close()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_from_sqlite_to_mongo(check: Check, stores: MongoStores, tmp_path: Path) -> None:
    source = a_store(tmp_path / "source.db")
    await source.open()

    await check(source, await stores.fresh())

    await source.close()


@pytest.mark.parametrize("check", CHECKS[:3], ids=lambda check: check.__name__)
async def test_from_mongo_to_mongo(check: Check, stores: MongoStores, others: MongoStores) -> None:
    await check(await stores.fresh(), await others.fresh())


async def test_what_an_earlier_program_left_is_moved_too(
    stores: MongoStores, others: MongoStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has neither keys nor numbers; and where there is much, an index is made for the while."""
    monkeypatch.setattr(moving, "MANY", 2)
    before, target = await stores.fresh(), await others.fresh()
    await before.commands.insert(TASKS, [an_old_task()])
    await before.commands.insert(EXECUTIONS, [an_old_execution(_id=id) for id in "abcde"])
    source = await stores.reopen()

    laid = await move(source, target, limit=2)

    assert laid == 6
    assert await source.count_items(Kind.EXECUTIONS) == 5
    assert await everything(target) == await everything(source)
    assert "peregrine_moving" not in await source.commands.index_names(EXECUTIONS)


async def test_a_name_that_another_task_has_stops_the_move(stores: MongoStores, others: MongoStores) -> None:
    source, target = await stores.fresh(), await others.fresh()
    await source.create_tasks([a_task("one", name="same")])
    await target.create_tasks([a_task("two", name="same")])

    with pytest.raises(Conflict, match="one"):
        await move(source, target)
