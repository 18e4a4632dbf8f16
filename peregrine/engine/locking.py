"""Owns which runs hold the lock of their task: taken after the claim, kept with the lease, let go at the end.
Must not know what a lock service is.

It is the second belt. A lock that can't be had for want of an answer changes nothing; one that another execution of the
task holds (its worker is frozen, perhaps, and not dead) sends the claim back to the queue for a while.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from peregrine.domain.event import PutBack, WentUnlocked
from peregrine.domain.execution import Claim, Running
from peregrine.domain.policy import Overlap
from peregrine.engine.loop import tell
from peregrine.engine.needs import Needs
from peregrine.engine.run import Run
from peregrine.ports.lock import Hold, LockVerdict

_BESIDE: Final = Overlap.ALLOW


class Locking:
    """Asks for locks, in batches. Without ``needs.locks`` nothing is asked, and everything is admitted."""

    def __init__(self, needs: Needs) -> None:
        self._locks = needs.locks
        self._lease = needs.settings.lease
        self._observer = needs.observer
        self._clock = needs.clock
        self._owed: dict[Hold, int] = {}
        """What is to be released, and the steady-clock moment at which it has run out by itself."""

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

    async def renew(self, runs: Iterable[Run]) -> None:
        """Keep the locks of what runs. One that another has got meanwhile is not fought for: the store knows better."""
        kept = [run for run in runs if not run.ended and _wants(run.claim)]
        if self._locks is None or not kept:
            return
        self._count(await self._locks.renew([_hold(run.claim) for run in kept], self._lease))
        # One that ended meanwhile let go of its lock, perhaps before it was taken anew just now.
        self._owe(_hold(run.claim) for run in kept if run.ended)
        await self.let_go()

    def ended(self, claim: Claim) -> None:
        """Its run has ended: the lock goes with the next ``let_go``."""
        if _wants(claim):
            self._owe([_hold(claim)])

    async def let_go(self) -> None:
        """Release what has ended. To be done before the store lets the next execution of the task in.

        While the lock service is away this is owed, for a lease: then the lock has run out by itself.
        """
        if self._locks is None or not self._owed:
            return
        owed, self._owed = self._owed, {}
        if not await self._locks.release(list(owed)):
            now = self._clock.monotonic()
            self._owed = {hold: until for hold, until in owed.items() if until > now} | self._owed

    async def forfeit(self, rows: Iterable[Running]) -> None:
        """Release for processes that are gone for certain, so that nobody waits until their locks run out."""
        self._owe(Hold(row.task_id, row.execution_id, row.epoch) for row in rows)
        await self.let_go()

    def _owe(self, holds: Iterable[Hold]) -> None:
        if self._locks is not None:
            until = self._clock.monotonic() + self._lease
            self._owed |= dict.fromkeys(holds, until)

    def _count(self, verdicts: Sequence[LockVerdict]) -> None:
        if unlocked := sum(one is LockVerdict.UNKNOWN for one in verdicts):
            tell(self._observer, WentUnlocked(unlocked))


def _wants(claim: Claim) -> bool:
    """Executions that may run beside each other have no lock to share."""
    return claim.task.policy.overlap is not _BESIDE


def _hold(claim: Claim) -> Hold:
    return Hold(claim.task.id, claim.execution_id, claim.epoch)
