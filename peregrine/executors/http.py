"""Owns one HTTP request, sent faithfully and answered within bounds; must not know retries.

Where each promise lives: *which address* in ``egress`` (asked again here at every hop and at every connect), *which
request* in ``request`` and ``template``, *how much answer* in ``reply``, *which secret* in ``redaction``. Here the HTTP
client is driven, and what goes wrong with it is put into words.
"""

from __future__ import annotations

import asyncio
import errno
import re
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final, TypeAlias

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.streams import EMPTY_PAYLOAD
from yarl import URL

from peregrine.domain.errors import Fault
from peregrine.domain.execution import AttemptOutcome, Outcome
from peregrine.domain.moment import SECOND, Duration, format_duration
from peregrine.domain.payload import HttpPayload, JsonObject, Payload
from peregrine.domain.redaction import secret_texts
from peregrine.executors.egress import AddressInfo, BadTarget, Blocked, Egress, Target
from peregrine.executors.redaction import Redactor, redacted_url
from peregrine.executors.reply import (
    ACCEPT_ENCODING,
    MEBIBYTE,
    BadEncoding,
    Body,
    TooLarge,
    charset_of,
    cut,
    retry_after,
)
from peregrine.executors.request import REDIRECTS, BadRedirect, Draft, Request
from peregrine.executors.template import BadValue
from peregrine.ports.clock import Clock
from peregrine.ports.executor import RunContext

REDIRECTS_MAX: Final = 5
CONNECT_TIMEOUT: Final = 5.0
"""Seconds for connect and TLS handshake of one hop; the attempt's own limit holds besides."""
HEADERS_MAX: Final = 32 * 1024
OUTPUT_BYTES: Final = 64 * 1024
OUTPUT_BYTES_MAX: Final = MEBIBYTE
FRAMING_MAX: Final = 256 * 1024
"""What the framing of an answer (chunk sizes, extensions, trailers) may take beyond twice its body: an endless chunk
extension is no body at all, and a body of one-byte chunks costs far more to read than to send."""
KEEP_IDLE: Final = 1.5
"""Seconds a connection is kept for the next attempt: less than common servers keep theirs, so that none is used just
as it closes."""
_NO_TYPE: Final = ("Content-Type",)
DRAFTS_MAX: Final = 2048
DRAFT_SIZE_MAX: Final = 8 * 1024
FAULTS_MAX: Final = 50
LOOK_UP_THREADS: Final = 8

LookUp: TypeAlias = Callable[[str], Awaitable[Sequence[str]]]
"""The addresses of a name; raises OSError (``socket.gaierror``) when there are none."""


class _Failed(Exception):
    """The attempt ends here. ``code`` is for machines, ``sentence`` for people; no word in it is the target's own."""

    def __init__(self, code: str, sentence: str, *, retryable: bool = True) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.retryable = retryable


def _blocked(reason: str) -> _Failed:
    return _Failed("blocked_target", f"target not allowed: {reason}", retryable=False)


@dataclass(slots=True)
class _Attempt:
    """What one attempt has come to so far. The connection's hooks find it through ``_CURRENT``."""

    clock: Clock
    started: int
    redactor: Redactor
    output_bytes: int
    host: str = ""
    """The host that the hop's URL names; an allow-listed name is only good for itself."""
    url: str = ""
    hop_started: int = 0
    connect: Duration = 0
    """Spent on connecting, all hops; 0 when a kept connection was used."""
    first_byte: Duration | None = None
    redirects: int = 0
    blocked: str = ""
    """Why the hop's address was refused as it was about to be connected to."""
    reply: aiohttp.ClientResponse | None = None
    body: Body | None = None
    is_read: bool = False
    """Whether the last answer was read to its end."""
    transport: asyncio.Transport | None = None

    def begin_hop(self, target: Target) -> None:
        self.let_go()
        self.reply = None
        self.blocked = ""
        self.host = target.host
        self.url = target.url
        self.hop_started = self.clock.monotonic()

    def connected(self, transport: asyncio.Transport | None) -> None:
        self.transport = transport
        self.connect += self.clock.monotonic() - self.hop_started

    def let_go(self) -> None:
        """Close at once what is not finished.

        A polite close would first wait until all was sent, and the system would go on sending after it. A connection
        whose answer has wholly arrived is the client's again, perhaps in use by another attempt: hands off.
        """
        transport, self.transport = self.transport, None
        if transport is None or (self.reply is not None and self.reply.connection is None):
            return
        _reset_on_close(transport)
        if self.reply is not None:
            self.reply.close()
        transport.abort()


def _reset_on_close(transport: asyncio.Transport) -> None:
    own: socket.socket | None = transport.get_extra_info("socket")
    if own is not None:
        with suppress(OSError, ValueError):  # it may be closed already; the loops say so in different ways
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


_CURRENT: ContextVar[_Attempt | None] = ContextVar("peregrine_http_attempt", default=None)


class HttpExecutor:
    """Sends the request of an ``HttpPayload``.

    *secrets*: what ``{{ secret.NAME }}`` means. *output_bytes*: how much of an answer's body is kept.
    *look_up*: how names are resolved (the system's resolver by default). *tls*: the authorities to trust when
    ``validate_ssl`` is on (the system's by default).

    Sessions are made on the loop that first needs them; ``close`` ends them and may be followed by new attempts.
    """

    def __init__(
        self,
        egress: Egress,
        clock: Clock,
        *,
        version: str,
        secrets: Mapping[str, str] | None = None,
        output_bytes: int = OUTPUT_BYTES,
        look_up: LookUp | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        if not 0 < output_bytes <= OUTPUT_BYTES_MAX:
            raise ValueError(f"output_bytes must lie between 1 and {OUTPUT_BYTES_MAX}")
        self._egress = egress
        self._clock = clock
        self._version = version
        self._secrets = dict(secrets or {})
        self._redactor = Redactor(self._secrets.values())
        self._output_bytes = output_bytes
        self._look_up = look_up
        self._tls = tls
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._names: _Names | None = None
        self._kept_draft = lru_cache(maxsize=DRAFTS_MAX)(Draft)

    # ── life ─────────────────────────────────────────────────────────────────────────────────────

    async def open(self) -> None:
        """Make what the first attempt would make; nothing is connected yet."""
        for validate in (True, False):
            self._session(validate=validate)

    async def close(self) -> None:
        """Close every connection. Safe twice, safe without ``open``."""
        sessions, self._sessions = self._sessions, {}
        names, self._names = self._names, None
        for session in sessions.values():
            await session.close()
        if names is not None:
            names.close()

    def _session(self, *, validate: bool) -> aiohttp.ClientSession:
        """The session of one policy: a connection that was made without a TLS check never serves one that wants it."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._sessions = loop, {}
        session = self._sessions.get(validate)
        if session is None:
            session = self._sessions[validate] = self._new_session(validate=validate)
        return session

    def _new_session(self, *, validate: bool) -> aiohttp.ClientSession:
        look_up = self._look_up
        if look_up is None:
            self._names = self._names or _Names()
            look_up = self._names.addresses_of
        connector = _Connector(
            ssl=(self._tls or True) if validate else False,
            resolver=_Resolver(self._egress, look_up),
            socket_factory=self._open_socket,
        )
        session = aiohttp.ClientSession(
            connector=connector,
            headers={"User-Agent": f"Peregrine/{self._version}", "Accept-Encoding": ACCEPT_ENCODING},
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT),
            max_line_size=HEADERS_MAX,
            max_field_size=HEADERS_MAX,
            max_headers=1000,
        )
        # One attempt is one request. The client would send an idempotent one again by itself when a kept connection
        # closes under it, and the receiver would see an attempt twice.
        session._retry_connection = False
        return session

    def _open_socket(self, info: AddressInfo) -> socket.socket:
        attempt = _CURRENT.get()
        try:
            return self._egress.open_socket(info, attempt.host if attempt else "")
        except Blocked as blocked:
            if attempt is not None:
                attempt.blocked = blocked.reason
            raise

    # ── the seam ─────────────────────────────────────────────────────────────────────────────────

    def check(self, payload: Payload, parameters: JsonObject | None = None) -> Sequence[Fault]:
        """What is wrong with *payload* as far as it shows without a look-up: texts, secrets, the target."""
        if not isinstance(payload, HttpPayload):
            return (Fault("/type", "is not an HTTP task"),)
        draft = self._draft_of(payload)
        faults = list(dict.fromkeys(draft.faults(self._secrets, parameters)))[:FAULTS_MAX]
        reasons = self._egress.faults_of(draft.sample_url)
        return faults + [Fault("/config/url", f"target_not_allowed: {reason}") for reason in reasons]

    async def run(self, payload: Payload, context: RunContext) -> Outcome:
        """The outcome of one request. A cancel closes its socket at once and passes."""
        assert isinstance(payload, HttpPayload)
        attempt = _Attempt(self._clock, self._clock.monotonic(), self._redactor, self._output_bytes)
        token = _CURRENT.set(attempt)
        try:
            return await self._run(payload, context, attempt)
        finally:
            attempt.let_go()
            _CURRENT.reset(token)

    async def _run(self, payload: HttpPayload, context: RunContext, attempt: _Attempt) -> Outcome:
        left = context.deadline - attempt.started
        own = payload.timeout is not None and payload.timeout < left
        limit = payload.timeout if own and payload.timeout is not None else left
        try:
            request = self._request(payload, context, attempt)
            if limit <= 0:
                raise TimeoutError
            async with asyncio.timeout(limit / SECOND):
                await self._walk(request, payload, attempt)
            return self._judge(payload, attempt)
        except TimeoutError:
            limit_text = f"within {format_duration(limit)}" if own else "before the task's timeout"
            return _outcome(attempt, _Failed("timeout", f"no complete answer {limit_text}"))
        except _Failed as failed:
            return _outcome(attempt, failed)

    def _request(self, payload: HttpPayload, context: RunContext, attempt: _Attempt) -> Request:
        """The first request. From here on the secrets that it carries itself are hidden too."""
        try:
            request, own_secrets = self._draft_of(payload).fill(context.claim, self._secrets)
        except BadValue as error:
            raise _Failed("bad_value", str(error), retryable=False) from None
        except BadTarget as error:
            raise _blocked(str(error)) from None
        attempt.redactor = self._redactor | own_secrets
        if given := context.claim.parameters:
            attempt.redactor |= Redactor(secret_texts(given))
        return request

    def _draft_of(self, payload: HttpPayload) -> Draft:
        """*payload*, read once; a large one is read each time, so that what is kept stays small."""
        size = len(payload.body or "") + sum(len(value) for _, value in payload.headers)
        return self._kept_draft(payload) if size <= DRAFT_SIZE_MAX else Draft(payload)

    # ── the walk: one request and its redirects ──────────────────────────────────────────────────

    async def _walk(self, request: Request, payload: HttpPayload, attempt: _Attempt) -> None:
        """Ask, follow redirects where the task wants it, read the last answer.

        Raises:  _Failed; TimeoutError is the attempt's own limit and nothing else.
        """
        while True:
            reply = await self._ask(request, payload, attempt)
            location = reply.headers.get("Location") if reply.status in REDIRECTS else None
            if location is None or not payload.follow_redirect or reply.status in payload.expected_codes:
                break
            request = self._redirected(request, reply.status, location, attempt)
        attempt.first_byte = self._clock.monotonic() - attempt.started
        await self._read(reply, request.target, attempt)

    async def _ask(self, request: Request, payload: HttpPayload, attempt: _Attempt) -> aiohttp.ClientResponse:
        """The head of the answer to *request*."""
        target = request.target
        attempt.begin_hop(target)
        verdict = self._egress.foresee(target)
        if not verdict.allowed:
            raise _blocked(verdict.reason)
        try:
            attempt.reply = reply = await self._session(validate=payload.validate_ssl).request(
                request.method,
                _wire_url(target.url),
                headers=request.headers,
                data=request.body,
                skip_auto_headers=_NO_TYPE if request.body is None else None,
                allow_redirects=False,
            )
        except (aiohttp.ClientError, OSError, TooLarge, ValueError) as error:
            raise _blocked(attempt.blocked) if attempt.blocked else _failure(error, target) from error
        if sum(len(name) + len(value) for name, value in reply.raw_headers) > HEADERS_MAX:
            raise _failure(TooLarge(_HEADERS_TOO_LARGE), target)
        return reply

    def _redirected(self, request: Request, status: int, location: str, attempt: _Attempt) -> Request:
        if attempt.redirects >= REDIRECTS_MAX:
            raise _Failed("redirect", f"more than {REDIRECTS_MAX} redirects")
        attempt.redirects += 1
        try:
            return request.redirected(status, location)
        except BadTarget as error:
            raise _blocked(f"{request.target.place} redirects to an address that can't be asked: {error}") from None
        except BadRedirect as error:
            raise _Failed("redirect", str(error), retryable=False) from None

    async def _read(self, reply: aiohttp.ClientResponse, target: Target, attempt: _Attempt) -> None:
        """Read the body into ``attempt.body`` to its end; what was kept stays there whatever happens."""
        encoding = reply.headers.get("Content-Encoding", "").strip().lower()
        ahead = 4 * attempt.redactor.longest
        body = attempt.body = Body(encoding, kept_max=attempt.output_bytes, ahead=ahead)
        try:
            # Most answers are here with their head: those need no second turn of the loop.
            while data := reply.content.read_nowait() if reply.content.is_eof() else await reply.content.readany():
                for _ in body.take(data):
                    await asyncio.sleep(0)
                body.refuse_if_longer(reply.content_length)
            body.finish()
        except (aiohttp.ClientError, OSError, TooLarge, BadEncoding) as error:
            raise _failure(error, target, during_body=True) from error
        attempt.is_read = True

    def _judge(self, payload: HttpPayload, attempt: _Attempt) -> Outcome:
        """The outcome of a complete answer: its status decides."""
        assert attempt.reply is not None
        status = attempt.reply.status
        if status in payload.expected_codes or (not payload.expected_codes and 200 <= status <= 299):
            return _outcome(attempt, None)
        wanted = " or ".join(map(str, payload.expected_codes))
        expected = f"status {wanted}" if wanted else "a 2xx status"
        return _outcome(attempt, _Failed("unexpected_status", f"expected {expected}, got {status}"))


# ── the outcome ──────────────────────────────────────────────────────────────────────────────────


def _outcome(attempt: _Attempt, failed: _Failed | None) -> Outcome:
    """What is said of the attempt; nothing in it holds a secret that we know of."""
    output, truncated = _output(attempt, is_whole=attempt.is_read)
    wait = None
    if failed is not None and attempt.reply is not None:
        wait = retry_after(attempt.reply.headers.get("Retry-After", ""), attempt.clock.now())
    return Outcome(
        verdict=_verdict(failed),
        output=output,
        error=None if failed is None else attempt.redactor.clean(failed.sentence),
        truncated=truncated,
        detail=_detail(attempt, failed),
        retryable=failed is None or failed.retryable,
        retry_after=wait,
    )


def _verdict(failed: _Failed | None) -> AttemptOutcome:
    if failed is None:
        return AttemptOutcome.SUCCEEDED
    return AttemptOutcome.TIMED_OUT if failed.code == "timeout" else AttemptOutcome.FAILED


def _output(attempt: _Attempt, *, is_whole: bool) -> tuple[str, bool]:
    """The kept text without secrets, and whether something of the body is missing."""
    if attempt.body is None or attempt.reply is None:
        return "", False
    text = attempt.redactor.clean(attempt.body.text(charset_of(attempt.reply.headers.get("Content-Type", ""))))
    if attempt.body.is_cut or not is_whole:
        text = attempt.redactor.clean_end(text)
    text, was_cut = cut(text, attempt.output_bytes)
    return text, was_cut or attempt.body.is_cut or not is_whole


def _detail(attempt: _Attempt, failed: _Failed | None) -> JsonObject:
    timings: JsonObject = {"connect": attempt.connect, "total": attempt.clock.monotonic() - attempt.started}
    if attempt.first_byte is not None:
        timings["first_byte"] = attempt.first_byte
    detail: JsonObject = {
        "url": attempt.redactor.clean(_shown_url(attempt.url)),
        "redirects": attempt.redirects,
        "bytes": attempt.body.sent_bytes if attempt.body else 0,
        "timings_ms": timings,
    }
    if attempt.reply is not None and attempt.first_byte is not None:
        detail["status_code"] = attempt.reply.status
    if failed is not None:
        detail["code"] = failed.code
    return detail


_shown_url = lru_cache(maxsize=1024)(redacted_url)


# ── what goes wrong, in words ────────────────────────────────────────────────────────────────────

_HEADERS_TOO_LARGE: Final = f"the headers are larger than {HEADERS_MAX // 1024} KiB"
_REFUSED_HOW: Final = {
    errno.ECONNREFUSED: "connection refused by {}",
    errno.ECONNRESET: "connection reset by {}",
    errno.EPIPE: "connection reset by {}",
    errno.EHOSTUNREACH: "no route to {}",
    errno.ENETUNREACH: "no route to {}",
    errno.ETIMEDOUT: "no connection to {}: it does not answer",
}


def _failure(error: Exception, target: Target, *, during_body: bool = False) -> _Failed:
    """*error* in words of our own: the client's may repeat the answer, the URL, or what a resolver said."""
    match error:
        case TooLarge():
            return _Failed("response_too_large", f"the answer is too large: {error}", retryable=False)
        case BadEncoding():
            return _Failed("bad_response", f"the answer is damaged: {error}")
        case aiohttp.ClientConnectorDNSError():
            return _name_failure(error.os_error, target)
        case aiohttp.ClientConnectorCertificateError():
            return _Failed("tls", f"the TLS certificate of {target.place} is not valid: {_tls_words(error)}")
        case aiohttp.ClientSSLError():
            return _Failed("tls", f"no TLS connection to {target.place}: {_tls_words(error)}")
        case aiohttp.ServerTimeoutError():
            return _Failed("connect_timeout", f"no connection to {target.place} within {CONNECT_TIMEOUT:g}s")
        case aiohttp.ClientConnectionResetError():
            return _Failed("connection", _REFUSED_HOW[errno.ECONNRESET].format(target.place))
        case aiohttp.ServerDisconnectedError():
            return _Failed("connection", f"{target.place} closed the connection without an answer")
        case aiohttp.ClientResponseError():
            return _bad_answer(error)
        case aiohttp.ClientPayloadError():
            return _Failed("connection", f"the answer of {target.place} ended in the middle of its body")
        case OSError() if error.errno in _REFUSED_HOW:
            return _Failed("connection", _REFUSED_HOW[error.errno].format(target.place))
        case _:
            where = "the answer of" if during_body else "the connection to"
            return _Failed("connection", f"{where} {target.place} failed ({type(error).__name__})")


def _name_failure(error: OSError, target: Target) -> _Failed:
    if isinstance(error, Blocked):
        return _blocked(error.reason)
    if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
        return _Failed("name", f"the look-up of {target.host} failed for now")
    return _Failed("name", f"name not found: {target.host}")


def _tls_words(error: Exception) -> str:
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return cause.verify_message
    reason = getattr(cause, "reason", None)
    return str(reason).replace("_", " ").lower() if reason else "the handshake failed"


def _bad_answer(error: aiohttp.ClientResponseError) -> _Failed:
    if isinstance(error.__cause__, TooLarge) or re.match(r"Got more than|Too many headers", error.message):
        return _Failed("response_too_large", f"the answer is too large: {_HEADERS_TOO_LARGE}", retryable=False)
    return _Failed("bad_response", "the answer is not valid HTTP")


# ── driving the client ───────────────────────────────────────────────────────────────────────────


@lru_cache(maxsize=1024)
def _wire_url(url: str) -> URL:
    """*url* as it is: it was read and encoded once, a second parser shall not change it."""
    return URL(url, encoded=True)


class _Resolver(AbstractResolver):
    """Gives the client only the answers that may be connected to. Every answer is judged, all are pinned."""

    def __init__(self, egress: Egress, look_up: LookUp) -> None:
        self._egress = egress
        self._look_up = look_up

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The allowed addresses of *host*.

        Raises:  Blocked when it has addresses and none is allowed; OSError when it has none.
        """
        answers = await self._look_up(host)
        verdicts = [(address, self._egress.verdict(address, port, host=host)) for address in answers]
        allowed = [address for address, verdict in verdicts if verdict.allowed]
        if verdicts and not allowed:
            raise Blocked(f"{host} leads to {verdicts[0][1].reason}")
        if not allowed:
            raise socket.gaierror(socket.EAI_NONAME, "no address")
        return [_resolved(host, address, port) for address in allowed]

    async def close(self) -> None:
        """Nothing is held."""


def _resolved(host: str, address: str, port: int) -> ResolveResult:
    return ResolveResult(
        hostname=host,
        host=address,
        port=port,
        family=socket.AF_INET6 if ":" in address else socket.AF_INET,
        proto=socket.IPPROTO_TCP,
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    )


class _Names:
    """The system's resolver on threads of its own: a name server that hangs takes nobody else's threads."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(LOOK_UP_THREADS, "peregrine-names")

    async def addresses_of(self, host: str) -> Sequence[str]:
        ask = partial(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        answers = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        return list(dict.fromkeys(str(answer[4][0]) for answer in answers))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class _Connector(aiohttp.TCPConnector):
    """Makes connections that listen within bounds. ``_factory`` is the client's own place for this, if an unofficial
    one; the tests of endless heads fail should it ever move."""

    def __init__(
        self,
        *,
        ssl: bool | ssl.SSLContext,
        resolver: AbstractResolver,
        socket_factory: Callable[[AddressInfo], socket.socket],
    ) -> None:
        super().__init__(
            limit=0, ssl=ssl, resolver=resolver, socket_factory=socket_factory, keepalive_timeout=KEEP_IDLE
        )
        ear: Callable[..., ResponseHandler] = _Ear
        self._factory = partial(ear, loop=self._loop)


class _Ear(ResponseHandler):
    """Hears one connection. Stops when a head, or everything of one answer, grows past its bound.

    Without it a target can send interim answers (1xx), chunk extensions or trailers for as long as the task may last,
    and keep this process busy with nothing.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._heard = 0

    def set_response_params(self, **how: Any) -> None:
        """Called by the client once a connection is in hand for a request: the moment at which it is connected."""
        self._heard = 0
        self._payload = None
        if (attempt := _CURRENT.get()) is not None:
            attempt.connected(self.transport)
        super().set_response_params(**how)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._heard += len(data)
        if self._heard <= HEADERS_MAX:
            return
        if self._payload is None or self._payload is EMPTY_PAYLOAD:
            self._give_up(TooLarge(_HEADERS_TOO_LARGE))
        elif self._heard > FRAMING_MAX + 2 * self._payload.total_bytes:
            self._give_up(TooLarge("it is framing more than body"))

    def _give_up(self, error: TooLarge) -> None:
        payload = self._payload
        if self.transport is not None:
            self.transport.abort()
        if payload is not None and not payload.is_eof():
            payload.set_exception(error)
        self.set_exception(error)
