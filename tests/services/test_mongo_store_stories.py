"""Four processes at work on one database, each dying at any command and coming back: in the end all of it adds up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

import pytest

from peregrine.domain.errors import LimitReached, Stale
from peregrine.domain.execution import AttemptOutcome, Claim, State
from peregrine.domain.moment import DAY, MINUTE, SECOND
from peregrine.domain.planning import DueTask, plan
from peregrine.domain.policy import Misfire, Overlap, Policy
from peregrine.domain.retry import recover
from peregrine.domain.task import Pause
from peregrine.stores.mongo import claiming, debts
from peregrine.stores.mongo.commands import EXECUTIONS, TASKS
from peregrine.testing.builders import NOW, a_claim_request, a_new_execution, a_settlement, a_task
from peregrine.testing.store_contract import Died
from peregrine.testing.store_contract.steps import all_executions, all_tasks, assert_adds_up, ledger
from tests.services.mongo_places import MongoStores, PlacedStore

pytestmark = [pytest.mark.anyio, pytest.mark.services]

POLICIES = (
    Policy(overlap=Overlap.SKIP, max_retries=1),
    Policy(overlap=Overlap.QUEUE, misfire=Misfire.RUN_ALL, catchup_max=5),
    Policy(overlap=Overlap.ALLOW, max_retries=0),
    Policy(overlap=Overlap.SKIP, misfire=Misfire.RUN_ALL, catchup_max=3),
)
FIRST = [a_task(f"task-{number}", policy=POLICIES[number % 4]) for number in range(8)]
QUEUE_SIZE = 30
TURNS = 100
"""For each of the processes."""
COMMANDS_MAX = 60
"""No life is longer."""


class _World:
    """What the processes share beside the database: the wall clock and the dice."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.now = NOW
        self.number = 0
        self.deaths = 0


class _Process:
    """One process, which comes back under a new name whenever it died, and then may not know what it held."""

    def __init__(self, world: _World, stores: MongoStores, store: PlacedStore, id: int) -> None:
        self._world = world
        self._stores = stores
        self._store = store
        self._id = id
        self._held: list[Claim] = []
        self._turns: list[tuple[int, Callable[[], Awaitable[object]]]] = [
            (4, self._wait),
            (6, self._plan),
            (3, self._ask_to_run),
            (6, self._claim),
            (6, self._settle),
            (1, self._recover),
            (1, self._cancel),
            (2, self._change),
            (2, self._look),
        ]

    async def work(self) -> None:
        world = self._world
        self._store.commands.left = world.dice.randrange(1, COMMANDS_MAX)
        weights, turns = zip(*self._turns, strict=True)
        for _ in range(TURNS):
            world.number += 1
            (turn,) = world.dice.choices(turns, weights)
            try:
                await turn()
            except Died:
                world.deaths += 1
                if world.dice.random() < 0.5:
                    self._held.clear()
                self._store = await self._stores.reopen()
                self._store.commands.left = world.dice.randrange(1, COMMANDS_MAX)

    async def _wait(self) -> None:
        self._world.now += self._world.dice.choice((SECOND, 20 * SECOND, MINUTE))

    async def _plan(self) -> None:
        now = self._world.now
        batch = await self._store.due(now, 5)
        plans = [made for one in batch.due if (made := plan(one, now, QUEUE_SIZE)) is not None]
        await self._store.apply_plans(plans, now)

    async def _ask_to_run(self) -> None:
        world = self._world
        new = a_new_execution(
            f"asked-{world.number}", world.dice.choice(FIRST).id, queued_at=world.now, available_at=world.now
        )
        with suppress(LimitReached):
            await self._store.enqueue(new, queue_limit=QUEUE_SIZE)

    async def _claim(self) -> None:
        limit, worker = self._world.dice.randrange(1, 6), f"worker-{self._id}-{self._world.number}"
        self._held += (await self._store.claim(a_claim_request(limit, now=self._world.now, worker_id=worker))).claims

    async def _settle(self) -> None:
        dice = self._world.dice
        ends = (AttemptOutcome.SUCCEEDED, AttemptOutcome.FAILED, AttemptOutcome.INTERRUPTED)
        ended, self._held = self._held, []
        await self._store.settle(
            [a_settlement(claim, dice.choice(ends), at=max(self._world.now, claim.started_at)) for claim in ended]
        )

    async def _recover(self) -> None:
        running = sorted(await self._store.running(), key=lambda one: one.execution_id)
        if running:
            one = self._world.dice.choice(running)
            await self._store.settle([recover(one, "reaper", max(self._world.now, one.started_at), 0.5)])

    async def _cancel(self) -> None:
        await self._store.request_cancel(task_id=self._world.dice.choice(FIRST).id, now=self._world.now)

    async def _change(self) -> None:
        world = self._world
        shown = await self._store.get_task(world.dice.choice(FIRST).id)
        assert shown is not None
        pause = world.dice.choice((None, None, Pause(since=world.now, until=world.now + 2 * MINUTE)))
        changed = replace(shown.task, pause=pause).changed(shown.task, at=world.now, by="ann")
        decided = plan(DueTask(shown.task, shown.cursor, shown.running + shown.queued), world.now, QUEUE_SIZE)
        with suppress(Stale):
            await self._store.put_task(changed, expected_revision=shown.task.revision, plan=decided)

    async def _look(self) -> None:
        alone = {task.id for task in FIRST if task.policy.overlap is not Overlap.ALLOW}
        running = [one.task_id for one in await self._store.running() if one.task_id in alone]
        assert len(running) == len(set(running)), "two executions of one task run at the same time"


@pytest.mark.parametrize("seed", range(2))
async def test_what_dying_processes_leave_adds_up(
    seed: int, stores: MongoStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debts, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(claiming, "STUCK_SECONDS", 0.0)
    world = _World(seed)
    await (await stores.fresh()).create_tasks(FIRST)
    processes = [_Process(world, stores, await stores.reopen(), id) for id in range(4)]

    await asyncio.gather(*(process.work() for process in processes))

    assert world.deaths > 10
    store = await stores.reopen()
    await _finish_all(store, world.now)
    await _check_all(store, world.now)


async def _finish_all(store: PlacedStore, now: int) -> None:
    """Recover what runs and run what waits, until nothing does."""
    for _ in range(100):
        running = await store.running()
        await store.settle([recover(one, "reaper", max(now, one.started_at), 0.5) for one in running])
        claims = (await store.claim(a_claim_request(now=now + DAY))).claims
        await store.settle([a_settlement(claim, at=max(now, claim.started_at)) for claim in claims])
        shown = await store.statistics(now)
        if shown.queued + shown.running == 0:
            return
    raise AssertionError("work was left over that nobody could end")


async def _check_all(store: PlacedStore, now: int) -> None:
    """Each moment has one line, each end is counted once, and nobody owes anything."""
    await assert_adds_up(store, now=now)
    executions = await all_executions(store)
    for shown in await all_tasks(store, now=now):
        mine = [one for one in executions if one.task_id == shown.task.id]
        assert shown.tally.total_runs == len(mine)
        assert shown.tally.success_count == sum(one.state is State.COMPLETED for one in mine)
        assert shown.tally.runtime_total == sum(one.duration or 0 for one in mine)
        entries = await ledger(store, shown.task.id)
        assert sum(entry.count for entry in entries) == shown.task.trigger.count_between(NOW, shown.cursor)
        assert len({entry.scheduled_for for entry in entries}) == len(entries)
    assert await store.commands.find(TASKS, {"torn": {"$exists": True}}) == []
    await store.maintain()
    assert await store.commands.find(EXECUTIONS, {"owing": True}) == []
