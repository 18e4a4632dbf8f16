"""Owns the one reader of request bodies: in front of the framework, bounded before it is parsed, strict when it is.

Reading is left until a route asks, so that who may not come in is told so before what they brought is looked at. The
framework itself never sees a body. Must not know any shape.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import Any, Final, TypeAlias

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from peregrine.api.patience import Turns
from peregrine.domain.payload import JsonValue
from peregrine.wire.problem import Refusal
from peregrine.wire.strict_json import read_json

BODY_MAX: Final = 1024 * 1024
STATE: Final = "peregrine.body"
YAML_TYPES: Final = ("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml")
READ_AT_ONCE: Final = 16 * 1024
"""Up to so many bytes of JSON are read where they come; more can take a second, and the loop has more to do."""
Aside: TypeAlias = Callable[[Awaitable[Any]], Awaitable[Any]]
_JSON: Final = re.compile(r"application/(?:json|.*\+json)", re.DOTALL)
_TOO_LARGE: Final = f"The body is larger than {BODY_MAX} bytes."


async def _at_once(waiting: Awaitable[Any]) -> Any:
    return await waiting


class RequestBody:
    """The body of one request, read at most once."""

    def __init__(self, scope: Scope, receive: Receive, reading: Turns) -> None:
        self._reading = reading
        self._lines = scope["headers"]
        self._receive = receive
        self._raw: bytes | None = None
        self.is_gone = False
        self.aside: Aside = _at_once
        """How what takes long is waited for: others have their turn meanwhile."""

    async def raw(self) -> bytes:
        """All bytes. Raises Refusal for too many of them, or when the client goes away before the end."""
        if self._raw is None:
            self._raw = await self._read()
        return self._raw

    async def json(self) -> JsonValue:
        """The document, or None when there is no body. Raises Invalid and Refusal."""
        return await self.document({})

    async def document(self, others: dict[str, Callable[[bytes], JsonValue]]) -> JsonValue:
        """The same, where media types in *others* have a reader of their own."""
        raw = await self.raw()
        if not raw:
            return None
        kind = self._media_type()
        if kind not in others and not _JSON.fullmatch(kind):
            raise Refusal("unsupported_media_type", "Send the body as application/json.")
        if kind not in others and len(raw) <= READ_AT_ONCE:
            return read_json(raw)
        document: JsonValue = await self.aside(self._read_beside(others.get(kind, read_json), raw))
        return document

    async def _read_beside(self, read: Callable[[bytes], JsonValue], raw: bytes) -> JsonValue:
        """Read on a thread, one body at a time: several would take the interpreter from the loop in turn."""
        async with self._reading.taken():
            return await asyncio.to_thread(read, raw)

    @cached_property
    def _headers(self) -> dict[bytes, bytes]:
        """What the header says of the body; most requests have none, and nobody asks."""
        return {name: value for name, value in self._lines if name.startswith(b"content-")}

    def _media_type(self) -> str:
        if self._headers.get(b"content-encoding", b"identity").lower() not in (b"identity", b""):
            raise Refusal("unsupported_media_type", "Send the body without content encoding.")
        text = self._headers.get(b"content-type", b"").decode("latin-1")
        kind, *parameters = (part.strip().lower() for part in text.split(";"))
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "charset" and value.strip().strip('"') not in ("utf-8", "utf8", "us-ascii"):
                raise Refusal("unsupported_media_type", "Send the body in UTF-8.")
        return str(kind)

    async def _read(self) -> bytes:
        announced = self._headers.get(b"content-length", b"")
        if announced.isdigit() and (len(announced) > 12 or int(announced) > BODY_MAX):
            raise Refusal("body_too_large", _TOO_LARGE)
        chunks, size = [], 0
        while True:
            message = await self.aside(self._receive())
            if message["type"] == "http.disconnect":
                self.is_gone = True
                raise Refusal("body_not_received", "The connection ended before the body did.")
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > BODY_MAX:
                raise Refusal("body_too_large", _TOO_LARGE)
            chunks.append(chunk)
            if not message.get("more_body", False):
                return b"".join(chunks)


class BodyReader:
    """Puts a ``RequestBody`` into the request's state and shows the framework an empty body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._reading = Turns(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})[STATE] = RequestBody(scope, receive, self._reading)
        await self._app(scope, _Empty(receive), send)


class _Empty:
    """Receives nothing, then waits for the end of the connection as the true one does."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._begun = False

    async def __call__(self) -> Message:
        if not self._begun:
            self._begun = True
            return {"type": "http.request", "body": b"", "more_body": False}
        while (message := await self._receive())["type"] != "http.disconnect":
            pass
        return message
