"""Recovery by observation: who is silent for a whole lease of our own clock is lost, and nobody else is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from peregrine.domain.event import Recovered, WentAstray, WentStale
from peregrine.domain.execution import POISON_ERROR, AttemptOutcome, Claim, State
from peregrine.domain.ids import ExecutionId, WorkerId
from peregrine.domain.moment import DAY, HOUR, MINUTE, SECOND, Duration
from peregrine.domain.policy import TIMEOUT_MAX, OnWorkerLost, Overlap, Policy
from peregrine.engine.company import Company
from peregrine.engine.pool import Pool
from peregrine.engine.reaper import Reaper
from peregrine.ports.store import SettleVerdict
from peregrine.testing.builders import NOW, a_settlement, a_task, an_instance
from tests.engine.hall import Break, Ended, Hall, lasting, virtual

LEASE, BEAT = 30 * SECOND, 10 * SECOND
OLD = NOW - 2 * DAY


async def held_by_stranger(hall: Hall, **policy: Any) -> Claim:
    """``execution-1``, claimed by a worker that does nothing more."""
    task = a_task(schedule="@manual", policy=Policy(**policy), created_at=OLD, updated_at=OLD)
    await hall.store.create_tasks([task])
    await hall.queue("execution-1")
    [claim] = await hall.claim("stranger")
    return claim


def a_reaper(hall: Hall, **changes: Any) -> tuple[Reaper, Pool]:
    needs = hall.needs(**changes)
    pool = Pool(needs, on_end=Ended())
    return Reaper(needs, pool, Company.of(needs), on_recovered=lambda: None), pool


async def watch(hall: Hall, reaper: Reaper, duration: Duration) -> None:
    """Look as often as the loop would, for so long."""
    for _ in range(duration // BEAT):
        await reaper.turn()
        await hall.clock.advance(BEAT)
    await reaper.turn()


async def beat(hall: Hall, claim: Claim) -> None:
    await hall.store.renew([(claim.execution_id, claim.epoch)])


# ── who is lost ──────────────────────────────────────────────────────────────────────────────────


@virtual
async def test_a_worker_that_is_silent_for_a_lease_is_lost() -> None:
    """Its attempt is ended as lost, and the execution goes back to the queue with a new epoch."""
    hall = Hall()
    claim = await held_by_stranger(hall)
    reaper, _ = a_reaper(hall)

    await watch(hall, reaper, LEASE - BEAT)
    before = (await hall.execution()).state
    await watch(hall, reaper, BEAT)

    execution = await hall.execution()
    assert before is State.RUNNING
    assert (execution.state, execution.losses, execution.failures) == (State.QUEUED, 1, 0)
    assert execution.epoch > claim.epoch
    assert execution.attempts[0].outcome is AttemptOutcome.LOST
    assert [len(event.settlements) for event in hall.watcher.told(Recovered)] == [1]


@virtual
async def test_a_worker_that_renews_is_never_lost() -> None:
    """However slow it is, as long as it beats once a lease."""
    hall = Hall()
    claim = await held_by_stranger(hall, timeout=24 * HOUR)
    reaper, _ = a_reaper(hall)

    for _ in range(100):
        await watch(hall, reaper, 2 * BEAT)
        await beat(hall, claim)

    assert (await hall.execution()).state is State.RUNNING


@virtual
async def test_a_worker_that_renews_at_the_last_moment_keeps_its_run() -> None:
    """Between the look and the write lies a moment; the write is guarded by what was seen."""
    hall = Hall()
    claim = await held_by_stranger(hall)
    reaper, _ = a_reaper(hall)
    hall.wire.asked["settle"] = lambda _: hall.store._renew(claim.execution_id, claim.epoch)

    await watch(hall, reaper, 2 * LEASE)

    assert (await hall.execution()).state is State.RUNNING
    assert hall.watcher.told(Recovered) == []


@virtual
async def test_our_own_runs_are_not_watched() -> None:
    """They have their own keeper and their own fence."""
    hall = Hall(work=lasting(DAY))
    claim = await held_by_stranger(hall)
    reaper, pool = a_reaper(hall)
    pool.start([claim], asked_at=hall.clock.monotonic())

    await watch(hall, reaper, 3 * LEASE)

    assert (await hall.execution()).state is State.RUNNING


@virtual
async def test_two_reapers_recover_it_once() -> None:
    """The second one finds another epoch."""
    hall = Hall()
    await held_by_stranger(hall)
    one, _ = a_reaper(hall)
    two, _ = a_reaper(hall, instance=an_instance("worker-2"))

    for _ in range(6):
        await one.turn()
        await two.turn()
        await hall.clock.advance(BEAT)

    assert (await hall.execution()).losses == 1


@virtual
async def test_a_recovered_execution_is_run_again_at_once() -> None:
    """The claimer is told."""
    hall = Hall()
    await held_by_stranger(hall)
    engine = hall.engine()

    await engine.start()
    await hall.clock.advance(LEASE + 2 * BEAT)

    execution = await hall.execution()
    assert execution.state is State.COMPLETED
    assert [a.outcome for a in execution.attempts] == [AttemptOutcome.LOST, AttemptOutcome.SUCCEEDED]
    assert execution.attempts[1].started_at == execution.attempts[0].completed_at
    await engine.stop()


@virtual
async def test_the_third_lost_worker_is_poison() -> None:
    """It probably kills them; it fails with a sentence that says so."""
    hall = Hall()
    await held_by_stranger(hall, retry_interval=SECOND)
    reaper, _ = a_reaper(hall)

    for _ in range(3):
        await watch(hall, reaper, LEASE)
        await hall.clock.advance(10 * SECOND)
        await hall.claim("stranger")

    execution = await hall.execution()
    assert (execution.state, execution.error) == (State.FAILED, POISON_ERROR)
    assert len(execution.attempts) == 3


@pytest.mark.parametrize(
    ("on_worker_lost", "state"), [(OnWorkerLost.RETRY, State.QUEUED), (OnWorkerLost.FAIL, State.FAILED)], ids=str
)
@virtual
async def test_a_lost_worker_costs_what_the_task_says(on_worker_lost: OnWorkerLost, state: State) -> None:
    """At least once, or at most once."""
    hall = Hall()
    await held_by_stranger(hall, on_worker_lost=on_worker_lost)
    reaper, _ = a_reaper(hall)

    await watch(hall, reaper, LEASE)

    assert (await hall.execution()).state is state


@virtual
async def test_one_that_was_to_be_cancelled_is_cancelled_when_its_worker_is_lost() -> None:
    """Nobody wanted it any more."""
    hall = Hall()
    await held_by_stranger(hall)
    await hall.store.request_cancel(execution_id=ExecutionId("execution-1"), now=hall.clock.now())
    reaper, _ = a_reaper(hall)

    await watch(hall, reaper, LEASE)

    assert (await hall.execution()).state is State.CANCELLED


# ── whose clock ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("gap", [26 * SECOND, HOUR])
@virtual
async def test_after_a_freeze_of_ours_the_watching_starts_anew(gap: Duration) -> None:
    """Nobody is declared dead because we were away."""
    hall = Hall()
    claim = await held_by_stranger(hall)
    reaper, _ = a_reaper(hall)
    await watch(hall, reaper, 2 * BEAT)

    await hall.clock.advance(gap)
    await reaper.turn()
    frozen = (await hall.execution()).state
    await beat(hall, claim)
    await watch(hall, reaper, LEASE - BEAT)
    alive = (await hall.execution()).state
    await watch(hall, reaper, LEASE)

    assert (frozen, alive) == (State.RUNNING, State.RUNNING)
    assert (await hall.execution()).state is State.QUEUED


@virtual
async def test_after_an_outage_of_the_store_the_watching_starts_anew() -> None:
    """The others could not renew either; they are given the time to say that they live."""
    hall = Hall()
    claim = await held_by_stranger(hall)
    engine = hall.engine()
    await engine.start()
    await hall.clock.advance(LEASE - SECOND)

    hall.wire.away = True
    await hall.clock.advance(MINUTE)
    hall.wire.away = False
    await hall.clock.advance(LEASE - SECOND)
    alive = (await hall.execution()).state
    await beat(hall, claim)
    await hall.clock.advance(LEASE - SECOND)

    assert alive is State.RUNNING
    assert (await hall.execution()).state is State.RUNNING
    await engine.stop()


@pytest.mark.parametrize("by", [HOUR, -HOUR, 10 * DAY])
@virtual
async def test_a_wall_clock_that_jumps_kills_nobody(by: Duration) -> None:
    """Leases are judged by the steady clock alone."""
    hall = Hall()
    claim = await held_by_stranger(hall)
    reaper, _ = a_reaper(hall)
    await watch(hall, reaper, BEAT)

    hall.clock.step(by)
    await watch(hall, reaper, BEAT)
    await beat(hall, claim)
    await watch(hall, reaper, 2 * BEAT)

    assert (await hall.execution()).state is State.RUNNING


# ── processes of this machine ────────────────────────────────────────────────────────────────────


@virtual
async def test_a_process_that_is_gone_for_certain_needs_no_watching() -> None:
    """The next look recovers what it held, and takes its row away."""
    hall = Hall()
    await held_by_stranger(hall)
    await hall.store.announce(an_instance("stranger"), now=NOW)
    reaper, _ = a_reaper(hall)
    await reaper.turn()
    before = (await hall.execution()).state

    hall.host.gone.add(WorkerId("stranger"))
    await reaper.turn()

    assert before is State.RUNNING
    assert (await hall.execution()).state is State.QUEUED
    assert [instance.id for instance, _, _ in await hall.store.instances()] == ["worker-1"]


@virtual
async def test_a_row_is_not_taken_away_before_its_work_is_recovered() -> None:
    """If the recovery fails, the next look finds the process gone once more."""
    hall = Hall()
    await held_by_stranger(hall)
    await hall.store.announce(an_instance("stranger"), now=NOW)
    hall.host.gone.add(WorkerId("stranger"))
    hall.wire.breaks("settle", Break.BEFORE)
    engine = hall.engine()

    await engine.start()
    await hall.clock.advance(SECOND)

    assert (await hall.execution()).state is State.COMPLETED
    await engine.stop()


@virtual
async def test_a_stranger_that_says_nothing_of_itself_is_shown_no_more() -> None:
    """After ten leases; nobody asks whether its host is still there."""
    hall = Hall()
    await hall.store.announce(an_instance("stranger"), now=NOW)
    reaper, _ = a_reaper(hall)

    await watch(hall, reaper, 10 * LEASE)
    before = len(await hall.store.instances())
    await watch(hall, reaper, BEAT)

    assert (before, len(await hall.store.instances())) == (2, 1)


@virtual
async def test_one_that_says_nothing_of_itself_but_renews_its_runs_keeps_them() -> None:
    """Its reaper may hang while its keeper works: only the beat of a run says whether that run is lost."""
    hall = Hall()
    claim = await held_by_stranger(hall, timeout=24 * HOUR)
    await hall.store.announce(an_instance("stranger"), now=NOW)
    reaper, _ = a_reaper(hall)

    for _ in range(50):
        await watch(hall, reaper, BEAT)
        await beat(hall, claim)

    execution = await hall.execution()
    assert (execution.state, execution.losses) == (State.RUNNING, 0)


# ── one that renews and does not end ─────────────────────────────────────────────────────────────


@virtual
async def test_a_run_that_is_renewed_far_beyond_its_timeout_is_lost() -> None:
    """Its worker beats but does not keep the task's own time: it is broken."""
    hall = Hall()
    claim = await held_by_stranger(hall, timeout=MINUTE)
    reaper, _ = a_reaper(hall)

    for _ in range(12):
        await watch(hall, reaper, BEAT)
        await beat(hall, claim)

    assert (await hall.execution()).state is State.QUEUED


@virtual
async def test_a_run_whose_timeout_was_made_shorter_meanwhile_is_left_alone() -> None:
    """It keeps to the definition it was claimed with, which allowed it longer."""
    hall = Hall()
    claim = await held_by_stranger(hall, timeout=2 * HOUR)
    reaper, _ = a_reaper(hall)
    await watch(hall, reaper, BEAT)
    await hall.change(policy=Policy(timeout=MINUTE))

    for _ in range(60):
        await watch(hall, reaper, BEAT)
        await beat(hall, claim)

    assert (await hall.execution()).state is State.RUNNING


@virtual
async def test_even_then_there_is_an_end() -> None:
    """No attempt may take longer than the longest timeout."""
    hall = Hall()
    claim = await held_by_stranger(hall, timeout=2 * HOUR)
    await hall.change(policy=Policy(timeout=MINUTE))
    reaper, _ = a_reaper(hall, settings=replace(hall.settings, lease=HOUR, heartbeat=HOUR))

    for _ in range((TIMEOUT_MAX + 3 * HOUR) // (HOUR // 3)):
        await reaper.turn()
        await hall.clock.advance(HOUR // 3)
        await beat(hall, claim)

    assert (await hall.execution()).state is State.QUEUED


# ── what is shown ────────────────────────────────────────────────────────────────────────────────


@virtual
async def test_what_runs_longer_than_the_stale_timeout_is_shown_and_told_once() -> None:
    """It goes on running; somebody should look."""
    hall = Hall(settings=replace(Hall.settings, stale_after=MINUTE))
    claim = await held_by_stranger(hall, timeout=24 * HOUR)
    reaper, _ = a_reaper(hall)

    for _ in range(12):
        await watch(hall, reaper, BEAT)
        await beat(hall, claim)

    assert [row.execution_id for row in reaper.stale] == ["execution-1"]
    assert [event.execution_id for event in hall.watcher.told(WentStale)] == ["execution-1"]
    assert (await hall.execution()).state is State.RUNNING


@virtual
async def test_a_stale_one_whose_worker_is_lost_is_recovered_and_shown_no_more() -> None:
    """Stale is how it looks, lost is what it is."""
    hall = Hall(settings=replace(Hall.settings, stale_after=SECOND))
    await held_by_stranger(hall)
    reaper, _ = a_reaper(hall)

    await watch(hall, reaper, LEASE)
    await reaper.turn()

    assert reaper.stale == ()
    assert (await hall.execution()).state is State.QUEUED


@pytest.mark.parametrize(("skew", "shown"), [(0, 0), (20 * SECOND, 20 * SECOND), (-20 * SECOND, 20 * SECOND)])
@virtual
async def test_the_difference_of_another_instances_clock_is_measured(skew: Duration, shown: Duration) -> None:
    """Within the time between two looks; and kept while the other one is silent for a moment."""
    hall = Hall()
    reaper, _ = a_reaper(hall)
    for _ in range(3):
        await hall.store.announce(an_instance("stranger"), now=hall.clock.now() + skew)
        await reaper.turn()
        await hall.clock.advance(BEAT)

    measured = reaper.clock_skew
    await reaper.turn()

    assert shown - BEAT <= measured <= shown
    assert reaper.clock_skew == measured


@virtual
async def test_a_neighbour_that_has_left_skews_nothing() -> None:
    """Only who is there is compared."""
    hall = Hall()
    reaper, _ = a_reaper(hall)
    for _ in range(3):
        await hall.store.announce(an_instance("stranger"), now=hall.clock.now() + HOUR)
        await reaper.turn()
    await hall.store.retire([WorkerId("stranger")])

    await reaper.turn()

    assert reaper.clock_skew == 0


@virtual
async def test_a_late_result_of_a_lost_worker_is_refused() -> None:
    """Whoever comes back after it was recovered finds that it has no right any more."""
    hall = Hall()
    claim = await held_by_stranger(hall, overlap=Overlap.ALLOW)
    reaper, _ = a_reaper(hall)
    await watch(hall, reaper, LEASE)

    [verdict] = await hall.store.settle([a_settlement(claim, at=hall.clock.now())])

    assert verdict is SettleVerdict.STALE
    assert (await hall.execution()).state is State.QUEUED


class Reference:
    """Another clock to hold ours against."""

    def __init__(self, deviation: Duration | None) -> None:
        self.deviation = deviation


async def beside(hall: Hall, reaper: Reaper, *, ahead: Duration, looks: int = 3) -> None:
    """Look again and again, while a neighbour whose clock is *ahead* of ours announces itself in between."""
    for _ in range(looks):
        await hall.store.announce(an_instance("neighbour", slots=7), now=hall.clock.now() + ahead)
        await reaper.turn()
        await hall.clock.advance(BEAT)


@pytest.mark.parametrize("ahead", [MINUTE, -MINUTE])
@virtual
async def test_a_clock_that_the_reference_and_a_neighbour_contradict_is_wrong(ahead: Duration) -> None:
    hall = Hall()
    reaper, _ = a_reaper(hall, reference=Reference(-ahead))

    await beside(hall, reaper, ahead=ahead)

    assert reaper.astray_by == -ahead
    assert [event.by for event in hall.watcher.told(WentAstray)] == [-ahead]
    assert reaper.clock_skew == MINUTE


@pytest.mark.parametrize(
    ("deviation", "ahead"),
    [(None, MINUTE), (0, MINUTE), (MINUTE, 0), (MINUTE, MINUTE), (4 * SECOND, -4 * SECOND)],
    ids=["no reference", "the neighbour is wrong", "the reference is wrong", "both are, apart", "hardly"],
)
@virtual
async def test_a_clock_is_not_called_wrong_by_one_alone(deviation: Duration | None, ahead: Duration) -> None:
    hall = Hall()
    reaper, _ = a_reaper(hall, reference=Reference(deviation))

    await beside(hall, reaper, ahead=ahead)

    assert reaper.astray_by == 0
    assert hall.watcher.told(WentAstray) == []


@virtual
async def test_a_clock_that_is_set_right_is_trusted_again() -> None:
    hall = Hall()
    reference = Reference(MINUTE)
    reaper, _ = a_reaper(hall, reference=reference)
    await beside(hall, reaper, ahead=-MINUTE)
    assert reaper.astray_by == MINUTE

    reference.deviation = 0
    hall.clock.step(-MINUTE)
    await beside(hall, reaper, ahead=0)

    assert reaper.astray_by == 0


@virtual
async def test_a_wrong_clock_makes_no_occurrences_but_works() -> None:
    hall = Hall(work=lasting(SECOND))
    reference = Reference(MINUTE)
    await hall.store.create_tasks([a_task(schedule="* * * * * *", policy=Policy(overlap=Overlap.ALLOW))])
    engine = hall.engine(reference=reference)
    await hall.store.announce(an_instance("neighbour"), now=hall.clock.now() - MINUTE)
    await engine.start()
    await hall.clock.advance(BEAT)
    await hall.store.announce(an_instance("neighbour"), now=hall.clock.now() - MINUTE)
    await hall.clock.advance(BEAT + SECOND)
    made = len(await hall.ledger())
    await hall.queue("by-hand")

    await hall.clock.advance(5 * SECOND)

    assert engine.facts().is_astray
    assert len(await hall.ledger()) == made
    assert (await hall.execution("by-hand")).state is State.COMPLETED
    await engine.stop()


@virtual
async def test_the_others_are_counted_while_they_live() -> None:
    hall = Hall()
    needs = hall.needs()
    company = Company.of(needs)
    reaper = Reaper(needs, Pool(needs, on_end=Ended()), company, on_recovered=lambda: None)

    await beside(hall, reaper, ahead=0)
    assert (company.spread.rivals, company.spread.rival_slots) == (1, 7)

    await watch(hall, reaper, 2 * LEASE)
    assert (company.spread.rivals, company.spread.rival_slots) == (0, 0)
