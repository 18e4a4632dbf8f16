"""Owns the routes that show what tasks may name; must not know how it is registered."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from peregrine.api.call import Call, answer
from peregrine.api.operation import Routes
from peregrine.domain.permission import Permission
from peregrine.usecases import catalogue as usecases
from peregrine.wire.catalogue import ExecutorList, FunctionList, executor_list, function_list

routes: Final = Routes("catalogue")


@routes.add("GET", "/scheduler/functions", needs=Permission.TASKS_READ, answers=FunctionList)
async def list_functions(call: Call) -> Response:
    """Functions that tasks may name, with the schema of their parameters"""
    return answer(function_list(await usecases.list_functions(call.means, call.asker)))


@routes.add("GET", "/scheduler/executors", needs=Permission.TASKS_READ, answers=ExecutorList)
async def list_executors(call: Call) -> Response:
    """Custom executors that tasks may name, with the schema of their parameters"""
    return answer(executor_list(await usecases.list_executors(call.means, call.asker)))
