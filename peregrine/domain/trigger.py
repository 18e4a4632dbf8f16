"""Owns the pure rule of when: cron, interval, once, manual, and both clock-change settings; must not know misfires.

A trigger is made from the text a person wrote (the *schedule*) and answers instants. It holds no position and
reads no clock: the same question always has the same answer.

Clock changes. A cron schedule that **names its times** (no ``*``, ``?`` or ``/`` in second, minute or hour) fires
once per named wall moment: at the end of a gap if the moment does not exist (``dst_gap``), on the first pass if it
comes twice (``dst_overlap``). Any other is **periodic**: it fires whenever the wall matches and heeds neither.

The engine walks segments of constant offset (see ``zone``). Inside one, cron is integer arithmetic on walls. The
rules sit at the seams only: a named wall that falls into the hole becomes the seam; after clocks went back the
search starts behind the walls already shown (first), or stops before those to be shown again (second).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final, Protocol, assert_never

from peregrine.domain.cron import TEXT_MAX, Cron, CronError, ScheduleError, parse_cron
from peregrine.domain.moment import (
    MOMENT_MAX,
    MOMENT_MIN,
    SECOND,
    Duration,
    Moment,
    format_duration,
    format_moment,
    parse_duration,
    parse_moment,
)
from peregrine.domain.zone import FOREVER, Segment, Zone, ZoneError, find_zone

__all__ = [
    "CronError",
    "CronRule",
    "DstGap",
    "DstOverlap",
    "IntervalRule",
    "ManualRule",
    "OnceRule",
    "ScheduleError",
    "Trigger",
    "TriggerKind",
    "parse_trigger",
]

GAP_MAX: Final = 3 * 3600
"""Seconds. A longer gap (Samoa left out a day in 2011) is not made up: nobody expects Friday's runs on Saturday."""

INSTANT_MIN: Final = MOMENT_MIN // SECOND
INSTANT_MAX: Final = MOMENT_MAX // SECOND
_TWO_DAYS: Final = 172_800
"""Seconds. More than any two offsets differ by, so a bound on how far a wall can be from where it was expected."""

_CYCLE: Final = 146_097 * 86_400
"""Seconds of 400 years: after them weekdays, leap days and the zones' yearly rules repeat exactly."""

_CYCLES_FROM: Final = 4_133_980_800
"""2101-01-01: the instant from which zones follow their yearly rule for good (see ``zone``)."""


class DstGap(StrEnum):
    """What becomes of a named wall moment that the clock jumps over."""

    RUN = "run"
    """It fires at the first instant after the gap; several fire there once."""
    SKIP = "skip"
    """It does not fire."""


class DstOverlap(StrEnum):
    """In which pass a named wall moment fires that the clock shows twice."""

    FIRST = "first"
    SECOND = "second"
    BOTH = "both"


class TriggerKind(StrEnum):
    """How a schedule says when."""

    CRON = "cron"
    INTERVAL = "interval"
    ONCE = "once"
    MANUAL = "manual"


class Rule(Protocol):
    """What every form of schedule can answer; whole seconds in, whole seconds out."""

    def next_after(self, instant: int) -> int | None:
        """The least firing instant strictly after *instant*."""
        ...

    def count_between(self, after: int, upto: int) -> int:
        """How many firing instants lie in (after, upto]."""
        ...

    def latest_between(self, after: int, upto: int, limit: int) -> list[int]:
        """The newest *limit* firing instants in (after, upto], oldest first."""
        ...


@dataclass(frozen=True, slots=True)
class CronRule:
    """The instants at which the wall of *zone* shows what *cron* names, by the two clock-change settings."""

    cron: Cron
    zone: Zone
    gap: DstGap = DstGap.RUN
    overlap: DstOverlap = DstOverlap.FIRST

    @property
    def pass_wanted(self) -> DstOverlap:
        """The pass that fires; a periodic schedule follows real time, so both."""
        return DstOverlap.BOTH if self.cron.periodic else self.overlap

    def makes_up(self, segment: Segment) -> bool:
        """Whether *segment* ends in a gap whose named moments fire at its end."""
        gap = segment.after - segment.offset
        return 0 < gap <= GAP_MAX and self.gap is DstGap.RUN and not self.cron.periodic

    def next_after(self, instant: int) -> int | None:
        cron, wanted = self.cron, self.pass_wanted
        if cron.impossible is not None:
            return None
        start = max(instant, INSTANT_MIN - 1) + 1
        # A schedule can name only moments that its zone always skips; 400 years of one rule are proof of that.
        horizon = max(start, _CYCLES_FROM) + _CYCLE
        # The segment of the moment *before*: if that was its last, the seam itself may be the answer.
        segment = self.zone.segment_at(start - 1)
        while start <= INSTANT_MAX and start < horizon:
            _, end, offset, fresh, again, after = segment
            low, high = start + offset, end + offset
            if wanted is DstOverlap.FIRST and low < fresh:
                low = fresh
            elif wanted is DstOverlap.SECOND:
                high = again
            found = cron.next_wall(low)
            wall = FOREVER if found is None else found
            if wall < high:
                return wall - offset if wall - offset <= INSTANT_MAX else None
            if wall < end + after and self.makes_up(segment) and wall >= end + offset:
                return end
            # Hop to just before a far wall, but never over a seam whose repeated walls reach back before `low`.
            far = wall - offset - _TWO_DAYS
            start = far if far > end >= start + _TWO_DAYS else end
            if start > INSTANT_MAX:
                return None
            segment = self.zone.segment_at(start)
        return None

    def count_between(self, after: int, upto: int) -> int:
        first, stop = max(after, INSTANT_MIN - 1) + 1, min(upto, INSTANT_MAX) + 1
        if first >= stop or self.cron.impossible is not None:
            return 0
        segments = self.zone.segments_between(first - 1, stop - 1)
        return sum(self._count_in(segment, first, stop) for segment in segments)

    def latest_between(self, after: int, upto: int, limit: int) -> list[int]:
        """Found by counting, not by walking: widen a window back from *upto* until it holds enough, then halve."""
        after, upto = max(after, INSTANT_MIN - 1), min(upto, INSTANT_MAX)
        if limit <= 0 or after >= upto:
            return []
        low, span = upto, 3600
        while low > after and self.count_between(low, upto) < limit:
            low, span = max(after, upto - span), span * 4
        low = self._narrowed(low, upto, limit)
        found: list[int] = []
        instant = self.next_after(low)
        while instant is not None and instant <= upto:
            found.append(instant)
            instant = self.next_after(instant)
        return found[-limit:]

    def _narrowed(self, low: int, upto: int, limit: int) -> int:
        """A later start than *low* that still leaves *limit* instants up to *upto*, and few more."""
        high = upto
        while high - low > 1 and self.count_between(low, upto) > 2 * limit:
            middle = (low + high) // 2
            if self.count_between(middle, upto) >= limit:
                low = middle
            else:
                high = middle
        return low

    def _count_in(self, segment: Segment, first: int, stop: int) -> int:
        """The firing instants of *segment* in [first, stop), and of the seam that ends it."""
        start, end, offset, fresh, again, _ = segment
        low, high = max(start, first) + offset, min(end, stop) + offset
        if self.pass_wanted is DstOverlap.FIRST:
            low = max(low, fresh)
        elif self.pass_wanted is DstOverlap.SECOND:
            high = min(high, again)
        total = self.cron.count_walls(low, high)
        if end < stop and self.makes_up(segment) and self._fires_at_seam_only(segment):
            total += 1
        return total

    def _fires_at_seam_only(self, segment: Segment) -> bool:
        """Whether a named moment lies in the gap, and none on the very wall after it, which counts by itself."""
        hole, beyond = segment.end + segment.offset, segment.end + segment.after
        wall = self.cron.next_wall(hole)
        return wall is not None and wall < beyond and not self.cron.matches(beyond)


@dataclass(frozen=True, slots=True)
class IntervalRule:
    """Run k (1, 2, …) is at anchor + k * every, in real seconds: never drifts, knows no clock changes."""

    anchor: int
    every: int

    def next_after(self, instant: int) -> int | None:
        found = self.anchor + (self._runs_upto(instant) + 1) * self.every
        return found if found <= INSTANT_MAX else None

    def count_between(self, after: int, upto: int) -> int:
        return max(0, self._runs_upto(upto) - self._runs_upto(after))

    def latest_between(self, after: int, upto: int, limit: int) -> list[int]:
        newest = self._runs_upto(upto)
        oldest = max(self._runs_upto(after), newest - max(limit, 0)) + 1
        return [self.anchor + run * self.every for run in range(oldest, newest + 1)]

    def _runs_upto(self, instant: int) -> int:
        return max(0, (min(instant, INSTANT_MAX) - self.anchor) // self.every)


@dataclass(frozen=True, slots=True)
class OnceRule:
    """The listed instants: one, or two for a local time that comes twice, or none for one that never comes."""

    instants: tuple[int, ...]
    wall: int | None = None
    """The wall that was asked for, where the text had no offset."""

    def next_after(self, instant: int) -> int | None:
        return next((one for one in self.instants if one > instant), None)

    def count_between(self, after: int, upto: int) -> int:
        return sum(after < one <= upto for one in self.instants)

    def latest_between(self, after: int, upto: int, limit: int) -> list[int]:
        found = [one for one in self.instants if after < one <= upto]
        return found[-limit:] if limit > 0 else []


@dataclass(frozen=True, slots=True)
class ManualRule:
    """Never by itself."""

    def next_after(self, instant: int) -> int | None:
        return None

    def count_between(self, after: int, upto: int) -> int:
        return 0

    def latest_between(self, after: int, upto: int, limit: int) -> list[int]:
        return []


@dataclass(frozen=True, slots=True)
class Trigger:
    """The rule parsed from a schedule: moment in, next moment out.

    Units:   moments are milliseconds and answers whole seconds; a sub-second start is cut, then strictly after.
    """

    schedule: str
    """The canonical text, without zone prefix: parsing it again with ``timezone`` gives the same rule."""

    timezone: str
    """The IANA name that holds, whether it came as parameter or as prefix of the text."""

    kind: TriggerKind
    rule: CronRule | IntervalRule | OnceRule | ManualRule
    dst_gap: DstGap = DstGap.RUN
    dst_overlap: DstOverlap = DstOverlap.FIRST
    periodic: bool = False
    """Whether it follows real time and heeds neither clock-change setting."""

    impossible: str | None = None
    """Why it can never fire ("never fires: February has at most 29 days"), or None."""

    warnings: tuple[str, ...] = ()
    """What is accepted but was probably not meant, one sentence each."""

    def next_after(self, moment: Moment) -> Moment | None:
        """The first firing moment strictly after *moment*; None when there is none up to the year 9999."""
        instant = self.rule.next_after(moment // SECOND)
        return None if instant is None else instant * SECOND

    def count_between(self, after: Moment, upto: Moment) -> int:
        """How many firing moments lie in (after, upto]; counted, not walked."""
        return self.rule.count_between(after // SECOND, upto // SECOND)

    def latest_between(self, after: Moment, upto: Moment, limit: int) -> list[Moment]:
        """The newest *limit* firing moments in (after, upto], oldest first; the length of the range costs nothing."""
        return [instant * SECOND for instant in self.rule.latest_between(after // SECOND, upto // SECOND, limit)]


# --- Reading ----------------------------------------------------------------------------------------------------

_PREFIX: Final = re.compile(r"(?:CRON_)?TZ=([^ \t]*)(?:[ \t]+|$)", re.ASCII | re.IGNORECASE)
_INTERVAL: Final = re.compile(r"P[0-9T]", re.ASCII | re.IGNORECASE)
_DATE: Final = re.compile(r"\d{4}-\d", re.ASCII)
_ONCE: Final = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d)(:\d\d)?(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)?", re.ASCII)
_HOW_TO_WRITE_ONCE: Final = (
    'write "@at 2026-01-31T09:00:00Z", with an offset such as "+01:00", or without one for the task\'s own time zone'
)


def parse_trigger(
    schedule: str,
    *,
    timezone: str = "UTC",
    anchor: Moment,
    dst_gap: DstGap = DstGap.RUN,
    dst_overlap: DstOverlap = DstOverlap.FIRST,
) -> Trigger:
    """The trigger that *schedule* describes; what to store is its ``schedule`` and ``timezone``, not the arguments.

    Forms:   cron (five or six fields, ``@daily`` …), ``@every 1h30m`` or ``PT1H30M``, ``@at`` with a moment (or the
             bare moment; without offset it is local to the zone), ``@manual``. ``TZ=…`` or ``CRON_TZ=…`` in front
             of any of them is lifted into ``timezone``.
    Units:   *anchor* is the instant from which intervals count (k-th run = anchor + k * interval), cut to seconds.
             A one-shot with a fraction fires at the next whole second, never early.
    Raises:  ScheduleError, whose ``parameter`` says which of the two texts is at fault.
    """
    if len(schedule) > TEXT_MAX:
        raise ScheduleError(f"the schedule is longer than {TEXT_MAX} characters")
    text = schedule.strip(" \t\r\n")
    text, timezone = _without_prefix(text, timezone)
    zone = _zone(timezone, "timezone")
    if not text:
        raise ScheduleError('the schedule is empty; write for example "0 0 9 * * MON-FRI" or "@every 1h30m"')
    word, _, rest = text.replace("\t", " ").partition(" ")
    word, rest = word.lower(), rest.strip(" ")
    settings = _Settings(zone, DstGap(dst_gap), DstOverlap(dst_overlap))
    if word == "@every":
        return _interval(rest, settings, anchor)
    if word == "@at":
        return _once(rest, settings)
    if word == "@manual":
        if rest:
            raise ScheduleError('"@manual" stands alone; remove what follows it')
        return Trigger("@manual", timezone, TriggerKind.MANUAL, ManualRule(), settings.gap, settings.overlap)
    if _INTERVAL.match(text):
        return _interval(text, settings, anchor)
    if _DATE.match(text):
        return _once(text, settings)
    return _cron(text, settings)


@dataclass(frozen=True, slots=True)
class _Settings:
    """What holds for every form of schedule."""

    zone: Zone
    gap: DstGap
    overlap: DstOverlap


def _without_prefix(text: str, timezone: str) -> tuple[str, str]:
    """The schedule without ``TZ=…``, and the zone that holds."""
    match = _PREFIX.match(text)
    if match is None:
        return text, timezone
    prefixed = _zone(match[1], "schedule").key
    rest = text[match.end() :]
    if not rest:
        raise ScheduleError(f'after "{match[0].strip()}" a schedule must follow')
    if _PREFIX.match(rest):
        raise ScheduleError("the schedule names a time zone twice; write one TZ= prefix")
    if timezone not in ("UTC", prefixed):
        raise ScheduleError(
            f'the schedule says "{match[0].strip()}" and the time zone field "{timezone}"; give only one of them',
            parameter="timezone",
        )
    return rest, prefixed


def _zone(key: str, parameter: str) -> Zone:
    try:
        return find_zone(key)
    except ZoneError as error:
        raise ScheduleError(str(error), parameter=parameter) from None


@lru_cache(maxsize=4096)
def _cron(text: str, settings: _Settings) -> Trigger:
    """Kept by text, zone and settings: many tasks share a few schedules."""
    cron = parse_cron(text)
    return Trigger(
        schedule=cron.text,
        timezone=settings.zone.key,
        kind=TriggerKind.CRON,
        rule=CronRule(cron, settings.zone, settings.gap, settings.overlap),
        dst_gap=settings.gap,
        dst_overlap=settings.overlap,
        periodic=cron.periodic,
        impossible=cron.impossible,
        warnings=cron.warnings,
    )


def _interval(text: str, settings: _Settings, anchor: Moment) -> Trigger:
    every = _interval_seconds(text)
    rule = IntervalRule(anchor // SECOND, every)
    too_far = rule.next_after(rule.anchor) is None
    return Trigger(
        schedule=f"@every {format_duration(every * SECOND)}",
        timezone=settings.zone.key,
        kind=TriggerKind.INTERVAL,
        rule=rule,
        dst_gap=settings.gap,
        dst_overlap=settings.overlap,
        periodic=True,
        impossible="never fires: the first run would come after the year 9999" if too_far else None,
    )


def _interval_seconds(text: str) -> int:
    """The interval in seconds. Parts of seconds are refused rather than cut: ``1.5s`` must not become ``1s``."""
    if not text:
        raise ScheduleError('the interval is missing; write for example "@every 1h30m"')
    if text[0] in "+-":
        raise ScheduleError("the interval must be at least 1 second and carries no sign")
    try:
        every: Duration = parse_duration(text)
    except ValueError as error:
        raise ScheduleError(f"the interval can't be read: {error}") from None
    if every < SECOND:
        raise ScheduleError("the interval must be at least 1 second")
    if every % SECOND:
        raise ScheduleError("the interval must be whole seconds")
    return every // SECOND


def _once(text: str, settings: _Settings) -> Trigger:
    match = _ONCE.fullmatch(text)
    if match is None:
        raise ScheduleError(f"the moment can't be read; {_HOW_TO_WRITE_ONCE}")
    day, clock, seconds, fraction, offset = match.groups()
    try:
        moment = parse_moment(f"{day}T{clock}{seconds or ':00'}{offset or 'Z'}")
    except ValueError as error:
        raise ScheduleError(str(error)) from None
    if fraction and fraction.strip("0"):
        moment += SECOND
    if moment > MOMENT_MAX:
        raise ScheduleError("the moment must lie in the years 1 to 9999 UTC")
    plain = format_moment(moment)
    if offset:
        rule, impossible = OnceRule((moment // SECOND,)), None
    else:
        plain = plain[:-1]
        rule, impossible = _local_once(moment // SECOND, plain, settings)
    return Trigger(
        schedule=f"@at {plain}",
        timezone=settings.zone.key,
        kind=TriggerKind.ONCE,
        rule=rule,
        dst_gap=settings.gap,
        dst_overlap=settings.overlap,
        impossible=impossible,
    )


def _local_once(wall: int, text: str, settings: _Settings) -> tuple[OnceRule, str | None]:
    """The instants of a local time, by the two clock-change settings, and why there is none."""
    instants = settings.zone.instants_of(wall)
    if instants:
        match settings.overlap:
            case DstOverlap.FIRST:
                instants = instants[:1]
            case DstOverlap.SECOND:
                instants = instants[-1:]
            case DstOverlap.BOTH:
                pass
            case _:
                assert_never(settings.overlap)
        instants = tuple(one for one in instants if INSTANT_MIN <= one <= INSTANT_MAX)
        return OnceRule(instants, wall), None if instants else "never fires: outside the years 1 to 9999 in UTC"
    gap = settings.zone.gap_of(wall)
    assert gap is not None, "a wall that no clock shows lies in a gap"
    if settings.gap is DstGap.RUN and gap.end - gap.first <= GAP_MAX:
        return OnceRule((gap.seam,), wall), None
    why = "dst_gap is skip" if settings.gap is DstGap.SKIP else "a gap of more than 3 hours is not made up"
    return OnceRule((), wall), f"never fires: {text} does not exist in {settings.zone.key}, and {why}"
