"""A slow client is told so and closed; a patient one is served. Real sockets, deadlines of a third of a second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState

from peregrine.app.patience import PatientProtocol, patient

SOON = 5.0
LARGE = 8 * 1024 * 1024
CHUNKED = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


class HastyProtocol(PatientProtocol):
    connections_max = 2
    header_seconds = 0.3
    body_seconds = 0.3
    take_seconds = 0.3
    all_gone: asyncio.Event

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self.connections:
            self.all_gone.set()


async def application(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Any]) -> None:
    """Reads the body unless told not to, and answers its size, or how many headers it sees, or a large body."""
    if scope["path"] == "/until-gone":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        return
    size, more = 0, scope["path"] != "/early"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, more = size + len(message["body"]), message["more_body"]
    if scope["path"] == "/headers":
        size = len(scope["headers"])
    body = b"x" * LARGE if scope["path"] == "/large" else str(size).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


Opened = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Server:
    """Listens on a free port; calling it gives a new connection."""

    def __init__(self, idle_seconds: int) -> None:
        self._config = Config(application, ws="none", lifespan="off", timeout_keep_alive=idle_seconds, log_config=None)
        self._config.load()
        self._state = ServerState()
        self._writers: list[asyncio.StreamWriter] = []
        self.all_gone = asyncio.Event()

    async def __call__(self) -> Opened:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=2 * LARGE)
        self._writers.append(writer)
        return reader, writer

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._protocol, "127.0.0.1", 0)
        self._port = self._server.sockets[0].getsockname()[1]

    def _protocol(self) -> HastyProtocol:
        protocol = HastyProtocol(self._config, self._state, {})
        protocol.all_gone = self.all_gone
        return protocol

    async def all_answered(self) -> None:
        while self._state.tasks:
            await asyncio.wait(set(self._state.tasks))

    async def close(self) -> None:
        for writer in self._writers:
            writer.close()
        self._server.close()
        async with asyncio.timeout(SOON):
            await self.all_gone.wait()


@asynccontextmanager
async def served(idle_seconds: int = 1) -> AsyncIterator[Server]:
    server = Server(idle_seconds)
    await server.open()
    try:
        yield server
    finally:
        await server.close()


async def all_of(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(SOON):
        return await reader.read(-1)


async def test_a_patient_client_is_served_twice_on_one_connection() -> None:
    async with served() as connect:
        reader, writer = await connect()

        for body in (b"abc", b"defgh"):
            writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
            head = await reader.readuntil(b"\r\n\r\n")
            answer = await reader.readexactly(1)

            assert head.startswith(b"HTTP/1.1 200")
            assert answer == b"%d" % len(body)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(b"GET / HTTP/1.1\r\nhost: x\r\nx-slow: ", b"408", id="half a header"),
        pytest.param(b"G", b"408", id="one letter"),
        pytest.param(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nabc", b"408", id="half a body"),
        pytest.param(b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"a" * 40_000, b"431", id="a header without end"),
        pytest.param(b"GET / HTTP/1.1\r\nx: " + b"a" * 40_000 + b"\r\n\r\n", b"431", id="a header too large"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", b"400", id="no host"),
        pytest.param(b"GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n", b"400", id="two hosts"),
        pytest.param(
            b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", b"501", id="two codings"
        ),
        pytest.param(b"nonsense\r\n\r\n", b"400", id="no HTTP"),
    ],
)
async def test_a_slow_or_strange_client_is_told_and_closed(sent: bytes, status: bytes) -> None:
    async with served() as connect:
        reader, writer = await connect()

        writer.write(sent)
        answer = await all_of(reader)

        assert answer.startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize(
    "start", [b"0\r\nx: ", b"1;"], ids=["a trailer without end", "an extension of a chunk without end"]
)
async def test_what_is_sent_for_a_body_and_is_none_has_a_bound(start: bytes) -> None:
    async with served() as connect:
        reader, writer = await connect()

        writer.write(CHUNKED.replace(b"host", b"expect: 100-continue\r\nhost"))
        await reader.readuntil(b"\r\n\r\n")
        writer.write(start + b"y" * 40_000)
        answer = await all_of(reader)

        assert answer.startswith(b"HTTP/1.1 431")


async def test_a_trailer_is_no_header() -> None:
    async with served() as connect:
        reader, writer = await connect()

        writer.write(CHUNKED.replace(b"/", b"/headers", 1) + b"0\r\nauthorization: Bearer x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")

        assert await reader.readexactly(1) == b"2"


@pytest.mark.parametrize("sent", [b"", b"\r\n"], ids=["silent", "only an empty line"])
async def test_who_asks_nothing_is_closed_without_a_word(sent: bytes) -> None:
    async with served() as connect:
        reader, writer = await connect()

        writer.write(sent)

        assert await all_of(reader) in (
            b"",
            b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        )


async def test_a_connection_kept_open_in_silence_is_closed() -> None:
    async with served(idle_seconds=0) as connect:
        reader, writer = await connect()

        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        answer = await all_of(reader)

        assert answer.startswith(b"HTTP/1.1 200")


async def test_who_is_answered_early_may_still_send_the_rest() -> None:
    """Closed on, it would see its connection break while it writes, and never read why it was refused."""
    async with served() as connect:
        reader, writer = await connect()

        writer.write(b"POST /early HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % LARGE)
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"x" * LARGE)
        async with asyncio.timeout(SOON):
            await writer.drain()
            writer.write(b"GET /early HTTP/1.1\r\nhost: x\r\n\r\n")
            again = await reader.readuntil(b"\r\n\r\n")

        assert [part.partition(b"HTTP")[2][4:8] for part in (head, again)] == [b" 200", b" 200"]


async def test_a_body_that_goes_on_after_its_answer_ends_without_a_second_one() -> None:
    async with served() as connect:
        reader, writer = await connect()

        writer.write(b"POST /early HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\nabc")
        answer = await all_of(reader)

        assert answer.count(b"HTTP/1.1") == 1


async def test_who_does_not_take_the_answer_loses_it() -> None:
    async with served() as connect:
        _, writer = await connect()
        writer.transport.pause_reading()  # type: ignore[attr-defined]

        writer.write(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n")

        async with asyncio.timeout(SOON):
            await connect.all_gone.wait()


async def test_one_connection_too_many_is_refused() -> None:
    async with served() as connect:
        for _ in range(HastyProtocol.connections_max):
            _, writer = await connect()
            writer.write(b"GET ")

        reader, _ = await connect()
        answer = await all_of(reader)

        assert answer.startswith(b"HTTP/1.1 503")
        assert b"retry-after: 1" in answer


async def test_who_leaves_with_more_asked_ahead_is_known_to_be_gone() -> None:
    async with served() as connect:
        reader, writer = await connect()
        writer.write(b"GET /until-gone HTTP/1.1\r\nhost: x\r\n\r\nGET /early HTTP/1.1\r\nhost: x\r\n\r\n")
        await reader.readline()

        writer.transport.abort()

        async with asyncio.timeout(SOON):
            await connect.all_answered()


def test_the_bound_is_a_setting() -> None:
    assert patient(7).connections_max == 7
