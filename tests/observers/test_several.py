"""One observer that fails keeps the event from nobody."""

from __future__ import annotations

import pytest

from peregrine.domain.event import Event, Purged
from peregrine.observers.several import SeveralObservers


class Listening:
    def __init__(self) -> None:
        self.heard: list[Event] = []

    def observe(self, event: Event) -> None:
        self.heard.append(event)


class Failing:
    def observe(self, event: Event) -> None:
        raise ValueError("a bug in a metric")


def test_all_are_told_and_the_failure_is_not_hidden() -> None:
    first, last = Listening(), Listening()

    with pytest.raises(ExceptionGroup, match="observers failed"):
        SeveralObservers([first, Failing(), last]).observe(Purged(1, 2))

    assert first.heard == last.heard == [Purged(1, 2)]
