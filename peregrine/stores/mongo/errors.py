"""Owns what each fault of the driver means to the house; must not know any verb.

The question is always the same: can the write have happened? What never left is ``Unavailable``; what left and was
not answered is ``Unsure``, and is read back by the verb or by whoever asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    DuplicateKeyError,
    ExecutionTimeout,
    InvalidOperation,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WriteConcernError,
)

from peregrine.domain.errors import StorageFull, Unavailable, Unsure

WRITE_CONFLICT: Final = 112
_DUPLICATE: Final = 11000
_FULL: Final = frozenset({12501, 14031})
"""QuotaExceeded, OutOfDiskSpace."""
_REFUSED: Final = frozenset({13, 18})
"""Unauthorized, AuthenticationFailed."""
_BREAKING_OFF: Final = frozenset({6, 7, 89, 91, 189, 262, 9001, 11600, 11602})
"""The server went away or gave up its place while it worked: what it was doing may be kept."""
_OUR_BUG: Final = frozenset({2, 9, 14, 16, 28, 40, 52, 56, 57, 66, 67, 85, 86})
"""The command itself is wrong, whatever the state of the store: to translate it would hide it."""

AWAY: Final = "the database can't be reached now"
LOST: Final = "the database did not answer a write; it may or may not be kept"
HALFWAY: Final = "the database went away in the middle of a write; some of it may be kept"


class Taken(Exception):
    """A unique key is taken: the verb decides what that means."""


def translate(error: PyMongoError, *, writes: bool) -> Exception:
    """*error* as callers know it: safe to show, no address, no password. What is a bug of ours stays what it is."""
    if isinstance(error, BulkWriteError):
        return _of_bulk(error)
    if isinstance(error, DuplicateKeyError):
        return Taken()
    if _never_left(error):
        return Unavailable(AWAY)
    if isinstance(error, OperationFailure):
        return _of_code(error, error.code or 0, writes=writes)
    if isinstance(error, ConfigurationError | InvalidOperation):
        return error
    return Unsure(LOST) if writes else Unavailable(AWAY)


def _never_left(error: PyMongoError) -> bool:
    """Whether no byte of the command can have reached a server."""
    if isinstance(error, ServerSelectionTimeoutError | WaitQueueTimeoutError):
        return True
    refused = isinstance(error.__cause__, ConnectionRefusedError) or "Connection refused" in str(error)
    return isinstance(error, AutoReconnect | ConnectionFailure) and refused


def _of_code(error: PyMongoError, code: int, *, writes: bool) -> Exception:
    if code in _FULL:
        return StorageFull("the disk of the database is full; nothing was written")
    if code in _REFUSED:
        return Unavailable("the database refuses this user; see to its name, password and rights")
    if isinstance(error, WriteConcernError) or (writes and code in _BREAKING_OFF):
        return Unsure(LOST)
    if isinstance(error, ExecutionTimeout):
        return Unavailable("the database took too long to answer; ask for less at once")
    if code in _OUR_BUG:
        return error
    if code == WRITE_CONFLICT:
        return Unavailable("the database is too busy with rival writes")
    return Unsure(LOST) if writes and code == 0 else Unavailable(f"the database refused a command (code {code})")


def _of_bulk(error: BulkWriteError) -> Exception:
    """Some of a batch may be written, so what is not a plain refusal leaves the whole of it unsure."""
    faults = write_errors(error)
    codes = {int(fault.get("code", 0)) for fault in faults}
    if codes & _OUR_BUG:
        return error
    if codes == {_DUPLICATE} and not _details(error).get("writeConcernErrors"):
        return Taken()
    return Unsure(LOST)


def write_errors(error: BulkWriteError) -> list[Mapping[str, Any]]:
    """What the server says of each operation that it refused."""
    found: Iterable[Mapping[str, Any]] = _details(error).get("writeErrors") or []
    return list(found)


def duplicates(error: BulkWriteError) -> set[int] | None:
    """The places of what was refused because its key is taken; None if anything else went wrong too."""
    faults = write_errors(error)
    if _details(error).get("writeConcernErrors") or any(fault.get("code") != _DUPLICATE for fault in faults):
        return None
    return {int(fault["index"]) for fault in faults}


def is_conflict(error: PyMongoError) -> bool:
    """Whether rival writes met, so that the same command can be sent again."""
    if isinstance(error, BulkWriteError):
        return any(fault.get("code") == WRITE_CONFLICT for fault in write_errors(error))
    return isinstance(error, OperationFailure) and error.code == WRITE_CONFLICT


def _details(error: BulkWriteError) -> Mapping[str, Any]:
    return error.details or {}
