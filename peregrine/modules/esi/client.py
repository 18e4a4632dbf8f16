"""Owns the HTTP client of this room: one question sent once, within bounds, by somebody who can be reached. Must not
know limits, caches or what is asked.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from dataclasses import dataclass
from typing import Final

import aiohttp
from yarl import URL

from peregrine.domain.errors import BadConfiguration
from peregrine.domain.moment import SECOND, Duration
from peregrine.modules.esi.exchange import Answer, NoAnswer, Question

MEBIBYTE: Final = 1024 * 1024
KEEP_IDLE: Final = 1.5
"""Seconds a connection is kept for the next question: less than servers keep theirs, so that none is used just as it
closes."""
HEADER_MAX: Final = 16 * 1024
_CONTACT = re.compile(r"[!-~]+@[!-~]+\.[!-~]+|https?://[!-~]+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Who we say we are. ``contact``: an address of mail or of a page where CCP reaches whoever runs this."""

    version: str
    contact: str
    source: str = ""

    def __post_init__(self) -> None:
        """Raises BadConfiguration for a visitor whom nobody could reach."""
        if not _CONTACT.fullmatch(self.contact) or len(self.contact) > 200 or set("();") & set(self.contact):
            raise BadConfiguration(
                "EVE's rules ask for a contact in every request: write a mail address or the URL of a page"
            )

    @property
    def user_agent(self) -> str:
        """As EVE's rules want it: program, version, contact, source."""
        source = f"; +{self.source}" if self.source else ""
        return f"Peregrine/{self.version} ({self.contact}{source})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What one answer may cost. ``patience``: from connecting to the last byte."""

    patience: Duration = 20 * SECOND
    connect: Duration = 5 * SECOND
    body_max: int = 8 * MEBIBYTE
    """Bytes, as sent and inflated."""
    connections: int = 50


class HttpClient:
    """An ``Http`` on real sockets. Connections are made on the loop that first asks; ``close`` ends them."""

    def __init__(self, visitor: Visitor, bounds: Bounds | None = None) -> None:
        self._visitor = visitor
        self._bounds = bounds or Bounds()
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close every connection. Safe twice, safe before the first question."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def send(self, question: Question) -> Answer:
        """The complete answer. Raises NoAnswer."""
        try:
            async with asyncio.timeout(self._bounds.patience / SECOND):
                return await self._send(question)
        except TimeoutError as error:
            never_sent = isinstance(error, aiohttp.ConnectionTimeoutError)
            raise NoAnswer("no complete answer in time", sent=not never_sent) from None
        except aiohttp.ClientConnectorError:
            raise NoAnswer("no connection", sent=False) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # The text of a client's error may quote the request; its kind says enough.
            raise NoAnswer(f"the answer broke off ({type(error).__name__})", sent=True) from None

    async def _send(self, question: Question) -> Answer:
        async with self._opened().request(
            question.method,
            URL(question.url, encoded=True),
            headers=dict(question.headers),
            data=question.body,
            skip_auto_headers=("Content-Type",),
            allow_redirects=False,
        ) as reply:
            body = await self._body(reply)
            return Answer(reply.status, {name.lower(): value for name, value in reply.headers.items()}, body)

    async def _body(self, reply: aiohttp.ClientResponse) -> bytes:
        """The body, inflated piece by piece, so that a bomb costs no more than the bound."""
        encoding = reply.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in ("", "identity", "gzip"):
            raise NoAnswer("the answer is encoded in a way that was not asked for", sent=True)
        most = self._bounds.body_max
        inflate = zlib.decompressobj(31) if encoding == "gzip" else None
        raw, body = 0, bytearray()
        while piece := await reply.content.readany():
            raw += len(piece)
            body += piece if inflate is None else _inflated(inflate, piece, most + 1 - len(body))
            if raw > most or len(body) > most:
                raise NoAnswer(f"the answer is larger than {most // 1024} KiB", sent=True)
        if inflate is not None and raw and not inflate.eof:
            raise NoAnswer("the answer ends in the middle of its compressed stream", sent=True)
        return bytes(body)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._bounds.connections, keepalive_timeout=KEEP_IDLE),
                headers={
                    "User-Agent": self._visitor.user_agent,
                    "Accept": "application/json",
                    "Accept-Encoding": "gzip",
                },
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._bounds.connect / SECOND),
                max_line_size=HEADER_MAX,
                max_field_size=HEADER_MAX,
            )
            # One question is one request: the client would send an idempotent one again by itself when a kept
            # connection closes under it, past every count of ours.
            self._session._retry_connection = False
        return self._session


def _inflated(inflate: zlib._Decompress, piece: bytes, room: int) -> bytes:
    try:
        return inflate.decompress(piece, max(1, room))
    except zlib.error:
        raise NoAnswer("the answer does not inflate", sent=True) from None
