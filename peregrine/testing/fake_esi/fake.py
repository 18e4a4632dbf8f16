"""Owns the fake as a whole: a request in, noted, counted, perhaps spoilt, answered. Must not know sockets.

What it can do is the list in ``peregrine.testing.fake_esi``; ``serve`` puts it on a port.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping
from contextlib import nullcontext
from email.utils import formatdate
from functools import cache
from typing import Final

from peregrine.domain.moment import MINUTE, SECOND, Duration, Moment, format_moment
from peregrine.ports.clock import Clock
from peregrine.testing.fake_esi.api import Api, Route, expires
from peregrine.testing.fake_esi.faults import Fault, FaultKind, Faults
from peregrine.testing.fake_esi.journal import Entry, Journal
from peregrine.testing.fake_esi.limits import BUCKETS, BucketSize, ErrorWindow, TokenBucket
from peregrine.testing.fake_esi.message import Asked, Reset, Told, error
from peregrine.testing.fake_esi.sso import Application, Sso
from peregrine.testing.fake_esi.world import World

HTML: Final = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
BOMB_SIZE: Final = 64 * 1024 * 1024
DOWNTIME: Final[Duration] = 11 * 60 * MINUTE
_DAY: Final[Duration] = 24 * 60 * MINUTE


AT_THE_DOOR: Final = frozenset(
    {
        FaultKind.SERVER_ERROR,
        FaultKind.UNAVAILABLE,
        FaultKind.NOT_FOUND_HTML,
        FaultKind.REDIRECT,
        FaultKind.TOO_MANY,
        FaultKind.ERROR_LIMITED,
    }
)


class FakeEsi:
    """ESI and EVE's sign-in in one. *clock*: only ``now`` is asked. *latency*: seconds that each answer takes."""

    def __init__(
        self,
        clock: Clock,
        world: World | None = None,
        *,
        application: Application | None = None,
        buckets: Mapping[str, BucketSize] = BUCKETS,
        errors_max: int = 100,
        latency: float = 0.0,
    ) -> None:
        self.clock = clock
        self.world = world or World()
        self.api = Api(self.world)
        self.faults = Faults()
        self.journal = Journal()
        self.sso = Sso(self.world, self.journal, application)
        self.errors = ErrorWindow(errors_max)
        self.latency = latency
        self.daily_downtime: Duration = 0
        """How long ESI is down from 11:00 UTC on, each day."""
        self.down_until: Moment = 0
        """ESI is down until then, whatever the time of day."""
        self._sizes = dict(buckets)
        self._buckets: dict[tuple[str, str], TokenBucket] = {}

    async def exchange(self, asked: Asked) -> Told:
        """The answer. Raises Reset; a cancel is a client that went away, and counts as an error."""
        now = self.clock.now()
        found = self.api.route_of(asked)
        name = found[0].name if found else asked.path.partition("?")[0][:60]
        if found is None and asked.path in _SSO_ROUTES:
            name = _SSO_ROUTES[asked.path]
        entry = Entry(
            now, asked.method, asked.path, name, asked.header("user-agent"), asked.header("x-compatibility-date"), 0
        )
        self.journal.begins(entry)
        if found is not None:
            self._judge_date(entry, now)
        status = 0
        try:
            made = await self._exchange(asked, entry, found)
            status = made.status
            return made
        except asyncio.CancelledError:
            if found is not None and not found[0].group:
                self.errors.add(self.clock.now())
            raise
        finally:
            self.journal.ends(entry, status, self.clock.now())

    async def _exchange(self, asked: Asked, entry: Entry, found: tuple[Route, int] | None) -> Told:
        fault = self.faults.next(entry.route)
        entry.fault = "" if fault is None else fault.kind
        character_id = self.sso.character_in(asked) if entry.route == "sso token" else None
        with nullcontext() if character_id is None else self.journal.refreshing(character_id):
            if fault is not None and fault.kind is FaultKind.RESET:
                self._count(found, None, asked.peer)
                raise Reset
            if wait := self.latency + (fault.seconds if fault and fault.kind is FaultKind.SLOW else 0.0):
                await asyncio.sleep(wait)
            made = self._answer(asked, entry, found, fault)
        if fault is not None and fault.kind is FaultKind.LOST:
            raise Reset
        return made

    def _answer(self, asked: Asked, entry: Entry, found: tuple[Route, int] | None, fault: Fault | None) -> Told:
        now = self.clock.now()
        if found is None:
            # What is refused at the door never comes to the sign-in, so that no token is used up by it.
            made = None if fault is not None and fault.kind in AT_THE_DOOR else self.sso.answer(asked, now)
            return _spoilt(error(404, "Not found") if made is None else made[1], fault)
        route, id = found
        reply = self._limited(route, asked.peer, now)
        if reply is None:
            reply = self._down(now)
        if reply is None:
            with_now = Asked(
                asked.method,
                asked.path,
                asked.query,
                {**asked.headers, "x-fake-now": str(now)},
                asked.body,
                asked.peer,
            )
            reply = _spoilt(self.api.answer(route, with_now, id, now), fault)
            if asked.method == "GET" and fault_tells(fault) and reply.status in (200, 304, 404):
                self.journal.served(entry, expires(route, asked.path, now))
        headers = self._count(found, reply.status, asked.peer)
        self._note_pause(reply, headers, route, now)
        dated = {"Date": formatdate(now // SECOND, usegmt=True), **headers, **reply.headers}
        return Told(reply.status, dated, reply.body, reply.is_cut)

    # ── limits and downtime ──────────────────────────────────────────────────────────────────────

    def _limited(self, route: Route, peer: str, now: Moment) -> Told | None:
        if self.errors.count(now) >= self.errors.most:
            self.journal.note("error_limit", f"used up, and {route.name} was asked")
            return error(420, "This software has exceeded the error limit for ESI.")
        bucket = self._bucket(route, peer)
        if bucket is not None and bucket.left(now) < 5:
            self.journal.note("rate_limit", f"the tokens of {route.group} are used up, and {route.name} was asked")
            seconds = -(-bucket.wait(now) // SECOND)
            return Told(429, {"Retry-After": str(seconds)}, b'{"error":"Too many requests"}')
        return None

    def _down(self, now: Moment) -> Told | None:
        """What everybody is told while the cluster is down."""
        since_eleven = (now - DOWNTIME) % _DAY
        if now < self.down_until or since_eleven < self.daily_downtime:
            return error(503, "The datasource tranquility is temporarily unavailable")
        return None

    def _count(self, found: tuple[Route, int] | None, status: int | None, peer: str) -> dict[str, str]:
        """Count an answer (None: a connection that was reset), and say what the headers say of the limits."""
        now = self.clock.now()
        if found is None:
            return {}
        bucket = self._bucket(found[0], peer)
        if bucket is not None:
            bucket.spend(now, status or 500)
            return bucket.headers(now)
        if status is None or status >= 400:
            self.errors.add(now)
        return self.errors.headers(now)

    def _bucket(self, route: Route, peer: str) -> TokenBucket | None:
        if not route.group:
            return None
        key = (route.group, peer)
        if key not in self._buckets:
            self._buckets[key] = TokenBucket(route.group, self._sizes[route.group])
        return self._buckets[key]

    def _note_pause(self, made: Told, headers: Mapping[str, str], route: Route, now: Moment) -> None:
        seconds = made.headers.get("Retry-After", "")
        if made.status == 420:
            reset = made.headers.get("X-ESI-Error-Limit-Reset") or headers.get("X-ESI-Error-Limit-Reset", "60")
            self.journal.told_to_wait("*", now, int(reset) * SECOND)
        elif made.status in (429, 503) and seconds:
            is_own = made.status == 429 and "X-Ratelimit-Group" in headers
            self.journal.told_to_wait(route.name if is_own else "*", now, int(seconds) * SECOND)

    def _judge_date(self, entry: Entry, now: Moment) -> None:
        if not entry.date:
            self.journal.note("date", f"{entry.path} without X-Compatibility-Date")
        elif entry.date > format_moment(now - DOWNTIME)[:10]:
            self.journal.note("date", f"{entry.path} with {entry.date}, which is in the future")


_SSO_ROUTES: Final = {
    "/.well-known/oauth-authorization-server": "sso discovery",
    "/oauth/jwks": "sso keys",
    "/v2/oauth/authorize": "sso authorize",
    "/v2/oauth/token": "sso token",
    "/v2/oauth/revoke": "sso revoke",
}


def fault_tells(fault: Fault | None) -> bool:
    """Whether a caller with this fault still gets the facts."""
    return fault is None or fault.kind is FaultKind.SLOW


def _spoilt(good: Told, fault: Fault | None) -> Told:
    """What is sent instead of *good*."""
    kind = None if fault is None else fault.kind
    seconds = "" if fault is None or not fault.seconds else str(int(fault.seconds))
    match kind:
        case None | FaultKind.SLOW | FaultKind.LOST | FaultKind.RESET:
            return good
        case FaultKind.BAD_GATEWAY:
            return Told(502, {"Content-Type": "text/html"}, HTML)
        case FaultKind.NOT_FOUND_HTML:
            return Told(404, {"Content-Type": "text/html"}, HTML.replace(b"502 Bad Gateway", b"404 Not Found"))
        case FaultKind.SERVER_ERROR:
            return error(500, "Undefined 500 error")
        case FaultKind.UNAVAILABLE:
            away = error(503, "The datasource tranquility is temporarily unavailable")
            return Told(503, {**away.headers, "Retry-After": seconds} if seconds else away.headers, away.body)
        case FaultKind.GATEWAY_TIMEOUT:
            return Told(504)
        case FaultKind.TOO_MANY:
            return Told(
                429, {"Retry-After": seconds or "5", "Content-Type": "application/json"}, b'{"error":"slow down"}'
            )
        case FaultKind.ERROR_LIMITED:
            limited = {"X-ESI-Error-Limit-Remain": "0", "X-ESI-Error-Limit-Reset": seconds or "30"}
            return Told(420, limited, b'{"error":"This software has exceeded the error limit for ESI."}')
        case FaultKind.REDIRECT:
            return Told(302, {"Location": "http://192.0.2.1/elsewhere"})
        case _:
            return _spoilt_body(good, kind)


def _spoilt_body(good: Told, kind: FaultKind | None) -> Told:
    """A 200 with headers as they should be, and a body that is not."""
    headers = {name: value for name, value in good.headers.items() if name != "ETag"}
    body = good.body or b'{"nothing":"to see"}'
    match kind:
        case FaultKind.MALFORMED:
            return Told(200, headers, body[: len(body) // 2])
        case FaultKind.TRUNCATED:
            return Told(200, headers, body, is_cut=True)
        case FaultKind.BOMB:
            return Told(200, {**headers, "Content-Encoding": "gzip"}, _bomb())
        case _:
            return Told(200, headers, b'{"surprise":[null,1e400,"\\ud800",{"id":-1}]}')


@cache
def _bomb() -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    block = b" " * 1024 * 1024
    return b"".join(packer.compress(block) for _ in range(BOMB_SIZE // len(block))) + packer.flush()
