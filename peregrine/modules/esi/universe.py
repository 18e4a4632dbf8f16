"""Owns asking ESI: which route, which headers, what of the answer is kept, and what each status means for the caller.
Must not know sockets, nor when a request is polite.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Generic, TypeAlias, TypeVar
from urllib.parse import urlsplit

from peregrine.domain.errors import BadConfiguration, Unavailable
from peregrine.domain.moment import HOUR, SECOND, Duration, Moment, to_datetime
from peregrine.modules.esi import facts
from peregrine.modules.esi.exchange import Answer, Corrupt, Http, NoAnswer, Question, error_text, expires_at, word
from peregrine.modules.esi.throttle import DOWNTIME_STARTS
from peregrine.modules.esi.turnstile import TooLong, Turnstile
from peregrine.ports.clock import Clock
from peregrine.ports.esi import (
    AFFILIATIONS_MAX,
    CorporationFacts,
    EsiCache,
    EsiMisconfigured,
    EsiRefused,
    EsiUnavailable,
    Kept,
    Seen,
    ServerStatus,
)
from peregrine.ports.eve import Affiliation, Alliance, Character

ADDRESS: Final = "https://esi.evetech.net"
COMPATIBILITY_DATE: Final = "2026-08-18"
"""The behaviour of ESI that this room was written for. A newer one is chosen here, after reading ESI's changelog."""
TRIES_MAX: Final = 3
"""Of one request whose failure is the other side's. All are reads, so that a second one does no harm."""
PAUSES: Final[tuple[Duration, ...]] = (SECOND, 5 * SECOND)
GONE: Final = (404, 410)
AWAY_FOR: Final = 60
"""Seconds after which a caller may come again, where nothing better is known."""
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_LOCAL: Final = ("127.0.0.1", "::1", "localhost")

What = TypeVar("What")
What_co = TypeVar("What_co", covariant=True)
Result = TypeVar("Result")
_Use: TypeAlias = Callable[[Answer, What | None], Awaitable[Result]]
"""What becomes of a usable answer: 200 with what was read in it, or 304 and ESI's own 404 with None."""


def checked_address(address: str, *, of: str) -> str:
    """*address* without a slash at its end. Raises BadConfiguration unless it is HTTPS, or of this very machine."""
    try:
        parts = urlsplit(address.rstrip("/"))
        is_safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOCAL)
        is_plain = parts.hostname and parts.port != 0 and not (parts.username or parts.query or parts.fragment)
    except ValueError:
        is_safe = is_plain = False
    if not is_safe or not is_plain or not address.isascii() or not address.isprintable() or " " in address:
        raise BadConfiguration(f"the address of {of} must be an https:// URL without user, query and fragment")
    return address.rstrip("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class EsiSettings:
    """Where ESI is and how it should behave."""

    address: str = ADDRESS
    compatibility_date: str = COMPATIBILITY_DATE

    def __post_init__(self) -> None:
        """Raises BadConfiguration."""
        checked_address(self.address, of="ESI")
        if not _DAY.fullmatch(self.compatibility_date):
            raise BadConfiguration(f"ESI's compatibility date is written as {COMPATIBILITY_DATE}")


@dataclass(frozen=True, slots=True)
class _Page(Generic[What_co]):
    """One thing to ask for. ``always``: in downtime too; ``route``: its path for limits, the same for every id."""

    path: str
    route: str
    read: Callable[[bytes], What_co]
    always: bool = False
    tries: int = TRIES_MAX

    def facts_in(self, kept: Kept) -> What_co | None:
        """What was kept, read again; None for what does not exist. Raises Corrupt."""
        return None if kept.status in GONE else self.read(kept.body)


class EsiClient:
    """A ``ports.esi.Esi``. One for a process; any number of callers at once."""

    def __init__(
        self, http: Http, turnstile: Turnstile, cache: EsiCache, clock: Clock, settings: EsiSettings | None = None
    ) -> None:
        self._http = http
        self._turnstile = turnstile
        self._cache = cache
        self._clock = clock
        self._settings = settings or EsiSettings()
        self._address = self._settings.address.rstrip("/")
        self._home = self._address.partition("://")[2]
        self._asking: dict[str, _Turn] = {}

    # ── questions ────────────────────────────────────────────────────────────────────────────────

    async def affiliations(self, ids: Sequence[int]) -> Sequence[Affiliation]:
        """Where these characters belong. Raises ValueError for none, too many, or one twice: the caller's mistake."""
        if not 0 < len(ids) <= AFFILIATIONS_MAX or len(set(ids)) != len(ids):
            raise ValueError(f"affiliations takes 1 to {AFFILIATIONS_MAX} different ids")
        page = _Page("/characters/affiliation", "/characters/affiliation", facts.affiliations)
        body = json.dumps(list(ids), separators=(",", ":")).encode()
        question = Question("POST", self._address + page.path, self._headers(has_body=True), body)

        async def rows_of(answer: Answer, rows: Sequence[Affiliation] | None) -> Sequence[Affiliation]:
            if rows is None:
                raise EsiRefused(answer.status, error_text(answer.body) or "")
            return rows

        rows, wanted = await self._asked(question, page, rows_of), set(ids)
        return [row for row in rows if row.character_id in wanted]

    async def alliance_ids(self) -> Sequence[int]:
        """Every active alliance."""
        return _there(await self._seen(_Page("/alliances", "/alliances", facts.ids)))

    async def alliance(self, alliance_id: int) -> Seen[Alliance]:
        """One alliance."""
        read = partial(facts.alliance, alliance_id)
        return await self._seen(_Page(f"/alliances/{alliance_id:d}", "/alliances/{id}", read))

    async def corporation(self, corporation_id: int) -> Seen[CorporationFacts]:
        """One corporation."""
        read = partial(facts.corporation, corporation_id)
        return await self._seen(_Page(f"/corporations/{corporation_id:d}", "/corporations/{id}", read))

    async def npc_corporation_ids(self) -> Sequence[int]:
        """Every NPC corporation."""
        return _there(await self._seen(_Page("/corporations/npccorps", "/corporations/npccorps", facts.ids)))

    async def character(self, character_id: int) -> Seen[Character]:
        """One character."""
        read = partial(facts.character, character_id)
        return await self._seen(_Page(f"/characters/{character_id:d}", "/characters/{id}", read))

    async def status(self) -> ServerStatus:
        """The cluster's status; what it says of a downtime is for all instances to know."""
        return await self._status(tries=TRIES_MAX)

    async def _status(self, *, tries: int) -> ServerStatus:
        page = _Page("/status", "/status", facts.status, always=True, tries=tries)
        status = _there(await self._seen(page))
        if not status.vip:
            await self._turnstile.cluster_is_up(status.started_at)
        return status

    # ── kept answers ─────────────────────────────────────────────────────────────────────────────

    async def _seen(self, page: _Page[What]) -> Seen[What]:
        """What ESI says, from what is kept as long as it holds. Two who ask for the same at once ask once."""
        turn = self._asking.setdefault(page.path, _Turn())
        turn.waiting += 1
        try:
            async with turn.lock:
                return await self._seen_alone(page)
        finally:
            turn.waiting -= 1
            if not turn.waiting:
                self._asking.pop(page.path, None)

    async def _seen_alone(self, page: _Page[What]) -> Seen[What]:
        key = f"{self._date()} {self._home}{page.path}"
        kept = await self._cache.get(key)
        if kept is not None and kept.expires_at > self._clock.now():
            try:
                return Seen(page.facts_in(kept), True, kept.expires_at)
            except Corrupt:
                kept = None
        etag = kept.etag if kept is not None and kept.status not in GONE else ""

        async def keep(answer: Answer, told: What | None) -> Seen[What]:
            new = _kept(answer, kept, expires_at(answer.headers, self._clock.now()))
            if answer.status == 304:
                try:
                    told = page.facts_in(new)
                except Corrupt:
                    raise EsiUnavailable("an answer that was kept can't be read", retry_after=AWAY_FOR) from None
            await self._cache.put(key, new)
            unchanged = kept is not None and (kept.body, kept.status) == (new.body, new.status)
            return Seen(told, unchanged, new.expires_at)

        question = Question("GET", self._address + page.path, self._headers(etag=etag))
        return await self._asked(question, page, keep)

    # ── asking ───────────────────────────────────────────────────────────────────────────────────

    async def _asked(self, question: Question, page: _Page[What], use: _Use[What, Result]) -> Result:
        """What *use* makes of a usable answer. Tries again what may pass.

        Raises:  EsiUnavailable, EsiRefused, EsiMisconfigured.
        """
        reason = ""
        for number in range(page.tries):
            if number:
                await asyncio.sleep(PAUSES[min(number, len(PAUSES)) - 1] / SECOND)
            try:
                return await self._asked_once(question, page, use)
            except _MayPass as failed:
                reason = str(failed)
        raise EsiUnavailable(f"ESI does not answer {page.route}: {reason}", retry_after=AWAY_FOR)

    async def _asked_once(self, question: Question, page: _Page[What], use: _Use[What, Result]) -> Result:
        look = None if page.always else self._look
        try:
            async with self._turnstile.through(page.route, always=page.always, look=look) as given:
                try:
                    answer = await self._http.send(question)
                except NoAnswer as error:
                    given.ended(None, failed=True)
                    raise _MayPass(str(error)) from None
                given.ended(answer, failed=True)
                told = _read(answer, question, page)
                given.ended(answer, failed=False)
                _refuse(answer)
                # In flight until it is kept: a process that dies loses no more answers than may fly.
                return await use(answer, told)
        except TooLong as error:
            seconds = max(1, -(-error.wait // SECOND))
            raise EsiUnavailable(f"ESI has to wait: {error.reason}", retry_after=seconds) from None

    async def _look(self) -> None:
        """Learn whether a downtime is over; that it is not, a failure says as well. One try is enough for that."""
        with suppress(Unavailable):
            await self._status(tries=1)

    def _headers(self, *, etag: str = "", has_body: bool = False) -> dict[str, str]:
        headers = {"X-Compatibility-Date": self._date()}
        if etag:
            headers["If-None-Match"] = etag
        if has_body:
            headers["Content-Type"] = "application/json"
        return headers

    def _date(self) -> str:
        """The pinned date; a clock that is far behind must not ask for what ESI takes for the future."""
        today = f"{to_datetime(self._clock.now() - DOWNTIME_STARTS):%Y-%m-%d}"
        return min(self._settings.compatibility_date, today)


class _MayPass(Exception):
    """This time it failed, and the other side is to blame."""


class _Turn:
    """Whose turn it is to ask for one path."""

    __slots__ = ("lock", "waiting")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.waiting = 0


def _read(answer: Answer, question: Question, page: _Page[What]) -> What | None:
    """What a 200 says; None for what has no facts in it. Raises _MayPass for everything that is no word of ESI."""
    if answer.status == 200:
        try:
            return page.read(answer.body)
        except Corrupt as error:
            raise _MayPass(f"the answer can't be used: {error}") from None
    if answer.status == 304 and "If-None-Match" in question.headers:
        return None
    if answer.status in (408, 420, 425, 429) or answer.status >= 500 or answer.status < 400:
        raise _MayPass(f"status {answer.status}")
    if error_text(answer.body) is None:
        # A gateway's word (HTML, nothing): from it nobody may conclude that an alliance is gone.
        raise _MayPass(f"status {answer.status} without a word of ESI")
    return None


def _kept(answer: Answer, before: Kept | None, until: Moment) -> Kept:
    """What to keep of an answer; of a 304, what was kept before."""
    if answer.status == 304 and before is not None:
        return replace(before, etag=word(answer.headers.get("etag")) or before.etag, expires_at=until)
    if answer.status in GONE:
        return Kept("", until, b"", 404)
    return Kept(word(answer.headers.get("etag")), until, answer.body)


def _refuse(answer: Answer) -> None:
    """Raises for a 4xx that the caller has to know of; that something does not exist is an answer."""
    if answer.status < 400 or answer.status in GONE:
        return
    said = error_text(answer.body) or ""
    if "compatibility" in said.lower():
        raise EsiMisconfigured(f"ESI does not take the compatibility date of this version: {said}")
    if answer.status in (401, 403):
        raise EsiMisconfigured(f"ESI turns this program away with {answer.status}: {said}. Look at the contact given")
    raise EsiRefused(answer.status, said)


def _there(seen: Seen[What]) -> What:
    """The facts of what always exists. Raises EsiUnavailable."""
    if seen.facts is None:
        raise EsiUnavailable("ESI says that a route of it does not exist", retry_after=HOUR // SECOND)
    return seen.facts
