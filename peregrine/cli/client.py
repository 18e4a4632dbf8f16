"""Owns how the command line speaks to the service: one request, one answer, in the words of the standard library.

Nothing heavier than ``http.client``: a verb has answered before a bigger client would have been imported.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from urllib.parse import quote, urlencode, urlsplit

Document: TypeAlias = dict[str, Any]

JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"
TIMEOUT_SECONDS: Final = 30.0
BYTES_MAX: Final = 64 * 1024 * 1024


class Away(Exception):
    """Nobody answers at the address; the one line says so."""


class Refused(Exception):
    """The service said no: ``status``, its problem document, and what may help in a line of its own."""

    def __init__(self, status: int, problem: Document, hint: str = "") -> None:
        self.status = status
        self.problem = problem
        self.hint = hint
        super().__init__(self._line())

    def _line(self) -> str:
        detail = str(
            self.problem.get("detail") or self.problem.get("title") or http.client.responses.get(self.status, "")
        )
        faults = [
            f"{fault.get('pointer') or '/'}: {fault.get('message')}"
            for fault in self.problem.get("errors") or ()
            if isinstance(fault, dict)
        ]
        lines = [f"{self.status} {detail}".rstrip(), *(f"  {fault}" for fault in faults)]
        if self.hint:
            lines.append(f"  {self.hint}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Client:
    """Speaks to the service at *url* with *token*; a connection per request."""

    url: str
    token: str = ""
    hint_unknown: str = ""
    """What to say to who is not known (401): which token it was, and what to do."""
    timeout_seconds: float = TIMEOUT_SECONDS

    def get(self, *path: str, **query: object) -> Document:
        """The document at *path*; query values that are None are left out."""
        return self.ask("GET", path, query=query)

    def post(self, *path: str, body: object = None, query: Mapping[str, object] | None = None) -> Document:
        """The answer to *body* sent to *path*."""
        return self.ask("POST", path, body=body, query=query)

    def ask(
        self, method: str, path: tuple[str, ...], *, query: Mapping[str, object] | None = None, body: object = None
    ) -> Document:
        """The answer's document (empty for an answer without one).

        Raises:  Away when nobody answers; Refused for every status from 400 on.
        """
        target = self._target(path, query)
        with self._asked(method, target, None if body is None else json.dumps(body).encode(), JSON) as answer:
            document = _document(answer.read(BYTES_MAX))
            if answer.status >= 400:
                raise self._refused(answer.status, document)
            return document

    def events(self, *path: str, **query: object) -> Iterator[tuple[str, str, Document]]:
        """The server-sent events of *path* as (name, id, document), until the service closes the stream.

        Raises:  Away, also when the service falls silent; Refused.
        """
        with self._asked("GET", self._target(path, query), None, EVENTS) as answer:
            if answer.status >= 400:
                raise self._refused(answer.status, _document(answer.read(BYTES_MAX)))
            fields: dict[str, str] = {}
            while line := answer.readline(BYTES_MAX):
                text = line.decode("utf-8", "replace").rstrip("\r\n")
                if text:
                    name, _, value = text.partition(":")
                    fields[name] = value.removeprefix(" ")
                elif "data" in fields:
                    yield fields.get("event", "message"), fields.get("id", ""), _document(fields["data"].encode())
                    fields = {}

    def _refused(self, status: int, problem: Document) -> Refused:
        return Refused(status, problem, self.hint_unknown if status == http.client.UNAUTHORIZED else "")

    def _target(self, path: tuple[str, ...], query: Mapping[str, object] | None) -> str:
        target = urlsplit(self.url).path.rstrip("/") + "/scheduler/" + "/".join(quote(one, safe="") for one in path)
        given = {name: _word(value) for name, value in (query or {}).items() if value is not None}
        return f"{target}?{urlencode(given)}" if given else target

    @contextmanager
    def _asked(self, method: str, target: str, body: bytes | None, accept: str) -> Iterator[http.client.HTTPResponse]:
        """The answer, not read yet."""
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Away(f"{self.url!r} is no address of a service; write for example http://127.0.0.1:8000")
        make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        headers = {"Accept": accept, "Connection": "close"}
        if body is not None:
            headers["Content-Type"] = JSON
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        try:
            connection = make(parts.hostname, parts.port, timeout=self.timeout_seconds)
            try:
                connection.request(method, target, body=body, headers=headers)
                yield connection.getresponse()
            finally:
                connection.close()
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Away(self._why(error)) from None

    def _why(self, error: Exception) -> str:
        if isinstance(error, ConnectionRefusedError):
            return f"nobody answers at {self.url} (connection refused); is `peregrine serve` running?"
        if isinstance(error, TimeoutError):
            return f"no answer from {self.url} within {self.timeout_seconds:g} seconds"
        if isinstance(error, socket.gaierror):
            return f"there is no host of that name: {self.url}"
        if isinstance(error, ssl.SSLError):
            return f"no secure connection to {self.url}: {error.reason or error}"
        return f"no answer from {self.url}: {error}"


def _word(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value)


def _document(content: bytes) -> Document:
    try:
        document = json.loads(content) if content else {}
    except ValueError:
        return {"detail": "the answer is not JSON; is this the right address?"}
    return document if isinstance(document, dict) else {"items": document}
