"""Owns the renewal of leases; brings home cancel wishes and lost claims. Must not know reasons."""

from __future__ import annotations

from collections.abc import Sequence

from peregrine.domain.moment import Duration
from peregrine.engine.locking import Locking
from peregrine.engine.loop import answered
from peregrine.engine.needs import Needs
from peregrine.engine.pool import Pool
from peregrine.engine.run import Ending, Run
from peregrine.ports.store import RenewVerdict


class Keeper:
    """The turn of the keeping loop: one renewal of everything that this worker holds, every heartbeat.

    In between it looks for cancel wishes at every poll: a wish written by another process is heard in time even where
    no bus reaches that far.
    """

    def __init__(self, needs: Needs, pool: Pool, locking: Locking) -> None:
        self._settings = needs.settings
        self._store = needs.store
        self._pool = pool
        self._locking = locking
        self._clock = needs.clock
        self._me = needs.instance.id
        self._renewed_at: int | None = None

    async def turn(self) -> Duration:
        """Renew all if a heartbeat has passed, else hear what is to be cancelled; how long until the next look."""
        now = self._clock.monotonic()
        runs = self._pool.runs()
        if not runs:
            return self._settings.poll
        if self._renewed_at is None or now - self._renewed_at >= self._settings.beat_every:
            await self._renew(runs)
            self._renewed_at = now
            await self._locking.renew(runs)
        else:
            rest = self._renewed_at + self._settings.beat_every - now
            await self._hear(runs, within=max(rest, self._settings.beat_every // 10))
        return min(self._settings.poll, max(0, self._renewed_at + self._settings.beat_every - now))

    async def _hear(self, runs: Sequence[Run], within: Duration) -> None:
        """Given up when the next heartbeat is due, or hardly later: that matters more."""
        wished = set(await answered(self._store.cancel_wishes(self._me), within))
        for run in runs:
            if run.key in wished:
                run.end(Ending.CANCELLED)

    async def _renew(self, runs: Sequence[Run]) -> None:
        """A kept lease counts from the moment before the asking.

        An answer that does not come is given up while there is still time to ask once more before the leases end.
        """
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
