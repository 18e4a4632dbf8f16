"""Owns filters, sorting, pages and cursors; must not know SQL or Mongo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Generic, TypeVar

from peregrine.domain.execution import Cause, ExecutionOutcome
from peregrine.domain.ids import TaskId, WorkerId
from peregrine.domain.moment import Moment
from peregrine.domain.payload import Kind
from peregrine.domain.policy import Priority

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


class ExecutionStatus(StrEnum):
    """The wire's word for an execution's state; a cancelled one shows as failed, as the seeds want it."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


class TaskSort(StrEnum):
    """What a list of tasks may be ordered by; ties by id."""

    UPDATED_AT = "updated_at"
    CREATED_AT = "created_at"
    NAME = "name"
    PRIORITY = "priority"
    NEXT_RUN = "next_run"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionFilter:
    """Every given field must match; ``started_after`` inclusive, ``started_before`` exclusive."""

    status: ExecutionStatus | None = None
    outcome: ExecutionOutcome | None = None
    task_id: TaskId | None = None
    cause: Cause | None = None
    worker_id: WorkerId | None = None
    started_after: Moment | None = None
    started_before: Moment | None = None
    text: str | None = None


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
    """A part of a list. ``total`` counts all that match, up to ``COUNT_MAX``; ``next_cursor`` None: this is the end."""

    items: Sequence[Item]
    total: int
    total_exact: bool = True
    next_cursor: str | None = None
