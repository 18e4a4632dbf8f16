"""Owns how carefully a task runs (retries, overlap, misfires, priority) and each bound; must not know counters."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

from peregrine.domain.moment import DAY, HOUR, MINUTE, SECOND, Duration


class Priority(IntEnum):
    """Which queued execution is claimed first. A waiting one rises by one class per minute, so none starves."""

    LOW = 0
    NORMAL = 1
    HIGH = 2
    CRITICAL = 3

    @property
    def word(self) -> str:
        """The wire's spelling: ``low``, ``normal``, ``high``, ``critical``."""
        return self.name.lower()

    @classmethod
    def from_word(cls, word: str) -> Priority:
        """Raises:  KeyError for a word that names no class."""
        return _PRIORITIES[word]


_PRIORITIES: Final = {p.name.lower(): p for p in Priority}

AGEING_STEP: Final[Duration] = MINUTE
"""How long an execution waits to rise by one priority class."""


def rank(priority: Priority, available_at: int) -> int:
    """The place in the queue: the lower, the sooner.

    Effective priority is ``class + minutes waited``; two executions keep their order as both age, so
    the order can be one stored number and a claim needs no sort over the whole queue (decision 0015).
    """
    return available_at - priority * AGEING_STEP


class Overlap(StrEnum):
    """What happens to an occurrence while an earlier execution of the same task has not ended."""

    SKIP = "skip"
    """It is recorded as skipped (``overlap``)."""
    QUEUE = "queue"
    """It waits; executions of the task run one after another."""
    ALLOW = "allow"
    """It runs beside the others."""


class Misfire(StrEnum):
    """What happens to occurrences noticed later than ``misfire_grace`` (the service was down, the clock jumped)."""

    RUN_ONCE = "run_once"
    """The newest runs, the others are recorded as missed (``coalesced``)."""
    RUN_ALL = "run_all"
    """Each runs, oldest first, the newest ``catchup_max`` of those inside ``catchup_window``."""
    SKIP = "skip"
    """None runs; they are recorded as missed (``misfire``)."""


class OnWorkerLost(StrEnum):
    """What happens to an execution whose worker died or froze."""

    RETRY = "retry"
    """It runs again (at least once)."""
    FAIL = "fail"
    """It fails with ``worker lost`` (with ``max_retries = 0``: at most once)."""


MAX_RETRIES_MAX: Final = 10
RETRY_INTERVAL_MIN: Final = SECOND
RETRY_INTERVAL_MAX: Final = HOUR
TIMEOUT_MIN: Final = 30 * SECOND
TIMEOUT_MAX: Final = 24 * HOUR
CATCHUP_MAX_MAX: Final = 1000
GRACE_MAX: Final = 7 * DAY
WINDOW_MAX: Final = 366 * DAY
LOSSES_MAX: Final = 3
"""After so many lost workers an execution fails as poison: it probably kills them (guarantees, step R)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How carefully a task runs. Durations in milliseconds; bounds are checked at the doors (`wire`)."""

    max_retries: int = 3
    retry_interval: Duration = MINUTE
    timeout: Duration = 5 * MINUTE
    overlap: Overlap = Overlap.SKIP
    misfire: Misfire = Misfire.RUN_ONCE
    misfire_grace: Duration = 60 * SECOND
    catchup_window: Duration = DAY
    catchup_max: int = 100
    on_worker_lost: OnWorkerLost = OnWorkerLost.RETRY
