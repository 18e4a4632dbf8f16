"""Owns one attempt while it runs: its deadline, how it is told to stop, and the outcome of whatever happens.
Must not know retries or stores.

Everything that ends a run early — timeout, cancel, a lease that can't be kept, shutdown — arrives at ``end`` and the
first one wins. The executor's coroutine is cancelled; if it has not let go after ``stop_grace`` it is abandoned: the
outcome is given without it, and whatever it still says is dropped.

An executor may be anybody's code, so nothing that it does may end more than its own attempt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from typing import Final

from peregrine.domain.execution import CANCELLED_ERROR, CANCELLED_OUTPUT, LOST_ERROR, AttemptOutcome, Claim, Outcome
from peregrine.domain.journal import detail_of
from peregrine.domain.moment import Duration, format_duration
from peregrine.domain.payload import with_parameters
from peregrine.engine.alarms import Alarms
from peregrine.engine.belief import believed, failure_of
from peregrine.engine.journal import Journal
from peregrine.ports.executor import Executor


class Ending(StrEnum):
    """Why a run is told to stop."""

    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    """We shut down."""
    FENCED = "fenced"
    """Another worker has taken over: nothing may be written."""
    LEASE_ENDED = "lease_ended"
    """Our lease could not be kept; nobody has taken over yet as far as we know."""
    HELD_BACK = "held_back"
    """Another execution of the task holds its lock: the claim goes back to the queue for a while."""


_NOT_STARTED: Final = {
    Ending.LEASE_ENDED: "not started: the claim was answered when its lease had ended",
    Ending.INTERRUPTED: "not started: the service was being stopped",
    Ending.HELD_BACK: "not started: another execution holds the lock of its task",
}


class Run:
    """One attempt, from its start until its outcome is given to *on_end*, exactly once. Is its own ``RunContext``."""

    def __init__(
        self,
        claim: Claim,
        *,
        fence_at: int,
        deadline: int,
        stop_grace: Duration,
        steady: Callable[[], int],
        alarms: Alarms[Run],
        journal: Journal,
        on_end: Callable[[Run, Outcome], None],
    ) -> None:
        self.claim = claim
        self.key = (claim.execution_id, claim.epoch)
        self.fence_at = fence_at
        """Steady-clock moment at which this run must have stopped unless the lease is renewed."""
        self.deadline = deadline
        self.ending: Ending | None = None
        self.back_after: Duration | None = None
        """How long the execution waits in the queue if this run is never started."""
        self.abandoned = False
        self.ended = False
        self.journal = journal
        self._stop_grace = stop_grace
        self._steady = steady
        self._has_lapsed = False
        self._alarms = alarms
        self._on_end = on_end
        self._task: asyncio.Task[Outcome] | None = None
        self._abandoning: asyncio.TimerHandle | None = None

    @property
    def began(self) -> bool:
        """Whether its attempt was begun."""
        return self._task is not None

    @property
    def worker_id(self) -> str:
        return self.claim.worker_id

    def log(self, line: str) -> None:
        """Keep *line* with the execution."""
        self.journal.log(line)

    def progress(self, fraction: float, text: str = "") -> None:
        """Say how far it is, 0 to 1."""
        self.journal.step(fraction, text)

    def start(self, executor: Executor) -> None:
        """Begin the attempt. Its claim has been committed."""
        self._task = asyncio.get_running_loop().create_task(self._attempt(executor))
        self._task.add_done_callback(self._finished)
        self._alarms.set(self.deadline, self.claim.task.policy.timeout, self)

    def end(self, ending: Ending) -> None:
        """Tell the run to stop, because of *ending*; the first one wins.

        A run that has come to its end already, though its outcome is not given yet, has won.
        """
        if self.ended or self.ending is not None or (self._task is not None and self._task.done()):
            return
        self.ending = ending
        self._disarm()
        if self._task is None:
            self._give(self._early_outcome())
            return
        self._task.cancel()
        self._abandoning = asyncio.get_running_loop().call_later(self._stop_grace / 1000, self._abandon)

    async def _attempt(self, executor: Executor) -> Outcome:
        if self._steady() >= self.fence_at and self.ending is None:
            # We slept just between the start and this first step of it.
            self.ending, self._has_lapsed = Ending.LEASE_ENDED, True
            return self._early_outcome()
        try:
            payload = with_parameters(self.claim.task.payload, self.claim.parameters)
            return believed(await executor.run(payload, self))
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            # SystemExit too: a task that leaves the program leaves its own attempt, not the service.
            return failure_of(error)

    def _finished(self, task: asyncio.Task[Outcome]) -> None:
        if self.ended:
            return  # an abandoned run has let go at last
        if self.ending is not None:
            self._give(self._early_outcome())
        elif task.cancelled():
            self._give(Outcome.failed("the run cancelled itself"))
        else:
            self._give(task.result())

    def _abandon(self) -> None:
        assert self._task is not None
        self.abandoned = True
        self._task.cancel()  # once more, in case that it swallowed the first one by mistake
        self._give(self._early_outcome())

    def _early_outcome(self) -> Outcome:
        assert self.ending is not None
        if self._task is None or self._has_lapsed:
            return Outcome(
                verdict=AttemptOutcome.INTERRUPTED,
                error=_NOT_STARTED.get(self.ending, "not started"),
                began=False,
                retry_after=self.back_after,
            )
        note = "; it did not stop when told and was abandoned" if self.abandoned else ""
        match self.ending:
            case Ending.TIMED_OUT:
                limit = format_duration(self.claim.task.policy.timeout)
                return Outcome(verdict=AttemptOutcome.TIMED_OUT, error=f"timed out after {limit}{note}")
            case Ending.CANCELLED:
                return Outcome(verdict=AttemptOutcome.CANCELLED, error=CANCELLED_ERROR, output=CANCELLED_OUTPUT)
            case Ending.INTERRUPTED | Ending.HELD_BACK:
                return Outcome(verdict=AttemptOutcome.INTERRUPTED, error=f"interrupted: the service was stopped{note}")
            case Ending.FENCED | Ending.LEASE_ENDED:
                return Outcome(verdict=AttemptOutcome.LOST, error=f"{LOST_ERROR}: the lease could not be kept{note}")

    def _give(self, outcome: Outcome) -> None:
        self.ended = True
        self.journal.close()
        self._disarm()
        self._on_end(self, self._with_notes(outcome))

    def _with_notes(self, outcome: Outcome) -> Outcome:
        """*outcome* with what was said, and whether the run was abandoned."""
        if self.journal.is_silent and not self.abandoned:
            return outcome
        notes = detail_of(self.journal.said())
        if self.abandoned:
            notes["abandoned"] = True
        return replace(outcome, detail=outcome.detail | notes)

    def _disarm(self) -> None:
        self._alarms.drop(self.deadline, self)
        if self._abandoning is not None:
            self._abandoning.cancel()
            self._abandoning = None
