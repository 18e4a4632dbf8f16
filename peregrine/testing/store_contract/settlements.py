"""Owns what every store must do when attempts end: apply once, refuse the stale, count, follow up."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from peregrine.domain.execution import (
    CANCELLED_ERROR,
    CANCELLED_OUTPUT,
    LOST_ERROR,
    POISON_ERROR,
    Attempt,
    AttemptOutcome,
    Cause,
    Claim,
    ExecutionOutcome,
    Running,
    Settlement,
    State,
)
from peregrine.domain.ids import ExecutionId
from peregrine.domain.moment import DAY, HOUR, MINUTE, SECOND
from peregrine.domain.payload import JsonObject
from peregrine.domain.policy import OnWorkerLost, Overlap, Policy
from peregrine.domain.retry import recover
from peregrine.domain.task import Tally
from peregrine.ports.store import SettleVerdict, Store
from peregrine.testing.builders import NOW, a_new_execution, a_parallel_task, a_settlement, a_task
from peregrine.testing.store_contract import variety
from peregrine.testing.store_contract.factory import StoreFactory
from peregrine.testing.store_contract.steps import (
    all_executions,
    assert_adds_up,
    assert_same,
    claimed,
    execution,
    ids,
    one_claim,
    queued,
    queued_ids,
    settled,
    stored,
    view,
)

APPLIED, CANCELLED, REPEATED, STALE = (
    SettleVerdict.APPLIED,
    SettleVerdict.CANCELLED,
    SettleVerdict.REPEATED,
    SettleVerdict.STALE,
)


async def _lost(store: Store, *, now: int = NOW + MINUTE) -> Settlement:
    """How the reaper would end what runs alone."""
    (running,) = await store.running()
    return recover(running, "worker-2", now, 0.5)


# ── the ends ─────────────────────────────────────────────────────────────────────────────────────


async def settling_nothing_changes_nothing(factory: StoreFactory) -> None:
    store = await factory.fresh()

    assert list(await store.settle([])) == []


async def a_success_ends_an_execution(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_task()
    claim = await one_claim(store, task)
    before = await execution(store, claim.execution_id)
    settlement = a_settlement(claim, at=NOW + 1_500, detail={"code": 200}, truncated=True)

    assert list(await store.settle([settlement])) == [APPLIED]

    ended = replace(
        before,
        state=State.COMPLETED,
        completed_at=NOW + 1_500,
        outcome=ExecutionOutcome.SUCCEEDED,
        output="done",
        truncated=True,
        detail={"code": 200},
        attempts=(settlement.attempt,),
    )
    assert_same(ended, await execution(store, claim.execution_id))
    assert ended.duration == 1_500
    shown = await view(store, task)
    assert (shown.running, shown.queued) == (0, 0)
    tally = Tally(
        total_runs=1,
        success_count=1,
        failure_count=0,
        runtime_total=1_500,
        last_run_at=NOW,
        last_duration=1_500,
        last_succeeded=True,
        last_error=None,
    )
    assert_same(tally, shown.tally)
    await assert_adds_up(store)


async def what_an_attempt_left_behind_outlives_the_next(factory: StoreFactory) -> None:
    """Its log is in there, and somebody may ask why the first attempt failed after the third succeeded."""
    store = await factory.fresh()
    claim = await one_claim(store, a_task())
    said: list[JsonObject] = [{"log": [{"line": "first"}]}, {}, {"log": [{"line": "third"}]}, {"code": 200}]
    verdicts = (AttemptOutcome.FAILED, AttemptOutcome.LOST, AttemptOutcome.INTERRUPTED, AttemptOutcome.SUCCEEDED)
    epochs: list[int] = []
    for detail, verdict in zip(said, verdicts, strict=True):
        assert await store.earlier_details(claim.execution_id) == {
            epoch: kept for epoch, kept in zip(epochs, said, strict=False) if kept
        }
        epochs.append(claim.epoch)
        await settled(store, claim, verdict, detail=detail, **({} if detail == said[-1] else {"available_at": NOW}))
        again = await claimed(store, now=NOW + HOUR)
        claim = again[0] if again else claim

    shown = await execution(store, claim.execution_id)
    assert shown.detail == {"code": 200}
    assert await store.earlier_details(claim.execution_id) == {epochs[0]: said[0], epochs[2]: said[2]}
    assert await store.earlier_details(ExecutionId("nobody")) == {}


async def a_late_result_leaves_what_was_kept_as_it_is(factory: StoreFactory) -> None:
    store = await factory.fresh()
    claim = await one_claim(store, a_task())
    await settled(store, claim, AttemptOutcome.LOST, detail={"log": ["said"]}, available_at=NOW)

    assert await settled(store, claim, AttemptOutcome.FAILED, detail={"log": ["late"]}) is SettleVerdict.STALE

    assert await store.earlier_details(claim.execution_id) == {claim.epoch: {"log": ["said"]}}


async def every_kind_of_value_settles(factory: StoreFactory) -> None:
    store = await factory.fresh()
    await stored(store, a_parallel_task())
    count = max(len(variety.OBJECTS), len(variety.TEXTS))
    await queued(store, *(a_new_execution(f"execution-{number}") for number in range(count)))
    settlements = []
    for number, claim in enumerate(await claimed(store)):
        text = variety.TEXTS[number % len(variety.TEXTS)]
        settlement = a_settlement(
            claim,
            state=State.FAILED,
            outcome=ExecutionOutcome.FAILED,
            output=text,
            error=text,
            detail=variety.OBJECTS[number % len(variety.OBJECTS)],
            failures=number,
            losses=number + 1,
        )
        attempt = replace(settlement.attempt, error=text, outcome=AttemptOutcome.FAILED)
        settlements.append(replace(settlement, attempt=attempt))

    assert list(await store.settle(settlements)) == [APPLIED] * count

    listed = {one.id: one for one in await all_executions(store)}
    for settlement in settlements:
        shown = await execution(store, settlement.execution_id)
        assert_same(
            (settlement.output, settlement.error, settlement.detail, settlement.failures, settlement.losses),
            (shown.output, shown.error, shown.detail, shown.failures, shown.losses),
        )
        assert_same((settlement.attempt,), shown.attempts)
        assert_same(shown, listed[shown.id])
        assert list(await store.settle([settlement])) == [REPEATED]


async def every_end_reads_back(factory: StoreFactory) -> None:
    policy = Policy(overlap=Overlap.ALLOW, max_retries=0, on_worker_lost=OnWorkerLost.FAIL)
    store = await factory.fresh()
    await stored(store, a_task(policy=policy))
    await queued_ids(store, a_task(), *AttemptOutcome)
    settlements = [a_settlement(claim, AttemptOutcome(claim.execution_id)) for claim in await claimed(store)]

    assert list(await store.settle(settlements)) == [APPLIED] * len(AttemptOutcome)

    for settlement in settlements:
        shown = await execution(store, settlement.execution_id)
        assert (shown.state, shown.outcome) == (settlement.state, settlement.outcome)
        assert shown.state.is_ended
        assert (shown.output, shown.error) == (settlement.output, settlement.error)
        assert_same((settlement.attempt,), shown.attempts)
    tally = (await view(store, a_task())).tally
    assert (tally.total_runs, tally.success_count) == (len(AttemptOutcome), 1)
    await assert_adds_up(store)


async def a_failure_goes_back_to_the_queue(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_task()
    claim = await one_claim(store, task)
    before = await execution(store, claim.execution_id)
    settlement = a_settlement(claim, AttemptOutcome.FAILED, output="so far", detail={"code": 500})
    assert settlement.available_at is not None

    assert list(await store.settle([settlement])) == [APPLIED]

    shown = await execution(store, claim.execution_id)
    assert shown.epoch > claim.epoch, "going back to the queue grows the epoch"
    waiting = replace(
        before,
        state=State.QUEUED,
        epoch=shown.epoch,
        available_at=settlement.available_at,
        failures=1,
        output="so far",
        error="it failed",
        detail={"code": 500},
        attempts=(settlement.attempt,),
    )
    assert_same(waiting, shown)
    seen = await view(store, task)
    assert (seen.running, seen.queued, seen.tally) == (0, 1, Tally())
    assert ids(await claimed(store, now=settlement.available_at - 1)) == []
    assert ids(await claimed(store, now=settlement.available_at)) == [claim.execution_id]
    await assert_adds_up(store)


async def attempts_are_told_oldest_first(factory: StoreFactory) -> None:
    store = await factory.fresh()
    claim = await one_claim(store, a_task())
    attempts: list[Attempt] = []
    for number, verdict in enumerate(
        (AttemptOutcome.FAILED, AttemptOutcome.TIMED_OUT, AttemptOutcome.INTERRUPTED, AttemptOutcome.LOST)
    ):
        settlement = a_settlement(claim, verdict, available_at=NOW + number)
        assert list(await store.settle([settlement])) == [APPLIED]
        attempts.append(settlement.attempt)
        assert_same(tuple(attempts), (await execution(store, claim.execution_id)).attempts)
        (claim,) = await claimed(store, now=NOW + number, worker=f"worker-{number + 2}")
        running = Attempt(
            attempt=claim.attempt, epoch=claim.epoch, worker_id=claim.worker_id, started_at=claim.started_at
        )
        assert_same((*attempts, running), (await execution(store, claim.execution_id)).attempts)

    last = a_settlement(claim)
    await store.settle([last])

    shown = await execution(store, claim.execution_id)
    assert_same((*attempts, last.attempt), shown.attempts)
    assert (shown.failures, shown.losses, shown.attempt) == (2, 1, 5)
    assert (shown.started_at, shown.worker_id) == (claim.started_at, "worker-5")
    assert (await all_executions(store)) == [shown]


async def the_tally_follows_every_end(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_parallel_task(policy=Policy(overlap=Overlap.ALLOW, max_retries=0))
    await stored(store, task)
    ends = [
        (AttemptOutcome.SUCCEEDED, 100),
        (AttemptOutcome.FAILED, 250),
        (AttemptOutcome.SUCCEEDED, 0),
        (AttemptOutcome.TIMED_OUT, 1_000),
        (AttemptOutcome.CANCELLED, 7),
        (AttemptOutcome.SUCCEEDED, 43),
    ]
    expected = Tally()

    for number, (verdict, duration) in enumerate(ends):
        await queued_ids(store, task, f"execution-{number}")
        (claim,) = await claimed(store, now=NOW + number * SECOND)
        await settled(store, claim, verdict, at=claim.started_at + duration)
        expected = expected.counting(
            succeeded=verdict is AttemptOutcome.SUCCEEDED,
            started_at=claim.started_at,
            ended_at=claim.started_at + duration,
            error=CANCELLED_ERROR if verdict is AttemptOutcome.CANCELLED else f"it {verdict}",
        )
        assert_same(expected, (await view(store, task)).tally)

    assert (expected.total_runs, expected.runtime_total, expected.last_error) == (6, 1_400, None)
    await assert_adds_up(store)


async def only_the_last_attempt_is_counted(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_task()
    claim = await one_claim(store, task)
    await settled(store, claim, AttemptOutcome.FAILED, at=NOW + HOUR, available_at=NOW)
    (again,) = await claimed(store, now=NOW + 2 * HOUR)

    await settled(store, again, at=NOW + 2 * HOUR + 5)

    tally = (await view(store, task)).tally
    assert (tally.total_runs, tally.runtime_total, tally.last_run_at) == (1, 5, NOW + 2 * HOUR)
    await assert_adds_up(store)


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────


async def only_the_newest_claim_can_settle(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_task()
    claim = await one_claim(store, task)
    before = await execution(store, claim.execution_id)
    good = a_settlement(claim)
    wrong = [
        replace(good, epoch=claim.epoch - 1),
        replace(good, epoch=claim.epoch + 1),
        replace(good, execution_id=ExecutionId("nobody")),
    ]

    assert list(await store.settle(wrong)) == [STALE] * 3

    assert_same(before, await execution(store, claim.execution_id))
    assert (await view(store, task)).tally == Tally()
    assert list(await store.settle([good])) == [APPLIED]


async def a_refusal_stops_nobody_else_in_the_batch(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_parallel_task()
    await stored(store, task)
    await queued_ids(store, task, *"abc")
    a, b, c = (a_settlement(claim) for claim in await claimed(store))

    answers = await store.settle([a, replace(b, epoch=b.epoch + 1), c, a])

    assert list(answers) == [APPLIED, STALE, APPLIED, REPEATED]
    assert (await view(store, task)).tally.total_runs == 2


async def a_settlement_whose_answer_was_lost_is_known_again(factory: StoreFactory) -> None:
    store = await factory.fresh()
    for id, verdict in (("ends", AttemptOutcome.SUCCEEDED), ("retries", AttemptOutcome.FAILED)):
        claim = await one_claim(store, a_task(id), id)
        later = a_new_execution(f"after {id}", id, available_at=NOW + DAY)
        settlement = a_settlement(claim, verdict, followups=(later,))
        assert list(await store.settle([settlement])) == [APPLIED]
        before = await all_executions(store)

        assert list(await store.settle([settlement])) == [REPEATED]
        assert list(await store.settle([settlement, settlement])) == [REPEATED] * 2

        assert await all_executions(store) == before
        await assert_adds_up(store)


async def a_settlement_is_known_again_while_the_next_attempt_runs_and_after(factory: StoreFactory) -> None:
    store = await factory.fresh()
    first = await one_claim(store, a_task())
    settlement = a_settlement(first, AttemptOutcome.FAILED, available_at=NOW)
    await store.settle([settlement])

    (second,) = await claimed(store)
    assert list(await store.settle([settlement])) == [REPEATED]
    assert (await execution(store, first.execution_id)).state is State.RUNNING
    await settled(store, second)

    assert list(await store.settle([settlement])) == [REPEATED]
    assert (await execution(store, first.execution_id)).state is State.COMPLETED


async def a_cancelled_settlement_is_known_again(factory: StoreFactory) -> None:
    store = await factory.fresh()
    claim = await one_claim(store, a_task())
    await store.request_cancel(execution_id=claim.execution_id, now=NOW)
    settlement = a_settlement(claim, AttemptOutcome.FAILED)

    assert list(await store.settle([settlement])) == [CANCELLED]
    assert list(await store.settle([settlement])) == [REPEATED]


async def another_end_of_the_same_attempt_is_stale(factory: StoreFactory) -> None:
    store = await factory.fresh()
    claim = await one_claim(store, a_task())
    await settled(store, claim)
    before = await execution(store, claim.execution_id)

    assert await settled(store, claim, AttemptOutcome.FAILED) is STALE
    assert await settled(store, claim, at=NOW + HOUR) is STALE

    assert_same(before, await execution(store, claim.execution_id))


async def of_two_settlements_at_once_one_is_written(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_task()
    claim = await one_claim(store, task)
    rivals = [a_settlement(claim), a_settlement(claim, AttemptOutcome.TIMED_OUT), a_settlement(claim, at=NOW + HOUR)]

    answers = await asyncio.gather(*(store.settle([settlement]) for settlement in rivals))

    assert sorted(verdict for answer in answers for verdict in answer) == [APPLIED, STALE, STALE]
    winner = rivals[[list(answer) for answer in answers].index([APPLIED])]
    assert_same((winner.attempt,), (await execution(store, claim.execution_id)).attempts)
    await assert_adds_up(store)


async def settle_and_cancel_at_once_agree(factory: StoreFactory) -> None:
    store = await factory.fresh()
    claim = await one_claim(store, a_task())

    (verdict,), _ = await asyncio.gather(
        store.settle([a_settlement(claim, AttemptOutcome.FAILED)]),
        store.request_cancel(execution_id=claim.execution_id, now=NOW),
    )

    assert verdict in (APPLIED, CANCELLED)
    assert (await execution(store, claim.execution_id)).state is State.CANCELLED
    await assert_adds_up(store)


# ── recovery ─────────────────────────────────────────────────────────────────────────────────────


async def a_lost_attempt_is_taken_over(factory: StoreFactory) -> None:
    store = await factory.fresh()
    claim = await one_claim(store, a_task())
    settlement = await _lost(store)

    assert list(await store.settle([settlement])) == [APPLIED]

    shown = await execution(store, claim.execution_id)
    assert (shown.state, shown.losses, shown.failures) == (State.QUEUED, 1, 0)
    assert_same((settlement.attempt,), shown.attempts)
    (again,) = await claimed(store, now=NOW + MINUTE, worker="worker-2")
    assert (again.attempt, again.losses) == (2, 1)


async def recovery_is_refused_when_the_owner_renewed(factory: StoreFactory) -> None:
    store = await factory.fresh()
    claim = await one_claim(store, a_task())
    settlement = await _lost(store)
    await store.renew([(claim.execution_id, claim.epoch)])
    before = await execution(store, claim.execution_id)

    assert list(await store.settle([settlement])) == [STALE]

    assert_same(before, await execution(store, claim.execution_id))
    assert await settled(store, claim) is APPLIED


async def recovery_by_the_newest_beat_is_applied(factory: StoreFactory) -> None:
    store = await factory.fresh()
    claim = await one_claim(store, a_task())
    await store.renew([(claim.execution_id, claim.epoch)] * 2)

    assert list(await store.settle([await _lost(store)])) == [APPLIED]


async def of_two_reapers_at_once_one_recovers(factory: StoreFactory) -> None:
    store = await factory.fresh()
    claim = await one_claim(store, a_task())
    (running,) = await store.running()
    rivals = [recover(running, f"worker-{n}", NOW + MINUTE + n, 0.5) for n in (2, 3)]

    answers = await asyncio.gather(*(store.settle([settlement]) for settlement in rivals))

    assert sorted(verdict for answer in answers for verdict in answer) == [APPLIED, STALE]
    shown = await execution(store, claim.execution_id)
    assert shown.losses == 1
    assert "late" not in (shown.attempts[0].error or ""), "a second reaper brings no result to note"


async def a_late_result_is_refused_and_noted(factory: StoreFactory) -> None:
    store = await factory.fresh()
    claim = await one_claim(store, a_task())
    settlement = await _lost(store)
    await store.settle([settlement])
    noted = f"{settlement.attempt.error}; a late result (succeeded) was refused"

    late = a_settlement(claim, at=NOW + HOUR, followups=(a_new_execution("never made"),))
    assert list(await store.settle([late])) == [STALE]

    (attempt,) = (await execution(store, claim.execution_id)).attempts
    assert_same(replace(settlement.attempt, error=noted), attempt)
    assert await store.get_execution(ExecutionId("never made")) is None
    assert (await execution(store, claim.execution_id)).state is State.QUEUED

    assert list(await store.settle([late])) == [STALE]
    assert list(await store.settle([settlement])) == [REPEATED], "a note does not make the reaper's own write strange"
    assert (await execution(store, claim.execution_id)).attempts == (attempt,), "it is noted once"


async def a_late_result_is_noted_whatever_came_after(factory: StoreFactory) -> None:
    store = await factory.fresh()
    first = await one_claim(store, a_task())
    await store.settle([await _lost(store)])
    (second,) = await claimed(store, now=NOW + MINUTE, worker="worker-2")

    assert await settled(store, first, AttemptOutcome.FAILED) is STALE
    shown = await execution(store, first.execution_id)
    assert (shown.state, len(shown.attempts)) == (State.RUNNING, 2)
    assert str(shown.attempts[0].error).endswith("; a late result (failed) was refused")
    assert shown.attempts[1].error is None

    await settled(store, second)
    assert await settled(store, first, AttemptOutcome.TIMED_OUT) is STALE
    shown = await execution(store, first.execution_id)
    assert (shown.state, shown.output) == (State.COMPLETED, "done")
    assert str(shown.attempts[0].error).endswith("; a late result (timed_out) was refused")


async def a_late_result_of_an_execution_that_ended_as_lost_is_noted(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_task(policy=Policy(on_worker_lost=OnWorkerLost.FAIL))
    claim = await one_claim(store, task)
    await store.settle([await _lost(store)])

    assert await settled(store, claim) is STALE

    shown = await execution(store, claim.execution_id)
    assert (shown.state, shown.outcome, shown.error) == (State.FAILED, ExecutionOutcome.ABANDONED, LOST_ERROR)
    assert str(shown.attempts[0].error).endswith("; a late result (succeeded) was refused")
    assert (await view(store, task)).tally.last_error == LOST_ERROR


async def a_refused_result_is_noted_only_where_it_was_lost(factory: StoreFactory) -> None:
    store = await factory.fresh()
    claim = await one_claim(store, a_task())
    await settled(store, claim, AttemptOutcome.INTERRUPTED, available_at=NOW)
    before = await execution(store, claim.execution_id)

    assert await settled(store, claim) is STALE

    assert_same(before, await execution(store, claim.execution_id))


async def the_third_loss_is_poison(factory: StoreFactory) -> None:
    store = await factory.fresh()
    await one_claim(store, a_task())

    for number in range(3):
        assert list(await store.settle([await _lost(store, now=NOW + number * HOUR)])) == [APPLIED]
        await claimed(store, now=NOW + number * HOUR + MINUTE * 30)

    (shown,) = await all_executions(store)
    assert (shown.state, shown.error, shown.losses) == (State.FAILED, POISON_ERROR, 3)
    await assert_adds_up(store)


# ── cancel inside settle ─────────────────────────────────────────────────────────────────────────


async def _marked(store: Store, task_id: str = "task-1") -> tuple[Claim, Running]:
    claim = await one_claim(store, a_task(task_id), f"of {task_id}")
    await store.request_cancel(execution_id=claim.execution_id, now=NOW)
    (running,) = [one for one in await store.running() if one.execution_id == claim.execution_id]
    return claim, running


async def what_would_try_again_ends_as_cancelled_when_marked(factory: StoreFactory) -> None:
    store = await factory.fresh()

    for verdict in (AttemptOutcome.FAILED, AttemptOutcome.TIMED_OUT, AttemptOutcome.INTERRUPTED):
        claim, _ = await _marked(store, verdict)
        settlement = a_settlement(claim, verdict)
        assert settlement.state is State.QUEUED

        assert list(await store.settle([settlement])) == [CANCELLED]

        shown = await execution(store, claim.execution_id)
        assert (shown.state, shown.outcome) == (State.CANCELLED, ExecutionOutcome.CANCELLED)
        assert (shown.error, shown.output) == (CANCELLED_ERROR, CANCELLED_OUTPUT)
        assert shown.completed_at == settlement.ended_at
        assert_same((settlement.attempt,), shown.attempts)
        tally = (await view(store, claim.task)).tally
        assert (tally.failure_count, tally.last_error, tally.last_run_at) == (1, CANCELLED_ERROR, NOW)
    await assert_adds_up(store)


async def what_ends_first_stays_as_it_ended_though_marked(factory: StoreFactory) -> None:
    store = await factory.fresh()
    ends = {AttemptOutcome.SUCCEEDED: State.COMPLETED, AttemptOutcome.CANCELLED: State.CANCELLED}

    for verdict, state in ends.items():
        claim, _ = await _marked(store, verdict)
        assert await settled(store, claim, verdict) is APPLIED
        assert (await execution(store, claim.execution_id)).state is state
    claim, _ = await _marked(store)
    last = a_settlement(claim, AttemptOutcome.FAILED, state=State.FAILED, outcome=ExecutionOutcome.FAILED)
    last = replace(last, available_at=None)

    assert list(await store.settle([last])) == [APPLIED]
    assert (await execution(store, claim.execution_id)).state is State.FAILED


async def what_is_lost_ends_as_cancelled_when_marked(factory: StoreFactory) -> None:
    """Whether the reaper saw the mark or the mark came between its look and its write, the end is the same."""
    store = await factory.fresh()
    for id, on_lost in (("again", OnWorkerLost.RETRY), ("last", OnWorkerLost.FAIL)):
        await stored(store, a_task(id, policy=Policy(on_worker_lost=on_lost)))
        await queued(store, a_new_execution(id, id))
        (claim,) = await claimed(store)
        unseen = await _lost(store)
        await store.request_cancel(execution_id=claim.execution_id, now=NOW)

        assert list(await store.settle([unseen])) == [CANCELLED]

        shown = await execution(store, id)
        assert (shown.state, shown.error, shown.output) == (State.CANCELLED, CANCELLED_ERROR, CANCELLED_OUTPUT)
        assert shown.attempts[0].outcome is AttemptOutcome.LOST

    claim, running = await _marked(store)
    seen = recover(running, "worker-2", NOW + MINUTE, 0.5)
    assert list(await store.settle([seen])) == [APPLIED], "written as asked"
    assert (await execution(store, claim.execution_id)).state is State.CANCELLED
    await assert_adds_up(store)


# ── followups ────────────────────────────────────────────────────────────────────────────────────


async def followups_are_queued_with_the_settlement(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task, other = a_task(), a_task("other")
    await stored(store, other)
    claim = await one_claim(store, task)
    next_one = a_new_execution(
        "next", "other", cause=Cause.WORKFLOW, follows=claim.execution_id, parameters={"from": claim.execution_id}
    )

    await settled(store, claim, followups=(next_one, a_new_execution("later", available_at=NOW + DAY)))

    shown = await execution(store, "next")
    assert (shown.state, shown.cause, shown.follows) == (State.QUEUED, Cause.WORKFLOW, claim.execution_id)
    assert_same({"from": claim.execution_id}, shown.parameters)
    assert ids(await claimed(store)) == ["next"]
    assert (await view(store, task)).queued == 1
    await assert_adds_up(store)


async def a_followup_whose_key_exists_is_left_as_it_is(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_parallel_task()
    claim = await one_claim(store, task)
    await queued(store, a_new_execution("made before", key="the key", requested_by="ann"))
    before = await execution(store, "made before")

    answer = await settled(store, claim, followups=(a_new_execution("second", key="the key"), a_new_execution("new")))

    assert answer is APPLIED
    assert_same(before, await execution(store, "made before"))
    assert await store.get_execution(ExecutionId("second")) is None
    assert (await execution(store, "new")).state is State.QUEUED


async def a_followup_of_a_task_that_is_gone_is_not_made(factory: StoreFactory) -> None:
    """Nobody could ever run it; the settlement itself must not fail for it."""
    store = await factory.fresh()
    claim = await one_claim(store, a_task())

    answer = await settled(store, claim, followups=(a_new_execution("orphan", "nobody"), a_new_execution("child")))

    assert answer is APPLIED
    assert await store.get_execution(ExecutionId("orphan")) is None
    assert (await execution(store, "child")).state is State.QUEUED
    await assert_adds_up(store)


async def a_refused_settlement_makes_no_followup(factory: StoreFactory) -> None:
    store = await factory.fresh()
    claim = await one_claim(store, a_task())

    assert await settled(store, claim, epoch=claim.epoch + 1, followups=(a_new_execution("never made"),)) is STALE

    assert await store.get_execution(ExecutionId("never made")) is None
