"""Who is told what happened. May fail without harm; must be quick: it is called on the loop that wrote."""

from __future__ import annotations

from typing import Protocol

from peregrine.domain.event import Event


class Observer(Protocol):
    """Told of every event after its write."""

    def observe(self, event: Event) -> None:
        """Take note. Must return at once; whatever it raises is dropped by the caller."""
        ...
