"""Owns what every store must do between due and queued: look, apply plans, queue what somebody asked for."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from peregrine.domain.errors import LimitReached, NotFound
from peregrine.domain.execution import Cause, Execution, ExecutionOutcome, NewExecution, State
from peregrine.domain.ids import ExecutionId, TaskId
from peregrine.domain.moment import DAY, HOUR, MINUTE
from peregrine.domain.occurrence import LedgerEntry, Reason, Skip, Verdict, occurrence_key
from peregrine.domain.planning import DueTask, plan
from peregrine.domain.policy import Misfire, Policy, Priority
from peregrine.domain.query import ExecutionFilter
from peregrine.ports.store import PlanVerdict
from peregrine.testing.builders import NOW, a_new_execution, a_parallel_task, a_plan, a_task, an_occurrence
from peregrine.testing.store_contract import variety
from peregrine.testing.store_contract.factory import StoreFactory
from peregrine.testing.store_contract.steps import (
    all_executions,
    assert_adds_up,
    assert_same,
    claimed,
    execution,
    ledger,
    one_claim,
    queued_ids,
    refused,
    settled,
    stored,
    view,
)

# ── due ──────────────────────────────────────────────────────────────────────────────────────────


async def nothing_is_due_in_an_empty_store(factory: StoreFactory) -> None:
    store = await factory.fresh()

    batch = await store.due(NOW, 10)

    assert (list(batch.due), batch.queued, batch.next_due_at) == ([], 0, None)


async def a_task_is_due_from_its_next_moment_on(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_task()
    await stored(store, task)

    early = await store.due(NOW + MINUTE - 1, 10)
    exact = await store.due(NOW + MINUTE, 10)

    assert (list(early.due), early.next_due_at) == ([], NOW + MINUTE)
    assert_same([DueTask(task, NOW, 0)], list(exact.due))
    assert exact.next_due_at is None


async def the_longest_due_come_first_and_the_rest_is_announced(factory: StoreFactory) -> None:
    store = await factory.fresh()
    minutes = {"third": 3, "first": 1, "second": 2, "later": 50}
    await stored(store, *(a_task(id, schedule=f"@every {minute}m") for id, minute in minutes.items()))

    batch = await store.due(NOW + 5 * MINUTE, 10)
    two = await store.due(NOW + 5 * MINUTE, 2)
    none = await store.due(NOW + 5 * MINUTE, 0)

    assert [due.task.id for due in batch.due] == ["first", "second", "third"]
    assert batch.next_due_at == NOW + 50 * MINUTE
    assert [due.task.id for due in two.due] == ["first", "second"]
    assert two.next_due_at == NOW + 3 * MINUTE, "the batch was full: the next is due already"
    assert (list(none.due), none.next_due_at) == ([], NOW + MINUTE)


async def due_counts_what_has_not_ended(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task, idle = a_parallel_task("busy"), a_task("idle")
    await stored(store, task, idle)
    await queued_ids(store, task, "ended", "runs", "waits", "waits too")
    claims = await claimed(store, limit=2)
    await settled(store, claims[0])

    batch = await store.due(NOW + MINUTE, 10)

    assert {due.task.id: due.active for due in batch.due} == {"busy": 3, "idle": 0}
    assert batch.queued == 2


async def a_thousand_tasks_are_due_at_once(factory: StoreFactory) -> None:
    store = await factory.fresh()
    tasks = [a_task(f"task-{number}") for number in range(1_000)]
    await stored(store, *tasks)
    due = (await store.due(NOW + MINUTE, 1_000)).due
    plans = [made for one in due if (made := plan(one, NOW + MINUTE, 10)) is not None]

    verdicts = await store.apply_plans(plans, NOW + MINUTE)

    assert list(verdicts) == [PlanVerdict.APPLIED] * 1_000
    after = await store.due(NOW + MINUTE, 1_000)
    assert (list(after.due), after.queued, after.next_due_at) == ([], 1_000, NOW + 2 * MINUTE)


# ── plans ────────────────────────────────────────────────────────────────────────────────────────


async def applying_nothing_changes_nothing(factory: StoreFactory) -> None:
    store = await factory.fresh()

    assert list(await store.apply_plans([], NOW)) == []


async def a_plan_is_written_whole(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_task(priority=Priority.HIGH)
    await stored(store, task)
    skips = [
        Skip(NOW + MINUTE, NOW + 2 * MINUTE, 2, Reason.TOO_OLD),
        Skip(NOW + 4 * MINUTE, NOW + 4 * MINUTE, 1, Reason.OVERLAP),
    ]
    made = a_plan(task, NOW + 3 * MINUTE, NOW + 5 * MINUTE, skips=skips, next_run_at=NOW + 7 * MINUTE)

    verdicts = await store.apply_plans([made], NOW + 6 * MINUTE)

    assert list(verdicts) == [PlanVerdict.APPLIED]
    shown = await view(store, task)
    assert (shown.cursor, shown.next_run_at, shown.queued) == (NOW + 5 * MINUTE, NOW + 7 * MINUTE, 2)
    decided = NOW + 6 * MINUTE
    entries = [
        _ran(made.executions[1]),
        _not_run(skips[1], Verdict.SKIPPED, decided),
        _ran(made.executions[0]),
        _not_run(skips[0], Verdict.MISSED, decided),
    ]
    assert_same(entries, await ledger(store, task.id))
    for new in made.executions:
        assert_same(_as_queued(new), await execution(store, new.id))
    await assert_adds_up(store)


def _ran(new: NewExecution) -> LedgerEntry:
    assert new.scheduled_for is not None
    return LedgerEntry(
        scheduled_for=new.scheduled_for,
        last=new.scheduled_for,
        count=1,
        verdict=Verdict.RAN,
        execution_id=new.id,
        decided_at=new.queued_at,
    )


def _not_run(skip: Skip, verdict: Verdict, decided_at: int) -> LedgerEntry:
    return LedgerEntry(
        scheduled_for=skip.first,
        last=skip.last,
        count=skip.count,
        verdict=verdict,
        reason=skip.reason,
        decided_at=decided_at,
    )


def _as_queued(new: NewExecution) -> Execution:
    return Execution(
        id=new.id,
        task_id=new.task_id,
        cause=new.cause,
        state=State.QUEUED,
        priority=new.priority,
        scheduled_for=new.scheduled_for,
        queued_at=new.queued_at,
        available_at=new.available_at,
        parameters=new.parameters,
        requested_by=new.requested_by,
        follows=new.follows,
    )


async def every_reason_reads_back(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_task()
    await stored(store, task)
    moments = {reason: NOW + (number + 1) * MINUTE for number, reason in enumerate(Reason)}

    await store.apply_plans([a_plan(task, skips=[Skip(at, at, 1, why) for why, at in moments.items()])], NOW + HOUR)

    read = {entry.reason: (entry.scheduled_for, entry.verdict) for entry in await ledger(store, task.id)}
    assert read == {reason: (moments[reason], reason.verdict) for reason in Reason}


async def a_plan_may_end_a_schedule(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_task()
    await stored(store, task)

    await store.apply_plans([a_plan(task, NOW + MINUTE, next_run_at=None)], NOW + MINUTE)

    assert (await view(store, task)).next_run_at is None
    batch = await store.due(NOW + DAY, 10)
    assert (list(batch.due), batch.next_due_at) == ([], None)


async def a_plan_may_only_take_a_task_off_the_agenda(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_task()
    await stored(store, task)

    verdicts = await store.apply_plans([a_plan(task, next_run_at=None)], NOW + MINUTE)

    shown = await view(store, task)
    assert list(verdicts) == [PlanVerdict.APPLIED]
    assert (shown.cursor, shown.next_run_at) == (NOW, None)


async def a_plan_from_another_cursor_or_generation_is_refused_whole(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task, other = a_task(), a_task("other")
    await stored(store, task, other)
    skip = Skip(NOW + MINUTE, NOW + MINUTE, 1, Reason.OVERLAP)
    good = a_plan(task, NOW + 2 * MINUTE, skips=[skip])
    wrong = [
        replace(good, cursor=NOW - 1),
        replace(good, cursor=NOW + 1),
        replace(good, generation=0),
        replace(good, generation=2),
        replace(good, task_id=TaskId("nobody")),
    ]

    verdicts = await store.apply_plans([*wrong, a_plan(other, NOW + MINUTE)], NOW + MINUTE)

    assert list(verdicts) == [PlanVerdict.MOVED] * 5 + [PlanVerdict.APPLIED]
    shown = await view(store, task)
    assert (shown.cursor, shown.next_run_at, shown.queued) == (NOW, NOW + MINUTE, 0)
    assert await ledger(store, task.id) == []
    assert (await view(store, other)).queued == 1


async def a_plan_is_applied_once(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_task()
    await stored(store, task)
    made = a_plan(task, NOW + 2 * MINUTE, skips=[Skip(NOW + MINUTE, NOW + MINUTE, 1, Reason.OVERLAP)])

    first = await store.apply_plans([made, made], NOW + 2 * MINUTE)
    second = await store.apply_plans([made], NOW + 3 * MINUTE)

    assert [*first, *second] == [PlanVerdict.APPLIED, PlanVerdict.MOVED, PlanVerdict.MOVED]
    assert len(await ledger(store, task.id)) == 2
    assert (await view(store, task)).queued == 1


async def of_two_planners_at_once_one_writes(factory: StoreFactory) -> None:
    store = await factory.fresh()
    tasks = [a_task(f"task-{number}") for number in range(20)]
    await stored(store, *tasks)
    skip = Skip(NOW + MINUTE, NOW + MINUTE, 1, Reason.COALESCED)
    plans = [a_plan(task, NOW + 2 * MINUTE, skips=[skip]) for task in tasks]

    answers = await asyncio.gather(*(store.apply_plans(plans, NOW + 2 * MINUTE) for _ in range(3)))

    for verdicts in zip(*answers, strict=True):
        assert sorted(verdicts) == [PlanVerdict.APPLIED, PlanVerdict.MOVED, PlanVerdict.MOVED]
    for task in tasks:
        assert len(await ledger(store, task.id)) == 2
    await assert_adds_up(store)


async def plans_continue_each_other(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_task()
    await stored(store, task)
    first = a_plan(task, NOW + MINUTE)
    second = a_plan(task, NOW + 2 * MINUTE, cursor=first.cursor_after)

    assert list(await store.apply_plans([first, second], NOW + 2 * MINUTE)) == [PlanVerdict.APPLIED] * 2
    assert len(await ledger(store, task.id)) == 2


async def a_key_that_exists_is_left_as_it_is(factory: StoreFactory) -> None:
    """After a cursor was set back, moments are decided again; what has run must not run again (invariant I1)."""
    store = await factory.fresh()
    task = a_parallel_task()
    await stored(store, task)
    await store.apply_plans([a_plan(task, NOW + MINUTE)], NOW + MINUTE)
    (claim,) = await claimed(store, now=NOW + MINUTE)
    await settled(store, claim)
    ended = await execution(store, claim.execution_id)
    await store.reanchor(beyond=NOW, now=NOW)

    again = a_plan(task, NOW + MINUTE, NOW + 2 * MINUTE)
    again = replace(again, executions=tuple(replace(one, queued_at=NOW + DAY) for one in again.executions))
    assert list(await store.apply_plans([again], NOW + DAY)) == [PlanVerdict.APPLIED]

    assert_same(ended, await execution(store, claim.execution_id))
    assert (await view(store, task)).queued == 1
    assert len(await all_executions(store)) == 2


async def a_key_made_by_somebody_else_is_not_made_twice(factory: StoreFactory) -> None:
    """Two ids for one key: only the key counts."""
    store = await factory.fresh()
    task = a_task()
    await stored(store, task)
    first = an_occurrence(task, NOW + MINUTE, id=ExecutionId("the first"))
    await store.enqueue(first, queue_limit=10)

    assert list(await store.apply_plans([a_plan(task, NOW + MINUTE)], NOW + MINUTE)) == [PlanVerdict.APPLIED]

    assert [one.id for one in await all_executions(store)] == ["the first"]


async def a_plan_of_a_thousand_executions_is_written(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_task()
    await stored(store, task)
    moments = [NOW + number * MINUTE for number in range(1, 1_001)]

    assert list(await store.apply_plans([a_plan(task, *moments)], NOW + DAY)) == [PlanVerdict.APPLIED]

    assert [entry.scheduled_for for entry in await ledger(store, task.id)] == moments[::-1]
    assert (await view(store, task)).queued == 1_000


async def what_is_due_is_planned_until_nothing_is(factory: StoreFactory) -> None:
    """The planner's whole turn: after an outage of an hour each moment has exactly one line in the ledger."""
    store = await factory.fresh()
    policies = {misfire: Policy(misfire=misfire, catchup_max=20) for misfire in Misfire}
    tasks = [a_task(misfire, policy=policy) for misfire, policy in policies.items()]
    await stored(store, *tasks)
    now = NOW + HOUR

    for _ in range(2):
        due = (await store.due(now, 10)).due
        await store.apply_plans([made for one in due if (made := plan(one, now, 1_000)) is not None], now)

    assert list((await store.due(now, 10)).due) == []
    for task in tasks:
        entries = await ledger(store, task.id)
        assert sum(entry.count for entry in entries) == 60
        assert (await view(store, task)).cursor == now


# ── enqueue ──────────────────────────────────────────────────────────────────────────────────────


async def every_field_of_a_queued_execution_reads_back(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_task()
    await stored(store, task)
    full = a_new_execution(
        "full",
        cause=Cause.RETRY,
        priority=Priority.LOW,
        scheduled_for=NOW - MINUTE,
        queued_at=NOW + 1,
        available_at=NOW + DAY + 1,
        requested_by="ann",
        follows=ExecutionId("plain"),
    )
    various = [
        a_new_execution("plain"),
        full,
        *(a_new_execution(f"object-{n}", parameters=value) for n, value in enumerate(variety.OBJECTS)),
        *(a_new_execution(f"text-{n} {t[:80]}", requested_by=t) for n, t in enumerate(variety.TEXTS)),
        *(a_new_execution(f"cause-{cause}", cause=cause) for cause in Cause),
        *(a_new_execution(f"priority-{priority}", priority=priority) for priority in Priority),
    ]

    for new in various:
        assert_same(_as_queued(new), await store.enqueue(new, queue_limit=1_000))

    listed = {one.id: one for one in await all_executions(store)}
    for new in various:
        assert_same(_as_queued(new), await execution(store, new.id))
        assert_same(_as_queued(new), listed[new.id])


async def queueing_for_an_unknown_task_is_not_found(factory: StoreFactory) -> None:
    store = await factory.fresh()

    error = await refused(NotFound, store.enqueue(a_new_execution("one", "nobody"), queue_limit=10))

    assert (error.what, error.id) == ("task", "nobody")
    assert await all_executions(store) == []


async def an_execution_with_a_known_key_is_the_one_made_then(factory: StoreFactory) -> None:
    store = await factory.fresh()
    claim = await one_claim(store, a_task(), "first")
    await settled(store, claim)
    ended = await execution(store, "first")
    again = a_new_execution("second", key="m:task-1:first", requested_by="bob")

    assert_same(ended, await store.enqueue(again, queue_limit=10))
    assert_same(ended, await store.enqueue(again, queue_limit=0))

    assert [one.id for one in await all_executions(store)] == ["first"]


async def a_known_key_answers_even_after_its_task_was_deleted(factory: StoreFactory) -> None:
    store = await factory.fresh()
    claim = await one_claim(store, a_task(), "first")
    await store.delete_task(claim.task.id, expected_revision=None, now=NOW)

    again = await store.enqueue(a_new_execution("second", key="m:task-1:first"), queue_limit=10)

    assert again.id == "first"


async def of_two_requests_with_one_key_one_is_made(factory: StoreFactory) -> None:
    store = await factory.fresh()
    await stored(store, a_task())
    rivals = [a_new_execution(id, key="the key") for id in ("one", "two", "three")]

    answers = await asyncio.gather(*(store.enqueue(new, queue_limit=10) for new in rivals))

    assert len({answer.id for answer in answers}) == 1
    assert [one.id for one in await all_executions(store)] == [answers[0].id]


async def a_full_queue_refuses(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_parallel_task()
    await stored(store, task)
    await queued_ids(store, task, "one", "two")
    new = a_new_execution("three")

    error = await refused(LimitReached, store.enqueue(new, queue_limit=2))
    assert error.code == "queue_full"
    assert await store.get_execution(new.id) is None
    await refused(LimitReached, store.enqueue(new, queue_limit=0))

    await claimed(store, limit=1)
    assert (await store.enqueue(new, queue_limit=2)).id == "three", "what runs is not queued any more"


async def the_last_place_in_the_queue_is_given_once(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_task()
    await stored(store, task)
    await queued_ids(store, task, "one")
    rivals = [a_new_execution(id) for id in ("two", "three", "four")]

    answers = await asyncio.gather(*(store.enqueue(new, queue_limit=2) for new in rivals), return_exceptions=True)

    assert sum(isinstance(answer, LimitReached) for answer in answers) == 2
    assert (await view(store, task)).queued == 2


async def what_waits_for_later_counts_as_queued(factory: StoreFactory) -> None:
    store = await factory.fresh()
    await stored(store, a_task())
    await store.enqueue(a_new_execution("later", available_at=NOW + DAY), queue_limit=1)

    await refused(LimitReached, store.enqueue(a_new_execution("one"), queue_limit=1))


async def a_disabled_task_can_be_queued(factory: StoreFactory) -> None:
    """Whether a person may run it is decided elsewhere; a store decides nothing."""
    store = await factory.fresh()
    await stored(store, a_task(enabled=False))

    await store.enqueue(a_new_execution("one"), queue_limit=1)

    (claim,) = await claimed(store)
    assert claim.execution_id == "one"


async def a_purged_occurrence_is_not_run_again(factory: StoreFactory) -> None:
    """The key is gone with the execution; the cursor still says that the moment was decided."""
    store = await factory.fresh()
    task = a_task()
    await stored(store, task)
    made = a_plan(task, NOW + MINUTE)
    await store.apply_plans([made], NOW + MINUTE)
    (claim,) = await claimed(store, now=NOW + MINUTE)
    await settled(store, claim)
    assert await store.purge(before=NOW + DAY, limit=10) == (1, 0)

    assert list(await store.apply_plans([made], NOW + DAY)) == [PlanVerdict.MOVED]

    assert await all_executions(store, ExecutionFilter(outcome=ExecutionOutcome.SUCCEEDED)) == []
    assert (await view(store, task)).queued == 0
    assert occurrence_key(task.id, NOW + MINUTE) == made.executions[0].key
