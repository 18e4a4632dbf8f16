"""How all that one store holds is read out, and laid down in another as it was: the road from one machine to many.

Not a way to work: it goes past every decision of the spine, so neither store may be in use. Read in bounded batches,
each in the order of its kind; laying down leaves what is there already as it is, so a move that was cut off can be
repeated. Processes are not moved: they belong to a store in use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol, TypeAlias

from peregrine.domain.execution import Execution
from peregrine.domain.ids import TaskId
from peregrine.domain.moment import Moment
from peregrine.domain.occurrence import Skip
from peregrine.domain.payload import JsonObject
from peregrine.domain.task import Tally, Task
from peregrine.ports.eve import Alliance, Character, Corporation, Profile
from peregrine.ports.records import Record


class Kind(StrEnum):
    """What is moved, in the order in which it is: an execution's task is there before it."""

    RECORDS = "records"
    TASKS = "tasks"
    EXECUTIONS = "executions"
    SKIPS = "occurrences that did not run"
    PROFILES = "pilots"
    CHARACTERS = "characters"
    ALLIANCES = "alliances"
    CORPORATIONS = "corporations"


EVE_KINDS: Final = (Kind.PROFILES, Kind.CHARACTERS, Kind.ALLIANCES, Kind.CORPORATIONS)
"""Kept by the ``eve`` of a store. Logins under way are not moved: they last a quarter of an hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTask:
    """A task with where its schedule stands and what it has counted. Its id tells it from others."""

    task: Task
    cursor: Moment
    next_run_at: Moment | None
    tally: Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredExecution:
    """An execution with the key that must stay unique. They are read in the order of their creation."""

    execution: Execution
    key: str
    details: Mapping[int, JsonObject] = field(default_factory=dict)
    """What attempts that were tried again left behind, by epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSkip:
    """A range that did not run. All of it together tells it from others."""

    task_id: TaskId
    skip: Skip
    decided_at: Moment


EveItem: TypeAlias = Profile | Character | Alliance | Corporation
"""Whole, with the moments that the store had put there; its id tells it from others of its kind."""
Item: TypeAlias = Record | StoredTask | StoredExecution | StoredSkip | EveItem


@dataclass(frozen=True, slots=True)
class Load:
    """One batch: what was read, and where the next one begins (None: that was the last)."""

    items: Sequence[Item]
    next: str | None


class MovableStore(Protocol):
    """A store that can be emptied into another. May raise ``Unavailable``."""

    async def count_items(self, kind: Kind) -> int:
        """How many there are; exactly, however long it takes."""
        ...

    async def read_items(self, kind: Kind, *, after: str = "", limit: int) -> Load:
        """Up to *limit* of one kind behind the place *after*, which an earlier load gave (empty: from the start)."""
        ...

    async def lay_items(self, items: Sequence[Item]) -> int:
        """Store each of *items*, all of one kind, unless it is there; how many were not. Each is whole or absent."""
        ...
