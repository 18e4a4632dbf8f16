"""Owns the routes of executions; must not know what they do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from starlette.responses import Response

from peregrine.api.call import EVER, Call, answer
from peregrine.api.operation import Routes
from peregrine.domain.execution import Execution
from peregrine.domain.permission import Permission
from peregrine.usecases import executions as usecases
from peregrine.usecases.executions import Order
from peregrine.usecases.logs import may_speak
from peregrine.wire.execution import ExecutionPage, ExecutionShape, Started, execution_page, execution_shape, started
from peregrine.wire.orders import ExecuteOrder, NoOrder, read_body
from peregrine.wire.queries import ExecutionQuery

routes: Final = Routes("executions")


@routes.add("POST", "/scheduler/tasks/{id}/execute", "/scheduler/tasks/{id}/start", needs=Permission.TASKS_EXECUTE,
            body=ExecuteOrder, body_required=False, answers=Started, status=202, refuses=[409])  # fmt: skip
async def execute_task(call: Call) -> Response:
    """Run a task now"""
    task_id, order = call.task_id, read_body(ExecuteOrder, await call.json())
    execution = await usecases.execute_task(
        call.means,
        call.asker,
        task_id,
        Order(parameters=order.parameters, priority=order.priority, key=call.idempotency_key or ""),
    )
    where = {"Location": f"{call.desk.prefix}/scheduler/executions/{execution.id}"}
    return answer(started(execution), 202, where)


@routes.add("GET", "/scheduler/tasks/{id}/history", needs=Permission.EXECUTIONS_READ, query=ExecutionQuery,
            answers=ExecutionPage, lasts=True)  # fmt: skip
async def list_history(call: Call) -> Response:
    """Executions of one task"""
    task_id, query = call.task_id, call.query(ExecutionQuery)
    asked = query.request()
    page = await usecases.list_history(call.means, call.asker, task_id, query.filter(task_id), asked)
    _say_span(call, page.items)
    return answer(execution_page(page, asked, call.desk.kept))


@routes.add("GET", "/scheduler/tasks/{id}/executions/{exec_id}", needs=Permission.EXECUTIONS_READ,
            answers=ExecutionShape, lasts=True)  # fmt: skip
async def get_execution_of_task(call: Call) -> Response:
    """One execution of a task"""
    execution = await usecases.get_execution(call.means, call.asker, call.execution_id, task_id=call.task_id)
    _say_span(call, [execution])
    return answer(execution_shape(execution))


@routes.add("GET", "/scheduler/executions", needs=Permission.EXECUTIONS_READ, query=ExecutionQuery,
            answers=ExecutionPage, lasts=True)  # fmt: skip
async def list_executions(call: Call) -> Response:
    """Executions of all tasks"""
    query = call.query(ExecutionQuery)
    asked = query.request()
    page = await usecases.list_executions(call.means, call.asker, query.filter(), asked)
    _say_span(call, page.items)
    return answer(execution_page(page, asked, call.desk.kept))


@routes.add("GET", "/scheduler/executions/{exec_id}", needs=Permission.EXECUTIONS_READ, answers=ExecutionShape,
            lasts=True)  # fmt: skip
async def get_execution(call: Call) -> Response:
    """One execution"""
    execution = await usecases.get_execution(call.means, call.asker, call.execution_id)
    _say_span(call, [execution])
    return answer(execution_shape(execution))


@routes.add("POST", "/scheduler/executions/{exec_id}/cancel", needs=Permission.TASKS_EXECUTE, body=NoOrder,
            body_required=False, answers=ExecutionShape, status=202, refuses=[409])  # fmt: skip
async def cancel_execution(call: Call) -> Response:
    """Cancel this execution; its task goes on"""
    execution_id, _ = call.execution_id, read_body(NoOrder, await call.json())
    execution = await usecases.cancel_execution(call.means, call.asker, execution_id)
    return answer(execution_shape(execution), 202)


def _say_span(call: Call, shown: Sequence[Execution]) -> None:
    """What runs may say how far it is, and nothing of that is written."""
    call.span = None if may_speak(call.means, shown) else EVER
