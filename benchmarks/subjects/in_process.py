"""Peers that live in one process and keep a file: APScheduler 3 and huey."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks import marks
from benchmarks.subjects.processes import own_memory, own_time

THREADS: Final = 20
AT_ONCE: Final = 1_000


class _APScheduler:
    """APScheduler 3 with 20 threads; nothing is dropped for being late, nothing is joined."""

    def _jobs(self, folder: Path) -> Any:
        raise NotImplementedError

    async def open(self, folder: Path) -> None:
        from apscheduler.executors.pool import ThreadPoolExecutor
        from apscheduler.schedulers.background import BackgroundScheduler

        self.scheduler = BackgroundScheduler(
            jobstores={"default": self._jobs(folder)},
            executors={"default": ThreadPoolExecutor(THREADS)},
            job_defaults={"misfire_grace_time": None, "coalesce": False, "max_instances": AT_ONCE},
            timezone=UTC,
        )
        self.scheduler.start(paused=True)

    async def add_due(self, count: int) -> None:
        self._once(time.time() - 1, count)

    def _once(self, at: float, count: int) -> None:
        for _ in range(count):
            self.scheduler.add_job("benchmarks.marks:nothing", "date", run_date=datetime.fromtimestamp(at, UTC))

    async def add_later(self, start: int, count: int) -> None:
        self._once(time.time() + 365 * 86_400, count)

    async def add_ticks(self, count: int, first: int, seconds: int, *, spread: bool) -> None:
        if spread:
            total = count * seconds
            for number in range(total):
                self._once(first + number * seconds / total, 1)
            return
        start = datetime.fromtimestamp(first, UTC)
        for _ in range(count):
            self.scheduler.add_job("benchmarks.marks:nothing", "interval", seconds=1, start_date=start)

    async def run_now(self) -> float:
        asked = time.time()
        self.scheduler.add_job("benchmarks.marks:nothing")
        return asked

    async def go(self) -> None:
        self.scheduler.resume()

    async def close(self) -> None:
        self.scheduler.shutdown(wait=False)

    def spent(self) -> float:
        return own_time()

    def memory(self) -> float:
        return own_memory()


class APSchedulerMemory(_APScheduler):
    """It forgets everything when it ends."""

    def _jobs(self, folder: Path) -> Any:
        from apscheduler.jobstores.memory import MemoryJobStore

        return MemoryJobStore()


class APSchedulerSqlite(_APScheduler):
    """As it comes."""

    def _jobs(self, folder: Path) -> Any:
        from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore

        return SQLAlchemyJobStore(url=f"sqlite:///{folder / 'jobs.sqlite'}")


class APSchedulerWal(_APScheduler):
    """As somebody tunes it who knows SQLite: WAL, and a flush to disk now and then only."""

    def _jobs(self, folder: Path) -> Any:
        from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
        from sqlalchemy import create_engine, event

        engine = create_engine(f"sqlite:///{folder / 'jobs.sqlite'}")

        def tune(connection: Any, _: Any) -> None:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")

        event.listen(engine, "connect", tune)
        return SQLAlchemyJobStore(engine=engine)


class Huey:
    """huey on SQLite with flushes to disk, results kept, four worker threads."""

    async def open(self, folder: Path) -> None:
        from huey import SqliteHuey

        self.huey = SqliteHuey(filename=str(folder / "huey.db"), fsync=True, utc=True)
        self.task = self.huey.task()(marks.nothing)
        self.consumer: Any = None

    async def add_due(self, count: int) -> None:
        for _ in range(count):
            self.task()

    async def add_later(self, start: int, count: int) -> None:
        for _ in range(count):
            self.task.schedule(delay=365 * 86_400)

    async def add_ticks(self, count: int, first: int, seconds: int, *, spread: bool) -> None:
        total = count * seconds
        for number in range(total):
            at = first + (number * seconds / total if spread else number // count)
            self.task.schedule(eta=datetime.fromtimestamp(at, UTC))

    async def run_now(self) -> float:
        asked = time.time()
        self.task()
        return asked

    async def go(self) -> None:
        self.consumer = self.huey.create_consumer(
            workers=4, periodic=False, initial_delay=0.001, max_delay=0.01, scheduler_interval=1
        )
        self.consumer.start()

    async def close(self) -> None:
        if self.consumer is not None:
            self.consumer.stop(graceful=False)

    def spent(self) -> float:
        return own_time()

    def memory(self) -> float:
        return own_memory()
