"""Owns how a task comes in, new or changed, with every fault named; must not know permissions or stores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any, Final, TypeVar

from pydantic import Field, ValidationError

from peregrine.domain.cron import TEXT_MAX, ScheduleError
from peregrine.domain.draft import Limits, Making
from peregrine.domain.errors import Fault, Invalid
from peregrine.domain.moment import MINUTE, SECOND, Moment
from peregrine.domain.payload import JsonObject, JsonValue, Kind, Payload, parse_payload, payload_config
from peregrine.domain.policy import (
    CATCHUP_MAX_MAX,
    GRACE_MAX,
    MAX_RETRIES_MAX,
    RETRY_INTERVAL_MAX,
    RETRY_INTERVAL_MIN,
    TIMEOUT_MAX,
    TIMEOUT_MIN,
    WINDOW_MAX,
    Misfire,
    OnWorkerLost,
    Overlap,
    Policy,
    Priority,
)
from peregrine.domain.redaction import restored
from peregrine.domain.task import Task
from peregrine.domain.trigger import DstGap, DstOverlap, Trigger, TriggerKind, parse_trigger
from peregrine.wire.shapes import DescriptionText, NameText, Shape, Span, TagList, Word, faults_of
from peregrine.wire.task import READ_ONLY

Answer = TypeVar("Answer")
ScheduleText = Annotated[
    str,
    Field(
        max_length=TEXT_MAX,
        description="Cron (six fields, or five), `@every 1h30m`, `@at <moment>` or `@manual`.",
        examples=["0 */10 * * * *"],
    ),
]
KindWord = Annotated[Kind, Word(Kind, undocumented=(Kind.SYSTEM,))]
ZoneText = Annotated[str, Field(max_length=64, description="IANA name.", examples=["Europe/Berlin"])]


class MetadataInput(Shape):
    """How carefully a task runs."""

    max_retries: Annotated[int, Field(ge=0, le=MAX_RETRIES_MAX)] = 3
    retry_interval: Annotated[int, Span(RETRY_INTERVAL_MIN, RETRY_INTERVAL_MAX)] = MINUTE
    timeout: Annotated[int, Span(TIMEOUT_MIN, TIMEOUT_MAX)] = 5 * MINUTE
    tags: TagList = Field(default_factory=list)


class TaskChange(Shape):
    """The fields of a task to change; `config` is replaced whole, all others stay as they are."""

    name: NameText = ""
    description: DescriptionText = ""
    type: KindWord = Kind.HTTP
    schedule: ScheduleText = ""
    timezone: ZoneText = "UTC"
    priority: Annotated[Priority, Word(Priority)] = Priority.NORMAL
    enabled: bool = True
    config: Annotated[dict[str, Any], Field(description="The settings of this type of task.")] = Field(
        default_factory=dict
    )
    metadata: MetadataInput = MetadataInput()
    tags: TagList = Field(default_factory=list)
    overlap: Annotated[Overlap, Word(Overlap)] = Overlap.SKIP
    misfire: Annotated[Misfire, Word(Misfire)] = Misfire.RUN_ONCE
    misfire_grace: Annotated[int, Span(0, GRACE_MAX)] = MINUTE
    catchup_window: Annotated[int, Span(0, WINDOW_MAX)] = 24 * 60 * MINUTE
    catchup_max: Annotated[int, Field(ge=1, le=CATCHUP_MAX_MAX)] = 100
    on_worker_lost: Annotated[OnWorkerLost, Word(OnWorkerLost)] = OnWorkerLost.RETRY
    dst_gap: Annotated[DstGap, Word(DstGap)] = DstGap.RUN
    dst_overlap: Annotated[DstOverlap, Word(DstOverlap)] = DstOverlap.FIRST


class NewTask(TaskChange):
    """A new task. What is not given has its default."""

    name: NameText
    type: KindWord
    schedule: ScheduleText
    config: Annotated[dict[str, Any], Field(description="The settings of this type of task.")]


_POLICY: Final[tuple[str, ...]] = (
    "overlap", "misfire", "misfire_grace", "catchup_window", "catchup_max", "on_worker_lost",
)  # fmt: skip
_PLAIN: Final[tuple[str, ...]] = ("name", "description", "priority", "enabled", "dst_gap", "dst_overlap")
_CAREFULLY: Final[tuple[str, ...]] = ("max_retries", "retry_interval", "timeout")
NO_SYSTEM: Final = "a system task can't be made over the API"


def read_new_task(document: JsonValue, making: Making, *, at: str = "") -> Task:
    """The task that *document* describes.

    Raises:  Invalid with every fault, pointers below *at*.
    """
    faults: list[Fault] = []
    given = _shape(NewTask, document, making.limits, at, faults)
    kind = _kind_of(document)
    if kind is Kind.SYSTEM:
        faults.append(Fault(f"{at}/type", NO_SYSTEM))
    payload = _payload(kind, document, making, stored={}, at=at, faults=faults)
    trigger = _trigger(document, making, at, faults)
    if faults or not isinstance(given, NewTask) or kind is None or payload is None or trigger is None:
        raise Invalid(faults)
    blank = Task(
        id=making.id,
        name=given.name,
        kind=kind,
        payload=payload,
        schedule=trigger.schedule,
        timezone=trigger.timezone,
        anchor=making.at,
        policy=Policy(misfire_grace=making.limits.misfire_grace),
        source=making.source,
        created_at=making.at,
        updated_at=making.at,
        created_by=making.by,
        updated_by=making.by,
    )
    return _with_fields(blank, given)


def read_task_change(document: JsonValue, stored: Task, making: Making, *, at: str = "") -> Task:
    """*stored* with the fields that *document* gives; ``***`` in place of a secret keeps the stored one.

    Raises:  Invalid with every fault, pointers below *at*.
    """
    faults: list[Fault] = []
    given = _shape(TaskChange, document, making.limits, at, faults)
    fields = document if isinstance(document, dict) else {}
    task = stored
    kind = _kind_of(document) if "type" in fields else stored.kind
    if kind is Kind.SYSTEM and not stored.is_system:
        faults.append(Fault(f"{at}/type", NO_SYSTEM))
    if "config" in fields or kind is not stored.kind:
        payload = _payload(kind, document, making, stored=payload_config(stored.payload), at=at, faults=faults)
        if kind is not None and payload is not None:
            task = replace(task, kind=kind, payload=payload)
    if fields.keys() & {"schedule", "timezone", "dst_gap", "dst_overlap"}:
        task = _rescheduled(fields, stored, task, making, at, faults)
    if faults or given is None:
        raise Invalid(faults)
    return _with_fields(task, given)


def _rescheduled(
    fields: JsonObject, stored: Task, task: Task, making: Making, at: str, faults: list[Fault]
) -> Task:  # fmt: skip
    known: JsonObject = {"schedule": stored.schedule, "timezone": stored.timezone}
    known |= {"dst_gap": stored.dst_gap.value, "dst_overlap": stored.dst_overlap.value}
    trigger = _trigger(known | fields, making, at, faults, is_new="schedule" in fields)
    if trigger is None:
        return task
    anchor = stored.anchor if trigger.schedule == stored.schedule else making.at
    return replace(task, schedule=trigger.schedule, timezone=trigger.timezone, anchor=anchor)


def _shape(shape: type[Answer], document: JsonValue, limits: Limits, at: str, faults: list[Fault]) -> Answer | None:
    try:
        return shape.model_validate(document, context={"timeout": limits.timeout_min})  # type: ignore[attr-defined, no-any-return]
    except ValidationError as error:
        faults.extend(faults_of(error, at=at, read_only=READ_ONLY))
        return None


def _kind_of(document: JsonValue) -> Kind | None:
    """The kind, if it can be told; a wrong word is the shape's fault to name."""
    word = document.get("type") if isinstance(document, dict) else None
    return Kind(word) if isinstance(word, str) and word in set(Kind) else None


def _payload(
    kind: Kind | None, document: JsonValue, making: Making, *, stored: JsonObject, at: str, faults: list[Fault]
) -> Payload | None:  # fmt: skip
    config = document.get("config") if isinstance(document, dict) else None
    if kind is None or not isinstance(config, dict):
        if kind is not None and isinstance(document, dict) and "config" not in document and stored:
            faults.append(Fault(f"{at}/config", "is required when the type changes"))
        return None
    whole, missing = restored(config, stored, at=f"{at}/config")
    faults.extend(missing)
    try:
        payload = parse_payload(kind, whole, at=f"{at}/config")
    except Invalid as error:
        faults.extend(error.faults)
        return None
    if missing:
        return None
    faults.extend(Fault(at + found.pointer, found.message) for found in making.check(payload, None))
    return payload


def _trigger(
    document: JsonValue, making: Making, at: str, faults: list[Fault], *, is_new: bool = True
) -> Trigger | None:  # fmt: skip
    """The trigger of the four scheduling fields, if each by itself has the right type."""
    fields: Mapping[str, JsonValue] = document if isinstance(document, dict) else {}
    schedule, zone = fields.get("schedule"), fields.get("timezone", "UTC")
    if not isinstance(schedule, str) or not isinstance(zone, str) or len(schedule) > TEXT_MAX or len(zone) > 64:
        return None
    try:
        trigger = parse_trigger(
            schedule,
            timezone=zone,
            anchor=making.at,
            dst_gap=_member(DstGap, fields.get("dst_gap"), DstGap.RUN),
            dst_overlap=_member(DstOverlap, fields.get("dst_overlap"), DstOverlap.FIRST),
        )
    except ScheduleError as error:
        faults.append(Fault(f"{at}/{error.parameter}", str(error)))
        return None
    if (reason := _never(trigger, making.at)) and is_new and making.source != "import":
        faults.append(Fault(f"{at}/schedule", reason))
    return trigger


def _never(trigger: Trigger, now: Moment) -> str:
    if trigger.impossible is not None:
        return trigger.impossible
    if trigger.kind is TriggerKind.ONCE and trigger.next_after(now - SECOND) is None:
        return "never fires: the moment has passed"
    return ""


def _member(kind: Callable[[Any], Answer], word: JsonValue, otherwise: Answer) -> Answer:
    try:
        return kind(word)
    except ValueError:
        return otherwise


def _with_fields(task: Task, given: TaskChange) -> Task:
    """*task* with what was given and needs no second look."""
    fields, carefully = given.model_fields_set, given.metadata.model_fields_set
    plain: dict[str, Any] = {name: getattr(given, name) for name in _PLAIN if name in fields}
    policy: dict[str, Any] = {name: getattr(given, name) for name in _POLICY if name in fields}
    policy |= {name: getattr(given.metadata, name) for name in _CAREFULLY if name in carefully}
    if "tags" in fields:
        plain["tags"] = tuple(given.tags)
    elif "tags" in carefully:
        plain["tags"] = tuple(given.metadata.tags)
    return replace(task, policy=replace(task.policy, **policy), **plain)
