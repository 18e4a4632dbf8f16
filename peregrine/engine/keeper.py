"""Owns the renewal of leases; brings home cancel wishes and lost claims. Must not know reasons."""

from __future__ import annotations

from peregrine.domain.moment import Duration
from peregrine.engine.loop import answered
from peregrine.engine.needs import Needs
from peregrine.engine.pool import Pool
from peregrine.engine.run import Ending
from peregrine.ports.store import RenewVerdict


class Keeper:
    """The turn of the keeping loop: one renewal of everything that this worker holds."""

    def __init__(self, needs: Needs, pool: Pool) -> None:
        self._settings = needs.settings
        self._store = needs.store
        self._pool = pool
        self._clock = needs.clock

    async def turn(self) -> Duration:
        """Renew all; a kept lease counts from the moment before the asking.

        An answer that does not come is given up while there is still time to ask once more before the leases end.
        """
        runs = self._pool.runs()
        if not runs:
            return self._settings.beat_every
        asked_at = self._clock.monotonic()
        verdicts = await answered(self._store.renew([run.key for run in runs]), self._settings.held // 2)
        for run, verdict in zip(runs, verdicts, strict=True):
            if run.ended:
                continue
            if verdict is RenewVerdict.LOST:
                run.end(Ending.FENCED)
                continue
            run.fence_at = asked_at + self._settings.held
            if verdict is RenewVerdict.CANCEL:
                run.end(Ending.CANCELLED)
        return self._settings.beat_every
