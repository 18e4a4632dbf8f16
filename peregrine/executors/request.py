"""Owns the request that a payload stands for: texts filled in, our headers, the next one after a redirect.

Must not know how a request is sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from typing import Final

from peregrine.domain.errors import Fault
from peregrine.domain.execution import Claim
from peregrine.domain.moment import Moment, format_moment
from peregrine.domain.payload import HEADER_BYTES_MAX, HttpPayload, JsonObject
from peregrine.executors.egress import BadTarget, Target, follow, read_target
from peregrine.executors.redaction import Redactor, is_secret_name, secrets_of
from peregrine.executors.reply import MEBIBYTE
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


class BadRedirect(Exception):
    """The redirect is not followed; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request, ready to be sent. Header names keep the case they were written in."""

    method: str
    target: Target
    headers: Sequence[tuple[str, str]]
    body: bytes | None
    secret_headers: frozenset[str]
    """Lower-case names of the headers that carry credentials; they never reach another origin."""
    secret_body: bool
    """Whether the body holds a secret of the service."""

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
        return self.with_headers([pair for pair in self.headers if pair[0].lower() not in names])

    def with_headers(self, headers: Sequence[tuple[str, str]]) -> Request:
        """The same with *headers* instead of its own."""
        return Request(
            method=self.method,
            target=self.target,
            headers=headers,
            body=self.body,
            secret_headers=self.secret_headers,
            secret_body=self.secret_body,
        )


class Draft:
    """A payload that was read once: every text a template. May be kept and used for every attempt."""

    def __init__(self, payload: HttpPayload) -> None:
        self._payload = payload
        self._url = read_template(payload.url)
        self._headers = tuple((name, read_template(value)) for name, value in payload.headers)
        self._body = None if payload.body is None else read_template(payload.body)
        content_type = next((value for name, value in payload.headers if name.lower() == "content-type"), "")
        self._default_type = "" if content_type else _type_of(payload.body)
        self._place = _place_of(content_type or self._default_type)
        self._is_fixed = not any(list(template.slots) for _, template in self._texts())
        self._made: tuple[Request, Redactor] | None = None
        self._has_own_key = any(name.lower() == "idempotency-key" for name, _ in payload.headers)
        self._secret_headers = frozenset(name.lower() for name, text in self._headers if _is_secret(name, text))

    def faults(self, known_secrets: Mapping[str, str], parameters: JsonObject | None) -> Iterator[Fault]:
        """What is wrong with the texts. *parameters* None: not known yet, so any may be used."""
        for pointer, template in self._texts():
            yield from (Fault(pointer, fault) for fault in template.faults)
            for slot in template.slots:
                if slot.family == "secret" and slot.name not in known_secrets:
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

    def fill(self, claim: Claim, secrets: Mapping[str, str]) -> tuple[Request, Redactor]:
        """The request for *claim*, and what hides the secrets that it carries itself.

        ``Idempotency-Key`` is the execution's id, the same for all its attempts, unless the task names one itself: a
        receiver may want its own form of key.

        Raises:  BadValue, BadTarget.
        """
        request, own_secrets = self._made or self._fill(values_of(claim, secrets))
        if self._is_fixed:
            self._made = request, own_secrets
        sent = [*request.headers, *our_headers(claim)]
        if not self._has_own_key:
            sent.append(("Idempotency-Key", claim.execution_id))
        return request.with_headers(sent), own_secrets

    def _fill(self, value_of: ValueOf) -> tuple[Request, Redactor]:
        if self._chooses_host():
            raise BadTarget("a placeholder can't choose scheme, host or port")
        if not all(map(_TOKEN.fullmatch, (self._payload.method, *(name for name, _ in self._headers)))):
            raise BadValue("the method or the name of a header holds what none can")
        url = self._url.fill(Place.URL, value_of)
        headers = [
            (name, _header_value(name, template, value_of)) for name, template in self._headers if not _is_ours(name)
        ]
        body = None if self._body is None else self._body.fill(self._place, value_of)
        sent = None if body is None else body.encode("utf-8")
        if sent is not None and len(sent) > BODY_SENT_MAX:
            raise BadValue(f"the body is larger than {BODY_SENT_MAX // MEBIBYTE} MiB once its values are filled in")
        if sent is not None and self._default_type:
            headers.append(("Content-Type", self._default_type))
        request = Request(
            method=self._payload.method,
            target=read_target(url),
            headers=headers,
            body=sent,
            secret_headers=self._secret_headers,
            secret_body=self._body is not None and any(slot.family == "secret" for slot in self._body.slots),
        )
        return request, Redactor(islice(secrets_of(url, headers, body or ""), SECRETS_MAX))

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


def our_headers(claim: Claim) -> Iterator[tuple[str, str]]:
    """What a receiver needs to refuse an outdated attempt (guarantees, P5)."""
    yield "X-Scheduler-Task-Id", claim.task.id
    yield "X-Scheduler-Execution-Id", claim.execution_id
    yield "X-Scheduler-Attempt", str(claim.attempt)
    yield "X-Scheduler-Epoch", str(claim.epoch)
    if claim.scheduled_for is not None:
        yield "X-Scheduler-Scheduled-For", _moment_text(claim.scheduled_for)


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
    return value


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
