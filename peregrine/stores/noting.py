"""Owns the order of a change and the notes about it where a store can't write both at once; not: what they say.

Asked, changed, told: whoever dies in between leaves ``asked``, and then perhaps it was done.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from peregrine.domain.errors import PeregrineError, Unavailable, Unsure
from peregrine.domain.ids import ExecutionId, TaskId
from peregrine.domain.moment import Moment
from peregrine.domain.planning import Plan
from peregrine.domain.task import Task, TaskView
from peregrine.ports.records import ASKED, DONE, Note, Record, RecordStore
from peregrine.ports.store import TaskChange, TaskWrites

Told = TypeVar("Told")

_log: Final = logging.getLogger(__name__)


class Noting:
    """The verbs that change definitions, and *notes* around each: ``TaskStore.noting``."""

    def __init__(self, store: TaskWrites, shelf: RecordStore, notes: Sequence[Note]) -> None:
        self._store = store
        self._shelf = shelf
        self._notes = notes

    async def create_tasks(self, tasks: Sequence[Task]) -> None:
        await self._noted(lambda: self._store.create_tasks(tasks))

    async def put_task(self, task: Task, *, expected_revision: int, plan: Plan | None = None) -> TaskView | None:
        return await self._noted(lambda: self._store.put_task(task, expected_revision=expected_revision, plan=plan))

    async def put_tasks(self, new: Sequence[Task], changes: Sequence[TaskChange]) -> None:
        await self._noted(lambda: self._store.put_tasks(new, changes))

    async def delete_task(
        self, task_id: TaskId, *, expected_revision: int | None, now: Moment
    ) -> Sequence[ExecutionId]:
        return await self._noted(lambda: self._store.delete_task(task_id, expected_revision=expected_revision, now=now))

    async def _noted(self, verb: Callable[[], Awaitable[Told]]) -> Told:
        try:
            for note in self._notes:
                await self._put(note.saying(ASKED), note.at)
        except Unsure as lost:
            raise Unavailable("the entry of a change could not be written; nothing was changed") from lost
        try:
            told = await verb()
        except Unavailable:
            raise
        except PeregrineError as refusal:
            await self._end(refusal.code)
            raise
        await self._end(DONE)
        return told

    async def _end(self, verdict: str) -> None:
        """Say what became of the change. That it can't be said changes nothing about it."""
        for note in self._notes:
            record = note.saying(verdict)
            try:
                await self._put(record, note.at)
            except PeregrineError as away:
                _log.error("audit_entry_not_finished", extra={"entry": record.document, "reason": away.code})

    async def _put(self, record: Record, at: Moment) -> None:
        await self._shelf.put_record(record, expected_revision=None, now=at)
