"""Owns the request that a payload stands for: texts filled in, our headers, its bytes, the next one after a redirect.

Must not know how a request is sent.

A task is run again and again, and most have no placeholder: whatever of a request doesn't depend on the attempt is
made once and kept with its ``Draft``. What is left for each attempt are the headers that name it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import islice
from typing import Final, NamedTuple

from peregrine.domain.errors import Fault
from peregrine.domain.execution import Claim
from peregrine.domain.moment import Moment, format_moment
from peregrine.domain.payload import FORBIDDEN_HEADERS, HEADER_BYTES_MAX, HttpPayload, JsonObject
from peregrine.executors.egress import BadTarget, Target, follow, read_target
from peregrine.executors.redaction import Redactor, is_secret_name, secrets_of
from peregrine.executors.reply import ACCEPT_ENCODING, MEBIBYTE
from peregrine.executors.template import BadValue, Place, Template, ValueOf, read_template, values_of

BODY_SENT_MAX: Final = MEBIBYTE
SECRETS_MAX: Final = 200
"""How many values of a request are hidden in its answer; each costs a look through the whole text."""
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
OURS: Final = "x-scheduler-"
"""Headers by which a receiver can fence; a task can't set them, else they would prove nothing."""

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_BODY_HEADERS: Final = frozenset({"content-type", "content-encoding", "content-language", "content-location"})
_EMPTY_UNSAID: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods that no receiver expects a body of: without one, its length is not said (RFC 9110 8.6)."""


class BadRedirect(Exception):
    """The redirect is not followed; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request, but for the headers that name the attempt. Header names keep the case they were written in."""

    method: str
    target: Target
    headers: Sequence[tuple[str, str]]
    body: bytes | None
    secret_headers: frozenset[str]
    """Lower-case names of the headers that carry credentials; they never reach another origin."""
    secret_body: bool
    """Whether the body holds a secret of the service."""

    @cached_property
    def start(self) -> bytes:
        """Its bytes up to where the headers of the attempt follow."""
        lines = [f"{self.method} {self.target.path} HTTP/1.1", f"Host: {self.target.authority}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.body is not None or self.method not in _EMPTY_UNSAID:
            lines.append(f"Content-Length: {len(self.body or b'')}")
        return "\r\n".join([*lines, ""]).encode("utf-8")

    def bytes_for(self, attempt: bytes) -> bytes:
        """All that is sent. *attempt*: the header lines of the attempt (``attempt_headers``)."""
        return b"%b%b\r\n%b" % (self.start, attempt, self.body or b"")

    def redirected(self, status: int, location: str) -> Request:
        """The request that follows from a redirect.

        A POST that is answered 301, 302 or 303 becomes a GET, as does any other method but HEAD by 303; else method
        and body stay. Source: RFC 9110 15.4, and for 301 and 302 what every client does.
        Raises:  BadTarget, BadRedirect.
        """
        target = follow(self.target, location)
        if self.target.scheme == "https" and target.scheme == "http":
            raise BadRedirect("a redirect from https to http is not followed")
        after = replace(self, target=target)
        if (status == 303 and self.method != "HEAD") or (status in (301, 302) and self.method == "POST"):
            after = replace(after.without(_BODY_HEADERS), method="GET", body=None, secret_body=False)
        if target.origin == self.target.origin:
            return after
        if after.secret_body:
            raise BadRedirect("a redirect to another origin is not followed: the body holds a secret")
        return after.without(self.secret_headers)

    def without(self, names: frozenset[str]) -> Request:
        """The same without the headers of these lower-case names."""
        return replace(self, headers=[pair for pair in self.headers if pair[0].lower() not in names])


class Filled(NamedTuple):
    """What one attempt sends first, and what of it is to be hidden in all that is said of the attempt."""

    request: Request
    attempt: bytes
    """The header lines that name the attempt; the same for every redirect."""
    redactor: Redactor


class Draft:
    """A payload that was read once: every text a template. May be kept and used for every attempt.

    *agent*: what we call ourselves (``User-Agent``). *secrets*: what ``{{ secret.NAME }}`` means. *redactor*: hides
    those.
    """

    def __init__(self, payload: HttpPayload, *, agent: str, secrets: Mapping[str, str], redactor: Redactor) -> None:
        self._method = payload.method
        self._secrets = secrets
        self._redactor = redactor
        self._url = read_template(payload.url)
        self._headers = tuple((name, read_template(value)) for name, value in payload.headers)
        self._body = None if payload.body is None else read_template(payload.body)
        content_type = next((value for name, value in payload.headers if name.lower() == "content-type"), "")
        self._default_type = "" if content_type else _type_of(payload.body)
        self._place = _place_of(content_type or self._default_type)
        self._is_fixed = not any(list(template.slots) for _, template in self._texts())
        self._made: tuple[Request, Redactor] | None = None
        names = {name.lower() for name, _ in payload.headers}
        self._has_own_key = "idempotency-key" in names
        self._defaults = [pair for pair in _defaults(agent) if pair[0].lower() not in names]
        self._secret_headers = frozenset(name.lower() for name, text in self._headers if _is_secret(name, text))
        self._secret_body = self._body is not None and any(slot.family == "secret" for slot in self._body.slots)
        self._refusal = self._judged()

    def faults(self, parameters: JsonObject | None) -> Iterator[Fault]:
        """What is wrong with the texts. *parameters* None: not known yet, so any may be used."""
        for pointer, template in self._texts():
            yield from (Fault(pointer, fault) for fault in template.faults)
            for slot in template.slots:
                if slot.family == "secret" and slot.name not in self._secrets:
                    yield Fault(pointer, f"names the secret {slot.name!r}, which this service was not given")
                elif slot.family == "parameters" and parameters is not None and slot.name not in parameters:
                    yield Fault("/parameters", f"must hold {slot.name!r}: the task uses {{{{ {slot.word} }}}}")
        for name, _ in self._headers:
            if _is_ours(name):
                yield Fault(_header_pointer(name), "is set by the scheduler itself and can't be chosen")
        if self._chooses_host():
            yield Fault("/config/url", "must not choose scheme, host or port by a placeholder")

    @property
    def sample_url(self) -> str:
        """The URL as far as no value can change it: enough to judge scheme, host and port."""
        return self._url.sample

    def fill(self, claim: Claim) -> Filled:
        """What is sent for *claim*.

        ``Idempotency-Key`` is the execution's id, the same for all its attempts, unless the task names one itself: a
        receiver may want its own form of key.

        Raises:  BadValue, BadTarget.
        """
        request, redactor = self._made or self._fill(values_of(claim, self._secrets))
        if self._is_fixed:
            self._made = request, redactor
        return Filled(request, attempt_headers(claim, with_key=not self._has_own_key), redactor)

    def _fill(self, value_of: ValueOf) -> tuple[Request, Redactor]:
        if self._refusal is not None:
            raise self._refusal.with_traceback(None)
        url = self._url.fill(Place.URL, value_of)
        headers = [
            (name, _header_value(name, template, value_of)) for name, template in self._headers if not _is_ours(name)
        ]
        body = None if self._body is None else self._body.fill(self._place, value_of)
        sent = None if body is None else _encoded(body, "body")
        if sent is not None and len(sent) > BODY_SENT_MAX:
            raise BadValue(f"the body is larger than {BODY_SENT_MAX // MEBIBYTE} MiB once its values are filled in")
        if sent is not None and self._default_type:
            headers.append(("Content-Type", self._default_type))
        request = Request(
            method=self._method,
            target=read_target(url),
            headers=[*self._defaults, *headers],
            body=sent,
            secret_headers=self._secret_headers,
            secret_body=self._secret_body,
        )
        return request, self._redactor | Redactor(islice(secrets_of(url, headers, body or ""), SECRETS_MAX))

    def _judged(self) -> BadTarget | BadValue | None:
        """Why no request of this payload may be sent, whatever its values are; the doors refuse such a payload."""
        if self._chooses_host():
            return BadTarget("a placeholder can't choose scheme, host or port")
        if not all(map(_TOKEN.fullmatch, (self._method, *(name for name, _ in self._headers)))):
            return BadValue("the method or the name of a header holds what none can")
        framing = next((name for name, _ in self._headers if name.lower() in FORBIDDEN_HEADERS), None)
        if framing is not None:
            return BadValue(f"the header {framing} frames the message, which is the scheduler's to do")
        return None

    def _texts(self) -> Iterator[tuple[str, Template]]:
        yield "/config/url", self._url
        yield from ((_header_pointer(name), template) for name, template in self._headers)
        if self._body is not None:
            yield "/config/body", self._body

    def _chooses_host(self) -> bool:
        """Whether a placeholder stands before the path."""
        first = self._url.parts[0] if self._url.parts else ""
        if len(self._url.parts) <= 1 and isinstance(first, str):
            return False
        after_scheme = first.partition("://")[2] if isinstance(first, str) else ""
        return not any(mark in after_scheme for mark in "/?#")


def _defaults(agent: str) -> Iterator[tuple[str, str]]:
    """What is said unless the task says otherwise."""
    yield "User-Agent", agent
    yield "Accept", "*/*"
    yield "Accept-Encoding", ACCEPT_ENCODING


def attempt_headers(claim: Claim, *, with_key: bool) -> bytes:
    """The lines by which a receiver can refuse an outdated attempt (guarantees, P5), and a repeated execution.

    Raises:  BadValue for ids that would break a line; only a database that others wrote can hold such.
    """
    task_id, id = claim.task.id, claim.execution_id
    if not (task_id.isprintable() and id.isprintable()):
        raise BadValue("the id of the task or of the execution holds what no header can")
    due = "" if claim.scheduled_for is None else f"X-Scheduler-Scheduled-For: {_moment_text(claim.scheduled_for)}\r\n"
    key = f"Idempotency-Key: {id}\r\n" if with_key else ""
    return (
        f"X-Scheduler-Task-Id: {task_id}\r\nX-Scheduler-Execution-Id: {id}\r\n"
        f"X-Scheduler-Attempt: {claim.attempt}\r\nX-Scheduler-Epoch: {claim.epoch}\r\n{due}{key}"
    ).encode()


@lru_cache(maxsize=64)
def _moment_text(moment: Moment) -> str:
    """Many executions are due on the same second."""
    return format_moment(moment)


def _is_ours(name: str) -> bool:
    return name.lower().startswith(OURS)


def _header_pointer(name: str) -> str:
    return f"/config/headers/{name.replace('~', '~0').replace('/', '~1')}"


def _header_value(name: str, template: Template, value_of: ValueOf) -> str:
    value = template.fill(Place.HEADER, value_of)
    if _CONTROL.search(value):
        raise BadValue(f"the header {name} holds control characters")
    if len(value) > HEADER_BYTES_MAX:
        raise BadValue(f"the header {name} is longer than {HEADER_BYTES_MAX} characters once its values are filled in")
    _encoded(value, f"header {name}")
    return value


def _encoded(text: str, what: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise BadValue(f"the {what} holds what is no valid text") from None


def _is_secret(name: str, template: Template) -> bool:
    return is_secret_name(name) or any(slot.family == "secret" for slot in template.slots)


def _type_of(body: str | None) -> str:
    """What a body without Content-Type most likely is."""
    if body is None:
        return ""
    return "application/json" if body.lstrip()[:1] in ("{", "[") else "text/plain; charset=utf-8"


def _place_of(content_type: str) -> Place:
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        return Place.JSON
    return Place.FORM if kind == "application/x-www-form-urlencoded" else Place.BODY
