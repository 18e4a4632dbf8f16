"""What a schedule promises: every moment gets exactly one verdict. It ran, or the ledger says why it did not."""

from __future__ import annotations

from peregrine.domain.moment import HOUR, MINUTE, SECOND, parse_moment
from peregrine.domain.occurrence import Reason, Verdict
from peregrine.domain.policy import Overlap, Policy
from peregrine.domain.task import Pause
from peregrine.testing.builders import NOW, a_task
from tests.engine.hall import Hall, lasting, virtual

ONE_O_CLOCK = parse_moment("2026-01-01T13:00:00Z")


@virtual
async def test_a_task_runs_at_its_moment() -> None:
    """Not before, and not a second after."""
    hall = Hall()
    await hall.store.create_tasks([a_task("report", schedule="0 0 13 * * *", timezone="UTC")])

    async with hall.open():
        await hall.clock.advance_to(ONE_O_CLOCK - 1)
        assert hall.hands.starts == []

        await hall.clock.advance_to(ONE_O_CLOCK + SECOND)

    [start] = hall.hands.starts
    assert start.claim.scheduled_for == ONE_O_CLOCK
    assert start.at == ONE_O_CLOCK


@virtual
async def test_a_moment_that_was_missed_is_recorded() -> None:
    """The service was down for an hour: the newest moment runs in the place of all, the others are in the ledger."""
    hall = Hall()
    await hall.store.create_tasks([a_task("report", schedule="0 */10 * * * *")])

    await hall.clock.advance(HOUR)  # nobody is there
    async with hall.open():
        await hall.clock.advance(SECOND)

    missed, ran = await hall.ledger("report")
    assert (missed.verdict, missed.reason, missed.count) == (Verdict.MISSED, Reason.COALESCED, 5)
    assert (missed.scheduled_for, missed.last) == (NOW + 10 * MINUTE, NOW + 50 * MINUTE)
    assert (ran.verdict, ran.scheduled_for) == (Verdict.RAN, NOW + HOUR)


@virtual
async def test_a_task_does_not_overlap_itself() -> None:
    """The work takes longer than the interval: the moment in between is skipped, and that is recorded."""
    hall = Hall(work=lasting(90 * SECOND))
    await hall.store.create_tasks([a_task("report", schedule="0 * * * * *", policy=Policy(overlap=Overlap.SKIP))])

    async with hall.open():
        await hall.clock.advance(3 * MINUTE + SECOND)

    first, second, third = await hall.ledger("report")
    assert [first.verdict, second.verdict, third.verdict] == [Verdict.RAN, Verdict.SKIPPED, Verdict.RAN]
    assert second.reason is Reason.OVERLAP
    assert hall.hands.most_at_once == 1


@virtual
async def test_a_paused_task_starts_nothing_and_loses_nothing() -> None:
    """A pause is a wish of people; what falls into it is in the ledger with that reason."""
    hall = Hall()
    pause = Pause(since=NOW, by="alice", reason="maintenance", until=NOW + 3 * MINUTE)
    await hall.store.create_tasks([a_task("report", schedule="0 * * * * *", pause=pause)])

    async with hall.open():
        await hall.clock.advance(3 * MINUTE + SECOND)

    skipped, ran = await hall.ledger("report")
    assert (skipped.verdict, skipped.reason, skipped.count) == (Verdict.SKIPPED, Reason.PAUSED, 2)
    assert (ran.verdict, ran.scheduled_for) == (Verdict.RAN, NOW + 3 * MINUTE)
