"""Owns the SQLite store as the house sees it: each verb is one operation on the writer or on a reader. Must not know
what the statements are (the files named after the steps) or how threads share a commit (``connection``).

Several processes of one host may share a file: every decision is taken inside the transaction that writes it, so they
need not know of each other. The file is one of three: the store itself, its log (``-wal``) and the log's index
(``-shm``); copy it with ``backup``, never with ``cp``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import apsw

from peregrine.domain.errors import Invalid, Unavailable, UnsafeStore
from peregrine.domain.execution import Claim, Execution, NewExecution, Running, Settlement
from peregrine.domain.ids import ExecutionId, TaskId, WorkerId
from peregrine.domain.moment import Moment
from peregrine.domain.occurrence import LedgerEntry
from peregrine.domain.payload import JsonObject
from peregrine.domain.planning import Plan
from peregrine.domain.query import ExecutionFilter, Page, PageRequest, TaskFilter, TaskSort
from peregrine.domain.statistics import Statistics
from peregrine.domain.task import Task, TaskView
from peregrine.ports.host import Instance
from peregrine.ports.moving import Item, Kind, Load
from peregrine.ports.records import Note, Record
from peregrine.ports.store import (
    CancelVerdict,
    ClaimBatch,
    ClaimRequest,
    DueBatch,
    PlanVerdict,
    RenewVerdict,
    SettleVerdict,
    TaskChange,
    TaskWrites,
)
from peregrine.stores.sqlite import care, claiming, history, migrate, moving, place, queueing, records, settling, tasks
from peregrine.stores.sqlite.changes import Changes
from peregrine.stores.sqlite.connection import Readers, Writer, open_connection, translate
from peregrine.stores.sqlite.definitions import Definitions
from peregrine.stores.sqlite.eve import SqliteEve
from peregrine.stores.sqlite.folding import Folding, fold_all
from peregrine.stores.sqlite.surroundings import Surroundings
from peregrine.stores.sqlite.version import Version

Result = TypeVar("Result")

BALLAST_BYTES: Final = 16 * 2**20
READERS: Final = 2
CHECK_SECONDS: Final = 0.3
READ_SECONDS: Final = 10.0
"""After so long a read is given up: whoever asks for a list waits, and the next one behind him."""


class SqliteStore:
    """One SQLite file. What the engine looks at has a reader of its own, so that no list somebody asks for delays it.

    ``ballast_bytes`` 0 means none; ``check_seconds`` bounds the look at the pages when it opens.
    """

    def __init__(
        self,
        path: Path,
        *,
        ballast_bytes: int = BALLAST_BYTES,
        readers: int = READERS,
        check_seconds: float = CHECK_SECONDS,
    ) -> None:
        self._path = path
        self._check_seconds = check_seconds
        self._ballast = place.Ballast(path.with_name(f"{path.name}.ballast"), ballast_bytes)
        self._definitions = Definitions()
        self._is_damaged = False
        self._checked = "not opened"
        lane = partial(Readers, partial(self._connect, reads_only=True), damaged=self._remember_damage)
        self._looks = lane(name="store-look", threads=1, seconds=READ_SECONDS)
        self._readers = lane(name="store-reader", threads=readers, seconds=READ_SECONDS)
        self._folding = Folding(partial(self._connect, reads_only=False))
        self._around = Surroundings(path, self._ballast, self._folding)
        self._writer = Writer(partial(self._connect, reads_only=False), self._around, damaged=self._remember_damage)
        self._changes = Changes(self._writer)
        self._version = Version(partial(self._connect, reads_only=True))
        self.eve: Final = SqliteEve(self._writer, self._readers)

    # ── the door ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def open(self) -> None:
        """Make ready, or refuse with ``UnsafeStore`` and one line that says why and what to do."""
        await asyncio.to_thread(self._prepare)
        await asyncio.to_thread(self._version.open)
        for lane in (self._writer, self._looks, self._readers):
            lane.start()
        self._folding.start()

    async def close(self) -> None:
        """Finish what is under way, fold the log into the file, let go; safe twice."""
        await asyncio.to_thread(self._folding.stop)
        await self._looks.stop()
        await self._readers.stop()
        self._version.close()
        try:
            if self._writer.is_open:
                await self._writer.run(fold_all, alone=True)
        except Unavailable:
            # The log stays beside the file, whole; the next one to open it reads it.
            pass
        finally:
            await self._writer.stop()

    async def ping(self) -> None:
        if self._is_damaged:
            raise Unavailable("the store is damaged; stop the service and restore a backup")
        await self._writer.run(care.ping)

    def version(self) -> int | None:
        return self._version.now()

    def _prepare(self) -> None:
        refuse_version(apsw.sqlite_lib_version())
        place.make_folder(self._path.parent)
        place.refuse_network(self._path)
        steps = migrate.migrations()
        try:
            try:
                self._prepare_file(steps)
            except (apsw.FullError, apsw.IOError):
                # A store whose disk is full opens too: only so can retention make room.
                if not self._ballast.release():
                    raise
                self._prepare_file(steps)
        except (apsw.CorruptError, apsw.NotADBError) as error:
            raise UnsafeStore(f"{self._path}: is damaged ({error}); restore a backup") from error
        except (apsw.CantOpenError, apsw.ReadOnlyError, apsw.IOError, apsw.FullError, OSError) as error:
            raise UnsafeStore(
                f"{self._path}: can't be opened for writing ({error}); see to its disk and rights"
            ) from error
        except apsw.Error as error:
            raise translate(error) from error
        place.sweep_drafts(self._path)
        self._around.remember_file()
        self._ballast.lay()

    def _prepare_file(self, steps: list[str]) -> None:
        if not self._path.exists():
            migrate.create(self._path, steps)
        place.refuse_foreign(self._path)
        place.make_private(self._path)
        self._check()
        migrate.migrate(self._path, steps)

    def _check(self) -> None:
        db = open_connection(self._path, reads_only=True)
        try:
            faults = migrate.quick_faults(db, seconds=self._check_seconds)
        finally:
            db.close()
        if faults:
            raise UnsafeStore(f"{self._path}: is damaged ({faults[0].splitlines()[-1]}); restore a backup")
        self._checked = "sound" if faults is not None else "no fault found in the time there was"

    def _connect(self, *, reads_only: bool) -> apsw.Connection:
        self._around.check_file()
        return open_connection(self._path, reads_only=reads_only)

    def _remember_damage(self) -> None:
        self._is_damaged = True

    # ── definitions ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def create_tasks(self, new: Sequence[Task]) -> None:
        await self._changes.create_tasks(new)

    async def put_task(self, task: Task, *, expected_revision: int, plan: Plan | None = None) -> TaskView | None:
        return await self._changes.put_task(task, expected_revision=expected_revision, plan=plan)

    async def put_tasks(self, new: Sequence[Task], changes: Sequence[TaskChange]) -> None:
        await self._changes.put_tasks(new, changes)

    async def delete_task(
        self, task_id: TaskId, *, expected_revision: int | None, now: Moment
    ) -> Sequence[ExecutionId]:
        return await self._changes.delete_task(task_id, expected_revision=expected_revision, now=now)

    def noting(self, *notes: Note) -> TaskWrites:
        return Changes(self._writer, notes)

    async def get_task(self, task_id: TaskId) -> TaskView | None:
        found = await self.get_tasks([task_id])
        return found[0] if found else None

    async def get_tasks(self, task_ids: Sequence[TaskId]) -> Sequence[TaskView]:
        return await self._readers.run(lambda db: tasks.get_tasks(db, self._definitions, task_ids))

    async def get_named(self, names: Sequence[str]) -> Sequence[TaskView]:
        return await self._readers.run(lambda db: tasks.get_named(db, self._definitions, names))

    async def list_tasks(
        self, filter: TaskFilter, page: PageRequest, *, sort: TaskSort, descending: bool, now: Moment
    ) -> Page[TaskView]:
        return await self._readers.run(
            lambda db: tasks.list_tasks(db, self._definitions, filter, page, sort=sort, descending=descending, now=now)
        )

    # ── the spine ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def due(self, now: Moment, limit: int) -> DueBatch:
        return await self._looks.run(lambda db: queueing.due(db, self._definitions, now, limit))

    async def apply_plans(self, plans: Sequence[Plan], now: Moment) -> Sequence[PlanVerdict]:
        if not plans:
            return []
        return await self._writer.run(lambda db: queueing.apply_plans(db, plans, now), grows=True)

    async def enqueue(self, new: NewExecution, *, queue_limit: int) -> Execution:
        return await self._writer.run(lambda db: queueing.enqueue(db, new, queue_limit), grows=True)

    async def claim(self, request: ClaimRequest) -> ClaimBatch:
        return await self._writer.run(lambda db: claiming.claim(db, self._definitions, request), grows=True)

    async def claimed_by(self, claim_id: str) -> Sequence[Claim]:
        return await self._looks.run(lambda db: claiming.claimed_by(db, self._definitions, claim_id))

    async def renew(self, claims: Sequence[tuple[ExecutionId, int]]) -> Sequence[RenewVerdict]:
        if not claims:
            return []
        return await self._writer.run(lambda db: claiming.renew(db, claims))

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[SettleVerdict]:
        if not settlements:
            return []
        return await self._writer.run(lambda db: settling.settle(db, settlements))

    async def request_cancel(
        self, *, execution_id: ExecutionId | None = None, task_id: TaskId | None = None, now: Moment
    ) -> Sequence[tuple[ExecutionId, CancelVerdict]]:
        if task_id is not None:
            return await self._writer.run(lambda db: settling.cancel_task(db, task_id, now))
        if execution_id is not None:
            return await self._writer.run(lambda db: settling.cancel_execution(db, execution_id, now))
        return []

    async def cancel_wishes(self, worker_id: WorkerId) -> Sequence[tuple[ExecutionId, int]]:
        return await self._looks.run(lambda db: claiming.cancel_wishes(db, worker_id))

    async def running(self) -> Sequence[Running]:
        return await self._looks.run(lambda db: claiming.running(db, self._definitions))

    async def announce(self, instance: Instance, *, now: Moment) -> None:
        await self._writer.run(lambda db: care.announce(db, instance, now))

    async def instances(self) -> Sequence[tuple[Instance, int, Moment]]:
        return await self._looks.run(care.instances)

    async def retire(self, instance_ids: Sequence[WorkerId]) -> None:
        await self._writer.run(lambda db: care.retire(db, instance_ids))

    async def reanchor(self, *, beyond: Moment, now: Moment) -> int:
        if not await self._has_strayed(beyond):
            return 0
        return await self._writer.run(lambda db: care.reanchor(db, self._definitions, beyond, now))

    async def _has_strayed(self, beyond: Moment) -> bool:
        """Whether a wrong clock left anything beyond a moment: asked first, since nearly always there is nothing.

        No index knows cursors, for each turn would pay for it. So every task is looked at, a part at a time, and not
        on the lane that tells the planner what is due.
        """
        if await self._readers.run(lambda db: care.put_off(db, beyond)):
            return True
        for first in range(0, await self._readers.run(care.last_task) + 1, care.LOOK_TASKS):
            if await self._readers.run(partial(care.has_strayed, beyond=beyond, first=first)):
                return True
        return False

    async def purge(self, *, before: Moment, limit: int) -> tuple[int, int]:
        return await self._writer.run(lambda db: care.purge(db, before, limit))

    # ── history ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def get_execution(self, execution_id: ExecutionId) -> Execution | None:
        return await self._readers.run(lambda db: history.get_execution(db, execution_id))

    async def earlier_details(self, execution_id: ExecutionId) -> Mapping[int, JsonObject]:
        return await self._readers.run(lambda db: history.earlier_details(db, execution_id))

    async def list_executions(self, filter: ExecutionFilter, page: PageRequest) -> Page[Execution]:
        return await self._readers.run(lambda db: history.list_executions(db, filter, page))

    async def list_occurrences(self, task_id: TaskId, page: PageRequest) -> Page[LedgerEntry]:
        return await self._readers.run(lambda db: history.list_occurrences(db, task_id, page))

    async def statistics(self, now: Moment) -> Statistics:
        return await self._readers.run(lambda db: history.statistics(db, now))

    # ── the shelf ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def put_record(self, record: Record, *, expected_revision: int | None, now: Moment) -> Record:
        return await self._writer.run(lambda db: records.put_record(db, record, expected_revision, now), grows=True)

    async def get_record(self, collection: str, key: str, *, now: Moment) -> Record | None:
        return await self._readers.run(lambda db: records.get_record(db, collection, key, now))

    async def list_records(
        self, collection: str, *, after: str = "", limit: int, now: Moment, newest_first: bool = False
    ) -> Sequence[Record]:
        listed = records.list_newest if newest_first else records.list_records
        return await self._readers.run(lambda db: listed(db, collection, after, limit, now))

    async def delete_record(self, collection: str, key: str, *, now: Moment) -> bool:
        return await self._writer.run(lambda db: records.delete_record(db, collection, key, now))

    async def sweep_records(self, *, now: Moment, limit: int) -> int:
        return await self._writer.run(lambda db: records.sweep_records(db, now, limit))

    # ── moving ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def count_items(self, kind: Kind) -> int:
        return await self._readers.run(lambda db: moving.count_items(db, kind))

    async def read_items(self, kind: Kind, *, after: str = "", limit: int) -> Load:
        return await self._readers.run(lambda db: moving.read_items(db, self._definitions, kind, after, limit))

    async def lay_items(self, items: Sequence[Item]) -> int:
        return await self._writer.run(lambda db: moving.lay_items(db, items), grows=True)

    # ── care ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def backup(self, to: Path) -> None:
        """Write a whole, consistent copy to the new file *to* while the store is in use.

        Raises:  Invalid when *to* exists; Unavailable when it can't be written.
        """
        if await asyncio.to_thread(to.exists):
            raise Invalid.at("/to", "exists; a backup never overwrites a file")
        await asyncio.to_thread(self._aside, lambda db: migrate.keep_copy(db, to))

    async def check(self) -> list[str]:
        """What a full look at every page and index finds wrong; empty: sound. Takes as long as it takes."""
        return await asyncio.to_thread(self._aside, lambda db: migrate.faults_of(db, "integrity_check"))

    def _aside(self, operation: Callable[[apsw.Connection], Result]) -> Result:
        """What *operation* gives; it may take long, so it has a connection of its own and keeps nobody waiting."""
        try:
            db = self._connect(reads_only=True)
            try:
                return operation(db)
            finally:
                db.close()
        except apsw.Error as error:
            raise translate(error) from error
        except OSError as error:
            raise Unavailable(f"the copy could not be written ({error.strerror})") from error

    async def maintain(self) -> None:
        """Now and then: fold the log into the file, lay the ballast down again."""
        await self._writer.run(fold_all, alone=True)
        await asyncio.to_thread(self._ballast.lay)

    async def rewrite(self) -> None:
        """Write the whole file anew and cut the log off: then nothing that was overwritten or removed lies in them."""
        await self._writer.run(care.rewrite, alone=True)
        await self._writer.run(fold_all, alone=True)

    async def facts(self) -> Mapping[str, str | int]:
        """What the status page shows of the store; less of it while the store can't be read."""
        try:
            found = await self._readers.run(_facts)
        except Unavailable:
            found = {}
        sizes = {"file_bytes": self._path, "wal_bytes": Path(f"{self._path}-wal")}
        return found | {
            **{name: _size(path) for name, path in sizes.items()},
            "sqlite": apsw.sqlite_lib_version(),
            "check": "damaged" if self._is_damaged else self._checked,
            "ballast": self._ballast.note or "laid",
        }


def refuse_version(version: str) -> None:
    """Refuse a SQLite with the WAL-reset bug, which can corrupt a file that two connections use.

    Raises:  UnsafeStore.
    Source:  sqlite.org/wal.html, "the WAL-reset bug": 3.7.0 to 3.51.2, mended in 3.50.7 and 3.44.6 too.
    """
    number = tuple(int(part) for part in version.split("."))
    mended = number >= (3, 51, 3) or (3, 50, 7) <= number < (3, 51) or (3, 44, 6) <= number < (3, 45)
    if not mended:
        raise UnsafeStore(f"SQLite {version} can corrupt a store in WAL mode; install apsw 3.54 or newer")


def _facts(db: apsw.Connection) -> dict[str, str | int]:
    levels = ("off", "normal", "full", "extra")
    level = db.pragma("synchronous")
    assert isinstance(level, int)
    return {
        "journal": str(db.pragma("journal_mode")),
        "synchronous": levels[level],
        "version": int(str(db.pragma("user_version"))),
    }


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
