"""Wakes between rooms and instances: hints that looking early may pay. May lose, may repeat; never the truth."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Protocol


class Topic(StrEnum):
    """What somebody may want to look at early."""

    QUEUED = "queued"
    """Executions were queued: the claimer here."""
    SPILLED = "spilled"
    """More are queued than there are free slots here: the claimers of other instances."""
    TASKS = "tasks"
    """Definitions changed: planners. Not for a new one that is due only long after they look by themselves."""
    CANCEL = "cancel"
    """Cancels were asked for: keepers."""
    SETTLED = "settled"
    """Attempts ended: whoever watches."""

    @property
    def travels(self) -> bool:
        """Whether other instances hear of it: what concerns nobody there, or happens all the time, stays here."""
        return self in (Topic.SPILLED, Topic.TASKS, Topic.CANCEL)


class Bus(Protocol):
    """Publish and subscribe. ``publish`` never raises and never waits."""

    def publish(self, topic: Topic) -> None:
        """Wake every subscriber of *topic*, here and on other instances as far as they can be reached."""
        ...

    def subscribe(self, topic: Topic, wake: Callable[[], None]) -> Callable[[], None]:
        """Call *wake* (quick, on the event loop) after each publish; returns the way to stop that."""
        ...
