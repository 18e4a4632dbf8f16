"""Owns how documents look in a terminal: as tables and lines for people, as JSON for programs; must not know verbs.

Names, outputs and errors were written by others: whatever could move a cursor is shown, not obeyed.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import click


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table. Where a terminal is too narrow for all, the one with the least *weight* goes first."""

    title: str
    value: Callable[[Mapping[str, Any]], object]
    weight: int = 5
    is_moment: bool = False
    """On a terminal its moments are cut to what matters today."""


Columns: TypeAlias = Sequence[Column]

ALWAYS: Final = 9
_CONTROL: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
_SHADES: Final = {
    "completed": "green", "succeeded": "green", "healthy": "green", "ran": "green", "true": "green",
    "failed": "red", "timed_out": "red", "unhealthy": "red", "missed": "red", "lost": "red", "abandoned": "red",
    "running": "cyan", "pending": "yellow", "paused": "yellow", "degraded": "yellow", "skipped": "yellow",
    "disabled": "bright_black", "cancelled": "yellow",
}  # fmt: skip
_LOOSE: Final = 2


def plain(value: object) -> str:
    """*value* as one line of text without anything that a terminal would obey."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value)) or "-"
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False).translate(_CONTROL)
    return str(value).translate(_CONTROL)


def say(text: str) -> None:
    """A line for people."""
    click.echo(text)


def show_json(document: object) -> None:
    """The document as it came, indented."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def show_table(rows: Iterable[Mapping[str, Any]], columns: Columns, *, empty: str) -> None:
    """One line a row: drawn on a terminal, bare columns elsewhere, so that ``awk`` and ``cut`` read it."""
    found = list(rows)
    if not found:
        click.echo(empty, err=True)
    elif sys.stdout.isatty():
        _draw(found, columns)
    else:
        cells = [[plain(column.value(row)) for column in columns] for row in found]
        _columns([[column.title.upper() for column in columns], *cells])


def _draw(rows: Sequence[Mapping[str, Any]], columns: Columns) -> None:
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    today = time.strftime("%Y-%m-%d", time.gmtime())
    cells = {column.title: [_short(plain(column.value(row)), column, today) for row in rows] for column in columns}
    widths = {title: max(map(cell_len, [title, *texts])) + _LOOSE for title, texts in cells.items()}
    console = Console(highlight=False)
    shown, left_out = _fitting(columns, widths, console.width)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, _LOOSE - 1, 0, 0), header_style="bold")
    for column in shown:
        table.add_column(column.title, no_wrap=True, overflow="ellipsis")
    for texts in zip(*(cells[column.title] for column in shown), strict=True):
        table.add_row(*(Text(text, style=_SHADES.get(text, "")) for text in texts))
    console.print(table)
    if left_out:
        click.echo(f"not shown: {', '.join(left_out)} (a wider window or --json has them)", err=True)


def _fitting(columns: Columns, widths: Mapping[str, int], room: int) -> tuple[list[Column], list[str]]:
    """The columns that fit into *room*, and the titles of those that had to go."""
    shown, left_out = list(columns), list[str]()
    while sum(widths[column.title] for column in shown) > room and len(shown) > 1:
        lightest = min(reversed(shown), key=lambda column: column.weight)
        if lightest.weight >= ALWAYS:
            break
        shown.remove(lightest)
        left_out.append(lightest.title)
    return shown, left_out


def _short(text: str, column: Column, today: str) -> str:
    """A moment of today as its time, another one without seconds; any other text as it is."""
    if not column.is_moment or len(text) < len("2026-01-01T00:00:00Z"):
        return text
    return text[11:19] + "Z" if text.startswith(today) else text[:16] + "Z"


def _columns(lines: Sequence[Sequence[str]]) -> None:
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    for line in lines:
        text = (" " * _LOOSE).join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo(text.rstrip())


def show_document(document: Mapping[str, Any]) -> None:
    """Every field on a line, inner ones as ``outer.inner``; texts of several lines below their name."""
    fields = list(_flat(document))
    width = max((len(name) for name, _ in fields), default=0)
    for name, value in fields:
        if isinstance(value, str) and "\n" in value.strip():
            click.echo(f"{name}:")
            for line in value.strip().splitlines():
                click.echo("    " + plain(line))
        else:
            text = plain(value)
            click.echo(f"{name.ljust(width)}  " + click.style(text, fg=_SHADES.get(text)))


def _flat(document: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in document.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{plain(name)}.")
        else:
            yield prefix + plain(name), value


@contextmanager
def counting() -> Iterator[Callable[[str, int, int], None]]:
    """How far long work is: what, how many, of how many. A bar for each on a terminal, a line for each in a log."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress, TaskID

        with Progress(console=Console(stderr=True)) as bars:
            drawn: dict[str, TaskID] = {}

            def draw(what: str, done: int, of: int) -> None:
                if what not in drawn:
                    drawn[what] = bars.add_task(what)
                bars.update(drawn[what], completed=done, total=of)

            yield draw
        return

    def tell(what: str, done: int, of: int) -> None:
        if done == of:
            click.echo(f"{what}: {done}", err=True)

    yield tell
