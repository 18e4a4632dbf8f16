"""Owns the way between a task and its document in ``scheduler_tasks``, and remembers tasks; not: executions.

The document is the one that clients of the earlier service know, with our fields beside theirs. Only fields of ours are
ever set, so what another program wrote there stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final, TypeVar
from uuid import uuid4

from bson.int64 import Int64

from peregrine.domain.ids import TaskId
from peregrine.domain.moment import MINUTE, Moment, parse_duration
from peregrine.domain.payload import (
    CustomPayload,
    FunctionPayload,
    HttpPayload,
    JsonObject,
    JsonValue,
    Kind,
    Payload,
    SystemPayload,
    payload_config,
)
from peregrine.domain.policy import Misfire, OnWorkerLost, Overlap, Policy, Priority
from peregrine.domain.task import Pause, Tally, Task, TaskView
from peregrine.domain.trigger import DstGap, DstOverlap
from peregrine.stores.mongo.commands import Document
from peregrine.stores.mongo.values import (
    NANOSECONDS,
    NEVER,
    date,
    date_or_none,
    duration_of,
    int_of,
    is_clean,
    json_object,
    json_of,
    json_text,
    moment_or_none,
    nanoseconds,
    nested,
    text_of,
)
from peregrine.stores.mongo.versions import needs_newer

Word = TypeVar("Word", bound=Enum)

VISIBLE: Final = {"hidden": None}
"""A task is hidden while its batch is not committed yet, and from its removal on."""
WITHOUT_DEBTS: Final = {"plan": 0, "counted": 0}
"""What readers of a task never need."""

PAUSED, DISABLED, PENDING, COMPLETED, FAILED = "paused", "disabled", "pending", "completed", "failed"


def new_token() -> str:
    """A name that nobody else has: of one write, or of one life of a task."""
    return uuid4().hex


# ── out ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def definition_fields(task: Task, previous: Task | None = None) -> Document:
    """What is set for the definition, by path. The payload of *previous*, if it is the same, is left as it stands."""
    policy, pause = task.policy, task.pause
    fields: Document = {
        "name": task.name,
        "name_key": task.name,
        "description": task.description,
        "schedule": task.schedule,
        "priority": task.priority.word,
        "priority_class": int(task.priority),
        "enabled": task.enabled,
        "metadata.max_retries": policy.max_retries,
        "metadata.retry_interval": nanoseconds(policy.retry_interval),
        "metadata.timeout": nanoseconds(policy.timeout),
        "metadata.tags": list(task.tags),
        "metadata.is_system": task.is_system,
        "metadata.source": task.source,
        "metadata.version": task.revision,
        "created_at": date(task.created_at),
        "updated_at": date(task.updated_at),
        "created_by": task.created_by,
        "updated_by": task.updated_by,
        "timezone": task.timezone,
        "dst_gap": task.dst_gap.value,
        "dst_overlap": task.dst_overlap.value,
        "anchor": date(task.anchor),
        "pause": None if pause is None else pause_document(pause),
        "overlap": policy.overlap.value,
        "misfire": policy.misfire.value,
        "misfire_grace": nanoseconds(policy.misfire_grace),
        "catchup_window": nanoseconds(policy.catchup_window),
        "catchup_max": policy.catchup_max,
        "on_worker_lost": policy.on_worker_lost.value,
        "generation": task.generation,
        "stamp": new_token(),
    }
    if previous is None or (previous.kind, previous.payload) != (task.kind, task.payload):
        fields |= {"type": task.kind.value} | _payload_fields(task.payload)
    return fields


def pause_document(pause: Pause) -> Document:
    return {
        "since": date(pause.since),
        "by": pause.by,
        "reason": pause.reason,
        "until": date_or_none(pause.until),
    }


def _payload_fields(payload: Payload) -> Document:
    """The ``config``; one whose keys a document can't have in every server stands beside it as JSON text."""
    config = payload_config(payload)
    if is_clean(config):
        return {"config": config, "config_json": None}
    shown: JsonObject = {key: value for key, value in config.items() if isinstance(value, str | bool)}
    return {"config": shown, "config_json": json_text(config)}


def progress_fields(task: Task, cursor: Moment) -> Document:
    """Where the schedule stands, when it is computed from *cursor*."""
    return moved_fields(cursor, task.next_run_at(cursor))


def moved_fields(cursor: Moment, next_run_at: Moment | None) -> Document:
    """Where the schedule stands."""
    return {
        "cursor": date(cursor),
        "due_at": Int64(NEVER if next_run_at is None else next_run_at),
        "next_run": date_or_none(next_run_at),
    }


def status_word(*, enabled: bool, paused: bool, last_succeeded: bool | None) -> str:
    """What other programs read in ``status``; what runs is not told there."""
    if not enabled:
        return DISABLED
    if paused:
        return PAUSED
    if last_succeeded is None:
        return PENDING
    return COMPLETED if last_succeeded else FAILED


def status_of(task: Task, tally: Tally) -> str:
    """The word for *task*, whose executions add up to *tally*."""
    return status_word(enabled=task.enabled, paused=task.pause is not None, last_succeeded=tally.last_succeeded)


def new_document(task: Task, number: int) -> Document:
    """A new task, its cursor at its ``updated_at``; *number* is its place in the order of creation."""
    return placed_document(task, number, progress_fields(task, task.updated_at), Tally())


def placed_document(task: Task, number: int, progress: Document, tally: Tally) -> Document:
    """A task whose schedule stands where *progress* says, and whose executions add up to *tally*."""
    flat = definition_fields(task) | progress | tally_fields(tally)
    return {"_id": task.id} | nested(flat) | {
        "status": status_of(task, tally),
        "seq": number,
        "born": new_token(),
        "tally_rev": 0,
        "counted": [],
    }  # fmt: skip


def tally_fields(tally: Tally) -> Document:
    """What is set for the tally, by path."""
    return {
        "metadata.total_runs": tally.total_runs,
        "metadata.success_count": tally.success_count,
        "metadata.failure_count": tally.failure_count,
        "metadata.average_runtime": nanoseconds(tally.average_runtime),
        "metadata.last_error": tally.last_error,
        "last_run": date_or_none(tally.last_run_at),
        "runtime_total": tally.runtime_total,
        "last_duration": None if tally.last_duration is None else nanoseconds(tally.last_duration),
        "last_succeeded": tally.last_succeeded,
    }


# ── in ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_task(document: Document) -> Task:
    """The task of a document, whoever wrote it: what is missing is as a new task would have it."""
    metadata = _mapping(document.get("metadata"))
    created = moment_or_none(document.get("created_at"))
    updated = moment_or_none(document.get("updated_at"))
    created = created if created is not None else updated or 0
    updated = created if updated is None else updated
    anchor = moment_or_none(document.get("anchor"))
    kind, payload = _payload(text_of(document.get("type")), _config(document))
    return Task(
        id=TaskId(str(document["_id"])),
        name=text_of(document.get("name"), str(document["_id"])),
        kind=kind,
        payload=payload,
        schedule=text_of(document.get("schedule"), "@manual"),
        timezone=text_of(document.get("timezone"), "UTC"),
        dst_gap=_word(DstGap, document.get("dst_gap"), DstGap.RUN),
        dst_overlap=_word(DstOverlap, document.get("dst_overlap"), DstOverlap.FIRST),
        anchor=created if anchor is None else anchor,
        description=text_of(document.get("description")),
        priority=_priority(document.get("priority")),
        enabled=bool(document.get("enabled", True)),
        pause=_pause(document, updated),
        policy=_policy(document, metadata),
        tags=tuple(tag for tag in metadata.get("tags") or () if isinstance(tag, str)),
        is_system=bool(metadata.get("is_system", False)),
        source=text_of(metadata.get("source"), "api"),
        revision=revision_of(document),
        generation=int_of(document.get("generation"), 1),
        created_at=created,
        updated_at=updated,
        created_by=text_of(document.get("created_by"), "system"),
        updated_by=text_of(document.get("updated_by"), "system"),
    )


def next_moment(document: Document) -> Moment | None:
    """When the planner looks at a task again; of one that is not ours yet, what the earlier program said."""
    due_at = document.get("due_at")
    if due_at is None:
        return moment_or_none(document.get("next_run"))
    return None if due_at >= NEVER else int(due_at)


def revision_of(document: Document) -> int:
    return int_of(_mapping(document.get("metadata")).get("version"), 1)


def cursor_of(document: Document) -> Moment:
    """The last moment decided; of a task that was not ours until now, its last change or run."""
    cursor = moment_or_none(document.get("cursor"))
    if cursor is not None:
        return cursor
    found = [moment_or_none(document.get(name)) for name in ("updated_at", "last_run", "created_at")]
    return max((moment for moment in found if moment is not None), default=0)


def read_tally(document: Document) -> Tally:
    """What the executions of a task add up to; an earlier program kept the mean, not the sum."""
    metadata = _mapping(document.get("metadata"))
    total = int_of(metadata.get("total_runs"))
    success = int_of(metadata.get("success_count"))
    runtime = document.get("runtime_total")
    if runtime is None:
        runtime = duration_of(metadata.get("average_runtime"), 0) * total
    last_duration = document.get("last_duration")
    succeeded = document.get("last_succeeded")
    if succeeded is None and total and "tally_rev" not in document:
        succeeded = {COMPLETED: True, FAILED: False}.get(text_of(document.get("status")))
    return Tally(
        total_runs=total,
        success_count=success,
        failure_count=int_of(metadata.get("failure_count"), total - success),
        runtime_total=int_of(runtime),
        last_run_at=moment_or_none(document.get("last_run")),
        last_duration=None if last_duration is None else duration_of(last_duration, 0),
        last_succeeded=succeeded,
        last_error=_error(metadata.get("last_error"), document),
    )


def _error(value: object, document: Document) -> str | None:
    """An earlier program may write an empty text where there was no error."""
    error = value if isinstance(value, str) else None
    return error if error or "tally_rev" in document else None


_WORDS: Final[Mapping[str, type[Enum]]] = {
    "overlap": Overlap,
    "misfire": Misfire,
    "on_worker_lost": OnWorkerLost,
    "dst_gap": DstGap,
    "dst_overlap": DstOverlap,
}


def is_beyond(document: Mapping[str, Any]) -> bool:
    """Whether only a newer version can tell what this task means: it says so, or it uses a word that is new to us.

    An earlier program's words for a type are executors of that name, so those of tasks that were adopted are not new.
    """
    if needs_newer(document):
        return True
    is_ours = "generation" in document and not document.get("adopted")
    if is_ours and not (_is_word(Kind, document.get("type")) and _is_priority(document.get("priority"))):
        return True
    return any(document.get(name) is not None and not _is_word(words, document[name]) for name, words in _WORDS.items())


def _is_priority(word: object) -> bool:
    return any(word == priority.word for priority in Priority)


def _is_word(words: type[Enum], value: object) -> bool:
    return any(value == word.value for word in words)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _word(of: type[Word], value: object, otherwise: Word) -> Word:
    try:
        return of(value)
    except ValueError:
        return otherwise


def _priority(value: object) -> Priority:
    try:
        return Priority.from_word(text_of(value))
    except KeyError:
        return Priority.NORMAL


def _pause(document: Document, updated: Moment) -> Pause | None:
    found = document.get("pause")
    if isinstance(found, Mapping):
        since = moment_or_none(found.get("since"))
        return Pause(
            since=updated if since is None else since,
            by=text_of(found.get("by")),
            reason=text_of(found.get("reason")),
            until=moment_or_none(found.get("until")),
        )
    if "pause" not in document and document.get("status") == PAUSED:
        return Pause(since=updated)
    return None


def _policy(document: Document, metadata: Mapping[str, Any]) -> Policy:
    usual = Policy()
    return Policy(
        max_retries=int_of(metadata.get("max_retries"), usual.max_retries),
        retry_interval=duration_of(metadata.get("retry_interval"), MINUTE) or usual.retry_interval,
        timeout=duration_of(metadata.get("timeout"), usual.timeout) or usual.timeout,
        overlap=_word(Overlap, document.get("overlap"), usual.overlap),
        misfire=_word(Misfire, document.get("misfire"), usual.misfire),
        misfire_grace=duration_of(document.get("misfire_grace"), usual.misfire_grace),
        catchup_window=duration_of(document.get("catchup_window"), usual.catchup_window),
        catchup_max=int_of(document.get("catchup_max"), usual.catchup_max),
        on_worker_lost=_word(OnWorkerLost, document.get("on_worker_lost"), usual.on_worker_lost),
    )


def _config(document: Document) -> JsonObject:
    text = document.get("config_json")
    if isinstance(text, str):
        return json_object(text)
    config = json_of(_mapping(document.get("config")))
    assert isinstance(config, dict)
    return config


def _payload(type_word: str, config: JsonObject) -> tuple[Kind, Payload]:
    """The payload that *config* describes; a type of somebody's own is an executor of that name."""
    kind = _word(Kind, type_word, Kind.CUSTOM)
    match kind:
        case Kind.HTTP:
            return kind, _http(config)
        case Kind.FUNCTION:
            named = text_of(config.get("function_name"))
            return kind, FunctionPayload(
                function_name=named, module=text_of(config.get("module")), parameters=_object(config.get("parameters"))
            )
        case Kind.SYSTEM:
            named = text_of(config.get("task_name"))
            return kind, SystemPayload(task_name=named, parameters=_object(config.get("parameters")))
        case _:
            if type_word == Kind.CUSTOM.value and "executor" in config:
                named = text_of(config.get("executor"))
                return kind, CustomPayload(executor=named, parameters=_object(config.get("parameters")))
            return kind, CustomPayload(executor=type_word, parameters=config)


def _http(config: JsonObject) -> HttpPayload:
    codes = config.get("expected_code")
    body, timeout = config.get("body"), config.get("timeout")
    headers = _object(config.get("headers"))
    return HttpPayload(
        url=text_of(config.get("url")),
        method=text_of(config.get("method"), "GET").upper(),
        headers=tuple((name, value) for name, value in headers.items() if isinstance(value, str)),
        body=body if body is None or isinstance(body, str) else json_text(body),
        expected_codes=tuple(code for code in (codes if isinstance(codes, list) else [codes]) if isinstance(code, int)),
        timeout=_timeout(timeout),
        follow_redirect=bool(config.get("follow_redirect", False)),
        validate_ssl=bool(config.get("validate_ssl", True)),
    )


def _timeout(value: JsonValue) -> int | None:
    if isinstance(value, str):
        try:
            return parse_duration(value)
        except ValueError:
            return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value) // NANOSECONDS or None
    return None


def _object(value: JsonValue) -> JsonObject:
    return value if isinstance(value, dict) else {}


# ── remembered ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Activity:
    """How many executions of a task have not ended."""

    running: int = 0
    queued: int = 0


class Definitions:
    """Tasks by the stamp of their last change, the newest few thousand that were met.

    A stamp never means two definitions, so nothing here is ever wrong; JSON inside a payload can be changed by whoever
    holds it, so that alone is made anew for each.
    """

    def __init__(self, most: int = 8_192) -> None:
        self._most = most
        self._known: dict[str, tuple[Task, str | None]] = {}

    def task(self, document: Document) -> Task:
        """The task of *document*; what stands in its parameters is nobody else's."""
        stamp = document.get("stamp")
        known = self._known.get(stamp) if isinstance(stamp, str) else None
        if known is None:
            task = read_task(document)
            if isinstance(stamp, str):
                self._learn(stamp, task)
            return task
        task, parameters = known
        if parameters is None or isinstance(task.payload, HttpPayload):
            return task
        return replace(task, payload=replace(task.payload, parameters=json_object(parameters)))

    def _learn(self, stamp: str, task: Task) -> None:
        if len(self._known) >= self._most:
            self._known.pop(next(iter(self._known)))
        payload = task.payload
        self._known[stamp] = task, None if isinstance(payload, HttpPayload) else json_text(payload.parameters)

    def view(self, document: Document, activity: Activity) -> TaskView:
        """The task of *document* as a reader sees it."""
        return TaskView(
            task=self.task(document),
            cursor=cursor_of(document),
            next_run_at=next_moment(document),
            running=activity.running,
            queued=activity.queued,
            tally=read_tally(document),
        )
