"""Owns what differs between two states of a thing, field by field, fit to be kept and shown: secrets hidden, in bounds.

Must not know who keeps or shows it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from peregrine.domain.moment import format_duration, format_moment
from peregrine.domain.payload import JsonObject, JsonValue, payload_config
from peregrine.domain.record import record
from peregrine.domain.redaction import hidden
from peregrine.domain.task import Pause, Task

VALUE_MAX: Final = 300
"""A value whose JSON has more characters is cut and becomes a text that ends in an ellipsis."""
FIELDS_MAX: Final = 64
"""Of more fields than that the rest is counted."""
_SHORT: Final = 2**53
_UNSEEN: Final = "body"
"""A field of a config in which anything may stand, secrets too: only its length is shown."""


@record(frozen=True, slots=True)
class Field:
    """What stands in one field: to compare, and to show."""

    stored: JsonValue
    shown: JsonValue


Fields: TypeAlias = Mapping[str, Field]
"""By place: a JSON pointer."""


def plain_fields(**values: JsonValue) -> Fields:
    """Fields that hide nothing; those that are None are left out."""
    return {f"/{name}": Field(value, value) for name, value in values.items() if value is not None}


def task_fields(task: Task) -> Fields:
    """What a person may change of a task, and its version."""
    policy = task.policy
    config = payload_config(task.payload)
    return {
        **plain_fields(
            name=task.name,
            description=task.description,
            type=task.kind.value,
            schedule=task.schedule,
            timezone=task.timezone,
            priority=task.priority.word,
            enabled=task.enabled,
            pause=None if task.pause is None else _pause(task.pause),
            tags=[*task.tags],
            max_retries=policy.max_retries,
            retry_interval=format_duration(policy.retry_interval),
            timeout=format_duration(policy.timeout),
            overlap=policy.overlap.value,
            misfire=policy.misfire.value,
            misfire_grace=format_duration(policy.misfire_grace),
            catchup_window=format_duration(policy.catchup_window),
            catchup_max=policy.catchup_max,
            on_worker_lost=policy.on_worker_lost.value,
            dst_gap=task.dst_gap.value,
            dst_overlap=task.dst_overlap.value,
            source=task.source,
            version=task.revision,
        ),
        **dict(_leaves("/config", config, hidden(config))),
    }


def differences(before: Fields, after: Fields) -> list[JsonValue]:
    """One object for each field that differs: ``field``, and ``before`` and ``after`` where it was or is there.

    A secret that changed shows as hidden on both sides. Never more than some tens of thousands of characters.
    """
    told: list[JsonValue] = []
    more = 0
    for place in {**before, **after}:
        was, is_ = before.get(place), after.get(place)
        if was is not None and is_ is not None and was.stored == is_.stored:
            continue
        if len(told) == FIELDS_MAX:
            more += 1
            continue
        one: JsonObject = {"field": _shortened(place)}
        if was is not None:
            one["before"] = _cut(was.shown)
        if is_ is not None:
            one["after"] = _cut(is_.shown)
        told.append(one)
    if more:
        told.append({"field": "", "after": f"… {more} more fields"})
    return told


def _cut(value: JsonValue) -> JsonValue:
    if isinstance(value, str):
        return _shortened(value)
    if not value or (isinstance(value, (int, float)) and abs(value) < _SHORT):
        return value
    text = json.dumps(value, ensure_ascii=False)
    return value if len(text) <= VALUE_MAX else _shortened(text)


def _shortened(text: str) -> str:
    return text if len(text) <= VALUE_MAX else f"{text[:VALUE_MAX]}…"


def _leaves(place: str, stored: JsonObject, shown: JsonObject) -> Iterator[tuple[str, Field]]:
    """The fields below *place*, as deep as objects go."""
    for name, value in stored.items():
        at, seen = f"{place}/{name.replace('~', '~0').replace('/', '~1')}", shown[name]
        if isinstance(value, dict) and value and isinstance(seen, dict):
            yield from _leaves(at, value, seen)
        elif at == f"/config/{_UNSEEN}":
            text = value if isinstance(value, str) else json.dumps(value)
            yield at, Field(value, f"… {len(text)} characters")
        else:
            yield at, Field(value, seen)


def _pause(pause: Pause) -> JsonObject:
    shown: JsonObject = {"since": format_moment(pause.since), "by": pause.by, "reason": pause.reason}
    return shown if pause.until is None else shown | {"until": format_moment(pause.until)}
