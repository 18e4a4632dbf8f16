"""Owns the real clocks and the real chance of this machine; must not know who asks."""

from __future__ import annotations

import secrets
import threading
import time
from typing import Final

from peregrine.domain.moment import Moment

_STEADY: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_MILLION: Final = 1_000_000
_TAIL_BITS: Final = 74
_RANDOM = secrets.SystemRandom()


class SystemClock:
    """Wall time of the system, and the steady clock that goes on while the machine sleeps."""

    def now(self) -> Moment:
        """Wall time in milliseconds since the epoch."""
        return time.time_ns() // _MILLION

    def monotonic(self) -> int:
        """Milliseconds of CLOCK_BOOTTIME; of CLOCK_MONOTONIC where the kernel has no other."""
        return time.clock_gettime_ns(_STEADY) // _MILLION


class SystemEntropy:
    """Ids of UUID version 7 and chance from the operating system."""

    def __init__(self) -> None:
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
        return _RANDOM.random()


def _uuid7(millis: int, tail: int) -> str:
    value = (millis & (1 << 48) - 1) << 80 | 0x7 << 76 | (tail >> 62) << 64 | 0b10 << 62 | tail & (1 << 62) - 1
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
