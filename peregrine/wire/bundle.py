"""Owns the bundle of tasks: how it goes out and comes in; must not know what is stored, or which form it is written in.

A bundle holds what ``POST /scheduler/tasks`` takes. Coming in, a task may also be one as ``GET`` shows it: what the
server alone decides is passed over, so that a list can be sent back as it came; anything else unknown is a fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from msgspec import UNSET, Struct, UnsetType
from pydantic import Field, ValidationError

from peregrine.domain.draft import Making
from peregrine.domain.errors import Fault, Invalid
from peregrine.domain.moment import Moment, format_duration, format_moment
from peregrine.domain.payload import JsonObject, JsonValue
from peregrine.domain.task import Task
from peregrine.wire.shapes import Shape, faults_of
from peregrine.wire.task import READ_ONLY, MomentText, shown_config
from peregrine.wire.task_input import read_new_task, read_task_change

TASKS_MAX: Final = 1000
VERSION: Final = 1


class BundleInput(Shape):
    """Tasks to import; all of them, or, if one is faulty, none."""

    tasks: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=TASKS_MAX)]
    overwrite: Annotated[bool, Field(description="Change tasks whose names are taken instead of skipping them.")] = (
        False
    )
    dry_run: Annotated[bool, Field(description="Only say what would happen.")] = False
    version: int = VERSION
    exported_at: str = ""


class BundleShape(Struct, frozen=True, kw_only=True):
    """Exported tasks, each as `POST /scheduler/tasks` takes it, secrets hidden."""

    version: int
    exported_at: MomentText
    tasks: list[dict[str, Any]]


class FailedTask(Struct, frozen=True, kw_only=True):
    """A task that can't be imported, and why."""

    name: str
    error: str
    pointer: str


class ImportReport(Struct, frozen=True, kw_only=True):
    """What an import did, or would do: names of tasks. `skipped` ones have names that are taken."""

    imported_tasks: list[str]
    skipped_tasks: list[str]
    failed_tasks: list[FailedTask]
    total: int
    imported: int
    skipped: int
    failed: int
    dry_run: bool
    message: str | UnsetType = UNSET


@dataclass(frozen=True, slots=True)
class BundledTask:
    """One task of a bundle, still in words. ``at`` points to where it stands."""

    document: JsonObject
    at: str
    name: str
    is_system: bool

    def make(self, making: Making) -> Task:
        """A new task. Raises Invalid."""
        return read_new_task(self.document, making, at=self.at)

    def edit(self, stored: Task, making: Making) -> Task:
        """*stored*, changed. Raises Invalid."""
        return read_task_change(self.document, stored, making, at=self.at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What is to be imported, and how."""

    tasks: Sequence[BundledTask]
    overwrite: bool
    dry_run: bool


def read_bundle(document: JsonValue) -> Bundle:
    """The bundle that *document* describes: an object with ``tasks``, or just a list of tasks.

    Raises:  Invalid for what is wrong with the bundle as such; its tasks are judged when they are made.
    """
    at = "/tasks"
    if isinstance(document, list):
        document, at = {"tasks": document}, ""
    try:
        given = BundleInput.model_validate(document)
    except ValidationError as error:
        faults = faults_of(error)
        raise Invalid(
            Fault(f.pointer.removeprefix("/tasks") if not at else f.pointer, f.message) for f in faults
        ) from None
    tasks = [_bundled(words, f"{at}/{index}") for index, words in enumerate(given.tasks)]
    return Bundle(tasks=tasks, overwrite=given.overwrite, dry_run=given.dry_run)


def bundle_document(tasks: Iterable[Task], now: Moment) -> JsonObject:
    """The bundle of *tasks*: what it takes to make them anew, secrets hidden."""
    listed: list[JsonValue] = [_exported(task) for task in tasks]
    return {"version": VERSION, "exported_at": format_moment(now), "tasks": listed}


def _bundled(words: JsonObject, at: str) -> BundledTask:
    metadata = words.get("metadata")
    inner = metadata if isinstance(metadata, dict) else {}
    is_system = words.get("type") == "system" or inner.get("is_system") is True
    kept = {key: value for key, value in words.items() if key not in READ_ONLY}
    if isinstance(metadata, dict):
        kept["metadata"] = {key: value for key, value in inner.items() if key not in READ_ONLY}
    name = words.get("name")
    return BundledTask(kept, at, name if isinstance(name, str) else "", is_system)


def _exported(task: Task) -> JsonObject:
    policy = task.policy
    tags: list[JsonValue] = [*task.tags]
    return {
        "name": task.name,
        "description": task.description,
        "type": task.kind.value,
        "schedule": task.schedule,
        "timezone": task.timezone,
        "priority": task.priority.word,
        "enabled": task.enabled,
        "config": shown_config(task),
        "metadata": {
            "max_retries": policy.max_retries,
            "retry_interval": format_duration(policy.retry_interval),
            "timeout": format_duration(policy.timeout),
            "tags": tags,
        },
        "overlap": policy.overlap.value,
        "misfire": policy.misfire.value,
        "misfire_grace": format_duration(policy.misfire_grace),
        "catchup_window": format_duration(policy.catchup_window),
        "catchup_max": policy.catchup_max,
        "on_worker_lost": policy.on_worker_lost.value,
        "dst_gap": task.dst_gap.value,
        "dst_overlap": task.dst_overlap.value,
    }
