"""A full disk, a failing one, one that can only be read, damaged pages, a neighbour that holds on: each is said in
plain words, nothing half written stays, and the store goes on by itself when the trouble is over."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import apsw
import pytest

from peregrine.domain.errors import StorageFull, Unavailable, Unsure
from peregrine.domain.moment import DAY
from peregrine.ports.store import Store
from peregrine.stores.sqlite import connection
from peregrine.stores.sqlite.store import SqliteStore
from peregrine.testing.builders import NOW, a_claim_request, a_new_execution, a_parallel_task, a_settlement, a_task
from tests.stores.sqlite_places import a_store, is_sound

pytestmark = pytest.mark.anyio

QUEUE_LIMIT = 1_000_000


async def filled(store: Store) -> tuple[list[str], Unavailable]:
    """The ids of what ran and ended before the store refused something, and how it refused."""
    ids: list[str] = []
    try:
        while True:
            id = f"fill-{len(ids)}"
            await store.enqueue(a_new_execution(id, parameters={"x": "y" * 20_000}), queue_limit=QUEUE_LIMIT)
            (claim,) = (await store.claim(a_claim_request(1))).claims
            await store.settle([a_settlement(claim)])
            ids.append(id)
    except Unavailable as refusal:
        return ids, refusal


async def there(store: Store, ids: list[str]) -> bool:
    for id in ids:
        if await store.get_execution(a_new_execution(id).id) is None:
            return False
    return True


# ── large ────────────────────────────────────────────────────────────────────────────────────────


class TerseStore(SqliteStore):
    """A store whose SQLite takes no text longer than ten million bytes; usually it is a thousand million."""

    def _connect(self, *, reads_only: bool) -> apsw.Connection:
        db = super()._connect(reads_only=reads_only)
        db.limit(apsw.SQLITE_LIMIT_LENGTH, 10_000_000)
        return db


async def test_a_batch_may_be_larger_than_the_longest_text(folder: Path) -> None:
    """Somebody who queues hundreds with the largest parameters must not stop everybody's work for good."""
    store = TerseStore(folder / "store.db", ballast_bytes=0)
    await store.open()
    await store.create_tasks([a_parallel_task()])
    large = {"x": '"' * 500_000}
    for number in range(12):
        given = large if number % 4 else None
        await store.enqueue(a_new_execution(f"large-{number:02}", parameters=given), queue_limit=QUEUE_LIMIT)

    claims = (await store.claim(a_claim_request())).claims

    assert [claim.parameters for claim in claims] == [large if number % 4 else None for number in range(12)]
    await store.close()


# ── full ─────────────────────────────────────────────────────────────────────────────────────────


class BoundedStore(SqliteStore):
    """A store on a disk of so many pages."""

    pages = 400

    def _connect(self, *, reads_only: bool) -> apsw.Connection:
        db = super()._connect(reads_only=reads_only)
        db.pragma("max_page_count", self.pages)
        return db


async def test_a_full_store_says_so_and_goes_on_when_there_is_room(folder: Path) -> None:
    store = BoundedStore(folder / "store.db", ballast_bytes=0)
    await store.open()
    await store.create_tasks([a_task()])

    ids, refusal = await filled(store)

    assert isinstance(refusal, StorageFull)
    assert str(folder) not in str(refusal)
    assert await there(store, ids)
    assert await store.purge(before=NOW + DAY, limit=len(ids)) == (len(ids), 0)
    await store.enqueue(a_new_execution("after"), queue_limit=QUEUE_LIMIT)
    await store.close()
    assert is_sound(folder / "store.db")


async def test_a_full_store_sinks_only_what_does_not_fit(folder: Path) -> None:
    store = BoundedStore(folder / "store.db", ballast_bytes=0)
    await store.open()
    await store.create_tasks([a_task()])
    big = a_new_execution("big", parameters={"x": "y" * 4096 * 500})
    small = [a_new_execution(f"small-{number}") for number in range(10)]

    answers = await asyncio.gather(
        *(store.enqueue(new, queue_limit=QUEUE_LIMIT) for new in [*small[:5], big, *small[5:]]), return_exceptions=True
    )

    assert [type(answer).__name__ for answer in answers] == ["Execution"] * 5 + ["StorageFull"] + ["Execution"] * 5
    await store.close()


def run(*command: object) -> bool:
    return subprocess.run([str(part) for part in command], check=False, capture_output=True).returncode == 0


@contextmanager
def a_small_disk(folder: Path, size: str) -> Iterator[Path]:
    disk = folder / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or not run("mount", "-t", "tmpfs", "-o", f"size={size}", "none", disk):
        pytest.skip("this user can't mount a disk")
    try:
        yield disk
    finally:
        run("umount", "-l", disk)


@pytest.fixture
def disk(folder: Path) -> Iterator[Path]:
    """A disk of 16 MiB."""
    with a_small_disk(folder, "16m") as found:
        yield found


async def test_a_full_disk_gives_its_ballast_so_that_room_can_be_made(disk: Path) -> None:
    store = SqliteStore(disk / "store.db", ballast_bytes=1024 * 1024)
    await store.open()
    await store.create_tasks([a_parallel_task()])
    assert (await store.facts())["ballast"] == "laid"

    ids, refusal = await filled(store)

    assert isinstance(refusal, StorageFull)
    assert (await store.facts())["ballast"] == "given back: the disk is full"
    assert await there(store, ids)
    # Nothing new, though the ballast left room: that is kept for what ends work and what frees room.
    with pytest.raises(StorageFull):
        await store.claim(a_claim_request(1))
    assert await store.purge(before=NOW + DAY, limit=QUEUE_LIMIT) == (len(ids), 0)
    await store.enqueue(a_new_execution("after"), queue_limit=QUEUE_LIMIT)
    await store.close()
    assert is_sound(disk / "store.db")


async def test_a_full_disk_still_takes_the_end_of_what_runs(disk: Path) -> None:
    store = SqliteStore(disk / "store.db", ballast_bytes=1024 * 1024)
    await store.open()
    await store.create_tasks([a_parallel_task()])
    await store.enqueue(a_new_execution("run"), queue_limit=QUEUE_LIMIT)
    (claim,) = (await store.claim(a_claim_request(1))).claims
    await filled(store)

    (verdict,) = await store.settle([a_settlement(claim)])

    assert verdict == "applied"
    assert await store.renew([(claim.execution_id, claim.epoch)]) == ["lost"]
    await store.close()


async def test_the_store_goes_on_when_others_free_the_disk(disk: Path) -> None:
    hog = disk / "hog"
    store = SqliteStore(disk / "store.db", ballast_bytes=256 * 1024)
    await store.open()
    await store.create_tasks([a_task()])
    hog.write_bytes(b"x" * 8 * 1024 * 1024)
    _, refusal = await filled(store)
    assert isinstance(refusal, StorageFull)

    hog.unlink()

    await store.enqueue(a_new_execution("after"), queue_limit=QUEUE_LIMIT)
    assert (await store.facts())["ballast"] == "laid"
    await store.close()


async def test_a_disk_that_never_had_a_ballast_is_not_refused_for_ever(disk: Path) -> None:
    hog = disk / "hog"
    store = SqliteStore(disk / "store.db", ballast_bytes=8 * 1024 * 1024)
    await store.open()
    await store.create_tasks([a_task()])
    fill_up(hog)
    _, refusal = await filled(store)
    assert isinstance(refusal, StorageFull)

    hog.unlink()

    await store.enqueue(a_new_execution("after"), queue_limit=QUEUE_LIMIT)
    await store.close()


async def test_a_store_on_a_full_disk_opens_and_can_be_read(disk: Path) -> None:
    path, hog = disk / "store.db", disk / "hog"
    store = SqliteStore(path, ballast_bytes=1024 * 1024)
    await store.open()
    await store.create_tasks([a_task()])
    await store.close()
    fill_up(hog)
    again = SqliteStore(path, ballast_bytes=1024 * 1024)

    await again.open()

    assert await again.get_task(a_task().id) is not None
    with pytest.raises(StorageFull):
        await again.enqueue(a_new_execution(), queue_limit=QUEUE_LIMIT)
    hog.unlink()
    await again.enqueue(a_new_execution(), queue_limit=QUEUE_LIMIT)
    await again.close()


def fill_up(hog: Path) -> None:
    """Take what is left of a disk, to the last byte."""
    with hog.open("wb", buffering=0) as file, suppress(OSError):
        for size in (2**16, 1):
            with suppress(OSError):
                while file.write(b"x" * size):
                    pass


async def test_a_disk_too_small_for_a_ballast_is_used_without(disk: Path) -> None:
    store = SqliteStore(disk / "store.db", ballast_bytes=8 * 1024 * 1024)

    await store.open()

    assert (await store.facts())["ballast"] == "too little room on the disk"
    await store.create_tasks([a_task()])
    await store.close()


# ── read-only ────────────────────────────────────────────────────────────────────────────────────


async def test_a_disk_that_turns_read_only_is_left_and_taken_up_again(disk: Path) -> None:
    store = a_store(disk / "store.db")
    await store.open()
    await store.create_tasks([a_task()])
    # A file that is open for writing keeps a kernel from doing this to a whole disk; to a mount point it does it.
    if not run("mount", "--bind", disk, disk) or not run("mount", "-o", "remount,bind,ro", disk):
        pytest.skip("this user can't make a disk read-only")
    try:
        reopening = a_store(disk / "store.db")
        store._writer._let_go()
        with pytest.raises(Unavailable) as caught:
            await store.ping()
        assert str(disk) not in str(caught.value)
        with pytest.raises(Exception, match=r"can't write|can't be opened to write"):
            await reopening.open()
    finally:
        run("umount", "-l", disk)

    await store.ping()
    assert await store.get_task(a_task().id) is not None
    await store.close()


# ── a failing disk ───────────────────────────────────────────────────────────────────────────────


class FailingFiles(apsw.VFS):
    """Files whose flush, or whose writing, fails when told to."""

    def __init__(self) -> None:
        self.fails = ""
        super().__init__("failing", "")

    def xOpen(self, name: Any, flags: list[int]) -> FailingFile:  # noqa: N802
        return FailingFile(self, name, flags)


class FailingFile(apsw.VFSFile):
    def __init__(self, files: FailingFiles, name: Any, flags: list[int]) -> None:
        self._files = files
        super().__init__("", name, flags)

    def xSync(self, flags: int) -> None:  # noqa: N802
        if self._files.fails == "sync":
            raise apsw.IOError("the disk does not answer")
        super().xSync(flags)

    def xWrite(self, block: bytes, offset: int) -> None:  # noqa: N802
        if self._files.fails == "write":
            raise apsw.IOError("the disk does not answer")
        super().xWrite(block, offset)


class FailingStore(SqliteStore):
    """A store on such files."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, ballast_bytes=0)
        self.files = FailingFiles()

    def _connect(self, *, reads_only: bool) -> apsw.Connection:
        opened = apsw.Connection

        def on_failing_files(*arguments: Any, **settings: Any) -> apsw.Connection:
            return opened(*arguments, **settings | {"vfs": "failing"})

        connection.apsw.Connection = on_failing_files  # type: ignore[attr-defined]
        try:
            return super()._connect(reads_only=reads_only)
        finally:
            connection.apsw.Connection = opened  # type: ignore[attr-defined]


@pytest.fixture
async def failing(folder: Path) -> AsyncIterator[FailingStore]:
    store = FailingStore(folder / "store.db")
    await store.open()
    await store.create_tasks([a_task()])
    yield store
    store.files.fails = ""
    await store.close()
    store.files.unregister()


async def test_a_commit_whose_flush_fails_is_unsure(failing: FailingStore, folder: Path) -> None:
    failing.files.fails = "sync"

    with pytest.raises(Unsure) as caught:
        await failing.enqueue(a_new_execution("unsure"), queue_limit=QUEUE_LIMIT)

    assert str(folder) not in str(caught.value)
    failing.files.fails = ""
    await failing.enqueue(a_new_execution("after"), queue_limit=QUEUE_LIMIT)
    assert await there(failing, ["after"])
    assert await failing.check() == []


async def test_all_of_a_group_whose_flush_fails_are_unsure(failing: FailingStore) -> None:
    failing.files.fails = "sync"

    answers = await asyncio.gather(
        *(failing.enqueue(a_new_execution(f"e-{n}"), queue_limit=QUEUE_LIMIT) for n in range(5)), return_exceptions=True
    )

    assert {type(answer) for answer in answers} == {Unsure}
    assert len({id(answer) for answer in answers}) == 5


async def test_a_disk_that_does_not_take_a_write_is_unavailable(failing: FailingStore) -> None:
    failing.files.fails = "write"

    with pytest.raises(Unavailable):
        await failing.enqueue(a_new_execution("lost"), queue_limit=QUEUE_LIMIT)
    with pytest.raises(Unavailable):
        await failing.ping()

    failing.files.fails = ""
    await failing.ping()
    assert await failing.check() == []


# ── damaged while open, held by a neighbour ──────────────────────────────────────────────────────


async def test_damage_met_at_work_makes_the_store_unready(folder: Path) -> None:
    path = folder / "store.db"
    store = a_store(path)
    await store.open()
    await store.create_tasks([a_task(f"t{number}") for number in range(200)])
    await store.maintain()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))

    with pytest.raises(Unavailable, match="damaged"):
        await store.get_tasks([a_task(f"t{number}").id for number in range(200)])
    with pytest.raises(Unavailable, match="restore a backup"):
        await store.ping()
    assert (await store.facts())["check"] == "damaged"
    await store.close()


async def test_a_neighbour_that_holds_on_makes_the_store_unavailable(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "BUSY_SECONDS", 0.02)
    store = a_store(folder / "store.db")
    await store.open()
    await store.ping()
    neighbour = apsw.Connection(str(folder / "store.db"))
    neighbour.execute("BEGIN IMMEDIATE")

    answers = await asyncio.gather(
        *(store.create_tasks([a_task(f"t{number}")]) for number in range(20)), return_exceptions=True
    )

    # All hear it at once: if each waited anew, the last would wait twenty times as long.
    assert {str(answer) for answer in answers} == {"another process holds the store for too long"}
    assert {type(answer) for answer in answers} == {Unavailable}
    neighbour.execute("ROLLBACK")
    neighbour.close()
    await store.create_tasks([a_task()])
    await store.close()
