"""Owns due → queued: what is due is decided by ``domain.planning`` and written in one batch; not: executors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from peregrine.domain.event import ClockStepped, Planned, Unplannable
from peregrine.domain.moment import SECOND, Duration, Moment
from peregrine.domain.planning import DueTask, Plan, plan
from peregrine.engine.loop import tell
from peregrine.engine.needs import Needs
from peregrine.ports.store import PlanVerdict

BATCH: Final = 250
"""Most tasks decided in one turn: small enough that claims and the API never wait long for a turn to end."""
CLOCK_STEP: Final[Duration] = 2 * SECOND
"""A wall clock that moved so far against the steady one between two turns was stepped (guarantees, clock rule 2)."""
ROOM_PAUSE: Final[Duration] = 50
"""How soon to look again for room in a full queue."""


class Planner:
    """The turn of the planning loop."""

    def __init__(self, needs: Needs, *, on_queued: Callable[[], None]) -> None:
        self._settings = needs.settings
        self._store = needs.store
        self._clock = needs.clock
        self._observer = needs.observer
        self._on_queued = on_queued
        self._offset: int | None = None
        self._latest: Moment = 0
        self.clock_steps = 0

    async def turn(self) -> Duration:
        """Decide everything that is due, once; how long until something is due again."""
        now = self._look_at_clock()
        batch = await self._store.due(now, BATCH)
        plans = self._plans(batch.due, now, self._settings.queue_size - batch.queued)
        if plans:
            await self._write(plans, now)
        if len(plans) < len(batch.due):
            return ROOM_PAUSE
        if len(batch.due) >= BATCH:
            return 0
        return self._settings.poll if batch.next_due_at is None else max(0, batch.next_due_at - self._clock.now())

    def _plans(self, due: Sequence[DueTask], now: Moment, room: int) -> list[Plan]:
        plans: list[Plan] = []
        for one in due:
            decided = self._plan(one, now, max(0, room))
            if decided is not None:
                room -= len(decided.executions)
                plans.append(decided)
        return plans

    def _plan(self, due: DueTask, now: Moment, room: int) -> Plan | None:
        try:
            return plan(due, now, room)
        except (ValueError, ArithmeticError, LookupError) as error:
            # Its schedule can't be read any more (zone data changed under it): out of the way, flagged, until edited.
            tell(self._observer, Unplannable(due.task.id, f"{type(error).__name__}: {error}"))
            return Plan(
                task_id=due.task.id,
                generation=due.task.generation,
                cursor=due.cursor,
                cursor_after=due.cursor,
                next_run_at=None,
            )

    async def _write(self, plans: list[Plan], now: Moment) -> None:
        verdicts = await self._store.apply_plans(plans, now)
        applied = [p for p, v in zip(plans, verdicts, strict=True) if v is PlanVerdict.APPLIED]
        if any(p.executions for p in applied):
            self._on_queued()
        tell(self._observer, Planned(applied, len(plans) - len(applied)))

    def _look_at_clock(self) -> Moment:
        now = self._clock.now()
        offset = now - self._clock.monotonic()
        if self._offset is not None and abs(offset - self._offset) > CLOCK_STEP:
            self.clock_steps += 1
            tell(self._observer, ClockStepped(offset - self._offset, now))
        self._offset = offset
        self._latest = max(self._latest, now)
        return now

    @property
    def quiet_for(self) -> Duration:
        """How long nothing new falls due because the wall clock went back; 0 when it did not."""
        return max(0, self._latest - self._clock.now())
