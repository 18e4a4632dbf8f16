"""Owns the English for a trigger and the preview of its next moments; must not know how answers travel.

The text is made from the parsed sets, not from the expression: one parser, so text and engine can't disagree.
Uneven steps are said by their values, because "every 5 hours" is not what ``*/5`` means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, assert_never

from peregrine.domain.cron import DAY_SECONDS, MONTH_NAMES, WEEKDAY_NAMES, Cron, MonthDays, WeekDays, bits_of
from peregrine.domain.moment import DAY, MOMENT_MAX, MOMENT_MIN, SECOND, Duration, Moment, format_moment
from peregrine.domain.trigger import (
    CronRule,
    DstGap,
    DstOverlap,
    IntervalRule,
    ManualRule,
    OnceRule,
    Trigger,
)
from peregrine.domain.zone import Gap, Segment, Zone, find_zone

TIMES_MAX: Final = 12
"""Most times of day that are listed one by one."""

WARNED_AHEAD: Final[Duration] = 366 * DAY
"""How far ahead clock changes are warned of: far enough to meet each of a year's."""

_RULED_YEAR: Final = (4_133_980_800, 4_165_516_799)
"""The year 2101, in which every zone follows its present rule: what its clocks skip and repeat in general."""


@dataclass(frozen=True, slots=True)
class PreviewItem:
    """One coming moment: when, what the wall then shows, and what a clock change did to it, if anything."""

    at: Moment
    local: str
    note: str | None = None


def describe(trigger: Trigger) -> str:
    """One English sentence without full stop: when *trigger* fires, in which zone, and by which clock rule."""
    rule = trigger.rule
    match rule:
        case CronRule():
            text = f"{describe_cron(rule.cron)} ({trigger.timezone}){_clock_rule(rule)}"
        case IntervalRule():
            text = f"Every {_span(rule.every)}, counted from {format_moment(rule.anchor * SECOND)}"
        case OnceRule():
            text = _describe_once(rule, trigger)
        case ManualRule():
            text = "Only when somebody starts it"
        case _:
            assert_never(rule)
    return f"{text}; {trigger.impossible}" if trigger.impossible else text


def preview(trigger: Trigger, after: Moment, count: int) -> list[PreviewItem]:
    """The next *count* moments after *after*, each with its local time and a note where a clock change touched it.

    Shape:   at most *count* items, fewer when the trigger is exhausted; a moment left out is noted on the item
             that follows it, since it has none of its own.
    """
    return list(previewed(trigger, after, count))


def previewed(trigger: Trigger, after: Moment, count: int) -> Iterator[PreviewItem]:
    """The same one by one, for who can't wait for all: some lie decades apart and take milliseconds to find."""
    zone = find_zone(trigger.timezone)
    previous = after // SECOND
    for _ in range(count):
        instant = trigger.rule.next_after(previous)
        if instant is None:
            return
        note = "; ".join(_notes(trigger.rule, zone, previous, instant))
        yield PreviewItem(instant * SECOND, local_text(zone, instant), note or None)
        previous = instant


def warnings_of(trigger: Trigger, after: Moment, ahead: Duration = WARNED_AHEAD) -> list[str]:
    """What is worth saying before saving: doubtful spelling, "never fires", and clock changes that will touch it."""
    found = list(trigger.warnings)
    if trigger.impossible:
        found.append(trigger.impossible)
    rule = trigger.rule
    if isinstance(rule, CronRule) and not rule.cron.periodic and not trigger.impossible:
        first = max(after, MOMENT_MIN) // SECOND
        last = min(after + ahead, MOMENT_MAX) // SECOND
        for segment in rule.zone.segments_between(first, last):
            if segment.end <= last:
                found.extend(_seam_warnings(rule, segment))
    return found


def local_text(zone: Zone, instant: int) -> str:
    """RFC 3339 of *instant* (seconds) as *zone* shows it, with its offset."""
    offset = zone.offset_at(instant)
    if not MOMENT_MIN <= (instant + offset) * SECOND <= MOMENT_MAX:
        offset = 0
    sign = "-" if offset < 0 else "+"
    hours, rest = divmod(abs(offset), 3600)
    minutes, seconds = divmod(rest, 60)
    # Before time was standardised offsets had seconds; RFC 3339 can't say them, ISO 8601 can.
    odd = f":{seconds:02d}" if seconds else ""
    return f"{_stamp(instant + offset)}{sign}{hours:02d}:{minutes:02d}{odd}"


# --- Sentences --------------------------------------------------------------------------------------------------


def describe_cron(cron: Cron) -> str:
    """When *cron* fires, without zone: "At 06:30:15 and 18:30:15 on Monday through Friday"."""
    times = _listed_times(cron)
    if times is not None:
        return f"{times} {_days(cron) or 'every day'}"
    days = _days(cron).removeprefix("every day ")
    return f"{_rhythm(cron)} {days}".rstrip()


def _listed_times(cron: Cron) -> str | None:
    """ "At 06:00 and 18:00", or None where the times are too many to list or better said as a rhythm."""
    hours, minutes, seconds = list(bits_of(cron.hours)), list(bits_of(cron.minutes)), list(bits_of(cron.seconds))
    count = len(hours) * len(minutes) * len(seconds)
    if len(hours) == 24 or count > TIMES_MAX:
        return None
    if count == len(hours) > TIMES_MAX // 2 and (_is_run(hours) or _even_step(hours, 24)):
        return None
    walls = [hour * 3600 + minute * 60 + second for hour in hours for minute in minutes for second in seconds]
    # One time with seconds makes all show them: "12:00:00 and 12:00:30".
    exact = any(wall % 60 for wall in walls)
    return f"At {_listed([_clock(wall, seconds=exact) for wall in walls])}"


def _rhythm(cron: Cron) -> str:
    """The times of day as a rhythm: "Every 15 minutes from 09:00 through 17:59"."""
    hours, minutes, seconds = list(bits_of(cron.hours)), list(bits_of(cron.minutes)), list(bits_of(cron.seconds))
    step = _even_step(hours, 24)
    if len(minutes) == len(seconds) == 1 and len(hours) < 24:
        past = minutes[0] * 60 + seconds[0]
        if step:
            return f"Every {step} hours, starting at {_clock(hours[0] * 3600 + past)}"
        if _is_run(hours):
            return f"Every hour from {_clock(hours[0] * 3600 + past)} through {_clock(hours[-1] * 3600 + past)}"
    if seconds == [0]:
        head, loose = _of_minutes(minutes)
    else:
        head, loose = _of_seconds(seconds, minutes)
    if len(hours) == 24:
        return head if loose else f"{head} of every hour".replace("At minute 0 of", "At the start of")
    if loose and _is_run(hours):
        return f"{head} from {hours[0]:02d}:00 through {hours[-1]:02d}:59"
    return f"{head} {'during' if loose else 'past'} {_plural('hour', hours)}"


def _of_minutes(minutes: Sequence[int]) -> tuple[str, bool]:
    """The minutes of an hour, and whether the phrase stands without "of every hour"."""
    step = _even_step(minutes, 60)
    if step == 1:
        return "Every minute", True
    if step and minutes[0] == 0:
        return f"Every {step} minutes", True
    return f"At {_plural('minute', minutes)}", False


def _of_seconds(seconds: Sequence[int], minutes: Sequence[int]) -> tuple[str, bool]:
    """The seconds of those minutes, and whether the phrase stands without "of every hour"."""
    step = _even_step(seconds, 60)
    every_minute = len(minutes) == 60
    if step and seconds[0] == 0:
        head = "Every second" if step == 1 else f"Every {step} seconds"
        return (head, True) if every_minute else (f"{head} in {_plural('minute', minutes)}", False)
    head = f"At {_plural('second', seconds)}"
    return (f"{head} of every minute", True) if every_minute else (f"{head} of {_plural('minute', minutes)}", False)


def _days(cron: Cron) -> str:
    """The day part, beginning with "on", "in" or "every day"; empty for every day of the year."""
    by_number, by_weekday = cron.month_days, cron.week_days
    months = _in_months(cron)
    # With a star in one day field the other decides; only two restricted fields say "or".
    if by_number.star and by_weekday.star:
        return f"every day{months}" if months else ""
    if by_number.star:
        return f"on {_week_days(by_weekday)}{' of the month' if by_weekday.nth or by_weekday.last else ''}{months}"
    if by_weekday.star:
        return f"on {_dates(cron)}"
    return f"on {_month_days(by_number)} of the month or on {_week_days(by_weekday)}{months}"


def _in_months(cron: Cron) -> str:
    """ " in January and July", " from March through May", or nothing for all twelve."""
    months = list(bits_of(cron.months))
    if len(months) == 12:
        return ""
    names = _listed(_runs(months, _month))
    return f" from {names}" if len(months) > 2 and _is_run(months) else f" in {names}"


def _dates(cron: Cron) -> str:
    """ "February 29", "the 1st of January and July", "the last day of every month"."""
    rule, months = cron.month_days, list(bits_of(cron.months))
    if len(months) == 1 and not (rule.before_last or rule.nearest or rule.last_working):
        return f"{_month(months[0])} {_listed(_runs(list(bits_of(rule.days)), str))}"
    if len(months) == 12 or (len(months) > 2 and _is_run(months)):
        return f"{_month_days(rule)} of every month{_in_months(cron)}"
    return f"{_month_days(rule)} of {_listed(_runs(months, _month))}"


def _month_days(rule: MonthDays) -> str:
    """ "the 1st, the 15th and the last day"."""
    days = list(bits_of(rule.days))
    if len(days) > 4 and not _is_run(days):
        parts = [f"days {_listed(_runs(days, str))}"]
    else:
        parts = [f"the {run}" for run in _runs(days, _ordinal)]
    parts += [f"the working day nearest the {_ordinal(day)}" for day in bits_of(rule.nearest)]
    parts += [_before_last(days_before) for days_before in reversed(list(bits_of(rule.before_last)))]
    if rule.last_working:
        parts.append("the last working day")
    return _listed(parts)


def _before_last(days: int) -> str:
    if days == 0:
        return "the last day"
    return "the day before the last" if days == 1 else f"the {_ordinal(days)} day before the last"


def _week_days(rule: WeekDays) -> str:
    """ "Monday through Friday, the 2nd Saturday and the last Sunday"; a week begins on Monday."""
    parts = _runs(sorted((day - 1) % 7 for day in bits_of(rule.days)), lambda day: WEEKDAY_NAMES[(day + 1) % 7])
    for place in sorted(bits_of(rule.nth), key=lambda place: (place % 5, (place // 5 - 1) % 7)):
        parts.append(f"the {_ordinal(place % 5 + 1)} {WEEKDAY_NAMES[place // 5]}")
    parts += [f"the last {WEEKDAY_NAMES[day]}" for day in bits_of(rule.last)]
    return _listed(parts)


def _clock_rule(rule: CronRule) -> str:
    """What becomes of named times that the zone, by its lasting rule, skips or repeats; empty if there are none."""
    if rule.cron.periodic:
        return ""
    skips = repeats = False
    for segment in rule.zone.segments_between(*_RULED_YEAR):
        before, after = segment.end + segment.offset, segment.end + segment.after
        if before != after and _has_time(rule.cron, min(before, after), max(before, after)):
            skips, repeats = skips or after > before, repeats or after < before
    parts = []
    if skips:
        how = "runs right after the gap" if rule.gap is DstGap.RUN else "is left out"
        parts.append(f"a time that the clocks skip {how}")
    if repeats:
        parts.append(f"a time that they show twice runs {_PASSES[rule.overlap]}")
    return f"; {_listed(parts)}" if parts else ""


_PASSES: Final = {
    DstOverlap.FIRST: "the first time only",
    DstOverlap.SECOND: "the second time only",
    DstOverlap.BOTH: "both times",
}


def _has_time(cron: Cron, low: int, high: int) -> bool:
    """Whether a named time of day lies in the walls [low, high), whatever the day."""
    first, size = low % DAY_SECONDS, high - low
    if size >= DAY_SECONDS:
        return True
    inside = cron.count_times(first, min(first + size, DAY_SECONDS))
    beyond = cron.count_times(0, max(0, first + size - DAY_SECONDS))
    return inside + beyond > 0


def _describe_once(rule: OnceRule, trigger: Trigger) -> str:
    zone = find_zone(trigger.timezone)
    if not rule.instants:
        return f"Once, at {trigger.schedule.removeprefix('@at ')} ({trigger.timezone})"
    times = _listed([local_text(zone, instant) for instant in rule.instants])
    return f"{'Once' if len(rule.instants) == 1 else 'Twice'}, at {times} ({trigger.timezone})"


# --- Notes on clock changes -------------------------------------------------------------------------------------


def _notes(
    rule: CronRule | IntervalRule | OnceRule | ManualRule, zone: Zone, after: int, instant: int
) -> Iterator[str]:
    """What clock changes did in (after, instant] to the moments named."""
    match rule:
        case CronRule():
            if not rule.cron.periodic:
                for segment in zone.segments_between(after, instant):
                    if after < segment.end <= instant:
                        yield from _gap_notes(rule, segment, instant)
            yield from _pass_notes(zone, instant, rule.pass_wanted)
        case OnceRule(wall=int(wall)):
            gap = zone.gap_of(wall)
            if gap is not None:
                yield f"moved: {_day_and_clock(wall)} does not exist, {_jump(gap)}"
            yield from _pass_notes(zone, instant, DstOverlap.BOTH if len(rule.instants) > 1 else None)
        case _:
            return


def _gap_notes(rule: CronRule, segment: Segment, instant: int) -> Iterator[str]:
    gap = Gap(segment.end, segment.end + segment.offset, segment.end + segment.after)
    lost = _named(rule.cron, gap.first, gap.end)
    if lost is None:
        return
    if not rule.makes_up(segment):
        yield f"before it, {lost} is left out: {_jump(gap)}{'' if rule.gap is DstGap.SKIP else _NOT_MADE_UP}"
    elif rule.cron.matches(instant + segment.after):
        yield f"stands for {lost} too, which does not exist: {_jump(gap)}"
    else:
        yield f"moved: {lost} does not exist, {_jump(gap)}"


_NOT_MADE_UP: Final = "; more than 3 hours are not made up"


def _pass_notes(zone: Zone, instant: int, wanted: DstOverlap | None) -> Iterator[str]:
    """Which pass *instant* is of a wall that comes twice; *wanted* is the pass that fires."""
    wall = instant + zone.offset_at(instant)
    instants = zone.instants_of(wall)
    if len(instants) < 2:
        return
    first = instant == instants[0]
    others = {
        DstOverlap.FIRST: "; the second is left out",
        DstOverlap.SECOND: "; the first is left out",
        DstOverlap.BOTH: "",
        None: "; the other is left out",
    }
    yield f"{'first' if first else 'second'} pass of {_clock(wall)}, which the clocks show twice{others[wanted]}"


def _seam_warnings(rule: CronRule, segment: Segment) -> Iterator[str]:
    """What the clock change at the end of *segment* will do to named moments."""
    before, after = segment.end + segment.offset, segment.end + segment.after
    named = _named(rule.cron, min(before, after), max(before, after), day=False)
    if named is None:
        return
    change = Gap(segment.end, before, after)
    if before > after:
        fate = f"comes twice and runs {_PASSES[rule.overlap]}"
    elif rule.makes_up(segment):
        fate = f"runs at {_clock(after)}"
    else:
        fate = f"is left out{'' if rule.gap is DstGap.SKIP else _NOT_MADE_UP}"
    yield f"on {_stamp(before)[:10]} in {rule.zone.key} {_jump(change)}: {named} {fate}"


def _named(cron: Cron, low: int, high: int, *, day: bool = True) -> str | None:
    """The named moments in the walls [low, high): the first and how many more; None if there are none."""
    first = cron.next_wall(low)
    if first is None or first >= high:
        return None
    more = cron.count_walls(first + 1, high)
    text = _day_and_clock(first) if day else _clock(first)
    return f"{text} (and {more} more)" if more else text


def _jump(change: Gap) -> str:
    """ "the clocks go from 02:00 to 03:00", with the days where they differ by more than the hour."""
    _, before, after = change
    show = _clock if abs(after - before) < DAY_SECONDS else _day_and_clock
    return f"the clocks go {'back ' if after < before else ''}from {show(before)} to {show(after)}"


# --- Words ------------------------------------------------------------------------------------------------------


def _listed(parts: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _runs(values: Sequence[int], name: Callable[[int], str]) -> list[str]:
    """The sorted *values* by name; three or more in a row as "first through last"."""
    parts: list[str] = []
    start = 0
    for index, value in enumerate(values):
        if index + 1 < len(values) and values[index + 1] == value + 1:
            continue
        run = values[start : index + 1]
        parts += [f"{name(run[0])} through {name(run[-1])}"] if len(run) > 2 else [name(one) for one in run]
        start = index + 1
    return parts


def _even_step(values: Sequence[int], size: int) -> int | None:
    """n if *values*, more than one, are every nth of a cycle of *size*, also across its end; else None."""
    step, rest = divmod(size, len(values))
    even = not rest and step < size and list(values) == list(range(values[0], size, step))
    return step if even else None


def _is_run(values: Sequence[int]) -> bool:
    """Whether the sorted *values* follow each other without a hole."""
    return values[-1] - values[0] == len(values) - 1


def _plural(noun: str, values: Sequence[int]) -> str:
    return f"{noun}{'s' if len(values) > 1 else ''} {_listed(_runs(values, str))}"


def _ordinal(number: int) -> str:
    ending = "th" if number // 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _month(number: int) -> str:
    return MONTH_NAMES[number - 1]


def _span(seconds: int) -> str:
    """ "hour", "2 hours", "1 hour, 30 minutes"."""
    hours, rest = divmod(seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    units = [(hours, "hour"), (minutes, "minute"), (seconds, "second")]
    parts = [f"{count} {unit}{'s' * (count != 1)}" for count, unit in units if count]
    return parts[0].removeprefix("1 ") if len(parts) == 1 and parts[0].startswith("1 ") else _listed(parts)


def _clock(wall: int, *, seconds: bool = False) -> str:
    """The time of day of a wall, seconds only where there are some or where asked for."""
    hour, rest = divmod(wall % DAY_SECONDS, 3600)
    minute, second = divmod(rest, 60)
    return f"{hour:02d}:{minute:02d}:{second:02d}" if second or seconds else f"{hour:02d}:{minute:02d}"


def _day_and_clock(wall: int) -> str:
    return f"{_stamp(wall)[:10]} {_clock(wall)}"


def _stamp(wall: int) -> str:
    """``2026-01-31T09:00:00`` of a wall."""
    return format_moment(wall * SECOND)[:-1]
