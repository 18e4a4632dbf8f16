"""A TCP proxy that fails on purpose: between a client and a server it delays, cuts, swallows and goes silent.

    async with FaultyProxy("127.0.0.1", 6379) as proxy:
        client = connect(proxy.port)
        proxy.fault = Fault.SWALLOW_ANSWERS   # requests still get through

What is chosen holds from then on, for open connections too.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from enum import Enum, auto
from typing import Final, Self

CHUNK: Final = 65536
_RESET_AT_CLOSE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER of nothing: what is closed is reset."""


class Fault(Enum):
    """What happens between client and server."""

    NONE = auto()
    SWALLOW_ANSWERS = auto()
    """Requests reach the server, which does what they say; no answer comes back."""
    SILENCE = auto()
    """Nothing gets through either way, and no connection ends: a cable that was pulled."""
    REFUSE = auto()
    """A new connection is reset at once; open ones live on."""
    CUT_ANSWERS = auto()
    """Requests reach the server; instead of the answer the connection is reset."""


class FaultyProxy:
    """One server behind one port of loopback."""

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._chosen = asyncio.Event()
        self._fault = Fault.NONE
        self.port = 0
        self.delay = 0.0
        """Seconds that each piece is held back, either way."""
        self.requests = 0
        """Pieces that came from clients."""

    @property
    def fault(self) -> Fault:
        """What is wrong now."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        self._fault = fault
        # Whoever was held in a silence looks again.
        self._chosen.set()
        self._chosen = asyncio.Event()

    def cut(self) -> None:
        """Reset every open connection, both sides of it."""
        for writer in list(self._writers):
            _reset(writer)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._begin, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.fault = Fault.NONE
        self.cut()
        await asyncio.gather(*self._talks, return_exceptions=True)

    async def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._talks.add(task)
        task.add_done_callback(self._talks.discard)
        if self._fault is Fault.REFUSE:
            _reset(writer)
            return
        await self._talk(reader, writer)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._to)
        except OSError:
            _reset(writer)
            return
        self._writers |= {writer, far_writer}
        try:
            ways = [self._requests(reader, far_writer), self._answers(far_reader, writer)]
            done, pending = await asyncio.wait(
                [asyncio.create_task(way) for way in ways], return_when=asyncio.FIRST_COMPLETED
            )
            for way in pending:
                way.cancel()
            await asyncio.gather(*done, *pending, return_exceptions=True)
        finally:
            for one in (writer, far_writer):
                self._writers.discard(one)
                one.close()

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(CHUNK):
            self.requests += 1
            await self._held_back()
            writer.write(piece)
            await writer.drain()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(CHUNK):
            await self._held_back()
            if self._fault is Fault.SWALLOW_ANSWERS:
                continue
            if self._fault is Fault.CUT_ANSWERS:
                _reset(writer)
                return
            writer.write(piece)
            await writer.drain()

    async def _held_back(self) -> None:
        if self.delay:
            await asyncio.sleep(self.delay)  # not a wait: the delay is the fault
        while self._fault is Fault.SILENCE:
            await self._chosen.wait()


def _reset(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        raw = writer.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
    writer.close()
