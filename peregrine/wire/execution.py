"""Owns how executions, attempts and the ledger go out; `cancelled` shows as clients expect it; not: stores."""

from __future__ import annotations

from typing import Annotated, Any, Final, cast

from msgspec import UNSET, Struct, UnsetType

from peregrine.domain.execution import Attempt, Execution, State
from peregrine.domain.ids import lock_key
from peregrine.domain.journal import Progress
from peregrine.domain.moment import Moment, format_duration, format_moment
from peregrine.domain.occurrence import LedgerEntry
from peregrine.domain.query import ExecutionStatus, Page, PageRequest
from peregrine.domain.redaction import hidden
from peregrine.wire.envelope import EXACT, total_pages
from peregrine.wire.fragments import Fragments
from peregrine.wire.task import DurationText, MomentText


class ProgressShape(Struct, frozen=True, kw_only=True):
    """How far a run says it is: `fraction` from 0 to 1, and a word about it."""

    fraction: float
    text: str


class AttemptShape(Struct, frozen=True, kw_only=True):
    """One try by one worker; without `completed_at` it runs."""

    attempt: int
    epoch: int
    worker_id: str
    started_at: MomentText
    completed_at: MomentText | UnsetType = UNSET
    outcome: str | UnsetType = UNSET
    error: str | UnsetType = UNSET


class ExecutionMetadata(Struct, frozen=True, kw_only=True):
    """What else is known of an execution."""

    worker_id: str
    retry_count: int
    lock_key: str
    priority: str
    epoch: int
    cancel_requested: bool
    truncated: bool
    requested_by: str | UnsetType = UNSET
    follows: str | UnsetType = UNSET
    parameters: dict[str, Any] | UnsetType = UNSET
    available_at: MomentText | UnsetType = UNSET
    detail: dict[str, Any] | UnsetType = UNSET


class ExecutionShape(Struct, frozen=True, kw_only=True):
    """One piece of work. Until it starts, `started_at` is when it was queued; until it ends, `duration` is `0s`."""

    id: str
    task_id: str
    status: str
    started_at: MomentText
    completed_at: MomentText | UnsetType = UNSET
    duration: DurationText
    output: str | UnsetType = UNSET
    error: str | UnsetType = UNSET
    metadata: ExecutionMetadata
    worker_id: str
    retry_count: int
    queued_at: MomentText
    scheduled_for: MomentText | UnsetType = UNSET
    trigger: str
    outcome: str | UnsetType = UNSET
    attempts: list[AttemptShape]
    progress: ProgressShape | UnsetType = UNSET


class ExecutionPage(Struct, frozen=True, kw_only=True):
    """One page of executions, waiting first, then the newest; `next_cursor` asks for the next at no higher cost."""

    executions: list[ExecutionShape]
    total: int
    total_exact: Annotated[bool, EXACT] | UnsetType = UNSET
    page: int
    page_size: int
    total_pages: int
    next_cursor: str | UnsetType = UNSET


class OccurrenceShape(Struct, frozen=True, kw_only=True):
    """One moment of the schedule that ran, or a range of `count` moments that did not, and why."""

    scheduled_for: MomentText
    last: MomentText | UnsetType = UNSET
    count: int
    verdict: str
    reason: str | UnsetType = UNSET
    execution_id: str | UnsetType = UNSET
    decided_at: MomentText


class OccurrencePage(Struct, frozen=True, kw_only=True):
    """One page of a task's ledger, newest first."""

    occurrences: list[OccurrenceShape]
    total: int
    total_exact: Annotated[bool, EXACT] | UnsetType = UNSET
    page: int
    page_size: int
    total_pages: int
    next_cursor: str | UnsetType = UNSET


class Started(Struct, frozen=True, kw_only=True):
    """The execution that was asked for; it can be read by its id at once."""

    execution_id: str
    status: str
    message: str
    started_at: MomentText


_STATUS: Final = {state: status for status in ExecutionStatus for state in status.states}


def status_word(state: State) -> str:
    """How *state* is called outside."""
    return _STATUS[state].value


def progress_shape(progress: Progress) -> ProgressShape:
    """Progress as it goes out."""
    return ProgressShape(fraction=progress.fraction, text=progress.text)


def execution_shape(execution: Execution) -> ExecutionShape:
    """The execution as it goes out."""
    retries = max(0, execution.attempt - 1)
    worker = execution.worker_id or ""
    started = execution.queued_at if execution.started_at is None else execution.started_at
    return ExecutionShape(
        id=execution.id,
        task_id=execution.task_id,
        status=status_word(execution.state),
        started_at=format_moment(started),
        completed_at=_moment(execution.completed_at),
        duration=format_duration(execution.duration or 0),
        output=execution.output or UNSET,
        error=UNSET if execution.error is None else execution.error,
        metadata=_metadata(execution, worker, retries),
        worker_id=worker,
        retry_count=retries,
        queued_at=format_moment(execution.queued_at),
        scheduled_for=_moment(execution.scheduled_for),
        trigger=execution.cause.value,
        outcome=UNSET if execution.outcome is None else execution.outcome.value,
        attempts=[_attempt(attempt) for attempt in execution.attempts],
        progress=UNSET if execution.progress is None else progress_shape(execution.progress),
    )


def execution_page(page: Page[Execution], asked: PageRequest, kept: Fragments) -> ExecutionPage:
    """One page as it goes out; what has ended is encoded already, or comes from *kept*."""
    return ExecutionPage(
        executions=[_fragment(execution, kept) for execution in page.items],
        total=page.total,
        total_exact=UNSET if page.total_exact else False,
        page=asked.number,
        page_size=asked.size,
        total_pages=total_pages(page.total, asked.size),
        next_cursor=page.next_cursor or UNSET,
    )


def _fragment(execution: Execution, kept: Fragments) -> ExecutionShape:
    """The execution, encoded if it has ended: then only a note of a late result can still be added to an attempt."""
    if not execution.state.is_ended:
        return execution_shape(execution)
    shows = (execution.epoch, execution.completed_at, execution.attempts)
    return cast(ExecutionShape, kept.get(execution.id, shows, lambda: execution_shape(execution)))


def occurrence_page(page: Page[LedgerEntry], asked: PageRequest) -> OccurrencePage:
    """One page of the ledger as it goes out."""
    return OccurrencePage(
        occurrences=[_occurrence(entry) for entry in page.items],
        total=page.total,
        total_exact=UNSET if page.total_exact else False,
        page=asked.number,
        page_size=asked.size,
        total_pages=total_pages(page.total, asked.size),
        next_cursor=page.next_cursor or UNSET,
    )


def started(execution: Execution) -> Started:
    """The answer to "run now"."""
    return Started(
        execution_id=execution.id,
        status=status_word(execution.state),
        message="Task execution was queued",
        started_at=format_moment(execution.queued_at),
    )


def _metadata(execution: Execution, worker: str, retries: int) -> ExecutionMetadata:
    return ExecutionMetadata(
        worker_id=worker,
        retry_count=retries,
        lock_key=lock_key(execution.task_id),
        priority=execution.priority.word,
        epoch=execution.epoch,
        cancel_requested=execution.cancel_requested,
        truncated=execution.truncated,
        requested_by=execution.requested_by or UNSET,
        follows=execution.follows or UNSET,
        parameters=UNSET if execution.parameters is None else hidden(execution.parameters),
        available_at=format_moment(execution.available_at) if execution.state is State.QUEUED else UNSET,
        detail=dict(execution.detail) if execution.detail else UNSET,
    )


def _attempt(attempt: Attempt) -> AttemptShape:
    return AttemptShape(
        attempt=attempt.attempt,
        epoch=attempt.epoch,
        worker_id=attempt.worker_id,
        started_at=format_moment(attempt.started_at),
        completed_at=_moment(attempt.completed_at),
        outcome=UNSET if attempt.outcome is None else attempt.outcome.value,
        error=UNSET if attempt.error is None else attempt.error,
    )


def _occurrence(entry: LedgerEntry) -> OccurrenceShape:
    return OccurrenceShape(
        scheduled_for=format_moment(entry.scheduled_for),
        last=format_moment(entry.last) if entry.count > 1 else UNSET,
        count=entry.count,
        verdict=entry.verdict.value,
        reason=UNSET if entry.reason is None else entry.reason.value,
        execution_id=entry.execution_id or UNSET,
        decided_at=format_moment(entry.decided_at),
    )


def _moment(moment: Moment | None) -> str | UnsetType:
    return UNSET if moment is None else format_moment(moment)
