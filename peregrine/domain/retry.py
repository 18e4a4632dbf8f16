"""Owns what follows the end of an attempt: again at a moment, or stop. Must not know sleeping, clocks or chance."""

from __future__ import annotations

from typing import Final

from peregrine.domain.execution import (
    CANCELLED_ERROR,
    CANCELLED_OUTPUT,
    LOST_ERROR,
    POISON_ERROR,
    Attempt,
    AttemptOutcome,
    Claim,
    ExecutionOutcome,
    Outcome,
    Running,
    Settlement,
    State,
)
from peregrine.domain.lifecycle import Happening, next_state
from peregrine.domain.moment import HOUR, Duration, Moment
from peregrine.domain.planning import AHEAD
from peregrine.domain.policy import LOSSES_MAX, OnWorkerLost, Policy

BACKOFF_MAX: Final[Duration] = HOUR
"""No wait between attempts is longer, unless ``retry_interval`` itself or the other side's ``Retry-After`` is."""
RETRY_AFTER_MAX: Final[Duration] = 24 * HOUR

_RUNNING: Final = State.RUNNING
_CANCELLED: Final = AttemptOutcome.CANCELLED
_DONE: Final = frozenset({AttemptOutcome.SUCCEEDED, AttemptOutcome.CANCELLED})
_LOST: Final = frozenset({AttemptOutcome.LOST, AttemptOutcome.FENCED})
_COUNTED: Final = frozenset({AttemptOutcome.FAILED, AttemptOutcome.TIMED_OUT})
"""Those that count against ``max_retries``."""
_LAST: Final = {
    AttemptOutcome.SUCCEEDED: Happening.SUCCEEDED,
    AttemptOutcome.CANCELLED: Happening.CANCELLED,
    AttemptOutcome.INTERRUPTED: Happening.LOST_LAST,
    AttemptOutcome.LOST: Happening.LOST_LAST,
    AttemptOutcome.FENCED: Happening.LOST_LAST,
    AttemptOutcome.FAILED: Happening.FAILED_LAST,
    AttemptOutcome.TIMED_OUT: Happening.FAILED_LAST,
}
"""What happens to an execution whose attempt ended so, if it is not tried again."""
_AGAIN: Final = {
    AttemptOutcome.INTERRUPTED: Happening.INTERRUPTED,
    AttemptOutcome.LOST: Happening.LOST_AGAIN,
    AttemptOutcome.FENCED: Happening.LOST_AGAIN,
    AttemptOutcome.FAILED: Happening.FAILED_AGAIN,
    AttemptOutcome.TIMED_OUT: Happening.FAILED_AGAIN,
}
"""The same, if it is."""
_FINAL: Final = {
    AttemptOutcome.SUCCEEDED: ExecutionOutcome.SUCCEEDED,
    AttemptOutcome.FAILED: ExecutionOutcome.FAILED,
    AttemptOutcome.TIMED_OUT: ExecutionOutcome.TIMED_OUT,
    AttemptOutcome.CANCELLED: ExecutionOutcome.CANCELLED,
    AttemptOutcome.LOST: ExecutionOutcome.ABANDONED,
    AttemptOutcome.FENCED: ExecutionOutcome.ABANDONED,
    AttemptOutcome.INTERRUPTED: ExecutionOutcome.ABANDONED,
}


def backoff(policy: Policy, failures: int, chance: float) -> Duration:
    """How long to wait after the *failures*-th counted failure (from 1).

    Doubles from ``retry_interval`` up to ``BACKOFF_MAX``; between half and all of that by *chance* in [0, 1),
    so that tasks which failed together do not come back together, and none comes back at once.
    Source:  decision 0016 (equal jitter).
    """
    ceiling = max(BACKOFF_MAX, policy.retry_interval)
    full = min(policy.retry_interval << min(failures - 1, 32), ceiling)
    return full // 2 + int(full / 2 * chance)


def settle(claim: Claim, outcome: Outcome, now: Moment, chance: float) -> Settlement:
    """The settlement of *claim*'s attempt that ended with *outcome* at *now*."""
    verdict = outcome.verdict
    again = _again_at(claim.task.policy, claim, outcome, now, chance)
    lost, cancelled = verdict in _LOST, verdict is _CANCELLED
    losses = claim.losses + 1 if lost else claim.losses
    error = CANCELLED_ERROR if cancelled else outcome.error
    ended_at = max(now, claim.started_at)
    happenings = _LAST if again is None else _AGAIN
    return Settlement(
        execution_id=claim.execution_id,
        task_id=claim.task.id,
        epoch=claim.epoch,
        attempt=Attempt(
            attempt=claim.attempt,
            epoch=claim.epoch,
            worker_id=claim.worker_id,
            started_at=claim.started_at,
            completed_at=ended_at,
            outcome=verdict,
            error=error,
        ),
        state=next_state(_RUNNING, happenings[verdict]),
        available_at=again,
        outcome=_FINAL[verdict] if again is None else None,
        output=CANCELLED_OUTPUT if cancelled else outcome.output,
        error=POISON_ERROR if lost and losses >= LOSSES_MAX else error,
        truncated=outcome.truncated,
        detail=outcome.detail,
        failures=claim.failures + 1 if verdict in _COUNTED else claim.failures,
        losses=losses,
    )


def recover(running: Running, worker: str, now: Moment, chance: float) -> Settlement:
    """The settlement of an attempt whose worker is lost, as the reaper writes it for *running* as it was observed.

    Source:  guarantees, step R: a lost attempt does not count against ``max_retries``; the third one is poison;
             one marked for cancel ends as cancelled, never tried again.
    """
    policy = running.task.policy if running.task else Policy()
    losses = running.losses + 1
    poison = losses >= LOSSES_MAX
    error = POISON_ERROR if poison else LOST_ERROR
    after_loss = _after_loss(policy, losses, now, chance)
    stop = after_loss is None or running.task is None
    happening = Happening.LOST_LAST if stop else Happening.LOST_AGAIN
    state = next_state(State.RUNNING, happening, marked=running.cancel_requested)
    again = state is State.QUEUED
    cancelled = state is State.CANCELLED
    return Settlement(
        execution_id=running.execution_id,
        task_id=running.task_id,
        epoch=running.epoch,
        expected_beat=running.beat,
        attempt=Attempt(
            attempt=running.attempt,
            epoch=running.epoch,
            worker_id=running.worker_id,
            started_at=running.started_at,
            completed_at=max(now, running.started_at),
            outcome=AttemptOutcome.LOST,
            error=f"{LOST_ERROR}: {running.worker_id}, seen by {worker}",
        ),
        state=state,
        available_at=after_loss if again else None,
        outcome=None if again else ExecutionOutcome.CANCELLED if cancelled else ExecutionOutcome.ABANDONED,
        output=CANCELLED_OUTPUT if cancelled else "",
        error=None if again else CANCELLED_ERROR if cancelled else error,
        failures=running.failures,
        losses=losses,
    )


def _again_at(policy: Policy, claim: Claim, outcome: Outcome, now: Moment, chance: float) -> Moment | None:
    verdict = outcome.verdict
    if verdict in _DONE:
        return None
    if verdict in _LOST:
        return _after_loss(policy, claim.losses + 1, now, chance)
    asked = min(outcome.retry_after or 0, RETRY_AFTER_MAX)
    if verdict in _COUNTED:
        if not outcome.retryable or claim.failures >= policy.max_retries:
            return None
        return now + max(backoff(policy, claim.failures + 1, chance), asked)
    # It was interrupted. What never began has had no effect: trying again can't make a second one. It may have been
    # claimed before its moment, which stays what it was; one further ahead was left there by a clock that was set back.
    if not outcome.began:
        return max(now + asked, claim.available_at if claim.available_at <= now + AHEAD else now)
    return None if policy.on_worker_lost is OnWorkerLost.FAIL else now + asked


def _after_loss(policy: Policy, losses: int, now: Moment, chance: float) -> Moment | None:
    """When to try again after the *losses*-th lost worker: at once, then later and later, then never."""
    if policy.on_worker_lost is OnWorkerLost.FAIL or losses >= LOSSES_MAX:
        return None
    return now + (backoff(policy, losses, chance) if losses > 1 else 0)
