"""What follows the end of an attempt: bounded waits, bounded tries, and states that the lifecycle knows."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peregrine.domain.execution import (
    CANCELLED_ERROR,
    CANCELLED_OUTPUT,
    LOST_ERROR,
    POISON_ERROR,
    AttemptOutcome,
    Cause,
    Claim,
    ExecutionOutcome,
    Outcome,
    Running,
    State,
)
from peregrine.domain.ids import ExecutionId, TaskId, WorkerId
from peregrine.domain.moment import DAY, HOUR, MINUTE, SECOND
from peregrine.domain.policy import LOSSES_MAX, OnWorkerLost, Policy, Priority
from peregrine.domain.retry import BACKOFF_MAX, RETRY_AFTER_MAX, backoff, recover, settle
from peregrine.testing.builders import NOW, a_task, an_outcome

ALMOST_ONE = 1 - 2**-53
CHANCES = st.floats(0, 1, exclude_max=True)


def a_claim(policy: Policy | None = None, **fields: object) -> Claim:
    claim = Claim(
        execution_id=ExecutionId("execution-1"),
        epoch=3,
        attempt=2,
        task=a_task(policy=policy or Policy()),
        cause=Cause.SCHEDULE,
        priority=Priority.NORMAL,
        worker_id=WorkerId("worker-1"),
        scheduled_for=None,
        queued_at=NOW,
        available_at=NOW,
        started_at=NOW,
    )
    return replace(claim, **fields)  # type: ignore[arg-type]


def a_running(policy: Policy | None = None, **fields: object) -> Running:
    running = Running(
        execution_id=ExecutionId("execution-1"),
        epoch=3,
        beat=8,
        attempt=2,
        worker_id=WorkerId("worker-1"),
        started_at=NOW,
        task=a_task(policy=policy or Policy()),
        task_id=TaskId("task-1"),
    )
    return replace(running, **fields)  # type: ignore[arg-type]


# ── backoff ──────────────────────────────────────────────────────────────────────────────────────


@given(st.integers(SECOND, HOUR), st.integers(1, 50), CHANCES)
def test_a_wait_lies_between_half_and_all_of_its_doubling(interval: int, failures: int, chance: float) -> None:
    full = min(interval * 2 ** (failures - 1), BACKOFF_MAX)

    wait = backoff(Policy(retry_interval=interval), failures, chance)

    assert full // 2 <= wait <= full


@given(st.integers(SECOND, HOUR), st.integers(1, 50), CHANCES, CHANCES)
def test_more_failures_and_more_chance_never_wait_less(interval: int, failures: int, one: float, two: float) -> None:
    policy, (low, high) = Policy(retry_interval=interval), sorted((one, two))

    assert backoff(policy, failures, low) <= backoff(policy, failures, high)
    assert backoff(policy, failures, low) <= backoff(policy, failures + 1, low)


@pytest.mark.parametrize(
    ("failures", "least", "most"),
    [
        (1, 30 * SECOND, MINUTE),
        (2, MINUTE, 2 * MINUTE),
        (5, 8 * MINUTE, 16 * MINUTE),
        (7, 30 * MINUTE, HOUR),
        (10_000, 30 * MINUTE, HOUR),
    ],
)
def test_a_minute_doubles_up_to_an_hour(failures: int, least: int, most: int) -> None:
    policy = Policy(retry_interval=MINUTE)

    assert backoff(policy, failures, 0.0) == least
    assert most - 1 <= backoff(policy, failures, ALMOST_ONE) <= most


def test_an_interval_above_the_bound_is_kept() -> None:
    assert backoff(Policy(retry_interval=5 * HOUR), 9, ALMOST_ONE) in (5 * HOUR - 1, 5 * HOUR)


# ── settle ───────────────────────────────────────────────────────────────────────────────────────

AGAIN, ONCE = Policy(), Policy(max_retries=0, on_worker_lost=OnWorkerLost.FAIL)
S, F, X, Q = State.COMPLETED, State.FAILED, State.CANCELLED, State.QUEUED


@pytest.mark.parametrize(
    ("verdict", "policy", "state", "outcome", "counted", "lost"),
    [
        (AttemptOutcome.SUCCEEDED, AGAIN, S, ExecutionOutcome.SUCCEEDED, 0, 0),
        (AttemptOutcome.SUCCEEDED, ONCE, S, ExecutionOutcome.SUCCEEDED, 0, 0),
        (AttemptOutcome.FAILED, AGAIN, Q, None, 1, 0),
        (AttemptOutcome.FAILED, ONCE, F, ExecutionOutcome.FAILED, 1, 0),
        (AttemptOutcome.TIMED_OUT, AGAIN, Q, None, 1, 0),
        (AttemptOutcome.TIMED_OUT, ONCE, F, ExecutionOutcome.TIMED_OUT, 1, 0),
        (AttemptOutcome.CANCELLED, AGAIN, X, ExecutionOutcome.CANCELLED, 0, 0),
        (AttemptOutcome.CANCELLED, ONCE, X, ExecutionOutcome.CANCELLED, 0, 0),
        (AttemptOutcome.INTERRUPTED, AGAIN, Q, None, 0, 0),
        (AttemptOutcome.INTERRUPTED, ONCE, F, ExecutionOutcome.ABANDONED, 0, 0),
        (AttemptOutcome.LOST, AGAIN, Q, None, 0, 1),
        (AttemptOutcome.LOST, ONCE, F, ExecutionOutcome.ABANDONED, 0, 1),
        (AttemptOutcome.FENCED, AGAIN, Q, None, 0, 1),
        (AttemptOutcome.FENCED, ONCE, F, ExecutionOutcome.ABANDONED, 0, 1),
    ],
)
def test_how_an_attempt_ends(
    verdict: AttemptOutcome,
    policy: Policy,
    state: State,
    outcome: ExecutionOutcome | None,
    counted: int,
    lost: int,
) -> None:
    settlement = settle(a_claim(policy), an_outcome(verdict), NOW + SECOND, 0.5)

    assert (settlement.state, settlement.outcome) == (state, outcome)
    assert (settlement.failures, settlement.losses) == (counted, lost)
    assert (settlement.available_at is None) == state.is_ended
    assert (settlement.execution_id, settlement.epoch, settlement.expected_beat) == ("execution-1", 3, None)
    assert (settlement.attempt.attempt, settlement.attempt.epoch) == (2, 3)
    assert (settlement.attempt.started_at, settlement.ended_at) == (NOW, NOW + SECOND)
    assert settlement.attempt.outcome is verdict


@given(
    st.builds(an_outcome, st.sampled_from(AttemptOutcome), retryable=st.booleans()),
    st.integers(0, 12),
    st.integers(0, 4),
    CHANCES,
)
def test_every_settlement_is_whole(outcome: Outcome, failures: int, losses: int, chance: float) -> None:
    settlement = settle(a_claim(failures=failures, losses=losses), outcome, NOW + 5, chance)

    again = settlement.state is State.QUEUED
    assert again or settlement.state.is_ended
    assert (settlement.outcome is None) == again == (settlement.available_at is not None)
    assert settlement.available_at is None or settlement.available_at >= NOW + 5


def test_the_words_of_a_cancel_are_those_that_clients_look_for() -> None:
    settlement = settle(a_claim(), an_outcome(AttemptOutcome.CANCELLED, error="x", output="y"), NOW, 0.5)

    assert (settlement.error, settlement.output) == (CANCELLED_ERROR, CANCELLED_OUTPUT)
    assert settlement.attempt.error == CANCELLED_ERROR


@pytest.mark.parametrize("max_retries", [0, 1, 3, 10])
def test_what_always_fails_is_tried_once_and_retried_so_often(max_retries: int) -> None:
    claim, attempts, now = a_claim(Policy(max_retries=max_retries)), 0, NOW
    while True:
        attempts += 1
        settlement = settle(claim, an_outcome(AttemptOutcome.FAILED), now, 0.5)
        if settlement.available_at is None:
            break
        now = settlement.available_at
        claim = replace(claim, failures=settlement.failures, losses=settlement.losses, started_at=now)

    assert attempts == 1 + max_retries
    assert settlement.state is State.FAILED


def test_what_can_not_be_helped_is_not_tried_again() -> None:
    settlement = settle(a_claim(), an_outcome(AttemptOutcome.FAILED, retryable=False), NOW, 0.5)

    assert settlement.state is State.FAILED


@pytest.mark.parametrize(
    ("asked", "waited"),
    [(None, MINUTE), (1, MINUTE), (2 * HOUR, 2 * HOUR), (DAY, DAY), (30 * DAY, RETRY_AFTER_MAX)],
)
def test_the_other_side_may_ask_for_more_time(asked: int | None, waited: int) -> None:
    outcome = an_outcome(AttemptOutcome.FAILED, retry_after=asked)

    settlement = settle(a_claim(Policy(retry_interval=2 * MINUTE)), outcome, NOW, 0.0)

    assert settlement.available_at == NOW + waited


def test_an_end_is_never_before_its_start() -> None:
    """The wall clock may be set back while a task runs."""
    settlement = settle(a_claim(), an_outcome(), NOW - HOUR, 0.5)

    assert settlement.ended_at == NOW


# ── recover ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("policy", "losses", "marked", "state", "outcome", "error"),
    [
        (AGAIN, 0, False, Q, None, None),
        (AGAIN, 1, False, Q, None, None),
        (AGAIN, 2, False, F, ExecutionOutcome.ABANDONED, POISON_ERROR),
        (ONCE, 0, False, F, ExecutionOutcome.ABANDONED, LOST_ERROR),
        (ONCE, 2, False, F, ExecutionOutcome.ABANDONED, POISON_ERROR),
        (AGAIN, 0, True, X, ExecutionOutcome.CANCELLED, CANCELLED_ERROR),
        (AGAIN, 2, True, X, ExecutionOutcome.CANCELLED, CANCELLED_ERROR),
        (ONCE, 0, True, X, ExecutionOutcome.CANCELLED, CANCELLED_ERROR),
    ],
)
def test_how_a_lost_attempt_ends(
    *,
    policy: Policy,
    losses: int,
    marked: bool,
    state: State,
    outcome: ExecutionOutcome | None,
    error: str | None,
) -> None:
    running = a_running(policy, losses=losses, failures=1, cancel_requested=marked)

    settlement = recover(running, "worker-2", NOW + MINUTE, 0.5)

    assert (settlement.state, settlement.outcome, settlement.error) == (state, outcome, error)
    assert (settlement.failures, settlement.losses) == (1, losses + 1), "a loss does not count against max_retries"
    assert (settlement.epoch, settlement.expected_beat) == (3, 8)
    assert settlement.attempt.outcome is AttemptOutcome.LOST
    assert settlement.attempt.error == "worker lost: worker-1, seen by worker-2"
    assert (settlement.available_at is None) == state.is_ended
    assert settlement.output == (CANCELLED_OUTPUT if marked else "")


def test_the_first_loss_is_retried_at_once_the_second_waits() -> None:
    first = recover(a_running(), "worker-2", NOW, 0.5)
    second = recover(a_running(losses=1), "worker-2", NOW, 0.5)

    assert first.available_at == NOW
    assert second.available_at is not None
    assert second.available_at > NOW


def test_what_is_lost_of_a_deleted_task_is_not_tried_again() -> None:
    settlement = recover(a_running(task=None), "worker-2", NOW, 0.5)

    assert (settlement.state, settlement.error) == (State.FAILED, LOST_ERROR)


@given(st.integers(0, 10))
def test_recoveries_are_bounded(failures: int) -> None:
    running, recoveries = a_running(failures=failures), 0
    while True:
        recoveries += 1
        settlement = recover(running, "worker-2", NOW, 0.5)
        if settlement.state.is_ended:
            break
        running = replace(running, losses=settlement.losses)

    assert recoveries == LOSSES_MAX


# ── cancelled in between ─────────────────────────────────────────────────────────────────────────


@given(st.sampled_from(AttemptOutcome), st.sampled_from((AGAIN, ONCE)))
def test_marked_in_between_ends_as_the_lifecycle_says(verdict: AttemptOutcome, policy: Policy) -> None:
    settlement = settle(a_claim(policy), an_outcome(verdict), NOW, 0.5)

    marked = settlement.if_cancelled()

    if settlement.state is State.QUEUED or verdict in (AttemptOutcome.LOST, AttemptOutcome.INTERRUPTED):
        assert (marked.state, marked.outcome) == (State.CANCELLED, ExecutionOutcome.CANCELLED)
        assert (marked.error, marked.output, marked.available_at) == (CANCELLED_ERROR, CANCELLED_OUTPUT, None)
        assert marked.attempt == settlement.attempt
    else:
        assert marked == settlement
    assert marked.if_cancelled() == marked
