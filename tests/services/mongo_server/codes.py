"""Owns what an error of the database is called in the MongoDB protocol; must not know commands.

The extension raises SQLSTATEs of the form ``Mxxxx``: four digits of base 36 that number its errors in an order of its
own (observed: ``M001C`` is 48, the duplicate key). In answers of bulk writes the same stands packed into an integer.
"""

from __future__ import annotations

from typing import Any, Final

import bson

DUPLICATE_KEY: Final = 11000
WRITE_CONFLICT: Final = 112
RETRIED: Final = ("40001", "40P01")
"""Serialisation failure, deadlock: mongod tries such a single write again itself, so a gateway must too."""

_NAMES: Final = {
    1: (2, "BadValue"),
    8: (26, "NamespaceNotFound"),
    14: (43, "CursorNotFound"),
    15: (48, "NamespaceExists"),
    22: (66, "ImmutableField"),
    27: (85, "IndexOptionsConflict"),
    28: (86, "IndexKeySpecsConflict"),
    48: (DUPLICATE_KEY, "DuplicateKey"),
    456: (121, "DocumentValidationFailure"),
}
_PLAIN: Final = {
    "23505": (DUPLICATE_KEY, "DuplicateKey"),
    "23P01": (DUPLICATE_KEY, "DuplicateKey"),
    "40001": (WRITE_CONFLICT, "WriteConflict"),
    "40P01": (WRITE_CONFLICT, "WriteConflict"),
    "57014": (50, "MaxTimeMSExpired"),
}
_PACKED_FROM: Final = 1 << 17
"""No code of the protocol is so high. PostgreSQL packs a SQLSTATE as five letters of six bits, the first one lowest, so
what differs between the extension's own stands in the highest bits."""


def code_of(sqlstate: str) -> tuple[int, str]:
    """The protocol's code and name of an error."""
    if sqlstate.startswith("M"):
        number = int(sqlstate[1:], 36)
        return _NAMES.get(number, (number, f"DocumentDB{number}"))
    return _PLAIN.get(sqlstate, (1, "InternalError"))


def unpacked(code: int) -> int:
    """The protocol's code of one that is a packed SQLSTATE; any other stays as it is."""
    if code < _PACKED_FROM:
        return code
    letters = [chr(((code >> shift) & 0x3F) + ord("0")) for shift in range(0, 30, 6)]
    return code_of("".join(letters))[0]


def failure(sqlstate: str, text: str) -> dict[str, Any]:
    """The answer to a command that failed."""
    code, name = code_of(sqlstate)
    return {"ok": 0.0, "code": code, "codeName": name, "errmsg": said(code, text)}


def said(code: int, text: str) -> str:
    """The words of an error. Drivers look for those of a duplicate key."""
    return f"E11000 duplicate key error: {text}" if code == DUPLICATE_KEY else text


def with_codes(answer: bytes) -> bytes:
    """The *answer* of a write with the protocol's codes in its write errors."""
    if b"writeErrors" not in answer:
        return answer
    document = bson.decode(answer)
    for error in document.get("writeErrors", []):
        error["code"] = unpacked(error["code"])
        error["errmsg"] = said(error["code"], error.get("errmsg", ""))
    return bson.encode(document)
