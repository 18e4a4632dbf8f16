"""Owns six- and five-field cron expressions: parse, canonical text, match; must not know zones and tasks.

Dialect: seconds first, as robfig/cron v3, made strict where that is sloppy, plus ``7`` = Sunday, ``L``, ``W``,
``#`` and five fields (second 0). The meaning, row by row, is the table in ``docs`` on cron; the tests follow it.

Everything here speaks **wall seconds**: seconds since 1970-01-01T00:00:00 as a clock on the wall counts them,
without any zone. ``zone`` and ``trigger`` turn instants into walls and back; no ``datetime`` crosses the border.

The engine is five integers and a rule. Seconds, minutes, hours and months are bit sets, so "the next one at or
after v" is one shift and one lowest bit. The two day fields with L, W, # and their OR become **one mask of days**
that depends only on the weekday of the 1st and the length of the month: 28 masks, made on first use. Stepping
never sees L, W or #.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Final, NamedTuple, NoReturn

TEXT_MAX: Final = 256
"""Longest expression in characters."""

ITEMS_MAX: Final = 100
"""Most parts of one comma list."""

DAY_SECONDS: Final = 86_400
_EPOCH_ORDINAL: Final = date(1970, 1, 1).toordinal()
_FIRST_DAY: Final = date.min.toordinal() - _EPOCH_ORDINAL
_LAST_DAY: Final = date.max.toordinal() - _EPOCH_ORDINAL
WALL_MIN: Final = _FIRST_DAY * DAY_SECONDS
WALL_MAX: Final = (_LAST_DAY + 1) * DAY_SECONDS - 1
"""The last wall second of the year 9999."""

_LENGTHS: Final = (0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_WEEKLY: Final = sum(1 << week * 7 for week in range(5))
_DESCRIPTORS: Final = {
    "@yearly": "0 0 0 1 1 *",
    "@annually": "0 0 0 1 1 *",
    "@monthly": "0 0 0 1 * *",
    "@weekly": "0 0 0 * * 0",
    "@daily": "0 0 0 * * *",
    "@midnight": "0 0 0 * * *",
    "@hourly": "0 0 * * * *",
}


class ScheduleError(ValueError):
    """The schedule or its zone can't be accepted: mend the field that ``parameter`` names."""

    def __init__(self, message: str, *, parameter: str = "schedule") -> None:
        super().__init__(message)
        self.parameter = parameter


class CronError(ScheduleError):
    """A cron expression is wrong: ``field`` and ``part`` say where, ``reason`` says why and what to write."""

    def __init__(self, field: str, part: str, reason: str) -> None:
        super().__init__(f'{field}: "{_shown(part)}": {reason}')
        self.field = field
        self.part = part
        self.reason = reason


def _shown(part: str) -> str:
    """*part* fit for a message: no control characters, not longer than a line."""
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in part[:61])
    return text if len(part) <= 60 else text[:60] + "…"


# --- The six fields ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class FieldKind:
    """What may stand in a field: its name in messages, its bounds, its names, and the unit of a step."""

    name: str
    low: int
    high: int
    names: dict[str, int]
    plural: str


MONTH_NAMES: Final = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
WEEKDAY_NAMES: Final = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_MONTHS: Final = {name[:3].upper(): number for number, name in enumerate(MONTH_NAMES, start=1)}
_WEEKDAYS: Final = {name[:3].upper(): number for number, name in enumerate(WEEKDAY_NAMES)}

_ALL_NAMES: Final = _MONTHS | _WEEKDAYS

SECOND: Final = FieldKind("second", 0, 59, {}, "seconds")
MINUTE: Final = FieldKind("minute", 0, 59, {}, "minutes")
HOUR: Final = FieldKind("hour", 0, 23, {}, "hours")
DAY: Final = FieldKind("day of month", 1, 31, {}, "days")
MONTH: Final = FieldKind("month", 1, 12, _MONTHS, "months")
WEEKDAY: Final = FieldKind("weekday", 0, 6, _WEEKDAYS, "days")
"""Sunday is 0; 7 is read as another spelling of it, so the days still end on Saturday, 6."""

_LONG_NAMES: Final = {name.upper(): name[:3].upper() for name in (*MONTH_NAMES, *WEEKDAY_NAMES)} | {
    "TUES": "TUE",
    "WEDS": "WED",
    "THUR": "THU",
    "THURS": "THU",
    "JUNE": "JUN",
    "JULY": "JUL",
    "SEPT": "SEP",
}


class _Parsed(NamedTuple):
    """One field read: its bits, whether it counts as a star, and its text in canonical spelling."""

    bits: int
    star: bool
    text: str


@dataclass(frozen=True, slots=True)
class MonthDays:
    """The day-of-month field: plain days, ``L-n`` (bit n; bit 0 is ``L``), ``nW`` (bit n) and ``LW``."""

    star: bool
    days: int = 0
    before_last: int = 0
    nearest: int = 0
    last_working: bool = False


@dataclass(frozen=True, slots=True)
class WeekDays:
    """The weekday field: every such day, the nth of the month (bit weekday * 5 + n - 1), the last of the month."""

    star: bool
    days: int = 0
    nth: int = 0
    last: int = 0


@dataclass(frozen=True, slots=True)
class Cron:
    """One parsed expression. Equal when it means the same; ``text`` is the canonical six-field spelling.

    Shape:   pure and immutable but for memos (``_masks``, ``_years``) that only ever repeat themselves.
    Units:   wall seconds in, wall seconds out.
    """

    seconds: int
    minutes: int
    hours: int
    month_days: MonthDays
    months: int
    week_days: WeekDays
    periodic: bool
    """Whether ``*``, ``?`` or ``/`` stands in second, minute or hour: such a schedule follows real time."""

    text: str = field(compare=False)
    warnings: tuple[str, ...] = field(default=(), compare=False)
    impossible: str | None = field(default=None, init=False, compare=False)
    """Why no day can ever match, or None."""

    _first_second: int = field(init=False, compare=False, repr=False)
    _first_of_hour: int = field(init=False, compare=False, repr=False)
    _first_of_day: int = field(init=False, compare=False, repr=False)
    _masks: list[int] = field(init=False, compare=False, repr=False)
    _years: dict[tuple[int, bool], int] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        put = object.__setattr__
        first_second = _lowest(self.seconds)
        put(self, "_first_second", first_second)
        put(self, "_first_of_hour", _lowest(self.minutes) * 60 + first_second)
        put(self, "_first_of_day", _lowest(self.hours) * 3600 + self._first_of_hour)
        put(self, "_masks", [-1] * 28)
        put(self, "_years", {})
        put(self, "impossible", _impossible(self))

    def matches(self, wall: int) -> bool:
        """Whether the wall second *wall* is one of the schedule's."""
        return self.next_wall(wall) == wall

    def next_wall(self, wall: int) -> int | None:
        """The least matching wall second at or after *wall*; None when the year 9999 ends without one."""
        if not WALL_MIN <= wall <= WALL_MAX:
            if wall > WALL_MAX:
                return None
            wall = WALL_MIN
        day, second = divmod(wall, DAY_SECONDS)
        today = date.fromordinal(day + _EPOCH_ORDINAL)
        month, number = today.month, today.day
        if self.months >> month & 1:
            # Day 0 was a Thursday, so day + 4 counts weekdays from Sunday; the 1st is `number - 1` days back.
            mask = self.days_mask((day - number + 5) % 7, month_length(today.year, month))
            if mask >> number & 1:
                time = self._time_from(second)
                if time >= 0:
                    return day * DAY_SECONDS + time
            later = mask >> number + 1
            if later:
                return (day + (later & -later).bit_length()) * DAY_SECONDS + self._first_of_day
        return self._next_month(today.year, month)

    def count_walls(self, low: int, high: int) -> int:
        """How many wall seconds match in [*low*, *high*).

        Shape:   days are counted by month masks and whole years by their kind, seconds by bits: no stepping.
        """
        low, high = max(low, WALL_MIN), min(high, WALL_MAX + 1)
        if low >= high:
            return 0
        first_day, first_second = divmod(low, DAY_SECONDS)
        last_day, last_second = divmod(high, DAY_SECONDS)
        total = self._count_days(first_day, last_day) * self._times_before(DAY_SECONDS)
        if first_second and self._count_days(first_day, first_day + 1):
            total -= self._times_before(first_second)
        if last_second and self._count_days(last_day, last_day + 1):
            total += self._times_before(last_second)
        return total

    def count_times(self, low: int, high: int) -> int:
        """How many times of day match in [*low*, *high*), seconds of any one day."""
        return self._times_before(high) - self._times_before(low)

    def days_mask(self, first: int, length: int) -> int:
        """The matching days (bit n = day n) of a month whose 1st is weekday *first* and which has *length* days."""
        index = (length - 28) * 7 + first
        mask = self._masks[index]
        if mask < 0:
            mask = self._masks[index] = _days_mask(self.month_days, self.week_days, first, length)
        return mask

    def _time_from(self, second: int) -> int:
        """The least matching second of a day at or after *second*, or -1."""
        hour, rest = divmod(second, 3600)
        if self.hours >> hour & 1:
            minute, second = divmod(rest, 60)
            if self.minutes >> minute & 1:
                later = self.seconds >> second
                if later:
                    return hour * 3600 + minute * 60 + second + (later & -later).bit_length() - 1
            later = self.minutes >> minute + 1
            if later:
                return hour * 3600 + (minute + (later & -later).bit_length()) * 60 + self._first_second
        later = self.hours >> hour + 1
        if later:
            return (hour + (later & -later).bit_length()) * 3600 + self._first_of_hour
        return -1

    def _next_month(self, year: int, month: int) -> int | None:
        """The first matching wall second after the given month."""
        if self.impossible is not None:
            # Nothing else can run long: what is possible at all comes within 40 years.
            return None
        months = self.months
        while True:
            later = months >> month + 1
            if later:
                month += (later & -later).bit_length()
            else:
                year += 1
                month = (months & -months).bit_length() - 1
                if year > 9999:
                    return None
            first = date(year, month, 1).toordinal()
            # Ordinal 1 was a Monday, so ordinals modulo 7 count weekdays from Sunday.
            mask = self.days_mask(first % 7, month_length(year, month))
            if mask:
                day = first - _EPOCH_ORDINAL + (mask & -mask).bit_length() - 2
                return day * DAY_SECONDS + self._first_of_day

    def _times_before(self, second: int) -> int:
        """How many times of day match in [0, *second*)."""
        hour, rest = divmod(second, 3600)
        minute, second = divmod(rest, 60)
        per_minute = self.seconds.bit_count()
        total = (self.hours & (1 << hour) - 1).bit_count() * self.minutes.bit_count() * per_minute
        if self.hours >> hour & 1:
            total += (self.minutes & (1 << minute) - 1).bit_count() * per_minute
            if self.minutes >> minute & 1:
                total += (self.seconds & (1 << second) - 1).bit_count()
        return total

    def _count_days(self, low: int, high: int) -> int:
        """How many days match in [*low*, *high*), days since 1970-01-01."""
        total = 0
        while low < high:
            today = date.fromordinal(low + _EPOCH_ORDINAL)
            year, month, number = today.year, today.month, today.day
            if month == number == 1 and low + 365 + is_leap(year) <= high:
                total += self._count_year(year, (low + 4) % 7)
                low += 365 + is_leap(year)
                continue
            length = month_length(year, month)
            end = min(length, number + high - low - 1)
            if self.months >> month & 1:
                mask = self.days_mask((low - number + 5) % 7, length)
                total += (mask >> number & (1 << end - number + 1) - 1).bit_count()
            low += end - number + 1
        return total

    def _count_year(self, year: int, first: int) -> int:
        """How many days match in a year whose 1 January is weekday *first*; there are only 14 kinds of year."""
        kind = (first, is_leap(year))
        total = self._years.get(kind)
        if total is None:
            total = 0
            for month in range(1, 13):
                length = month_length(year, month)
                if self.months >> month & 1:
                    total += self.days_mask(first, length).bit_count()
                first = (first + length) % 7
            self._years[kind] = total
        return total


# --- Reading ----------------------------------------------------------------------------------------------------


def parse_cron(expression: str) -> Cron:
    """The meaning of a six-field, five-field (second 0) or ``@daily``-like *expression*.

    Shape:   linear in the length of the text; blanks around it and any run of blanks between fields are fine.
    Raises:  CronError naming field, part and reason.
    """
    if len(expression) > TEXT_MAX:
        raise CronError("expression", expression, f"longer than {TEXT_MAX} characters")
    text = expression.strip(" \t\r\n")
    if text.startswith("@"):
        text = _spelled_out(text)
    if not text:
        raise CronError("expression", text, 'empty; write six fields, for example "0 0 9 * * MON-FRI"')
    # Not split() without argument: that also cuts at blanks which nobody sees (no-break space, form feed).
    fields = _six([part for part in text.replace("\t", " ").split(" ") if part])
    warnings: list[str] = []
    second = _number_field(SECOND, fields[0], warnings)
    minute = _number_field(MINUTE, fields[1], warnings)
    hour = _number_field(HOUR, fields[2], warnings)
    month_days, days_text = _month_days_field(fields[3], warnings)
    month = _number_field(MONTH, fields[4], warnings)
    week_days, weekdays_text = _week_days_field(fields[5], warnings)
    return Cron(
        seconds=second.bits,
        minutes=minute.bits,
        hours=hour.bits,
        month_days=month_days,
        months=month.bits,
        week_days=week_days,
        periodic=any(sign in part for part in fields[:3] for sign in "*/"),
        text=" ".join((second.text, minute.text, hour.text, days_text, month.text, weekdays_text)),
        warnings=tuple(warnings),
    )


def _spelled_out(text: str) -> str:
    """The six fields that a descriptor stands for."""
    # Foreign letters may turn into ours in lower(): the Kelvin sign into k.
    word = text.lower() if text.isascii() else text
    if word in _DESCRIPTORS:
        return _DESCRIPTORS[word]
    if word == "@reboot":
        raise CronError("expression", text, "has no meaning in a service; it does not know when you start")
    if word.split(maxsplit=1)[0] in _DESCRIPTORS:
        raise CronError("expression", text, "a descriptor stands alone; remove what follows it")
    raise CronError("expression", text, f"unknown descriptor; known are {', '.join(_DESCRIPTORS)}")


def _six(fields: list[str]) -> list[str]:
    """The six fields as written, second first."""
    count = len(fields)
    if count == 7:
        raise CronError("expression", fields[6], "a seventh field: there is no year field; use start and end")
    if count not in (5, 6):
        raise CronError(
            "expression",
            " ".join(fields),
            f"{count} field{'s' * (count != 1)}; write six (second minute hour day-of-month month weekday) "
            "or five (without second)",
        )
    kinds = (SECOND, MINUTE, HOUR, DAY, MONTH, WEEKDAY)[6 - count :]
    for kind, part in zip(kinds, fields, strict=True):
        # Before any upper(): other alphabets have letters and digits that turn into, or pass for, ours.
        if not part.isascii():
            raise CronError(kind.name, part, "only plain ASCII digits, letters and signs")
    return ["0"] * (6 - count) + fields


def _items(kind: FieldKind, part: str) -> list[str]:
    """The parts of a comma list as written, none empty."""
    items = part.split(",")
    if len(items) > ITEMS_MAX:
        raise CronError(kind.name, part, f"a list of more than {ITEMS_MAX} parts")
    if "" in items:
        raise CronError(kind.name, part, "an empty part in the list; remove the extra comma")
    return items


def _number_field(kind: FieldKind, part: str, warnings: list[str]) -> _Parsed:
    """A field in which only numbers, names, ranges and steps may stand."""
    read = [_number_item(kind, item, warnings) for item in _items(kind, part)]
    return _joined(read)


def _joined(read: list[_Parsed]) -> _Parsed:
    bits = 0
    for item in read:
        bits |= item.bits
    return _Parsed(bits, any(item.star for item in read), ",".join(item.text for item in read))


def _month_days_field(part: str, warnings: list[str]) -> tuple[MonthDays, str]:
    """The day-of-month field and its canonical text."""
    before_last = nearest = 0
    last_working = False
    plain, texts = [], []
    for item in _items(DAY, part):
        text = item.upper()
        if text == "LW":
            last_working = True
        elif "W" in text and text[:3] not in _ALL_NAMES:
            day = _nearest_day(item)
            nearest |= 1 << day
            text = f"{day}W"
        elif "L" in text and text[:3] not in _ALL_NAMES:
            days = _days_before_last(item)
            before_last |= 1 << days
            text = f"L-{days}" if days else "L"
        else:
            plain.append(_number_item(DAY, item, warnings))
            text = plain[-1].text
        texts.append(text)
    numbers = _joined(plain)
    return MonthDays(numbers.star, numbers.bits, before_last, nearest, last_working), ",".join(texts)


def _days_before_last(item: str) -> int:
    """n of ``L-n``, and 0 for ``L``."""
    mark, dash, number = item.upper().partition("-")
    if mark != "L":
        _refuse(DAY, item, "L stands alone or as L-3 (third day before the last) or LW (last working day)")
    if not dash:
        return 0
    if not _is_number(number) or not 0 < int(number) < 31:
        _refuse(DAY, item, "after L- write a number of days from 1 to 30")
    return int(number)


def _nearest_day(item: str) -> int:
    """n of ``nW``."""
    number, _, rest = item.upper().partition("W")
    if not number:
        _refuse(DAY, item, "W needs a day before it, as in 15W (the working day nearest the 15th)")
    if rest or not number.isdigit():
        _refuse(DAY, item, "W takes one day, not a range or a step; list the days, as in 1W,15W")
    return _value(DAY, item, number)


def _week_days_field(part: str, warnings: list[str]) -> tuple[WeekDays, str]:
    """The weekday field and its canonical text."""
    nth = last = 0
    plain, texts = [], []
    for item in _items(WEEKDAY, part):
        text = item.upper()
        if "#" in text:
            day, _, ordinal = text.partition("#")
            weekday = _one_weekday(item, day)
            if ordinal == "L":
                last |= 1 << weekday % 7
            elif ordinal in ("1", "2", "3", "4", "5"):
                nth |= 1 << weekday % 7 * 5 + int(ordinal) - 1
            else:
                _refuse(WEEKDAY, item, "after # write 1 to 5, or L for the last one of the month")
            text = f"{_plain_spelling(day)}#{ordinal}"
        elif text.endswith("L"):
            last |= 1 << _one_weekday(item, text[:-1]) % 7
            text = f"{_plain_spelling(text[:-1])}L"
        else:
            plain.append(_number_item(WEEKDAY, item, warnings))
            text = plain[-1].text
        texts.append(text)
    numbers = _joined(plain)
    return WeekDays(numbers.star, numbers.bits, nth, last), ",".join(texts)


def _one_weekday(item: str, day: str) -> int:
    """The weekday before ``#`` or ``L``."""
    if not day and "#" not in item:
        _refuse(WEEKDAY, item, "L alone is ambiguous here; write SAT, or SATL for the last Saturday of the month")
    if not day:
        _refuse(WEEKDAY, item, "a weekday must stand before #, as in MON#1 (first Monday)")
    if "-" in day or "/" in day or "*" in day or "?" in day:
        _refuse(WEEKDAY, item, "# and L take one weekday, not a range or a step; list them, as in MON#1,TUE#1")
    return _value(WEEKDAY, item, day)


def _number_item(kind: FieldKind, item: str, warnings: list[str]) -> _Parsed:
    """One part of a list: ``*``, ``a``, ``a-b``, each with or without ``/step``."""
    body, slash, step_text = item.upper().partition("/")
    step = _step(kind, item, step_text) if slash else 1
    star = body == "*" or (body == "?" and kind in (DAY, WEEKDAY))
    if star:
        low, high, text = kind.low, kind.high, body
    else:
        low, high, text = _range(kind, item, body)
        if slash and "-" not in body:
            low, high = low % 7 if kind is WEEKDAY else low, kind.high
    if slash and step > high - low + 1:
        warnings.append(_wide_step(kind, item, low, step))
    bits = 0
    for value in range(low, high + 1, step):
        bits |= 1 << value
    if kind is WEEKDAY:
        bits = (bits | bits >> 7) & 0x7F
    return _Parsed(bits, star and step == 1, f"{text}/{step}" if slash else text)


def _step(kind: FieldKind, item: str, text: str) -> int:
    if "/" in text:
        _refuse(kind, item, "only one step; write a single /")
    if not text:
        _refuse(kind, item, "a number must follow /, as in */5")
    if text.isdigit() and len(text) > 2:
        hint = _every_hint(kind, int(text)) if len(text) < 6 else ""
        _refuse(kind, item, f"a step has one or two digits{hint}")
    if not _is_number(text):
        _refuse(kind, item, "a step is a plain number, as in */5")
    step = int(text)
    if step == 0:
        _refuse(kind, item, "a step of 0 never moves on; write 1 or more")
    return step


def _range(kind: FieldKind, item: str, body: str) -> tuple[int, int, str]:
    """First and last value and canonical text of ``a`` or ``a-b``; a last Sunday counts as 7."""
    if "*" in body or "?" in body:
        _refuse_wildcard(kind, item, body)
    first, dash, last = body.partition("-")
    if dash and (not first or not last or "-" in last):
        _refuse(kind, item, f"a range is two values with one dash, as in {_example_range(kind)}; nothing is negative")
    low = _value(kind, item, first)
    if not dash:
        return low, low, _plain_spelling(first)
    high = _value(kind, item, last)
    if kind is WEEKDAY and high == 0 and low > 0:
        high = 7
    if low > high:
        _refuse(kind, item, f"the range runs backwards; write {_forwards(kind, first, last, item)}")
    return low, high, f"{_plain_spelling(first)}-{_plain_spelling(last)}"


def _value(kind: FieldKind, item: str, text: str) -> int:
    """The number that *text* (digits or a three-letter name) stands for; 7 stays 7 for Sunday."""
    if text in kind.names:
        return kind.names[text]
    if not _is_number(text):
        _refuse_word(kind, item, text)
    value = int(text)
    high = 7 if kind is WEEKDAY else kind.high
    if not kind.low <= value <= high:
        _refuse(kind, item, f"{value} is out of range; {_allowed(kind)}")
    return value


def _is_number(text: str) -> bool:
    """One or two ASCII digits (the whole expression is known to be ASCII by now)."""
    return 0 < len(text) <= 2 and text.isdigit()


def _plain_spelling(text: str) -> str:
    """Digits without leading zero, names as they are (already in upper case)."""
    return str(int(text)) if text.isdigit() else text


# --- Refusing and warning ---------------------------------------------------------------------------------------


def _refuse(kind: FieldKind, item: str, reason: str) -> NoReturn:
    raise CronError(kind.name, item, reason)


def _refuse_wildcard(kind: FieldKind, item: str, body: str) -> NoReturn:
    if body == "?":
        _refuse(kind, item, "? may stand only in the two day fields; write *")
    _refuse(kind, item, f"a star stands alone or with a step, as in */5; for a range write {_example_range(kind)}")


def _refuse_word(kind: FieldKind, item: str, text: str) -> NoReturn:
    if text in _LONG_NAMES and _LONG_NAMES[text] in kind.names:
        _refuse(kind, item, f"names have three letters; write {_LONG_NAMES[text]}")
    if text[:3] in _ALL_NAMES and text[:3] not in kind.names:
        home = "fifth of six fields" if text[:3] in _MONTHS else "last field"
        _refuse(
            kind, item, f"{'a month' if text[:3] in _MONTHS else 'a weekday'} stands in the {home}; {_allowed(kind)}"
        )
    if text.isdigit():
        _refuse(kind, item, f"a number has one or two digits; {_allowed(kind)}")
    if text.startswith("+") and kind is WEEKDAY:
        _refuse(kind, item, "+ (both day fields must match) is not supported; a first Monday is MON#1")
    if text.startswith("+"):
        _refuse(kind, item, "a number has no sign")
    if text.startswith("H"):
        _refuse(kind, item, "hashed values (H) are not supported; spread the load with the task's jitter")
    if text == "$":
        _refuse(kind, item, "write L for the last day of the month")
    if not text:
        _refuse(kind, item, f"a value is missing; {_allowed(kind)}")
    _refuse(kind, item, f"not a value of this field; {_allowed(kind)}")


def _allowed(kind: FieldKind) -> str:
    high = 7 if kind is WEEKDAY else kind.high
    text = f"allowed are {kind.low} to {high}"
    if kind is MONTH:
        return f"{text} and JAN to DEC"
    if kind is WEEKDAY:
        return f"{text} (0 and 7 are Sunday) and SUN to SAT, also MON#2 and FRIL"
    return f"{text}, L, L-3, LW and 15W" if kind is DAY else text


def _example_range(kind: FieldKind) -> str:
    return f"{kind.low}-5"


def _forwards(kind: FieldKind, first: str, last: str, item: str) -> str:
    """How to write the backwards range ``first-last`` as this dialect wants it: two ranges, or the values."""
    low, high = _value(kind, item, first), _value(kind, item, last)
    if kind is WEEKDAY and low == 7:
        return f"{_spelling(kind, 0, first)}-{_plain_spelling(last)}"
    _, slash, step_text = item.partition("/")
    if slash:
        size = kind.high - kind.low + 1
        values = range(low, high + size + 1, int(step_text))
        return ",".join(_spelling(kind, (value - kind.low) % size + kind.low, first) for value in values)
    return f"{_stretch(kind, low, kind.high, first)},{_stretch(kind, kind.low, high, last)}"


def _stretch(kind: FieldKind, low: int, high: int, like: str) -> str:
    if low == high:
        return _spelling(kind, low, like)
    return f"{_spelling(kind, low, like)}-{_spelling(kind, high, like)}"


def _spelling(kind: FieldKind, value: int, like: str) -> str:
    """*value* as a name where *like* is one, else as a number."""
    return str(value) if like.isdigit() else next(name for name, number in kind.names.items() if number == value)


def _wide_step(kind: FieldKind, item: str, low: int, step: int) -> str:
    if kind is MONTH:
        where = f"in {MONTH_NAMES[low - 1]}"
    elif kind is WEEKDAY:
        where = f"on {WEEKDAY_NAMES[low % 7]}"
    elif kind is DAY:
        where = f"on day {low}"
    elif kind is HOUR:
        where = f"in the hour {low:02d}:00"
    else:
        where = f"at :{low:02d}" if kind is MINUTE else f"at second {low}"
    return f'{kind.name}: "{item}": fires only {where}{_every_hint(kind, step)}'


def _every_hint(kind: FieldKind, step: int) -> str:
    """What to write for "every *step* units", as an interval."""
    if kind is MONTH:
        return ""
    if kind in (DAY, WEEKDAY):
        return f"; for every {step} days write `@every {step}d`"
    minutes, seconds = divmod(step * {SECOND: 1, MINUTE: 60, HOUR: 3600}[kind], 60)
    hours, minutes = divmod(minutes, 60)
    units = ((hours, "h"), (minutes, "m"), (seconds, "s"))
    return f"; for every {step} {kind.plural} write `@every {''.join(f'{n}{unit}' for n, unit in units if n)}`"


# --- Days of a month --------------------------------------------------------------------------------------------


def is_leap(year: int) -> bool:
    """Whether *year* has a 29 February."""
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def month_length(year: int, month: int) -> int:
    """Days in a month."""
    return 29 if month == 2 and is_leap(year) else _LENGTHS[month]


def _lowest(bits: int) -> int:
    """The number of the lowest bit set."""
    return (bits & -bits).bit_length() - 1


def bits_of(bits: int) -> Iterator[int]:
    """The numbers of the bits set, smallest first."""
    while bits:
        yield _lowest(bits)
        bits &= bits - 1


def _days_mask(month_days: MonthDays, week_days: WeekDays, first: int, length: int) -> int:
    """The matching days of a month whose 1st is weekday *first* (bit n = day n)."""
    by_number = _by_number(month_days, first, length)
    by_weekday = _by_weekday(week_days, first, length)
    if month_days.star or week_days.star:
        return by_number & by_weekday
    return by_number | by_weekday


def _by_number(rule: MonthDays, first: int, length: int) -> int:
    mask = rule.days & (2 << length) - 2
    for days in bits_of(rule.before_last):
        if days < length:
            mask |= 1 << length - days
    for day in bits_of(rule.nearest):
        # A month without day n is left out; the 31st never slides to the 30th.
        if day <= length:
            mask |= 1 << _nearest_working(day, first, length)
    if rule.last_working:
        mask |= 1 << _nearest_working(length, first, length)
    return mask


def _nearest_working(day: int, first: int, length: int) -> int:
    """The Monday to Friday nearest to *day*, never in another month."""
    weekday = (first + day - 1) % 7
    if weekday == 6:
        return day - 1 if day > 1 else 3
    if weekday == 0:
        return day + 1 if day < length else day - 2
    return day


def _by_weekday(rule: WeekDays, first: int, length: int) -> int:
    all_days = (2 << length) - 2
    if rule.star:
        return all_days
    mask = 0
    for weekday in bits_of(rule.days):
        mask |= _WEEKLY << 1 + (weekday - first) % 7
    for place in bits_of(rule.nth):
        weekday, nth = divmod(place, 5)
        mask |= 1 << 1 + (weekday - first) % 7 + 7 * nth
    for weekday in bits_of(rule.last):
        final = (first + length - 1) % 7
        mask |= 1 << length - (final - weekday) % 7
    return mask & all_days


def _impossible(cron: Cron) -> str | None:
    """Why *cron* can never match, proven over all kinds of month (weekday of the 1st, length, month); else None."""
    if not cron.week_days.star or cron.month_days.star:
        # A weekday of any sort comes at least in some leap February; with OR it is enough alone.
        return None
    for month in bits_of(cron.months):
        for length in (28, 29) if month == 2 else (_LENGTHS[month],):
            if any(cron.days_mask(first, length) for first in range(7)):
                return None
    names = [MONTH_NAMES[month - 1] for month in bits_of(cron.months)]
    longest = max(29 if month == 2 else _LENGTHS[month] for month in bits_of(cron.months))
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f"never fires: {listed} {'has' if len(names) == 1 else 'have'} at most {longest} days"
