"""The second belt: locks follow claims, runs and ends, and nothing ever depends on them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from peregrine.coordination.memory import MemoryLocks
from peregrine.domain.event import Claimed, PutBack, WentUnlocked
from peregrine.domain.execution import AttemptOutcome, Outcome, State
from peregrine.domain.ids import ExecutionId, TaskId, WorkerId
from peregrine.domain.moment import MINUTE, SECOND, Duration
from peregrine.domain.policy import Overlap, Policy
from peregrine.engine.engine import Engine
from peregrine.ports.executor import RunContext
from peregrine.ports.lock import Hold, LockVerdict
from peregrine.testing.builders import a_parallel_task, a_task, an_instance
from tests.engine.hall import Hall, lasting, moments, virtual

KEY = "scheduler:lock:task-1"


class WatchedLocks(MemoryLocks):
    """Locks that can go away, and keep what was asked."""

    def __init__(self, hall: Hall) -> None:
        super().__init__(hall.clock)
        self.is_away = False
        self.asked: list[str] = []
        self.slow: Duration = 0
        """A renewal takes so long to arrive."""
        self.renewing = asyncio.Event()

    async def acquire(self, holds: Sequence[Hold], lease: Duration) -> Sequence[LockVerdict]:
        self.asked.append(f"acquire {len(holds)}")
        return [LockVerdict.UNKNOWN for _ in holds] if self.is_away else await super().acquire(holds, lease)

    async def renew(self, holds: Sequence[Hold], lease: Duration) -> Sequence[LockVerdict]:
        self.asked.append(f"renew {len(holds)}")
        self.renewing.set()
        await moments(self.slow)
        return [LockVerdict.UNKNOWN for _ in holds] if self.is_away else await super().renew(holds, lease)

    async def release(self, holds: Sequence[Hold]) -> bool:
        self.asked.append(f"release {len(holds)}")
        return not self.is_away and await super().release(holds)


async def a_world(work: Any, **policy: Any) -> tuple[Hall, WatchedLocks, Engine]:
    hall = Hall(work=work)
    locks = WatchedLocks(hall)
    task = a_task(schedule="@manual", policy=Policy(**policy))
    await hall.store.create_tasks([task])
    return hall, locks, hall.engine(locks=locks)


@virtual
async def test_a_run_holds_the_lock_of_its_task_until_it_ends() -> None:
    hall, locks, engine = await a_world(lasting(100 * SECOND))
    await hall.queue("execution-1")
    await engine.start()
    await hall.clock.advance(SECOND)

    assert locks.token(KEY) == "execution-1:1"

    await hall.clock.advance(90 * SECOND)  # far longer than a lease
    assert locks.token(KEY) == "execution-1:1"

    await hall.clock.advance(11 * SECOND)
    assert locks.token(KEY) == ""
    assert (await hall.execution()).state is State.COMPLETED
    await engine.stop()


@virtual
async def test_the_lock_is_free_before_the_store_lets_the_next_one_in() -> None:
    hall, locks, engine = await a_world(lasting(SECOND), overlap=Overlap.QUEUE)
    seen: list[str] = []
    hall.wire.asked["settle"] = lambda *_: seen.append(locks.token(KEY))
    await hall.queue("execution-1", "execution-2", "execution-3")
    await engine.start()
    await hall.clock.advance(10 * SECOND)

    assert seen == ["", "", ""]
    assert hall.watcher.told(PutBack) == []
    assert [one.attempt for one in await hall.executions()] == [1, 1, 1]
    await engine.stop()


@virtual
async def test_a_lock_of_another_execution_sends_the_claim_back_for_a_while() -> None:
    hall, locks, engine = await a_world(lasting(SECOND), max_retries=0)
    await locks.acquire([Hold(TaskId("task-1"), ExecutionId("frozen"), 4)], hall.settings.lease)
    await hall.queue("execution-1")
    await engine.start()
    await hall.clock.advance(SECOND)

    execution = await hall.execution()
    assert (execution.state, execution.failures, hall.hands.starts) == (State.QUEUED, 0, [])
    assert execution.attempts[0].outcome is AttemptOutcome.INTERRUPTED
    assert execution.attempts[0].error == "not started: another execution holds the lock of its task"
    assert [event.execution_id for event in hall.watcher.told(PutBack)] == ["execution-1"]
    assert hall.watcher.told(Claimed) == []

    await hall.clock.advance(2 * hall.settings.lease)  # what nobody renews ends within a lease

    execution = await hall.execution()
    assert execution.state is State.COMPLETED
    assert len(execution.attempts) <= 6
    await engine.stop()


@virtual
async def test_a_lock_service_that_is_away_changes_nothing_and_is_counted() -> None:
    hall, locks, engine = await a_world(lasting(25 * SECOND))
    locks.is_away = True
    await hall.queue("execution-1")
    await engine.start()
    await hall.clock.advance(MINUTE)

    assert (await hall.execution()).state is State.COMPLETED
    assert sum(event.count for event in hall.watcher.told(WentUnlocked)) >= 2
    await engine.stop()


@virtual
async def test_what_could_not_be_released_is_released_when_the_service_is_back() -> None:
    hall, locks, engine = await a_world(lasting(2 * SECOND))
    await hall.queue("execution-1")
    await engine.start()
    await hall.clock.advance(SECOND)
    locks.is_away = True
    await hall.clock.advance(3 * SECOND)
    assert (await hall.execution()).state is State.COMPLETED
    assert locks.token(KEY) == "execution-1:1"

    locks.is_away = False
    await hall.clock.advance(hall.settings.poll)

    assert locks.token(KEY) == ""
    asked = len(locks.asked)
    await hall.clock.advance(MINUTE)
    assert len(locks.asked) == asked
    await engine.stop()


@virtual
async def test_a_release_is_owed_no_longer_than_the_lock_lasts() -> None:
    hall, locks, engine = await a_world(lasting(SECOND))
    locks.is_away = True
    await hall.queue("execution-1")
    await engine.start()
    await hall.clock.advance(3 * SECOND + hall.settings.lease)
    asked = len(locks.asked)

    await hall.clock.advance(MINUTE)

    assert len(locks.asked) == asked
    await engine.stop()


@virtual
async def test_a_renewal_that_crosses_the_end_leaves_no_lock_behind() -> None:
    hall = Hall()
    locks = WatchedLocks(hall)
    locks.slow = 100

    async def until_it_is_renewed(context: RunContext) -> Outcome:
        await locks.renewing.wait()
        return Outcome.succeeded()

    hall.hands.work = until_it_is_renewed
    await hall.store.create_tasks([a_task(schedule="@manual")])
    await hall.queue("execution-1")
    engine = hall.engine(locks=locks)
    await engine.start()
    await hall.clock.advance(hall.settings.beat_every + SECOND)

    assert (await hall.execution()).state is State.COMPLETED
    assert locks.asked[:3] == ["acquire 1", "renew 1", "release 1"]
    assert locks.token(KEY) == ""
    await engine.stop()


@virtual
async def test_an_emptied_lock_service_has_the_lock_again_with_the_next_heartbeat() -> None:
    hall, locks, engine = await a_world(lasting(100 * SECOND))
    await hall.queue("execution-1")
    await engine.start()
    await hall.clock.advance(SECOND)
    await locks.release([Hold(TaskId("task-1"), ExecutionId("execution-1"), 1)])

    await hall.clock.advance(hall.settings.beat_every + SECOND)

    assert locks.token(KEY) == "execution-1:1"
    await engine.stop()


@virtual
async def test_executions_that_may_run_side_by_side_have_no_lock() -> None:
    hall = Hall(work=lasting(SECOND))
    locks = WatchedLocks(hall)
    await hall.store.create_tasks([a_parallel_task()])
    engine = hall.engine(locks=locks)
    await hall.queue("execution-1", "execution-2")
    await engine.start()
    await hall.clock.advance(SECOND)

    assert hall.hands.most_at_once == 2
    assert locks.asked == []
    await engine.stop()


@virtual
async def test_the_lock_of_a_process_that_is_gone_is_let_go_with_its_recovery() -> None:
    hall, locks, engine = await a_world(lasting(SECOND), max_retries=0)
    await hall.queue("execution-1")
    [claim] = await hall.claim("dead")
    await hall.store.announce(an_instance("dead"), now=hall.clock.now())
    await locks.acquire([Hold(TaskId("task-1"), claim.execution_id, claim.epoch)], MINUTE)
    hall.host.gone.add(WorkerId("dead"))

    await engine.start()
    await hall.queue("execution-2")
    await hall.clock.advance(10 * SECOND)

    assert (await hall.execution("execution-2")).state is State.COMPLETED
    assert hall.watcher.told(PutBack) == []
    await engine.stop()


@virtual
async def test_a_batch_is_one_round_trip() -> None:
    hall = Hall(work=lasting(SECOND))
    locks = WatchedLocks(hall)
    await hall.store.create_tasks([a_task(f"task-{n}", name=f"task {n}", schedule="@manual") for n in range(3)])
    for number in range(3):
        await hall.queue(f"execution-{number}", task_id=f"task-{number}")
    engine = hall.engine(locks=locks)
    await engine.start()
    await hall.clock.advance(5 * SECOND)

    assert locks.asked == ["acquire 3", "renew 3", "release 3"]
    await engine.stop()
