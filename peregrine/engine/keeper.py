"""Owns the renewal of leases; brings home cancel wishes and lost claims. Must not know reasons."""

from __future__ import annotations

from peregrine.domain.moment import Duration
from peregrine.engine.pool import Pool
from peregrine.engine.run import Ending
from peregrine.engine.settings import EngineSettings
from peregrine.ports.clock import Clock
from peregrine.ports.store import RenewVerdict, WorkStore


class Keeper:
    """The turn of the keeping loop: one renewal of everything that this worker holds."""

    def __init__(self, settings: EngineSettings, *, store: WorkStore, pool: Pool, clock: Clock) -> None:
        self._settings = settings
        self._store = store
        self._pool = pool
        self._clock = clock

    async def turn(self) -> Duration:
        """Renew all; a kept lease counts from the moment before the asking."""
        runs = self._pool.runs()
        if not runs:
            return self._settings.beat_every
        asked_at = self._clock.monotonic()
        verdicts = await self._store.renew([run.key for run in runs])
        for run, verdict in zip(runs, verdicts, strict=True):
            if run.ended:
                continue
            if verdict is RenewVerdict.LOST:
                run.end(Ending.FENCED)
                continue
            run.fence_at = asked_at + self._settings.lease - self._settings.margin
            if verdict is RenewVerdict.CANCEL:
                run.end(Ending.CANCELLED)
        return self._settings.beat_every
