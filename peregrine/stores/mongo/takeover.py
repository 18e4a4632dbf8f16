"""Owns how a database that an earlier program filled becomes ours; must not know the verbs.

There is no migration: a document is read as it can be meant, and gets the fields that the spine needs by one
compare-and-swap, so that two instances that see it first do not decide twice. Nothing that stands there is changed.
"""

from __future__ import annotations

from typing import Final

from peregrine.domain.execution import ExecutionOutcome
from peregrine.domain.moment import Moment
from peregrine.domain.query import ExecutionStatus
from peregrine.stores.mongo.commands import EXECUTIONS, TASKS, Change, Commands, Document
from peregrine.stores.mongo.definitions import (
    VISIBLE,
    cursor_of,
    moved_fields,
    new_token,
    pause_document,
    read_tally,
    read_task,
    tally_fields,
)
from peregrine.stores.mongo.errors import Taken
from peregrine.stores.mongo.executions import RUNS, WAITS, Numbers
from peregrine.stores.mongo.values import date, moment_or_none

BATCH: Final = 500
ROUNDS_MAX: Final = 10_000
_MISSING: Final = frozenset({"runtime_total", "last_succeeded", "metadata.last_error"})
"""What an earlier tally does not say, or says in another way."""
LEFT_ERROR: Final = "left unfinished by an earlier program"


async def take_over(commands: Commands, now: Moment) -> tuple[int, int]:
    """Take tasks that are not ours yet, and close executions that nobody will end; how many of each."""
    return await _adopt_tasks(commands, now), await _close_executions(commands, now)


async def _adopt_tasks(commands: Commands, now: Moment) -> int:
    adopted, numbers = 0, Numbers()
    strange = {"generation": None, "torn": None} | VISIBLE
    for _ in range(ROUNDS_MAX):
        found = await commands.find(TASKS, strange, page=(0, BATCH))
        for document in found:
            adopted += await _adopt(commands, document, now, numbers)
        if len(found) < BATCH:
            break
    return adopted


async def _adopt(commands: Commands, document: Document, now: Moment, numbers: Numbers) -> int:
    """Give one task our fields; 1 if it was this call that did it.

    A name that another task has already is left without our key: then only that one can be told by it.
    """
    task, cursor = read_task(document), cursor_of(document) or now
    fields = moved_fields(cursor, task.next_run_if_readable(cursor)) | {
        "generation": 1,
        "adopted": True,
        "priority_class": int(task.priority),
        "anchor": date(task.anchor),
        "pause": None if task.pause is None else pause_document(task.pause),
        **{name: date(_moment(document, name) or now) for name in ("created_at", "updated_at")},
        "stamp": new_token(),
        "born": new_token(),
        **{name: value for name, value in tally_fields(read_tally(document)).items() if name in _MISSING},
        "seq": numbers.next(),
        "tally_rev": 0,
        "counted": [],
    }
    must = {"_id": document["_id"], "generation": None}
    for change in (fields | {"name_key": task.name}, fields):
        try:
            return await commands.update(TASKS, [(must, {"$set": change})])
        except Taken:
            continue
    return 0


def _moment(document: Document, name: str) -> Moment | None:
    return moment_or_none(document.get(name))


async def _close_executions(commands: Commands, now: Moment) -> int:
    """End what another program left waiting or running: nobody knows what it did, and old work must not start now."""
    closed = 0
    left = {"status": {"$in": [WAITS, RUNS]}, "key": None}
    end = {
        "status": ExecutionStatus.FAILED.value,
        "outcome": ExecutionOutcome.ABANDONED.value,
        "error": LEFT_ERROR,
        "completed_at": date(now),
    }
    for _ in range(ROUNDS_MAX):
        found = await commands.find(EXECUTIONS, left, fields={"status": 1}, page=(0, BATCH))
        changes: list[Change] = [
            ({"_id": one["_id"], "status": one["status"], "key": None}, {"$set": end}) for one in found
        ]
        closed += await commands.update(EXECUTIONS, changes)
        if len(found) < BATCH:
            break
    return closed
