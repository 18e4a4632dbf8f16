"""What was acknowledged is there after kill -9, after a power cut, and in a copy taken at any instant; and every
index and counter still agrees with the rows."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from peregrine.domain.execution import Execution, State
from peregrine.domain.ids import ExecutionId
from peregrine.ports.store import Store
from peregrine.stores.sqlite import connection, folding
from peregrine.stores.sqlite.store import SqliteStore
from peregrine.testing.builders import a_claim_request, a_new_execution, a_parallel_task, a_settlement
from peregrine.testing.store_contract.steps import assert_adds_up
from tests.stores.sqlite_places import a_process, a_store, is_sound, said

pytestmark = pytest.mark.anyio

# Queues, claims and ends executions without end (or so many rounds), and says each time what was acknowledged.
WORKS = """
import asyncio, sys
from pathlib import Path
from peregrine.ports.store import ClaimRequest
from peregrine.stores.sqlite.store import SqliteStore
from peregrine.testing.builders import NOW, a_new_execution, a_settlement

async def main(path, name, rounds):
    store = SqliteStore(Path(path), ballast_bytes=0)
    await store.open()
    print("open", flush=True)
    for turn in range(rounds or 10**9):
        new = [a_new_execution(f"{name}-{turn}-{number}") for number in range(8)]
        await asyncio.gather(*(store.enqueue(one, queue_limit=10**9) for one in new))
        print("queued", *(one.id for one in new), flush=True)
        request = ClaimRequest(claim_id=f"{name}-{turn}", worker_id=name, now=NOW + turn, limit=6)
        claims = (await store.claim(request)).claims
        print("claimed", *(claim.execution_id for claim in claims), flush=True)
        await store.settle([a_settlement(claim) for claim in claims])
        print("ended", *(claim.execution_id for claim in claims), flush=True)
        if turn % 16 == 15:
            await store.maintain()
    await store.close()

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


class Acknowledged:
    """What a process said was done."""

    def __init__(self) -> None:
        self.ids: dict[str, set[str]] = defaultdict(set)

    def hear(self, line: str) -> None:
        word, *ids = line.split()
        self.ids[word].update(ids)

    def hear_some(self, process: subprocess.Popen[str], lines: int) -> None:
        for _ in range(lines):
            self.hear(said(process))

    def hear_the_rest(self, process: subprocess.Popen[str]) -> None:
        rest, _ = process.communicate()
        # The last line may be cut off where the process was.
        for line in rest.splitlines(keepends=True):
            if line.endswith("\n"):
                self.hear(line)


async def a_store_with_a_task(path: Path) -> None:
    store = a_store(path)
    await store.open()
    await store.create_tasks([a_parallel_task()])
    await store.close()


async def shown(store: Store, id: str) -> Execution:
    found = await store.get_execution(ExecutionId(id))
    assert found is not None, f"{id} was acknowledged and is gone"
    return found


async def assert_kept(path: Path, acknowledged: Acknowledged) -> None:
    """Fail unless the file is sound, everything acknowledged is in it, and all counts agree."""
    store = a_store(path)
    await store.open()
    for id in acknowledged.ids["queued"]:
        await shown(store, id)
    for id in acknowledged.ids["claimed"]:
        assert (await shown(store, id)).attempt == 1
    for id in acknowledged.ids["ended"]:
        assert (await shown(store, id)).state is State.COMPLETED
    await assert_adds_up(store)
    await store.close()
    assert is_sound(path)


async def test_nothing_acknowledged_is_lost_by_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    await a_store_with_a_task(path)
    chance, acknowledged = random.Random(9), Acknowledged()

    for turn in range(5):
        process = a_process(WORKS, path, f"w{turn}", 0)
        acknowledged.hear_some(process, chance.randint(1, 120))
        process.send_signal(signal.SIGKILL)
        acknowledged.hear_the_rest(process)

        await assert_kept(path, acknowledged)

    assert len(acknowledged.ids["ended"]) > 100


async def test_a_copy_taken_at_any_instant_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    await a_store_with_a_task(path)
    chance, acknowledged = random.Random(3), Acknowledged()
    process = a_process(WORKS, path, "w", 0)

    for turn in range(6):
        acknowledged.hear_some(process, chance.randint(1, 60))
        copy = tmp_path / str(turn) / "store.db"
        copy.parent.mkdir()
        with stopped(process):
            shutil.copy(path, copy)
            shutil.copy(f"{path}-wal", f"{copy}-wal")

        await assert_kept(copy, acknowledged)

    process.send_signal(signal.SIGKILL)
    process.communicate()


class stopped:  # noqa: N801
    """While a process stands still: both its files are of one instant."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def __enter__(self) -> None:
        self._process.send_signal(signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGCONT)


async def test_two_processes_share_the_work(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    await a_store_with_a_task(path)

    processes = [a_process(WORKS, path, name, 20) for name in ("one", "two")]

    each = []
    for process in processes:
        heard = Acknowledged()
        heard.hear_the_rest(process)
        assert process.returncode == 0
        each.append(heard)
    for heard in each:
        await assert_kept(path, heard)
        assert len(heard.ids["queued"]) == 160
    assert each[0].ids["claimed"].isdisjoint(each[1].ids["claimed"])
    store = a_store(path)
    await store.open()
    view = await store.get_task(a_parallel_task().id)
    assert view is not None
    assert view.tally.total_runs == sum(len(heard.ids["ended"]) for heard in each)
    assert view.queued == 320 - view.tally.total_runs
    await store.close()


# ── power cut ────────────────────────────────────────────────────────────────────────────────────


COPYING = threading.Lock()


class SyncedFiles(apsw.VFS):
    """Keeps beside each file what it held when it was last flushed: what a power cut would leave of it."""

    def __init__(self) -> None:
        super().__init__("synced", "")

    def xOpen(self, name: Any, flags: list[int]) -> SyncedFile:  # noqa: N802
        return SyncedFile(name, flags)


class SyncedFile(apsw.VFSFile):
    def __init__(self, name: Any, flags: list[int]) -> None:
        self._path = Path(name.filename() if isinstance(name, apsw.URIFilename) else name)
        super().__init__("", name, flags)

    def xSync(self, flags: int) -> None:  # noqa: N802
        super().xSync(flags)
        kept = self._path.parent / "kept"
        with COPYING:
            shutil.copy(self._path, kept / self._path.name)


class SyncedStore(SqliteStore):
    """A store on such files, with another level of safety if told."""

    level = "full"

    def _connect(self, *, reads_only: bool) -> apsw.Connection:
        opened = apsw.Connection

        def on_synced_files(*arguments: Any, **settings: Any) -> apsw.Connection:
            return opened(*arguments, **settings | {"vfs": "synced"})

        connection.apsw.Connection = on_synced_files  # type: ignore[attr-defined]
        try:
            db = super()._connect(reads_only=reads_only)
        finally:
            connection.apsw.Connection = opened  # type: ignore[attr-defined]
        db.pragma("synchronous", self.level)
        return db


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> Iterator[SyncedFiles]:
    # Small, so that the log is folded into the file, and begun anew, many times.
    monkeypatch.setattr(folding, "PAGES_SOON", 8)
    monkeypatch.setattr(folding, "PAGES_NOW", 40)
    files = SyncedFiles()
    yield files
    files.unregister()


async def cut_off_after_each(path: Path, *, level: str) -> bool:
    """Whether everything acknowledged was on the disk whenever the power might have gone."""
    await a_store_with_a_task(path)
    shutil.copytree(path.parent, path.parent / "kept", dirs_exist_ok=True)
    store = SyncedStore(path, ballast_bytes=0)
    store.level = level
    await store.open()
    acknowledged, whole = Acknowledged(), True
    for turn in range(30):
        new = [a_new_execution(f"{turn}-{number}") for number in range(3)]
        await asyncio.gather(*(store.enqueue(one, queue_limit=10**9) for one in new))
        acknowledged.hear(" ".join(["queued", *(one.id for one in new)]))
        claims = (await store.claim(a_claim_request(2))).claims
        await store.settle([a_settlement(claim) for claim in claims])
        acknowledged.hear(" ".join(["ended", *(claim.execution_id for claim in claims)]))
        left = path.parent / f"left-{turn}"
        with COPYING:
            shutil.copytree(path.parent / "kept", left)
        try:
            await assert_kept(left / path.name, acknowledged)
        except AssertionError:
            whole = False
    await store.close()
    return whole


async def test_nothing_acknowledged_is_lost_by_a_power_cut(folder: Path, synced: SyncedFiles) -> None:
    assert await cut_off_after_each(folder / "store.db", level="full")


async def test_the_power_cut_would_be_felt_with_less_care(folder: Path, synced: SyncedFiles) -> None:
    """Else the test above would prove nothing."""
    assert not await cut_off_after_each(folder / "store.db", level="normal")
