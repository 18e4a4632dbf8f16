"""Owns how health and statistics go out; must not know how they are measured."""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType

from peregrine.domain.moment import Duration, Moment, format_duration, format_moment
from peregrine.domain.statistics import Statistics
from peregrine.wire.task import DurationText, MomentText


class Dependencies(Struct, frozen=True, kw_only=True):
    """What stands behind the service: `healthy`, or `unhealthy` for the store, without which nothing goes on, and
    `degraded` for Redis, without which everything does; `not_configured` without one. Latencies in milliseconds."""

    database: str
    database_latency: str | UnsetType = UNSET
    redis: str
    redis_latency: str | UnsetType = UNSET
    engine: str


class Metrics(Struct, frozen=True, kw_only=True):
    """Counts of this moment. "Today" is since 00:00 UTC; `success_rate` in percent, 100 while nothing ended today."""

    total_tasks: int
    enabled_tasks: int
    running_tasks: int
    completed_today: int
    failed_today: int
    worker_count: int
    active_workers: int
    queue_size: int
    average_runtime: DurationText
    next_scheduled_run: MomentText | UnsetType = UNSET
    memory_usage_mb: float
    success_rate: float


class Diagnostics(Struct, frozen=True, kw_only=True):
    """What an operator looks at next; only for callers with credentials."""

    failing_loops: dict[str, str]
    store_away_since: MomentText | UnsetType = UNSET
    redis_trouble: str | UnsetType = UNSET
    stale_executions: int
    clock_steps: int
    clock_skew: DurationText
    quiet_for: DurationText
    makes_occurrences: bool


class RunningHere(Struct, frozen=True, kw_only=True):
    """One execution that runs on an instance."""

    execution_id: str
    task_id: str
    started_at: MomentText


class InstanceShape(Struct, frozen=True, kw_only=True):
    """One process that shares the store. `skew` is how far its clock is ahead of the answering one (`-` behind), at
    least; `last_seen` is by its own clock. Of what runs, at most the first hundred are listed; `active` counts all."""

    id: str
    here: bool
    host: str
    pid: int
    version: str
    slots: int
    active: int
    skew: str
    started_at: MomentText
    last_seen: MomentText
    running: list[RunningHere]


class Status(Struct, frozen=True, kw_only=True):
    """How the service is doing. Without credentials `version` is that of the API, with them that of the software, and
    `diagnostics` and `instances` are told."""

    module: str = "scheduler"
    status: str
    message: str
    engine: bool
    version: str
    dependencies: Dependencies
    metrics: Metrics | UnsetType = UNSET
    diagnostics: Diagnostics | UnsetType = UNSET
    instances: list[InstanceShape] | UnsetType = UNSET
    last_checked: MomentText


class OldStatus(Struct, frozen=True, kw_only=True):
    """The older, four-field status."""

    module: str = "scheduler"
    status: str
    version: str
    engine: bool


class Stats(Struct, frozen=True, kw_only=True):
    """Statistics of this moment. "Today" is since 00:00 UTC."""

    total_tasks: int
    enabled_tasks: int
    running_tasks: int
    completed_today: int
    failed_today: int
    average_runtime: DurationText
    next_scheduled_run: MomentText | UnsetType = UNSET
    worker_count: int
    queue_size: int


class Readiness(Struct, frozen=True, kw_only=True):
    """Whether this process takes work now."""

    status: str
    checks: dict[str, str]


class Liveness(Struct, frozen=True, kw_only=True):
    """The process answers."""

    status: str


def stats(counted: Statistics, slots: int) -> Stats:
    """The statistics as they go out."""
    return Stats(
        total_tasks=counted.total_tasks,
        enabled_tasks=counted.enabled_tasks,
        running_tasks=counted.running,
        completed_today=counted.completed_today,
        failed_today=counted.failed_today,
        average_runtime=format_duration(counted.average_runtime),
        next_scheduled_run=moment_or_unset(counted.next_run_at),
        worker_count=slots,
        queue_size=counted.queued,
    )


def metrics(counted: Statistics, *, slots: int, active: int, memory_bytes: int) -> Metrics:
    """The same with what this process measures of itself."""
    rate = counted.success_rate
    return Metrics(
        total_tasks=counted.total_tasks,
        enabled_tasks=counted.enabled_tasks,
        running_tasks=counted.running,
        completed_today=counted.completed_today,
        failed_today=counted.failed_today,
        worker_count=slots,
        active_workers=active,
        queue_size=counted.queued,
        average_runtime=format_duration(counted.average_runtime),
        next_scheduled_run=moment_or_unset(counted.next_run_at),
        memory_usage_mb=round(memory_bytes / 2**20, 1),
        success_rate=100.0 if rate is None else round(100 * rate, 2),
    )


def latency(measured: Duration | None) -> str | UnsetType:
    """``2ms``, as clients of the older service read it."""
    return UNSET if measured is None else f"{measured}ms"


def moment_or_unset(moment: Moment | None) -> str | UnsetType:
    """RFC 3339, or nothing."""
    return UNSET if moment is None else format_moment(moment)
