"""Owns the way between single values and what BSON holds: moments, durations, JSON; must not know any collection.

What an earlier program wrote is read as generously as it can be meant: a moment as a date or as text, a duration as
nanoseconds (Go's ``time.Duration``) or as text. What we write is what such a program reads back.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from bson.datetime_ms import DatetimeMS
from bson.int64 import Int64

from peregrine.domain.moment import (
    MOMENT_MAX,
    Duration,
    Moment,
    format_moment,
    from_datetime,
    parse_duration,
    parse_moment,
)
from peregrine.domain.payload import JsonObject, JsonValue

NEVER: Final[Moment] = MOMENT_MAX + 1
"""Stands for "no moment" where one must sort behind all."""
NANOSECONDS: Final = 1_000_000
"""In a millisecond."""
_INT64: Final = 2**63
DEPTH_MAX: Final = 40
"""Levels that a sub-document may have; the server allows a hundred, and a document has some of its own."""

_to_json = msgspec.json.Encoder().encode
_from_json = msgspec.json.Decoder().decode


def date(moment: Moment) -> DatetimeMS:
    return DatetimeMS(moment)


def date_or_none(moment: Moment | None) -> DatetimeMS | None:
    return None if moment is None else DatetimeMS(moment)


def moment_or_none(value: object) -> Moment | None:
    """The moment that *value* means; None if it means none, as Go's zero time does."""
    found: Moment | None = None
    if isinstance(value, DatetimeMS):
        found = int(value)
    elif isinstance(value, datetime):
        found = from_datetime(value if value.tzinfo else value.replace(tzinfo=UTC))
    elif isinstance(value, str):
        try:
            found = parse_moment(value)
        except ValueError:
            return None
    return None if found is None or found >= NEVER or found < _YEAR_TWO else found


_YEAR_TWO: Final[Moment] = -62_104_060_800_000
"""Go's zero time lies in year 1, and stands for "not yet"."""


def moment_of(value: object) -> Moment:
    """The moment of a field of ours, which holds one."""
    return int(value)  # type: ignore[call-overload, no-any-return]


def nanoseconds(duration: Duration) -> Int64:
    return Int64(duration * NANOSECONDS)


def duration_of(value: object, otherwise: Duration) -> Duration:
    """The duration that *value* means: nanoseconds, or text as people write it; *otherwise* if it means none."""
    if isinstance(value, bool):
        return otherwise
    if isinstance(value, int | float):
        return int(value) // NANOSECONDS
    if isinstance(value, str):
        try:
            return parse_duration(value)
        except ValueError:
            return otherwise
    return otherwise


def text_of(value: object, otherwise: str = "") -> str:
    return value if isinstance(value, str) else otherwise


def int_of(value: object, otherwise: int = 0) -> int:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else otherwise


# ── JSON ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def json_text(value: object) -> str:
    return _to_json(value).decode()


def json_object(text: str) -> JsonObject:
    """The object that *text* says, a new one each time."""
    value: JsonObject = _from_json(text)
    return value


def is_clean(value: object, depth: int = DEPTH_MAX) -> bool:
    """Whether *value* can be a sub-document as it is: every server takes its keys, and it comes back the same."""
    if isinstance(value, dict):
        return depth > 0 and all(_is_clean_key(key) and is_clean(one, depth - 1) for key, one in value.items())
    if isinstance(value, list):
        return depth > 0 and all(is_clean(one, depth - 1) for one in value)
    return not isinstance(value, int) or -_INT64 <= value < _INT64


def _is_clean_key(key: object) -> bool:
    return isinstance(key, str) and key != "" and key[0] != "$" and "." not in key and "\0" not in key


def json_of(value: object) -> JsonValue:
    """*value* as JSON can say it: what BSON has beyond that becomes text."""
    if isinstance(value, Mapping):
        return {str(key): json_of(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [json_of(one) for one in value]
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return value
    moment = moment_or_none(value)
    return str(value) if moment is None else format_moment(moment)


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """A document from fields named by their paths: ``{"a.b": 1}`` gives ``{"a": {"b": 1}}``."""
    document: dict[str, Any] = {}
    for path, value in flat.items():
        *outer, name = path.split(".")
        place = document
        for step in outer:
            place = place.setdefault(step, {})
        place[name] = value
    return document
