"""Owns what every store must do between queued and settled: who gets what, in which order, and for how long."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from peregrine.domain.execution import Attempt, AttemptOutcome, Cause, Claim, ExecutionOutcome, Running, State
from peregrine.domain.ids import ExecutionId, WorkerId
from peregrine.domain.moment import DAY, HOUR, MINUTE, SECOND, Moment
from peregrine.domain.policy import Overlap, Policy, Priority
from peregrine.domain.query import ExecutionFilter, PageRequest
from peregrine.domain.task import Pause
from peregrine.ports.store import CancelVerdict, RenewVerdict, SettleVerdict
from peregrine.testing.builders import (
    NOW,
    a_claim_request,
    a_new_execution,
    a_parallel_task,
    a_plan,
    a_settlement,
    a_task,
)
from peregrine.testing.store_contract import variety
from peregrine.testing.store_contract.factory import StoreFactory
from peregrine.testing.store_contract.steps import (
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

# ── claim ────────────────────────────────────────────────────────────────────────────────────────


async def an_empty_queue_gives_nothing(factory: StoreFactory) -> None:
    store = await factory.fresh()

    batch = await store.claim(a_claim_request())

    assert (list(batch.claims), batch.next_available_at) == ([], None)


async def a_claim_says_all_that_a_run_needs(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_task(description="as it is now")
    await stored(store, task)
    new = a_new_execution(
        cause=Cause.WORKFLOW,
        priority=Priority.HIGH,
        scheduled_for=NOW - MINUTE,
        queued_at=NOW - 3,
        available_at=NOW - 2,
        parameters=variety.OBJECTS[4],
    )
    await queued(store, new)

    (claim,) = await claimed(store, now=NOW + 1, worker="worker-7")

    expected = Claim(
        execution_id=new.id,
        epoch=1,
        attempt=1,
        task=task,
        cause=Cause.WORKFLOW,
        priority=Priority.HIGH,
        worker_id=WorkerId("worker-7"),
        scheduled_for=NOW - MINUTE,
        queued_at=NOW - 3,
        available_at=NOW - 2,
        started_at=NOW + 1,
        parameters=variety.OBJECTS[4],
        beat=claim.beat,
    )
    assert_same(expected, claim)


async def every_kind_of_value_comes_with_the_claim(factory: StoreFactory) -> None:
    store = await factory.fresh()
    tasks = [task for task in variety.tasks() if task.id != "full"]
    await stored(store, *tasks)
    await queued(store, *(a_new_execution(f"of {task.id}", task.id) for task in tasks))
    for number, parameters in enumerate(variety.OBJECTS):
        await queued(store, a_new_execution(f"object-{number}", "plain", parameters=parameters, available_at=NOW + 1))

    first = await claimed(store)
    assert_same({task.id: task for task in tasks}, {claim.task.id: claim.task for claim in first})

    for number, parameters in enumerate(variety.OBJECTS):
        for claim in [one for one in first if one.task.id == "plain"]:
            await settled(store, claim)
        first = await claimed(store, now=NOW + 1)
        assert ids(first) == [f"object-{number}"]
        assert_same(parameters, first[0].parameters)


async def a_claimed_execution_shows_that_it_runs(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_task()

    claim = await one_claim(store, task, now=NOW + 5)

    shown = await execution(store, claim.execution_id)
    running = Attempt(attempt=1, epoch=1, worker_id=WorkerId("worker-1"), started_at=NOW + 5)
    assert (shown.state, shown.attempt, shown.epoch) == (State.RUNNING, 1, 1)
    assert (shown.worker_id, shown.started_at, shown.completed_at) == ("worker-1", NOW + 5, None)
    assert_same((running,), shown.attempts)
    seen = await view(store, task)
    assert (seen.running, seen.queued) == (1, 0)
    await assert_adds_up(store)


async def no_more_is_claimed_than_asked_for(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_parallel_task()
    await stored(store, task)
    await queued_ids(store, task, *"abc")

    assert ids(await claimed(store, limit=0)) == []
    assert ids(await claimed(store, limit=2)) == ["a", "b"]
    assert ids(await claimed(store, limit=2)) == ["c"]
    assert ids(await claimed(store, limit=2)) == []


async def a_thousand_are_claimed_and_settled_at_once(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_parallel_task()
    await stored(store, task)
    moments = [NOW + number * MINUTE for number in range(1, 1_001)]
    await store.apply_plans([a_plan(task, *moments)], NOW + DAY)

    claims = await claimed(store, now=NOW + DAY, limit=2_000)

    assert [claim.scheduled_for for claim in claims] == moments
    verdicts = await store.settle([a_settlement(claim) for claim in claims])
    assert list(verdicts) == [SettleVerdict.APPLIED] * 1_000
    assert (await view(store, task)).tally.success_count == 1_000
    await assert_adds_up(store, now=NOW + DAY)


async def the_queue_goes_by_rank_then_moment_then_creation(factory: StoreFactory) -> None:
    """A class of priority is worth a minute of waiting (decision 0015)."""
    store = await factory.fresh()
    await stored(store, a_parallel_task())
    low, normal, high, critical = Priority
    waiting: dict[str, tuple[Priority, Moment]] = {
        "normal second": (normal, NOW - 10 * SECOND),
        "low, fresh": (low, NOW),
        "critical, fresh": (critical, NOW),
        "normal first": (normal, NOW - 10 * SECOND),
        "low, as old as a minute": (low, NOW - MINUTE - 10 * SECOND),
        "high, fresh": (high, NOW),
        "low, old": (low, NOW - 10 * MINUTE),
        "normal, older": (normal, NOW - 11 * SECOND),
        "critical, a second old": (critical, NOW - SECOND),
    }
    names = list(waiting)
    names[0], names[3] = names[3], names[0]
    await queued(
        store, *(a_new_execution(name, priority=waiting[name][0], available_at=waiting[name][1]) for name in names)
    )

    order = [id for _ in names for id in ids(await claimed(store, limit=1))]

    assert order == [
        "low, old",
        "critical, a second old",
        "critical, fresh",
        "high, fresh",
        "normal, older",
        "low, as old as a minute",
        "normal first",
        "normal second",
        "low, fresh",
    ]


async def a_batch_comes_in_the_order_of_the_queue(factory: StoreFactory) -> None:
    store = await factory.fresh()
    await stored(store, a_parallel_task())
    moments = {"c": NOW - 1, "a": NOW - 3, "d": NOW, "b": NOW - 2}
    await queued(store, *(a_new_execution(id, available_at=moment) for id, moment in moments.items()))

    assert ids(await claimed(store)) == list("abcd")


async def among_equals_the_first_made_is_first(factory: StoreFactory) -> None:
    store = await factory.fresh()
    await stored(store, a_parallel_task("one"), a_parallel_task("two"))
    names = ["z", "m", "a", "y", "b"]
    await queued(store, *(a_new_execution(id, ("one", "two")[n % 2]) for n, id in enumerate(names)))

    assert ids(await claimed(store)) == names


async def a_retry_queues_by_when_it_may_run_again(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_parallel_task()
    claim = await one_claim(store, task, "retried")
    await settled(store, claim, AttemptOutcome.FAILED, available_at=NOW + 10 * SECOND)
    await queued(store, *(a_new_execution(f"{n}", available_at=NOW + n * SECOND) for n in (9, 11)))

    assert ids(await claimed(store, now=NOW + MINUTE)) == ["9", "retried", "11"]


async def what_is_not_available_yet_is_announced(factory: StoreFactory) -> None:
    store = await factory.fresh()
    await stored(store, a_parallel_task())
    critical = a_new_execution("critical", priority=Priority.CRITICAL, available_at=NOW + 2 * SECOND)
    await queued(store, critical, a_new_execution("one", available_at=NOW + SECOND))

    early = await store.claim(a_claim_request(now=NOW + SECOND - 1))
    exact = await store.claim(a_claim_request(now=NOW + SECOND))
    late = await store.claim(a_claim_request(now=NOW + 2 * SECOND))

    assert (ids(early.claims), early.next_available_at) == ([], NOW + SECOND)
    assert (ids(exact.claims), exact.next_available_at) == (["one"], NOW + 2 * SECOND)
    assert (ids(late.claims), late.next_available_at) == (["critical"], None)


async def what_comes_soon_is_claimed_early_if_that_is_asked(factory: StoreFactory) -> None:
    """It starts at its moment, whatever the moment of the claim."""
    store = await factory.fresh()
    await stored(store, a_parallel_task())
    moments = {"now": NOW - 1, "soon": NOW + 10, "just": NOW + 20, "later": NOW + 21}
    await queued(store, *(a_new_execution(id, available_at=moment) for id, moment in moments.items()))

    batch = await store.claim(a_claim_request(early=9, early_until=NOW + 20))

    assert {claim.execution_id: claim.started_at for claim in batch.claims} == {
        "now": NOW,
        "soon": NOW + 10,
        "just": NOW + 20,
    }
    assert batch.next_available_at == NOW + 21
    shown = await execution(store, "just")
    assert (shown.state, shown.started_at, shown.attempts[0].started_at) == (State.RUNNING, NOW + 20, NOW + 20)
    await assert_adds_up(store)


async def early_ones_never_take_the_place_of_what_is_available(factory: StoreFactory) -> None:
    """Not even of the lowest class, the early ones being of the highest."""
    store = await factory.fresh()
    await stored(store, a_parallel_task())
    await queued(store, *(a_new_execution(f"now-{n}", priority=Priority.LOW) for n in range(3)))
    await queued(
        store,
        *(a_new_execution(f"soon-{n}", priority=Priority.CRITICAL, available_at=NOW + 10 + n) for n in range(3)),
    )

    full = await store.claim(a_claim_request(2, early=2, early_until=NOW + MINUTE))
    mixed = await store.claim(a_claim_request(2, early=2, early_until=NOW + MINUTE))

    assert (ids(full.claims), full.next_available_at) == (["now-0", "now-1"], None)
    assert ids(mixed.claims) == ["now-2", "soon-0"]


async def no_more_are_claimed_early_than_may_be(factory: StoreFactory) -> None:
    """What is left of them is announced."""
    store = await factory.fresh()
    await stored(store, a_parallel_task())
    await queued(store, *(a_new_execution(f"soon-{n}", available_at=NOW + 10 + n) for n in range(3)))

    batch = await store.claim(a_claim_request(3, early=2, early_until=NOW + MINUTE))
    none = await store.claim(a_claim_request(3, early=0, early_until=NOW + MINUTE))

    assert (ids(batch.claims), batch.next_available_at) == (["soon-0", "soon-1"], NOW + 12)
    assert (ids(none.claims), none.next_available_at) == ([], NOW + 12)


async def early_ones_run_no_more_beside_each_other_than_others(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task, other = a_task("alone"), a_task("other")
    await stored(store, task, other)
    await queued(store, a_new_execution("alone-0", "alone"))
    for n in range(1, 3):
        await queued(
            store,
            a_new_execution(f"alone-{n}", "alone", available_at=NOW + n),
            a_new_execution(f"other-{n}", "other", available_at=NOW + n),
        )

    batch = await store.claim(a_claim_request(early=9, early_until=NOW + 9))

    assert ids(batch.claims) == ["alone-0", "other-1"]
    assert batch.next_available_at is None


async def a_list_shows_what_was_claimed_early_at_its_moment(factory: StoreFactory) -> None:
    store = await factory.fresh()
    await stored(store, a_parallel_task())
    for id, moment in (("b", NOW + 20), ("a", NOW + 10), ("c", NOW + 30)):
        await queued(store, a_new_execution(id, available_at=moment))

    batch = await store.claim(a_claim_request(early=9, early_until=NOW + 30))
    for claim in batch.claims:
        await settled(store, claim, at=NOW + MINUTE)

    page = await store.list_executions(ExecutionFilter(), PageRequest(size=10))
    assert [(one.id, one.started_at) for one in page.items] == [("c", NOW + 30), ("b", NOW + 20), ("a", NOW + 10)]
    await assert_adds_up(store, now=NOW + MINUTE)


async def a_claimer_that_gets_all_it_asked_for_is_told_of_nothing_later(factory: StoreFactory) -> None:
    """It asks again anyhow; to find out what comes later can mean to look at all that waits."""
    store = await factory.fresh()
    await stored(store, a_parallel_task())
    await queued(store, a_new_execution("one"), a_new_execution("later", available_at=NOW + SECOND))

    full = await store.claim(a_claim_request(limit=1))
    short = await store.claim(a_claim_request(limit=1))

    assert (ids(full.claims), full.next_available_at) == (["one"], None)
    assert (ids(short.claims), short.next_available_at) == ([], NOW + SECOND)


async def what_waits_for_its_own_task_is_not_announced(factory: StoreFactory) -> None:
    """It may run as soon as the one before has ended, and no moment says when that is."""
    store = await factory.fresh()
    task = a_task()
    await stored(store, task)
    await queued(store, a_new_execution("blocked"), a_new_execution("too"), a_new_execution("oldest", available_at=0))

    batch = await store.claim(a_claim_request())

    assert (ids(batch.claims), batch.next_available_at) == (["oldest"], None)
    assert (await store.claim(a_claim_request())).next_available_at is None


async def a_task_that_skips_or_queues_runs_one_at_a_time(factory: StoreFactory) -> None:
    for overlap in (Overlap.SKIP, Overlap.QUEUE):
        store = await factory.fresh()
        task, other = a_task(policy=Policy(overlap=overlap)), a_task("other")
        await stored(store, task, other)
        await queued_ids(store, task, *"abc")
        await queued_ids(store, other, "other's")

        first = await claimed(store)
        assert ids(first) == ["a", "other's"], "one of a task in a batch, and nothing behind it is held up"
        assert ids(await claimed(store, now=NOW + DAY)) == [], "nor in the next batch"
        await settled(store, first[0])
        assert ids(await claimed(store)) == ["b"], "until it has ended"


async def a_task_that_allows_overlap_runs_side_by_side(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_parallel_task()
    await stored(store, task)
    await queued_ids(store, task, *"abcd")

    assert ids(await claimed(store, limit=3)) == list("abc")
    assert ids(await claimed(store)) == ["d"]


async def a_retry_of_a_task_waits_for_the_one_that_runs(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_task()
    await settled(store, await one_claim(store, task, "first"), AttemptOutcome.FAILED, available_at=NOW + SECOND)
    await queued_ids(store, task, "second")
    (second,) = await claimed(store)
    assert second.execution_id == "second"

    assert ids(await claimed(store, now=NOW + DAY)) == []
    await settled(store, second)
    assert ids(await claimed(store, now=NOW + DAY)) == ["first"]


async def overlap_is_judged_by_the_task_as_it_is_now(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_task()
    await stored(store, task)
    await queued_ids(store, task, *"abc")
    await claimed(store)

    allowing = replace(task, policy=Policy(overlap=Overlap.ALLOW), description="new", revision=2)
    await store.put_task(allowing, expected_revision=1)

    rest = await claimed(store)
    assert ids(rest) == ["b", "c"]
    assert_same(allowing, rest[0].task)


async def what_a_full_batch_passes_over_is_not_lost(factory: StoreFactory) -> None:
    """Many blocked ones stand before the first that may run; a claim must still find it."""
    store = await factory.fresh()
    blocked, free = a_task("blocked"), a_task("free")
    await stored(store, blocked, free)
    await queued_ids(store, blocked, "runs", *(f"waits-{number}" for number in range(300)))
    await claimed(store)
    await queued_ids(store, free, "found")

    assert ids(await claimed(store, limit=1)) == ["found"]


async def disabled_and_paused_tasks_run_what_is_queued(factory: StoreFactory) -> None:
    store = await factory.fresh()
    await stored(store, a_task("off", enabled=False), a_task("paused", pause=Pause(since=NOW)))
    await queued(store, a_new_execution("one", "off"), a_new_execution("two", "paused"))

    assert ids(await claimed(store)) == ["one", "two"]


async def claimers_at_once_share_the_queue(factory: StoreFactory) -> None:
    store = await factory.fresh()
    tasks = [a_task(f"task-{number}") for number in range(10)]
    await stored(store, *tasks)
    for task in tasks:
        await queued_ids(store, task, f"{task.id} a", f"{task.id} b")

    answers = await asyncio.gather(*(claimed(store, limit=4, worker=f"worker-{n}") for n in range(5)))

    got = [id for claims in answers for id in ids(claims)]
    assert len(got) == len(set(got)) == 10
    assert len({claim.task.id for claims in answers for claim in claims}) == 10
    await assert_adds_up(store)


async def each_claim_grows_epoch_and_attempt(factory: StoreFactory) -> None:
    store = await factory.fresh()
    claim = await one_claim(store, a_task())
    assert (claim.epoch, claim.attempt) == (1, 1)

    for number in range(2, 7):
        await settled(store, claim, AttemptOutcome.INTERRUPTED, available_at=NOW)
        waiting = (await execution(store, claim.execution_id)).epoch
        assert waiting > claim.epoch
        (claim,) = await claimed(store)
        assert (claim.epoch, claim.attempt) == (waiting + 1, number)


async def a_second_claim_knows_the_failures_before_it(factory: StoreFactory) -> None:
    store = await factory.fresh()
    claim = await one_claim(store, a_task())
    await settled(store, claim, AttemptOutcome.FAILED, available_at=NOW, failures=2, losses=1)

    (again,) = await claimed(store, now=NOW + 1, worker="worker-2")

    assert (again.failures, again.losses, again.worker_id, again.started_at) == (2, 1, "worker-2", NOW + 1)


async def a_claim_under_a_clock_that_was_set_back_is_a_claim(factory: StoreFactory) -> None:
    store = await factory.fresh()
    claim = await one_claim(store, a_task())
    await settled(store, claim, AttemptOutcome.INTERRUPTED, at=NOW + HOUR, available_at=NOW - DAY)

    (again,) = await claimed(store, now=NOW - HOUR)

    assert again.started_at == NOW - HOUR
    assert (await execution(store, again.execution_id)).started_at == NOW - HOUR


# ── read back ────────────────────────────────────────────────────────────────────────────────────


async def a_claim_can_be_read_back_by_its_request(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_parallel_task()
    await stored(store, task)
    await queued(store, *(a_new_execution(id, parameters={"id": id}) for id in "abc"))
    request = a_claim_request(2)
    batch = await store.claim(request)
    others = await store.claim(a_claim_request(2))

    read = await store.claimed_by(request.claim_id)

    assert_same(sorted(batch.claims, key=_by_id), sorted(read, key=_by_id))
    assert ids(others.claims) == ["c"]
    assert list(await store.claimed_by("nobody's")) == []


def _by_id(claim: Claim) -> str:
    return claim.execution_id


async def what_has_ended_is_not_read_back(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_parallel_task()
    await stored(store, task)
    await queued_ids(store, task, *"abc")
    request = a_claim_request()
    for claim in (await store.claim(request)).claims:
        if claim.execution_id != "b":
            again = AttemptOutcome.INTERRUPTED if claim.execution_id == "a" else AttemptOutcome.SUCCEEDED
            await settled(store, claim, again)

    assert ids(await store.claimed_by(request.claim_id)) == ["b"]

    (retaken,) = await claimed(store, now=NOW + HOUR)
    assert retaken.execution_id == "a"
    assert ids(await store.claimed_by(request.claim_id)) == ["b"]


# ── renew ────────────────────────────────────────────────────────────────────────────────────────


async def renewing_nothing_changes_nothing(factory: StoreFactory) -> None:
    store = await factory.fresh()

    assert list(await store.renew([])) == []


async def a_renewal_grows_the_beat(factory: StoreFactory) -> None:
    store = await factory.fresh()
    claim = await one_claim(store, a_task())
    beats = [(await store.running())[0].beat]
    assert beats[0] == claim.beat

    for _ in range(3):
        assert list(await store.renew([(claim.execution_id, claim.epoch)])) == [RenewVerdict.KEPT]
        beats.append((await store.running())[0].beat)

    assert beats == sorted(set(beats))
    shown = await execution(store, claim.execution_id)
    assert (shown.beat, shown.state, shown.epoch) == (beats[-1], State.RUNNING, claim.epoch)


async def a_renewal_answers_in_the_order_asked(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_parallel_task()
    await stored(store, task)
    await queued_ids(store, task, *"abcde")
    claims = await claimed(store, limit=4)
    await store.request_cancel(execution_id=ExecutionId("b"), now=NOW)
    await settled(store, claims[2])
    a, b, c, d = ((claim.execution_id, claim.epoch) for claim in claims)
    asked = [b, (ExecutionId("nobody"), 1), a, c, (ExecutionId("e"), 0), (d[0], d[1] + 1), (d[0], d[1] - 1), d]

    answers = await store.renew(asked)

    lost, kept = RenewVerdict.LOST, RenewVerdict.KEPT
    assert list(answers) == [RenewVerdict.CANCEL, lost, kept, lost, lost, lost, lost, kept]
    beats = {running.execution_id: running.beat for running in await store.running()}
    assert beats[ExecutionId("d")] == beats[ExecutionId("a")], "a refused renewal grows nothing"


async def a_claim_that_was_taken_over_is_lost(factory: StoreFactory) -> None:
    store = await factory.fresh()
    first = await one_claim(store, a_task())
    await settled(store, first, AttemptOutcome.INTERRUPTED, available_at=NOW)
    queued_again = await store.renew([(first.execution_id, first.epoch)])
    (second,) = await claimed(store)

    answers = await store.renew([(first.execution_id, first.epoch), (second.execution_id, second.epoch)])

    assert list(queued_again) == [RenewVerdict.LOST]
    assert list(answers) == [RenewVerdict.LOST, RenewVerdict.KEPT]


async def wishes_are_told_to_the_worker_that_runs(factory: StoreFactory) -> None:
    store = await factory.fresh()
    first = await one_claim(store, a_task("one"), "execution-1")
    second = await one_claim(store, a_task("two"), "execution-2")
    assert list(await store.cancel_wishes(first.worker_id)) == []

    await store.request_cancel(execution_id=second.execution_id, now=NOW)

    assert list(await store.cancel_wishes(second.worker_id)) == [(second.execution_id, second.epoch)]
    assert list(await store.cancel_wishes(WorkerId("nobody"))) == []
    await settled(store, second)
    assert list(await store.cancel_wishes(second.worker_id)) == []


async def a_mark_for_cancel_comes_with_every_renewal(factory: StoreFactory) -> None:
    store = await factory.fresh()
    claim = await one_claim(store, a_task())
    key = (claim.execution_id, claim.epoch)
    await store.request_cancel(execution_id=claim.execution_id, now=NOW)

    assert list(await store.renew([key, key])) == [RenewVerdict.CANCEL] * 2


# ── what runs ────────────────────────────────────────────────────────────────────────────────────


async def a_stranger_sees_what_runs(factory: StoreFactory) -> None:
    store = await factory.fresh()
    assert list(await store.running()) == []
    task = a_task(description="seen by the reaper")
    await stored(store, task)
    await queued(store, a_new_execution("one", scheduled_for=NOW - MINUTE))
    (first,) = await claimed(store)
    await settled(store, first, AttemptOutcome.FAILED, available_at=NOW, failures=1, losses=2)
    (claim,) = await claimed(store, now=NOW + 7, worker="worker-9")
    await store.request_cancel(execution_id=claim.execution_id, now=NOW)

    (running,) = await store.running()

    expected = Running(
        execution_id=claim.execution_id,
        epoch=claim.epoch,
        beat=claim.beat,
        attempt=2,
        worker_id=WorkerId("worker-9"),
        started_at=NOW + 7,
        task=task,
        task_id=task.id,
        scheduled_for=NOW - MINUTE,
        failures=1,
        losses=2,
        cancel_requested=True,
    )
    assert_same(expected, running)


# ── cancel ───────────────────────────────────────────────────────────────────────────────────────


async def cancelling_the_unknown_is_nothing(factory: StoreFactory) -> None:
    store = await factory.fresh()
    await stored(store, a_task())

    assert list(await store.request_cancel(execution_id=ExecutionId("nobody"), now=NOW)) == []
    assert list(await store.request_cancel(task_id=a_task("nobody").id, now=NOW)) == []
    assert list(await store.request_cancel(task_id=a_task().id, now=NOW)) == []


async def what_waits_is_cancelled_at_once(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_task()
    await stored(store, task)
    await queued_ids(store, task, "waits")

    answer = await store.request_cancel(execution_id=ExecutionId("waits"), now=NOW + SECOND)

    assert list(answer) == [("waits", CancelVerdict.CANCELLED)]
    shown = await execution(store, "waits")
    assert (shown.state, shown.outcome) == (State.CANCELLED, ExecutionOutcome.CANCELLED)
    assert (shown.error, shown.output) == ("Task execution was cancelled", "Execution stopped by user request")
    assert (shown.queued_at, shown.started_at, shown.completed_at) == (NOW, None, NOW + SECOND)
    assert (shown.duration, shown.attempts, shown.cancel_requested) == (None, (), True)
    assert ids(await claimed(store, now=NOW + DAY)) == []
    tally = (await view(store, task)).tally
    assert (tally.total_runs, tally.success_count, tally.failure_count) == (1, 0, 1)
    assert (tally.runtime_total, tally.last_run_at, tally.last_duration) == (0, None, None)
    assert (tally.last_succeeded, tally.last_error) == (False, "Task execution was cancelled")
    await assert_adds_up(store)


async def what_waits_for_another_try_is_cancelled_at_once(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_task()
    claim = await one_claim(store, task)
    await settled(store, claim, AttemptOutcome.FAILED)

    answer = await store.request_cancel(execution_id=claim.execution_id, now=NOW + HOUR)

    assert list(answer) == [(claim.execution_id, CancelVerdict.CANCELLED)]
    shown = await execution(store, claim.execution_id)
    assert (shown.state, shown.started_at, shown.completed_at) == (State.CANCELLED, NOW, NOW + HOUR)
    assert [attempt.outcome for attempt in shown.attempts] == [AttemptOutcome.FAILED]
    tally = (await view(store, task)).tally
    assert (tally.total_runs, tally.failure_count, tally.last_run_at) == (1, 1, NOW)
    await assert_adds_up(store)


async def a_cancelled_execution_leaves_the_last_run_the_last_that_ran(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_parallel_task()
    await settled(store, await one_claim(store, task), at=NOW + 3 * SECOND)
    await queued_ids(store, task, "waits")

    await store.request_cancel(execution_id=ExecutionId("waits"), now=NOW + MINUTE)

    tally = (await view(store, task)).tally
    assert (tally.total_runs, tally.success_count, tally.failure_count) == (2, 1, 1)
    assert (tally.last_run_at, tally.last_duration, tally.last_succeeded) == (NOW, 3 * SECOND, False)


async def what_runs_is_marked(factory: StoreFactory) -> None:
    store = await factory.fresh()
    claim = await one_claim(store, a_task())

    answers = [await store.request_cancel(execution_id=claim.execution_id, now=NOW + n) for n in range(2)]

    assert [list(answer) for answer in answers] == [[(claim.execution_id, CancelVerdict.MARKED)]] * 2
    shown = await execution(store, claim.execution_id)
    assert (shown.state, shown.cancel_requested, shown.completed_at) == (State.RUNNING, True, None)
    await assert_adds_up(store)


async def what_has_ended_stays_as_it_ended(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_parallel_task()
    await stored(store, task)
    await queued_ids(store, task, "completed", "failed", "cancelled")
    completed, failed = await claimed(store, limit=2)
    await settled(store, completed)
    await settled(store, failed, AttemptOutcome.FAILED, state=State.FAILED, outcome=ExecutionOutcome.FAILED)
    await store.request_cancel(execution_id=ExecutionId("cancelled"), now=NOW)
    before = [await execution(store, id) for id in ("completed", "failed", "cancelled")]
    tally = (await view(store, task)).tally

    for one in before:
        answer = await store.request_cancel(execution_id=one.id, now=NOW + HOUR)
        assert list(answer) == [(one.id, CancelVerdict.ENDED)]
        assert_same(one, await execution(store, one.id))

    assert (await view(store, task)).tally == tally


async def a_whole_task_is_cancelled(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task, other = a_parallel_task(), a_parallel_task("other")
    await stored(store, task, other)
    await queued_ids(store, task, "ended", "runs")
    await queued_ids(store, other, "stranger")
    claims = await claimed(store)
    await settled(store, claims[0])
    await queued_ids(store, task, "waits", "waits too")

    answer = await store.request_cancel(task_id=task.id, now=NOW)

    cancelled, marked = CancelVerdict.CANCELLED, CancelVerdict.MARKED
    assert dict(answer) == {"runs": marked, "waits": cancelled, "waits too": cancelled}
    assert len(answer) == 3
    assert not (await execution(store, "stranger")).cancel_requested
    assert (await view(store, task)).tally.total_runs == 3
    await assert_adds_up(store)


async def cancel_and_claim_at_once_agree(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_parallel_task()
    await stored(store, task)
    names = [f"execution-{number}" for number in range(10)]
    await queued_ids(store, task, *names)

    claims, answers = await asyncio.gather(claimed(store), store.request_cancel(task_id=task.id, now=NOW))

    verdicts = dict(answers)
    for id in names:
        shown = await execution(store, id)
        ran = id in ids(claims)
        assert shown.state is (State.RUNNING if ran else State.CANCELLED)
        assert verdicts[shown.id] is (CancelVerdict.MARKED if ran else CancelVerdict.CANCELLED)
    await assert_adds_up(store)


async def of_two_cancels_at_once_one_ends_it(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_task()
    await stored(store, task)
    await queued_ids(store, task, "waits")

    answers = await asyncio.gather(
        *(store.request_cancel(execution_id=ExecutionId("waits"), now=NOW) for _ in range(3))
    )

    verdicts = sorted(verdict for answer in answers for _, verdict in answer)
    assert verdicts == [CancelVerdict.CANCELLED, CancelVerdict.ENDED, CancelVerdict.ENDED]
    assert (await view(store, task)).tally.total_runs == 1
