"""Owns what the fake saw, and what of it was impolite; must not know how an answer is made.

It counts everything and remembers the last ten thousand requests. ``violations()`` is empty for a polite client.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from peregrine.domain.moment import MINUTE, SECOND, Duration, Moment

ENTRIES_MAX: Final = 10_000
VIOLATIONS_MAX: Final = 1000
FAILED_MAX: Final = 80
"""Failed requests in any minute that are still no hammering: below ESI's 100, above what a careful client makes."""
GRACE: Final[Duration] = 250
"""A request that comes this soon after an answer that asks for a pause had left before it arrived."""
BROWSED: Final = "sso authorize"
"""The route that a person's browser visits, not our client."""
_CONTACT = re.compile(r"[^\s()@]+@[^\s()@]+\.[^\s()@]+|https?://\S+")


@dataclass(slots=True)
class Entry:
    """One request: ``in_flight`` counts itself; ``status`` 0 means that no answer was given."""

    at: Moment
    method: str
    path: str
    route: str
    agent: str
    date: str
    in_flight: int
    status: int = 0
    ended_at: Moment = 0
    fault: str = ""


def _place(route: str) -> str:
    """Which of the two servers, that are one here, a route belongs to."""
    return "sso" if route.startswith("sso ") else "esi"


@dataclass(slots=True)
class Journal:
    """*flights_max*: more requests at once, to ESI or to the sign-in, are impolite; the two are counted apart."""

    flights_max: int = 25
    entries: deque[Entry] = field(default_factory=lambda: deque(maxlen=ENTRIES_MAX))
    routes: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    peak: int = 0
    """Most requests at once to one of the two."""
    peak_failed: int = 0
    """Most failed requests in any minute."""
    refreshes: Counter[int] = field(default_factory=Counter)
    """Refreshes that were done, by character."""
    _flying: Counter[str] = field(default_factory=Counter)
    _violations: list[str] = field(default_factory=list)
    _kinds: Counter[str] = field(default_factory=Counter)
    _expires: dict[str, Moment] = field(default_factory=dict)
    _pauses: dict[str, tuple[Moment, Moment]] = field(default_factory=dict)
    _failed: deque[Moment] = field(default_factory=deque)
    _refreshing: Counter[int] = field(default_factory=Counter)

    # ── asking ───────────────────────────────────────────────────────────────────────────────────

    def violations(self, *ignoring: str) -> Sequence[str]:
        """What was impolite, in order, the first thousand; without the kinds that are named."""
        return [text for text in self._violations if text.partition(":")[0] not in ignoring]

    @property
    def kinds(self) -> Counter[str]:
        """How often each kind of impoliteness was seen."""
        return self._kinds

    def of(self, route: str) -> Sequence[Entry]:
        """The requests of one route, of those that are remembered."""
        return [entry for entry in self.entries if entry.route == route]

    @property
    def total(self) -> int:
        """How many requests came."""
        return self.routes.total()

    def summary(self) -> dict[str, Any]:
        """Everything in numbers."""
        return {
            "requests": self.total,
            "routes": dict(self.routes),
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "peak_in_flight": self.peak,
            "peak_failed_in_a_minute": self.peak_failed,
            "refreshes": self.refreshes.total(),
            "violations": dict(self._kinds),
            "first_violations": self._violations[:20],
        }

    # ── noting ───────────────────────────────────────────────────────────────────────────────────

    def note(self, kind: str, text: str) -> None:
        """Somebody was impolite."""
        self._kinds[kind] += 1
        if len(self._violations) < VIOLATIONS_MAX:
            self._violations.append(f"{kind}: {text}")

    def begins(self, entry: Entry) -> None:
        """A request came."""
        place = _place(entry.route)
        self._flying[place] += 1
        entry.in_flight = self._flying[place]
        self.peak = max(self.peak, entry.in_flight)
        self.entries.append(entry)
        self.routes[entry.route] += 1
        if entry.route != BROWSED and not _CONTACT.search(entry.agent):
            self.note("contact", f"{entry.method} {entry.path} by {entry.agent!r}")
        if entry.in_flight > self.flights_max:
            self.note("concurrency", f"{entry.in_flight} at once with {entry.path}")
        for scope in ("*", entry.route):
            told_at, until = self._pauses.get(scope, (0, 0))
            if told_at + GRACE < entry.at < until:
                self.note("pause", f"{entry.path} {until - entry.at} ms before the pause was over")

    def ends(self, entry: Entry, status: int, now: Moment) -> None:
        """It was answered; 0: it was not."""
        self._flying[_place(entry.route)] -= 1
        entry.status, entry.ended_at = status, now
        self.statuses[status] += 1
        if status == 0 or status >= 400:
            self._failed.append(now)
        while self._failed and self._failed[0] <= now - MINUTE:
            self._failed.popleft()
        self.peak_failed = max(self.peak_failed, len(self._failed))
        if (status == 0 or status >= 400) and len(self._failed) > FAILED_MAX:
            self.note("hammering", f"{len(self._failed)} failed within a minute, the last was {entry.path}")

    def served(self, entry: Entry, expires: Moment | None) -> None:
        """Facts were told (200, 304, 404) that may be asked for again at *expires*."""
        key = f"{entry.date} {entry.path}"
        before = self._expires.get(key, 0)
        if entry.at < before:
            self.note("early", f"{entry.path} {(before - entry.at) / SECOND:.1f} s before it expired")
        if expires is not None:
            self._expires[key] = expires

    def told_to_wait(self, scope: str, now: Moment, wait: Duration) -> None:
        """An answer asked for a pause: of one route, or ``*``."""
        _, until = self._pauses.get(scope, (0, 0))
        self._pauses[scope] = (now, max(until, now + wait))

    @contextmanager
    def refreshing(self, character_id: int) -> Iterator[None]:
        """A refresh is under way."""
        self._refreshing[character_id] += 1
        if self._refreshing[character_id] > 1:
            self.note("double_flight", f"{self._refreshing[character_id]} refreshes at once of {character_id}")
        try:
            yield
        finally:
            self._refreshing[character_id] -= 1
            if not self._refreshing[character_id]:
                del self._refreshing[character_id]
