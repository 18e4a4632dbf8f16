"""Owns the end of attempts and executions: settlements and cancels; must not know how work began.

An end is one write to the execution's document; what it adds elsewhere is owed there until it is paid (``debts``).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Final

from peregrine.domain.errors import Unavailable
from peregrine.domain.execution import AttemptOutcome, Settlement, State
from peregrine.domain.ids import ExecutionId, TaskId
from peregrine.domain.moment import Moment
from peregrine.domain.policy import Priority
from peregrine.ports.store import CancelVerdict, SettleVerdict
from peregrine.stores.mongo.commands import EXECUTIONS, Change, Commands, Document, both, pause
from peregrine.stores.mongo.debts import LOOK_SECONDS, Debts, marking
from peregrine.stores.mongo.definitions import new_token
from peregrine.stores.mongo.executions import (
    OWING,
    RUNS,
    WAITS,
    WITHOUT_BODY,
    Numbers,
    attempt_of,
    cancelling,
    late_note,
    new_document,
    owes_more,
    priority_of,
    settling,
)
from peregrine.stores.mongo.grouping import without_repetition
from peregrine.stores.mongo.tallies import End, Tallies, end_of

ROUNDS_MAX: Final = 50
QUICK_SECONDS: Final = LOOK_SECONDS / 2

_KNOWN: Final = {
    "status": 1, "epoch": 1, "beat": 1, "cancel_requested": 1, "priority": 1, "attempts": 1, "owes": 1, "stamp": 1,
    "key": 1,
}  # fmt: skip


class Settling:
    """The verbs that end work."""

    def __init__(self, commands: Commands, debts: Debts, tallies: Tallies, numbers: Numbers) -> None:
        self._commands = commands
        self._debts = debts
        self._tallies = tallies
        self._numbers = numbers

    # ── settle ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[SettleVerdict]:
        verdicts: list[SettleVerdict] = []
        for run in without_repetition(settlements, lambda settlement: settlement.execution_id):
            verdicts += await self._settle_run(run)
        return verdicts

    async def _settle_run(self, settlements: Sequence[Settlement]) -> list[SettleVerdict]:
        """Write all as they are asked for, which nearly always is right; look at those for which it was not."""
        verdicts: dict[str, SettleVerdict] = {}
        again = [one.execution_id for one in settlements if one.state is State.QUEUED]
        known = await self._stands(again) if again else {}
        stamp = new_token()
        began = time.monotonic()
        written, stands = await both(
            self._write(settlements, stamp, known), self._tallies.read(one.task_id for one in settlements)
        )
        # Both went out together, which is as good as one after the other only while nobody can have paid for us.
        await self._pay(written, stands if time.monotonic() - began < QUICK_SECONDS else None)
        verdicts |= {one.execution_id: SettleVerdict.APPLIED for one in written}
        for settlement in settlements:
            if settlement.execution_id not in verdicts:
                verdicts[settlement.execution_id] = await self._settle_one(settlement)
        return [verdicts[settlement.execution_id] for settlement in settlements]

    async def _stands(self, ids: Sequence[ExecutionId]) -> dict[str, Document]:
        found = await self._commands.find(EXECUTIONS, {"_id": {"$in": list(ids)}}, fields=_KNOWN)
        return {document["_id"]: document for document in found}

    async def _write(
        self, settlements: Sequence[Settlement], stamp: str, known: dict[str, Document]
    ) -> list[Settlement]:
        """Write those of *settlements* that can be; which those are."""
        names, changes = self._tallies.unmarking()
        riders = len(changes)
        for one in sorted(settlements, key=lambda settlement: settlement.execution_id):
            document = known.get(one.execution_id)
            if one.state is State.QUEUED and document is None:
                continue
            changes.append(self._ending(one, stamp, document, marked=False))
        asked = len(changes) - riders
        matched = await self._commands.update(EXECUTIONS, changes)
        self._tallies.unmarked(names)
        if matched == len(changes) and asked == len(settlements):
            return list(settlements)
        mine = {"_id": {"$in": [one.execution_id for one in settlements]}, "stamp": stamp}
        found = {one["_id"] for one in await self._commands.find(EXECUTIONS, mine, fields={"_id": 1})}
        return [one for one in settlements if one.execution_id in found]

    def _ending(self, settlement: Settlement, stamp: str, document: Document | None, *, marked: bool) -> Change:
        """The change that writes *settlement*, for an execution that is *marked* for cancel or not."""
        followups = [new_document(new, self._numbers.next()) for new in settlement.followups]
        priority = Priority.NORMAL if document is None else priority_of(document)
        must, change = settling(settlement, stamp, followups, priority)
        if marked:
            must = {**must, "cancel_requested": True}
        elif settlement.if_cancelled() is not settlement:
            must = {**must, "cancel_requested": False}
        return must, change

    async def _pay(self, written: Sequence[Settlement], stands: Mapping[str, Document] | None = None) -> None:
        """Pay what *written* owes: what is owed beside the tally first, since that debt is not paid by the way."""
        if not written:
            return
        with_followups = [one.execution_id for one in written if one.followups]
        if with_followups:
            owing = {"_id": {"$in": with_followups}} | OWING
            await self._debts.pay_executions(await self._commands.find(EXECUTIONS, owing, fields=WITHOUT_BODY))
        ends = [_end(one) for one in written if one.state is not State.QUEUED and not one.followups]
        await self._tallies.add(ends, stands)
        if self._tallies.is_laden:
            await self._tallies.unmark()

    async def _settle_one(self, settlement: Settlement) -> SettleVerdict:
        """One that could not be written as it was asked for: marked, repeated, late, or met by a rival."""
        for tries in range(ROUNDS_MAX):
            document = (await self._stands([settlement.execution_id])).get(settlement.execution_id)
            if document is None or "key" not in document:
                return SettleVerdict.STALE
            if any(settlement.wrote(attempt_of(one)) for one in document["attempts"]):
                await self._pay_for(settlement.execution_id)
                return SettleVerdict.REPEATED
            if not _may_settle(document, settlement):
                await self._note_late(document, settlement)
                return SettleVerdict.STALE
            marked = bool(document["cancel_requested"])
            written = settlement.if_cancelled() if marked else settlement
            stamp = new_token()
            await self._commands.update(EXECUTIONS, [self._ending(written, stamp, document, marked=marked)])
            after = (await self._stands([settlement.execution_id])).get(settlement.execution_id)
            if after is not None and after.get("stamp") == stamp:
                await self._pay([written])
                return SettleVerdict.APPLIED if written == settlement else SettleVerdict.CANCELLED
            await pause(tries)
        raise Unavailable("the execution changes too fast to be settled")

    async def _pay_for(self, execution_id: ExecutionId) -> None:
        """The maker of this end may have died before he paid for it."""
        owing = {"_id": execution_id} | OWING
        await self._debts.pay_executions(await self._commands.find(EXECUTIONS, owing, fields=WITHOUT_BODY))

    async def _note_late(self, document: Document, settlement: Settlement) -> None:
        """Note a refused result on the attempt that was ended as lost in its place; a reaper brings no result."""
        late = settlement.attempt.outcome
        if late is None or late is AttemptOutcome.LOST:
            return
        for attempt in (attempt_of(one) for one in document["attempts"]):
            if attempt.epoch == settlement.epoch and attempt.outcome is AttemptOutcome.LOST:
                noted = attempt.noting_late(late)
                if noted != attempt:
                    place = f"attempts.{attempt.attempt - 1}.error"
                    must = {"_id": document["_id"], place: attempt.error}
                    await self._commands.update(EXECUTIONS, [(must, {"$set": late_note(noted)})])

    # ── cancel ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def cancel_execution(self, execution_id: ExecutionId, now: Moment) -> list[tuple[ExecutionId, CancelVerdict]]:
        return await self._cancel({"_id": execution_id}, now)

    async def cancel_task(self, task_id: TaskId, now: Moment) -> list[tuple[ExecutionId, CancelVerdict]]:
        return await self._cancel({"task_id": task_id, "active": True}, now)

    async def _cancel(self, which: Document, now: Moment) -> list[tuple[ExecutionId, CancelVerdict]]:
        """Cancel all that *which* finds now, until each has its verdict."""
        stamp = new_token()
        verdicts: dict[str, CancelVerdict] = {}
        found = await self._commands.find(EXECUTIONS, which, fields=WITHOUT_BODY)
        names = [document["_id"] for document in found]
        for tries in range(ROUNDS_MAX):
            await self._debts.pay_executions([one for one in found if one["status"] == WAITS])
            waiting = [one for one in found if one["status"] == WAITS and "key" in one]
            running = [one for one in found if one["status"] == RUNS]
            changes = [cancelling(one, stamp, now) for one in waiting] + [marking(one) for one in running]
            changes.sort(key=lambda change: change[0]["_id"])
            matched = await self._commands.update(EXECUTIONS, changes)
            after = found
            if changes:
                these = {"_id": {"$in": [one["_id"] for one in found]}}
                after = await self._commands.find(EXECUTIONS, these, fields=WITHOUT_BODY)
            verdicts |= {one["_id"]: _verdict(one, stamp) for one in after if _is_settled(one)}
            found = [one for one in after if not _is_settled(one)]
            if not found:
                break
            if matched < len(changes):
                await pause(tries)
        else:
            raise Unavailable("executions of the task change too fast to be cancelled")
        await self._pay_cancelled(stamp, [name for name in names if verdicts.get(name) is CancelVerdict.CANCELLED])
        return [(ExecutionId(name), verdicts[name]) for name in names if name in verdicts]

    async def _pay_cancelled(self, stamp: str, names: Sequence[str]) -> None:
        if names:
            mine = {"_id": {"$in": list(names)}, "stamp": stamp}
            ended = await self._commands.find(EXECUTIONS, mine, fields=WITHOUT_BODY)
            await self._debts.pay_executions([document for document in ended if owes_more(document)])
            await self._tallies.add([end_of(document) for document in ended if not owes_more(document)])


def _is_settled(document: Document) -> bool:
    """Whether a cancel has nothing more to do with this execution; what another program left is not ours to end."""
    if "key" not in document:
        return True
    return document["status"] != WAITS and (document["status"] != RUNS or bool(document.get("cancel_requested")))


def _verdict(document: Document, stamp: str) -> CancelVerdict:
    if document["status"] == RUNS:
        return CancelVerdict.MARKED
    return CancelVerdict.CANCELLED if document.get("stamp") == stamp else CancelVerdict.ENDED


def _may_settle(document: Document, settlement: Settlement) -> bool:
    renewed = settlement.expected_beat is not None and settlement.expected_beat != document["beat"]
    return document["status"] == RUNS and document["epoch"] == settlement.epoch and not renewed


def _end(settlement: Settlement) -> End:
    """The end that *settlement* wrote, as a tally counts it."""
    return End(
        settlement.execution_id,
        settlement.task_id,
        settlement.state is State.COMPLETED,
        settlement.attempt.started_at,
        settlement.ended_at,
        settlement.error,
    )
