"""Zones as segments of constant offset: they agree with ``zoneinfo`` and know what clocks skip and repeat."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from peregrine.domain.zone import FOREVER, UTC_ZONE, Zone, ZoneError, _known_keys, find_zone
from tests.domain.oracle import EPOCH, WALL_EPOCH, invented_zone, seams, seconds_of

ZONES = [
    "Africa/Casablanca",
    "Africa/Monrovia",
    "America/Havana",
    "America/New_York",
    "America/Nuuk",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Antarctica/Troll",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "Asia/Pyongyang",
    "Asia/Tehran",
    "Asia/Tokyo",
    "Australia/Lord_Howe",
    "Etc/GMT+5",
    "Europe/Dublin",
    "Europe/Lisbon",
    "Europe/London",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Pacific/Kwajalein",
]


def offset_by_zoneinfo(key: str, instant: int) -> int:
    offset = (EPOCH + timedelta(seconds=instant)).astimezone(ZoneInfo(key)).utcoffset()
    assert offset is not None
    return int(offset.total_seconds())


def wall(text: str) -> int:
    return int((datetime.fromisoformat(text) - WALL_EPOCH).total_seconds())


@pytest.mark.parametrize("key", ZONES)
def test_offset_is_that_of_zoneinfo_around_every_clock_change(key: str) -> None:
    zone = find_zone(key)

    for seam in seams(key, 1996):
        for instant in (seam - 86_400, seam - 1, seam, seam + 1, seam + 86_400):
            assert zone.offset_at(instant) == offset_by_zoneinfo(key, instant)


@pytest.mark.parametrize("key", ZONES)
def test_offset_is_that_of_zoneinfo_in_any_year(key: str) -> None:
    zone, chance = find_zone(key), random.Random(key)  # the same years every time
    first, last = (int((datetime(year, 1, 2, tzinfo=UTC) - EPOCH).total_seconds()) for year in (2, 9998))

    for _ in range(40):
        instant = chance.randrange(first, last)
        assert zone.offset_at(instant) == offset_by_zoneinfo(key, instant)


@pytest.mark.parametrize("key", ["America/New_York", "Australia/Lord_Howe", "Europe/Dublin", "Africa/Cairo"])
@pytest.mark.parametrize("year", [2100, 2101, 2128, 2129, 2400, 3000, 9998])
def test_far_year_borrows_the_very_clock_changes_that_zoneinfo_says(key: str, year: int) -> None:
    start, end = (int((datetime(y, 1, 1, tzinfo=UTC) - EPOCH).total_seconds()) for y in (year, year + 1))
    found = [segment.end for segment in find_zone(key).segments_between(start, end - 1)]

    assert found[-1] == end
    assert found[:-1] == seams(key, year, year)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_zone_agrees_with_zoneinfo_through_its_history() -> None:
    for key in sorted(_known_keys()):
        zone = find_zone(key)
        for seam in seams(key, 1840, 2037):
            for instant in (seam - 1, seam):
                assert zone.offset_at(instant) == offset_by_zoneinfo(key, instant), key


@pytest.mark.parametrize("key", ZONES)
def test_segments_follow_each_other_and_know_their_neighbours(key: str) -> None:
    segments = list(
        find_zone(key).segments_between(seconds_of("1960-01-01T00:00:00Z"), seconds_of("2030-01-01T00:00:00Z"))
    )

    for earlier, later in pairwise(segments):
        assert earlier.start < earlier.end == later.start
        assert earlier.after == later.offset
        assert later.fresh == max(later.start + later.offset, earlier.end + earlier.offset)
        assert earlier.again == min(earlier.end + earlier.offset, later.start + later.offset)


def test_seam_just_before_the_year_ends_is_remembered_in_the_next() -> None:
    # No zone did this yet: a clock set back at 23:30 UTC shows in January what it showed in December.
    seam = seconds_of("2024-12-31T23:30:00Z")
    zone = Zone("Nowhere", invented_zone((0, 3600), (seam, 0)))
    december, january = zone.segment_at(seam), zone.segment_at(seconds_of("2025-01-01T00:00:00Z"))

    assert zone.segment_at(seam - 1).again == seam
    assert december.fresh == january.fresh == seam + 3600
    assert zone.instants_of(seam + 2700) == (seam - 900, seam + 2700)


def test_clocks_to_be_set_back_just_after_the_year_begins_are_foreseen() -> None:
    seam = seconds_of("2025-01-01T00:30:00Z")
    zone = Zone("Nowhere", invented_zone((0, 3600), (seam, 0)))

    assert zone.segment_at(seam - 1).again == seam
    assert zone.segment_at(seconds_of("2024-12-31T23:59:59Z")).again == seam


@pytest.mark.parametrize(
    ("key", "local", "expected"),
    [
        ("UTC", "2025-01-01T00:00:00", ["2025-01-01T00:00:00Z"]),
        ("America/New_York", "2025-07-01T12:00:00", ["2025-07-01T16:00:00Z"]),
        ("America/New_York", "2025-03-09T02:30:00", []),
        ("America/New_York", "2025-03-09T03:00:00", ["2025-03-09T07:00:00Z"]),
        ("America/New_York", "2025-11-02T01:30:00", ["2025-11-02T05:30:00Z", "2025-11-02T06:30:00Z"]),
        ("America/New_York", "2025-11-02T02:00:00", ["2025-11-02T07:00:00Z"]),
        ("Australia/Lord_Howe", "2025-04-06T01:45:00", ["2025-04-05T14:45:00Z", "2025-04-05T15:15:00Z"]),
        ("Pacific/Apia", "2011-12-30T12:00:00", []),
        ("Antarctica/Troll", "2025-10-26T01:30:00", ["2025-10-25T23:30:00Z", "2025-10-26T01:30:00Z"]),
    ],
)
def test_instants_of_a_wall(key: str, local: str, expected: list[str]) -> None:
    assert find_zone(key).instants_of(wall(local)) == tuple(seconds_of(text) for text in expected)


def test_gap_of_a_wall() -> None:
    zone = find_zone("America/New_York")
    gap = zone.gap_of(wall("2025-03-09T02:30:00"))

    assert gap == (seconds_of("2025-03-09T07:00:00Z"), wall("2025-03-09T02:00:00"), wall("2025-03-09T03:00:00"))
    assert zone.gap_of(wall("2025-03-09T01:59:59")) is None
    assert zone.gap_of(wall("2025-03-09T03:00:00")) is None
    assert zone.gap_of(wall("2025-11-02T01:30:00")) is None


def test_utc_is_one_endless_segment_without_looking_anything_up() -> None:
    segment = UTC_ZONE.segment_at(0)

    assert (segment.start, segment.end, segment.offset) == (-FOREVER, FOREVER, 0)
    assert find_zone("UTC") is UTC_ZONE
    assert find_zone("Etc/UTC").source is None
    assert find_zone("UTC").gap_of(0) is None


def test_one_zone_is_shared_and_keeps_what_it_found(monkeypatch: pytest.MonkeyPatch) -> None:
    zone = find_zone("Asia/Kolkata")
    zone.offset_at(seconds_of("2025-01-01T00:00:00Z"))

    def probed_again(*_: object) -> int:
        raise AssertionError("looked up twice")

    monkeypatch.setattr(Zone, "_probe", probed_again)
    assert find_zone("Asia/Kolkata") is zone
    assert zone.offset_at(seconds_of("2025-12-31T23:59:59Z")) == 19_800


def test_what_a_zone_keeps_is_bounded_however_far_one_asks() -> None:
    zone = Zone("Europe/Paris", ZoneInfo("Europe/Paris"))
    zone.offset_at(seconds_of("0300-06-01T00:00:00Z"))
    zone.offset_at(seconds_of("1700-06-01T00:00:00Z"))
    for _ in zone.segments_between(seconds_of("2101-01-01T00:00:00Z"), seconds_of("2600-01-01T00:00:00Z")):
        pass

    assert len(zone._years) == 1 + 14, "everything before history is one year, and there are 14 kinds of year"


@pytest.mark.parametrize("instant", [-(10**15), -62_135_596_800, 253_402_300_799, 10**15])
@pytest.mark.parametrize("key", ["America/New_York", "Pacific/Kiritimati"])
def test_the_ends_of_time_have_an_offset_too(key: str, instant: int) -> None:
    assert abs(find_zone(key).offset_at(instant)) < 86_400
    assert list(find_zone(key).segments_between(instant, instant))


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("", "is empty"),
        ("+02:00", "fixed offset"),
        ("-05", "fixed offset"),
        ("+0530", "fixed offset"),
        ("UTC+2", "fixed offset"),
        ("GMT-03:00", "fixed offset"),
        ("utc", 'write "UTC"'),
        ("Z", 'write "UTC"'),
        ("europe/berlin", 'write "Europe/Berlin"'),
        ("Europe/berlin", 'write "Europe/Berlin"'),
        ("AMERICA/NEW_YORK", 'write "America/New_York"'),
        ("Europe/Atlantis", "unknown time zone"),
        ("America", "unknown time zone"),
        ("America/New York", "not a time zone name"),
        ("../x", "not a time zone name"),
        ("../../etc/passwd", "not a time zone name"),
        ("Europe/../UTC", "not a time zone name"),
        ("./UTC", "not a time zone name"),
        ("/etc/localtime", "not a time zone name"),
        ("/usr/share/zoneinfo/UTC", "not a time zone name"),
        ("Europe//Berlin", "not a time zone name"),
        ("Europe/Berlin/", "not a time zone name"),
        ("Europe\\Berlin", "not a time zone name"),
        ("Europe/Berlin\n", "not a time zone name"),
        (" Europe/Berlin", "not a time zone name"),
        ("Europe/Berlin\x00", "not a time zone name"),
        ("Europe/Zürich", "not a time zone name"),
        ("C:UTC", "not a time zone name"),
        ("right/UTC", "unknown time zone"),
        ("posix/UTC", "unknown time zone"),
        ("posixrules", "unknown time zone"),
        ("zone.tab", "not a time zone name"),
        ("tzdata.zi", "not a time zone name"),
        ("leapseconds", "unknown time zone"),
        ("localtime", "depends on the machine"),
        ("local", "depends on the machine"),
        ("Factory", "depends on the machine"),
        ("A" * 65, "longer than 64"),
        ("A" * 100_000, "longer than 64"),
    ],
)
def test_odd_names_are_refused_with_a_reason(key: str, reason: str) -> None:
    with pytest.raises(ZoneError) as caught:
        find_zone(key)

    assert reason in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    "key", ["GMT", "EST5EDT", "Etc/GMT+5", "US/Eastern", "America/Argentina/Buenos_Aires", "Asia/Kolkata"]
)
def test_every_iana_name_is_taken(key: str) -> None:
    assert find_zone(key).key == key
