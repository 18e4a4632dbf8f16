"""The version of a file: whoever writes changes it, nobody is waited for, and without it the store works as before."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import apsw
import pytest

from peregrine.domain.errors import Unavailable
from peregrine.stores.sqlite.store import SqliteStore
from peregrine.testing.builders import NOW, a_new_execution, a_task
from peregrine.testing.store_contract.steps import claimed, photograph, queued, settled, stored
from tests.stores.sqlite_places import a_store, looked_at

pytestmark = pytest.mark.anyio


async def test_an_open_file_tells_its_version_and_a_closed_one_does_not(tmp_path: Path) -> None:
    store = a_store(tmp_path / "s.db")
    assert store.version() is None

    await store.open()
    assert store.version() == store.version() is not None

    await store.close()
    assert store.version() is None


async def test_any_program_that_writes_changes_the_version_when_it_commits(tmp_path: Path) -> None:
    store = a_store(tmp_path / "s.db")
    await store.open()
    await stored(store, a_task())
    before = store.version()

    with looked_at(tmp_path / "s.db") as db:
        db.execute("BEGIN IMMEDIATE")
        db.execute("UPDATE task_progress SET total_runs = 7")
        assert store.version() == before
        db.execute("COMMIT")
        changed = store.version()
        db.execute("BEGIN IMMEDIATE")
        db.execute("UPDATE task_progress SET total_runs = 8")
        db.execute("ROLLBACK")

    assert changed != before
    assert store.version() == changed
    await store.close()


@pytest.mark.parametrize("seed", range(5))
async def test_while_the_version_is_the_same_all_reads_are(tmp_path: Path, seed: int) -> None:
    """Two stores on one file, as two processes: whichever writes, and however the log is folded in between."""
    chance = random.Random(seed)
    stores = [a_store(tmp_path / "s.db") for _ in range(2)]
    for store in stores:
        await store.open()
    await stored(stores[0], a_task())
    seen: dict[tuple[int, int | None], object] = {}

    for number in range(40):
        writer = chance.choice(stores)
        match chance.randrange(6):
            case 0:
                await queued(writer, a_new_execution(f"e{number}"))
            case 1:
                for claim in await claimed(writer, limit=1):
                    await settled(writer, claim)
            case 2:
                await stored(writer, a_task(f"t{number}"))
            case 3:
                await writer.maintain()
        for index, reader in enumerate(stores):
            version, read = reader.version(), await photograph(reader)
            assert version is not None
            assert seen.setdefault((index, version), read) == read

    assert len(seen) > 20
    for store in stores:
        await store.close()


async def test_where_it_would_have_to_wait_nothing_is_known(tmp_path: Path) -> None:
    store = a_store(tmp_path / "s.db")
    await store.open()
    await stored(store, a_task())
    await store.close()
    with looked_at(tmp_path / "s.db") as db:
        db.pragma("journal_mode", "delete")
        db.execute("BEGIN EXCLUSIVE")
        version = store._version
        version._connect = lambda: apsw.Connection(str(tmp_path / "s.db"))
        version.open()

        assert version.now() is None

        db.execute("COMMIT")
    assert version.now() is not None
    version.close()


class Blind(SqliteStore):
    """A store that gets no connection before it is open."""

    def _connect(self, *, reads_only: bool) -> apsw.Connection:
        if not self._writer.is_open:
            raise Unavailable("not yet")
        return super()._connect(reads_only=reads_only)


async def test_a_store_that_can_not_tell_works(tmp_path: Path) -> None:
    store = Blind(tmp_path / "s.db", ballast_bytes=0)
    await store.open()
    await stored(store, a_task())

    assert store.version() is None
    assert await store.get_task(a_task().id) is not None
    await store.close()


async def test_the_look_is_a_few_steps_however_much_there_is(tmp_path: Path) -> None:
    store = a_store(tmp_path / "s.db")
    await store.open()
    await stored(store, *(a_task(f"t{number}") for number in range(500)))
    await asyncio.gather(*(store.enqueue(a_new_execution(f"e{n}", f"t{n}"), queue_limit=NOW) for n in range(500)))
    db = store._version._db
    assert db is not None
    steps = []
    db.trace_v2(apsw.SQLITE_TRACE_PROFILE, lambda seen: steps.append(seen["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"]))

    store.version()

    assert sum(steps) < 20
    await store.close()
