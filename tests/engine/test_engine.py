"""The hall as a whole: from a schedule to a record, alone or with others, with a deaf bus, bad settings, no store."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from peregrine.domain.event import Event
from peregrine.domain.execution import State
from peregrine.domain.ids import ExecutionId
from peregrine.domain.moment import HOUR, MINUTE, SECOND
from peregrine.domain.policy import Misfire, Overlap, Policy
from peregrine.engine.settings import EngineSettings
from peregrine.ports.bus import Topic
from peregrine.ports.engine_view import EngineMode
from peregrine.testing.builders import NOW, a_parallel_task, a_task, an_instance
from tests.engine.hall import Break, Hall, lasting, virtual

EVERY_SECOND = "* * * * * *"


async def moments_run(hall: Hall, task_id: str = "task-1") -> list[int]:
    return [entry.scheduled_for for entry in await hall.ledger(task_id) if entry.execution_id is not None]


# ── one and many ─────────────────────────────────────────────────────────────────────────────────


@virtual
async def test_every_moment_becomes_one_effect_on_time() -> None:
    """A minute of seconds: sixty runs, each within milliseconds of its moment."""
    hall = Hall()
    await hall.store.create_tasks([a_task(schedule=EVERY_SECOND)])

    async with hall.open():
        await hall.clock.advance(MINUTE + 1)

    assert [start.claim.scheduled_for for start in hall.hands.starts] == [NOW + n * SECOND for n in range(1, 61)]
    assert max(start.at - (start.claim.scheduled_for or 0) for start in hall.hands.starts) <= 2


@pytest.mark.parametrize("engines", [2, 5])
@virtual
async def test_several_engines_do_the_work_of_one(engines: int) -> None:
    """None leads, none is in the way: each moment has one effect, and the work is shared."""
    hall = Hall(work=lasting(2500), settings=replace(Hall.settings, slots=2))
    await hall.store.create_tasks([a_parallel_task(schedule=EVERY_SECOND)])
    running = [hall.engine(f"worker-{n}") for n in range(engines)]

    for engine in running:
        await engine.start()
    await hall.clock.advance(MINUTE + 1)
    for engine in running:
        await engine.stop()

    began = sorted(start.claim.scheduled_for or 0 for start in hall.hands.starts)
    assert began == [NOW + n * SECOND for n in range(1, len(began) + 1)]
    assert len(began) >= 60
    assert len({start.claim.worker_id for start in hall.hands.starts}) >= 2


@virtual
async def test_a_deaf_bus_costs_a_poll_and_nothing_else() -> None:
    """Wakes only make it sooner: without any, all that people ask for is done within seconds."""

    class DeafBus:
        def publish(self, topic: Topic) -> None: ...

        def subscribe(self, topic: Topic, wake: object) -> Any:
            return lambda: None

    hall = Hall(work=lasting(HOUR))
    engine = hall.engine(bus=DeafBus())
    await engine.start()
    await hall.clock.advance(500)

    await hall.store.create_tasks([a_task(schedule="@manual", policy=Policy(timeout=2 * HOUR))])
    await hall.queue("execution-1")
    await hall.clock.advance(SECOND)
    began = len(hall.hands.starts)
    await hall.store.request_cancel(execution_id=ExecutionId("execution-1"), now=hall.clock.now())
    await hall.clock.advance(hall.settings.heartbeat)

    assert began == 1
    assert (await hall.execution()).state is State.CANCELLED
    await engine.stop()


@virtual
async def test_an_observer_that_always_raises_is_not_noticed() -> None:
    """A broken metric stops no run."""

    class Broken:
        def observe(self, event: Event) -> None:
            raise RuntimeError("broken observer")

    hall = Hall()
    await hall.store.create_tasks([a_task(schedule=EVERY_SECOND)])
    engine = hall.engine(observer=Broken())

    await engine.start()
    hall.wire.breaks("settle", Break.BEFORE)
    hall.wire.breaks("due", Break.BUG)
    await hall.clock.advance(10 * SECOND)
    await engine.stop()

    assert len(await moments_run(hall)) == 10
    assert (await hall.view()).tally.success_count >= 9


SHORTEST = EngineSettings(
    slots=1,
    queue_size=1,
    lease=SECOND,
    heartbeat=SECOND,
    poll=SECOND,
    shutdown_grace=SECOND,
    stale_after=SECOND,
    cleanup_interval=SECOND,
    retention=SECOND,
)
LARGEST = EngineSettings(
    slots=1000, queue_size=100_000, lease=HOUR, heartbeat=HOUR, poll=MINUTE, stale_after=1000 * HOUR
)


@pytest.mark.parametrize("settings", [SHORTEST, LARGEST], ids=["shortest", "largest"])
@virtual
async def test_it_works_at_both_ends_of_its_settings(settings: EngineSettings) -> None:
    """Everything down to one second and one, and everything far up."""
    hall = Hall(settings=settings, work=lasting(1500))
    await hall.store.create_tasks([a_task(schedule="*/3 * * * * *")])

    async with hall.open() as engine:
        await hall.clock.advance(MINUTE + 2 * SECOND)
        facts = engine.facts()

    assert len(hall.hands.starts) == 20
    assert (await hall.view()).tally.success_count == 20
    assert facts.failing == {}


@virtual
async def test_after_an_outage_of_hours_hundreds_of_tasks_are_accounted_for_at_once() -> None:
    """Each runs once in the place of all that it missed; nothing is lost to a full queue that drains."""
    hall = Hall(settings=replace(Hall.settings, slots=50, queue_size=100))
    await hall.store.create_tasks([a_task(f"task-{n}") for n in range(300)])
    hall.clock.step(6 * HOUR)

    async with hall.open():
        await hall.clock.advance(10 * SECOND)

    assert len(hall.hands.starts) == 300
    counts = {sum(entry.count for entry in await hall.ledger(f"task-{n}")) for n in range(0, 300, 15)}
    assert counts == {6 * 60}


# ── without the store ────────────────────────────────────────────────────────────────────────────


@virtual
async def test_it_starts_without_the_store_and_works_when_it_comes() -> None:
    """The order in which things come up does not matter; meanwhile it says what it waits for."""
    hall = Hall()
    policy = Policy(misfire=Misfire.RUN_ALL, overlap=Overlap.QUEUE)
    await hall.store.create_tasks([a_task(schedule="*/10 * * * * *", policy=policy)])
    hall.wire.away = True

    async with hall.open() as engine:
        await hall.clock.advance(MINUTE)
        waiting = engine.facts()
        hall.wire.away = False
        await hall.clock.advance(2 * SECOND)
        working = engine.facts()

    assert waiting.mode is EngineMode.RUNNING
    assert waiting.store_away_since == NOW
    assert set(waiting.failing) == {"planner", "claimer", "reaper", "cleaner"}
    assert (working.store_away_since, working.failing) == (None, {})
    assert await moments_run(hall) == [NOW + n * 10 * SECOND for n in range(1, 7)]


@pytest.mark.parametrize("verb", ["due", "apply_plans", "claim", "renew", "settle", "announce", "running", "purge"])
@pytest.mark.parametrize("how", list(Break))
@virtual
async def test_any_call_may_go_wrong_in_any_way(verb: str, how: Break) -> None:
    """Three times in a row; afterwards everything is done, recorded once, and nothing fails any more."""
    hall = Hall(work=lasting(200), settings=replace(Hall.settings, cleanup_interval=2 * SECOND))
    await hall.store.create_tasks([a_task(schedule="*/5 * * * * *", policy=Policy(overlap=Overlap.QUEUE))])

    async with hall.open() as engine:
        await hall.clock.advance(7 * SECOND)
        hall.wire.breaks(verb, how, times=3)
        await hall.clock.advance(4 * MINUTE)
        facts = engine.facts()
        await hall.change(enabled=False)
        await hall.clock.advance(MINUTE)

    executions = await hall.executions()
    moments = await moments_run(hall)
    assert facts.failing == {}
    assert len(moments) == len(set(moments))
    assert all(execution.state is State.COMPLETED for execution in executions)
    assert sum(entry.count for entry in await hall.ledger()) == ((await hall.view()).cursor - NOW) // (5 * SECOND)


# ── what it says of itself ───────────────────────────────────────────────────────────────────────


@virtual
async def test_its_facts_are_those_of_this_moment() -> None:
    """Mode, slots and what runs, from before the start to after the stop."""
    hall = Hall(work=lasting(5 * SECOND))
    await hall.store.create_tasks([a_parallel_task(schedule="@manual")])
    await hall.queue("execution-1", "execution-2")
    engine = hall.engine()

    before = engine.facts()
    await engine.start()
    await hall.clock.advance(SECOND)
    running = engine.facts()
    await engine.stop()
    after = engine.facts()

    assert [facts.mode for facts in (before, running, after)] == [
        EngineMode.STOPPED, EngineMode.RUNNING, EngineMode.STOPPED,
    ]  # fmt: skip
    assert [facts.active for facts in (before, running, after)] == [0, 2, 0]
    assert running.slots == hall.settings.slots


@virtual
async def test_a_bug_in_a_loop_is_shown_without_its_text_and_is_no_outage() -> None:
    """The status page is read by many; the log has the rest."""
    hall = Hall()
    engine = hall.engine()
    hall.wire.breaks("due", Break.BUG, times=100)

    await engine.start()
    await hall.clock.advance(SECOND)
    facts = engine.facts()
    await engine.stop()

    assert facts.failing == {"planner": "a bug: RuntimeError"}
    assert facts.store_away_since is None


@virtual
async def test_what_is_stale_or_skewed_is_counted() -> None:
    """The facts gather what the steps have seen."""
    hall = Hall(settings=replace(Hall.settings, stale_after=MINUTE), work=lasting(HOUR))
    await hall.store.create_tasks([a_task(schedule="@manual", policy=Policy(timeout=2 * HOUR))])
    await hall.queue("execution-1")

    async with hall.open() as engine:
        for _ in range(12):
            await hall.store.announce(an_instance("stranger"), now=hall.clock.now() + HOUR)
            await hall.clock.advance(10 * SECOND)
        facts = engine.facts()
        stale = [row.execution_id for row in engine.stale]
        await engine.stop(grace=0)

    assert (facts.stale, stale) == (1, ["execution-1"])
    assert facts.clock_skew >= 59 * MINUTE


@virtual
async def test_a_clock_that_went_back_is_shown_until_it_has_caught_up() -> None:
    """Whoever wonders why nothing runs finds the reason."""
    hall = Hall()
    await hall.store.create_tasks([a_task(schedule=EVERY_SECOND)])

    async with hall.open() as engine:
        await hall.clock.advance(10 * SECOND)
        hall.clock.step(-MINUTE)
        await hall.clock.advance(2 * SECOND)
        quiet = engine.facts()
        await hall.clock.advance(MINUTE)
        caught_up = engine.facts()

    assert (quiet.clock_steps, caught_up.clock_steps) == (1, 1)
    assert 57 * SECOND <= quiet.quiet_for <= 58 * SECOND
    assert caught_up.quiet_for == 0
    assert len(await moments_run(hall)) == len(set(await moments_run(hall)))
