"""Owns how long a client may take: to send a header, to send a body, to take an answer, to stay silent between two.

The server underneath has a deadline for silence only; half a header would stay open for ever. Here each connection has
one timer, set anew at each turn of the conversation. Must not know routes, settings or what is served.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

HEADER_SECONDS: Final = 10.0
BODY_SECONDS: Final = 30.0
IDLE_SECONDS: Final = 15
TAKE_SECONDS: Final = 30.0
"""How long an answer may lie unread in our buffers."""
LINGER_SECONDS: Final = 5.0
"""How long a connection that we closed may take to take the rest."""
HEADER_BYTES_MAX: Final = 32 * 1024


class PatientProtocol(HttpToolsProtocol):
    """One connection with deadlines. A client that misses one is told so, if it may still listen, and closed."""

    connections_max: int = 1000
    header_seconds: float = HEADER_SECONDS
    body_seconds: float = BODY_SECONDS
    take_seconds: float = TAKE_SECONDS

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._deadline: asyncio.TimerHandle | None = None
        self._take_deadline: asyncio.TimerHandle | None = None
        self._in_head = True
        self._head_bytes = 0
        self._void_bytes = 0
        self._refused = False
        self._answering: RequestResponseCycle | None = None

    # ── the connection ──

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or refuse it where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.connections_max:
            self._refuse(503, b"retry-after: 1\r\n")
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers and what was asked ahead, and tell whoever still answers that nobody listens.

        The server underneath tells the newest request only, which need not be the one that is being answered.
        """
        self._disarm()
        self._disarm_take()
        self.pipeline.clear()
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True
            self._answering.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; count what belongs to a header that has not ended, and what is sent for a body but is none.

        The parser itself keeps a trailer until it ends, however long it gets.
        """
        if self._refused:
            return
        if self._in_head:
            self._head_bytes += len(data)
            if self._deadline is None:
                self._await_head()
        else:
            self._void_bytes += len(data)
        super().data_received(data)
        if (self._head_bytes if self._in_head else self._void_bytes) > HEADER_BYTES_MAX:
            if not self.transport.is_closing():
                self._refuse(431)

    def _unsupported_upgrade_warning(self) -> None:
        """An upgrade that we do not know is answered as the plain request it also is."""

    # ── the parser's calls ──

    def on_message_begin(self) -> None:
        """A new request begins."""
        super().on_message_begin()
        self._in_head = True
        if self._deadline is None:
            self._await_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A line of the header; or, behind the body's last chunk, a trailer, which must not become one."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The header is whole: now the body has its time."""
        if self._refused or self._head_size() > HEADER_BYTES_MAX:
            self._refuse(431)
            return
        if (status := self._unclear()) is not None:
            self._refuse(status)
            return
        self._in_head, self._head_bytes, self._void_bytes = False, 0, 0
        self._arm(self.body_seconds)
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """One request begins to be answered; what was sent ahead waits for it."""
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._void_bytes = 0
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole: the client has no duty until the answer is sent."""
        if self._refused:
            return
        self._disarm()
        self._in_head, self._head_bytes = True, 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is sent; if that ends the connection, the rest of it must be taken soon."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._arm_take(LINGER_SECONDS)

    def timeout_keep_alive_handler(self) -> None:
        """The client was silent too long."""
        super().timeout_keep_alive_handler()
        self._arm_take(LINGER_SECONDS)

    def pause_writing(self) -> None:
        """The client takes the answer slower than it is made."""
        super().pause_writing()
        self._arm_take(self.take_seconds)

    def resume_writing(self) -> None:
        """The client has caught up."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._disarm_take()

    # ── deadlines ──

    def _unclear(self) -> int | None:
        """The status that refuses a header which a proxy before us may read otherwise (RFC 9112, 3.2 and 6.1)."""
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):
            return 400
        codings = [value.strip().lower() for name, value in self.headers if name == b"transfer-encoding"]
        return 501 if codings not in ([], [b"chunked"]) else None

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _await_head(self) -> None:
        self._arm(self.header_seconds)

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._deadline = self.loop.call_later(seconds, self._expire)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        self._deadline = None
        has_asked = self.cycle is not None
        answering = has_asked and not self.cycle.response_complete
        if self._in_head and answering:
            self._await_head()  # the head of the next request, sent ahead while we still answer this one
        elif answering and self.cycle.response_started:
            self.transport.abort()
        elif (self._in_head and self._head_bytes == 0) or (has_asked and not self._in_head and not answering):
            self._close()  # nothing was asked, or the answer came before the end of the body: there is nothing to say
        else:
            self._refuse(408)

    def _arm_take(self, seconds: float) -> None:
        self._disarm_take()
        self._take_deadline = self.loop.call_later(seconds, self.transport.abort)

    def _disarm_take(self) -> None:
        if self._take_deadline is not None:
            self._take_deadline.cancel()
            self._take_deadline = None

    def _refuse(self, status: int, header: bytes = b"") -> None:
        """Say *status* without a body, and close. What the application still does for this connection goes nowhere."""
        if self._refused:
            return
        self.transport.write(STATUS_LINE[status] + header + b"content-length: 0\r\nconnection: close\r\n\r\n")
        self._close()

    def _close(self) -> None:
        self._refused = True
        self._disarm()
        self._unset_keepalive_if_required()
        self.transport.close()
        if self._take_deadline is None:
            self._arm_take(LINGER_SECONDS)


def patient(connections_max: int) -> type[PatientProtocol]:
    """The protocol with that many connections at most."""
    return type("Patient", (PatientProtocol,), {"connections_max": connections_max})
