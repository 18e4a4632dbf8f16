"""Owns how a background loop lives: turn, wait or be woken, survive failures, start and stop. Must not know tasks.

A loop looks by itself at least every *poll*; a wake only makes it look sooner. A turn that can't reach the store is
repeated with a growing pause; one that raises something unforeseen is a bug: it is told, and the loop goes on, since a
scheduler that stands still at 3 a.m. is worse than one that logs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from peregrine.domain.errors import Unavailable, Unsure
from peregrine.domain.event import Event, LoopCrashed, StoreAnswered, StoreFailed
from peregrine.domain.moment import SECOND, Duration, format_duration
from peregrine.ports.clock import Clock
from peregrine.ports.observer import Observer

Answer = TypeVar("Answer")

FIRST_PAUSE: Final[Duration] = 50
"""Pause after the first failed turn; doubles with each further one."""
PAUSE_MAX: Final[Duration] = SECOND
"""No pause after a failure is longer: a store that is back must be found before the leases end."""
CUT_WITHIN: Final[Duration] = SECOND
"""How long a turn that was cancelled may take to let go."""
ANSWER_WITHIN: Final[Duration] = 30 * SECOND
"""How long a turn waits for one answer of the store. A loop that waits for ever stands still for ever."""


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
        self.away_since: int | None = None
        """The same, for turns that could not reach the store."""
        self.failure: str = ""
        """Why the last turn failed, fit to be shown to anybody."""
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
        """Let the turn under way finish (cancel it after *within*) and end; safe twice and safe never started.

        A turn that does not even let go when cancelled is left to itself; whatever it does later, it is the last.
        """
        task = self._task
        if task is None:
            return
        self._stopping = True
        self.wake()
        try:
            done, _ = await asyncio.wait({task}, timeout=within / 1000)
            if not done:
                task.cancel()
                await asyncio.wait({task}, timeout=CUT_WITHIN / 1000)
        finally:
            task.cancel()
            if self._task is task:
                self._task = None

    async def _run(self) -> None:
        me = asyncio.current_task()
        while self._task is me and not self._stopping:
            self._woken = False
            await self._wait(await self._guarded_turn())

    async def _guarded_turn(self) -> Duration:
        try:
            pause = await self._turn()
        except Unavailable as error:
            return self._failed(StoreFailed(self.name, str(error)), str(error))
        except asyncio.CancelledError as error:
            me = asyncio.current_task()
            if me is None or me.cancelling():
                raise
            # Nobody cancelled this loop: something that the turn waited for was cancelled. That must not end us.
            return self._crashed(error)
        except Exception as error:  # the last line of defence: told, never hidden, and the loop goes on
            return self._crashed(error)
        if self.away_since is not None:
            tell(self._observer, StoreAnswered(self.name, self._clock.monotonic() - self.away_since))
        self.failing_since, self.away_since, self.failure, self._failures = None, None, "", 0
        return min(pause, self._poll)

    def _crashed(self, error: BaseException) -> Duration:
        self.failure = ""  # each crash is told
        return self._failed(
            LoopCrashed(self.name, f"{type(error).__name__}: {error}"), f"a bug: {type(error).__name__}"
        )

    def _failed(self, event: Event, reason: str) -> Duration:
        now = self._clock.monotonic()
        self.failing_since = now if self.failing_since is None else self.failing_since
        if isinstance(event, StoreFailed) and self.away_since is None:
            self.away_since = now
        if self.failure != reason:
            tell(self._observer, event)
        self.failure = reason
        self._failures += 1
        self._woken = False
        return min(FIRST_PAUSE << min(self._failures - 1, 16), self._poll, PAUSE_MAX)

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


async def answered(call: Awaitable[Answer], within: Duration = ANSWER_WITHIN) -> Answer:
    """The store's answer to *call*. Raises Unsure if none comes *within*: it is given up, and was done perhaps."""
    try:
        async with asyncio.timeout(within / 1000):
            return await call
    except TimeoutError:
        raise Unsure(f"the store did not answer within {format_duration(within)}") from None


def tell(observer: Observer, event: Event) -> None:
    """Tell *observer*, and drop what it raises: observers may fail without harm."""
    try:
        observer.observe(event)
    except Exception:  # the port says so; a broken metric must never stop a run
        pass
