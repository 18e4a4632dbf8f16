"""Answers that stand ready: ``python -m benchmarks.workers.ready_made HOW FILE`` serves what stands in the file.

*HOW*: ``as-we-do`` is our own HTTP server as the service sets it up, with nothing behind it; ``barely`` is a socket
that answers each request with the file's bytes as they are. The port is the only thing that it says.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path
from typing import Any

END = b"\r\n\r\n"


class _Barely(asyncio.Protocol):
    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._rest = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *whole, self._rest = (self._rest + data).split(END)
        if whole:
            self._transport.write(self._answer * len(whole))


async def _barely(listener: socket.socket, body: bytes) -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    server = await asyncio.get_running_loop().create_server(lambda: _Barely(answer), sock=listener)
    await server.serve_forever()


async def _as_we_do(listener: socket.socket, body: bytes) -> None:
    import uvicorn

    from peregrine.app.patience import patient

    head = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": body})

    config = uvicorn.Config(
        answer, http=patient(1_000), ws="none", lifespan="off", log_config=None, access_log=False, server_header=False
    )
    await uvicorn.Server(config).serve(sockets=[listener])


def main() -> None:
    """Serve until somebody ends it."""
    import uvloop

    how, file = sys.argv[1:]
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    uvloop.run({"barely": _barely, "as-we-do": _as_we_do}[how](listener, Path(file).read_bytes()))


if __name__ == "__main__":
    main()
