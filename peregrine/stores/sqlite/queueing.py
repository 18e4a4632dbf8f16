"""Owns the step from due to queued: plans, and what somebody asks for; must not know claims."""

from __future__ import annotations

from collections.abc import Sequence

import apsw

from peregrine.domain.errors import LimitReached, NotFound
from peregrine.domain.execution import Execution, NewExecution
from peregrine.domain.moment import Moment
from peregrine.domain.planning import DueTask, Plan
from peregrine.ports.store import DueBatch, PlanVerdict
from peregrine.stores.sqlite import rows, steps
from peregrine.stores.sqlite.definitions import Definitions
from peregrine.stores.sqlite.queries import SQL


def due(db: apsw.Connection, definitions: Definitions, now: Moment, limit: int) -> DueBatch:
    found = steps.told(db, SQL["due"], (now, max(limit, 0) + 1))
    queued = steps.number(db, SQL["queued"])
    if len(found) > limit:
        next_due_at = found[limit][2]
        found = found[:limit]
    else:
        next_due_at = rows.moment_or_none(steps.number(db, SQL["next_due_at"], (now,)))
    tasks = steps.tasks_of(db, definitions, [row[0] for row in found])
    return DueBatch([DueTask(tasks[stamp], cursor, active) for stamp, cursor, _, active in found], queued, next_due_at)


def apply_plans(db: apsw.Connection, plans: Sequence[Plan], now: Moment) -> Sequence[PlanVerdict]:
    applied, verdicts = PlanVerdict.APPLIED, [PlanVerdict.MOVED] * len(plans)
    for run, places in steps.without_repetition(plans, [plan.task_id for plan in plans]):
        found = steps.by_texts(db, "progress_of_tasks", [plan.task_id for plan in run])
        stands = {id: (no, cursor, generation) for id, no, cursor, generation in found}
        good: list[tuple[int, Plan]] = []
        for place, plan in zip(places, run, strict=True):
            no, cursor, generation = stands.get(plan.task_id, (0, None, None))
            if cursor == plan.cursor and generation == plan.generation:
                good.append((no, plan))
                verdicts[place] = applied
        _write_plans(db, good, now)
    return verdicts


def write_plan(db: apsw.Connection, no: int, plan: Plan, now: Moment) -> None:
    """Write one plan that was found to fit."""
    _write_plans(db, [(no, plan)], now)


def _write_plans(db: apsw.Connection, plans: Sequence[tuple[int, Plan]], now: Moment) -> None:
    steps.queue_up(db, [new for _, plan in plans for new in plan.executions], {plan.task_id: no for no, plan in plans})
    skips = [(no, skip.first, skip.last, skip.count, skip.reason, now) for no, plan in plans for skip in plan.skips]
    if skips:
        steps.write_rows(db, "add_skip", skips)
    moved = [(no, plan.cursor_after, rows.beyond(plan.next_run_at)) for no, plan in plans]
    steps.write_rows(db, "advance", moved)


def enqueue(db: apsw.Connection, new: NewExecution, queue_limit: int) -> Execution:
    # The key comes first: a repeated request gets the first answer, even if the queue has filled meanwhile.
    seq = _seq_of_key(db, new)
    if seq is None:
        if db.execute(SQL["task_id_exists"], (new.task_id,)).fetchone() is None:
            raise NotFound("task", new.task_id)
        if steps.number(db, SQL["queued"]) >= queue_limit:
            raise LimitReached(f"{queue_limit} executions are queued already", code="queue_full")
        steps.queue_up(db, [new], {})
        seq = _seq_of_key(db, new)
    assert seq is not None
    return steps.executions_of(db, [seq])[seq]


def _seq_of_key(db: apsw.Connection, new: NewExecution) -> int | None:
    occurrence = rows.occurrence_of(new.key, new.task_id)
    if occurrence is None:
        found = db.execute(SQL["seq_of_key"], (new.key,)).fetchone()
    else:
        found = db.execute(SQL["seq_of_occurrence"], (new.task_id, occurrence)).fetchone()
    return None if found is None else found[0]
