"""Owns how a route is declared: permission, question, body, answer; must not know who serves it.

A route names its permission in its declaration: one without can't be written.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeAlias

import msgspec
from pydantic import BaseModel
from starlette.responses import Response

from peregrine.api.call import Call
from peregrine.domain.permission import Permission


class Demand(Enum):
    """What a route demands when it is not one permission."""

    NOTHING = "nothing"
    """Everybody may call it."""
    ITS_OWN = "its_own"
    """The use case demands the permission of what the body asks for."""
    CREDENTIALS = "credentials"
    """Whoever is known may call it: it is about them alone."""
    METRICS = "metrics"
    """``scheduler.read``, unless a setting opens it."""


Needs: TypeAlias = Permission | Demand


Endpoint: TypeAlias = Callable[[Call], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One route as it is declared: what it needs, takes and answers. The documentation is made of it."""

    method: str
    paths: Sequence[str]
    """The first is the name, the others are aliases."""
    endpoint: Endpoint
    needs: Needs
    summary: str
    answers: type[msgspec.Struct] | str
    """A shape, or the media type of what is no JSON."""
    also: Sequence[str] = ()
    """Other media types that may be asked for."""
    takes: Sequence[str] = ()
    """Other media types that the body may have."""
    status: int = 200
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    body_required: bool = True
    tag: str = "tasks"
    refuses: Sequence[int] = ()
    conditional: bool = False
    """Heeds ``If-Match``."""
    own_prefix: bool = True
    """Stands behind ``API_PREFIX``."""
    remembered: bool = True
    """A repeated ``Idempotency-Key`` gives the first answer again; not where that holds a secret."""
    lasts: bool = False
    """The same question gets the same answer again while it holds: the endpoint says how long (``Call.span``)."""
    own_access: bool = False
    """The use case alone demands ``needs``: it has an answer for when grants can't be read."""

    @property
    def name(self) -> str:
        """The operation's id in the documentation."""
        return self.endpoint.__name__


@dataclass(slots=True)
class Routes:
    """Declared routes of one subject, in order."""

    tag: str
    operations: list[Operation] = field(default_factory=list)

    def add(self, method: str, *paths: str, needs: Needs, **declared: Any) -> Callable[[Endpoint], Endpoint]:
        """Declare the decorated endpoint; see ``Operation`` for what may be said of it."""

        def keep(endpoint: Endpoint) -> Endpoint:
            declared.setdefault("summary", (endpoint.__doc__ or "").strip().split("\n")[0].rstrip("."))
            self.operations.append(
                Operation(method=method, paths=paths, endpoint=endpoint, needs=needs, tag=self.tag, **declared)
            )
            return endpoint

        return keep
