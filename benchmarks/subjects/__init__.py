"""Who is measured."""

from __future__ import annotations

from typing import Final

from benchmarks.subjects.in_process import APSchedulerMemory, APSchedulerSqlite, APSchedulerWal, Huey
from benchmarks.subjects.on_node import BullMq, Croner, NodeCron
from benchmarks.subjects.on_redis import Celery, Rq, RqSimple, Saq, Taskiq
from benchmarks.subjects.ours import Peregrine
from benchmarks.subjects.subject import Entry

_REDIS: Final = ("redis-server",)
_NODE: Final = ("node", "npm")
_IN_MEMORY: Final = "nothing: forgets all at its end"

OURS: Final = Entry(
    "peregrine", "Peregrine, SQLite", Peregrine, "claim before the start, history after it, each flushed", 15_000
)
SUBJECTS: Final = (
    OURS,
    Entry("aps-sqlite", "APScheduler 3, SQLite", APSchedulerSqlite, "jobs on disk, no history", 400),
    Entry("aps-wal", "APScheduler 3, SQLite in WAL", APSchedulerWal, "jobs on disk, flushed rarely, no history", 1_500),
    Entry("aps-memory", "APScheduler 3, memory", APSchedulerMemory, _IN_MEMORY, 6_000),
    Entry("huey", "huey, SQLite", Huey, "queue and results on disk", 1_200, recurs=False),
    Entry("saq", "SAQ, Redis", Saq, "queue and results, each flushed", 1_000, _REDIS, recurs=False),
    Entry("taskiq", "Taskiq, Redis", Taskiq, "queue and results, each flushed", 1_000, _REDIS, recurs=False),
    Entry("celery", "Celery, Redis", Celery, "queue and results, each flushed", 400, _REDIS),
    Entry("rq", "RQ, Redis", Rq, "queue and results, each flushed", 70, _REDIS, recurs=False),
    Entry("rq-simple", "RQ without a fork, Redis", RqSimple, "the same", 275, _REDIS, recurs=False),
    Entry("bullmq", "BullMQ, Redis", BullMq, "queue and history, each flushed", 3_000, (*_REDIS, *_NODE)),
    Entry("node-cron", "node-cron, memory", NodeCron, _IN_MEMORY, 1_000, _NODE),
    Entry("croner", "croner, memory", Croner, _IN_MEMORY, 1_000, _NODE),
)  # fmt: skip
