"""Sharing work: alone everything at once; among others one's share, the rest offered, nobody at the same moment."""

from __future__ import annotations

import statistics
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peregrine.domain.event import Planned
from peregrine.domain.moment import SECOND
from peregrine.engine.claimer import Claimer
from peregrine.engine.company import Company
from peregrine.engine.pool import Pool
from peregrine.engine.run import Ending
from peregrine.engine.spread import JITTER, OFFER, STAGGER_MAX, STEP, Spread, fair_share
from peregrine.ports.bus import Topic
from peregrine.testing.builders import a_parallel_task
from tests.engine.hall import LONG, Ended, Hall, lasting, virtual
from tests.engine.hall import SETTINGS as SHORT


@pytest.mark.parametrize(
    ("free", "slots", "rival_slots", "share"),
    [
        (10, 10, 0, 10), (0, 10, 0, 0), (0, 10, 30, 0), (1, 10, 90, 1),
        (10, 10, 10, 5), (9, 10, 10, 5), (10, 10, 30, 3), (10, 30, 10, 8),
    ],
)  # fmt: skip
def test_a_share_goes_by_the_part_of_all_slots(free: int, slots: int, rival_slots: int, share: int) -> None:
    assert fair_share(free, slots, rival_slots) == share


@given(st.integers(0, 10_000), st.integers(1, 10_000), st.integers(0, 10**7))
def test_a_share_is_never_more_than_is_free_and_never_nothing_of_something(
    free: int, slots: int, rival_slots: int
) -> None:
    share = fair_share(free, slots, rival_slots)

    assert min(1, free) <= share <= free


@given(st.integers(0, 1000), st.floats(0, 1, exclude_max=True))
def test_waits_are_bounded_and_there_are_none_alone(rivals: int, chance: float) -> None:
    spread = Spread(10, lambda: chance)
    spread.rivals = rivals

    assert 0 <= spread.stagger() <= min(rivals * STEP, STAGGER_MAX)
    assert (1 - JITTER) * SECOND - 1 <= spread.jittered(SECOND) <= SECOND
    if not rivals:
        assert (spread.stagger(), spread.jittered(SECOND)) == (0, SECOND)


def a_claimer(hall: Hall, *, rival_slots: int) -> tuple[Claimer, Pool, list[str]]:
    needs, spilled = hall.needs(), list[str]()
    pool, company = Pool(needs, on_end=Ended()), Company.of(needs)
    company.spread.rivals, company.spread.rival_slots = (1 if rival_slots else 0), rival_slots
    claimer = Claimer(needs, pool, company, on_claimed=lambda: None, on_spilled=lambda: spilled.append("spilled"))
    return claimer, pool, spilled


async def queued(hall: Hall, count: int) -> None:
    await hall.store.create_tasks([a_parallel_task()])
    await hall.queue(*(f"execution-{number}" for number in range(count)))


@virtual
async def test_new_work_is_shared_and_what_is_left_comes_back_to_who_has_slots() -> None:
    hall = Hall(work=lasting(LONG))
    claimer, pool, spilled = a_claimer(hall, rival_slots=hall.settings.slots)
    slots = hall.settings.slots
    await queued(hall, 2 * slots)

    claimer.told()
    pause = await claimer.turn()

    assert (pool.active, pause, spilled) == (-(-slots // 2), OFFER, ["spilled"])

    while pool.free:
        assert await claimer.turn() <= SECOND
    assert (pool.active, spilled) == (slots, ["spilled"])
    pool.end_all(Ending.INTERRUPTED)


@virtual
async def test_alone_it_takes_everything_at_once() -> None:
    hall = Hall(work=lasting(LONG))
    claimer, pool, _ = a_claimer(hall, rival_slots=0)
    await queued(hall, 2 * hall.settings.slots)

    await claimer.turn()

    assert pool.active == hall.settings.slots
    pool.end_all(Ending.INTERRUPTED)


@virtual
async def test_what_fits_is_offered_to_nobody() -> None:
    hall = Hall(work=lasting(LONG))
    claimer, pool, spilled = a_claimer(hall, rival_slots=hall.settings.slots)
    await queued(hall, 1)

    claimer.told()
    await claimer.turn()

    assert (pool.active, spilled) == (1, [])
    pool.end_all(Ending.INTERRUPTED)


@virtual
async def test_a_full_one_offers_new_work_at_once_and_only_once() -> None:
    hall = Hall(work=lasting(LONG))
    claimer, pool, spilled = a_claimer(hall, rival_slots=hall.settings.slots)
    await queued(hall, 2 * hall.settings.slots)
    while pool.free:
        await claimer.turn()

    claimer.told()
    await claimer.turn()
    await claimer.turn()

    assert spilled == ["spilled"]
    pool.end_all(Ending.INTERRUPTED)


@virtual
async def test_two_engines_share_a_burst() -> None:
    """Both have free slots for all of it; nobody looks by themselves in that time."""
    hall = Hall(work=lasting(30 * SECOND), settings=replace(SHORT, poll=20 * SECOND, slots=10))
    async with hall.open("worker-1") as one, hall.open("worker-2") as two:
        await hall.clock.advance(25 * SECOND)  # each has seen the other
        await queued(hall, 10)

        hall.bus.publish(Topic.QUEUED)
        await hall.clock.advance(SECOND)

        assert one.active + two.active == 10
        assert min(one.active, two.active) >= 3


@virtual
async def test_of_many_who_know_a_moment_few_write_it() -> None:
    """Each look takes a while, so whoever moves at the same time as another writes in vain."""
    hall = Hall(work=lasting(1))
    hall.wire.slow["due"] = 5
    await hall.store.create_tasks([a_parallel_task(schedule="* * * * * *")])
    engines = [hall.engine(f"worker-{number}") for number in range(6)]
    for engine in engines:
        await engine.start()
    await hall.clock.advance(25 * SECOND)  # each has seen the others
    before = len(hall.watcher.told(Planned))

    await hall.clock.advance(60 * SECOND)

    told = hall.watcher.told(Planned)[before:]
    written, in_vain = sum(len(one.plans) for one in told), sum(one.moved for one in told)
    assert written == pytest.approx(60, abs=1)
    assert in_vain < written
    late = [start.at - start.claim.scheduled_for for start in hall.hands.starts if start.claim.scheduled_for]
    assert max(late) <= STAGGER_MAX
    assert statistics.mean(late) < 3 * STEP
    for engine in engines:
        await engine.stop()
