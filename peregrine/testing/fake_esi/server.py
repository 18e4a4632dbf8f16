"""Owns the fake on a port: real sockets that reset, break off and compress. Must not know what is answered.

Besides EVE's routes there are its own, for whoever runs it as a process::

    GET    /_fake/journal   what it saw, in numbers, and the first violations
    GET    /_fake/faults    the kinds there are
    POST   /_fake/faults    {"kind": "bad_gateway", "route": "/corporations/*", "count": 10, "seconds": 0}
    DELETE /_fake/faults    nothing fails any more
    POST   /_fake/world     {"stir": 100}, {"vanish": 98000001}, {"close": 99000001}, {"poison": 90000007},
                            {"revoke": 90000001}, {"hand_over": 90000001}, {"down_for": 60}
    GET    /_fake/tokens    ?from=90000000&count=100: good refresh tokens, to begin with
"""

from __future__ import annotations

import gzip
import json
import socket
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from peregrine.domain.moment import SECOND, Moment
from peregrine.testing.fake_esi.fake import FakeEsi
from peregrine.testing.fake_esi.faults import FaultKind
from peregrine.testing.fake_esi.message import Asked, Reset, Told

BODY_MAX: Final = 2 * 1024 * 1024
PACK_FROM: Final = 1000
TOKENS_MAX: Final = 10_000


class WallClock:
    """The clock of this machine."""

    def now(self) -> Moment:
        """Wall time."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> int:
        """Steady milliseconds."""
        return time.monotonic_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Served:
    """A fake that listens. ``address``: of ESI and of the sign-in alike."""

    fake: FakeEsi
    address: str


@asynccontextmanager
async def serve(fake: FakeEsi, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Served]:
    """*fake* on a port (0: a free one), until the block ends."""
    application = web.Application(client_max_size=BODY_MAX)

    async def control(request: web.Request) -> web.StreamResponse:
        return await _control(fake, request)

    async def exchange(request: web.Request) -> web.StreamResponse:
        return await _exchange(fake, request)

    application.router.add_route("*", "/_fake/{what}", control)
    application.router.add_route("*", "/{rest:.*}", exchange)
    runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        bound = runner.addresses[0][1]
        fake.sso.issuer = f"http://{host}:{bound}"
        yield Served(fake, fake.sso.issuer)
    finally:
        await runner.cleanup()


async def _exchange(fake: FakeEsi, request: web.Request) -> web.StreamResponse:
    asked = Asked(
        request.method,
        request.path,
        dict(request.query),
        {name.lower(): value for name, value in request.headers.items()},
        await request.read(),
        request.remote or "",
    )
    try:
        made = await fake.exchange(asked)
    except Reset:
        _reset(request)
        return web.Response(status=500)
    return await _send(request, _packed(made, asked))


def _packed(made: Told, asked: Asked) -> Told:
    """*made*, compressed as a server would."""
    if (
        len(made.body) < PACK_FROM
        or "gzip" not in asked.header("accept-encoding")
        or "Content-Encoding" in made.headers
    ):
        return made
    return Told(made.status, {**made.headers, "Content-Encoding": "gzip"}, gzip.compress(made.body, 1), made.is_cut)


async def _send(request: web.Request, made: Told) -> web.StreamResponse:
    if not made.is_cut:
        return web.Response(status=made.status, headers=dict(made.headers), body=made.body)
    response = web.StreamResponse(status=made.status, headers=dict(made.headers))
    response.content_length = len(made.body)
    await response.prepare(request)
    await response.write(made.body[: len(made.body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


def _reset(request: web.Request) -> None:
    """Close with RST, as a crashed machine does."""
    transport = request.transport
    if transport is None:
        return
    own: socket.socket | None = transport.get_extra_info("socket")
    if own is not None:
        with suppress(OSError, ValueError):
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


# ── control ──────────────────────────────────────────────────────────────────────────────────────


async def _control(fake: FakeEsi, request: web.Request) -> web.Response:
    try:
        value = await _controlled(fake, request)
    except (ValueError, KeyError, TypeError) as problem:
        return web.json_response({"error": f"not understood: {problem}"}, status=400)
    return web.json_response(value, status=404 if value is None else 200)


async def _controlled(fake: FakeEsi, request: web.Request) -> Any:
    match (request.method, request.match_info["what"]):
        case ("GET", "journal"):
            return fake.journal.summary()
        case ("GET", "faults"):
            return [str(kind) for kind in FaultKind]
        case ("POST", "faults"):
            asked = json.loads(await request.read())
            fake.faults.plan(FaultKind(asked.pop("kind")), **asked)
            return {}
        case ("DELETE", "faults"):
            fake.faults.clear()
            return {}
        case ("POST", "world"):
            for what, value in json.loads(await request.read()).items():
                _change(fake, what, int(value))
            return {}
        case ("GET", "tokens"):
            first = int(request.query.get("from", fake.world.character_ids[0]))
            count = min(int(request.query.get("count", "100")), TOKENS_MAX)
            last = min(first + count, fake.world.character_ids.stop)
            return {str(id): fake.sso.refresh_token(id) for id in range(first, last)}
    return None


def _change(fake: FakeEsi, what: str, value: int) -> None:
    match what:
        case "stir":
            fake.world.stir(value)
        case "vanish":
            fake.world.vanish(value)
        case "close":
            fake.world.close(value)
        case "poison":
            fake.api.poison.add(value)
        case "revoke":
            fake.sso.revoke(value)
        case "hand_over":
            fake.sso.hand_over(value)
        case "down_for":
            fake.down_until = fake.clock.now() + value * SECOND
        case _:
            raise ValueError(f"no change {what!r}")
