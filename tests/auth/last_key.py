"""What must hold on every store: nobody takes the last key to policies, two at once neither."""

from __future__ import annotations

import asyncio

from peregrine.auth.grants import StoredGrants
from peregrine.auth.jwt import subjects_of
from peregrine.domain.permission import SUPER_ADMIN, Effect, Membership, Permission, Policy
from peregrine.ports.identity import Asker, Principal
from peregrine.ports.records import RecordStore
from peregrine.ports.shelves import membership_record, policy_record
from peregrine.testing.record_contract import NOW
from tests.api.world import HandClock


async def check_nobody_takes_the_last_key(store: RecordStore) -> None:
    """Two who each may add their part, and between them deny all super admins the change of policies."""
    policy = Policy(subject="role:locked", permission="*", effect=Effect.DENY)
    membership = Membership(subject=SUPER_ADMIN, member_of="role:locked")
    halves = [policy_record("p", policy, by="a", at=NOW), membership_record("m", membership, by="b", at=NOW)]

    await asyncio.gather(*(store.put_record(half, expected_revision=0, now=NOW) for half in halves))

    grants = StoredGrants(store, HandClock())
    for subject, allowed in ((SUPER_ADMIN, True), ("role:locked", False)):
        asker = Asker(principal=Principal(id="x", subjects=subjects_of(subject)))
        assert (await grants.decide(asker, Permission.TASKS_ADMIN)).allowed is allowed
        assert not (await grants.decide(asker, Permission.TASKS_WRITE)).allowed
