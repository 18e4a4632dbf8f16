"""Owns what a JSON body may hold: strict, bounded, every fault named by pointer; must not know where bodies come from.

The standard reader takes NaN, repeated keys, lone surrogates, numbers beyond what other programs can hold, and dies
of depth. Here all of that is a fault with a place, so that nothing behind the door ever meets it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, Final

from peregrine.domain.errors import Fault, Invalid
from peregrine.domain.payload import JsonObject, JsonValue

DEPTH_MAX: Final = 32
NUMBER_MAX: Final = 2**53
"""Beyond it a number is not the same number in every program that reads JSON (RFC 8259, part 6)."""
FAULTS_MAX: Final = 100
"""More faults than this help nobody."""

_NUMBER_CHARACTERS: Final = 400
_BRACKETS = re.compile(r'"(?:[^"\\]+|\\.)*"?|[\[{\]}]', re.DOTALL)
_FORBIDDEN = re.compile("[\x00\ud800-\udfff]")


class Pairs(list[tuple[str, Any]]):
    """An object as it was written, repeated keys and all."""


class Refused:
    """Stands in for a number that can't be taken."""

    __slots__ = ("message",)

    def __init__(self, message: str) -> None:
        self.message = message


def read_json(raw: bytes) -> JsonValue:
    """The value of a JSON document in UTF-8.

    Raises:  Invalid with every fault that can be told apart; a document that can't be read at all has one, at ``""``.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Invalid.at("", f"is not UTF-8 (byte {error.start})") from None
    _check_depth(text)
    try:
        value = json.loads(
            text,
            object_pairs_hook=Pairs,
            parse_int=_whole_number,
            parse_float=_number,
            parse_constant=lambda word: Refused(f"{word} is not a JSON number"),
        )
    except json.JSONDecodeError as error:
        raise Invalid.at("", f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    return checked(value)


def checked(value: Any) -> JsonValue:
    """*value* as plain JSON, when nothing in it is refused.

    Raises:  Invalid with a pointer to each fault.
    """
    faults: list[Fault] = []
    clean = _walk(value, "", faults)
    if faults:
        raise Invalid(faults)
    return clean


def escape(key: str) -> str:
    """*key* as one step of a JSON pointer (RFC 6901); what can't be printed is shown as ``?``."""
    return _FORBIDDEN.sub("?", key[:200]).replace("~", "~0").replace("/", "~1")


def _check_depth(text: str) -> None:
    if text.count("[") + text.count("{") <= DEPTH_MAX:
        return
    depth = 0
    for match in _BRACKETS.finditer(text):
        sign = match[0]
        if sign in ("[", "{"):
            depth += 1
            if depth > DEPTH_MAX:
                raise Invalid.at("", f"is nested deeper than {DEPTH_MAX} levels (character {match.start()})")
        elif sign in ("]", "}"):
            depth -= 1


def _whole_number(text: str) -> int | Refused:
    if len(text) > _NUMBER_CHARACTERS:
        return Refused("is outside ±2^53")
    value = int(text)
    return value if abs(value) <= NUMBER_MAX else Refused("is outside ±2^53")


def _number(text: str) -> float | Refused:
    value = float(text)
    return value if math.isfinite(value) and abs(value) <= NUMBER_MAX else Refused("is outside ±2^53")


def _walk(value: Any, at: str, faults: list[Fault]) -> JsonValue:
    walk = _WALKS.get(type(value))
    if walk is not None:
        return walk(value, at, faults)
    if isinstance(value, Refused):
        _note(faults, at, value.message)
        return None
    return value  # type: ignore[no-any-return]  # a number, true, false or null


def _walk_text(value: str, at: str, faults: list[Fault]) -> JsonValue:
    if _FORBIDDEN.search(value):
        _note(faults, at, "holds a NUL character or half of a surrogate pair")
    return value


def _walk_list(value: list[Any], at: str, faults: list[Fault]) -> JsonValue:
    return [_walk(item, f"{at}/{index}", faults) for index, item in enumerate(value)]


def _walk_pairs(value: Pairs, at: str, faults: list[Fault]) -> JsonValue:
    clean: JsonObject = {}
    for key, item in value:
        here = f"{at}/{escape(key)}"
        if key in clean:
            _note(faults, here, "is given twice")
        if _FORBIDDEN.search(key):
            _note(faults, here, "has a name with a NUL character or half of a surrogate pair")
        clean[key] = _walk(item, here, faults)
    return clean


def _note(faults: list[Fault], at: str, message: str) -> None:
    if len(faults) < FAULTS_MAX:
        faults.append(Fault(at, message))


_WALKS: Final[dict[type, Callable[[Any, str, list[Fault]], JsonValue]]] = {
    str: _walk_text,
    list: _walk_list,
    Pairs: _walk_pairs,
}
