"""Owns the pool of child processes that functions run in; must not know functions, tasks or outcomes.

One interpreter per call would cost a tenth of a second each; so a child takes many calls, one at a time, and one idle
child is kept warm. A call that was cancelled, crashed, or left processes behind ends its child: the next call starts
clean. What is too many waits here, in order, and its deadline goes on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from peregrine.domain.moment import SECOND, Duration
from peregrine.domain.payload import JsonObject
from peregrine.executors.answer import Answer
from peregrine.executors.childprocess import ChildProcess, StartFailed
from peregrine.executors.hearing import Hearing

GRACE: Final[Duration] = SECOND
"""Less than the engine's own patience with a run that was told to stop (1.5 s), so a kill is over before that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IsolationSettings:
    """Sizes and times of the pool; durations in milliseconds.

    ``modules`` are imported by every child at its start. ``processes_max`` calls run at once (as many as the engine has
    slots, or a busy one delays the others). ``nice``: a child that never pauses still leaves the service three
    quarters of a contended core. ``env`` None: the service's own environment.
    """

    modules: tuple[str, ...] = ()
    processes_max: int = 10
    idle_min: int = 1
    idle_for: Duration = 60 * SECOND
    calls_max: int = 1000
    grace: Duration = GRACE
    start_within: Duration = 60 * SECOND
    nice: int = 5
    env: Mapping[str, str] | None = None


class ChildProcesses:
    """Runs calls in child processes. ``close`` must be awaited at the end; ``start`` only saves a wait."""

    def __init__(self, settings: IsolationSettings | None = None) -> None:
        self.settings: Final = settings or IsolationSettings()
        self._room = asyncio.Semaphore(self.settings.processes_max)
        self._idle: deque[ChildProcess] = deque()
        self._busy: set[ChildProcess] = set()
        self._work: set[asyncio.Task[None]] = set()
        self._starting = 0
        self._hoping: deque[asyncio.Future[ChildProcess | None]] = deque()
        self._may_warm = True
        self._shrink: asyncio.TimerHandle | None = None
        self._is_closed = False

    @property
    def idle(self) -> int:
        """Children that wait for a call."""
        return len(self._idle)

    @property
    def starting(self) -> int:
        """Spare children that are not ready yet."""
        return self._starting

    @property
    def busy(self) -> int:
        """Children in a call, or on their way into or out of one."""
        return len(self._busy)

    async def start(self) -> None:
        """Warm the first children.

        Raises:  StartFailed: better now than at the first call.
        """
        for _ in range(self.settings.idle_min - len(self._idle)):
            self._shelve(await self._started())

    async def call(self, request: JsonObject, hearing: Hearing) -> Answer:
        """What the call came to. A cancel tells the child to stop; a second one kills it without grace.

        Raises:  StartFailed.
        """
        async with self._room:
            child = await self._taken()
            try:
                answer = await child.call(request, hearing)
            except BaseException:
                await self._end(child)
                raise
            self._give_back(child)
            return answer

    async def close(self) -> None:
        """Stop every child, busy ones too, and hold nothing any more."""
        self._is_closed = True
        if self._shrink is not None:
            self._shrink.cancel()
        for child in self._busy:
            self._retire(child)
        self._empty()
        while self._work:
            await asyncio.wait(self._work)

    # ── taking and giving back ───────────────────────────────────────────────────────────────────

    async def _taken(self) -> ChildProcess:
        while self._idle and not self._idle[-1].is_alive:
            self._retire(self._idle.pop())
        if self._idle:
            child = self._idle.pop()
        else:
            child = await self._hoped_for() or await self._started()
        self._busy.add(child)
        self._warm()
        return child

    async def _hoped_for(self) -> ChildProcess | None:
        """A spare that is on its way and promised to nobody; None: there is none, or it did not come."""
        if len(self._hoping) >= self._starting:
            return None
        hope: asyncio.Future[ChildProcess | None] = asyncio.get_running_loop().create_future()
        self._hoping.append(hope)
        try:
            return await hope
        except asyncio.CancelledError:
            if hope.done() and not hope.cancelled() and (child := hope.result()) is not None:
                self._shelve(child)
            raise

    async def _started(self) -> ChildProcess:
        self._refuse_if_closed()
        self._may_warm = False
        child = ChildProcess(nice=self.settings.nice, env=self.settings.env)
        try:
            async with asyncio.timeout(self.settings.start_within / SECOND):
                await child.ready(self.settings.modules)
            self._refuse_if_closed()
        except TimeoutError:
            await self._end(child)
            raise StartFailed("a function process took too long to import the functions") from None
        except BaseException:
            await self._end(child)
            raise
        self._may_warm = True
        return child

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise StartFailed("the service is stopping")

    def _give_back(self, child: ChildProcess) -> None:
        self._busy.discard(child)
        if self._is_closed:
            return  # It is being stopped already.
        if not child.is_reusable or child.calls >= self.settings.calls_max:
            self._retire(child)
            self._warm()
        else:
            self._shelve(child)

    def _shelve(self, child: ChildProcess) -> None:
        self._idle.append(child)
        if self._is_closed:
            self._empty()
        elif self._shrink is None and len(self._idle) > self.settings.idle_min:
            loop = asyncio.get_running_loop()
            self._shrink = loop.call_later(self.settings.idle_for / SECOND, self._let_go)

    def _let_go(self) -> None:
        """Retire what has been idle longest: the deque is used from its other end."""
        self._shrink = None
        for _ in range(len(self._idle) - self.settings.idle_min):
            self._retire(self._idle.popleft())

    # ── starting and ending beside the calls ─────────────────────────────────────────────────────

    def _warm(self) -> None:
        """Start a spare child, unless the last start failed: then each call tries for itself, and says so."""
        if self._may_warm and not self._is_closed and len(self._idle) + self._starting < self.settings.idle_min:
            self._starting += 1
            self._spawn(self._start_spare())

    async def _start_spare(self) -> None:
        child = None
        try:
            with suppress(StartFailed):
                child = await self._started()
        finally:
            self._starting -= 1
        while self._hoping:
            hope = self._hoping.popleft()
            if not hope.done():
                hope.set_result(child)
                return
        if child is not None:
            self._shelve(child)

    def _empty(self) -> None:
        while self._idle:
            self._retire(self._idle.pop())

    def _retire(self, child: ChildProcess) -> None:
        self._spawn(child.stop(self.settings.grace))

    async def _end(self, child: ChildProcess) -> None:
        """Stop *child*; told again meanwhile (the caller is cancelled twice), kill it and leave the rest behind."""
        self._busy.add(child)
        ending = self._spawn(child.stop(self.settings.grace))
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:
            child.deafen()
            child.kill()
            raise
        finally:
            self._busy.discard(child)
            self._warm()

    def _spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        return task
