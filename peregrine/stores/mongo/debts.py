"""Owns what a write of one document leaves to be done in others, and the doing; must not know why it was left.

MongoDB changes one document at a time. So a decision is one write, which also says what is owed for it: the executions
of a plan, the tally and the followups of an end, the rest of a removal, the lifting of a batch. Paying is safe to
repeat. Whoever made a debt pays it at once; one that its maker left is paid by whoever meets it: at the opening, before
a change of that very task, and in the looks that every instance takes while it plans.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from peregrine.domain.errors import Unavailable
from peregrine.domain.moment import Moment
from peregrine.stores.mongo.commands import (
    BUNDLES,
    EXECUTIONS,
    SKIPS,
    SLOTS,
    TASKS,
    Change,
    Commands,
    Document,
    both,
)
from peregrine.stores.mongo.definitions import VISIBLE, new_token
from peregrine.stores.mongo.executions import (
    OWING,
    PAID,
    PAID_IN_PART,
    WAITS,
    WITHOUT_BODY,
    cancelling,
    debts_of,
    owes_more,
)
from peregrine.stores.mongo.tallies import Tallies, end_of
from peregrine.stores.mongo.values import moment_of
from peregrine.stores.mongo.versions import UNDERSTOOD, needs_newer

PLAN, REMOVAL, BUNDLE, CHANGE = "plan", "removal", "bundle", "change"
"""What the ``torn`` of a task says is owed there."""
OPEN, COMMITTED, DROPPED = "open", "committed", "dropped"
"""The states of a batch of new tasks."""
LOOK_SECONDS: Final = 1.0
BATCH: Final = 500
ABANDONED_NANOSECONDS: Final = 24 * 3600 * 10**9
ROUNDS_MAX: Final = 1_000

_TORN: Final = {"torn": 1, "needs": 1, "hidden": 1, "plan": 1, "bundle": 1, "removed_at": 1}


class Debts:
    """Pays what is owed."""

    def __init__(self, commands: Commands, tallies: Tallies) -> None:
        self._commands = commands
        self._tallies = tallies
        self._met: set[tuple[str, object]] = set()
        self._looked = 0.0

    # ── looks ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def pay_all(self) -> None:
        """Pay everything that anybody owes."""
        for _ in range(ROUNDS_MAX):
            tasks, executions = await self._owed()
            await self.pay_tasks(tasks)
            await self.pay_executions(executions)
            if len(tasks) < BATCH and len(executions) < BATCH:
                return

    async def look(self) -> None:
        """Pay what was owed a look ago already: then its maker is not under way any more, but gone or stuck."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        tasks, executions = await self._owed()
        met = {_name_of(document) for document in (*tasks, *executions)}
        old, self._met = self._met & met, met
        await self.pay_tasks([document for document in tasks if _name_of(document) in old])
        await self.pay_executions([document for document in executions if _name_of(document) in old])

    async def _owed(self) -> tuple[list[Document], list[Document]]:
        torn = {"torn": {"$in": [PLAN, REMOVAL, BUNDLE, CHANGE]}} | UNDERSTOOD
        return await both(
            self._commands.find(TASKS, torn, fields=_TORN, page=(0, BATCH)),
            self._commands.find(EXECUTIONS, OWING, fields=WITHOUT_BODY, page=(0, BATCH)),
        )

    async def pay_tasks(self, documents: Sequence[Document]) -> None:
        """Finish what is torn in *documents* of tasks, as far as it does not need a newer version."""
        documents = [document for document in documents if not needs_newer(document)]
        await self.finish_plans([document for document in documents if "plan" in document])
        for document in documents:
            if document["torn"] == REMOVAL:
                await self.finish_removal(document["_id"], moment_of(document["removed_at"]))
        for bundle_id in sorted({one["bundle"] for one in documents if one["torn"] in (BUNDLE, CHANGE)}):
            await self.finish_bundle(bundle_id)

    # ── executions ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def pay_executions(self, documents: Sequence[Document]) -> None:
        """Pay what *documents* of executions owe: their followups, then the tallies of their tasks."""
        documents = [document for document in documents if debts_of(document)]
        if not documents:
            return
        await self.queue_up([new for document in documents for new in document["owes"].get("followups", ())])
        ended = [document for document in documents if document["owes"].get("tally")]
        ends = sorted((end_of(document) for document in ended), key=lambda end: end.ended_at)
        await self._tallies.add(ends)
        await self._commands.update(
            EXECUTIONS,
            [
                ({"_id": one["_id"], "epoch": one["epoch"]}, PAID_IN_PART if owes_more(one) else PAID)
                for one in documents
            ],
        )
        self._tallies.forget(end.execution_id for end in ends)

    async def queue_up(self, documents: Sequence[Document]) -> None:
        """Queue those of *documents* whose key is new and whose task exists."""
        if not documents:
            return
        wanted = {"_id": {"$in": sorted({document["task_id"] for document in documents})}}
        found = await self._commands.find(TASKS, wanted | VISIBLE, fields={"_id": 1})
        there = {document["_id"] for document in found}
        await self._commands.insert(EXECUTIONS, [one for one in documents if one["task_id"] in there])

    # ── tasks ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def finish_plans(self, documents: Sequence[Document]) -> None:
        """Write what the plans in *documents* of tasks decided, where it is not there yet, and take the plans off."""
        if not documents:
            return
        plans = [document["plan"] for document in documents]
        await self._commands.insert(EXECUTIONS, [new for plan in plans for new in plan["executions"]])
        await self._commands.insert(SKIPS, [skip for plan in plans for skip in plan["skips"]])
        done: list[Change] = [
            ({"_id": one["_id"], "plan.id": one["plan"]["id"]}, {"$unset": {"plan": "", "torn": ""}})
            for one in documents
        ]
        await self._commands.update(TASKS, done)

    async def finish_removal(self, task_id: str, now: Moment) -> list[str]:
        """Cancel what waits, mark what runs, then remove the task; the ids of what runs.

        The task is hidden already, so nothing new is queued for it, and what waits can only be claimed or cancelled.
        """
        runs = await self._end_work(task_id, now)
        owing = {"task_id": task_id} | OWING
        await self.pay_executions(await self._commands.find(EXECUTIONS, owing, fields=WITHOUT_BODY))
        await self._commands.delete(SLOTS, {"_id": task_id})
        await self._commands.delete(TASKS, {"_id": task_id, "torn": REMOVAL})
        return runs

    async def _end_work(self, task_id: str, now: Moment) -> list[str]:
        active = {"task_id": task_id, "active": True}
        alive = active | {"$or": [{"status": WAITS}, {"cancel_requested": False}]}
        for _ in range(ROUNDS_MAX):
            found = await self._commands.find(EXECUTIONS, alive, fields=WITHOUT_BODY, page=(0, BATCH))
            await self.pay_executions(found)
            stamp = new_token()
            waiting = [one for one in found if one["status"] == WAITS]
            unmarked = [one for one in found if one["status"] != WAITS]
            if not found:
                return [one["_id"] for one in await self._commands.find(EXECUTIONS, active, fields={"_id": 1})]
            await self._commands.update(
                EXECUTIONS, [cancelling(one, stamp, now) for one in waiting] + [marking(one) for one in unmarked]
            )
        raise Unavailable("work of the task is started faster than it can be cancelled")

    async def finish_bundle(self, bundle_id: str) -> None:
        """Lift a batch of new tasks and changes that was committed; drop one that was not, so its names are free."""
        drop = ({"_id": bundle_id, "state": OPEN} | UNDERSTOOD, {"$set": {"state": DROPPED}})
        await self._commands.update(BUNDLES, [drop])
        found = await self._commands.find(BUNDLES, {"_id": bundle_id})
        if found and needs_newer(found[0]):
            return
        if found and found[0]["state"] == COMMITTED:
            await self.lift(bundle_id)
        else:
            await self._commands.delete(TASKS, {"bundle": bundle_id, "torn": BUNDLE})
            prepared = {"bundle": bundle_id, "torn": CHANGE}
            found = await self._commands.find(TASKS, prepared, fields={"name": 1})
            await self._commands.update(
                TASKS, [({"_id": one["_id"]} | prepared, _undoing(one["name"])) for one in found]
            )
        await self._commands.delete(BUNDLES, {"_id": bundle_id})

    async def forget_bundles(self) -> None:
        """Remove what stands of batches whose maker died a day ago and more, before he inserted any task."""
        await self._commands.delete(BUNDLES, {"at": {"$lt": time.time_ns() - ABANDONED_NANOSECONDS}})

    async def lift(self, bundle_id: str) -> None:
        """Show the new tasks of a committed batch, and make its changes."""
        await self._commands.release(
            {"bundle": bundle_id, "torn": BUNDLE}, {"$unset": {"hidden": "", "torn": "", "bundle": ""}}
        )
        prepared = {"bundle": bundle_id, "torn": CHANGE}
        found = await self._commands.find(TASKS, prepared, fields={"change": 1})
        await self._commands.update(TASKS, [({"_id": one["_id"]} | prepared, making(one["change"])) for one in found])
        plans = [{"_id": one["_id"], "plan": one["change"]["plan"]} for one in found]
        await self.finish_plans([one for one in plans if one["plan"] is not None])


def making(change: Document) -> Document:
    """What makes the prepared *change* of a task, which takes the mark of its batch off."""
    fields = {part["path"]: part["value"] for part in change["fields"]}
    done = {"change": "", "bundle": ""}
    if change["plan"] is None:
        return {"$set": fields, "$unset": done | {"torn": ""}}
    return {"$set": fields | {"plan": change["plan"], "torn": PLAN}, "$unset": done}


def _undoing(name: str) -> Document:
    """What takes a prepared change back, of a task whose name is still *name*."""
    return {"$set": {"name_key": name}, "$unset": {"change": "", "bundle": "", "torn": ""}}


def marking(document: Document) -> Change:
    """The change that marks a running execution for cancel, whatever word a newer version has for its status."""
    return {name: document[name] for name in ("_id", "status")}, {"$set": {"cancel_requested": True}}


def _name_of(document: Document) -> tuple[str, object]:
    """What tells one debt from another of the same document."""
    if "owes" in document:
        return document["_id"], document["epoch"]
    return document["_id"], document["plan"]["id"] if "plan" in document else document.get("bundle", document["torn"])
