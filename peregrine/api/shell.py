"""Owns what surrounds every request: its id, headers that protect browsers, HEAD, CORS; must not know routes.

Pure ASGI, around the framework: nothing here buffers an answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from peregrine.api.call import ANSWERED_BUG, HEAD_ONLY, REQUEST_ID

REQUEST_ID_HEADER: Final = "X-Request-Id"
PROTECTION: Final[Mapping[str, str]] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
"""What an answer says unless its maker said otherwise."""

_GIVEN_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}", re.ASCII)
_METHODS: Final = "GET, HEAD, POST, PUT, DELETE"
_REQUEST_HEADERS: Final = "Authorization, Content-Type, If-Match, Idempotency-Key, X-Request-Id"
_EXPOSED: Final = "ETag, Location, Retry-After, X-Request-Id"


class Shell:
    """The outermost layer."""

    def __init__(self, app: ASGIApp, *, new_id: Callable[[], str], origins: Collection[str]) -> None:
        self._app = app
        self._new_id = new_id
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _GIVEN_ID.fullmatch(given) else self._new_id()
        scope.setdefault("state", {})[REQUEST_ID] = request_id
        origin = headers.get("origin")
        dressed = self._dressing(send, request_id, origin)
        if scope["method"] == "OPTIONS" and origin in self._origins and "access-control-request-method" in headers:
            await Response(status_code=204, headers=_PREFLIGHT)(scope, receive, dressed)
            return
        if scope["method"] == "HEAD":
            scope["state"][HEAD_ONLY] = True
            scope, dressed = dict(scope, method="GET"), _Headless(dressed)
        await self._guarded(scope, receive, dressed)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve; what was answered and logged as a bug already does not go on to the server's own log."""
        try:
            await self._app(scope, receive, send)
        except Exception:
            if not scope["state"].get(ANSWERED_BUG):
                raise

    def _dressing(self, send: Send, request_id: str, origin: str | None) -> Send:
        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                head = MutableHeaders(scope=message)
                head[REQUEST_ID_HEADER] = request_id
                for name, text in PROTECTION.items():
                    head.setdefault(name, text)
                if self._origins:
                    head.add_vary_header("Origin")
                if origin is not None and origin in self._origins:
                    head["Access-Control-Allow-Origin"] = origin
                    head["Access-Control-Allow-Credentials"] = "true"
                    head["Access-Control-Expose-Headers"] = _EXPOSED
                    head["Cross-Origin-Resource-Policy"] = "cross-origin"
            await send(message)

        return dressed


_PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": _METHODS,
    "Access-Control-Allow-Headers": _REQUEST_HEADERS,
    "Access-Control-Max-Age": "600",
}


class _Headless:
    """Sends the head of an answer and drops its body: what HEAD is to GET."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._done = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._send(message)
        elif message["type"] == "http.response.body" and not message.get("more_body", False) and not self._done:
            self._done = True
            await self._send({"type": "http.response.body", "body": b""})
