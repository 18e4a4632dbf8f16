"""Owns how a call's answer becomes the house's outcome, and a parameter's fault the document's; must not know kinds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace

from peregrine.domain.errors import Fault
from peregrine.domain.execution import AttemptOutcome, Outcome
from peregrine.domain.payload import JsonObject
from peregrine.executors.answer import Answer, answer_of, answer_of_error, cut, writable


def outcome_of(answer: Answer) -> Outcome:
    """*answer* as the house knows it."""
    detail: JsonObject = {}
    if answer.exit_code is not None:
        detail["exit_code"] = answer.exit_code
    if answer.crashed:
        detail["crashed"] = True
    if answer.traceback:
        detail["traceback"] = [*answer.traceback]
    return Outcome(
        verdict=AttemptOutcome.SUCCEEDED if answer.error is None else AttemptOutcome.FAILED,
        output=answer.output,
        error=answer.error,
        truncated=answer.truncated,
        detail=detail,
        retryable=answer.retryable,
        retry_after=answer.retry_after,
    )


async def outcome_of_work(work: Awaitable[object], veil: Callable[[str], str]) -> Outcome:
    """What a coroutine on the loop came to. A cancel of ours passes, even if the coroutine caught it."""
    task = asyncio.current_task()
    assert task is not None
    try:
        outcome = _outcome_of_value(await work, veil)
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        # Not ours if nobody cancelled this task: then something the function waited for was cancelled.
        if isinstance(error, asyncio.CancelledError) and task.cancelling():
            raise
        outcome = outcome_of(answer_of_error(error, veil))
    if task.cancelling():
        raise asyncio.CancelledError
    return outcome


def _outcome_of_value(value: object, veil: Callable[[str], str]) -> Outcome:
    if value is None:
        return Outcome.succeeded()
    if isinstance(value, Answer):
        return outcome_of(value)
    if not isinstance(value, Outcome):
        return outcome_of(answer_of(value, veil))
    output, truncated = cut(veil(value.output))
    error = None if value.error is None else writable(veil(value.error))
    return replace(value, output=output, truncated=value.truncated or truncated, error=error)


def placed(faults: Iterable[Fault]) -> list[Fault]:
    """*faults* of a task's parameters (``/limit``) where they stand in its document."""
    return [Fault(f"/config/parameters{fault.pointer}", fault.message) for fault in faults]


def size(values: JsonObject) -> int:
    """Bytes of *values* as JSON."""
    return len(json.dumps(values, ensure_ascii=False).encode("utf-8", "replace"))
