"""A repeated Idempotency-Key gets the first answer again, whatever happened in between."""

from __future__ import annotations

import asyncio

import pytest

from peregrine.domain.moment import DAY, MINUTE
from peregrine.ports.shelves import ANSWERS
from tests.api.world import HTTP_TASK, World

pytestmark = pytest.mark.anyio
KEY = {"Idempotency-Key": "once"}


async def test_making_a_task_twice_makes_one(world: World) -> None:
    first = await world.ask("POST", "/scheduler/tasks", HTTP_TASK, headers=KEY)
    world.clock.pass_time(MINUTE)
    second = await world.ask("POST", "/scheduler/tasks", HTTP_TASK, headers=KEY)

    assert (first.status_code, second.status_code) == (201, 201)
    assert first.content == second.content
    assert first.headers["location"] == second.headers["location"]
    assert ("idempotency-replayed" in first.headers, second.headers["idempotency-replayed"]) == (False, "true")
    assert (await world.ask("GET", "/scheduler/tasks")).json()["total"] == 1


async def test_running_a_task_twice_runs_it_once(world: World) -> None:
    path = f"/scheduler/tasks/{(await world.task())['id']}/execute"

    answers = [await world.ask("POST", path, headers=KEY) for _ in range(3)]

    assert len({answer.content for answer in answers}) == 1
    assert (await world.ask("GET", "/scheduler/executions")).json()["total"] == 1


async def test_the_same_key_of_another_person_is_another_key(world: World) -> None:
    path = f"/scheduler/tasks/{(await world.task())['id']}/execute"
    bob = world.bearer("super_admin", user="bob")

    await world.ask("POST", path, headers=KEY)
    await world.ask("POST", path, groups=(), headers=KEY | bob)

    assert (await world.ask("GET", "/scheduler/executions")).json()["total"] == 2


async def test_a_key_belongs_to_one_request(world: World) -> None:
    await world.ask("POST", "/scheduler/tasks", HTTP_TASK, headers=KEY)

    other_body = await world.ask("POST", "/scheduler/tasks", HTTP_TASK | {"name": "x"}, headers=KEY)
    other_path = await world.ask("POST", "/scheduler/reload", headers=KEY)

    for answer in (other_body, other_path):
        assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_key_reused")


async def test_what_was_refused_may_be_sent_again_mended(world: World) -> None:
    bad = await world.ask("POST", "/scheduler/tasks", HTTP_TASK | {"schedule": "x"}, headers=KEY)
    good = await world.ask("POST", "/scheduler/tasks", HTTP_TASK, headers=KEY)

    assert (bad.status_code, good.status_code) == (400, 201)


async def test_a_death_in_between_does_no_harm(world: World) -> None:
    """The task was made, the answer never kept: after a minute the same request finds the task."""
    first = await world.ask("POST", "/scheduler/tasks", HTTP_TASK, headers=KEY)
    (record,) = await world.records.list_records(ANSWERS, limit=9, now=world.clock.now())
    await world.records.delete_record(ANSWERS, record.key, now=world.clock.now())

    second = await world.ask("POST", "/scheduler/tasks", HTTP_TASK, headers=KEY)
    other = await world.ask("POST", "/scheduler/tasks", HTTP_TASK | {"name": "x"}, headers={"Idempotency-Key": "two"})

    assert (second.status_code, second.json()["id"]) == (201, first.json()["id"])
    assert other.status_code == 201


async def test_answers_are_forgotten_after_a_day(world: World) -> None:
    path = f"/scheduler/tasks/{(await world.task())['id']}/execute"
    first = (await world.ask("POST", path, headers=KEY)).json()

    world.clock.pass_time(DAY)

    # The work itself still knows the key: it is not done twice.
    second = await world.ask("POST", path, headers=KEY)
    assert "idempotency-replayed" not in second.headers
    assert second.json()["execution_id"] == first["execution_id"]


async def test_many_at_once_do_the_work_once(world: World) -> None:
    path = f"/scheduler/tasks/{(await world.task())['id']}/execute"

    answers = await asyncio.gather(*(world.ask("POST", path, headers=KEY) for _ in range(10)))

    assert {answer.status_code for answer in answers} <= {202, 409}
    assert (await world.ask("GET", "/scheduler/executions")).json()["total"] == 1


@pytest.mark.parametrize("key", ["", " ", "x" * 256, "a b", "\u00e9"])
async def test_a_key_that_can_not_be_kept_is_refused(world: World, key: str) -> None:
    token = world.bearer("super_admin")["Authorization"].encode()
    head = [(b"Idempotency-Key", key.encode("latin-1")), (b"Authorization", token)]

    answer = await world.client.post("/scheduler/reload", headers=head)

    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/Idempotency-Key")


async def test_a_stranger_is_remembered_nothing(world: World) -> None:
    answer = await world.ask("POST", "/scheduler/tasks", HTTP_TASK, groups=(), headers=KEY)

    assert answer.status_code == 401
    assert list(await world.records.list_records(ANSWERS, limit=9, now=world.clock.now())) == []
