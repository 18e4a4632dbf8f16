"""Owns a request and an answer of the fake as plain values, so that it answers without sockets too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Asked:
    """A request. Header names are in lower case; ``peer`` is the address it came from."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    peer: str = "127.0.0.1"

    def header(self, name: str) -> str:
        """The header of that name, or nothing."""
        return self.headers.get(name.lower(), "")


@dataclass(frozen=True, slots=True)
class Told:
    """An answer. ``is_cut``: the connection closes in the middle of its body."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    is_cut: bool = False


class Reset(Exception):
    """No answer: the connection is reset."""


def told(value: Any, status: int = 200, **headers: str) -> Told:
    """*value* as a JSON answer; ``Content_Type`` is written with a hyphen."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    body = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    return Told(status, {"Content-Type": "application/json; charset=utf-8"} | named, body)


def error(status: int, text: str, **more: Any) -> Told:
    """An error body as ESI writes it."""
    return told({"error": text} | more, status)
