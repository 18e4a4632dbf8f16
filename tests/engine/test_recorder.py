"""Outcome → settlement → stored: kept until the store has it, never twice, and no one result holds up the others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from peregrine.domain.event import LoopCrashed, Settled
from peregrine.domain.execution import AttemptOutcome, Outcome, Settlement, State
from peregrine.domain.ids import ExecutionId
from peregrine.domain.moment import HOUR, MINUTE, SECOND
from peregrine.domain.policy import Policy
from peregrine.engine.engine import Engine
from peregrine.ports.bus import Topic
from peregrine.ports.executor import RunContext
from peregrine.testing.builders import NOW, a_parallel_task
from tests.engine.hall import Break, Hall, Work, in_turn, lasting, saying, virtual

FAILED = Outcome.failed("status 503")


async def an_engine(hall: Hall, *ids: str, **policy: Any) -> Engine:
    """An engine that is about to begin the executions *ids*."""
    task = a_parallel_task(schedule="@manual")
    await hall.store.create_tasks([replace(task, policy=replace(task.policy, **policy))])
    await hall.queue(*(ids or ("execution-1",)))
    engine = hall.engine()
    await engine.start()
    return engine


@virtual
async def test_an_outcome_is_stored_at_once_and_told_afterwards() -> None:
    """No poll lies between the end of the work and its record."""
    hall = Hall(work=lasting(300))
    engine = await an_engine(hall)

    await hall.clock.advance(301)

    execution = await hall.execution()
    assert (execution.state, execution.completed_at, execution.output) == (State.COMPLETED, NOW + 300, "done")
    assert [len(event.settlements) for event in hall.watcher.told(Settled)] == [1]
    assert (await hall.view()).tally.success_count == 1
    await engine.stop()


@virtual
async def test_outcomes_that_come_together_are_one_write() -> None:
    """A batch per turn, not a write per item."""
    hall = Hall(work=lasting(300))
    engine = await an_engine(hall, *(f"execution-{n}" for n in range(4)))

    await hall.clock.advance(SECOND)

    assert hall.wire.calls["settle"] == 1
    await engine.stop()


@pytest.mark.parametrize("how", [Break.BEFORE, Break.UNSURE, Break.NEVER, Break.MUTE, Break.CANCELLED, Break.BUG])
@virtual
async def test_a_settlement_whose_write_goes_wrong_is_repeated_until_it_is_stored(how: Break) -> None:
    """Whatever became of the first write, the execution ends once and is counted once."""
    hall = Hall(work=lasting(300))
    engine = await an_engine(hall)
    hall.wire.breaks("settle", how)

    await hall.clock.advance(MINUTE)

    execution = await hall.execution()
    assert (execution.state, len(execution.attempts)) == (State.COMPLETED, 1)
    assert (await hall.view()).tally.total_runs == 1
    assert len(hall.hands.starts) == 1
    assert engine.unsettled == 0
    await engine.stop()


@virtual
async def test_a_result_that_breaks_the_store_does_not_hold_up_the_others() -> None:
    """It is kept without what the store can't take, the others whole, and the bug is told."""

    def refuse(settlements: list[Settlement]) -> None:
        if any(settlement.output == "poison" for settlement in settlements):
            raise OverflowError("too large for the store")

    async def work(context: RunContext) -> Outcome:
        return Outcome.succeeded("poison" if context.claim.execution_id == "execution-2" else "done")

    hall = Hall(work=work)
    hall.wire.asked["settle"] = refuse
    engine = await an_engine(hall, *(f"execution-{n}" for n in range(4)))

    await hall.clock.advance(SECOND)

    executions = await hall.executions()
    assert [e.state for e in executions] == [State.COMPLETED] * 4
    assert [e.output for e in executions] == ["done", "done", "", "done"]
    assert executions[2].detail == {"left_out": "the store can't keep it (OverflowError)"}
    assert [event.loop for event in hall.watcher.told(LoopCrashed)] == ["recorder"]
    await engine.stop()


@virtual
async def test_a_store_with_a_bug_loses_no_result() -> None:
    """As long as it takes nothing, everything is kept whole; then everything is stored."""
    hall = Hall(work=lasting(300))
    engine = await an_engine(hall, *(f"execution-{n}" for n in range(4)))
    hall.wire.breaks("settle", Break.BUG, times=200)

    await hall.clock.advance(10 * SECOND)
    unsettled, failing = engine.unsettled, dict(engine.facts().failing)
    hall.wire.mends()
    await hall.clock.advance(2 * SECOND)

    assert unsettled == 4
    assert failing == {"recorder": "a bug: RuntimeError"}
    assert [(e.state, e.output) for e in await hall.executions()] == [(State.COMPLETED, "done")] * 4
    await engine.stop()


@virtual
async def test_while_nothing_can_be_stored_no_more_than_so_much_is_begun() -> None:
    """Outcomes in memory are bounded: twice as many as there are slots."""
    hall = Hall(work=lasting(10))
    hall.wire.breaks("settle", Break.BEFORE, times=10_000)
    engine = await an_engine(hall, *(f"execution-{n}" for n in range(50)))

    await hall.clock.advance(20 * SECOND)

    assert engine.unsettled == 2 * hall.settings.slots
    hall.wire.mends()
    await hall.clock.advance(20 * SECOND)
    assert len(hall.hands.starts) == 50
    await engine.stop()


# ── what follows ─────────────────────────────────────────────────────────────────────────────────


@virtual
async def test_a_failure_is_tried_again_after_its_wait() -> None:
    """Between half and all of a wait that doubles, and not a moment before."""
    hall = Hall(work=in_turn(saying(FAILED), saying(FAILED), lasting(SECOND)))
    engine = await an_engine(hall, max_retries=2, retry_interval=10 * SECOND)

    await hall.clock.advance(2 * MINUTE)

    first, second, third = (start.at - NOW for start in hall.hands.starts)
    assert first == 0
    assert 5 * SECOND <= second <= 10 * SECOND + 100
    assert 10 * SECOND <= third - second <= 20 * SECOND + 100
    assert (await hall.execution()).state is State.COMPLETED
    await engine.stop()


@pytest.mark.parametrize("max_retries", [0, 1, 3])
@virtual
async def test_a_failure_is_tried_no_more_often_than_was_asked(max_retries: int) -> None:
    """Then it has failed, with the last error."""
    hall = Hall(work=saying(FAILED))
    engine = await an_engine(hall, max_retries=max_retries, retry_interval=SECOND)

    await hall.clock.advance(MINUTE)

    execution = await hall.execution()
    assert (execution.state, execution.error) == (State.FAILED, "status 503")
    assert len(hall.hands.starts) == 1 + max_retries
    await engine.stop()


@virtual
async def test_the_other_side_is_given_the_time_it_asked_for() -> None:
    """``Retry-After`` is honoured."""
    hall = Hall(work=in_turn(saying(replace(FAILED, retry_after=5 * MINUTE)), lasting(0)))
    engine = await an_engine(hall, retry_interval=SECOND)

    await hall.clock.advance(6 * MINUTE)

    assert hall.hands.starts[1].at - NOW == 5 * MINUTE
    await engine.stop()


@virtual
async def test_a_timeout_counts_as_a_failure() -> None:
    """It is tried again, from the start of each attempt anew."""
    hall = Hall(work=in_turn(lasting(HOUR), lasting(25 * SECOND)))
    engine = await an_engine(hall, timeout=30 * SECOND, retry_interval=10 * SECOND, max_retries=1)

    await hall.clock.advance(2 * MINUTE)

    execution = await hall.execution()
    assert [a.outcome for a in execution.attempts] == [AttemptOutcome.TIMED_OUT, AttemptOutcome.SUCCEEDED]
    assert execution.failures == 1
    await engine.stop()


@pytest.mark.parametrize(
    ("work", "state"),
    [
        pytest.param(saying(FAILED), State.CANCELLED, id="would be tried again"),
        pytest.param(lasting(0), State.COMPLETED, id="was done before"),
    ],
)
@virtual
async def test_a_cancel_that_meets_the_end_of_the_work(work: Work, state: State) -> None:
    """The wish arrives between the end and its record: what would be tried again is cancelled, what is done stays."""
    hall = Hall(work=work)

    def cancel(settlements: list[Settlement]) -> None:
        row = hall.store._rows[ExecutionId("execution-1")]
        hall.store._cancel(row, hall.clock.now())

    hall.wire.asked["settle"] = cancel
    engine = await an_engine(hall)

    await hall.clock.advance(10 * MINUTE)

    assert (await hall.execution()).state is state
    assert len(hall.hands.starts) == 1
    [settled] = [s for event in hall.watcher.told(Settled) for s in event.settlements]
    assert settled.state is state
    await engine.stop()


@virtual
async def test_whoever_watches_hears_that_something_has_ended() -> None:
    """One wake per write."""
    hall, heard = Hall(work=lasting(300)), list[str]()
    hall.bus.subscribe(Topic.SETTLED, lambda: heard.append("settled"))
    engine = await an_engine(hall)

    await hall.clock.advance(SECOND)

    assert heard == ["settled"]
    await engine.stop()


@virtual
async def test_a_storm_of_retries_is_spread_out() -> None:
    """What failed together does not come back together."""
    hall = Hall(settings=replace(Hall.settings, slots=200), work=in_turn(saying(FAILED), lasting(0)))
    engine = await an_engine(hall, *(f"execution-{n}" for n in range(200)), retry_interval=MINUTE)

    await hall.clock.advance(2 * MINUTE)

    again = [start.at - NOW for start in hall.hands.starts if start.claim.attempt == 2]
    assert len(again) == 200
    assert len({moment // 1000 for moment in again}) > 20
    assert 30 * SECOND <= min(again) < max(again) <= MINUTE + 100
    await engine.stop()


def test_the_default_policy_is_what_these_tests_change() -> None:
    """Three retries, a minute apart, and five minutes for each."""
    assert (Policy().max_retries, Policy().retry_interval, Policy().timeout) == (3, MINUTE, 5 * MINUTE)
