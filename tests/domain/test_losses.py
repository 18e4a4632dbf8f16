"""Attempts that nobody failed: lost, interrupted, never started. How often they come back, and when no more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peregrine.domain.execution import (
    CANCELLED_ERROR,
    POISON_ERROR,
    AttemptOutcome,
    Cause,
    Claim,
    ExecutionOutcome,
    Outcome,
    Running,
    State,
)
from peregrine.domain.ids import ExecutionId, WorkerId
from peregrine.domain.moment import SECOND
from peregrine.domain.policy import LOSSES_MAX, OnWorkerLost, Policy, Priority
from peregrine.domain.retry import backoff, recover, settle
from peregrine.testing.builders import NOW, a_task

ENDED = NOW + 10 * SECOND
FAIL = Policy(on_worker_lost=OnWorkerLost.FAIL, max_retries=3)
NEVER_STARTED = Outcome(verdict=AttemptOutcome.INTERRUPTED, error="not started", began=False)


def a_claim(policy: Policy | None = None, **fields: Any) -> Claim:
    claim = Claim(
        execution_id=ExecutionId("execution-1"),
        epoch=3,
        attempt=2,
        task=a_task(policy=policy or Policy()),
        cause=Cause.MANUAL,
        priority=Priority.NORMAL,
        worker_id=WorkerId("worker-1"),
        scheduled_for=None,
        queued_at=NOW,
        available_at=NOW,
        started_at=NOW,
    )
    return replace(claim, **fields)


def running(policy: Policy | None = None, **fields: Any) -> Running:
    task = a_task(policy=policy or Policy())
    row = Running(
        execution_id=ExecutionId("execution-1"),
        epoch=3,
        beat=7,
        attempt=2,
        worker_id=WorkerId("worker-1"),
        started_at=NOW,
        task=task,
        task_id=task.id,
    )
    return replace(row, **fields)


def ended(verdict: AttemptOutcome, **fields: Any) -> Outcome:
    return Outcome(verdict=verdict, error=f"it {verdict}", **fields)


@pytest.mark.parametrize("policy", [Policy(), FAIL])
def test_what_never_started_is_tried_again_whatever_the_policy(policy: Policy) -> None:
    """A claim that was given back has had no effect, so trying again can't make a second one."""
    settlement = settle(a_claim(policy), NEVER_STARTED, ENDED, 0.5)

    assert (settlement.state, settlement.available_at) == (State.QUEUED, ENDED)
    assert (settlement.failures, settlement.losses) == (0, 0)


def test_a_first_loss_is_tried_again_at_once_and_a_second_after_a_while() -> None:
    """One that perhaps kills its workers must not go through them all in a second."""
    first = settle(a_claim(), ended(AttemptOutcome.LOST), ENDED, 0.5)
    second = settle(a_claim(losses=1), ended(AttemptOutcome.LOST), ENDED, 0.5)

    assert first.available_at == ENDED
    assert second.available_at == ENDED + backoff(Policy(), 2, 0.5)
    assert recover(running(losses=1), "worker-2", ENDED, 0.5).available_at == second.available_at


def test_the_third_loss_is_poison_whoever_notices_it() -> None:
    """The worker that stopped itself and the reaper that found it lost say the same."""
    by_worker = settle(a_claim(losses=LOSSES_MAX - 1), ended(AttemptOutcome.LOST), ENDED, 0.5)
    by_reaper = recover(running(losses=LOSSES_MAX - 1), "worker-2", ENDED, 0.5)

    for settlement in (by_worker, by_reaper):
        assert (settlement.state, settlement.outcome) == (State.FAILED, ExecutionOutcome.ABANDONED)
        assert settlement.error == POISON_ERROR


@pytest.mark.parametrize("on_worker_lost", OnWorkerLost)
@pytest.mark.parametrize(
    "outcome",
    [ended(AttemptOutcome.LOST), ended(AttemptOutcome.INTERRUPTED), ended(AttemptOutcome.FAILED), NEVER_STARTED],
    ids=lambda outcome: f"{outcome.verdict}, {'begun' if outcome.began else 'not begun'}",
)
def test_one_that_is_marked_for_cancel_is_cancelled_instead_of_tried_again(
    outcome: Outcome, on_worker_lost: OnWorkerLost
) -> None:
    """A marked execution that was interrupted or lost, or would be tried again, ends as cancelled."""
    policy = Policy(on_worker_lost=on_worker_lost)

    settlement = settle(a_claim(policy), outcome, ENDED, 0.5).if_cancelled()

    assert (settlement.state, settlement.outcome) == (State.CANCELLED, ExecutionOutcome.CANCELLED)
    assert settlement.error == CANCELLED_ERROR


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (ended(AttemptOutcome.SUCCEEDED), State.COMPLETED),
        (ended(AttemptOutcome.FAILED, retryable=False), State.FAILED),
    ],
)
def test_one_that_ended_before_its_cancel_stays_what_it_is(outcome: Outcome, state: State) -> None:
    """A cancel that comes too late takes no result away."""
    assert settle(a_claim(), outcome, ENDED, 0.5).if_cancelled().state is state


@given(
    verdicts=st.lists(st.sampled_from([v for v in AttemptOutcome if v is not AttemptOutcome.INTERRUPTED]), min_size=15),
    max_retries=st.integers(0, 10),
)
def test_no_execution_is_tried_for_ever(verdicts: list[AttemptOutcome], max_retries: int) -> None:
    """At most one attempt, its retries, and as many as workers may be lost (invariant I11)."""
    claim, attempts = a_claim(Policy(max_retries=max_retries)), 0

    for verdict in verdicts:
        attempts += 1
        settlement = settle(claim, ended(verdict), ENDED, 0.5)
        if settlement.state is not State.QUEUED:
            break
        claim = replace(claim, failures=settlement.failures, losses=settlement.losses)

    assert attempts <= 1 + max_retries + LOSSES_MAX
