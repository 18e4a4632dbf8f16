"""Owns what nobody renewed any more: attempts of lost workers are ended by observation; not: live claims.

No clock of another process is ever compared with ours (guarantees, step R). Each running row is watched: when its
``(epoch, beat)`` stood still for a whole lease **of our own steady clock**, its worker is lost. After a start, a freeze
of ourselves or an outage of the store the watching starts anew, so that nobody is declared dead because *we* were away.
A worker of this very machine whose process is gone for certain needs no watching.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from peregrine.domain.event import Recovered, WentAstray, WentStale
from peregrine.domain.execution import Running, Settlement
from peregrine.domain.ids import WorkerId
from peregrine.domain.moment import Duration, Moment
from peregrine.domain.policy import TIMEOUT_MAX
from peregrine.domain.retry import recover
from peregrine.engine.company import Company
from peregrine.engine.loop import answered, tell
from peregrine.engine.needs import Needs
from peregrine.engine.pool import Pool, RunKey
from peregrine.ports.clock import SKEW_TOLERATED
from peregrine.ports.store import SettleVerdict


@dataclass(slots=True)
class _Watch:
    beat: int
    still_since: int
    epoch_since: int


@dataclass(slots=True)
class _Neighbour:
    counter: int
    still_since: int
    slots: int
    skew: Duration = 0
    """How far its wall clock is ahead of ours, at least."""


class Reaper:
    """The turn of the reaping loop."""

    def __init__(self, needs: Needs, pool: Pool, company: Company, *, on_recovered: Callable[[], None]) -> None:
        self._settings = needs.settings
        self._me = needs.instance
        self._store = needs.store
        self._pool = pool
        self._host = needs.host
        self._clock = needs.clock
        self._entropy = needs.entropy
        self._observer = needs.observer
        self._reference = needs.reference
        self._spread, self._locking = company.spread, company.locking
        self._on_recovered = on_recovered
        self._watched: dict[RunKey, _Watch] = {}
        self._neighbours: dict[WorkerId, _Neighbour] = {}
        self._looked_at: int | None = None
        self._looked_at_wall: Moment = 0
        self._told_stale: set[RunKey] = set()
        self.stale: tuple[Running, ...] = ()
        """Executions that run longer than the stale timeout, as of the last look."""
        self.astray_by: Duration = 0
        """How far this wall clock is ahead of what the reference and another instance agree on; 0: it is not wrong."""

    @property
    def skews(self) -> Mapping[WorkerId, Duration]:
        """How far the wall clock of each other instance is ahead of this one, at least."""
        return {id: one.skew for id, one in self._neighbours.items()}

    @property
    def clock_skew(self) -> Duration:
        """The largest difference seen between this wall clock and another instance's, or the reference's."""
        deviation = self._reference.deviation if self._reference is not None else None
        return max((abs(skew) for skew in (*self.skews.values(), deviation or 0)), default=0)

    async def turn(self) -> Duration:
        """Look at everything that runs anywhere, and end what has lost its worker."""
        self._forget_if_away()
        await answered(self._store.announce(self._me, now=self._clock.now()))
        gone, silent = await self._look_around()
        self._judge_clock()
        rows = await answered(self._store.running())
        looked_at = self._clock.monotonic()
        lost = self._lost(rows, gone, looked_at)
        self._note_stale(rows)
        if lost:
            await self._recover(lost)
            await self._locking.forfeit(row for row in lost if row.worker_id in gone)
        if gone or silent:
            await answered(self._store.retire(sorted(gone | silent)))
        self._looked_at = looked_at
        return self._settings.beat_every

    def _forget_if_away(self) -> None:
        now = self._clock.monotonic()
        if self._looked_at is None or now - self._looked_at > self._settings.lease // 2 + self._settings.beat_every:
            self._watched.clear()
            self._neighbours.clear()

    async def _look_around(self) -> tuple[set[WorkerId], set[WorkerId]]:
        """Processes of this machine that ended for certain, and strangers silent for ten leases.

        The silent ones are shown no more, and that is all: one that can't say that it lives may still renew its runs.
        """
        rows = await answered(self._store.instances())
        now, wall = self._clock.monotonic(), self._clock.now()
        gone: set[WorkerId] = set()
        silent: set[WorkerId] = set()
        neighbours: dict[WorkerId, _Neighbour] = {}
        for instance, counter, written_at in rows:
            if instance.id == self._me.id:
                continue
            known = self._neighbours.get(instance.id) or _Neighbour(counter, now, instance.slots)
            if known.counter != counter:
                # Written since our last look; by how much does it lie outside the time between that look and now?
                ahead, behind = written_at - wall, self._looked_at_wall - written_at
                known = _Neighbour(counter, now, instance.slots, ahead if ahead > 0 else -max(behind, 0))
            neighbours[instance.id] = known
            if self._host.is_gone(instance):
                gone.add(instance.id)
            elif now - known.still_since > 10 * self._settings.lease:
                silent.add(instance.id)
        self._neighbours, self._looked_at_wall = neighbours, wall
        alive = [
            one for id, one in neighbours.items() if id not in gone and now - one.still_since <= self._settings.lease
        ]
        self._spread.rivals, self._spread.rival_slots = len(alive), sum(one.slots for one in alive)
        return gone, silent

    def _judge_clock(self) -> None:
        """See whether our wall clock is the wrong one.

        The reference alone is not believed: if its own clock is wrong, all would stand still. Together with an instance
        that goes by it, it is; and then there is somebody who does what we leave.
        """
        deviation = self._reference.deviation if self._reference is not None else None
        before, self.astray_by = self.astray_by, 0
        if deviation is None or abs(deviation) <= SKEW_TOLERATED:
            return
        slack = SKEW_TOLERATED + self._settings.beat_every
        if any(skew and abs(skew + deviation) <= slack for skew in self.skews.values()):
            self.astray_by = deviation
            if not before:
                tell(self._observer, WentAstray(deviation))

    def _lost(self, rows: Sequence[Running], gone: set[WorkerId], now: int) -> list[Running]:
        lost: list[Running] = []
        watched: dict[RunKey, _Watch] = {}
        for row in rows:
            key = (row.execution_id, row.epoch)
            if self._pool.holds(key):
                continue
            watch = self._watched.get(key) or _Watch(row.beat, now, now)
            if watch.beat != row.beat:
                watch.beat, watch.still_since = row.beat, now
            watched[key] = watch
            if row.worker_id in gone or self._is_lost(row, watch, now):
                lost.append(row)
        self._watched = watched
        return lost

    def _is_lost(self, row: Running, watch: _Watch, now: int) -> bool:
        if now - watch.still_since >= self._settings.lease:
            return True
        # Its worker still renews but does not keep the task's own timeout: it is broken, and waiting won't mend it.
        if row.task is None:
            return False
        # What we see is the definition of today; the attempt keeps to the one it was claimed with. Only one that was
        # never edited is surely the same: moments of two clocks can't tell which came first.
        edited = row.task.revision > 1
        timeout = max(TIMEOUT_MAX, row.task.policy.timeout) if edited else row.task.policy.timeout
        return now - watch.epoch_since >= timeout + 2 * self._settings.lease

    async def _recover(self, lost: Sequence[Running]) -> None:
        now = self._clock.now()
        settlements = [recover(row, self._me.id, now, self._entropy.chance()) for row in lost]
        verdicts = await answered(self._store.settle(settlements))
        written: list[Settlement] = []
        for settlement, verdict in zip(settlements, verdicts, strict=True):
            if verdict is not SettleVerdict.STALE:
                written.append(settlement.if_cancelled() if verdict is SettleVerdict.CANCELLED else settlement)
        if written:
            tell(self._observer, Recovered(written))
            self._on_recovered()

    def _note_stale(self, rows: Sequence[Running]) -> None:
        now = self._clock.now()
        self.stale = tuple(row for row in rows if now - row.started_at > self._settings.stale_after)
        keys = {(row.execution_id, row.epoch) for row in self.stale}
        for row in self.stale:
            if (row.execution_id, row.epoch) not in self._told_stale:
                tell(self._observer, WentStale(row.execution_id, row.worker_id, now - row.started_at))
        self._told_stale = keys
