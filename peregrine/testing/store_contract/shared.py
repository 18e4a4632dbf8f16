"""Owns what a store must do that outlives its process: keep what it said it kept, for one process and for several."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from peregrine.domain.errors import Conflict, LimitReached, Stale
from peregrine.domain.execution import AttemptOutcome, State
from peregrine.domain.ids import ExecutionId
from peregrine.domain.moment import DAY, MINUTE
from peregrine.domain.occurrence import Reason, Skip
from peregrine.domain.retry import recover
from peregrine.ports.store import CancelVerdict, PlanVerdict, RenewVerdict, SettleVerdict, Store
from peregrine.testing.builders import (
    NOW,
    a_claim_request,
    a_new_execution,
    a_parallel_task,
    a_plan,
    a_settlement,
    a_task,
    an_instance,
)
from peregrine.testing.store_contract import variety
from peregrine.testing.store_contract.factory import SharedStoreFactory
from peregrine.testing.store_contract.steps import (
    all_executions,
    assert_adds_up,
    assert_same,
    claimed,
    execution,
    ids,
    one_claim,
    photograph,
    queued,
    queued_ids,
    settled,
    stored,
    view,
)


async def _a_lived_in_store(store: Store) -> None:
    """Something of everything."""
    parallel, single, gone = a_parallel_task("parallel"), a_task("single"), a_task("gone")
    await stored(store, *variety.tasks(), parallel, single, gone)
    skips = [Skip(NOW + MINUTE, NOW + 2 * MINUTE, 2, Reason.COALESCED)]
    await store.apply_plans([a_plan(single, NOW + 3 * MINUTE, skips=skips)], NOW + 4 * MINUTE)
    for number, parameters in enumerate(variety.OBJECTS):
        await queued(store, a_new_execution(f"parallel-{number}", "parallel", parameters=parameters))
    await queued_ids(store, gone, "of a deleted task", "waits in vain")
    claims = await claimed(store, limit=7)
    ends = (AttemptOutcome.SUCCEEDED, AttemptOutcome.FAILED, AttemptOutcome.INTERRUPTED, AttemptOutcome.CANCELLED)
    for claim, verdict in zip(claims, ends, strict=False):
        await settled(store, claim, verdict, detail=variety.OBJECTS[4])
    await store.renew([(claim.execution_id, claim.epoch) for claim in claims])
    await claimed(store, now=NOW + 5 * MINUTE, worker="worker-2")
    await store.request_cancel(execution_id=claims[-1].execution_id, now=NOW)
    await store.delete_task(gone.id, expected_revision=1, now=NOW + 5 * MINUTE)
    await queued_ids(store, single, "still waits")
    await store.announce(an_instance(), now=NOW)


async def a_write_by_another_process_changes_the_version(factory: SharedStoreFactory) -> None:
    store = await factory.fresh()
    await stored(store, a_task())
    other = await factory.reopen()
    before = store.version()

    await stored(other, a_task("task-2"))

    assert (store.version() != before) is (before is not None)


async def all_is_there_after_a_close(factory: SharedStoreFactory) -> None:
    store = await factory.fresh()
    await _a_lived_in_store(store)
    before = await photograph(store)
    await store.close()

    again = await factory.reopen()

    assert_same(before, await photograph(again))
    await assert_adds_up(again)


async def all_is_there_without_a_close(factory: SharedStoreFactory) -> None:
    """What was answered is stored (promise P6): nothing waits for a tidy end."""
    store = await factory.fresh()
    await _a_lived_in_store(store)
    before = await photograph(store)

    again = await factory.reopen()

    assert_same(before, await photograph(again))


async def the_queue_keeps_its_order_over_a_reopening(factory: SharedStoreFactory) -> None:
    store = await factory.fresh()
    task = a_parallel_task()
    await stored(store, task)
    await queued_ids(store, task, "z", "m")
    await store.close()
    store = await factory.reopen()
    await queued_ids(store, task, "a")
    await store.close()

    store = await factory.reopen()

    assert ids(await claimed(store)) == ["z", "m", "a"]


async def a_claim_outlives_its_process(factory: SharedStoreFactory) -> None:
    store = await factory.fresh()
    await one_claim(store, a_task(), "first")
    await stored(store, a_task("task-2"))
    await queued(store, a_new_execution("second", "task-2"))
    request = a_claim_request()
    (claim,) = (await store.claim(request)).claims
    await store.close()

    store = await factory.reopen()

    assert_same([claim], list(await store.claimed_by(request.claim_id)))
    assert list(await store.renew([(claim.execution_id, claim.epoch)])) == [RenewVerdict.KEPT]
    settlement = a_settlement(claim)
    assert list(await store.settle([settlement])) == [SettleVerdict.APPLIED]
    await store.close()

    store = await factory.reopen()
    assert list(await store.settle([settlement])) == [SettleVerdict.REPEATED]


async def counters_go_on_after_a_reopening(factory: SharedStoreFactory) -> None:
    store = await factory.fresh()
    claim = await one_claim(store, a_task())
    await store.renew([(claim.execution_id, claim.epoch)])
    await store.announce(an_instance(), now=NOW)
    ((_, counter, _),) = await store.instances()
    (before,) = await store.running()
    await store.close()

    store = await factory.reopen()

    await store.announce(an_instance(), now=NOW)
    ((_, after, _),) = await store.instances()
    assert after > counter
    assert_same(before, (await store.running())[0])


async def an_empty_store_reopens_empty(factory: SharedStoreFactory) -> None:
    store = await factory.fresh()
    before = await photograph(store)
    await store.close()

    assert_same(before, await photograph(await factory.reopen()))


# ── several processes ────────────────────────────────────────────────────────────────────────────


async def processes_see_each_other_at_once(factory: SharedStoreFactory) -> None:
    here, task = await factory.fresh(), a_parallel_task()
    there = await factory.reopen()

    await stored(here, task)
    assert (await view(there, task)).task == task
    await queued_ids(there, task, "one")
    (claim,) = await claimed(here)
    assert list(await there.request_cancel(execution_id=claim.execution_id, now=NOW)) == [("one", CancelVerdict.MARKED)]
    assert list(await here.renew([(claim.execution_id, claim.epoch)])) == [RenewVerdict.CANCEL]
    (running,) = await there.running()
    assert list(await there.settle([recover(running, "worker-2", NOW, 0.5)])) == [SettleVerdict.APPLIED]
    assert list(await here.renew([(claim.execution_id, claim.epoch)])) == [RenewVerdict.LOST]
    assert await settled(here, claim) is SettleVerdict.STALE
    changed = replace(task, revision=2, description="new")
    await there.put_task(changed, expected_revision=1)
    assert (await view(here, task)).task == changed
    await here.delete_task(task.id, expected_revision=2, now=NOW)
    assert await there.get_task(task.id) is None


async def processes_race_for_everything_and_agree(factory: SharedStoreFactory) -> None:
    """One turn of every verb, by three processes at the same time."""
    stores = [await factory.fresh(), await factory.reopen(), await factory.reopen()]
    store = stores[0]
    created = await asyncio.gather(
        *(one.create_tasks([a_task(f"task-{n}", name="same")]) for n, one in enumerate(stores)), return_exceptions=True
    )
    assert sorted(type(answer).__name__ for answer in created) == ["Conflict", "Conflict", "NoneType"]
    assert all(answer is None or isinstance(answer, Conflict) for answer in created)
    tasks = [a_task(f"racer-{number}") for number in range(12)]
    await stored(store, *tasks)
    changes = await asyncio.gather(
        *(one.put_task(replace(tasks[0], revision=2), expected_revision=1) for one in stores), return_exceptions=True
    )
    assert [type(answer) for answer in changes if isinstance(answer, BaseException)] == [Stale, Stale]

    plans = [a_plan(task, NOW + MINUTE) for task in tasks]
    answers = await asyncio.gather(*(one.apply_plans(plans, NOW + MINUTE) for one in stores))
    for verdicts in zip(*answers, strict=True):
        assert sorted(verdicts) == [PlanVerdict.APPLIED, PlanVerdict.MOVED, PlanVerdict.MOVED]

    batches = await asyncio.gather(*(claimed(one, now=NOW + MINUTE, limit=5) for one in stores))
    claims = [claim for batch in batches for claim in batch]
    assert len({claim.execution_id for claim in claims}) == len(claims) == 12

    settlements = [[a_settlement(claim, at=NOW + DAY + n) for claim in claims] for n, _ in enumerate(stores)]
    ends = await asyncio.gather(*(one.settle(mine) for one, mine in zip(stores, settlements, strict=True)))
    for verdicts in zip(*ends, strict=True):
        assert sorted(verdicts) == [SettleVerdict.APPLIED, SettleVerdict.STALE, SettleVerdict.STALE]
    for task in tasks:
        assert (await view(store, task)).tally.total_runs == 1
    await assert_adds_up(store)


async def processes_share_keys_and_the_last_place(factory: SharedStoreFactory) -> None:
    stores = [await factory.fresh(), await factory.reopen(), await factory.reopen()]
    await stored(stores[0], a_task())

    one_key = await asyncio.gather(
        *(one.enqueue(a_new_execution(f"key-{n}", key="the key"), queue_limit=9) for n, one in enumerate(stores))
    )
    places = await asyncio.gather(
        *(one.enqueue(a_new_execution(f"place-{n}"), queue_limit=2) for n, one in enumerate(stores)),
        return_exceptions=True,
    )

    assert len({answer.id for answer in one_key}) == 1
    assert sum(isinstance(answer, LimitReached) for answer in places) == 2
    assert len(await all_executions(stores[1])) == 2


async def processes_claim_all_and_nothing_twice(factory: SharedStoreFactory) -> None:
    stores = [await factory.fresh(), await factory.reopen(), await factory.reopen()]
    single, parallel = a_task("single"), a_parallel_task("parallel")
    await stored(stores[0], single, parallel)
    await queued_ids(stores[0], parallel, *(f"parallel-{number}" for number in range(40)))
    await queued_ids(stores[0], single, *(f"single-{number}" for number in range(5)))

    async def work(store: Store) -> list[str]:
        done: list[str] = []
        for _ in range(1_000):
            # A claim that gets nothing may only mean that another process holds the single task right now.
            batch = await claimed(store, limit=3)
            done += ids(batch)
            assert sum(running.task_id == single.id for running in await store.running()) <= 1
            await store.settle([a_settlement(claim) for claim in batch])
            left = await store.statistics(NOW)
            if left.queued + left.running == 0:
                return done
        raise AssertionError("work was left over that nobody could claim")

    done = [id for part in await asyncio.gather(*(work(store) for store in stores)) for id in part]

    assert len(done) == len(set(done)) == 45
    assert {one.state for one in await all_executions(stores[1])} == {State.COMPLETED}
    assert (await view(stores[2], parallel)).tally.success_count == 40
    await assert_adds_up(stores[2])


async def a_cancel_from_another_process_meets_the_settlement(factory: SharedStoreFactory) -> None:
    here = await factory.fresh()
    there = await factory.reopen()
    task = a_parallel_task()
    await stored(here, task)
    names = [f"execution-{number}" for number in range(8)]
    await queued_ids(here, task, *names)
    claims = await claimed(here)

    verdicts, *_ = await asyncio.gather(
        here.settle([a_settlement(claim, AttemptOutcome.FAILED) for claim in claims]),
        *(there.request_cancel(execution_id=ExecutionId(name), now=NOW) for name in names),
    )

    # A cancel that comes between the write and its reading leaves the settlement written, and REPEATED says just that.
    assert set(verdicts) <= {SettleVerdict.APPLIED, SettleVerdict.CANCELLED, SettleVerdict.REPEATED}
    for name in names:
        assert (await execution(there, name)).state is State.CANCELLED
    await assert_adds_up(there)
