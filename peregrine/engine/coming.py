"""Owns the runs that were claimed before their moment, until it comes. Must not know why they were, or what ends them.

All that start at one moment share a timer of the event loop, which knows the steady clock alone. So when it rings the
wall clock is asked, too: no run starts before its moment by either. But none is claimed earlier than ``AHEAD``, so none
waits longer: where more seems to be left, the wall clock was set back since.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from peregrine.domain.moment import Duration, Moment
from peregrine.domain.planning import AHEAD
from peregrine.engine.run import Run
from peregrine.ports.clock import Clock

TICK: Final = 1
"""Milliseconds by which a clock that counts whole ones may be behind, and a timer too early."""


class Coming:
    """Hands runs to *begin* when their moment has come, all of one moment together."""

    def __init__(self, clock: Clock, begin: Callable[[Sequence[Run]], object]) -> None:
        self._clock = clock
        self._begin = begin
        self._runs: dict[Moment, tuple[int, list[Run]]] = {}

    def add(self, runs: Iterable[Run]) -> None:
        """Have each of *runs* begin at the moment for which it was claimed."""
        wall, steady = self._clock.now(), self._clock.monotonic()
        for run in runs:
            moment = run.claim.started_at
            known = self._runs.get(moment)
            if known is None:
                wait = left_until(moment, wall)
                known = self._runs[moment] = steady + wait + TICK, []
                self._ring_in(wait, moment)
            known[1].append(run)

    def _ring_in(self, wait: Duration, moment: Moment) -> None:
        asyncio.get_running_loop().call_later(wait / 1000, self._ring, moment)

    def _ring(self, moment: Moment) -> None:
        if self._clock.now() < moment and self._clock.monotonic() < self._runs[moment][0]:
            self._ring_in(TICK, moment)
            return
        _, runs = self._runs.pop(moment)
        self._begin(runs)


def left_until(moment: Moment, wall: Moment) -> Duration:
    """How long a run that was claimed for *moment* waits for it, from *wall*."""
    return min(max(0, moment - wall), AHEAD)
