"""Owns what the ends of executions add to the tallies of their tasks, each exactly once; must not know how they ended.

An end and a tally are two documents. The end says that it is owed (``owes.tally``); the task names the ends that its
tally holds (``counted``) in the same write that adds them, so adding is safe to repeat. Only when the end owes nothing
any more does the task forget its name. The mark is taken off with the next ends that are written, not in a round trip
of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from peregrine.domain.errors import Unavailable
from peregrine.domain.moment import Moment
from peregrine.domain.task import Tally
from peregrine.stores.mongo.commands import EXECUTIONS, TASKS, Change, Commands, Document, pause
from peregrine.stores.mongo.definitions import PAUSED, VISIBLE, read_tally, status_word, tally_fields
from peregrine.stores.mongo.executions import OWING, PAID, execution_of

ROUNDS_MAX: Final = 50
COUNTED_MAX: Final = 32
"""From so many names on, a task's list is looked through for those that owe nothing any more."""
MARKED_MAX: Final = 512
"""So many marks at most are left for a later write."""

_PARTS: Final = {"plan": 0, "config": 0, "config_json": 0, "description": 0}


@dataclass(frozen=True, slots=True)
class End:
    """An execution that has ended, as a tally counts it."""

    execution_id: str
    task_id: str
    succeeded: bool
    started_at: Moment | None
    ended_at: Moment
    error: str | None


def end_of(document: Document) -> End:
    """The end of an execution, from its document."""
    ended = execution_of(document)
    assert ended.completed_at is not None
    return End(
        ended.id, ended.task_id, ended.state.value == "completed", ended.started_at, ended.completed_at, ended.error
    )


class Tallies:
    """Adds ends to tallies, and remembers which marks are still to be taken off."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._marked: dict[str, None] = {}
        self._clear: dict[str, None] = {}

    async def read(self, task_ids: Iterable[str]) -> dict[str, Document]:
        """The tallies of those tasks that exist, as they stand."""
        wanted = {"_id": {"$in": sorted(set(task_ids))}}
        found = await self._commands.find(TASKS, wanted | VISIBLE, fields=_PARTS)
        return {document["_id"]: document for document in found}

    async def add(self, ends: Sequence[End], stands: Mapping[str, Document] | None = None) -> None:
        """Add *ends* to the tallies of those of their tasks that exist.

        *stands* is what ``read`` gave just before they ended, or as good as: it need not be asked then whether they are
        still owed, for whoever paid meanwhile has changed it.
        """
        by_task: dict[str, list[End]] = {}
        for end in ends:
            by_task.setdefault(end.task_id, []).append(end)
        for tries in range(ROUNDS_MAX):
            if not by_task:
                return
            if stands is None:
                # In this order: what was paid and forgotten before the second look is not owed, and after the first
                # nobody can forget without changing what the swap compares.
                stands = await self.read(by_task)
                by_task = _still(by_task, await self._owing(end.execution_id for end in ends))
            missing = {id: _missing(stands[id], mine) for id, mine in by_task.items() if id in stands}
            missing = {id: mine for id, mine in missing.items() if mine}
            long = [name for id in missing for name in _names(stands[id]) if len(_names(stands[id])) >= COUNTED_MAX]
            still = await self._owing(long)
            changes = [self._adding(stands[id], mine, still) for id, mine in sorted(missing.items())]
            if await self._commands.update(TASKS, changes) == len(changes):
                self._marked.update(dict.fromkeys(end.execution_id for end in ends))
                return
            stands = None
            await pause(tries)
        raise Unavailable("the tally of a task changes too fast to be added to")

    def _adding(self, document: Document, ends: Sequence[End], still: set[str]) -> Change:
        tally = read_tally(document)
        for end in ends:
            tally = tally.counting(
                succeeded=end.succeeded, started_at=end.started_at, ended_at=end.ended_at, error=end.error
            )
        names = _names(document)
        kept = [name for name in names if name not in self._clear and (len(names) < COUNTED_MAX or name in still)]
        fields = tally_fields(tally) | {
            "tally_rev": document.get("tally_rev", 0) + 1,
            "counted": [*kept, *(end.execution_id for end in ends)],
            "status": _status(document, tally),
        }
        same = {name: document.get(name) for name in ("_id", "born", "stamp", "tally_rev")}
        return same, {"$set": fields}

    async def _owing(self, names: Iterable[str]) -> set[str]:
        """Which of the executions of these *names* still owe."""
        wanted = list(names)
        if not wanted:
            return set()
        owing = {"_id": {"$in": wanted}} | OWING
        return {document["_id"] for document in await self._commands.find(EXECUTIONS, owing, fields={"_id": 1})}

    # ── marks ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def unmarking(self) -> tuple[list[str], list[Change]]:
        """Whose marks can be taken off with the next write to executions, and the changes that do it."""
        names = list(self._marked)
        return names, [({"_id": name, "owes.tally": True}, PAID) for name in names]

    def unmarked(self, names: Iterable[str]) -> None:
        """The marks of *names* are off: their tasks need not tell their names any more."""
        for name in names:
            self._marked.pop(name, None)
            self._clear[name] = None
        while len(self._clear) > MARKED_MAX:
            self._clear.pop(next(iter(self._clear)))

    def forget(self, names: Iterable[str]) -> None:
        """The marks of *names* were taken off by somebody who met them: there is nothing left to take off."""
        for name in names:
            self._marked.pop(name, None)

    @property
    def is_laden(self) -> bool:
        """Whether so many marks are left that they should be taken off now."""
        return len(self._marked) >= MARKED_MAX

    async def unmark(self) -> None:
        """Take all marks off that this store still has to."""
        names, changes = self.unmarking()
        await self._commands.update(EXECUTIONS, changes)
        self.unmarked(names)


def _names(document: Document) -> list[str]:
    """The ends that a tally holds and that may still be owed."""
    return document.get("counted") or []


def _still(by_task: Mapping[str, list[End]], owing: set[str]) -> dict[str, list[End]]:
    left = {id: [end for end in ends if end.execution_id in owing] for id, ends in by_task.items()}
    return {id: ends for id, ends in left.items() if ends}


def _missing(document: Document, ends: Sequence[End]) -> list[End]:
    counted = set(_names(document))
    return [end for end in ends if end.execution_id not in counted]


def _status(document: Document, tally: Tally) -> str:
    return status_word(
        enabled=bool(document.get("enabled", True)),
        paused=document.get("pause") is not None or ("pause" not in document and document.get("status") == PAUSED),
        last_succeeded=tally.last_succeeded,
    )
