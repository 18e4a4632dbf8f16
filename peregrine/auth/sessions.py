"""Owns the proof that a session has not been ended, beside the proof of its token; must not know routes or cookies.

A token proves itself until it expires; only the shelf can say that its holder has signed out before.
"""

from __future__ import annotations

from typing import Final

from peregrine.domain.errors import Unauthenticated
from peregrine.domain.moment import SECOND, Duration
from peregrine.ports.clock import Clock
from peregrine.ports.identity import Identity, Principal
from peregrine.ports.records import RecordStore
from peregrine.ports.shelves import SESSIONS

KEPT_FOR: Final[Duration] = SECOND
"""How long a session is taken without a look at the shelf: an ended one stops working within it, here at once."""
KEPT_MAX: Final = 1000


class SessionProof:
    """An ``Identity`` that refuses what belongs to an ended session, and leaves everything else to *tokens*."""

    def __init__(self, tokens: Identity, records: RecordStore, clock: Clock) -> None:
        self._tokens = tokens
        self._records = records
        self._clock = clock
        self._seen: dict[str, tuple[int, bool]] = {}

    async def principal_of(self, token: str) -> Principal:
        """Who holds *token*. Raises Unauthenticated; Unavailable when the shelf is away."""
        principal = await self._tokens.principal_of(token)
        if principal.session and not await self._holds(principal.session):
            raise Unauthenticated("the session has ended")
        return principal

    async def end(self, session: str) -> None:
        """End *session*: here at once, elsewhere within a second."""
        await self._records.delete_record(SESSIONS, session, now=self._clock.now())
        self._seen.pop(session, None)

    async def _holds(self, session: str) -> bool:
        steady = self._clock.monotonic()
        at, holds = self._seen.get(session, (0, False))
        if session in self._seen and steady - at < KEPT_FOR:
            return holds
        holds = await self._records.get_record(SESSIONS, session, now=self._clock.now()) is not None
        if len(self._seen) >= KEPT_MAX:
            self._seen.clear()
        self._seen[session] = (steady, holds)
        return holds
