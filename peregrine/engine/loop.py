"""Owns how a background loop lives: turn, wait or be woken, survive failures, start and stop. Must not know tasks.

A loop looks by itself at least every *poll*; a wake only makes it look sooner. A turn that can't reach the store is
repeated with a growing pause; one that raises something unforeseen is a bug: it is told, and the loop goes on, since a
scheduler that stands still at 3 a.m. is worse than one that logs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from peregrine.domain.errors import Unavailable
from peregrine.domain.event import Event, LoopCrashed, StoreAnswered, StoreFailed
from peregrine.domain.moment import SECOND, Duration
from peregrine.ports.clock import Clock
from peregrine.ports.observer import Observer

FIRST_PAUSE: Final[Duration] = 50
"""Pause after the first failed turn; doubles up to ``poll``."""


class Loop:
    """One background loop around *turn*, which does one look and returns how long to wait at most until the next."""

    def __init__(
        self,
        name: str,
        turn: Callable[[], Awaitable[Duration]],
        *,
        clock: Clock,
        observer: Observer,
        poll: Duration = SECOND,
    ) -> None:
        self.name = name
        self.failing_since: int | None = None
        """Steady-clock moment of the first failed turn in a row; None while turns succeed."""
        self.failure: str = ""
        self._turn = turn
        self._clock = clock
        self._observer = observer
        self._poll = poll
        self._failures = 0
        self._woken = False
        self._waiter: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    def start(self) -> None:
        """Begin turning; a second call does nothing."""
        if self._task is None:
            self._stopping = False
            self._task = asyncio.get_running_loop().create_task(self._run(), name=f"peregrine-{self.name}")

    def wake(self) -> None:
        """Look as soon as possible; during a turn: once more after it."""
        self._woken = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def stop(self, within: Duration = 10 * SECOND) -> None:
        """Let the turn under way finish (cancel it after *within*) and end; safe twice and safe never started."""
        task, self._task = self._task, None
        if task is None:
            return
        self._stopping = True
        self.wake()
        done, _ = await asyncio.wait({task}, timeout=within / 1000)
        if not done:
            task.cancel()
            await asyncio.wait({task}, timeout=within / 1000)

    async def _run(self) -> None:
        while not self._stopping:
            self._woken = False
            await self._wait(await self._guarded_turn())

    async def _guarded_turn(self) -> Duration:
        try:
            pause = await self._turn()
        except Unavailable as error:
            return self._failed(StoreFailed(self.name, str(error)), str(error))
        except Exception as error:  # the last line of defence: told, never hidden, and the loop goes on
            text = f"{type(error).__name__}: {error}"
            return self._failed(LoopCrashed(self.name, text), text, error)
        if self.failing_since is not None:
            self._tell(StoreAnswered(self.name, self._clock.monotonic() - self.failing_since))
            self.failing_since, self.failure, self._failures = None, "", 0
        return min(pause, self._poll)

    def _failed(self, event: Event, text: str, error: BaseException | None = None) -> Duration:
        if self.failing_since is None:
            self.failing_since = self._clock.monotonic()
        if self.failure != text or error is not None:
            self._tell(event)
        self.failure = text
        self._failures += 1
        self._woken = False
        return min(FIRST_PAUSE << min(self._failures - 1, 16), self._poll)

    async def _wait(self, pause: Duration) -> None:
        if self._woken or self._stopping or pause <= 0:
            # Even a loop with work without end lets the others breathe.
            await asyncio.sleep(0)
            return
        running = asyncio.get_running_loop()
        self._waiter = running.create_future()
        timer = running.call_later(pause / 1000, self._expire, self._waiter)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    @staticmethod
    def _expire(waiter: asyncio.Future[None]) -> None:
        if not waiter.done():
            waiter.set_result(None)

    def _tell(self, event: Event) -> None:
        tell(self._observer, event)


def tell(observer: Observer, event: Event) -> None:
    """Tell *observer*, and drop what it raises: observers may fail without harm."""
    try:
        observer.observe(event)
    except Exception:  # the port says so; a broken metric must never stop a run
        pass
