"""The only source of time. Contract: ``monotonic`` never goes back and counts suspended time too."""

from __future__ import annotations

from typing import Final, Protocol

from peregrine.domain.moment import SECOND, Duration, Moment

SKEW_TOLERATED: Final[Duration] = 5 * SECOND
"""Clocks that differ by more are worth a warning (guarantees: S)."""


class Clock(Protocol):
    """Two clocks, never mixed: schedules are judged by ``now``, every lease and deadline by ``monotonic``."""

    def now(self) -> Moment:
        """Wall time in milliseconds since the epoch; may jump either way."""
        ...

    def monotonic(self) -> int:
        """Milliseconds since some fixed point of this host (CLOCK_BOOTTIME where there is one)."""
        ...


class WaitingClock(Clock, Protocol):
    """One that can be waited on, too."""

    async def sleep(self, duration: Duration) -> None:
        """Return when so many milliseconds have passed."""
        ...


class Reference(Protocol):
    """Another clock to hold the wall clock against."""

    @property
    def deviation(self) -> Duration | None:
        """How far our wall clock is ahead of it; None if that is not known now."""
        ...
