"""Which scenes there are with which sizes, whom each is for, and how its columns are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.subjects import SUBJECTS
from benchmarks.subjects.fleet import Fleet, no_mongodb
from benchmarks.subjects.ours import Peregrine
from benchmarks.subjects.service import Service
from benchmarks.subjects.subject import Entry

US: Final = ("peregrine",)
LOCAL: Final = ("aps-sqlite", "aps-wal", "aps-memory", "huey")
ON_REDIS: Final = ("saq", "taskiq", "celery", "rq", "rq-simple", "bullmq")
IN_NODE: Final = ("node-cron", "croner")
DURABLE: Final = ("aps-sqlite", "aps-wal", "huey", *ON_REDIS)

BARE: Final = Entry("bare-loop", "a bare asyncio loop", Peregrine, "nothing", 10_000)
SERVICE: Final = Entry("service", "Peregrine over HTTP", Service, "the same", 500)
FLEET: Final = Entry("fleet", "Peregrine, MongoDB", Fleet, "the same", 500, ("redis-server",), lacks=no_mongodb)
ENTRIES: Final = (SUBJECTS[0], SERVICE, FLEET, *SUBJECTS[1:], BARE)
BY_KEY: Final = {one.key: one for one in ENTRIES}


@dataclass(frozen=True, slots=True)
class Part:
    """A scene with its size; ``size`` None: by the subject's pace."""

    scene: str
    title: str
    who: Sequence[str]
    columns: dict[str, str]
    size: int | None = None
    seconds: int = 6
    """How long a scene with a clock lasts."""
    rounds: int = 1
    """How often it is measured, if nobody says otherwise."""
    level: int = 1
    """0: also in a quick look; 1: usually; 2: only when all is asked for."""
    within: int = 300
    """Seconds after which a measurement is given up."""


LATE: Final = {"done": "begun in time", "p50_ms": "late, p50", "p99_ms": "late, p99"}
IDLE: Final = {"memory_mib": "memory", "start_ms": "start", "cpu_percent": "idle processor"}
OUR_IDLE: Final = IDLE | {
    "first_ms": "start to the first run",
    "page_ms": "page of 50",
    "add_ms": "adding one",
    "bulk_rate": "in bulk, a second",
}
FULL: Final = {
    "runs_ratio": "a backlog",
    "runs_cpu_ratio": "its processor time",
    "list_ratio": "the newest 50",
    "page_ratio": "50 in the middle",
    "stats_ratio": "statistics",
    "task_ratio": "the newest 50 of one task",
    "page_ms": "the newest 50 take",
}
TWO: Final = {"times": "two to one", "alone_rate": "runs a second of one", "both_rate": "of two"}
PAGES: Final = {
    "rate": "pages a second",
    "changing_rate": "while a client changes tasks",
    "ready_rate": "ready-made answers a second",
    "share": "share",
}
CALLS: Final = {"rate": "tasks a second", "bare_rate": "bare client, requests a second", "share": "share"}

BACKLOG: Final = Part(
    "backlog", "A due backlog", (*US, *LOCAL, *ON_REDIS), {"rate": "runs a second", "cpu_ms": "processor for 1,000"},
    rounds=3, level=0,
)  # fmt: skip
NOW: Final = Part(
    "now", "Run now, until it starts", (*US, "service", *LOCAL, *ON_REDIS), {"p50_ms": "p50", "p99_ms": "p99"}, 200,
    rounds=3, level=0,
)  # fmt: skip
BURST: Final = Part(
    "burst", "1,000 runs on each second", (*US, "aps-wal", "aps-memory", "huey", "saq", "taskiq", "bullmq", *IN_NODE),
    LATE, 1_000, rounds=2,
)  # fmt: skip
SMALL_BURST: Final = Part(
    "burst", "100 runs on each second", (*US, "aps-sqlite", "celery", "rq-simple"), LATE, 100,
)  # fmt: skip
MINUTE: Final = Part("burst", "5,000 runs on each second, for a minute", US, LATE, 5_000, seconds=60)
SPREAD: Final = Part(
    "spread", "1,000 runs spread over each second", (*US, "bare-loop", "aps-wal", "aps-memory", "bullmq"), LATE, 1_000,
)  # fmt: skip
REGISTER: Final = Part(
    "register", "Registering", (*US, "service", *LOCAL, "saq", "taskiq", "rq", "bullmq", *IN_NODE),
    {"rate": "one by one, a second", "bulk_rate": "in bulk"}, 1_000, rounds=2, level=0,
)  # fmt: skip
IDLES: Final = {
    1_000: Part("idle", "1,000 tasks, none due", (*US, "aps-wal", "aps-memory", *IN_NODE), OUR_IDLE, 1_000),
    10_000: Part("idle", "10,000 tasks, none due", (*US, "aps-wal", "aps-memory", *IN_NODE), OUR_IDLE, 10_000),
    100_000: Part("idle", "100,000 tasks, none due", US, OUR_IDLE, 100_000),
    1_000_000: Part("idle", "1,000,000 tasks, none due", US, OUR_IDLE, 1_000_000, within=900),
}
HISTORIES: Final = {
    1_000_000: Part("history", "A history of 1,000,000: times what it takes without", US, FULL, 1_000_000),
    10_000_000: Part(
        "history", "A history of 10,000,000: times what it takes without", US, FULL, 10_000_000, level=2, within=3_600
    ),
}
LIST: Final = Part("pages", "Pages of 50 tasks over HTTP", ("service",), PAGES, 50, rounds=2)
HTTP_TASKS: Final = Part("calls", "Tasks that are HTTP requests", US, CALLS, 5_000, rounds=2)
INSTANCES: Final = Part("instances", "Two instances on one MongoDB, on tasks that wait", ("fleet",), TWO, 8)
PARTS: Final = (
    BACKLOG, NOW, REGISTER, BURST, SMALL_BURST, MINUTE, SPREAD, *IDLES.values(), *HISTORIES.values(), LIST, HTTP_TASKS,
    INSTANCES,
)  # fmt: skip
SCENES: Final = tuple(dict.fromkeys(part.scene for part in PARTS))
