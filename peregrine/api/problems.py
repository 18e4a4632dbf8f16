"""Owns the one place where what was raised becomes an answer; must not know any route."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from peregrine.api.call import ANSWERED_BUG, REQUEST_ID
from peregrine.domain.errors import PeregrineError
from peregrine.wire.envelope import encode
from peregrine.wire.problem import MEDIA_TYPE, Refusal, headers_of, problem_of

_log = logging.getLogger(__name__)
_CODES: Final = {404: "not_found", 405: "method_not_allowed"}


def problem_answer(scope: Scope, error: PeregrineError | Refusal) -> Response:
    """The problem document for *error*."""
    problem = problem_of(
        error,
        instance=quote(scope.get("path", ""), safe="/:@!$&'()*+,;=-._~"),
        request_id=str(scope.get("state", {}).get(REQUEST_ID, "")),
    )
    return Response(encode(problem), problem.status, headers_of(error), MEDIA_TYPE)


async def answer_refusal(request: Request, error: Exception) -> Response:
    """What the house or the door refuses."""
    assert isinstance(error, PeregrineError | Refusal)
    return problem_answer(request.scope, error)


async def answer_framework(request: Request, error: Exception) -> Response:
    """What the framework refuses: an unknown path, a method that the path does not have."""
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code)
    if code == "method_not_allowed":
        allowed = ", ".join(allowed_methods(request.app.routes, request.scope))
        detail = f"This path answers to {allowed}."
        return problem_answer(request.scope, Refusal(code, detail, headers={"Allow": allowed}))
    if code is None:
        _log.error("framework_refused", extra={"status": error.status_code, "detail": str(error.detail)[:200]})
        code = "internal" if error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR else "not_found"
    return problem_answer(request.scope, Refusal(code, "There is nothing at this path."))


async def answer_bug(request: Request, error: Exception) -> Response:
    """What nobody foresaw: the log has it all, the answer nothing of it."""
    request.scope["state"][ANSWERED_BUG] = True
    _log.error("request_crashed", exc_info=error, extra={"path": request.url.path, "method": request.method})
    return problem_answer(request.scope, Refusal("internal", "Something went wrong here; the log knows more."))


def allowed_methods(routes: Iterable[BaseRoute], scope: Scope) -> list[str]:
    """All methods that some route has for the path of *scope*."""
    matching = [route for route in routes if route.matches(scope)[0] is not Match.NONE]
    # A path that is written out is more than an id that happens to read so.
    exact = [route for route in matching if getattr(route, "path", "") == scope["path"]]
    found: set[str] = set().union(*(getattr(route, "methods", None) or () for route in exact or matching))
    if "GET" in found:
        found.add("HEAD")
    return sorted(found)
