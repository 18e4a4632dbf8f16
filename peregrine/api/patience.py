"""Owns how often a caller may ask, or be wrong: one bucket a caller, bounded in number; must not know HTTP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

CALLERS_MAX: Final = 10_000


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
