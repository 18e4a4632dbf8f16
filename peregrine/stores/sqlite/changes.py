"""Owns the verbs that change definitions, each in one transaction with the notes about it; must not know what they say.

Either both are there or neither. What a verb refuses is undone, and then the notes alone are written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import apsw

from peregrine.domain.errors import PeregrineError
from peregrine.domain.ids import ExecutionId, TaskId
from peregrine.domain.moment import Moment
from peregrine.domain.planning import Plan
from peregrine.domain.task import Task, TaskView
from peregrine.ports.records import DONE, Note
from peregrine.ports.store import TaskChange
from peregrine.stores.sqlite import records, tasks
from peregrine.stores.sqlite.connection import Writer

Result = TypeVar("Result")


class Changes:
    """See ``ports.store.TaskWrites``; *notes* see ``TaskStore.noting``."""

    def __init__(self, writer: Writer, notes: Sequence[Note] = ()) -> None:
        self._writer = writer
        self._notes = notes

    async def create_tasks(self, new: Sequence[Task]) -> None:
        await self._write(lambda db: tasks.create_tasks(db, new), grows=True)

    async def put_task(self, task: Task, *, expected_revision: int, plan: Plan | None = None) -> TaskView | None:
        def operation(db: apsw.Connection) -> TaskView:
            return tasks.view_of(db, tasks.put_task(db, task, expected_revision, plan), task)

        return await self._write(operation, grows=True)

    async def put_tasks(self, new: Sequence[Task], changes: Sequence[TaskChange]) -> None:
        def operation(db: apsw.Connection) -> None:
            tasks.create_tasks(db, new)
            for change in changes:
                tasks.put_task(db, change.task, change.expected_revision, change.plan)

        await self._write(operation, grows=True)

    async def delete_task(
        self, task_id: TaskId, *, expected_revision: int | None, now: Moment
    ) -> Sequence[ExecutionId]:
        return await self._write(lambda db: tasks.delete_task(db, task_id, expected_revision, now), grows=False)

    async def _write(self, operation: Callable[[apsw.Connection], Result], *, grows: bool) -> Result:
        if not self._notes:
            return await self._writer.run(operation, grows=grows)
        result, refusal = await self._writer.run(lambda db: _noted(db, self._notes, operation), grows=True)
        if refusal is not None:
            raise refusal
        assert result is not None
        return result[0]


def _noted(
    db: apsw.Connection, notes: Sequence[Note], operation: Callable[[apsw.Connection], Result]
) -> tuple[tuple[Result] | None, PeregrineError | None]:
    """What *operation* gives, or what it refuses with; and *notes* say so."""
    result, refusal = None, None
    db.execute("SAVEPOINT noted")
    try:
        result = (operation(db),)
    except PeregrineError as error:
        db.execute("ROLLBACK TO noted")
        refusal = error
    db.execute("RELEASE noted")
    verdict = DONE if refusal is None else refusal.code
    for note in notes:
        records.put_record(db, note.saying(verdict), None, note.at)
    return result, refusal
