"""The files of a store: made whole, for nobody else, set for safety, and missed as soon as they are moved."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from pathlib import Path

import apsw
import pytest

from peregrine.domain.errors import Invalid, Unavailable
from peregrine.ports.store import Store
from peregrine.stores.sqlite import folding, migrate, place
from peregrine.stores.sqlite import store as sqlite_store
from peregrine.stores.sqlite.connection import open_connection
from peregrine.stores.sqlite.store import SqliteStore
from peregrine.testing.builders import NOW, a_new_execution, a_task
from tests.stores.sqlite_places import a_store, is_sound, looked_at

pytestmark = pytest.mark.anyio


def names_in(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def rights(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_all_its_files_are_private(folder: Path) -> None:
    path = folder / "new" / "store.db"
    store = SqliteStore(path, ballast_bytes=4096)
    await store.open()
    await store.create_tasks([a_task()])

    found = {file.name: rights(file) for file in path.parent.iterdir()}

    await store.close()
    assert rights(path.parent) == 0o700
    assert found.keys() == {"store.db", "store.db-wal", "store.db-shm", "store.db.ballast"}
    assert set(found.values()) == {0o600}


async def test_a_file_that_others_could_read_is_made_private(folder: Path) -> None:
    path = folder / "store.db"
    await opened_and_closed(path)
    path.chmod(0o644)

    await opened_and_closed(path)

    assert rights(path) == 0o600


async def opened_and_closed(path: Path) -> None:
    store = a_store(path)
    await store.open()
    await store.close()


async def test_nothing_is_left_beside_a_closed_store(folder: Path) -> None:
    await opened_and_closed(folder / "store.db")

    assert names_in(folder) == {"store.db"}


async def test_a_closed_store_is_one_whole_file(folder: Path) -> None:
    """What is closed may be copied with any tool: the log is folded in."""
    path = folder / "store.db"
    store = a_store(path)
    await store.open()
    await store.create_tasks([a_task()])
    await store.close()
    copy = folder / "copy.db"
    copy.write_bytes(path.read_bytes())

    again = a_store(copy)
    await again.open()

    assert await again.get_task(a_task().id) is not None
    await again.close()


@pytest.mark.parametrize("reads_only", [False, True])
async def test_every_connection_is_set_for_safety(folder: Path, *, reads_only: bool) -> None:
    path = folder / "store.db"
    await opened_and_closed(path)
    db = open_connection(path, reads_only=reads_only)

    found = {name: db.pragma(name) for name in ("journal_mode", "synchronous", "foreign_keys", "trusted_schema")}
    found |= {name: db.pragma(name) for name in ("cell_size_check", "mmap_size", "query_only")}

    db.close()
    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,  # FULL: a commit is on the disk before anybody hears of it
        "foreign_keys": 1,
        "trusted_schema": 0,
        "cell_size_check": 1,
        "mmap_size": 0,
        "query_only": int(reads_only),
    }


async def test_a_connection_never_makes_a_file(folder: Path) -> None:
    with pytest.raises(apsw.CantOpenError):
        open_connection(folder / "absent.db")

    assert names_in(folder) == set()


async def test_the_header_says_whose_it_is(folder: Path) -> None:
    await opened_and_closed(folder / "store.db")

    with looked_at(folder / "store.db") as db:
        assert db.pragma("application_id") == place.APPLICATION_ID


async def test_a_draft_that_its_process_left_is_swept_up(folder: Path) -> None:
    old, new = folder / "store.db.bak-1.new-old", folder / "store.db.new-new"
    for draft in (old, new):
        draft.touch()
    os.utime(old, (0, 0))

    await opened_and_closed(folder / "store.db")

    assert names_in(folder) == {"store.db", "store.db.new-new"}


async def test_two_that_begin_at_once_share_one_store(folder: Path) -> None:
    stores = [a_store(folder / "store.db") for _ in range(4)]

    await asyncio.gather(*(store.open() for store in stores))

    await stores[0].create_tasks([a_task()])
    assert [await seen(store) for store in stores] == [True] * 4
    for store in stores:
        await store.close()
    assert names_in(folder) == {"store.db"}


async def seen(store: Store) -> bool:
    return await store.get_task(a_task().id) is not None


@pytest.mark.parametrize("replaced", [False, True], ids=["moved away", "replaced"])
async def test_a_file_that_is_moved_under_us_is_noticed(folder: Path, *, replaced: bool) -> None:
    """Else every later write would be acknowledged and go to a file that nobody finds again."""
    path = folder / "store.db"
    store = a_store(path)
    await store.open()
    await store.ping()
    path.rename(folder / "elsewhere.db")
    if replaced:
        path.write_bytes((folder / "elsewhere.db").read_bytes())

    with pytest.raises(Unavailable, match="moved, replaced or emptied"):
        await store.create_tasks([a_task()])

    with pytest.raises(Unavailable):
        await store.ping()
    await store.close()


async def test_a_file_that_is_emptied_under_us_is_noticed(folder: Path) -> None:
    """SQLite would find its pages in the log and go on acknowledging, until a start finds a damaged store."""
    path = folder / "store.db"
    store = a_store(path)
    await store.open()
    os.truncate(path, 0)

    with pytest.raises(Unavailable, match="emptied"):
        await store.create_tasks([a_task()])

    with pytest.raises(Unavailable):
        await store.ping()
    await store.close()


async def test_what_is_not_open_is_unavailable(folder: Path) -> None:
    store = a_store(folder / "store.db")
    with pytest.raises(Unavailable):
        await store.ping()
    await store.open()
    await store.close()

    with pytest.raises(Unavailable):
        await store.ping()


async def test_a_backup_is_whole_private_and_never_overwrites(folder: Path) -> None:
    store = a_store(folder / "store.db")
    await store.open()
    await store.create_tasks([a_task()])
    await store.enqueue(a_new_execution(), queue_limit=10)
    copy = folder / "copy.db"

    await store.backup(copy)

    with pytest.raises(Invalid, match="never overwrites"):
        await store.backup(copy)
    await store.close()
    assert rights(copy) == 0o600
    assert is_sound(copy)
    assert names_in(folder) == {"store.db", "copy.db"}
    restored = a_store(copy)
    await restored.open()
    assert await restored.get_execution(a_new_execution().id) is not None
    await restored.close()


async def test_a_backup_that_can_not_be_written_is_unavailable(folder: Path) -> None:
    store = a_store(folder / "store.db")
    await store.open()

    with pytest.raises(Unavailable, match="could not be written"):
        await store.backup(folder / "absent" / "copy.db")

    await store.close()


async def test_a_sound_store_has_nothing_to_report(folder: Path) -> None:
    store = a_store(folder / "store.db")
    await store.open()

    assert await store.check() == []
    await store.close()


async def test_the_facts_are_measured(folder: Path) -> None:
    store = a_store(folder / "store.db")
    await store.open()
    await store.create_tasks([a_task()])
    before = await store.facts()

    await store.maintain()

    after = await store.facts()
    await store.close()
    assert before["sqlite"] == apsw.sqlite_lib_version()
    assert (before["journal"], before["synchronous"], before["check"]) == ("wal", "full", "sound")
    assert before["ballast"] == "switched off"
    assert int(before["wal_bytes"]) > 0
    assert int(after["wal_bytes"]) == 0
    assert int(after["file_bytes"]) > 0


async def test_the_log_does_not_grow_without_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "PAGES_SOON", 20)
    monkeypatch.setattr(folding, "PAGES_NOW", 100)
    store = a_store(folder / "store.db")
    await store.open()
    await store.create_tasks([a_task()])

    for number in range(300):
        await store.enqueue(a_new_execution(f"e{number}"), queue_limit=1000)

    pages = int((await store.facts())["wal_bytes"]) // 4096
    await store.close()
    assert 20 < pages < 200


async def test_a_heavy_list_does_not_delay_the_engine(folder: Path) -> None:
    store = a_store(folder / "store.db", readers=2)
    await store.open()
    await store.create_tasks([a_task()])
    go = threading.Event()
    lists = [asyncio.ensure_future(store._readers.run(lambda _: go.wait())) for _ in range(5)]

    batch = await store.due(NOW + 10**9, 10)

    assert [due.task for due in batch.due] == [a_task()]
    assert await store.running() == []
    assert not any(one.done() for one in lists)
    go.set()
    await asyncio.gather(*lists)
    await store.close()


async def test_a_read_is_given_up_in_the_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_store, "READ_SECONDS", 0.01)
    store = a_store(folder / "store.db")
    await store.open()
    endless = "WITH RECURSIVE n(x) AS (VALUES(1) UNION ALL SELECT x + 1 FROM n) SELECT sum(x) FROM n"

    with pytest.raises(Unavailable, match="took too long"):
        await store._readers.run(lambda db: list(db.execute(endless)))

    assert await store.get_tasks([a_task().id]) == []
    await store.close()


def test_the_look_at_the_pages_ends_some_pages_after_its_time(folder: Path) -> None:
    """A check of the pages is one instruction: it must be asked for the time between pages, or it reads them all."""
    pages = 20 * migrate.CHECK_PAGES
    migrate.create(folder / "store.db", migrate.migrations())
    with looked_at(folder / "store.db") as db:
        db.executemany("INSERT INTO definitions (document) VALUES (?)", [("x" * 4_000,)] * pages)
    db = open_connection(folder / "store.db", reads_only=True)

    assert migrate.quick_faults(db, seconds=0) is None

    read, _ = db.status(apsw.SQLITE_DBSTATUS_CACHE_MISS)
    assert read <= 2 * migrate.CHECK_PAGES
    assert migrate.quick_faults(db, seconds=60) == []
    db.close()


async def test_the_look_at_the_pages_is_bounded(folder: Path) -> None:
    path = folder / "store.db"
    await opened_and_closed(path)
    hurried = a_store(path, check_seconds=0)

    await hurried.open()

    assert (await hurried.facts())["check"] in ("sound", "no fault found in the time there was")
    assert await hurried.statistics(NOW) is not None
    await hurried.close()
