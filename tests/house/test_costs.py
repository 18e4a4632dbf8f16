"""What a thousand executions may cost, in counts that no noisy machine can blur; a loss of speed shows here first.

The real engine on the real store: steps of SQLite's machine, statements and commits; calls of ours on the loop's
thread; memory. The clock stands still, so exactly what was made due is due.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import tracemalloc
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

import aiohttp
import pytest

from peregrine.coordination.host import ProcHost
from peregrine.coordination.memory import MemoryBus
from peregrine.domain.errors import Fault
from peregrine.domain.event import Event, Settled
from peregrine.domain.execution import Outcome
from peregrine.domain.moment import MINUTE, Moment
from peregrine.domain.payload import HttpPayload, JsonObject, Payload
from peregrine.domain.query import PageRequest, TaskFilter, TaskSort
from peregrine.domain.trigger import CronRule
from peregrine.engine.engine import Engine
from peregrine.engine.needs import Needs
from peregrine.engine.settings import EngineSettings
from peregrine.executors.egress import Egress
from peregrine.executors.http import HttpExecutor
from peregrine.executors.request import Draft
from peregrine.observers.metrics import MetricsObserver
from peregrine.ports.executor import RunContext
from peregrine.stores.sqlite import care
from peregrine.stores.sqlite.store import SqliteStore
from peregrine.testing.builders import NOW, a_claim_request, a_new_execution, a_parallel_task, an_instance
from peregrine.testing.clock import SeededEntropy
from peregrine.testing.executor_contract import example_context
from peregrine.testing.http_target import HttpTarget
from tests.stores.sqlite_places import CountedStore

COUNT: Final = 1_000
SLOTS: Final = 1_000
DUE: Final = NOW + MINUTE
"""The one moment at which every task of these tests is due."""


class StandingClock:
    """A clock that stands still."""

    def now(self) -> Moment:
        return DUE

    def monotonic(self) -> int:
        return DUE


class Nothing:
    """An executor that does nothing, at once."""

    def check(self, payload: Payload, parameters: JsonObject | None = None) -> tuple[Fault, ...]:
        return ()

    async def run(self, payload: Payload, context: RunContext) -> Outcome:
        return Outcome.succeeded()


class Told(MetricsObserver):
    """The service's own numbers, and a bell when so many attempts were stored."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.all_stored = asyncio.Event()
        self._left = count

    def observe(self, event: Event) -> None:
        super().observe(event)
        if isinstance(event, Settled):
            self._left -= len(event.settlements)
            if self._left <= 0:
                self.all_stored.set()


@dataclass(slots=True)
class Calls:
    """How often each function of Python was called, by its code."""

    of: Counter[CodeType] = field(default_factory=Counter)

    @property
    def ours(self) -> int:
        """Calls of the package's own functions."""
        return self.within("/peregrine/")

    def within(self, folder: str) -> int:
        """Calls of the functions in a folder's files."""
        return sum(count for code, count in self.of.items() if folder in code.co_filename)

    def to(self, function: Any) -> int:
        """Calls of *function*."""
        return self.of[function.__code__]

    @property
    def all(self) -> int:
        """Calls of anybody's functions."""
        return self.of.total()


@contextmanager
def counted() -> Iterator[Calls]:
    """Count the calls of this thread."""
    calls = Calls()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            calls.of[frame.f_code] += 1

    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(None)


def with_store(tmp_path: Path, test: Callable[[CountedStore], Awaitable[None]]) -> None:
    """Run *test* on a new store."""

    async def main() -> None:
        store = CountedStore(tmp_path / "store.sqlite3")
        await store.open()
        try:
            await test(store)
        finally:
            await store.close()

    asyncio.run(main())


async def make_due(store: SqliteStore, name: str, count: int = COUNT) -> None:
    """Register tasks that fall due once while the clock stands."""
    await store.create_tasks([a_parallel_task(f"{name}-{n}", schedule="0 1 12 * * *") for n in range(count)])


async def make_later(store: SqliteStore, name: str, count: int) -> None:
    """Register tasks that are not due."""
    await store.create_tasks([a_parallel_task(f"{name}-{n}", schedule="0 0 3 * * *") for n in range(count)])


async def work_off(store: CountedStore, count: int = COUNT) -> None:
    """Let an engine live until so many attempts are stored."""
    told = Told(count)
    engine = Engine(
        Needs(
            settings=EngineSettings(slots=SLOTS, queue_size=10 * COUNT),
            instance=an_instance("worker-1"),
            store=store,
            executor=Nothing(),
            clock=StandingClock(),
            entropy=SeededEntropy(1),
            bus=MemoryBus(),
            host=ProcHost(),
            observer=told,
        )
    )
    await engine.start()
    async with asyncio.timeout(30):
        await told.all_stored.wait()
    await engine.stop()


async def ask_for(store: SqliteStore, name: str) -> None:
    """Queue one execution more of each task that ``make_due`` registered as *name* "task"."""
    waits = {"queued_at": DUE, "available_at": DUE}
    new = [a_new_execution(f"{name}-{n}", f"task-{n}", **waits) for n in range(COUNT)]
    await asyncio.gather(*(store.enqueue(one, queue_limit=10 * COUNT) for one in new))


def test_an_execution_is_planned_claimed_and_settled_in_few_steps(tmp_path: Path) -> None:
    """Each statement works off many: for a thousand there are some 80 that write, not thousands (decision 0112). A busy
    machine splits turns, so there may be a few times as many."""

    async def test(store: CountedStore) -> None:
        await make_due(store, "task")

        store.forget()

        await work_off(store)

        assert store.ran["INSERT"] + store.ran["UPDATE"] <= COUNT // 4
        assert store.ran.total() <= COUNT // 2
        assert store.ran["COMMIT"] <= 25
        assert store.writing <= 500 * COUNT

    with_store(tmp_path, test)


def test_an_execution_takes_few_calls_on_the_loop(tmp_path: Path) -> None:
    """Its cron is asked for the moment that is due and for the one after; only the run itself is a task of asyncio."""

    async def test(store: CountedStore) -> None:
        await make_due(store, "task")
        made: list[asyncio.Task[Any]] = []

        def make(loop: asyncio.AbstractEventLoop, work: Any, **more: Any) -> asyncio.Task[Any]:
            made.append(asyncio.Task(work, loop=loop, **more))
            return made[-1]

        asyncio.get_running_loop().set_task_factory(make)
        with counted() as calls:
            await work_off(store)

        assert calls.to(CronRule.next_after) <= 2 * COUNT
        assert len(made) <= COUNT + 60
        assert calls.ours <= 65 * COUNT
        assert calls.all <= 96 * COUNT

    with_store(tmp_path, test)


def test_an_http_task_is_read_once_and_sent_in_few_calls() -> None:
    """What depends on the task alone is made for its first attempt; of the client, only what hears and keeps is used.
    Also with placeholders nothing but them is made anew."""

    async def test() -> None:
        clock = StandingClock()
        async with HttpTarget() as target:
            executor = HttpExecutor(Egress(["127.0.0.1"]), clock, version="1")
            plain = HttpPayload(url=target.url("/ok"), headers=(("Authorization", "Bearer abcdefgh"),))
            filled = replace(plain, url=target.url("/ok?id={{ execution.id }}"), method="POST", body='{"a": 1}')
            for payload, most in ((plain, 55), (filled, 96)):
                context = example_context(payload, clock)
                await executor.run(payload, context)
                with counted() as calls:
                    for _ in range(100):
                        assert (await executor.run(payload, context)).error is None

                assert calls.within("/executors/") <= most * 100
                assert calls.within("/aiohttp/") <= 44 * 100
                once = (Draft.__init__, Egress._foresee, aiohttp.ClientRequest.__init__)
                assert [calls.to(function) for function in once] == [0, 0, 0]
            assert target.accepted == 1
            await executor.close()

    asyncio.run(test())


def test_a_history_makes_no_execution_dearer(tmp_path: Path) -> None:
    async def test(store: CountedStore) -> None:
        await make_due(store, "task")
        await work_off(store)

        steps = []
        for name in ("first", "second", "third"):
            await ask_for(store, name)
            store.forget()
            await work_off(store)
            steps.append(store.writing)

        # A busy machine splits turns, and each has its own steps; what grew with history would double here.
        assert max(steps) <= 1.2 * min(steps)

    with_store(tmp_path, test)


def test_what_comes_later_makes_no_claim_dearer(tmp_path: Path) -> None:
    """Neither the claim nor the look for the next moment walks over the retries and the far-off of the next minutes."""

    async def test(store: CountedStore) -> None:
        await store.create_tasks([a_parallel_task("task-1")])
        steps = []
        for later in (1, COUNT):
            new = [
                a_new_execution(f"{later}-{n}", "task-1", queued_at=DUE, available_at=DUE + 30_000 + n)
                for n in range(later)
            ]
            await asyncio.gather(*(store.enqueue(one, queue_limit=10 * COUNT) for one in new))
            now = a_new_execution(f"{later}-now", "task-1", queued_at=DUE, available_at=DUE)
            await store.enqueue(now, queue_limit=10 * COUNT)
            store.forget()
            claims = (await store.claim(a_claim_request(10, now=DUE))).claims
            steps.append(store.writing)
            assert [claim.execution_id for claim in claims] == [now.id]

        assert steps[1] <= steps[0] + 50

    with_store(tmp_path, test)


def test_tasks_that_are_not_due_are_not_looked_at(tmp_path: Path) -> None:
    async def test(store: CountedStore) -> None:
        looks = []
        for name, count in (("few", 50), ("many", 2 * COUNT)):
            await make_later(store, name, count)
            store.forget()
            await store.due(DUE, COUNT)
            looks.append(store.reading)

        assert looks[0] == looks[1] <= 100

    with_store(tmp_path, test)


def test_no_task_that_is_not_due_delays_the_first_run(tmp_path: Path) -> None:
    """The lane that tells the planner what is due does nothing else for them. They are looked at once, beside it."""

    async def test(store: CountedStore) -> None:
        looks = []
        for name, count in (("few", 50), ("many", 2 * COUNT)):
            await make_later(store, name, count)
            await make_due(store, f"{name}-due", 1)
            store.forget()
            await work_off(store, 1)
            looks.append(store.looking)

        # Some 150; a busy machine takes a look or two more.
        assert max(looks) <= 500

    with_store(tmp_path, test)


def test_tasks_are_counted_and_listed_in_the_same_steps_however_many(tmp_path: Path) -> None:
    async def test(store: CountedStore) -> None:
        steps, totals = [], []
        for name, count in (("few", 50), ("many", 2 * COUNT)):
            await make_later(store, name, count)
            page = PageRequest(size=50)
            await store.list_tasks(TaskFilter(), page, sort=TaskSort.UPDATED_AT, descending=True, now=DUE)
            store.forget()
            told = await store.statistics(DUE)
            listed = await store.list_tasks(TaskFilter(), page, sort=TaskSort.UPDATED_AT, descending=True, now=DUE)
            steps.append(store.reading)
            totals += [told.total_tasks, listed.total]

        assert totals == [50, 50, 50 + 2 * COUNT, 50 + 2 * COUNT]
        assert abs(steps[0] - steps[1]) <= 20
        assert max(steps) <= 4_000

    with_store(tmp_path, test)


def test_the_few_system_tasks_are_found_in_the_same_steps_however_many_others(tmp_path: Path) -> None:
    """They are looked for at every start."""

    async def test(store: CountedStore) -> None:
        some = [a_parallel_task(f"system-{n}", is_system=True) for n in range(3)]
        await store.create_tasks(some)
        filter, page, steps = TaskFilter(is_system=True), PageRequest(), []
        for name, count in (("few", 50), ("many", 2 * COUNT)):
            await make_later(store, name, count)
            store.forget()
            found = await store.list_tasks(filter, page, sort=TaskSort.NAME, descending=False, now=DUE)
            steps.append(store.reading)
            assert [view.task for view in found.items] == some

        assert abs(steps[0] - steps[1]) <= 50
        assert max(steps) <= 1_000

    with_store(tmp_path, test)


def test_strayed_cursors_are_looked_for_in_few_steps_a_task_and_some_tasks_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(care, "LOOK_TASKS", 100)
    most = []

    async def test(store: CountedStore) -> None:
        run = store._readers.run

        async def watched(operation: Callable[[Any], Any], **how: bool) -> Any:
            before = store.reading
            found = await run(operation, **how)
            most.append(store.reading - before)
            return found

        monkeypatch.setattr(store._readers, "run", watched)
        await make_later(store, "later", COUNT)
        store.forget()

        assert await store.reanchor(beyond=DUE, now=DUE) == 0

        assert len(most) >= COUNT // 100
        assert max(most) <= 100 * 6
        assert store.reading <= COUNT * 6
        assert store.writing == store.looking == 0

    with_store(tmp_path, test)


def test_tasks_registered_together_take_few_statements_each(tmp_path: Path) -> None:
    """Its number, its definition, what lists look at, where its schedule stands; each with the count that it moves."""

    async def test(store: CountedStore) -> None:
        tasks = [a_parallel_task(f"task-{n}", schedule="0 0 3 * * *") for n in range(COUNT)]
        store.forget()

        with counted() as calls:
            await store.create_tasks(tasks)

        assert store.ran["INSERT"] == 4 * COUNT
        assert store.ran.total() <= 4 * COUNT + 20
        assert store.writing <= 320 * COUNT
        assert calls.ours <= 20

    with_store(tmp_path, test)


def test_an_execution_takes_little_memory_and_leaves_none(tmp_path: Path) -> None:
    async def test(store: CountedStore) -> None:
        await make_due(store, "task")
        await work_off(store)
        await ask_for(store, "first")
        gc.collect()
        before = sys.getallocatedblocks()
        tracemalloc.start()
        await work_off(store)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        gc.collect()

        assert most <= 5_000 * COUNT
        assert sys.getallocatedblocks() - before <= COUNT // 2

    with_store(tmp_path, test)
