"""Owns a real HTTP server on loopback that behaves as badly as it is asked to; must not know any client.

The path says what it does, the query how much: ``target.url("/redirect?to=/ok&code=307")``. ``BEHAVIOURS`` below is the
list. It counts what reaches it, so that *no connection was made* and *the socket is closed* can be asserted::

    async with HttpTarget() as target:
        ...
        await target.hanging()      # a request is really being held
        assert target.accepted == 1
        await target.quiet()        # every request that began has ended, its socket closed or free again
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, TypeAlias, cast
from urllib.parse import parse_qs, urlsplit

_HEAD_MAX: Final = 256 * 1024
_ESTABLISHED: Final = 1
"""As ``TCP_INFO`` says it on Linux."""
_BLOCK: Final = b"x" * 16 * 1024
_MEBIBYTE: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: tuple[tuple[str, str], ...]
    """Lower-case names, in order."""
    body: bytes

    def header(self, name: str, default: str | None = None) -> str | None:
        """The first header of that name."""
        return next((value for key, value in self.headers if key == name.lower()), default)

    def say(self, name: str, default: str) -> str:
        """A word of the query."""
        return self.query.get(name, default)


class Line:
    """One accepted connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.is_head = False

    async def answer(self, body: bytes = b"", *, status: int = 200, headers: Pairs = ()) -> None:
        """Send a complete answer; without its body where HTTP allows none."""
        whole = reply_bytes(body, status=status, headers=headers)
        await self.send(whole.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if self.is_head else whole)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def held(self) -> None:
        """Return when the other side closes."""
        while await self.reader.read(_HEAD_MAX):
            pass

    def pause(self) -> None:
        """Stop reading; the other side's sending will come to a halt."""
        cast("asyncio.Transport", self.writer.transport).pause_reading()

    def reset(self) -> None:
        """Close with RST, as a crashed machine does."""
        own: socket.socket | None = self.writer.get_extra_info("socket")
        if own is not None:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Pairs: TypeAlias = tuple[tuple[str, str], ...]
Behaviour: TypeAlias = Callable[["HttpTarget", Seen, Line], Awaitable[bool]]
"""Answers one request; True if the connection may serve another."""


class HttpTarget:
    """The server. *tls*: serve HTTPS with it. *host*: the loopback address to listen on."""

    def __init__(self, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.host = host
        self.port = 0
        self.accepted = 0
        """How many connections were ever made."""
        self.open = 0
        """How many are open now, idle ones included."""
        self.seen: list[Seen] = []
        self._tls = tls
        self._busy = 0
        self._held = 0
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self.host, 0, ssl=self._tls, limit=_HEAD_MAX)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def place(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def url(self, path: str = "/ok", *, host: str = "") -> str:
        """The address of *path*; *host* names this server otherwise."""
        scheme = "https" if self._tls else "http"
        return f"{scheme}://{f'{host}:{self.port}' if host else self.place}{path}"

    async def arrived(self, count: int = 1) -> None:
        """Return when *count* requests have arrived."""
        await self._until(lambda: len(self.seen) >= count)

    async def hanging(self, count: int = 1) -> None:
        """Return when *count* requests are held open now."""
        await self._until(lambda: self._held >= count)

    async def quiet(self) -> None:
        """Return when no request is being answered: each connection that had one is closed or free again."""
        await self._until(lambda: self._busy == 0)

    async def deserted(self) -> None:
        """Return when no connection is open at all."""
        await self._until(lambda: self.open == 0)

    async def hold(self, line: Line) -> None:
        """Keep the request open until the other side closes."""
        await self._change(held=1)
        try:
            await line.held()
        finally:
            self._held -= 1

    async def _until(self, true: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(true)

    async def _change(self, *, busy: int = 0, held: int = 0) -> None:
        async with self._changed:
            self._busy += busy
            self._held += held
            self._changed.notify_all()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.accepted += 1
        self.open += 1
        try:
            await self._talk(Line(reader, writer))
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            self._tasks.discard(task)
            self.open -= 1
            writer.close()
            await self._change()

    async def _talk(self, line: Line) -> None:
        goes_on = True
        while goes_on:
            head = await line.reader.readuntil(b"\r\n\r\n")
            await self._change(busy=1)
            try:
                seen = await _read_request(head, line.reader)
                self.seen.append(seen)
                line.is_head = seen.method == "HEAD"
                await self._change()
                goes_on = await BEHAVIOURS.get(seen.path, _missing)(self, seen, line)
            finally:
                await asyncio.shield(self._change(busy=-1))


async def _read_request(head: bytes, reader: asyncio.StreamReader) -> Seen:
    first, *lines = head.decode("utf-8", "surrogateescape").split("\r\n")[:-2]
    method, target, _ = first.split(" ", 2)
    headers = tuple((name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines))
    length = int(dict(headers).get("content-length", "0"))
    body = b"" if target.startswith("/unread") else await reader.readexactly(length)
    parts = urlsplit(target)
    query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    return Seen(method, parts.path, query, headers, body)


def reply_bytes(body: bytes = b"", *, status: int = 200, headers: Pairs = ()) -> bytes:
    """A complete answer."""
    lines = [f"HTTP/1.1 {status} Said", *(f"{name}: {value}" for name, value in headers)]
    if status < 200 or status in (204, 304):
        body = b""
    else:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + body


_CHUNKED: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_TEXT: Final = (("Content-Type", "text/plain"),)


# ── well-behaved ─────────────────────────────────────────────────────────────────────────────────


async def _ok(target: HttpTarget, seen: Seen, line: Line) -> bool:
    """``say``: the body."""
    await line.answer(seen.say("say", "all is well").encode(), headers=_TEXT)
    return True


async def _echo(target: HttpTarget, seen: Seen, line: Line) -> bool:
    """What arrived, as JSON. ``code``: the status."""
    told = {
        "method": seen.method, "path": seen.path, "query": seen.query, "headers": dict(seen.headers),
        "body": seen.body.decode("utf-8", "replace"),
    }  # fmt: skip
    body = json.dumps(told).encode()
    await line.answer(body, status=int(seen.say("code", "200")))
    return True


async def _status(target: HttpTarget, seen: Seen, line: Line) -> bool:
    """``code``, ``retry_after``, ``say``."""
    wait = (("Retry-After", seen.query["retry_after"]),) if "retry_after" in seen.query else ()
    body = seen.say("say", "as asked").encode()
    await line.answer(body, status=int(seen.say("code", "503")), headers=wait)
    return True


async def _raw(target: HttpTarget, seen: Seen, line: Line) -> bool:
    """``bytes``: an answer in Latin-1, sent as it is; then the connection closes."""
    await line.send(seen.say("bytes", "").encode("latin-1"))
    return False


async def _cookie(target: HttpTarget, seen: Seen, line: Line) -> bool:
    """Sets one; says which one came."""
    came = (seen.header("cookie") or "no cookie").encode()
    await line.answer(came, headers=(("Set-Cookie", "session=remember-me; Path=/"),))
    return True


async def _redirect(target: HttpTarget, seen: Seen, line: Line) -> bool:
    """``to``: where (as it is); ``code``: 302. Without ``to`` it leads to itself."""
    to = seen.say("to", "/redirect")
    body = b"moved" if seen.say("body", "small") == "small" else _BLOCK * 64
    await line.answer(body, status=int(seen.say("code", "302")), headers=(("Location", to),))
    return True


async def _flood(target: HttpTarget, seen: Seen, line: Line) -> bool:
    """``bytes``: how many, announced and sent."""
    size = int(seen.say("bytes", str(_MEBIBYTE)))
    await line.send(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
    while size > 0:
        await line.send(_BLOCK[:size])
        size -= len(_BLOCK)
        await asyncio.sleep(0)
    return True


async def _gzip(target: HttpTarget, seen: Seen, line: Line) -> bool:
    """``say``, compressed. ``how``: gzip, zlib, bare (both called deflate), twice (two members), cut, broken."""
    how, plain = seen.say("how", "gzip"), seen.say("say", "all is well").encode()
    squeeze = zlib.compressobj(wbits={"zlib": 15, "bare": -15}.get(how, 31))
    body = squeeze.compress(plain) + squeeze.flush()
    body = {"twice": body + body, "cut": body[:-9], "broken": b"\x1f\x8bnot gzip"}.get(how, body)
    encoding = "deflate" if how in ("zlib", "bare") else "gzip"
    await line.answer(body, headers=(("Content-Encoding", encoding),))
    return True


# ── slow, endless, broken ────────────────────────────────────────────────────────────────────────


async def _hang(target: HttpTarget, seen: Seen, line: Line) -> bool:
    """No answer ever."""
    await target.hold(line)
    return False


async def _hang_body(target: HttpTarget, seen: Seen, line: Line) -> bool:
    """A head and half a body, then nothing."""
    await line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it")
    await target.hold(line)
    return False


async def _unread(target: HttpTarget, seen: Seen, line: Line) -> bool:
    """Does not read the request's body, so that a client with a big one is stuck in sending."""
    line.pause()
    own: socket.socket = line.writer.get_extra_info("socket")
    await target._change(held=1)
    try:
        # Who does not read is not told of a close either; the state of the connection must be asked for.
        while own.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _ESTABLISHED:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    finally:
        target._held -= 1
        line.writer.transport.abort()
    return False


async def _drip(target: HttpTarget, seen: Seen, line: Line) -> bool:
    """One byte every ``seconds`` (0.05), for ever."""
    await line.send(_CHUNKED)
    while not line.reader.at_eof():
        await line.send(b"1\r\n.\r\n")
        await asyncio.sleep(float(seen.say("seconds", "0.05")))
    return False


async def _half(target: HttpTarget, seen: Seen, line: Line) -> bool:
    """Announces more than it sends, then closes. ``say``: what it sends."""
    body = seen.say("say", "half of it").encode()
    await line.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body) + 50}\r\n\r\n".encode() + body)
    return False


async def _drop(target: HttpTarget, seen: Seen, line: Line) -> bool:
    """Closes without an answer."""
    return False


async def _reset(target: HttpTarget, seen: Seen, line: Line) -> bool:
    """Resets: before the head, or with ``when=body`` in the body."""
    if seen.say("when", "head") == "body":
        await line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it")
    line.reset()
    return False


async def _garbage(target: HttpTarget, seen: Seen, line: Line) -> bool:
    """Not HTTP."""
    await line.send(b"220 mail.example ESMTP ready\r\n\r\n")
    return False


async def _endless(target: HttpTarget, seen: Seen, line: Line) -> bool:
    """``what``: headers, header, interim, body, chunks, extension, trailers, size. Until the client closes."""
    start, again = _ENDLESS[seen.say("what", "body")]
    await line.send(start)
    while True:
        await line.send(again)
        await asyncio.sleep(0)


_ENDLESS: Final = {
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X-More: " + b"h" * 90 + b"\r\n"),
    "header": (b"HTTP/1.1 200 OK\r\nX-More: ", b"h" * 4096),
    "interim": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "hints": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n" * 500),
    "body": (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", _BLOCK),
    "chunks": (_CHUNKED, b"4000\r\n" + _BLOCK + b"\r\n"),
    "crumbs": (_CHUNKED, b"1\r\n.\r\n" * 1000),
    "extension": (_CHUNKED + b"5;note=", _BLOCK),
    "size": (_CHUNKED, b"0" * 4096),
    "trailers": (_CHUNKED + b"5\r\nhello\r\n0\r\n", b"X-More: " + b"h" * 90 + b"\r\n"),
}


async def _bomb(target: HttpTarget, seen: Seen, line: Line) -> bool:
    """``mebibytes`` of zeros (512), compressed: ``how`` is gzip, zlib or bare."""
    start, block = _bomb_parts(seen.say("how", "gzip"))
    count = int(seen.say("mebibytes", "512"))
    encoding = "gzip" if seen.say("how", "gzip") == "gzip" else "deflate"
    size = len(start) + len(block) * count
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {size}\r\n\r\n".encode()
    if count <= 16:
        await line.send(head + start + block * count)
        return True
    await line.send(head + start)
    for _ in range(count):
        await line.send(block)
        await asyncio.sleep(0)
    return True


def _bomb_parts(how: str) -> tuple[bytes, bytes]:
    """The head of a stream, and a block that inflates to one MiB wherever it stands (a full flush forgets the past)."""
    squeeze = zlib.compressobj(9, wbits={"zlib": 15, "bare": -15}.get(how, 31))
    start = squeeze.flush(zlib.Z_FULL_FLUSH)
    return start, squeeze.compress(bytes(_MEBIBYTE)) + squeeze.flush(zlib.Z_FULL_FLUSH)


async def _missing(target: HttpTarget, seen: Seen, line: Line) -> bool:
    await line.answer(b"nothing here", status=404)
    return True


BEHAVIOURS: Final[dict[str, Behaviour]] = {
    "/ok": _ok,
    "/echo": _echo,
    "/status": _status,
    "/raw": _raw,
    "/cookie": _cookie,
    "/redirect": _redirect,
    "/flood": _flood,
    "/gzip": _gzip,
    "/hang": _hang,
    "/hang-body": _hang_body,
    "/unread": _unread,
    "/drip": _drip,
    "/half": _half,
    "/drop": _drop,
    "/reset": _reset,
    "/garbage": _garbage,
    "/endless": _endless,
    "/bomb": _bomb,
}
