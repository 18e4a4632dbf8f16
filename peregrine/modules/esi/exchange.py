"""Owns one HTTP question and its answer as plain values, and how their headers are read; must not know who sends."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Final, Protocol

from peregrine.domain.moment import SECOND, Duration, Moment, from_datetime

SECONDS_MAX: Final = 86_400
"""No header makes us wait longer than a day, whatever it says."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is sent. ``headers`` and ``body`` may hold secrets, so they are not shown."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer, inflated. Header names are in lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)


class NoAnswer(Exception):
    """No complete answer came. ``sent``: the question may have reached the other side. The text names no secret."""

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.sent = sent


class Http(Protocol):
    """Sends a question once, never again by itself, and follows no redirect."""

    async def send(self, question: Question) -> Answer:
        """The answer, whatever its status. Raises NoAnswer; a cancel closes the connection."""
        ...


# ── headers ──────────────────────────────────────────────────────────────────────────────────────


def whole(text: str | None, *, most: int = 1_000_000_000) -> int | None:
    """The number that *text* is, at most *most*; None for everything that is no plain whole number."""
    text = (text or "").strip()
    return min(int(text), most) if text.isascii() and text.isdecimal() and len(text) <= 18 else None


def word(text: str | None, *, most: int = 200) -> str:
    """*text* if it is plain, printable and short; nothing otherwise. What we keep or send back has to be."""
    text = (text or "").strip()
    return text if len(text) <= most and text.isascii() and text.isprintable() else ""


def http_moment(text: str | None) -> Moment | None:
    """The moment of an HTTP date; None for anything else."""
    if not text:
        return None
    try:
        moment = parsedate_to_datetime(text)
        return from_datetime(moment) if moment.tzinfo is not None else None
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


def seconds_to_wait(text: str | None, now: Moment) -> Duration | None:
    """What ``Retry-After`` asks for, counted from *now*; None if it says nothing usable."""
    seconds = whole(text, most=SECONDS_MAX)
    if seconds is not None:
        return seconds * SECOND
    moment = http_moment(text)
    return None if moment is None else min(max(0, moment - now), SECONDS_MAX * SECOND)


def expires_at(headers: Mapping[str, str], now: Moment) -> Moment:
    """When the answer that came at *now* may be asked for again, by our clock; *now* if it does not say.

    ``Expires`` is compared with the other side's own ``Date``, so that a clock of ours that goes wrong asks neither
    early nor never. A date has no milliseconds: one second more is waited.
    """
    until = http_moment(headers.get("expires"))
    if until is None:
        return now
    from_ = http_moment(headers.get("date"))
    left = until - (now if from_ is None else from_)
    return now + min(left + SECOND, SECONDS_MAX * SECOND) if left > 0 else now


# ── bodies ───────────────────────────────────────────────────────────────────────────────────────


class Corrupt(Exception):
    """What came is not what the specification promises; the text says where, and quotes nothing."""


def json_of(body: bytes) -> Any:
    """The JSON value of *body*. Raises Corrupt; never anything else, however it was made."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise Corrupt("the body is not JSON") from None


def object_of(value: Any) -> dict[str, Any]:
    """*value*, an object. Raises Corrupt."""
    if not isinstance(value, dict):
        raise Corrupt("not an object")
    return value


def number_of(value: Any) -> float | None:
    """*value* as a finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def clean(text: str, *, most: int) -> str:
    """*text* without what stores can't hold (NUL, halves of surrogate pairs), cut to *most* characters."""
    return text[:most].replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def error_text(body: bytes) -> str | None:
    """What an error body says in ``error``, fit to be shown; None if it is no error body at all (HTML, nothing)."""
    try:
        said = object_of(json_of(body)).get("error")
    except Corrupt:
        return None
    if not isinstance(said, str):
        return None
    return "".join(c if c.isprintable() else " " for c in clean(said, most=200))
