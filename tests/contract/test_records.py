"""Every shelf keeps the contract of records, and what a file holds is there when it is opened again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from peregrine.ports.records import Record, RecordStore
from peregrine.stores.memory_records import MemoryRecords
from peregrine.stores.sqlite.store import SqliteStore
from peregrine.testing.record_contract import NOW, RECORD_CHECKS, Check
from tests.auth.last_key import check_nobody_takes_the_last_key

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["memory", "sqlite"])
async def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RecordStore]:
    if request.param == "memory":
        yield MemoryRecords()
        return
    store = SqliteStore(tmp_path / "store.db", ballast_bytes=0)
    await store.open()
    yield store
    await store.close()


@pytest.mark.parametrize("check", [*RECORD_CHECKS, check_nobody_takes_the_last_key], ids=lambda check: check.__name__)
async def test_records(check: Check, shelf: RecordStore) -> None:
    await check(shelf)


async def test_records_outlive_the_process(tmp_path: Path) -> None:
    revisions = []
    for _ in range(2):
        store = SqliteStore(tmp_path / "store.db", ballast_bytes=0)
        await store.open()
        kept = await store.put_record(Record(collection="c", key="k"), expected_revision=None, now=NOW)
        revisions.append(kept.revision)
        await store.close()

    assert revisions == [1, 2]
