"""Owns facts in the past tense, as they are told after the write; must not know who listens.

Events are told in batches, as the writes are made: one per turn of a loop, not one per item.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from peregrine.domain.execution import Claim, Settlement
from peregrine.domain.ids import ExecutionId, TaskId, WorkerId
from peregrine.domain.moment import Duration, Moment
from peregrine.domain.planning import Plan


@dataclass(frozen=True, slots=True)
class Planned:
    """Plans were written; ``moved`` more were refused because another planner was quicker."""

    plans: Sequence[Plan]
    moved: int


@dataclass(frozen=True, slots=True)
class Unplannable:
    """A task's schedule can't be read any more (its zone left the zone data); it is left alone until edited."""

    task_id: TaskId
    error: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """Attempts were claimed, and start."""

    claims: Sequence[Claim]
    started_at: Moment
    """When they really start; in their records stands when that was decided, or for which moment."""


@dataclass(frozen=True, slots=True)
class Settled:
    """Attempts ended and that is stored."""

    settlements: Sequence[Settlement]


@dataclass(frozen=True, slots=True)
class Recovered:
    """The reaper ended attempts whose workers were lost."""

    settlements: Sequence[Settlement]


@dataclass(frozen=True, slots=True)
class ResultRefused:
    """An attempt ended after another worker had taken over; its result was refused and noted."""

    execution_id: ExecutionId
    epoch: int


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """A run was stopped because its lease could not be kept (``fenced`` when another had taken it)."""

    execution_id: ExecutionId
    epoch: int


@dataclass(frozen=True, slots=True)
class AttemptAbandoned:
    """A run did not stop when told; its slot was freed and its late result will be refused."""

    execution_id: ExecutionId
    epoch: int


@dataclass(frozen=True, slots=True)
class WentStale:
    """An execution has been running longer than the stale timeout."""

    execution_id: ExecutionId
    worker_id: WorkerId
    running_for: Duration


@dataclass(frozen=True, slots=True)
class ClockStepped:
    """The wall clock moved against the steady clock by ``by`` milliseconds (negative: backward)."""

    by: Duration
    now: Moment


@dataclass(frozen=True, slots=True)
class CursorReanchored:
    """Tasks decided, and executions put off, far in the future (the clock had been wrong) were set back to now."""

    count: int


@dataclass(frozen=True, slots=True)
class StoreFailed:
    """A turn of ``loop`` could not reach the store; it will be repeated."""

    loop: str
    error: str


@dataclass(frozen=True, slots=True)
class StoreAnswered:
    """``loop`` reached the store again after a failure."""

    loop: str
    away_for: Duration


@dataclass(frozen=True, slots=True)
class LocksFailed:
    """The lock service does not answer, or not sensibly; work goes on without it."""

    error: str


@dataclass(frozen=True, slots=True)
class LocksAnswered:
    """The lock service answers again."""

    away_for: Duration


@dataclass(frozen=True, slots=True)
class WentUnlocked:
    """So many claims were started or renewed without their lock, because the lock service could not be asked."""

    count: int


@dataclass(frozen=True, slots=True)
class PutBack:
    """A claim was given back unstarted: another execution of its task holds the lock."""

    execution_id: ExecutionId
    task_id: TaskId


@dataclass(frozen=True, slots=True)
class WentAstray:
    """This wall clock is wrong by ``by`` (positive: ahead): it makes no occurrences until that is over."""

    by: Duration


@dataclass(frozen=True, slots=True)
class LoopCrashed:
    """A bug: a loop's turn raised something unforeseen; the loop goes on."""

    loop: str
    error: str


@dataclass(frozen=True, slots=True)
class Purged:
    """Retention removed so many ended executions and ledger rows."""

    executions: int
    ledger: int


Event: TypeAlias = (
    Planned
    | Unplannable
    | Claimed
    | Settled
    | Recovered
    | ResultRefused
    | LeaseLost
    | AttemptAbandoned
    | WentStale
    | ClockStepped
    | CursorReanchored
    | StoreFailed
    | StoreAnswered
    | LocksFailed
    | LocksAnswered
    | WentUnlocked
    | PutBack
    | WentAstray
    | LoopCrashed
    | Purged
)
