"""Owns the way between an execution with its attempts and its one document; must not know when it is written.

Claim and settlement are one write each because the attempts live inside the document. ``started_at`` is what lists are
sorted by: the start of the newest attempt, or the end of what never started; what waits for its first has none.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Final, TypeVar

from peregrine.domain.execution import (
    CANCELLED_ERROR,
    CANCELLED_OUTPUT,
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
from peregrine.domain.moment import Moment
from peregrine.domain.payload import JsonObject
from peregrine.domain.policy import Priority, rank
from peregrine.domain.query import ExecutionStatus
from peregrine.domain.task import Task
from peregrine.stores.mongo.commands import Change, Document
from peregrine.stores.mongo.values import (
    date,
    date_or_none,
    int_of,
    json_object,
    json_text,
    moment_of,
    moment_or_none,
    nanoseconds,
    text_of,
)
from peregrine.stores.mongo.versions import needs_newer

Word = TypeVar("Word", bound=Enum)

WAITS: Final = ExecutionStatus.PENDING.value
RUNS: Final = ExecutionStatus.RUNNING.value
_STATUS: Final = {state: status.value for status in ExecutionStatus for state in status.states}
_FINE_WORDS: Final = frozenset({"completed", "success", "succeeded", "done", "ok"})
_CANCELLED_WORDS: Final = frozenset({"cancelled", "canceled", "stopped"})
LOCK_KEY: Final = "scheduler:lock:{task_id}"

WITHOUT_DEBTS: Final = {"owes": 0, "details": 0}
WITHOUT_BODY: Final = {"output": 0, "parameters": 0, "detail": 0, "details": 0, "attempts": 0}
"""What only a reader needs, and what makes a document large."""
PAID: Final = {"$unset": {"owes": "", "owing": ""}}
DEBTS: Final = ("tally", "followups")
"""What can be owed as far as we know; what a newer version owes besides is left to it."""
OWING: Final = {"owing": True, "$or": [{f"owes.{name}": {"$exists": True}} for name in DEBTS]}
"""The condition for executions that owe what we can pay."""
PAID_IN_PART: Final = {"$unset": {f"owes.{name}": "" for name in DEBTS}}


class Numbers:
    """Numbers in the order of creation, for whatever else is equal.

    Made from this host's clock and never the same twice here: a counter in the database would cost a round trip each,
    and of two that were made on two hosts within the same millisecond neither was first.
    """

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        self._last = max(self._last + 1, time.time_ns())
        return self._last


# ── out ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def new_document(new: NewExecution, number: int) -> Document:
    """*new* as it is queued."""
    document: Document = {
        "_id": new.id,
        "task_id": new.task_id,
        "status": WAITS,
        "active": True,
        "key": new.key,
        "seq": number,
        "cause": new.cause.value,
        "priority": new.priority.word,
        "rank": rank(new.priority, new.available_at),
        "queued_at": date(new.queued_at),
        "available_at": date(new.available_at),
        "requested_by": new.requested_by,
        "attempt": 0,
        "epoch": 0,
        "beat": 0,
        "failures": 0,
        "losses": 0,
        "cancel_requested": False,
        "worker_id": "",
        "retry_count": 0,
        "duration": nanoseconds(0),
        "output": "",
        "metadata": {
            "worker_id": "",
            "retry_count": 0,
            "lock_key": LOCK_KEY.format(task_id=new.task_id),
        },
        "attempts": [],
    }
    if new.scheduled_for is not None:
        document["scheduled_for"] = date(new.scheduled_for)
    if new.parameters is not None:
        document["parameters"] = json_text(new.parameters)
    if new.follows is not None:
        document["follows"] = new.follows
    return document


def placed_document(one: Execution, key: str, details: Mapping[int, JsonObject], number: int) -> Document:
    """The execution *one* as it is, with what its earlier attempts left behind."""
    worker, retries = one.worker_id or "", max(0, one.attempt - 1)
    began = one.completed_at if one.started_at is None else one.started_at
    document: Document = {
        "_id": one.id,
        "task_id": one.task_id,
        "status": _STATUS[one.state],
        "key": key,
        "seq": number,
        "cause": one.cause.value,
        "priority": one.priority.word,
        "rank": rank(one.priority, one.available_at),
        "queued_at": date(one.queued_at),
        "available_at": date(one.available_at),
        "requested_by": one.requested_by,
        "attempt": one.attempt,
        "epoch": one.epoch,
        "beat": one.beat,
        "failures": one.failures,
        "losses": one.losses,
        "cancel_requested": one.cancel_requested,
        "worker_id": worker,
        "retry_count": retries,
        "duration": nanoseconds(one.duration or 0),
        "output": one.output,
        "error": one.error,
        "outcome": None if one.outcome is None else one.outcome.value,
        "truncated": one.truncated,
        "detail": json_text(one.detail) if one.detail else None,
        "metadata": {
            "worker_id": worker,
            "retry_count": retries,
            "lock_key": LOCK_KEY.format(task_id=one.task_id),
        },
        "attempts": [_attempt_document(attempt) for attempt in one.attempts],
        "details": {str(epoch): json_text(detail) for epoch, detail in details.items()},
    }
    there: Document = {
        "active": True if not one.state.is_ended else None,
        "started_at": date_or_none(began),
        "completed_at": date_or_none(one.completed_at),
        "scheduled_for": date_or_none(one.scheduled_for),
        "parameters": None if one.parameters is None else json_text(one.parameters),
        "follows": one.follows,
    }
    return document | {name: value for name, value in there.items() if value is not None}


def started_fields(document: Document, *, worker_id: WorkerId, claim_id: str, now: Moment) -> Document:
    """What a claim sets on the waiting execution of *document*."""
    number, epoch = document["attempt"] + 1, document["epoch"] + 1
    attempt = Attempt(attempt=number, epoch=epoch, worker_id=worker_id, started_at=now)
    return {
        "status": RUNS,
        "attempt": number,
        "epoch": epoch,
        "worker_id": worker_id,
        "retry_count": number - 1,
        "metadata.worker_id": worker_id,
        "metadata.retry_count": number - 1,
        "started_at": date(now),
        "claim_id": claim_id,
        f"attempts.{number - 1}": _attempt_document(attempt),
    }


def settling(written: Settlement, stamp: str, followups: Sequence[Document], priority: Priority) -> Change:
    """The change that ends the attempt of *written*, and what is owed for it; whoever reads *stamp* knows it was ours.

    What is owed stands in the same document until it is paid: the task's tally, and the followups. *priority* is that
    of the execution, and only needed when it goes back to the queue.
    """
    again = written.state is State.QUEUED
    owes: Document = {} if again else {"owes.tally": True}
    if followups:
        owes["owes.followups"] = list(followups)
    fields: Document = {
        "status": _STATUS[written.state],
        "failures": written.failures,
        "losses": written.losses,
        "outcome": None if written.outcome is None else written.outcome.value,
        "output": written.output,
        "error": written.error,
        "truncated": written.truncated,
        "detail": json_text(written.detail) if written.detail else None,
        "stamp": stamp,
    }
    for name, value in _attempt_document(written.attempt).items():
        fields[f"attempts.{written.attempt.attempt - 1}.{name}"] = value
    if owes:
        fields |= owes | {"owing": True}
    forgotten = {"claim_id": ""}
    if again:
        fields["epoch"] = written.epoch + 1
        if written.detail:
            fields[f"details.{written.epoch}"] = json_text(written.detail)
        if written.available_at is not None:
            fields["available_at"] = date(written.available_at)
            fields["rank"] = rank(priority, written.available_at)
    else:
        started = written.attempt.started_at
        fields["completed_at"] = date(written.ended_at)
        fields["duration"] = nanoseconds(max(0, written.ended_at - started))
        forgotten["active"] = ""
    must: Document = {"_id": written.execution_id, "status": RUNS, "epoch": written.epoch}
    if written.expected_beat is not None:
        must["beat"] = written.expected_beat
    return must, {"$set": fields, "$unset": forgotten}


def cancelling(document: Document, stamp: str, now: Moment) -> Change:
    """The change that ends a waiting execution as cancelled."""
    fields: Document = {
        "status": ExecutionStatus.FAILED.value,
        "cancel_requested": True,
        "completed_at": date(now),
        "outcome": ExecutionOutcome.CANCELLED.value,
        "output": CANCELLED_OUTPUT,
        "error": CANCELLED_ERROR,
        "stamp": stamp,
        "owes.tally": True,
        "owing": True,
    }
    if document["attempt"] == 0:
        fields["started_at"] = date(now)
    else:
        fields["duration"] = nanoseconds(max(0, now - moment_of(document["started_at"])))
    must = {"_id": document["_id"], "status": WAITS, "epoch": document["epoch"], "attempt": document["attempt"]}
    return must, {"$set": fields, "$unset": {"active": ""}}


def _attempt_document(attempt: Attempt) -> Document:
    return {
        "attempt": attempt.attempt,
        "epoch": attempt.epoch,
        "worker_id": attempt.worker_id,
        "started_at": date(attempt.started_at),
        "completed_at": date_or_none(attempt.completed_at),
        "outcome": None if attempt.outcome is None else attempt.outcome.value,
        "error": attempt.error,
    }


# ── in ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def execution_of(document: Document) -> Execution:
    """The execution of a document, whoever wrote it."""
    state = _state(document)
    completed = moment_or_none(document.get("completed_at")) if state.is_ended else None
    started = _started(document)
    if state.is_ended and completed is None:
        completed = started or 0
    queued = moment_or_none(document.get("queued_at"))
    queued = queued if queued is not None else started or completed or 0
    available = moment_or_none(document.get("available_at"))
    parameters, detail = document.get("parameters"), document.get("detail")
    outcome = _word(ExecutionOutcome, document.get("outcome"))
    scheduled_for, follows = document.get("scheduled_for"), document.get("follows")
    worker_id = text_of(document.get("worker_id"))
    error = document.get("error")
    return Execution(
        id=ExecutionId(str(document["_id"])),
        task_id=TaskId(text_of(document.get("task_id"))),
        cause=_word(Cause, document.get("cause")) or Cause.SCHEDULE,
        state=state,
        priority=priority_of(document),
        scheduled_for=moment_or_none(scheduled_for),
        queued_at=queued,
        available_at=queued if available is None else available,
        parameters=json_object(parameters) if isinstance(parameters, str) else None,
        requested_by=text_of(document.get("requested_by")),
        follows=ExecutionId(follows) if isinstance(follows, str) else None,
        attempt=_attempts_so_far(document),
        epoch=int_of(document.get("epoch")),
        beat=int_of(document.get("beat")),
        failures=int_of(document.get("failures")),
        losses=int_of(document.get("losses")),
        cancel_requested=bool(document.get("cancel_requested", False)),
        worker_id=WorkerId(worker_id) if worker_id else None,
        started_at=started,
        completed_at=completed,
        outcome=_OUTCOMES.get(state, outcome) if outcome is None and is_foreign(document) else outcome,
        output=text_of(document.get("output")),
        error=error if isinstance(error, str) and (error or not is_foreign(document)) else None,
        truncated=bool(document.get("truncated", False)),
        detail=json_object(detail) if isinstance(detail, str) else {},
        attempts=tuple(attempt_of(one) for one in document.get("attempts") or ()),
    )


_OUTCOMES: Final = {
    State.COMPLETED: ExecutionOutcome.SUCCEEDED,
    State.FAILED: ExecutionOutcome.FAILED,
    State.CANCELLED: ExecutionOutcome.CANCELLED,
}


def is_foreign(document: Document) -> bool:
    """Whether another program made this execution: ours have a key."""
    return "key" not in document


def _attempts_so_far(document: Document) -> int:
    if is_foreign(document):
        return int_of(document.get("retry_count")) + (0 if document.get("started_at") is None else 1)
    return int_of(document.get("attempt"))


def _started(document: Document) -> Moment | None:
    if is_foreign(document) or document["attempt"]:
        return moment_or_none(document.get("started_at"))
    return None


def _state(document: Document) -> State:
    """The state that a status means, in the words of ours or of another program."""
    word = text_of(document.get("status")).lower()
    if word == WAITS:
        return State.QUEUED
    if word == RUNS:
        return State.RUNNING
    if word in _FINE_WORDS:
        return State.COMPLETED
    if document.get("active"):
        # A newer version's word for what has not ended.
        return State.QUEUED if document.get("started_at") is None else State.RUNNING
    cancelled = document.get("outcome") == ExecutionOutcome.CANCELLED.value or word in _CANCELLED_WORDS
    if is_foreign(document) and document.get("error") == CANCELLED_ERROR:
        cancelled = True
    return State.CANCELLED if cancelled else State.FAILED


def priority_of(document: Document) -> Priority:
    try:
        return Priority.from_word(text_of(document.get("priority")))
    except KeyError:
        return Priority.NORMAL


def _word(of: type[Word], value: object) -> Word | None:
    try:
        return of(value)
    except ValueError:
        return None


def debts_of(document: Mapping[str, Any]) -> set[str]:
    """What is owed for this execution, ours to pay or not."""
    return set(document.get("owes") or ())


def owes_more(document: Mapping[str, Any]) -> bool:
    """Whether something is owed for this execution that only a newer version can pay."""
    return not debts_of(document).issubset(DEBTS)


def is_beyond(document: Mapping[str, Any]) -> bool:
    """Whether this waiting or running execution is left to a newer version: it says so, or has words new to us."""
    return needs_newer(document) or owes_more(document) or _word(Cause, document.get("cause")) is None


def details_of(document: Document) -> dict[int, JsonObject]:
    """What the attempts left behind that were tried again, by epoch."""
    return {int(epoch): json_object(text) for epoch, text in (document.get("details") or {}).items()}


def attempt_of(document: Mapping[str, Any]) -> Attempt:
    """One attempt, as it stands in its execution."""
    return Attempt(
        attempt=int(document["attempt"]),
        epoch=int(document["epoch"]),
        worker_id=WorkerId(document["worker_id"]),
        started_at=moment_of(document["started_at"]),
        completed_at=moment_or_none(document["completed_at"]),
        outcome=_word(AttemptOutcome, document["outcome"]),
        error=document["error"],
    )


def late_note(attempt: Attempt) -> Document:
    """What is set on an ended attempt to note a late result, by path."""
    return {f"attempts.{attempt.attempt - 1}.error": attempt.error}


def claim_of(document: Document, task: Task) -> Claim:
    """The claim on the running execution of *document*."""
    parameters = document.get("parameters")
    return Claim(
        execution_id=ExecutionId(document["_id"]),
        epoch=int(document["epoch"]),
        attempt=int(document["attempt"]),
        task=task,
        cause=Cause(document["cause"]),
        priority=priority_of(document),
        worker_id=WorkerId(document["worker_id"]),
        scheduled_for=moment_or_none(document.get("scheduled_for")),
        queued_at=moment_of(document["queued_at"]),
        available_at=moment_of(document["available_at"]),
        started_at=moment_of(document["started_at"]),
        parameters=json_object(parameters) if isinstance(parameters, str) else None,
        failures=int(document["failures"]),
        losses=int(document["losses"]),
        beat=int(document["beat"]),
    )


def running_of(document: Document, task: Task | None) -> Running:
    """The running execution of *document* as a stranger sees it."""
    return Running(
        execution_id=ExecutionId(document["_id"]),
        epoch=int(document["epoch"]),
        beat=int(document["beat"]),
        attempt=int(document["attempt"]),
        worker_id=WorkerId(document["worker_id"]),
        started_at=moment_of(document["started_at"]),
        task=task,
        task_id=TaskId(document["task_id"]),
        scheduled_for=moment_or_none(document.get("scheduled_for")),
        failures=int(document["failures"]),
        losses=int(document["losses"]),
        cancel_requested=bool(document["cancel_requested"]),
    )
