"""Owns telling several observers of one event; must not know what they do with it."""

from __future__ import annotations

from collections.abc import Sequence

from peregrine.domain.event import Event
from peregrine.ports.observer import Observer


class SeveralObservers:
    """Tells each in turn; one that fails does not keep the event from the others."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)

    def observe(self, event: Event) -> None:
        """Tell everybody. Raises what failed, together, once all have been told."""
        failures: list[Exception] = []
        for observer in self._observers:
            try:
                observer.observe(event)
            except Exception as error:
                failures.append(error)
        if failures:
            raise ExceptionGroup("observers failed", failures)
