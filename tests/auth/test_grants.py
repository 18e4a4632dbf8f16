"""Who may do what: the bundles, a deny that beats every allow, and changes that hold within a second."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from peregrine.auth import grants
from peregrine.auth.grants import StoredGrants
from peregrine.auth.jwt import subjects_of
from peregrine.domain.errors import Unavailable
from peregrine.domain.permission import Effect, Membership, Permission, Policy
from peregrine.ports.identity import NOBODY, Asker, Principal, Request
from peregrine.ports.records import Record
from peregrine.ports.shelves import MEMBERSHIPS, POLICIES, membership_record, policy_from, policy_record
from peregrine.stores.memory_records import MemoryRecords
from peregrine.usecases import policies
from tests.api.world import Away, HandClock

pytestmark = pytest.mark.anyio

P = Permission
ALL = set(Permission)
READS = {P.READ, P.TASKS_READ, P.EXECUTIONS_READ}
BUNDLES = {
    "administrators": ALL,
    "task_managers": READS | {P.TASKS_WRITE, P.TASKS_EXECUTE},
    "monitoring": READS,
    "super_admin": ALL,
    "authenticated": {P.READ},
    "nobodys_group": {P.READ},
}


class Law:
    """Grants on a shelf that a test fills."""

    def __init__(self, *, public: tuple[Permission, ...] = (P.READ,)) -> None:
        self.clock = HandClock()
        self.records: MemoryRecords = MemoryRecords()
        self.grants = StoredGrants(self.records, self.clock, public=public)
        self._count = 0

    async def say(self, subject: str, permission: str, effect: Effect = Effect.ALLOW) -> None:
        self._count += 1
        policy = Policy(subject=subject, permission=permission, effect=effect)
        record = policy_record(str(self._count), policy, by="x", at=0)
        await self.records.put_record(record, expected_revision=None, now=0)
        self.grants.refresh()

    async def join(self, subject: str, group: str) -> None:
        self._count += 1
        record = membership_record(str(self._count), Membership(subject=subject, member_of=group), by="x", at=0)
        await self.records.put_record(record, expected_revision=None, now=0)
        self.grants.refresh()

    async def allowed(self, *subjects: str) -> set[Permission]:
        asker = Asker(principal=Principal(id="x", subjects=subjects_of(*subjects)))
        return {permission for permission in Permission if (await self.grants.decide(asker, permission)).allowed}


@pytest.mark.parametrize("group", BUNDLES)
async def test_each_bundle_has_what_the_older_documents_gave_it(group: str) -> None:
    assert await Law(public=()).allowed("user:1", f"group:{group}") == BUNDLES[group]


@pytest.mark.parametrize(("public", "seen"), [((), set()), ((P.READ,), {P.READ}), ((P.TASKS_READ,), {P.TASKS_READ})])
async def test_what_nobody_may_see_is_a_setting(public: tuple[Permission, ...], seen: set[Permission]) -> None:
    grants, asker = Law(public=public).grants, Asker(principal=NOBODY)

    assert {permission for permission in Permission if (await grants.decide(asker, permission)).allowed} == seen


async def test_a_deny_for_any_subject_beats_every_allow() -> None:
    law = Law()
    for subject in ("user:1", "character:2", "group:a"):
        await law.say(subject, "*")
    assert await law.allowed("user:1", "character:2", "group:a", "alliance:9") == ALL

    await law.say("alliance:9", "scheduler.tasks.*", Effect.DENY)

    assert await law.allowed("user:1", "character:2", "group:a", "alliance:9") == {P.READ, P.EXECUTIONS_READ}
    assert await law.allowed("user:1", "character:2", "group:a") == ALL


async def test_a_deny_reaches_the_super_admin_too() -> None:
    law = Law()
    await law.say("user:1", "scheduler.tasks.delete", Effect.DENY)

    assert await law.allowed("user:1", "group:super_admin") == ALL - {P.TASKS_DELETE}


@pytest.mark.parametrize("subject", ["group:authenticated", "group:public", "role:all", "group:further"])
async def test_no_deny_that_reaches_every_super_admin_takes_the_last_key(subject: str) -> None:
    law = Law()
    await law.join("group:authenticated", "role:all")
    await law.join("role:all", "group:further")
    await law.say(subject, "*", Effect.DENY)

    assert await law.allowed("user:1", "group:super_admin") == {P.TASKS_ADMIN}
    assert await law.allowed("user:2", "group:administrators") == set()


async def test_one_super_admin_can_be_denied_the_change_of_policies() -> None:
    law = Law()
    await law.join("user:1", "role:suspended")
    await law.say("role:suspended", "scheduler.tasks.admin", Effect.DENY)

    assert P.TASKS_ADMIN not in await law.allowed("user:1", "group:super_admin")
    assert await law.allowed("user:2", "group:super_admin") == ALL


async def test_patterns_cover_what_lies_below_them() -> None:
    law = Law(public=())
    await law.say("user:1", "scheduler.executions.*")
    await law.say("user:2", "scheduler.*")

    assert await law.allowed("user:1") == {P.READ, P.EXECUTIONS_READ}
    assert await law.allowed("user:2") == ALL


async def test_members_have_what_the_group_has_however_far() -> None:
    law = Law()
    await law.join("user:1", "role:ops")
    await law.join("role:ops", "group:task_managers")
    await law.join("group:task_managers", "role:ops")

    assert await law.allowed("user:1") == BUNDLES["task_managers"]
    await law.say("role:ops", "scheduler.tasks.write", Effect.DENY)
    assert P.TASKS_WRITE not in await law.allowed("user:1")
    assert P.TASKS_WRITE in await law.allowed("group:administrators")


async def test_a_deny_at_the_end_of_a_long_chain_counts() -> None:
    law = Law()
    await law.say("user:1", "*")
    for number in range(50):
        await law.join("user:1" if number == 0 else f"role:{number}", f"role:{number + 1}")
    await law.say("role:50", "scheduler.tasks.write", Effect.DENY)

    assert await law.allowed("user:1") == ALL - {P.TASKS_WRITE}


class Busy(MemoryRecords):
    """A shelf that something happens to while it is read."""

    meanwhile: Callable[[], Awaitable[None]] | None = None

    async def list_records(self, collection: str, **how: Any) -> Sequence[Record]:
        found = await super().list_records(collection, **how)
        happens, self.meanwhile = self.meanwhile, None
        if happens is not None:
            await happens()
        return found


async def test_a_change_made_while_policies_are_read_holds_at_once_too() -> None:
    law = Law()
    law.records = shelf = Busy()
    law.grants = StoredGrants(shelf, law.clock)
    shelf.meanwhile = lambda: law.say("user:1", "*")
    await law.allowed("user:2")

    assert await law.allowed("user:1") == ALL


def test_as_many_policies_are_read_as_can_be_added() -> None:
    assert grants.POLICIES_MAX > policies.POLICIES_MAX


async def test_a_change_elsewhere_holds_after_a_second() -> None:
    law = Law()
    assert P.TASKS_READ not in await law.allowed("user:1")
    other = policy_record("9", Policy(subject="user:1", permission="*"), by="x", at=0)

    await law.records.put_record(other, expected_revision=None, now=0)
    law.clock.pass_time(999)
    assert P.TASKS_READ not in await law.allowed("user:1")
    law.clock.pass_time(1)
    assert P.TASKS_READ in await law.allowed("user:1")

    await law.records.delete_record(POLICIES, "9", now=0)
    law.clock.pass_time(1000)
    assert P.TASKS_READ not in await law.allowed("user:1")


async def test_policies_that_can_not_be_read_let_nobody_in() -> None:
    law = StoredGrants(Away(), HandClock())
    asker = Asker(principal=Principal(id="x", subjects=subjects_of("group:super_admin")))

    with pytest.raises(Unavailable):
        await law.decide(asker, P.READ)


async def test_each_decision_is_told_to_the_debug_log(caplog: pytest.LogCaptureFixture) -> None:
    law = Law()
    asker = Asker(principal=Principal(id="1", subjects=subjects_of("user:1")), request=Request(route="GET /x"))

    with caplog.at_level(logging.DEBUG, logger="peregrine.auth.grants"):
        await law.grants.decide(asker, P.TASKS_WRITE)

    line = caplog.records[-1].__dict__
    assert (line["route"], line["permission"], line["verdict"]) == ("GET /x", "scheduler.tasks.write", "deny")
    assert line["subjects"] == ["user:1", "group:authenticated", "group:public"]
    assert line["why"] == "no policy allows it"


async def test_a_thousand_policies_are_judged_once() -> None:
    law = Law()
    for number in range(1000):
        record = policy_record(f"p{number}", Policy(subject=f"user:{number}", permission="*"), by="x", at=0)
        await law.records.put_record(record, expected_revision=None, now=0)

    assert await law.allowed("user:999") == ALL
    assert len(await law.records.list_records(MEMBERSHIPS, limit=9, now=0)) == 0


async def test_an_effect_of_a_newer_version_forbids() -> None:
    policy = policy_record("p", Policy(subject="role:a", permission="scheduler.*"), by="boss", at=0)
    newer = replace(policy, document=dict(policy.document) | {"effect": "ask_first"})

    assert policy_from(policy).effect is Effect.ALLOW
    assert policy_from(newer).effect is Effect.DENY
