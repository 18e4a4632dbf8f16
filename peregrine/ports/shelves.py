"""What stands on which shelf of the records, and how it is written there: one place for who puts and who reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from peregrine.domain.moment import Moment
from peregrine.domain.payload import JsonObject, JsonValue
from peregrine.domain.permission import Effect, Membership, Policy
from peregrine.ports.records import Record

POLICIES: Final = "policies"
MEMBERSHIPS: Final = "memberships"
API_KEYS: Final = "api_keys"
ANSWERS: Final = "answers"
AUDIT: Final = "audit"
VAULT: Final = "vault"
SESSIONS: Final = "sessions"
SESSION_CLAIM: Final = "peregrine_session"
"""The claim of our own tokens that names a session on its shelf. Foreign ones may say what they like under ``sid``."""


def policy_record(id: str, policy: Policy, *, by: str, at: Moment) -> Record:
    """*policy* as it stands on its shelf."""
    document: JsonObject = {"subject": policy.subject, "permission": policy.permission, "effect": policy.effect.value}
    return Record(collection=POLICIES, key=id, document=document | {"created_by": by, "created_at": at})


def policy_from(record: Record) -> Policy:
    """The policy of a record. An effect that we do not know is a newer version's, and may forbid: it counts as deny."""
    document = record.document
    effect = Effect.ALLOW if document["effect"] == Effect.ALLOW.value else Effect.DENY
    return Policy(subject=str(document["subject"]), permission=str(document["permission"]), effect=effect)


def membership_record(id: str, membership: Membership, *, by: str, at: Moment) -> Record:
    """*membership* as it stands on its shelf."""
    document: JsonObject = {"subject": membership.subject, "member_of": membership.member_of}
    return Record(collection=MEMBERSHIPS, key=id, document=document | {"created_by": by, "created_at": at})


def membership_from(record: Record) -> Membership:
    """The membership of a record."""
    return Membership(subject=str(record.document["subject"]), member_of=str(record.document["member_of"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A long-lived credential of a program. Only the digest of its secret is kept."""

    id: str
    name: str
    digest: str
    groups: tuple[str, ...]
    created_by: str
    created_at: Moment
    expires_at: Moment | None = None


def key_record(key: ApiKey) -> Record:
    """*key* as it stands on its shelf; gone when it expires."""
    groups: list[JsonValue] = [*key.groups]
    document: JsonObject = {
        "name": key.name, "digest": key.digest, "groups": groups, "created_by": key.created_by,
        "created_at": key.created_at,
    }  # fmt: skip
    return Record(collection=API_KEYS, key=key.id, document=document, expires_at=key.expires_at)


def key_from(record: Record) -> ApiKey:
    """The key of a record."""
    document = record.document
    groups, created_at = document["groups"], document["created_at"]
    assert isinstance(groups, list)
    assert isinstance(created_at, int)
    return ApiKey(
        id=record.key,
        name=str(document["name"]),
        digest=str(document["digest"]),
        groups=tuple(str(group) for group in groups),
        created_by=str(document["created_by"]),
        created_at=created_at,
        expires_at=record.expires_at,
    )
