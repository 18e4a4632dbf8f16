"""The shelf and the stories: what other stores answer, MongoDB answers too."""

from __future__ import annotations

import pytest

from peregrine.domain.errors import Invalid
from peregrine.domain.moment import HOUR, MINUTE
from peregrine.domain.occurrence import LedgerEntry, Reason, Skip
from peregrine.domain.query import PageRequest
from peregrine.ports.records import Record
from peregrine.stores.memory import MemoryStore
from peregrine.stores.mongo import history
from peregrine.testing.builders import NOW as START
from peregrine.testing.builders import a_plan, a_task
from peregrine.testing.record_contract import NOW, RECORD_CHECKS, Check
from peregrine.testing.store_contract.story import tell
from tests.auth.last_key import check_nobody_takes_the_last_key
from tests.services.mongo_places import MongoStores

pytestmark = [pytest.mark.anyio, pytest.mark.services]

STEPS = 80


@pytest.mark.parametrize("check", [*RECORD_CHECKS, check_nobody_takes_the_last_key], ids=lambda check: check.__name__)
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


async def test_a_far_page_of_the_ledger_is_found_by_its_places(
    stores: MongoStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "FAR", 3)
    store, task = await stores.fresh(), a_task()
    await store.create_tasks([task])
    skips = [Skip(at, at, 1, Reason.OVERLAP) for at in range(START + MINUTE, START + 20 * MINUTE, 2 * MINUTE)]
    runs = [START + 2 * n * MINUTE for n in range(1, 11)]
    await store.apply_plans([a_plan(task, *runs, skips=skips)], START + HOUR)
    whole = list((await store.list_occurrences(task.id, PageRequest(size=100))).items)
    assert len(whole) == 20

    for size in (1, 4, 7):
        found: list[LedgerEntry] = []
        for number in range(1, -(-20 // size) + 1):
            page = await store.list_occurrences(task.id, PageRequest(size=size, number=number))
            assert page.total == 20
            found += page.items
        assert found == whole
    beyond = await store.list_occurrences(task.id, PageRequest(size=7, number=9))
    assert (list(beyond.items), beyond.next_cursor) == ([], None)
    with pytest.raises(Invalid):
        await store.list_occurrences(task.id, PageRequest(size=100, number=1_002))
