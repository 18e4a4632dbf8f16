"""Owns the routes of tasks; must not know what they do."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from peregrine.api.call import EVER, Call, Span, answer
from peregrine.api.operation import Routes
from peregrine.domain.moment import Moment
from peregrine.domain.permission import Permission
from peregrine.domain.task import TaskView
from peregrine.usecases import tasks as usecases
from peregrine.wire import orders
from peregrine.wire.execution import OccurrencePage, occurrence_page
from peregrine.wire.orders import NoOrder, PauseOrder, Reloaded, read_body
from peregrine.wire.queries import CursorPaged, TaskQuery
from peregrine.wire.task import TaskPage, TaskShape, etag_of, task_page, task_shape
from peregrine.wire.task_input import NewTask, TaskChange, read_new_task, read_task_change

routes: Final = Routes("tasks")


@routes.add("GET", "/scheduler/tasks", needs=Permission.TASKS_READ, query=TaskQuery, answers=TaskPage, lasts=True)
async def list_tasks(call: Call) -> Response:
    """Tasks, filtered, sorted, page by page"""
    query = call.query(TaskQuery)
    asked, (sort, descending) = query.request(), query.sort
    filter = query.filter()
    page, now = await usecases.list_tasks(call.means, call.asker, filter, asked, sort=sort, descending=descending)
    call.span = Span(since=now, until=filter.holds_until(page.items, now))
    return answer(task_page(page, asked, now, call.desk.kept))


@routes.add("POST", "/scheduler/tasks", needs=Permission.TASKS_WRITE, body=NewTask, answers=TaskShape, status=201,
            refuses=[409])  # fmt: skip
async def create_task(call: Call) -> Response:
    """Make a task"""
    document = await call.json()
    view = await usecases.create_task(
        call.means, call.asker, lambda making: read_new_task(document, making), id=call.idempotent_id()
    )
    where = {"Location": f"{call.desk.prefix}/scheduler/tasks/{view.task.id}"}
    return _changed(call, view, status=201, headers=where)


@routes.add("GET", "/scheduler/tasks/{id}", needs=Permission.TASKS_READ, answers=TaskShape, lasts=True)
async def get_task(call: Call) -> Response:
    """One task"""
    view = await usecases.get_task(call.means, call.asker, call.task_id)
    now = call.means.clock.now()
    call.span = Span(since=now, until=view.task.pause_ends_after(now))
    return _task(view, now)


@routes.add("PUT", "/scheduler/tasks/{id}", needs=Permission.TASKS_WRITE, body=TaskChange, answers=TaskShape,
            refuses=[409], conditional=True)  # fmt: skip
async def update_task(call: Call) -> Response:
    """Change the fields given"""
    task_id, document = call.task_id, await call.json()
    view = await usecases.update_task(
        call.means,
        call.asker,
        task_id,
        lambda stored, making: read_task_change(document, stored, making),
        call.unless(),
    )
    return _changed(call, view)


@routes.add("DELETE", "/scheduler/tasks/{id}", needs=Permission.TASKS_DELETE, body=NoOrder, body_required=False,
            answers=orders.Stopped, conditional=True)  # fmt: skip
async def delete_task(call: Call) -> Response:
    """Delete a task and cancel what is left of it"""
    await _nothing(call)
    stopped = await usecases.delete_task(call.means, call.asker, call.task_id, call.unless())
    return answer(_stopped(stopped, "Task deleted successfully"))


@routes.add("POST", "/scheduler/tasks/{id}/stop", needs=Permission.TASKS_EXECUTE, body=NoOrder, body_required=False,
            answers=orders.Stopped, conditional=True)  # fmt: skip
async def stop_task(call: Call) -> Response:
    """Cancel what runs and what waits, and pause the task"""
    await _nothing(call)
    stopped = await usecases.stop_task(call.means, call.asker, call.task_id, call.unless())
    return answer(_stopped(stopped, "Task stopped successfully"))


@routes.add("POST", "/scheduler/tasks/{id}/pause", needs=Permission.TASKS_WRITE, body=PauseOrder, body_required=False,
            answers=TaskShape, conditional=True)  # fmt: skip
async def pause_task(call: Call) -> Response:
    """Start nothing by schedule, until resumed or until a moment"""
    task_id, order = call.task_id, read_body(PauseOrder, await call.json())
    view = await usecases.pause_task(
        call.means, call.asker, task_id, call.unless(), reason=order.reason, until=order.until
    )
    return _changed(call, view)


@routes.add("POST", "/scheduler/tasks/{id}/resume", needs=Permission.TASKS_WRITE, body=PauseOrder, body_required=False,
            answers=TaskShape, conditional=True)  # fmt: skip
async def resume_task(call: Call) -> Response:
    """Go on by schedule"""
    task_id, _ = call.task_id, read_body(PauseOrder, await call.json())
    return _changed(call, await usecases.resume_task(call.means, call.asker, task_id, call.unless()))


@routes.add("POST", "/scheduler/tasks/{id}/enable", needs=Permission.TASKS_WRITE, body=NoOrder, body_required=False,
            answers=TaskShape, conditional=True)  # fmt: skip
async def enable_task(call: Call) -> Response:
    """Enable a disabled task"""
    await _nothing(call)
    view = await usecases.set_enabled(call.means, call.asker, call.task_id, call.unless(), to=True)
    return _changed(call, view)


@routes.add("POST", "/scheduler/tasks/{id}/disable", needs=Permission.TASKS_WRITE, body=NoOrder, body_required=False,
            answers=TaskShape, conditional=True)  # fmt: skip
async def disable_task(call: Call) -> Response:
    """Disable a task without deleting it"""
    await _nothing(call)
    view = await usecases.set_enabled(call.means, call.asker, call.task_id, call.unless(), to=False)
    return _changed(call, view)


@routes.add("GET", "/scheduler/tasks/{id}/occurrences", needs=Permission.EXECUTIONS_READ, query=CursorPaged,
            answers=OccurrencePage, lasts=True)  # fmt: skip
async def list_occurrences(call: Call) -> Response:
    """What became of each moment of the schedule, and why"""
    task_id, asked = call.task_id, call.query(CursorPaged).request()
    page = await usecases.list_occurrences(call.means, call.asker, task_id, asked)
    call.span = EVER
    return answer(occurrence_page(page, asked))


@routes.add("POST", "/scheduler/reload", needs=Permission.TASKS_ADMIN, body=NoOrder, body_required=False,
            answers=Reloaded)  # fmt: skip
async def reload_tasks(call: Call) -> Response:
    """Read the tasks from the store anew"""
    await _nothing(call)
    total = await usecases.reload_tasks(call.means, call.asker)
    return answer(Reloaded(message="Tasks reloaded successfully", total_tasks=total))


async def _nothing(call: Call) -> None:
    """Raises what is wrong with a body where none is needed."""
    read_body(NoOrder, await call.json())


def _changed(call: Call, view: TaskView, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return _task(view, call.means.clock.now(), status=status, headers=headers)


def _task(view: TaskView, now: Moment, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    head = {"ETag": etag_of(view.task)} | (headers or {})
    return answer(task_shape(view, now), status, head)


def _stopped(stopped: usecases.Stopped, message: str) -> orders.Stopped:
    return orders.Stopped(
        message=message,
        task_id=stopped.task_id,
        cancelled=len(stopped.cancelled),
        cancelled_executions=list(stopped.cancelled),
    )
