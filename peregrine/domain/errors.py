"""Owns every error the house raises on purpose, and its stable code; must not know HTTP numbers.

::

    PeregrineError
    ├── Invalid            wrong input: the caller mends it; every fault has a pointer
    ├── Unauthenticated    nobody known asks: sign in
    ├── Forbidden          somebody known asks for what was not granted
    ├── NotFound           the id names nothing
    ├── Protected          a system task: nobody may change it over the API
    ├── Conflict           the state does not allow it now (name taken, disabled, already ended)
    │   └── Stale          the revision in hand is not the newest: read again, try again
    ├── LimitReached       a bound was hit; the same call may pass later
    └── Unavailable        something behind us is away; the same call may pass later
        ├── Unsure         a write was sent and its answer was lost: read back before repeating
        └── StorageFull    no room to write; nothing was written
    IllegalTransition      a bug of ours (lifecycle); never caught below the loop
    UnsafeStore            the store must not be opened (damaged, foreign, newer): exit code 78
    BadConfiguration       a setting is wrong: exit code 78
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with an input: where (RFC 6901 JSON pointer, ``""`` for the whole) and what to do."""

    pointer: str
    message: str


class PeregrineError(Exception):
    """Base of everything raised on purpose. ``code`` is stable and safe to show."""

    code = "error"


class Invalid(PeregrineError):
    """The input is wrong; ``faults`` names every place, not only the first."""

    code = "invalid"

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults: Sequence[Fault] = tuple(faults)
        super().__init__("; ".join(f"{f.pointer or '/'}: {f.message}" for f in self.faults))

    @classmethod
    def at(cls, pointer: str, message: str) -> Invalid:
        return cls([Fault(pointer, message)])


class Unauthenticated(PeregrineError):
    """Nobody known asks; the reason is for the log, never for the answer."""

    code = "unauthenticated"


class Forbidden(PeregrineError):
    """The principal lacks a permission; ``permission`` names it."""

    code = "forbidden"

    def __init__(self, message: str, *, permission: str = "") -> None:
        super().__init__(message)
        self.permission = permission


class NotFound(PeregrineError):
    """``what`` (task, execution …) with ``id`` does not exist."""

    code = "not_found"

    def __init__(self, what: str, id: str) -> None:
        super().__init__(f"no {what} with id {id!r}")
        self.what = what
        self.id = id


class Protected(PeregrineError):
    """A system task can't be changed over the API, whatever the role."""

    code = "system_task_protected"


class Conflict(PeregrineError):
    """The state does not allow it now; ``code`` says which conflict."""

    code = "conflict"

    def __init__(self, message: str, *, code: str = "conflict") -> None:
        super().__init__(message)
        self.code = code


class Stale(Conflict):
    """The caller's revision is not the newest: read again, then repeat."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="stale")


class LimitReached(PeregrineError):
    """A bound was hit (``code`` says which); repeat after ``retry_after`` seconds."""

    code = "limit"

    def __init__(self, message: str, *, code: str = "limit", retry_after: int = 1) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after


class Unavailable(PeregrineError):
    """Something behind us is away; nothing was written. Repeat after ``retry_after`` seconds."""

    code = "unavailable"

    def __init__(self, message: str, *, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unsure(Unavailable):
    """A write was sent and its answer lost: it may or may not be stored. Read back before repeating."""

    code = "unsure"


class StorageFull(Unavailable):
    """No room to write; nothing was written. Free space, or wait for retention."""

    code = "storage_full"


class IllegalTransition(AssertionError):
    """A move the lifecycle table does not know: a bug of ours, never a user's error."""


class UnsafeStore(Exception):
    """The store must not be opened; the one line says why and what to do. The process exits with 78."""


class BadConfiguration(Exception):
    """A setting is wrong; the one line names it and says how to write it. The process exits with 78."""
