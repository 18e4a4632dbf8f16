"""Owns the step from due to queued: looks, plans, and what somebody asks for; must not know claims.

A plan and the cursor it moves are one write of the task's document; its executions are then owed (``debts``).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from peregrine.domain.errors import LimitReached, NotFound, Unavailable
from peregrine.domain.execution import Execution, NewExecution
from peregrine.domain.moment import Moment
from peregrine.domain.planning import DueTask, Plan
from peregrine.ports.store import DueBatch, PlanVerdict
from peregrine.stores.mongo.commands import EXECUTIONS, META, TASKS, Change, Commands, Document, both, pause
from peregrine.stores.mongo.debts import PLAN, Debts
from peregrine.stores.mongo.definitions import (
    VISIBLE,
    WITHOUT_DEBTS,
    Definitions,
    cursor_of,
    is_beyond,
    moved_fields,
    new_token,
    next_moment,
)
from peregrine.stores.mongo.executions import WAITS, Numbers, execution_of, new_document
from peregrine.stores.mongo.grouping import without_repetition
from peregrine.stores.mongo.values import date
from peregrine.stores.mongo.versions import UNDERSTOOD

QUEUE_MAX: Final = 10_000_000
"""Nobody queues more; a count stops there."""
SEEN_SECONDS: Final = 1.0
ROOM_MIN: Final = 100
"""With more room than this, and than a tenth of the limit, what was counted a moment ago is good enough."""
GATE: Final = "gate"
ROUNDS_MAX: Final = 200


@dataclass(slots=True)
class _Seen:
    """How many were queued when it was last counted, and what was queued here since."""

    at: float = -1e9
    queued: int = 0


class Queueing:
    """The verbs between due and queued."""

    def __init__(self, commands: Commands, definitions: Definitions, debts: Debts, numbers: Numbers) -> None:
        self._commands = commands
        self._definitions = definitions
        self._debts = debts
        self._numbers = numbers
        self._seen = _Seen()

    # ── due ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def due(self, now: Moment, limit: int) -> DueBatch:
        await self._debts.look()
        (found, later), queued = await both(both(self._due(now, limit + 1), self._later(now)), self._count())
        rest = found[limit:] or later
        shown = [document for document in found[:limit] if "torn" not in document and not is_beyond(document)]
        active = await self._active([document["_id"] for document in shown])
        due = [DueTask(self._definitions.task(one), cursor_of(one), active.get(one["_id"], 0)) for one in shown]
        next_due_at = next_moment(rest[0]) if rest else None
        return DueBatch(due, queued, next_due_at)

    async def _due(self, now: Moment, limit: int) -> list[Document]:
        at = {"due_at": {"$lte": now}}
        return await self._commands.find(
            TASKS,
            at | VISIBLE | UNDERSTOOD,
            fields=WITHOUT_DEBTS,
            sort=[("due_at", 1), ("_id", 1)],
            page=(0, max(1, limit)),
        )

    async def _later(self, now: Moment) -> list[Document]:
        at = {"due_at": {"$gt": now}}
        which = at | VISIBLE | UNDERSTOOD
        return await self._commands.find(TASKS, which, fields={"due_at": 1}, sort=[("due_at", 1)], page=(0, 1))

    async def _count(self) -> int:
        queued = await self._commands.count(EXECUTIONS, {"status": WAITS}, QUEUE_MAX)
        self._seen = _Seen(time.monotonic(), queued)
        return queued

    async def _active(self, task_ids: Sequence[str]) -> dict[str, int]:
        if not task_ids:
            return {}
        groups = await self._commands.aggregate(
            EXECUTIONS,
            [
                {"$match": {"active": True, "task_id": {"$in": list(task_ids)}}},
                {"$group": {"_id": "$task_id", "number": {"$sum": 1}}},
            ],
        )
        return {group["_id"]: int(group["number"]) for group in groups}

    # ── plans ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def apply_plans(self, plans: Sequence[Plan], now: Moment) -> Sequence[PlanVerdict]:
        verdicts: list[PlanVerdict] = []
        for run in without_repetition(plans, lambda plan: plan.task_id):
            verdicts += await self._apply(run, now)
        return verdicts

    async def _apply(self, plans: Sequence[Plan], now: Moment) -> list[PlanVerdict]:
        stamp = new_token()
        written = {plan.task_id: plan_document(plan, stamp, now, self._numbers) for plan in plans}
        changes = sorted((_moving(plan, stamp, written[plan.task_id]) for plan in plans), key=_id_of)
        applied = set(written)
        if await self._commands.update(TASKS, changes) < len(changes):
            mine = {"_id": {"$in": sorted(written)}, "plan_id": stamp}
            applied = {document["_id"] for document in await self._commands.find(TASKS, mine, fields={"_id": 1})}
        owed = [{"_id": id, "plan": plan} for id, plan in written.items() if id in applied and plan is not None]
        await self._debts.finish_plans(owed)
        return [PlanVerdict.APPLIED if plan.task_id in applied else PlanVerdict.MOVED for plan in plans]

    # ── what somebody asks for ───────────────────────────────────────────────────────────────────────────────────────

    async def enqueue(self, new: NewExecution, queue_limit: int) -> Execution:
        # The key comes first: a repeated request gets the first answer, even if the queue has filled meanwhile.
        task = {"_id": new.task_id} | VISIBLE
        made, tasks = await both(self._made(new.key), self._commands.find(TASKS, task, fields={"_id": 1}))
        if made is not None:
            return execution_of(made)
        if not tasks:
            raise NotFound("task", new.task_id)
        document = new_document(new, self._numbers.next())
        if not self._has_ample_room(queue_limit):
            await self._count()
        if self._has_ample_room(queue_limit):
            self._seen.queued += 1
            taken = await self._commands.insert(EXECUTIONS, [document])
        else:
            taken = await self._pass_gate(document, queue_limit)
        if not taken:
            return execution_of(document)
        made = await self._made(new.key)
        if made is None:
            raise Unavailable(f"an execution with id {new.id!r} exists under another key, or was just removed")
        return execution_of(made)

    async def _made(self, key: str) -> Document | None:
        found = await self._commands.find(EXECUTIONS, {"key": key})
        return found[0] if found else None

    def _has_ample_room(self, queue_limit: int) -> bool:
        if time.monotonic() - self._seen.at > SEEN_SECONDS:
            return False
        return queue_limit - self._seen.queued > max(ROOM_MIN, queue_limit // 10)

    async def _pass_gate(self, document: Document, queue_limit: int) -> set[int]:
        """Queue *document* if there is a place; near the limit all instances go through one document, one by one.

        What is let through stands in the gate until it is in the queue, so that the next one counts it.

        Raises:  LimitReached.
        """
        for tries in range(ROUNDS_MAX):
            gate = await self._gate()
            if gate["passing"] is not None:
                # Who was left in it is let through first; perhaps that was this very request, asked before.
                await self._commands.insert(EXECUTIONS, [gate["passing"]])
                await self._close_gate(gate["turn"])
                if gate["passing"]["key"] == document["key"]:
                    return {0}
            if await self._commands.count(EXECUTIONS, {"status": WAITS}, queue_limit + 1) >= queue_limit:
                raise LimitReached(f"{queue_limit} executions are queued already", code="queue_full")
            turn = {"turn": gate["turn"] + 1, "passing": document}
            change: Change = ({"_id": GATE, "turn": gate["turn"], "passing": None}, {"$set": turn})
            if await self._commands.update(META, [change]):
                taken = await self._commands.insert(EXECUTIONS, [document])
                await self._close_gate(turn["turn"])
                return taken
            await pause(tries)
        raise Unavailable("too many ask for the last places in the queue at once")

    async def _gate(self) -> Document:
        found = await self._commands.find(META, {"_id": GATE})
        if found:
            return found[0]
        gate = {"_id": GATE, "turn": 0, "passing": None}
        await self._commands.insert(META, [gate])
        return gate

    async def _close_gate(self, turn: int) -> None:
        await self._commands.update(META, [({"_id": GATE, "turn": turn}, {"$set": {"passing": None}})])


def plan_document(plan: Plan, stamp: str, now: Moment, numbers: Numbers) -> Document | None:
    """What *plan* owes, as it stands in its task; None when it only moves the cursor."""
    executions = [new_document(new, numbers.next()) for new in plan.executions]
    skips = [
        {
            "_id": f"{plan.task_id}:{stamp}:{place}",
            "task_id": plan.task_id,
            "first": date(skip.first),
            "last": date(skip.last),
            "count": skip.count,
            "reason": skip.reason.value,
            "decided_at": date(now),
            "seq": numbers.next(),
        }
        for place, skip in enumerate(plan.skips)
    ]
    if not executions and not skips:
        return None
    return {"id": stamp, "executions": executions, "skips": skips}


def owing_fields(plan: Document | None, stamp: str) -> Document:
    """What is set on a task for a plan that is owed."""
    return {"plan_id": stamp} | ({} if plan is None else {"plan": plan, "torn": PLAN})


def _moving(plan: Plan, stamp: str, owed: Document | None) -> Change:
    must = {
        "_id": plan.task_id,
        "cursor": date(plan.cursor),
        "generation": plan.generation,
        "torn": None,
    }
    moved = moved_fields(plan.cursor_after, plan.next_run_at)
    return must | VISIBLE, {"$set": moved | owing_fields(owed, stamp)}


def _id_of(change: Change) -> str:
    id: str = change[0]["_id"]
    return id
