"""Owns ``{{ … }}`` in the texts of a task: reading, checking, filling in; must not know requests or how they are sent.

The placeholders are ``task.id``, ``task.name``, ``execution.id``, ``execution.attempt``, ``execution.scheduled_for``,
``parameters.<name>`` (of this execution) and ``secret.<NAME>`` (held by the service, never by the task). There are no
expressions. A text that needs a true ``{{`` writes ``\\{{``.

A value is written so that it stays a value wherever it lands: it can't end a header, a JSON text, a query parameter or
a path segment early.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias
from urllib.parse import quote, quote_plus

from peregrine.domain.execution import Claim
from peregrine.domain.moment import format_moment
from peregrine.domain.payload import JsonValue

_MARK = re.compile(r"(?P<escaped>\\\{\{)|\{\{(?P<inside>(?:(?!\{\{|\}\}).)*)\}\}|(?P<open>\{\{)", re.DOTALL)
_QUOTE = re.compile(r"\\.|\"", re.DOTALL)
_NAME = re.compile(r"\s*([a-z]+)\.([A-Za-z_][A-Za-z0-9_\-]{0,63})\s*", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")

KNOWN: Final = frozenset({"task.id", "task.name", "execution.id", "execution.attempt", "execution.scheduled_for"})
KNOWN_WORDS: Final = ", ".join((*sorted(KNOWN), "parameters.<name>", "secret.<NAME>"))

FAULTS_MAX: Final = 10
"""A text with more is not helped by a longer list."""


class Place(Enum):
    """Where a text goes, which decides how a value is written into it."""

    URL = "url"
    """Percent-encoded."""
    HEADER = "header"
    """As it is; control characters are refused."""
    BODY = "body"
    """As it is."""
    FORM = "form"
    """Encoded as a form value."""
    JSON = "json"
    """Inside quotes as JSON string text, outside as a whole JSON value."""


class BadValue(ValueError):
    """A value is missing or can't be written there; the text names the placeholder, never the value."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One placeholder. ``quoted``: it stands inside a JSON string."""

    family: str
    name: str
    quoted: bool = False

    @property
    def word(self) -> str:
        return f"{self.family}.{self.name}"


ValueOf: TypeAlias = Callable[[Slot], JsonValue]


@dataclass(frozen=True, slots=True)
class Template:
    """A text that was read. ``faults`` are sentences; a template that has any is not filled in."""

    parts: tuple[str | Slot, ...]
    faults: tuple[str, ...] = ()

    @property
    def slots(self) -> Iterator[Slot]:
        return (part for part in self.parts if isinstance(part, Slot))

    @property
    def sample(self) -> str:
        """The text with a harmless letter in each place, to judge what no value can change."""
        return "".join("x" if isinstance(part, Slot) else part for part in self.parts)

    def fill(self, place: Place, value_of: ValueOf) -> str:
        """The text with its values, each written as *place* needs it.

        Raises:  BadValue.
        """
        if len(self.parts) == 1 and isinstance(self.parts[0], str):
            return self.parts[0]
        written = _WRITERS[place]
        return "".join(part if isinstance(part, str) else written(part, value_of(part)) for part in self.parts)


def read_template(text: str) -> Template:
    """The template that *text* writes, with its faults."""
    if "{{" not in text:
        return Template((text,))
    parts: list[str | Slot] = []
    faults: list[str] = []
    quotes = _Quotes()
    position = 0
    for match in _MARK.finditer(text):
        parts.append(quotes.pass_over(text[position : match.start()]))
        position = match.end()
        if match["escaped"]:
            parts.append("{{")
        elif match["open"]:
            faults.append(r"holds a '{{' that is never closed; write '\{{' if it is meant as text")
        elif (slot := _read_slot(match["inside"], quoted=quotes.inside)) is not None:
            parts.append(slot)
        else:
            faults.append(f"holds an unknown placeholder {_shown(match[0])}; known are {KNOWN_WORDS}")
    parts.append(text[position:])
    return Template(tuple(part for part in parts if part != ""), tuple(dict.fromkeys(faults))[:FAULTS_MAX])


def _read_slot(inside: str, *, quoted: bool) -> Slot | None:
    match = _NAME.fullmatch(inside)
    if match is None:
        return None
    slot = Slot(match[1], match[2], quoted)
    return slot if slot.word in KNOWN or slot.family in ("parameters", "secret") else None


def _shown(placeholder: str) -> str:
    """Short and printable, for a fault."""
    clean = _CONTROL.sub("?", placeholder)
    return clean if len(clean) <= 60 else f"{clean[:57]}…"


class _Quotes:
    """Whether a text that is read piece by piece is inside a JSON string."""

    def __init__(self) -> None:
        self.inside = False

    def pass_over(self, text: str) -> str:
        for mark in _QUOTE.findall(text):
            self.inside ^= mark == '"'
        return text


def values_of(claim: Claim, secrets: Mapping[str, str]) -> ValueOf:
    """What each placeholder means for *claim*."""

    def value_of(slot: Slot) -> JsonValue:
        match slot.word:
            case "task.id":
                return claim.task.id
            case "task.name":
                return claim.task.name
            case "execution.id":
                return claim.execution_id
            case "execution.attempt":
                return claim.attempt
            case "execution.scheduled_for":
                return None if claim.scheduled_for is None else format_moment(claim.scheduled_for)
        held: Mapping[str, JsonValue] | Mapping[str, str] = claim.parameters or {}
        if slot.family == "secret":
            held = secrets
        if slot.name not in held:
            what = "no such secret is known" if slot.family == "secret" else "this execution was given no such value"
            raise BadValue(f"{{{{ {slot.word} }}}}: {what}")
        return held[slot.name]

    return value_of


def _text(slot: Slot, value: JsonValue) -> str:
    """The value as people write it: texts as they are, nothing for null, JSON for the rest."""
    text = "" if value is None else value if isinstance(value, str) else _json(value)
    if _SURROGATE.search(text):
        raise BadValue(f"{{{{ {slot.word} }}}}: the value is no valid text")
    return text


def _json(value: JsonValue) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _into_url(slot: Slot, value: JsonValue) -> str:
    text = _text(slot, value)
    if text in (".", ".."):
        raise BadValue(f"{{{{ {slot.word} }}}}: the value would climb in the path")
    return quote(text, safe="")


def _into_header(slot: Slot, value: JsonValue) -> str:
    text = _text(slot, value)
    if _CONTROL.search(text):
        raise BadValue(f"{{{{ {slot.word} }}}}: the value holds control characters, which a header can't")
    return text


def _into_form(slot: Slot, value: JsonValue) -> str:
    return quote_plus(_text(slot, value))


def _into_json(slot: Slot, value: JsonValue) -> str:
    text = _text(slot, value)
    return _json(text)[1:-1] if slot.quoted else _json(value)


_WRITERS: Final[dict[Place, Callable[[Slot, JsonValue], str]]] = {
    Place.URL: _into_url,
    Place.HEADER: _into_header,
    Place.BODY: _text,
    Place.FORM: _into_form,
    Place.JSON: _into_json,
}
