"""Owns queued → claimed, never more than there are free slots. Must not know payloads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from peregrine.domain.errors import Unsure
from peregrine.domain.execution import Claim
from peregrine.domain.moment import Duration, Moment
from peregrine.domain.planning import AHEAD
from peregrine.engine.company import Company
from peregrine.engine.loop import answered
from peregrine.engine.needs import Needs
from peregrine.engine.pool import Pool
from peregrine.engine.spread import OFFER
from peregrine.ports.store import ClaimRequest

BATCH: Final = 512
"""Most executions claimed in one write; two of the store's largest statements (decision 0112)."""


class Claimer:
    """The turn of the claiming loop. *on_claimed* hears when runs were started, *on_spilled* when new work was left
    over that others may have slots for."""

    def __init__(
        self,
        needs: Needs,
        pool: Pool,
        company: Company,
        *,
        on_claimed: Callable[[], None],
        on_spilled: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = needs.settings
        self._worker_id = needs.instance.id
        self._store = needs.store
        self._pool = pool
        self._clock = needs.clock
        self._entropy = needs.entropy
        self._locking, self._spread = company.locking, company.spread
        self._on_claimed, self._on_spilled = on_claimed, on_spilled
        self._is_told = False
        self.wants_slots = True
        """Whether the last look left work for want of slots, as far as is known."""

    def told(self) -> None:
        """New work was queued by this very process: what the next look leaves over is offered to the others."""
        self._is_told = True

    async def turn(self) -> Duration:
        """Fill this instance's share of the free slots, once; how long until the next look."""
        self.wants_slots = True
        limit = min(self._spread.share(self._pool.free), BATCH)
        if limit == 0:
            self._offer()
            return self._spread.jittered(self._settings.poll)
        batch = await self._fill(limit)
        if not batch.is_full:
            self._is_told = False
            self.wants_slots = batch.is_short_of_slots
            if batch.next_available_at is None:
                return self._spread.jittered(self._settings.poll)
            return max(1, batch.next_available_at - self._clock.now() - batch.lead + self._spread.stagger())
        was_offered = self._offer()
        if not self._pool.free:
            return self._spread.jittered(self._settings.poll)
        return OFFER if was_offered and self._spread.rivals else 0

    async def _fill(self, limit: int) -> Asked:
        """Claim up to *limit* and start them. Alone, the next are asked for while these are started, as long as there
        are slots and each request gets all it asks for."""
        batch = await self._claim(limit, self._pool.free)
        while free := self._beyond(batch):
            ahead = asyncio.get_running_loop().create_task(self._claim(min(free, BATCH), free))
            try:
                await self._start(batch)
            except BaseException:
                # Nobody runs what was claimed ahead, then; the reaper finds it.
                ahead.cancel()
                await asyncio.gather(ahead, return_exceptions=True)
                raise
            batch = await ahead
        await self._start(batch)
        return batch

    def _beyond(self, batch: Asked) -> int:
        """How many slots there are beyond those for *batch*; none for us if others may want the work."""
        is_alone = not self._spread.rivals
        return max(0, self._pool.free - batch.limit) if is_alone and batch.is_full else 0

    def _offer(self) -> bool:
        """Let the others know once of what may be left over; whether they were told."""
        was_told, self._is_told = self._is_told, False
        if was_told:
            self._on_spilled()
        return was_told

    async def _start(self, batch: Asked) -> None:
        if not batch.claims:
            return
        admitted, refused = await self._locking.admit(batch.claims)
        if admitted:
            self._pool.start(admitted, asked_at=batch.asked_at)
            self._on_claimed()
        self._pool.put_back(refused, asked_at=batch.asked_at)

    async def _claim(self, limit: int, free: int) -> Asked:
        """Ask for *limit*, of *free* slots."""
        asked_at, now = self._clock.monotonic(), self._clock.now()
        is_alone = not self._spread.rivals
        request = ClaimRequest(
            claim_id=self._entropy.new_id(),
            worker_id=self._worker_id,
            now=now,
            limit=limit,
            rivals=self._spread.rivals,
            # The last free slot is kept for what comes unforeseen.
            early=min(limit, free - 1) if is_alone else 0,
            early_until=now + AHEAD,
        )
        try:
            batch = await answered(self._store.claim(request), self._settings.held)
        except Unsure:
            # Read back by the request's own id. If even that fails nothing is run: the reaper finds what was claimed.
            return Asked(request, asked_at, await answered(self._store.claimed_by(request.claim_id)), None)
        return Asked(request, asked_at, batch.claims, batch.next_available_at)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request got. ``asked_at``: on the steady clock; a lease counts from before the asking."""

    request: ClaimRequest
    asked_at: int
    claims: Sequence[Claim]
    next_available_at: Moment | None

    @property
    def limit(self) -> int:
        """How many were asked for."""
        return self.request.limit

    @property
    def is_short_of_slots(self) -> bool:
        """Whether something that may be claimed early waits for a slot, or for its moment."""
        return self.next_available_at is not None and self.next_available_at <= self.request.early_until

    @property
    def lead(self) -> Duration:
        """How long before the next moment to ask again: so long that what comes soon after it is claimed with it."""
        return 0 if self.is_short_of_slots or self.request.early < 1 else AHEAD // 2

    @property
    def is_full(self) -> bool:
        """Whether there may be more where these came from."""
        return len(self.claims) >= self.limit
