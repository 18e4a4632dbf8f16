"""What runs say can be read while they say it, and with the execution afterwards; there is no moment between."""

from __future__ import annotations

from peregrine.domain.execution import Outcome, State
from peregrine.domain.ids import ExecutionId
from peregrine.domain.journal import CHARS_MAX, LINES_MAX, Progress, Said, said_in
from peregrine.domain.moment import MINUTE, SECOND
from peregrine.domain.policy import Policy
from peregrine.ports.executor import RunContext
from peregrine.testing.builders import NOW, a_task
from tests.engine.hall import Hall, moments, virtual

ID = ExecutionId("execution-1")


async def talking(context: RunContext) -> Outcome:
    """Says a line a second, for five seconds."""
    for number in range(1, 6):
        context.log(f"line {number}")
        context.progress(number / 5, f"{number} of 5")
        await moments(SECOND)
    return Outcome.succeeded("done")


async def started(hall: Hall, **policy: object) -> None:
    await hall.store.create_tasks([a_task(policy=Policy(**policy))])  # type: ignore[arg-type]
    await hall.queue(ID)


@virtual
async def test_lines_are_there_as_soon_as_they_are_said() -> None:
    hall = Hall(work=talking)
    await started(hall)
    engine = hall.engine()
    await engine.start()

    await moments(2500)

    said = engine.journal.read(ID)
    assert said is not None
    assert [(line.number, line.at, line.text) for line in said.lines] == [
        (number, NOW + (number - 1) * SECOND, f"line {number}") for number in (1, 2, 3)
    ]
    assert (said.attempt, said.epoch, said.progress) == (1, 1, Progress(0.6, "3 of 5"))
    assert engine.journal.read(ExecutionId("another")) is None
    await engine.stop()


@virtual
async def test_after_the_end_they_are_kept_with_the_execution_and_nowhere_else() -> None:
    hall = Hall(work=talking)
    await started(hall)
    engine = hall.engine()
    await engine.start()

    await moments(10 * SECOND)

    execution = await hall.execution(ID)
    said = said_in(execution.detail, attempt=1, epoch=1)
    assert execution.state is State.COMPLETED
    assert [line.text for line in said.lines] == [f"line {number}" for number in range(1, 6)]
    assert [line.at for line in said.lines] == [NOW + second * SECOND for second in range(5)]
    assert said.progress == Progress(1.0, "5 of 5")
    assert engine.journal.read(ID) is None
    await engine.stop()


@virtual
async def test_until_the_store_has_them_they_are_read_here() -> None:
    """The store is away when the run ends: what it said is still with us."""
    hall = Hall(work=talking)
    await started(hall)
    engine = hall.engine()
    await engine.start()
    await moments(2 * SECOND)
    settle, hall.store.settle = hall.store.settle, _away  # type: ignore[method-assign, assignment]

    await moments(8 * SECOND)

    said = engine.journal.read(ID)
    assert said is not None
    assert len(said.lines) == 5
    hall.store.settle = settle  # type: ignore[method-assign]
    await moments(MINUTE)
    assert engine.journal.read(ID) is None
    assert "log" in (await hall.execution(ID)).detail
    await engine.stop()


async def _away(settlements: object) -> object:
    raise ConnectionError("away")


@virtual
async def test_what_is_too_much_makes_the_oldest_go_and_numbers_go_on() -> None:
    async def chatty(context: RunContext) -> Outcome:
        for number in range(1, 1001):
            context.log(f"line {number}")
        await moments(SECOND)
        context.log("x" * 9999)
        for _ in range(LINES_MAX):
            context.log("y" * 2000)
        await moments(SECOND)
        return Outcome.succeeded()

    hall = Hall(work=chatty)
    await started(hall)
    engine = hall.engine()
    await engine.start()

    await moments(500)
    first = engine.journal.read(ID)
    await moments(SECOND)
    second = engine.journal.read(ID)

    assert first is not None
    assert [line.number for line in first.lines] == list(range(801, 1001))
    assert second is not None
    assert sum(len(line.text) for line in second.lines) <= CHARS_MAX
    assert second.lines[-1].number == 1000 + 1 + LINES_MAX
    await moments(10 * SECOND)
    kept = said_in((await hall.execution(ID)).detail, attempt=1, epoch=1)
    assert kept.lines == second.lines
    await engine.stop()


@virtual
async def test_who_watches_is_woken_by_the_start_each_word_and_the_end() -> None:
    hall = Hall(work=talking)
    await started(hall)
    engine = hall.engine()
    woken: list[Said | None] = []
    stop = engine.journal.watch(ID, lambda: woken.append(engine.journal.read(ID)))
    engine.journal.watch(ExecutionId("another"), lambda: woken.append(None))
    await engine.start()

    await moments(10 * SECOND)

    counts = [None if said is None else len(said.lines) for said in woken]
    assert counts == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, None]
    stop()
    stop()
    woken.clear()
    await hall.queue("execution-2")
    await engine.stop()
    assert woken == [None], "whoever still watches is told that nothing runs here any more"


@virtual
async def test_every_attempt_has_its_own_numbers_and_the_newest_one_is_read() -> None:
    async def failing(context: RunContext) -> Outcome:
        context.log(f"attempt {context.claim.attempt}")
        await moments(SECOND)
        return Outcome.failed("no") if context.claim.attempt == 1 else Outcome.succeeded()

    hall = Hall(work=failing)
    await started(hall, max_retries=1, retry_interval=SECOND)
    engine = hall.engine()
    epochs = set()
    engine.journal.watch(ID, lambda: epochs.add(getattr(engine.journal.read(ID), "epoch", None)))
    await engine.start()

    await moments(MINUTE)

    kept = said_in((await hall.execution(ID)).detail, attempt=2, epoch=3)
    assert [(line.number, line.text) for line in kept.lines] == [(1, "attempt 2")]
    assert len(epochs) == 3
    await engine.stop()


@virtual
async def test_an_abandoned_run_is_not_heard_any_more() -> None:
    async def stubborn(context: RunContext) -> Outcome:
        while True:
            try:
                await moments(SECOND)
            except BaseException:
                context.log("I go on")
            context.log("still here")
            if len(lines) > 100:
                return Outcome.succeeded()
            lines.append("x")

    lines: list[str] = []
    hall = Hall(work=stubborn)
    await started(hall, timeout=2 * SECOND, max_retries=0)
    engine = hall.engine()
    await engine.start()

    await moments(MINUTE)

    execution = await hall.execution(ID)
    kept = said_in(execution.detail, attempt=1, epoch=1)
    assert execution.detail["abandoned"] is True
    assert len(kept.lines) < 10
    await moments(2 * MINUTE)
    assert (await hall.execution(ID)).detail == execution.detail
    await engine.stop()
