"""Owns a small world for engines: virtual time, one memory store behind a wire, fakes behind the other ports."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

from peregrine.coordination.memory import MemoryBus
from peregrine.domain.errors import Fault, Unavailable, Unsure
from peregrine.domain.event import Event
from peregrine.domain.execution import Claim, Execution, Outcome
from peregrine.domain.ids import ExecutionId, TaskId, WorkerId
from peregrine.domain.moment import SECOND, Duration, Moment
from peregrine.domain.occurrence import LedgerEntry
from peregrine.domain.payload import JsonObject, Payload
from peregrine.domain.query import ExecutionFilter, PageRequest
from peregrine.domain.task import Task, TaskView
from peregrine.engine.engine import Engine
from peregrine.engine.needs import Needs
from peregrine.engine.run import Run
from peregrine.engine.settings import EngineSettings
from peregrine.ports.executor import RunContext
from peregrine.ports.host import Instance
from peregrine.ports.store import WorkStore
from peregrine.stores.memory import MemoryStore
from peregrine.testing.builders import NOW, a_claim_request, a_new_execution, an_instance
from peregrine.testing.clock import ManualClock, SeededEntropy, run_virtual

P = ParamSpec("P")
Happened = TypeVar("Happened")
Work = Callable[[RunContext], Awaitable[Outcome]]
"""What an attempt does."""

SETTINGS = EngineSettings(slots=4, queue_size=100)
"""The service's own defaults, but for sizes."""


def virtual(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run the async *test* on virtual time; what a callback raises, which asyncio would only log, fails the test."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        complaints: list[str] = []

        async def main() -> None:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: complaints.append(str(context)))
            await test(*args, **kwargs)

        run_virtual(main())
        assert complaints == []

    return run


class Break(StrEnum):
    """What can go wrong on the way to the store and back."""

    BEFORE = "before"
    """It fails, and nothing was done."""
    UNSURE = "unsure"
    """It is done, and its answer is lost."""
    NEVER = "never"
    """Nothing is done, and no answer ever comes."""
    MUTE = "mute"
    """It is done, and no answer ever comes."""
    BUG = "bug"
    """The store raises what it must not."""
    CANCELLED = "cancelled"
    """What the driver waited for was cancelled, not by us."""


class Wire:
    """The way to a store: every verb counted; each can be slow, or be told to break."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.calls: Counter[str] = Counter()
        self.slow: dict[str, Duration] = {}
        """How long the answer of a verb is under way."""
        self.away = False
        self.asked: dict[str, Callable[..., object]] = {}
        """Called with the arguments of a verb before it is done; may raise."""
        self._breaks: dict[str, list[Break]] = defaultdict(list)

    def breaks(self, verb: str, how: Break, times: int = 1) -> None:
        """Let the next *times* calls of *verb* go wrong."""
        self._breaks[verb] += [how] * times

    def mends(self) -> None:
        """Let nothing go wrong any more."""
        self.away = False
        self._breaks.clear()
        self.slow.clear()

    def version(self) -> int:
        return self._store.version()

    def __getattr__(self, verb: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            self.calls[verb] += 1
            broken = self._breaks[verb].pop(0) if self._breaks[verb] else None
            match broken:
                case Break.BEFORE:
                    raise Unavailable("broken off before")
                case Break.BUG:
                    raise RuntimeError("the store has a bug")
                case Break.CANCELLED:
                    raise asyncio.CancelledError
                case Break.NEVER:
                    await asyncio.get_running_loop().create_future()
            if self.away:
                raise Unavailable("away")
            if verb in self.asked:
                self.asked[verb](*args, **kwargs)
            answer = await getattr(self._store, verb)(*args, **kwargs)
            if verb in self.slow:
                await moments(self.slow[verb])
            if broken is Break.UNSURE:
                raise Unsure("the answer is lost")
            if broken is Break.MUTE:
                await asyncio.get_running_loop().create_future()
            return answer

        return call


class Watcher:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def observe(self, event: Event) -> None:
        self.events.append(event)

    def told(self, kind: type[Happened]) -> list[Happened]:
        """All events of one *kind*, in order."""
        return [event for event in self.events if isinstance(event, kind)]


class Neighbours:
    """A host that knows which processes have ended."""

    def __init__(self) -> None:
        self.gone: set[WorkerId] = set()

    def is_gone(self, instance: Instance) -> bool:
        return instance.id in self.gone


@dataclass(frozen=True, slots=True)
class Start:
    """An attempt that began."""

    claim: Claim
    at: Moment


class Hands:
    """An executor that does what ``work`` says, and keeps which attempts began, ended and how many ran at once."""

    def __init__(self, work: Work, clock: ManualClock) -> None:
        self.work = work
        self.starts: list[Start] = []
        self.running: Counter[ExecutionId] = Counter()
        self.most_at_once = 0
        self._clock = clock

    @property
    def order(self) -> list[ExecutionId]:
        """The executions in the order in which their attempts began."""
        return [start.claim.execution_id for start in self.starts]

    def check(self, payload: Payload, parameters: JsonObject | None = None) -> Sequence[Fault]:
        return ()

    async def run(self, payload: Payload, context: RunContext) -> Outcome:
        claim = context.claim
        self.starts.append(Start(claim, self._clock.now()))
        self.running[claim.execution_id] += 1
        self.most_at_once = max(self.most_at_once, self.running.total())
        try:
            return await self.work(context)
        finally:
            self.running[claim.execution_id] -= 1


async def moments(milliseconds: Duration) -> None:
    """Let virtual time pass; like any wait, it ends when it is cancelled."""
    await ManualClock().advance(milliseconds)


def done(output: str = "done") -> Work:
    """Work that succeeds at once."""

    async def work(context: RunContext) -> Outcome:
        return Outcome.succeeded(output)

    return work


def lasting(milliseconds: Duration, outcome: Outcome | None = None) -> Work:
    """Work that takes a while and stops when told."""

    async def work(context: RunContext) -> Outcome:
        await moments(milliseconds)
        return outcome or Outcome.succeeded("done")

    return work


def saying(said: object) -> Work:
    """Work that ends at once with whatever *said* is, even if it is no outcome."""

    async def work(context: RunContext) -> Outcome:
        return cast(Outcome, said)

    return work


def raising(error: BaseException) -> Work:
    """Work that raises."""

    async def work(context: RunContext) -> Outcome:
        raise error

    return work


def stubborn(milliseconds: Duration) -> Work:
    """Work that takes a while and does not stop when told, however often."""

    async def work(context: RunContext) -> Outcome:
        until = asyncio.get_running_loop().time() + milliseconds / 1000
        while (rest := until - asyncio.get_running_loop().time()) > 0:
            try:
                await moments(round(rest * 1000) or 1)
            except asyncio.CancelledError:
                continue
        return Outcome.succeeded("too late")

    return work


def in_turn(*works: Work) -> Work:
    """The first attempt does the first of *works*, the second the second …; the last is repeated."""

    async def work(context: RunContext) -> Outcome:
        return await works[min(context.claim.attempt, len(works)) - 1](context)

    return work


@dataclass
class Hall:
    """One store, one clock, one bus, and engines on them. Make it inside the virtual loop."""

    settings: EngineSettings = SETTINGS
    work: Work = field(default_factory=done)
    clock: ManualClock = field(default_factory=lambda: ManualClock(NOW))
    store: MemoryStore = field(default_factory=MemoryStore)
    bus: MemoryBus = field(default_factory=MemoryBus)
    host: Neighbours = field(default_factory=Neighbours)

    def __post_init__(self) -> None:
        self.wire = Wire(self.store)
        self.watcher = Watcher()
        self.hands = Hands(self.work, self.clock)

    def needs(self, worker: str = "worker-1", **changes: Any) -> Needs:
        """What an engine or one step of it needs; *changes* stand over this hall's own."""
        needs = Needs(
            store=cast(WorkStore, self.wire),
            executor=self.hands,
            clock=self.clock,
            entropy=SeededEntropy(worker),
            bus=self.bus,
            host=self.host,
            observer=self.watcher,
            instance=an_instance(worker),
            settings=self.settings,
        )
        return replace(needs, **changes)

    def engine(self, worker: str = "worker-1", **changes: Any) -> Engine:
        """A whole engine that has not been started."""
        return Engine(self.needs(worker, **changes))

    @asynccontextmanager
    async def open(self, worker: str = "worker-1") -> AsyncIterator[Engine]:
        """A running engine, stopped in order at the end."""
        engine = self.engine(worker)
        await engine.start()
        yield engine
        await engine.stop()

    async def kill(self, engine: Engine) -> None:
        """Let the process of *engine* end at once and without a word, as ``kill -9`` does."""
        for one in engine._loops:
            if one._task is not None:
                one._task.cancel()
        for run in engine._pool.runs():
            if run._task is not None:
                run._task.cancel()
        self.host.gone.add(engine.instance.id)
        await asyncio.sleep(0)

    # ── what is stored ──

    async def queue(self, *ids: str, task_id: str = "task-1", **fields: Any) -> None:
        """Queue executions that somebody asked for."""
        for id in ids:
            fields = {"queued_at": self.clock.now(), "available_at": self.clock.now()} | fields
            await self.store.enqueue(a_new_execution(id, task_id, **fields), queue_limit=10_000)

    async def claim(self, worker: str = "worker-1", limit: int = 100) -> Sequence[Claim]:
        """Claim as *worker*, past any engine and any wire."""
        request = a_claim_request(limit, worker_id=WorkerId(worker), now=self.clock.now())
        return (await self.store.claim(request)).claims

    async def execution(self, id: str = "execution-1") -> Execution:
        """One execution as it is stored."""
        found = await self.store.get_execution(ExecutionId(id))
        assert found is not None
        return found

    async def executions(self) -> Sequence[Execution]:
        """All, oldest first."""
        page = await self.store.list_executions(ExecutionFilter(), PageRequest(size=100))
        return sorted(page.items, key=lambda e: (e.queued_at, e.id))

    async def view(self, task_id: str = "task-1") -> TaskView:
        """One task as it is stored."""
        found = await self.store.get_task(TaskId(task_id))
        assert found is not None
        return found

    async def ledger(self, task_id: str = "task-1") -> Sequence[LedgerEntry]:
        """What became of each moment of a task, oldest first."""
        entries: list[LedgerEntry] = []
        cursor: str | None = None
        while True:
            page = await self.store.list_occurrences(TaskId(task_id), PageRequest(size=100, cursor=cursor))
            entries += page.items
            cursor = page.next_cursor
            if cursor is None:
                return entries[::-1]

    async def change(self, task_id: str = "task-1", **changes: Any) -> Task:
        """Replace a definition, as the newest revision; what was due stays undecided."""
        view = await self.view(task_id)
        task = replace(view.task, **changes).changed(view.task, at=self.clock.now(), by="test")
        await self.store.put_task(task, expected_revision=view.task.revision)
        return task


class Ended:
    """Takes the outcomes that a pool gives."""

    def __init__(self) -> None:
        self.outcomes: list[tuple[Run, Outcome]] = []

    def __call__(self, run: Run, outcome: Outcome) -> None:
        self.outcomes.append((run, outcome))

    @property
    def outcome(self) -> Outcome:
        """The only one."""
        [(_, outcome)] = self.outcomes
        return outcome


LONG = 100 * SECOND
