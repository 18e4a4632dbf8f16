"""Owns how often a caller may ask, or be wrong, and how many are served at once; must not know HTTP.

One bucket a caller, bounded in number; one line for all, in the order in which they came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Self, TypeVar

from peregrine.wire.problem import Refusal

CALLERS_MAX: Final = 10_000
AT_ONCE: Final = 8
"""Requests at work at once. The loop that serves them carries the engine too: the more of them take turns on it, the
later comes each turn of the engine (decision 0160)."""
LINE_SECONDS: Final = 10.0
"""How long a request waits for its turn before it is sent away."""

Thing = TypeVar("Thing")


@dataclass(frozen=True, slots=True)
class Rate:
    """So many in a row, and so many a second after that."""

    burst: int
    per_second: float


class Buckets:
    """A bucket of tokens for each caller; full ones are forgotten first."""

    def __init__(self, rate: Rate, steady: Callable[[], int]) -> None:
        self._rate = rate
        self._steady = steady
        self._levels: dict[str, tuple[float, int]] = {}

    def take(self, caller: str) -> int:
        """0 if *caller* may; else in how many seconds."""
        now = self._steady()
        level, at = self._levels.pop(caller, (float(self._rate.burst), now))
        level = min(self._rate.burst, level + (now - at) / 1000 * self._rate.per_second)
        if level < 1:
            self._levels[caller] = (level, now)
            return max(1, round((1 - level) / self._rate.per_second))
        if len(self._levels) >= CALLERS_MAX:
            # The one that asked longest ago stands first.
            del self._levels[next(iter(self._levels))]
        self._levels[caller] = (level - 1, now)
        return 0


class Turns:
    """Who is served when many ask: *at_once* of them; the others wait in line, for *seconds* at most."""

    def __init__(self, at_once: int = AT_ONCE, *, seconds: float = LINE_SECONDS) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._seconds = seconds

    def taken(self) -> Turn:
        """A turn, held while it is entered. To enter raises Refusal ``unavailable`` after too long a wait."""
        return Turn(self._free, self._seconds)


class Turn:
    """The turn of one request; given up while it waits for its own client, who may be slow."""

    __slots__ = ("_free", "_is_held", "_seconds")

    def __init__(self, free: asyncio.Semaphore, seconds: float) -> None:
        self._free = free
        self._seconds = seconds
        self._is_held = False

    async def __aenter__(self) -> Self:
        await self.take()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.give_back()

    async def take(self) -> None:
        """Stand in line until it is ours. Raises Refusal ``unavailable``."""
        if self._free.locked():
            await self._stand_in_line()
        else:
            await self._free.acquire()  # at once: no timer need be set for it
        self._is_held = True

    async def _stand_in_line(self) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                await self._free.acquire()
        except TimeoutError:
            headers = {"Retry-After": "2"}
            raise Refusal("unavailable", "Too many requests wait to be answered.", headers=headers) from None

    def give_back(self) -> None:
        """Let the next one be served; safe twice."""
        if self._is_held:
            self._is_held = False
            self._free.release()

    async def aside(self, waiting: Awaitable[Thing]) -> Thing:
        """What *waiting* comes to; others are served meanwhile. Raises Refusal ``unavailable``."""
        self.give_back()
        thing = await waiting
        await self.take()
        return thing
