"""Owns the one table error → HTTP status and the problem document (RFC 9457); must not know frameworks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from peregrine.domain.errors import (
    Conflict,
    Fault,
    Forbidden,
    Invalid,
    LimitReached,
    NotFound,
    PeregrineError,
    Protected,
    Stale,
    StorageFull,
    Unauthenticated,
    Unavailable,
    Unsure,
)

MEDIA_TYPE: Final = "application/problem+json"
FAULTS_MAX: Final = 100
"""So many faults are shown; `detail` counts them all."""
_TYPE: Final = "urn:peregrine:problem:"


class FaultShape(msgspec.Struct, frozen=True):
    """One thing wrong with a request."""

    pointer: Annotated[str, Meta(description="RFC 6901 pointer into the body, or `/<name>` of a query parameter.")]
    message: Annotated[str, Meta(description="What to do.")]


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong (RFC 9457). `code` is stable; `detail` is for people."""

    type: str
    title: str
    status: int
    detail: str
    instance: str = ""
    code: str
    errors: list[FaultShape] | UnsetType = UNSET
    request_id: str | UnsetType = UNSET


class Refusal(Exception):
    """A request that ends before any use case is asked: what the door itself says."""

    def __init__(self, code: str, detail: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.headers = headers or {}


# What the door itself refuses: code → (status, title).
DOOR: Final[dict[str, tuple[int, str]]] = {
    "not_found": (404, "Not found"),
    "eve_not_configured": (404, "Not found"),
    "method_not_allowed": (405, "Method not allowed"),
    "csrf": (403, "Forbidden"),
    "body_too_large": (413, "Body too large"),
    "unsupported_media_type": (415, "Unsupported media type"),
    "not_acceptable": (406, "Not acceptable"),
    "body_not_received": (400, "Invalid request"),
    "too_many_requests": (429, "Too many requests"),
    "idempotency_in_progress": (409, "Conflict"),
    "idempotency_key_reused": (409, "Conflict"),
    "unavailable": (503, "Service unavailable"),
    "internal": (500, "Internal error"),
}

# The nearest class in the table decides; texts of the two 401/503 kinds are fixed, so that a cause never leaks.
_STATUS: Final[dict[type[BaseException], tuple[int, str]]] = {
    Invalid: (400, "Invalid request"),
    Unauthenticated: (401, "Authentication required"),
    Forbidden: (403, "Forbidden"),
    Protected: (403, "System task protected"),
    NotFound: (404, "Not found"),
    Stale: (412, "Precondition failed"),
    Conflict: (409, "Conflict"),
    LimitReached: (429, "Limit reached"),
    StorageFull: (503, "Storage full"),
    Unsure: (503, "Outcome unknown"),
    Unavailable: (503, "Service unavailable"),
}
_FIXED: Final[dict[type[BaseException], str]] = {
    Unauthenticated: "Send a valid bearer token.",
    StorageFull: "There is no room to write; nothing was written.",
    Unsure: "The write was sent and its answer was lost: read back before repeating.",
    Unavailable: "Something this service needs does not answer; nothing was written.",
}


def problem_of(error: PeregrineError | Refusal, *, instance: str = "", request_id: str = "") -> Problem:
    """The document for *error*."""
    status, title = _status_of(error)
    faults = error.faults if isinstance(error, Invalid) else ()
    return Problem(
        type=_TYPE + error.code,
        title=title,
        status=status,
        detail=_detail_of(error, faults),
        instance=instance,
        code=error.code,
        errors=[FaultShape(fault.pointer, fault.message) for fault in faults[:FAULTS_MAX]] if faults else UNSET,
        request_id=request_id or UNSET,
    )


def headers_of(error: PeregrineError | Refusal) -> dict[str, str]:
    """What must stand in the head of the answer to *error*."""
    if isinstance(error, Refusal):
        return dict(error.headers)
    if isinstance(error, Unauthenticated):
        return {"WWW-Authenticate": 'Bearer realm="scheduler"'}
    if isinstance(error, LimitReached | Unavailable):
        return {"Retry-After": str(max(1, error.retry_after))}
    return {}


def _status_of(error: PeregrineError | Refusal) -> tuple[int, str]:
    if isinstance(error, Refusal):
        return DOOR[error.code]
    if isinstance(error, LimitReached) and error.code == "queue_full":
        return 503, "Queue full"
    return next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), (500, "Internal error"))


def _detail_of(error: PeregrineError | Refusal, faults: Sequence[Fault]) -> str:
    if isinstance(error, Refusal):
        return error.detail
    if faults:
        return "One thing in the request is wrong." if len(faults) == 1 else f"{len(faults)} things are wrong."
    return next((_FIXED[kind] for kind in type(error).__mro__ if kind in _FIXED), str(error))
