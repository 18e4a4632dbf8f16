"""Owns how messages cross between the service and a child process: a length, then JSON; must not know what they say.

JSON and never pickle: what comes back from a process where a user's code ran is only ever data.
"""

from __future__ import annotations

import json
import struct
from typing import Final

from peregrine.domain.payload import JsonObject

FRAME_BYTES_MAX: Final = 64 * 1024 * 1024
"""Far above any request (bodies end at 1 MiB); beyond it the other side has lost its mind."""

_LENGTH: Final = struct.Struct(">I")


class BrokenFrame(Exception):
    """The other side sent what is no message."""


def pack(message: JsonObject) -> bytes:
    """*message* as bytes on the wire."""
    body = json.dumps(message).encode()
    return _LENGTH.pack(len(body)) + body


class Unpacker:
    """Puts messages together from whatever pieces arrive."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, piece: bytes) -> None:
        self._buffer += piece

    def take(self) -> JsonObject | None:
        """The next whole message; None: feed more.

        Raises:  BrokenFrame.
        """
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > FRAME_BYTES_MAX:
            raise BrokenFrame(f"a message of {length} bytes")
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[_LENGTH.size : end])
        del self._buffer[:end]
        try:
            message = json.loads(body)
        except ValueError as error:
            raise BrokenFrame(str(error)) from None
        if not isinstance(message, dict):
            raise BrokenFrame("not an object")
        return message
