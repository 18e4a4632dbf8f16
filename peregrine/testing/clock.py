"""Owns time and chance in tests: a loop whose clock jumps when everybody waits, clocks on it, and seeded entropy.

Real asyncio code runs unchanged on ``VirtualLoop``; when nothing is ready, its time jumps to the next timer. So an
hour passes in a millisecond, the order of events is the same every time, and no test sleeps. A wait that nothing can
ever end is an error at once, with the list of who waits.
"""

from __future__ import annotations

import asyncio
import random
import selectors
import uuid
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from peregrine.domain.moment import Duration, Moment

Result = TypeVar("Result")

START: Final[Moment] = 1_767_225_600_000
"""2026-01-01T00:00:00Z, where a manual wall clock begins unless told otherwise."""


class Stuck(AssertionError):
    """Everybody waits and no timer is set: nothing can ever happen again. Names who waits."""


class _JumpingSelector(selectors.DefaultSelector):
    """Never sleeps: asked to wait, it moves the loop's time instead."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            waiting = ", ".join(sorted(task.get_name() for task in asyncio.all_tasks(self.loop)))
            raise Stuck(f"everybody waits for ever: {waiting}")
        self.loop.jump(timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio loop on virtual time, starting at 0. For code that waits only on timers and other coroutines."""

    def __init__(self) -> None:
        selector = _JumpingSelector()
        selector.loop = self
        self._virtual = 0.0
        super().__init__(selector)
        # asyncio's own nanosecond is lost in a float after some months, and then no timer would ever be due.
        self._clock_resolution = 1e-7

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._virtual

    def jump(self, seconds: float) -> None:
        """Move time forward."""
        self._virtual += max(0.0, seconds)


def run_virtual(main: Coroutine[Any, Any, Result]) -> Result:
    """The result of *main*, run to its end on virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


class ManualClock:
    """A ``ports.clock.Clock`` on the running virtual loop. Its wall clock can be stepped; the steady one can't."""

    def __init__(self, start: Moment = START, *, monotonic_base: int = 1_000_000) -> None:
        self._start = start
        self._base = monotonic_base

    def now(self) -> Moment:
        """Wall time; see ``step``."""
        return self._start + self._elapsed()

    def monotonic(self) -> int:
        """Steady milliseconds."""
        return self._base + self._elapsed()

    def step(self, by: Duration) -> None:
        """Move the wall clock by *by* milliseconds, as an operator or NTP would."""
        self._start += by

    async def sleep(self, duration: Duration) -> None:
        """Return when so many milliseconds have passed."""
        await self.advance(duration)

    async def advance(self, by: Duration) -> None:
        """Let *by* milliseconds pass, and everything happen that falls due in them."""
        await asyncio.sleep(by / 1000)

    async def advance_to(self, moment: Moment) -> None:
        """Let time pass until the wall clock shows *moment*."""
        await self.advance(max(0, moment - self.now()))

    @staticmethod
    def _elapsed() -> int:
        # Rounded: a timer set for a whole millisecond must find the clock there, not a float's breath before.
        return round(asyncio.get_running_loop().time() * 1000)


class SeededEntropy:
    """A ``ports.entropy.Entropy`` that makes the same ids and chances for the same seed."""

    def __init__(self, seed: int | str = 0, *, clock: Callable[[], Moment] | None = None) -> None:
        self._random = random.Random(seed)
        self._clock = clock

    def new_id(self) -> str:
        """A UUID text; of version 7's layout when made with a clock."""
        value = self._random.getrandbits(128)
        if self._clock is not None:
            value = (self._clock() & (2**48 - 1)) << 80 | value & (2**80 - 1)
        return str(uuid.UUID(int=value, version=4))

    def chance(self) -> float:
        """A uniform number in [0, 1)."""
        return self._random.random()
