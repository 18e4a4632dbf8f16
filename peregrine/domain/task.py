"""Owns the definition of recurring work and its mode (active, paused, disabled); must not know its runs' states."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final

from peregrine.domain.cron import ScheduleError
from peregrine.domain.ids import TaskId
from peregrine.domain.moment import Duration, Moment
from peregrine.domain.payload import Kind, Payload
from peregrine.domain.policy import Policy, Priority
from peregrine.domain.record import record
from peregrine.domain.trigger import DstGap, DstOverlap, Trigger, parse_trigger

TRIGGERS_MAX: Final = 16_384
"""Parsed triggers kept (about 1 kB each): parsing costs a hundred times what asking one costs."""
_MAY_BE_INTERVAL: Final = frozenset("@Pp")


@lru_cache(TRIGGERS_MAX)
def trigger_of(schedule: str, timezone: str, anchor: Moment, dst_gap: DstGap, dst_overlap: DstOverlap) -> Trigger:
    """What ``parse_trigger`` gives, parsed once for the same words. Raises ScheduleError."""
    return parse_trigger(schedule, timezone=timezone, anchor=anchor, dst_gap=dst_gap, dst_overlap=dst_overlap)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """The operator's wish that nothing starts by schedule: since when, why, by whom, and until when if said."""

    since: Moment
    by: str = ""
    reason: str = ""
    until: Moment | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What runs, when, and how carefully. Immutable: a change is a new value with the next ``revision``.

    ``revision`` grows with every change (the ETag); ``generation`` grows when what is due may have changed
    (schedule, zone, clock rules, enabled, pause), so that a plan made from the old definition is refused.
    ``anchor`` is the instant that interval schedules count from.
    """

    id: TaskId
    name: str
    kind: Kind
    payload: Payload
    schedule: str
    timezone: str = "UTC"
    dst_gap: DstGap = DstGap.RUN
    dst_overlap: DstOverlap = DstOverlap.FIRST
    anchor: Moment
    description: str = ""
    priority: Priority = Priority.NORMAL
    enabled: bool = True
    pause: Pause | None = None
    policy: Policy = field(default_factory=Policy)
    tags: tuple[str, ...] = ()
    is_system: bool = False
    source: str = "api"
    revision: int = 1
    generation: int = 1
    created_at: Moment
    updated_at: Moment
    created_by: str = "system"
    updated_by: str = "system"

    @property
    def trigger(self) -> Trigger:
        """The pure rule parsed from ``schedule``; parsing is cached, so asking is cheap."""
        # Only an interval counts from the anchor; without it equal cron texts share one trigger.
        anchor = self.anchor if self.schedule[:1] in _MAY_BE_INTERVAL else 0
        return trigger_of(self.schedule, self.timezone, anchor, self.dst_gap, self.dst_overlap)

    def is_paused(self, now: Moment) -> bool:
        """Whether the pause holds at *now*; one with ``until`` ends by itself."""
        return self.pause is not None and (self.pause.until is None or now < self.pause.until)

    def pause_ends_after(self, now: Moment) -> Moment | None:
        """When the pause that holds at *now* ends by itself; None: none does."""
        return self.pause.until if self.pause is not None and self.is_paused(now) else None

    def next_run_at(self, cursor: Moment) -> Moment | None:
        """When the planner must look at this task again: the first moment after *cursor*, or None for never.

        A pause without end gives None; one with an end gives the first moment at or after that end, and the
        moments passed over are recorded as skipped when it comes. If only such moments are left, that is its end.
        """
        if not self.enabled:
            return None
        if self.pause is None:
            return self.trigger.next_after(cursor)
        until = self.pause.until
        if until is None:
            return None
        following = self.trigger.next_after(max(cursor, until - 1))
        if following is None and self.trigger.next_after(cursor) is not None:
            return until
        return following

    def next_run_if_readable(self, cursor: Moment) -> Moment | None:
        """``next_run_at``, or None if the schedule can't be read any more (its zone has left the zone data)."""
        try:
            return self.next_run_at(cursor)
        except ScheduleError:
            return None

    def changed(self, previous: Task, *, at: Moment, by: str) -> Task:
        """This definition as the successor of *previous*: revision and, where due work changes, generation grow."""
        due_changed = any(
            getattr(self, name) != getattr(previous, name)
            for name in ("schedule", "timezone", "dst_gap", "dst_overlap", "anchor", "enabled", "pause")
        )
        return replace(
            self,
            revision=previous.revision + 1,
            generation=previous.generation + (1 if due_changed else 0),
            updated_at=at,
            updated_by=by,
        )


@record(frozen=True, slots=True, kw_only=True)
class Tally:
    """What the ended executions of a task add up to, and its last one. Counted by the store with each settlement."""

    total_runs: int = 0
    success_count: int = 0
    failure_count: int = 0
    runtime_total: Duration = 0
    last_run_at: Moment | None = None
    last_duration: Duration | None = None
    last_succeeded: bool | None = None
    last_error: str | None = None

    @property
    def average_runtime(self) -> Duration:
        """Mean milliseconds from start to end over all ended executions; 0 when there is none."""
        return self.runtime_total // self.total_runs if self.total_runs else 0

    def counting(self, *, succeeded: bool, started_at: Moment | None, ended_at: Moment, error: str | None) -> Tally:
        """This tally with one more ended execution.

        One that was cancelled before it ever started adds no runtime, and the last run stays the last that ran.
        """
        duration = None if started_at is None else max(0, ended_at - started_at)
        return replace(
            self,
            total_runs=self.total_runs + 1,
            success_count=self.success_count + (1 if succeeded else 0),
            failure_count=self.failure_count + (0 if succeeded else 1),
            runtime_total=self.runtime_total + (duration or 0),
            last_run_at=self.last_run_at if started_at is None else started_at,
            last_duration=self.last_duration if duration is None else duration,
            last_succeeded=succeeded,
            last_error=None if succeeded else error,
        )


@record(frozen=True, slots=True, kw_only=True)
class TaskView:
    """A task as a reader sees it: the definition, where its schedule stands, and what its executions added up to."""

    task: Task
    cursor: Moment
    next_run_at: Moment | None
    running: int
    queued: int
    tally: Tally = field(default_factory=Tally)

    @classmethod
    def of_new(cls, task: Task) -> TaskView:
        """What a store shows of *task* when it was made just now, by an id that none had before."""
        cursor = task.updated_at
        return cls(task=task, cursor=cursor, next_run_at=task.next_run_at(cursor), running=0, queued=0)
