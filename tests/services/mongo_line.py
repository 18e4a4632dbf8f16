"""Owns a line to a MongoDB server that can be made bad: answers swallowed, requests cut off, bytes that go nowhere."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import StrEnum

from tests.services.mongo_places import node_of

_HEADER = struct.Struct("<iiii")
_MESSAGE = 2013


class Fault(StrEnum):
    """What becomes of a request."""

    SWALLOWED = "swallowed"
    """The server does what was asked; its answer never arrives, the connection ends."""
    CUT = "cut"
    """The connection ends before the server hears of it."""
    HOLE = "hole"
    """The connection stays, and nothing ever comes."""


class Line:
    """Hands messages on in both directions. ``faults`` says for which commands it does not, and ``left`` how often."""

    def __init__(self, server: tuple[str, int]) -> None:
        self._server = server
        self.faults: dict[str, Fault] = {}
        self.left = 0
        self.hit: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def spoil(self, fault: Fault, *commands: str, times: int = 1_000_000) -> None:
        """From now on *fault* meets *commands*, so many times."""
        self.faults, self.left = dict.fromkeys(commands, fault), times

    def mend(self) -> None:
        self.faults, self.left = {}, 0

    def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def end(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection(*self._server)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                while True:
                    request = await _message(reader)
                    fault = self._fault_of(request)
                    if fault is Fault.CUT:
                        return
                    if fault is Fault.HOLE:
                        await asyncio.Event().wait()
                    forth.write(request)
                    await forth.drain()
                    reply = await _message(back)
                    if fault is Fault.SWALLOWED:
                        return
                    writer.write(reply)
                    await writer.drain()
        finally:
            for end in (writer, forth):
                end.close()
                with suppress(OSError):
                    await end.wait_closed()

    def _fault_of(self, request: bytes) -> Fault | None:
        name = _command(request)
        fault = self.faults.get(name) if self.left > 0 else None
        if fault is not None:
            self.left -= 1
            self.hit.append(name)
        return fault


async def _message(reader: asyncio.StreamReader) -> bytes:
    header = await reader.readexactly(_HEADER.size)
    length = _HEADER.unpack(header)[0]
    return header + await reader.readexactly(length - _HEADER.size)


def _command(request: bytes) -> str:
    """The name of the command in a message: the first key of its document."""
    if _HEADER.unpack_from(request)[3] != _MESSAGE:
        return "hello"
    document = request[_HEADER.size + 5 :]
    return document[5 : document.index(0, 5)].decode()


@asynccontextmanager
async def a_line(uri: str) -> AsyncIterator[tuple[Line, str]]:
    """A good line to the server of *uri*, and the address of its near end."""
    line = Line(node_of(uri))
    server = await asyncio.start_server(line.answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield line, f"mongodb://127.0.0.1:{port}/?directConnection=true"
    finally:
        server.close()
        await line.end()
        await server.wait_closed()
