"""Owns what a route gets: who asks, the question, the body, the condition; must not know any use case.

What it answers is made here into bytes; what it refuses is raised and becomes a problem in one place (``problems``).
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from peregrine.api.body import STATE, RequestBody
from peregrine.api.identity import principal_of
from peregrine.api.patience import Buckets, Turns
from peregrine.api.proxies import Proxies, household
from peregrine.domain.errors import Invalid, NotFound, PeregrineError, Unauthenticated
from peregrine.domain.ids import ExecutionId, TaskId, is_id
from peregrine.domain.moment import MOMENT_MIN, Moment
from peregrine.domain.payload import JsonValue
from peregrine.ports import identity
from peregrine.ports.identity import Asker, Identity
from peregrine.usecases.means import Means
from peregrine.usecases.tasks import ALWAYS, Unless
from peregrine.wire.envelope import encode
from peregrine.wire.fragments import Fragments
from peregrine.wire.problem import MEDIA_TYPE, Refusal, problem_of
from peregrine.wire.queries import Question, read_query

JSON: Final = "application/json"
REQUEST_ID: Final = "peregrine.request_id"
ANSWERED_BUG: Final = "peregrine.answered_bug"
HEAD_ONLY: Final = "peregrine.head_only"
"""Nobody will see the body: an answer without end need not begin."""
_KEY = re.compile(r"[!-~]{1,255}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What the doors stand on: the use cases' means, and what is the doors' own."""

    means: Means
    identity: Identity
    origins: Collection[str] = ()
    metrics_public: bool = True
    prefix: str = ""
    failures: Buckets
    refusals: Buckets
    strangers: Buckets
    requests: Buckets | None = None
    turns: Turns = field(default_factory=Turns)
    proxies: Proxies = field(default_factory=Proxies)
    kept: Fragments = field(default_factory=Fragments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """From a moment on, and up to one (None: without end)."""

    since: Moment
    until: Moment | None = None

    def includes(self, now: Moment) -> bool:
        """Whether *now* lies in it."""
        return self.since <= now and (self.until is None or now < self.until)


EVER: Final = Span(since=MOMENT_MIN)


class Call:
    """One request, whose sender is known and has the declared permission."""

    __slots__ = ("asker", "desk", "request", "span")

    def __init__(self, desk: Desk, request: Request, asker: Asker) -> None:
        self.desk = desk
        self.request = request
        self.asker = asker
        self.span: Span | None = None
        """When the answer is what the store says as long as nothing is written; None: nobody knows."""

    @property
    def means(self) -> Means:
        """What use cases stand on."""
        return self.desk.means

    @property
    def task_id(self) -> TaskId:
        """The task that the path names. Raises NotFound for what can't be an id."""
        return TaskId(self.path_id("id", "task"))

    @property
    def execution_id(self) -> ExecutionId:
        """The execution that the path names. Raises NotFound for what can't be an id."""
        return ExecutionId(self.path_id("exec_id", "execution"))

    @property
    def stranger(self) -> Asker:
        """Whoever asks, before it is known who: where no credentials are looked at."""
        return stranger_of(self.request, self.desk)

    def path_id(self, name: str, what: str) -> str:
        """The id in the path under *name*. Raises NotFound for what can't be an id of a *what*."""
        text = str(self.request.path_params[name])
        if not is_id(text):
            raise NotFound(what, text[:80])
        return text

    def query(self, shape: type[Question]) -> Question:
        """What stands behind the question mark. Raises Invalid."""
        return read_query(shape, self.request.query_params.multi_items())

    @property
    def body(self) -> RequestBody:
        """The body, not read yet."""
        body: RequestBody = self.request.scope["state"][STATE]
        return body

    async def json(self) -> JsonValue:
        """The document in the body. Raises Invalid and Refusal."""
        return await self.body.json()

    @property
    def idempotency_key(self) -> str | None:
        """What makes asking twice harmless. Raises Invalid for a key that can't be kept."""
        key = self.request.headers.get("idempotency-key")
        if key is not None and not _KEY.fullmatch(key):
            raise Invalid.at("/Idempotency-Key", "must have 1 to 255 visible ASCII characters")
        return key

    def idempotent_id(self) -> TaskId | None:
        """The same id for the same asker and key: a second making of the same thing finds the first."""
        key = self.idempotency_key
        if key is None:
            return None
        digest = hashlib.blake2b(f"{self.asker.id}\0{key}".encode(), digest_size=16).digest()
        return TaskId(str(uuid.UUID(bytes=digest, version=5)))

    def refuse_strangers(self) -> None:
        """Raises Unauthenticated without credentials: for routes whose permission the body decides."""
        if not self.asker.principal.is_known:
            raise Unauthenticated("no credentials")

    def problem_with(self, error: PeregrineError, report: msgspec.Struct) -> Response:
        """The problem document of *error*, with the members of *report* beside its own."""
        problem = problem_of(error, instance=self.request.url.path, request_id=self.asker.request.request_id)
        whole = msgspec.to_builtins(report) | msgspec.to_builtins(problem)
        return Response(msgspec.json.encode(whole), problem.status, media_type=MEDIA_TYPE)

    def unless(self) -> Unless:
        """The condition that ``If-Match`` puts on a change; a weak or foreign tag matches nothing."""
        header = self.request.headers.get("if-match")
        if header is None or header.strip() == "*":
            return ALWAYS
        tags = [tag.strip() for tag in header.split(",")]
        return Unless(frozenset(int(tag[1:-1]) for tag in tags if _is_tag(tag)))


def _is_tag(tag: str) -> bool:
    return len(tag) <= 18 and tag[:1] == tag[-1:] == '"' and tag[1:-1].isascii() and tag[1:-1].isdigit()


NOBODY_ASKS: Final = Asker(principal=identity.NOBODY)


async def asker_of(request: Request, desk: Desk) -> Asker:
    """Who asks, and from where."""
    origin = _origin_of(request, desk)
    home = household(origin.address)
    try:
        principal = await principal_of(request, desk.identity, desk.origins)
    except Unauthenticated:
        _refuse_often(desk.failures, home)
        raise
    if desk.requests is not None:
        _refuse_often(desk.requests, principal.id if principal.is_known else home)
    return Asker(principal=principal, request=origin)


def stranger_of(request: Request, desk: Desk) -> Asker:
    """From where somebody asks, before it is known who."""
    return Asker(principal=identity.NOBODY, request=_origin_of(request, desk))


def _origin_of(request: Request, desk: Desk) -> identity.Request:
    scope = request.scope
    client = scope.get("client")
    return identity.Request(
        route=f"{scope['method']} {scope['path']}",
        address=desk.proxies.client_of(client[0] if client else "", request.headers.getlist("x-forwarded-for")),
        request_id=str(scope["state"].get(REQUEST_ID, "")),
    )


def _refuse_often(buckets: Buckets, caller: str) -> None:
    """Raises Refusal when *caller* has used up what there was."""
    if seconds := buckets.take(caller):
        raise Refusal("too_many_requests", "Wait a little.", headers={"Retry-After": str(seconds)})


def answer(shape: msgspec.Struct, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """*shape* as an answer."""
    return Response(encode(shape), status, headers, JSON)
