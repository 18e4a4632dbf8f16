"""Owns which loops there are and their order up and down. Must not know any technology."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final

from peregrine.domain.errors import Unavailable
from peregrine.domain.execution import Outcome, Running
from peregrine.domain.moment import SECOND, Duration
from peregrine.engine.claimer import Claimer
from peregrine.engine.cleaner import Cleaner
from peregrine.engine.company import Company
from peregrine.engine.keeper import Keeper
from peregrine.engine.loop import Loop, answered
from peregrine.engine.needs import Needs
from peregrine.engine.planner import Planner
from peregrine.engine.pool import Pool
from peregrine.engine.reaper import Reaper
from peregrine.engine.recorder import Recorder
from peregrine.engine.run import Ending, Run
from peregrine.ports.bus import Topic
from peregrine.ports.engine_view import EngineFacts, EngineMode
from peregrine.ports.journal import RunJournal

TURNS_WITHIN: Final[Duration] = 10 * SECOND
"""How long a shutdown waits for the turns under way; a claim that is cut off leaves work to be found by the reaper."""
FLUSH_WITHIN: Final[Duration] = 5 * SECOND
"""How long a shutdown waits for outcomes to be stored, once nothing runs any more."""
LEAVE_WITHIN: Final[Duration] = 2 * SECOND
"""How long the last words of a shutdown may take, when nothing depends on them any more."""
HURRIED_WITHIN: Final[Duration] = SECOND
"""How long each of these waits may still take once somebody is in a hurry."""
FENCE_LOOK: Final[Duration] = SECOND
"""Longest time between two looks at the leases: a thawed process notices within it."""


class Engine:
    """The hall: planner, claimer, pool, recorder, keeper, fence, reaper and cleaner over one store.

    Any number of engines may share a store; none leads. ``start`` and ``stop`` are safe twice.
    """

    def __init__(self, needs: Needs) -> None:
        settings = needs.settings
        self.instance = needs.instance
        self.settings = settings
        self._store, self._clock, self._bus = needs.store, needs.clock, needs.bus
        company = Company.of(needs)
        self._spread = company.spread
        self._recorder = Recorder(needs, company.locking, on_settled=self._settled, on_let_in=self._let_in)
        self._pool = Pool(needs, on_end=self._run_ended)
        self._recorder.pool = self._pool
        self._reaper = Reaper(needs, self._pool, company, on_recovered=self._queued)
        self._planner = Planner(
            needs,
            self._spread,
            on_queued=self._queued,
            on_clock_back=self._clock_went_back,
            is_astray=lambda: self._reaper.astray_by != 0,
        )
        self._cleaner = Cleaner(needs, on_reanchored=self._planner.forget_future)
        self._claimer = Claimer(needs, self._pool, company, on_claimed=self._claimed, on_spilled=self._spilled)
        keeper = Keeper(needs, self._pool, company.locking)

        def loop(name: str, turn: Callable[[], Awaitable[Duration]], poll: Duration) -> Loop:
            return Loop(name, turn, clock=needs.clock, observer=needs.observer, poll=poll)

        self._plan = loop("planner", self._planner.turn, settings.poll)
        self._claim = loop("claimer", self._claimer.turn, settings.poll)
        self._record = loop("recorder", self._recorder.turn, settings.poll)
        self._keep = loop("keeper", keeper.turn, min(settings.poll, settings.beat_every))
        self._fence = loop("fence", self._fence_turn, FENCE_LOOK)
        self._reap = loop("reaper", self._reaper.turn, settings.beat_every)
        self._clean = loop("cleaner", self._cleaner.turn, settings.cleanup_interval)
        self._loops = (self._record, self._keep, self._fence, self._reap, self._claim, self._plan, self._clean)
        self._unsubscribe: list[Callable[[], None]] = []
        self._mode = EngineMode.STOPPED
        self._changing = asyncio.Lock()
        self._hurry = asyncio.Event()

    async def start(self) -> None:
        """Begin: everything that guards running work first, then what makes and starts it. Waits for a stop to end."""
        async with self._changing:
            if self._mode is EngineMode.RUNNING:
                return
            self._hurry.clear()
            self._pool.open()
            self._unsubscribe = self._unsubscribe or [
                self._bus.subscribe(Topic.QUEUED, self._told),
                self._bus.subscribe(Topic.SPILLED, self._offered),
                self._bus.subscribe(Topic.TASKS, self._tasks_changed),
                self._bus.subscribe(Topic.CANCEL, self._keep.wake),
            ]
            for one in self._loops:
                one.start()
            self._mode = EngineMode.RUNNING

    async def stop(self, *, grace: Duration | None = None) -> None:
        """End: make and start nothing more, let what runs finish for *grace*, interrupt the rest, store every outcome.

        The lease is renewed until the last run has ended. What can't be stored in time is found by the next start.
        Ends within a bounded time even if the store never answers; a second call waits for the first.
        """
        async with self._changing:
            if self._mode is EngineMode.STOPPED:
                return
            self._mode = EngineMode.DRAINING
            for unsubscribe in self._unsubscribe:
                unsubscribe()
            self._unsubscribe = []
            self._pool.close()
            await self._until(_stopped(self._plan, self._claim, self._clean), TURNS_WITHIN + LEAVE_WITHIN)
            await self._until(self._pool.idle(), self.settings.shutdown_grace if grace is None else grace)
            self._pool.end_all(Ending.INTERRUPTED)
            await _at_most(self._pool.idle(), self.settings.stop_grace + SECOND)
            self._record.wake()
            await self._until(self._recorder.empty(), FLUSH_WITHIN)
            await _stopped(self._reap, self._keep, self._fence, self._record, within=LEAVE_WITHIN)
            try:
                await self._retire()
            finally:
                self._mode = EngineMode.STOPPED
                self._pool.journals.wake_all()

    def interrupt(self) -> None:
        """Do not wait any longer in a ``stop`` under way: interrupt what still runs, cut every other wait short."""
        if self._mode is EngineMode.DRAINING:
            self._hurry.set()
            self._pool.end_all(Ending.INTERRUPTED)

    def facts(self) -> EngineFacts:
        """What is true of this engine now (``ports.engine_view``)."""
        failing = {one.name: one.failure for one in self._loops if one.failing_since is not None}
        since = min((one.away_since for one in self._loops if one.away_since is not None), default=None)
        return EngineFacts(
            mode=self._mode,
            instance=self.instance.id,
            slots=self.settings.slots,
            active=self._pool.active,
            failing=failing,
            store_away_since=None if since is None else self._clock.now() - (self._clock.monotonic() - since),
            stale=len(self._reaper.stale),
            clock_steps=self._planner.clock_steps,
            quiet_for=self._planner.quiet_for,
            clock_skew=self._reaper.clock_skew,
            skews=self._reaper.skews,
            is_astray=self._reaper.astray_by != 0,
        )

    @property
    def active(self) -> int:
        """Attempts that run here now."""
        return self._pool.active

    @property
    def unsettled(self) -> int:
        """Outcomes that wait to be stored."""
        return self._recorder.waiting

    @property
    def stale(self) -> Sequence[Running]:
        """Executions on any instance that run longer than the stale timeout, as of the last look."""
        return self._reaper.stale

    @property
    def journal(self) -> RunJournal:
        """What the runs here say, while they say it."""
        return self._pool.journals

    async def _until(self, what: Coroutine[Any, Any, object], within: Duration) -> None:
        """Wait for *what*: at most *within*, and hardly any longer once somebody is in a hurry."""
        waiting = asyncio.ensure_future(what)
        hurry = asyncio.ensure_future(self._hurry.wait())
        try:
            await asyncio.wait({waiting, hurry}, timeout=within / 1000, return_when=asyncio.FIRST_COMPLETED)
            if hurry.done() and not waiting.done():
                await asyncio.wait({waiting}, timeout=min(within, HURRIED_WITHIN) / 1000)
        finally:
            waiting.cancel()
            hurry.cancel()

    async def _retire(self) -> None:
        """Say that this process has gone. With outcomes still to store, others shall notice it, and recover them."""
        if self._recorder.waiting:
            return
        try:
            await answered(self._store.retire([self.instance.id]), LEAVE_WITHIN)
        except Unavailable:
            pass  # the row is taken away by whoever notices that this process has gone

    async def _fence_turn(self) -> Duration:
        nearest = self._pool.fence()
        return FENCE_LOOK if nearest is None else max(1, nearest - self._clock.monotonic())

    def _run_ended(self, run: Run, outcome: Outcome) -> None:
        self._recorder.take(run, outcome)
        self._record.wake()
        if self._claimer.wants_slots:
            self._claim.wake()

    def _claimed(self) -> None:
        # A lease may be shorter than the fence's pause.
        self._fence.wake()

    def _clock_went_back(self) -> None:
        self._cleaner.soon()
        self._clean.wake()

    def _tasks_changed(self) -> None:
        self._planner.tasks_changed()
        self._plan.wake()

    def _queued(self) -> None:
        self._told()
        self._bus.publish(Topic.QUEUED)

    def _told(self) -> None:
        self._claimer.told()
        self._claim.wake()

    def _spilled(self) -> None:
        self._bus.publish(Topic.SPILLED)

    def _offered(self) -> None:
        """Others have more than they have slots for. Whoever comes first has it: not all at this very moment."""
        if self._pool.free:
            asyncio.get_running_loop().call_later(self._spread.stagger() / 1000, self._claim.wake)

    def _let_in(self) -> None:
        self._claim.wake()

    def _settled(self) -> None:
        if self._claimer.wants_slots:
            self._claim.wake()
        self._bus.publish(Topic.SETTLED)


async def _stopped(*loops: Loop, within: Duration = TURNS_WITHIN) -> None:
    await asyncio.gather(*(one.stop(within) for one in loops))


async def _at_most(what: Awaitable[object], within: Duration) -> None:
    try:
        async with asyncio.timeout(within / 1000):
            await what
    except TimeoutError:
        pass
