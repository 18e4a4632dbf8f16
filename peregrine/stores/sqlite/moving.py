"""Owns reading the whole file out in bounded batches, and laying such batches down; must not know where they go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import apsw
import msgspec

from peregrine.domain.execution import Attempt, Execution, State
from peregrine.domain.ids import TaskId
from peregrine.domain.occurrence import Reason, Skip
from peregrine.domain.payload import JsonObject
from peregrine.domain.policy import rank
from peregrine.domain.query import ExecutionStatus
from peregrine.ports.moving import EVE_KINDS, Item, Kind, Load, StoredExecution, StoredSkip, StoredTask
from peregrine.ports.records import Record
from peregrine.stores.sqlite import eve, history, rows, steps, tasks
from peregrine.stores.sqlite.definitions import Definitions
from peregrine.stores.sqlite.queries import SQL
from peregrine.stores.sqlite.rows import Row
from peregrine.stores.sqlite.settling import Days
from peregrine.stores.sqlite.stretches import Stretches

_COUNTS: Final[dict[Kind, str]] = {
    Kind.RECORDS: "count_all_records",
    Kind.TASKS: "count_all_tasks",
    Kind.EXECUTIONS: "count_all_executions",
    Kind.SKIPS: "count_all_skips",
}


def count_items(db: apsw.Connection, kind: Kind) -> int:
    if kind in EVE_KINDS:
        return eve.count_items(db, kind)
    return steps.number(db, SQL[_COUNTS[kind]])


def read_items(db: apsw.Connection, definitions: Definitions, kind: Kind, after: str, limit: int) -> Load:
    match kind:
        case Kind.RECORDS:
            collection, _, key = after.partition("\0")
            found = list(db.execute(SQL["move_records"], (collection, key, limit)))
            return _load([_record(row) for row in found], found, limit, lambda row: f"{row[0]}\0{row[1]}")
        case Kind.TASKS:
            found = list(db.execute(SQL["move_tasks"], (int(after or 0), limit)))
            return _load(_tasks(db, definitions, found), found, limit, _number)
        case Kind.EXECUTIONS:
            found = list(db.execute(SQL["move_executions"], (int(after or 0), limit)))
            return _load(_executions(db, found), found, limit, _number)
        case Kind.SKIPS:
            found = list(db.execute(SQL["move_skips"], (int(after or 0), limit)))
            return _load([_skip(row) for row in found], found, limit, _number)
        case _:
            ids, items = eve.read_items(db, kind, int(after or 0), limit)
            return Load(items, str(ids[-1]) if len(ids) == limit else None)


def _load(items: Sequence[Item], found: Sequence[Row], limit: int, place: Any) -> Load:
    return Load(items, place(found[-1]) if len(found) == limit else None)


def _number(row: Row) -> str:
    return str(row[0])


def _record(row: Row) -> Record:
    collection, key, revision, expires_at, text = row
    document = msgspec.json.decode(text, type=dict)
    return Record(collection=collection, key=key, document=document, revision=revision, expires_at=expires_at)


def _tasks(db: apsw.Connection, definitions: Definitions, found: Sequence[Row]) -> list[StoredTask]:
    views = tasks.views_of(db, definitions, [row[0] for row in found])
    return [
        StoredTask(task=view.task, cursor=view.cursor, next_run_at=view.next_run_at, tally=view.tally)
        for view in (views[row[0]] for row in found)
    ]


def _executions(db: apsw.Connection, found: Sequence[Row]) -> list[StoredExecution]:
    executions = steps.executions_of(db, [row[0] for row in found])
    return [
        StoredExecution(
            execution=executions[seq],
            key=f"c:{executions[seq].task_id}:{occurrence}" if key is None else key,
            details=history.earlier_details(db, executions[seq].id) if executions[seq].epoch > 1 else {},
        )
        for seq, occurrence, key in found
    ]


def _skip(row: Row) -> StoredSkip:
    _, task_id, first, last, count, reason, decided_at = row
    return StoredSkip(task_id=TaskId(task_id), skip=Skip(first, last, count, Reason(reason)), decided_at=decided_at)


# ── laying down ──────────────────────────────────────────────────────────────────────────────────────────────────────


def lay_items(db: apsw.Connection, items: Sequence[Item]) -> int:
    laid = 0
    executions: list[StoredExecution] = []
    for item in items:
        match item:
            case Record():
                laid += _lay_record(db, item)
            case StoredTask():
                laid += _lay_task(db, item)
            case StoredSkip():
                laid += _lay_skip(db, item)
            case StoredExecution():
                executions.append(item)
            case _:
                laid += eve.lay_item(db, item)
    return laid + _lay_executions(db, executions)


def _lay_record(db: apsw.Connection, record: Record) -> int:
    text = msgspec.json.encode(record.document).decode()
    db.execute(SQL["lay_record"], (record.collection, record.key, record.revision, record.expires_at, text))
    return db.changes()


def _lay_task(db: apsw.Connection, stored: StoredTask) -> int:
    task, tally = stored.task, stored.tally
    if db.execute(SQL["task_id_exists"], (task.id,)).fetchone() is not None:
        return 0
    (no,) = tasks.add(db, [(task, stored.cursor, stored.next_run_at)])
    db.execute(
        SQL["lay_tally"],
        (
            no,
            tally.total_runs,
            tally.success_count,
            tally.runtime_total,
            tally.last_run_at,
            tally.last_duration,
            tally.last_succeeded,
        ),
    )
    if tally.last_error is not None:
        steps.write_rows(db, "put_task_error", [(no, tally.last_error)])
    return 1


def _lay_skip(db: apsw.Connection, stored: StoredSkip) -> int:
    skip, task_no = stored.skip, steps.number_of(db, "task", stored.task_id)
    db.execute(SQL["lay_skip"], (task_no, skip.first, skip.last, skip.count, skip.reason, stored.decided_at))
    return db.changes()


def _lay_executions(db: apsw.Connection, items: Sequence[StoredExecution]) -> int:
    days, stretches, waiting, laid = Days(), Stretches(), 0, 0
    for item in items:
        one = item.execution
        task_no = steps.number_of(db, "task", one.task_id)
        worker_no = None if one.worker_id is None else steps.number_of(db, "worker", one.worker_id)
        found = db.execute(SQL["lay_execution"], _execution_row(item, task_no, worker_no)).fetchone()
        if found is None:
            continue
        laid += 1
        _lay_beside(db, found[0], one, item.details)
        waiting += one.state is State.QUEUED
        succeeded = one.state is State.COMPLETED
        if one.completed_at is not None:
            days.add(one.completed_at, one.duration, 1, succeeded=succeeded)
        if one.state is not State.QUEUED:
            failed = one.state in ExecutionStatus.FAILED.states
            stretches.add(one.listed_at, listed=1, completed=succeeded, failed=failed)
    days.write(db)
    stretches.write(db)
    steps.count_queued(db, waiting)
    return laid


def _execution_row(item: StoredExecution, task_no: int, worker_no: int | None) -> Row:
    one = item.execution
    occurrence = rows.occurrence_of(item.key, one.task_id)
    last = one.attempts[-1] if one.attempts else None
    stays = last is not None and _stands_in_row(last, one)
    return (
        one.id,
        task_no,
        occurrence,
        item.key if occurrence is None else None,
        rows.CAUSE_NUMBERS[one.cause],
        int(one.priority),
        one.scheduled_for,
        one.queued_at,
        one.available_at,
        rank(one.priority, one.available_at),
        None if one.parameters is None else rows.json_text(one.parameters),
        one.requested_by,
        one.follows,
        rows.STATE_NUMBERS[one.state],
        one.attempt,
        one.epoch,
        one.beat,
        one.failures,
        one.losses,
        one.cancel_requested,
        worker_no,
        one.started_at,
        one.completed_at,
        None if one.state is State.QUEUED else one.listed_at,
        rows.OUTCOME_NUMBERS[one.outcome],
        rows.ATTEMPT_OUTCOME_NUMBERS[last.outcome] if stays and last is not None else None,
    )


def _stands_in_row(last: Attempt, one: Execution) -> bool:
    """Whether the row of *one* says all of its *last* attempt (``rows.execution`` reads it so)."""
    if one.state is State.QUEUED or last.outcome is None:
        return False
    said = Attempt(
        attempt=one.attempt,
        epoch=one.epoch,
        worker_id=last.worker_id if one.worker_id is None else one.worker_id,
        started_at=last.started_at if one.started_at is None else one.started_at,
        completed_at=one.completed_at,
        outcome=last.outcome,
        error=one.error,
    )
    return said == last


def _lay_beside(db: apsw.Connection, seq: int, one: Execution, details: Mapping[int, JsonObject]) -> None:
    """What stands beside the row of an execution: its segment, its result, its earlier attempts."""
    moment = one.scheduled_for
    bounds = (rows.INTEGER_MAX, rows.INTEGER_MIN) if moment is None else (moment, moment)
    db.execute(SQL["spread_scheduled"], (steps.segment_of(seq), *bounds))
    if one.state is not State.QUEUED:
        steps.spread_listed(db, [seq], one.listed_at, one.listed_at)
    if one.output or one.error is not None or one.truncated or one.detail:
        detail = rows.json_text(one.detail) if one.detail else rows.NO_DETAIL
        steps.write_rows(db, "put_result", [(seq, one.output, one.error, one.truncated, detail)])
    ended = [attempt for attempt in one.attempts if attempt.outcome is not None]
    apart = ended[:-1] if ended and _stands_in_row(ended[-1], one) else ended
    numbers = {id: steps.number_of(db, "worker", id) for id in {attempt.worker_id for attempt in apart}}
    kept = [rows.attempt_row(seq, each, numbers[each.worker_id], details.get(each.epoch)) for each in apart]
    steps.write_rows(db, "add_attempt", kept)
