"""Owns what keeps a store in order: processes, strayed cursors, retention; must not know the spine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from peregrine.domain.ids import WorkerId
from peregrine.domain.moment import Moment
from peregrine.domain.policy import rank
from peregrine.ports.host import Instance
from peregrine.stores.mongo.commands import EXECUTIONS, INSTANCES, SKIPS, TASKS, Change, Commands, Document
from peregrine.stores.mongo.debts import Debts
from peregrine.stores.mongo.definitions import VISIBLE, Definitions, is_beyond, moved_fields
from peregrine.stores.mongo.errors import Taken
from peregrine.stores.mongo.executions import WAITS, WITHOUT_BODY, priority_of
from peregrine.stores.mongo.values import date, moment_of
from peregrine.stores.mongo.versions import UNDERSTOOD

STRAYED_MAX: Final = 1_000
"""So many cursors are set back at once; the next look goes on."""
PURGE_MAX: Final = 1_000
"""So many documents one command removes."""


class Care:
    """The verbs beside the spine."""

    def __init__(self, commands: Commands, definitions: Definitions, debts: Debts) -> None:
        self._commands = commands
        self._definitions = definitions
        self._debts = debts

    async def announce(self, instance: Instance, now: Moment) -> None:
        fields = {
            "host": instance.host,
            "place": instance.place,
            "pid": instance.pid,
            "process_started": instance.process_started,
            "version": instance.version,
            "slots": instance.slots,
            "started_at": date(instance.started_at),
            "seen_at": date(now),
        }
        change: Change = ({"_id": instance.id}, {"$set": fields, "$inc": {"counter": 1}})
        try:
            await self._commands.update(INSTANCES, [change], upsert=True)
        except Taken:
            # Made by a rival between the look and the write that the server makes of this; now it is there.
            await self._commands.update(INSTANCES, [change])

    async def instances(self) -> Sequence[tuple[Instance, int, Moment]]:
        return [_instance(document) for document in await self._commands.find(INSTANCES, {}, sort=[("_id", 1)])]

    async def retire(self, instance_ids: Sequence[WorkerId]) -> None:
        if instance_ids:
            await self._commands.delete(INSTANCES, {"_id": {"$in": list(instance_ids)}})

    async def reanchor(self, beyond: Moment, now: Moment) -> int:
        return await self._set_back(beyond, now) + await self._let_go(beyond, now)

    async def _set_back(self, beyond: Moment, now: Moment) -> int:
        """Set cursors of the future back; how many."""
        strayed = {"cursor": {"$gt": date(beyond)}}
        found = await self._commands.find(
            TASKS, strayed | VISIBLE | UNDERSTOOD, fields={"counted": 0}, page=(0, STRAYED_MAX)
        )
        found = [document for document in found if not is_beyond(document)]
        await self._debts.finish_plans([document for document in found if "plan" in document])
        changes: list[Change] = []
        for document in found:
            must = {name: document.get(name) for name in ("_id", "born", "stamp", "cursor")} | {"torn": None}
            next_run_at = self._definitions.task(document).next_run_if_readable(now)
            changes.append((must, {"$set": moved_fields(now, next_run_at)}))
        return await self._commands.update(TASKS, changes)

    async def _let_go(self, beyond: Moment, now: Moment) -> int:
        """Let what is queued for the future be available now; how many."""
        put_off = {"status": WAITS, "available_at": {"$gt": date(beyond)}, "key": {"$exists": True}}
        found = await self._commands.find(EXECUTIONS, put_off, fields=WITHOUT_BODY, page=(0, STRAYED_MAX))
        changes: list[Change] = []
        for one in found:
            must = {name: one[name] for name in ("_id", "status", "epoch", "available_at")}
            fields = {"available_at": date(now), "rank": rank(priority_of(one), now)}
            changes.append((must, {"$set": fields}))
        return await self._commands.update(EXECUTIONS, changes)

    # ── retention ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def purge(self, before: Moment, limit: int) -> tuple[int, int]:
        if limit < 1:
            return 0, 0
        executions = skips = 0
        # Others may remove the same ones at the same time; then the next are ours.
        while executions < limit and (bite := await self._purge_executions(before, limit - executions)) is not None:
            executions += bite
        while skips < limit and (bite := await self._purge_skips(before, limit - skips)) is not None:
            skips += bite
        return executions, skips

    async def _purge_executions(self, before: Moment, limit: int) -> int | None:
        """Remove some of what ended before a moment, the oldest first; None: there is nothing.

        What is still owed for it is paid before it goes.
        """
        ended = {"completed_at": {"$lt": date(before)}, "active": None}
        oldest = [("completed_at", 1), ("_id", 1)]
        found = await self._commands.find(EXECUTIONS, ended, fields=WITHOUT_BODY, sort=oldest, page=(0, limit))
        await self._debts.pay_executions(found)
        return await self._remove(EXECUTIONS, found)

    async def _purge_skips(self, before: Moment, limit: int) -> int | None:
        decided = {"decided_at": {"$lt": date(before)}}
        oldest = [("decided_at", 1), ("_id", 1)]
        found = await self._commands.find(SKIPS, decided, fields={"_id": 1}, sort=oldest, page=(0, limit))
        return await self._remove(SKIPS, found)

    async def _remove(self, name: str, documents: Sequence[Document]) -> int | None:
        if not documents:
            return None
        ids = [document["_id"] for document in documents]
        removed = 0
        for start in range(0, len(ids), PURGE_MAX):
            removed += await self._commands.delete(name, {"_id": {"$in": ids[start : start + PURGE_MAX]}})
        return removed


def _instance(document: Document) -> tuple[Instance, int, Moment]:
    return (
        Instance(
            id=WorkerId(document["_id"]),
            host=document["host"],
            place=document["place"],
            pid=int(document["pid"]),
            process_started=int(document["process_started"]),
            version=document["version"],
            slots=int(document["slots"]),
            started_at=moment_of(document["started_at"]),
        ),
        int(document["counter"]),
        moment_of(document["seen_at"]),
    )
