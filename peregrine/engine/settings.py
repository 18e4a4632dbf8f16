"""Owns the engine's times and sizes and the rules between them; must not know the environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from peregrine.domain.moment import DAY, HOUR, SECOND, Duration

SAFETY_MARGIN: Final[Duration] = 3 * SECOND
"""A run stops itself at least this long before anybody else may take it over (a quarter of a lease under 12 s)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """Times in milliseconds. ``slots``: attempts at once; ``queue_size``: executions that may wait, store-wide."""

    slots: int = 10
    queue_size: int = 1000
    lease: Duration = 30 * SECOND
    heartbeat: Duration = 10 * SECOND
    poll: Duration = SECOND
    shutdown_grace: Duration = 30 * SECOND
    stop_grace: Duration = 1500
    """How long a run that was told to stop may take, before it is abandoned and its slot freed."""
    stale_after: Duration = 2 * HOUR
    cleanup_interval: Duration = HOUR
    retention: Duration = 30 * DAY

    @property
    def margin(self) -> Duration:
        """M: how long before the end of its lease a run must have stopped."""
        return min(SAFETY_MARGIN, self.lease // 4)

    @property
    def held(self) -> Duration:
        """L - M: how long a claim is held at its own worker, from the moment before its last renewal was asked for."""
        return self.lease - self.margin

    @property
    def held_back(self) -> Duration:
        """How long an execution waits whose task is locked by another. A lock without an owner ends within a lease."""
        return self.lease // 4

    @property
    def beat_every(self) -> Duration:
        """H as it is used: never longer than a third of the lease, so two beats may fail before a run must stop."""
        return min(self.heartbeat, self.lease // 3)
