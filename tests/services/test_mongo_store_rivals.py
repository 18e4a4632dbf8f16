"""Several processes on one database: each piece of work once, none left over, none in between."""

from __future__ import annotations

import asyncio

import pytest

from peregrine.domain.execution import State
from peregrine.domain.moment import HOUR, MINUTE
from peregrine.domain.planning import plan
from peregrine.domain.policy import Misfire, Overlap, Policy
from peregrine.ports.store import PlanVerdict, SettleVerdict
from peregrine.testing.builders import NOW, a_claim_request, a_parallel_task, a_plan, a_settlement, a_task
from peregrine.testing.store_contract.steps import all_executions, assert_adds_up, ledger, view
from tests.services.mongo_places import MongoStores, PlacedStore

pytestmark = [pytest.mark.anyio, pytest.mark.services]

LATER = NOW + HOUR
EVENING = NOW + 9 * HOUR


async def _four(stores: MongoStores) -> list[PlacedStore]:
    return [await stores.fresh(), *[await stores.reopen() for _ in range(3)]]


async def _work(store: PlacedStore, worker: str, total: int, done: list[str]) -> None:
    """Claim and settle until all of *total* are done by anybody."""
    for _ in range(1_000):
        claims = (await store.claim(a_claim_request(20, now=EVENING, worker_id=worker))).claims
        assert set(await store.settle([a_settlement(claim) for claim in claims])) <= {SettleVerdict.APPLIED}
        done += [claim.execution_id for claim in claims]
        if len(done) >= total:
            return
    raise AssertionError("work was left over that nobody could claim")


async def test_four_stores_run_five_hundred_executions_once_each(stores: MongoStores) -> None:
    four = await _four(stores)
    tasks = [a_parallel_task("parallel"), *[a_task(f"single-{n}") for n in range(50)]]
    await four[0].create_tasks(tasks)
    moments = [NOW + n * MINUTE for n in range(1, 451)]
    plans = [a_plan(tasks[0], *moments), *[a_plan(task, NOW + MINUTE) for task in tasks[1:]]]
    await four[0].apply_plans(plans, EVENING)
    done: list[str] = []

    await asyncio.gather(*(_work(store, f"worker-{n}", 500, done) for n, store in enumerate(four)))

    assert len(done) == len(set(done)) == 500
    shown = await all_executions(four[1])
    assert {one.state for one in shown} == {State.COMPLETED}
    assert {one.attempt for one in shown} == {1}
    assert (await view(four[2], tasks[0])).tally.success_count == 450
    await assert_adds_up(four[3], now=EVENING)


async def test_a_task_never_overlaps_itself_whoever_claims(stores: MongoStores) -> None:
    four = await _four(stores)
    tasks = [a_task(f"task-{n}", policy=Policy(overlap=Overlap.QUEUE)) for n in range(3)]
    await four[0].create_tasks(tasks)
    await four[0].apply_plans([a_plan(t, *(NOW + n * MINUTE for n in range(1, 13))) for t in tasks], LATER)
    running: set[str] = set()
    done: list[str] = []

    async def work(store: PlacedStore, worker: str) -> None:
        for _ in range(1_000):
            claims = (await store.claim(a_claim_request(2, now=LATER, worker_id=worker))).claims
            for claim in claims:
                assert claim.task.id not in running, "two executions of one task run at the same time"
                running.add(claim.task.id)
            await asyncio.sleep(0)
            for claim in claims:
                running.discard(claim.task.id)
            await store.settle([a_settlement(claim) for claim in claims])
            done.extend(claim.execution_id for claim in claims)
            if len(done) >= 36:
                return

    await asyncio.gather(*(work(store, f"worker-{n}") for n, store in enumerate(four)))

    assert len(done) == len(set(done)) == 36


async def test_planners_at_once_leave_no_gap_and_no_double(stores: MongoStores) -> None:
    """Each looks and plans as if it were alone, over an hour's outage, until nothing is due."""
    four = await _four(stores)
    tasks = [a_task(m, policy=Policy(misfire=m, catchup_max=20, overlap=Overlap.ALLOW)) for m in Misfire]
    tasks += [a_task(f"more-{n}") for n in range(10)]
    await four[0].create_tasks(tasks)
    applied: list[str] = []

    async def planner(store: PlacedStore) -> None:
        for turn in range(60):
            now = min(LATER, NOW + (turn + 1) * MINUTE)
            due = (await store.due(now, 5)).due
            plans = [made for one in due if (made := plan(one, now, 1_000)) is not None]
            verdicts = await store.apply_plans(plans, now)
            applied.extend(p.task_id for p, v in zip(plans, verdicts, strict=True) if v is PlanVerdict.APPLIED)

    await asyncio.gather(*(planner(store) for store in four))
    for _ in range(3):
        due = (await four[0].due(LATER, 100)).due
        await four[0].apply_plans([made for one in due if (made := plan(one, LATER, 1_000)) is not None], LATER)

    assert applied
    for task in tasks:
        entries = await ledger(four[0], task.id)
        assert sum(entry.count for entry in entries) == 60
        assert len({entry.scheduled_for for entry in entries}) == len(entries)
    await assert_adds_up(four[1], now=LATER)


async def test_ends_at_once_of_one_task_are_all_counted(stores: MongoStores) -> None:
    four = await _four(stores)
    task = a_parallel_task()
    await four[0].create_tasks([task])
    await four[0].apply_plans([a_plan(task, *(NOW + n * MINUTE for n in range(1, 161)))], LATER + 2 * HOUR)
    claims = (await four[0].claim(a_claim_request(160, now=LATER + 2 * HOUR))).claims
    assert len(claims) == 160

    async def settle_each(store: PlacedStore, part: int) -> None:
        for claim in claims[part::4]:
            assert list(await store.settle([a_settlement(claim)])) == [SettleVerdict.APPLIED]

    await asyncio.gather(*(settle_each(store, part) for part, store in enumerate(four)))

    assert (await view(four[0], task)).tally.success_count == 160
