"""Owns filters, sorting, pages and cursors; must not know SQL or Mongo."""

from __future__ import annotations

import base64
import json
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Generic, TypeVar

from peregrine.domain.errors import Invalid
from peregrine.domain.execution import Cause, Execution, ExecutionOutcome, State
from peregrine.domain.ids import TaskId, WorkerId
from peregrine.domain.moment import MOMENT_MAX, Moment
from peregrine.domain.payload import Kind
from peregrine.domain.policy import Priority
from peregrine.domain.task import TaskView

Item = TypeVar("Item")

PAGE_SIZE: Final = 20
PAGE_SIZE_MAX: Final = 100
PAGE_MAX: Final = 1_000_000
COUNT_MAX: Final = 100_000
"""Totals are exact up to here; beyond, ``Page.total_exact`` is False and ``total`` is a lower bound."""


class TaskStatus(StrEnum):
    """The wire's one word for mode and activity of a task, computed in this order."""

    DISABLED = "disabled"
    PAUSED = "paused"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    PENDING = "pending"

    @classmethod
    def of(cls, view: TaskView, now: Moment) -> TaskStatus:
        """The word for *view* at *now*."""
        if not view.task.enabled:
            return cls.DISABLED
        if view.task.is_paused(now):
            return cls.PAUSED
        if view.running:
            return cls.RUNNING
        if view.tally.last_succeeded is None:
            return cls.PENDING
        return cls.COMPLETED if view.tally.last_succeeded else cls.FAILED


class ExecutionStatus(StrEnum):
    """The wire's word for an execution's state; a cancelled one shows as failed, as existing clients expect."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"

    @property
    def states(self) -> tuple[State, ...]:
        """The states that show as this word."""
        return _STATES[self]


_STATES: Final = {
    ExecutionStatus.PENDING: (State.QUEUED,),
    ExecutionStatus.RUNNING: (State.RUNNING,),
    ExecutionStatus.COMPLETED: (State.COMPLETED,),
    ExecutionStatus.FAILED: (State.FAILED, State.CANCELLED),
}


class TaskSort(StrEnum):
    """What a list of tasks may be ordered by; ties by id. Descending is exactly the reverse, ties included.

    Names compare by code point; a task that has no next run comes after all that have one.
    """

    UPDATED_AT = "updated_at"
    CREATED_AT = "created_at"
    NAME = "name"
    PRIORITY = "priority"
    NEXT_RUN = "next_run"

    def key(self, view: TaskView) -> int | str:
        """What *view* is ordered by."""
        match self:
            case TaskSort.UPDATED_AT:
                return view.task.updated_at
            case TaskSort.CREATED_AT:
                return view.task.created_at
            case TaskSort.NAME:
                return view.task.name
            case TaskSort.PRIORITY:
                return int(view.task.priority)
            case TaskSort.NEXT_RUN:
                return MOMENT_MAX + 1 if view.next_run_at is None else view.next_run_at


class ExecutionSort(StrEnum):
    """What a list of executions may be ordered by."""

    STARTED_AT = "started_at"
    """Waiting ones first, then by the newest start; ties by id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFilter:
    """Every given field must match. ``tags_any``: one of them; ``tags_all``: each; ``text``: in name or description."""

    status: TaskStatus | None = None
    kind: Kind | None = None
    enabled: bool | None = None
    tags_any: tuple[str, ...] = ()
    tags_all: tuple[str, ...] = ()
    priority: Priority | None = None
    is_system: bool | None = None
    created_by: str | None = None
    text: str | None = None

    def lets_through(self, view: TaskView, now: Moment) -> bool:
        """Whether *view* matches; *now* decides which pauses hold."""
        task = view.task
        return (
            (self.status is None or self.status is TaskStatus.of(view, now))
            and (self.kind is None or self.kind is task.kind)
            and (self.enabled is None or self.enabled is task.enabled)
            and (not self.tags_any or not set(self.tags_any).isdisjoint(task.tags))
            and set(self.tags_all).issubset(task.tags)
            and (self.priority is None or self.priority is task.priority)
            and (self.is_system is None or self.is_system is task.is_system)
            and (self.created_by is None or self.created_by == task.created_by)
            and (self.text is None or _is_in(self.text, task.name, task.description))
        )

    def holds_until(self, shown: Iterable[TaskView], now: Moment) -> Moment | None:
        """From when on a page that shows *shown* at *now* may differ though nothing is written; None: never.

        Only pauses end by themselves. Those of the tasks that are shown tell when; but one that ends elsewhere changes
        who has a status, so a page of those may differ at once.
        """
        if self.status not in (None, TaskStatus.DISABLED):
            return now
        ends = [end for view in shown if (end := view.task.pause_ends_after(now)) is not None]
        return min(ends, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionFilter:
    """Every given field must match; ``started_after`` inclusive, ``started_before`` exclusive; ``text``: part of output
    or error, sought as in ``TaskFilter``."""

    status: ExecutionStatus | None = None
    outcome: ExecutionOutcome | None = None
    task_id: TaskId | None = None
    cause: Cause | None = None
    worker_id: WorkerId | None = None
    started_after: Moment | None = None
    started_before: Moment | None = None
    text: str | None = None

    def lets_through(self, execution: Execution) -> bool:
        """Whether *execution* matches; one that never started lies in no span of starts."""
        started = execution.started_at
        return (
            (self.status is None or execution.state in self.status.states)
            and (self.outcome is None or self.outcome is execution.outcome)
            and (self.task_id is None or self.task_id == execution.task_id)
            and (self.cause is None or self.cause is execution.cause)
            and (self.worker_id is None or self.worker_id == execution.worker_id)
            and (self.started_after is None or (started is not None and started >= self.started_after))
            and (self.started_before is None or (started is not None and started < self.started_before))
            and (self.text is None or _is_in(self.text, execution.output, execution.error or ""))
        )


_LOWER: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def _is_in(sought: str, *texts: str) -> bool:
    return any(sought.translate(_LOWER) in text.translate(_LOWER) for text in texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRequest:
    """Which part of a list: page ``number`` from 1, or everything after an opaque ``cursor`` of the same list."""

    number: int = 1
    size: int = PAGE_SIZE
    cursor: str | None = None

    @property
    def offset(self) -> int:
        """How many items lie before this page (0 with a cursor)."""
        return 0 if self.cursor else (self.number - 1) * self.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[Item]):
    """A part of a list. ``total`` counts all that match, up to ``COUNT_MAX``; ``next_cursor`` None: this is the end.

    A list that must be read to be searched may stop early: then the page holds less than it could, or nothing, the
    total is not exact, and the cursor goes on where it stopped.
    """

    items: Sequence[Item]
    total: int
    total_exact: bool = True
    next_cursor: str | None = None


CURSOR_MAX: Final = 4096
INT_MAX: Final = 2**53
"""No position holds a larger number, and a store could not compare with one."""


def write_cursor(list_name: str, *position: int | str) -> str:
    """The cursor behind the item that stands at *position* in a list: url-safe text, the same in every store.

    It says where, not how many, so what is added or removed meanwhile shifts nothing.
    """
    text = json.dumps([list_name, *position], ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def read_cursor(list_name: str, cursor: str, *shape: type[int] | type[str]) -> tuple[int | str, ...]:
    """The position that *cursor* holds, of the types of *shape*.

    Raises:  Invalid for a cursor that the list *list_name* did not write.
    """
    try:
        if len(cursor) > CURSOR_MAX:
            raise ValueError(cursor[:80])
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        name, *position = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        if name != list_name or [type(part) for part in position] != list(shape):
            raise ValueError(name)
        if write_cursor(name, *position) != cursor or any(isinstance(p, int) and abs(p) > INT_MAX for p in position):
            raise ValueError(name)
    except (ValueError, TypeError, RecursionError):
        raise Invalid.at("/cursor", "is not a cursor of this list; ask without one to begin anew") from None
    return tuple(position)
