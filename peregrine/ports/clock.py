"""The only source of time. Contract: ``monotonic`` never goes back and counts suspended time too."""

from __future__ import annotations

from typing import Protocol

from peregrine.domain.moment import Moment


class Clock(Protocol):
    """Two clocks, never mixed: schedules are judged by ``now``, every lease and deadline by ``monotonic``."""

    def now(self) -> Moment:
        """Wall time in milliseconds since the epoch; may jump either way."""
        ...

    def monotonic(self) -> int:
        """Milliseconds since some fixed point of this host (CLOCK_BOOTTIME where there is one)."""
        ...
