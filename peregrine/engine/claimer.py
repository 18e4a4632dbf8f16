"""Owns queued → claimed, never more than there are free slots. Must not know payloads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from peregrine.domain.errors import Unsure
from peregrine.domain.event import Claimed
from peregrine.domain.moment import Duration
from peregrine.engine.loop import answered, tell
from peregrine.engine.needs import Needs
from peregrine.engine.pool import Pool
from peregrine.ports.store import ClaimBatch, ClaimRequest

BATCH: Final = 500
"""Most executions claimed in one write."""


class Claimer:
    """The turn of the claiming loop. *on_claimed* hears when runs were started."""

    def __init__(self, needs: Needs, pool: Pool, *, on_claimed: Callable[[], None]) -> None:
        self._settings = needs.settings
        self._worker_id = needs.instance.id
        self._store = needs.store
        self._pool = pool
        self._clock = needs.clock
        self._entropy = needs.entropy
        self._observer = needs.observer
        self._on_claimed = on_claimed

    async def turn(self) -> Duration:
        """Fill the free slots, once; how long until a queued execution becomes available."""
        free = min(self._pool.free, BATCH)
        if free == 0:
            return self._settings.poll
        asked_at = self._clock.monotonic()
        batch = await self._claim(free)
        if batch.claims:
            tell(self._observer, Claimed(batch.claims))
            self._pool.start(batch.claims, asked_at=asked_at)
            self._on_claimed()
        if len(batch.claims) == free and self._pool.free:
            return 0
        if batch.next_available_at is None:
            return self._settings.poll
        return max(1, batch.next_available_at - self._clock.now())

    async def _claim(self, limit: int) -> ClaimBatch:
        request = ClaimRequest(
            claim_id=self._entropy.new_id(), worker_id=self._worker_id, now=self._clock.now(), limit=limit
        )
        try:
            return await answered(self._store.claim(request), self._settings.held)
        except Unsure:
            # Read back by the request's own id. If even that fails nothing is run: the reaper finds what was claimed.
            return ClaimBatch(await answered(self._store.claimed_by(request.claim_id)), None)
