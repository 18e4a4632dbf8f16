"""One attempt: whatever the executor does, and whoever tells it to stop, there is one outcome, and it can be stored."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from peregrine.domain.execution import CANCELLED_ERROR, AttemptOutcome, Claim, Outcome
from peregrine.domain.moment import HOUR, MINUTE, SECOND
from peregrine.domain.payload import JsonObject
from peregrine.domain.policy import Policy
from peregrine.engine.belief import OUTPUT_MAX
from peregrine.engine.pool import Pool
from peregrine.engine.run import Ending, Run
from peregrine.ports.executor import Executor, RunContext
from peregrine.testing.builders import a_task
from peregrine.testing.clock import ManualClock
from tests.engine.hall import Ended, Hall, Work, lasting, moments, raising, saying, stubborn, virtual

PATIENT = replace(Hall.settings, lease=HOUR)
STOP_GRACE = PATIENT.stop_grace


class Broken(BaseException):
    """Neither an error nor a way to leave the program."""


class Unspeakable(Exception):
    """Raises when it is asked what it says."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class Mapping(dict[str, Any]):
    """A mapping that looks like one."""


def begun(claim: Claim, hall: Hall, ended: Ended, *, asked_at: int | None = None) -> Run:
    """The run of *claim*, which a pool has started."""
    pool = Pool(hall.needs(), on_end=ended)
    pool.start([claim], asked_at=hall.clock.monotonic() if asked_at is None else asked_at)
    [run] = pool.runs()
    return run


async def a_claim(hall: Hall, **policy: Any) -> Claim:
    await hall.store.create_tasks([a_task(policy=Policy(**policy))])
    await hall.queue("execution-1")
    [claim] = await hall.claim()
    return claim


async def a_run(work: Work, ended: Ended, **policy: Any) -> Run:
    """A run of *work* that has been started."""
    hall = Hall(work=work, settings=PATIENT)
    return begun(await a_claim(hall, **policy), hall, ended)


async def outcome_of(work: Work) -> Outcome:
    ended = Ended()
    await a_run(work, ended)
    await moments(10 * SECOND)
    return ended.outcome


# ── what an executor may say ─────────────────────────────────────────────────────────────────────


@virtual
async def test_an_outcome_is_kept_as_the_executor_said_it() -> None:
    """Verdict, texts, detail and wishes of a well-behaved executor come through unchanged."""
    said = Outcome(
        verdict=AttemptOutcome.FAILED,
        output="half of it",
        error="status 503",
        truncated=True,
        detail={"status": 503, "headers": {"a": ["b"]}, "ok": False, "none": None, "share": 0.5},
        retryable=False,
        retry_after=7 * SECOND,
    )

    assert await outcome_of(saying(said)) == said


@pytest.mark.parametrize("garbage", [None, "done", 42, True, {"verdict": "succeeded"}, AttemptOutcome.SUCCEEDED])
@virtual
async def test_what_is_no_outcome_is_a_failure(garbage: object) -> None:
    """An executor that gives back something else has a bug; the attempt fails, and its slot comes free."""
    outcome = await outcome_of(saying(garbage))

    assert outcome.verdict is AttemptOutcome.FAILED
    assert outcome.error == f"the executor gave {type(garbage).__name__} instead of an outcome"


@pytest.mark.parametrize(
    "verdict",
    [AttemptOutcome.LOST, AttemptOutcome.FENCED, AttemptOutcome.INTERRUPTED, AttemptOutcome.CANCELLED, "glorious"],
)
@virtual
async def test_a_verdict_that_is_ours_to_give_is_not_believed(verdict: Any) -> None:
    """Else a task could end as cancelled that nobody cancelled, or come back for ever without being counted."""
    outcome = await outcome_of(saying(Outcome(verdict=verdict, output="kept")))

    assert outcome.verdict is AttemptOutcome.FAILED
    assert outcome.error == f"the executor said {str(verdict)!r}, which is not its to say"
    assert outcome.output == "kept"


@virtual
async def test_an_executor_may_say_that_it_timed_out() -> None:
    """A request has a timeout of its own, shorter than the task's."""
    outcome = await outcome_of(saying(Outcome(verdict=AttemptOutcome.TIMED_OUT, error="no answer")))

    assert (outcome.verdict, outcome.error) == (AttemptOutcome.TIMED_OUT, "no answer")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({"output": None}, {"output": "(a NoneType that is no text)"}, id="output is nothing"),
        pytest.param({"output": b"x"}, {"output": "(a bytes that is no text)"}, id="output is bytes"),
        pytest.param({"output": "\ud800!"}, {"output": "?!"}, id="output can't be written"),
        pytest.param({"error": ValueError("x")}, {"error": "x"}, id="error is an error"),
        pytest.param({"error": Unspeakable()}, {"error": "(a Unspeakable that is no text)"}, id="error can't be said"),
        pytest.param({"error": "\udcff"}, {"error": "?"}, id="error can't be written"),
        pytest.param({"detail": None}, {"detail": {}}, id="no detail"),
        pytest.param({"detail": Mapping(a=1)}, {"detail": {"a": 1}}, id="detail is a sort of mapping"),
        pytest.param({"detail": {1: 2}}, {"detail": {"1": 2}}, id="detail with a number for a key"),
        pytest.param({"detail": {"a": (1, 2)}}, {"detail": {"a": [1, 2]}}, id="detail with a tuple"),
        pytest.param({"detail": {"a": "\ud800"}}, {"detail": {"a": "?"}}, id="detail that can't be written"),
        pytest.param({"retry_after": -5}, {"retry_after": 0}, id="retry before now"),
        pytest.param({"retry_after": 1500.7}, {"retry_after": 1500}, id="retry after a fraction"),
        pytest.param({"retry_after": float("nan")}, {"retry_after": None}, id="retry after no number"),
        pytest.param({"retry_after": "soon"}, {"retry_after": None}, id="retry soon"),
        pytest.param({"truncated": 1, "retryable": 0}, {"truncated": True, "retryable": False}, id="numbers for words"),
    ],
)
@virtual
async def test_what_can_not_be_stored_is_put_right(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    """A single outcome that no store can write would keep all others from being stored."""
    outcome = await outcome_of(saying(Outcome(verdict=AttemptOutcome.FAILED, **({"error": "it failed"} | fields))))

    assert outcome == replace(Outcome(verdict=AttemptOutcome.FAILED, error="it failed"), **expected)


@pytest.mark.parametrize(
    "detail",
    [{"a": object()}, {"a": float("nan")}, {"a": b"x"}, {"a": "x" * 70_000}, [1, 2], "words"],
    ids=["object", "nan", "bytes", "too long", "list", "text"],
)
@virtual
async def test_detail_that_is_no_json_or_too_long_is_left_out_aloud(detail: Any) -> None:
    """The outcome itself is kept, and says what is missing."""
    outcome = await outcome_of(saying(Outcome(verdict=AttemptOutcome.SUCCEEDED, output="done", detail=detail)))

    assert (outcome.verdict, outcome.output) == (AttemptOutcome.SUCCEEDED, "done")
    assert list(outcome.detail) == ["left_out"]


@virtual
async def test_detail_that_holds_itself_is_left_out() -> None:
    """A mapping without an end is no JSON."""
    endless: JsonObject = {}
    endless["again"] = endless

    outcome = await outcome_of(saying(Outcome(verdict=AttemptOutcome.SUCCEEDED, detail=endless)))

    assert list(outcome.detail) == ["left_out"]


@pytest.mark.parametrize("letter", ["x", "ä", "🦅"])
@virtual
async def test_output_is_cut_at_so_many_bytes(letter: str) -> None:
    """64 KiB are 64 KiB in every language, and no letter is torn."""
    outcome = await outcome_of(saying(Outcome.succeeded(letter * 70_000)))

    assert outcome.truncated
    assert OUTPUT_MAX - 4 < len(outcome.output.encode()) <= OUTPUT_MAX
    assert set(outcome.output) == {letter}


@virtual
async def test_a_failure_without_a_reason_says_so() -> None:
    """Nothing is silent: a reader finds a sentence, not an empty field."""
    outcome = await outcome_of(saying(Outcome(verdict=AttemptOutcome.FAILED)))

    assert outcome.error == "the executor gave no reason"


# ── what an executor may do ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("error", "said"),
    [
        pytest.param(ValueError("no such page"), "ValueError: no such page", id="an error"),
        pytest.param(SystemExit(3), "SystemExit: 3", id="leaving the program"),
        pytest.param(KeyboardInterrupt(), "KeyboardInterrupt", id="interrupting the program"),
        pytest.param(GeneratorExit(), "GeneratorExit", id="closing a generator"),
        pytest.param(Broken("odd"), "Broken: odd", id="a base exception"),
        pytest.param(BaseExceptionGroup("two", [SystemExit(1), ValueError("x")]), None, id="a group"),
        pytest.param(Unspeakable(), "Unspeakable: (a Unspeakable that is no text)", id="no words"),
        pytest.param(ValueError("\ud800"), "ValueError: ?", id="can't be written"),
    ],
)
@virtual
async def test_whatever_an_executor_raises_fails_its_own_attempt_and_nothing_else(
    error: BaseException, said: str | None
) -> None:
    """Not even ``sys.exit()`` in a function ends the service."""
    outcome = await outcome_of(raising(error))

    assert outcome.verdict is AttemptOutcome.FAILED
    assert outcome.error is not None
    assert said is None or outcome.error == said


@virtual
async def test_an_executor_that_cancels_itself_fails() -> None:
    """A cancel that nobody asked for is the executor's own affair."""
    outcome = await outcome_of(raising(asyncio.CancelledError()))

    assert (outcome.verdict, outcome.error) == (AttemptOutcome.FAILED, "the run cancelled itself")


@pytest.mark.parametrize("kind", ["raises before it waits", "is no coroutine"])
@virtual
async def test_an_executor_that_is_not_even_async_fails_its_attempt(kind: str) -> None:
    """A custom executor may be written carelessly; the run still ends and its slot comes free."""

    class Careless:
        check: Callable[..., Any] = staticmethod(lambda payload, parameters=None: ())

        def run(self, payload: object, context: RunContext) -> Awaitable[Outcome]:
            if kind == "is no coroutine":
                return Outcome.succeeded("done")  # type: ignore[return-value]
            raise ValueError("before it waits")

    ended, hall = Ended(), Hall()
    pool = Pool(hall.needs(executor=cast(Executor, Careless())), on_end=ended)

    pool.start([await a_claim(hall)], asked_at=hall.clock.monotonic())
    await moments(SECOND)

    assert ended.outcome.verdict is AttemptOutcome.FAILED


@virtual
async def test_parameters_that_do_not_fit_the_payload_fail_the_attempt() -> None:
    """What was stored with "run now" may be no mapping at all."""
    hall, ended = Hall(), Ended()
    claim = replace(await a_claim(hall), parameters=[1, 2])  # type: ignore[arg-type]

    begun(claim, hall, ended)
    await moments(SECOND)

    assert ended.outcome.verdict is AttemptOutcome.FAILED


# ── being told to stop ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("ending", "verdict"),
    [
        (Ending.TIMED_OUT, AttemptOutcome.TIMED_OUT),
        (Ending.CANCELLED, AttemptOutcome.CANCELLED),
        (Ending.INTERRUPTED, AttemptOutcome.INTERRUPTED),
        (Ending.FENCED, AttemptOutcome.LOST),
        (Ending.LEASE_ENDED, AttemptOutcome.LOST),
    ],
)
@virtual
async def test_a_run_that_is_told_to_stop_ends_with_the_reason(ending: Ending, verdict: AttemptOutcome) -> None:
    """The executor is cancelled where it waits, and the runner says how it ended."""
    ended = Ended()
    run = await a_run(lasting(MINUTE), ended)
    await moments(SECOND)

    run.end(ending)
    await moments(1)

    assert ended.outcome.verdict is verdict
    assert not run.abandoned


@virtual
async def test_the_first_reason_wins() -> None:
    """A cancel that arrives while a timeout is being carried out changes nothing."""
    ended = Ended()
    run = await a_run(lasting(MINUTE), ended)
    await moments(SECOND)

    run.end(Ending.TIMED_OUT)
    run.end(Ending.CANCELLED)
    await moments(SECOND)
    run.end(Ending.FENCED)

    assert ended.outcome.verdict is AttemptOutcome.TIMED_OUT


@virtual
async def test_a_run_that_has_come_to_its_end_is_not_stopped_any_more() -> None:
    """Between the executor's last line and its outcome there is a moment; a stop that falls into it comes too late."""
    ended = Ended()
    run: Run | None = None

    async def work(context: RunContext) -> Outcome:
        assert run is not None
        asyncio.get_running_loop().call_soon(run.end, Ending.CANCELLED)
        return Outcome.succeeded("done")

    run = await a_run(work, ended)
    await moments(SECOND)

    assert ended.outcome.verdict is AttemptOutcome.SUCCEEDED


@virtual
async def test_the_timeout_counts_from_the_start_of_the_attempt() -> None:
    """Not from the moment at which the execution was due or queued."""
    ended = Ended()
    clock = ManualClock()
    hall = Hall(work=lasting(MINUTE), settings=PATIENT)
    claim = await a_claim(hall, timeout=30 * SECOND)
    await moments(10 * SECOND)
    began = clock.monotonic()

    begun(claim, hall, ended)
    await moments(30 * SECOND - 1)
    assert ended.outcomes == []
    await moments(2)

    assert ended.outcome.error == "timed out after 30s"
    assert clock.monotonic() - began == 30 * SECOND + 1


@pytest.mark.parametrize("ending", [e for e in Ending if e is not Ending.CANCELLED])
@virtual
async def test_a_run_that_does_not_stop_is_abandoned(ending: Ending) -> None:
    """After the grace the outcome is given without it; what it says later is dropped."""
    ended = Ended()
    run = await a_run(stubborn(MINUTE), ended)
    await moments(SECOND)

    run.end(ending)
    await moments(STOP_GRACE - 1)
    assert ended.outcomes == []
    await moments(2 * MINUTE)

    assert run.abandoned
    assert ended.outcome.verdict is not AttemptOutcome.SUCCEEDED
    assert (ended.outcome.error or "").endswith("; it did not stop when told and was abandoned")
    assert ended.outcome.detail == {"abandoned": True}


@virtual
async def test_an_abandoned_run_is_told_once_more() -> None:
    """One that swallowed the first cancel by mistake gets a second chance to let go of what it holds."""
    let_go: list[str] = []

    async def forgetful(context: RunContext) -> Outcome:
        try:
            await moments(MINUTE)
        except asyncio.CancelledError:
            pass
        try:
            await moments(MINUTE)
        finally:
            let_go.append("socket")
        return Outcome.succeeded("too late")

    run = await a_run(forgetful, Ended())
    await moments(SECOND)

    run.end(Ending.TIMED_OUT)
    await moments(2 * SECOND)

    assert let_go == ["socket"]


@virtual
async def test_a_run_that_was_never_started_is_given_back() -> None:
    """Nothing has happened yet, so it is no loss and no failure, whatever the task's policy says of lost workers."""
    hall, ended = Hall(), Ended()
    pool = Pool(hall.needs(), on_end=ended)

    pool.start([await a_claim(hall)], asked_at=hall.clock.monotonic() - hall.settings.held)
    await moments(SECOND)

    assert ended.outcome.verdict is AttemptOutcome.INTERRUPTED
    assert not ended.outcome.began
    assert hall.hands.starts == []


@virtual
async def test_a_cancelled_run_speaks_the_words_that_clients_look_for() -> None:
    """The words of the earlier API stay."""
    ended = Ended()
    run = await a_run(lasting(MINUTE), ended)
    await moments(SECOND)

    run.end(Ending.CANCELLED)
    await moments(1)

    assert ended.outcome.error == CANCELLED_ERROR


# ── what it may say while it runs ────────────────────────────────────────────────────────────────


@virtual
async def test_the_newest_log_lines_are_kept_with_the_outcome() -> None:
    """The log is bounded in lines and in length, and can be written down."""

    async def chatty(context: RunContext) -> Outcome:
        for number in range(1000):
            context.log(f"line {number}")
        context.log("x" * 10_000)
        context.log("\ud800")
        context.log(None)  # type: ignore[arg-type]
        return Outcome.succeeded("done")

    outcome = await outcome_of(chatty)

    log = outcome.detail["log"]
    assert isinstance(log, list)
    assert len(log) == 200
    assert len(json.dumps(outcome.detail, ensure_ascii=False).encode()) < 32_000


@pytest.mark.parametrize("said", [0.5, -1.0, 7.0, float("nan"), float("inf")])
@virtual
async def test_progress_that_makes_no_sense_harms_nobody(said: float) -> None:
    """What an executor reckons may be off; the run goes on, and its outcome can be written down."""

    async def work(context: RunContext) -> Outcome:
        context.progress(said, "halfway")
        return Outcome.succeeded("done")

    outcome = await outcome_of(work)

    assert outcome.output == "done"
    json.dumps(outcome.detail, allow_nan=False)
