"""Moments and durations: what is written is read back, and what cannot be read says how to write it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peregrine.domain.moment import (
    DAY,
    HOUR,
    MINUTE,
    MOMENT_MAX,
    MOMENT_MIN,
    SECOND,
    format_duration,
    format_moment,
    from_datetime,
    parse_duration,
    parse_moment,
    to_datetime,
)

MOMENTS = st.integers(MOMENT_MIN, MOMENT_MAX)
DURATIONS = st.one_of(st.integers(0, DAY), st.integers(0, MOMENT_MAX))


@given(MOMENTS)
def test_a_moment_is_read_as_it_was_written(moment: int) -> None:
    assert parse_moment(format_moment(moment)) == moment


@given(MOMENTS)
def test_a_moment_is_a_datetime_and_back(moment: int) -> None:
    assert from_datetime(to_datetime(moment)) == moment


@given(MOMENTS, MOMENTS)
def test_whole_seconds_sort_as_they_follow_each_other(one: int, two: int) -> None:
    one, two = one // SECOND * SECOND, two // SECOND * SECOND

    assert (format_moment(one) < format_moment(two)) == (one < two)


@given(st.integers(MOMENT_MIN + DAY, MOMENT_MAX - DAY), st.integers(-23 * 60, 23 * 60))
def test_an_offset_changes_the_text_not_the_moment(moment: int, minutes: int) -> None:
    value = to_datetime(moment // SECOND * SECOND).astimezone(timezone(timedelta(minutes=minutes)))

    assert parse_moment(value.isoformat()) == from_datetime(value)


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_datetime_is_cut_never_rounded_up(value: datetime) -> None:
    cut = to_datetime(from_datetime(value))

    assert timedelta(0) <= value - cut < timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t00:00:00z", 0),
        ("1970-01-01 00:00:00Z", 0),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T19:00:00-05:00", 0),
        ("1970-01-01T00:00:00.2Z", 200),
        ("1970-01-01T00:00:00.2509999Z", 250),
        ("1969-12-31T23:59:59.999Z", -1),
        ("2000-02-29T00:00:00Z", 951_782_400_000),
        ("0001-01-01T00:00:00Z", MOMENT_MIN),
        ("9999-12-31T23:59:59.999Z", MOMENT_MAX),
        ("2026-01-01T00:00:00-00:00", 1_767_225_600_000),
    ],
)
def test_moments_that_can_be_read(text: str, moment: int) -> None:
    assert parse_moment(text) == moment


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-01-01",
        "2026-01-01T00:00Z",
        "2026-01-01T00:00:00",
        "2026-01-01T00:00:00+0100",
        "2026-01-01T00:00:00+24:00",
        "2026-01-01T00:00:00+01:60",
        "2026-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01T00:00:60Z",
        "2026-01-01T00:00:00.Z",
        "2026-01-01T00:00:00.1234567890Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "٢٠٢٦-01-01T00:00:00Z",
        " 2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00Z\n",
    ],
)
def test_moments_that_can_not_be_read(text: str) -> None:
    with pytest.raises(ValueError, match=r"moment|offset"):
        parse_moment(text)


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (250, "1970-01-01T00:00:00.250Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (MOMENT_MIN, "0001-01-01T00:00:00Z"),
        (MOMENT_MAX, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_how_a_moment_is_written(moment: int, text: str) -> None:
    assert format_moment(moment) == text


def test_a_datetime_without_zone_names_no_moment() -> None:
    with pytest.raises(ValueError, match="zone"):
        from_datetime(datetime(2026, 1, 1))  # noqa: DTZ001 - the subject of this test


# ── durations ────────────────────────────────────────────────────────────────────────────────────


@given(DURATIONS)
def test_a_duration_is_read_as_it_was_written(duration: int) -> None:
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (0, "0s"),
        (1, "0.001s"),
        (999, "0.999s"),
        (1_500, "1.5s"),
        (45 * SECOND, "45s"),
        (MINUTE, "1m"),
        (2 * MINUTE, "2m"),
        (HOUR, "1h"),
        (90 * MINUTE, "1h30m"),
        (HOUR + 1, "1h0.001s"),
        (DAY, "24h"),
        (HOUR + 2 * MINUTE + 3 * SECOND + 40, "1h2m3.04s"),
        (-90 * MINUTE, "-1h30m"),
    ],
)
def test_how_a_duration_is_written(duration: int, text: str) -> None:
    assert format_duration(duration) == text


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("0s", 0),
        ("45s", 45 * SECOND),
        ("1.5s", 1_500),
        ("2m0s", 2 * MINUTE),
        ("1h30m", 90 * MINUTE),
        ("1h0m0s", HOUR),
        ("2d", 2 * DAY),
        ("1d12h", 36 * HOUR),
        ("250ms", 250),
        ("1s250ms", 1_250),
        ("0.0005s", 0),
        ("1.9999s", 1_999),
        ("0.5h", 30 * MINUTE),
        ("PT2M", 2 * MINUTE),
        ("pt1h30m", 90 * MINUTE),
        ("P1D", DAY),
        ("P1W", 7 * DAY),
        ("PT0.5S", 500),
        ("P1DT1S", DAY + SECOND),
    ],
)
def test_durations_that_can_be_read(text: str, duration: int) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "1.5",
        "s",
        "-5s",
        "+5s",
        "5 s",
        " 5s",
        "5s ",
        "5s\n",
        "5S",
        "30m1h",
        "1m1m",
        "1h30",
        ".5s",
        "5.s",
        "1e3s",
        "٥s",
        "P",
        "PT",
        "P1DT",
        "P1Y",
        "P1M",
        "PT1",
        "P1W1D ",
        "1us",
        "9" * 13 + "s",
        "999999999999d",
        "1" * 65 + "s",
    ],
)
def test_durations_that_can_not_be_read(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@given(st.text(max_size=20))
def test_any_text_is_a_duration_or_says_how_to_write_one(text: str) -> None:
    duration, said = outcome_of(parse_duration, text)

    assert "duration" in said or 0 <= duration <= MOMENT_MAX


@given(st.text(max_size=40))
def test_any_text_is_a_moment_or_says_how_to_write_one(text: str) -> None:
    moment, said = outcome_of(parse_moment, text)

    assert "moment" in said or "offset" in said or MOMENT_MIN <= moment <= MOMENT_MAX


def outcome_of(parse: Callable[[str], int], text: str) -> tuple[int, str]:
    """What was read, or minus infinity (nearly) and what was said."""
    try:
        return parse(text), ""
    except ValueError as error:
        return 2 * MOMENT_MIN, str(error)
