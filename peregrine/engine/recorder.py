"""Owns outcome → settlement → stored. Must not know how the work ran.

A settlement that can't be stored is kept and repeated: storing is guarded by the epoch, so it can come late but never
wrong. The run stays in the pool until then, so its lease is renewed as long as that is possible.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from peregrine.domain.errors import Unavailable
from peregrine.domain.event import LeaseLost, LoopCrashed, ResultRefused, Settled
from peregrine.domain.execution import AttemptOutcome, Outcome, Settlement, State
from peregrine.domain.moment import Duration
from peregrine.domain.policy import Overlap
from peregrine.domain.retry import settle
from peregrine.engine.locking import Locking
from peregrine.engine.loop import answered, tell
from peregrine.engine.needs import Needs
from peregrine.engine.pool import Pool
from peregrine.engine.run import Ending, Run
from peregrine.ports.store import SettleVerdict

BATCH: Final = 512
"""Most settlements in one write; two of the store's largest statements (decision 0112)."""
_LEASE_GONE: Final = frozenset({Ending.FENCED, Ending.LEASE_ENDED})
_QUEUED: Final = State.QUEUED
_BESIDE: Final = Overlap.ALLOW
_STORED: Final = frozenset({SettleVerdict.APPLIED, SettleVerdict.REPEATED})


class Recorder:
    """The turn of the recording loop, and the door through which outcomes come in. *on_settled* hears when some were
    stored, *on_let_in* if that may have let others into the queue, or on from it.
    """

    def __init__(
        self, needs: Needs, locking: Locking, *, on_settled: Callable[[], None], on_let_in: Callable[[], None]
    ) -> None:
        self._settings = needs.settings
        self._store = needs.store
        self._clock = needs.clock
        self._entropy = needs.entropy
        self._observer = needs.observer
        self._locking = locking
        self._on_settled = on_settled
        self._on_let_in = on_let_in
        self._waiting: list[tuple[Run, Settlement]] = []
        self._empty = asyncio.Event()
        self._empty.set()
        self.pool: Pool | None = None
        """Set by the engine: pool and recorder know each other, the pool only by a callback."""

    @property
    def waiting(self) -> int:
        """Settlements not stored yet."""
        return len(self._waiting)

    async def empty(self) -> None:
        """Return when every outcome is stored."""
        await self._empty.wait()

    def take(self, run: Run, outcome: Outcome) -> None:
        """Accept the outcome of *run*; a fenced one writes nothing, since another worker has taken over."""
        ending = run.ending
        if ending is None or ending is not Ending.HELD_BACK:
            self._locking.ended(run.claim)
        if ending in _LEASE_GONE:
            tell(self._observer, LeaseLost(*run.key))
            if ending is Ending.FENCED:
                assert self.pool is not None
                self.pool.forget(run)
                return
        settlement = settle(run.claim, outcome, self._clock.now(), self._entropy.chance())
        if not self._waiting:
            self._empty.clear()
        self._waiting.append((run, settlement))

    async def turn(self) -> Duration:
        """Store everything that waits, once. Locks go first: what the store lets in next must find them free."""
        batch = self._waiting[:BATCH]
        await self._locking.let_go()
        if not batch:
            return self._settings.poll
        verdicts = await self._settle([settlement for _, settlement in batch])
        del self._waiting[: len(batch)]
        lets_in = self._tell(batch, verdicts)
        if not self._waiting:
            self._empty.set()
        self._on_settled()
        if lets_in:
            self._on_let_in()
        return 0 if self._waiting else self._settings.poll

    async def _settle(self, settlements: list[Settlement]) -> Sequence[SettleVerdict]:
        """What became of each. One that breaks the store does not keep the others from being stored."""
        try:
            return await answered(self._store.settle(settlements))
        except Unavailable:
            raise
        except Exception as error:
            if len(settlements) == 1:
                return await self._settle_bare(settlements[0], error)
        # Halves that are stored twice because the other half failed are told so by the store.
        half = len(settlements) // 2
        return [*await self._settle(settlements[:half]), *await self._settle(settlements[half:])]

    async def _settle_bare(self, settlement: Settlement, error: Exception) -> Sequence[SettleVerdict]:
        """Store that the attempt ended and how, without the texts and details that the store can't take."""
        kind = type(error).__name__
        bare = replace(settlement, output="", detail={"left_out": f"the store can't keep it ({kind})"}, truncated=True)
        verdicts = await answered(self._store.settle([bare]))
        tell(self._observer, LoopCrashed("recorder", f"{kind}: {error}"))
        return verdicts

    def _tell(self, batch: list[tuple[Run, Settlement]], verdicts: Sequence[SettleVerdict]) -> bool:
        """Tell what was stored; whether any of it is tried again, is followed, or may have kept its task waiting."""
        assert self.pool is not None
        stored: list[Settlement] = []
        lets_in = False
        for (run, settlement), verdict in zip(batch, verdicts, strict=True):
            self.pool.forget(run)
            if settlement.state is _QUEUED or settlement.followups or run.claim.task.policy.overlap is not _BESIDE:
                lets_in = True
            if verdict in _STORED:
                stored.append(settlement)
            elif verdict is SettleVerdict.CANCELLED:
                stored.append(settlement.if_cancelled())
            elif settlement.attempt.outcome is not AttemptOutcome.LOST:
                tell(self._observer, ResultRefused(*run.key))
            # Else it was lost: that is told already, and there is no result to refuse.
        if stored:
            tell(self._observer, Settled(stored))
        return lets_in
