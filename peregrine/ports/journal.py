"""What runs in this process are saying, while they say it. Memory alone: bounded, gone with the run's settlement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from peregrine.domain.ids import ExecutionId
from peregrine.domain.journal import Said


class RunJournal(Protocol):
    """The words of the runs here. An execution that runs on another instance is not among them."""

    def read(self, execution_id: ExecutionId) -> Said | None:
        """What its newest run here has said; None if none runs here, or if all it said is with the store by now.

        Between a run's end and the storing of its outcome it can still be read here, so nothing falls between the two.
        """
        ...

    def watch(self, execution_id: ExecutionId, wake: Callable[[], None]) -> Callable[[], None]:
        """Call *wake* (quick, on the event loop) when a run of it here begins, says something, or is stored.

        Also when this process stops running anything. Returns the way to stop that, safe twice.
        """
        ...
