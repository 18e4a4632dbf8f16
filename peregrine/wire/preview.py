"""Owns the preview of a schedule, asked and answered; must not know stored tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

from msgspec import UNSET, Struct, UnsetType
from pydantic import Field

from peregrine.domain.cron import ScheduleError
from peregrine.domain.describe import PreviewItem
from peregrine.domain.errors import Invalid
from peregrine.domain.moment import Moment, format_moment
from peregrine.domain.trigger import DstGap, DstOverlap, Trigger, parse_trigger
from peregrine.wire.shapes import Shape, Word
from peregrine.wire.task import MomentText
from peregrine.wire.task_input import ScheduleText, ZoneText

COUNT_MAX: Final = 100


class PreviewOrder(Shape):
    """A schedule to look at."""

    schedule: ScheduleText
    timezone: ZoneText = "UTC"
    count: Annotated[int, Field(ge=1, le=COUNT_MAX)] = 5
    dst_gap: Annotated[DstGap, Word(DstGap)] = DstGap.RUN
    dst_overlap: Annotated[DstOverlap, Word(DstOverlap)] = DstOverlap.FIRST


class ComingMoment(Struct, frozen=True, kw_only=True):
    """When it fires, what the wall shows then, and what a clock change did to it, if anything."""

    at: MomentText
    local: str
    note: str | UnsetType = UNSET


class Preview(Struct, frozen=True, kw_only=True):
    """What a schedule means: in a sentence, and its next moments."""

    schedule: str
    timezone: str
    description: str
    next: list[ComingMoment]
    warnings: list[str]


def trigger_of(order: PreviewOrder, now: Moment) -> Trigger:
    """The trigger that *order* describes, intervals counted from *now*. Raises Invalid."""
    try:
        return parse_trigger(
            order.schedule, timezone=order.timezone, anchor=now, dst_gap=order.dst_gap, dst_overlap=order.dst_overlap
        )
    except ScheduleError as error:
        raise Invalid.at(f"/{error.parameter}", str(error)) from None


def preview_shape(trigger: Trigger, description: str, items: Sequence[PreviewItem], warnings: Sequence[str]) -> Preview:
    """The preview as it goes out."""
    return Preview(
        schedule=trigger.schedule,
        timezone=trigger.timezone,
        description=description,
        next=[
            ComingMoment(at=format_moment(item.at), local=item.local, note=UNSET if item.note is None else item.note)
            for item in items
        ],
        warnings=list(warnings),
    )
