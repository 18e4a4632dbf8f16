"""Owns the way between rows and the domain's values; must not know when which row is read or written.

Words with few values are kept as small numbers, their place in the tuples below: a number that was written once keeps
its meaning for ever, so new words are added at the end. JSON goes through msgspec.

The newest attempt has no row of its own while it runs and after it ended in the ordinary way: all it says stands in
the row of its execution, with ``attempt_outcome``. Every other ended attempt is a row of ``attempts``.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final, TypeAlias

import msgspec

from peregrine.domain.execution import (
    Attempt,
    AttemptOutcome,
    Cause,
    Claim,
    Execution,
    ExecutionOutcome,
    NewExecution,
    Running,
    Settlement,
    State,
)
from peregrine.domain.ids import ExecutionId, TaskId, WorkerId
from peregrine.domain.moment import MOMENT_MAX, Moment
from peregrine.domain.occurrence import LedgerEntry, Reason, Verdict
from peregrine.domain.payload import (
    JsonObject,
)
from peregrine.domain.policy import Priority, rank
from peregrine.domain.task import Task
from peregrine.ports.host import Instance

Row: TypeAlias = tuple[Any, ...]
"""What SQLite gives: the columns of one query, in its order."""

SEGMENT_BITS: Final = 13
"""A segment is so many neighbours in the order of creation, as a power of two (the schema says the same)."""

NEVER: Final[Moment] = MOMENT_MAX + 1
"""Stands for "no moment": it sorts behind all."""

STATES: Final = (State.QUEUED, State.RUNNING, State.COMPLETED, State.FAILED, State.CANCELLED)
CAUSES: Final = (Cause.SCHEDULE, Cause.MANUAL, Cause.RETRY, Cause.WORKFLOW)
OUTCOMES: Final = (
    ExecutionOutcome.SUCCEEDED,
    ExecutionOutcome.FAILED,
    ExecutionOutcome.TIMED_OUT,
    ExecutionOutcome.CANCELLED,
    ExecutionOutcome.ABANDONED,
)
ATTEMPT_OUTCOMES: Final = (
    AttemptOutcome.SUCCEEDED,
    AttemptOutcome.FAILED,
    AttemptOutcome.TIMED_OUT,
    AttemptOutcome.CANCELLED,
    AttemptOutcome.LOST,
    AttemptOutcome.INTERRUPTED,
    AttemptOutcome.FENCED,
)
PRIORITIES: Final = tuple(Priority)

STATE_NUMBERS: Final = {word: number for number, word in enumerate(STATES)}
CAUSE_NUMBERS: Final = {word: number for number, word in enumerate(CAUSES)}
OUTCOME_NUMBERS: Final[dict[ExecutionOutcome | None, int | None]] = {
    None: None,
    **{word: number for number, word in enumerate(OUTCOMES)},
}
ATTEMPT_OUTCOME_NUMBERS: Final[dict[AttemptOutcome | None, int | None]] = {
    None: None,
    **{word: number for number, word in enumerate(ATTEMPT_OUTCOMES)},
}

QUEUED, RUNNING, COMPLETED, CANCELLED = 0, 1, 2, 4

INTEGER_MIN: Final = -(2**63)
INTEGER_MAX: Final = 2**63 - 1

_to_json = msgspec.json.Encoder().encode
_from_json = msgspec.json.Decoder().decode

NO_DETAIL: Final = "{}"


def json_text(value: object) -> str:
    """*value* as JSON."""
    return _to_json(value).decode()


def json_object(text: str) -> JsonObject:
    """The object that *text* says, a new one each time."""
    value: JsonObject = _from_json(text)
    return value


def json_list(text: str) -> list[Any]:
    """The list that *text* says."""
    value: list[Any] = _from_json(text)
    return value


def beyond(moment: Moment | None) -> Moment:
    """*moment* as it is stored where None must sort last."""
    return NEVER if moment is None else moment


def moment_or_none(stored: Moment | None) -> Moment | None:
    """The inverse of ``beyond``."""
    return None if stored is None or stored >= NEVER else stored


# ── executions ───────────────────────────────────────────────────────────────────────────────────────────────────────


def occurrence_of(key: str, task_id: TaskId) -> int | None:
    """The second in a key of the form ``c:<task>:<second>`` for this very task; None for any other key.

    Kept as (task's number, second), such a key needs a quarter of the room, and one index serves both the uniqueness
    of occurrences and the ledger. The form has one spelling for each second, so nothing is lost.
    """
    head, _, text = key.rpartition(":")
    if head != f"c:{task_id}":
        return None
    try:
        second = int(text)
    except ValueError:
        return None
    return second if str(second) == text and abs(second) < 2**50 else None


def execution_row(new: NewExecution, task_no: int) -> Row:
    """The bindings of ``add_execution``."""
    scheduled_for = new.scheduled_for
    occurrence = None if scheduled_for is None else scheduled_for // 1000
    if new.key != f"c:{new.task_id}:{occurrence}":
        occurrence = occurrence_of(new.key, new.task_id)
    return (
        new.id,
        task_no,
        occurrence,
        new.key if occurrence is None else None,
        CAUSE_NUMBERS[new.cause],
        int(new.priority),
        scheduled_for,
        new.queued_at,
        new.available_at,
        rank(new.priority, new.available_at),
        None if new.parameters is None else json_text(new.parameters),
        new.requested_by,
        new.follows,
    )


def execution(row: Row, apart: Sequence[Attempt]) -> Execution:
    """What ``executions`` says of one execution, with the attempts that stand *apart* from it."""
    (
        _, id, task_id, cause, state, priority, scheduled_for, queued_at, available_at, parameters,
        requested_by, follows, attempt, epoch, beat, failures, losses, cancel_requested, worker_id, started_at,
        completed_at, outcome, attempt_outcome, output, error, truncated, detail,
    ) = row  # fmt: skip
    attempts = tuple(apart)
    if state == RUNNING:
        attempts += (Attempt(attempt=attempt, epoch=epoch, worker_id=worker_id, started_at=started_at),)
    elif attempt_outcome is not None:
        ended = Attempt(
            attempt=attempt,
            epoch=epoch,
            worker_id=worker_id,
            started_at=started_at,
            completed_at=completed_at,
            outcome=ATTEMPT_OUTCOMES[attempt_outcome],
            error=error,
        )
        attempts += (ended,)
    return Execution(
        id=id,
        task_id=task_id,
        cause=CAUSES[cause],
        state=STATES[state],
        priority=PRIORITIES[priority],
        scheduled_for=scheduled_for,
        queued_at=queued_at,
        available_at=available_at,
        parameters=None if parameters is None else json_object(parameters),
        requested_by=requested_by,
        follows=follows,
        attempt=attempt,
        epoch=epoch,
        beat=beat,
        failures=failures,
        losses=losses,
        cancel_requested=bool(cancel_requested),
        worker_id=worker_id,
        started_at=started_at,
        completed_at=completed_at,
        outcome=None if outcome is None else OUTCOMES[outcome],
        output=output or "",
        error=error,
        truncated=bool(truncated),
        detail=json_object(detail) if detail else {},
        attempts=attempts,
    )


def attempt_apart(row: Row) -> Attempt:
    """What ``attempts`` says of one attempt."""
    _, attempt, epoch, worker_id, started_at, completed_at, outcome, error = row
    return Attempt(
        attempt=attempt,
        epoch=epoch,
        worker_id=WorkerId(worker_id),
        started_at=started_at,
        completed_at=completed_at,
        outcome=None if outcome is None else ATTEMPT_OUTCOMES[outcome],
        error=error,
    )


def attempt_row(seq: int, attempt: Attempt, worker_no: int, detail: JsonObject | None = None) -> Row:
    """The bindings of ``add_attempt``; without *detail* what is kept of it stays."""
    return (
        seq,
        attempt.attempt,
        attempt.epoch,
        worker_no,
        attempt.started_at,
        attempt.completed_at,
        ATTEMPT_OUTCOME_NUMBERS[attempt.outcome],
        attempt.error,
        json_text(detail) if detail else None,
    )


def result_row(seq: int, written: Settlement, *, first: bool) -> Row | None:
    """The bindings of ``put_result``; None if nothing was left behind and nothing stands there (a *first* attempt)."""
    if first and not (written.output or written.error is not None or written.truncated or written.detail):
        return None
    detail = json_text(written.detail) if written.detail else NO_DETAIL
    return seq, written.output, written.error, written.truncated, detail


def claim_mark(claim_id: str) -> int:
    """The number that stands for a claim request's id on what it got.

    It need only tell apart the requests whose executions still run, so eight bytes are plenty; the whole id would
    make every row half as wide again.
    """
    return int.from_bytes(blake2b(claim_id.encode(), digest_size=8).digest(), "big", signed=True)


def claim(row: Sequence[Any], task: Task, worker_id: WorkerId) -> Claim:
    """What ``claims`` or ``claimed_by`` says of one claim."""
    (
        id, epoch, attempt, cause, priority, scheduled_for, queued_at, available_at, started_at, parameters,
        failures, losses, beat, *_,
    ) = row  # fmt: skip
    return Claim(
        execution_id=id,
        epoch=epoch,
        attempt=attempt,
        task=task,
        cause=CAUSES[cause],
        priority=PRIORITIES[priority],
        worker_id=worker_id,
        scheduled_for=scheduled_for,
        queued_at=queued_at,
        available_at=available_at,
        started_at=started_at,
        parameters=None if parameters is None else json_object(parameters),
        failures=failures,
        losses=losses,
        beat=beat,
    )


def running(row: Row, task: Task | None) -> Running:
    """What ``running`` says of one running execution."""
    id, epoch, beat, attempt, worker_id, started_at, _, task_id, scheduled_for, failures, losses, cancelled = row
    return Running(
        execution_id=ExecutionId(id),
        epoch=epoch,
        beat=beat,
        attempt=attempt,
        worker_id=WorkerId(worker_id),
        started_at=started_at,
        task=task,
        task_id=TaskId(task_id),
        scheduled_for=scheduled_for,
        failures=failures,
        losses=losses,
        cancel_requested=bool(cancelled),
    )


# ── the rest ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def ledger_entry(row: Row) -> LedgerEntry:
    """What ``ledger`` says of one line."""
    first, _, last, count, reason, execution_id, decided_at = row
    why = None if reason is None else Reason(reason)
    return LedgerEntry(
        scheduled_for=first,
        last=last,
        count=count,
        verdict=Verdict.RAN if why is None else why.verdict,
        reason=why,
        execution_id=execution_id,
        decided_at=decided_at,
    )


def instance_row(instance: Instance, now: Moment) -> Row:
    """The bindings of ``announce``."""
    return (
        instance.id,
        now,
        instance.host,
        instance.place,
        instance.pid,
        instance.process_started,
        instance.version,
        instance.slots,
        instance.started_at,
    )


def instance(row: Row) -> tuple[Instance, int, Moment]:
    """What ``instances`` says of one process."""
    id, counter, seen_at, host, place, pid, process_started, version, slots, started_at = row
    return (
        Instance(
            id=WorkerId(id),
            host=host,
            place=place,
            pid=pid,
            process_started=process_started,
            version=version,
            slots=slots,
            started_at=started_at,
        ),
        counter,
        seen_at,
    )


_LOWER: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def lowered(text: str | None) -> str:
    """*text* as ``lower()`` of SQLite writes it: ASCII alone has a lower case there."""
    return (text or "").translate(_LOWER)
