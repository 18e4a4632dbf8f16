"""Owns the reads of what happened: lists, ledger, statistics; must not know how any of it was written."""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any, Final, TypeAlias

import apsw

from peregrine.domain.execution import Cause, Execution, ExecutionOutcome
from peregrine.domain.ids import ExecutionId, TaskId
from peregrine.domain.moment import Moment
from peregrine.domain.occurrence import LedgerEntry
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
from peregrine.stores.sqlite import rows, steps
from peregrine.stores.sqlite.queries import SQL
from peregrine.stores.sqlite.stretches import STRETCH

_END_OF_TEXT: Final = "~"
"""Sorts behind every mark of the ledger."""
_START_OF_TEXT: Final = ""
"""Sorts before every id."""
_BEFORE_ALL: Final[Moment] = rows.INTEGER_MIN
"""Sorts before every moment."""
_NO_SEGMENT: Final = -1
_FAR: Final = 200
"""An offset from which the indexes are asked where it leads."""
_LOOKS_MAX: Final = 20_000
"""So many outputs one search for a text reads; its cursor leads to the next so many."""
_COUNTED: Final[Mapping[ExecutionStatus | None, str]] = {
    None: "listed",
    ExecutionStatus.COMPLETED: "completed",
    ExecutionStatus.FAILED: "failed",
}
"""What stretches count of the lists that nothing but a status asks for."""
_MANY: Final = 64
"""A task has many executions when at least one in so many is its own: then walking all of them in order is quicker."""


def get_execution(db: apsw.Connection, execution_id: ExecutionId) -> Execution | None:
    found = db.execute(SQL["seq_of"], (execution_id,)).fetchone()
    return None if found is None else steps.executions_of(db, [found[0]])[found[0]]


Values: TypeAlias = dict[str, Any]
Place: TypeAlias = tuple[int, str, int]
"""What a list is sorted by, what breaks a tie, and the number of the execution."""


@dataclass(slots=True)
class _Sought:
    """A filter as conditions of ours: for what waits, for what does not, and the index that the latter walks."""

    waiting: list[str] | None = field(default_factory=list)
    """None: nothing that waits can match."""
    started: list[str] | None = field(default_factory=list)
    index: str = "executions_listed"
    values: Values = field(default_factory=dict)
    of_task: bool = False
    """Whether the segments of one task are walked, and not an index."""
    counted: str | None = None
    """What stretches of the list know how much of it they hold of; None: they do not."""
    looks: bool = False
    """Whether rows of another table must be read to know what matches."""
    until: Moment | None = None
    """The oldest moment that such a search gets to; None: it gets to the end."""

    def both(self, name: str) -> None:
        self.only_waiting(name)
        self.only_started(name)

    def only_waiting(self, name: str) -> None:
        if self.waiting is not None:
            self.waiting.append(SQL[name])

    def only_started(self, name: str) -> None:
        if self.started is not None:
            self.started.append(SQL[name])


def earlier_details(db: apsw.Connection, execution_id: ExecutionId) -> dict[int, JsonObject]:
    return {epoch: rows.json_object(text) for epoch, text in db.execute(SQL["earlier_details"], (execution_id,))}


def list_executions(db: apsw.Connection, filter: ExecutionFilter, page: PageRequest) -> Page[Execution]:
    after = read_cursor("executions", page.cursor, int, str) if page.cursor else None
    filter = _plainer(filter)
    sought = _sought(db, filter)
    waiting = _count_waiting(db, sought)
    sought.until = _end_of_looks(db, sought, None)
    total = waiting + _count_started(db, filter, sought, waiting)
    exact = total <= COUNT_MAX and sought.until is None
    if after is not None:
        sought.until = _end_of_looks(db, sought, after)
    places: list[Place] = []
    if sought.waiting is not None and (after is None or after[0] == rows.NEVER):
        places += _page_of_waiting(db, sought, page, after)
    if sought.started is not None and len(places) <= page.size:
        skip = 0 if after is not None else max(0, page.offset - waiting)
        places += _page_of_started(db, sought, page.size + 1 - len(places), skip, after)
    shown = places[: page.size]
    executions = steps.executions_of(db, [seq for _, _, seq in shown])
    last: tuple[int, str] | None = None if sought.until is None else (sought.until, _START_OF_TEXT)
    if len(places) > len(shown) > 0:
        last = shown[-1][:2]
    return Page(
        items=[executions[seq] for _, _, seq in shown],
        total=min(total, COUNT_MAX),
        total_exact=exact,
        next_cursor=None if last is None else write_cursor("executions", *last),
    )


def _plainer(filter: ExecutionFilter) -> ExecutionFilter:
    """The same, with nothing of it said twice: whatever succeeded is completed, and only that."""
    if filter.outcome is ExecutionOutcome.SUCCEEDED and filter.status in (None, ExecutionStatus.COMPLETED):
        return replace(filter, status=ExecutionStatus.COMPLETED, outcome=None)
    return filter


def _sought(db: apsw.Connection, filter: ExecutionFilter) -> _Sought:
    sought = _Sought()
    if filter == ExecutionFilter(status=filter.status):
        sought.counted = _COUNTED.get(filter.status)
    if filter.cause is not None:
        sought.both("execution_by_cause")
        sought.values["cause"] = rows.CAUSE_NUMBERS[filter.cause]
        if filter.cause is not Cause.SCHEDULE:
            sought.only_started("execution_asked_for")
            sought.index = "executions_asked_for"
    _seek_state(sought, filter)
    if filter.worker_id is not None:
        found = db.execute(SQL["worker_number"], (filter.worker_id,)).fetchone()
        sought.both("execution_by_worker")
        sought.values["worker_no"] = None if found is None else found[0]
        if found is None:
            sought.waiting = sought.started = None
    if filter.started_after is not None:
        sought.only_waiting("execution_waits_since")
        sought.only_started("execution_started_after")
        sought.values["started_after"] = filter.started_after
    if filter.started_before is not None:
        sought.only_waiting("execution_waits_from_before")
        sought.only_started("execution_started_before")
        sought.values["started_before"] = filter.started_before
    if filter.text:
        sought.both("execution_has_text")
        sought.values["text"] = rows.lowered(filter.text)
        sought.looks = True
    if filter.task_id is not None:
        _seek_task(db, sought, filter.task_id)
    return sought


def _seek_task(db: apsw.Connection, sought: _Sought, task_id: TaskId) -> None:
    """One task. Its segments are walked; if more is asked of its executions, and it has many, an index of all."""
    found = db.execute(SQL["task_number"], (task_id,)).fetchone()
    if found is None:
        sought.waiting = sought.started = None
        return
    sought.values["task_no"] = found[0]
    sought.only_waiting("execution_of_task")
    sought.of_task = True
    if sought.started and _of_task(db, found[0]) * _MANY > _ended(db)[0] > _LOOKS_MAX:
        sought.only_started("execution_of_task")
        sought.of_task = False


def _of_task(db: apsw.Connection, task_no: int) -> int:
    """How many executions a task has; counted as far as anybody is told."""
    found = 0
    for (here,) in db.execute(SQL["counts_of_task"], (task_no,)):
        found += here
        if found > COUNT_MAX:
            break
    return found


def _ended(db: apsw.Connection) -> tuple[int, int, int]:
    """How many executions have ended: all, completed, not completed."""
    found = db.execute(SQL["count_ended"]).fetchone()
    assert found is not None
    ended, completed, failed = found
    return ended, completed, failed


def _seek_state(sought: _Sought, filter: ExecutionFilter) -> None:
    """Status and outcome. Only what has ended has an outcome, and all but success stands in an index of its own."""
    failed = filter.status is ExecutionStatus.FAILED
    if filter.outcome is not None:
        sought.both("execution_with_outcome")
        sought.values["outcome"] = rows.OUTCOME_NUMBERS[filter.outcome]
        failed = failed or filter.outcome is not ExecutionOutcome.SUCCEEDED
    if filter.status is ExecutionStatus.PENDING:
        sought.started = None
    elif filter.status is ExecutionStatus.RUNNING:
        sought.only_started("execution_is_running")
        sought.index = "executions_active"
    elif filter.status is ExecutionStatus.COMPLETED:
        sought.only_started("execution_in_state")
        sought.values["state"] = rows.COMPLETED
    if filter.status not in (None, ExecutionStatus.PENDING):
        sought.waiting = None
    if failed:
        sought.only_started("execution_failed")
        sought.index = "executions_unsuccessful"


def _together(conditions: list[str]) -> str:
    return " AND ".join(conditions) or "1"


def _count_waiting(db: apsw.Connection, sought: _Sought) -> int:
    if sought.waiting is None:
        return 0
    if not sought.waiting:
        return steps.number(db, SQL["queued"])
    return steps.number(db, SQL["count_waiting"].format(conditions=_together(sought.waiting)), sought.values)


def _end_of_looks(db: apsw.Connection, sought: _Sought, after: tuple[int | str, ...] | None) -> Moment | None:
    """The moment at which a search for a text, begun *after* a place, ends, so that it reads little more than it may.

    That moment is searched as a whole, so that each search gets further than the one before. None: it gets to the end
    of the list. A task with few executions is searched as a whole.
    """
    if sought.started is None or not sought.looks or sought.of_task:
        return None
    conditions = [one for one in sought.started if one != SQL["execution_has_text"]]
    values = dict(sought.values)
    if after is not None:
        conditions.append(SQL["execution_after"])
        values["at"], values["id"] = after
    moments = _places_of(db, sought, conditions, values, _LOOKS_MAX)
    return moments[0] if moments else None


def _places_of(
    db: apsw.Connection, sought: _Sought, conditions: list[str], values: Values, offset: int
) -> list[Moment]:
    """The moments of the two behind *offset* others on a list, as far as it is so long."""
    text = SQL["places_of_started"].format(indexed=f"INDEXED BY {sought.index}", conditions=_together(conditions))
    return [moment for (moment,) in db.execute(text, values | {"offset": offset})]


def _count_started(db: apsw.Connection, filter: ExecutionFilter, sought: _Sought, waiting: int) -> int:
    """How many that do not wait match, as far as is searched. What only a status asks for is counted already."""
    if sought.started is None:
        return 0
    if filter == ExecutionFilter(status=filter.status):
        ended, completed, failed = _ended(db)
        match filter.status:
            case ExecutionStatus.COMPLETED:
                return completed
            case ExecutionStatus.FAILED:
                return failed
            case ExecutionStatus.RUNNING:
                return steps.number(db, SQL["count_running"])
            case _:
                return ended + steps.number(db, SQL["count_running"])
    most = COUNT_MAX + 1
    if not sought.of_task:
        conditions = sought.started if sought.until is None else [*sought.started, SQL["execution_not_older"]]
        text = SQL["count_started"].format(indexed=f"INDEXED BY {sought.index}", conditions=_together(conditions))
        return steps.number(db, text, sought.values | {"most": most, "until": sought.until})
    if not sought.started:
        return _of_task(db, sought.values["task_no"]) - waiting
    if not (segments := _segments(db)):
        return 0
    values = sought.values | {"most": most, "segments": apsw.carray(segments)}
    return steps.number(db, SQL["count_started_of_task"].format(conditions=_together(sought.started)), values)


def _page_of_waiting(
    db: apsw.Connection, sought: _Sought, page: PageRequest, after: tuple[int | str, ...] | None
) -> list[Place]:
    assert sought.waiting is not None
    conditions, values = list(sought.waiting), dict(sought.values)
    if after is not None:
        conditions.append(SQL["execution_waits_after"])
        values["id"] = after[1]
    values |= {"limit": page.size + 1, "offset": page.offset}
    found = db.execute(SQL["list_waiting"].format(conditions=_together(conditions)), values)
    return [(rows.NEVER, id, seq) for seq, id in found]


def _page_of_started(
    db: apsw.Connection, sought: _Sought, limit: int, offset: int, after: tuple[int | str, ...] | None
) -> list[Place]:
    assert sought.started is not None
    conditions, values = list(sought.started), dict(sought.values)
    if after is not None:
        conditions.append(SQL["execution_after"])
        values["at"], values["id"] = after
    if sought.until is not None:
        conditions.append(SQL["execution_not_older"])
        values["until"] = sought.until
    if sought.of_task:
        text = SQL["list_started_of_task"].format(conditions=_together(conditions))
        upto = values.get("at", rows.NEVER)
        if offset > _FAR and not sought.started:
            pieces = db.execute(SQL["pieces_of_task"], values)
            upto, offset = _jump(db, pieces, "count_newer_of_task", values["task_no"], offset)
            text = SQL["list_started_of_task"].format(conditions=SQL["execution_not_newer"])
            values["from"] = upto
        walk = _Walk(text, values, SQL["segments_listed"], upto)
        return walk.rows(db, offset + limit)[offset:]
    indexed = f"INDEXED BY {sought.index}"
    if offset > _FAR and sought.counted is not None:
        values["before"], offset = _stretch_of(db, sought.counted, offset)
        conditions.append(SQL["execution_before"])
    if offset > _FAR:
        # The ids, which put those of one moment in order, stand in no index: only that one moment's are looked up.
        moments = _places_of(db, sought, conditions, values, offset - 1)
        if len(moments) < 2:
            return []
        values["from"] = moments[1]
        if moments[0] == moments[1]:
            text = SQL["count_started_newer"].format(indexed=indexed, conditions=_together(conditions))
            offset -= steps.number(db, text, values)
        else:
            offset = 0
        conditions.append(SQL["execution_not_newer"])
    text = SQL["list_started"].format(indexed=indexed, conditions=_together(conditions))
    return list(db.execute(text, values | {"limit": limit, "offset": offset}))


def _stretch_of(db: apsw.Connection, counted: str, offset: int) -> tuple[Moment, int]:
    """The end of the stretch of a list that holds the line behind *offset* others, and how many of those it holds.

    By days first: to fetch a row takes ten times as long as to have it added to a sum.
    """
    for day, whole in db.execute(SQL["days_of_stretches"].format(counted=counted)):
        if whole <= offset:
            offset -= whole
            continue
        for start, here in db.execute(SQL["stretches"].format(counted=counted), (day,)):
            if here > offset:
                return start + STRETCH, offset
            offset -= here
    return _BEFORE_ALL, offset


@dataclass(frozen=True, slots=True)
class _Walk:
    """A query about one task, sorted by its first two columns downward, and how to find the segments it must see."""

    text: str
    values: Values
    segments: str
    upto: Moment

    def rows(self, db: apsw.Connection, wanted: int) -> list[tuple[Any, ...]]:
        """The first *wanted* rows.

        From the segment with the newest bound on, a few and then ever more at once, until no other can hold an
        earlier row.
        """
        bounds: list[tuple[int, Moment]] = list(db.execute(self.segments, (self.upto,)))
        found: list[tuple[Any, ...]] = []
        start, width = 0, 1
        while start < len(bounds):
            part = apsw.carray(steps.integers(no for no, _ in bounds[start : start + width]))
            found += db.execute(self.text, self.values | {"segments": part, "limit": wanted})
            found.sort(key=lambda row: row[:2], reverse=True)
            del found[wanted:]
            start, width = start + width, 2 * width
            if len(found) == wanted and start < len(bounds) and found[-1][0] > bounds[start][1]:
                break
        return found


Piece: TypeAlias = tuple[int | None, Moment, Moment, int]
"""Neighbours of one task: their segment (None: they have none), the bounds of their moments, how many at most."""


def _jump(db: apsw.Connection, pieces: Iterable[Piece], newer: str, task_no: int, offset: int) -> tuple[Moment, int]:
    """A moment at or behind which the line behind *offset* others stands, and how many of those stand there too.

    The *pieces*, by their upper bounds, are counted from an index as far as they lie before it; lines are looked at
    only in the few segments that reach over it.
    """
    upto, before, passed = _BEFORE_ALL, 0, []
    for segment, first, last, count in pieces:
        if before + count > offset:
            upto = last
            break
        before += count
        if segment is not None:
            passed.append((segment, first, count))
    whole = sum(count for _, first, count in passed if first > upto)
    across = [segment for segment, first, _ in passed if first <= upto] or [_NO_SEGMENT]
    values = {"task_no": task_no, "segments": apsw.carray(steps.integers(across)), "upto": upto}
    return upto, offset - whole - steps.number(db, SQL[newer], values)


def _segments(db: apsw.Connection) -> array[int]:
    return steps.integers(no for (no,) in db.execute(SQL["segments"]))


def list_occurrences(db: apsw.Connection, task_id: TaskId, page: PageRequest) -> Page[LedgerEntry]:
    at, mark = read_cursor("occurrences", page.cursor, int, str) if page.cursor else (rows.NEVER, _END_OF_TEXT)
    found = db.execute(SQL["task_number"], (task_id,)).fetchone()
    if found is None:
        return Page(items=[], total=0)
    total = _count_ledger(db, found[0])
    offset = page.offset
    if offset > _FAR:
        ran, not_run = (
            db.execute(SQL[name], {"task_no": found[0]}) for name in ("pieces_of_ledger", "pieces_of_skips")
        )
        pieces = heapq.merge(ran, not_run, key=itemgetter(2), reverse=True)
        at, offset = _jump(db, pieces, "count_newer_of_ledger", found[0], offset)
    # Each part may fill the whole page, and what lies before the page, by itself.
    reach = offset + page.size + 1
    values: Values = {"task_no": found[0], "at": at, "mark": mark, "limit": reach}
    lines = _Walk(SQL["ledger_of_executions"], values, SQL["segments_scheduled"], int(at)).rows(db, reach)
    lines += db.execute(SQL["ledger_of_skips"], values)
    lines.sort(key=lambda row: row[:2], reverse=True)
    rest = lines[offset:reach]
    shown = rest[: page.size]
    return Page(
        items=[rows.ledger_entry(row) for row in shown],
        total=min(total, COUNT_MAX),
        total_exact=total <= COUNT_MAX,
        next_cursor=write_cursor("occurrences", *shown[-1][:2]) if len(rest) > len(shown) > 0 else None,
    )


def _count_ledger(db: apsw.Connection, task_no: int) -> int:
    most = COUNT_MAX + 1
    skips = steps.number(db, SQL["count_ledger_of_skips"], (task_no, most))
    if not (segments := _segments(db)):
        return skips
    values = {"task_no": task_no, "segments": apsw.carray(segments), "most": most}
    return skips + steps.number(db, SQL["count_ledger_of_executions"], values)


def statistics(db: apsw.Connection, now: Moment) -> Statistics:
    row = db.execute(SQL["statistics"], (day_start(now),)).fetchone()
    assert row is not None
    tasks, enabled, running, queued, completed, failed, timed, runtime, next_run_at = row
    return Statistics(
        total_tasks=tasks,
        enabled_tasks=enabled,
        running=running,
        queued=queued,
        completed_today=completed,
        failed_today=failed,
        average_runtime=runtime // timed if timed else 0,
        next_run_at=rows.moment_or_none(next_run_at),
    )
