"""Owns one of each event, and a clock that a test moves by hand."""

from __future__ import annotations

from dataclasses import dataclass, replace

from peregrine.domain.event import (
    AttemptAbandoned,
    Claimed,
    ClockStepped,
    CursorReanchored,
    Event,
    LeaseLost,
    LocksAnswered,
    LocksFailed,
    LoopCrashed,
    Planned,
    Purged,
    PutBack,
    Recovered,
    ResultRefused,
    Settled,
    StoreAnswered,
    StoreFailed,
    Unplannable,
    WentAstray,
    WentStale,
    WentUnlocked,
)
from peregrine.domain.execution import AttemptOutcome, Cause, Claim, Settlement
from peregrine.domain.ids import ExecutionId, WorkerId
from peregrine.domain.moment import SECOND
from peregrine.domain.occurrence import Reason, Skip
from peregrine.domain.policy import Priority
from peregrine.testing.builders import NOW, a_plan, a_settlement, a_task

EXECUTION, WORKER = ExecutionId("execution-1"), WorkerId("worker-1")


@dataclass
class HandClock:
    """Stands still until moved."""

    millis: int = 0

    def now(self) -> int:
        return NOW + self.millis

    def monotonic(self) -> int:
        return self.millis


def a_claim(**fields: object) -> Claim:
    claim = Claim(
        execution_id=EXECUTION, epoch=1, attempt=1, task=a_task(), cause=Cause.SCHEDULE, priority=Priority.NORMAL,
        worker_id=WORKER, scheduled_for=NOW, queued_at=NOW, available_at=NOW, started_at=NOW + 40,
    )  # fmt: skip
    return replace(claim, **fields)  # type: ignore[arg-type]


def ended(verdict: AttemptOutcome) -> Settlement:
    return a_settlement(a_claim(), verdict)


ONE_OF_EACH: tuple[Event, ...] = (
    Planned([a_plan(a_task(), NOW, skips=[Skip(NOW, NOW + SECOND, 2, Reason.OVERLAP)])], moved=1),
    Unplannable(a_task().id, "no zone"),
    Claimed([a_claim()], NOW),
    Settled([ended(outcome) for outcome in AttemptOutcome]),
    Recovered([ended(AttemptOutcome.LOST)]),
    ResultRefused(EXECUTION, 2),
    LeaseLost(EXECUTION, 2),
    AttemptAbandoned(EXECUTION, 2),
    WentStale(EXECUTION, WORKER, 90 * SECOND),
    ClockStepped(-5 * SECOND, NOW),
    CursorReanchored(3),
    StoreFailed("planner", "away"),
    StoreAnswered("planner", 1500),
    LocksFailed("it can't be reached"),
    LocksAnswered(2500),
    WentUnlocked(3),
    PutBack(EXECUTION, a_task().id),
    WentAstray(-60 * SECOND),
    LoopCrashed("reaper", "KeyError: 3"),
    Purged(4, 5),
)
