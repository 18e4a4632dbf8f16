"""What the contract of all stores does not cut off: batches of new tasks, the gate of a full queue, and the neighbours
of a process that died, who must not wait for its return.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

import pytest

from peregrine.domain.errors import Conflict, LimitReached, Stale
from peregrine.domain.moment import DAY, MINUTE
from peregrine.domain.policy import Priority
from peregrine.domain.task import Task
from peregrine.ports.store import PlanVerdict, SettleVerdict, Store, TaskChange
from peregrine.stores.mongo import claiming, debts
from peregrine.stores.mongo.commands import BUNDLES, EXECUTIONS, SLOTS, TASKS
from peregrine.testing.builders import NOW, a_claim_request, a_new_execution, a_plan, a_settlement, a_task
from peregrine.testing.store_contract import Died
from peregrine.testing.store_contract.steps import (
    all_executions,
    all_tasks,
    assert_adds_up,
    claimed,
    ids,
    queued,
    queued_ids,
    stored,
    view,
)
from tests.services.mongo_places import Hold, MongoStores

pytestmark = [pytest.mark.anyio, pytest.mark.services]

COMMANDS_MAX = 100


async def _dies(act: Awaitable[object]) -> bool:
    try:
        await act
    except Died:
        return True
    return False


async def _cut_everywhere(
    stores: MongoStores,
    arrange: Callable[[Store], Awaitable[object]],
    act: Callable[[Store], Awaitable[object]],
    check: Callable[[Store], Awaitable[None]],
) -> None:
    """Cut *act* off before its first, second, third … command, and *check* the store each time."""
    for commands in range(COMMANDS_MAX):
        await arrange(await stores.fresh())
        died = await _dies(act(await stores.dying(commands)))
        await check(await stores.reopen())
        if not died:
            return
    raise AssertionError(f"the verb did not come through within {COMMANDS_MAX} commands")


async def test_a_batch_of_new_tasks_is_whole_or_absent(stores: MongoStores) -> None:
    names = ["one", "two", "three"]

    async def arrange(store: Store) -> None:
        await stored(store, a_task("there before"))

    async def act(store: Store) -> None:
        await store.create_tasks([a_task(name) for name in names])

    async def check(store: Store) -> None:
        found = {shown.task.id for shown in await all_tasks(store)} - {"there before"}
        assert found in (set(), set(names))
        with suppress(Conflict):
            await act(store)
        assert {shown.task.id for shown in await all_tasks(store)} == {*names, "there before"}
        assert {due.task.id for due in (await store.due(NOW + MINUTE, 10)).due} == {*names, "there before"}

    await _cut_everywhere(stores, arrange, act, check)


async def test_a_refused_batch_leaves_nothing_wherever_it_is_cut_off(stores: MongoStores) -> None:
    async def arrange(store: Store) -> None:
        await stored(store, a_task("taken"))

    async def act(store: Store) -> None:
        with suppress(Conflict):
            await store.create_tasks([a_task("one"), a_task("two", name="name of taken"), a_task("three")])

    async def check(store: Store) -> None:
        assert [shown.task.id for shown in await all_tasks(store)] == ["taken"]
        await stored(store, a_task("one"), a_task("two"), a_task("three"))

    await _cut_everywhere(stores, arrange, act, check)


async def test_the_last_place_in_the_queue_is_kept_by_a_process_that_died(stores: MongoStores) -> None:
    async def arrange(store: Store) -> None:
        await stored(store, a_task())

    async def act(store: Store) -> None:
        await store.enqueue(a_new_execution("one"), queue_limit=1)

    async def check(store: Store) -> None:
        with suppress(LimitReached):
            await store.enqueue(a_new_execution("two"), queue_limit=1)
        assert len(await all_executions(store)) == 1

    await _cut_everywhere(stores, arrange, act, check)


# ── neighbours ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_neighbour_finishes_the_plan_of_one_who_died(
    stores: MongoStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was open all along: the second look at the same debt is enough."""
    monkeypatch.setattr(debts, "LOOK_SECONDS", 0.0)
    neighbour, task = await stores.fresh(), a_task()
    await stored(neighbour, task)
    assert await _dies((await stores.dying(1)).apply_plans([a_plan(task, NOW + MINUTE)], NOW + MINUTE))
    assert (await view(neighbour, task)).queued == 0

    next_one = a_plan(task, NOW + 2 * MINUTE, cursor=NOW + MINUTE)
    assert list(await neighbour.apply_plans([next_one], NOW + 2 * MINUTE)) == [PlanVerdict.MOVED], "it would be lost"

    looks = [await neighbour.due(NOW + MINUTE, 10) for _ in range(3)]

    assert [list(look.due) for look in looks] == [[], [], []], "what a plan owes is not decided again"
    assert (await view(neighbour, task)).queued == 1
    again = await neighbour.apply_plans([a_plan(task, NOW + MINUTE)], NOW + MINUTE)
    assert list(again) == [PlanVerdict.MOVED]


async def test_a_neighbour_counts_the_end_that_one_left_who_died(
    stores: MongoStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debts, "LOOK_SECONDS", 0.0)
    neighbour, task = await stores.fresh(), a_task()
    await stored(neighbour, task)
    await queued_ids(neighbour, task, "one")
    (claim,) = await claimed(neighbour)
    assert await _dies((await stores.dying(2)).settle([a_settlement(claim)]))
    assert (await view(neighbour, task)).tally.total_runs == 0

    for _ in range(3):
        await neighbour.due(NOW, 10)

    assert (await view(neighbour, task)).tally.total_runs == 1
    await assert_adds_up(neighbour)


async def test_a_neighbour_takes_over_the_slot_of_one_who_died(
    stores: MongoStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claiming, "STUCK_SECONDS", 0.0)
    neighbour, task = await stores.fresh(), a_task()
    await stored(neighbour, task)
    await queued_ids(neighbour, task, "one", "two")
    dead = await stores.reopen()
    slots = 0
    for commands in range(COMMANDS_MAX):
        dead.commands.left = commands
        if not await _dies(dead.claim(a_claim_request(worker_id="dead"))):
            break
        dead.commands.left = None
        slots = len(await dead.commands.find("scheduler_slots", {}))
        if slots:
            break
    assert slots == 1, "it died between the slot and the claim"
    dead.commands.left = 0

    first = await neighbour.claim(a_claim_request())
    second = await neighbour.claim(a_claim_request())

    assert (ids(first.claims), ids(second.claims)) == ([], ["one"]), "it might have been under way at the first look"
    dead.commands.left = None
    late = await dead.claim(a_claim_request(worker_id="dead"))
    assert ids(late.claims) == []


async def test_a_batch_that_nobody_commits_gives_its_names_back(stores: MongoStores) -> None:
    neighbour = await stores.fresh()
    assert await _dies((await stores.dying(2)).create_tasks([a_task("one"), a_task("two")]))
    assert await all_tasks(neighbour) == []

    await stored(neighbour, a_task("three", name="name of one"))

    assert [shown.task.id for shown in await all_tasks(neighbour)] == ["three"]


async def test_what_is_queued_for_a_task_that_is_gone_ends(stores: MongoStores) -> None:
    """The task can vanish between the look for it and the insert; then nobody may wait for ever."""
    store, task = await stores.fresh(), a_task()
    await stored(store, task)
    await queued_ids(store, task, "orphan")
    await store.commands.delete("scheduler_tasks", {"_id": task.id})

    assert ids((await store.claim(a_claim_request())).claims) == []

    assert [str(one.state) for one in await all_executions(store)] == ["cancelled"]


async def test_a_mark_is_taken_off_by_the_next_end_or_at_the_close(stores: MongoStores) -> None:
    store, task = await stores.fresh(), a_task()
    await stored(store, task)
    for number in range(3):
        await queued_ids(store, task, f"{number}")
        (claim,) = await claimed(store)
        await store.settle([a_settlement(claim)])
    owing = await store.commands.find("scheduler_executions", {"owing": True})
    assert [one["_id"] for one in owing] == ["2"]

    await store.close()

    after = await stores.reopen()
    assert await after.commands.find("scheduler_executions", {"owing": True}) == []
    assert (await view(after, task)).tally.total_runs == 3
    (document,) = await after.commands.find("scheduler_tasks", {"_id": task.id})
    assert len(document["counted"]) <= 2


async def test_a_late_payer_counts_nothing_twice(stores: MongoStores) -> None:
    """It read what is owed, slept while others paid and forgot, and wakes with what it read."""
    store, task = await stores.fresh(), a_task()
    await stored(store, task)
    await queued_ids(store, task, "first")
    (claim,) = await claimed(store)
    await store.settle([a_settlement(claim)])
    sleeper = await stores.reopen()
    owed = [one | {"owes": {"tally": True}} for one in await store.commands.find("scheduler_executions", {})]
    await store.maintain()
    for number in range(3):
        await queued_ids(store, task, f"{number}")
        (claim,) = await claimed(store)
        await store.settle([a_settlement(claim)])

    await sleeper._debts.pay_executions(owed)

    assert (await view(store, task)).tally.total_runs == 4


# ── the frozen ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_claimer_that_froze_behind_its_slot_gets_nothing(
    stores: MongoStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its slot was taken over meanwhile; its claim is refused by the fence, though nobody has claimed what it wants."""
    monkeypatch.setattr(claiming, "STUCK_SECONDS", 0.0)
    neighbour, task = await stores.fresh(), a_task()
    await stored(neighbour, task)
    await queued_ids(neighbour, task, "one", "two")
    frozen = await stores.reopen()
    frozen.commands.hold = hold = Hold(EXECUTIONS)
    late = asyncio.create_task(frozen.claim(a_claim_request(worker_id="frozen")))
    await hold.reached.wait()
    await neighbour.claim(a_claim_request())
    neighbour.commands.hold = taken_over = Hold(EXECUTIONS, passing=1)
    taking = asyncio.create_task(neighbour.claim(a_claim_request()))
    await taken_over.reached.wait()

    hold.thawed.set()
    nothing = (await late).claims
    taken_over.thawed.set()
    claims = (await taking).claims

    assert (ids(claims), ids(nothing)) == (["one"], [])
    assert [one.worker_id for one in await neighbour.running()] == ["worker-1"]
    await neighbour.settle([a_settlement(claim) for claim in claims])
    assert ids((await neighbour.claim(a_claim_request())).claims) == ["two"], "the late one left no slot behind"


async def test_a_claim_that_comes_between_two_looks_is_seen(stores: MongoStores) -> None:
    """What runs was looked for before the neighbour claimed, the slots after it: the slot says the newer truth."""
    neighbour, task = await stores.fresh(), a_task()
    await stored(neighbour, task)
    await queued_ids(neighbour, task, "waits")
    frozen = await stores.reopen()
    frozen.commands.hold = hold = Hold(SLOTS, verb="find")
    late = asyncio.create_task(frozen.claim(a_claim_request(worker_id="frozen")))
    await hold.reached.wait()
    # By the answer to this, what was asked before it is nearly surely answered too; else this test proves less.
    await frozen.commands.command("ping")
    await queued(neighbour, a_new_execution("urgent", priority=Priority.CRITICAL))
    claims = await claimed(neighbour, limit=1)

    hold.thawed.set()

    assert (ids(claims), ids((await late).claims)) == (["urgent"], [])


async def test_one_who_froze_before_it_counted_counts_nothing_twice(
    stores: MongoStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debts, "LOOK_SECONDS", 0.0)
    neighbour, task = await stores.fresh(), a_task()
    await stored(neighbour, task)
    await queued_ids(neighbour, task, "first")
    (claim,) = await claimed(neighbour)
    frozen = await stores.reopen()
    frozen.commands.hold = hold = Hold(TASKS)
    late = asyncio.create_task(frozen.settle([a_settlement(claim)]))
    await hold.reached.wait()
    for number in range(3):
        await neighbour.due(NOW, 10)
        await queued_ids(neighbour, task, f"{number}")
        await neighbour.settle([a_settlement(claim) for claim in await claimed(neighbour)])
    assert (await view(neighbour, task)).tally.total_runs == 4

    hold.thawed.set()

    assert list(await late) == [SettleVerdict.APPLIED]
    assert (await view(neighbour, task)).tally.total_runs == 4
    await assert_adds_up(neighbour)


async def test_a_planner_that_froze_behind_its_decision_makes_nothing_twice(
    stores: MongoStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debts, "LOOK_SECONDS", 0.0)
    neighbour, task = await stores.fresh(), a_task()
    await stored(neighbour, task)
    frozen = await stores.reopen()
    await frozen.apply_plans([a_plan(task, NOW + MINUTE)], NOW + MINUTE)
    (document,) = await neighbour.commands.find(TASKS, {"_id": task.id})
    (execution,) = await neighbour.commands.find(EXECUTIONS, {"task_id": task.id})
    await neighbour.settle([a_settlement(claim) for claim in await claimed(neighbour, now=NOW + MINUTE)])

    plan = {"id": document["plan_id"], "executions": [execution | {"_id": "another id"}], "skips": []}
    await frozen._debts.finish_plans([{"_id": task.id, "plan": plan}])

    assert len(await all_executions(neighbour)) == 1


async def test_a_batch_that_was_dropped_while_its_maker_froze_is_made_anew(stores: MongoStores) -> None:
    neighbour = await stores.fresh()
    frozen = await stores.reopen()
    frozen.commands.hold = hold = Hold(BUNDLES)
    late = asyncio.create_task(frozen.create_tasks([a_task("one"), a_task("two")]))
    await hold.reached.wait()
    await stored(neighbour, a_task("three", name="name of one"))

    hold.thawed.set()

    with pytest.raises(Conflict):
        await late
    assert [shown.task.id for shown in await all_tasks(neighbour)] == ["three"]
    assert await neighbour.commands.find(BUNDLES, {}) == []


async def test_what_is_purged_was_counted_before(stores: MongoStores) -> None:
    """Its worker died between the end and the tally, and nobody looked until retention came by."""
    store, task = await stores.fresh(), a_task()
    await stored(store, task)
    await queued_ids(store, task, "one")
    (claim,) = await claimed(store)
    assert await _dies((await stores.dying(2)).settle([a_settlement(claim)]))

    assert await store.purge(before=NOW + DAY, limit=10) == (1, 0)

    assert (await view(store, task)).tally.total_runs == 1


# ── new tasks and changes together ───────────────────────────────────────────────────────────────────────────────────


def _a_bundle() -> tuple[list[Task], list[TaskChange]]:
    """Two new tasks, and a task that is renamed while what it missed is decided."""
    changed = a_task("old", name="renamed", revision=2, generation=2, updated_at=NOW + 2 * MINUTE)
    plan = a_plan(a_task("old"), NOW + MINUTE)
    return [a_task("new-1"), a_task("new-2")], [TaskChange(task=changed, expected_revision=1, plan=plan)]


async def test_a_neighbour_finishes_or_drops_a_batch_of_changes(
    stores: MongoStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever its maker dies: all of it, or none and its names are free; by the looks of one who was there before."""
    monkeypatch.setattr(debts, "LOOK_SECONDS", 0.0)
    for commands in range(COMMANDS_MAX):
        neighbour = await stores.fresh()
        await stored(neighbour, a_task("old"))
        died = await _dies((await stores.dying(commands)).put_tasks(*_a_bundle()))

        for _ in range(3):
            await neighbour.due(NOW, 10)

        names = {shown.task.name for shown in await all_tasks(neighbour)}
        assert names in ({"name of old"}, {"renamed", "name of new-1", "name of new-2"})
        assert len(await all_executions(neighbour)) == len(names) // 2
        with suppress(Conflict):
            await neighbour.put_tasks(*_a_bundle())
        assert {shown.task.id for shown in await all_tasks(neighbour)} == {"old", "new-1", "new-2"}
        assert len(await all_executions(neighbour)) == 1
        await stored(neighbour, a_task("heir", name="name of old"))
        await assert_adds_up(neighbour)
        if not died:
            return
    raise AssertionError(f"the verb did not come through within {COMMANDS_MAX} commands")


async def test_what_a_batch_holds_is_neither_planned_nor_changed_by_others(stores: MongoStores) -> None:
    neighbour = await stores.fresh()
    await stored(neighbour, a_task("old"))
    frozen = await stores.reopen()
    frozen.commands.hold = hold = Hold(BUNDLES)
    late = asyncio.create_task(frozen.put_tasks(*_a_bundle()))
    await hold.reached.wait()

    assert list((await neighbour.due(NOW + MINUTE, 10)).due) == []
    planned = await neighbour.apply_plans([a_plan(a_task("old"), NOW + MINUTE)], NOW + MINUTE)
    assert list(planned) == [PlanVerdict.MOVED]
    changed = a_task("old", description="by a neighbour", revision=2)
    await neighbour.put_task(changed, expected_revision=1)
    hold.thawed.set()

    with pytest.raises(Stale):
        await late
    assert [shown.task for shown in await all_tasks(neighbour)] == [changed], "who waited too long goes first"


async def test_a_name_is_given_once_in_a_batch(stores: MongoStores) -> None:
    store = await stores.fresh()
    await stored(store, a_task("old"), a_task("two"))
    new, (change,) = _a_bundle()
    same = TaskChange(task=a_task("two", name="renamed", revision=2), expected_revision=1)
    as_new = TaskChange(task=a_task("two", name="name of new-1", revision=2), expected_revision=1)

    for clash in (same, as_new):
        with pytest.raises(Conflict):
            await store.put_tasks(new, [change, clash])

    assert {shown.task.name for shown in await all_tasks(store)} == {"name of old", "name of two"}
    await store.put_tasks(new, [change, replace(same, task=replace(same.task, name="another"))])
    assert len(await all_tasks(store)) == 4


async def test_a_name_that_is_given_up_in_the_same_batch_is_refused_and_nothing_of_it_stays(
    stores: MongoStores,
) -> None:
    store = await stores.fresh()
    one, two = a_task("one"), a_task("two")
    await stored(store, one, two)
    swap = [
        TaskChange(task=replace(one, name=two.name, revision=2), expected_revision=1),
        TaskChange(task=replace(two, name=one.name, revision=2), expected_revision=1),
    ]
    takes = a_task("three", name=one.name)

    gives = [TaskChange(task=replace(one, name="free", revision=2), expected_revision=1)]
    for new, changes in (([], swap), ([takes], gives)):
        with pytest.raises(Conflict, match="given up in the same batch is free only afterwards") as caught:
            await store.put_tasks(new, changes)
        assert caught.value.code == "name_taken"

    assert await all_tasks(store) == [await view(store, one), await view(store, two)]
    assert await store.commands.find(TASKS, {"torn": {"$ne": None}}) == []
    for task, name, revision in ((one, "between", 2), (two, one.name, 2), (one, two.name, 3)):
        await store.put_task(replace(task, name=name, revision=revision), expected_revision=revision - 1)
    assert [(await view(store, task)).task.name for task in (one, two)] == [two.name, one.name]
