"""Owns how the next version writes, as far as today's can tell: more in every document, and in each part of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from peregrine.stores.mongo.commands import Change, Document

ITS: Final[dict[str, Any]] = {"said": {"by": "the next version", "for": [1, 2, 3]}}
"""What it writes besides, in every document and part of one."""
_PARTS: Final = ("metadata", "pause", "attempts", "plan")


def with_its(fields: Mapping[str, Any]) -> Document:
    """*fields*, and beside them and in each part of them what is its own."""
    return {"its": ITS} | {path: with_its(part) if _is_part(path, part) else part for path, part in fields.items()}


def changing_with_its(change: Change) -> Change:
    """The same *change*, and what is its own besides."""
    must, done = change
    return must, dict(done) | {"$set": with_its(done.get("$set", {}))}


def keeps_its(document: Mapping[str, Any]) -> bool:
    """Whether all that it said in *document* is there still."""
    parts = [document, document.get("metadata"), document.get("pause"), *document.get("attempts", ())]
    return all(part.get("its") == ITS for part in parts if part is not None)


def _is_part(path: str, value: object) -> bool:
    return isinstance(value, dict) and path.split(".", maxsplit=1)[0] in _PARTS
