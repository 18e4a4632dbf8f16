"""Owns how answers become bytes and how lists are counted; must not know what is in them."""

from __future__ import annotations

import json
from typing import Final

import msgspec

EXACT: Final = msgspec.Meta(description="False, and there, where there are more than `total` says.")
_ENCODER: Final = msgspec.json.Encoder()


def encode(shape: msgspec.Struct) -> bytes:
    """*shape* as JSON; what is unset is left out."""
    try:
        return _ENCODER.encode(shape)
    except UnicodeEncodeError:
        # Half of a surrogate pair in some program's output: shown escaped rather than not at all.
        return json.dumps(msgspec.to_builtins(shape), separators=(",", ":")).encode()


def total_pages(total: int, size: int) -> int:
    """How many pages *total* items fill."""
    return -(-total // size)
