"""Owns the routes of what executions say; must not know how it is kept, or how a stream is."""

from __future__ import annotations

from msgspec import UNSET
from starlette.responses import Response

from peregrine.api.call import Call, answer
from peregrine.api.identity import principal_of
from peregrine.api.operation import Routes
from peregrine.api.streams import LogStream, Right, Seats
from peregrine.domain.ids import TaskId
from peregrine.domain.journal import Place
from peregrine.domain.permission import Permission
from peregrine.ports.identity import Asker
from peregrine.usecases import logs as usecases
from peregrine.usecases.access import require
from peregrine.wire.execution import progress_shape, status_word
from peregrine.wire.logs import MEDIA_TYPE, LineShape, LogPage, LogQuery, line_shape, place_of

NEEDS = Permission.EXECUTIONS_READ


def log_routes() -> Routes:
    """The routes of this file; each application has its own streams to count."""
    routes = Routes("executions")
    seats = Seats()

    @routes.add("GET", "/scheduler/executions/{exec_id}/logs", needs=NEEDS, query=LogQuery, answers=LogPage)
    async def get_logs(call: Call) -> Response:
        """What an execution logged, printed and said of its progress"""
        return await _page(call, None)

    @routes.add("GET", "/scheduler/tasks/{id}/executions/{exec_id}/logs", needs=NEEDS, query=LogQuery, answers=LogPage)
    async def get_logs_of_task(call: Call) -> Response:
        """The same, of one task's execution"""
        return await _page(call, call.task_id)

    @routes.add("GET", "/scheduler/executions/{exec_id}/logs/stream", needs=NEEDS, query=LogQuery, answers=MEDIA_TYPE,
                refuses=[429])  # fmt: skip
    async def stream_logs(call: Call) -> Response:
        """What an execution says while it runs: server-sent events `line`, `progress` and `end`"""
        return await _stream(call, None, seats)

    @routes.add("GET", "/scheduler/tasks/{id}/executions/{exec_id}/logs/stream", needs=NEEDS, query=LogQuery,
                answers=MEDIA_TYPE, refuses=[429])  # fmt: skip
    async def stream_logs_of_task(call: Call) -> Response:
        """The same, of one task's execution"""
        return await _stream(call, call.task_id, seats)

    return routes


async def _page(call: Call, task_id: TaskId | None) -> Response:
    after = call.query(LogQuery).after
    log = await usecases.read_log(call.means, call.asker, call.execution_id, task_id=task_id, after=after)
    lines: list[LineShape] = [line_shape(said.attempt, said.line) for said in log.lines]
    return answer(
        LogPage(
            execution_id=log.execution.id,
            status=status_word(log.execution.state),
            live=log.is_live,
            progress=UNSET if log.progress is None else progress_shape(log.progress),
            lines=lines,
            next=str(log.place),
        )
    )


async def _stream(call: Call, task_id: TaskId | None, seats: Seats) -> Response:
    after, execution_id = _place(call), call.execution_id
    caller = call.asker.id if call.asker.principal.is_known else call.asker.request.address
    give_back = seats.take(caller)
    try:
        following = await usecases.follow_log(
            call.means, call.asker, execution_id, task_id=task_id, after=after
        )  # fmt: skip
    except BaseException:
        give_back()
        raise

    def let_go() -> None:
        following.close()
        give_back()

    try:
        return LogStream(following, await following.look(), _right(call), let_go=let_go)
    except BaseException:
        let_go()
        raise


def _place(call: Call) -> Place:
    seen = call.request.headers.get("last-event-id")
    return place_of(seen) if seen else call.query(LogQuery).after


def _right(call: Call) -> Right:
    """The right to read on: the same credentials, proven anew, and the permission they have then."""

    async def check() -> None:
        principal = await principal_of(call.request, call.desk.identity, call.desk.origins)
        await require(call.means.grants, Asker(principal=principal, request=call.asker.request), NEEDS)

    return Right(check=check, now=call.means.clock.now, expires_at=call.asker.principal.expires_at)
