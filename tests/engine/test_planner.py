"""Due → queued: every moment gets its verdict on time, one bad task or one full queue does not hold up the others."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from peregrine.domain import planning
from peregrine.domain.errors import Unavailable
from peregrine.domain.event import ClockStepped, Planned, Unplannable
from peregrine.domain.moment import DAY, HOUR, MINUTE, SECOND, Duration, Moment
from peregrine.domain.occurrence import Reason
from peregrine.domain.planning import AHEAD, DueTask
from peregrine.domain.policy import Misfire, OnWorkerLost, Overlap, Policy
from peregrine.domain.task import Pause, Task
from peregrine.engine.planner import BATCH, ROOM_PAUSE, Planner
from peregrine.engine.spread import Spread
from peregrine.testing.builders import NOW, a_parallel_task, a_settlement, a_task
from peregrine.testing.clock import ManualClock
from tests.engine.hall import Break, Hall, virtual

EVERY_SECOND = "* * * * * *"
ALONE = Spread(10, lambda: 0.5)
NOWHERE = "Nowhere/Atall"


def a_planner(hall: Hall, **changes: Any) -> Planner:
    return Planner(hall.needs(**changes), ALONE, on_queued=lambda: None, on_clock_back=lambda: None)


async def plan_for(hall: Hall, planner: Planner, seconds: int) -> None:
    """Turn as the loop would, for so long."""
    until = hall.clock.now() + seconds * SECOND
    while (rest := until - hall.clock.now()) > 0:
        await hall.clock.advance(min(rest, SECOND, await planner.turn()))


async def moments_run(hall: Hall, task_id: str = "task-1") -> list[Moment]:
    return [entry.scheduled_for for entry in await hall.ledger(task_id) if entry.execution_id is not None]


async def reasons(hall: Hall, task_id: str = "task-1") -> dict[Reason | None, int]:
    """How many moments of a task ran (None), and how many did not, by reason."""
    found: dict[Reason | None, int] = {}
    for entry in await hall.ledger(task_id):
        found[entry.reason] = found.get(entry.reason, 0) + entry.count
    return found


# ── on time ──────────────────────────────────────────────────────────────────────────────────────


@virtual
async def test_a_due_moment_becomes_an_execution_and_the_claimer_hears_of_it() -> None:
    """One write makes the execution and moves the task on; the wake makes it start at once."""
    hall, woken = Hall(), list[str]()
    await hall.store.create_tasks([a_task()])
    planner = Planner(hall.needs(), ALONE, on_queued=lambda: woken.append("claimer"), on_clock_back=lambda: None)
    await hall.clock.advance(MINUTE)

    pause = await planner.turn()

    assert await moments_run(hall) == [NOW + MINUTE]
    assert (await hall.view()).next_run_at == NOW + 2 * MINUTE
    assert woken == ["claimer"]
    assert pause == MINUTE - AHEAD
    assert [len(event.plans) for event in hall.watcher.told(Planned)] == [1]


@virtual
async def test_nothing_due_writes_nothing() -> None:
    """Looking costs a read."""
    hall = Hall()
    await hall.store.create_tasks([a_task()])

    pause = await a_planner(hall).turn()

    assert hall.wire.calls["apply_plans"] == 0
    assert pause == MINUTE - AHEAD


@virtual
async def test_without_tasks_it_looks_again_after_the_poll() -> None:
    """Another instance may have made one, and its wake may be lost."""
    hall = Hall()

    assert await a_planner(hall).turn() == hall.settings.poll


@virtual
async def test_a_task_that_is_due_each_second_loses_no_second_to_a_slow_store() -> None:
    """It waits for the next moment, not for a second after the last look: delays must not add up to a lost moment."""
    hall = Hall()
    await hall.store.create_tasks([a_parallel_task(schedule=EVERY_SECOND)])
    hall.wire.slow = {"due": 20, "apply_plans": 30}

    await plan_for(hall, a_planner(hall), 60)

    executions = await hall.executions()
    assert len(await moments_run(hall)) >= 59
    assert max(e.queued_at - (e.scheduled_for or 0) for e in executions) <= 100


@virtual
async def test_a_second_planner_is_harmless() -> None:
    """Both decide the same; one is written, the other is told that it was not."""
    hall = Hall()
    await hall.store.create_tasks([a_task()])
    hall.wire.slow = {"due": 10}
    await hall.clock.advance(MINUTE)

    await asyncio.gather(a_planner(hall).turn(), a_planner(hall).turn())

    assert await moments_run(hall) == [NOW + MINUTE]
    assert sorted(event.moved for event in hall.watcher.told(Planned)) == [0, 1]


@virtual
async def test_an_edit_during_the_decision_wins() -> None:
    """A plan made from the old definition is refused whole, and the new one is decided next."""
    hall = Hall()
    await hall.store.create_tasks([a_task()])
    hall.wire.slow = {"due": 10}
    planner = a_planner(hall)
    await hall.clock.advance(MINUTE)

    turn = asyncio.ensure_future(planner.turn())
    await hall.clock.advance(5)
    await hall.change(schedule="30 * * * * *")
    await turn
    await plan_for(hall, planner, 60)

    assert await moments_run(hall) == [NOW + MINUTE + 30 * SECOND]


@pytest.mark.parametrize("how", [Break.BEFORE, Break.UNSURE])
@virtual
async def test_a_plan_whose_answer_is_lost_is_decided_once(how: Break) -> None:
    """Whether the write came through or not, repeating the turn gives exactly one execution."""
    hall = Hall()
    await hall.store.create_tasks([a_task()])
    hall.wire.breaks("apply_plans", how)
    engine = hall.engine()
    await hall.clock.advance(MINUTE)

    await engine.start()
    await hall.clock.advance(2 * SECOND)

    assert await moments_run(hall) == [NOW + MINUTE]
    await engine.stop()


# ── what can't be planned ────────────────────────────────────────────────────────────────────────


@virtual
async def test_a_task_whose_zone_is_gone_is_put_aside_and_told() -> None:
    """It is not run by another zone's clock, and not looked at each second; an edit brings it back."""
    hall = Hall()
    planner = a_planner(hall)
    await hall.store.create_tasks([a_task()])
    hall.store._tasks[a_task().id].task = a_task(timezone=NOWHERE)
    await hall.clock.advance(MINUTE)

    await planner.turn()
    await planner.turn()

    assert [event.task_id for event in hall.watcher.told(Unplannable)] == ["task-1"]
    assert (await hall.view()).next_run_at is None


@pytest.mark.parametrize("error", [AssertionError("a bug"), TypeError("a bug"), RecursionError(), MemoryError()])
@virtual
async def test_a_plan_that_raises_does_not_hold_up_the_others(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One poisoned task, whatever the bug is, must not stop every schedule of the service."""

    def plan(due: DueTask, now: Moment, room: int) -> planning.Plan | None:
        if due.task.id == "task-bad":
            raise error
        return planning.plan(due, now, room)

    monkeypatch.setattr("peregrine.engine.planner.plan", plan)
    hall = Hall()
    await hall.store.create_tasks([a_task("task-bad"), a_task()])
    await hall.clock.advance(MINUTE)

    await a_planner(hall).turn()

    assert await moments_run(hall) == [NOW + MINUTE]
    assert [event.task_id for event in hall.watcher.told(Unplannable)] == ["task-bad"]


@virtual
async def test_a_batch_full_of_what_can_not_be_planned_is_left_behind_at_once() -> None:
    """The healthy task behind a thousand broken ones is planned in the next turn."""
    hall = Hall()
    await hall.store.create_tasks([a_task(f"bad-{n}") for n in range(BATCH)])
    for row in hall.store._tasks.values():
        row.task = replace(row.task, timezone=NOWHERE)
    await hall.store.create_tasks([a_task(created_at=NOW + SECOND, updated_at=NOW + SECOND, schedule="1 * * * * *")])
    planner = a_planner(hall)
    await hall.clock.advance(MINUTE + SECOND)

    first = await planner.turn()
    await planner.turn()

    assert first == 0
    assert await moments_run(hall) == [NOW + MINUTE + SECOND]


# ── the queue ────────────────────────────────────────────────────────────────────────────────────


@virtual
async def test_a_full_queue_leaves_a_task_due_for_a_moment() -> None:
    """A burst that is worked off soon loses nothing: it is looked at again at once."""
    hall = Hall()
    await hall.store.create_tasks([a_task("task-1"), a_task("filler", schedule="@manual")])
    planner = a_planner(hall, settings=replace(hall.settings, queue_size=1))
    await hall.queue("execution-1", task_id="filler")
    await hall.clock.advance(MINUTE)

    pauses = [await planner.turn(), await planner.turn()]
    await hall.clock.advance(SECOND)
    await hall.claim()
    await planner.turn()

    assert pauses == [ROOM_PAUSE, ROOM_PAUSE]
    assert await reasons(hall) == {None: 1}


@virtual
async def test_a_queue_that_stays_full_is_a_reason_in_the_ledger() -> None:
    """After two seconds the moment is recorded as skipped: nobody must believe that it is about to run."""
    hall = Hall()
    await hall.store.create_tasks([a_task("task-1"), a_task("filler", schedule="@manual")])
    planner = a_planner(hall, settings=replace(hall.settings, queue_size=1))
    await hall.queue("execution-1", task_id="filler")
    await hall.clock.advance(MINUTE)

    await plan_for(hall, planner, 3)

    [entry] = await hall.ledger()
    assert (entry.reason, entry.decided_at) == (Reason.QUEUE_FULL, NOW + MINUTE + 2 * SECOND)


@virtual
async def test_after_an_outage_a_full_queue_is_waited_for_as_well() -> None:
    """What was due long ago gets the same two seconds, from the moment at which the queue was found full."""
    hall = Hall()
    await hall.store.create_tasks([a_parallel_task(f"task-{n}", schedule="0 0 * * * *") for n in range(5)])
    planner = a_planner(hall, settings=replace(hall.settings, queue_size=2))
    await hall.clock.advance(HOUR + 10 * MINUTE)

    for _ in range(3):
        await plan_for(hall, planner, 1)
        await hall.claim(limit=2)

    found = [await reasons(hall, f"task-{n}") for n in range(5)]
    assert found == [{None: 1}] * 5


@virtual
async def test_a_jam_that_lasts_does_not_wait_for_each_task_anew() -> None:
    """Two seconds are the patience with the jam; what is late already is then recorded without further delay."""
    hall = Hall()
    await hall.store.create_tasks([a_parallel_task(f"task-{n}", schedule="0 0 * * * *") for n in range(5)])
    planner = a_planner(hall, settings=replace(hall.settings, queue_size=2))
    await hall.clock.advance(HOUR + 10 * MINUTE)

    await plan_for(hall, planner, 3)

    found = [await reasons(hall, f"task-{n}") for n in range(5)]
    assert sorted(map(str, found)) == sorted(map(str, [{None: 1}] * 2 + [{Reason.QUEUE_FULL: 1}] * 3))


@virtual
async def test_what_needs_no_room_is_decided_while_the_queue_is_full() -> None:
    """A moment that is skipped anyway does not wait for the jam to end."""
    hall = Hall()
    await hall.store.create_tasks([a_task("task-1"), a_task("filler")])
    planner = a_planner(hall, settings=replace(hall.settings, queue_size=1))
    await hall.queue("execution-1")
    await hall.clock.advance(MINUTE)

    await plan_for(hall, planner, 3)

    assert await reasons(hall) == {Reason.OVERLAP: 1}


@virtual
async def test_a_full_queue_does_not_make_it_decide_the_same_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks for room twenty times a second; deciding a thousand tasks each time would leave no time for the work."""
    decisions = 0

    def plan(due: DueTask, now: Moment, room: int) -> planning.Plan | None:
        nonlocal decisions
        decisions += 1
        return planning.plan(due, now, room)

    monkeypatch.setattr("peregrine.engine.planner.plan", plan)
    hall = Hall()
    await hall.store.create_tasks([a_task("filler", schedule="@manual"), *(a_task(f"task-{n}") for n in range(200))])
    await hall.queue("execution-1", task_id="filler")
    planner = a_planner(hall, settings=replace(hall.settings, queue_size=1))
    await hall.clock.advance(MINUTE)

    await plan_for(hall, planner, 10)

    assert hall.wire.calls["due"] >= 40
    assert decisions == 200


@virtual
async def test_in_a_jam_that_lasts_every_moment_is_recorded_and_every_task_has_its_chance() -> None:
    """Tasks of each second, too many of them: none stays due for minutes without a word, none is always the last."""
    hall = Hall()
    await hall.store.create_tasks([a_task(f"task-{n}", schedule=EVERY_SECOND) for n in range(20)])
    planner = a_planner(hall, settings=replace(hall.settings, queue_size=1))

    for _ in range(200):
        await plan_for(hall, planner, 1)
        await hall.store.settle([a_settlement(claim, at=hall.clock.now()) for claim in await hall.claim(limit=1)])

    found = [await reasons(hall, f"task-{n}") for n in range(20)]
    assert min(sum(counts.values()) for counts in found) >= 197
    assert all(counts.get(None) for counts in found)


@virtual
async def test_while_the_queue_is_full_it_pauses_as_long_as_its_look_took() -> None:
    """What makes room needs the machine too."""
    hall = Hall()
    await hall.store.create_tasks([a_task("task-1"), a_task("filler", schedule="@manual")])
    await hall.queue("execution-1", task_id="filler")
    planner = a_planner(hall, settings=replace(hall.settings, queue_size=1))
    await hall.clock.advance(MINUTE)
    hall.wire.slow["due"] = 4 * ROOM_PAUSE

    assert await planner.turn() == 4 * ROOM_PAUSE


# ── ahead ────────────────────────────────────────────────────────────────────────────────────────


async def almost_due(hall: Hall, planner: Planner) -> Duration:
    """Let *planner* look shortly before the next minute; how long it wants to wait then."""
    await planner.turn()
    await hall.clock.advance(MINUTE - AHEAD)
    return await planner.turn()


@pytest.mark.parametrize("overlap", list(Overlap))
@virtual
async def test_what_will_be_due_is_planned_a_little_ahead(overlap: Overlap) -> None:
    """At the moment itself nothing is looked up, reckoned or written any more before its runs start."""
    hall = Hall()
    await hall.store.create_tasks([a_task(policy=Policy(overlap=overlap))])
    planner = a_planner(hall)

    pause = await almost_due(hall, planner)

    [planned] = await hall.executions()
    assert pause == AHEAD
    assert (planned.scheduled_for, planned.queued_at, planned.available_at) == (NOW + MINUTE,) * 3
    hall.wire.calls.clear()
    await hall.clock.advance(pause)
    await planner.turn()
    assert hall.wire.calls == {"due": 1}
    assert await moments_run(hall) == [NOW + MINUTE]


@virtual
async def test_it_looks_ahead_once_for_each_moment() -> None:
    """Whatever wakes it in between."""
    hall = Hall()
    await hall.store.create_tasks([a_parallel_task()])
    planner = a_planner(hall)
    await almost_due(hall, planner)
    hall.wire.calls.clear()
    await hall.clock.advance(AHEAD - 1)

    assert await planner.turn() == 1 + MINUTE - AHEAD
    assert hall.wire.calls == {"due": 1}


@virtual
async def test_a_task_that_comes_just_before_its_moment_is_planned_ahead_too() -> None:
    hall = Hall()
    await hall.store.create_tasks([a_parallel_task()])
    planner = a_planner(hall)
    await almost_due(hall, planner)

    await hall.store.create_tasks([a_parallel_task("task-2")])
    planner.tasks_changed()
    await planner.turn()

    assert await moments_run(hall, "task-2") == [NOW + MINUTE]


@virtual
async def test_a_change_in_the_middle_of_the_looking_ahead_wins() -> None:
    """The plan is refused whole, and decided anew at its moment."""
    hall = Hall()
    await hall.store.create_tasks([a_parallel_task()])
    planner = a_planner(hall)
    await planner.turn()
    await hall.clock.advance(MINUTE - AHEAD)
    hall.wire.slow["due"] = 10
    turn = asyncio.ensure_future(planner.turn())
    await hall.clock.advance(15)

    await hall.change(enabled=False)
    await hall.clock.advance(10)
    await turn

    assert await moments_run(hall) == []
    assert [event.moved for event in hall.watcher.told(Planned)] == [1]


@virtual
async def test_a_change_after_the_looking_ahead_finds_the_moment_decided() -> None:
    """The new definition begins behind it: it neither runs twice nor is lost."""
    hall = Hall()
    await hall.store.create_tasks([a_parallel_task()])
    planner = a_planner(hall)
    await almost_due(hall, planner)

    await hall.change(schedule="30 * * * * *")
    planner.tasks_changed()
    await plan_for(hall, planner, 31)

    assert await moments_run(hall) == [NOW + MINUTE, NOW + MINUTE + 30 * SECOND]
    assert set(await reasons(hall)) == {None}


@virtual
async def test_what_may_not_run_beside_itself_waits_for_the_moment_while_it_runs() -> None:
    """It may end until then."""
    hall = Hall()
    await hall.store.create_tasks([a_task()])
    await hall.queue("execution-1")
    planner = a_planner(hall)

    pause = await almost_due(hall, planner)
    before = await moments_run(hall)
    await hall.clock.advance(pause)
    await planner.turn()

    assert before == []
    assert await reasons(hall) == {Reason.OVERLAP: 1}


@virtual
async def test_where_a_lost_worker_is_a_failure_nothing_is_decided_ahead() -> None:
    """Killed between the claim and the moment, it would have failed and never begun."""
    hall = Hall()
    await hall.store.create_tasks([a_task(policy=Policy(on_worker_lost=OnWorkerLost.FAIL))])
    planner = a_planner(hall)

    pause = await almost_due(hall, planner)
    before = await moments_run(hall)
    await hall.clock.advance(pause)
    await planner.turn()

    assert before == []
    assert await moments_run(hall) == [NOW + MINUTE]


@virtual
async def test_no_more_is_planned_ahead_than_there_is_room() -> None:
    hall = Hall()
    await hall.store.create_tasks([a_parallel_task(f"task-{n}") for n in range(5)])
    planner = a_planner(hall, settings=replace(hall.settings, queue_size=3))

    await almost_due(hall, planner)

    assert len(await hall.executions()) == 3


@virtual
async def test_more_than_a_batch_is_planned_ahead_while_there_is_time() -> None:
    hall = Hall(settings=replace(Hall().settings, queue_size=10 * BATCH))
    await hall.store.create_tasks([a_parallel_task(f"task-{n}") for n in range(BATCH + 5)])
    planner = a_planner(hall)

    await almost_due(hall, planner)

    assert (await hall.store.due(NOW + MINUTE, 1)).queued == BATCH + 5


@virtual
async def test_nothing_is_planned_ahead_beside_others() -> None:
    """All would plan the same, and all but one in vain."""
    hall = Hall()
    await hall.store.create_tasks([a_parallel_task()])
    among = Spread(10, lambda: 0.0)
    among.rivals = 1
    planner = Planner(hall.needs(), among, on_queued=lambda: None, on_clock_back=lambda: None)

    assert await planner.turn() == MINUTE


@virtual
async def test_what_can_not_be_planned_ahead_is_told_at_its_moment() -> None:
    """Its neighbour is planned ahead all the same."""
    hall = Hall()
    await hall.store.create_tasks([a_parallel_task("bad"), a_parallel_task("good")])
    bad = hall.store._tasks[a_parallel_task("bad").id]
    planner = a_planner(hall)
    await planner.turn()
    bad.task = replace(bad.task, timezone=NOWHERE)
    await hall.clock.advance(MINUTE - AHEAD)

    pause = await planner.turn()
    before = hall.watcher.told(Unplannable), await moments_run(hall, "good")
    await hall.clock.advance(pause)
    await planner.turn()

    assert before == ([], [NOW + MINUTE])
    assert [event.task_id for event in hall.watcher.told(Unplannable)] == ["bad"]


@pytest.mark.parametrize("step", [-HOUR, HOUR])
@virtual
async def test_a_clock_that_is_stepped_changes_nothing_that_was_decided_ahead(step: Duration) -> None:
    """The cursor knows, and what comes after it is decided for the time that it is then."""
    hall = Hall()
    await hall.store.create_tasks([a_parallel_task(policy=Policy(overlap=Overlap.ALLOW, misfire_grace=0))])
    planner = a_planner(hall)
    await almost_due(hall, planner)

    hall.clock.step(step)
    await planner.turn()

    then = [] if step < 0 else [NOW + HOUR, NOW + HOUR + MINUTE]
    assert await moments_run(hall) == [NOW + MINUTE, *then]


@pytest.mark.parametrize("how", [Break.BEFORE, Break.NEVER])
@virtual
async def test_a_look_ahead_that_fails_makes_nothing_late(how: Break) -> None:
    hall = Hall()
    await hall.store.create_tasks([a_parallel_task()])
    planner = a_planner(hall)
    await planner.turn()
    await hall.clock.advance(MINUTE - AHEAD)
    turn = asyncio.ensure_future(planner.turn())
    hall.wire.asked["due"] = lambda *_: hall.wire.breaks("due", how)

    await hall.clock.advance(AHEAD)
    await turn
    hall.wire.asked.clear()
    await planner.turn()

    assert [e.queued_at for e in await hall.executions()] == [NOW + MINUTE]


# ── many ─────────────────────────────────────────────────────────────────────────────────────────


class Laborious(ManualClock):
    """A clock for which every look takes a millisecond, as if the machine were slow."""

    looks = 0

    def monotonic(self) -> int:
        self.looks += 1
        return super().monotonic() + self.looks


@virtual
async def test_a_long_decision_lets_others_breathe() -> None:
    """A thousand tasks after an outage take seconds to decide; leases are renewed meanwhile."""
    hall = Hall(clock=Laborious(NOW), settings=replace(Hall.settings, queue_size=5000))
    await hall.store.create_tasks([a_parallel_task(f"task-{n}") for n in range(BATCH)])
    await hall.clock.advance(MINUTE)
    breaths = 0

    async def breathe() -> None:
        nonlocal breaths
        while True:
            breaths += 1
            await asyncio.sleep(0)

    others = asyncio.ensure_future(breathe())
    await a_planner(hall).turn()
    others.cancel()

    assert breaths >= 20


@virtual
async def test_a_long_decision_is_written_in_parts() -> None:
    """What is decided must not wait for the whole batch; the rest follows at once."""
    hall = Hall(clock=Laborious(NOW), settings=replace(Hall.settings, queue_size=5000))
    await hall.store.create_tasks([a_parallel_task(f"task-{n}") for n in range(BATCH)])
    planner = a_planner(hall)
    await hall.clock.advance(MINUTE)

    turns, pause = 1, await planner.turn()
    while pause == 0:
        turns, pause = turns + 1, await planner.turn()

    assert turns > 2
    assert sum(len(event.plans) for event in hall.watcher.told(Planned)) == BATCH


@virtual
async def test_what_is_decided_is_written_while_more_is_being_decided() -> None:
    """The first ones start while the last ones are not decided yet; a store that is slow gets the more at once."""
    hall = Hall(clock=Laborious(NOW), settings=replace(Hall.settings, queue_size=5000))
    await hall.store.create_tasks([a_parallel_task(f"task-{n}") for n in range(BATCH)])
    decided: list[int] = []
    hall.wire.asked["apply_plans"] = lambda plans, _: decided.append(len(plans))
    planner = a_planner(hall)
    await hall.clock.advance(MINUTE)

    await planner.turn()

    assert len(decided) > 2
    assert decided[0] < 10


@pytest.mark.parametrize("call", [1, 2])
@virtual
async def test_a_part_that_can_not_be_written_is_told(call: int) -> None:
    """The loop hears of it, as of any write; what is left is decided again."""
    hall = Hall(clock=Laborious(NOW), settings=replace(Hall.settings, queue_size=5000))
    await hall.store.create_tasks([a_parallel_task(f"task-{n}") for n in range(100)])
    planner = a_planner(hall)
    await hall.clock.advance(MINUTE)

    def refuse(*_: Any) -> None:
        if hall.wire.calls["apply_plans"] == call:
            raise Unavailable("broken off")

    hall.wire.asked["apply_plans"] = refuse
    with pytest.raises(Unavailable):
        await planner.turn()
    await plan_for(hall, planner, 1)

    assert len(await hall.executions()) == 100


@virtual
async def test_more_due_tasks_than_a_batch_are_decided_without_a_pause() -> None:
    """The longest due come first, and none is left over."""
    hall = Hall(settings=replace(Hall.settings, queue_size=5000))
    await hall.store.create_tasks([a_parallel_task(f"task-{n}") for n in range(2 * BATCH + 1)])
    planner = a_planner(hall)
    await hall.clock.advance(MINUTE)

    pauses = [await planner.turn() for _ in range(3)]

    assert pauses == [0, 0, MINUTE - AHEAD]
    assert len(hall.store._queue) == 2 * BATCH + 1


@pytest.mark.parametrize(
    ("misfire", "runs"), [(Misfire.RUN_ONCE, 1), (Misfire.RUN_ALL, 100), (Misfire.SKIP, 0)], ids=str
)
@virtual
async def test_a_year_of_missed_seconds_is_accounted_for(misfire: Misfire, runs: int) -> None:
    """Thirty million moments: a few runs, a few ranges, and not one lost."""
    hall = Hall()
    policy = Policy(misfire=misfire, misfire_grace=0, overlap=Overlap.ALLOW)
    await hall.store.create_tasks([a_task(schedule=EVERY_SECOND, policy=policy)])
    await hall.clock.advance(365 * DAY + 500)

    await a_planner(hall).turn()

    found = await reasons(hall)
    assert found.pop(None, 0) == runs
    assert sum(found.values()) == 365 * 24 * 3600 - runs
    assert len(found) <= 2


# ── pauses ───────────────────────────────────────────────────────────────────────────────────────


@virtual
async def test_moments_of_a_pause_are_recorded_when_it_ends_by_itself() -> None:
    """The first moment at the end of the pause runs; those inside it are in the ledger with their reason."""
    hall = Hall()
    pause = Pause(since=NOW, until=NOW + 3 * MINUTE)
    await hall.store.create_tasks([a_task(pause=pause)])

    await plan_for(hall, a_planner(hall), 200)

    assert await moments_run(hall) == [NOW + 3 * MINUTE]
    assert await reasons(hall) == {None: 1, Reason.PAUSED: 2}


@pytest.mark.parametrize(
    ("until", "runs"),
    [(3 * MINUTE - 1, True), (3 * MINUTE, True), (3 * MINUTE + 1, False), (3 * MINUTE + 999, False)],
)
@virtual
async def test_the_edge_of_a_pause_is_sharp(until: Duration, runs: bool) -> None:  # noqa: FBT001
    """A moment runs at or after the end of a pause, not a millisecond before."""
    hall = Hall()
    await hall.store.create_tasks([a_task(pause=Pause(since=NOW, until=NOW + until))])

    await plan_for(hall, a_planner(hall), 239)

    assert (NOW + 3 * MINUTE in await moments_run(hall)) is runs


@virtual
async def test_a_one_shot_that_falls_into_a_pause_is_recorded_at_its_end() -> None:
    """It has no later moment that would bring the planner back, and still must not vanish without a word."""
    hall = Hall()
    once = a_task(schedule="@at 2026-01-01T12:01:00Z", pause=Pause(since=NOW, until=NOW + 5 * MINUTE))
    await hall.store.create_tasks([once])

    await plan_for(hall, a_planner(hall), 6 * 60)

    assert await reasons(hall) == {Reason.PAUSED: 1}
    assert (await hall.view()).next_run_at is None


# ── the clock ────────────────────────────────────────────────────────────────────────────────────


def a_busy_task() -> Task:
    """A task that is due each second."""
    return a_task(schedule=EVERY_SECOND, policy=Policy(overlap=Overlap.ALLOW))


@pytest.mark.parametrize("by", [3 * SECOND, HOUR, -3 * SECOND, -HOUR])
@virtual
async def test_a_clock_that_jumps_is_told(by: Duration) -> None:
    """In which direction and how far; once."""
    hall = Hall()
    planner = a_planner(hall)
    await planner.turn()

    hall.clock.step(by)
    await planner.turn()
    await planner.turn()

    assert [event.by for event in hall.watcher.told(ClockStepped)] == [by]
    assert planner.clock_steps == 1


@pytest.mark.parametrize("by", [SECOND, 2 * SECOND, -2 * SECOND])
@virtual
async def test_a_small_correction_of_the_clock_is_not(by: Duration) -> None:
    """Time servers nudge clocks all the time."""
    hall = Hall()
    planner = a_planner(hall)
    await planner.turn()

    hall.clock.step(by)
    await planner.turn()

    assert hall.watcher.told(ClockStepped) == []


@virtual
async def test_a_sleep_is_no_step_of_the_clock() -> None:
    """Both clocks go on while a machine sleeps or a process is frozen."""
    hall = Hall()
    planner = a_planner(hall)
    await planner.turn()

    await hall.clock.advance(8 * HOUR)
    await planner.turn()

    assert hall.watcher.told(ClockStepped) == []


@virtual
async def test_nothing_repeats_when_the_clock_goes_back() -> None:
    """The moments that were decided stay decided, and it says for how long nothing new falls due."""
    hall = Hall()
    await hall.store.create_tasks([a_busy_task()])
    planner = a_planner(hall)
    await plan_for(hall, planner, 20)
    await planner.turn()
    before = await moments_run(hall)

    hall.clock.step(-10 * SECOND)
    await planner.turn()
    quiet_for = planner.quiet_for
    await plan_for(hall, planner, 10)
    still = await moments_run(hall)
    await plan_for(hall, planner, 6)

    assert quiet_for == 10 * SECOND
    assert still == before
    assert planner.quiet_for == 0
    assert len(await moments_run(hall)) > len(before)


@virtual
async def test_a_clock_that_goes_forward_leaves_no_moment_out() -> None:
    """The moments that were jumped over get a verdict by the misfire policy."""
    hall = Hall()
    await hall.store.create_tasks([a_busy_task()])
    planner = a_planner(hall)
    await plan_for(hall, planner, 10)

    hall.clock.step(HOUR)
    await planner.turn()

    assert sum((await reasons(hall)).values()) == (hall.clock.now() - NOW) // SECOND


@virtual
async def test_a_clock_that_goes_back_is_passed_on_and_one_that_goes_forward_is_not() -> None:
    """Cursors that now lie far ahead can be set right at once; cleaning by a clock that jumped ahead would be rash."""
    hall, heard = Hall(), list[str]()
    planner = Planner(hall.needs(), ALONE, on_queued=lambda: None, on_clock_back=lambda: heard.append("back"))
    await planner.turn()

    hall.clock.step(HOUR)
    await planner.turn()
    assert heard == []
    hall.clock.step(-HOUR)
    await planner.turn()

    assert heard == ["back"]
