"""Owns moments and durations and their text forms; must not know the current time.

A ``Moment`` is an aware instant: integer **milliseconds** since 1970-01-01T00:00:00Z. A ``Duration`` is
integer milliseconds. Integers keep arithmetic exact, rows small and comparisons free of zones; ``datetime``
appears only at the doors. Milliseconds are what both the wire form and BSON dates can carry.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

Moment: TypeAlias = int
Duration: TypeAlias = int

SECOND: Final = 1_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

MOMENT_MAX: Final = 253_402_300_799_999
"""The last millisecond of the year 9999, the end of what RFC 3339 and ``datetime`` can say."""

MOMENT_MIN: Final = -62_135_596_800_000
"""The first millisecond of the year 1."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PLAIN_EPOCH = _EPOCH.replace(tzinfo=None)
_RFC3339 = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_UNIT_MS: Final = {"d": DAY, "h": HOUR, "m": MINUTE, "s": SECOND, "ms": 1}
_PART = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(ms|d|h|m|s)", re.ASCII)
_ISO = re.compile(
    r"P(?:(\d{1,9})W)?(?:(\d{1,9})D)?(?:T(?:(\d{1,12}(?:\.\d{1,9})?)H)?(?:(\d{1,12}(?:\.\d{1,9})?)M)?"
    r"(?:(\d{1,12}(?:\.\d{1,9})?)S)?)?",
    re.ASCII | re.IGNORECASE,
)
HOW_TO_WRITE = 'write a duration as "45s", "1.5s", "2m", "1h30m" or "PT2M"'


def to_datetime(moment: Moment) -> datetime:
    """The aware UTC ``datetime`` of *moment*."""
    return _EPOCH + timedelta(milliseconds=moment)


def from_datetime(value: datetime) -> Moment:
    """The moment of an aware ``datetime``, cut (not rounded) to milliseconds."""
    if value.tzinfo is None:
        raise ValueError("a datetime without zone names no moment")
    return (value - _EPOCH) // timedelta(milliseconds=1)


def format_moment(moment: Moment) -> str:
    """RFC 3339 in UTC with ``Z``: whole seconds plain, else three digits (``2026-01-01T00:00:00.250Z``)."""
    precision = "milliseconds" if moment % 1000 else "seconds"
    return (_PLAIN_EPOCH + timedelta(milliseconds=moment)).isoformat(timespec=precision) + "Z"


def parse_moment(text: str) -> Moment:
    """The moment of an RFC 3339 *text* with offset.

    Raises:  ValueError with a sentence that says how to write it.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError('write a moment as RFC 3339 with an offset, for example "2026-01-31T09:00:00Z"')
    year, month, day, hour, minute, second, fraction, offset = match.groups()
    try:
        moment = from_datetime(
            datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), tzinfo=UTC)
        )
    except (ValueError, OverflowError) as error:
        raise ValueError(f"no such moment: {error}") from None
    if offset not in ("Z", "z"):
        hours, minutes = int(offset[1:3]), int(offset[4:6])
        if hours > 23 or minutes > 59:
            raise ValueError("the offset must be at most 23:59")
        shift = hours * HOUR + minutes * MINUTE
        moment += shift if offset[0] == "-" else -shift
    if fraction:
        moment += int(fraction[:3].ljust(3, "0"))
    if not MOMENT_MIN <= moment <= MOMENT_MAX:
        raise ValueError("the moment must lie in the years 1 to 9999 UTC")
    return moment


def format_duration(duration: Duration) -> str:
    """The wire's form: ``45s``, ``1.5s``, ``2m``, ``1h30m``, ``0s``; the largest unit is the hour."""
    if duration < 0:
        return "-" + format_duration(-duration)
    hours, rest = divmod(duration, HOUR)
    minutes, rest = divmod(rest, MINUTE)
    seconds, millis = divmod(rest, SECOND)
    text = (f"{hours}h" if hours else "") + (f"{minutes}m" if minutes else "")
    if millis:
        return f"{text}{seconds}.{millis:03d}".rstrip("0") + "s"
    if seconds or not text:
        text += f"{seconds}s"
    return text


def parse_duration(text: str) -> Duration:
    """The duration of ``45s``, ``1.5s``, ``2m0s``, ``1h30m``, ``2d`` or ISO 8601 ``PT2M``, cut to milliseconds.

    Raises:  ValueError with a sentence that says how to write it (a bare number is refused: it has no unit).
    """
    if not text or len(text) > 64:
        raise ValueError(HOW_TO_WRITE)
    if text[0] in "Pp":
        return _parse_iso(text)
    total, position, units = 0, 0, list(_UNIT_MS)
    while position < len(text):
        match = _PART.match(text, position)
        if match is None or match[2] not in units:
            raise ValueError(HOW_TO_WRITE)
        total += _scaled(match[1], _UNIT_MS[match[2]])
        units = units[units.index(match[2]) + 1 :]
        position = match.end()
    if total > MOMENT_MAX:
        raise ValueError("the duration is too long")
    return total


def _parse_iso(text: str) -> Duration:
    match = _ISO.fullmatch(text)
    if match is None or not any(match.groups()) or text[-1] in "Tt":
        raise ValueError(HOW_TO_WRITE)
    sizes = (7 * DAY, DAY, HOUR, MINUTE, SECOND)
    total = sum(_scaled(part, size) for part, size in zip(match.groups(), sizes, strict=True) if part)
    if total > MOMENT_MAX:
        raise ValueError("the duration is too long")
    return total


def _scaled(number: str, unit_ms: int) -> int:
    whole, _, fraction = number.partition(".")
    millis = int(whole) * unit_ms
    if fraction:
        millis += int(fraction) * unit_ms // 10 ** len(fraction)
    return millis
