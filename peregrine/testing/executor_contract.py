"""Owns what every executor promises, as plain async functions that take a factory; must not know any executor.

How to hold an executor against it::

    @asynccontextmanager
    async def factory() -> AsyncIterator[Subject]:      # a fresh subject for every promise
        ...
        yield MySubject(...)
        ...                                             # close the executor and whatever stood on the other side

    @pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
    async def test_my_executor(promise: Promise) -> None:
        await promise(factory)

A ``Subject`` (below) is an executor together with a world in which it can be made to succeed, fail, hang, crash,
flood and leak. A behaviour its kind does not know is answered with None; the promises about it then hold by themselves.
The suite calls the executor as the runner does: one task per attempt, cancelled from outside, ``deadline`` on the
subject's own clock. It never waits by sleeping: ``Subject.has_started`` and ``Subject.leftovers`` wait for the thing.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol, TypeAlias

from peregrine.domain.execution import AttemptOutcome, Cause, Claim, Outcome
from peregrine.domain.ids import ExecutionId, TaskId, WorkerId
from peregrine.domain.moment import SECOND, Duration, Moment, parse_moment
from peregrine.domain.payload import (
    FunctionPayload,
    HttpPayload,
    JsonObject,
    Kind,
    Payload,
    SystemPayload,
)
from peregrine.domain.policy import Priority
from peregrine.domain.task import Task
from peregrine.ports.clock import Clock
from peregrine.ports.executor import Executor

GREETING: Final = "all is well"
"""What a success says somewhere in its output."""
PATIENCE: Final = 15.0
"""Seconds after which a promise counts as stuck. Nothing waits so long on purpose."""
SOON: Final = 3.0
"""Seconds a cancelled attempt may take to let go (the engine's own grace is 1.5 s; a loaded machine gets more)."""
SCHEDULED_FOR: Final[Moment] = parse_moment("2026-03-01T06:30:00Z")


class Behaviour(StrEnum):
    """What the other side (a server, a function) does. The subject makes a payload for each."""

    SUCCEED = "succeed"
    """Ends well at once; its output holds ``GREETING``."""
    FAIL = "fail"
    """Ends badly in the ordinary way of its kind (an unexpected status, a raised error); worth trying again."""
    HANG = "hang"
    """Starts, then never ends by itself; ``has_started`` returns once it is at work on the other side."""
    CRASH = "crash"
    """The other side dies in the middle (a reset connection, a killed child)."""
    FLOOD = "flood"
    """Says far more than is kept: at least four times ``output_max``."""
    LEAK = "leak"
    """Repeats ``secret`` wherever it can: in its output, its error, its log lines."""
    LEAK_AND_FAIL = "leak and fail"
    """The same, ending badly."""
    OVERSTAY = "overstay"
    """Hangs, with the payload's own short timeout (a second at most), where the kind has such a setting."""
    REFUSED = "refused"
    """Names what is not there or not allowed: a fault at save time, and at run time a failure not worth a retry."""


class Subject(Protocol):
    """An executor under proof, and its world."""

    @property
    def executor(self) -> Executor: ...

    @property
    def clock(self) -> Clock:
        """The clock that the executor was given. It must move with real time (``HostClock`` below will do)."""
        ...

    @property
    def output_max(self) -> int:
        """How many bytes of output (UTF-8) are kept at most."""
        ...

    @property
    def secret(self) -> str:
        """A value the executor was told to keep secret, known to ``LEAK``; at least 16 characters."""
        ...

    def payload(self, behaviour: Behaviour) -> Payload | None:
        """A payload that behaves so; None if this kind can't."""
        ...

    async def has_started(self) -> None:
        """Return when the newest ``HANG`` (or ``OVERSTAY``) is really at work on the other side."""
        ...

    async def leftovers(self) -> Sequence[str]:
        """What attempts that ended still hold (an open socket, a child, a thread), named; empty: nothing.

        May wait up to a second for the kernel to bring the news. What is kept for the next attempt on purpose (an
        idle keep-alive connection, a warm child) is no leftover.
        """
        ...


Factory: TypeAlias = Callable[[], AbstractAsyncContextManager[Subject]]
Promise: TypeAlias = Callable[[Factory], Awaitable[None]]


class HostClock:
    """The real clock, for subjects whose other side is real."""

    def now(self) -> Moment:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> int:
        return time.monotonic_ns() // 1_000_000


@dataclass(slots=True, kw_only=True)
class ExampleContext:
    """A ``RunContext`` that remembers what it was told."""

    claim: Claim
    deadline: int
    worker_id: str = "worker-1"
    lines: list[str] = field(default_factory=list)
    steps: list[tuple[float, str]] = field(default_factory=list)

    def log(self, line: str) -> None:
        self.lines.append(line)

    def progress(self, fraction: float, text: str = "") -> None:
        self.steps.append((fraction, text))


def example_claim(payload: Payload, *, attempt: int = 1, parameters: JsonObject | None = None) -> Claim:
    """A claim of attempt *attempt* on a task that has *payload*."""
    at = SCHEDULED_FOR
    kinds = {HttpPayload: Kind.HTTP, FunctionPayload: Kind.FUNCTION, SystemPayload: Kind.SYSTEM}
    task = Task(
        id=TaskId("task-1"),
        name="Nightly report",
        kind=kinds.get(type(payload), Kind.CUSTOM),
        payload=payload,
        schedule="0 30 6 * * *",
        anchor=at,
        created_at=at,
        updated_at=at,
    )
    return Claim(
        execution_id=ExecutionId("execution-1"),
        epoch=attempt,
        attempt=attempt,
        task=task,
        cause=Cause.SCHEDULE,
        priority=Priority.NORMAL,
        worker_id=WorkerId("worker-1"),
        scheduled_for=at,
        queued_at=at,
        available_at=at,
        started_at=at,
        parameters=parameters,
    )


def example_context(
    payload: Payload, clock: Clock, *, within: Duration = 60 * SECOND, parameters: JsonObject | None = None
) -> ExampleContext:
    """A context for one attempt of *payload* that times out *within* milliseconds from now."""
    return ExampleContext(
        claim=example_claim(payload, parameters=parameters),
        deadline=clock.monotonic() + within,
    )


# ── success and failure ──────────────────────────────────────────────────────────────────────────


async def a_success_carries_its_output(factory: Factory) -> None:
    async with _open(factory) as subject:
        outcome = await _run(subject, Behaviour.SUCCEED)

        if outcome is not None:
            assert outcome.verdict is AttemptOutcome.SUCCEEDED, outcome
            assert GREETING in outcome.output
            assert outcome.error is None
            assert not outcome.truncated


async def a_failure_is_an_outcome(factory: Factory) -> None:
    async with _open(factory) as subject:
        outcome = await _run(subject, Behaviour.FAIL)

        if outcome is not None:
            _assert_failed(outcome)
            assert outcome.retryable


async def a_crash_is_an_outcome(factory: Factory) -> None:
    async with _open(factory) as subject:
        outcome = await _run(subject, Behaviour.CRASH)

        if outcome is not None:
            _assert_failed(outcome)


async def a_crash_harms_nobody_else(factory: Factory) -> None:
    async with _open(factory) as subject:
        await _run(subject, Behaviour.CRASH)

        await _assert_success(subject)


async def every_outcome_can_be_stored(factory: Factory) -> None:
    """Text that UTF-8 can say, details that JSON can say."""
    for behaviour in (Behaviour.SUCCEED, Behaviour.FAIL, Behaviour.CRASH, Behaviour.FLOOD, Behaviour.REFUSED):
        async with _open(factory) as subject:
            outcome = await _run(subject, behaviour)

            if outcome is not None:
                outcome.output.encode("utf-8")
                (outcome.error or "").encode("utf-8")
                json.dumps(outcome.detail, allow_nan=False).encode("utf-8")


async def attempts_at_once_do_not_mix(factory: Factory) -> None:
    """Ten run together, one beside them is cancelled; the ten succeed."""
    async with _open(factory) as subject:
        hanging = await _hang(subject)
        outcomes = await asyncio.gather(*(_run(subject, Behaviour.SUCCEED) for _ in range(10)))
        if hanging is not None:
            await _cancel(hanging)

        assert all(outcome is None or outcome.verdict is AttemptOutcome.SUCCEEDED for outcome in outcomes), outcomes


# ── deadline and timeout ─────────────────────────────────────────────────────────────────────────


async def a_deadline_ends_it(factory: Factory) -> None:
    """The runner cancels at the deadline; an executor may also end by itself just before, as timed out."""
    async with _open(factory) as subject:
        payload = subject.payload(Behaviour.HANG)
        if payload is None:
            return
        context = example_context(payload, subject.clock, within=300)
        verdict = AttemptOutcome.TIMED_OUT
        try:
            async with asyncio.timeout(0.3):
                verdict = (await subject.executor.run(payload, context)).verdict
        except TimeoutError:
            pass

        assert verdict is AttemptOutcome.TIMED_OUT


async def its_own_timeout_ends_it(factory: Factory) -> None:
    async with _open(factory) as subject:
        outcome = await _run(subject, Behaviour.OVERSTAY)

        if outcome is not None:
            assert outcome.verdict is AttemptOutcome.TIMED_OUT, outcome
            _assert_sentence(outcome.error)


# ── cancel: before, during, after ────────────────────────────────────────────────────────────────


async def a_cancel_before_the_first_step_is_obeyed(factory: Factory) -> None:
    async with _open(factory) as subject:
        task = _start(subject, Behaviour.SUCCEED)
        if task is None:
            return
        task.cancel()

        assert await _ended_by_cancel(task)
        await _assert_success(subject)


async def a_cancel_at_any_step_leaves_nothing(factory: Factory) -> None:
    """Cancelled after some turns of the loop it either obeys or has ended well; nothing third, nothing left over."""
    async with _open(factory) as subject:
        for turns in (1, 2, 3, 5, 8, 13, 21, 34):
            task = _start(subject, Behaviour.SUCCEED)
            if task is None:
                return
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()

            if not await _ended_by_cancel(task):
                assert task.result().verdict is AttemptOutcome.SUCCEEDED, task.result()
            assert not await subject.leftovers(), (turns, await subject.leftovers())
        await _assert_success(subject)


async def a_cancel_while_it_runs_is_obeyed(factory: Factory) -> None:
    async with _open(factory) as subject:
        task = await _hang(subject)
        if task is None:
            return
        task.cancel()

        assert await _ended_by_cancel(task)
        assert not await subject.leftovers()
        await _assert_success(subject)


async def a_second_cancel_does_not_stop_the_letting_go(factory: Factory) -> None:
    async with _open(factory) as subject:
        task = await _hang(subject)
        if task is None:
            return
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()

        assert await _ended_by_cancel(task)
        assert not await subject.leftovers()
        await _assert_success(subject)


async def a_cancel_after_the_end_changes_nothing(factory: Factory) -> None:
    async with _open(factory) as subject:
        task = _start(subject, Behaviour.SUCCEED)
        if task is None:
            return
        outcome = await task

        assert not task.cancel()
        assert outcome.verdict is AttemptOutcome.SUCCEEDED
        await _assert_success(subject)


# ── output and secrets ───────────────────────────────────────────────────────────────────────────


async def a_flood_is_cut(factory: Factory) -> None:
    async with _open(factory) as subject:
        outcome = await _run(subject, Behaviour.FLOOD)

        if outcome is not None:
            assert outcome.truncated
            assert 0 < len(outcome.output.encode("utf-8")) <= subject.output_max


async def secrets_stay_inside(factory: Factory) -> None:
    for behaviour in (Behaviour.LEAK, Behaviour.LEAK_AND_FAIL, Behaviour.CRASH, Behaviour.REFUSED):
        async with _open(factory) as subject:
            payload = subject.payload(behaviour)
            if payload is None:
                continue
            context = example_context(payload, subject.clock)
            outcome = await subject.executor.run(payload, context)
            faults = subject.executor.check(payload)

            assert len(subject.secret) >= 16
            for said in (repr(outcome), repr(context.lines), repr(context.steps), repr(faults)):
                assert subject.secret not in said, behaviour


# ── save time ────────────────────────────────────────────────────────────────────────────────────


async def good_payloads_have_no_faults(factory: Factory) -> None:
    async with _open(factory) as subject:
        for behaviour in Behaviour:
            payload = subject.payload(behaviour)
            if payload is not None and behaviour is not Behaviour.REFUSED:
                assert not subject.executor.check(payload), behaviour


async def what_can_never_work_is_refused_twice(factory: Factory) -> None:
    """At save time as faults with a pointer; at run time (the world changed meanwhile) as a failure without retry."""
    async with _open(factory) as subject:
        payload = subject.payload(Behaviour.REFUSED)
        if payload is None:
            return
        faults = subject.executor.check(payload)
        outcome = await subject.executor.run(payload, example_context(payload, subject.clock))

        assert faults
        assert all(fault.pointer.startswith("/") and fault.message for fault in faults)
        _assert_failed(outcome)
        assert not outcome.retryable


PROMISES: Final[tuple[Promise, ...]] = (
    a_success_carries_its_output,
    a_failure_is_an_outcome,
    a_crash_is_an_outcome,
    a_crash_harms_nobody_else,
    every_outcome_can_be_stored,
    attempts_at_once_do_not_mix,
    a_deadline_ends_it,
    its_own_timeout_ends_it,
    a_cancel_before_the_first_step_is_obeyed,
    a_cancel_at_any_step_leaves_nothing,
    a_cancel_while_it_runs_is_obeyed,
    a_second_cancel_does_not_stop_the_letting_go,
    a_cancel_after_the_end_changes_nothing,
    a_flood_is_cut,
    secrets_stay_inside,
    good_payloads_have_no_faults,
    what_can_never_work_is_refused_twice,
)


# ── how the suite acts ───────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def _open(factory: Factory) -> AsyncIterator[Subject]:
    """A fresh subject; at the end nothing of it may be left: no attempt's leftovers, no task of the loop."""
    before = asyncio.all_tasks()
    async with asyncio.timeout(PATIENCE):
        async with factory() as subject:
            yield subject
            assert not await subject.leftovers(), await subject.leftovers()
        await asyncio.sleep(0)
        left = {task for task in asyncio.all_tasks() - before if not task.done()}
        assert not left, left


def _start(subject: Subject, behaviour: Behaviour) -> asyncio.Task[Outcome] | None:
    payload = subject.payload(behaviour)
    if payload is None:
        return None
    return asyncio.create_task(subject.executor.run(payload, example_context(payload, subject.clock)))


async def _run(subject: Subject, behaviour: Behaviour) -> Outcome | None:
    task = _start(subject, behaviour)
    return None if task is None else await task


async def _hang(subject: Subject) -> asyncio.Task[Outcome] | None:
    task = _start(subject, Behaviour.HANG)
    if task is not None:
        started = asyncio.create_task(_has_started(subject))
        await asyncio.wait({task, started}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            started.cancel()
            raise AssertionError(f"a hanging attempt ended: {task}")
        await started
    return task


async def _has_started(subject: Subject) -> None:
    await subject.has_started()


async def _cancel(task: asyncio.Task[Outcome]) -> None:
    task.cancel()
    assert await _ended_by_cancel(task)


async def _ended_by_cancel(task: asyncio.Task[Outcome]) -> bool:
    """Whether *task* let the cancel pass; False if it ended with an outcome. Any other error is raised."""
    done, _ = await asyncio.wait({task}, timeout=SOON)
    assert done, f"a cancelled attempt still runs after {SOON} s"
    if task.cancelled():
        return True
    task.result()
    return False


async def _assert_success(subject: Subject) -> None:
    """The executor still works."""
    outcome = await _run(subject, Behaviour.SUCCEED)
    assert outcome is None or outcome.verdict is AttemptOutcome.SUCCEEDED, outcome


def _assert_failed(outcome: Outcome) -> None:
    assert outcome.verdict is AttemptOutcome.FAILED, outcome
    _assert_sentence(outcome.error)


def _assert_sentence(error: str | None) -> None:
    """A reader sees it: said, short, no stack trace."""
    assert error
    assert len(error) <= 2000
    assert "Traceback" not in error
