"""Owns what each route of ESI answers: validation, both schemas, ``Expires``, ``ETag`` and 304. Must not know limits,
faults or sockets.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from hashlib import blake2b
from typing import Final

from peregrine.domain.moment import DAY, HOUR, MINUTE, SECOND, Duration, Moment, format_moment
from peregrine.testing.fake_esi.message import Asked, Told, error, told
from peregrine.testing.fake_esi.world import World

OLDEST: Final = "2020-01-01"
KNOWN_DATES: Final = (OLDEST, "2025-09-30", "2025-12-16", "2026-06-09", "2026-07-21", "2026-08-18")
"""Those that a client can tell apart here, oldest first."""
NEW_CORPORATION: Final = "2026-07-21"
NEW_CHARACTER: Final = "2026-06-09"
IDS_MAX: Final = 1000
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_SINCE_JUNE: Final = ("achievement_score",)

Maker = Callable[["Api", Asked, int, str], Told]


@dataclass(frozen=True, slots=True)
class Route:
    """One route of ESI. ``ttl`` 0: until 11:05 UTC; ``group``: its token bucket, empty for the error limit."""

    method: str
    pattern: re.Pattern[str]
    name: str
    make: Maker
    ttl: Duration = HOUR
    group: str = ""


class Api:
    """The public routes on a world. *poison*: characters of which one sinks a whole bulk request."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.poison: set[int] = set()

    def route_of(self, asked: Asked) -> tuple[Route, int] | None:
        """The route and the id in the path, if there is one."""
        for route in ROUTES:
            match = route.pattern.fullmatch(asked.path)
            if match is not None and route.method == asked.method:
                return route, int(match[1][:18]) if match.groups() else 0
        return None

    def answer(self, route: Route, asked: Asked, id: int, now: Moment) -> Told:
        """The right answer."""
        date = asked.header("x-compatibility-date") or asked.query.get("compatibility_date", "") or OLDEST
        today = format_moment(now - 11 * HOUR)[:10]
        if not _DAY.fullmatch(date) or date > today:
            return error(400, f"compatibility date {date[:20]!r} is not known or lies in the future")
        used = max((known for known in KNOWN_DATES if known <= date), default=OLDEST)
        made = route.make(self, asked, id, used)
        headers = {"X-Compatibility-Date": used, "X-Esi-Request-Id": _etag(f"{now}{asked.path}".encode())[1:9]}
        if asked.method == "GET" and made.status in (200, 404):
            made = _cached(made, route, asked, now)
        return Told(made.status, {**made.headers, **headers}, made.body)

    # ── routes ───────────────────────────────────────────────────────────────────────────────────

    def affiliations(self, asked: Asked, id: int, date: str) -> Told:
        """POST /characters/affiliation."""
        try:
            ids = json.loads(asked.body)
        except (ValueError, RecursionError):
            return error(400, "the body is not JSON")
        if not isinstance(ids, list) or any(type(one) is not int for one in ids):
            return error(400, "the body is not a list of numbers")
        if not 1 <= len(ids) <= IDS_MAX or len(set(ids)) != len(ids):
            said = {"location": "body", "message": f"1 to {IDS_MAX} unique items", "value": len(ids)}
            return error(400, "validation failed", details=[said])
        if self.poison.intersection(ids):
            return error(404, "No characters found!")
        known = [one for one in ids if one in self.world.character_ids and self.world.exists(one)]
        return told([self.world.affiliation(one) for one in known]) if known else error(404, "No characters found!")

    def alliances(self, asked: Asked, id: int, date: str) -> Told:
        """GET /alliances."""
        return told(self.world.alliance_ids)

    def alliance(self, asked: Asked, id: int, date: str) -> Told:
        """GET /alliances/{id}."""
        return told(self.world.alliance(id)) if self.world.exists(id) else error(404, "Alliance not found")

    def alliance_corporations(self, asked: Asked, id: int, date: str) -> Told:
        """GET /alliances/{id}/corporations."""
        return told(self.world.corporations_of(id)) if self.world.exists(id) else error(404, "Alliance not found")

    def corporation(self, asked: Asked, id: int, date: str) -> Told:
        """GET /corporations/{id}."""
        if not self.world.exists(id):
            return error(404, "Corporation not found")
        return told(self.world.corporation(id, is_new=date >= NEW_CORPORATION))

    def npc_corporations(self, asked: Asked, id: int, date: str) -> Told:
        """GET /corporations/npccorps."""
        return told(list(self.world.npc_corporation_ids))

    def character(self, asked: Asked, id: int, date: str) -> Told:
        """GET /characters/{id}."""
        if not self.world.exists(id):
            return error(404, "Character not found")
        row = self.world.character(id)
        kept = {name: value for name, value in row.items() if date >= NEW_CHARACTER or name not in _SINCE_JUNE}
        return told(kept)

    def status(self, asked: Asked, id: int, date: str) -> Told:
        """GET /status; the moment is in the header that only this fake reads."""
        return told(self.world.status(int(asked.header("x-fake-now"))))

    def meta_status(self, asked: Asked, id: int, date: str) -> Told:
        """GET /meta/status."""
        return told(
            {"routes": [{"method": route.method, "path": route.name, "status": "OK"} for route in ROUTES if route.ttl]}
        )


def _route(method: str, name: str, make: Maker, ttl: Duration = HOUR, group: str = "") -> Route:
    return Route(method, re.compile(name.replace("{id}", r"(\d+)") + "/?", re.ASCII), name, make, ttl, group)


ROUTES: Final = (
    _route("POST", "/characters/affiliation", Api.affiliations),
    _route("GET", "/alliances", Api.alliances),
    _route("GET", "/alliances/{id}", Api.alliance),
    _route("GET", "/alliances/{id}/corporations", Api.alliance_corporations),
    _route("GET", "/corporations/npccorps", Api.npc_corporations, 0),
    _route("GET", "/corporations/{id}", Api.corporation),
    _route("GET", "/characters/{id}", Api.character, DAY),
    _route("GET", "/status", Api.status, 30 * SECOND, "status"),
    _route("GET", "/meta/status", Api.meta_status, MINUTE, "meta"),
)


# ── caching ──────────────────────────────────────────────────────────────────────────────────────


def expires(route: Route, path: str, now: Moment) -> Moment:
    """When the answer for *path* expires: each path has its own moment in the route's period."""
    if not route.ttl:
        return now - (now - 11 * HOUR - 5 * MINUTE) % DAY + DAY
    phase = int.from_bytes(blake2b(path.encode(), digest_size=4).digest(), "big") % (route.ttl // SECOND) * SECOND
    return now - (now - phase) % route.ttl + route.ttl


def _cached(made: Told, route: Route, asked: Asked, now: Moment) -> Told:
    """*made* with its cache headers, as 304 when the caller has it already."""
    until = expires(route, asked.path, now)
    etag = _etag(made.body)
    headers = {
        "Cache-Control": f"public, max-age={max(0, (until - now) // SECOND)}",
        "Date": formatdate(now // SECOND, usegmt=True),
        "ETag": etag,
        "Expires": formatdate(until // SECOND, usegmt=True),
        "Last-Modified": formatdate((until - (route.ttl or DAY)) // SECOND, usegmt=True),
    }
    known = [tag.strip().removeprefix("W/") for tag in asked.header("if-none-match").split(",")]
    if made.status == 200 and etag in known:
        return Told(304, headers)
    return Told(made.status, {**made.headers, **headers}, made.body)


def _etag(body: bytes) -> str:
    return f'"{blake2b(body, digest_size=28).hexdigest()}"'
