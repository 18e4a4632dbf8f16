"""The whole way down: the same door on the store that a plain installation has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from peregrine.domain.execution import Outcome
from peregrine.domain.ids import WorkerId
from peregrine.domain.moment import MINUTE, SECOND
from peregrine.domain.retry import settle
from peregrine.ports.store import ClaimRequest
from tests.api.matrix import ROWS
from tests.api.test_permissions import settled
from tests.api.world import HTTP_TASK, World, world_on_sqlite
from tests.house.test_costs import counted
from tests.stores.sqlite_places import CountedStore

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with world_on_sqlite(tmp_path) as world:
        yield world


async def test_every_route_answers_as_on_the_reference(world: World) -> None:
    for method, path, body, status, _ in ROWS:
        if not path.startswith("/docs"):
            answer = await world.ask(method, await settled(world, path), body)
            assert answer.status_code == status, (method, path, answer.text)


async def test_a_task_from_its_making_to_its_end(world: World) -> None:
    task = await world.task(schedule="0 * * * * *")
    path = f"/scheduler/tasks/{task['id']}"
    id = (await world.ask("POST", f"{path}/execute", {"parameters": {"a": 1}})).json()["execution_id"]
    request = ClaimRequest(claim_id="c", worker_id=WorkerId("w"), now=world.clock.now(), limit=1)
    (claim,) = (await world.store.claim(request)).claims
    world.clock.pass_time(3 * SECOND)
    await world.store.settle([settle(claim, Outcome.succeeded("done", status_code=200), world.clock.now(), 0.5)])
    await world.ask("POST", f"{path}/pause", {"reason": "night"})
    world.clock.pass_time(5 * MINUTE)
    await world.ask("POST", f"{path}/resume")

    execution = (await world.ask("GET", f"{path}/executions/{id}")).json()
    shown = (await world.ask("GET", path)).json()
    ledger = (await world.ask("GET", f"{path}/occurrences")).json()

    assert (execution["status"], execution["output"], execution["duration"]) == ("completed", "done", "3s")
    assert execution["metadata"]["detail"] == {"status_code": 200}
    assert (shown["status"], shown["metadata"]["success_count"], shown["metadata"]["version"]) == ("completed", 1, 3)
    assert [(one["count"], one["verdict"], one["reason"]) for one in ledger["occurrences"]] == [
        (5, "skipped", "paused")
    ]


async def test_a_change_and_its_entry_are_one_commit(tmp_path: Path) -> None:
    async with world_on_sqlite(tmp_path / "counted", kind=CountedStore) as world:
        store = cast(CountedStore, world.store)
        path = f"/scheduler/tasks/{(await world.task())['id']}"
        two = [HTTP_TASK | {"name": f"one of two: {n}"} for n in range(2)]
        for method, where, body, status in (
            ("POST", "/scheduler/tasks", HTTP_TASK | {"name": "another"}, 201),
            ("POST", "/scheduler/tasks", HTTP_TASK | {"name": "another"}, 409),
            ("PUT", path, {"description": "new"}, 200),
            ("POST", "/scheduler/tasks/import", {"version": 1, "tasks": two}, 200),
            ("DELETE", path, None, 200),
        ):
            store.forget()
            answer = await world.ask(method, where, body)
            assert (answer.status_code, store.ran["COMMIT"]) == (status, 1), (method, where, answer.text)

        said = (await world.ask("GET", "/scheduler/audit")).json()["entries"]
        assert sorted((one["action"], one["verdict"]) for one in said) == [
            ("create_task", "done"), ("create_task", "done"), ("create_task", "name_taken"), ("delete_task", "done"),
            ("import_task", "done"), ("import_task", "done"), ("update_task", "done"),
        ]  # fmt: skip


async def test_a_task_is_made_in_few_calls(world: World) -> None:
    """Each is made of other words, so nothing but the schedule was ever read before."""
    await world.task(name="first")

    with counted() as calls:
        await world.task(name="second")

    assert calls.ours <= 420


async def test_of_many_who_change_at_once_nobody_is_lost(world: World) -> None:
    path = f"/scheduler/tasks/{(await world.task())['id']}"

    answers = await asyncio.gather(
        *(
            world.ask("PUT", path, {"config": HTTP_TASK["config"] | {"body": str(n)}, "tags": [str(n)]})
            for n in range(6)
        )
    )
    guarded = await asyncio.gather(
        *(world.ask("PUT", path, {"description": str(n)}, headers={"If-Match": '"7"'}) for n in range(6))
    )

    assert {answer.status_code for answer in answers} <= {200, 503}
    assert sorted(answer.status_code for answer in guarded) == [200, 412, 412, 412, 412, 412]
    shown = (await world.ask("GET", path)).json()
    assert shown["metadata"]["version"] == 8
    assert shown["config"]["body"] == shown["metadata"]["tags"][0]


async def test_of_many_who_send_one_key_one_is_served(world: World) -> None:
    key = {"Idempotency-Key": "once"}

    answers = await asyncio.gather(*(world.ask("POST", "/scheduler/tasks", HTTP_TASK, headers=key) for _ in range(8)))

    assert {answer.status_code for answer in answers} <= {201, 409}
    assert (await world.ask("GET", "/scheduler/tasks")).json()["total"] == 1
    assert (await world.ask("POST", "/scheduler/tasks", HTTP_TASK, headers=key)).status_code == 201


async def test_what_no_text_may_hold_is_harmless_in_every_filter(world: World) -> None:
    await world.task()

    for text in ("%", "_", "' OR 1=1--", "\\", '"', "*", "$ne", "\U0001f600", "a" * 200):
        for where in ("tasks?q", "tasks?tags", "tasks?created_by", "executions?q", "executions?task_id"):
            answer = await world.client.get(f"/scheduler/{where}={text}", headers=world.bearer("super_admin"))
            assert (answer.status_code, answer.json()["total"]) == (200, 0), where + text


async def test_a_hundred_who_change_one_task_all_get_their_turn(world: World) -> None:
    path = f"/scheduler/tasks/{(await world.task())['id']}"

    answers = await asyncio.gather(*(world.ask("PUT", path, {"description": f"turn {n}"}) for n in range(100)))

    assert {answer.status_code for answer in answers} == {200}
    assert (await world.ask("GET", path)).json()["metadata"]["version"] == 101
