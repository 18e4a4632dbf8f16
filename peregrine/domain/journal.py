"""Owns what an attempt says: numbered lines, progress, and how they are kept with the execution; must not know readers.

Numbers count from 1 in every attempt, also for lines that were dropped since; so a ``Place`` (epoch, number) is passed
only forward, whatever retries, restarts and other instances do.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from peregrine.domain.moment import Moment, format_moment, parse_moment
from peregrine.domain.payload import JsonObject, JsonValue

LINES_MAX: Final = 200
LINE_CHARS_MAX: Final = 2000
CHARS_MAX: Final = 128 * 1024
"""Of all lines together: a store keeps them with every execution."""

LOG: Final = "log"
LOG_DROPPED: Final = "log_dropped"
PROGRESS: Final = "progress"
"""Where they stand in an execution's detail."""

_PLACE = re.compile(r"(?:([0-9]{1,15})-)?([0-9]{1,15})", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """How far somebody has read: the line *number* of the attempt with *epoch*. Epoch 0: of the newest attempt."""

    epoch: int = 0
    number: int = 0

    def __str__(self) -> str:
        return f"{self.epoch}-{self.number}"


BEGINNING: Final = Place()


def parse_place(text: str) -> Place:
    """The place that ``str`` wrote, or a line's number alone: of the newest attempt.

    Raises:  ValueError with a sentence that says how to write it.
    """
    match = _PLACE.fullmatch(text)
    if match is None:
        raise ValueError('write what `next` said, for example "1-20", or the number of a line')
    return Place(epoch=int(match[1] or 0), number=int(match[2]))


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was said. ``at`` None: it was kept before moments were."""

    number: int
    at: Moment | None
    text: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run says it is, 0 to 1."""

    fraction: float
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What one attempt has said, oldest line first."""

    attempt: int
    epoch: int
    lines: Sequence[Line] = ()
    progress: Progress | None = None

    def behind(self, place: Place) -> Sequence[Line]:
        """The lines that a reader who stands at *place* has not seen."""
        if place.epoch > self.epoch:
            return ()
        if place.epoch < self.epoch and place.epoch != 0:
            return self.lines
        return tuple(line for line in self.lines if line.number > place.number)


def detail_of(said: Said) -> JsonObject:
    """What is kept of *said* in the detail of its execution; ``said_in`` reads it back."""
    detail: JsonObject = {}
    if said.lines:
        log: list[JsonValue] = [
            {"line": line.text} if line.at is None else {"at": format_moment(line.at), "line": line.text}
            for line in said.lines
        ]
        detail[LOG] = log
        if said.lines[0].number > 1:
            detail[LOG_DROPPED] = said.lines[0].number - 1
    if said.progress is not None:
        detail[PROGRESS] = {"fraction": said.progress.fraction, "text": said.progress.text}
    return detail


def said_in(detail: JsonObject, *, attempt: int, epoch: int) -> Said:
    """What an execution's *detail* has kept of the attempt that wrote it.

    Shape:   whatever is no line is left out: an executor may have written there, and older versions kept bare texts.
    """
    log, dropped = detail.get(LOG), detail.get(LOG_DROPPED)
    first = dropped + 1 if isinstance(dropped, int) and dropped > 0 else 1
    lines = [_line(first + place, kept) for place, kept in enumerate(log)] if isinstance(log, list) else []
    return Said(
        attempt=attempt,
        epoch=epoch,
        lines=tuple(line for line in lines if line is not None)[-LINES_MAX:],
        progress=_progress(detail.get(PROGRESS)),
    )


def _line(number: int, kept: JsonValue) -> Line | None:
    if isinstance(kept, str):
        return Line(number, None, kept[:LINE_CHARS_MAX])
    if not isinstance(kept, dict) or not isinstance(text := kept.get("line"), str):
        return None
    return Line(number, _moment(kept.get("at")), text[:LINE_CHARS_MAX])


def _moment(kept: JsonValue) -> Moment | None:
    try:
        return parse_moment(kept) if isinstance(kept, str) else None
    except ValueError:
        return None


def _progress(kept: JsonValue) -> Progress | None:
    if not isinstance(kept, dict):
        return None
    fraction, text = kept.get("fraction"), kept.get("text", "")
    if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not isinstance(text, str):
        return None
    return Progress(min(1.0, max(0.0, float(fraction))), text[:LINE_CHARS_MAX])
