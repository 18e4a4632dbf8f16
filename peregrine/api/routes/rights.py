"""Owns the routes of policies, memberships, API keys and the audit trail; must not know how rights are judged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec import UNSET, convert
from starlette.responses import Response

from peregrine.api.call import Call, answer
from peregrine.api.operation import Routes
from peregrine.domain.moment import format_moment
from peregrine.domain.permission import BUILT_IN, Membership, Permission, Policy
from peregrine.ports.records import Record
from peregrine.ports.shelves import ApiKey, membership_from, policy_from
from peregrine.usecases import audit, keys, policies
from peregrine.wire import rights
from peregrine.wire.orders import NoOrder, read_body
from peregrine.wire.rights import KeyInput, KeyShape, MembershipInput, MembershipShape, PolicyInput, PolicyShape

routes: Final = Routes("rights")
ADMIN: Final[Mapping[str, Any]] = {"needs": Permission.TASKS_ADMIN}


@routes.add("GET", "/scheduler/policies", answers=rights.PolicyList, **ADMIN)
async def list_policies(call: Call) -> Response:
    """Policies in force, the built-in ones first"""
    records = await policies.list_policies(call.means, call.asker)
    built_in = [
        PolicyShape(subject=subject, permission=str(permission), effect="allow", is_built_in=True)
        for subject, permissions in BUILT_IN.items()
        for permission in permissions
    ]
    shapes = built_in + [_policy(record) for record in records]
    return answer(rights.PolicyList(policies=shapes, total=len(shapes)))


@routes.add("POST", "/scheduler/policies", body=PolicyInput, answers=PolicyShape, status=201, refuses=[409], **ADMIN)
async def add_policy(call: Call) -> Response:
    """Allow or deny something to somebody"""
    given = read_body(PolicyInput, await call.json())
    policy = Policy(subject=given.subject, permission=given.permission, effect=given.effect)
    return _made(call, "policies", _policy(await policies.add_policy(call.means, call.asker, policy)))


@routes.add("DELETE", "/scheduler/policies/{policy_id}", body=NoOrder, body_required=False, answers=rights.Removed,
            **ADMIN)  # fmt: skip
async def remove_policy(call: Call) -> Response:
    """Remove a policy"""
    id = call.path_id("policy_id", "policy")
    read_body(NoOrder, await call.json())
    await policies.remove_policy(call.means, call.asker, id)
    return answer(rights.Removed(message="Policy removed", id=id))


@routes.add("GET", "/scheduler/memberships", answers=rights.MembershipList, **ADMIN)
async def list_memberships(call: Call) -> Response:
    """Who is member of which group or role, beside what tokens say"""
    shapes = [_membership(record) for record in await policies.list_memberships(call.means, call.asker)]
    return answer(rights.MembershipList(memberships=shapes, total=len(shapes)))


@routes.add("POST", "/scheduler/memberships", body=MembershipInput, answers=MembershipShape, status=201,
            refuses=[409], **ADMIN)  # fmt: skip
async def add_membership(call: Call) -> Response:
    """Make somebody a member of a group or role"""
    given = read_body(MembershipInput, await call.json())
    membership = Membership(subject=given.subject, member_of=given.member_of)
    return _made(call, "memberships", _membership(await policies.add_membership(call.means, call.asker, membership)))


@routes.add("DELETE", "/scheduler/memberships/{membership_id}", body=NoOrder, body_required=False,
            answers=rights.Removed, **ADMIN)  # fmt: skip
async def remove_membership(call: Call) -> Response:
    """Remove a membership"""
    id = call.path_id("membership_id", "membership")
    read_body(NoOrder, await call.json())
    await policies.remove_membership(call.means, call.asker, id)
    return answer(rights.Removed(message="Membership removed", id=id))


@routes.add("GET", "/scheduler/api-keys", answers=rights.KeyList, **ADMIN)
async def list_api_keys(call: Call) -> Response:
    """API keys that hold"""
    shapes = [_key(key) for key in await keys.list_keys(call.means, call.asker)]
    return answer(rights.KeyList(api_keys=shapes, total=len(shapes)))


@routes.add("POST", "/scheduler/api-keys", body=KeyInput, answers=KeyShape, status=201, remembered=False, **ADMIN)
async def add_api_key(call: Call) -> Response:
    """Make an API key; its token is shown this once"""
    given = read_body(KeyInput, await call.json())
    expires_at = None if given.expires_in is None else call.means.clock.now() + given.expires_in
    key, token = await keys.add_key(call.means, call.asker, name=given.name, groups=given.groups, expires_at=expires_at)
    return _made(call, "api-keys", _key(key, token))


@routes.add("DELETE", "/scheduler/api-keys/{key_id}", body=NoOrder, body_required=False, answers=rights.Removed,
            **ADMIN)  # fmt: skip
async def remove_api_key(call: Call) -> Response:
    """Remove an API key"""
    id = call.path_id("key_id", "key")
    read_body(NoOrder, await call.json())
    await keys.remove_key(call.means, call.asker, id)
    return answer(rights.Removed(message="API key removed", id=id))


@routes.add("GET", "/scheduler/audit", query=rights.AuditQuery, answers=rights.AuditPage, **ADMIN)
async def list_audit(call: Call) -> Response:
    """Who did, or tried, what"""
    query = call.query(rights.AuditQuery)
    found = await audit.list_entries(call.means, call.asker, before=query.cursor, limit=query.page_size)
    entries = [
        rights.AuditEntry(
            id=entry.id, at=format_moment(entry.at), who=entry.who, action=entry.action, target=entry.target,
            verdict=entry.verdict, before=entry.before, after=entry.after,
            changes=[convert(one, rights.AuditChange) for one in entry.changes], address=entry.address,
            request_id=entry.request_id,
        )
        for entry in found
    ]  # fmt: skip
    return answer(rights.AuditPage(entries=entries, next_cursor=rights.next_cursor(entries, query.page_size)))


def _made(call: Call, collection: str, shape: PolicyShape | MembershipShape | KeyShape) -> Response:
    return answer(shape, 201, {"Location": f"{call.desk.prefix}/scheduler/{collection}/{shape.id}"})


def _policy(record: Record) -> PolicyShape:
    policy = policy_from(record)
    return PolicyShape(
        id=record.key,
        subject=policy.subject,
        permission=policy.permission,
        effect=policy.effect.value,
        is_built_in=False,
        created_at=_made_at(record),
        created_by=str(record.document["created_by"]),
    )


def _membership(record: Record) -> MembershipShape:
    membership = membership_from(record)
    return MembershipShape(
        id=record.key,
        subject=membership.subject,
        member_of=membership.member_of,
        created_at=_made_at(record),
        created_by=str(record.document["created_by"]),
    )


def _made_at(record: Record) -> str:
    at = record.document["created_at"]
    assert isinstance(at, int)
    return format_moment(at)


def _key(key: ApiKey, token: str = "") -> KeyShape:
    return KeyShape(
        id=key.id,
        name=key.name,
        groups=list(key.groups),
        created_at=format_moment(key.created_at),
        created_by=key.created_by,
        expires_at=UNSET if key.expires_at is None else format_moment(key.expires_at),
        token=token or UNSET,
    )
