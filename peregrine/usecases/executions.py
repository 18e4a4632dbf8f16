"""Owns what a person may ask of executions: run now, look, cancel; must not know HTTP, workers or the engine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from peregrine.domain.errors import Conflict, Fault, Invalid, NotFound, Unsure
from peregrine.domain.execution import Cause, Execution, NewExecution
from peregrine.domain.ids import ExecutionId, TaskId
from peregrine.domain.payload import JsonObject
from peregrine.domain.permission import Permission
from peregrine.domain.policy import Overlap, Priority
from peregrine.domain.query import ExecutionFilter, Page, PageRequest
from peregrine.domain.task import Task
from peregrine.ports.bus import Topic
from peregrine.ports.identity import Asker
from peregrine.ports.store import CancelVerdict
from peregrine.ports.vault import opened_task, sealed_parameters
from peregrine.usecases.access import require
from peregrine.usecases.logs import with_progress
from peregrine.usecases.means import Means
from peregrine.usecases.tasks import existing, let_come

_PARAMETERS: Final = "/config/parameters"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """How to run a task now. With ``key``, asking twice with the same one gives the same execution."""

    parameters: JsonObject | None = None
    priority: Priority | None = None
    key: str = ""


PLAIN: Final = Order()


async def execute_task(means: Means, by: Asker, task_id: TaskId, order: Order = PLAIN) -> Execution:
    """The execution that was queued; it can be read by its id at once.

    Raises:  NotFound; Conflict ``task_disabled``; Invalid; LimitReached ``queue_full``; Unsure.
    """
    await require(means.grants, by, Permission.TASKS_EXECUTE)
    view = await existing(means, task_id)
    task = view.task
    if task.policy.overlap is Overlap.SKIP:
        await let_come(means, [view])  # it would be left out for this one, and is decided already
    if not task.enabled:
        raise Conflict("A disabled task can't be executed: enable it first.", code="task_disabled")
    _check_parameters(means, task, order)
    new = _new_execution(means, by, task, order)
    try:
        execution = await means.store.enqueue(new, queue_limit=means.queue_size)
    except Unsure:
        # The key makes asking again harmless; a second lost answer is the caller's to know.
        execution = await means.store.get_execution(new.id) or await means.store.enqueue(
            new, queue_limit=means.queue_size
        )
    means.bus.publish(Topic.QUEUED)
    return execution


async def get_execution(
    means: Means, by: Asker, execution_id: ExecutionId, *, task_id: TaskId | None = None
) -> Execution:
    """One execution. Raises NotFound, also if it belongs to another task than *task_id*."""
    await require(means.grants, by, Permission.EXECUTIONS_READ)
    return await _existing_execution(means, execution_id, task_id)


async def list_executions(means: Means, by: Asker, filter: ExecutionFilter, page: PageRequest) -> Page[Execution]:
    """One page, waiting ones first, then the newest."""
    await require(means.grants, by, Permission.EXECUTIONS_READ)
    return _with_progress(means, await means.store.list_executions(filter, page))


async def list_history(
    means: Means, by: Asker, task_id: TaskId, filter: ExecutionFilter, page: PageRequest
) -> Page[Execution]:
    """The executions of one task. Raises NotFound."""
    await require(means.grants, by, Permission.EXECUTIONS_READ)
    await existing(means, task_id)
    return _with_progress(means, await means.store.list_executions(filter, page))


async def cancel_execution(means: Means, by: Asker, execution_id: ExecutionId) -> Execution:
    """Cancel this one; its task goes on. One that waits ends at once, one that runs is told.

    Raises:  NotFound; Conflict ``already_ended``.
    """
    await require(means.grants, by, Permission.TASKS_EXECUTE)
    found = await means.store.request_cancel(execution_id=execution_id, now=means.clock.now())
    if not found:
        raise NotFound("execution", execution_id)
    if found[0][1] is CancelVerdict.ENDED:
        raise Conflict("The execution has ended already.", code="already_ended")
    means.bus.publish(Topic.CANCEL)
    return await _existing_execution(means, execution_id, None)


async def _existing_execution(means: Means, execution_id: ExecutionId, task_id: TaskId | None) -> Execution:
    execution = await means.store.get_execution(execution_id)
    if execution is None or (task_id is not None and execution.task_id != task_id):
        raise NotFound("execution", execution_id)
    return with_progress(means, execution)


def _with_progress(means: Means, page: Page[Execution]) -> Page[Execution]:
    return replace(page, items=[with_progress(means, execution) for execution in page.items])


def _check_parameters(means: Means, task: Task, order: Order) -> None:
    """Raises Invalid if what runs the task would refuse *order*'s parameters; pointers into the order."""
    if order.parameters is None:
        return
    faults = means.check(opened_task(means.vault, task).payload, order.parameters)
    if faults:
        raise Invalid(Fault(fault.pointer.replace(_PARAMETERS, "/parameters", 1), fault.message) for fault in faults)


def _new_execution(means: Means, by: Asker, task: Task, order: Order) -> NewExecution:
    id = ExecutionId(means.entropy.new_id())
    now = means.clock.now()
    return NewExecution(
        id=id,
        key=f"m:{task.id}:{by.id}:{order.key}" if order.key else f"m:{task.id}:{id}",
        task_id=task.id,
        cause=Cause.MANUAL,
        priority=task.priority if order.priority is None else order.priority,
        queued_at=now,
        available_at=now,
        parameters=sealed_parameters(means.vault, task.id, order.parameters),
        requested_by=by.id,
    )
