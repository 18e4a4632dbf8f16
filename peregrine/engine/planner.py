"""Owns due → queued: what is due is decided by ``domain.planning`` and written in one batch; not: executors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from peregrine.domain.errors import Unavailable
from peregrine.domain.event import ClockStepped, Planned, Unplannable
from peregrine.domain.moment import SECOND, Duration, Moment
from peregrine.domain.occurrence import Reason
from peregrine.domain.planning import AHEAD, QUEUE_PATIENCE, DueTask, Plan, foreseen, plan
from peregrine.engine.loop import answered, tell
from peregrine.engine.needs import Needs
from peregrine.engine.spread import Spread
from peregrine.ports.store import DueBatch, PlanVerdict

BATCH: Final = 1000
"""Most tasks decided in one turn; more due ones follow in the next."""
CLOCK_STEP: Final[Duration] = 2 * SECOND
"""A wall clock that moved so far against the steady one between two turns was stepped (guarantees, clock rule 2)."""
ROOM_PAUSE: Final[Duration] = 50
"""How soon to look again for room in a full queue."""
BREATH: Final[Duration] = 2
"""Longest time of deciding in one go: some hundred tasks. After an outage one can take milliseconds, and leases must be
renewed; and what is decided is written while more is being decided (decision 0113)."""
DECIDING_MAX: Final[Duration] = 250
"""After so long the rest follows in the next turn: the moment for which it is decided has grown old."""


class Planner:
    """The turn of the planning loop. *on_clock_back* hears when the wall clock was set back; while *is_astray*, the
    clock is known to be wrong, and what is due is left to others."""

    def __init__(
        self,
        needs: Needs,
        spread: Spread,
        *,
        on_queued: Callable[[], None],
        on_clock_back: Callable[[], None],
        is_astray: Callable[[], bool] = lambda: False,
    ) -> None:
        self._settings = needs.settings
        self._store = needs.store
        self._clock = needs.clock
        self._observer = needs.observer
        self._chance = needs.entropy.chance
        self._on_queued = on_queued
        self._on_clock_back = on_clock_back
        self._spread, self._is_astray = spread, is_astray
        self._offset: int | None = None
        self._latest: Moment = 0
        self._prepared: Moment | None = None
        """The moment, just coming, for which all is planned that can be planned before it."""
        self._full_since: int | None = None
        """Steady-clock moment at which the queue was found full; None while there is room for all."""
        self.clock_steps = 0

    async def turn(self) -> Duration:
        """Decide everything that is due, once; how long until something is due again."""
        began, now = self._clock.monotonic(), self._look_at_clock()
        if self._is_astray():
            return self._settings.poll
        batch = await answered(self._store.due(now, BATCH))
        async with Desk(lambda plans: self._write(plans, now)) as desk:
            looked_at = await self._decide(batch, now, desk)
        plans = desk.taken
        if looked_at < len(batch.due) or (len(batch.due) >= BATCH and len(plans) == looked_at):
            return 0
        if len(plans) < looked_at:
            # At least half of the time is left to the work that makes room.
            return max(ROOM_PAUSE, self._clock.monotonic() - began)
        # The planned ones fall due again too: a task of each second must not wait for a look that comes by chance.
        coming = [batch.next_due_at, *(one.next_run_at for one in plans)]
        soonest = min((moment for moment in coming if moment is not None), default=None)
        if soonest is None:
            return self._spread.jittered(self._settings.poll)
        if self._spread.rivals:
            # All instances know the moment; one that comes a little sooner leaves the others nothing to write.
            return max(0, soonest - self._clock.now() + self._spread.stagger())
        return await self._until(soonest)

    async def _until(self, moment: Moment) -> Duration:
        """How long to wait for *moment*; when it is close, with its plans made and written."""
        left = moment - self._clock.now()
        if left > AHEAD:
            return left - AHEAD
        if left > 0 and self._full_since is None and self._prepared != moment:
            self._prepared = moment
            await self._prepare(moment)
        return max(0, moment - self._clock.now())

    async def _prepare(self, moment: Moment) -> None:
        """Plan what will be due at *moment*, as far as nothing else can come of it; the rest is looked at then."""
        left = moment - self._clock.now()
        while left > 0:
            try:
                batch = await answered(self._store.due(moment, BATCH), left)
            except Unavailable:
                return  # the look at the moment itself will say so
            async with Desk(lambda plans: self._write(plans, self._clock.now())) as desk:
                await self._foresee(batch, moment, desk)
            if len(batch.due) < BATCH or len(desk.taken) < BATCH:
                return
            left = moment - self._clock.now()

    async def _foresee(self, batch: DueBatch, moment: Moment, desk: Desk) -> None:
        room = self._settings.queue_size - batch.queued
        breathed = self._clock.monotonic()
        for one in batch.due[: max(0, room)]:
            try:
                decided = foreseen(one, moment)
            except Exception:  # told when it is due
                continue
            if decided is not None:
                desk.lay(decided)
            if self._clock.monotonic() - breathed >= BREATH:
                desk.hand_over()
                await asyncio.sleep(0)
                breathed = self._clock.monotonic()

    async def _decide(self, batch: DueBatch, now: Moment, desk: Desk) -> int:
        """Plan for the longest due, and lay each plan on *desk*; how many tasks were looked at for them, since a task
        may have to wait for room.

        Others breathe in between; the compare-and-swap of each plan makes it harmless if the world moves meanwhile.
        """
        began = breathed = self._clock.monotonic()
        room = max(0, self._settings.queue_size - batch.queued)
        is_patient = self._is_patient(began)
        looked_at = 0
        for one in self._in_order(batch.due, is_patient=is_patient):
            looked_at += 1
            if room == 0 and (is_patient or now - one.cursor < QUEUE_PATIENCE):
                continue  # it would have to wait; finding that out for each, again and again, would be dear
            decided = self._plan(one, now, room)
            if decided is not None and not (is_patient and decided.skips and _is_refused(decided)):
                room -= len(decided.executions)
                desk.lay(decided)
            if self._clock.monotonic() - breathed >= BREATH:
                desk.hand_over()
                await asyncio.sleep(0)
                breathed = self._clock.monotonic()
                if desk.taken and breathed - began >= DECIDING_MAX:
                    break
        self._note_room(began, is_full=room == 0 or len(desk.taken) < looked_at)
        return looked_at

    def _in_order(self, due: Sequence[DueTask], *, is_patient: bool) -> Sequence[DueTask]:
        """The longest due first; by lot in a jam that lasts. There all are due since the same few moments, and what
        little room there is would go to the same tasks each time."""
        return due if is_patient else sorted(due, key=lambda _: self._chance())

    def _is_patient(self, now: int) -> bool:
        """Whether the jam, if there is one, is so young that nothing is dropped for it, however long it was due."""
        return self._full_since is None or now - self._full_since < QUEUE_PATIENCE

    def _note_room(self, now: int, *, is_full: bool) -> None:
        if not is_full:
            self._full_since = None
        elif self._full_since is None:
            self._full_since = now

    def _plan(self, due: DueTask, now: Moment, room: int) -> Plan | None:
        try:
            return plan(due, now, room)
        except Exception as error:
            # Its schedule can't be read any more (zone data changed under it), or it meets a bug of ours: out of the
            # way, flagged, until edited. Raised, it would hold up every other task, at each turn anew.
            tell(self._observer, Unplannable(due.task.id, f"{type(error).__name__}: {error}"))
            return Plan(
                task_id=due.task.id,
                generation=due.task.generation,
                cursor=due.cursor,
                cursor_after=due.cursor,
                next_run_at=None,
            )

    async def _write(self, plans: Sequence[Plan], now: Moment) -> None:
        if not plans:
            return
        verdicts = await answered(self._store.apply_plans(plans, now))
        moved = PlanVerdict.MOVED
        applied = [plan for plan, verdict in zip(plans, verdicts, strict=True) if verdict is not moved]
        if any(p.executions for p in applied):
            self._on_queued()
        tell(self._observer, Planned(applied, len(plans) - len(applied)))

    def _look_at_clock(self) -> Moment:
        now = self._clock.now()
        offset = now - self._clock.monotonic()
        moved = 0 if self._offset is None else offset - self._offset
        self._offset = offset
        self._latest = max(self._latest, now)
        if abs(moved) > CLOCK_STEP:
            self.clock_steps += 1
            tell(self._observer, ClockStepped(moved, now))
            if moved < 0:
                self._on_clock_back()
        return now

    def tasks_changed(self) -> None:
        """There may be more now that can be planned before its moment."""
        self._prepared = None

    @property
    def quiet_for(self) -> Duration:
        """How long nothing new falls due because the wall clock went back; 0 when it did not."""
        return max(0, self._latest - self._clock.now())

    def forget_future(self) -> None:
        """Cursors were set back to now: nothing is quiet any more."""
        self._latest = self._clock.now()


class Desk:
    """Where plans lie until *write* has time for them. Leaving it waits until all are written, or fails as *write*."""

    def __init__(self, write: Callable[[Sequence[Plan]], Coroutine[Any, Any, None]]) -> None:
        self.taken: list[Plan] = []
        """All plans so far."""
        self._write = write
        self._handed = 0
        self._writing: asyncio.Task[None] | None = None

    def lay(self, plan: Plan) -> None:
        """Leave *plan* to be written."""
        self.taken.append(plan)

    def hand_over(self) -> None:
        """Begin to write what lies here, unless something is being written still: then it waits, and more with it."""
        if len(self.taken) == self._handed or (self._writing is not None and not self._writing.done()):
            return
        if self._writing is not None:
            self._writing.result()
        part, self._handed = self.taken[self._handed :], len(self.taken)
        self._writing = asyncio.get_running_loop().create_task(self._write(part))

    async def __aenter__(self) -> Desk:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._writing is not None:
            if error is not None:
                self._writing.cancel()
                await asyncio.gather(self._writing, return_exceptions=True)
                return
            await self._writing
        if error is None:
            await self._write(self.taken[self._handed :])


def _is_refused(decided: Plan) -> bool:
    return any(skip.reason is Reason.QUEUE_FULL for skip in decided.skips)
