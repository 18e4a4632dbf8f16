"""Peers that keep all in Redis: SAQ and Taskiq work in this process, Celery and RQ in processes of their own.

Redis appends each command to its file and flushes it before it answers (``appendfsync always``).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from benchmarks import marks
from benchmarks.subjects.processes import Helpers, own_memory, own_time

WORKERS: Final = 20
AT_ONCE: Final = 100
DAY: Final = 86_400
YEAR: Final = 365 * DAY
REDIS: Final = "BENCH_REDIS"
BEAT: Final = "BENCH_BEAT"
"""How many tasks beat shall have, and the first second on which they fall due: as JSON."""
READY_WITHIN: Final = 20.0


async def redis_server(helpers: Helpers, *settings: str) -> int:
    """The port of a Redis that is started with these and answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    words = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(helpers.folder), "--save", ""]
    helpers.start([*words, *settings])
    until = time.monotonic() + READY_WITHIN
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"PING\r\n")
            said = await reader.readline()
            writer.close()
            if said == b"+PONG\r\n":
                return port
        except OSError:
            pass
        if time.monotonic() > until:
            raise SystemExit(f"redis-server did not answer within {READY_WITHIN:.0f} seconds")
        await asyncio.sleep(0.02)


class OnRedis:
    """A Redis server of its own, flushed at each command, and what works beside it."""

    works_here = True
    """Whether runs happen in this process, so that its time and memory count."""

    async def open(self, folder: Path) -> None:
        self.helpers = Helpers(folder)
        self.port = await redis_server(self.helpers, "--appendonly", "yes", "--appendfsync", "always")
        self.url = f"redis://127.0.0.1:{self.port}"
        await self._begin(folder)

    async def _begin(self, folder: Path) -> None:
        raise NotImplementedError

    async def _add(self, at: float) -> None:
        """One run, due at a moment; 0: at once."""
        raise NotImplementedError

    async def add_due(self, count: int) -> None:
        for _ in range(count):
            await self._add(0)

    async def add_later(self, start: int, count: int) -> None:
        for _ in range(count):
            await self._add(time.time() + YEAR)

    async def add_ticks(self, count: int, first: int, seconds: int, *, spread: bool) -> None:
        # How fast this goes is no part of the scene, so many are asked for at once.
        for second in range(first, first + seconds):
            for start in range(0, count, AT_ONCE):
                await asyncio.gather(*(self._add(second) for _ in range(min(AT_ONCE, count - start))))

    async def run_now(self) -> float:
        asked = time.time()
        await self._add(0)
        return asked

    async def close(self) -> None:
        self.helpers.stop()

    def spent(self) -> float:
        return self.helpers.spent() + (own_time() if self.works_here else 0)

    def memory(self) -> float:
        return self.helpers.memory() + (own_memory() if self.works_here else 0)


async def _cancelled(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=5)


class Saq(OnRedis):
    """Results kept for a day."""

    async def _begin(self, folder: Path) -> None:
        from saq import Queue

        self.queue = Queue.from_url(self.url)
        await self.queue.connect()
        self._working: list[asyncio.Task[None]] = []

    async def _add(self, at: float) -> None:
        await self.queue.enqueue("nothing_saq", scheduled=int(at), ttl=DAY)

    async def go(self) -> None:
        from saq import Worker

        worker: Any = Worker(self.queue, functions=[marks.nothing_saq], concurrency=WORKERS)
        self._working = [asyncio.create_task(worker.start())]

    async def close(self) -> None:
        await _cancelled(self._working)
        await super().close()


class Taskiq(OnRedis):
    """A stream as the queue, acknowledged after each run; results kept for a day; schedules looked at each second."""

    async def _begin(self, folder: Path) -> None:
        from taskiq_redis import ListRedisScheduleSource, RedisAsyncResultBackend, RedisStreamBroker

        kept: Any = RedisAsyncResultBackend(self.url, result_ex_time=DAY)
        self.broker = RedisStreamBroker(self.url).with_result_backend(kept)
        self.source = ListRedisScheduleSource(self.url)
        self.task = self.broker.task(task_name="nothing")(marks.nothing_async)
        await self.broker.startup()
        await self.source.startup()
        self._working: list[asyncio.Task[None]] = []

    async def _add(self, at: float) -> None:
        if at:
            await self.task.schedule_by_time(self.source, datetime.fromtimestamp(at, UTC))
        else:
            await self.task.kiq()

    async def go(self) -> None:
        from taskiq import TaskiqScheduler
        from taskiq.api import run_receiver_task, run_scheduler_task

        scheduler = TaskiqScheduler(self.broker, [self.source])
        self._working = [
            asyncio.create_task(run_receiver_task(self.broker)),
            asyncio.create_task(run_scheduler_task(scheduler, interval=timedelta(seconds=1))),
        ]

    async def close(self) -> None:
        await _cancelled(self._working)
        with contextlib.suppress(Exception):  # its server ends next; what it says about that is nobody's concern
            await self.broker.shutdown()
        await super().close()


class Celery(OnRedis):
    """Beat and a worker with a process for each core, as they come; results kept for a day."""

    works_here = False

    async def _begin(self, folder: Path) -> None:
        from benchmarks.workers.celery_app import app_of

        self.app = app_of(self.url)
        self._environment = marks.listen(folder) | {REDIS: self.url}
        # It listens to nobody until it is told to, so that its start counts for no scene.
        self._start("worker", "--queues", "nobody", "--loglevel", "ERROR")
        await asyncio.to_thread(self._until_ready)

    def _start(self, *words: str) -> None:
        self.helpers.start(["python", "-m", "celery", "-A", "benchmarks.workers.celery_app", *words], self._environment)

    def _until_ready(self) -> None:
        until = time.monotonic() + READY_WITHIN
        while not self.app.control.ping(timeout=0.2):
            if time.monotonic() > until:
                raise SystemExit(f"the worker was not there within {READY_WITHIN:.0f} seconds")

    async def _add(self, at: float) -> None:
        self.app.send_task("nothing", eta=datetime.fromtimestamp(at, UTC) if at else None)

    async def add_ticks(self, count: int, first: int, seconds: int, *, spread: bool) -> None:
        self._environment[BEAT] = json.dumps([count, first])
        schedule = str(self.helpers.folder / "beat")
        self._start("beat", "--loglevel", "ERROR", "--schedule", schedule, "--pidfile", "")

    async def go(self) -> None:
        told = await asyncio.to_thread(
            self.app.control.add_consumer, "celery", reply=True, timeout=READY_WITHIN, limit=1
        )
        if not told:
            raise SystemExit("the worker did not take its queue")


class Rq(OnRedis):
    """One worker as it comes, which forks for each run, with its scheduler; results kept for a day."""

    works_here = False
    worker = "rq.Worker"

    async def _begin(self, folder: Path) -> None:
        from redis import Redis
        from rq import Queue

        self._environment = marks.listen(folder)
        self.queue = Queue(connection=Redis(port=self.port), default_timeout=DAY)
        self.queue.enqueue("benchmarks.marks.wait_at_gate", result_ttl=DAY)
        words = [
            "worker",
            "--url",
            self.url,
            "--worker-class",
            self.worker,
            "--with-scheduler",
            "--quiet",
            "--path",
            ".",
        ]
        self.helpers.start(["python", "-m", "rq.cli", *words], self._environment)

    async def _add(self, at: float) -> None:
        if at:
            self.queue.enqueue_at(datetime.fromtimestamp(at, UTC), "benchmarks.marks.nothing_far", result_ttl=DAY)
        else:
            self.queue.enqueue("benchmarks.marks.nothing_far", result_ttl=DAY)

    async def go(self) -> None:
        marks.open_gate(self._environment)


class RqSimple(Rq):
    """The worker that runs in its own process instead."""

    worker = "rq.SimpleWorker"
