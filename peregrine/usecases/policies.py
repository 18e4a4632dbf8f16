"""Owns what a person may ask of policies and memberships; must not know how they are judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from peregrine.domain.errors import Conflict, Fault, Invalid, LimitReached, NotFound
from peregrine.domain.permission import (
    BUILT_IN,
    SUPER_ADMIN,
    Effect,
    Membership,
    Permission,
    Policy,
    is_pattern,
    is_subject,
    locks_out,
)
from peregrine.ports.identity import Asker
from peregrine.ports.records import Record
from peregrine.ports.shelves import (
    MEMBERSHIPS,
    POLICIES,
    membership_from,
    membership_record,
    policy_from,
    policy_record,
)
from peregrine.usecases.access import require
from peregrine.usecases.audit import Trail, state_of_record
from peregrine.usecases.means import Means

POLICIES_MAX: Final = 10_000
_LOCKS_OUT: Final = "would lock everybody out"


async def list_policies(means: Means, by: Asker) -> Sequence[Record]:
    """All policies that were added to the built-in ones."""
    await require(means.grants, by, Permission.TASKS_ADMIN)
    return await means.records.list_records(POLICIES, limit=POLICIES_MAX, now=means.clock.now())


async def add_policy(means: Means, by: Asker, policy: Policy) -> Record:
    """A new policy; in force at once here, and within a second everywhere.

    Raises:  Invalid, also for one that locks everybody out; Conflict ``policy_exists``.
    """
    await require(means.grants, by, Permission.TASKS_ADMIN)
    faults = []
    if not is_subject(policy.subject):
        faults.append(Fault("/subject", 'write a subject as "user:42", "group:monitoring" or "role:admin"'))
    if not is_pattern(policy.permission):
        every = ", ".join(Permission)
        faults.append(Fault("/permission", f'must be one of {every}, a part such as "scheduler.tasks.*", or "*"'))
    if policy.effect is Effect.DENY and policy.subject == SUPER_ADMIN:
        faults.append(Fault("/subject", _LOCKS_OUT))
    if faults:
        raise Invalid(faults)
    others = await list_policies(means, by)
    known = [policy_from(record) for record in others]
    if policy in known:
        raise Conflict("This policy exists already.", code="policy_exists")
    if locks_out([*known, policy], map(membership_from, await list_memberships(means, by))):
        raise Invalid.at("/subject", _LOCKS_OUT)
    record = policy_record(means.entropy.new_id(), policy, by=by.id, at=means.clock.now())
    return await _add(means, by, record, others, "add_policy")


async def list_memberships(means: Means, by: Asker) -> Sequence[Record]:
    """Who is member of which group or role, beside what tokens say."""
    await require(means.grants, by, Permission.TASKS_ADMIN)
    return await means.records.list_records(MEMBERSHIPS, limit=POLICIES_MAX, now=means.clock.now())


async def add_membership(means: Means, by: Asker, membership: Membership) -> Record:
    """A new membership. Raises Invalid, also for one that locks everybody out; Conflict ``membership_exists``."""
    await require(means.grants, by, Permission.TASKS_ADMIN)
    faults = []
    if not is_subject(membership.subject):
        faults.append(Fault("/subject", 'write a subject as "user:42", "character:7" or "group:monitoring"'))
    if not is_subject(membership.member_of) or not membership.member_of.startswith(("group:", "role:")):
        every = ", ".join(BUILT_IN)
        faults.append(Fault("/member_of", f'write a group or role, for example one of {every}, or "role:mine"'))
    if faults:
        raise Invalid(faults)
    others = await list_memberships(means, by)
    known = [membership_from(record) for record in others]
    if membership in known:
        raise Conflict("This membership exists already.", code="membership_exists")
    if locks_out(map(policy_from, await list_policies(means, by)), [*known, membership]):
        raise Invalid.at("/member_of", _LOCKS_OUT)
    record = membership_record(means.entropy.new_id(), membership, by=by.id, at=means.clock.now())
    return await _add(means, by, record, others, "add_membership")


async def remove_policy(means: Means, by: Asker, id: str) -> None:
    """Remove an added policy. Raises NotFound."""
    await _remove(means, by, POLICIES, id)


async def remove_membership(means: Means, by: Asker, id: str) -> None:
    """Remove a membership. Raises NotFound."""
    await _remove(means, by, MEMBERSHIPS, id)


async def _add(means: Means, by: Asker, record: Record, others: Sequence[Record], action: str) -> Record:
    if len(others) >= POLICIES_MAX:
        raise LimitReached(f"There are {POLICIES_MAX} already; remove some first.", code="too_many_policies")
    async with Trail(means, by, action, record.key) as trail:
        await trail.asked(after=state_of_record(record))
        kept = await means.records.put_record(record, expected_revision=0, now=means.clock.now())
    means.grants.refresh()
    return kept


async def _remove(means: Means, by: Asker, collection: str, id: str) -> None:
    await require(means.grants, by, Permission.TASKS_ADMIN)
    what = "policy" if collection == POLICIES else "membership"
    async with Trail(means, by, f"remove_{what}", id) as trail:
        now = means.clock.now()
        await trail.asked(before=state_of_record(await means.records.get_record(collection, id, now=now)))
        if not await means.records.delete_record(collection, id, now=now):
            raise NotFound(what, id)
    means.grants.refresh()
