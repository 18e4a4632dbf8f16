"""The shelf and the stories: what other stores answer, MongoDB answers too."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from peregrine.ports.records import Record
from peregrine.stores.memory import MemoryStore
from peregrine.testing.record_contract import NOW, RECORD_CHECKS, Check
from peregrine.testing.store_contract.story import tell
from tests.services.mongo_places import URI, MongoStores

pytestmark = [pytest.mark.anyio, pytest.mark.services]

STEPS = 80


@pytest.fixture
async def stores() -> AsyncIterator[MongoStores]:
    given = MongoStores(URI, "peregrine_records")
    yield given
    await given.close()


@pytest.mark.parametrize("check", RECORD_CHECKS, ids=lambda check: check.__name__)
async def test_records(check: Check, stores: MongoStores) -> None:
    await check(await stores.fresh())


async def test_records_outlive_the_process(stores: MongoStores) -> None:
    first = await stores.fresh()
    await first.put_record(Record(collection="c", key="k", document={"$a.b": {"": 1}}), expected_revision=0, now=NOW)
    await first.close()

    second = await stores.reopen()
    kept = await second.get_record("c", "k", now=NOW)

    assert kept == Record(collection="c", key="k", document={"$a.b": {"": 1}})


@pytest.mark.parametrize("seed", range(101, 103))
async def test_mongo_tells_what_memory_tells(seed: int, stores: MongoStores) -> None:
    expected = await tell(MemoryStore(), seed, STEPS)

    answers = await tell(await stores.fresh(), seed, STEPS)

    assert answers == expected
