"""Owns the names of what may be asked, who a subject is, and the built-in bundles of grants; must not know tokens.

A permission is ``service.resource.action`` (``scheduler.tasks.read``) or ``service.action`` (``scheduler.read``).
A deny for any subject of a request beats every allow, and no allow means deny; but no deny that reaches all super
admins takes the change of policies from them, or nobody could take it back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Permission(StrEnum):
    """Everything that a route or a use case may demand."""

    READ = "scheduler.read"
    TASKS_READ = "scheduler.tasks.read"
    TASKS_WRITE = "scheduler.tasks.write"
    TASKS_DELETE = "scheduler.tasks.delete"
    TASKS_EXECUTE = "scheduler.tasks.execute"
    TASKS_ADMIN = "scheduler.tasks.admin"
    EXECUTIONS_READ = "scheduler.executions.read"

    @property
    def target(self) -> str:
        """What it is about: ``scheduler.tasks`` of ``scheduler.tasks.read``."""
        return self.value.rpartition(".")[0]

    @property
    def action(self) -> str:
        """What is done with it: ``read`` of ``scheduler.tasks.read``."""
        return self.value.rpartition(".")[2]


class Effect(StrEnum):
    """What a policy says."""

    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One line of the law: *effect* for *subject* on *permission*, which may be ``*`` or end in ``.*``."""

    subject: str
    permission: str
    effect: Effect = Effect.ALLOW


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """*subject* has all that *member_of* (a ``group:`` or ``role:``) has, and is denied what that is denied."""

    subject: str
    member_of: str


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether it is allowed, and why, for the log: the line that decided, or that none did."""

    allowed: bool
    reason: str


ANYBODY: Final = "group:public"
"""Subject of every request, with credentials or without."""
SIGNED_IN: Final = "group:authenticated"
"""Subject of every request with credentials."""
SUPER_ADMIN: Final = "group:super_admin"
EVERYTHING: Final = "*"

_READERS: Final = (Permission.READ, Permission.TASKS_READ, Permission.EXECUTIONS_READ)
BUILT_IN: Final[Mapping[str, tuple[str, ...]]] = {
    "group:administrators": tuple(Permission),
    "group:task_managers": (*_READERS, Permission.TASKS_WRITE, Permission.TASKS_EXECUTE),
    "group:monitoring": _READERS,
    SUPER_ADMIN: (EVERYTHING,),
    SIGNED_IN: (Permission.READ,),
}
"""The bundles of both older descriptions. What ``group:public`` may see is a setting."""

PUBLIC_PERMISSIONS: Final = (Permission.READ,)
"""What may be seen without credentials unless the setting says otherwise: status and statistics."""

SUBJECT_KINDS: Final = ("user", "character", "corporation", "alliance", "group", "role")
SUBJECT_MAX: Final = 160
SUBJECT_PATTERN: Final = rf"(?:{'|'.join(SUBJECT_KINDS)}):[A-Za-z0-9_.@+ |/-]+"
_SUBJECT = re.compile(SUBJECT_PATTERN, re.ASCII)
_PATTERN = re.compile(r"\*|[a-z_]+(?:\.[a-z_]+)*\.(?:\*|[a-z_]+)", re.ASCII)
PATTERNS: Final = (EVERYTHING, "scheduler.*", "scheduler.tasks.*", "scheduler.executions.*", *Permission)
"""All that a policy may speak of."""


_OF_SUPER_ADMINS: Final = (SUPER_ADMIN, SIGNED_IN, ANYBODY)


def is_subject(text: str) -> bool:
    """Whether *text* names a subject: ``user:42``, ``group:monitoring`` …"""
    return len(text) <= SUBJECT_MAX and _SUBJECT.fullmatch(text) is not None


def is_pattern(text: str) -> bool:
    """Whether *text* is ``*``, a known permission, or a prefix ``scheduler.tasks.*`` of at least one."""
    if _PATTERN.fullmatch(text) is None:
        return False
    return any(covers(text, permission) for permission in Permission)


def covers(pattern: str, permission: str) -> bool:
    """Whether a policy on *pattern* speaks of *permission*."""
    if pattern in (EVERYTHING, permission):
        return True
    return pattern.endswith(".*") and permission.startswith(pattern[:-1])


def direct_groups(memberships: Iterable[Membership]) -> Mapping[str, set[str]]:
    """For each subject the groups and roles that it is a member of by a membership of its own."""
    direct: dict[str, set[str]] = {}
    for membership in memberships:
        direct.setdefault(membership.subject, set()).add(membership.member_of)
    return direct


def with_groups(subjects: Iterable[str], direct: Mapping[str, set[str]]) -> frozenset[str]:
    """*subjects*, and all that they are members of, directly or through others, however far; circles do no harm."""
    found = set(subjects)
    frontier = list(found)
    while frontier:
        new = direct.get(frontier.pop(), set()) - found
        found |= new
        frontier += new
    return frozenset(found)


def of_super_admins(direct: Mapping[str, set[str]]) -> frozenset[str]:
    """All subjects that every super admin has, by the memberships of ``direct_groups``."""
    return with_groups(_OF_SUPER_ADMINS, direct)


def judged(subjects: frozenset[str], permission: Permission, shared: frozenset[str]) -> frozenset[str]:
    """Those of *subjects* whose policies count: of a super admin who would change policies, not those that all super
    admins share (*shared*). So the last key is kept whatever is written, and by how many at once."""
    if permission is Permission.TASKS_ADMIN and SUPER_ADMIN in subjects:
        return subjects - shared | {SUPER_ADMIN}
    return subjects


def locks_out(policies: Iterable[Policy], memberships: Iterable[Membership]) -> bool:
    """Whether these would deny all super admins the change of policies, if such a deny held (see ``judged``)."""
    theirs = of_super_admins(direct_groups(memberships))
    return any(
        policy.effect is Effect.DENY and policy.subject in theirs and covers(policy.permission, Permission.TASKS_ADMIN)
        for policy in policies
    )
