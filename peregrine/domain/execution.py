"""Owns one piece of work, its attempts and how they end; must not know who may see it.

The walk of the spine, as values: ``NewExecution`` (queued) → ``Claim`` (one attempt's right) → ``Outcome``
(what the executor says) → ``Settlement`` (the write that ends the attempt).
"""

from __future__ import annotations

from dataclasses import field, replace
from enum import StrEnum
from typing import Final

from peregrine.domain.ids import ExecutionId, TaskId, WorkerId
from peregrine.domain.journal import Progress
from peregrine.domain.moment import MOMENT_MAX, Duration, Moment
from peregrine.domain.payload import JsonObject
from peregrine.domain.policy import Priority
from peregrine.domain.record import record
from peregrine.domain.task import Task

CANCELLED_ERROR: Final = "Task execution was cancelled"
CANCELLED_OUTPUT: Final = "Execution stopped by user request"
"""The wire's words; existing clients look for them."""
LOST_ERROR: Final = "worker lost"
POISON_ERROR: Final = "poison: worker died 3 times"
LATE_NOTE: Final = "; a late result"
"""How the note of a refused result begins, behind the error of the attempt that was ended as lost."""


class State(StrEnum):
    """Where an execution is. Ended is ended: the last three never change."""

    QUEUED = "queued"
    """Waits for ``available_at`` and a free slot; the claimer moves it on."""
    RUNNING = "running"
    """Claimed by one worker; the recorder moves it on, or the reaper when the worker is lost."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_ended(self) -> bool:
        return self in (State.COMPLETED, State.FAILED, State.CANCELLED)


class Cause(StrEnum):
    """Why an execution exists (wire: ``trigger``)."""

    SCHEDULE = "schedule"
    MANUAL = "manual"
    RETRY = "retry"
    WORKFLOW = "workflow"


class AttemptOutcome(StrEnum):
    """How one attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    LOST = "lost"
    """Its worker vanished or froze; another one took over."""
    INTERRUPTED = "interrupted"
    """We shut down; it is tried again and not counted."""
    FENCED = "fenced"
    """It ended after another worker had taken over; its result was refused."""


class ExecutionOutcome(StrEnum):
    """How an execution ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    ABANDONED = "abandoned"


@record(frozen=True, slots=True, kw_only=True)
class NewExecution:
    """Work to queue. ``key`` is unique in the store: a second one with the same key is not made."""

    id: ExecutionId
    key: str
    task_id: TaskId
    cause: Cause
    priority: Priority
    scheduled_for: Moment | None = None
    queued_at: Moment
    available_at: Moment
    parameters: JsonObject | None = None
    requested_by: str = ""
    follows: ExecutionId | None = None


@record(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of an execution by one worker. ``completed_at`` None: it runs."""

    attempt: int
    epoch: int
    worker_id: WorkerId
    started_at: Moment
    completed_at: Moment | None = None
    outcome: AttemptOutcome | None = None
    error: str | None = None

    def noting_late(self, late: AttemptOutcome) -> Attempt:
        """This ended attempt with a note that its worker came back with a result after all, which was refused.

        The worker may ask again (its answer was lost): noting the same twice changes nothing.
        """
        note = f"{LATE_NOTE} ({late}) was refused"
        error = self.error or ""
        return self if note in error else replace(self, error=error + note)


@record(frozen=True, slots=True, kw_only=True)
class Execution:
    """One execution as a reader sees it, its attempts oldest first (the running one last, without outcome)."""

    id: ExecutionId
    task_id: TaskId
    cause: Cause
    state: State
    priority: Priority
    scheduled_for: Moment | None
    queued_at: Moment
    available_at: Moment
    parameters: JsonObject | None = None
    requested_by: str = ""
    follows: ExecutionId | None = None
    attempt: int = 0
    epoch: int = 0
    beat: int = 0
    failures: int = 0
    losses: int = 0
    cancel_requested: bool = False
    worker_id: WorkerId | None = None
    started_at: Moment | None = None
    """Start of the newest attempt, while running and after; None before the first."""
    completed_at: Moment | None = None
    outcome: ExecutionOutcome | None = None
    output: str = ""
    error: str | None = None
    truncated: bool = False
    detail: JsonObject = field(default_factory=dict)
    attempts: tuple[Attempt, ...] = ()
    progress: Progress | None = None
    """How far its run here says it is; no store knows."""

    @property
    def duration(self) -> Duration | None:
        """Milliseconds from the newest attempt's start to the end; None before it ended or if it never started."""
        if self.started_at is None or self.completed_at is None:
            return None
        return max(0, self.completed_at - self.started_at)

    @property
    def listed_at(self) -> Moment:
        """Where it stands in a list, the highest first: waiting ones, then by start (by end, if it never started)."""
        if self.state is State.QUEUED:
            return MOMENT_MAX + 1
        listed = self.completed_at if self.started_at is None else self.started_at
        assert listed is not None, "what neither waits nor started must have ended"
        return listed


@record(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to one attempt. ``(execution_id, epoch)`` is the fencing token: only the newest may settle."""

    execution_id: ExecutionId
    epoch: int
    attempt: int
    task: Task
    cause: Cause
    priority: Priority
    worker_id: WorkerId
    scheduled_for: Moment | None
    queued_at: Moment
    available_at: Moment
    started_at: Moment
    """Wall time of the claim, or the moment for which it was claimed early: the attempt's start for every reader."""
    parameters: JsonObject | None = None
    failures: int = 0
    """Attempts so far that count against ``max_retries``."""
    losses: int = 0
    """Attempts so far whose worker was lost."""
    beat: int = 0


@record(frozen=True, slots=True, kw_only=True)
class Running:
    """A running execution as a stranger sees it; the reaper watches ``(epoch, beat)`` for standing still."""

    execution_id: ExecutionId
    epoch: int
    beat: int
    attempt: int
    worker_id: WorkerId
    started_at: Moment
    task: Task | None
    """None when the task was deleted meanwhile."""
    task_id: TaskId
    scheduled_for: Moment | None = None
    failures: int = 0
    losses: int = 0
    cancel_requested: bool = False


@record(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an executor says of an attempt. What a user's task raises is an outcome, never an exception of ours."""

    verdict: AttemptOutcome
    output: str = ""
    error: str | None = None
    truncated: bool = False
    detail: JsonObject = field(default_factory=dict)
    retryable: bool = True
    """False: trying again can't help (an unknown function, a refused address); no retry is made."""
    retry_after: Duration | None = None
    """The other side asked to wait so long (``Retry-After``), or what was not begun shall wait so long."""
    began: bool = True
    """False: the claim was given back before anything of it had happened, so it may be tried again without a doubt."""

    @classmethod
    def succeeded(cls, output: str = "", **detail: object) -> Outcome:
        """Shorthand for a success with *output*."""
        return cls(verdict=AttemptOutcome.SUCCEEDED, output=output, detail=dict(detail))  # type: ignore[arg-type]

    @classmethod
    def failed(cls, error: str, *, output: str = "", retryable: bool = True) -> Outcome:
        """Shorthand for a failure; *error* is shown to readers, so it holds no secret."""
        return cls(verdict=AttemptOutcome.FAILED, error=error, output=output, retryable=retryable)


@record(frozen=True, slots=True, kw_only=True)
class Settlement:
    """The write that ends an attempt. Refused unless ``epoch`` is still the newest and the execution runs.

    ``state`` QUEUED means try again at ``available_at``; else the execution has ended with ``outcome``.
    ``expected_beat`` is set by the reaper alone: refused too when the owner renewed since the observation.
    """

    execution_id: ExecutionId
    task_id: TaskId
    epoch: int
    expected_beat: int | None = None
    attempt: Attempt
    state: State
    available_at: Moment | None = None
    outcome: ExecutionOutcome | None = None
    output: str = ""
    error: str | None = None
    truncated: bool = False
    detail: JsonObject = field(default_factory=dict)
    failures: int = 0
    losses: int = 0
    followups: tuple[NewExecution, ...] = ()

    @property
    def ended_at(self) -> Moment:
        """When the attempt ended."""
        assert self.attempt.completed_at is not None
        return self.attempt.completed_at

    def wrote(self, stored: Attempt) -> bool:
        """Whether *stored* is the attempt as this very settlement ended it: the write came through, the answer did not.

        A note of a late result may have been added since, so the errors may differ behind what was written.
        """
        mine = self.attempt
        same = replace(stored, error=mine.error) == mine
        return same and (stored.error == mine.error or (stored.error or "").startswith((mine.error or "") + LATE_NOTE))

    def if_cancelled(self) -> Settlement:
        """This settlement for an execution marked for cancel: what would try again, or was lost, ends as cancelled.

        The mark may arrive between the decision and the write, so the store asks this inside the write.
        """
        unfinished = self.attempt.outcome in (AttemptOutcome.LOST, AttemptOutcome.INTERRUPTED)
        if self.state is not State.QUEUED and not unfinished:
            return self
        return replace(
            self,
            state=State.CANCELLED,
            available_at=None,
            outcome=ExecutionOutcome.CANCELLED,
            error=CANCELLED_ERROR,
            output=CANCELLED_OUTPUT,
        )
