"""Owns one attempt of an HTTP task, from its payload to its outcome; must not know retries.

Where each promise lives: *which address* in ``egress``, *which request* in ``request`` and ``template``, *how it is
sent* in ``client`` (which asks ``egress`` again at every hop and at every connect), *how much answer* in ``reply``,
*which secret* in ``redaction``, *what went wrong*, in words, in ``failure``.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Final

from peregrine.domain.errors import Fault
from peregrine.domain.execution import AttemptOutcome, Outcome
from peregrine.domain.moment import SECOND, Duration, format_duration
from peregrine.domain.payload import HttpPayload, JsonObject, Payload
from peregrine.domain.redaction import secret_texts
from peregrine.executors.client import Client, Exchange, LookUp
from peregrine.executors.egress import BadTarget, Egress, Target
from peregrine.executors.failure import Failed, blocked, failure
from peregrine.executors.redaction import Redactor, redacted_url
from peregrine.executors.reply import MEBIBYTE, BadEncoding, Body, TooLarge, charset_of, cut, retry_after
from peregrine.executors.request import REDIRECTS, BadRedirect, Draft, Filled, Request
from peregrine.executors.template import BadValue
from peregrine.ports.clock import Clock
from peregrine.ports.executor import RunContext

REDIRECTS_MAX: Final = 5
OUTPUT_BYTES: Final = 64 * 1024
OUTPUT_BYTES_MAX: Final = MEBIBYTE
DRAFTS_MAX: Final = 2048
DRAFT_SIZE_MAX: Final = 4 * 1024
"""Characters of headers and body; a request is kept as it was written and as it is sent."""
FAULTS_MAX: Final = 50


@dataclass(slots=True)
class _Attempt:
    """What one attempt has come to so far."""

    clock: Clock
    started: int
    redactor: Redactor
    output_bytes: int
    exchange: Exchange | None = None
    """The newest: a redirect begins another."""
    connect: Duration = 0
    """Spent on connecting by all exchanges but the newest."""
    first_byte: Duration | None = None
    redirects: int = 0
    body: Body | None = None
    is_read: bool = False
    """Whether the last answer was read to its end."""

    def ask(self, target: Target) -> Exchange:
        """The exchange that begins now."""
        self.let_go()
        if self.exchange is not None:
            self.connect += self.exchange.connect
        self.exchange = Exchange(target)
        return self.exchange

    def let_go(self) -> None:
        """Close at once what is not finished."""
        if self.exchange is not None:
            self.exchange.let_go()


class HttpExecutor:
    """Sends the request of an ``HttpPayload``.

    *secrets*: what ``{{ secret.NAME }}`` means. *output_bytes*: how much of an answer's body is kept.
    *look_up*: how names are resolved (the system's resolver by default). *tls*: the authorities to trust when
    ``validate_ssl`` is on (the system's by default).

    Connections are made on the loop that first needs them; ``close`` ends them and may be followed by new attempts.
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
        self._redactor = Redactor((secrets or {}).values())
        self._output_bytes = output_bytes
        self._client = Client(egress, clock, look_up=look_up, tls=tls)
        self._draft = partial(Draft, agent=f"Peregrine/{version}", secrets=dict(secrets or {}), redactor=self._redactor)
        self._kept_draft = lru_cache(maxsize=DRAFTS_MAX)(self._draft)

    # ── life ─────────────────────────────────────────────────────────────────────────────────────

    async def open(self) -> None:
        """Make what the first attempt would make; nothing is connected yet."""
        self._client.open()

    async def close(self) -> None:
        """Close every connection. Safe twice, safe without ``open``."""
        await self._client.close()

    # ── the seam ─────────────────────────────────────────────────────────────────────────────────

    def check(self, payload: Payload, parameters: JsonObject | None = None) -> Sequence[Fault]:
        """What is wrong with *payload* as far as it shows without a look-up: texts, secrets, the target."""
        if not isinstance(payload, HttpPayload):
            return (Fault("/type", "is not an HTTP task"),)
        draft = self._draft_of(payload)
        faults = list(dict.fromkeys(draft.faults(parameters)))[:FAULTS_MAX]
        reasons = self._egress.faults_of(draft.sample_url)
        return faults + [Fault("/config/url", f"target_not_allowed: {reason}") for reason in reasons]

    async def run(self, payload: Payload, context: RunContext) -> Outcome:
        """The outcome of one request. A cancel closes its socket at once and passes."""
        assert isinstance(payload, HttpPayload)
        attempt = _Attempt(self._clock, self._clock.monotonic(), self._redactor, self._output_bytes)
        try:
            return await self._run(payload, context, attempt)
        finally:
            attempt.let_go()

    async def _run(self, payload: HttpPayload, context: RunContext, attempt: _Attempt) -> Outcome:
        left = context.deadline - attempt.started
        own = payload.timeout is not None and payload.timeout < left
        limit = payload.timeout if own and payload.timeout is not None else left
        try:
            filled = self._filled(payload, context, attempt)
            if limit <= 0:
                raise TimeoutError
            async with asyncio.timeout(limit / SECOND):
                await self._walk(filled, payload, attempt)
            return self._judge(payload, attempt)
        except TimeoutError:
            limit_text = f"within {format_duration(limit)}" if own else "before the task's timeout"
            return _outcome(attempt, Failed("timeout", f"no complete answer {limit_text}"))
        except Failed as failed:
            return _outcome(attempt, failed)

    def _filled(self, payload: HttpPayload, context: RunContext, attempt: _Attempt) -> Filled:
        """The first request. From here on the secrets that it carries itself are hidden too."""
        try:
            filled = self._draft_of(payload).fill(context.claim)
        except BadValue as error:
            raise Failed("bad_value", str(error), retryable=False) from None
        except BadTarget as error:
            raise blocked(str(error)) from None
        attempt.redactor = filled.redactor
        if given := context.claim.parameters:
            attempt.redactor |= Redactor(secret_texts(given))
        return filled

    def _draft_of(self, payload: HttpPayload) -> Draft:
        """*payload*, read once; a large one is read each time, so that what is kept stays small."""
        size = len(payload.body or "") + sum([len(value) for _, value in payload.headers])
        return self._kept_draft(payload) if size <= DRAFT_SIZE_MAX else self._draft(payload)

    # ── the walk: one request and its redirects ──────────────────────────────────────────────────

    async def _walk(self, filled: Filled, payload: HttpPayload, attempt: _Attempt) -> None:
        """Ask, follow redirects where the task wants it, read the last answer.

        Raises:  Failed; TimeoutError is the attempt's own limit and nothing else.
        """
        request = filled.request
        while True:
            exchange = attempt.ask(request.target)
            question, is_head = request.bytes_for(filled.attempt), request.method == "HEAD"
            await self._client.ask(exchange, question, is_head=is_head, validate=payload.validate_ssl)
            location = exchange.headers.get("Location") if exchange.status in REDIRECTS else None
            if location is None or not payload.follow_redirect or exchange.status in payload.expected_codes:
                break
            request = self._redirected(request, exchange.status, location, attempt)
        attempt.first_byte = self._clock.monotonic() - attempt.started
        await self._read(exchange, attempt)

    def _redirected(self, request: Request, status: int, location: str, attempt: _Attempt) -> Request:
        if attempt.redirects >= REDIRECTS_MAX:
            raise Failed("redirect", f"more than {REDIRECTS_MAX} redirects")
        attempt.redirects += 1
        try:
            return request.redirected(status, location)
        except BadTarget as error:
            raise blocked(f"{request.target.place} redirects to an address that can't be asked: {error}") from None
        except BadRedirect as error:
            raise Failed("redirect", str(error), retryable=False) from None

    async def _read(self, exchange: Exchange, attempt: _Attempt) -> None:
        """Read the body into ``attempt.body`` to its end; what was kept stays there whatever happens."""
        encoding = exchange.headers.get("Content-Encoding", "").strip().lower()
        ahead = 4 * attempt.redactor.longest
        body = attempt.body = Body(encoding, kept_max=attempt.output_bytes, ahead=ahead)
        try:
            while not exchange.is_read:
                for _ in body.take(await exchange.read()):
                    await asyncio.sleep(0)
                body.refuse_if_longer(exchange.announced)
            body.finish()
        except (TooLarge, BadEncoding) as error:
            raise failure(error, exchange.target, during_body=True) from error
        attempt.is_read = True

    def _judge(self, payload: HttpPayload, attempt: _Attempt) -> Outcome:
        """The outcome of a complete answer: its status decides."""
        assert attempt.exchange is not None
        status = attempt.exchange.status
        if status in payload.expected_codes or (not payload.expected_codes and 200 <= status <= 299):
            return _outcome(attempt, None)
        wanted = " or ".join(map(str, payload.expected_codes))
        expected = f"status {wanted}" if wanted else "a 2xx status"
        return _outcome(attempt, Failed("unexpected_status", f"expected {expected}, got {status}"))


# ── the outcome ──────────────────────────────────────────────────────────────────────────────────


def _outcome(attempt: _Attempt, failed: Failed | None) -> Outcome:
    """What is said of the attempt; nothing in it holds a secret that we know of."""
    output, truncated = _output(attempt)
    wait = None
    if failed is not None and attempt.exchange is not None:
        wait = retry_after(attempt.exchange.headers.get("Retry-After", ""), attempt.clock.now())
    return Outcome(
        verdict=_verdict(failed),
        output=output,
        error=None if failed is None else attempt.redactor.clean(failed.sentence),
        truncated=truncated,
        detail=_detail(attempt, failed),
        retryable=failed is None or failed.retryable,
        retry_after=wait,
    )


def _verdict(failed: Failed | None) -> AttemptOutcome:
    if failed is None:
        return AttemptOutcome.SUCCEEDED
    return AttemptOutcome.TIMED_OUT if failed.code == "timeout" else AttemptOutcome.FAILED


def _output(attempt: _Attempt) -> tuple[str, bool]:
    """The kept text without secrets, and whether something of the body is missing."""
    body, exchange = attempt.body, attempt.exchange
    if body is None or exchange is None:
        return "", False
    text = attempt.redactor.clean(body.text(charset_of(exchange.headers.get("Content-Type", ""))))
    misses = body.is_cut or not attempt.is_read
    if misses:
        text = attempt.redactor.clean_end(text)
    text, was_cut = cut(text, attempt.output_bytes)
    return text, was_cut or misses


def _detail(attempt: _Attempt, failed: Failed | None) -> JsonObject:
    exchange = attempt.exchange
    connect = attempt.connect + (exchange.connect if exchange else 0)
    timings: JsonObject = {"connect": connect, "total": attempt.clock.monotonic() - attempt.started}
    if attempt.first_byte is not None:
        timings["first_byte"] = attempt.first_byte
    detail: JsonObject = {
        "url": attempt.redactor.clean(_shown_url(exchange.target)) if exchange else "",
        "redirects": attempt.redirects,
        "bytes": attempt.body.sent_bytes if attempt.body else 0,
        "timings_ms": timings,
    }
    if exchange is not None and attempt.first_byte is not None:
        detail["status_code"] = exchange.status
    if failed is not None:
        detail["code"] = failed.code
    return detail


@lru_cache(maxsize=1024)
def _shown_url(target: Target) -> str:
    return redacted_url(target.url)
