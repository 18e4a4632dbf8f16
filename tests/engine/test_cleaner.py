"""Retention in bounded bites, and cursors that a wrong clock left in the future."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peregrine.domain.event import CursorReanchored, Purged
from peregrine.domain.moment import DAY, HOUR, MINUTE, SECOND, Duration
from peregrine.domain.occurrence import Reason
from peregrine.domain.policy import Policy
from peregrine.engine.cleaner import BITE, Cleaner
from peregrine.testing.builders import NOW, a_new_execution, a_parallel_task, a_settlement, a_task
from tests.engine.hall import Break, Hall, virtual


def a_cleaner(hall: Hall) -> Cleaner:
    return Cleaner(hall.needs(), on_reanchored=lambda: None)


async def ended(hall: Hall, count: int, *, at: int) -> None:
    """Leave *count* executions behind that ended at a moment."""
    for number in range(count):
        await hall.store.enqueue(a_new_execution(f"{at}-{number}", available_at=at, queued_at=at), queue_limit=10**6)
    claims = await hall.claim(limit=count)
    await hall.store.settle([a_settlement(claim, at=at) for claim in claims])


@pytest.mark.parametrize("retention", [SECOND, DAY, 30 * DAY])
@virtual
async def test_what_ended_before_the_retention_is_removed(retention: Duration) -> None:
    """Down to one second; what is younger stays."""
    hall = Hall(settings=replace(Hall().settings, retention=retention))
    await hall.store.create_tasks([a_parallel_task()])
    await ended(hall, 2, at=NOW)
    hall.clock.step(retention)
    await ended(hall, 3, at=hall.clock.now())
    hall.clock.step(1)

    await a_cleaner(hall).turn()

    assert len(await hall.executions()) == 3
    assert hall.watcher.told(Purged) == [Purged(2, 0)]


@virtual
async def test_what_waits_or_runs_is_never_removed() -> None:
    """Retention is about what has ended, however old the rest is."""
    hall = Hall(settings=replace(Hall().settings, retention=SECOND))
    await hall.store.create_tasks([a_task()])
    await hall.queue("execution-1", "execution-2")
    await hall.claim(limit=1)
    await hall.clock.advance(DAY)

    await a_cleaner(hall).turn()

    assert len(await hall.executions()) == 2


@virtual
async def test_much_is_removed_in_bites_without_a_pause() -> None:
    """One long delete would hold up every claim; bites let others in between."""
    hall = Hall(settings=replace(Hall().settings, retention=SECOND))
    await hall.store.create_tasks([a_parallel_task()])
    await ended(hall, 2 * BITE + 5, at=NOW)
    cleaner = a_cleaner(hall)
    await hall.clock.advance(MINUTE)

    pauses = [await cleaner.turn() for _ in range(3)]

    assert pauses == [0, 0, HOUR]
    assert [event.executions for event in hall.watcher.told(Purged)] == [BITE, BITE, 5]


@virtual
async def test_the_ledger_is_cleaned_too() -> None:
    """A range of missed moments is history like any other."""
    hall = Hall(settings=replace(Hall().settings, retention=HOUR))
    await hall.store.create_tasks([a_task(policy=Policy(catchup_window=0, misfire_grace=0))])
    engine = hall.engine()
    await hall.clock.advance(10 * MINUTE + 1)
    await engine.start()
    await hall.clock.advance(SECOND)
    await engine.stop()
    before = [entry.reason for entry in await hall.ledger()]
    await hall.clock.advance(2 * HOUR)

    await a_cleaner(hall).turn()

    assert before == [Reason.TOO_OLD]
    assert await hall.ledger() == []


@virtual
async def test_between_two_cleanings_nothing_is_asked() -> None:
    """A wake that was meant for others costs no write."""
    hall = Hall()
    cleaner = a_cleaner(hall)
    await cleaner.turn()
    await hall.clock.advance(10 * MINUTE)

    pause = await cleaner.turn()

    assert pause == 50 * MINUTE
    assert hall.wire.calls["purge"] == 1


@virtual
async def test_cursors_far_in_the_future_are_set_back_and_told() -> None:
    """The clock had been wrong by more than a day; without this the tasks would stay quiet until then."""
    hall = Hall()
    await hall.store.create_tasks([a_task("far", updated_at=NOW + DAY + 1), a_task("near", updated_at=NOW + DAY)])
    heard: list[str] = []

    await Cleaner(hall.needs(), on_reanchored=lambda: heard.append("reanchored")).turn()

    assert (await hall.view("far")).next_run_at == NOW + MINUTE
    assert (await hall.view("near")).cursor == NOW + DAY
    assert hall.watcher.told(CursorReanchored) == [CursorReanchored(1)]
    assert heard == ["reanchored"]


@virtual
async def test_whoever_asks_is_not_kept_waiting_for_the_interval() -> None:
    """Asked for during a cleaning, there is one more after it."""
    hall = Hall()
    cleaner = a_cleaner(hall)
    hall.wire.asked["purge"] = lambda **_: cleaner.soon() if hall.wire.calls["purge"] == 1 else None

    await cleaner.turn()
    await cleaner.turn()
    await cleaner.turn()

    assert hall.wire.calls["purge"] == 2


@pytest.mark.parametrize("verb", ["reanchor", "purge"])
@virtual
async def test_a_cleaning_that_fails_is_repeated_soon(verb: str) -> None:
    """A store that was away for a moment does not cost the whole interval."""
    hall = Hall()
    engine = hall.engine()
    hall.wire.breaks(verb, Break.BEFORE, times=2)

    await engine.start()
    await hall.clock.advance(SECOND)

    assert hall.wire.calls[verb] == 3
    await engine.stop()


@virtual
async def test_a_clock_that_is_put_right_wakes_what_it_had_put_to_sleep() -> None:
    """A day and more in the future by mistake: once corrected, tasks run on within seconds, not after the interval."""
    hall = Hall()
    await hall.store.create_tasks([a_parallel_task(schedule="* * * * * *")])
    engine = hall.engine()
    await engine.start()
    await hall.clock.advance(5 * SECOND)
    hall.clock.step(3 * DAY)
    await hall.clock.advance(5 * SECOND)
    hall.hands.starts.clear()

    hall.clock.step(-3 * DAY)
    await hall.clock.advance(5 * SECOND)

    assert len(hall.hands.starts) >= 3
    assert engine.facts().quiet_for == 0
    await engine.stop()
