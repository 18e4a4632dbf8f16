"""Owns values with sensible defaults for tests: name what matters, the rest is calm; must not know any store.

Every builder takes the fields of the record it builds as keywords (``a_task("t1", enabled=False)``); a field that the
record does not have is a ``TypeError``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import Final

from peregrine.domain.execution import AttemptOutcome, Cause, Claim, NewExecution, Outcome, Settlement
from peregrine.domain.ids import ExecutionId, TaskId, WorkerId
from peregrine.domain.moment import MINUTE, SECOND, Moment
from peregrine.domain.occurrence import Skip, occurrence_execution_id, occurrence_key
from peregrine.domain.payload import FunctionPayload, Kind
from peregrine.domain.planning import Plan
from peregrine.domain.policy import Overlap, Policy, Priority
from peregrine.domain.retry import settle
from peregrine.domain.task import Task
from peregrine.ports.host import Instance
from peregrine.ports.store import ClaimRequest

NOW: Final[Moment] = 1_767_268_800_000
"""2026-01-01T12:00:00Z: a whole minute, far from midnight."""

_serial = count(1)


def a_task(id: str = "task-1", /, **fields: object) -> Task:
    """An enabled function task that is due every minute; its name is made from *id*, so two tasks do not clash."""
    task = Task(
        id=TaskId(id),
        name=f"name of {id}",
        kind=Kind.FUNCTION,
        payload=FunctionPayload(function_name="greet"),
        schedule="0 * * * * *",
        anchor=NOW,
        created_at=NOW,
        updated_at=NOW,
    )
    return replace(task, **fields)  # type: ignore[arg-type]


def a_parallel_task(id: str = "task-1", /, **fields: object) -> Task:
    """A task whose executions may run side by side, for tests that are not about overlap."""
    return a_task(id, **({"policy": Policy(overlap=Overlap.ALLOW)} | fields))


def a_new_execution(id: str = "execution-1", task_id: str = "task-1", /, **fields: object) -> NewExecution:
    """Work that somebody asked for, available at once; its key is made from its id."""
    new = NewExecution(
        id=ExecutionId(id),
        key=f"m:{task_id}:{id}",
        task_id=TaskId(task_id),
        cause=Cause.MANUAL,
        priority=Priority.NORMAL,
        queued_at=NOW,
        available_at=NOW,
    )
    return replace(new, **fields)  # type: ignore[arg-type]


def an_occurrence(task: Task, moment: Moment, **fields: object) -> NewExecution:
    """The execution that a plan makes for *task* at *moment*."""
    new = NewExecution(
        id=occurrence_execution_id(task.id, moment),
        key=occurrence_key(task.id, moment),
        task_id=task.id,
        cause=Cause.SCHEDULE,
        priority=task.priority,
        scheduled_for=moment,
        queued_at=moment,
        available_at=moment,
    )
    return replace(new, **fields)  # type: ignore[arg-type]


def a_plan(task: Task, *moments: Moment, skips: Sequence[Skip] = (), **fields: object) -> Plan:
    """A plan that runs *task*, untouched since its creation, at *moments*, and goes on a minute after the last."""
    last = max([task.updated_at, *moments, *(skip.last for skip in skips)])
    plan = Plan(
        task_id=task.id,
        generation=task.generation,
        cursor=task.updated_at,
        cursor_after=last,
        next_run_at=last + MINUTE,
        executions=tuple(an_occurrence(task, moment) for moment in moments),
        skips=tuple(skips),
    )
    return replace(plan, **fields)  # type: ignore[arg-type]


def a_claim_request(limit: int = 100, **fields: object) -> ClaimRequest:
    """A request of worker ``worker-1`` with an id of its own."""
    request = ClaimRequest(claim_id=f"claim-{next(_serial)}", worker_id=WorkerId("worker-1"), now=NOW, limit=limit)
    return replace(request, **fields)  # type: ignore[arg-type]


def an_outcome(verdict: AttemptOutcome = AttemptOutcome.SUCCEEDED, **fields: object) -> Outcome:
    """What an executor says: ``done`` for a success, else an error that names the verdict."""
    succeeded = verdict is AttemptOutcome.SUCCEEDED
    outcome = Outcome(verdict=verdict, output="done" if succeeded else "", error=None if succeeded else f"it {verdict}")
    return replace(outcome, **fields)  # type: ignore[arg-type]


def a_settlement(
    claim: Claim, verdict: AttemptOutcome = AttemptOutcome.SUCCEEDED, *, at: Moment | None = None, **fields: object
) -> Settlement:
    """How *claim* ends with *verdict*, a second after its start unless told, as the domain decides it."""
    ended_at = claim.started_at + SECOND if at is None else at
    return replace(settle(claim, an_outcome(verdict), ended_at, 0.5), **fields)  # type: ignore[arg-type]


def an_instance(id: str = "worker-1", /, **fields: object) -> Instance:
    """A process of ours on a host of its own."""
    instance = Instance(
        id=WorkerId(id),
        host="host-1",
        place="boot-1/4026531836",
        pid=4242,
        process_started=987_654_321,
        version="0.1.0",
        slots=10,
        started_at=NOW,
    )
    return replace(instance, **fields)  # type: ignore[arg-type]
