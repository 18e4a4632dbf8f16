"""Leases: renewed as long as work runs, given up in time when they can't be, and the way in which cancels come home."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peregrine.domain.event import LeaseLost, ResultRefused, StoreFailed
from peregrine.domain.execution import AttemptOutcome, State
from peregrine.domain.ids import ExecutionId, TaskId
from peregrine.domain.moment import HOUR, MINUTE, SECOND, Duration
from peregrine.domain.policy import OnWorkerLost, Policy
from peregrine.domain.retry import recover
from peregrine.engine.engine import Engine
from peregrine.engine.settings import EngineSettings
from peregrine.ports.bus import Topic
from peregrine.testing.builders import NOW, a_task
from tests.engine.hall import Break, Hall, Work, in_turn, lasting, stubborn, virtual


async def a_running_engine(hall: Hall, **policy: object) -> Engine:
    """An engine that has just begun ``execution-1``."""
    policy = {"timeout": 24 * HOUR} | policy
    await hall.store.create_tasks([a_task(schedule="@manual", policy=Policy(**policy))])  # type: ignore[arg-type]
    await hall.queue("execution-1")
    engine = hall.engine()
    await engine.start()
    await hall.clock.advance(1)
    assert len(hall.hands.starts) == 1
    return engine


def leased(lease: Duration, work: Work | None = None, **settings: Duration) -> Hall:
    return Hall(settings=replace(Hall.settings, lease=lease, **settings), work=work or lasting(24 * HOUR))


@pytest.mark.parametrize(
    ("lease", "heartbeat", "every"),
    [
        pytest.param(30 * SECOND, 10 * SECOND, 10 * SECOND, id="as it is by default"),
        pytest.param(30 * SECOND, 60 * SECOND, 10 * SECOND, id="a heartbeat longer than the lease"),
        pytest.param(30 * SECOND, 2 * SECOND, 2 * SECOND, id="a quick one"),
        pytest.param(SECOND, SECOND, 333, id="the shortest lease"),
    ],
)
def test_two_beats_may_fail_before_a_lease_ends(lease: Duration, heartbeat: Duration, every: Duration) -> None:
    """However it is set, a run is stopped before anybody else may take it, and not after a single lost beat."""
    settings = EngineSettings(lease=lease, heartbeat=heartbeat)

    assert settings.beat_every == every
    assert 0 < settings.margin <= lease // 4
    assert settings.beat_every + settings.held // 2 < settings.held < lease


@pytest.mark.parametrize("lease", [SECOND, 6 * SECOND, 30 * SECOND])
@virtual
async def test_a_lease_is_renewed_as_long_as_the_work_runs(lease: Duration) -> None:
    """Many leases long, with another instance watching all the time."""
    hall = leased(lease)
    engine = await a_running_engine(hall)
    other = hall.engine("worker-2")
    await other.start()

    await hall.clock.advance(40 * lease)

    execution = await hall.execution()
    assert (execution.state, execution.attempt) == (State.RUNNING, 1)
    assert execution.beat >= 100
    await engine.stop(grace=0)
    await other.stop(grace=0)


@virtual
async def test_a_cancel_written_elsewhere_reaches_the_run_within_a_poll() -> None:
    """Nobody woke the keeper, and still it takes no longer than a second, whatever the heartbeat."""
    hall = leased(30 * SECOND)
    engine = await a_running_engine(hall)

    await hall.store.request_cancel(execution_id=ExecutionId("execution-1"), now=hall.clock.now())
    await hall.clock.advance(hall.settings.poll + 1)

    execution = await hall.execution()
    assert execution.state is State.CANCELLED
    assert execution.attempts[0].outcome is AttemptOutcome.CANCELLED
    await engine.stop()


@virtual
async def test_a_wake_just_before_a_heartbeat_is_no_outage_of_the_store() -> None:
    """A store that needs some milliseconds is given them, however soon the next renewal is due."""
    hall = leased(30 * SECOND)
    hall.wire.slow = {"cancel_wishes": 20}
    engine = await a_running_engine(hall)
    await hall.clock.advance(11 * SECOND - 6)

    for _ in range(3):
        hall.bus.publish(Topic.CANCEL)
        await hall.clock.advance(10 * SECOND)

    assert hall.watcher.told(StoreFailed) == []
    assert (await hall.execution()).beat >= 3
    await engine.stop(grace=0)


@virtual
async def test_a_wake_brings_a_cancel_home_at_once() -> None:
    """The bus makes it sooner."""
    hall = leased(30 * SECOND)
    engine = await a_running_engine(hall)

    await hall.store.request_cancel(task_id=TaskId("task-1"), now=hall.clock.now())
    hall.bus.publish(Topic.CANCEL)
    await hall.clock.advance(1)

    assert (await hall.execution()).state is State.CANCELLED
    await engine.stop()


@virtual
async def test_deleting_a_task_stops_what_runs_of_it() -> None:
    """Its history stays, its work does not go on."""
    hall = leased(30 * SECOND)
    engine = await a_running_engine(hall)

    await hall.store.delete_task(TaskId("task-1"), expected_revision=None, now=hall.clock.now())
    await hall.clock.advance(10 * SECOND)

    assert (await hall.execution()).state is State.CANCELLED
    assert hall.hands.running.total() == 0
    await engine.stop()


@pytest.mark.parametrize("lease", [SECOND, 2 * SECOND, 6 * SECOND, 30 * SECOND])
@virtual
async def test_a_run_whose_lease_can_not_be_renewed_stops_before_anybody_else_may_begin(lease: Duration) -> None:
    """The store is out of this worker's reach; the margin is kept however short the lease is."""
    hall = leased(lease)
    engine = await a_running_engine(hall)
    await hall.clock.advance(10 * lease + lease // 7)
    last_beat = hall.clock.now() - lease // 3

    hall.wire.away = True
    while hall.hands.running.total():
        await hall.clock.advance(min(10, lease // 100))

    assert last_beat < hall.clock.now() <= last_beat + lease // 3 + hall.settings.held
    assert len(hall.watcher.told(LeaseLost)) == 1
    hall.wire.mends()
    await engine.stop(grace=0)


@pytest.mark.parametrize("lease", [SECOND, 30 * SECOND])
@virtual
async def test_a_first_lease_is_guarded_like_any_other(lease: Duration) -> None:
    """The fence had nothing to watch before, and may have looked just now: it must not sleep through a short lease."""
    hall = leased(lease)
    await hall.store.create_tasks([a_task(schedule="@manual", policy=Policy(on_worker_lost=OnWorkerLost.FAIL))])
    engine = hall.engine()
    await engine.start()
    await hall.clock.advance(10 * SECOND + 1)
    hall.wire.breaks("renew", Break.BEFORE, times=1000)
    await hall.queue("execution-1")
    hall.bus.publish(Topic.QUEUED)
    began = hall.clock.now()

    await hall.clock.advance(hall.settings.held - 10)
    before = hall.hands.running.total()
    while hall.hands.running.total():
        await hall.clock.advance(1)

    assert before == 1
    assert hall.clock.now() - began <= hall.settings.held + 1
    hall.wire.mends()
    await engine.stop(grace=0)


@virtual
async def test_a_short_outage_costs_no_run() -> None:
    """The store is back before the lease ends, and the next beat finds it in time."""
    hall = leased(30 * SECOND)
    engine = await a_running_engine(hall)
    await hall.clock.advance(9 * SECOND)

    hall.wire.away = True
    await hall.clock.advance(16 * SECOND)
    hall.wire.away = False
    await hall.clock.advance(MINUTE)

    execution = await hall.execution()
    assert (execution.state, execution.attempt) == (State.RUNNING, 1)
    await engine.stop(grace=0)


@pytest.mark.parametrize("how", [Break.NEVER, Break.MUTE])
@virtual
async def test_a_beat_that_is_never_answered_costs_no_run(how: Break) -> None:
    """It is given up while there is time for another."""
    hall = leased(30 * SECOND)
    engine = await a_running_engine(hall)

    hall.wire.breaks("renew", how)
    await hall.clock.advance(2 * MINUTE)

    execution = await hall.execution()
    assert (execution.state, execution.attempt) == (State.RUNNING, 1)
    await engine.stop(grace=0)


@virtual
async def test_a_run_that_another_has_taken_over_stops_and_writes_nothing() -> None:
    """The new owner's record is left as it is."""
    hall = leased(30 * SECOND)
    engine = await a_running_engine(hall)
    [row] = await hall.store.running()

    await hall.store.settle([recover(row, "worker-2", hall.clock.now(), 0.5)])
    await hall.claim("worker-2")
    before = await hall.execution()
    await hall.clock.advance(11 * SECOND)

    assert hall.hands.running.total() == 0
    assert await hall.execution() == before
    assert hall.watcher.told(LeaseLost) == [LeaseLost(ExecutionId("execution-1"), 1)]
    assert hall.watcher.told(ResultRefused) == []
    await engine.stop(grace=0)


@pytest.mark.parametrize(
    ("on_worker_lost", "outcomes", "state"),
    [
        (OnWorkerLost.RETRY, [AttemptOutcome.LOST, AttemptOutcome.SUCCEEDED], State.COMPLETED),
        (OnWorkerLost.FAIL, [AttemptOutcome.LOST], State.FAILED),
    ],
    ids=str,
)
@virtual
async def test_after_an_outage_a_stopped_run_goes_by_its_policy(
    on_worker_lost: OnWorkerLost, outcomes: list[AttemptOutcome], state: State
) -> None:
    """The worker itself says that it lost its lease, as soon as it can, and the work goes on at once."""
    hall = leased(30 * SECOND, in_turn(lasting(HOUR), lasting(SECOND)))
    engine = await a_running_engine(hall, on_worker_lost=on_worker_lost)

    hall.wire.away = True
    await hall.clock.advance(5 * MINUTE)
    hall.wire.away = False
    await hall.clock.advance(5 * SECOND)

    execution = await hall.execution()
    assert [attempt.outcome for attempt in execution.attempts] == outcomes
    assert execution.state is state
    await engine.stop()


@virtual
async def test_a_result_that_came_within_the_lease_is_stored_after_the_outage() -> None:
    """It is kept as long as nobody else has taken over."""
    hall = leased(30 * SECOND, lasting(5 * SECOND))
    engine = await a_running_engine(hall)

    hall.wire.away = True
    await hall.clock.advance(10 * MINUTE)
    hall.wire.away = False
    await hall.clock.advance(2 * SECOND)

    execution = await hall.execution()
    assert (execution.state, execution.attempt) == (State.COMPLETED, 1)
    assert execution.completed_at == NOW + 5 * SECOND
    await engine.stop()


@virtual
async def test_nothing_new_starts_while_the_store_is_away() -> None:
    """No claim, no effect (promise P8); what was due meanwhile is accounted for afterwards."""
    hall = Hall()
    await hall.store.create_tasks([a_task(schedule="* * * * * *")])
    engine = hall.engine()
    await engine.start()
    await hall.clock.advance(3 * SECOND)
    hall.wire.away = True
    await hall.clock.advance(1)
    before = len(hall.hands.starts)

    await hall.clock.advance(MINUTE)
    meanwhile = len(hall.hands.starts)
    hall.wire.away = False
    await hall.clock.advance(2 * SECOND)
    await engine.stop()

    assert meanwhile == before
    assert sum(e.count for e in await hall.ledger()) == ((await hall.view()).cursor - NOW) // SECOND >= 64


@virtual
async def test_a_late_result_is_refused_and_noted() -> None:
    """The worker was away for so long that another one took over; what it brings home is not lost without a word."""
    hall = leased(30 * SECOND, in_turn(lasting(SECOND), lasting(HOUR)))
    engine = await a_running_engine(hall)
    hall.wire.away = True
    await hall.clock.advance(MINUTE)
    [row] = await hall.store.running()
    await hall.store.settle([recover(row, "worker-2", hall.clock.now(), 0.5)])
    [theirs] = await hall.claim("worker-2")

    hall.wire.away = False
    await hall.clock.advance(5 * SECOND)

    execution = await hall.execution()
    assert (execution.state, execution.epoch, execution.worker_id) == (State.RUNNING, theirs.epoch, "worker-2")
    assert (execution.attempts[0].error or "").endswith("a late result (succeeded) was refused")
    assert hall.watcher.told(ResultRefused) == [ResultRefused(ExecutionId("execution-1"), 1)]
    await engine.stop(grace=0)


@virtual
async def test_a_machine_that_slept_stops_what_has_outlived_its_time() -> None:
    """The loop's own timers stand still in a sleep; the steady clock does not, and the fence looks at it."""
    hall = leased(HOUR)
    engine = await a_running_engine(hall, timeout=10 * MINUTE)

    hall.clock.step(0)
    hall.clock._base += 10 * MINUTE
    await hall.clock.advance(SECOND)

    assert hall.hands.running.total() == 0
    assert (await hall.execution()).attempts[0].outcome is AttemptOutcome.TIMED_OUT
    await engine.stop()


@virtual
async def test_a_stubborn_run_does_not_keep_its_lease() -> None:
    """Its slot is free and its end is written; it only can't be made to stop."""
    hall = leased(30 * SECOND, in_turn(stubborn(10 * MINUTE), lasting(SECOND)))
    engine = await a_running_engine(hall, timeout=30 * SECOND, max_retries=0)

    await hall.clock.advance(MINUTE)

    execution = await hall.execution()
    assert execution.state is State.FAILED
    assert execution.detail["abandoned"] is True
    assert engine.active == 0
    await engine.stop()
