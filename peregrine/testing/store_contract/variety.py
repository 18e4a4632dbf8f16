"""Owns values that stores have been known to change on the way: the checks of round trips are made of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from peregrine.domain.ids import TaskId
from peregrine.domain.moment import DAY, MOMENT_MAX, SECOND
from peregrine.domain.payload import (
    CustomPayload,
    FunctionPayload,
    HttpPayload,
    JsonObject,
    JsonValue,
    Kind,
    Payload,
    SystemPayload,
)
from peregrine.domain.policy import Misfire, OnWorkerLost, Overlap, Policy, Priority
from peregrine.domain.task import Pause, Task
from peregrine.domain.trigger import DstGap, DstOverlap
from peregrine.testing.builders import NOW, a_task

BIG: Final = 2**53
TEXTS: Final = (
    "",
    " ",
    "plain",
    'it\'s "quoted" \\ and 100%_*?',
    "zwölf Boxkämpfer, 日本語, العربية",
    "😀 \U0010ffff e\u0301 é",
    "line\nline\r\n\ttab \x01 \x7f \u2028",
    "zero \x00 byte",
    "null",
    "x" * 20_000,
)


def _deep(levels: int) -> JsonValue:
    value: JsonValue = "deep"
    for level in range(levels):
        value = {"down": value} if level % 2 else [value]
    return value


OBJECTS: Final[tuple[JsonObject, ...]] = (
    {},
    {"text": "a", "none": None, "yes": True, "no": False},
    {"one": 1, "one point zero": 1.0, "true": True, "half": -0.5, "tiny": 5e-324, "huge": 1.5e308, "text": "1"},
    {"big": BIG, "minus big": -BIG, "zero": 0},
    {"": "empty key", "a.b": "dotted", "$set": "dollar", "ключ": "unicode", "_id": 1, "quote'\"": "quoted"},
    {"list": [], "object": {}, "mixed": [1, "2", None, [], {}, [[]], 2.5, False]},
    {"deep": _deep(60)},
    {"texts": list(TEXTS[:9])},
)

PAYLOADS: Final[tuple[tuple[Kind, Payload], ...]] = (
    (Kind.HTTP, HttpPayload(url="http://localhost/")),
    (
        Kind.HTTP,
        HttpPayload(
            url="https://example.com/a?b=c#d",
            method="PATCH",
            headers=(("X-Last", "ü"), ("A-First", ""), ("x-quoted", "'\"")),
            body='{"a": "ä"}',
            expected_codes=(200, 418),
            timeout=1_500,
            follow_redirect=True,
            validate_ssl=False,
        ),
    ),
    (Kind.HTTP, HttpPayload(url="http://localhost/", body="", expected_codes=(204,))),
    (Kind.FUNCTION, FunctionPayload(function_name="f")),
    *((Kind.FUNCTION, FunctionPayload(function_name="f", module="m.n", parameters=o)) for o in OBJECTS),
    (Kind.SYSTEM, SystemPayload(task_name="system-cleanup", parameters=OBJECTS[4])),
    (Kind.CUSTOM, CustomPayload(executor="mine", parameters=OBJECTS[5])),
)

_FULL: Final = Task(
    id=TaskId("full"),
    name="name of full",
    kind=Kind.FUNCTION,
    payload=FunctionPayload(function_name="f"),
    schedule="@every 1h30m",
    timezone="America/New_York",
    dst_gap=DstGap.SKIP,
    dst_overlap=DstOverlap.BOTH,
    anchor=NOW - 7 * DAY - 1,
    description="every field differs from its default",
    priority=Priority.CRITICAL,
    enabled=False,
    pause=Pause(since=NOW - 1, by="ann", reason="holidays", until=NOW + DAY + 1),
    policy=Policy(
        max_retries=0,
        retry_interval=1_001,
        timeout=30_001,
        overlap=Overlap.QUEUE,
        misfire=Misfire.RUN_ALL,
        misfire_grace=0,
        catchup_window=1_003,
        catchup_max=1,
        on_worker_lost=OnWorkerLost.FAIL,
    ),
    tags=("b", "a", "ü,;", "b c"),
    is_system=True,
    source="import",
    revision=7,
    generation=5,
    created_at=NOW - DAY,
    updated_at=NOW - SECOND,
    created_by="ann",
    updated_by="bob",
)


def tasks() -> Iterator[Task]:
    """Tasks whose fields hold everything they may, each with an id and a name of its own."""
    yield a_task("plain")
    yield _FULL
    for number, (kind, payload) in enumerate(PAYLOADS):
        yield a_task(f"payload-{number}", kind=kind, payload=payload)
    for number, text in enumerate(TEXTS):
        yield a_task(
            f"text-{number} {text[:80]}",
            name=f"{text[:80]} {number}",
            description=text,
            pause=Pause(since=NOW, by=text, reason=text),
            tags=(text, f"{text}!"),
            source=text,
            created_by=text,
            updated_by=text,
        )
    for number, priority in enumerate(Priority):
        yield a_task(f"priority-{number}", priority=priority)
    for number, policy in enumerate(_policies()):
        yield a_task(f"policy-{number}", policy=policy)
    for number, pause in enumerate((None, Pause(since=0), Pause(since=NOW, until=MOMENT_MAX))):
        yield a_task(f"pause-{number}", pause=pause)
    yield a_task("long ago", anchor=-1, created_at=0, updated_at=0)
    yield a_task("far ahead", created_at=MOMENT_MAX, updated_at=MOMENT_MAX, revision=BIG, generation=BIG)


def _policies() -> Iterator[Policy]:
    for overlap in Overlap:
        yield Policy(overlap=overlap)
    for misfire in Misfire:
        yield Policy(misfire=misfire)
    yield replace(Policy(), max_retries=10, timeout=DAY, misfire_grace=7 * DAY, catchup_window=366 * DAY)
