"""Owns the brute-force answer to "when does this schedule fire"; must not know the engine, and shares no line with it.

It reads an expression by asking of each single value "does this item say yes to you?", and it finds instants by
walking the zone's minutes (or seconds) through ``zoneinfo`` and looking at what the wall shows. Slow and plain.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property, lru_cache
from io import BytesIO
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
WALL_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - a wall has no zone
MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
WEEKDAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
TWO_DAYS = 2 * 86_400
MADE_UP_MAX = 3 * 3600


def seconds_of(text: str) -> int:
    """The instant of an ISO text with offset, in seconds."""
    return int((datetime.fromisoformat(text) - EPOCH).total_seconds())


def invented_zone(*changes: tuple[int, int]) -> ZoneInfo:
    """A zone of one's own: from each instant on, that offset. Before the first it has the first one's offset."""
    offsets = [offset for _, offset in changes]
    return ZoneInfo.from_file(
        BytesIO(
            struct.pack(">4sc15s6l", b"TZif", b"\0", b"", 0, 0, 0, len(changes), len(changes), 4)
            + struct.pack(f">{len(changes)}l", *(instant for instant, _ in changes))
            + bytes(range(len(changes)))
            + b"".join(struct.pack(">lBB", offset, 0, 0) for offset in offsets)
            + b"ODD\0"
        ),
        key="Nowhere",
    )


@lru_cache(maxsize=64)
def walk(zone: str | ZoneInfo, start: int, end: int, step: int) -> list[tuple[int, datetime]]:
    """Every *step*-th instant of [start, end) with its wall."""
    info = ZoneInfo(zone) if isinstance(zone, str) else zone
    instants = range(start, end, step)
    return [(instant, datetime.fromtimestamp(instant, info).replace(tzinfo=None, fold=0)) for instant in instants]


@lru_cache(maxsize=256)
def seams(zone: str, first_year: int = 1970, last_year: int = 2037) -> list[int]:
    """The instants at which the offset changes, found by looking at each day and then at each half of it."""
    info = ZoneInfo(zone)

    def offset(instant: int) -> timedelta | None:
        return datetime.fromtimestamp(instant, info).utcoffset()

    found = []
    low = int((datetime(first_year, 1, 1, tzinfo=UTC) - EPOCH).total_seconds())
    last = int((datetime(last_year, 12, 31, tzinfo=UTC) - EPOCH).total_seconds())
    before = offset(low)
    while low < last:
        high = low + 86_400
        after = offset(high)
        if after != before:
            early, late = low, high
            while late - early > 1:
                middle = (early + late) // 2
                if offset(middle) == before:
                    early = middle
                else:
                    late = middle
            found.append(late)
        low, before = high, after
    return found


@dataclass(frozen=True)
class Oracle:
    """One expression in one zone under one pair of settings."""

    expression: str
    zone: str | ZoneInfo = "UTC"
    gap: str = "run"
    overlap: str = "first"

    @cached_property
    def fields(self) -> list[str]:
        parts = self.expression.upper().split()
        return parts if len(parts) == 6 else ["0", *parts]

    @cached_property
    def seconds(self) -> list[int]:
        return [value for value in range(60) if says_yes(self.fields[0], value, 0)]

    @cached_property
    def minutes(self) -> set[int]:
        return {value for value in range(60) if says_yes(self.fields[1], value, 0)}

    @cached_property
    def hours(self) -> set[int]:
        return {value for value in range(24) if says_yes(self.fields[2], value, 0)}

    @property
    def periodic(self) -> bool:
        return any(sign in "".join(self.fields[:3]) for sign in "*?/")

    def day_matches(self, day: date) -> bool:
        if not says_yes(self.fields[4], day.month, 1, MONTHS):
            return False
        by_number = any(number_item_says_yes(item, day) for item in self.fields[3].split(","))
        by_weekday = any(weekday_item_says_yes(item, day) for item in self.fields[5].split(","))
        if is_star(self.fields[3]) or is_star(self.fields[5]):
            return by_number and by_weekday
        return by_number or by_weekday

    def minute_matches(self, wall: datetime) -> bool:
        return wall.hour in self.hours and wall.minute in self.minutes and self._day_matches_once(wall.date())

    @cached_property
    def _days(self) -> dict[date, bool]:
        return {}

    def _day_matches_once(self, day: date) -> bool:
        if day not in self._days:
            self._days[day] = self.day_matches(day)
        return self._days[day]

    def instants(self, start: int, end: int, *, step: int = 60, around: int = TWO_DAYS) -> list[int]:
        """Every firing instant in [start, end); with ``step=60`` clocks must change on whole minutes."""
        shown: dict[datetime, list[int]] = {}
        fired: set[int] = set()
        before: datetime | None = None
        stride = timedelta(seconds=step)
        for instant, wall in walk(self.zone, start - around, end + around, step):
            if before is not None and wall - before > stride and self._made_up(before, wall, step):
                fired.add(instant)
            before = wall
            if (step == 60 or wall.second in self.seconds) and self.minute_matches(wall):
                shown.setdefault(wall, []).append(instant)
        for wall, passes in shown.items():
            for instant in self._passes(passes):
                fired.update(instant + second for second in self._seconds(wall, step))
        return sorted(instant for instant in fired if start <= instant < end)

    def _seconds(self, wall: datetime, step: int) -> list[int]:
        if step == 60:
            assert wall.second == 0, "walk this zone by seconds"
            return self.seconds
        return [0] if wall.second in self.seconds else []

    def _passes(self, passes: list[int]) -> list[int]:
        if self.periodic or self.overlap == "both":
            return passes
        return passes[:1] if self.overlap == "first" else passes[-1:]

    def _made_up(self, before: datetime, after: datetime, step: int) -> bool:
        """Whether a jump of the wall swallowed a named moment that is to be made up."""
        missing = int((after - before).total_seconds()) - step
        if self.periodic or self.gap != "run" or missing > MADE_UP_MAX:
            return False
        walls = (before + timedelta(seconds=gone) for gone in range(step, step + missing, step))
        return any(self.minute_matches(wall) and self._seconds(wall, step) for wall in walls)

    def days(self, first: date, count: int) -> Iterator[date]:
        """The matching days among *count* days from *first*."""
        for ordinal in range(first.toordinal(), min(first.toordinal() + count, date.max.toordinal() + 1)):
            if self.day_matches(date.fromordinal(ordinal)):
                yield date.fromordinal(ordinal)


def says_yes(text: str, value: int, low: int, names: list[str] | None = None) -> bool:
    return any(item_says_yes(item, value, low, names or []) for item in text.split(","))


def item_says_yes(item: str, value: int, low: int, names: list[str]) -> bool:
    body, _, step = item.partition("/")
    if body in ("*", "?"):
        return (value - low) % int(step or 1) == 0
    first, dash, last = body.partition("-")
    begin = number_of(first, low, names)
    if dash:
        return begin <= value <= number_of(last, low, names) and (value - begin) % int(step or 1) == 0
    if step:
        return begin <= value and (value - begin) % int(step) == 0
    return value == begin


def number_of(text: str, low: int, names: list[str]) -> int:
    return names.index(text) + low if text in names else int(text)


def is_star(text: str) -> bool:
    return any(item in ("*", "?", "*/1", "?/1", "*/01", "?/01") for item in text.split(","))


def number_item_says_yes(item: str, day: date) -> bool:
    if item == "LW":
        return day == last_working_day(day)
    if item.startswith("L"):
        later = day + timedelta(days=int(item[2:] or 0))
        return later.month == day.month and (later + timedelta(days=1)).month != day.month
    if item.endswith("W"):
        try:
            asked = day.replace(day=int(item[:-1]))
        except ValueError:
            return False
        candidates = [asked + timedelta(days=away) for away in (0, -1, 1, -2, 2)]
        return day == next(one for one in candidates if one.month == day.month and one.isoweekday() < 6)
    return item_says_yes(item, day.day, 1, [])


def last_working_day(day: date) -> date:
    last = day
    while (last + timedelta(days=1)).month == day.month:
        last += timedelta(days=1)
    while last.isoweekday() > 5:
        last -= timedelta(days=1)
    return last


def weekday_item_says_yes(item: str, day: date) -> bool:
    today = day.isoweekday() % 7
    if "#" in item:
        name, _, nth = item.partition("#")
        if number_of(name, 0, WEEKDAYS) % 7 != today:
            return False
        return (day + timedelta(days=7)).month != day.month if nth == "L" else (day.day - 1) // 7 + 1 == int(nth)
    if item.endswith("L"):
        return number_of(item[:-1], 0, WEEKDAYS) % 7 == today and (day + timedelta(days=7)).month != day.month
    body, slash, _ = item.partition("/")
    first, dash, last = body.partition("-")
    if not dash:
        if first == "7":
            item = item.replace("7", "0", 1)
        return item_says_yes(item, today, 0, WEEKDAYS)
    begin, end = number_of(first, 0, WEEKDAYS), number_of(last, 0, WEEKDAYS)
    if end == 0 and begin > 0:
        end = 7
    numeric = f"{begin}-{end}{item[len(body) :] if slash else ''}"
    return any(item_says_yes(numeric, value, 0, []) for value in ({today, 7} if today == 0 else {today}))


# --- Expressions to try -------------------------------------------------------------------------------------------


def _cased(name: str) -> st.SearchStrategy[str]:
    return st.sampled_from([name, name.lower(), name.title()])


def _value(low: int, high: int, names: list[str]) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    plain = st.one_of(number.map(str), number.map(lambda value: f"{value:02d}"))
    return st.one_of(plain, st.sampled_from(names).flatmap(_cased)) if names else plain


@st.composite
def _item(draw: st.DrawFn, low: int, high: int, names: list[str]) -> str:
    """One ordinary list part: value, range, step."""
    form = draw(st.sampled_from(["value", "value", "range", "star/step", "value/step", "range/step"]))
    step = f"/{draw(st.integers(1, high + 3))}" if form.endswith("step") else ""
    if form.startswith("star"):
        return f"*{step}"
    if form.startswith("value"):
        return draw(_value(low, high, names)) + step
    begin = draw(st.integers(low, high))
    end = draw(st.integers(begin, high))
    return f"{begin}-{end}{step}"


def _field(low: int, high: int, names: list[str], special: st.SearchStrategy[str] | None) -> st.SearchStrategy[str]:
    item: st.SearchStrategy[str] = _item(low, high, names)
    if special is not None:
        item = st.one_of(item, item, special)
    return st.lists(item, min_size=1, max_size=3).map(",".join)


_LAST_DAYS = st.one_of(
    st.sampled_from(["L", "l", "LW", "lw", "?"]),
    st.integers(1, 30).map(lambda days: f"L-{days}"),
    st.integers(1, 31).map(lambda day: f"{day}W"),
)


@st.composite
def _special_weekday(draw: st.DrawFn) -> str:
    day = draw(_value(0, 7, WEEKDAYS))
    form = draw(st.sampled_from(["#1", "#2", "#3", "#4", "#5", "#L", "L", "-SUN", "-7", "-0"]))
    return day if form == "-0" and day in ("0", "00", "7", "07") else day + form


MONTH_DAYS = st.one_of(st.sampled_from(["*", "?", "*/1", "1-31"]), _field(1, 31, [], _LAST_DAYS))
MONTH_FIELDS = st.one_of(st.just("*"), _field(1, 12, MONTHS, None))
WEEK_DAYS = st.one_of(st.sampled_from(["*", "?", "*/1", "0-6"]), _field(0, 6, WEEKDAYS, _special_weekday()))


@st.composite
def expressions(draw: st.DrawFn) -> str:
    """Six fields, anything the dialect knows, sparse enough in seconds to be walked."""
    second = draw(st.one_of(st.just("0"), _field(0, 59, [], None), st.just("*")))
    minute = draw(st.one_of(st.just("*"), _field(0, 59, [], None)))
    hour = draw(st.one_of(st.just("*"), _field(0, 23, [], None)))
    days = draw(st.one_of(st.just("*"), MONTH_DAYS))
    months = draw(MONTH_FIELDS)
    weekdays = draw(st.one_of(st.just("*"), WEEK_DAYS))
    return " ".join((second, minute, hour, days, months, weekdays))


@st.composite
def night_expressions(draw: st.DrawFn) -> str:
    """Six fields that fire around the hours in which clocks change, on most days."""
    second = draw(st.sampled_from(["0", "0", "0", "30", "0,59", "*/20", "5/25"]))
    minute = draw(
        st.one_of(
            st.sampled_from(["0", "30", "15,45", "0-59", "*", "*/15", "59", "0-10", "1", "45/5"]),
            _field(0, 59, [], None),
        )
    )
    hour = draw(
        st.one_of(
            st.sampled_from(["0", "1", "2", "3", "0-3", "1-2", "23", "22-23", "23,0,1", "*", "*/2", "0,2"]),
            _field(0, 23, [], None),
        )
    )
    days = draw(st.sampled_from(["*", "*", "*", "?", "*/2", "1-31", "L,1", "LW", "8-14"]))
    weekdays = draw(st.sampled_from(["*", "*", "*", "SUN", "SAT,SUN", "FRI-SUN", "SUN#L,SUN#2", "0-6"]))
    return f"{second} {minute} {hour} {days} * {weekdays}"
