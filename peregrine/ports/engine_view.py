"""What the doors may know of the hall and of what stands behind it: measured facts, never a handle to change them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from peregrine.domain.ids import WorkerId
from peregrine.domain.moment import Duration, Moment


class EngineMode(StrEnum):
    """Where the engine of this process stands."""

    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"
    """It was told to stop: nothing new starts, what runs may end."""
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """One look at the engine of this process, all values of one moment."""

    mode: EngineMode
    instance: WorkerId | None = None
    """Who this process is among the others."""
    slots: int
    """Attempts it may run at once (wire: ``worker_count``)."""
    active: int
    """Attempts it runs now (wire: ``active_workers``)."""
    failing: Mapping[str, str] = field(default_factory=dict)
    """Loops whose last turn failed, each with a short reason that holds no secret, no path and no driver text."""
    store_away_since: Moment | None = None
    """When the store stopped answering the loops; None while it answers."""
    stale: int = 0
    """Executions that run longer than the stale timeout."""
    clock_steps: int = 0
    """How often the wall clock was seen to jump since the start."""
    quiet_for: Duration = 0
    """How long tasks stay quiet because the clock went back; 0 when it did not."""
    clock_skew: Duration = 0
    """The largest difference between this process's wall clock and another instance's, or the reference's."""
    skews: Mapping[WorkerId, Duration] = field(default_factory=dict)
    """How far the wall clock of each other instance is ahead of this one, as far as can be told."""
    is_astray: bool = False
    """This wall clock is wrong for certain: occurrences are left to the other instances."""


class EngineView(Protocol):
    """The engine as the status page sees it."""

    def facts(self) -> EngineFacts:
        """What is true now. Must be quick and must not raise: it reads memory, never the store."""
        ...


@dataclass(frozen=True, slots=True)
class LockFacts:
    """How the lock service does. ``latency`` None: it is away, for ``reason``, which may be shown to anybody."""

    latency: Duration | None
    reason: str = ""


class LockView(Protocol):
    """The lock service as the status page sees it; without one (embedded), there is no view."""

    def facts(self) -> LockFacts:
        """What the last look saw, a second ago at most. Must not raise or wait: it reads memory."""
        ...
