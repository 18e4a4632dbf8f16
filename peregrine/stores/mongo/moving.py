"""Owns reading the whole database out in bounded batches, and laying such batches down; not: where they go.

Executions are read in the order of creation, which the spine has no index for: one is made when there are many, and
dropped behind the last batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from pymongo import IndexModel

from peregrine.domain.errors import Conflict
from peregrine.domain.ids import TaskId
from peregrine.domain.occurrence import Reason, Skip
from peregrine.ports.moving import EVE_KINDS, EveItem, Item, Kind, Load, StoredExecution, StoredSkip, StoredTask
from peregrine.ports.records import Record
from peregrine.stores.mongo import executions, records
from peregrine.stores.mongo.commands import EXECUTIONS, RECORDS, SKIPS, TASKS, Commands, Document
from peregrine.stores.mongo.definitions import (
    VISIBLE,
    Activity,
    Definitions,
    is_beyond,
    moved_fields,
    placed_document,
)
from peregrine.stores.mongo.eve import MongoEve
from peregrine.stores.mongo.executions import Numbers
from peregrine.stores.mongo.values import date, moment_of

MANY: Final = 10_000
"""From so many on, an index is made to read them by."""
_WHERE: Final[dict[Kind, tuple[str, dict[str, Any]]]] = {
    Kind.RECORDS: (RECORDS, {}),
    Kind.TASKS: (TASKS, VISIBLE),
    Kind.EXECUTIONS: (EXECUTIONS, {}),
    Kind.SKIPS: (SKIPS, {}),
}
_ORDER: Final = [("seq", 1), ("_id", 1)]
_WHOLE: Final = {"plan": 0, "counted": 0, "owes": 0}
_INDEX: Final = "peregrine_moving"
_REASONS: Final = frozenset(reason.value for reason in Reason)


class Moving:
    """The verbs of a move."""

    def __init__(self, commands: Commands, definitions: Definitions, numbers: Numbers, eve: MongoEve) -> None:
        self._commands = commands
        self._eve = eve
        self._definitions = definitions
        self._numbers = numbers

    async def count(self, kind: Kind) -> int:
        if kind in EVE_KINDS:
            return await self._eve.count_items(kind)
        return await self._commands.count_all(*_WHERE[kind])

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def read(self, kind: Kind, after: str, limit: int) -> Load:
        match kind:
            case Kind.RECORDS:
                return await self._read_records(after, limit)
            case Kind.TASKS:
                return await self._read_made(kind, after, limit, self._task)
            case Kind.EXECUTIONS:
                return await self._read_executions(after, limit)
            case Kind.SKIPS:
                return await self._read_made(kind, after, limit, _skip)
            case _:
                return await self._eve.read_items(kind, after, limit)

    async def _read_records(self, after: str, limit: int) -> Load:
        collection, _, key = after.partition("\0")
        behind: Document = {
            "$or": [{"collection": {"$gt": collection}}, {"collection": collection, "key": {"$gt": key}}]
        }
        sort = [("collection", 1), ("key", 1)]
        found = await self._commands.find(RECORDS, behind if after else {}, sort=sort, page=(0, limit))
        more = f"{found[-1]['collection']}\0{found[-1]['key']}" if len(found) == limit else None
        return Load([records.record_of(one) for one in found], more)

    async def _read_executions(self, after: str, limit: int) -> Load:
        if not after and await self.count(Kind.EXECUTIONS) > MANY:
            await self._commands.make_indexes(EXECUTIONS, [IndexModel(_ORDER, name=_INDEX)])
        load = await self._read_made(Kind.EXECUTIONS, after, limit, _execution)
        if load.next is None and _INDEX in await self._commands.index_names(EXECUTIONS):
            await self._commands.drop_index(EXECUTIONS, _INDEX)
        return load

    async def _read_made(self, kind: Kind, after: str, limit: int, item: Callable[[Document], Item]) -> Load:
        """In the order of creation; what an earlier program made has no number there, and comes first."""
        name, which = _WHERE[kind]
        number, _, id = after.partition(":")
        found: list[Document] = []
        if not number:
            unnumbered = {"seq": None, "_id": {"$gt": id}} if after else {"seq": None}
            found = await self._commands.find(
                name, which | unnumbered, fields=_WHOLE, sort=[("_id", 1)], page=(0, limit)
            )
        if len(found) < limit:
            at = int(number or -1)
            numbered: Document = {"seq": {"$gte": at}, "$or": [{"seq": {"$gt": at}}, {"seq": at, "_id": {"$gt": id}}]}
            part = (0, limit - len(found))
            found += await self._commands.find(name, which | numbered, fields=_WHOLE, sort=_ORDER, page=part)
        more = f"{found[-1].get('seq', '')}:{found[-1]['_id']}" if len(found) == limit else None
        return Load([item(one) for one in found], more)

    def _task(self, document: Document) -> StoredTask:
        if is_beyond(document):
            raise _needs_newer(f"task {document['_id']!r}")
        view = self._definitions.view(document, Activity())
        return StoredTask(task=view.task, cursor=view.cursor, next_run_at=view.next_run_at, tally=view.tally)

    # ── laying down ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def lay(self, items: Sequence[Item]) -> int:
        laid = await self._lay(RECORDS, [records.document_of(one) for one in items if isinstance(one, Record)])
        laid += await self._lay_tasks([one for one in items if isinstance(one, StoredTask)])
        laid += await self._lay_skips([one for one in items if isinstance(one, StoredSkip)])
        laid += await self._eve.lay_items([one for one in items if isinstance(one, EveItem)])
        moved = [one for one in items if isinstance(one, StoredExecution)]
        return laid + await self._lay(
            EXECUTIONS,
            [executions.placed_document(one.execution, one.key, one.details, self._numbers.next()) for one in moved],
        )

    async def _lay(self, name: str, documents: Sequence[Document]) -> int:
        return len(documents) - len(await self._commands.insert(name, documents))

    async def _lay_tasks(self, items: Sequence[StoredTask]) -> int:
        documents = [
            placed_document(one.task, self._numbers.next(), moved_fields(one.cursor, one.next_run_at), one.tally)
            for one in items
        ]
        refused = await self._commands.insert(TASKS, documents)
        ids = [documents[place]["_id"] for place in refused]
        found = await self._commands.find(TASKS, {"_id": {"$in": ids}}, fields={"_id": 1}) if ids else []
        if len(found) < len(ids):
            stranger = sorted(set(ids) - {one["_id"] for one in found})[0]
            raise Conflict(f"another task has the name of task {stranger!r} already", code="name_taken")
        return len(documents) - len(refused)

    async def _lay_skips(self, items: Sequence[StoredSkip]) -> int:
        """Ranges have no id that both stores know: one is there if all of it is."""
        if not items:
            return 0
        near = {
            "task_id": {"$in": sorted({one.task_id for one in items})},
            "first": {"$in": [date(first) for first in sorted({one.skip.first for one in items})]},
        }
        there = {_skip(one) for one in await self._commands.find(SKIPS, near)}
        new = [one for one in dict.fromkeys(items) if one not in there]
        return await self._lay(SKIPS, [self._skip_document(one) for one in new])

    def _skip_document(self, stored: StoredSkip) -> Document:
        skip, number = stored.skip, self._numbers.next()
        return {
            "_id": f"{stored.task_id}:moved:{number}",
            "task_id": stored.task_id,
            "first": date(skip.first),
            "last": date(skip.last),
            "count": skip.count,
            "reason": skip.reason.value,
            "decided_at": date(stored.decided_at),
            "seq": number,
        }


def _needs_newer(what: str) -> Conflict:
    return Conflict(f"{what} was written by a newer version; move the store with that one", code="needs_newer_version")


def _execution(document: Document) -> StoredExecution:
    return StoredExecution(
        execution=executions.execution_of(document),
        key=document.get("key", f"foreign:{document['_id']}"),
        details=executions.details_of(document),
    )


def _skip(document: Document) -> StoredSkip:
    if document["reason"] not in _REASONS:
        raise _needs_newer(f"a skipped moment of task {document['task_id']!r}")
    skip = Skip(
        moment_of(document["first"]),
        moment_of(document["last"]),
        int(document["count"]),
        Reason(document["reason"]),
    )
    return StoredSkip(task_id=TaskId(document["task_id"]), skip=skip, decided_at=moment_of(document["decided_at"]))
