"""Slots: every run from its claim until its settlement is stored, and none that keeps its slot for ever."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from peregrine.domain.event import AttemptAbandoned, LoopCrashed
from peregrine.domain.execution import AttemptOutcome, Claim, Outcome, State
from peregrine.domain.ids import ExecutionId
from peregrine.domain.moment import HOUR, MINUTE, SECOND
from peregrine.domain.planning import AHEAD
from peregrine.domain.policy import Overlap, Policy
from peregrine.domain.retry import settle
from peregrine.engine.pool import Pool
from peregrine.engine.run import Ending
from peregrine.testing.builders import a_claim_request, a_task
from tests.engine.hall import Ended, Hall, Work, done, lasting, raising, saying, stubborn, virtual

LONG_LEASE = replace(Hall.settings, lease=10 * MINUTE)


async def claims(hall: Hall, count: int, **policy: Any) -> list[Claim]:
    policy = {"overlap": Overlap.ALLOW} | policy
    await hall.store.create_tasks([a_task(schedule="@manual", policy=Policy(**policy))])
    await hall.queue(*(f"execution-{n}" for n in range(count)))
    return list(await hall.claim())


def a_pool(hall: Hall) -> tuple[Pool, Ended]:
    ended = Ended()
    return Pool(hall.needs(), on_end=ended), ended


@virtual
async def test_a_run_holds_its_slot_while_it_runs_and_its_place_until_it_is_stored() -> None:
    """The slot is free when the work ends; the lease is renewed until the outcome is written."""
    hall = Hall(work=lasting(SECOND))
    pool, ended = a_pool(hall)
    [claim] = await claims(hall, 1)

    pool.start([claim], asked_at=hall.clock.monotonic())
    running = (pool.active, pool.free, len(pool.runs()))
    await hall.clock.advance(2 * SECOND)
    unsettled = (pool.active, pool.free, len(pool.runs()))
    pool.forget(ended.outcomes[0][0])

    assert running == (1, 3, 1)
    assert unsettled == (0, 4, 1)
    assert (pool.active, pool.free, len(pool.runs())) == (0, 4, 0)


@virtual
async def test_many_outcomes_that_wait_to_be_stored_leave_fewer_slots_free() -> None:
    """While the store is away nothing piles up without end."""
    hall = Hall(work=done())
    pool, _ = a_pool(hall)

    pool.start(await claims(hall, 6), asked_at=hall.clock.monotonic())
    await hall.clock.advance(SECOND)

    assert (pool.active, len(pool.runs()), pool.free) == (0, 6, 2)


GARBAGE = Outcome(verdict=AttemptOutcome.FAILED, detail=None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "work",
    [
        pytest.param(done(), id="succeeds"),
        pytest.param(raising(ValueError("x")), id="raises"),
        pytest.param(raising(SystemExit(1)), id="leaves the program"),
        pytest.param(raising(KeyboardInterrupt()), id="interrupts the program"),
        pytest.param(raising(asyncio.CancelledError()), id="cancels itself"),
        pytest.param(saying(None), id="gives nothing"),
        pytest.param(saying(GARBAGE), id="gives garbage"),
        pytest.param(stubborn(5 * MINUTE), id="does not stop when its time is over"),
    ],
)
@virtual
async def test_whatever_an_executor_does_its_slot_comes_free(work: Work) -> None:
    """A slot that leaks is a worker less, for ever."""
    hall = Hall(work=work, settings=LONG_LEASE)
    pool, ended = a_pool(hall)

    pool.start(await claims(hall, 3, timeout=MINUTE), asked_at=hall.clock.monotonic())
    await hall.clock.advance(2 * MINUTE)

    assert pool.active == 0
    assert len(ended.outcomes) == 3


@virtual
async def test_an_abandoned_run_frees_its_slot_and_is_told() -> None:
    """One that does not stop when told must not keep others waiting."""
    hall = Hall(work=stubborn(10 * MINUTE), settings=LONG_LEASE)
    pool, ended = a_pool(hall)
    pool.start(await claims(hall, 1, timeout=MINUTE), asked_at=hall.clock.monotonic())

    await hall.clock.advance(MINUTE + hall.settings.stop_grace + 1)

    assert pool.active == 0
    assert ended.outcome.verdict is AttemptOutcome.TIMED_OUT
    assert len(hall.watcher.told(AttemptAbandoned)) == 1


@virtual
async def test_what_an_abandoned_run_says_later_is_dropped() -> None:
    """Its outcome is given; there is no second one."""
    hall = Hall(work=stubborn(5 * MINUTE), settings=LONG_LEASE)
    pool, ended = a_pool(hall)
    pool.start(await claims(hall, 1, timeout=MINUTE), asked_at=hall.clock.monotonic())

    await hall.clock.advance(10 * MINUTE)

    assert len(ended.outcomes) == 1
    assert pool.active == 0


@virtual
async def test_a_lease_counts_from_before_the_asking() -> None:
    """The answer may have been under way for long; others count from the moment at which it was written."""
    hall = Hall(work=lasting(MINUTE))
    pool, _ = a_pool(hall)
    asked_at = hall.clock.monotonic()
    [claim] = await claims(hall, 1)
    await hall.clock.advance(5 * SECOND)

    pool.start([claim], asked_at=asked_at)

    assert pool.runs()[0].fence_at == asked_at + hall.settings.lease - hall.settings.margin
    pool.end_all(Ending.INTERRUPTED)


@virtual
async def test_a_closed_pool_gives_claims_back_unstarted() -> None:
    """A claim that was under way when the service was told to stop goes to another worker, whatever its policy."""
    hall = Hall()
    pool, ended = a_pool(hall)

    pool.close()
    pool.start(await claims(hall, 1), asked_at=hall.clock.monotonic())
    await hall.clock.advance(SECOND)

    assert hall.hands.starts == []
    assert (ended.outcome.verdict, ended.outcome.began) == (AttemptOutcome.INTERRUPTED, False)
    assert pool.free == 0


@virtual
async def test_a_pool_that_was_opened_again_starts_claims() -> None:
    """A host may stop and start its engine."""
    hall = Hall()
    pool, ended = a_pool(hall)

    pool.close()
    pool.open()
    pool.start(await claims(hall, 1), asked_at=hall.clock.monotonic())
    await hall.clock.advance(SECOND)

    assert ended.outcome.verdict is AttemptOutcome.SUCCEEDED


@virtual
async def test_two_attempts_of_one_execution_are_two_runs() -> None:
    """The next attempt may come to the same worker before the settlement of the last one is answered."""
    hall = Hall(work=lasting(MINUTE))
    pool, _ = a_pool(hall)
    [claim] = await claims(hall, 1)

    pool.start([claim, replace(claim, epoch=claim.epoch + 2, attempt=2)], asked_at=hall.clock.monotonic())

    assert pool.holds((claim.execution_id, claim.epoch))
    assert pool.holds((claim.execution_id, claim.epoch + 2))
    assert not pool.holds((claim.execution_id, claim.epoch + 1))
    pool.end_all(Ending.INTERRUPTED)


@virtual
async def test_idle_is_when_nothing_runs() -> None:
    """A shutdown waits for it."""
    hall = Hall(work=lasting(3 * SECOND))
    pool, _ = a_pool(hall)
    await pool.idle()
    pool.start(await claims(hall, 2), asked_at=hall.clock.monotonic())
    began = hall.clock.monotonic()

    await pool.idle()

    assert hall.clock.monotonic() - began == 3 * SECOND


@virtual
async def test_a_reader_of_the_journal_that_raises_harms_nobody() -> None:
    """Runs begin and outcomes are stored, whoever watches."""
    hall = Hall()
    engine = hall.engine()
    await hall.store.create_tasks([a_task(schedule="@manual")])
    await hall.queue("execution-1")

    def broken() -> None:
        raise RuntimeError("broken reader")

    engine.journal.watch(ExecutionId("execution-1"), broken)
    await engine.start()
    await hall.clock.advance(SECOND)

    assert (await hall.execution()).state is State.COMPLETED
    assert hall.watcher.told(LoopCrashed) == []
    await engine.stop()


# ── before the moment ────────────────────────────────────────────────────────────────────────────


async def early_claim(hall: Hall, wait: int = 50) -> Claim:
    """A claim made so long before its moment."""
    await hall.store.create_tasks([a_task(schedule="@manual", policy=Policy(timeout=SECOND))])
    await hall.queue("execution-1", available_at=hall.clock.now() + wait)
    request = a_claim_request(now=hall.clock.now(), early=1, early_until=hall.clock.now() + wait)
    [claim] = (await hall.store.claim(request)).claims
    return claim


@virtual
async def test_a_run_claimed_early_has_its_slot_and_begins_at_its_moment() -> None:
    """Its time is counted from then."""
    hall = Hall(work=lasting(MINUTE))
    pool, ended = a_pool(hall)

    pool.start([await early_claim(hall)], asked_at=hall.clock.monotonic())
    await hall.clock.advance(49)
    before = (pool.active, hall.hands.order)
    await hall.clock.advance(1)
    began = list(hall.hands.order)
    await hall.clock.advance(SECOND - 1)
    running = pool.active
    await hall.clock.advance(2)

    assert before == (1, [])
    assert began == ["execution-1"]
    assert running == 1
    assert ended.outcome.verdict is AttemptOutcome.TIMED_OUT


@virtual
async def test_a_pool_that_closes_gives_back_what_has_not_begun() -> None:
    """It begins elsewhere, at the moment for which it was queued."""
    hall = Hall()
    pool, ended = a_pool(hall)
    claim = await early_claim(hall)
    pool.start([claim], asked_at=hall.clock.monotonic())

    pool.close()
    await hall.clock.advance(SECOND)

    assert hall.hands.order == []
    assert (ended.outcome.verdict, ended.outcome.began) == (AttemptOutcome.INTERRUPTED, False)
    assert settle(claim, ended.outcome, hall.clock.now() - SECOND, 0.5).available_at == claim.available_at


@pytest.mark.parametrize("ending", [Ending.CANCELLED, Ending.FENCED])
@virtual
async def test_a_run_that_is_ended_before_its_moment_never_begins(ending: Ending) -> None:
    hall = Hall()
    pool, ended = a_pool(hall)
    pool.start([await early_claim(hall)], asked_at=hall.clock.monotonic())
    [run] = pool.runs()

    run.end(ending)
    await hall.clock.advance(SECOND)

    assert hall.hands.order == []
    assert len(ended.outcomes) == 1


@virtual
async def test_a_lease_that_ends_before_the_moment_is_not_run_into() -> None:
    """The machine slept in between, and others may be at it."""
    hall = Hall()
    pool, _ = a_pool(hall)
    pool.start([await early_claim(hall)], asked_at=hall.clock.monotonic() - hall.settings.held + 40)

    await hall.clock.advance(SECOND)

    assert hall.hands.order == []
    assert pool.runs()[0].ending is Ending.LEASE_ENDED


@pytest.mark.parametrize(("step", "begins"), [(-HOUR, 51), (HOUR, 50), (-20, 51), (20, 50), (0, 50)])
@virtual
async def test_a_clock_that_is_stepped_keeps_no_early_run_waiting(step: int, begins: int) -> None:
    """It begins when it was to begin, by the steady clock then."""
    hall = Hall()
    pool, _ = a_pool(hall)
    pool.start([await early_claim(hall)], asked_at=hall.clock.monotonic())
    began = hall.clock.monotonic()

    hall.clock.step(step)
    while not hall.hands.order:
        await hall.clock.advance(1)

    assert hall.clock.monotonic() - began == begins


@virtual
async def test_a_clock_set_back_while_the_claim_was_answered_keeps_nothing_waiting() -> None:
    """What was claimed by the old time seems to be of the future now; no early claim is of one so far ahead."""
    hall = Hall()
    pool, _ = a_pool(hall)
    [claim] = await claims(hall, 1)

    hall.clock.step(-HOUR)
    pool.start([claim], asked_at=hall.clock.monotonic())
    await hall.clock.advance(AHEAD + 2)

    assert hall.hands.order == ["execution-0"]


@virtual
async def test_a_lease_that_ends_between_the_start_and_the_first_step_is_not_run_into() -> None:
    """Others have it by then; nothing of it has happened here."""
    hall = Hall()
    pool, ended = a_pool(hall)
    pool.start(await claims(hall, 1), asked_at=hall.clock.monotonic())
    [run] = pool.runs()

    run.fence_at = hall.clock.monotonic()
    await hall.clock.advance(1)

    assert hall.hands.order == []
    assert (run.ending, ended.outcome.verdict, ended.outcome.began) == (
        Ending.LEASE_ENDED,
        AttemptOutcome.INTERRUPTED,
        False,
    )
