"""Owns which runs hold the lock of their task: taken after the claim, kept with the lease, let go at the end.
Must not know what a lock service is.

It is the second belt. A lock that can't be had for want of an answer changes nothing; one that another execution of the
task holds (its worker is frozen, perhaps, and not dead) sends the claim back to the queue for a while.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from peregrine.domain.event import PutBack, WentUnlocked
from peregrine.domain.execution import Claim, Running
from peregrine.domain.policy import Overlap
from peregrine.engine.loop import tell
from peregrine.engine.needs import Needs
from peregrine.ports.lock import Hold, LockVerdict


class Locking:
    """Asks for locks, in batches. Without ``needs.locks`` nothing is asked, and everything is admitted."""

    def __init__(self, needs: Needs) -> None:
        self._locks = needs.locks
        self._lease = needs.settings.lease
        self._observer = needs.observer
        self._ended: list[Hold] = []

    async def admit(self, claims: Sequence[Claim]) -> tuple[Sequence[Claim], Sequence[Claim]]:
        """The claims to start, and those to put back because their lock is another's."""
        wanted = [claim for claim in claims if _wants(claim)]
        if self._locks is None or not wanted:
            return claims, ()
        verdicts = await self._locks.acquire([_hold(claim) for claim in wanted], self._lease)
        self._count(verdicts)
        refused = [claim for claim, one in zip(wanted, verdicts, strict=True) if one is LockVerdict.TAKEN]
        for claim in refused:
            tell(self._observer, PutBack(claim.execution_id, claim.task.id))
        keys = {claim.execution_id for claim in refused}
        return [claim for claim in claims if claim.execution_id not in keys], refused

    async def renew(self, claims: Iterable[Claim]) -> None:
        """Keep the locks of what runs. One that another has got meanwhile is not fought for: the store knows better."""
        holds = [_hold(claim) for claim in claims if _wants(claim)]
        if self._locks is not None and holds:
            self._count(await self._locks.renew(holds, self._lease))

    def ended(self, claim: Claim) -> None:
        """Its run has ended: the lock goes with the next ``let_go``."""
        if self._locks is not None and _wants(claim):
            self._ended.append(_hold(claim))

    async def let_go(self) -> None:
        """Release what has ended. To be done before the store lets the next execution of the task in."""
        if self._locks is not None and self._ended:
            ended, self._ended = self._ended, []
            await self._locks.release(ended)

    async def forfeit(self, rows: Iterable[Running]) -> None:
        """Release for processes that are gone for certain, so that nobody waits until their locks run out."""
        holds = [Hold(row.task_id, row.execution_id, row.epoch) for row in rows]
        if self._locks is not None and holds:
            await self._locks.release(holds)

    def _count(self, verdicts: Sequence[LockVerdict]) -> None:
        if unlocked := sum(one is LockVerdict.UNKNOWN for one in verdicts):
            tell(self._observer, WentUnlocked(unlocked))


def _wants(claim: Claim) -> bool:
    """Executions that may run beside each other have no lock to share."""
    return claim.task.policy.overlap is not Overlap.ALLOW


def _hold(claim: Claim) -> Hold:
    return Hold(claim.task.id, claim.execution_id, claim.epoch)
