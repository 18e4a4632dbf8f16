"""Policies, memberships, API keys and the trail, while the service runs."""

from __future__ import annotations

import asyncio

import pytest

from peregrine.domain.moment import HOUR
from peregrine.ports.records import Record
from peregrine.ports.shelves import MEMBERSHIPS, POLICIES
from peregrine.stores.memory_records import MemoryRecords
from tests.api.world import World

pytestmark = pytest.mark.anyio


async def test_a_policy_holds_at_once_and_is_gone_at_once(world: World) -> None:
    bob = world.bearer(user="bob")
    assert (await world.ask("GET", "/scheduler/tasks", groups=(), headers=bob)).status_code == 403

    made = await world.ask("POST", "/scheduler/policies", {"subject": "user:bob", "permission": "scheduler.tasks.read"})
    assert made.status_code == 201
    assert (await world.ask("GET", "/scheduler/tasks", groups=(), headers=bob)).status_code == 200

    assert (await world.ask("DELETE", made.headers["location"])).status_code == 200
    assert (await world.ask("GET", "/scheduler/tasks", groups=(), headers=bob)).status_code == 403
    assert (await world.ask("DELETE", made.headers["location"])).status_code == 404


async def test_a_deny_beats_the_token(world: World) -> None:
    order = {"subject": "user:bob", "permission": "scheduler.*", "effect": "deny"}

    await world.ask("POST", "/scheduler/policies", order)

    bob = world.bearer("super_admin", user="bob")
    assert (await world.ask("GET", "/scheduler/tasks", groups=(), headers=bob)).status_code == 403
    assert (await world.ask("GET", "/scheduler/status", groups=(), headers=bob)).status_code == 403
    assert (await world.ask("GET", "/scheduler/tasks")).status_code == 200


async def test_a_membership_gives_the_groups_rights(world: World) -> None:
    bob = world.bearer(user="bob")

    made = await world.ask("POST", "/scheduler/memberships", {"subject": "user:bob", "member_of": "group:monitoring"})

    assert (await world.ask("GET", "/scheduler/tasks", groups=(), headers=bob)).status_code == 200
    assert (await world.ask("POST", "/scheduler/reload", groups=(), headers=bob)).status_code == 403
    listed = (await world.ask("GET", "/scheduler/memberships")).json()
    assert (listed["total"], listed["memberships"]) == (1, [made.json()])


@pytest.mark.parametrize("subject", ["group:authenticated", "group:public", "group:super_admin", "group:locked"])
@pytest.mark.parametrize("permission", ["*", "scheduler.*", "scheduler.tasks.*", "scheduler.tasks.admin"])
async def test_no_policy_locks_everybody_out(world: World, subject: str, permission: str) -> None:
    chain = [("group:authenticated", "role:all"), ("role:all", "group:locked")]
    for member, group in chain:
        await world.ask("POST", "/scheduler/memberships", {"subject": member, "member_of": group})

    order = {"subject": subject, "permission": permission, "effect": "deny"}
    refused = await world.ask("POST", "/scheduler/policies", order)

    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (400, "/subject")
    assert "lock everybody out" in refused.json()["errors"][0]["message"]
    assert (await world.ask("GET", "/scheduler/policies")).status_code == 200


async def test_no_membership_locks_everybody_out(world: World) -> None:
    order = {"subject": "group:locked", "permission": "scheduler.tasks.*", "effect": "deny"}
    assert (await world.ask("POST", "/scheduler/policies", order)).status_code == 201

    for subject in ("group:super_admin", "group:authenticated", "group:public"):
        order = {"subject": subject, "member_of": "group:locked"}
        refused = await world.ask("POST", "/scheduler/memberships", order)
        assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (400, "/member_of")

    assert (await world.ask("GET", "/scheduler/policies")).status_code == 200


class Crossroads(MemoryRecords):
    """A shelf on which a policy and a membership are written only when both are about to be."""

    def __init__(self) -> None:
        super().__init__()
        self.both = asyncio.Barrier(2)

    async def put_record(self, record: Record, *, expected_revision: int | None, now: int) -> Record:
        if record.collection in (POLICIES, MEMBERSHIPS):
            await self.both.wait()
        return await super().put_record(record, expected_revision=expected_revision, now=now)


async def test_two_at_once_do_not_lock_everybody_out_either() -> None:
    world = World(records=Crossroads())
    deny = {"subject": "role:locked", "permission": "*", "effect": "deny"}
    join = {"subject": "group:authenticated", "member_of": "role:locked"}

    made, _ = await asyncio.gather(
        world.ask("POST", "/scheduler/policies", deny), world.ask("POST", "/scheduler/memberships", join)
    )

    assert (await world.ask("GET", "/scheduler/tasks")).status_code == 403
    assert (await world.ask("DELETE", made.headers["location"])).status_code == 200
    assert (await world.ask("GET", "/scheduler/tasks")).status_code == 200


async def test_a_deny_for_everybody_can_be_taken_back(world: World) -> None:
    order = {"subject": "group:public", "permission": "scheduler.tasks.write", "effect": "deny"}

    made = await world.ask("POST", "/scheduler/policies", order)

    assert made.status_code == 201
    assert (await world.ask("DELETE", made.headers["location"])).status_code == 200


@pytest.mark.parametrize(
    ("where", "body", "pointers"),
    [
        ("policies", {}, ["/subject", "/permission"]),
        ("policies", {"subject": "bob", "permission": "scheduler.tasks.reed"}, ["/subject", "/permission"]),
        ("policies", {"subject": "user:bob", "permission": "scheduler.tasks.read", "effect": "maybe"}, ["/effect"]),
        ("policies", {"subject": "user:bob", "permission": ".*"}, ["/permission"]),
        ("policies", {"subject": "user:a\nb", "permission": "*"}, ["/subject"]),
        ("policies", {"subject": "group:super_admin", "permission": "*", "effect": "deny"}, ["/subject"]),
        ("memberships", {"subject": "user:bob", "member_of": "user:eve"}, ["/member_of"]),
        ("memberships", {"subject": "", "member_of": "x"}, ["/subject", "/member_of"]),
        ("api-keys", {"name": "", "groups": []}, ["/name", "/groups"]),
        ("api-keys", {"name": "k", "groups": ["g"], "expires_in": "1s"}, ["/expires_in"]),
        ("api-keys", {"name": "k", "groups": ["g"], "token": "mine"}, ["/token"]),
    ],
)
async def test_wrong_rights_have_their_place(world: World, where: str, body: object, pointers: list[str]) -> None:
    answer = await world.ask("POST", f"/scheduler/{where}", body)

    assert answer.status_code == 400
    assert [fault["pointer"] for fault in answer.json()["errors"]] == pointers


@pytest.mark.parametrize(
    ("where", "body"),
    [
        ("policies", {"subject": "user:bob", "permission": "*"}),
        ("memberships", {"subject": "user:bob", "member_of": "role:ops"}),
    ],
)
async def test_the_same_twice_is_a_conflict(world: World, where: str, body: object) -> None:
    assert (await world.ask("POST", f"/scheduler/{where}", body)).status_code == 201
    assert (await world.ask("POST", f"/scheduler/{where}", body)).status_code == 409


async def test_policies_show_the_built_in_ones_first(world: World) -> None:
    await world.ask("POST", "/scheduler/policies", {"subject": "user:bob", "permission": "*"})

    listed = (await world.ask("GET", "/scheduler/policies")).json()

    assert listed["policies"][-1]["subject"] == "user:bob"
    assert {policy["is_built_in"] for policy in listed["policies"][:-1]} == {True}
    assert {"subject": "group:super_admin", "permission": "*", "effect": "allow", "is_built_in": True} in listed[
        "policies"
    ]


async def test_an_api_key_works_until_it_is_removed(world: World) -> None:
    made = (await world.ask("POST", "/scheduler/api-keys", {"name": "robot", "groups": ["monitoring"]})).json()
    robot = {"Authorization": f"Bearer {made['token']}"}

    assert (await world.ask("GET", "/scheduler/tasks", groups=(), headers=robot)).status_code == 200
    assert (await world.ask("POST", "/scheduler/reload", groups=(), headers=robot)).status_code == 403
    listed = (await world.ask("GET", "/scheduler/api-keys")).json()
    assert [("token" in key, key["name"]) for key in listed["api_keys"]] == [(False, "robot")]

    assert (await world.ask("DELETE", f"/scheduler/api-keys/{made['id']}")).status_code == 200
    assert (await world.ask("GET", "/scheduler/tasks", groups=(), headers=robot)).status_code == 401


async def test_an_api_key_expires(world: World) -> None:
    order = {"name": "robot", "groups": ["monitoring"], "expires_in": "1h"}
    made = (await world.ask("POST", "/scheduler/api-keys", order)).json()
    assert made["expires_at"] == "2026-01-01T01:00:00Z"

    world.clock.pass_time(HOUR)

    robot = {"Authorization": f"Bearer {made['token']}"}
    assert (await world.ask("GET", "/scheduler/tasks", groups=(), headers=robot)).status_code == 401


async def test_a_keys_secret_is_not_remembered_for_a_second_answer(world: World) -> None:
    order, key = {"name": "robot", "groups": ["monitoring"]}, {"Idempotency-Key": "k"}

    first = (await world.ask("POST", "/scheduler/api-keys", order, headers=key)).json()
    second = (await world.ask("POST", "/scheduler/api-keys", order, headers=key)).json()

    assert first["token"] != second["token"]
    records = [str(record) for record in world.records._records.values()]
    assert not any(first["token"].rpartition("_")[2] in record for record in records)


async def test_the_trail_tells_who_did_what(world: World) -> None:
    task = await world.task()
    path = f"/scheduler/tasks/{task['id']}"
    request = {"X-Request-Id": "r"}
    await world.ask("PUT", path, {"description": "x"}, headers=request)
    for verb in ("pause", "resume", "disable", "enable", "stop"):
        assert (await world.ask("POST", f"{path}/{verb}", headers=request)).status_code == 200
    await world.ask("DELETE", path, headers=request)
    await world.ask("POST", "/scheduler/policies", {"subject": "user:bob", "permission": "*"})

    entries = (await world.ask("GET", "/scheduler/audit")).json()["entries"]

    by_action = {entry["action"]: entry for entry in entries}
    assert set(by_action) == {
        "create_task", "update_task", "pause_task", "resume_task", "disable_task", "enable_task", "stop_task",
        "delete_task", "add_policy",
    }  # fmt: skip
    update = by_action["update_task"]
    assert (update["who"], update["target"], update["verdict"], update["request_id"]) == (
        "alice", task["id"], "done", "r",
    )  # fmt: skip
    assert update["before"] == by_action["create_task"]["after"] != update["after"]
    assert by_action["add_policy"]["after"] == "user:bob * allow"


async def changes(world: World, action: str) -> dict[str, tuple[object, object]]:
    """What the newest entry of *action* says was changed: by field, before and after; None: not there."""
    entries = (await world.ask("GET", "/scheduler/audit")).json()["entries"]
    entry = next(one for one in entries if one["action"] == action)
    return {one["field"]: (one.get("before"), one.get("after")) for one in entry["changes"]}


async def test_the_trail_tells_what_was_changed(world: World) -> None:
    config = {"url": "https://x.example/", "headers": {"Authorization": "canary-1", "A": "b"}, "body": "canary-2"}
    task = await world.task(config=config)
    path = f"/scheduler/tasks/{task['id']}"
    order = {
        "metadata": {"max_retries": 5, "timeout": "2m"},
        "config": config | {"url": "https://y.example/", "headers": {"Authorization": "canary-3", "A": "b"}},
    }
    assert (await world.ask("PUT", path, order)).status_code == 200

    assert await changes(world, "update_task") == {
        "/max_retries": (3, 5),
        "/timeout": ("5m", "2m"),
        "/config/url": ("https://x.example/", "https://y.example/"),
        "/config/headers/Authorization": ("***", "***"),
        "/version": (1, 2),
    }
    created = await changes(world, "create_task")
    assert created["/name"] == (None, task["name"])
    assert created["/config/body"] == (None, "… 8 characters")
    await world.ask("POST", f"{path}/pause", {"reason": "noise"})
    assert (await changes(world, "pause_task"))["/pause"][1] == {
        "since": "2026-01-01T00:00:00Z", "by": "alice", "reason": "noise",
    }  # fmt: skip
    await world.ask("DELETE", path)
    assert (await changes(world, "delete_task"))["/config/url"] == ("https://y.example/", None)
    assert "canary" not in (await world.ask("GET", "/scheduler/audit")).text


async def test_the_trail_tells_which_rights_came_and_went(world: World) -> None:
    orders: dict[str, dict[str, object]] = {
        "policies": {"subject": "user:bob", "permission": "*"},
        "memberships": {"subject": "user:bob", "member_of": "role:ops"},
        "api-keys": {"name": "ci", "groups": ["monitoring"], "expires_in": "1h"},
    }
    told = []
    for where, order in orders.items():
        made = await world.ask("POST", f"/scheduler/{where}", order)
        word = {"policies": "policy", "memberships": "membership", "api-keys": "key"}[where]
        added = await changes(world, f"add_{word}")
        world.clock.pass_time(10)
        assert (await world.ask("DELETE", made.headers["location"])).status_code == 200
        removed = await changes(world, f"remove_{word}")
        assert removed == {field: (after, None) for field, (_, after) in added.items()}
        told.append({field: after for field, (_, after) in added.items()})
        world.clock.pass_time(10)

    assert told == [
        {"/subject": "user:bob", "/permission": "*", "/effect": "allow"},
        {"/subject": "user:bob", "/member_of": "role:ops"},
        {"/name": "ci", "/groups": ["monitoring"], "/expires_at": "2026-01-01T01:00:00.040Z"},
    ]


async def test_the_trail_comes_in_pages(world: World) -> None:
    for number in range(5):
        await world.task(name=f"t{number}")

    seen: list[str] = []
    cursor = ""
    while True:
        page = (await world.ask("GET", f"/scheduler/audit?page_size=2&cursor={cursor}")).json()
        seen += [entry["id"] for entry in page["entries"]]
        if "next_cursor" not in page:
            break
        cursor = page["next_cursor"]
    assert len(seen) == len(set(seen)) == 5
    assert seen == sorted(seen, reverse=True)
