"""Owns the frames of the MongoDB wire protocol: OP_MSG, and the one OP_QUERY that asks who is there; not: commands."""

from __future__ import annotations

import asyncio
import itertools
import struct
from dataclasses import dataclass
from typing import Final

OP_REPLY: Final = 1
OP_QUERY: Final = 2004
OP_MSG: Final = 2013
MESSAGE_BYTES_MAX: Final = 48_000_000
"""What ``hello`` promises; a longer one ends the connection."""

_HEADER: Final = struct.Struct("<iiii")
_LENGTH: Final = struct.Struct("<i")
_REPLY_HEAD: Final = struct.Struct("<iqii")
_CHECKSUM, _MORE_TO_COME = 1, 2
_numbers = itertools.count(1)


class BadMessage(Exception):
    """Not a message of the protocol; the connection can't go on."""


@dataclass(frozen=True, slots=True)
class Message:
    """One command: its BSON document, the documents that stand beside it, and whether an answer is wanted."""

    number: int
    command: bytes
    sequence: bytes | None
    is_query: bool = False
    wants_answer: bool = True


async def read(reader: asyncio.StreamReader) -> Message:
    """The next message. Raises ``asyncio.IncompleteReadError`` at the end, BadMessage."""
    length, number, _, code = _HEADER.unpack(await reader.readexactly(_HEADER.size))
    if not _HEADER.size <= length <= MESSAGE_BYTES_MAX:
        raise BadMessage(f"{length} bytes")
    body = await reader.readexactly(length - _HEADER.size)
    if code == OP_QUERY:
        name_end = body.index(0, 4)
        return Message(number, body[name_end + 9 :], None, is_query=True)
    if code != OP_MSG:
        raise BadMessage(f"operation {code}")
    return _message(number, body)


def _message(number: int, body: bytes) -> Message:
    (flags,) = _LENGTH.unpack_from(body)
    at, end = 4, len(body) - (4 if flags & _CHECKSUM else 0)
    command, sequence = b"", None
    while at < end:
        section = body[at]
        (length,) = _LENGTH.unpack_from(body, at + 1)
        if section == 0:
            command = body[at + 1 : at + 1 + length]
        else:
            name_end = body.index(0, at + 5)
            sequence = body[name_end + 1 : at + 1 + length]
        at += 1 + length
    if not command:
        raise BadMessage("no command")
    return Message(number, command, sequence, wants_answer=not flags & _MORE_TO_COME)


def answer(message: Message, document: bytes) -> bytes:
    """The frame that answers *message*."""
    if message.is_query:
        return _frame(message, OP_REPLY, _REPLY_HEAD.pack(8, 0, 0, 1) + document)
    return _frame(message, OP_MSG, b"\0\0\0\0\0" + document)


def _frame(message: Message, code: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), next(_numbers), message.number, code) + body
