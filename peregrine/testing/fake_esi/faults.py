"""Owns the ways in which the fake fails when it is told to; must not know what it was asked."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase


class FaultKind(StrEnum):
    """What happens instead of a good answer."""

    BAD_GATEWAY = "bad_gateway"
    """502 with HTML."""
    SERVER_ERROR = "server_error"
    """500 with an error body."""
    UNAVAILABLE = "unavailable"
    """503, with ``Retry-After`` when the fault has seconds."""
    GATEWAY_TIMEOUT = "gateway_timeout"
    """504 with nothing."""
    NOT_FOUND_HTML = "not_found_html"
    """404 of a gateway that knows no ESI."""
    SLOW = "slow"
    """The right answer, but only after the fault's seconds."""
    RESET = "reset"
    """The connection is reset before anything is done."""
    LOST = "lost"
    """Everything is done, and then the connection is reset."""
    MALFORMED = "malformed"
    """200 with half of the JSON."""
    WRONG_SHAPE = "wrong_shape"
    """200 with JSON that is something else."""
    TRUNCATED = "truncated"
    """A connection that closes in the middle of the body."""
    BOMB = "bomb"
    """200 with a small body that inflates to a huge one."""
    REDIRECT = "redirect"
    """302 to a stranger."""
    TOO_MANY = "too_many"
    """429 of the game server: ``Retry-After`` and no bucket."""
    ERROR_LIMITED = "error_limited"
    """420, as if somebody else on this address had used up the error limit."""


@dataclass(slots=True)
class Fault:
    """*route*: which ones, as ``/corporations/*``; *count*: how many times, None for until it is cleared."""

    kind: FaultKind
    route: str = "*"
    count: int | None = None
    seconds: float = 0.0


class Faults:
    """What is to go wrong next."""

    def __init__(self) -> None:
        self._planned: list[Fault] = []

    def plan(self, kind: FaultKind, *, route: str = "*", count: int | None = None, seconds: float = 0.0) -> None:
        """Let the next *count* requests of *route* fail in this way; those planned first come first."""
        self._planned.append(Fault(FaultKind(kind), route, count, seconds))

    def clear(self) -> None:
        """Nothing fails any more."""
        self._planned.clear()

    def next(self, route: str) -> Fault | None:
        """What goes wrong with this request, and one time less of it is left."""
        for fault in self._planned:
            if not fnmatchcase(route, fault.route) or fault.count == 0:
                continue
            if fault.count is not None:
                fault.count -= 1
                if not fault.count:
                    self._planned.remove(fault)
            return fault
        return None
