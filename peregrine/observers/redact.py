"""Owns what a log line must never show; must not know events or formats."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from peregrine.domain.redaction import HIDDEN, is_secret_name

VALUE_MAX: Final = 2_000
TRACEBACK_MAX: Final = 8_000
TRACEBACK_KEY: Final = "exception"
_DEPTH_MAX: Final = 6

_BEARER = re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)
_JWT = re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*")
_USERINFO = re.compile(r"(://)[^/\s:@]*:[^/\s@]+@")
_ASSIGNED = re.compile(
    r"\b((?:access_|refresh_|auth_|client_)?(?:token|secret|password|passwd|api_?key|key|sig(?:nature)?)=)[^&\s\"']+",
    re.IGNORECASE,
)


def redact(value: object, *, key: str = "", depth: int = 0) -> object:
    """*value* without secrets: by the name it stands under, and by what a text looks like; long texts are cut."""
    if is_secret_name(key) and not isinstance(value, int | float | bool | None):
        return HIDDEN
    if isinstance(value, str):
        return _redact_traceback(value) if key == TRACEBACK_KEY else redact_text(value)
    if depth >= _DEPTH_MAX:
        return "…"
    if isinstance(value, Mapping):
        return {str(k): redact(v, key=str(k), depth=depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item, depth=depth + 1) for item in value]
    return value


def redact_text(text: str) -> str:
    """*text* with bearer credentials, tokens, user names in addresses and secret query values blotted out."""
    return _blotted(text[:VALUE_MAX] + "…" if len(text) > VALUE_MAX else text)


def _redact_traceback(text: str) -> str:
    """The same of a traceback, of which the end is kept: what was raised, and where, stands there.

    Whole lines only: of a secret cut in two the second half would not be known as one.
    """
    if len(text) > TRACEBACK_MAX:
        text = "…\n" + text[-TRACEBACK_MAX:].partition("\n")[2]
    return _blotted(text)


def _blotted(text: str) -> str:
    text = _BEARER.sub(rf"\1 {HIDDEN}", text)
    text = _JWT.sub(HIDDEN, text)
    text = _USERINFO.sub(rf"\1{HIDDEN}@", text)
    return _ASSIGNED.sub(rf"\1{HIDDEN}", text)
