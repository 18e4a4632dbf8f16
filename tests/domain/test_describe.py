"""The English for schedules, and the preview that marks what clock changes did to each moment."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from peregrine.domain.cron import parse_cron
from peregrine.domain.describe import PreviewItem, describe, describe_cron, preview, warnings_of
from peregrine.domain.moment import DAY, MOMENT_MAX, format_moment, parse_moment
from peregrine.domain.trigger import DstGap, DstOverlap, Trigger, parse_trigger
from tests.domain.oracle import expressions

ANCHOR = parse_moment("2025-01-01T00:00:00Z")
NEW_YORK = "America/New_York"


def made(schedule: str, timezone: str = "UTC", gap: str = "run", overlap: str = "first") -> Trigger:
    return parse_trigger(
        schedule, timezone=timezone, anchor=ANCHOR, dst_gap=DstGap(gap), dst_overlap=DstOverlap(overlap)
    )


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        # Rhythms.
        ("* * * * * *", "Every second"),
        ("*/5 * * * * *", "Every 5 seconds"),
        ("0,30 * * * * *", "Every 30 seconds"),
        ("30 * * * * *", "At second 30 of every minute"),
        ("10,20 * * * * *", "At seconds 10 and 20 of every minute"),
        ("* 10 * * * *", "Every second in minute 10 of every hour"),
        ("*/10 0-4 * * * *", "Every 10 seconds in minutes 0 through 4 of every hour"),
        ("* * * * *", "Every minute"),
        ("0 0-59 0-23 * * *", "Every minute"),
        ("*/5 * * * *", "Every 5 minutes"),
        ("0,15,30,45 * * * *", "Every 15 minutes"),
        ("5/15 * * * *", "At minutes 5, 20, 35 and 50 of every hour"),
        ("*/7 * * * *", "At minutes 0, 7, 14, 21, 28, 35, 42, 49 and 56 of every hour"),
        ("*/90 * * * *", "At the start of every hour"),
        ("0 * * * *", "At the start of every hour"),
        ("5 * * * *", "At minute 5 of every hour"),
        ("15 5 * * * *", "At second 15 of minute 5 of every hour"),
        ("0-10,30 * * * *", "At minutes 0 through 10 and 30 of every hour"),
        ("* 9-17 * * *", "Every minute from 09:00 through 17:59"),
        ("*/15 9-17 * * *", "Every 15 minutes from 09:00 through 17:59"),
        ("* 2,4 * * *", "Every minute during hours 2 and 4"),
        ("*/7 2,4 * * *", "At minutes 0, 7, 14, 21, 28, 35, 42, 49 and 56 past hours 2 and 4"),
        ("0 */2 * * *", "Every 2 hours, starting at 00:00"),
        ("30 1/3 * * *", "Every 3 hours, starting at 01:30"),
        ("10 9-17 * * *", "Every hour from 09:10 through 17:10"),
        # Times; uneven steps by their values.
        ("0 0 * * *", "At 00:00 every day"),
        ("0 */5 * * *", "At 00:00, 05:00, 10:00, 15:00 and 20:00 every day"),
        ("0 */6 * * *", "At 00:00, 06:00, 12:00 and 18:00 every day"),
        ("15 30 6,18 * * *", "At 06:30:15 and 18:30:15 every day"),
        ("0,30 0 12 * * *", "At 12:00:00 and 12:00:30 every day"),
        ("0,30 13,14 * * *", "At 13:00, 13:30, 14:00 and 14:30 every day"),
        # Weekdays.
        ("0 9 * * 1-5", "At 09:00 on Monday through Friday"),
        ("0 9 * * MON,WED", "At 09:00 on Monday and Wednesday"),
        ("0 9 * * SAT,SUN", "At 09:00 on Saturday and Sunday"),
        ("0 9 * * FRI-SUN", "At 09:00 on Friday through Sunday"),
        ("0 9 * * 0-6", "At 09:00 on Monday through Sunday"),
        ("0 9 * * MON#2", "At 09:00 on the 2nd Monday of the month"),
        ("0 9 * * FRIL", "At 09:00 on the last Friday of the month"),
        ("0 9 * * TUE,MON#2,FRI#L", "At 09:00 on Tuesday, the 2nd Monday and the last Friday of the month"),
        ("* * * * MON", "Every minute on Monday"),
        # Days of the month.
        ("0 0 1 * *", "At 00:00 on the 1st of every month"),
        ("0 0 1,15 * *", "At 00:00 on the 1st and the 15th of every month"),
        ("0 0 1-7 * *", "At 00:00 on the 1st through 7th of every month"),
        ("0 0 */5 * *", "At 00:00 on days 1, 6, 11, 16, 21, 26 and 31 of every month"),
        ("0 0 22,23,31 * *", "At 00:00 on the 22nd, the 23rd and the 31st of every month"),
        ("0 0 L * *", "At 00:00 on the last day of every month"),
        ("0 0 L-1 * *", "At 00:00 on the day before the last of every month"),
        ("0 0 L-3 * *", "At 00:00 on the 3rd day before the last of every month"),
        ("0 0 LW * *", "At 00:00 on the last working day of every month"),
        ("0 0 15W * *", "At 00:00 on the working day nearest the 15th of every month"),
        ("0 0 1W,15W,L * *",
         ("At 00:00 on the working day nearest the 1st, the working day nearest the 15th"
          " and the last day of every month")),
        # Months.
        ("0 0 29 2 *", "At 00:00 on February 29"),
        ("0 0 1,15 1 *", "At 00:00 on January 1 and 15"),
        ("0 0 1 1,7 *", "At 00:00 on the 1st of January and July"),
        ("0 0 1 1-3 *", "At 00:00 on the 1st of every month from January through March"),
        ("0 0 L 1 *", "At 00:00 on the last day of January"),
        ("0 0 * 1 *", "At 00:00 every day in January"),
        ("0 0 * 6-8 *", "At 00:00 every day from June through August"),
        ("* * * 1 *", "Every minute in January"),
        ("0 9 * 1,2 MON", "At 09:00 on Monday in January and February"),
        # Both day fields: either may match.
        ("0 0 13 * FRI", "At 00:00 on the 13th of the month or on Friday"),
        ("0 0 13 6 FRI", "At 00:00 on the 13th of the month or on Friday in June"),
        ("0 0 L * MON#1", "At 00:00 on the last day of the month or on the 1st Monday"),
        ("0 0 */2 * SUN", ("At 00:00 on days 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29 and 31"
                          " of the month or on Sunday")),
        ("0 0 13 * */1", "At 00:00 on the 13th of every month"),
        ("* * 13 * FRI", "Every minute on the 13th of the month or on Friday"),
    ],
)  # fmt: skip
def test_cron_in_english(expression: str, text: str) -> None:
    assert describe_cron(parse_cron(expression)) == text


def test_spellings_of_one_meaning_read_the_same() -> None:
    assert describe(made("0 0 9 * * MON-FRI")) == describe(made("0 9 ? * 1,2,3,4,5"))


@settings(max_examples=60)
@given(expressions())
def test_every_expression_has_a_sentence(expression: str) -> None:
    text = describe_cron(parse_cron(expression))

    assert text.startswith(("At ", "Every "))
    assert "  " not in text
    assert text == text.strip()


@pytest.mark.parametrize(
    ("schedule", "zone", "gap", "overlap", "text"),
    [
        ("0 9 * * 1-5", "UTC", "run", "first", "At 09:00 on Monday through Friday (UTC)"),
        ("0 9 * * *", "Europe/Berlin", "run", "first", "At 09:00 every day (Europe/Berlin)"),
        ("30 2 * * *", NEW_YORK, "run", "first",
         "At 02:30 every day (America/New_York); a time that the clocks skip runs right after the gap"),
        ("30 2 * * *", NEW_YORK, "skip", "first",
         "At 02:30 every day (America/New_York); a time that the clocks skip is left out"),
        ("30 1 * * *", NEW_YORK, "run", "first",
         "At 01:30 every day (America/New_York); a time that they show twice runs the first time only"),
        ("30 1,2 * * *", NEW_YORK, "run", "both",
         ("At 01:30 and 02:30 every day (America/New_York); a time that the clocks skip runs right after the gap"
         " and a time that they show twice runs both times")),
        ("30 * * * *", NEW_YORK, "run", "first", "At minute 30 of every hour (America/New_York)"),
        ("30 2 * * *", "Asia/Tokyo", "run", "first", "At 02:30 every day (Asia/Tokyo)"),
        ("0 0 * * *", "America/Havana", "run", "first",
         ("At 00:00 every day (America/Havana); a time that the clocks skip runs right after the gap"
         " and a time that they show twice runs the first time only")),
        ("0 0 30 2 *", "UTC", "run", "first",
         "At 00:00 on February 30 (UTC); never fires: February has at most 29 days"),
        ("@every 1h30m", "UTC", "run", "first", "Every 1 hour and 30 minutes, counted from 2025-01-01T00:00:00Z"),
        ("@every 1h", NEW_YORK, "run", "first", "Every hour, counted from 2025-01-01T00:00:00Z"),
        ("@every 1s", "UTC", "run", "first", "Every second, counted from 2025-01-01T00:00:00Z"),
        ("@every 90s", "UTC", "run", "first", "Every 1 minute and 30 seconds, counted from 2025-01-01T00:00:00Z"),
        ("@every 2d", "UTC", "run", "first", "Every 48 hours, counted from 2025-01-01T00:00:00Z"),
        ("@at 2026-01-31T09:00:00Z", "UTC", "run", "first", "Once, at 2026-01-31T09:00:00+00:00 (UTC)"),
        ("@at 2026-01-31T09:00:00", "Europe/Berlin", "run", "first",
         "Once, at 2026-01-31T09:00:00+01:00 (Europe/Berlin)"),
        ("@at 2025-11-02T01:30:00", NEW_YORK, "run", "both",
         "Twice, at 2025-11-02T01:30:00-04:00 and 2025-11-02T01:30:00-05:00 (America/New_York)"),
        ("@manual", "UTC", "run", "first", "Only when somebody starts it"),
    ],
)  # fmt: skip
def test_trigger_in_english(schedule: str, zone: str, gap: str, overlap: str, text: str) -> None:
    assert describe(made(schedule, zone, gap, overlap)) == text


def noted(trigger: Trigger, after: str, count: int) -> list[tuple[str, str | None]]:
    items = preview(trigger, parse_moment(after), count)
    moment = parse_moment(after)
    for item in items:
        found = trigger.next_after(moment)
        assert found == item.at, "a preview shows exactly what will fire"
        moment = found
    return [(item.local, item.note) for item in items]


def test_preview_shows_local_times_with_offset() -> None:
    items = preview(made("0 9 * * *", "Europe/Berlin"), parse_moment("2025-03-29T00:00:00Z"), 2)

    assert items == [
        PreviewItem(parse_moment("2025-03-29T08:00:00Z"), "2025-03-29T09:00:00+01:00"),
        PreviewItem(parse_moment("2025-03-30T07:00:00Z"), "2025-03-30T09:00:00+02:00"),
    ]


@pytest.mark.parametrize(
    ("schedule", "zone", "gap", "overlap", "after", "expected"),
    [
        ("30 2 * * *", NEW_YORK, "run", "first", "2025-03-08T12:00:00Z", [
            ("2025-03-09T03:00:00-04:00",
             "moved: 2025-03-09 02:30 does not exist, the clocks go from 02:00 to 03:00"),
            ("2025-03-10T02:30:00-04:00", None),
        ]),
        ("0,30 2 * * *", NEW_YORK, "run", "first", "2025-03-08T12:00:00Z", [
            ("2025-03-09T03:00:00-04:00",
             "moved: 2025-03-09 02:00 (and 1 more) does not exist, the clocks go from 02:00 to 03:00"),
        ]),
        ("30 2,3 * * *", NEW_YORK, "run", "first", "2025-03-08T12:00:00Z", [
            ("2025-03-09T03:00:00-04:00",
             "moved: 2025-03-09 02:30 does not exist, the clocks go from 02:00 to 03:00"),
            ("2025-03-09T03:30:00-04:00", None),
        ]),
        ("0 2,3 * * *", NEW_YORK, "run", "first", "2025-03-08T12:00:00Z", [
            ("2025-03-09T03:00:00-04:00",
             "stands for 2025-03-09 02:00 too, which does not exist: the clocks go from 02:00 to 03:00"),
        ]),
        ("30 2 * * *", NEW_YORK, "skip", "first", "2025-03-08T12:00:00Z", [
            ("2025-03-10T02:30:00-04:00",
             "before it, 2025-03-09 02:30 is left out: the clocks go from 02:00 to 03:00"),
        ]),
        ("30 1 * * *", NEW_YORK, "run", "first", "2025-11-01T12:00:00Z", [
            ("2025-11-02T01:30:00-04:00",
             "first pass of 01:30, which the clocks show twice; the second is left out"),
            ("2025-11-03T01:30:00-05:00", None),
        ]),
        ("30 1 * * *", NEW_YORK, "run", "second", "2025-11-01T12:00:00Z", [
            ("2025-11-02T01:30:00-05:00",
             "second pass of 01:30, which the clocks show twice; the first is left out"),
        ]),
        ("30 1 * * *", NEW_YORK, "run", "both", "2025-11-01T12:00:00Z", [
            ("2025-11-02T01:30:00-04:00", "first pass of 01:30, which the clocks show twice"),
            ("2025-11-02T01:30:00-05:00", "second pass of 01:30, which the clocks show twice"),
        ]),
        ("30 * * * *", NEW_YORK, "run", "first", "2025-11-02T05:00:00Z", [
            ("2025-11-02T01:30:00-04:00", "first pass of 01:30, which the clocks show twice"),
            ("2025-11-02T01:30:00-05:00", "second pass of 01:30, which the clocks show twice"),
            ("2025-11-02T02:30:00-05:00", None),
        ]),
        ("30 * * * *", NEW_YORK, "run", "first", "2025-03-09T06:00:00Z", [
            ("2025-03-09T01:30:00-05:00", None),
            ("2025-03-09T03:30:00-04:00", None),
        ]),
        ("0 45 23 * * *", "Asia/Pyongyang", "run", "first", "2018-05-04T00:00:00Z", [
            ("2018-05-05T00:00:00+09:00",
             "moved: 2018-05-04 23:45 does not exist, the clocks go from 23:30 to 00:00"),
        ]),
        ("0 9 30 12 *", "Pacific/Apia", "run", "first", "2011-12-01T00:00:00Z", [
            ("2012-12-30T09:00:00+14:00",
             ("before it, 2011-12-30 09:00 is left out: the clocks go from 2011-12-30 00:00 to 2011-12-31 00:00"
             "; more than 3 hours are not made up")),
        ]),
        ("@at 2025-03-09T02:30:00", NEW_YORK, "run", "first", "2025-01-01T00:00:00Z", [
            ("2025-03-09T03:00:00-04:00",
             "moved: 2025-03-09 02:30 does not exist, the clocks go from 02:00 to 03:00"),
        ]),
        ("@at 2025-11-02T01:30:00", NEW_YORK, "run", "second", "2025-01-01T00:00:00Z", [
            ("2025-11-02T01:30:00-05:00", "second pass of 01:30, which the clocks show twice; the other is left out"),
        ]),
        ("@at 2025-11-02T05:30:00Z", NEW_YORK, "run", "first", "2025-01-01T00:00:00Z", [
            ("2025-11-02T01:30:00-04:00", None),
        ]),
        ("@every 24h", NEW_YORK, "run", "first", "2025-03-08T12:00:00Z", [
            ("2025-03-08T19:00:00-05:00", None),
            ("2025-03-09T20:00:00-04:00", None),
        ]),
    ],
)  # fmt: skip
def test_preview_marks_what_clock_changes_did(
    schedule: str, zone: str, gap: str, overlap: str, after: str, expected: list[tuple[str, str | None]]
) -> None:
    assert noted(made(schedule, zone, gap, overlap), after, len(expected)) == expected


def test_preview_ends_with_the_trigger() -> None:
    assert preview(made("@manual"), ANCHOR, 5) == []
    assert preview(made("0 0 30 2 *"), ANCHOR, 5) == []
    assert len(preview(made("2026-01-31T09:00:00Z"), ANCHOR, 5)) == 1
    assert preview(made("* * * * *"), ANCHOR, 0) == []


def test_preview_reaches_the_end_of_time() -> None:
    trigger = made("@every 12h", "Pacific/Kiritimati")
    items = preview(trigger, MOMENT_MAX - DAY, 5)

    assert [format_moment(item.at) for item in items] == ["9999-12-31T00:00:00Z", "9999-12-31T12:00:00Z"]
    # The wall there shows the year 10000, which no text can say; UTC is said instead.
    assert items[-1].local == "9999-12-31T12:00:00+00:00"


@pytest.mark.parametrize(
    ("schedule", "zone", "gap", "overlap", "expected"),
    [
        ("0 9 * * *", NEW_YORK, "run", "first", []),
        ("30 * * * *", NEW_YORK, "run", "first", []),
        ("30 2 * * *", "UTC", "run", "first", []),
        ("*/90 * * * *", "UTC", "run", "first",
         ['minute: "*/90": fires only at :00; for every 90 minutes write `@every 1h30m`']),
        ("0 0 30 2 *", "UTC", "run", "first", ["never fires: February has at most 29 days"]),
        ("30 2 * * *", NEW_YORK, "run", "first",
         ["on 2025-03-09 in America/New_York the clocks go from 02:00 to 03:00: 02:30 runs at 03:00"]),
        ("30 2 * * *", NEW_YORK, "skip", "first",
         ["on 2025-03-09 in America/New_York the clocks go from 02:00 to 03:00: 02:30 is left out"]),
        ("30 1 * * *", NEW_YORK, "run", "first",
         [("on 2025-11-02 in America/New_York the clocks go back from 02:00 to 01:00:"
          " 01:30 comes twice and runs the first time only")]),
        ("0,30 1 * * SUN", NEW_YORK, "run", "both",
         [("on 2025-11-02 in America/New_York the clocks go back from 02:00 to 01:00:"
          " 01:00 (and 1 more) comes twice and runs both times")]),
        ("30 2 * * MON", NEW_YORK, "run", "first", []),
        ("@every 1h", NEW_YORK, "run", "first", []),
        ("@manual", NEW_YORK, "run", "first", []),
    ],
)  # fmt: skip
def test_warnings_tell_of_the_clock_changes_of_a_year(
    schedule: str, zone: str, gap: str, overlap: str, expected: list[str]
) -> None:
    assert warnings_of(made(schedule, zone, gap, overlap), ANCHOR) == expected


def test_warnings_look_no_farther_than_asked() -> None:
    trigger = made("30 2 * * *", NEW_YORK)

    assert warnings_of(trigger, ANCHOR, 30 * DAY) == []
    assert len(warnings_of(trigger, ANCHOR, 730 * DAY)) == 2
    assert warnings_of(trigger, MOMENT_MAX) == []
