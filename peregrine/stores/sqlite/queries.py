"""Owns how ``queries.sql`` is read; must not know any query."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Final

_ENTRY = re.compile(r"^-- name: (?P<name>\w+)\n(?:-- .*\n)+(?P<sql>(?:(?!-- name: ).*\n?)*)", re.MULTILINE)


def load(text: str) -> dict[str, str]:
    """The statements of *text* by name. Each is headed by ``-- name: …`` and at least one line that describes it."""
    found: dict[str, str] = {}
    for entry in _ENTRY.finditer(text):
        assert entry["name"] not in found, f"two queries are named {entry['name']}"
        lines = [line for line in entry["sql"].splitlines() if not line.startswith("--")]
        found[entry["name"]] = "\n".join(lines).strip().removesuffix(";")
    assert len(found) == text.count("-- name:"), "a query without description"
    return found


def for_one(text: str) -> str:
    """A query that works off a list of texts, for one text."""
    assert "carray(?1) c" in text
    return text.replace("carray(?1) c", "(SELECT ?1 AS value) c")


@cache
def for_rows(name: str, count: int, width: int) -> str:
    """The statement *name* with ``{rows}`` made places for so many rows, each of *width* values."""
    return SQL[name].replace("{rows}", ", ".join([f"({', '.join('?' * width)})"] * count))


SQL: Final = load((files(__package__) / "queries.sql").read_text(encoding="utf-8"))
SQL_FOR_ONE: Final = {name: for_one(text) for name, text in SQL.items() if "carray(?1) c" in text}
