"""What must hold of every schedule in every zone, judged by a walk over the zone's minutes (`tests.domain.oracle`).

``SCHEDULE_CASES`` multiplies the number of cases; 1 is the default run.
"""

from __future__ import annotations

import os
from collections import Counter
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from peregrine.domain.cron import CronError, parse_cron
from peregrine.domain.moment import SECOND
from peregrine.domain.trigger import CronRule, DstGap, DstOverlap, ScheduleError, parse_trigger
from peregrine.domain.zone import Zone, find_zone
from tests.domain.oracle import (
    EPOCH,
    MONTH_DAYS,
    MONTH_FIELDS,
    WALL_EPOCH,
    WEEK_DAYS,
    Oracle,
    expressions,
    invented_zone,
    night_expressions,
    seams,
    seconds_of,
)

SCALE = int(os.environ.get("SCHEDULE_CASES", "1"))
DAY = 86_400
HALF = DAY // 2

ZONES = [
    "America/Havana",
    "America/New_York",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Antarctica/Troll",
    "Asia/Beirut",
    "Asia/Kathmandu",
    "Asia/Pyongyang",
    "Asia/Tehran",
    "Australia/Lord_Howe",
    "Europe/London",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Pacific/Norfolk",
]


def cases(count: int) -> settings:
    return settings(max_examples=count * SCALE)


def rule_of(expression: str, zone: Zone, gap: str, overlap: str) -> CronRule:
    return CronRule(parse_cron(expression), zone, DstGap(gap), DstOverlap(overlap))


def walked(rule: CronRule, start: int, end: int) -> list[int]:
    """The chain of `next_after` from just before *start* to before *end*."""
    found: list[int] = []
    instant = rule.next_after(start - 1)
    while instant is not None and instant < end:
        assert not found or instant > found[-1], "never back, never the same twice"
        found.append(instant)
        instant = rule.next_after(instant)
    return found


def shift_at(zone: str, seam: int) -> int:
    """By how much the clocks are moved at *seam*, without sign."""
    before, after = (datetime.fromtimestamp(seam + away, ZoneInfo(zone)).utcoffset() for away in (-1, 0))
    assert before is not None
    assert after is not None
    return abs(int((after - before).total_seconds()))


def judged(expression: str, change: tuple[str, int], gap: str, overlap: str) -> list[int]:
    """What the oracle says for half a day on each side of a clock change."""
    zone, seam = change
    around = shift_at(zone, seam) + 3600
    return Oracle(expression, zone, gap, overlap).instants(seam - HALF, seam + HALF, around=around)


@st.composite
def clock_changes(draw: st.DrawFn) -> tuple[str, int]:
    """A zone and one of its clock changes since 1972, when the last odd seconds had gone."""
    zone = draw(st.sampled_from(ZONES))
    return zone, draw(st.sampled_from(seams(zone, 1972)))


GAPS = st.sampled_from(["run", "skip"])
OVERLAPS = st.sampled_from(["first", "second", "both"])


# --- The oracle -----------------------------------------------------------------------------------------------------


@cases(60)
@given(night_expressions(), clock_changes(), GAPS, OVERLAPS, st.integers(-HALF, HALF))
@example("0 0 0 * * *", ("Asia/Beirut", seconds_of("2025-03-29T22:00:00Z")), "run", "first", -HALF)
@example("0 30 23 * * SAT", ("America/Sao_Paulo", seconds_of("2019-02-17T02:00:00Z")), "run", "second", -HALF)
@example("0 0 9 * * *", ("Pacific/Apia", seconds_of("2011-12-30T10:00:00Z")), "run", "first", -HALF)
def test_instants_at_clock_changes_are_those_of_the_oracle(
    expression: str, change: tuple[str, int], gap: str, overlap: str, lead: int
) -> None:
    zone, seam = change
    start, end, middle = seam - HALF, seam + HALF, seam + lead
    expected = judged(expression, change, gap, overlap)
    rule = rule_of(expression, find_zone(zone), gap, overlap)

    assert walked(rule, start, end) == expected
    assert rule.count_between(start - 1, end - 1) == len(expected)
    # The same set whatever the start: a chain, a count and a look back from anywhere inside.
    later = [instant for instant in expected if instant > middle]
    if later:
        assert rule.next_after(middle) == later[0]
    assert rule.count_between(middle, end - 1) == len(later)
    assert rule.latest_between(start - 1, middle, 7) == [instant for instant in expected if instant <= middle][-7:]


@pytest.mark.slow
@pytest.mark.timeout(600)
@settings(max_examples=3_000)
@given(night_expressions(), clock_changes(), GAPS, OVERLAPS)
def test_instants_at_clock_changes_are_those_of_the_oracle_many_times(
    expression: str, change: tuple[str, int], gap: str, overlap: str
) -> None:
    zone, seam = change
    rule = rule_of(expression, find_zone(zone), gap, overlap)
    expected = judged(expression, change, gap, overlap)

    assert walked(rule, seam - HALF, seam + HALF) == expected
    assert rule.count_between(seam - HALF - 1, seam + HALF - 1) == len(expected)


@cases(15)
@given(
    night_expressions(),
    st.integers(seconds_of("2024-12-31T18:00:00Z"), seconds_of("2025-01-01T06:00:00Z")),
    st.integers(-12 * 3600, 14 * 3600),
    st.sampled_from([-3600, -1800, -1234, -600, -1, 1, 59, 600, 1800, 3600, 10_800, 10_801]),
    GAPS,
    OVERLAPS,
)
def test_any_shift_at_any_second_even_across_a_year_is_judged_right(
    expression: str, seam: int, offset: int, shift: int, gap: str, overlap: str
) -> None:
    info = invented_zone((0, offset), (seam, offset + shift))
    start, end = seam - abs(shift) - 600, seam + abs(shift) + 600
    expected = Oracle(expression, info, gap, overlap).instants(start, end, step=1, around=abs(shift))
    rule = rule_of(expression, Zone("Nowhere", info), gap, overlap)

    assert walked(rule, start, end) == expected
    assert rule.count_between(start - 1, end - 1) == len(expected)


@pytest.mark.parametrize(
    ("zone", "seam"),
    [
        ("Africa/Monrovia", "1972-01-07T00:44:30Z"),
        ("Europe/Amsterdam", "1937-06-30T23:40:28Z"),
        ("Asia/Kolkata", "1905-12-31T18:36:32Z"),
        ("America/New_York", "1883-11-18T17:00:00Z"),
        ("Europe/Lisbon", "1912-01-01T00:00:00Z"),
    ],
)
@pytest.mark.parametrize("expression", ["0 0-59 * * * *", "30 0-59 0-23 * * *", "59 59,0 23,0,1 * * *"])
@pytest.mark.parametrize(("gap", "overlap"), [("run", "first"), ("skip", "both"), ("run", "second")])
def test_odd_seconds_of_old_times_are_judged_right(
    zone: str, seam: str, expression: str, gap: str, overlap: str
) -> None:
    start, end = seconds_of(seam) - 3600, seconds_of(seam) + 3600
    expected = Oracle(expression, zone, gap, overlap).instants(start, end, step=1, around=2400)

    assert walked(rule_of(expression, find_zone(zone), gap, overlap), start, end) == expected


@cases(40)
@given(expressions(), st.dates(date(2, 1, 1), date(9990, 1, 1)))
@example("0 0 0 29 2 *", date(2096, 3, 1))
@example("0 0 0 * 2 MON#5", date(2072, 3, 1))
def test_matching_days_are_those_of_the_oracle(expression: str, first: date) -> None:
    cron, oracle = parse_cron(expression), Oracle(expression)
    expected = list(oracle.days(first, 800))
    start = int((datetime.combine(first, datetime.min.time()) - WALL_EPOCH).total_seconds())

    found = []
    wall = cron.next_wall(start)
    while wall is not None and wall < start + 800 * DAY:
        found.append((WALL_EPOCH + timedelta(seconds=wall)).date())
        wall = cron.next_wall((wall // DAY + 1) * DAY)
    assert found == expected
    per_day = len(oracle.hours) * len(oracle.minutes) * len(oracle.seconds)
    assert cron.count_walls(start, start + 800 * DAY) == len(expected) * per_day


@cases(50)
@given(expressions(), st.integers(0, DAY - 1), st.integers(0, DAY - 1))
def test_times_of_day_are_those_of_the_oracle(expression: str, low: int, high: int) -> None:
    fields = expression.split()
    every_day = " ".join((*fields[:3], "*", "*", "*"))
    cron, oracle = parse_cron(every_day), Oracle(every_day)
    # Days are counted from 1970, so a wall below a day's seconds is a time of day.
    expected = [
        hour * 3600 + minute * 60 + second
        for hour in sorted(oracle.hours)
        for minute in sorted(oracle.minutes)
        for second in oracle.seconds
    ]
    assume(low < high)

    inside = [time for time in expected if low <= time < high]
    assert cron.count_walls(low, high) == cron.count_times(low, high) == len(inside)
    assert cron.next_wall(low) == next((time for time in expected if time >= low), DAY + expected[0])
    assert cron.periodic == oracle.periodic


# --- Properties that need no oracle -----------------------------------------------------------------------------------


@cases(60)
@given(night_expressions(), clock_changes(), GAPS, OVERLAPS, st.integers(-2 * DAY, 2 * DAY))
def test_next_is_later_and_the_same_from_the_second_before(
    expression: str, change: tuple[str, int], gap: str, overlap: str, lead: int
) -> None:
    zone, seam = change
    rule = rule_of(expression, find_zone(zone), gap, overlap)
    found = rule.next_after(seam + lead)

    assert found is not None
    assert found > seam + lead
    assert rule.next_after(found - 1) == found
    assert rule.count_between(seam + lead, found) == 1
    assert rule.count_between(seam + lead, found - 1) == 0


@cases(30)
@given(night_expressions(), clock_changes())
def test_periodic_schedules_ignore_the_settings(expression: str, change: tuple[str, int]) -> None:
    zone, seam = change
    assume(parse_cron(expression).periodic)
    rules = [rule_of(expression, find_zone(zone), gap, overlap) for gap in DstGap for overlap in DstOverlap]
    spans = {tuple(walked(rule, seam - 7200, seam + 7200)) for rule in rules}

    assert len(spans) == 1


@cases(30)
@given(night_expressions(), clock_changes())
def test_default_settings_fire_once_per_named_moment_per_date(expression: str, change: tuple[str, int]) -> None:
    zone, seam = change
    oracle = Oracle(expression)
    assume(not oracle.periodic)
    info = ZoneInfo(zone)
    instants = walked(rule_of(expression, find_zone(zone), "run", "first"), seam - 2 * DAY, seam + 2 * DAY)
    shown = Counter(datetime.fromtimestamp(instant, info).replace(tzinfo=None, fold=0) for instant in instants)

    assert not shown or max(shown.values()) == 1
    # Each named moment of the days around is either shown, or does not exist by the rule of PEP 495.
    today = datetime.fromtimestamp(seam, info).date()
    for day in (today - timedelta(days=1), today):
        for hour in sorted(oracle.hours) if oracle.day_matches(day) else []:
            for minute in sorted(oracle.minutes):
                for second in oracle.seconds:
                    wall = datetime(day.year, day.month, day.day, hour, minute, second)  # noqa: DTZ001 - a wall
                    there_and_back = wall.replace(tzinfo=info).astimezone(EPOCH.tzinfo).astimezone(info)
                    exists = there_and_back.replace(tzinfo=None) == wall
                    assert (wall in shown) == exists or (not exists and seam in instants), wall


@cases(50)
@given(expressions())
def test_canonical_text_reads_back_as_the_same(expression: str) -> None:
    cron = parse_cron(expression)

    assert parse_cron(cron.text) == cron
    assert parse_cron(cron.text).text == cron.text
    assert parse_cron(cron.text.lower()) == cron
    assert len(cron.text.split(" ")) == 6


@cases(60)
@given(st.one_of(MONTH_DAYS, st.integers(28, 31).map(str)), MONTH_FIELDS, st.one_of(st.just("*"), WEEK_DAYS))
@example("30", "2", "*")
@example("L-29,31", "2,4", "?")
@example("29W", "2", "*")
def test_impossible_is_exactly_what_never_comes(days: str, months: str, weekdays: str) -> None:
    cron = parse_cron(f"0 0 0 {days} {months} {weekdays}")
    # 40 years around 2100 show every kind of month; one match is proof, and looking for it starts at the years' ends.
    ever = next(Oracle(cron.text).days(date(2090, 1, 1), 12 * 365), None)
    if ever is None:
        ever = next(Oracle(cron.text).days(date(2000, 1, 1), 29 * 366), None)

    assert (cron.impossible is None) == (ever is not None)


@cases(40)
@given(expressions(), st.sampled_from(["UTC", *ZONES]), st.lists(st.integers(0, 2**32), min_size=3, max_size=3))
def test_counts_add_up_over_any_span(expression: str, zone: str, points: list[int]) -> None:
    low, middle, high = sorted(points)
    rule = rule_of(expression, find_zone(zone), "run", "first")

    assert rule.count_between(low, high) == rule.count_between(low, middle) + rule.count_between(middle, high)


@cases(30)
@given(expressions(), st.sampled_from(["UTC", *ZONES]), st.integers(0, 2**32), st.integers(1, 40))
def test_latest_are_the_last_of_the_chain(expression: str, zone: str, upto: int, limit: int) -> None:
    rule = rule_of(expression, find_zone(zone), "run", "first")
    found = rule.latest_between(0, upto, limit)

    assert len(found) == min(limit, rule.count_between(0, upto))
    if found:
        assert rule.count_between(found[0] - 1, upto) == len(found)
        assert walked(rule, found[0], upto + 1) == found


@cases(80)
@given(st.integers(-(2**40), 2**43), st.integers(1, 2**32), st.integers(-(2**43), 2**44), st.integers(0, 2**42))
def test_interval_runs_are_multiples_from_the_anchor(anchor: int, every: int, after: int, span: int) -> None:
    trigger = parse_trigger(f"@every {every}s", anchor=anchor)
    found = trigger.next_after(after)
    first = anchor // SECOND * SECOND

    if found is not None:
        assert found > after // SECOND * SECOND
        assert (found - first) % (every * SECOND) == 0
        assert found >= first + every * SECOND
        assert found - every * SECOND <= max(after, first)
        assert trigger.next_after(found - SECOND) == found
    newest = trigger.latest_between(after, after + span, 3)
    assert len(newest) == min(3, trigger.count_between(after, after + span))
    assert all(after < moment <= after + span for moment in newest)


# --- Whatever is typed ------------------------------------------------------------------------------------------------


SCRIBBLE = st.text(alphabet="0123456789*/,-?LW#H+ \tMONFRISUNJANTZ=@every.:PT²٣\n", max_size=60)


def refused(text: str) -> ScheduleError | None:
    """The refusal of *text*, or None where it is read; any other exception is a failure."""
    try:
        parse_trigger(text, anchor=0)
    except ScheduleError as error:
        return error
    return None


@cases(120)
@given(st.one_of(SCRIBBLE, st.text(max_size=40), st.lists(SCRIBBLE, min_size=5, max_size=7).map(" ".join)))
def test_any_text_is_read_or_refused_with_a_reason(text: str) -> None:
    error = refused(text)

    if error is None:
        trigger = parse_trigger(text, anchor=0)
        again = parse_trigger(trigger.schedule, timezone=trigger.timezone, anchor=0)
        assert (again, again.schedule) == (trigger, trigger.schedule)
    else:
        assert error.parameter in ("schedule", "timezone")
        assert str(error).isprintable()
        assert len(str(error)) < 400


@cases(40)
@given(expressions(), st.data())
def test_one_wrong_letter_is_read_or_refused_with_a_place(expression: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(expression)))
    letter = data.draw(st.sampled_from(list("0957*/,-?LW#H+MZ. ²")))
    broken = expression[:place] + letter + expression[place + data.draw(st.integers(0, 1)) :]
    error = refused(broken)

    if error is None:
        assert parse_cron(parse_cron(broken).text) == parse_cron(broken)
    else:
        assert isinstance(error, CronError)
        assert error.field in str(error)
        assert error.reason in str(error)
