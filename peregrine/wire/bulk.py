"""Owns the bulk operation, asked and answered; must not know what an operation does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal

from msgspec import Struct
from pydantic import Field

from peregrine.domain.errors import PeregrineError
from peregrine.domain.ids import TaskId
from peregrine.wire.problem import problem_of
from peregrine.wire.shapes import Shape

TASKS_MAX: Final = 1000


class BulkOrder(Shape):
    """One operation for many tasks."""

    task_ids: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=128)]], Field(min_length=1, max_length=TASKS_MAX)
    ]
    operation: Literal["enable", "disable", "pause", "resume", "delete"]


class BulkFailure(Struct, frozen=True, kw_only=True):
    """A task it was not done to, and why."""

    task_id: str
    error: str
    code: str


class BulkReport(Struct, frozen=True, kw_only=True):
    """What was done to which task."""

    success: list[str]
    failed: list[BulkFailure]
    total: int
    success_count: int
    failure_count: int


def bulk_report(done: Sequence[TaskId], failed: Sequence[tuple[TaskId, PeregrineError]]) -> BulkReport:
    """The report as it goes out."""
    return BulkReport(
        success=list(done),
        failed=[BulkFailure(task_id=id, error=problem_of(error).detail, code=error.code) for id, error in failed],
        total=len(done) + len(failed),
        success_count=len(done),
        failure_count=len(failed),
    )
