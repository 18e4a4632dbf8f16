"""Owns wakes within one process; must not know who listens."""

from __future__ import annotations

import logging
from collections.abc import Callable

from peregrine.ports.bus import Topic

_log = logging.getLogger(__name__)


class MemoryBus:
    """The bus of a single process: a publish calls every subscriber at once, in order of subscription."""

    def __init__(self) -> None:
        self._wakes: dict[Topic, dict[object, Callable[[], None]]] = {topic: {} for topic in Topic}

    def publish(self, topic: Topic) -> None:
        """Wake every subscriber of *topic*; one that fails does not keep the others asleep."""
        for wake in tuple(self._wakes[topic].values()):
            try:
                wake()
            except Exception:
                _log.exception("wake_failed")

    def subscribe(self, topic: Topic, wake: Callable[[], None]) -> Callable[[], None]:
        """Call *wake* after each publish of *topic*; returns the way to stop that, which is safe twice."""
        ticket = object()
        self._wakes[topic][ticket] = wake

        def leave() -> None:
            self._wakes[topic].pop(ticket, None)

        return leave
