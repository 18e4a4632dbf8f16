"""Owns the MongoDB store as the house sees it: one database, the verbs handed on to the files named after the steps.

Any number of instances on any number of hosts may share a database: every decision is a compare-and-swap of one
document, and what it leaves to be done elsewhere is done by whoever meets it. Must not know how a verb does that.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from peregrine.domain.errors import Unavailable, UnsafeStore
from peregrine.domain.execution import Claim, Execution, NewExecution, Running, Settlement
from peregrine.domain.ids import ExecutionId, TaskId, WorkerId
from peregrine.domain.moment import Duration, Moment
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
from peregrine.stores.mongo.care import Care
from peregrine.stores.mongo.claiming import Claiming
from peregrine.stores.mongo.commands import META, RECORDS, TASKS, Change, Commands, Document, connect, told_truly
from peregrine.stores.mongo.debts import Debts
from peregrine.stores.mongo.definitions import Definitions
from peregrine.stores.mongo.eve import MongoEve
from peregrine.stores.mongo.executions import Numbers
from peregrine.stores.mongo.history import History
from peregrine.stores.mongo.indexes import SCHEMA, fingerprint, make_missing
from peregrine.stores.mongo.moving import Moving
from peregrine.stores.mongo.queueing import Queueing
from peregrine.stores.mongo.records import Shelf
from peregrine.stores.mongo.settling import Settling
from peregrine.stores.mongo.takeover import take_over
from peregrine.stores.mongo.tallies import Tallies
from peregrine.stores.mongo.tasks import Tasks
from peregrine.stores.mongo.values import moment_or_none
from peregrine.stores.mongo.versions import OLDEST, VERSION
from peregrine.stores.noting import Noting

PROGRAM: Final = "peregrine"
WARNINGS: Final = {
    "standalone": "the database is a single server: what it acknowledged survives a crash, but not the loss of its"
    " disk; a replica set of three keeps it"
}
"""What an operator should know of a deployment, by its kind."""


def topology_of(hello: Mapping[str, Any]) -> str:
    """The kind of deployment whose server said *hello*."""
    if "setName" in hello:
        return "replica set"
    return "sharded" if hello.get("msg") == "isdbgrid" else "standalone"


class MongoStore:
    """One database of a MongoDB deployment. It is made without a connection; ``open`` makes one."""

    def __init__(self, uri: str, database: str) -> None:
        self._commands = self._make_commands(uri, database)
        self._is_open = False
        self._topology = "unknown"
        self._taken_over = (0, 0)
        definitions, numbers = Definitions(), Numbers()
        self._tallies = Tallies(self._commands)
        self._debts = Debts(self._commands, self._tallies)
        self._tasks = Tasks(self._commands, definitions, self._debts, numbers)
        self._queueing = Queueing(self._commands, definitions, self._debts, numbers)
        self._claiming = Claiming(self._commands, definitions, self._debts)
        self._settling = Settling(self._commands, self._debts, self._tallies, numbers)
        self._history = History(self._commands)
        self._care = Care(self._commands, definitions, self._debts)
        self._shelf = Shelf(self._commands)
        self.eve: Final = MongoEve(self._commands)
        self._moving = Moving(self._commands, definitions, numbers, self.eve)

    def _make_commands(self, uri: str, database: str) -> Commands:
        return Commands(connect(uri), database)

    # ── the door ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def open(self) -> None:
        """Make ready: look at the server, make missing indexes, take over what an earlier program left, mend.

        Raises:  UnsafeStore with one line that says why and what to do; Unavailable when there is no server.
        """
        now, _ = await self.server_time()
        schema = await self._schema()
        if schema.get("indexes") != fingerprint():
            await make_missing(self._commands)
        await self.eve.prepare()
        self._taken_over = await take_over(self._commands, now)
        await self._debts.pay_all()
        self._is_open = True

    async def close(self) -> None:
        """Take the last marks off and let go; safe twice."""
        if self._is_open:
            self._is_open = False
            try:
                await self._tallies.unmark()
            except Unavailable:
                # The marks stay, and the next one to open takes them off.
                pass
        await self._commands.close()

    async def ping(self) -> None:
        await self._commands.update(META, [({"_id": SCHEMA}, {"$set": {"pinged": True}})])

    def version(self) -> None:
        """Nobody counts the writes of all instances; to ask would be as dear as to read."""

    async def _schema(self) -> Document:
        """The document that says whose database this is and of which shape; made, if there is none.

        Raises:  UnsafeStore.
        """
        found = await self._commands.find(META, {"_id": SCHEMA})
        if not found:
            document: Document = {"_id": SCHEMA, "program": PROGRAM, "version": VERSION, "oldest": OLDEST}
            await self._commands.insert(META, [document])
            return document
        schema = found[0]
        if schema.get("program") != PROGRAM:
            raise UnsafeStore(f"{META} of this database belongs to another program; choose another MONGODB_DATABASE")
        if int(schema.get("oldest", VERSION)) > VERSION:
            raise UnsafeStore(
                f"this database was written by a newer peregrine (shape {schema.get('version')}); update this one"
            )
        if int(schema.get("version", VERSION)) < VERSION or int(schema.get("oldest", OLDEST)) < OLDEST:
            change: Change = ({"_id": SCHEMA}, {"$max": {"version": VERSION, "oldest": OLDEST}})
            await self._commands.update(META, [change])
        return schema

    async def server_time(self) -> tuple[Moment, Duration]:
        """The wall time of the server, and how many milliseconds it took to ask: it was read within those."""
        began = time.monotonic()
        hello = await self._commands.command("hello")
        took = round((time.monotonic() - began) * 1000)
        self._topology = topology_of(hello)
        return moment_or_none(hello["localTime"]) or 0, took

    # ── definitions ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def create_tasks(self, new: Sequence[Task]) -> None:
        await told_truly(self._tasks.create_tasks(new))

    async def put_task(self, task: Task, *, expected_revision: int, plan: Plan | None = None) -> None:
        await told_truly(self._tasks.put_task(task, expected_revision, plan))

    async def put_tasks(self, new: Sequence[Task], changes: Sequence[TaskChange]) -> None:
        await told_truly(self._tasks.put_tasks(new, changes))

    async def delete_task(
        self, task_id: TaskId, *, expected_revision: int | None, now: Moment
    ) -> Sequence[ExecutionId]:
        return await told_truly(self._tasks.delete_task(task_id, expected_revision, now))

    def noting(self, *notes: Note) -> TaskWrites:
        return Noting(self, self, notes)

    async def get_task(self, task_id: TaskId) -> TaskView | None:
        found = await self._tasks.get_tasks([task_id])
        return found[0] if found else None

    async def get_tasks(self, task_ids: Sequence[TaskId]) -> Sequence[TaskView]:
        return await self._tasks.get_tasks(task_ids)

    async def get_named(self, names: Sequence[str]) -> Sequence[TaskView]:
        return await self._tasks.get_named(names)

    async def list_tasks(
        self, filter: TaskFilter, page: PageRequest, *, sort: TaskSort, descending: bool, now: Moment
    ) -> Page[TaskView]:
        return await self._tasks.list_tasks(filter, page, sort=sort, descending=descending, now=now)

    # ── the spine ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def due(self, now: Moment, limit: int) -> DueBatch:
        return await self._queueing.due(now, max(0, limit))

    async def apply_plans(self, plans: Sequence[Plan], now: Moment) -> Sequence[PlanVerdict]:
        return await told_truly(self._queueing.apply_plans(plans, now))

    async def enqueue(self, new: NewExecution, *, queue_limit: int) -> Execution:
        return await told_truly(self._queueing.enqueue(new, queue_limit))

    async def claim(self, request: ClaimRequest) -> ClaimBatch:
        return await told_truly(self._claiming.claim(request))

    async def claimed_by(self, claim_id: str) -> Sequence[Claim]:
        return await self._claiming.claimed_by(claim_id)

    async def renew(self, claims: Sequence[tuple[ExecutionId, int]]) -> Sequence[RenewVerdict]:
        return await told_truly(self._claiming.renew(claims)) if claims else []

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[SettleVerdict]:
        return await told_truly(self._settling.settle(settlements))

    async def request_cancel(
        self, *, execution_id: ExecutionId | None = None, task_id: TaskId | None = None, now: Moment
    ) -> Sequence[tuple[ExecutionId, CancelVerdict]]:
        if task_id is not None:
            return await told_truly(self._settling.cancel_task(task_id, now))
        if execution_id is not None:
            return await told_truly(self._settling.cancel_execution(execution_id, now))
        return []

    async def cancel_wishes(self, worker_id: WorkerId) -> Sequence[tuple[ExecutionId, int]]:
        return await self._claiming.cancel_wishes(worker_id)

    async def running(self) -> Sequence[Running]:
        return await self._claiming.running()

    async def announce(self, instance: Instance, *, now: Moment) -> None:
        await told_truly(self._care.announce(instance, now))

    async def instances(self) -> Sequence[tuple[Instance, int, Moment]]:
        return await self._care.instances()

    async def retire(self, instance_ids: Sequence[WorkerId]) -> None:
        await self._care.retire(instance_ids)

    async def reanchor(self, *, beyond: Moment, now: Moment) -> int:
        return await told_truly(self._care.reanchor(beyond, now))

    async def purge(self, *, before: Moment, limit: int) -> tuple[int, int]:
        return await told_truly(self._care.purge(before, limit))

    # ── history ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def get_execution(self, execution_id: ExecutionId) -> Execution | None:
        return await self._history.get_execution(execution_id)

    async def earlier_details(self, execution_id: ExecutionId) -> Mapping[int, JsonObject]:
        return await self._history.earlier_details(execution_id)

    async def list_executions(self, filter: ExecutionFilter, page: PageRequest) -> Page[Execution]:
        return await self._history.list_executions(filter, page)

    async def list_occurrences(self, task_id: TaskId, page: PageRequest) -> Page[LedgerEntry]:
        return await self._history.list_occurrences(task_id, page)

    async def statistics(self, now: Moment) -> Statistics:
        return await self._history.statistics(now)

    # ── the shelf ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def put_record(self, record: Record, *, expected_revision: int | None, now: Moment) -> Record:
        return await told_truly(self._shelf.put(record, expected_revision, now))

    async def get_record(self, collection: str, key: str, *, now: Moment) -> Record | None:
        return await self._shelf.get(collection, key, now)

    async def list_records(
        self, collection: str, *, after: str = "", limit: int, now: Moment, newest_first: bool = False
    ) -> Sequence[Record]:
        return await self._shelf.list(collection, after=after, limit=limit, now=now, newest_first=newest_first)

    async def delete_record(self, collection: str, key: str, *, now: Moment) -> bool:
        return await told_truly(self._shelf.delete(collection, key, now))

    async def sweep_records(self, *, now: Moment, limit: int) -> int:
        return await told_truly(self._shelf.sweep(now, limit))

    # ── moving ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def count_items(self, kind: Kind) -> int:
        return await self._moving.count(kind)

    async def read_items(self, kind: Kind, *, after: str = "", limit: int) -> Load:
        return await self._moving.read(kind, after, limit)

    async def lay_items(self, items: Sequence[Item]) -> int:
        return await told_truly(self._moving.lay(items))

    # ── care ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def maintain(self) -> None:
        """Now and then: take off marks, take over what another program added, make indexes that somebody dropped."""
        await self._tallies.unmark()
        await self._debts.forget_bundles()
        now, _ = await self.server_time()
        await take_over(self._commands, now)
        await make_missing(self._commands)

    async def rewrite(self) -> None:
        """Ask the server to write the collections anew that may hold secrets, so that nothing overwritten stays there.

        A server that can't leaves them to its own pace; what its journal and oplog hold goes when those turn over.
        """
        for collection in (TASKS, RECORDS):
            with suppress(Unavailable):
                await self._commands.command("compact", value=collection)

    @property
    def warning(self) -> str:
        """What an operator should know of the deployment; empty: nothing."""
        return WARNINGS.get(self._topology, "")

    async def facts(self) -> Mapping[str, str | int]:
        """What the status page shows of the store; less of it while the store can't be read."""
        tasks, executions = self._taken_over
        known: dict[str, str | int] = {"topology": self._topology, "version": VERSION}
        known |= {"adopted_tasks": tasks, "closed_executions": executions, "warning": self.warning}
        try:
            stats = await self._commands.command("dbStats")
            build = await self._commands.command("buildInfo")
        except Unavailable:
            return known | {"file_bytes": 0, "wal_bytes": 0}
        size = int(stats.get("storageSize", 0)) + int(stats.get("indexSize", 0))
        return known | {"file_bytes": size, "wal_bytes": 0, "mongodb": str(build.get("version", "unknown"))}
