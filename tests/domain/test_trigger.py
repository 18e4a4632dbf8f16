"""Schedules as rules of instants: the forms they are written in, and the tables of what clock changes do to them."""

from __future__ import annotations

from itertools import pairwise

import pytest

from peregrine.domain import trigger as trigger_module
from peregrine.domain.cron import Cron
from peregrine.domain.moment import DAY, HOUR, MOMENT_MAX, MOMENT_MIN, SECOND, Moment, format_moment, parse_moment
from peregrine.domain.trigger import (
    CronError,
    CronRule,
    DstGap,
    DstOverlap,
    IntervalRule,
    OnceRule,
    ScheduleError,
    Trigger,
    TriggerKind,
    parse_trigger,
)
from peregrine.domain.zone import Zone

ANCHOR = parse_moment("2025-01-01T00:00:00Z")
NEW_YORK = "America/New_York"


def made(schedule: str, timezone: str = "UTC", gap: str = "run", overlap: str = "first") -> Trigger:
    return parse_trigger(
        schedule, timezone=timezone, anchor=ANCHOR, dst_gap=DstGap(gap), dst_overlap=DstOverlap(overlap)
    )


def firings(trigger: Trigger, after: str, count: int) -> list[str | None]:
    moment: Moment | None = parse_moment(after)
    found: list[str | None] = []
    while moment is not None and len(found) < count:
        moment = trigger.next_after(moment)
        found.append(None if moment is None else format_moment(moment))
    return found


def between(trigger: Trigger, after: str, upto: str) -> list[str]:
    """Every firing in (after, upto], by walking; `latest` and `count` must say the same."""
    first, last = parse_moment(after), parse_moment(upto)
    found: list[Moment] = []
    moment = trigger.next_after(first)
    while moment is not None and moment <= last:
        found.append(moment)
        moment = trigger.next_after(moment)
    assert trigger.count_between(first, last) == len(found)
    assert trigger.latest_between(first, last, 1000) == found[-1000:]
    return [format_moment(moment) for moment in found]


# --- Clock changes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "schedule", "after", "upto", "expected"),
    [
        # New York: 02:00 -> 03:00 at 07:00Z on 9 March, 02:00 -> 01:00 at 06:00Z on 2 November 2025.
        (NEW_YORK, "0 30 2 * * *", "2025-03-08T12:00:00Z", "2025-03-10T12:00:00Z",
         ["2025-03-09T07:00:00Z", "2025-03-10T06:30:00Z"]),
        (NEW_YORK, "30 30 2 * * *", "2025-03-08T12:00:00Z", "2025-03-09T12:00:00Z", ["2025-03-09T07:00:00Z"]),
        (NEW_YORK, "0 0 2 * * *", "2025-03-08T12:00:00Z", "2025-03-09T12:00:00Z", ["2025-03-09T07:00:00Z"]),
        (NEW_YORK, "59 59 1 * * *", "2025-03-08T12:00:00Z", "2025-03-09T12:00:00Z", ["2025-03-09T06:59:59Z"]),
        (NEW_YORK, "0 0 3 * * *", "2025-03-08T12:00:00Z", "2025-03-09T12:00:00Z", ["2025-03-09T07:00:00Z"]),
        # Moments that fall together fire once, also with one that exists.
        (NEW_YORK, "0 0,15,30 2 * * *", "2025-03-08T12:00:00Z", "2025-03-09T12:00:00Z", ["2025-03-09T07:00:00Z"]),
        (NEW_YORK, "0 0 2,3 * * *", "2025-03-08T12:00:00Z", "2025-03-09T12:00:00Z", ["2025-03-09T07:00:00Z"]),
        (NEW_YORK, "0 30 1-3 * * *", "2025-03-09T00:00:00Z", "2025-03-09T12:00:00Z",
         ["2025-03-09T06:30:00Z", "2025-03-09T07:00:00Z", "2025-03-09T07:30:00Z"]),
        # Only the named day is made up for; a periodic schedule gets nothing extra.
        (NEW_YORK, "0 30 2 * * MON", "2025-03-08T12:00:00Z", "2025-03-10T12:00:00Z", ["2025-03-10T06:30:00Z"]),
        (NEW_YORK, "0 30 * * * *", "2025-03-09T06:00:00Z", "2025-03-09T08:00:00Z",
         ["2025-03-09T06:30:00Z", "2025-03-09T07:30:00Z"]),
        (NEW_YORK, "0 */30 2 * * *", "2025-03-08T12:00:00Z", "2025-03-09T12:00:00Z", []),
        (NEW_YORK, "0 30 1 * * *", "2025-11-01T12:00:00Z", "2025-11-03T12:00:00Z",
         ["2025-11-02T05:30:00Z", "2025-11-03T06:30:00Z"]),
        (NEW_YORK, "0 0 1,2 * * *", "2025-11-02T00:00:00Z", "2025-11-02T12:00:00Z",
         ["2025-11-02T05:00:00Z", "2025-11-02T07:00:00Z"]),
        (NEW_YORK, "0 30 * * * *", "2025-11-02T05:00:00Z", "2025-11-02T08:00:00Z",
         ["2025-11-02T05:30:00Z", "2025-11-02T06:30:00Z", "2025-11-02T07:30:00Z"]),
        # London: 01:00Z on 30 March and 26 October 2025.
        ("Europe/London", "0 30 1 * * *", "2025-03-29T12:00:00Z", "2025-03-30T12:00:00Z", ["2025-03-30T01:00:00Z"]),
        ("Europe/London", "0 30 1 * * *", "2025-10-25T12:00:00Z", "2025-10-26T12:00:00Z", ["2025-10-26T00:30:00Z"]),
        # Lord Howe moves by half an hour: 02:00 -> 02:30 on 5 October, 02:00 -> 01:30 on 6 April 2025.
        ("Australia/Lord_Howe", "0 15 2 * * *", "2025-10-04T00:00:00Z", "2025-10-05T00:00:00Z",
         ["2025-10-04T15:30:00Z"]),
        ("Australia/Lord_Howe", "0 0 3 * * *", "2025-10-04T00:00:00Z", "2025-10-05T00:00:00Z",
         ["2025-10-04T16:00:00Z"]),
        ("Australia/Lord_Howe", "0 45 1 * * *", "2025-04-05T00:00:00Z", "2025-04-06T00:00:00Z",
         ["2025-04-05T14:45:00Z"]),
        ("Australia/Lord_Howe", "0 15 1 * * *", "2025-04-05T00:00:00Z", "2025-04-06T00:00:00Z",
         ["2025-04-05T14:15:00Z"]),
        # Beirut, Havana, São Paulo, Tehran: midnight itself is skipped. The run keeps its own date's match.
        ("Asia/Beirut", "0 0 0 * * *", "2025-03-29T00:00:00Z", "2025-03-31T00:00:00Z",
         ["2025-03-29T22:00:00Z", "2025-03-30T21:00:00Z"]),
        ("Asia/Beirut", "0 0 1 * * *", "2025-03-29T00:00:00Z", "2025-03-30T12:00:00Z", ["2025-03-29T22:00:00Z"]),
        ("Asia/Beirut", "0 30 0 * * SUN", "2025-03-29T00:00:00Z", "2025-03-31T00:00:00Z", ["2025-03-29T22:00:00Z"]),
        ("America/Havana", "0 0 0 * * *", "2025-03-09T00:00:00Z", "2025-03-10T00:00:00Z", ["2025-03-09T05:00:00Z"]),
        ("America/Havana", "0 30 0 * * *", "2025-11-01T12:00:00Z", "2025-11-02T12:00:00Z", ["2025-11-02T04:30:00Z"]),
        ("America/Sao_Paulo", "0 0 0 * * *", "2018-11-03T12:00:00Z", "2018-11-04T12:00:00Z",
         ["2018-11-04T03:00:00Z"]),
        # São Paulo went back at midnight, so Saturday's last hour came twice.
        ("America/Sao_Paulo", "0 30 23 * * SAT", "2019-02-16T12:00:00Z", "2019-02-18T12:00:00Z",
         ["2019-02-17T01:30:00Z"]),
        ("America/Sao_Paulo", "0 0 0 * * SUN", "2019-02-16T12:00:00Z", "2019-02-18T12:00:00Z",
         ["2019-02-17T03:00:00Z"]),
        ("Asia/Tehran", "0 0 0 * * *", "2022-03-21T00:00:00Z", "2022-03-22T12:00:00Z", ["2022-03-21T20:30:00Z"]),
        ("Asia/Tehran", "0 30 23 * * *", "2022-09-21T00:00:00Z", "2022-09-22T00:00:00Z", ["2022-09-21T19:00:00Z"]),
        # Pyongyang: 23:30 -> midnight on 4 May 2018: a run moved past midnight; and half an hour back in 2015.
        ("Asia/Pyongyang", "0 45 23 * * FRI", "2018-05-04T00:00:00Z", "2018-05-06T00:00:00Z",
         ["2018-05-04T15:00:00Z"]),
        ("Asia/Pyongyang", "0 45 23 4 5 *", "2018-05-04T00:00:00Z", "2018-05-06T00:00:00Z", ["2018-05-04T15:00:00Z"]),
        ("Asia/Pyongyang", "0 45 23 * * *", "2015-08-14T00:00:00Z", "2015-08-15T12:00:00Z", ["2015-08-14T14:45:00Z"]),
        # Kathmandu: a quarter of an hour forward at midnight of 1986.
        ("Asia/Kathmandu", "0 5 0 * * *", "1985-12-31T00:00:00Z", "1986-01-02T00:00:00Z",
         ["1985-12-31T18:30:00Z", "1986-01-01T18:20:00Z"]),
        # St. John's changed at one minute past midnight until 2011.
        ("America/St_Johns", "0 30 0 * * *", "2010-03-13T12:00:00Z", "2010-03-14T12:00:00Z",
         ["2010-03-14T03:31:00Z"]),
        ("America/St_Johns", "0 0 0 * * *", "2010-11-06T12:00:00Z", "2010-11-07T12:00:00Z", ["2010-11-07T02:30:00Z"]),
        # Troll moves by two hours: 01:00 -> 03:00 and back.
        ("Antarctica/Troll", "0 30 1,2 * * *", "2025-03-29T12:00:00Z", "2025-03-30T12:00:00Z",
         ["2025-03-30T01:00:00Z"]),
        ("Antarctica/Troll", "0 30 1,2 * * *", "2025-10-25T12:00:00Z", "2025-10-26T12:00:00Z",
         ["2025-10-25T23:30:00Z", "2025-10-26T00:30:00Z"]),
        # Casey moved by just three hours, 02:00 -> 05:00.
        ("Antarctica/Casey", "0 30 3 * * *", "2009-10-17T12:00:00Z", "2009-10-18T12:00:00Z",
         ["2009-10-17T18:00:00Z"]),
        # Apia left out 30 December 2011: more than three hours are not made up.
        ("Pacific/Apia", "0 0 9 * * *", "2011-12-29T00:00:00Z", "2012-01-01T00:00:00Z",
         ["2011-12-29T19:00:00Z", "2011-12-30T19:00:00Z", "2011-12-31T19:00:00Z"]),
        ("Pacific/Apia", "0 0 9 30 12 *", "2011-01-01T00:00:00Z", "2012-12-31T00:00:00Z", ["2012-12-29T19:00:00Z"]),
    ],
)  # fmt: skip
def test_named_times_run_once_at_clock_changes(
    zone: str, schedule: str, after: str, upto: str, expected: list[str]
) -> None:
    assert between(made(schedule, zone), after, upto) == expected


@pytest.mark.parametrize(
    ("gap", "overlap", "spring", "autumn"),
    [
        ("run", "first", ["2025-03-09T07:00:00Z"], ["2025-11-02T05:30:00Z"]),
        ("run", "second", ["2025-03-09T07:00:00Z"], ["2025-11-02T06:30:00Z"]),
        ("run", "both", ["2025-03-09T07:00:00Z"], ["2025-11-02T05:30:00Z", "2025-11-02T06:30:00Z"]),
        ("skip", "first", [], ["2025-11-02T05:30:00Z"]),
        ("skip", "second", [], ["2025-11-02T06:30:00Z"]),
        ("skip", "both", [], ["2025-11-02T05:30:00Z", "2025-11-02T06:30:00Z"]),
    ],
)
def test_two_settings_decide_about_named_times(gap: str, overlap: str, spring: list[str], autumn: list[str]) -> None:
    in_gap, in_overlap = (made(text, NEW_YORK, gap, overlap) for text in ("0 30 2 * * *", "0 30 1 * * *"))

    assert between(in_gap, "2025-03-09T00:00:00Z", "2025-03-09T23:00:00Z") == spring
    assert between(in_overlap, "2025-11-02T00:00:00Z", "2025-11-02T23:00:00Z") == autumn


@pytest.mark.parametrize("schedule", ["0 30 * * * *", "* * * * * *", "0 */15 1,2 * * *", "0 5/20 2 * * SUN", "@hourly"])
def test_periodic_schedules_heed_neither_setting(schedule: str) -> None:
    spans = [("2025-03-09T06:30:00Z", "2025-03-09T07:20:00Z"), ("2025-11-02T05:40:00Z", "2025-11-02T06:40:00Z")]
    for after, upto in spans:
        answers = {
            tuple(between(made(schedule, NEW_YORK, gap, overlap), after, upto))
            for gap in DstGap
            for overlap in DstOverlap
        }

        assert len(answers) == 1


def test_next_never_goes_back_inside_a_repeated_hour() -> None:
    trigger = made("0 30 1 * * *", NEW_YORK)

    # 01:45, second pass: today's 01:30 has fired in the first.
    assert firings(trigger, "2025-11-02T06:45:00Z", 1) == ["2025-11-03T06:30:00Z"]
    # 01:15, second pass: 01:30 is still to come on the wall, but it has fired.
    assert firings(trigger, "2025-11-02T06:15:00Z", 1) == ["2025-11-03T06:30:00Z"]
    # 01:45, first pass, when the second is wanted.
    assert firings(made("0 30 1 * * *", NEW_YORK, "run", "second"), "2025-11-02T05:45:00Z", 1) == [
        "2025-11-02T06:30:00Z"
    ]


def test_far_date_does_not_hide_the_repeated_hour_in_front() -> None:
    # The next match after 01:45 (first pass) is a year off on the wall, but the second pass shows 01:30 again.
    trigger = made("0 30 1 2 11 *", NEW_YORK, "run", "both")

    assert firings(trigger, "2025-11-02T05:45:00Z", 2) == ["2025-11-02T06:30:00Z", "2026-11-02T06:30:00Z"]


def test_instant_of_the_gap_is_found_from_the_second_before() -> None:
    trigger = made("0 30 2 * * *", NEW_YORK)

    assert firings(trigger, "2025-03-09T06:59:59Z", 1) == ["2025-03-09T07:00:00Z"]
    assert firings(trigger, "2025-03-09T07:00:00Z", 1) == ["2025-03-10T06:30:00Z"]


def test_first_and_last_second_of_a_repeated_hour_belong_to_one_pass() -> None:
    last = made("59 59 1 * * *", NEW_YORK)
    assert firings(last, "2025-11-02T06:59:58Z", 1) == ["2025-11-03T06:59:59Z"]

    first = made("0 0 1 * * *", NEW_YORK, overlap="second")
    assert firings(first, "2025-11-02T00:00:00Z", 1) == ["2025-11-02T06:00:00Z"]
    assert firings(made("0 0 2 * * *", NEW_YORK, overlap="second"), "2025-11-02T00:00:00Z", 1) == [
        "2025-11-02T07:00:00Z"
    ]


def test_counts_take_the_seam_itself_in_or_leave_it_out() -> None:
    trigger = made("0 30 2 * * *", NEW_YORK)
    seam = parse_moment("2025-03-09T07:00:00Z")

    assert trigger.count_between(seam - HOUR, seam - SECOND) == 0
    assert trigger.count_between(seam - HOUR, seam) == 1
    assert trigger.count_between(seam - SECOND, seam) == 1
    assert trigger.count_between(seam, seam + HOUR) == 0


def test_start_is_cut_to_seconds_then_strictly_after() -> None:
    trigger = made("* * * * * *")

    assert trigger.next_after(ANCHOR) == ANCHOR + SECOND
    assert trigger.next_after(ANCHOR + 999) == ANCHOR + SECOND
    assert trigger.next_after(ANCHOR - 1) == ANCHOR
    assert trigger.count_between(ANCHOR + 1, ANCHOR + SECOND - 1) == 0
    assert trigger.count_between(ANCHOR - 1, ANCHOR) == 1
    assert trigger.latest_between(ANCHOR - 1, ANCHOR + 500, 5) == [ANCHOR]


# --- Ends of time -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", ["UTC", NEW_YORK, "Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_year_9999_is_the_end(zone: str) -> None:
    trigger = made("0 0 0 * * *", zone)
    last = trigger.latest_between(MOMENT_MAX - 10 * DAY, MOMENT_MAX, 1)[0]

    assert MOMENT_MAX - 2 * DAY < last <= MOMENT_MAX
    assert trigger.next_after(last) is None
    assert trigger.next_after(MOMENT_MAX) is None
    assert trigger.next_after(MOMENT_MAX * 1000) is None
    assert trigger.count_between(last, MOMENT_MAX * 1000) == 0


@pytest.mark.parametrize("zone", ["UTC", NEW_YORK, "Pacific/Kiritimati"])
def test_year_1_is_the_beginning(zone: str) -> None:
    trigger = made("0 0 0 * * *", zone)
    first = trigger.next_after(MOMENT_MIN * 1000)

    assert first is not None
    assert MOMENT_MIN <= first < MOMENT_MIN + 2 * DAY
    assert trigger.count_between(MOMENT_MIN * 1000, first) == 1


def test_impossible_date_says_why_and_costs_nothing() -> None:
    trigger = made("0 0 0 30 2 *", NEW_YORK)

    assert trigger.impossible == "never fires: February has at most 29 days"
    assert trigger.next_after(ANCHOR) is None
    assert trigger.count_between(MOMENT_MIN, MOMENT_MAX) == 0
    assert trigger.latest_between(MOMENT_MIN, MOMENT_MAX, 10) == []


def test_named_moment_that_every_year_is_skipped_ends_the_search() -> None:
    # The second Sunday of March is the day the clocks skip 02:30, every year from 2007 on.
    trigger = made("0 30 2 * 3 SUN#2", NEW_YORK, gap="skip")

    assert trigger.next_after(ANCHOR) is None
    assert firings(trigger, "2006-01-01T00:00:00Z", 2) == ["2006-03-12T07:30:00Z", None]


@pytest.mark.parametrize("zone", ["UTC", NEW_YORK])
def test_date_forty_years_off_is_found(zone: str) -> None:
    # A leap February that begins on a Monday; the year 2100 breaks the rhythm of 28 years.
    found = firings(made("0 0 12 * 2 MON#5", zone), "2072-03-01T00:00:00Z", 2)

    assert [str(text)[:10] for text in found] == ["2112-02-29", "2140-02-29"]


# --- Forms --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "kind", "text", "periodic"),
    [
        ("0 9 * * 1-5", TriggerKind.CRON, "0 0 9 * * 1-5", False),
        ("@hourly", TriggerKind.CRON, "0 0 * * * *", True),
        ("@Daily", TriggerKind.CRON, "0 0 0 * * *", False),
        ("@every 1h30m", TriggerKind.INTERVAL, "@every 1h30m", True),
        ("@EVERY  90s ", TriggerKind.INTERVAL, "@every 1m30s", True),
        ("@every\t1.5h", TriggerKind.INTERVAL, "@every 1h30m", True),
        ("@every 2d", TriggerKind.INTERVAL, "@every 48h", True),
        ("@every 2000ms", TriggerKind.INTERVAL, "@every 2s", True),
        ("@every PT45S", TriggerKind.INTERVAL, "@every 45s", True),
        ("PT1H30M", TriggerKind.INTERVAL, "@every 1h30m", True),
        ("pt90m", TriggerKind.INTERVAL, "@every 1h30m", True),
        ("P1D", TriggerKind.INTERVAL, "@every 24h", True),
        ("P1W", TriggerKind.INTERVAL, "@every 168h", True),
        ("P1DT12H", TriggerKind.INTERVAL, "@every 36h", True),
        ("@at 2026-01-31T09:00:00Z", TriggerKind.ONCE, "@at 2026-01-31T09:00:00Z", False),
        ("@AT 2026-01-31t09:00:00z", TriggerKind.ONCE, "@at 2026-01-31T09:00:00Z", False),
        ("2026-01-31T09:00:00+02:00", TriggerKind.ONCE, "@at 2026-01-31T07:00:00Z", False),
        ("2026-01-31 09:00:00-05:30", TriggerKind.ONCE, "@at 2026-01-31T14:30:00Z", False),
        ("2026-01-31T09:00:00.000Z", TriggerKind.ONCE, "@at 2026-01-31T09:00:00Z", False),
        ("2026-01-31T09:00:00.250Z", TriggerKind.ONCE, "@at 2026-01-31T09:00:01Z", False),
        ("2026-01-31T09:00", TriggerKind.ONCE, "@at 2026-01-31T09:00:00", False),
        ("@at 2026-01-31 09:00:30", TriggerKind.ONCE, "@at 2026-01-31T09:00:30", False),
        ("@manual", TriggerKind.MANUAL, "@manual", False),
        (" @Manual ", TriggerKind.MANUAL, "@manual", False),
    ],
)
def test_form_and_canonical_text(schedule: str, kind: TriggerKind, text: str, periodic: bool) -> None:  # noqa: FBT001
    trigger = made(schedule)

    assert (trigger.kind, trigger.schedule, trigger.periodic) == (kind, text, periodic)
    assert made(trigger.schedule, trigger.timezone) == trigger


@pytest.mark.parametrize(
    ("schedule", "given", "zone"),
    [
        ("0 0 * * * *", "UTC", "UTC"),
        ("0 0 * * * *", "Europe/Berlin", "Europe/Berlin"),
        ("TZ=Europe/Berlin 0 0 * * * *", "UTC", "Europe/Berlin"),
        ("CRON_TZ=Europe/Berlin 0 0 * * * *", "UTC", "Europe/Berlin"),
        ("  CRON_TZ=Europe/Berlin \t 0 * * * *", "UTC", "Europe/Berlin"),
        ("TZ=Europe/Berlin @hourly", "Europe/Berlin", "Europe/Berlin"),
        ("TZ=UTC 0 0 * * * *", "UTC", "UTC"),
    ],
)
def test_zone_prefix_is_lifted_out_of_the_text(schedule: str, given: str, zone: str) -> None:
    trigger = made(schedule, given)

    assert (trigger.schedule, trigger.timezone) == ("0 0 * * * *", zone)


def test_zone_prefix_serves_the_other_forms_too() -> None:
    assert made("TZ=Europe/Berlin @every 1h").timezone == "Europe/Berlin"
    assert made("TZ=Europe/Berlin @manual").timezone == "Europe/Berlin"
    assert firings(made("TZ=Europe/Berlin @at 2026-01-31T09:00:00"), "2026-01-01T00:00:00Z", 1) == [
        "2026-01-31T08:00:00Z"
    ]


@pytest.mark.parametrize(
    ("schedule", "timezone", "parameter", "reason"),
    [
        ("", "UTC", "schedule", "is empty"),
        (" \t\n", "UTC", "schedule", "is empty"),
        ("x" * 257, "UTC", "schedule", "longer than 256"),
        ("nonsense", "UTC", "schedule", "1 field; write six"),
        ("@nonsense", "UTC", "schedule", "unknown descriptor"),
        ("@reboot", "UTC", "schedule", "has no meaning in a service"),
        ("0 0 25 * * *", "UTC", "schedule", "25 is out of range"),
        ("0 0 * * * *", "Mars/Olympus", "timezone", "unknown time zone"),
        ("0 0 * * * *", "+02:00", "timezone", "fixed offset"),
        ("0 0 * * * *", "", "timezone", "is empty"),
        ("0 0 * * * *", "../x", "timezone", "not a time zone name"),
        ("@manual", "Mars/Olympus", "timezone", "unknown time zone"),
        ("TZ=Mars/Olympus 0 0 * * * *", "UTC", "schedule", "unknown time zone"),
        ("TZ=+02:00 0 0 * * * *", "UTC", "schedule", "fixed offset"),
        ("TZ= 0 0 * * * *", "UTC", "schedule", "is empty"),
        ("TZ=UTC", "UTC", "schedule", "a schedule must follow"),
        ("CRON_TZ=UTC  ", "UTC", "schedule", "a schedule must follow"),
        ("TZ=UTC TZ=UTC * * * * *", "UTC", "schedule", "twice"),
        ("TZ=Europe/Paris 0 0 * * * *", "Europe/Berlin", "timezone", "give only one"),
        ("TZ=UTC 0 0 * * * *", "Europe/Berlin", "timezone", "give only one"),
        # Intervals.
        ("@every", "UTC", "schedule", "interval is missing"),
        ("@every 5", "UTC", "schedule", "write a duration as"),
        ("@every 1 h", "UTC", "schedule", "write a duration as"),
        ("@every -5s", "UTC", "schedule", "at least 1 second"),
        ("@every +5s", "UTC", "schedule", "no sign"),
        ("@every 0s", "UTC", "schedule", "at least 1 second"),
        ("@every 500ms", "UTC", "schedule", "at least 1 second"),
        ("@every 0.5s", "UTC", "schedule", "at least 1 second"),
        ("@every 1.5s", "UTC", "schedule", "whole seconds"),
        ("@every 1e9h", "UTC", "schedule", "write a duration as"),
        ("@every 99999999999h", "UTC", "schedule", "too long"),
        ("PT0S", "UTC", "schedule", "at least 1 second"),
        ("P1M", "UTC", "schedule", "write a duration as"),
        ("PT", "UTC", "schedule", "write a duration as"),
        # One-shots.
        ("@at", "UTC", "schedule", "can't be read"),
        ("@at tomorrow", "UTC", "schedule", "can't be read"),
        ("2026-01-31", "UTC", "schedule", "can't be read"),
        ("2026-02-30T09:00:00Z", "UTC", "schedule", "no such moment"),
        ("2026-01-31T24:00:00Z", "UTC", "schedule", "no such moment"),
        ("2026-01-31T09:00:60Z", "UTC", "schedule", "no such moment"),
        ("2026-01-31T09:00:00+24:00", "UTC", "schedule", "offset"),
        ("2026-01-31T09:00:00+0200", "UTC", "schedule", "can't be read"),
        ("2026-1-31T09:00:00Z", "UTC", "schedule", "can't be read"),
        ("9999-12-31T23:59:59.5Z", "UTC", "schedule", "years 1 to 9999"),
        ("9999-12-31T23:59:59-01:00", "UTC", "schedule", "years 1 to 9999"),
        ("٢٠٢٦-01-31T09:00:00Z", "UTC", "schedule", ""),
        ("@manual now", "UTC", "schedule", "stands alone"),
    ],
)
def test_refusal_points_at_the_faulty_parameter(schedule: str, timezone: str, parameter: str, reason: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        made(schedule, timezone)

    assert caught.value.parameter == parameter
    assert reason in str(caught.value)
    assert str(caught.value).isprintable()


def test_cron_refusal_keeps_field_part_and_reason() -> None:
    with pytest.raises(CronError) as caught:
        made("0 61 * * * *")

    assert (caught.value.field, caught.value.part) == ("minute", "61")


# --- Intervals ----------------------------------------------------------------------------------------------------


def test_interval_counts_from_its_anchor_and_never_drifts() -> None:
    trigger = made("@every 1h30m")

    assert firings(trigger, "2025-01-01T00:00:00Z", 2) == ["2025-01-01T01:30:00Z", "2025-01-01T03:00:00Z"]
    assert firings(trigger, "2025-03-08T12:34:56Z", 1) == ["2025-03-08T13:30:00Z"]
    # Nothing before the first run, however early one asks.
    assert firings(trigger, "2020-01-01T00:00:00Z", 1) == ["2025-01-01T01:30:00Z"]
    assert trigger.count_between(MOMENT_MIN, ANCHOR) == 0


def test_interval_ignores_clock_changes() -> None:
    trigger = made("@every 24h", NEW_YORK)
    found = between(trigger, "2025-03-07T00:00:00Z", "2025-03-12T00:00:00Z")

    assert all(text.endswith("T00:00:00Z") for text in found)
    assert len(found) == 5


def test_interval_counts_by_arithmetic() -> None:
    trigger = made("@every 1s")

    assert trigger.count_between(ANCHOR, ANCHOR + 3650 * DAY) == 3650 * 86_400
    assert trigger.latest_between(MOMENT_MIN, MOMENT_MAX, 2) == [MOMENT_MAX - 1999, MOMENT_MAX - 999]
    assert trigger.latest_between(ANCHOR, ANCHOR + 10 * SECOND, 0) == []
    assert trigger.next_after(MOMENT_MAX) is None


def test_interval_anchor_is_cut_to_seconds() -> None:
    trigger = parse_trigger("@every 10s", anchor=ANCHOR + 999)

    assert trigger.next_after(ANCHOR + 999) == ANCHOR + 10 * SECOND


def test_interval_longer_than_time_is_known_to_be_impossible() -> None:
    trigger = made("@every 999999d")
    far = parse_trigger("@every 2d", anchor=MOMENT_MAX - DAY)

    assert trigger.impossible is None
    assert far.impossible == "never fires: the first run would come after the year 9999"
    assert far.next_after(ANCHOR) is None


# --- One-shots ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("local", "gap", "overlap", "expected"),
    [
        ("2025-07-01T12:00:00", "run", "first", ["2025-07-01T16:00:00Z"]),
        ("2025-03-09T02:30:00", "run", "first", ["2025-03-09T07:00:00Z"]),
        ("2025-03-09T02:30:30", "run", "first", ["2025-03-09T07:00:00Z"]),
        ("2025-03-09T02:30:00", "skip", "first", []),
        ("2025-11-02T01:30:00", "run", "first", ["2025-11-02T05:30:00Z"]),
        ("2025-11-02T01:30:00", "run", "second", ["2025-11-02T06:30:00Z"]),
        ("2025-11-02T01:30:00", "run", "both", ["2025-11-02T05:30:00Z", "2025-11-02T06:30:00Z"]),
        ("2025-11-02T01:30:00-04:00", "run", "second", ["2025-11-02T05:30:00Z"]),
    ],
)
def test_local_one_shot_follows_the_two_settings(local: str, gap: str, overlap: str, expected: list[str]) -> None:
    trigger = made(f"@at {local}", NEW_YORK, gap, overlap)

    assert firings(trigger, "2025-01-01T00:00:00Z", 5) == [*expected, None]
    assert between(trigger, "2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z") == expected
    assert (trigger.impossible is None) == bool(expected)


def test_one_shot_on_a_day_that_was_left_out_is_impossible() -> None:
    trigger = made("@at 2011-12-30T09:00:00", "Pacific/Apia")

    assert trigger.impossible is not None
    assert trigger.impossible.startswith("never fires: 2011-12-30T09:00:00 does not exist in Pacific/Apia")


def test_one_shot_is_strictly_after() -> None:
    trigger = made("2026-01-31T09:00:00Z")
    moment = parse_moment("2026-01-31T09:00:00Z")

    assert trigger.next_after(moment - 1) == moment
    assert trigger.next_after(moment) is None
    assert trigger.latest_between(moment - SECOND, moment, 5) == [moment]
    assert trigger.latest_between(moment, moment + SECOND, 5) == []


def test_manual_never_fires_by_itself() -> None:
    trigger = made("@manual")

    assert trigger.next_after(ANCHOR) is None
    assert trigger.count_between(MOMENT_MIN, MOMENT_MAX) == 0
    assert trigger.latest_between(MOMENT_MIN, MOMENT_MAX, 5) == []
    assert trigger.impossible is None


# --- Kinds of rule, sharing, cost ---------------------------------------------------------------------------------


def test_equal_schedules_share_one_rule() -> None:
    first, again = made("0 9 * * 1-5", NEW_YORK), made("0 9 * * 1-5", NEW_YORK)

    assert first is again
    assert made("0 9 * * 1-5", NEW_YORK, gap="skip") is not first
    assert isinstance(first.rule, CronRule)
    assert isinstance(made("@every 1s").rule, IntervalRule)
    assert isinstance(made("2026-01-31T09:00:00Z").rule, OnceRule)


def test_settings_may_be_given_as_plain_words() -> None:
    trigger = parse_trigger("0 30 2 * * *", anchor=0, dst_gap="skip", dst_overlap="both")  # type: ignore[arg-type]

    assert (trigger.dst_gap, trigger.dst_overlap) == (DstGap.SKIP, DstOverlap.BOTH)


class Counter:
    """Counts the calls of a method: a clock that no neighbour can slow down."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: type, *names: str) -> None:
        self.calls = 0
        for name in names:
            original = getattr(owner, name)

            def counted(*args: object, _original: object = original) -> object:
                self.calls += 1
                return _original(*args)  # type: ignore[operator]

            monkeypatch.setattr(owner, name, counted)


@pytest.mark.parametrize("zone", ["UTC", NEW_YORK, "Australia/Lord_Howe"])
def test_ten_years_of_seconds_are_counted_not_walked(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trigger = made("* * * * * *", zone)
    counter = Counter(monkeypatch, Cron, "next_wall", "count_walls", "days_mask")

    assert trigger.count_between(ANCHOR, ANCHOR + 3652 * DAY) == 3652 * 86_400
    assert counter.calls < 400


@pytest.mark.parametrize("zone", ["UTC", NEW_YORK])
@pytest.mark.parametrize("schedule", ["* * * * * *", "0 30 1 * * *", "0 0 0 29 2 *", "* * 9 * * MON"])
def test_latest_of_a_huge_range_is_found_from_its_end(
    schedule: str, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trigger = made(schedule, zone)
    counter = Counter(monkeypatch, Cron, "next_wall", "count_walls")
    found = trigger.latest_between(MOMENT_MIN, ANCHOR, 5)

    assert counter.calls < 3_000
    assert len(found) == 5
    assert all(later == trigger.next_after(earlier) for earlier, later in pairwise(found))
    following = trigger.next_after(found[-1])
    assert following is not None
    assert following > ANCHOR


@pytest.mark.parametrize(
    ("schedule", "zone", "bound"),
    [
        ("0 */5 * * * *", "UTC", 1),
        ("0 0 9 * * MON-FRI", NEW_YORK, 4),
        ("0 0 0 29 2 *", "UTC", 1),
        ("0 0 0 29 2 *", NEW_YORK, 4),
        ("0 0 0 30 2 *", NEW_YORK, 0),
    ],
)
def test_next_looks_at_few_segments(schedule: str, zone: str, bound: int, monkeypatch: pytest.MonkeyPatch) -> None:
    trigger = made(schedule, zone)
    counter = Counter(monkeypatch, Cron, "next_wall")
    trigger.next_after(parse_moment("2025-03-01T00:00:00Z"))

    assert counter.calls <= bound


def test_search_for_what_never_comes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    trigger = made("0 30 2 * 3 SUN#2", NEW_YORK, gap="skip")
    counter = Counter(monkeypatch, Cron, "next_wall")

    assert trigger.next_after(ANCHOR) is None
    assert counter.calls < 5 * 500


def test_utc_looks_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = Counter(monkeypatch, Zone, "_probe", "_segments")
    trigger = made("0 */5 * * * *")

    assert trigger.next_after(ANCHOR) == ANCHOR + HOUR // 12
    assert trigger.count_between(ANCHOR, ANCHOR + DAY) == 288
    assert counter.calls == 0


def test_faces_are_what_the_module_says() -> None:
    for name in trigger_module.__all__:
        assert hasattr(trigger_module, name)
