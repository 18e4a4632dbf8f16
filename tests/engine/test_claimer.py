"""Queued → claimed: never more than there are free slots, in the right order, and nothing runs on a mere hope."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from peregrine.domain.event import Claimed
from peregrine.domain.execution import AttemptOutcome, State
from peregrine.domain.moment import MINUTE, SECOND, Duration
from peregrine.domain.planning import AHEAD
from peregrine.domain.policy import Overlap, Policy, Priority
from peregrine.engine.claimer import BATCH, Claimer
from peregrine.engine.company import Company
from peregrine.engine.engine import Engine
from peregrine.engine.pool import Pool
from peregrine.ports.bus import Topic
from peregrine.testing.builders import NOW, a_parallel_task, a_task
from tests.engine.hall import Break, Ended, Hall, lasting, virtual


def a_claimer(hall: Hall, **changes: Any) -> tuple[Claimer, Pool]:
    needs = hall.needs(**changes)
    pool = Pool(needs, on_end=Ended())
    return Claimer(needs, pool, Company.of(needs), on_claimed=lambda: None), pool


def slots(number: int) -> Hall:
    """A hall with so many slots and work that lasts."""
    return Hall(settings=replace(Hall().settings, slots=number), work=lasting(MINUTE))


@pytest.mark.parametrize(("free", "queued", "claimed"), [(1, 5, 1), (4, 5, 4), (8, 5, 5), (4, 0, 0)])
@virtual
async def test_no_more_is_claimed_than_there_are_free_slots(free: int, queued: int, claimed: int) -> None:
    """The queue is the store; only what can start now is taken out of it."""
    hall = slots(free)
    await hall.store.create_tasks([a_parallel_task(schedule="@manual")])
    await hall.queue(*(f"execution-{n}" for n in range(queued)))
    claimer, pool = a_claimer(hall)

    await claimer.turn()
    await claimer.turn()
    await hall.clock.advance(1)

    assert pool.active == claimed
    assert hall.hands.most_at_once == claimed


@virtual
async def test_without_a_free_slot_the_store_is_not_asked() -> None:
    """A worker with its hands full costs the store nothing."""
    hall = slots(1)
    await hall.store.create_tasks([a_parallel_task(schedule="@manual")])
    await hall.queue("execution-1", "execution-2")
    claimer, _ = a_claimer(hall)
    await claimer.turn()

    pause = await claimer.turn()

    assert hall.wire.calls["claim"] == 1
    assert pause == hall.settings.poll


@virtual
async def test_a_thousand_slots_are_filled_in_few_writes() -> None:
    """Claims come in batches, and without a pause while there is more."""
    hall = slots(1000)
    await hall.store.create_tasks([a_parallel_task(schedule="@manual")])
    await hall.queue(*(f"execution-{n}" for n in range(1200)))
    claimer, pool = a_claimer(hall)

    pause = await claimer.turn()

    assert hall.wire.calls["claim"] == 2
    assert pause == hall.settings.poll
    assert pool.active == 1000


@virtual
async def test_the_next_are_asked_for_while_the_first_are_started() -> None:
    """The store works while we do; and what it gives is started, too."""
    hall = slots(1000)
    await hall.store.create_tasks([a_parallel_task(schedule="@manual")])
    await hall.queue(*(f"execution-{n}" for n in range(1000)))
    claimer, pool = a_claimer(hall)
    running: list[int] = []
    hall.wire.slow["claim"] = 20
    hall.wire.asked["claim"] = lambda _: running.append(pool.active)

    turn = asyncio.ensure_future(claimer.turn())
    await hall.clock.advance(30)
    halfway = pool.active
    await hall.clock.advance(20)
    await turn

    assert halfway == BATCH
    assert running == [0, BATCH]
    assert pool.active == 1000


@virtual
async def test_what_others_may_want_is_not_asked_for_ahead() -> None:
    hall = slots(1000)
    await hall.store.create_tasks([a_parallel_task(schedule="@manual")])
    await hall.queue(*(f"execution-{n}" for n in range(1000)))
    needs = hall.needs()
    pool = Pool(needs, on_end=Ended())
    company = Company.of(needs)
    company.spread.rivals = 1
    claimer = Claimer(needs, pool, company, on_claimed=lambda: None)

    await claimer.turn()

    assert hall.wire.calls["claim"] == 1
    assert pool.active == BATCH


@virtual
async def test_a_stop_ends_the_asking_ahead() -> None:
    """A backlog without end must not keep the service from stopping."""
    hall = slots(2000)
    await hall.store.create_tasks([a_parallel_task(schedule="@manual")])
    await hall.queue(*(f"execution-{n}" for n in range(2000)))
    claimer, pool = a_claimer(hall)
    hall.wire.asked["claim"] = lambda _: pool.close()

    await claimer.turn()

    assert hall.wire.calls["claim"] == 1
    assert pool.active == 0


@virtual
async def test_a_slot_that_comes_free_is_filled_at_once() -> None:
    """The next one does not wait for the poll."""
    hall = Hall(settings=replace(Hall().settings, slots=1), work=lasting(300))
    await hall.store.create_tasks([a_parallel_task(schedule="@manual")])
    await hall.queue(*(f"execution-{n}" for n in range(4)))
    engine = hall.engine()

    await engine.start()
    await hall.clock.advance(1300)

    assert [start.at - NOW for start in hall.hands.starts] == [0, 300, 600, 900]
    await engine.stop()


@virtual
async def test_it_looks_again_when_the_next_one_becomes_available() -> None:
    """A retry starts at its moment, not at the poll after it."""
    hall = Hall()
    await hall.store.create_tasks([a_parallel_task(schedule="@manual")])
    await hall.queue("execution-1", available_at=NOW + 370)
    engine = hall.engine()

    await engine.start()
    await hall.clock.advance(400)

    assert [start.at for start in hall.hands.starts] == [NOW + 370]
    await engine.stop()


# ── early ────────────────────────────────────────────────────────────────────────────────────────


@virtual
async def test_what_comes_soon_is_claimed_before_its_moment_and_starts_at_it() -> None:
    """The write and its flush are over when the moment comes."""
    hall = slots(4)
    await hall.store.create_tasks([a_parallel_task(schedule="@manual")])
    await hall.queue("soon", available_at=NOW + AHEAD)
    await hall.queue("later", available_at=NOW + AHEAD + 1)
    claimer, pool = a_claimer(hall)

    pause = await claimer.turn()
    before = (await hall.execution("soon")).state, (await hall.execution("later")).state, pool.active
    await hall.clock.advance(AHEAD - 1)
    silent = list(hall.hands.order)
    await hall.clock.advance(1)

    assert before == (State.RUNNING, State.QUEUED, 1)
    assert silent == []
    assert [(start.claim.execution_id, start.at) for start in hall.hands.starts] == [("soon", NOW + AHEAD)]
    assert pause == AHEAD + 1 - AHEAD // 2
    assert [(len(event.claims), event.started_at) for event in hall.watcher.told(Claimed)] == [(1, NOW + AHEAD)]


@virtual
async def test_a_steady_flow_is_claimed_in_few_writes_and_every_run_is_on_time() -> None:
    hall = Hall(settings=replace(Hall().settings, slots=200))
    await hall.store.create_tasks([a_parallel_task(schedule="@manual")])
    for n in range(500):
        await hall.queue(f"execution-{n}", available_at=NOW + 500 + n)
    engine = hall.engine()

    await engine.start()
    await hall.clock.advance(1_100)

    assert [start.at for start in hall.hands.starts] == [NOW + 500 + n for n in range(500)]
    assert hall.wire.calls["claim"] <= 500 // (AHEAD // 2) + 3
    await engine.stop()


@virtual
async def test_the_last_free_slot_is_kept_for_what_nobody_foresaw() -> None:
    hall = slots(2)
    await hall.store.create_tasks([a_parallel_task(schedule="@manual")])
    await hall.queue("soon-1", "soon-2", available_at=NOW + 50)
    engine = hall.engine()
    await engine.start()
    await hall.clock.advance(20)

    await hall.queue("urgent")
    hall.bus.publish(Topic.QUEUED)
    await hall.clock.advance(100)

    assert [(start.claim.execution_id, start.at) for start in hall.hands.starts] == [
        ("urgent", NOW + 20),
        ("soon-1", NOW + 50),
    ]
    await engine.stop(grace=0)


@virtual
async def test_what_is_left_of_the_early_ones_for_want_of_a_slot_starts_at_its_moment() -> None:
    """In the slot that was kept, if nothing else came for it."""
    hall = slots(2)
    await hall.store.create_tasks([a_parallel_task(schedule="@manual")])
    await hall.queue("soon-1", "soon-2", available_at=NOW + 50)
    engine = hall.engine()

    await engine.start()
    await hall.clock.advance(100)

    assert [start.at for start in hall.hands.starts] == [NOW + 50] * 2
    await engine.stop(grace=0)


@virtual
async def test_beside_others_nothing_is_claimed_early() -> None:
    """Whoever has a slot at the moment may have it."""
    hall = slots(4)
    await hall.store.create_tasks([a_parallel_task(schedule="@manual")])
    await hall.queue("soon", available_at=NOW + 10)
    needs = hall.needs()
    company = Company.of(needs)
    company.spread.rivals = 1
    claimer = Claimer(needs, Pool(needs, on_end=Ended()), company, on_claimed=lambda: None)

    await claimer.turn()

    assert (await hall.execution("soon")).state is State.QUEUED


@virtual
async def test_one_slot_alone_takes_nothing_early() -> None:
    """It would be lost to what is more urgent until then."""
    hall = slots(1)
    await hall.store.create_tasks([a_parallel_task(schedule="@manual")])
    await hall.queue("soon", available_at=NOW + 10)
    claimer, _ = a_claimer(hall)

    assert await claimer.turn() == 10
    assert (await hall.execution("soon")).state is State.QUEUED


@virtual
async def test_while_nothing_waits_for_a_slot_the_end_of_a_run_asks_for_nothing() -> None:
    """A claim is a write; a run that ends leaves nothing to claim if all was claimed."""
    hall = Hall(work=lasting(10))
    await hall.store.create_tasks([a_parallel_task(schedule="@manual")])
    engine = hall.engine()
    await engine.start()
    await hall.clock.advance(1)
    await hall.queue("execution-1", "execution-2")
    hall.bus.publish(Topic.QUEUED)
    await hall.clock.advance(5)
    hall.wire.calls.clear()

    await hall.clock.advance(100)

    assert (await hall.execution("execution-2")).state is State.COMPLETED
    assert hall.wire.calls["claim"] == 0
    await engine.stop()


# ── the order ────────────────────────────────────────────────────────────────────────────────────


async def order_of(hall: Hall, engine: Engine) -> list[str]:
    """The executions in the order in which one slot took them."""
    await engine.start()
    await hall.clock.advance(10 * SECOND)
    await engine.stop()
    return [str(id) for id in hall.hands.order]


@virtual
async def test_the_more_urgent_is_claimed_first() -> None:
    """By priority, then by when it became available, then by when it was made."""
    hall = Hall(settings=replace(Hall().settings, slots=1), work=lasting(100))
    await hall.store.create_tasks([a_parallel_task(schedule="@manual")])
    await hall.queue("low", priority=Priority.LOW)
    await hall.queue("normal later", priority=Priority.NORMAL, available_at=NOW)
    await hall.queue("normal sooner", priority=Priority.NORMAL, available_at=NOW - 5)
    await hall.queue("critical", priority=Priority.CRITICAL)
    await hall.queue("high", priority=Priority.HIGH)
    await hall.queue("critical too", priority=Priority.CRITICAL)

    assert await order_of(hall, hall.engine()) == [
        "critical", "critical too", "high", "normal sooner", "normal later", "low",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("waited", "first"), [(MINUTE - SECOND, "normal"), (MINUTE + SECOND, "low"), (4 * MINUTE, "low")]
)
@virtual
async def test_one_that_waits_rises_by_a_class_each_minute(waited: Duration, first: str) -> None:
    """So a steady stream of the more urgent delays the less urgent, and never starves it."""
    hall = Hall(settings=replace(Hall().settings, slots=1), work=lasting(100))
    await hall.store.create_tasks([a_parallel_task(schedule="@manual")])
    await hall.queue("low", priority=Priority.LOW)
    await hall.clock.advance(waited)
    await hall.queue("normal", priority=Priority.NORMAL)

    assert (await order_of(hall, hall.engine()))[0] == first


@virtual
async def test_a_low_one_under_a_flood_of_critical_ones_runs_within_minutes() -> None:
    """Ageing has the last word, whatever keeps coming in."""
    hall = Hall(settings=replace(Hall().settings, slots=1), work=lasting(SECOND))
    await hall.store.create_tasks([a_parallel_task(schedule="@manual")])
    await hall.queue("low", priority=Priority.LOW)
    engine = hall.engine()
    await engine.start()

    for number in range(5 * 60):
        await hall.queue(f"critical-{number}", f"critical-too-{number}", priority=Priority.CRITICAL)
        await hall.clock.advance(SECOND)
    await hall.clock.advance(2 * MINUTE)

    [low] = [start for start in hall.hands.starts if start.claim.execution_id == "low"]
    assert 2 * MINUTE < low.at - NOW <= 7 * MINUTE
    await engine.stop()


@pytest.mark.parametrize(("overlap", "at_once"), [(Overlap.ALLOW, 3), (Overlap.QUEUE, 1), (Overlap.SKIP, 1)], ids=str)
@virtual
async def test_executions_of_one_task_run_side_by_side_only_if_it_allows(overlap: Overlap, at_once: int) -> None:
    """Also those that people asked for."""
    hall = Hall(work=lasting(SECOND))
    await hall.store.create_tasks([a_task(policy=Policy(overlap=overlap), schedule="@manual")])
    await hall.queue("execution-1", "execution-2", "execution-3")
    engine = hall.engine()

    await engine.start()
    await hall.clock.advance(5 * SECOND)

    assert hall.hands.most_at_once == at_once
    assert len(hall.hands.starts) == 3
    await engine.stop()


# ── when the answer is late or lost ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize("how", [Break.UNSURE, Break.MUTE])
@virtual
async def test_a_claim_whose_answer_is_lost_is_read_back_and_run_once(how: Break) -> None:
    """What is ours is found by the request's own id."""
    hall = Hall()
    await hall.store.create_tasks([a_parallel_task(schedule="@manual")])
    await hall.queue("execution-1", "execution-2")
    hall.wire.breaks("claim", how)
    engine = hall.engine(settings=replace(hall.settings, lease=60 * SECOND))

    await engine.start()
    await hall.clock.advance(90 * SECOND)

    assert sorted(hall.hands.order) == ["execution-1", "execution-2"]
    assert all(e.state is State.COMPLETED for e in await hall.executions())
    await engine.stop()


@virtual
async def test_what_can_not_be_read_back_is_not_run() -> None:
    """Nothing starts on a hope: the reaper finds it, and only then it begins, once."""
    hall = Hall()
    await hall.store.create_tasks([a_parallel_task(schedule="@manual")])
    await hall.queue("execution-1")
    hall.wire.breaks("claim", Break.UNSURE)
    hall.wire.breaks("claimed_by", Break.BEFORE)
    engine = hall.engine()

    await engine.start()
    await hall.clock.advance(29 * SECOND)
    before = list(hall.hands.starts)
    await hall.clock.advance(21 * SECOND)

    execution = await hall.execution()
    assert before == []
    assert [attempt.outcome for attempt in execution.attempts] == [AttemptOutcome.LOST, AttemptOutcome.SUCCEEDED]
    assert len(hall.hands.starts) == 1
    await engine.stop()


@pytest.mark.parametrize("lease", [SECOND, 30 * SECOND])
@virtual
async def test_a_claim_that_is_answered_after_its_lease_is_given_back_unstarted(lease: Duration) -> None:
    """Others may be at it already; nothing has happened, so it is neither a loss nor a failure."""
    hall = Hall(settings=replace(Hall().settings, lease=lease, heartbeat=SECOND))
    await hall.store.create_tasks([a_parallel_task(schedule="@manual")])
    await hall.queue("execution-1")
    needs = hall.needs()
    engine = hall.engine()
    hall.wire.slow = {"claim": needs.settings.held}
    hall.wire.asked["claim"] = lambda _: hall.wire.slow.clear() if hall.wire.calls["claim"] > 1 else None

    await engine.start()
    await hall.clock.advance(needs.settings.held + 10)
    await hall.clock.advance(2 * lease)

    execution = await hall.execution()
    assert [attempt.outcome for attempt in execution.attempts] == [
        AttemptOutcome.INTERRUPTED, AttemptOutcome.SUCCEEDED,
    ]  # fmt: skip
    assert (execution.losses, execution.failures) == (0, 0)
    await engine.stop()


@virtual
async def test_claims_are_told() -> None:
    """One event per batch."""
    hall = Hall()
    await hall.store.create_tasks([a_parallel_task(schedule="@manual")])
    await hall.queue("execution-1", "execution-2")
    claimer, _ = a_claimer(hall)

    await claimer.turn()
    await asyncio.sleep(0)

    assert [len(event.claims) for event in hall.watcher.told(Claimed)] == [2]
