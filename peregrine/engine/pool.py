"""Owns the slots: every run from its claim until its settlement is stored. Must not know triggers, stores, retries.

The table is keyed by (execution, epoch), not by execution: this worker may claim the next attempt of an execution
while the answer to the previous settlement is still unsure (guarantees, step R).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from peregrine.domain.event import AttemptAbandoned, Claimed
from peregrine.domain.execution import Claim, Outcome
from peregrine.domain.ids import ExecutionId
from peregrine.engine.alarms import Alarms
from peregrine.engine.coming import Coming, left_until
from peregrine.engine.journal import Journals
from peregrine.engine.loop import tell
from peregrine.engine.needs import Needs
from peregrine.engine.run import Ending, Run

RunKey: TypeAlias = tuple[ExecutionId, int]


class Pool:
    """Starts claims, knows what runs, and hands each outcome on once. *on_end* takes the outcome of a run."""

    def __init__(self, needs: Needs, *, on_end: Callable[[Run, Outcome], None]) -> None:
        self._settings = needs.settings
        self._executor = needs.executor
        self._clock = needs.clock
        self._observer = needs.observer
        self._on_end = on_end
        self.journals = Journals(needs.clock.now)
        self._alarms = Alarms[Run](lambda run: run.end(Ending.TIMED_OUT))
        self._coming = Coming(needs.clock, self._begin)
        self._runs: dict[RunKey, Run] = {}
        self._active = 0
        self._is_open = True
        self._idle: asyncio.Event = asyncio.Event()
        self._idle.set()

    @property
    def active(self) -> int:
        """Attempts that run now."""
        return self._active

    @property
    def free(self) -> int:
        """How many more may be claimed: free slots, less when many outcomes wait to be stored (back-pressure)."""
        if not self._is_open:
            return 0
        unsettled = len(self._runs) - self._active
        return max(0, min(self._settings.slots - self._active, 2 * self._settings.slots - unsettled))

    def holds(self, key: RunKey) -> bool:
        """Whether this worker runs, or has yet to store, exactly this attempt."""
        return key in self._runs

    def runs(self) -> Sequence[Run]:
        """All runs whose settlement is not stored yet."""
        return tuple(self._runs.values())

    def open(self) -> None:
        """Start what is claimed from now on."""
        self._is_open = True

    def close(self) -> None:
        """Start nothing more: what was claimed and has not begun is given back, for another worker."""
        self._is_open = False
        for run in self.runs():
            if not run.began:
                run.end(Ending.INTERRUPTED)

    def start(self, claims: Iterable[Claim], *, asked_at: int) -> None:
        """Run *claims*, asked for at *asked_at* on the steady clock: their lease counts from before the asking.

        One that was claimed early waits here for its moment.
        """
        now, fence_at, wall = self._clock.monotonic(), asked_at + self._settings.held, self._clock.now()
        ready: list[Run] = []
        early: list[Run] = []
        for claim in claims:
            wait = left_until(claim.started_at, wall) if claim.started_at > wall else 0
            run = self._take(claim, fence_at, now + wait)
            (early if wait else ready).append(run)
        self._begin(ready)
        if early:
            self._coming.add(early)

    def _begin(self, runs: Sequence[Run]) -> None:
        now = self._clock.monotonic()
        begun: list[Claim] = []
        for run in runs:
            if run.ended:
                continue  # while it waited for its moment
            if now >= run.fence_at:
                # We slept through the lease between asking and now; others may already be at it.
                run.end(Ending.LEASE_ENDED)
            elif not self._is_open:
                run.end(Ending.INTERRUPTED)
            else:
                run.start(self._executor)
                begun.append(run.claim)
        if begun:
            tell(self._observer, Claimed(begun, self._clock.now()))

    def put_back(self, claims: Iterable[Claim], *, asked_at: int) -> None:
        """Give *claims* back unstarted: the lock of their task is held, by a frozen worker perhaps."""
        now, fence_at, back_after = self._clock.monotonic(), asked_at + self._settings.held, self._settings.held_back
        for claim in claims:
            run = self._take(claim, fence_at, now)
            run.back_after = back_after
            run.end(Ending.HELD_BACK)

    def _take(self, claim: Claim, fence_at: int, starts_at: int) -> Run:
        run = Run(
            claim,
            fence_at=fence_at,
            deadline=starts_at + claim.task.policy.timeout,
            stop_grace=self._settings.stop_grace,
            steady=self._clock.monotonic,
            alarms=self._alarms,
            journal=self.journals.open(claim),
            on_end=self._ended,
        )
        self._runs[run.key] = run
        if self._active == 0:
            self._idle.clear()
        self._active += 1
        return run

    def forget(self, run: Run) -> None:
        """The run's settlement is stored, or can never be: let go of it."""
        self._runs.pop(run.key, None)
        self.journals.forget(run.journal)

    def fence(self) -> int | None:
        """Stop every run whose lease or time has ended; the steady-clock moment of the next such end, None without.

        A run's own timer stands still while the machine sleeps; the steady clock does not.
        """
        now = self._clock.monotonic()
        nearest: int | None = None
        for run in self.runs():
            if run.ended or run.ending is not None:
                continue
            if run.fence_at <= now:
                run.end(Ending.LEASE_ENDED)
            elif run.deadline <= now:
                run.end(Ending.TIMED_OUT)
            else:
                ends_at = min(run.fence_at, run.deadline)
                nearest = ends_at if nearest is None else min(nearest, ends_at)
        return nearest

    def end_all(self, ending: Ending) -> None:
        """Tell every run to stop."""
        for run in self.runs():
            run.end(ending)

    async def idle(self) -> None:
        """Return when nothing runs."""
        await self._idle.wait()

    def _ended(self, run: Run, outcome: Outcome) -> None:
        self._active -= 1
        if self._active == 0:
            self._idle.set()
        if run.abandoned:
            tell(self._observer, AttemptAbandoned(*run.key))
        self._on_end(run, outcome)
