"""Owns what surrounds every request: its id, headers that protect browsers, HEAD, CORS; must not know routes.

Pure ASGI, around the framework: nothing here buffers an answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, TypeAlias

from starlette.datastructures import MutableHeaders
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

Head: TypeAlias = Sequence[tuple[bytes, bytes]]
"""Header lines as the server takes them: names in small letters."""
_ID: Final = REQUEST_ID_HEADER.lower().encode()
_PROTECTION: Final[Head] = [(name.lower().encode(), text.encode()) for name, text in PROTECTION.items()]
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
        given = dict(reversed(list(scope["headers"])))  # of lines with one name the first counts
        request_id = given.get(_ID, b"").decode("latin-1")
        if not _GIVEN_ID.fullmatch(request_id):
            request_id = self._new_id()
        scope.setdefault("state", {})[REQUEST_ID] = request_id
        origin = given[b"origin"].decode("latin-1") if b"origin" in given else None
        dressed = self._dressing(send, request_id, origin)
        if scope["method"] == "OPTIONS" and origin in self._origins and b"access-control-request-method" in given:
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
                # A list of its own: the one in the message belongs to the answer, which may be sent again.
                lines = _protected(message.get("headers", ()), request_id)
                if self._origins:
                    self._open_to(origin, MutableHeaders(raw=lines))
                message = {**message, "headers": lines}
            await send(message)

        return dressed

    def _open_to(self, origin: str | None, head: MutableHeaders) -> None:
        """Say in *head* that scripts from *origin* may read the answer, if they may."""
        head.add_vary_header("Origin")
        if origin is not None and origin in self._origins:
            head["Access-Control-Allow-Origin"] = origin
            head["Access-Control-Allow-Credentials"] = "true"
            head["Access-Control-Expose-Headers"] = _EXPOSED
            head["Cross-Origin-Resource-Policy"] = "cross-origin"


def _protected(given: Head, request_id: str) -> list[tuple[bytes, bytes]]:
    """The lines *given*, and those of ours that they do not say otherwise."""
    names = {name for name, _ in given}
    return [*given, (_ID, request_id.encode()), *(line for line in _PROTECTION if line[0] not in names)]


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
