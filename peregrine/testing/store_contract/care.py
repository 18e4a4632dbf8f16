"""Owns what every store must do beside the spine: know the processes, mend cursors, let go of what is old."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from peregrine.domain.errors import NotFound
from peregrine.domain.execution import AttemptOutcome, State
from peregrine.domain.ids import ExecutionId, WorkerId
from peregrine.domain.moment import DAY, HOUR, MINUTE, SECOND
from peregrine.domain.occurrence import Reason, Skip
from peregrine.domain.policy import Priority
from peregrine.ports.store import PlanVerdict, SettleVerdict
from peregrine.testing.builders import (
    NOW,
    a_new_execution,
    a_parallel_task,
    a_plan,
    a_settlement,
    a_task,
    an_instance,
)
from peregrine.testing.store_contract.factory import StoreFactory
from peregrine.testing.store_contract.steps import (
    all_executions,
    assert_adds_up,
    assert_same,
    claimed,
    execution,
    ledger,
    one_claim,
    photograph,
    queued,
    queued_ids,
    refused,
    settled,
    stored,
    view,
)

# ── the door ─────────────────────────────────────────────────────────────────────────────────────


async def an_open_store_answers_a_ping(factory: StoreFactory) -> None:
    store = await factory.fresh()

    await store.ping()
    await store.ping()


async def closing_twice_is_safe(factory: StoreFactory) -> None:
    store = await factory.fresh()
    await stored(store, a_task())

    await store.close()
    await store.close()


async def a_write_changes_the_version_and_a_read_does_not(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task, other = a_parallel_task(), a_parallel_task("task-2")

    async def seen() -> int | None:
        before = store.version()
        await photograph(store)
        assert store.version() == before
        return before

    versions = [await seen()]
    await stored(store, task, other)
    versions.append(await seen())
    await store.put_task(replace(task, revision=2, description="changed"), expected_revision=1)
    versions.append(await seen())
    await store.apply_plans([a_plan(task, NOW + MINUTE)], NOW + MINUTE)
    versions.append(await seen())
    await queued_ids(store, task, "one", "two")
    versions.append(await seen())
    (claim, *_) = await claimed(store, now=NOW + MINUTE)
    versions.append(await seen())
    await settled(store, claim)
    versions.append(await seen())
    await store.request_cancel(task_id=task.id, now=NOW + MINUTE)
    versions.append(await seen())
    await store.purge(before=NOW + DAY, limit=100)
    versions.append(await seen())
    await store.delete_task(task.id, expected_revision=None, now=NOW + HOUR)
    versions.append(await seen())

    # A store that can't tell never does.
    assert len(set(versions)) == (1 if versions[0] is None else len(versions))


# ── instances ────────────────────────────────────────────────────────────────────────────────────


async def an_announced_process_reads_back(factory: StoreFactory) -> None:
    store = await factory.fresh()
    assert list(await store.instances()) == []
    first = an_instance()
    second = an_instance(
        "zweite ü", host="", place="a b/ü", pid=2**31, process_started=2**53, version="", slots=0, started_at=0
    )

    await store.announce(first, now=NOW)
    await store.announce(second, now=NOW + 1)

    shown = {instance.id: (instance, wall) for instance, _, wall in await store.instances()}
    assert_same({first.id: (first, NOW), second.id: (second, NOW + 1)}, shown)


async def each_announcement_grows_the_counter(factory: StoreFactory) -> None:
    store = await factory.fresh()
    counters, walls = [], []

    for number in range(4):
        await store.announce(an_instance(slots=number), now=NOW - number)
        ((instance, counter, wall),) = await store.instances()
        assert instance.slots == number
        counters.append(counter)
        walls.append(wall)

    assert counters == sorted(set(counters))
    assert walls == [NOW, NOW - 1, NOW - 2, NOW - 3], "a clock that goes back is shown as it is"


async def retired_processes_are_gone(factory: StoreFactory) -> None:
    store = await factory.fresh()
    for id in "abc":
        await store.announce(an_instance(id), now=NOW)

    await store.retire([WorkerId("a"), WorkerId("nobody"), WorkerId("c")])
    await store.retire([WorkerId("a")])
    await store.retire([])

    assert [instance.id for instance, _, _ in await store.instances()] == ["b"]


# ── reanchor ─────────────────────────────────────────────────────────────────────────────────────


async def cursors_of_the_future_come_back(factory: StoreFactory) -> None:
    store = await factory.fresh()
    far, edge, off = a_task("far"), a_task("edge"), a_task("off", enabled=False, updated_at=NOW + 3 * DAY)
    await stored(store, far, edge, off)
    two_days = a_plan(far, cursor_after=NOW + 2 * DAY, next_run_at=NOW + 2 * DAY + MINUTE)
    one_day = a_plan(edge, cursor_after=NOW + DAY, next_run_at=NOW + DAY + MINUTE)
    await store.apply_plans([two_days, one_day], NOW)

    moved = await store.reanchor(beyond=NOW + DAY, now=NOW + 30 * SECOND)

    assert moved == 2
    shown = await view(store, far)
    assert (shown.cursor, shown.next_run_at) == (NOW + 30 * SECOND, NOW + MINUTE)
    assert (await view(store, edge)).cursor == NOW + DAY
    assert ((await view(store, off)).cursor, (await view(store, off)).next_run_at) == (NOW + 30 * SECOND, None)
    assert [due.task for due in (await store.due(NOW + MINUTE, 10)).due] == [far]
    assert await store.reanchor(beyond=NOW + DAY, now=NOW + 30 * SECOND) == 0


async def what_waits_for_a_moment_of_the_future_is_available_again(factory: StoreFactory) -> None:
    """Else a task that allows no overlap would stand still until then."""
    store = await factory.fresh()
    task, edge = a_task("late"), a_task("edge")
    await stored(store, task, edge)
    two_days, one_day = NOW + 2 * DAY, NOW + DAY
    await queued(store, a_new_execution("late", task.id, available_at=two_days, priority=Priority.LOW))
    await queued(store, a_new_execution("edge", edge.id, available_at=one_day))

    assert await store.reanchor(beyond=NOW + DAY, now=NOW) == 1

    assert (await execution(store, "late")).available_at == NOW
    assert (await execution(store, "edge")).available_at == one_day
    assert [claim.execution_id for claim in await claimed(store)] == ["late"]
    assert await store.reanchor(beyond=NOW + DAY, now=NOW) == 0


async def a_plan_made_before_a_reanchor_is_refused(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_task(updated_at=NOW + 2 * DAY)
    await stored(store, task)

    await store.reanchor(beyond=NOW + DAY, now=NOW)

    verdicts = await store.apply_plans([a_plan(task, NOW + 2 * DAY + MINUTE)], NOW)
    assert list(verdicts) == [PlanVerdict.MOVED]


# ── purge ────────────────────────────────────────────────────────────────────────────────────────


async def purging_an_empty_store_removes_nothing(factory: StoreFactory) -> None:
    store = await factory.fresh()

    assert await store.purge(before=NOW, limit=10) == (0, 0)


async def only_what_ended_before_is_purged(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_parallel_task()
    await stored(store, task)
    await queued_ids(store, task, "old", "edge", "new", "retries", "runs")
    old, edge, new, retries, _ = await claimed(store)
    await settled(store, old, at=NOW + 9)
    await settled(store, edge, AttemptOutcome.CANCELLED, at=NOW + 10)
    await settled(store, new, at=NOW + 11)
    await settled(store, retries, AttemptOutcome.FAILED, at=NOW + 1)
    await queued_ids(store, task, "waits", "old cancel")
    await store.request_cancel(execution_id=ExecutionId("old cancel"), now=NOW + 2)
    tally = (await view(store, task)).tally

    assert await store.purge(before=NOW + 10, limit=100) == (2, 0)

    assert {one.id for one in await all_executions(store)} == {"edge", "new", "retries", "runs", "waits"}
    assert await store.get_execution(ExecutionId("old")) is None
    assert (await view(store, task)).tally == tally, "what was counted stays counted"
    assert await store.purge(before=NOW + 10, limit=100) == (0, 0)


async def purging_goes_in_bites_oldest_first(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_parallel_task()
    await stored(store, task)
    await queued(store, *(a_new_execution(f"{number}") for number in range(7)))
    for claim in await claimed(store):
        await settled(store, claim, at=NOW + 100 - int(claim.execution_id))
    cursor = task.updated_at
    for number in range(5):
        moment = NOW + (number + 1) * MINUTE
        skip = Skip(moment, moment, 1, Reason.OVERLAP)
        await store.apply_plans([a_plan(task, skips=[skip], cursor=cursor)], moment)
        cursor = moment

    bites = [await store.purge(before=NOW + DAY, limit=3) for _ in range(2)]
    assert bites == [(3, 3), (3, 2)]
    assert {one.id for one in await all_executions(store)} == {"0"}
    assert await store.purge(before=NOW + DAY, limit=0) == (0, 0)
    assert await store.purge(before=NOW + DAY, limit=3) == (1, 0)
    assert await ledger(store, task.id) == []


async def ledger_rows_are_purged_by_when_they_were_decided(factory: StoreFactory) -> None:
    """A look back over a long outage is news, however old the moments are."""
    store = await factory.fresh()
    task = a_task(updated_at=NOW - 10 * DAY)
    await stored(store, task)
    first = a_plan(task, skips=[Skip(NOW - 9 * DAY, NOW - 9 * DAY, 1, Reason.OVERLAP)])
    outage = Skip(NOW - 8 * DAY, NOW - DAY, 10_000, Reason.TOO_OLD)
    second = a_plan(task, skips=[outage], cursor=first.cursor_after)
    await store.apply_plans([first], NOW - 9 * DAY)
    await store.apply_plans([second], NOW)

    assert await store.purge(before=NOW - HOUR, limit=10) == (0, 1)

    assert [entry.count for entry in await ledger(store, task.id)] == [10_000]
    assert await store.purge(before=NOW + 1, limit=10) == (0, 1)


async def a_purged_execution_is_unknown_to_every_verb(factory: StoreFactory) -> None:
    store = await factory.fresh()
    claim = await one_claim(store, a_task(), "old")
    settlement = a_settlement(claim)
    await store.settle([settlement])
    await store.purge(before=NOW + DAY, limit=10)

    assert list(await store.settle([settlement])) == [SettleVerdict.STALE]
    assert list(await store.request_cancel(execution_id=claim.execution_id, now=NOW)) == []
    again = await store.enqueue(a_new_execution("new", key="m:task-1:old"), queue_limit=10)
    assert (again.id, again.state) == ("new", State.QUEUED)
    await assert_adds_up(store)


async def purging_at_once_removes_each_once(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_parallel_task()
    await stored(store, task)
    await queued(store, *(a_new_execution(f"{number}") for number in range(10)))
    for claim in await claimed(store):
        await settled(store, claim)

    bites = await asyncio.gather(*(store.purge(before=NOW + DAY, limit=4) for _ in range(4)))

    assert sum(executions for executions, _ in bites) == 10
    assert await all_executions(store) == []


async def deleting_after_a_purge_finds_the_task_only(factory: StoreFactory) -> None:
    store = await factory.fresh()
    claim = await one_claim(store, a_task())
    await settled(store, claim)
    await store.purge(before=NOW + DAY, limit=10)

    assert list(await store.delete_task(claim.task.id, expected_revision=1, now=NOW)) == []
    await refused(NotFound, store.delete_task(claim.task.id, expected_revision=1, now=NOW))


async def what_follows_a_purged_execution_keeps_its_name(factory: StoreFactory) -> None:
    store = await factory.fresh()
    claim = await one_claim(store, a_parallel_task(), "old")
    await settled(store, claim, followups=(replace(a_new_execution("new"), follows=claim.execution_id),))

    await store.purge(before=NOW + DAY, limit=10)

    assert (await execution(store, "new")).follows == "old"
