"""Owns what a YAML body may hold: what JSON can say, written in YAML; must not know where bodies come from.

Read from the parser's events, so nothing is ever built that a tag or an alias asks for: no anchors, no tags, no merge
keys, no dates, no ``yes`` that is true. What comes out passes the same checks as JSON.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final

import yaml

from peregrine.domain.errors import Invalid
from peregrine.domain.payload import JsonValue
from peregrine.wire.strict_json import DEPTH_MAX, NUMBER_MAX, Pairs, Refused, checked

EVENTS_MAX: Final = 200_000
"""A thousand tasks need a third of it; reading YAML costs twenty times what JSON does."""

_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_FLAGS: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_WHOLE = re.compile(r"[-+]?[0-9]{1,400}", re.ASCII)
_NUMBER = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_NO_NUMBER = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", re.ASCII)
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def read_yaml(raw: bytes) -> JsonValue:
    """The value of one YAML document in UTF-8.

    Raises:  Invalid; a document that can't be read at all has one fault, at ``""``.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Invalid.at("", f"is not UTF-8 (byte {error.start})") from None
    try:
        return checked(_Builder().build(text))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        raise Invalid.at("", f"is not YAML: {error.problem or 'it ends too early'}{where}") from None
    except yaml.YAMLError:
        raise Invalid.at("", "is not YAML: it holds a character that YAML does not allow") from None


def write_yaml(value: JsonValue) -> bytes:
    """*value* as a YAML document that ``read_yaml`` reads back."""
    text: str = yaml.dump(value, Dumper=_Plain, sort_keys=False, allow_unicode=True, default_flow_style=False)
    return text.encode()


class _Plain(_DUMPER):  # type: ignore[misc]
    """Writes every value out in full: an alias could not be read back."""

    def ignore_aliases(self, value: Any) -> bool:
        """Always."""
        return True

    def text(self, value: str) -> Any:
        """In quotes where the reader would take it for something else."""
        style = None if isinstance(_scalar(value, plain=True), str) else "'"
        return self.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Plain.add_representer(str, _Plain.text)


class _Builder:
    """Puts plain values together from events."""

    def __init__(self) -> None:
        self._open: list[list[Any]] = [[]]
        self._kinds: list[str] = ["document"]
        self._documents = 0

    def build(self, text: str) -> Any:
        """The one document's value."""
        for number, event in enumerate(yaml.parse(text, Loader=_LOADER)):
            if number > EVENTS_MAX:
                self._refuse(event, "holds too many values; send JSON instead")
            self._take(event)
        return self._open[0][0] if self._open[0] else None

    def _take(self, event: Any) -> None:
        match event:
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    self._refuse(event, "holds more than one document")
            case yaml.AliasEvent():
                self._refuse(event, "holds an alias; write the value out")
            case yaml.ScalarEvent():
                self._refuse_marks(event)
                self._open[-1].append(_scalar(event.value, plain=event.implicit[0]))
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._refuse_marks(event)
                if len(self._open) > DEPTH_MAX:
                    self._refuse(event, f"is nested deeper than {DEPTH_MAX} levels")
                self._open.append([])
            case yaml.SequenceEndEvent():
                items = self._open.pop()
                self._open[-1].append(items)
            case yaml.MappingEndEvent():
                items = self._open.pop()
                self._open[-1].append(self._pairs(event, items))

    def _pairs(self, event: Any, items: list[Any]) -> Pairs:
        pairs = Pairs(zip(items[::2], items[1::2], strict=True))
        if "<<" in items[::2]:
            self._refuse(event, "holds a merge key; write the values out")
        if not all(isinstance(key, str) for key in items[::2]):
            self._refuse(event, "holds a key that is no text; put it in quotes")
        return pairs

    def _refuse_marks(self, event: Any) -> None:
        if event.anchor is not None:
            self._refuse(event, "holds an anchor; write the value out")
        if event.tag is not None and event.tag != "!":
            self._refuse(event, "holds a tag; only plain values are read")

    @staticmethod
    def _refuse(event: Any, why: str) -> None:
        raise Invalid.at("", f"{why} (line {event.start_mark.line + 1})")


def _scalar(text: str, *, plain: bool) -> Any:
    """What a scalar means: quoted ones are texts, plain ones what JSON would take them for."""
    if not plain:
        return text
    if text in _NULL:
        return None
    if text in _FLAGS:
        return _FLAGS[text]
    if _WHOLE.fullmatch(text):
        value = int(text)
        return value if abs(value) <= NUMBER_MAX else Refused("is outside ±2^53")
    if _NO_NUMBER.fullmatch(text):
        return Refused(f"{text} is not a JSON number")
    if _NUMBER.fullmatch(text) and len(text) <= 400:
        number = float(text)
        return number if math.isfinite(number) and abs(number) <= NUMBER_MAX else Refused("is outside ±2^53")
    return text
