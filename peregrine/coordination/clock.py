"""Owns the real clocks and the real chance of this machine; must not know who asks."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from peregrine.domain.errors import Unavailable
from peregrine.domain.moment import MINUTE, SECOND, Duration, Moment
from peregrine.ports.clock import WaitingClock

_STEADY: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_MILLION: Final = 1_000_000
_TAIL_BITS: Final = 74
_log = logging.getLogger(__name__)

Ask: TypeAlias = Callable[[], Awaitable[tuple[Moment, Duration]]]
"""Gives a server's wall time, and how long it took to ask. Raises Unavailable."""

REFRESH_EVERY: Final[Duration] = MINUTE
ROUND_TRIP_MAX: Final[Duration] = SECOND
"""An answer that took longer may be wrong by more than half of this, and is not taken if an earlier one is held."""
TRY_AGAIN_AFTER: Final[Duration] = 5 * SECOND


class SystemClock:
    """Wall time of the system, and the steady clock that goes on while the machine sleeps."""

    def now(self) -> Moment:
        """Wall time in milliseconds since the epoch."""
        return time.time_ns() // _MILLION

    def monotonic(self) -> int:
        """Milliseconds of CLOCK_BOOTTIME; of CLOCK_MONOTONIC where the kernel has no other."""
        return time.clock_gettime_ns(_STEADY) // _MILLION

    async def sleep(self, duration: Duration) -> None:
        """Return when so many milliseconds have passed."""
        await asyncio.sleep(duration / 1000)


class ServerClock:
    """The wall time of a server that all instances ask, held as a distance to the own steady clock.

    So a host's own wall clock, however wrong or stepped, moves no schedule.
    Source:  guarantees, clock rule 1.
    """

    def __init__(self, ask: Ask, steady: WaitingClock | None = None) -> None:
        self._ask = ask
        self._steady: WaitingClock = steady or SystemClock()
        self._ahead: int | None = None

    def now(self) -> Moment:
        """Wall time of the server, as of the last answer and the time since. Needs a ``refresh`` first."""
        assert self._ahead is not None, "the server has not been asked yet"
        return self._steady.monotonic() + self._ahead

    def monotonic(self) -> int:
        """Milliseconds of the own steady clock."""
        return self._steady.monotonic()

    async def sleep(self, duration: Duration) -> None:
        """Return when so many milliseconds of the own steady clock have passed."""
        await self._steady.sleep(duration)

    async def refresh(self) -> bool:
        """Ask the server; whether its answer was quick enough to be taken. The first one is taken in any case.

        Raises:  Unavailable.
        """
        before = self._steady.monotonic()
        wall, _ = await self._ask()
        took = self._steady.monotonic() - before
        if took > ROUND_TRIP_MAX and self._ahead is not None:
            return False
        # The server looked at its clock at some time between; the middle is wrong by half of it at most.
        self._ahead = wall - before - took // 2
        return True

    async def keep(self) -> None:
        """Refresh again and again, until cancelled. What was learnt last holds while the server is away."""
        is_fresh = True
        while True:
            await asyncio.sleep((REFRESH_EVERY if is_fresh else TRY_AGAIN_AFTER) / 1000)
            try:
                is_fresh = await self.refresh()
            except Unavailable as error:
                if is_fresh:
                    _log.warning("clock_not_refreshed", extra={"reason": str(error)})
                is_fresh = False


class SystemEntropy:
    """Ids of UUID version 7 from the operating system, and chance from a generator that it seeded.

    Chance only spreads waits, and nobody gains by guessing it. One is drawn for every attempt that ends, and asking
    the system each time lets go of the interpreter's lock, which the store's thread then holds for a while.
    """

    def __init__(self) -> None:
        self._random = random.Random(secrets.randbits(256))
        self._lock = threading.Lock()
        self._millis = 0
        self._tail = 0

    def new_id(self) -> str:
        """A new UUIDv7; the later one sorts later, even within a millisecond or after the clock went back.

        Source:  RFC 9562, 6.2, method 2: within one millisecond the random tail grows by a random step.
        """
        with self._lock:
            millis = time.time_ns() // _MILLION
            if millis > self._millis:
                self._millis, self._tail = millis, secrets.randbits(_TAIL_BITS - 1)
            else:
                self._tail += 1 + secrets.randbits(32)
                if self._tail >> _TAIL_BITS:
                    self._millis, self._tail = self._millis + 1, secrets.randbits(_TAIL_BITS - 1)
            return _uuid7(self._millis, self._tail)

    def chance(self) -> float:
        """A uniform number in [0, 1)."""
        return self._random.random()


def _uuid7(millis: int, tail: int) -> str:
    value = (millis & (1 << 48) - 1) << 80 | 0x7 << 76 | (tail >> 62) << 64 | 0b10 << 62 | tail & (1 << 62) - 1
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
