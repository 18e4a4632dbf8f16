"""Owns what keeps a store in order: processes, strayed cursors, retention; must not know the spine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import apsw

from peregrine.domain.ids import WorkerId
from peregrine.domain.moment import Moment
from peregrine.domain.policy import rank
from peregrine.ports.host import Instance
from peregrine.stores.sqlite import rows, steps
from peregrine.stores.sqlite.definitions import Definitions
from peregrine.stores.sqlite.queries import SQL
from peregrine.stores.sqlite.settling import Days
from peregrine.stores.sqlite.stretches import Stretches

LOOK_TASKS: Final = 20_000
"""Tasks that one look for strayed cursors reads: a few milliseconds of them, then a list may come first."""
PURGE_REACH: Final = 4
"""Among so many times the number wanted, those that started first, retention looks for those that ended first."""


def announce(db: apsw.Connection, instance: Instance, now: Moment) -> None:
    db.execute(SQL["announce"], rows.instance_row(instance, now))


def instances(db: apsw.Connection) -> Sequence[tuple[Instance, int, Moment]]:
    return [rows.instance(row) for row in db.execute(SQL["instances"])]


def retire(db: apsw.Connection, instance_ids: Sequence[WorkerId]) -> None:
    db.executemany(SQL["retire"], [(id,) for id in instance_ids])


def put_off(db: apsw.Connection, beyond: Moment) -> bool:
    """Whether anything is queued for later than a moment."""
    return db.execute(SQL["put_off"], (beyond,)).fetchone() is not None


def has_strayed(db: apsw.Connection, beyond: Moment, first: int) -> bool:
    """Whether any of the tasks from a number on, ``LOOK_TASKS`` of them, was decided beyond a moment."""
    return db.execute(SQL["strayed_among"], (beyond, first, first + LOOK_TASKS - 1)).fetchone() is not None


def last_task(db: apsw.Connection) -> int:
    """The highest number of a task; 0 if there is none."""
    return steps.number(db, SQL["last_task"])


def reanchor(db: apsw.Connection, definitions: Definitions, beyond: Moment, now: Moment) -> int:
    found = list(db.execute(SQL["strayed"], (beyond,)))
    tasks = steps.tasks_of(db, definitions, [stamp for _, stamp in found])
    coming = {stamp: rows.beyond(task.next_run_if_readable(now)) for stamp, task in tasks.items()}
    steps.write_rows(db, "advance", [(no, now, coming[stamp]) for no, stamp in found])
    late = [(seq, now, rank(rows.PRIORITIES[priority], now)) for seq, priority in db.execute(SQL["put_off"], (beyond,))]
    db.executemany(SQL["make_available"], late)
    return len(found) + len(late)


def purge(db: apsw.Connection, before: Moment, limit: int) -> tuple[int, int]:
    days, stretches = Days(), Stretches()
    seqs: list[int] = []
    for seq, completed_at, state, started_at in db.execute(SQL["old_executions"], (before, limit, limit * PURGE_REACH)):
        runtime = None if started_at is None else max(0, completed_at - started_at)
        succeeded = state == rows.COMPLETED
        days.add(completed_at, runtime, -1, succeeded=succeeded)
        listed_at = completed_at if started_at is None else started_at
        stretches.add(listed_at, listed=-1, completed=-succeeded, failed=succeeded - 1)
        seqs.append(seq)
    if seqs:
        for step in ("drop_results", "drop_attempts", "drop_executions"):
            db.execute(SQL[step], (apsw.carray(steps.integers(seqs)),))
        db.executemany(SQL["drop_empty_segment"], [(segment,) for segment in {steps.segment_of(seq) for seq in seqs}])
        days.write(db)
        stretches.write(db)
        db.execute(SQL["drop_empty_days"])
    before_skips = db.total_changes()
    db.execute(SQL["drop_skips"], (before, limit))
    return len(seqs), db.total_changes() - before_skips


def ping(db: apsw.Connection) -> None:
    db.execute(SQL["ping"])


def rewrite(db: apsw.Connection) -> None:
    db.execute("VACUUM")
