"""Owns policies, memberships, keys and the trail as they go in and out; must not know how rights are judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType
from pydantic import Field

from peregrine.domain.moment import DAY, HOUR
from peregrine.domain.permission import PATTERNS, SUBJECT_MAX, SUBJECT_PATTERN, Effect
from peregrine.domain.query import PAGE_SIZE_MAX
from peregrine.wire.queries import PageSize, PlainText, Query
from peregrine.wire.shapes import NameText, Shape, Span, Word
from peregrine.wire.task import MomentText

SubjectText = Annotated[
    str,
    Field(max_length=SUBJECT_MAX, examples=["group:monitoring"], json_schema_extra={"pattern": f"^{SUBJECT_PATTERN}$"}),
]
GroupText = Annotated[
    str,
    Field(
        max_length=SUBJECT_MAX,
        examples=["group:task_managers"],
        json_schema_extra={"pattern": "^(?:group|role):[A-Za-z0-9_.@+ |/-]+$"},
    ),
]


class PolicyInput(Shape):
    """Allow or deny something to somebody. A deny for any of somebody's subjects beats every allow; but none that
    reaches all super admins takes `scheduler.tasks.admin` from them, or nobody could take it back."""

    subject: SubjectText
    permission: Annotated[str, Field(max_length=64, json_schema_extra={"enum": [*PATTERNS]})]
    effect: Annotated[Effect, Word(Effect)] = Effect.ALLOW


class MembershipInput(Shape):
    """Make somebody a member of a group or role."""

    subject: SubjectText
    member_of: GroupText


class KeyInput(Shape):
    """A credential for a program, with the rights of the groups."""

    name: NameText
    groups: Annotated[list[NameText], Field(min_length=1, max_length=32)]
    expires_in: Annotated[int, Span(HOUR, 3650 * DAY)] | None = None


class PolicyShape(Struct, frozen=True, kw_only=True):
    """A policy. Built-in ones have no `id` and can't be removed."""

    id: str | UnsetType = UNSET
    subject: str
    permission: str
    effect: str
    is_built_in: bool
    created_at: MomentText | UnsetType = UNSET
    created_by: str | UnsetType = UNSET


class PolicyList(Struct, frozen=True, kw_only=True):
    """All policies in force."""

    policies: list[PolicyShape]
    total: int


class MembershipShape(Struct, frozen=True, kw_only=True):
    """A membership."""

    id: str
    subject: str
    member_of: str
    created_at: MomentText
    created_by: str


class MembershipList(Struct, frozen=True, kw_only=True):
    """All memberships that are stored; tokens name groups besides."""

    memberships: list[MembershipShape]
    total: int


class KeyShape(Struct, frozen=True, kw_only=True):
    """An API key. `token` is there only in the answer that made it."""

    id: str
    name: str
    groups: list[str]
    created_at: MomentText
    created_by: str
    expires_at: MomentText | UnsetType = UNSET
    token: str | UnsetType = UNSET


class KeyList(Struct, frozen=True, kw_only=True):
    """All API keys that hold."""

    api_keys: list[KeyShape]
    total: int


class Removed(Struct, frozen=True, kw_only=True):
    """It is gone."""

    message: str
    id: str


class AuditChange(Struct, frozen=True, kw_only=True):
    """One field before and after; a side on which it was not there is left out. A secret that changed is `***` on both
    sides, of a `body` only the length is shown, and a long value is cut and ends in `…`.
    """

    field: Annotated[str, Meta(description="A JSON pointer.", examples=["/config/url"])]
    before: Any = UNSET
    after: Any = UNSET


class AuditEntry(Struct, frozen=True, kw_only=True):
    """Who did, or tried, what, and what it changed. `before` and `after` name the states that `changes` lie between:
    digests of a task's definition, or what a policy, membership or key says; empty: it was not there. `verdict` is
    `done`, `repeated`, the code of a refusal, or `asked`: it was about to be done when the process or its store went
    away, and perhaps was.
    """

    id: str
    at: MomentText
    who: str
    action: str
    target: str
    verdict: str
    before: str
    after: str
    changes: list[AuditChange]
    address: str
    request_id: str


class AuditPage(Struct, frozen=True, kw_only=True):
    """Entries, newest first."""

    entries: list[AuditEntry]
    next_cursor: str | UnsetType = UNSET


class AuditQuery(Query):
    """Which part of the trail."""

    page_size: PageSize = PAGE_SIZE_MAX
    cursor: Annotated[PlainText, Field(description="`next_cursor` of the page before.")] = ""


def next_cursor(entries: Sequence[AuditEntry], size: int) -> str | UnsetType:
    """Where the next page begins, if this one is full."""
    return entries[-1].id if len(entries) == size else UNSET
