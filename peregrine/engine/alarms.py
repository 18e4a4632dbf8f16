"""Owns one timer of the event loop for all runs whose time is over at the same moment. Must not know what ends runs.

Those that start together mostly have the same timeout; a timer for each was a seventh of what a short run costs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from peregrine.domain.moment import Duration

Sleeper = TypeVar("Sleeper")


class Alarms(Generic[Sleeper]):
    """Hands those to *ring* whose time is over and who have not left before that."""

    def __init__(self, ring: Callable[[Sleeper], object]) -> None:
        self._ring = ring
        self._sleepers: dict[int, dict[Sleeper, None]] = {}
        self._timers: dict[int, asyncio.TimerHandle] = {}

    def set(self, at: int, within: Duration, sleeper: Sleeper) -> None:
        """Ring for *sleeper* at the moment *at* of the steady clock, which comes *within* so many milliseconds."""
        sleepers = self._sleepers.get(at)
        if sleepers is None:
            sleepers = self._sleepers[at] = {}
            self._timers[at] = asyncio.get_running_loop().call_later(within / 1000, self._over, at)
        sleepers[sleeper] = None

    def drop(self, at: int, sleeper: Sleeper) -> None:
        """Do not ring for *sleeper* at *at*; nothing if that is over."""
        sleepers = self._sleepers.get(at)
        if sleepers is None:
            return
        sleepers.pop(sleeper, None)
        if not sleepers:
            del self._sleepers[at]
            self._timers.pop(at).cancel()

    def _over(self, at: int) -> None:
        del self._timers[at]
        for sleeper in self._sleepers.pop(at):
            self._ring(sleeper)
