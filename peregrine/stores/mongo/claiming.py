"""Owns the step from queued to claimed, and what keeps a claim; must not know how an attempt ends.

Candidates are read by index, many at once, then each is claimed by its id if it is still as it was read: no sorted
"find and change", which makes all claimers fight for one head. Whoever met rivals begins somewhere behind the head the
next time.

Of a task that does not allow overlap, the slot comes before the claim. A slot names an execution and the epoch under
which it may run, and is free when that execution does not run under it. One that was taken and whose claim did not
follow yet is somebody's who is under way, or died there. In the latter case the execution is fenced before the slot
is taken over: a claim is refused when the fence is not what the claimer read.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from peregrine.domain.execution import Claim, Running
from peregrine.domain.ids import ExecutionId, WorkerId
from peregrine.domain.moment import Moment
from peregrine.domain.policy import Overlap
from peregrine.ports.store import ClaimBatch, ClaimRequest, RenewVerdict
from peregrine.stores.mongo import executions
from peregrine.stores.mongo.commands import EXECUTIONS, SLOTS, TASKS, Change, Commands, Document, both
from peregrine.stores.mongo.debts import Debts
from peregrine.stores.mongo.definitions import VISIBLE, WITHOUT_DEBTS, Definitions, is_beyond, new_token
from peregrine.stores.mongo.executions import (
    RUNS,
    WAITS,
    WITHOUT_BODY,
    cancelling,
    claim_of,
    running_of,
    started_fields,
)
from peregrine.stores.mongo.values import date, moment_of
from peregrine.stores.mongo.versions import UNDERSTOOD

WINDOW_MIN: Final = 16
WINDOW_MAX: Final = 2_048
"""So many candidates are read at once."""
LOOKS_MAX: Final = 64
"""So many windows one claim looks through."""
RIVALRY_MAX: Final = 4
"""How many batches behind the head a claimer begins at most, who met rivals."""
STUCK_SECONDS: Final = 2.0
"""A slot whose claim does not follow for so long was left by one who died."""
SEEN_MAX: Final = 4_096

_CANDIDATE: Final = {"attempts": 0, "output": 0, "error": 0, "detail": 0, "details": 0}
_ORDER: Final = [("rank", 1), ("available_at", 1), ("seq", 1)]
_TURN: Final = ("rank", "available_at", "seq")


@dataclass(slots=True)
class _Batch:
    """What one claim request has got so far, and what it has learnt."""

    request: ClaimRequest
    until: Moment
    """What becomes available until then is looked at."""
    most: int
    """How many to claim, those included that were claimed already."""
    tasks: dict[str, Document] = field(default_factory=dict)
    blocked: set[str] = field(default_factory=set)
    """Tasks of which nothing more can be claimed by this request."""
    claimed: list[Document] = field(default_factory=list)
    rivals: bool = False

    @property
    def wanted(self) -> int:
        return self.most - len(self.claimed)

    def allows(self, document: Document) -> bool:
        """Whether executions of the task of *document* may run side by side."""
        return self.tasks[document["task_id"]].get("overlap") == Overlap.ALLOW.value


class Claiming:
    """The verbs around a claim."""

    def __init__(self, commands: Commands, definitions: Definitions, debts: Debts) -> None:
        self._commands = commands
        self._definitions = definitions
        self._debts = debts
        self._opened = time.time_ns()
        self._stuck: dict[str, tuple[str, float]] = {}
        self._rivalry = 0

    # ── claim ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def claim(self, request: ClaimRequest) -> ClaimBatch:
        batch = _Batch(request, until=request.now, most=request.limit)
        if request.limit < 1:
            return ClaimBatch([], None)
        _, next_available_at = await both(self._fill(batch), self._next_available(request.now))
        if request.early > 0 < batch.wanted and next_available_at is not None:
            if next_available_at <= request.early_until:
                next_available_at = await self._fill_early(batch)
        claims = [claim_of(one, self._definitions.task(batch.tasks[one["task_id"]])) for one in batch.claimed]
        self._rivalry = min(self._rivalry + 1, RIVALRY_MAX) if batch.rivals else max(0, self._rivalry - 1)
        return ClaimBatch(claims, None if len(claims) >= request.limit else next_available_at)

    async def _fill_early(self, batch: _Batch) -> Moment | None:
        """Claim what comes soon, as much of it as may be; when what is left becomes available."""
        request, before = batch.request, len(batch.claimed)
        batch.until, batch.most = request.early_until, min(request.limit, before + request.early)
        await self._fill(batch)
        return await self._next_available(request.now if batch.wanted < 1 else request.early_until)

    async def _next_available(self, now: Moment) -> Moment | None:
        later = {"status": WAITS, "available_at": {"$gt": date(now)}}
        found = await self._commands.find(
            EXECUTIONS, later, fields={"available_at": 1}, sort=[("available_at", 1)], page=(0, 1)
        )
        return moment_of(found[0]["available_at"]) if found else None

    async def _fill(self, batch: _Batch) -> None:
        """Claim from window after window until there is enough, or nothing more."""
        behind: Document | None = None
        before = len(batch.claimed)
        size = min(WINDOW_MAX, max(WINDOW_MIN, batch.wanted * (1 + self._reach(batch.request))))
        for _ in range(LOOKS_MAX):
            window = await self._window(batch, behind, size)
            await self._claim_from(batch, window)
            if batch.wanted < 1 or len(window) < size:
                break
            behind, size = window[-1], min(WINDOW_MAX, 2 * size)
        batch.claimed[before:] = sorted(batch.claimed[before:], key=_turn)

    async def _window(self, batch: _Batch, behind: Document | None, size: int) -> list[Document]:
        until = batch.until
        filter: dict[str, Any] = {"status": WAITS, "rank": {"$lte": until}, "available_at": {"$lte": date(until)}}
        filter |= UNDERSTOOD
        if batch.blocked:
            filter["task_id"] = {"$nin": sorted(batch.blocked)}
        if behind is not None:
            filter["rank"]["$gte"] = behind["rank"]
            filter["$or"] = _behind(behind)
        return await self._commands.find(EXECUTIONS, filter, fields=_CANDIDATE, sort=_ORDER, page=(0, size))

    async def _claim_from(self, batch: _Batch, window: Sequence[Document]) -> None:
        """Claim what can be claimed of *window*; what rivals take meanwhile leaves room for what stands behind it."""
        await self._learn_tasks(batch, window)
        await self._debts.pay_executions(window)
        window = [one for one in window if not executions.is_beyond(one)]
        first: dict[str, Document] = {}
        for one in window:
            first.setdefault(one["task_id"], one)
        rest = self._from_somewhere(window, batch.wanted * self._reach(batch.request))
        while batch.wanted > 0:
            free, alone = _chosen(batch, rest, first)
            if not free and not alone:
                return
            tried = {one["_id"] for one in (*free, *alone)}
            rest = [one for one in rest if one["_id"] not in tried]
            taken = await self._take_slots(batch, alone)
            chosen = sorted([*free, *taken], key=_turn)
            claimed = await self._start(batch.request, chosen)
            batch.claimed += claimed
            batch.blocked.update(one["task_id"] for one in alone)
            batch.rivals = batch.rivals or len(claimed) < len(chosen)

    async def _learn_tasks(self, batch: _Batch, window: Sequence[Document]) -> None:
        """Read the tasks of *window*, as they are now. What waits for a task that is gone can never run: it ends."""
        wanted = {one["task_id"] for one in window} - batch.tasks.keys() - batch.blocked
        if not wanted:
            return
        filter = {"_id": {"$in": sorted(wanted)}} | VISIBLE
        found = await self._commands.find(TASKS, filter, fields=WITHOUT_DEBTS)
        batch.tasks |= {document["_id"]: document for document in found}
        batch.blocked.update(document["_id"] for document in found if is_beyond(document))
        orphans = [one for one in window if one["task_id"] in wanted and one["task_id"] not in batch.tasks]
        batch.blocked.update(one["task_id"] for one in orphans)
        await self._commands.update(EXECUTIONS, [cancelling(one, new_token(), batch.request.now) for one in orphans])

    def _reach(self, request: ClaimRequest) -> int:
        """How many batches behind the head to begin at most: 0 until rivals are met, then room for all there are."""
        return max(self._rivalry, request.rivals) if self._rivalry else 0

    @staticmethod
    def _from_somewhere(window: Sequence[Document], reach: int) -> Sequence[Document]:
        """*window* from a place within *reach* behind its head; the head then comes last."""
        start = random.randint(0, max(0, min(len(window) - 1, reach)))
        return [*window[start:], *window[:start]]

    async def _start(self, request: ClaimRequest, chosen: Sequence[Document]) -> list[Document]:
        """Claim each of *chosen* that is still as it was read; those that are claimed now, as they stand."""
        started: dict[str, tuple[Document, Document]] = {}
        changes: list[Change] = []
        for one in chosen:
            # One that is claimed early starts at its moment.
            start = max(request.now, moment_of(one["available_at"]))
            fields = started_fields(one, worker_id=request.worker_id, claim_id=request.claim_id, now=start)
            started[one["_id"]] = one, fields
            must = {"_id": one["_id"], "status": WAITS, "epoch": one["epoch"], "fence": one.get("fence")}
            changes.append((must, {"$set": fields}))
        changes.sort(key=lambda change: change[0]["_id"])
        won = set(started)
        if await self._commands.update(EXECUTIONS, changes) < len(changes):
            mine = {"claim_id": request.claim_id, "status": RUNS}
            found = await self._commands.find(EXECUTIONS, mine, fields={"_id": 1})
            won &= {document["_id"] for document in found}
        await self._give_back(one for id, (one, _) in started.items() if id not in won)
        return [one | fields for id, (one, fields) in started.items() if id in won]

    async def _give_back(self, lost: Iterable[Document]) -> None:
        """Free the slots of claims that were lost, if they are still ours."""
        for one in lost:
            if "slot" in one:
                await self._commands.delete(SLOTS, {"_id": one["task_id"], "token": one["slot"]})

    # ── slots ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _take_slots(self, batch: _Batch, alone: Sequence[Document]) -> list[Document]:
        """Those of *alone* whose slot is ours now, each with the token of its slot."""
        if not alone:
            return []
        ids = sorted(one["task_id"] for one in alone)
        running = {"active": True, "status": RUNS, "task_id": {"$in": ids}}
        busy, slots = await both(
            self._commands.find(EXECUTIONS, running, fields={"task_id": 1}),
            self._commands.find(SLOTS, {"_id": {"$in": ids}}),
        )
        batch.blocked.update(one["task_id"] for one in busy)
        by_task = {slot["_id"]: slot for slot in slots}
        free = [one for one in alone if one["task_id"] not in batch.blocked]
        known = [by_task[one["task_id"]] for one in free if one["task_id"] in by_task]
        fences = await self._fence_stuck(batch, known)
        free = [one for one in free if one["task_id"] not in batch.blocked]
        for one in free:
            if one["_id"] in fences:
                one["fence"] = fences[one["_id"]]
        return await self._occupy(batch, free, by_task)

    async def _occupy(self, batch: _Batch, free: Sequence[Document], by_task: Mapping[str, Document]) -> list[Document]:
        """Write the slots of *free*: a new one, or one over what stood there."""
        token = new_token()
        new = [_slot(one, token) for one in free if one["task_id"] not in by_task]
        refused = await self._commands.insert(SLOTS, new)
        taken = {slot["_id"] for place, slot in enumerate(new) if place not in refused}
        over = [one for one in free if one["task_id"] in by_task]
        changes: list[Change] = [
            ({"_id": one["task_id"], "token": by_task[one["task_id"]]["token"]}, {"$set": _slot(one, token)})
            for one in over
        ]
        if await self._commands.update(SLOTS, changes) == len(changes):
            taken.update(one["task_id"] for one in over)
            unsure = [slot["_id"] for place, slot in enumerate(new) if place in refused]
        else:
            unsure = [one["task_id"] for one in free if one["task_id"] not in taken]
        if unsure:
            # Perhaps a lost answer only: then the driver met its own write.
            mine = {"_id": {"$in": unsure}, "token": token}
            taken.update(slot["_id"] for slot in await self._commands.find(SLOTS, mine, fields={"_id": 1}))
            batch.rivals = True
        batch.blocked.update(one["task_id"] for one in free if one["task_id"] not in taken)
        return [one | {"slot": token} for one in free if one["task_id"] in taken]

    async def _fence_stuck(self, batch: _Batch, slots: Sequence[Document]) -> dict[str, str]:
        """Block the tasks of slots whose claim may follow any moment; fence it where its claimer is gone.

        The fences that now stand on executions come back.
        """
        if not slots:
            return {}
        wanted = {"_id": {"$in": [slot["execution_id"] for slot in slots]}}
        fields = {"status": 1, "epoch": 1, "fence": 1}
        found = {one["_id"]: one for one in await self._commands.find(EXECUTIONS, wanted, fields=fields)}
        fences: dict[str, str] = {}
        changes: list[Change] = []
        for slot in slots:
            one = found.get(slot["execution_id"])
            if one is not None and one["status"] == RUNS:
                batch.blocked.add(slot["_id"])
                continue
            if one is None or one["status"] != WAITS or one["epoch"] != slot["epoch"] - 1 or _is_fenced(one, slot):
                continue
            if not self._is_stuck(slot):
                batch.blocked.add(slot["_id"])
                continue
            fences[one["_id"]] = batch.request.claim_id
            must = {name: one.get(name) for name in ("_id", "status", "epoch", "fence")}
            changes.append((must, {"$set": {"fence": batch.request.claim_id}}))
        if await self._commands.update(EXECUTIONS, changes) < len(changes):
            # Somebody moved meanwhile: look at those tasks again with the next request.
            batch.blocked.update(slot["_id"] for slot in slots if slot["execution_id"] in fences)
        return fences

    def _is_stuck(self, slot: Document) -> bool:
        """Whether a slot without its claim was left: from before we opened, or seen so for long enough.

        Clocks of two hosts may differ, so the former can be wrong; then a claimer is fenced in vain, and tries again.
        """
        if slot["at"] < self._opened:
            return True
        token, since = self._stuck.get(slot["_id"], ("", 0.0))
        if token == slot["token"]:
            return time.monotonic() - since > STUCK_SECONDS
        if len(self._stuck) >= SEEN_MAX:
            self._stuck.clear()
        self._stuck[slot["_id"]] = slot["token"], time.monotonic()
        return False

    # ── what keeps a claim ───────────────────────────────────────────────────────────────────────────────────────────

    async def claimed_by(self, claim_id: str) -> Sequence[Claim]:
        found = await self._commands.find(EXECUTIONS, {"claim_id": claim_id, "status": RUNS}, sort=_ORDER)
        tasks = await self._tasks_of(found)
        return [
            claim_of(one, self._definitions.task(tasks[one["task_id"]])) for one in found if one["task_id"] in tasks
        ]

    async def renew(self, claims: Sequence[tuple[ExecutionId, int]]) -> Sequence[RenewVerdict]:
        beats: list[Change] = [
            ({"_id": id, "epoch": epoch, "status": RUNS}, {"$inc": {"beat": 1}}) for id, epoch in sorted(claims)
        ]
        await self._commands.update(EXECUTIONS, beats)
        wanted = {"_id": {"$in": sorted({id for id, _ in claims})}, "status": RUNS}
        fields = {"epoch": 1, "cancel_requested": 1}
        found = await self._commands.find(EXECUTIONS, wanted, fields=fields)
        stands = {(one["_id"], int(one["epoch"])): one["cancel_requested"] for one in found}
        return [
            RenewVerdict.LOST if claim not in stands else RenewVerdict.CANCEL if stands[claim] else RenewVerdict.KEPT
            for claim in claims
        ]

    async def cancel_wishes(self, worker_id: WorkerId) -> Sequence[tuple[ExecutionId, int]]:
        wishes = {"status": RUNS, "worker_id": worker_id, "cancel_requested": True}
        found = await self._commands.find(EXECUTIONS, wishes, fields={"epoch": 1})
        return [(ExecutionId(one["_id"]), int(one["epoch"])) for one in found]

    async def running(self) -> Sequence[Running]:
        ours = {"status": RUNS, "key": {"$exists": True}}
        found = await self._commands.find(EXECUTIONS, ours, fields=WITHOUT_BODY)
        tasks = await self._tasks_of(found)
        beyond = {id for id, task in tasks.items() if is_beyond(task)}
        return [
            running_of(one, self._definitions.task(tasks[one["task_id"]]) if one["task_id"] in tasks else None)
            for one in found
            if one["task_id"] not in beyond and not executions.is_beyond(one)
        ]

    async def _tasks_of(self, executions: Sequence[Document]) -> dict[str, Document]:
        if not executions:
            return {}
        wanted = {"_id": {"$in": sorted({one["task_id"] for one in executions})}}
        found = await self._commands.find(TASKS, wanted | VISIBLE, fields=WITHOUT_DEBTS)
        return {document["_id"]: document for document in found}


def _chosen(
    batch: _Batch, rest: Sequence[Document], first: Mapping[str, Document]
) -> tuple[list[Document], list[Document]]:
    """What to claim of *rest*: of tasks that allow overlap, and of each that does not only the *first* that waits."""
    free: list[Document] = []
    alone: list[Document] = []
    offered = set(batch.blocked)
    for one in rest:
        if one["task_id"] in offered:
            continue
        if batch.allows(one):
            free.append(one)
        else:
            alone.append(first[one["task_id"]])
            offered.add(one["task_id"])
        if len(free) + len(alone) == batch.wanted:
            break
    return free, alone


def _turn(document: Document) -> tuple[Any, ...]:
    """Its place in the queue."""
    return (document["rank"], int(document["available_at"]), document["seq"])


def _behind(document: Document) -> list[dict[str, Any]]:
    """The conditions, one of which is met by whatever comes after *document* in the queue."""
    conditions: list[dict[str, Any]] = []
    for place, name in enumerate(_TURN):
        same = {earlier: document[earlier] for earlier in _TURN[:place]}
        conditions.append(same | {name: {"$gt": document[name]}})
    return conditions


def _slot(document: Document, token: str) -> Document:
    """The slot of the task of *document*, taken for it under its next epoch."""
    return {
        "_id": document["task_id"],
        "execution_id": document["_id"],
        "epoch": document["epoch"] + 1,
        "fence": document.get("fence"),
        "token": token,
        "at": time.time_ns(),
    }


def _is_fenced(document: Document, slot: Document) -> bool:
    """Whether the claim that *slot* was taken for is refused already."""
    return bool(document.get("fence") != slot.get("fence"))
