"""Owns what the records add up to; must not know metrics libraries."""

from __future__ import annotations

from dataclasses import dataclass

from peregrine.domain.moment import DAY, Duration, Moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Counts over the whole store at one moment. "Today" is since 00:00 UTC. Durations in milliseconds."""

    total_tasks: int
    enabled_tasks: int
    running: int
    """Executions that run now, on all instances."""
    queued: int
    completed_today: int
    failed_today: int
    """Ended today without success, cancelled ones included (as the wire shows them)."""
    average_runtime: Duration
    """Mean runtime of the executions that ended today, without those that never started."""
    next_run_at: Moment | None

    @property
    def success_rate(self) -> float | None:
        """Share of today's ended executions that succeeded, 0 to 1; None when none ended."""
        ended = self.completed_today + self.failed_today
        return self.completed_today / ended if ended else None


def day_start(now: Moment) -> Moment:
    """00:00 UTC of the day of *now*."""
    return now - now % DAY
