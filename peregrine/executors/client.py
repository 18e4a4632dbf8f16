"""Owns one question to one target over the HTTP client: the connection, the bytes, the head of the answer, its body.
Must not know tasks.

The client gives connections (names looked up, addresses raced, TLS, kept ones used again) and reads answers. What is
sent is written here, and only once: its own way of asking makes the same request anew each time, which costs more than
everything else that an attempt does (decision 0173).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar
from functools import cached_property, lru_cache, partial
from typing import Final, TypeAlias

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from yarl import URL

from peregrine.domain.moment import Duration
from peregrine.executors.egress import AddressInfo, Blocked, Egress, Target
from peregrine.executors.failure import Failed, blocked, failure
from peregrine.executors.reply import HEADERS_MAX, HEADERS_TOO_LARGE, TooLarge
from peregrine.ports.clock import Clock

CONNECT_TIMEOUT: Final = 5.0
"""Seconds for connect and TLS handshake with one target; the attempt's own limit holds besides."""
FRAMING_MAX: Final = 256 * 1024
"""What the framing of an answer (chunk sizes, extensions, trailers) may take beyond twice its body: an endless chunk
extension is no body at all, and a body of one-byte chunks costs far more to read than to send."""
HEADER_LINES_MAX: Final = 1000
KEEP_IDLE: Final = 1.5
"""Seconds a connection is kept for the next attempt: less than common servers keep theirs, so that none is used just
as it closes."""
LOOK_UP_THREADS: Final = 8
PLACES_MAX: Final = 1024
_PATIENCE: Final = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT)
_LINGER_NOT: Final = struct.pack("ii", 1, 0)
_CLIENT_ERRORS: Final = (aiohttp.ClientError, HttpProcessingError, OSError, TooLarge)

LookUp: TypeAlias = Callable[[str], Awaitable[Sequence[str]]]
"""The addresses of a name; raises OSError (``socket.gaierror``) when there are none."""


class Exchange:
    """One question to *target* and its answer. Whoever asks lets go of it at the end, whatever happens."""

    __slots__ = ("_connection", "_content", "blocked", "connect", "headers", "status", "target")

    def __init__(self, target: Target) -> None:
        self.target = target
        self.connect: Duration = 0
        """Spent on connecting; 0 when a kept connection was used."""
        self.blocked = ""
        """Why the address was refused as it was about to be connected to."""
        self.status = 0
        """0 before the head of the answer is here."""
        self.headers: Mapping[str, str] = {}
        """By names in any case."""
        self._connection: Connection | None = None
        """While it is ours alone: from the question until the answer has wholly arrived."""
        self._content: StreamReader = EMPTY_PAYLOAD

    @property
    def announced(self) -> int | None:
        """How long the body is, as the head says."""
        length = self.headers.get("Content-Length")
        return None if length is None else int(length)

    @property
    def is_read(self) -> bool:
        """Whether the body was read to its end."""
        return self._content.at_eof()

    async def read(self) -> bytes:
        """What has arrived of the body since, or the next of it that arrives; empty at its end.

        Raises:  Failed.
        """
        content = self._content
        try:
            # Most answers are here with their head: those need no second turn of the loop.
            return content.read_nowait() if content.is_eof() else await content.readany()
        except _CLIENT_ERRORS as error:
            raise failure(error, self.target, during_body=True) from error

    def let_go(self) -> None:
        """Close at once what is not finished.

        A polite close would first wait until all was sent, and the system would go on sending after it. A connection
        whose answer has wholly arrived is the client's again, perhaps in use by another attempt: hands off.
        """
        connection, self._connection = self._connection, None
        if connection is None:
            return
        transport = connection.transport
        if transport is not None:
            _reset_on_close(transport)
        connection.close()
        if transport is not None:
            transport.abort()

    async def ask(self, question: bytes, connection: Connection, *, is_head: bool) -> None:
        """Send *question* over *connection* and hear the head of the answer.

        Raises:  what the client raises.
        """
        self._connection = connection
        ear = connection.protocol
        assert isinstance(ear, _Ear)
        transport = ear.transport
        if transport is None or transport.is_closing():
            raise aiohttp.ClientConnectionResetError
        ear.listen(is_head=is_head)
        transport.write(question)
        while True:
            message, content = await ear.read()
            if not 100 <= message.code <= 199 or message.code == 101:
                break
        if ear.heard > HEADERS_MAX and sum(len(name) + len(value) for name, value in message.raw_headers) > HEADERS_MAX:
            raise TooLarge(HEADERS_TOO_LARGE)
        self.status, self.headers, self._content = message.code, message.headers, content
        content.on_eof(self._has_arrived)

    def _has_arrived(self) -> None:
        """Give the connection back for the next question, unless it speaks another protocol or is still sending."""
        connection = self._connection
        ear = None if connection is None else connection.protocol
        if connection is None or ear is None or ear.upgraded:
            return
        if ear.transport is None or ear.transport.get_write_buffer_size() == 0:
            self._connection = None
            connection.release()


def _reset_on_close(transport: asyncio.Transport) -> None:
    own: socket.socket | None = transport.get_extra_info("socket")
    if own is not None:
        with suppress(OSError, ValueError):  # it may be closed already; the loops say so in different ways
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)


_CURRENT: ContextVar[Exchange | None] = ContextVar("peregrine_http_exchange", default=None)
"""For whom a connection is being made: an allow-listed name is only good for itself."""


class Client:
    """Asks targets that *egress* allows, and keeps connections for a while.

    *look_up*: how names are resolved (the system's resolver by default). *tls*: the authorities to trust (the system's
    by default).

    Connections are made on the loop that first needs them; ``close`` ends them and may be followed by new questions.
    """

    def __init__(
        self, egress: Egress, clock: Clock, *, look_up: LookUp | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self._egress = egress
        self._clock = clock
        self._look_up = look_up
        self._tls = tls
        self._connectors: dict[bool, _Connector] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._names: _Names | None = None

    def open(self) -> None:
        """Make what the first question would make; nothing is connected yet."""
        for validate in (True, False):
            self._connector(validate=validate)

    async def close(self) -> None:
        """Close every connection. Safe twice, safe without ``open``."""
        connectors, self._connectors = self._connectors, {}
        names, self._names = self._names, None
        for connector in connectors.values():
            await connector.close()
        if names is not None:
            names.close()

    async def ask(self, exchange: Exchange, question: bytes, *, is_head: bool, validate: bool) -> None:
        """Send *question* to the exchange's target; returns with the head of the answer.

        *is_head*: the answer has no body, whatever it says. *validate*: whether TLS is checked.
        Raises:  Failed.
        """
        target = exchange.target
        verdict = self._egress.foresee(target)
        if not verdict.allowed:
            raise blocked(verdict.reason)
        try:
            connection = await self._connected(exchange, validate=validate)
            await exchange.ask(question, connection, is_head=is_head)
        except (*_CLIENT_ERRORS, ValueError) as error:
            raise blocked(exchange.blocked) if exchange.blocked else failure(error, target) from error

    async def _connected(self, exchange: Exchange, *, validate: bool) -> Connection:
        target, began = exchange.target, self._clock.monotonic()
        token = _CURRENT.set(exchange)
        try:
            return await self._connector(validate=validate).connection_to(target)
        except TimeoutError as error:
            raise Failed("connect_timeout", f"no connection to {target.place} within {CONNECT_TIMEOUT:g}s") from error
        finally:
            _CURRENT.reset(token)
            exchange.connect = self._clock.monotonic() - began

    def _connector(self, *, validate: bool) -> _Connector:
        """The connections of one policy: one that was made without a TLS check never serves who wants it."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._connectors = loop, {}
        connector = self._connectors.get(validate)
        if connector is None:
            connector = self._connectors[validate] = self._new_connector(validate=validate)
        return connector

    def _new_connector(self, *, validate: bool) -> _Connector:
        look_up = self._look_up
        if look_up is None:
            self._names = self._names or _Names()
            look_up = self._names.addresses_of
        return _Connector(
            ssl=(self._tls or True) if validate else False,
            resolver=_Resolver(self._egress, look_up),
            socket_factory=self._open_socket,
        )

    def _open_socket(self, info: AddressInfo) -> socket.socket:
        exchange = _CURRENT.get()
        try:
            return self._egress.open_socket(info, exchange.target.host if exchange else "")
        except Blocked as error:
            if exchange is not None:
                exchange.blocked = error.reason
            raise


# ── driving the client ───────────────────────────────────────────────────────────────────────────


class _Connector(aiohttp.TCPConnector):
    """Makes connections that listen within bounds. ``_factory`` is the client's own place for this, if an unofficial
    one; the tests of endless heads fail should it ever move."""

    def __init__(
        self,
        *,
        ssl: bool | ssl.SSLContext,
        resolver: AbstractResolver,
        socket_factory: Callable[[AddressInfo], socket.socket],
    ) -> None:
        super().__init__(
            limit=0, ssl=ssl, resolver=resolver, socket_factory=socket_factory, keepalive_timeout=KEEP_IDLE
        )
        ear: Callable[..., ResponseHandler] = _Ear
        self._factory = partial(ear, loop=self._loop)
        self._kept_place = lru_cache(maxsize=PLACES_MAX)(self._place)

    async def connection_to(self, target: Target) -> Connection:
        """A connection to the target's origin, kept or new.

        One that heard something while nobody had asked is not used again: that would be taken for the next answer.

        Raises:  what the client raises; TimeoutError after ``CONNECT_TIMEOUT``.
        """
        place = self._kept_place(target.scheme, target.host, target.port)
        while True:
            connection = await self.connect(place, [], _PATIENCE)
            ear = connection.protocol
            if ear is None or not ear.should_close:
                return connection
            connection.close()

    def _place(self, scheme: str, host: str, port: int) -> aiohttp.ClientRequest:
        """Where to, as the client wants to be told. The address is as it was judged: it was read and encoded once, a
        second parser shall not change it."""
        url = URL(Target(scheme, host, port, "/").url, encoded=True)
        return _Place("GET", url, loop=self._loop)


class _Place(aiohttp.ClientRequest):
    """Nothing that is sent: a place to connect to. Its key in the client's pool is made once."""

    @cached_property
    def connection_key(self) -> ConnectionKey:
        return super().connection_key


class _Ear(ResponseHandler):
    """Hears one connection. Stops when a head, or everything of one answer, grows past its bound.

    Without it a target can send interim answers (1xx), chunk extensions or trailers for as long as the task may last,
    and keep this process busy with nothing.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.heard = 0
        """Bytes of the answer so far."""

    def listen(self, *, is_head: bool) -> None:
        """Expect one answer."""
        self.heard = 0
        self._payload = None
        self.set_response_params(
            skip_payload=is_head,
            read_until_eof=True,
            auto_decompress=False,
            max_line_size=HEADERS_MAX,
            max_field_size=HEADERS_MAX,
            max_headers=HEADER_LINES_MAX,
        )

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.heard += len(data)
        if self.heard <= HEADERS_MAX:
            return
        if self._payload is None or self._payload is EMPTY_PAYLOAD:
            self._give_up(TooLarge(HEADERS_TOO_LARGE))
        elif self.heard > FRAMING_MAX + 2 * self._payload.total_bytes:
            self._give_up(TooLarge("it is framing more than body"))

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001 - the signature is the client's
        """Called by the client after each read; it would parse nothing once more and wake a reader that is awake."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def _give_up(self, error: TooLarge) -> None:
        payload = self._payload
        if self.transport is not None:
            self.transport.abort()
        if payload is not None and not payload.is_eof():
            payload.set_exception(error)
        self.set_exception(error)


class _Resolver(AbstractResolver):
    """Gives the client only the answers that may be connected to. Every answer is judged, all are pinned."""

    def __init__(self, egress: Egress, look_up: LookUp) -> None:
        self._egress = egress
        self._look_up = look_up

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The allowed addresses of *host*.

        Raises:  Blocked when it has addresses and none is allowed; OSError when it has none.
        """
        answers = await self._look_up(host)
        verdicts = [(address, self._egress.verdict(address, port, host=host)) for address in answers]
        allowed = [address for address, verdict in verdicts if verdict.allowed]
        if verdicts and not allowed:
            raise Blocked(f"{host} leads to {verdicts[0][1].reason}")
        if not allowed:
            raise socket.gaierror(socket.EAI_NONAME, "no address")
        return [_resolved(host, address, port) for address in allowed]

    async def close(self) -> None:
        """Nothing is held."""


def _resolved(host: str, address: str, port: int) -> ResolveResult:
    return ResolveResult(
        hostname=host,
        host=address,
        port=port,
        family=socket.AF_INET6 if ":" in address else socket.AF_INET,
        proto=socket.IPPROTO_TCP,
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    )


class _Names:
    """The system's resolver on threads of its own: a name server that hangs takes nobody else's threads."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(LOOK_UP_THREADS, "peregrine-names")

    async def addresses_of(self, host: str) -> Sequence[str]:
        ask = partial(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        answers = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        return list(dict.fromkeys(str(answer[4][0]) for answer in answers))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
