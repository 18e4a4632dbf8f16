"""Owns how a task comes in, new or changed, with every fault named; must not know permissions or stores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Final, Self, TypeVar

from pydantic import Field, ValidationError

from peregrine.domain.cron import TEXT_MAX, ScheduleError
from peregrine.domain.draft import Making
from peregrine.domain.errors import Fault, Invalid
from peregrine.domain.moment import MINUTE, SECOND
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
from peregrine.domain.task import Task, trigger_of
from peregrine.domain.trigger import DstGap, DstOverlap, Trigger, TriggerKind
from peregrine.wire.shapes import DescriptionText, NameText, Shape, Span, TagList, Word, faults_of
from peregrine.wire.task import READ_ONLY

Given = TypeVar("Given", bound="TaskChange")
Member = TypeVar("Member")
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

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Itself: nobody changes it, and as a default it would be copied for each task."""
        return self


ConfigObject = Annotated[
    dict[str, Any],
    Field(
        description="The settings of this type of task. Values under names such as `authorization` or `token` are "
        "sealed and go out as `***`. An HTTP task's `body` is kept and shown as it is written, whatever it says: write "
        "a secret there as `{{ secret.NAME }}`; the service holds its value (`SCHEDULER_SECRET_NAME`)."
    ),
]


class TaskChange(Shape):
    """The fields of a task to change; `config` is replaced whole, all others stay as they are."""

    name: NameText = ""
    description: DescriptionText = ""
    type: KindWord = Kind.HTTP
    schedule: ScheduleText = ""
    timezone: ZoneText = "UTC"
    priority: Annotated[Priority, Word(Priority)] = Priority.NORMAL
    enabled: bool = True
    config: ConfigObject = Field(default_factory=dict)
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
    config: ConfigObject


_POLICY: Final[tuple[str, ...]] = (
    "overlap", "misfire", "misfire_grace", "catchup_window", "catchup_max", "on_worker_lost",
)  # fmt: skip
_PLAIN: Final[tuple[str, ...]] = ("name", "description", "priority", "enabled", "dst_gap", "dst_overlap")
_CAREFULLY: Final[tuple[str, ...]] = ("max_retries", "retry_interval", "timeout")
_SCHEDULING: Final = frozenset({"schedule", "timezone", "dst_gap", "dst_overlap"})
_KINDS: Final = frozenset(Kind)
_CRON_BEGINS: Final = frozenset("0123456789*")
"""What begins so counts from no anchor, so all tasks with the same words share a trigger."""
NO_SYSTEM: Final = "a system task can't be made over the API"


def read_new_task(document: JsonValue, making: Making, *, at: str = "") -> Task:
    """The task that *document* describes.

    Raises:  Invalid with every fault, pointers below *at*.
    """
    reading = _Reading(document, making, at)
    given = reading.shape(NewTask)
    kind = reading.kind()
    if kind is Kind.SYSTEM:
        reading.fault("/type", NO_SYSTEM)
    payload = reading.payload(kind, stored={})
    trigger = reading.trigger(reading.fields, is_new=True)
    if reading.faults or given is None or kind is None or payload is None or trigger is None:
        raise Invalid(reading.faults)
    policy = {"misfire_grace": making.limits.misfire_grace} | _policy_fields(given)
    return Task(
        id=making.id,
        kind=kind,
        payload=payload,
        schedule=trigger.schedule,
        timezone=trigger.timezone,
        anchor=making.at,
        policy=Policy(**policy),
        source=making.source,
        created_at=making.at,
        updated_at=making.at,
        created_by=making.by,
        updated_by=making.by,
        **_plain_fields(given),
    )


def read_task_change(document: JsonValue, stored: Task, making: Making, *, at: str = "") -> Task:
    """*stored* with the fields that *document* gives; ``***`` for a secret keeps the stored one for the same receiver.

    Raises:  Invalid with every fault, pointers below *at*.
    """
    reading = _Reading(document, making, at)
    given = reading.shape(TaskChange)
    fields, task = reading.fields, stored
    kind = reading.kind() if "type" in fields else stored.kind
    if kind is Kind.SYSTEM and not stored.is_system:
        reading.fault("/type", NO_SYSTEM)
    if "config" in fields or kind is not stored.kind:
        payload = reading.payload(kind, stored=payload_config(stored.payload))
        if kind is not None and payload is not None:
            task = replace(task, kind=kind, payload=payload)
    if fields.keys() & _SCHEDULING:
        task = reading.rescheduled(task)
    if reading.faults or given is None:
        raise Invalid(reading.faults)
    return replace(task, policy=replace(task.policy, **_policy_fields(given)), **_plain_fields(given))


class _Reading:
    """One document under the reader's eye, and the faults found in it so far."""

    def __init__(self, document: JsonValue, making: Making, at: str) -> None:
        self.fields: JsonObject = document if isinstance(document, dict) else {}
        self.faults: list[Fault] = []
        self._document = document
        self._making = making
        self._at = at

    def fault(self, pointer: str, message: str) -> None:
        """Note a fault."""
        self.faults.append(Fault(self._at + pointer, message))

    def shape(self, shape: type[Given]) -> Given | None:
        """What each field says by itself."""
        try:
            return shape.model_validate(self._document, context={"timeout": self._making.limits.timeout_min})
        except ValidationError as error:
            self.faults.extend(faults_of(error, at=self._at, read_only=READ_ONLY))
            return None

    def kind(self) -> Kind | None:
        """The kind, if it can be told; a wrong word is the shape's fault to name."""
        word = self.fields.get("type")
        return Kind(word) if isinstance(word, str) and word in _KINDS else None

    def payload(self, kind: Kind | None, *, stored: JsonObject) -> Payload | None:
        """What ``config`` says to this kind."""
        config = self.fields.get("config")
        if kind is None or not isinstance(config, dict):
            if kind is not None and "config" not in self.fields and stored:
                self.fault("/config", "is required when the type changes")
            return None
        whole, missing = restored(config, stored, at=f"{self._at}/config")
        self.faults.extend(missing)
        try:
            payload = parse_payload(kind, whole, at=f"{self._at}/config")
        except Invalid as error:
            self.faults.extend(error.faults)
            return None
        if missing:
            return None
        for found in self._making.check(payload, None):
            self.fault(found.pointer, found.message)
        return payload

    def rescheduled(self, task: Task) -> Task:
        """*task* by the scheduling fields that are given, and its own for the others."""
        known: JsonObject = {"schedule": task.schedule, "timezone": task.timezone}
        known |= {"dst_gap": task.dst_gap.value, "dst_overlap": task.dst_overlap.value}
        trigger = self.trigger(known | self.fields, is_new="schedule" in self.fields)
        if trigger is None:
            return task
        anchor = task.anchor if trigger.schedule == task.schedule else self._making.at
        return replace(task, schedule=trigger.schedule, timezone=trigger.timezone, anchor=anchor)

    def trigger(self, fields: JsonObject, *, is_new: bool) -> Trigger | None:
        """The trigger of the four scheduling fields, if each by itself has the right type."""
        schedule, zone = fields.get("schedule"), fields.get("timezone", "UTC")
        if not isinstance(schedule, str) or not isinstance(zone, str) or len(schedule) > TEXT_MAX or len(zone) > 64:
            return None
        try:
            trigger = trigger_of(
                schedule,
                zone,
                0 if schedule[:1] in _CRON_BEGINS else self._making.at,
                _member(DstGap, fields.get("dst_gap"), DstGap.RUN),
                _member(DstOverlap, fields.get("dst_overlap"), DstOverlap.FIRST),
            )
        except ScheduleError as error:
            self.fault(f"/{error.parameter}", str(error))
            return None
        if is_new and (reason := self._why_never(trigger)):
            self.fault("/schedule", reason)
        return trigger

    def _why_never(self, trigger: Trigger) -> str:
        """Why a new schedule can't be meant; a bundle may hold one-shots that have had their day."""
        if trigger.impossible is not None:
            return trigger.impossible
        is_past = trigger.kind is TriggerKind.ONCE and trigger.next_after(self._making.at - SECOND) is None
        return "never fires: the moment has passed" if is_past and self._making.source != "import" else ""


def _member(kind: Callable[[Any], Member], word: JsonValue, otherwise: Member) -> Member:
    try:
        return kind(word)
    except ValueError:
        return otherwise


def _plain_fields(given: TaskChange) -> dict[str, Any]:
    """The fields of the task that were given and need no second look."""
    fields = given.model_fields_set
    plain: dict[str, Any] = {name: getattr(given, name) for name in _PLAIN if name in fields}
    if "tags" in fields:
        plain["tags"] = tuple(given.tags)
    elif "tags" in given.metadata.model_fields_set:
        plain["tags"] = tuple(given.metadata.tags)
    return plain


def _policy_fields(given: TaskChange) -> dict[str, Any]:
    """The same of its policy."""
    fields, carefully = given.model_fields_set, given.metadata.model_fields_set
    policy: dict[str, Any] = {name: getattr(given, name) for name in _POLICY if name in fields}
    return policy | {name: getattr(given.metadata, name) for name in _CAREFULLY if name in carefully}
