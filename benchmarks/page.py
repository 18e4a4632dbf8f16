"""What a sitting looks like to a reader: Markdown, with nothing in it that isn't derived from what was seen."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from typing import Final

from benchmarks import chart, goals
from benchmarks.parts import BACKLOG, ENTRIES, PARTS, US, Part
from benchmarks.sitting import Sitting

NOISY: Final = 0.15
"""A machine whose fixed sum varied by more than this part is said to have been noisy."""
PACKAGES: Final = (
    "apscheduler", "celery", "huey", "rq", "saq", "taskiq", "taskiq-redis", "redis", "sqlalchemy", "apsw", "uvloop",
    "uvicorn", "aiohttp",
)  # fmt: skip
COMPARED: Final = ("backlog", "register")
"""Scenes in which more is better, so that ours to theirs can be told."""
UNITS: Final[dict[str, Callable[[float], str]]] = {
    "done": lambda v: f"{v:.0%}",
    "share": lambda v: f"{v:.0%}",
    "memory_mib": lambda v: f"{v:.0f} MiB",
    "cpu_percent": lambda v: f"{v:.1f} %",
    "times": lambda v: f"{v:.2f} ×",
    "rate": lambda v: f"{v:,.0f}",
    "bulk_rate": lambda v: f"{v:,.0f}",
    "ready_rate": lambda v: f"{v:,.0f}",
    "changing_rate": lambda v: f"{v:,.0f}",
    "bare_rate": lambda v: f"{v:,.0f}",
    "alone_rate": lambda v: f"{v:,.1f}",
    "both_rate": lambda v: f"{v:,.1f}",
}


def machine(programs: Sequence[str]) -> str:
    """What it was measured on and with; *programs* are the versions of what is no package of Python's."""
    versions = [f"{name} {metadata.version(name)}" for name in PACKAGES]
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, {', '.join([*versions, *programs])}"


def page(sitting: Sitting) -> str:
    """The whole page."""
    warning = ": **a noisy machine, read the ratios only**" if sitting.noise > NOISY else ""
    lines = [
        "# Beside other schedulers",
        "",
        f"{sitting.when}, {sitting.minutes:.0f} minutes, {sitting.machine}.",
        "Medians of the rounds; least and most in brackets where they differ.",
        f"The fixed sum varied by {sitting.noise:.0%}{warning}.",
        *(f"Left out: {name}: {reason}." for name, reason in sitting.left_out.items()),
        *(f"Measured anew, with all its subjects ({when}): {title}." for title, when in sitting.later.items()),
        *(f"Came to nothing: {what}: {reason}." for what, reason in sitting.failed.items()),
        "",
        "## The goals",
        "",
        *goals.table(sitting),
    ]
    if sitting.rounds(BACKLOG, US[0]):
        lines += ["", "![A due backlog: runs a second](backlog.svg)"]
    for part in PARTS:
        if any(sitting.rounds(part, one.key) for one in ENTRIES):
            lines += ["", f"## {part.title}", "", *_table(part, sitting)]
    return "\n".join(lines) + "\n"


def backlog_chart(sitting: Sitting) -> str:
    """The first table as bars; nothing if there is none."""
    medians = [(one.name, sitting.median(BACKLOG, one.key, "rate")) for one in ENTRIES]
    rates = [(name, rate) for name, rate in medians if rate]
    return chart.bars("A due backlog", "runs a second, on a scale of powers of ten", rates) if rates else ""


def line(part: Part, sitting: Sitting, key: str) -> str:
    """The newest measurement of a subject, for whoever waits."""
    newest = sitting.rounds(part, key)[-1]
    return ", ".join(
        f"{name} {_write(column, newest[column])}" for column, name in part.columns.items() if column in newest
    )


def _table(part: Part, sitting: Sitting) -> Iterator[str]:
    entries = [one for one in ENTRIES if sitting.rounds(part, one.key)]
    columns = {c: name for c, name in part.columns.items() if any(sitting.values(part, one.key, c) for one in entries)}
    first = next(iter(part.columns))
    ours = sitting.median(part, US[0], first)
    has_ratio = part.scene in COMPARED and ours is not None
    yield "| | " + " | ".join([*columns.values(), *(["ours to it"] if has_ratio else []), "it keeps"]) + " |"
    yield "|---|" + "--:|" * (len(columns) + has_ratio) + "---|"
    for entry in entries:
        cells = [_cell(column, sitting.values(part, entry.key, column)) for column in columns]
        theirs = sitting.median(part, entry.key, first)
        ratio = [f"{times(ours / theirs)} ×" if ours and theirs else "–"] if has_ratio else []
        yield "| " + " | ".join([entry.name, *cells, *ratio, entry.keeps]) + " |"


def _cell(column: str, values: Sequence[float]) -> str:
    """The median, with the least and the most of several rounds in brackets."""
    if not values:
        return "–"
    middle = _write(column, statistics.median(values))
    if len({_write(column, value) for value in values}) == 1:
        return middle
    return f"{middle} ({_write(column, min(values))}–{_write(column, max(values))})"


def _write(column: str, value: float) -> str:
    if column.endswith("_ratio"):
        return UNITS["times"](value)
    return UNITS.get(column, _milliseconds)(value)


def times(ratio: float) -> str:
    """A ratio with as many places as can be meant."""
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.1f}" if ratio >= 1 else f"{ratio:.2f}"


def _milliseconds(value: float) -> str:
    return f"{value:,.1f} ms"
