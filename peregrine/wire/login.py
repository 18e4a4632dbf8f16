"""Owns what a login brings in and what is told of who is signed in; must not know how that is proven."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType
from pydantic import Field

from peregrine.wire.queries import PlainText, Query
from peregrine.wire.task import MomentText


class CallbackQuery(Query):
    """What EVE Online sends the browser back with."""

    code: Annotated[PlainText, Field(description="Good for one exchange.")] | None = None
    state: Annotated[PlainText, Field(description="What the login began with.")] | None = None
    error: Annotated[PlainText, Field(description="Why there is no code.")] | None = None


class Me(Struct, frozen=True, kw_only=True):
    """Who the credentials of this request speak for."""

    user_id: str
    name: str
    character_id: Annotated[int, Meta(description="Of a login with EVE Online.")] | UnsetType = UNSET
    scopes: list[str]
    groups: Annotated[list[str], Meta(description="What the credentials say; memberships may add others.")]
    expires_at: MomentText | UnsetType = UNSET


class SignedOut(Struct, frozen=True, kw_only=True):
    """The session has ended."""

    message: str
