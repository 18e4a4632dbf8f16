"""Owns how documents look in a terminal: as tables and lines for people, as JSON for programs; must not know verbs.

Names, outputs and errors were written by others: whatever could move a cursor is shown, not obeyed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import click

Columns = Sequence[tuple[str, Callable[[Mapping[str, Any]], object]]]

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
    cells = [[plain(value(row)) for _, value in columns] for row in rows]
    if not cells:
        click.echo(empty, err=True)
    elif sys.stdout.isatty():
        _draw([title for title, _ in columns], cells)
    else:
        _columns([[title.upper() for title, _ in columns], *cells])


def _draw(titles: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in cells:
        table.add_row(*(Text(cell, style=_SHADES.get(cell, "")) for cell in row))
    Console().print(table)


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
