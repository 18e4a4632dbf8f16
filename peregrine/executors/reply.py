"""Owns reading an answer within bounds: inflating, cutting, decoding, ``Retry-After``; must not know sockets.

An answer is written by a stranger. Whatever it claims, reading it costs bounded memory (the kept text, one piece of
inflated body) and bounded time (each piece is small, and the caller may let others run between two).
"""

from __future__ import annotations

import codecs
import re
import zlib
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Final

from peregrine.domain.moment import SECOND, Duration, Moment, from_datetime

MEBIBYTE: Final = 1024 * 1024
BODY_READ_MAX: Final = 10 * MEBIBYTE
"""A longer body, as sent or inflated, fails the attempt."""
PIECE: Final = 64 * 1024
"""How much is inflated at a time."""
HEADERS_MAX: Final = 32 * 1024
HEADERS_TOO_LARGE: Final = f"the headers are larger than {HEADERS_MAX // 1024} KiB"

ACCEPT_ENCODING: Final = "gzip, deflate"
_CHARSET = re.compile(r"charset\s*=\s*\"?([A-Za-z0-9._:\-]{1,40})", re.IGNORECASE | re.ASCII)
# Only charsets that decode in linear time to plain text. Python's codecs also hold ciphers, escapes and compressors.
_CHARSETS: Final = frozenset(
    codecs.lookup(name).name
    for name in (
        "ascii", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be",
        *(f"iso8859-{part}" for part in (*range(1, 12), *range(13, 17))),
        *(f"cp{page}" for page in (437, 850, 852, 866, 874, 932, 949, 950, *range(1250, 1259))),
        "koi8-r", "koi8-u", "mac-roman", "shift_jis", "euc_jp", "iso2022_jp", "gb2312", "gbk", "gb18030", "big5",
        "euc_kr",
    )
)  # fmt: skip


class TooLarge(Exception):
    """The answer is larger than is read; the text says what."""


class BadEncoding(Exception):
    """The body is not what its Content-Encoding says."""


class Inflater:
    """Undoes gzip and deflate piece by piece; never more than ``PIECE`` at a time."""

    def __init__(self, encoding: str) -> None:
        self._gzip = encoding == "gzip"
        self._start = b""
        self._inflate = zlib.decompressobj(31)
        self._has_begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The pieces that *data* inflates to.

        Raises:  BadEncoding.
        """
        if not self._has_begun:
            data = self._begin(data)
        while data:
            try:
                piece = self._inflate.decompress(data, PIECE)
            except zlib.error as error:
                raise BadEncoding("the body does not inflate: it is damaged or not compressed as it says") from error
            if piece:
                yield piece
            data = self._inflate.unconsumed_tail
            if self._inflate.eof:
                data = self._next_member(self._inflate.unused_data)

    def _begin(self, data: bytes) -> bytes:
        """What may be inflated of *data*: nothing before the two bytes are here that tell the format."""
        self._start += data
        if len(self._start) < 2:
            return b""
        self._has_begun = True
        start, self._start = self._start, self._start[:2]
        if not self._gzip:
            # "deflate" is zlib by the book, but some send it bare.
            has_header = start[0] & 0x0F == 8 and int.from_bytes(start[:2], "big") % 31 == 0
            self._inflate = zlib.decompressobj(15 if has_header else -15)
        return start

    def _next_member(self, rest: bytes) -> bytes:
        """gzip files may be strung together; anything else after the end is padding and dropped."""
        if self._gzip and rest.startswith(b"\x1f\x8b"):
            self._inflate = zlib.decompressobj(31)
            return rest
        return b""

    @property
    def is_complete(self) -> bool:
        """Whether the stream came to its own end (or never began: an empty body is fine)."""
        return not self._start or self._inflate.eof


class Body:
    """Takes a body as it arrives and keeps its beginning.

    ``kept_max`` bytes can be shown; a little more is held back, so that a secret across the cut is still recognised.
    """

    def __init__(self, encoding: str, *, kept_max: int, ahead: int = 0, read_max: int = BODY_READ_MAX) -> None:
        self.sent_bytes = 0
        """As sent, still compressed."""
        self._held = bytearray()
        self._hold_max = kept_max + ahead
        self._kept_max = kept_max
        self._read_max = read_max
        self._size = 0
        self._inflater: Inflater | None = None
        self.unknown_encoding = ""
        if encoding in ("gzip", "x-gzip", "deflate"):
            self._inflater = Inflater(encoding.removeprefix("x-"))
        elif encoding not in ("", "identity"):
            self.unknown_encoding = encoding

    def take(self, data: bytes) -> Iterator[None]:
        """Take what arrived; each step is a moment at which others may run.

        Raises:  TooLarge, BadEncoding.
        """
        self.sent_bytes += len(data)
        if self._inflater is None:
            self._keep(data)
            return
        if self.sent_bytes > self._read_max:
            raise TooLarge(_too_large(self._read_max))
        for piece in self._inflater.feed(data):
            self._keep(piece)
            yield

    def finish(self) -> None:
        """Say that the body is at its end.

        Raises:  BadEncoding if the compressed stream is not.
        """
        if self._inflater is not None and not self._inflater.is_complete:
            raise BadEncoding("the body ends in the middle of its compressed stream")

    def refuse_if_longer(self, announced: int | None) -> None:
        """Raises TooLarge once enough is kept and the announced length says that the rest would be too much."""
        if announced is not None and announced > self._read_max and len(self._held) >= self._hold_max:
            raise TooLarge(_too_large(self._read_max))

    def text(self, charset: str) -> str:
        """What was kept, as text; undecodable bytes become U+FFFD. Not cut to size yet (see ``cut``)."""
        if self.unknown_encoding:
            return f"({self.sent_bytes} bytes, encoded as {self.unknown_encoding[:40]!r}, not shown)"
        if self._size <= len(self._held):
            text = self._held.decode(charset, "replace")
        else:
            # What ends in the middle of a character only because we cut there is no damage.
            text = codecs.getincrementaldecoder(charset)(errors="replace").decode(bytes(self._held))
        return text.replace("\x00", "\ufffd")

    @property
    def is_cut(self) -> bool:
        """Whether more arrived than can be shown."""
        return self._size > self._kept_max and not self.unknown_encoding

    def _keep(self, data: bytes) -> None:
        self._size += len(data)
        if (room := self._hold_max - len(self._held)) > 0:
            self._held += data[:room]
        if self._size > self._read_max:
            raise TooLarge(_too_large(self._read_max))


def _too_large(most: int) -> str:
    return f"the body is larger than {most // MEBIBYTE} MiB" if most >= MEBIBYTE else f"the body exceeds {most} bytes"


def cut(text: str, bytes_max: int) -> tuple[str, bool]:
    """*text* cut to at most *bytes_max* bytes of UTF-8, between characters; and whether anything was cut."""
    if len(text) * 4 <= bytes_max:
        return text, False
    encoded = text.encode("utf-8")
    if len(encoded) <= bytes_max:
        return text, False
    return encoded[:bytes_max].decode("utf-8", "ignore"), True


@lru_cache(maxsize=256)
def charset_of(content_type: str) -> str:
    """The charset a Content-Type names, if it is one we decode; else UTF-8."""
    match = _CHARSET.search(content_type)
    if match is None:
        return "utf-8"
    try:
        name = codecs.lookup(match[1]).name
    except LookupError:
        return "utf-8"
    return name if name in _CHARSETS else "utf-8"


def retry_after(value: str, now: Moment) -> Duration | None:
    """How long ``Retry-After`` asks to wait, counted from *now*; None if it says nothing usable."""
    value = value.strip()
    if value.isascii() and value.isdecimal():
        return int(value[:9]) * SECOND if len(value) <= 9 else None
    try:
        moment = from_datetime(parsedate_to_datetime(value))
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
    return max(0, moment - now)
