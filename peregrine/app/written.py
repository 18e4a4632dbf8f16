"""Owns how the text of a setting becomes its value, and the sentence that says how to write it; must not know settings.

Each function here gives a parser: text in, value out, or ``ValueError`` with a sentence for the person who wrote it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Final, TypeAlias

from peregrine.domain.moment import DAY, Duration, format_duration, parse_duration

Parser: TypeAlias = Callable[[str], object]

_TRUE: Final = ("true", "1", "yes", "on")
_FALSE: Final = ("false", "0", "no", "off")
_MODULE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", re.ASCII)
_SCOPE = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)
_ORIGIN = re.compile(r"https?://[^\s/?#@\\]+", re.ASCII)


def whole(least: int, most: int) -> Parser:
    """A whole number between the bounds, both included."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or not least <= int(text) <= most:
            raise ValueError(f"write a whole number from {least} to {most}")
        return int(text)

    return parse


def span(least: Duration, most: Duration) -> Parser:
    """A duration between the bounds, both included."""

    def parse(text: str) -> Duration:
        value = parse_duration(text)
        if not least <= value <= most:
            raise ValueError(f"must lie between {span_text(least)} and {span_text(most)}")
        return value

    return parse


def span_text(value: Duration) -> str:
    """As people write it: whole days in days, the rest as everywhere."""
    return f"{value // DAY}d" if value and value % DAY == 0 else format_duration(value)


def flag(text: str) -> bool:
    """True or false, in the words that environments use."""
    if (word := text.lower()) not in _TRUE + _FALSE:
        raise ValueError("write true or false")
    return word in _TRUE


def one_of(words: type[StrEnum]) -> Parser:
    """One word of an enumeration, in any case of letters."""

    def parse(text: str) -> StrEnum:
        for word in words:
            if word.value.lower() == text.lower():
                return word
        raise ValueError(f"write one of {', '.join(words)}")

    return parse


def matching(pattern: str, how: str, *, strip: str = "") -> Parser:
    """A text of that form, or an empty one; *strip* is cut off its end first."""
    compiled = re.compile(pattern, re.ASCII)

    def parse(text: str) -> str:
        text = text.rstrip(strip) if strip else text
        if text and not compiled.fullmatch(text):
            raise ValueError(how)
        return text

    return parse


def list_of(check: Callable[[str], object]) -> Parser:
    """A comma list whose items *check* lets pass (it raises ValueError for a wrong one); empty items are left out."""

    def parse(text: str) -> tuple[str, ...]:
        items = tuple(part for item in text.split(",") if (part := item.strip()))
        for item in items:
            check(item)
        return items

    return parse


def module(text: str) -> None:
    """Raises ValueError unless *text* is a dotted module name."""
    if not _MODULE.fullmatch(text):
        raise ValueError(f'{text!r} is no module name; write for example "my_tasks,app.tasks"')


def network(text: str) -> None:
    """Raises ValueError unless *text* is an address or a network of addresses."""
    try:
        ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(f'{text!r} is no address or network; write for example "127.0.0.1,10.0.0.0/8"') from None


def origin(text: str) -> None:
    """Raises ValueError unless *text* is a web origin: scheme, host and perhaps a port."""
    if not _ORIGIN.fullmatch(text):
        raise ValueError(f'{text!r} is no origin; write for example "https://ops.example.org"')


def scope(text: str) -> None:
    """Raises ValueError unless *text* is the name of a scope."""
    if not _SCOPE.fullmatch(text):
        raise ValueError(f'{text!r} is no scope; write for example "publicData,esi-skills.read_skills.v1"')


def program(text: str) -> None:
    """Raises ValueError unless *text* is the absolute path of a program."""
    path = PurePosixPath(text)
    if not path.is_absolute() or ".." in path.parts:
        raise ValueError(f'{text!r} is no absolute path; write for example "/usr/bin/rsync"')
