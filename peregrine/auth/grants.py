"""Owns the judgement of permissions by stored and built-in policies; must not know tokens or routes.

All subjects of a request are judged together in one enforcement, so that a deny for any of them beats every allow.
Decisions are kept by (subjects, permission) and dropped with the policies they came from, which are read anew at most
once a second: a change takes effect everywhere within a second, in this process at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import casbin
from casbin.model import Model

from peregrine.domain.moment import SECOND, Duration
from peregrine.domain.permission import (
    ANYBODY,
    BUILT_IN,
    PUBLIC_PERMISSIONS,
    Decision,
    Permission,
    Policy,
    covers,
    direct_groups,
    judged,
    of_super_admins,
    with_groups,
)
from peregrine.ports.clock import Clock
from peregrine.ports.identity import Asker
from peregrine.ports.records import Record, RecordStore
from peregrine.ports.shelves import MEMBERSHIPS, POLICIES, membership_from, policy_from

KEPT_FOR: Final[Duration] = SECOND
POLICIES_MAX: Final = 20_000
"""More than may be added, so that of those that several add at once at that bound none is overlooked."""
DECISIONS_MAX: Final = 10_000

_log = logging.getLogger(__name__)
_MODEL: Final = """
[request_definition]
r = subs, perm
[policy_definition]
p = sub, perm, eft
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = holds(r.subs, p.sub) && covers(p.perm, r.perm)
"""


class StoredGrants:
    """Grants from the built-in bundles, the public setting, and the policies on the shelf."""

    def __init__(
        self, records: RecordStore, clock: Clock, *, public: Sequence[Permission] = PUBLIC_PERMISSIONS
    ) -> None:
        self._records = records
        self._clock = clock
        self._built_in = tuple(_built_in(public))
        self._read_at: int | None = None
        self._seen: tuple[Sequence[Record], Sequence[Record]] | None = None
        self._turn = asyncio.Lock()
        self._enforcer = _enforcer(self._built_in)
        self._direct: Mapping[str, set[str]] = {}
        self._refreshes = 0
        self._decisions: dict[tuple[tuple[str, ...], Permission], Decision] = {}

    def refresh(self) -> None:
        """Judge the next request by policies read anew."""
        self._read_at = None
        self._refreshes += 1

    async def decide(self, asker: Asker, permission: Permission) -> Decision:
        """Whether the subjects of *asker* have *permission*, and by which policy."""
        if self._is_old():
            await self._read()
        key = (asker.principal.subjects, permission)
        decision = self._decisions.get(key)
        if decision is None:
            decision = self._judge(*key)
            if len(self._decisions) >= DECISIONS_MAX:
                self._decisions.clear()
            self._decisions[key] = decision
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug(
                "permission_decided",
                extra={
                    "route": asker.request.route, "permission": permission.value, "subjects": list(key[0]),
                    "verdict": "allow" if decision.allowed else "deny", "why": decision.reason,
                },
            )  # fmt: skip
        return decision

    def _is_old(self) -> bool:
        return self._read_at is None or self._clock.monotonic() - self._read_at >= KEPT_FOR

    async def _read(self) -> None:
        async with self._turn:
            if not self._is_old():
                return
            started, now, refreshes = self._clock.monotonic(), self._clock.now(), self._refreshes
            policies = await self._records.list_records(POLICIES, limit=POLICIES_MAX, now=now)
            memberships = await self._records.list_records(MEMBERSHIPS, limit=POLICIES_MAX, now=now)
            if (policies, memberships) != self._seen:
                self._enforcer = _enforcer([*self._built_in, *map(policy_from, policies)])
                self._direct = direct_groups(membership_from(record) for record in memberships)
                self._decisions.clear()
                self._seen = (policies, memberships)
            # What was changed meanwhile may have been missed.
            self._read_at = started if refreshes == self._refreshes else None

    def _judge(self, subjects: tuple[str, ...], permission: Permission) -> Decision:
        everybody = with_groups(subjects, self._direct)
        counted = judged(everybody, permission, of_super_admins(self._direct))
        allowed, explained = self._enforcer.enforce_ex(counted, permission.value)
        if not explained:
            return Decision(allowed=False, reason="no policy allows it")
        return Decision(allowed=allowed, reason=" ".join(explained))


def _built_in(public: Iterable[Permission]) -> Iterable[Policy]:
    for subject, permissions in BUILT_IN.items():
        yield from (Policy(subject=subject, permission=permission) for permission in permissions)
    yield from (Policy(subject=ANYBODY, permission=permission) for permission in public)


def _enforcer(policies: Iterable[Policy]) -> Any:
    model = Model()
    model.load_model_from_text(_MODEL)
    enforcer = casbin.Enforcer(model)
    enforcer.add_function("holds", lambda subjects, subject: subject in subjects)
    enforcer.add_function("covers", covers)
    enforcer.add_policies(list(dict.fromkeys((p.subject, p.permission, p.effect.value) for p in policies)))
    return enforcer
