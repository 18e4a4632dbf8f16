"""Owns how what executions say goes out, as a page and as events of a stream; must not know delivery."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Struct, UnsetType
from pydantic import ValidationInfo

from peregrine.domain.errors import Invalid
from peregrine.domain.execution import Execution
from peregrine.domain.journal import BEGINNING, Line, Place, Progress, parse_place
from peregrine.domain.moment import format_moment
from peregrine.wire.envelope import encode
from peregrine.wire.execution import ProgressShape, progress_shape, status_word
from peregrine.wire.queries import Query
from peregrine.wire.shapes import Text, fault
from peregrine.wire.task import MomentText

MEDIA_TYPE: Final = "text/event-stream"
HEARTBEAT: Final = b": still here\n\n"


class LineShape(Struct, frozen=True, kw_only=True):
    """One thing that was said. Numbers count from 1 in each attempt; a gap is what was dropped.

    Without `at` it was kept by an older version.
    """

    n: int
    attempt: int
    at: MomentText | UnsetType = UNSET
    text: str


class LogPage(Struct, frozen=True, kw_only=True):
    """What an execution has said. `live`: it runs here, and lines come as they are said; while one that is not live
    runs, on another instance, its lines come when the attempt has ended. `next` is the `after` of what comes then.
    """

    execution_id: str
    status: str
    live: bool
    progress: ProgressShape | UnsetType = UNSET
    lines: list[LineShape]
    next: str


class LogEnd(Struct, frozen=True, kw_only=True):
    """The execution has ended: nothing more comes."""

    execution_id: str
    status: str
    outcome: str | UnsetType = UNSET


class PlaceText(Text):
    """How far a reader has come."""

    schema: Mapping[str, Any] = {
        "type": "string",
        "pattern": r"^(?:[0-9]{1,15}-)?[0-9]{1,15}$",
        "description": "Only what was said behind this: `next` of the page before, or the `n` of a line.",
    }

    def read(self, given: Any, info: ValidationInfo) -> Place:
        """The place."""
        try:
            return parse_place(str(given))
        except ValueError as error:
            raise fault(str(error)) from None

    def written(self, value: Any) -> str:
        """As it is asked."""
        return str(value)


class LogQuery(Query):
    """Where to begin. A stream's header `Last-Event-ID` says the same, and wins."""

    after: Annotated[Place, PlaceText()] = BEGINNING


def place_of(last_event_id: str) -> Place:
    """Where a reader stands that comes back to a stream. Raises Invalid."""
    try:
        return parse_place(last_event_id)
    except ValueError as error:
        raise Invalid.at("/Last-Event-ID", str(error)) from None


def line_shape(attempt: int, line: Line) -> LineShape:
    """A line as it goes out."""
    at = UNSET if line.at is None else format_moment(line.at)
    return LineShape(n=line.number, attempt=attempt, at=at, text=line.text)


def line_event(attempt: int, line: Line, place: Place) -> bytes:
    """A line as an event that a reader can come back to."""
    return event("line", line_shape(attempt, line), id=str(place))


def progress_event(progress: Progress) -> bytes:
    """The progress as an event."""
    return event("progress", progress_shape(progress))


def end_event(execution: Execution) -> bytes:
    """The end of an execution as an event."""
    outcome = UNSET if execution.outcome is None else execution.outcome.value
    return event("end", LogEnd(execution_id=execution.id, status=status_word(execution.state), outcome=outcome))


def event(name: str, shape: msgspec.Struct, *, id: str = "") -> bytes:
    """One server-sent event. JSON holds no line break, so one ``data`` line has it all."""
    head = f"id: {id}\nevent: {name}\ndata: " if id else f"event: {name}\ndata: "
    return head.encode() + encode(shape) + b"\n\n"
