"""Stopping: nothing new begins, what runs may end, the rest is interrupted and put back, all in a bounded time."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import Any

import pytest

from peregrine.domain.event import ResultRefused
from peregrine.domain.execution import AttemptOutcome, ExecutionOutcome, State
from peregrine.domain.ids import ExecutionId
from peregrine.domain.moment import HOUR, MINUTE, SECOND, Duration, Moment
from peregrine.domain.policy import OnWorkerLost, Overlap, Policy
from peregrine.engine.engine import Engine
from peregrine.ports.bus import Topic
from peregrine.ports.engine_view import EngineMode
from peregrine.testing.builders import a_task, an_instance
from tests.engine.hall import Break, Hall, Work, in_turn, lasting, stubborn, virtual

VERBS = ("due", "apply_plans", "claim", "renew", "settle", "announce", "instances", "running", "reanchor", "purge")


LENIENT = Policy(overlap=Overlap.ALLOW, timeout=24 * HOUR)


async def an_engine(hall: Hall, *ids: str, **policy: Any) -> Engine:
    """An engine that has just begun the executions *ids*, as far as it has slots."""
    await hall.store.create_tasks([a_task(schedule="@manual", policy=replace(LENIENT, **policy))])
    await hall.queue(*(ids or ("execution-1",)))
    engine = hall.engine()
    await engine.start()
    await hall.clock.advance(1)
    return engine


async def time_to_stop(hall: Hall, engine: Engine, *, grace: Duration | None = None) -> Duration:
    began = hall.clock.monotonic()
    await engine.stop(grace=grace)
    return hall.clock.monotonic() - began


def later(hall: Hall, after: Duration, deed: Any) -> None:
    asyncio.get_running_loop().call_later(after / 1000, deed)


# ── what becomes of work ─────────────────────────────────────────────────────────────────────────


@virtual
async def test_what_runs_may_end_within_the_grace() -> None:
    """It ends as if nothing had happened, and the stop takes no longer than it."""
    hall = Hall(work=lasting(5 * SECOND))
    engine = await an_engine(hall)

    took = await time_to_stop(hall, engine)

    assert (await hall.execution()).state is State.COMPLETED
    assert took < 5 * SECOND


@virtual
async def test_what_does_not_end_in_time_is_interrupted_put_back_and_not_counted() -> None:
    """It goes back to the queue at once, as if it had not been tried."""
    hall = Hall(work=lasting(HOUR))
    engine = await an_engine(hall)

    took = await time_to_stop(hall, engine, grace=3 * SECOND)

    execution = await hall.execution()
    assert took == 3 * SECOND
    assert (execution.state, execution.failures, execution.losses) == (State.QUEUED, 0, 0)
    assert execution.attempts[0].outcome is AttemptOutcome.INTERRUPTED
    assert hall.hands.running.total() == 0


@virtual
async def test_what_was_interrupted_is_run_by_the_next_engine_at_once() -> None:
    """A restart costs a long run its progress, and nothing else."""
    hall = Hall(work=in_turn(lasting(HOUR), lasting(SECOND)))
    engine = await an_engine(hall)
    await engine.stop(grace=0)

    successor = hall.engine("worker-2")
    await successor.start()
    await hall.clock.advance(2 * SECOND)

    execution = await hall.execution()
    assert (execution.state, execution.worker_id) == (State.COMPLETED, "worker-2")
    await successor.stop()


@virtual
async def test_what_must_not_run_twice_is_not_put_back() -> None:
    """Nobody knows how far it came: with ``on_worker_lost = fail`` it has failed."""
    hall = Hall(work=lasting(HOUR))
    engine = await an_engine(hall, on_worker_lost=OnWorkerLost.FAIL)

    await engine.stop(grace=0)

    execution = await hall.execution()
    assert (execution.state, execution.outcome) == (State.FAILED, ExecutionOutcome.ABANDONED)


@virtual
async def test_one_that_was_to_be_cancelled_is_cancelled_instead_of_put_back() -> None:
    """The wish came before the shutdown."""
    hall = Hall(work=lasting(HOUR))
    engine = await an_engine(hall)
    await hall.store.request_cancel(execution_id=(await hall.execution()).id, now=hall.clock.now())

    await engine.stop(grace=0)

    assert (await hall.execution()).state is State.CANCELLED


@virtual
async def test_a_run_that_does_not_stop_is_abandoned_and_holds_up_nobody() -> None:
    """Its outcome is written without it."""
    hall = Hall(work=stubborn(HOUR))
    engine = await an_engine(hall)

    took = await time_to_stop(hall, engine, grace=SECOND)

    execution = await hall.execution()
    assert took == SECOND + hall.settings.stop_grace
    assert execution.attempts[0].outcome is AttemptOutcome.INTERRUPTED
    assert "abandoned" in (execution.attempts[0].error or "")


@virtual
async def test_the_lease_is_kept_until_the_last_run_has_ended() -> None:
    """A long drain is no reason for another instance to take over."""
    hall = Hall(work=lasting(10 * MINUTE))
    engine = await an_engine(hall)
    other = hall.engine("worker-2")
    await other.start()

    await engine.stop(grace=HOUR)

    execution = await hall.execution()
    assert (execution.state, execution.attempt) == (State.COMPLETED, 1)
    await other.stop()


@virtual
async def test_a_cancel_still_comes_home_while_it_drains() -> None:
    """Nobody has to wait for the grace to end."""
    hall = Hall(work=lasting(HOUR))
    engine = await an_engine(hall)
    stopping = asyncio.ensure_future(time_to_stop(hall, engine, grace=10 * MINUTE))
    await hall.clock.advance(SECOND)

    await hall.store.request_cancel(execution_id=(await hall.execution()).id, now=hall.clock.now())

    assert await stopping <= 10 * SECOND
    assert (await hall.execution()).state is State.CANCELLED


@virtual
async def test_nothing_begins_while_it_drains() -> None:
    """Neither what is due nor what is queued nor what was put back."""
    hall = Hall(work=lasting(10 * SECOND))
    engine = await an_engine(hall)
    await hall.store.create_tasks([a_task("due", schedule="* * * * * *")])
    stopping = asyncio.ensure_future(engine.stop())
    await hall.clock.advance(SECOND)

    await hall.queue("execution-2")
    hall.bus.publish(Topic.QUEUED)
    hall.bus.publish(Topic.TASKS)
    await stopping

    assert hall.hands.order == ["execution-1"]
    assert await hall.ledger("due") == []


@pytest.mark.parametrize("on_worker_lost", OnWorkerLost)
@virtual
async def test_a_claim_that_arrives_while_it_drains_is_given_back_unstarted(on_worker_lost: OnWorkerLost) -> None:
    """Nothing of it has happened, so whatever the policy is, another worker takes it at once."""
    hall = Hall()
    hall.wire.slow = {"claim": 2 * SECOND}
    engine = await an_engine(hall, on_worker_lost=on_worker_lost)

    await engine.stop()
    hall.wire.mends()
    given_back = await hall.execution()
    successor = hall.engine("worker-2")
    await successor.start()
    await hall.clock.advance(SECOND)

    assert given_back.state is State.QUEUED
    assert (await hall.execution()).state is State.COMPLETED
    assert len(hall.hands.starts) == 1
    await successor.stop()


# ── the second signal ────────────────────────────────────────────────────────────────────────────


@virtual
async def test_a_second_signal_ends_the_grace() -> None:
    """What still runs is interrupted now."""
    hall = Hall(work=lasting(HOUR))
    engine = await an_engine(hall)
    later(hall, 2 * SECOND, engine.interrupt)

    took = await time_to_stop(hall, engine, grace=HOUR)

    assert took == 2 * SECOND
    assert (await hall.execution()).state is State.QUEUED


@virtual
async def test_a_second_signal_still_gives_runs_the_time_to_let_go() -> None:
    """A stubborn one is abandoned and its end is written, not left for others to find."""
    hall = Hall(work=stubborn(HOUR))
    engine = await an_engine(hall)
    later(hall, 2 * SECOND, engine.interrupt)

    took = await time_to_stop(hall, engine, grace=HOUR)

    assert took == 2 * SECOND + hall.settings.stop_grace
    assert (await hall.execution()).attempts[0].outcome is AttemptOutcome.INTERRUPTED


@virtual
async def test_a_second_signal_while_a_claim_is_under_way_does_not_let_it_start() -> None:
    """What arrives after it is given back like everything else."""
    hall = Hall(work=lasting(HOUR))
    hall.wire.slow = {"claim": 500}
    engine = await an_engine(hall)
    later(hall, 100, engine.interrupt)

    took = await time_to_stop(hall, engine, grace=HOUR)

    assert took < SECOND
    assert hall.hands.starts == []
    assert (await hall.execution()).state is State.QUEUED


@virtual
async def test_a_second_signal_during_the_last_writes_cuts_them_short() -> None:
    """The store is away, and somebody is in a hurry: the next start finds what could not be written."""
    hall = Hall(work=lasting(SECOND))
    engine = await an_engine(hall)
    hall.wire.away = True
    later(hall, 2 * SECOND, engine.interrupt)

    took = await time_to_stop(hall, engine)

    assert took <= 3 * SECOND + 100


@virtual
async def test_signals_without_end_change_nothing_more() -> None:
    """Whoever keeps pressing keys gets the same stop."""
    hall = Hall(work=stubborn(HOUR))
    engine = await an_engine(hall)
    for after in range(0, 3000, 10):
        later(hall, after, engine.interrupt)

    await engine.stop(grace=HOUR)
    engine.interrupt()

    assert (await hall.execution()).state is State.QUEUED
    assert engine.facts().mode is EngineMode.STOPPED


@virtual
async def test_interrupt_without_a_stop_interrupts_nothing() -> None:
    """It shortens a stop; it is none."""
    hall = Hall(work=lasting(5 * SECOND))
    engine = await an_engine(hall)

    engine.interrupt()
    await hall.clock.advance(10 * SECOND)

    assert (await hall.execution()).attempts[0].outcome is AttemptOutcome.SUCCEEDED
    assert await time_to_stop(hall, engine) == 0


# ── without the store ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("how", [Break.BEFORE, Break.NEVER, Break.MUTE, Break.BUG, Break.UNSURE])
@pytest.mark.parametrize("grace", [0, 10 * SECOND])
@virtual
async def test_a_stop_ends_in_bounded_time_whatever_the_store_does(how: Break, grace: Duration) -> None:
    """Away, mute or broken: a process that was told to go, goes."""
    hall = Hall(work=lasting(HOUR))
    engine = await an_engine(hall)
    for verb in (*VERBS, "retire", "claimed_by"):
        hall.wire.breaks(verb, how, times=10_000)
    await hall.clock.advance(5 * SECOND)

    took = await time_to_stop(hall, engine, grace=grace)

    assert took <= grace + 25 * SECOND
    assert hall.hands.running.total() == 0
    assert engine.facts().mode is EngineMode.STOPPED


@virtual
async def test_what_could_not_be_stored_is_found_by_the_next_start() -> None:
    """The process has gone without a word; on the same machine that is known at once."""
    hall = Hall(work=in_turn(lasting(HOUR), lasting(0)))
    engine = await an_engine(hall)
    await hall.clock.advance(SECOND)
    hall.wire.away = True
    await engine.stop(grace=0)
    hall.wire.away = False

    hall.host.gone.add(an_instance("worker-1").id)
    successor = hall.engine("worker-2")
    await successor.start()
    await hall.clock.advance(SECOND)

    execution = await hall.execution()
    assert [a.outcome for a in execution.attempts] == [AttemptOutcome.LOST, AttemptOutcome.SUCCEEDED]
    await successor.stop()


@virtual
async def test_who_left_something_behind_does_not_say_that_it_has_gone() -> None:
    """Its row is how others find out quickly that its work is lost."""
    hall = Hall(work=lasting(HOUR))
    engine = await an_engine(hall)
    hall.wire.breaks("settle", Break.BEFORE, times=10_000)

    await engine.stop(grace=0)

    assert [instance.id for instance, _, _ in await hall.store.instances()] == ["worker-1"]


@virtual
async def test_who_leaves_in_order_says_so() -> None:
    """Its row is gone with it."""
    hall = Hall()
    engine = await an_engine(hall)
    before = len(await hall.store.instances())

    await engine.stop()

    assert (before, await hall.store.instances()) == (1, [])


@virtual
async def test_a_bug_of_the_store_in_its_last_call_is_not_hidden_and_leaves_it_stopped() -> None:
    """Whoever called hears of it, and finds an engine that can be started again."""
    hall = Hall()
    engine = await an_engine(hall)
    hall.wire.breaks("retire", Break.BUG)

    with pytest.raises(RuntimeError):
        await engine.stop()

    assert engine.facts().mode is EngineMode.STOPPED
    await engine.stop()


# ── in any order ─────────────────────────────────────────────────────────────────────────────────


@virtual
async def test_stop_without_start_touches_nothing() -> None:
    """The store may not even be open yet."""
    hall = Hall()
    engine = hall.engine()

    await engine.stop()
    await engine.stop()

    assert hall.wire.calls.total() == 0
    assert engine.facts().mode is EngineMode.STOPPED


@virtual
async def test_start_twice_is_one_engine() -> None:
    """Nothing is planned or run twice as often."""
    hall = Hall()
    engine = await an_engine(hall)
    once = hall.wire.calls["due"]

    await engine.start()
    await hall.clock.advance(5 * SECOND)

    assert hall.wire.calls["due"] - once == 5
    await engine.stop()


@virtual
async def test_two_stops_at_once_are_one() -> None:
    """The second one returns when the first has ended, not before."""
    hall = Hall(work=lasting(5 * SECOND))
    engine = await an_engine(hall)

    first, second = await asyncio.gather(time_to_stop(hall, engine), time_to_stop(hall, engine))

    assert first == second
    assert (await hall.execution()).state is State.COMPLETED


@virtual
async def test_a_start_during_a_stop_waits_for_its_end_and_then_is_a_whole_engine() -> None:
    """Else planner and claimer would run on without keeper and fence, and leases would end under running work."""
    hall = Hall(work=lasting(5 * SECOND))
    engine = await an_engine(hall)
    stopping = asyncio.ensure_future(engine.stop())
    await hall.clock.advance(SECOND)

    await engine.start()
    hall.hands.work = lasting(5 * MINUTE)
    await hall.queue("execution-2")
    await hall.clock.advance(2 * MINUTE)

    assert stopping.done()
    assert (await hall.execution()).state is State.COMPLETED
    assert (await hall.execution("execution-2")).beat >= 10
    assert engine.facts().mode is EngineMode.RUNNING
    await engine.stop(grace=0)


@virtual
async def test_a_stop_that_was_cut_off_can_be_repeated() -> None:
    """The host lost patience, and then found it again."""
    hall = Hall(work=lasting(HOUR))
    engine = await an_engine(hall)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2):
            await engine.stop(grace=HOUR)

    await engine.stop(grace=0)

    assert (await hall.execution()).state is State.QUEUED
    assert engine.facts().mode is EngineMode.STOPPED


@pytest.mark.parametrize("seed", range(20))
@virtual
async def test_starts_and_stops_in_any_order_keep_every_promise(seed: int) -> None:
    """Two engines that are started, stopped and hurried at random: one verdict per moment, one record per effect."""
    dice = random.Random(seed)
    hall = Hall(work=lasting(1700))
    policy = Policy(overlap=Overlap.QUEUE, misfire_grace=HOUR)
    await hall.store.create_tasks([a_task(schedule="*/2 * * * * *", policy=policy)])
    engines = [hall.engine("worker-1"), hall.engine("worker-2")]

    async def meddle(engine: Engine) -> None:
        for _ in range(12):
            await hall.clock.advance(dice.randint(0, 4000))
            match dice.choice(["start", "start", "stop", "stop", "interrupt"]):
                case "start":
                    await engine.start()
                case "stop":
                    await engine.stop(grace=dice.choice([0, SECOND, 5 * SECOND]))
                case "interrupt":
                    engine.interrupt()

    await asyncio.gather(*(meddle(engine) for engine in engines for _ in range(2)))
    await asyncio.gather(*(engine.start() for engine in engines))
    await hall.clock.advance(2 * MINUTE)
    await hall.change(enabled=False)
    await hall.clock.advance(MINUTE)
    await asyncio.gather(*(engine.stop() for engine in engines))

    ran = [entry.scheduled_for for entry in await hall.ledger() if entry.execution_id is not None]
    executions = await hall.executions()
    assert len(ran) == len(set(ran))
    assert all(execution.state is State.COMPLETED for execution in executions[:-1])
    assert all(execution.failures == 0 for execution in executions)
    attempts = sum(sum("not started" not in (a.error or "") for a in e.attempts) for e in executions)
    assert attempts == len([s for s in hall.hands.starts if s.claim.execution_id in {e.id for e in executions}])
    assert hall.hands.running.total() == 0


# ── stop against completion ──────────────────────────────────────────────────────────────────────


def races() -> list[tuple[Duration, str]]:
    """A run of one second, and what happens to it around its end, millisecond by millisecond."""
    deeds = ["cancel", "cancel and wake", "stop", "delete", "takeover", "outage"]
    return [(1000 + offset, deed) for deed in deeds for offset in range(-9, 10)]


async def strike(hall: Hall, engine: Engine, deed: str) -> None:
    execution = await hall.execution()
    match deed:
        case "cancel" | "cancel and wake":
            await hall.store.request_cancel(execution_id=execution.id, now=hall.clock.now())
            if deed == "cancel and wake":
                hall.bus.publish(Topic.CANCEL)
        case "stop":
            await engine.stop(grace=0)
        case "delete":
            await hall.store.delete_task(execution.task_id, expected_revision=None, now=hall.clock.now())
            hall.bus.publish(Topic.CANCEL)
        case "takeover":
            hall.host.gone.add(an_instance("worker-1").id)
            other = hall.engine("worker-2")
            await other.start()
            await hall.clock.advance(10)
            await other.stop(grace=0)
        case "outage":
            hall.wire.away = True
            await hall.clock.advance(40 * SECOND)
            hall.wire.away = False


@pytest.mark.parametrize("slow", [0, 3, 7])
@virtual
async def test_a_stop_and_a_completion_have_exactly_one_winner(slow: Duration) -> None:
    """Whatever meets the end of a run, and whenever: one terminal result, told by one attempt, never changed."""
    for after, deed in races():
        hall = Hall(work=lasting(1000))
        hall.wire.slow = dict.fromkeys(("settle", "renew", "claim"), slow)
        ends: list[tuple[Moment, State]] = []
        engine = await an_engine(hall, max_retries=0)

        await hall.clock.advance(after - 1)
        await strike(hall, engine, deed)
        for _ in range(12):
            await hall.clock.advance(5 * SECOND)
            execution = await hall.execution()
            if execution.state.is_ended:
                assert execution.completed_at is not None
                ends.append((execution.completed_at, execution.state))
        await engine.stop(grace=0)

        execution = await hall.execution()
        label = f"{deed} at {after} ms, {execution}"
        assert len(set(ends)) <= 1, label
        succeeded = [a for a in execution.attempts if a.outcome is AttemptOutcome.SUCCEEDED]
        assert len(succeeded) == (1 if execution.state is State.COMPLETED else 0), label
        assert execution.state is not State.RUNNING, label
        assert sum(a.completed_at is None for a in execution.attempts) == 0, label
        assert len(hall.hands.starts) <= len(execution.attempts), label
        refused = hall.watcher.told(ResultRefused)
        assert len(refused) == sum("late result" in (a.error or "") for a in execution.attempts), label


@pytest.mark.parametrize("work", [lasting(HOUR), stubborn(33 * SECOND)], ids=["obedient", "stubborn"])
@virtual
async def test_every_order_of_three_reasons_to_stop_gives_one_outcome(work: Work) -> None:
    """Timeout, cancel and shutdown within the same milliseconds: the first that arrives is the reason."""
    reasons = {AttemptOutcome.TIMED_OUT, AttemptOutcome.CANCELLED, AttemptOutcome.INTERRUPTED}
    seen: set[AttemptOutcome | None] = set()
    for cancel_at in range(-4, 5):
        for stop_at in range(-4, 5):
            hall = Hall(work=work, settings=replace(Hall.settings, lease=HOUR))
            over = hall.clock.now() + 30 * SECOND
            engine = await an_engine(hall, timeout=30 * SECOND, max_retries=0)
            id = (await hall.execution()).id

            async def cancel(hall: Hall = hall, id: ExecutionId = id, at: Moment = over + cancel_at) -> None:
                await hall.clock.advance_to(at)
                await hall.store.request_cancel(execution_id=id, now=hall.clock.now())
                hall.bus.publish(Topic.CANCEL)

            async def stop(hall: Hall = hall, engine: Engine = engine, at: Moment = over + stop_at) -> None:
                await hall.clock.advance_to(at)
                await engine.stop(grace=0)

            await asyncio.gather(cancel(), stop())

            [attempt] = (await hall.execution()).attempts
            seen.add(attempt.outcome)
            assert attempt.outcome in reasons
            assert attempt.completed_at is not None
            assert attempt.completed_at <= over + 5 + hall.settings.stop_grace
            assert engine.unsettled == 0
    assert seen == reasons
