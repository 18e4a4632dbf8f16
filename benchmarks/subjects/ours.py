"""Peregrine as a subject: its engine in this process, without HTTP."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from benchmarks import marks
from benchmarks.subjects.processes import own_memory, own_time

QUEUE_MAX: Final = 10**6
SLOTS: Final = 1_000
CALLS_AT_ONCE: Final = 100


class Peregrine:
    """The engine on SQLite as the service wires it: ``synchronous=FULL``, a claim on disk before each start."""

    slots = SLOTS

    async def open(self, folder: Path) -> None:
        from peregrine.app import interpreter
        from peregrine.coordination.clock import SystemClock, SystemEntropy
        from peregrine.coordination.host import ProcHost, this_instance
        from peregrine.coordination.memory import MemoryBus, MemoryLocks
        from peregrine.domain.ids import WorkerId
        from peregrine.engine.engine import Engine
        from peregrine.engine.needs import Needs
        from peregrine.engine.settings import EngineSettings
        from peregrine.executors.registry import Executors
        from peregrine.observers.metrics import MetricsObserver
        from peregrine.stores.sqlite.store import SqliteStore

        self.clock: Any = SystemClock()
        self.store = SqliteStore(folder / "store.sqlite3")
        self._bus = MemoryBus()
        self._number = 0
        # The store counts by days: whoever asks from this one on misses nothing when midnight passes.
        self._opened = self.clock.now()
        await self.store.open()
        self.engine = Engine(
            Needs(
                settings=EngineSettings(slots=self.slots, queue_size=QUEUE_MAX),
                instance=this_instance(id=WorkerId("bench"), version="bench", slots=self.slots, now=self._opened),
                store=self.store,
                executor=Executors(**await self._executors()),
                clock=self.clock,
                entropy=SystemEntropy(),
                bus=self._bus,
                locks=MemoryLocks(self.clock),
                host=ProcHost(),
                observer=MetricsObserver(),
            )
        )
        interpreter.tune()

    def _task(self, id: str, schedule: str, **more: Any) -> Any:
        from peregrine.domain.policy import Overlap, Policy
        from peregrine.testing.builders import a_task

        now = self.clock.now()
        return a_task(
            id,
            schedule=schedule,
            **self._work(),
            policy=Policy(overlap=Overlap.ALLOW),
            **({"created_at": now, "updated_at": now, "anchor": now} | more),
        )

    def _work(self) -> dict[str, Any]:
        """What a task does."""
        from peregrine.domain.payload import FunctionPayload

        return {"payload": FunctionPayload(function_name="nothing")}

    async def _executors(self) -> dict[str, Any]:
        """Who does it."""
        from peregrine.executors.callables import FUNCTIONS, function
        from peregrine.executors.function import FunctionExecutor
        from peregrine.executors.isolation import ChildProcesses, IsolationSettings

        function(module="", name="nothing", registry=FUNCTIONS)(marks.nothing_async)
        children = ChildProcesses(IsolationSettings(modules=(), processes_max=1, idle_min=0, env={}))
        return {"function": FunctionExecutor(FUNCTIONS, children=children, clock=self.clock)}

    async def tasks(self) -> list[Any]:
        """The hundred tasks of which something may wait."""
        tasks = [self._task(f"t{n}", "@manual") for n in range(100)]
        if await self.store.get_task(tasks[0].id) is None:
            await self.store.create_tasks(tasks)
        return tasks

    async def add_due(self, count: int) -> None:
        await self.tasks()
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
            like = self._task("later", at)
            names = [f"later{n}" for n in range(first, min(first + 1_000, start + count))]
            await self.store.create_tasks([replace(like, id=name, name=f"name of {name}") for name in names])

    async def add_soon(self) -> None:
        """Register one that falls due a second from now."""
        at = datetime.fromtimestamp(self.clock.now() / 1_000 + 1, UTC)
        await self.store.create_tasks([self._task("soon", f"@at {at:%Y-%m-%dT%H:%M:%S}Z")])

    async def add_ticks(self, count: int, first: int, seconds: int, *, spread: bool) -> None:
        if spread:
            # A schedule has whole seconds; what falls due between them is asked for with its moment.
            from peregrine.testing.builders import a_new_execution

            await self.store.create_tasks([self._task(f"t{first}", "@manual")])
            total = count * seconds
            new = [
                a_new_execution(
                    f"s{first}-{n}",
                    f"t{first}",
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

    async def run_now(self) -> float:
        from peregrine.ports.bus import Topic

        if self._number == 0:
            await self.store.create_tasks([self._task("now", "@manual")])
        asked = time.time()
        await self._ask("now")
        self._bus.publish(Topic.QUEUED)
        return asked

    async def go(self) -> None:
        await self.engine.start()

    async def recorded(self) -> int:
        """How many runs stand in the store as completed since the day on which it was opened."""
        return (await self.store.statistics(self._opened)).completed_today

    async def until_recorded(self, count: int) -> None:
        """Wait until so many do."""
        while await self.recorded() < count:  # noqa: ASYNC110 - the store has no bell for this
            await asyncio.sleep(marks.NEVER_MORE)

    async def close(self) -> None:
        await self.engine.stop()
        await self.store.close()

    def spent(self) -> float:
        return own_time()

    def memory(self) -> float:
        return own_memory()


class PeregrineCalls(Peregrine):
    """The same with tasks of type ``http``, so many at once as the bare client that it is measured beside."""

    slots = CALLS_AT_ONCE

    def __init__(self, url: str) -> None:
        self._url = url

    def _work(self) -> dict[str, Any]:
        from peregrine.domain.payload import HttpPayload, Kind

        return {"kind": Kind.HTTP, "payload": HttpPayload(url=self._url)}

    async def _executors(self) -> dict[str, Any]:
        from peregrine.executors.egress import Egress
        from peregrine.executors.http import HttpExecutor

        self._http = HttpExecutor(Egress([urlsplit(self._url).netloc]), self.clock, version="bench")
        await self._http.open()
        return {"http": self._http}

    async def close(self) -> None:
        await super().close()
        await self._http.close()
