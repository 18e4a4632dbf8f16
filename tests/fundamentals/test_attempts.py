"""What an execution promises: tried as often as was asked, ended in one way, and a crash of ours is not its fault."""

from __future__ import annotations

from peregrine.domain.execution import AttemptOutcome, Outcome, State
from peregrine.domain.ids import ExecutionId
from peregrine.domain.moment import HOUR, MINUTE, SECOND
from peregrine.domain.policy import OnWorkerLost, Policy
from peregrine.ports.bus import Topic
from peregrine.testing.builders import NOW, a_task
from tests.engine.hall import Hall, in_turn, lasting, saying, virtual


@virtual
async def test_a_failure_is_retried() -> None:
    """After a wait that doubles; the execution stays one execution, with an attempt for each try."""
    failing = saying(Outcome.failed("status 503"))
    hall = Hall(work=in_turn(failing, failing, lasting(SECOND)))
    await hall.store.create_tasks([a_task(policy=Policy(max_retries=3, retry_interval=10 * SECOND))])
    await hall.queue("execution-1")

    async with hall.open():
        await hall.clock.advance(MINUTE - 10 * SECOND)

    execution = await hall.execution("execution-1")
    assert execution.state is State.COMPLETED
    assert [attempt.outcome for attempt in execution.attempts] == ["failed", "failed", "succeeded"]


@virtual
async def test_work_that_takes_too_long_is_stopped() -> None:
    """The timeout counts from the start of the attempt."""
    hall = Hall(work=lasting(HOUR))
    await hall.store.create_tasks([a_task(policy=Policy(max_retries=0, timeout=30 * SECOND))])
    await hall.queue("execution-1")

    async with hall.open():
        await hall.clock.advance(31 * SECOND)

    execution = await hall.execution("execution-1")
    assert (execution.state, execution.error) == (State.FAILED, "timed out after 30s")
    assert execution.completed_at == NOW + 30 * SECOND


@virtual
async def test_running_work_can_be_cancelled() -> None:
    """A cancel is a wish in the store; the worker that runs it hears of it at once, or with its next heartbeat."""
    hall = Hall(work=lasting(HOUR))
    await hall.store.create_tasks([a_task()])
    await hall.queue("execution-1")

    async with hall.open():
        await hall.clock.advance(5 * SECOND)
        await hall.store.request_cancel(execution_id=ExecutionId("execution-1"), now=hall.clock.now())
        hall.bus.publish(Topic.CANCEL)
        await hall.clock.advance(1)

    execution = await hall.execution("execution-1")
    assert execution.state is State.CANCELLED
    assert hall.hands.running.total() == 0


@virtual
async def test_a_crash_loses_nothing() -> None:
    """The process dies in the middle of its work; another one notices, and does it again."""
    hall = Hall(work=in_turn(lasting(HOUR), lasting(SECOND)))
    await hall.store.create_tasks([a_task()])
    await hall.queue("execution-1")
    doomed = hall.engine("worker-1")
    await doomed.start()
    await hall.clock.advance(5 * SECOND)

    await hall.kill(doomed)
    async with hall.open("worker-2"):
        await hall.clock.advance(5 * SECOND)

    execution = await hall.execution("execution-1")
    assert execution.state is State.COMPLETED
    assert [(a.worker_id, a.outcome) for a in execution.attempts] == [
        ("worker-1", AttemptOutcome.LOST),
        ("worker-2", AttemptOutcome.SUCCEEDED),
    ]


@virtual
async def test_what_must_not_run_twice_does_not() -> None:
    """The same crash, and a task that says ``on_worker_lost = fail``: nobody knows how far it came, so it fails."""
    hall = Hall(work=in_turn(lasting(HOUR), lasting(SECOND)))
    policy = Policy(on_worker_lost=OnWorkerLost.FAIL, max_retries=0)
    await hall.store.create_tasks([a_task(policy=policy)])
    await hall.queue("execution-1")
    doomed = hall.engine("worker-1")
    await doomed.start()
    await hall.clock.advance(5 * SECOND)

    await hall.kill(doomed)
    async with hall.open("worker-2"):
        await hall.clock.advance(5 * SECOND)

    execution = await hall.execution("execution-1")
    assert (execution.state, execution.error) == (State.FAILED, "worker lost")
    assert len(hall.hands.starts) == 1


@virtual
async def test_a_restart_in_order_costs_no_attempt() -> None:
    """Told to stop, the service lets work end; what does not end in time is put back and not counted against it."""
    hall = Hall(work=in_turn(lasting(HOUR), lasting(SECOND)))
    await hall.store.create_tasks([a_task(policy=Policy(max_retries=0))])
    await hall.queue("execution-1")
    first = hall.engine("worker-1")
    await first.start()
    await hall.clock.advance(5 * SECOND)

    await first.stop(grace=10 * SECOND)
    async with hall.open("worker-2"):
        await hall.clock.advance(2 * SECOND)

    execution = await hall.execution("execution-1")
    assert execution.state is State.COMPLETED
    assert [attempt.outcome for attempt in execution.attempts] == ["interrupted", "succeeded"]
    assert execution.failures == 0
