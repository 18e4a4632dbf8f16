"""Owns the reads of what happened: lists, ledger, statistics; must not know how any of it was written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from peregrine.domain.errors import Invalid
from peregrine.domain.execution import Execution
from peregrine.domain.ids import ExecutionId, TaskId
from peregrine.domain.moment import MOMENT_MAX, Moment
from peregrine.domain.occurrence import LedgerEntry, Reason, Verdict
from peregrine.domain.payload import JsonObject
from peregrine.domain.query import (
    COUNT_MAX,
    ExecutionFilter,
    ExecutionStatus,
    Page,
    PageRequest,
    read_cursor,
    write_cursor,
)
from peregrine.domain.statistics import Statistics, day_start
from peregrine.stores.mongo.commands import EXECUTIONS, SKIPS, TASKS, Commands, Document, both
from peregrine.stores.mongo.definitions import VISIBLE, next_moment
from peregrine.stores.mongo.executions import RUNS, WAITS, WITHOUT_DEBTS, details_of, execution_of
from peregrine.stores.mongo.searching import containing
from peregrine.stores.mongo.values import NANOSECONDS, NEVER, date, moment_of, moment_or_none

WAITING_AT: Final[Moment] = MOMENT_MAX + 1
"""Where what waits stands in a list: before all."""
FAR: Final = 1_000
"""From so far on, only the places of what lies before a page are read, not the lines."""
COUNTED_TASKS_MAX: Final = 10_000_000

_LISTED: Final = [("started_at", -1), ("_id", -1)]


@dataclass(slots=True)
class _Sought:
    """A filter as conditions: for what waits and for what does not; None: nothing of that kind can match."""

    waiting: list[Mapping[str, Any]] | None = field(default_factory=list)
    started: list[Mapping[str, Any]] | None = field(default_factory=list)

    def both(self, condition: Mapping[str, Any]) -> None:
        self.only_waiting(condition)
        self.only_started(condition)

    def only_waiting(self, condition: Mapping[str, Any]) -> None:
        if self.waiting is not None:
            self.waiting.append(condition)

    def only_started(self, condition: Mapping[str, Any]) -> None:
        if self.started is not None:
            self.started.append(condition)


class History:
    """The reads of executions, ledger and sums."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    # ── executions ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def get_execution(self, execution_id: ExecutionId) -> Execution | None:
        found = await self._commands.find(EXECUTIONS, {"_id": execution_id}, fields=WITHOUT_DEBTS)
        return execution_of(found[0]) if found else None

    async def earlier_details(self, execution_id: ExecutionId) -> Mapping[int, JsonObject]:
        found = await self._commands.find(EXECUTIONS, {"_id": execution_id}, fields={"details": 1})
        return details_of(found[0]) if found else {}

    async def list_executions(self, filter: ExecutionFilter, page: PageRequest) -> Page[Execution]:
        after = read_cursor("executions", page.cursor, int, str) if page.cursor else None
        sought = _sought(filter)
        waiting, started = await both(self._count(sought.waiting), self._count(sought.started))
        total = waiting + started
        found: list[Document] = []
        if sought.waiting is not None and (after is None or after[0] == WAITING_AT):
            found += await self._waiting_page(sought.waiting, page, after)
        if sought.started is not None and len(found) <= page.size:
            skip = 0 if after is not None else max(0, page.offset - waiting)
            found += await self._started_page(sought.started, (skip, page.size + 1 - len(found)), after)
        shown = found[: page.size]
        more = len(found) > len(shown) > 0
        return Page(
            items=[execution_of(one) for one in shown],
            total=min(total, COUNT_MAX),
            total_exact=total <= COUNT_MAX,
            next_cursor=write_cursor("executions", _listed_at(shown[-1]), shown[-1]["_id"]) if more else None,
        )

    async def _count(self, conditions: Sequence[Mapping[str, Any]] | None) -> int:
        if conditions is None:
            return 0
        return await self._commands.count(EXECUTIONS, {"$and": list(conditions)}, COUNT_MAX + 1)

    async def _waiting_page(
        self, conditions: Sequence[Mapping[str, Any]], page: PageRequest, after: tuple[int | str, ...] | None
    ) -> list[Document]:
        if after is not None:
            conditions = [*conditions, {"_id": {"$lt": after[1]}}]
        part = {"$and": list(conditions)}
        return await self._commands.find(
            EXECUTIONS, part, fields=WITHOUT_DEBTS, sort=[("_id", -1)], page=(page.offset, page.size + 1)
        )

    async def _started_page(
        self,
        conditions: Sequence[Mapping[str, Any]],
        page: tuple[int, int],
        after: tuple[int | str, ...] | None,
    ) -> list[Document]:
        if after is not None and after[0] != WAITING_AT:
            conditions = [*conditions, _older(after)]
        part = {"$and": list(conditions)}
        return await self._commands.find(EXECUTIONS, part, fields=WITHOUT_DEBTS, sort=_LISTED, page=page)

    # ── ledger ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def list_occurrences(self, task_id: TaskId, page: PageRequest) -> Page[LedgerEntry]:
        after, offset = _ledger_position(page.cursor) if page.cursor else None, page.offset
        if offset > FAR:
            after, offset = await self._ledger_place(task_id, offset), 0
        reach = offset + page.size + 1
        (ran, not_run), (lines, ranges) = await both(
            both(
                self._ledger_part(EXECUTIONS, _ran(task_id), "scheduled_for", after, reach),
                self._ledger_part(SKIPS, {"task_id": task_id}, "first", after, reach),
            ),
            both(
                self._commands.count(EXECUTIONS, _ran(task_id), COUNT_MAX + 1),
                self._commands.count(SKIPS, {"task_id": task_id}, COUNT_MAX + 1),
            ),
        )
        entries = [(_place(one, "scheduled_for"), _ran_entry(one)) for one in ran]
        entries += [(_place(one, "first"), _range_entry(one)) for one in not_run]
        entries.sort(key=lambda entry: entry[0], reverse=True)
        rest = entries[offset:]
        shown = rest[: page.size]
        total = lines + ranges
        more = len(rest) > len(shown) > 0
        return Page(
            items=[entry for _, entry in shown],
            total=min(total, COUNT_MAX),
            total_exact=total <= COUNT_MAX,
            next_cursor=write_cursor("occurrences", shown[-1][0][0], str(shown[-1][0][1])) if more else None,
        )

    async def _ledger_place(self, task_id: TaskId, offset: int) -> tuple[Moment, int]:
        """The place of the line before which, with itself, *offset* lines lie; the last line's, if there are fewer.

        Raises:  Invalid when it lies too deep to be counted out.
        """
        if offset > COUNT_MAX:
            raise Invalid.at("/page", f"must not lie behind the first {COUNT_MAX} lines; follow next_cursor instead")
        newest: list[tuple[Moment, int]] = []
        for name, which, moment in (
            (EXECUTIONS, _ran(task_id), "scheduled_for"),
            (SKIPS, {"task_id": task_id}, "first"),
        ):
            part = await self._commands.find(
                name, which, fields={moment: 1, "seq": 1}, sort=[(moment, -1), ("seq", -1)], page=(0, offset)
            )
            newest += [_place(one, moment) for one in part]
        newest.sort(reverse=True)
        return newest[:offset][-1] if newest else (-WAITING_AT, 0)

    async def _ledger_part(
        self, name: str, which: Document, moment: str, after: tuple[Moment, int] | None, reach: int
    ) -> list[Document]:
        """The newest *reach* lines of one kind behind a position; each kind may fill the whole page by itself."""
        conditions: list[Mapping[str, Any]] = [which]
        if after is not None:
            at, number = after
            conditions.append({"$or": [{moment: {"$lt": date(at)}}, {moment: date(at), "seq": {"$lt": number}}]})
        return await self._commands.find(
            name, {"$and": conditions}, fields=WITHOUT_DEBTS, sort=[(moment, -1), ("seq", -1)], page=(0, reach)
        )

    # ── sums ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def statistics(self, now: Moment) -> Statistics:
        (tasks, enabled), ((queued, running), (today, soonest)) = await both(
            both(
                self._commands.count(TASKS, VISIBLE, COUNTED_TASKS_MAX),
                self._commands.count(TASKS, {"enabled": {"$ne": False}} | VISIBLE, COUNTED_TASKS_MAX),
            ),
            both(
                both(
                    self._commands.count(EXECUTIONS, {"status": WAITS}, COUNTED_TASKS_MAX),
                    self._commands.count(EXECUTIONS, {"status": RUNS}, COUNTED_TASKS_MAX),
                ),
                both(self._today(now), self._soonest()),
            ),
        )
        completed = sum(int(one["ended"]) for one in today if one["_id"]["status"] == ExecutionStatus.COMPLETED.value)
        ended = sum(int(one["ended"]) for one in today)
        ran = [one for one in today if one["_id"]["ran"]]
        runs, runtime = sum(int(one["ended"]) for one in ran), sum(int(one["runtime"]) for one in ran) // NANOSECONDS
        return Statistics(
            total_tasks=tasks,
            enabled_tasks=enabled,
            running=running,
            queued=queued,
            completed_today=completed,
            failed_today=ended - completed,
            average_runtime=runtime // runs if runs else 0,
            next_run_at=soonest,
        )

    async def _today(self, now: Moment) -> list[Document]:
        """What ended today, by status and whether it ever ran."""
        since = {"completed_at": {"$gte": date(day_start(now))}, "active": None}
        group = {"status": "$status", "ran": {"$ne": ["$attempt", 0]}}
        return await self._commands.aggregate(
            EXECUTIONS,
            [
                {"$match": since},
                {"$group": {"_id": group, "ended": {"$sum": 1}, "runtime": {"$sum": "$duration"}}},
            ],
        )

    async def _soonest(self) -> Moment | None:
        at = {"due_at": {"$lt": NEVER}} | VISIBLE
        found = await self._commands.find(TASKS, at, fields={"due_at": 1}, sort=[("due_at", 1)], page=(0, 1))
        return next_moment(found[0]) if found else None


def _sought(filter: ExecutionFilter) -> _Sought:
    sought = _Sought(waiting=[{"status": WAITS}], started=[])
    _seek_state(sought, filter)
    if filter.cause is not None:
        sought.both({"cause": filter.cause.value})
    if filter.worker_id is not None:
        sought.both({"worker_id": filter.worker_id or {"$in": []}})
    if filter.task_id is not None:
        sought.both({"task_id": filter.task_id})
    span = _span(filter)
    if span:
        sought.both({"started_at": span, "attempt": {"$ne": 0}})
    if filter.text:
        sought.both({"$or": [{"output": containing(filter.text)}, {"error": containing(filter.text)}]})
    return sought


def _seek_state(sought: _Sought, filter: ExecutionFilter) -> None:
    if filter.status is None:
        sought.only_started({"status": {"$ne": WAITS}})
    elif filter.status is ExecutionStatus.PENDING:
        sought.started = None
    else:
        sought.waiting = None
        sought.only_started({"status": filter.status.value})
    if filter.outcome is not None:
        sought.both({"outcome": filter.outcome.value})


def _span(filter: ExecutionFilter) -> Document:
    span: Document = {}
    if filter.started_after is not None:
        span["$gte"] = date(filter.started_after)
    if filter.started_before is not None:
        span["$lt"] = date(filter.started_before)
    return span


def _listed_at(document: Document) -> Moment:
    if document["status"] == WAITS:
        return WAITING_AT
    return moment_or_none(document.get("started_at")) or 0


def _older(after: tuple[int | str, ...]) -> Mapping[str, Any]:
    """The condition for what comes after a position; what has no start at all comes last."""
    at, id = date(int(after[0])), after[1]
    return {"$or": [{"started_at": {"$lt": at}}, {"started_at": at, "_id": {"$lt": id}}]}


def _ran(task_id: TaskId) -> Document:
    return {"task_id": task_id, "scheduled_for": {"$exists": True}}


def _place(document: Document, moment: str) -> tuple[Moment, int]:
    return moment_of(document[moment]), int(document["seq"])


def _ledger_position(cursor: str) -> tuple[Moment, int]:
    at, number = read_cursor("occurrences", cursor, int, str)
    text = str(number)
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        raise Invalid.at("/cursor", "is not a cursor of this list; ask without one to begin anew")
    return int(at), int(text)


def _ran_entry(document: Document) -> LedgerEntry:
    moment = moment_of(document["scheduled_for"])
    return LedgerEntry(
        scheduled_for=moment,
        last=moment,
        count=1,
        verdict=Verdict.RAN,
        execution_id=ExecutionId(document["_id"]),
        decided_at=moment_of(document["queued_at"]),
    )


def _range_entry(document: Document) -> LedgerEntry:
    # A reason that we do not know is a newer version's: the occurrence was left out, and it knows why.
    reason = next((one for one in Reason if one.value == document["reason"]), None)
    return LedgerEntry(
        scheduled_for=moment_of(document["first"]),
        last=moment_of(document["last"]),
        count=int(document["count"]),
        verdict=Verdict.SKIPPED if reason is None else reason.verdict,
        reason=reason,
        decided_at=moment_of(document["decided_at"]),
    )
