"""What a cron expression means and what is refused: the table of the dialect, row by row, in wall seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from peregrine.domain.cron import CronError, ScheduleError, parse_cron
from tests.domain.oracle import WALL_EPOCH


def wall(text: str) -> int:
    return int((datetime.fromisoformat(text) - WALL_EPOCH).total_seconds())


def shown(second: int | None) -> str | None:
    return None if second is None else (WALL_EPOCH + timedelta(seconds=second)).isoformat(sep=" ")


def firings(expression: str, after: str, count: int) -> Iterator[str | None]:
    cron, second = parse_cron(expression), wall(after)
    for _ in range(count):
        found = cron.next_wall(second + 1)
        yield shown(found)
        if found is None:
            return
        second = found


# --- Accepted: canonical text -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("0 0 9 * * 1-5", "0 0 9 * * 1-5"),
        ("0 9 * * 1-5", "0 0 9 * * 1-5"),
        ("*/5 * * * *", "0 */5 * * * *"),
        ("  0\t0  9 \t * * 1-5 \n", "0 0 9 * * 1-5"),
        ("0 0 9 * jan-mar mon-Fri", "0 0 9 * JAN-MAR MON-FRI"),
        ("00 05 09 01 02 *", "0 5 9 1 2 *"),
        ("0 0 0 l,lw,15w,l-03 * fril,5#2,MON#l", "0 0 0 L,LW,15W,L-3 * FRIL,5#2,MON#L"),
        ("0 0 0 ? * ?", "0 0 0 ? * ?"),
        ("0 0 0 ?/2 * *", "0 0 0 ?/2 * *"),
        ("5/15 0-30/10 */2 * * *", "5/15 0-30/10 */2 * * *"),
        ("0 0 0 * 1-MAR 1-FRI", "0 0 0 * 1-MAR 1-FRI"),
        ("@yearly", "0 0 0 1 1 *"),
        ("@annually", "0 0 0 1 1 *"),
        ("@monthly", "0 0 0 1 * *"),
        ("@weekly", "0 0 0 * * 0"),
        ("@daily", "0 0 0 * * *"),
        ("@midnight", "0 0 0 * * *"),
        ("@hourly", "0 0 * * * *"),
        (" @Daily ", "0 0 0 * * *"),
        ("@HOURLY", "0 0 * * * *"),
    ],
)
def test_canonical_text_has_six_fields_and_reads_back(expression: str, text: str) -> None:
    cron = parse_cron(expression)

    assert cron.text == text
    assert parse_cron(text) == cron
    assert parse_cron(text).text == text


# --- Accepted: meaning --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        # Fields: second first, five fields have second 0.
        ("30 * * * * *", "2025-01-01T00:00:00", ["2025-01-01 00:00:30", "2025-01-01 00:01:30"]),
        ("30 * * * *", "2025-01-01T00:00:00", ["2025-01-01 00:30:00", "2025-01-01 01:30:00"]),
        ("* * * * * *", "2025-12-31T23:59:58", ["2025-12-31 23:59:59", "2026-01-01 00:00:00"]),
        ("59 59 23 31 12 *", "2025-01-01T00:00:00", ["2025-12-31 23:59:59", "2026-12-31 23:59:59"]),
        # Steps.
        ("0 */20 * * * *", "2025-01-01T00:10:00",
         ["2025-01-01 00:20:00", "2025-01-01 00:40:00", "2025-01-01 01:00:00"]),
        ("0 50/5 * * * *", "2025-01-01T00:00:00",
         ["2025-01-01 00:50:00", "2025-01-01 00:55:00", "2025-01-01 01:50:00"]),
        ("0 10-25/10 * * * *", "2025-01-01T00:00:00",
         ["2025-01-01 00:10:00", "2025-01-01 00:20:00", "2025-01-01 01:10:00"]),
        ("0 0 */5 * * *", "2025-01-01T19:00:00", ["2025-01-01 20:00:00", "2025-01-02 00:00:00"]),
        ("0 */90 * * * *", "2025-01-01T00:00:00", ["2025-01-01 01:00:00", "2025-01-01 02:00:00"]),
        ("0 0 0 */10 * *", "2025-01-01T00:00:00",
         ["2025-01-11 00:00:00", "2025-01-21 00:00:00", "2025-01-31 00:00:00"]),
        ("0 0 0 1 */5 *", "2025-01-01T00:00:00", ["2025-06-01 00:00:00", "2025-11-01 00:00:00", "2026-01-01 00:00:00"]),
        # Lists and ranges.
        ("0 0 8,20-21 * * *", "2025-01-01T08:00:00",
         ["2025-01-01 20:00:00", "2025-01-01 21:00:00", "2025-01-02 08:00:00"]),
        ("0 5-5 * * * *", "2025-01-01T00:00:00", ["2025-01-01 00:05:00", "2025-01-01 01:05:00"]),
        ("0 0 0 1 * SUN-SUN", "2025-06-02T00:00:00", ["2025-06-08 00:00:00", "2025-06-15 00:00:00"]),
        # Weekdays: 0 and 7 are Sunday; 2025-06-01 is a Sunday.
        ("0 0 0 * * 0", "2025-06-01T00:00:00", ["2025-06-08 00:00:00"]),
        ("0 0 0 * * 7", "2025-06-01T00:00:00", ["2025-06-08 00:00:00"]),
        ("0 0 0 * * SUN", "2025-06-01T00:00:00", ["2025-06-08 00:00:00"]),
        ("0 0 0 * * 1", "2025-06-01T00:00:00", ["2025-06-02 00:00:00"]),
        ("0 0 0 * * 6", "2025-06-01T00:00:00", ["2025-06-07 00:00:00"]),
        ("0 0 0 * * FRI-SUN", "2025-06-01T00:00:00",
         ["2025-06-06 00:00:00", "2025-06-07 00:00:00", "2025-06-08 00:00:00"]),
        ("0 0 0 * * 5-7", "2025-06-01T00:00:00", ["2025-06-06 00:00:00", "2025-06-07 00:00:00", "2025-06-08 00:00:00"]),
        ("0 0 0 * * 5-0", "2025-06-01T00:00:00", ["2025-06-06 00:00:00", "2025-06-07 00:00:00", "2025-06-08 00:00:00"]),
        ("0 0 0 * * FRI-SUN/2", "2025-06-01T00:00:00", ["2025-06-06 00:00:00", "2025-06-08 00:00:00"]),
        ("0 0 0 * * 0-7", "2025-06-01T00:00:00", ["2025-06-02 00:00:00", "2025-06-03 00:00:00"]),
        # a/n ends on Saturday, whichever way Sunday is written (robfig).
        ("0 0 0 * * 1/2", "2025-06-01T00:00:00", ["2025-06-02 00:00:00", "2025-06-04 00:00:00", "2025-06-06 00:00:00",
                                                  "2025-06-09 00:00:00"]),
        ("0 0 0 * * 7/3", "2025-06-01T00:00:00", ["2025-06-04 00:00:00", "2025-06-07 00:00:00", "2025-06-08 00:00:00"]),
        # Last days: 2025-08-31 is a Sunday, 2025-11-30 too, 2025-05-31 a Saturday.
        ("0 0 0 L * *", "2025-01-15T00:00:00", ["2025-01-31 00:00:00", "2025-02-28 00:00:00", "2025-03-31 00:00:00"]),
        ("0 0 0 L 2 *", "2023-03-01T00:00:00", ["2024-02-29 00:00:00", "2025-02-28 00:00:00"]),
        ("0 0 0 L-3 * *", "2025-01-15T00:00:00", ["2025-01-28 00:00:00", "2025-02-25 00:00:00"]),
        ("0 0 0 L-30 * *", "2025-01-15T00:00:00", ["2025-03-01 00:00:00", "2025-05-01 00:00:00"]),
        ("0 0 0 LW * *", "2025-05-01T00:00:00", ["2025-05-30 00:00:00", "2025-06-30 00:00:00", "2025-07-31 00:00:00",
                                                 "2025-08-29 00:00:00"]),
        # Nearest working day, inside the month; 1 June 2025 is a Sunday, 1 November 2025 a Saturday.
        ("0 0 0 15W * *", "2025-06-01T00:00:00", ["2025-06-16 00:00:00", "2025-07-15 00:00:00", "2025-08-15 00:00:00"]),
        ("0 0 0 1W * *", "2025-05-15T00:00:00", ["2025-06-02 00:00:00", "2025-07-01 00:00:00", "2025-08-01 00:00:00"]),
        ("0 0 0 1W 11 *", "2025-05-15T00:00:00", ["2025-11-03 00:00:00"]),
        ("0 0 0 31W * *", "2025-08-01T00:00:00", ["2025-08-29 00:00:00", "2025-10-31 00:00:00", "2025-12-31 00:00:00"]),
        ("0 0 0 30W 11 *", "2025-08-01T00:00:00", ["2025-11-28 00:00:00"]),
        ("0 0 0 1W,15W * *", "2025-06-01T00:00:00", ["2025-06-02 00:00:00", "2025-06-16 00:00:00"]),
        # Nth and last weekdays.
        ("0 0 0 * * MON#1", "2025-06-03T00:00:00", ["2025-07-07 00:00:00", "2025-08-04 00:00:00"]),
        ("0 0 0 * * 1#2", "2025-06-03T00:00:00", ["2025-06-09 00:00:00", "2025-07-14 00:00:00"]),
        ("0 0 0 * * 7#1", "2025-06-03T00:00:00", ["2025-07-06 00:00:00"]),
        ("0 0 0 * * MON#5", "2025-06-01T00:00:00", ["2025-06-30 00:00:00", "2025-09-29 00:00:00"]),
        ("0 0 0 * * FRIL", "2025-06-01T00:00:00", ["2025-06-27 00:00:00", "2025-07-25 00:00:00"]),
        ("0 0 0 * * 5L", "2025-06-01T00:00:00", ["2025-06-27 00:00:00", "2025-07-25 00:00:00"]),
        ("0 0 0 * * FRI#L", "2025-06-01T00:00:00", ["2025-06-27 00:00:00", "2025-07-25 00:00:00"]),
        ("0 0 0 * * 7L", "2025-06-01T00:00:00", ["2025-06-29 00:00:00"]),
        ("0 0 0 * * MON#1,FRIL", "2025-06-03T00:00:00", ["2025-06-27 00:00:00", "2025-07-07 00:00:00"]),
        # Leap years; 2100 is none.
        ("0 0 0 29 2 *", "2096-01-01T00:00:00", ["2096-02-29 00:00:00", "2104-02-29 00:00:00"]),
        ("0 0 0 * 2 MON#5", "2025-01-01T00:00:00", ["2044-02-29 00:00:00", "2072-02-29 00:00:00"]),
        ("0 0 0 29 2 *", "9996-03-01T00:00:00", [None]),
    ],
)  # fmt: skip
def test_fires_at(expression: str, after: str, expected: list[str | None]) -> None:
    assert list(firings(expression, after, len(expected))) == expected


# The 13th of June 2025 is a Friday; the 1st a Sunday.
@pytest.mark.parametrize(
    ("days", "weekdays", "june"),
    [
        ("13", "*", [13]),
        ("13", "?", [13]),
        ("?", "FRI", [6, 13, 20, 27]),
        ("13", "FRI", [6, 13, 20, 27]),
        ("14", "FRI", [6, 13, 14, 20, 27]),
        ("*/1", "FRI", [6, 13, 20, 27]),
        ("*", "*/1", list(range(1, 31))),
        ("13", "*/1", [13]),
        # A step makes a field restricted, unlike in Vixie's cron.
        ("*/10", "SUN", [1, 8, 11, 15, 21, 22, 29]),
        ("1-7", "*/7", [1, 2, 3, 4, 5, 6, 7, 8, 15, 22, 29]),
        # So does writing all values out, unlike in croniter.
        ("1-31", "MON", list(range(1, 31))),
        ("13", "0-6", list(range(1, 31))),
        ("1/1", "MON", list(range(1, 31))),
        # L, W and # restrict.
        ("L", "MON#1", [2, 30]),
        ("15W", "SUN#1", [1, 16]),
        ("LW", "FRIL", [27, 30]),
        # A star among others is a star.
        ("*,13", "FRI", [6, 13, 20, 27]),
    ],
)
def test_two_day_fields_match_either_unless_one_is_a_star(days: str, weekdays: str, june: list[int]) -> None:
    mask = parse_cron(f"0 0 0 {days} * {weekdays}").days_mask(0, 30)

    assert [day for day in range(1, 31) if mask >> day & 1] == june


def test_spellings_of_one_meaning_are_equal() -> None:
    assert parse_cron("0 0 9 * * MON-FRI") == parse_cron("0 9 ? * 1-5")
    assert parse_cron("0 0 0 * * FRIL") == parse_cron("0 0 0 * * 5#L")
    assert parse_cron("0 0 0 * * 7#1,7L") == parse_cron("0 0 0 * * SUN#1,SUNL")
    assert parse_cron("0 0 0 13 * *") != parse_cron("0 0 0 13 * 0-6")
    assert parse_cron("0 * * * * *") != parse_cron("0 0-59 0-23 * * *")


@pytest.mark.parametrize(
    ("expression", "periodic"),
    [
        ("0 30 2 * * *", False),
        ("0 0,30 1-4 * * *", False),
        ("0 0-59 0-23 * * *", False),
        ("0 30 2 */2 */3 */2", False),
        ("0 0 0 ? * *", False),
        ("@daily", False),
        ("0 30 * * * *", True),
        ("* 30 2 * * *", True),
        ("0 */15 2 * * *", True),
        ("0 0 2/12 * * *", True),
        ("0 0 1-5/2 * * *", True),
        ("0 30/90 2 * * *", True),
        ("@hourly", True),
    ],
)
def test_named_times_have_no_star_and_no_step_in_the_time(expression: str, periodic: bool) -> None:  # noqa: FBT001
    assert parse_cron(expression).periodic is periodic


@pytest.mark.parametrize(
    ("expression", "first", "end", "count"),
    [
        ("0 0 0 * * *", "2024-01-01", "2024-12-31", 365),
        ("0 0 0 * * *", "2024-01-01", "2025-01-01", 366),
        ("0 0 0 * * *", "2000-01-01", "2400-01-01", 146_097),
        ("0 0 0 * * *", "2000-05-17", "2400-05-17", 146_097),
        ("0 0 0 29 2 *", "2000-01-01", "2400-01-01", 97),
        ("0 0 0 31 12 *", "2000-01-01", "2400-01-01", 400),
        ("0 0 0 * * FRI", "2000-01-01", "2400-01-01", 20_871),
        ("0 0 0 13 * ?", "2000-01-01", "2400-01-01", 4_800),
        ("*/2 * 1-2 * * *", "2025-01-01", "2026-01-01", 365 * 2 * 60 * 30),
        ("0 0 0 30 2 *", "2000-01-01", "2400-01-01", 0),
    ],
)
def test_counts_over_years(expression: str, first: str, end: str, count: int) -> None:
    assert parse_cron(expression).count_walls(wall(f"{first}T00:00:00"), wall(f"{end}T00:00:00")) == count


@pytest.mark.parametrize("days", ["L-30,L-29,L-28", "31,30,29", "31W", "L", "1-31"])
@pytest.mark.parametrize("weekdays", ["*", "MON", "SUN#5", "SATL"])
def test_no_mask_holds_a_day_outside_its_month(days: str, weekdays: str) -> None:
    cron = parse_cron(f"0 0 0 {days} * {weekdays}")
    for length in (28, 29, 30, 31):
        for first in range(7):
            assert cron.days_mask(first, length) & ~((2 << length) - 2) == 0


# --- Warned -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "warning"),
    [
        ("0 */90 * * * *", 'minute: "*/90": fires only at :00; for every 90 minutes write `@every 1h30m`'),
        ("*/90 * * * *", 'minute: "*/90": fires only at :00; for every 90 minutes write `@every 1h30m`'),
        ("*/90 * * * * *", 'second: "*/90": fires only at second 0; for every 90 seconds write `@every 1m30s`'),
        ("0 0 */36 * * *", 'hour: "*/36": fires only in the hour 00:00; for every 36 hours write `@every 36h`'),
        ("0 0 0 */45 * *", 'day of month: "*/45": fires only on day 1; for every 45 days write `@every 45d`'),
        ("0 0 0 * * */10", 'weekday: "*/10": fires only on Sunday; for every 10 days write `@every 10d`'),
        ("0 0 0 1 */18 *", 'month: "*/18": fires only in January'),
        ("0 15/50 * * * *", 'minute: "15/50": fires only at :15; for every 50 minutes write `@every 50m`'),
        ("0 0-10/20 * * * *", 'minute: "0-10/20": fires only at :00; for every 20 minutes write `@every 20m`'),
    ],
)
def test_step_wider_than_its_field_is_accepted_with_a_warning(expression: str, warning: str) -> None:
    assert parse_cron(expression).warnings == (warning,)


@pytest.mark.parametrize("expression", ["0 */60 * * * *", "0 0 */24 * * *", "0 0 0 */31 */12 *", "* * * * * *"])
def test_steps_that_fit_are_not_warned_of(expression: str) -> None:
    assert parse_cron(expression).warnings == ()


# --- Refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "field", "part", "reason"),
    [
        # Count of fields.
        ("", "expression", "", "empty"),
        (" \t ", "expression", "", "empty"),
        ("* * * *", "expression", "* * * *", "4 fields; write six"),
        ("5", "expression", "5", "1 field; write six"),
        ("0 0 0 1 1 * 2030", "expression", "2030", "no year field; use start and end"),
        ("0 0 0 0 0 0 0 0", "expression", "0 0 0 0 0 0 0 0", "8 fields"),
        ("0 " * 128 + "0", "expression", "0 " * 128 + "0", "longer than 256"),
        # Bounds.
        ("60 * * * * *", "second", "60", "60 is out of range; allowed are 0 to 59"),
        ("0 60 * * * *", "minute", "60", "out of range"),
        ("0 0 24 * * *", "hour", "24", "allowed are 0 to 23"),
        ("0 0 0 0 * *", "day of month", "0", "allowed are 1 to 31"),
        ("0 0 0 32 * *", "day of month", "32", "out of range"),
        ("0 0 0 * 0 *", "month", "0", "allowed are 1 to 12"),
        ("0 0 0 * 13 *", "month", "13", "out of range"),
        ("0 0 0 * * 8", "weekday", "8", "allowed are 0 to 7"),
        ("0 5-60 * * * *", "minute", "5-60", "60 is out of range"),
        ("0 24 1 * *", "hour", "24", "out of range"),
        # Names.
        ("0 0 0 * JANUARY *", "month", "JANUARY", "write JAN"),
        ("0 0 0 * sept *", "month", "sept", "write SEP"),
        ("0 0 0 * * monday", "weekday", "monday", "write MON"),
        ("0 0 0 * * MON-FRIDAY", "weekday", "MON-FRIDAY", "write FRI"),
        ("0 0 0 * * MONDAYL", "weekday", "MONDAYL", "write MON"),
        ("0 0 0 * MON *", "month", "MON", "a weekday stands in the last field"),
        ("0 0 0 * * JAN", "weekday", "JAN", "a month stands in the fifth"),
        ("0 0 JAN * * *", "hour", "JAN", "a month stands in the fifth"),
        ("0 0 0 * * XYZ", "weekday", "XYZ", "not a value of this field"),
        # Digits.
        ("0 +1 * * * *", "minute", "+1", "no sign"),
        ("0 001 * * * *", "minute", "001", "one or two digits"),
        ("0 1.5 * * * *", "minute", "1.5", "not a value"),
        ("0 ² * * * *", "minute", "²", "ASCII"),
        ("0 ٣ * * * *", "minute", "٣", "ASCII"),
        ("0 \uff15 * * * *", "minute", "\uff15", "ASCII"),
        ("0 0 0 * * \u017fun", "weekday", "\u017fun", "ASCII"),
        ("0 0 0 * *\u00a0*", "weekday", "*\u00a0*", "ASCII"),
        ("0 0\n0 0 * * *", "minute", "0\n0", "not a value"),
        ("0 0\x0c0 0 * * *", "minute", "0\x0c0", "not a value"),
        # Lists.
        ("0 1,,2 * * * *", "minute", "1,,2", "empty part"),
        ("0 , * * * *", "minute", ",", "empty part"),
        ("0 1, * * * *", "minute", "1,", "empty part"),
        ("0 ,1 * * * *", "minute", ",1", "empty part"),
        ("0 0 0 1,,L * *", "day of month", "1,,L", "empty part"),
        ("0 0 0 * * MON,", "weekday", "MON,", "empty part"),
        ("0 " + ",".join(["1"] * 101) + " * * * *", "minute", ",".join(["1"] * 101), "more than 100"),
        # Ranges.
        ("0 0 22-2 * * *", "hour", "22-2", "write 22-23,0-2"),
        ("0 0 23-0 * * *", "hour", "23-0", "write 23,0"),
        ("0 0 22-2/2 * * *", "hour", "22-2/2", "write 22,0,2"),
        ("0 0 0 * NOV-FEB *", "month", "NOV-FEB", "write NOV-DEC,JAN-FEB"),
        ("0 0 0 28-3 * *", "day of month", "28-3", "write 28-31,1-3"),
        ("0 0 0 * * FRI-MON", "weekday", "FRI-MON", "write FRI-SAT,SUN-MON"),
        ("0 0 0 * * 5-1", "weekday", "5-1", "write 5-6,0-1"),
        ("0 0 0 * * 7-3", "weekday", "7-3", "write 0-3"),
        ("0 1- * * * *", "minute", "1-", "a range is two values"),
        ("0 -5 * * * *", "minute", "-5", "a range is two values"),
        ("0 1-2-3 * * * *", "minute", "1-2-3", "a range is two values"),
        ("0 1--3 * * * *", "minute", "1--3", "a range is two values"),
        # Stars and question marks.
        ("0 *-5 * * * *", "minute", "*-5", "write 0-5"),
        ("0 ** * * * *", "minute", "**", "a star stands alone"),
        ("0 *5 * * * *", "minute", "*5", "a star stands alone"),
        ("0 1-* * * * *", "minute", "1-*", "a star stands alone"),
        ("? * * * * *", "second", "?", "only in the two day fields"),
        ("0 ? * * * *", "minute", "?", "only in the two day fields"),
        ("0 0 ? * * *", "hour", "?", "only in the two day fields"),
        ("0 0 0 * ? *", "month", "?", "only in the two day fields"),
        # Steps.
        ("0 */0 * * * *", "minute", "*/0", "a step of 0"),
        ("0 5/00 * * * *", "minute", "5/00", "a step of 0"),
        ("0 */ * * * *", "minute", "*/", "a number must follow"),
        ("0 */5/2 * * * *", "minute", "*/5/2", "only one step"),
        ("0 */-5 * * * *", "minute", "*/-5", "a step is a plain number"),
        ("0 */+5 * * * *", "minute", "*/+5", "a step is a plain number"),
        ("0 */x * * * *", "minute", "*/x", "a step is a plain number"),
        ("0 0 0 * */FEB *", "month", "*/FEB", "a step is a plain number"),
        ("0 */120 * * * *", "minute", "*/120", "for every 120 minutes write `@every 2h`"),
        ("0 */" + "9" * 240 + " * * * *", "minute", "*/" + "9" * 240, "one or two digits"),
        ("0 /5 * * * *", "minute", "/5", "a value is missing"),
        # L and W in the day of month.
        ("0 0 0 L-0 * *", "day of month", "L-0", "from 1 to 30"),
        ("0 0 0 L-31 * *", "day of month", "L-31", "from 1 to 30"),
        ("0 0 0 L- * *", "day of month", "L-", "from 1 to 30"),
        ("0 0 0 L/2 * *", "day of month", "L/2", "L stands alone"),
        ("0 0 0 L5 * *", "day of month", "L5", "L stands alone"),
        ("0 0 0 5L * *", "day of month", "5L", "L stands alone"),
        ("0 0 0 L-3W * *", "day of month", "L-3W", "W takes one day"),
        ("0 0 0 1-L * *", "day of month", "1-L", "L stands alone"),
        ("0 0 0 W * *", "day of month", "W", "W needs a day"),
        ("0 0 0 0W * *", "day of month", "0W", "out of range"),
        ("0 0 0 32W * *", "day of month", "32W", "out of range"),
        ("0 0 0 1-5W * *", "day of month", "1-5W", "W takes one day"),
        ("0 0 0 15W/2 * *", "day of month", "15W/2", "W takes one day"),
        ("0 0 0 $ * *", "day of month", "$", "write L"),
        ("0 0 0 MON#1 * *", "day of month", "MON#1", "a weekday stands in the last field"),
        ("0 0 0 WED * *", "day of month", "WED", "a weekday stands in the last field"),
        ("0 0 0 JULY * *", "day of month", "JULY", "a month stands in the fifth"),
        ("0 L * * * *", "minute", "L", "not a value"),
        # L and # in the weekday.
        ("0 0 0 * * L", "weekday", "L", "ambiguous"),
        ("0 0 0 * * LW", "weekday", "LW", "not a value"),
        ("0 0 0 * * MON#0", "weekday", "MON#0", "write 1 to 5"),
        ("0 0 0 * * MON#6", "weekday", "MON#6", "write 1 to 5"),
        ("0 0 0 * * MON#", "weekday", "MON#", "write 1 to 5"),
        ("0 0 0 * * #2", "weekday", "#2", "a weekday must stand before #"),
        ("0 0 0 * * MON-FRI#2", "weekday", "MON-FRI#2", "take one weekday"),
        ("0 0 0 * * MON#2/2", "weekday", "MON#2/2", "write 1 to 5"),
        ("0 0 0 * * 1-5L", "weekday", "1-5L", "take one weekday"),
        ("0 0 0 * * 8L", "weekday", "8L", "out of range"),
        ("0 0 0 * * *#2", "weekday", "*#2", "take one weekday"),
        # Not now.
        ("0 0 0 1-7 * +MON", "weekday", "+MON", "not supported"),
        ("0 H * * * *", "minute", "H", "not supported"),
        ("0 H/15 * * * *", "minute", "H/15", "not supported"),
        ("0 0 H(0-3) * * *", "hour", "H(0-3)", "not supported"),
        ("@reboot", "expression", "@reboot", "has no meaning in a service"),
        ("@REBOOT", "expression", "@REBOOT", "has no meaning in a service"),
        ("@fortnightly", "expression", "@fortnightly", "unknown descriptor"),
        ("@wee\u212aly", "expression", "@wee\u212aly", "unknown descriptor"),
        ("@daily 5", "expression", "@daily 5", "stands alone"),
        ("@", "expression", "@", "unknown descriptor"),
    ],
)
def test_refusal_names_field_part_and_reason(expression: str, field: str, part: str, reason: str) -> None:
    with pytest.raises(CronError) as caught:
        parse_cron(expression)

    error = caught.value
    assert (error.field, error.part) == (field, part)
    assert reason in error.reason
    assert str(error).startswith(f"{field}: ")
    assert str(error).endswith(error.reason)
    assert issubclass(CronError, ScheduleError)
    assert error.parameter == "schedule"
    assert str(error).isprintable(), "a message is one clean line"
    assert len(str(error)) < 300


@pytest.mark.parametrize("expression", ["0 0 22-2 * * *", "0 0 22-2/2 * * *", "0 0 0 * NOV-FEB *", "0 0 0 * * 5-1"])
def test_hint_for_a_backwards_range_is_accepted(expression: str) -> None:
    with pytest.raises(CronError) as caught:
        parse_cron(expression)
    mended = expression.replace(caught.value.part, caught.value.reason.rpartition("write ")[2])

    assert parse_cron(mended).text == mended


# --- Impossible ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("0 0 0 30 2 *", "never fires: February has at most 29 days"),
        ("0 0 0 31 2 ?", "never fires: February has at most 29 days"),
        ("0 0 0 30-31 2 *", "never fires: February has at most 29 days"),
        ("0 0 0 30W 2 *", "never fires: February has at most 29 days"),
        ("0 0 0 L-29 2 *", "never fires: February has at most 29 days"),
        ("0 0 0 31 4 *", "never fires: April has at most 30 days"),
        ("0 0 0 31 4,6,9,11 *", "never fires: April, June, September and November have at most 30 days"),
        ("0 0 0 31 2,4 *", "never fires: February and April have at most 30 days"),
        ("0 0 0 L-30 6 *", "never fires: June has at most 30 days"),
    ],
)
def test_date_that_never_comes_is_known_at_once(expression: str, why: str) -> None:
    cron = parse_cron(expression)

    assert cron.impossible == why
    assert cron.next_wall(wall("2025-01-01T00:00:00")) is None
    assert cron.count_walls(wall("2025-01-01T00:00:00"), wall("2525-01-01T00:00:00")) == 0


@pytest.mark.parametrize(
    "expression",
    ["0 0 0 29 2 *", "0 0 0 29W 2 *", "0 0 0 L-28 2 *", "0 0 0 30 2 MON", "0 0 0 31 4,5 *", "0 0 0 * 2 MON#5"],
)
def test_rare_date_is_not_called_impossible(expression: str) -> None:
    assert parse_cron(expression).impossible is None


# --- Time ---------------------------------------------------------------------------------------------------------

NASTY = [
    ",".join(["1"] * 100) + " * * * * *",
    "," * 256,
    "*" * 256,
    "-" * 256,
    "/" * 256,
    "#" * 256,
    "0 0 0 " + ",".join(f"{day % 31 + 1}W" for day in range(70)) + " * *",
    "0 0 0 * * " + ",".join(f"{day % 8}#{day % 5 + 1}" for day in range(60)),
    "0 0 0 " + ",".join(f"L-{day % 30 + 1}" for day in range(50)) + " * *",
    "0 0 0 31 " + ",".join(["2,4,6,9,11"] * 20) + " *",
    " ".join("0" * 128),
    "0 0-59/" + "9" * 240 + " * * * *",
    "9" * 256,
    "@" * 256,
    "0 0 0 * * " + "MON-FRI," * 30 + "MON",
    "\t" * 250 + "* * *",
    "²" * 256,
    "0 0 0 * * " + "L" * 240,
]


def lines_run(expression: str) -> int:
    """How many lines of Python reading *expression* takes: a clock that no neighbour can slow down."""
    count = 0

    def tracer(_frame: object, event: str, _argument: object) -> object:
        nonlocal count
        count += event == "line"
        return tracer

    before = sys.gettrace()
    sys.settrace(tracer)  # type: ignore[arg-type]
    try:
        parse_cron(expression)
    except CronError:
        pass
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("expression", NASTY)
def test_no_expression_is_slow_to_read(expression: str) -> None:
    # A line takes well under a microsecond, so this is a fraction of the 5 ms allowed.
    assert lines_run(expression) < 5_000


def test_time_to_read_grows_no_faster_than_the_text() -> None:
    short, long = (lines_run("0 " + ",".join(["5-7/2"] * count) + " * * * *") for count in (10, 40))

    assert long < 4.5 * short


def test_next_looks_at_few_months_however_rare_the_date() -> None:
    cron = parse_cron("0 0 0 29 2 *")
    looked: list[int] = []

    class Counted(list[int]):
        def __getitem__(self, index: Any) -> Any:
            looked.append(index)
            return super().__getitem__(index)

    object.__setattr__(cron, "_masks", Counted(cron._masks))

    assert shown(cron.next_wall(wall("2096-03-01T00:00:00"))) == "2104-02-29 00:00:00"
    assert len(looked) <= 10
