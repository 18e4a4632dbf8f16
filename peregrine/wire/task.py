"""Owns how a task goes out: the contract's shape, secrets hidden; must not know permissions or stores."""

from __future__ import annotations

from typing import Annotated, Any, Final, cast

from msgspec import UNSET, Meta, Struct, UnsetType

from peregrine.domain.moment import Moment, format_duration, format_moment
from peregrine.domain.payload import JsonObject, payload_config
from peregrine.domain.query import Page, PageRequest, TaskStatus
from peregrine.domain.redaction import hidden
from peregrine.domain.task import Pause, Task, TaskView
from peregrine.wire.envelope import EXACT, total_pages
from peregrine.wire.fragments import Fragments

MomentText = Annotated[str, Meta(description="RFC 3339 in UTC.", examples=["2026-01-31T09:00:00Z"])]
DurationText = Annotated[str, Meta(description="`45s`, `1.5s`, `2m`, `1h30m`.", examples=["1h30m"])]


class TaskMetadata(Struct, frozen=True, kw_only=True):
    """How carefully a task runs, and what its executions added up to."""

    max_retries: int
    retry_interval: DurationText
    timeout: DurationText
    tags: tuple[str, ...]
    is_system: bool
    source: str
    version: int
    last_error: str | UnsetType = UNSET
    success_count: int
    failure_count: int
    total_runs: int
    average_runtime: DurationText


class PauseShape(Struct, frozen=True, kw_only=True):
    """Why nothing starts by schedule, and until when."""

    since: MomentText
    by: str
    reason: str
    until: MomentText | UnsetType = UNSET


class TaskShape(Struct, frozen=True, kw_only=True):
    """A task as a reader sees it. `config` hides secrets as `***`; sent back for the same receiver, it keeps them."""

    id: str
    name: str
    description: str
    type: str
    schedule: str
    timezone: str
    status: str
    priority: str
    enabled: bool
    config: dict[str, Any]
    metadata: TaskMetadata
    last_run: MomentText | UnsetType = UNSET
    last_run_duration: DurationText | UnsetType = UNSET
    next_run: MomentText | UnsetType = UNSET
    created_at: MomentText
    updated_at: MomentText
    created_by: str
    updated_by: str
    overlap: str
    misfire: str
    misfire_grace: DurationText
    catchup_window: DurationText
    catchup_max: int
    on_worker_lost: str
    dst_gap: str
    dst_overlap: str
    pause: PauseShape | UnsetType = UNSET
    running_executions: int
    waiting_executions: int


class TaskPage(Struct, frozen=True, kw_only=True):
    """One page of tasks."""

    tasks: list[TaskShape]
    total: int
    total_exact: Annotated[bool, EXACT] | UnsetType = UNSET
    page: int
    page_size: int
    total_pages: int


READ_ONLY: Final = frozenset({
    "id", "status", "last_run", "last_run_duration", "next_run", "created_at", "updated_at", "created_by", "updated_by",
    "pause", "running_executions", "waiting_executions", "is_system", "source", "version", "last_error",
    "success_count", "failure_count", "total_runs", "average_runtime",
})  # fmt: skip
"""What the server alone decides, at the top of a task or in its metadata: sending it is a fault."""


def task_shape(view: TaskView, now: Moment) -> TaskShape:
    """The task as it goes out at *now*."""
    task, policy, tally = view.task, view.task.policy, view.tally
    return TaskShape(
        id=task.id,
        name=task.name,
        description=task.description,
        type=task.kind.value,
        schedule=task.schedule,
        timezone=task.timezone,
        status=TaskStatus.of(view, now).value,
        priority=task.priority.word,
        enabled=task.enabled,
        config=shown_config(task),
        metadata=_metadata(view),
        last_run=_moment(tally.last_run_at),
        last_run_duration=UNSET if tally.last_duration is None else format_duration(tally.last_duration),
        next_run=_moment(view.next_run_at),
        created_at=format_moment(task.created_at),
        updated_at=format_moment(task.updated_at),
        created_by=task.created_by,
        updated_by=task.updated_by,
        overlap=policy.overlap.value,
        misfire=policy.misfire.value,
        misfire_grace=format_duration(policy.misfire_grace),
        catchup_window=format_duration(policy.catchup_window),
        catchup_max=policy.catchup_max,
        on_worker_lost=policy.on_worker_lost.value,
        dst_gap=task.dst_gap.value,
        dst_overlap=task.dst_overlap.value,
        pause=_pause(task.pause) if task.pause is not None and task.is_paused(now) else UNSET,
        running_executions=view.running,
        waiting_executions=view.queued,
    )


def task_page(page: Page[TaskView], asked: PageRequest, now: Moment, kept: Fragments) -> TaskPage:
    """One page as it goes out; its tasks are encoded already, or come from *kept*."""
    return TaskPage(
        tasks=[_fragment(view, now, kept) for view in page.items],
        total=page.total,
        total_exact=UNSET if page.total_exact else False,
        page=asked.number,
        page_size=asked.size,
        total_pages=total_pages(page.total, asked.size),
    )


def _fragment(view: TaskView, now: Moment, kept: Fragments) -> TaskShape:
    """The task, encoded. The definition's revision stands for all that only a person changes."""
    task = view.task
    # Id and revision come again when a task is deleted and made anew under its id; then not at the same moment.
    shows = (
        task.revision, task.updated_at, view.tally, view.next_run_at, view.running, view.queued,
        task.pause is not None and task.is_paused(now),
    )  # fmt: skip
    return cast(TaskShape, kept.get(task.id, shows, lambda: task_shape(view, now)))


def shown_config(task: Task) -> JsonObject:
    """The task's ``config`` with its secrets hidden."""
    return hidden(payload_config(task.payload))


def etag_of(task: Task) -> str:
    """The entity tag of a definition: it changes with every change a person makes, not with every run."""
    return f'"{task.revision}"'


def _metadata(view: TaskView) -> TaskMetadata:
    task, tally = view.task, view.tally
    return TaskMetadata(
        max_retries=task.policy.max_retries,
        retry_interval=format_duration(task.policy.retry_interval),
        timeout=format_duration(task.policy.timeout),
        tags=task.tags,
        is_system=task.is_system,
        source=task.source,
        version=task.revision,
        last_error=UNSET if tally.last_error is None else tally.last_error,
        success_count=tally.success_count,
        failure_count=tally.failure_count,
        total_runs=tally.total_runs,
        average_runtime=format_duration(tally.average_runtime),
    )


def _moment(moment: Moment | None) -> str | UnsetType:
    return UNSET if moment is None else format_moment(moment)


def _pause(pause: Pause) -> PauseShape:
    return PauseShape(since=format_moment(pause.since), by=pause.by, reason=pause.reason, until=_moment(pause.until))
