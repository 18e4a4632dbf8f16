"""The proxy that fails on purpose fails as it says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.faults.proxy import Fault, FaultyProxy

pytestmark = pytest.mark.anyio


class Echo:
    """A server that says what it hears, and remembers it."""

    def __init__(self) -> None:
        self.heard = b""
        self.words = asyncio.Event()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(100):
                self.heard += piece
                self.words.set()
                writer.write(piece.upper())
        writer.close()


@asynccontextmanager
async def between() -> AsyncIterator[tuple[FaultyProxy, Echo]]:
    echo = Echo()
    server = await asyncio.start_server(echo.talk, "127.0.0.1", 0)
    async with server, FaultyProxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
        yield proxy, echo


async def said(proxy: FaultyProxy, within: float = 0.2) -> bytes | str:
    """What one request gets: the answer, or how it failed."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"word")
        try:
            answer = await asyncio.wait_for(reader.read(100), within)
        finally:
            writer.close()
    except ConnectionError:
        return "reset"
    except TimeoutError:
        return "silence"
    return answer or "reset"


async def test_without_a_fault_everything_gets_through() -> None:
    async with between() as (proxy, _):
        assert await said(proxy, 5) == b"WORD"
        assert proxy.requests == 1


async def test_an_answer_is_swallowed_after_the_request_was_done() -> None:
    async with between() as (proxy, echo):
        proxy.fault = Fault.SWALLOW_ANSWERS

        assert await said(proxy) == "silence"
        await asyncio.wait_for(echo.words.wait(), 5)
        assert echo.heard == b"word"


async def test_a_connection_is_cut_instead_of_an_answer() -> None:
    async with between() as (proxy, echo):
        proxy.fault = Fault.CUT_ANSWERS

        assert await said(proxy, 5) == "reset"
        assert echo.heard == b"word"


async def test_a_pulled_cable_lets_nothing_through_until_it_is_back() -> None:
    async with between() as (proxy, echo):
        proxy.fault = Fault.SILENCE
        assert await said(proxy) == "silence"
        assert echo.heard == b""

        proxy.fault = Fault.NONE
        assert await said(proxy, 5) == b"WORD"


async def test_new_connections_are_refused_and_open_ones_live_on() -> None:
    async with between() as (proxy, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"a")
        assert await reader.read(100) == b"A"
        proxy.fault = Fault.REFUSE

        assert await said(proxy, 5) == "reset"
        writer.write(b"b")
        assert await reader.read(100) == b"B"

        proxy.cut()
        with pytest.raises(ConnectionError):
            await reader.readexactly(100)
        writer.close()


async def test_a_slow_network_delays_both_ways() -> None:
    async with between() as (proxy, _):
        proxy.delay = 0.15

        assert await said(proxy, 0.2) == "silence"
        assert await said(proxy, 5) == b"WORD"
