"""A backlog that is worked off: so many runs of a function that does nothing, all due, until each is done and recorded.

Every subject is a process of its own: ``python -m benchmarks.backlog NAME COUNT`` prints a line of JSON. What a subject
keeps on disk it keeps in a folder that is removed afterwards.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

DONE_WITHIN: Final = 300.0


@dataclass(frozen=True, slots=True)
class Subject:
    """Who is measured, with how many runs, and what must be known of it to read its figure."""

    name: str
    count: int
    run: Callable[[Path, int], float]
    keeps: str


class Bell:
    """Counts calls, and rings at the last one."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._lock = threading.Lock()
        self._rung = threading.Event()

    def strike(self) -> None:
        """One call."""
        with self._lock:
            self._left -= 1
            if self._left == 0:
                self._rung.set()

    def wait(self) -> None:
        """Until the last call."""
        assert self._rung.wait(DONE_WITHIN), f"{self._left} were never run"


BELL = Bell(0)


def nothing() -> None:
    """What is run."""
    BELL.strike()


# ── subjects ─────────────────────────────────────────────────────────────────────────────────────


def peregrine(folder: Path, count: int) -> float:
    """The engine on SQLite with everything in force: a claim on disk before the start, its end after it."""
    import uvloop

    return uvloop.run(_peregrine(folder, count))


async def _peregrine(folder: Path, count: int) -> float:
    from peregrine.coordination.clock import SystemClock, SystemEntropy
    from peregrine.coordination.host import ProcHost, this_instance
    from peregrine.coordination.memory import MemoryBus, MemoryLocks
    from peregrine.domain.ids import WorkerId
    from peregrine.domain.policy import Overlap, Policy
    from peregrine.engine.engine import Engine
    from peregrine.engine.needs import Needs
    from peregrine.engine.settings import EngineSettings
    from peregrine.observers.metrics import MetricsObserver
    from peregrine.stores.sqlite.store import SqliteStore
    from peregrine.testing.builders import a_new_execution, a_task

    store, clock = SqliteStore(folder / "store.sqlite3"), SystemClock()
    await store.open()
    now, slots = clock.now(), 1_000
    policy = Policy(overlap=Overlap.ALLOW)
    times = {"created_at": now, "updated_at": now, "anchor": now}
    await store.create_tasks([a_task(f"t{n}", schedule="@manual", policy=policy, **times) for n in range(100)])
    waits = {"queued_at": now, "available_at": now}
    for start in range(0, count, 1_000):
        new = [a_new_execution(f"e{n}", f"t{n % 100}", **waits) for n in range(start, min(count, start + 1_000))]
        await asyncio.gather(*(store.enqueue(one, queue_limit=10**9) for one in new))
    engine = Engine(
        Needs(
            settings=EngineSettings(slots=slots, queue_size=10**6),
            instance=this_instance(id=WorkerId("bench"), version="bench", slots=slots, now=now),
            store=store,
            executor=_Nothing(),
            clock=clock,
            entropy=SystemEntropy(),
            bus=MemoryBus(),
            locks=MemoryLocks(clock),
            host=ProcHost(),
            observer=MetricsObserver(),
        )
    )
    began = time.perf_counter()
    await engine.start()
    while True:
        statistics = await store.statistics(clock.now())
        if statistics.completed_today >= count:
            break
        assert time.perf_counter() - began < DONE_WITHIN
        await asyncio.sleep(0.01)
    took = time.perf_counter() - began
    await engine.stop()
    await store.close()
    return took


class _Nothing:
    """An executor that does nothing, at once."""

    def check(self, payload: Any, parameters: Any = None) -> tuple[()]:
        return ()

    async def run(self, payload: Any, context: Any) -> Any:
        from peregrine.domain.execution import Outcome

        return Outcome.succeeded()


def apscheduler_sqlite(folder: Path, count: int) -> float:
    """APScheduler 3 with its SQLAlchemy job store on SQLite, as it comes."""
    from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore

    return _apscheduler(SQLAlchemyJobStore(url=f"sqlite:///{folder / 'jobs.sqlite'}"), count)


def apscheduler_memory(folder: Path, count: int) -> float:
    """APScheduler 3 with its job store in memory."""
    from apscheduler.jobstores.memory import MemoryJobStore

    return _apscheduler(MemoryJobStore(), count)


def _apscheduler(jobs: Any, count: int) -> float:
    from datetime import UTC, datetime, timedelta

    from apscheduler.executors.pool import ThreadPoolExecutor
    from apscheduler.schedulers.background import BackgroundScheduler

    global BELL
    BELL = Bell(count)
    defaults = {"misfire_grace_time": None}
    scheduler = BackgroundScheduler(
        jobstores={"default": jobs}, executors={"default": ThreadPoolExecutor(20)}, job_defaults=defaults, timezone=UTC
    )
    scheduler.start(paused=True)
    due = datetime.now(UTC) - timedelta(seconds=1)
    for _ in range(count):
        scheduler.add_job("benchmarks.backlog:nothing", "date", run_date=due)
    began = time.perf_counter()
    scheduler.resume()
    sys.modules["benchmarks.backlog"].BELL = BELL  # type: ignore[attr-defined]
    BELL.wait()
    took = time.perf_counter() - began
    scheduler.shutdown()
    return took


def huey_sqlite(folder: Path, count: int) -> float:
    """huey on SQLite, its results kept, with four worker threads in this process."""
    from huey import SqliteHuey

    global BELL
    BELL = Bell(count)
    huey = SqliteHuey(filename=str(folder / "huey.db"), fsync=True)
    task = huey.task()(nothing)
    for _ in range(count):
        task()
    consumer = huey.create_consumer(workers=4, periodic=False, initial_delay=0.001, max_delay=0.01)
    began = time.perf_counter()
    consumer.start()
    BELL.wait()
    took = time.perf_counter() - began
    consumer.stop(graceful=False)
    return took


SUBJECTS: Final = (
    Subject("Peregrine, SQLite", 20_000, peregrine, "claim before the start and history after it, on disk"),
    Subject("APScheduler 3, SQLite", 1_000, apscheduler_sqlite, "jobs on disk, no history"),
    Subject("APScheduler 3, memory", 10_000, apscheduler_memory, "nothing"),
    Subject("huey, SQLite", 4_000, huey_sqlite, "queue and results on disk"),
)


def main() -> None:
    """Measure one subject and say what came of it."""
    subject = next(one for one in SUBJECTS if one.name == sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else subject.count
    sys.modules.setdefault("benchmarks.backlog", sys.modules["__main__"])
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        before = _cpu()
        took = subject.run(Path(folder), count)
        spent = _cpu() - before
    sys.stdout.write(json.dumps({"name": subject.name, "count": count, "seconds": took, "cpu": spent}) + "\n")
    sys.stdout.flush()


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
