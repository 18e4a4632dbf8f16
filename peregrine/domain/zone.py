"""Owns time zones as segments of constant offset, with what their clocks skip and repeat; must not know cron fields.

``zoneinfo`` answers one moment at a time. A trigger needs the other view: between two clock changes a zone is
plain integer arithmetic, and only the seams are special. The seams are found by probing ``zoneinfo`` day by day
and bisecting, one year at a time, on first need; every user of a zone shares what was found.

From 2101 on a year is never probed: zones then follow a yearly rule, and such a rule sees no more of a year than
its kind (leap or not, weekday of 1 January). So the year borrows the seams of the first year of its kind.

Units: instants are whole seconds since 1970-01-01T00:00:00Z; **walls** are what a clock on the wall shows, counted
the same way as if it were UTC; wall = instant + offset.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import lru_cache
from importlib.resources import files
from itertools import pairwise
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

FOREVER: Final = 1 << 60
"""Farther than any instant; stands for "no end"."""

KEY_MAX: Final = 64
_EPOCH_ORDINAL: Final = date(1970, 1, 1).toordinal()
_PROBE: Final = 86_400
"""A look a day finds every clock change: no two were ever less than 95 hours apart (Freetown, 1939)."""

_REACH: Final = 172_800
"""Two days: longer than any clock was ever moved by, shorter than any two clock changes are apart."""

_FIRST_YEAR: Final = 1800
"""No zone had a clock change before it; everything earlier has the offset of its first day."""

_RULED_FROM: Final = 2101
_LAST_INSTANT: Final = 253_402_300_799
"""The end of the year 9999."""

_KEY: Final = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+){0,3}", re.ASCII)
_OFFSET: Final = re.compile(r"(?:UTC|GMT|Z)?[+-]\d{1,2}(?::?\d\d){0,2}", re.ASCII | re.IGNORECASE)
_ALWAYS_UTC: Final = frozenset({"UTC", "Etc/UTC", "Etc/UCT", "Etc/Universal", "Etc/Zulu", "UCT", "Universal", "Zulu"})
_NOT_ZONES: Final = frozenset({"localtime", "Factory"})
"""Names in zone files that mean "this machine" and "not set up"."""


class ZoneError(ValueError):
    """The zone name can't be used; the message says what to write instead."""


class Segment(NamedTuple):
    """A stretch of time with one offset, cut at clock changes and, invisibly to users, at years.

    Shape:   instants [start, end); the wall shows [start + offset, end + offset).
    """

    start: int
    end: int
    offset: int
    fresh: int
    """The first wall of this segment that no earlier one has shown; above the first one after clocks went back."""

    again: int
    """The first wall that a later segment shows again; the end if none does."""

    after: int
    """The offset at ``end``. If greater, walls from ``end + offset`` to ``end + after`` are never shown: a gap."""


class Gap(NamedTuple):
    """Walls [first, end) that no clock shows, because at the instant ``seam`` it moves on from first to end."""

    seam: int
    first: int
    end: int


@dataclass(frozen=True, slots=True, eq=False)
class Zone:
    """One zone; ask `find_zone` for it, so that all share what has been found of it."""

    key: str
    source: ZoneInfo | None
    """None for UTC, which needs no data and no looking up."""

    _years: dict[int, tuple[Segment, ...]] = field(default_factory=dict, repr=False)

    def segment_at(self, instant: int) -> Segment:
        """The segment that contains *instant*."""
        if self.source is None:
            return _UTC_SEGMENT
        segments = self._segments(_year_of(instant))
        for segment in segments:
            if instant < segment.end:
                return segment
        return segments[-1]

    def segments_between(self, first: int, last: int) -> Iterator[Segment]:
        """The segments from the one containing *first* to the one containing *last*, in order."""
        segment = self.segment_at(first)
        yield segment
        last = min(last, _LAST_INSTANT)
        while segment.end <= last:
            segment = self.segment_at(segment.end)
            yield segment

    def offset_at(self, instant: int) -> int:
        """Seconds that the wall is ahead of UTC at *instant*."""
        return self.segment_at(instant).offset

    def instants_of(self, wall: int) -> tuple[int, ...]:
        """The instants at which the clock shows *wall*, in order: one, none in a gap, two where clocks went back."""
        return tuple(
            wall - segment.offset
            for segment in self.segments_between(wall - _REACH, wall + _REACH)
            if segment.start <= wall - segment.offset < segment.end
        )

    def gap_of(self, wall: int) -> Gap | None:
        """The gap that swallows *wall*, or None."""
        for segment in self.segments_between(wall - _REACH, wall + _REACH):
            if segment.end + segment.offset <= wall < segment.end + segment.after:
                return Gap(segment.end, segment.end + segment.offset, segment.end + segment.after)
        return None

    def _segments(self, year: int) -> tuple[Segment, ...]:
        segments = self._years.get(year)
        if segments is not None:
            return segments
        if year < _FIRST_YEAR:
            segments = self._years[_FIRST_YEAR - 1] = (self._before_history(),)
            return segments
        if year >= _RULED_FROM and (model := _MODEL_YEARS[_kind_of_year(year)]) != year:
            # Not kept: far years are many, seldom asked for, and cheap to make.
            return _shifted(self._segments(model), _year_start(year) - _year_start(model))
        segments = self._years[year] = self._probed(_year_start(year), _year_start(year + 1))
        return segments

    def _before_history(self) -> Segment:
        end = _year_start(_FIRST_YEAR)
        offset = self._probe(end)
        return Segment(-FOREVER, end, offset, -FOREVER, end + offset, offset)

    def _probed(self, start: int, end: int) -> tuple[Segment, ...]:
        """The segments of [start, end), knowing the clock changes of two days around it."""
        seams = list(self._seams(start - _REACH, end + _REACH))
        cuts = [start, *(seam for seam, _, _ in seams if start < seam < end), end]
        segments = []
        for low, high in pairwise(cuts):
            offset = self._probe(low)
            fresh = max([low + offset, *(seam + before for seam, before, _ in seams if low - _REACH < seam <= low)])
            again = min([high + offset, *(seam + after for seam, _, after in seams if high <= seam < high + _REACH)])
            segments.append(Segment(low, high, offset, fresh, again, self._probe(high)))
        return tuple(segments)

    def _seams(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """The clock changes in (start, end] as (instant, offset before, offset after)."""
        low, before = start, self._probe(start)
        while low < end:
            high = min(low + _PROBE, end)
            after = self._probe(high)
            if after != before:
                seam = self._bisected(low, high, before)
                yield seam, before, after
            low, before = high, after

    def _bisected(self, low: int, high: int, before: int) -> int:
        """The first instant in (low, high] whose offset is no longer *before*."""
        while high - low > 1:
            middle = (low + high) // 2
            if self._probe(middle) == before:
                low = middle
            else:
                high = middle
        return high

    def _probe(self, instant: int) -> int:
        """The offset that ``zoneinfo`` says for *instant*."""
        offset = datetime.fromtimestamp(instant, self.source).utcoffset()
        assert offset is not None
        return offset.days * 86_400 + offset.seconds


_UTC_SEGMENT: Final = Segment(-FOREVER, FOREVER, 0, -FOREVER, FOREVER, 0)
UTC_ZONE: Final = Zone("UTC", None)


@lru_cache(maxsize=1024)
def find_zone(key: str) -> Zone:
    """The zone of the IANA name *key*, spelled exactly; always the same object for the same name.

    Raises:  ZoneError for an empty, odd or unknown name and for a fixed offset.
    """
    if key == "UTC":
        return UTC_ZONE
    if not key:
        raise ZoneError('the time zone is empty; write an IANA name such as "Europe/Berlin" or "UTC"')
    if len(key) > KEY_MAX:
        raise ZoneError(f"the time zone name is longer than {KEY_MAX} characters")
    if key in _ALWAYS_UTC:
        return Zone(key, None)
    # Only a list of names is proof against paths, and against file systems that take "utc" for "UTC".
    if key not in _known_keys():
        raise ZoneError(_why_not(key))
    try:
        return Zone(key, ZoneInfo(key))
    except (OSError, ValueError, ZoneInfoNotFoundError) as error:
        raise ZoneError(f'the data of time zone "{key}" can\'t be read') from error


@lru_cache(maxsize=1)
def _known_keys() -> frozenset[str]:
    """Every zone name there is: what the ``tzdata`` package lists, one small file, the same on every machine.

    Without the package what the machine has; that opens hundreds of files, too slow to do for any odd name.
    """
    try:
        keys = files("tzdata").joinpath("zones").read_text(encoding="ascii").split()
    except (ModuleNotFoundError, OSError):
        keys = list(available_timezones())
    return frozenset(keys) - _NOT_ZONES


def _why_not(key: str) -> str:
    """The sentence for a name that is no zone's."""
    if _OFFSET.fullmatch(key):
        return (
            f'"{key}" is a fixed offset, which knows no clock changes; write an IANA name such as "Europe/Berlin" '
            "(one-shot moments may carry an offset in their text)"
        )
    if _KEY.fullmatch(key) is None:
        return 'not a time zone name; write an IANA name such as "Europe/Berlin" or "UTC"'
    if key in _NOT_ZONES or key == "local":
        return f'"{key}" depends on the machine; write an IANA name such as "Europe/Berlin" or "UTC"'
    exact = next((known for known in sorted(_known_keys()) if known.lower() == key.lower()), None)
    if exact or key.lower() == "z":
        return f'unknown time zone "{key}"; names are spelled exactly: write "{exact or "UTC"}"'
    return f'unknown time zone "{key}"; write an IANA name such as "Europe/Berlin" or "UTC"'


def _year_of(instant: int) -> int:
    ordinal = instant // 86_400 + _EPOCH_ORDINAL
    if ordinal < 1:
        return 0
    return date.fromordinal(ordinal).year if ordinal <= date.max.toordinal() else 9999


def _year_start(year: int) -> int:
    """The instant at which *year* begins in UTC; 10000 too."""
    if year == 10_000:
        return _year_start(9999) + 365 * 86_400
    return (date(year, 1, 1).toordinal() - _EPOCH_ORDINAL) * 86_400


def _kind_of_year(year: int) -> tuple[int, int]:
    """The weekday of 1 January and the length in seconds."""
    start = _year_start(year)
    return (start // 86_400) % 7, _year_start(year + 1) - start


_MODEL_YEARS: Final = {_kind_of_year(year): year for year in range(_RULED_FROM, _RULED_FROM + 28)}
"""For each of the 14 kinds of year a ruled year of that kind; any 28 years without a turn of the century hold all."""


def _shifted(segments: tuple[Segment, ...], by: int) -> tuple[Segment, ...]:
    return tuple(
        Segment(start + by, end + by, offset, fresh + by, again + by, after)
        for start, end, offset, fresh, again, after in segments
    )
