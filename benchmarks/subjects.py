"""Who is measured: each scheduler behind the same five verbs, set up as its own documentation says.

A subject lives in a process of its own and keeps what it keeps in one folder. Times are wall seconds.
"""

from __future__ import annotations

import asyncio
import resource
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

from benchmarks import marks

QUEUE_MAX: Final = 10**6
SLOTS: Final = 1_000
WORKERS: Final = 20


class Subject(Protocol):
    """One scheduler. ``open`` begins nothing yet; ``go`` lets it work."""

    async def open(self, folder: Path) -> None:
        """Make it ready, its store new and empty or as an earlier process left it."""
        ...

    async def add_due(self, count: int) -> None:
        """Have so many runs wait that are due already."""
        ...

    async def add_later(self, start: int, count: int) -> None:
        """Register so many tasks, from number *start* on, that fall due in a year, one by one."""
        ...

    async def add_ticks(self, count: int, first: int, seconds: int, *, spread: bool) -> None:
        """Register *count* runs for each of so many seconds from *first* on: all on the second, or *spread* over it."""
        ...

    async def run_now(self) -> None:
        """Ask for one run at once."""
        ...

    async def go(self) -> None:
        """Work from now on."""
        ...

    async def close(self) -> None:
        """Let go of everything."""
        ...

    def spent(self) -> float:
        """Seconds of processor time so far, of helpers too."""
        ...


def _own_time() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class Peregrine:
    """The engine on SQLite as the service wires it: ``synchronous=FULL``, a claim on disk before each start."""

    async def open(self, folder: Path) -> None:
        from peregrine.coordination.clock import SystemClock
        from peregrine.executors.callables import FUNCTIONS, function
        from peregrine.stores.sqlite.store import SqliteStore

        function(module="", name="nothing", registry=FUNCTIONS)(marks.nothing_async)
        self.clock, self.store = SystemClock(), SqliteStore(folder / "store.sqlite3")
        self.engine: Any = None
        self._number = 0
        await self.store.open()

    def _task(self, id: str, schedule: str, **more: Any) -> Any:
        from peregrine.domain.payload import FunctionPayload
        from peregrine.domain.policy import Overlap, Policy
        from peregrine.testing.builders import a_task

        now = self.clock.now()
        return a_task(
            id,
            schedule=schedule,
            payload=FunctionPayload(function_name="nothing"),
            policy=Policy(overlap=Overlap.ALLOW),
            **({"created_at": now, "updated_at": now, "anchor": now} | more),
        )

    async def add_due(self, count: int) -> None:
        if self._number == 0:
            await self.store.create_tasks([self._task(f"t{n}", "@manual") for n in range(100)])
        for start in range(0, count, 1_000):
            await asyncio.gather(*(self._ask(f"t{n % 100}") for n in range(start, min(count, start + 1_000))))

    async def _ask(self, task_id: str) -> None:
        from peregrine.testing.builders import a_new_execution

        now = self.clock.now()
        self._number += 1
        new = a_new_execution(f"e{self._number}", task_id, queued_at=now, available_at=now)
        await self.store.enqueue(new, queue_limit=QUEUE_MAX)

    async def add_later(self, start: int, count: int) -> None:
        at = f"@at {datetime.now(UTC).year + 1}-06-01T03:00:00Z"
        for number in range(start, start + count):
            await self.store.create_tasks([self._task(f"later{number}", at)])

    async def add_bulk(self, start: int, count: int) -> None:
        """Register them a thousand at a time, as an import does."""
        at = f"@at {datetime.now(UTC).year + 1}-06-01T03:00:00Z"
        for first in range(start, start + count, 1_000):
            last = min(first + 1_000, start + count)
            await self.store.create_tasks([self._task(f"later{n}", at) for n in range(first, last)])

    async def add_ticks(self, count: int, first: int, seconds: int, *, spread: bool) -> None:
        if spread:
            # A schedule has whole seconds; what falls due between them is asked for with its moment.
            from peregrine.testing.builders import a_new_execution

            await self.store.create_tasks([self._task("t0", "@manual")])
            total = count * seconds
            new = [
                a_new_execution(
                    f"s{n}",
                    "t0",
                    queued_at=self.clock.now(),
                    available_at=first * 1_000 + n * seconds * 1_000 // total,
                )
                for n in range(total)
            ]
            for start in range(0, total, 1_000):
                chunk = new[start : start + 1_000]
                await asyncio.gather(*(self.store.enqueue(one, queue_limit=QUEUE_MAX) for one in chunk))
            return
        anchor = {"anchor": (first - 1) * 1_000}
        for start in range(0, count, 1_000):
            tasks = [self._task(f"tick{n}", "PT1S", **anchor) for n in range(start, min(count, start + 1_000))]
            await self.store.create_tasks(tasks)

    async def run_now(self) -> None:
        from peregrine.ports.bus import Topic

        if self._number == 0:
            await self.store.create_tasks([self._task("now", "@manual")])
        await self._ask("now")
        self._bus.publish(Topic.QUEUED)

    async def go(self) -> None:
        from peregrine.coordination.clock import SystemEntropy
        from peregrine.coordination.host import ProcHost, this_instance
        from peregrine.coordination.memory import MemoryBus, MemoryLocks
        from peregrine.domain.ids import WorkerId
        from peregrine.engine.engine import Engine
        from peregrine.engine.needs import Needs
        from peregrine.engine.settings import EngineSettings
        from peregrine.executors.callables import FUNCTIONS
        from peregrine.executors.function import FunctionExecutor
        from peregrine.executors.isolation import ChildProcesses, IsolationSettings
        from peregrine.executors.registry import Executors
        from peregrine.observers.metrics import MetricsObserver

        children = ChildProcesses(IsolationSettings(modules=(), processes_max=1, idle_min=0, env={}))
        self._bus = MemoryBus()
        self.engine = Engine(
            Needs(
                settings=EngineSettings(slots=SLOTS, queue_size=QUEUE_MAX),
                instance=this_instance(id=WorkerId("bench"), version="bench", slots=SLOTS, now=self.clock.now()),
                store=self.store,
                executor=Executors(function=FunctionExecutor(FUNCTIONS, children=children, clock=self.clock)),
                clock=self.clock,
                entropy=SystemEntropy(),
                bus=self._bus,
                locks=MemoryLocks(self.clock),
                host=ProcHost(),
                observer=MetricsObserver(),
            )
        )
        await self.engine.start()

    async def recorded(self) -> int:
        """How many of today's runs stand in the store as completed."""
        return (await self.store.statistics(self.clock.now())).completed_today

    async def until_recorded(self, count: int) -> None:
        """Wait until so many do."""
        while await self.recorded() < count:  # noqa: ASYNC110 - the store has no bell for this
            await asyncio.sleep(marks.NEVER_MORE)

    async def close(self) -> None:
        if self.engine is not None:
            await self.engine.stop()
        await self.store.close()

    def spent(self) -> float:
        return _own_time()


class _APScheduler:
    """APScheduler 3 with 20 threads; nothing is dropped for being late, nothing is joined."""

    def _jobs(self, folder: Path) -> Any:
        raise NotImplementedError

    async def open(self, folder: Path) -> None:
        from apscheduler.executors.pool import ThreadPoolExecutor
        from apscheduler.schedulers.background import BackgroundScheduler

        self.scheduler = BackgroundScheduler(
            jobstores={"default": self._jobs(folder)},
            executors={"default": ThreadPoolExecutor(WORKERS)},
            job_defaults={"misfire_grace_time": None, "coalesce": False, "max_instances": SLOTS},
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

    async def run_now(self) -> None:
        self.scheduler.add_job("benchmarks.marks:nothing")

    async def go(self) -> None:
        self.scheduler.resume()

    async def close(self) -> None:
        self.scheduler.shutdown(wait=False)

    def spent(self) -> float:
        return _own_time()


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

    async def run_now(self) -> None:
        self.task()

    async def go(self) -> None:
        self.consumer = self.huey.create_consumer(
            workers=4, periodic=False, initial_delay=0.001, max_delay=0.01, scheduler_interval=1
        )
        self.consumer.start()

    async def close(self) -> None:
        if self.consumer is not None:
            self.consumer.stop(graceful=False)

    def spent(self) -> float:
        return _own_time()


class Saq:
    """SAQ on Redis, which appends each command to its file and flushes it; results kept."""

    async def open(self, folder: Path) -> None:
        from redis.exceptions import RedisError
        from saq import Queue

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        words = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
        words += ["--appendonly", "yes", "--appendfsync", "always"]
        self.redis = await asyncio.to_thread(subprocess.Popen, words, stdout=subprocess.DEVNULL)
        self.queue = Queue.from_url(f"redis://127.0.0.1:{port}")
        for _ in range(500):
            try:
                await self.queue.connect()
                await self.queue.redis.ping()
                break
            except (RedisError, OSError):
                await asyncio.sleep(0.02)
        else:
            raise RuntimeError("redis-server did not answer within ten seconds")
        self._working: asyncio.Task[None] | None = None

    async def _add(self, at: float) -> None:
        await self.queue.enqueue("nothing_saq", scheduled=int(at), ttl=86_400)

    async def add_due(self, count: int) -> None:
        for _ in range(count):
            await self._add(0)

    async def add_later(self, start: int, count: int) -> None:
        for _ in range(count):
            await self._add(time.time() + 365 * 86_400)

    async def add_ticks(self, count: int, first: int, seconds: int, *, spread: bool) -> None:
        for number in range(count * seconds):
            await self._add(first + number // count)

    async def run_now(self) -> None:
        await self._add(0)

    async def go(self) -> None:
        from saq import Worker

        worker: Any = Worker(self.queue, functions=[marks.nothing_saq], concurrency=WORKERS)
        self._working = asyncio.create_task(worker.start())

    async def close(self) -> None:
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait({self._working}, timeout=5)
        self.redis.terminate()
        self.redis.wait(10)

    def spent(self) -> float:
        ticks = Path(f"/proc/{self.redis.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
        return _own_time() + sum(map(int, ticks)) / 100


@dataclass(frozen=True, slots=True)
class Entry:
    """A subject in the tables."""

    key: str
    name: str
    make: type[Subject]
    keeps: str
    pace: int
    """About so many runs a second: how much work makes a measurement of some seconds."""
    needs: str = ""
    """A program without which it is left out."""
    recurs: bool = True
    """Whether a schedule of every second is registered once, or each of its runs by itself."""

    @property
    def is_here(self) -> bool:
        return not self.needs or shutil.which(self.needs) is not None


SUBJECTS: Final = (
    Entry("peregrine", "Peregrine, SQLite", Peregrine, "claim before the start, history after it, each flushed", 8_000),
    Entry("aps-sqlite", "APScheduler 3, SQLite", APSchedulerSqlite, "jobs on disk, no history", 400),
    Entry("aps-wal", "APScheduler 3, SQLite in WAL", APSchedulerWal, "jobs on disk, flushed rarely, no history", 1_500),
    Entry("aps-memory", "APScheduler 3, memory", APSchedulerMemory, "nothing: forgets all at its end", 6_000),
    Entry("huey", "huey, SQLite", Huey, "queue and results on disk", 1_200, recurs=False),
    Entry(
        "saq", "SAQ, Redis", Saq, "queue and results, each flushed", 1_500, needs="redis-server", recurs=False
    ),
)  # fmt: skip
