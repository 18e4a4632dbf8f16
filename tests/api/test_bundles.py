"""Many tasks at once: bulk, export, import; and the preview of a schedule."""

from __future__ import annotations

import asyncio
import json

import pytest

from peregrine.domain.ids import TaskId
from tests.api.world import HTTP_TASK, World

pytestmark = pytest.mark.anyio


async def test_bulk_does_what_it_can_and_says_what_it_could_not(world: World) -> None:
    id, system = (await world.task())["id"], await world.system_task()

    answer = await world.ask(
        "POST", "/scheduler/tasks/bulk", {"task_ids": [id, system, "x", id], "operation": "disable"}
    )

    report = answer.json()
    assert answer.status_code == 200
    assert report["success"] == [id]
    assert [(one["task_id"], one["code"]) for one in report["failed"]] == [
        (system, "system_task_protected"), ("x", "not_found"),
    ]  # fmt: skip
    assert (report["total"], report["success_count"], report["failure_count"]) == (3, 1, 2)


@pytest.mark.parametrize("operation", ["enable", "disable", "pause", "resume", "delete"])
async def test_bulk_never_touches_a_system_task(world: World, operation: str) -> None:
    system = await world.system_task()
    before = await world.store.get_task(TaskId(system))

    answer = await world.ask("POST", "/scheduler/tasks/bulk", {"task_ids": [system], "operation": operation})

    assert (answer.status_code, answer.json()["code"]) == (403, "system_task_protected")
    assert [one["task_id"] for one in answer.json()["failed"]] == [system]
    assert await world.store.get_task(TaskId(system)) == before


@pytest.mark.parametrize("operation", ["enable", "disable", "pause", "resume", "delete"])
async def test_bulk_needs_the_operations_own_permission(world: World, operation: str) -> None:
    order = {"task_ids": [(await world.task())["id"]], "operation": operation}

    answer = await world.ask("POST", "/scheduler/tasks/bulk", order, groups=["task_managers"])
    stranger = await world.ask("POST", "/scheduler/tasks/bulk", order, groups=[])
    reader = await world.ask("POST", "/scheduler/tasks/bulk", order, groups=["monitoring"])

    assert answer.status_code == (403 if operation == "delete" else 200)
    assert [stranger.status_code, reader.status_code] == [401, 403]


@pytest.mark.parametrize(
    "order",
    [{}, {"task_ids": [], "operation": "enable"}, {"task_ids": ["x"], "operation": "run"}, {"task_ids": [1]},
     {"task_ids": ["x"] * 1001, "operation": "enable"}, {"task_ids": "x", "operation": "enable"}],
)  # fmt: skip
async def test_a_wrong_bulk_order_is_refused(world: World, order: object) -> None:
    assert (await world.ask("POST", "/scheduler/tasks/bulk", order)).status_code == 400


async def test_what_is_exported_can_be_imported(world: World) -> None:
    await world.task(name="one", config={"url": "https://x.example/", "headers": {"Authorization": "Bearer canary"}})
    await world.task(name="two", overlap="queue", timezone="Europe/Berlin")
    await world.system_task()
    exported = await world.ask("GET", "/scheduler/tasks/export?sort=name")
    bundle = exported.json()

    again = await world.ask("POST", "/scheduler/tasks/import", bundle)
    over = await world.ask("POST", "/scheduler/tasks/import?overwrite=true", bundle)

    assert [task["name"] for task in bundle["tasks"]] == ["one", "two"]
    assert exported.headers["content-disposition"] == 'attachment; filename="tasks.json"'
    assert "canary" not in exported.text
    assert again.json() | {"skipped_tasks": ["one", "two"], "skipped": 2, "imported": 0} == again.json()
    assert over.json() | {"imported_tasks": ["one", "two"], "imported": 2, "skipped": 0} == over.json()
    (stored,) = await world.store.get_named(["one"])
    assert "canary" in str(stored.task.payload)


async def test_a_bundle_moves_house_in_yaml(world: World) -> None:
    await world.task(name="one", description="Grüße: 'x' # no")
    exported = await world.ask("GET", "/scheduler/tasks/export?format=yaml")
    other = World()

    answer = await other.ask(
        "POST", "/scheduler/tasks/import", raw=exported.content, headers={"Content-Type": "application/yaml"}
    )

    assert exported.headers["content-type"] == "application/yaml"
    assert answer.json()["imported_tasks"] == ["one"]
    assert (await other.ask("GET", "/scheduler/tasks/export?format=yaml")).content == exported.content
    task = (await other.ask("GET", "/scheduler/tasks")).json()["tasks"][0]
    assert task["metadata"]["source"] == "import"


async def test_one_faulty_task_and_nothing_is_imported(world: World) -> None:
    bundle = {
        "tasks": [HTTP_TASK, HTTP_TASK | {"name": "b", "schedule": "x", "no": 1}, HTTP_TASK | {"name": "c"}, HTTP_TASK]
    }

    answer = await world.ask("POST", "/scheduler/tasks/import", bundle)

    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (400, "invalid")
    assert {fault["pointer"] for fault in problem["errors"]} == {"/tasks/1/schedule", "/tasks/1/no", "/tasks/3/name"}
    assert (problem["imported"], problem["failed"], problem["total"]) == (0, 2, 4)
    assert (await world.ask("GET", "/scheduler/tasks")).json()["total"] == 0


async def test_a_dry_run_only_says_what_would_happen(world: World) -> None:
    await world.task()
    bundle = {"tasks": [HTTP_TASK, HTTP_TASK | {"name": "b"}], "dry_run": True}

    good = (await world.ask("POST", "/scheduler/tasks/import", bundle)).json()
    bad = await world.ask("POST", "/scheduler/tasks/import?dry_run=true", [HTTP_TASK | {"type": "x"}])

    assert (good["imported_tasks"], good["skipped_tasks"], good["dry_run"]) == (["b"], ["API Health Check"], True)
    assert (bad.status_code, bad.json()["failed"]) == (200, 1)
    assert (await world.ask("GET", "/scheduler/tasks")).json()["total"] == 1


async def test_system_tasks_can_not_be_smuggled_in(world: World) -> None:
    await world.system_task()
    shown = (await world.ask("GET", "/scheduler/tasks/system-health-check")).json()
    thieves = [
        shown, HTTP_TASK | {"type": "system"}, HTTP_TASK | {"metadata": {"is_system": True}},
    ]  # fmt: skip

    for thief in thieves:
        answer = await world.ask("POST", "/scheduler/tasks/import?overwrite=true", [thief])
        assert (answer.status_code, answer.json()["code"]) == (403, "system_task_protected")
    over = await world.ask("POST", "/scheduler/tasks/import?overwrite=true", [HTTP_TASK | {"name": "Health Check"}])
    assert over.status_code == 403
    ignored = await world.ask(
        "POST", "/scheduler/tasks/import", [HTTP_TASK | {"id": "system-x", "metadata": {"version": 9}}]
    )
    assert ignored.json()["imported"] == 1
    task = (await world.ask("GET", "/scheduler/tasks?is_system=false")).json()["tasks"][0]
    assert not task["id"].startswith("system-")
    assert task["metadata"]["version"] == 1


@pytest.mark.parametrize(
    ("raw", "kind", "status"),
    [
        (b"", "application/json", 400),
        (b"{}", "application/json", 400),
        (b'{"tasks":[]}', "application/json", 400),
        (b'{"tasks":{}}', "application/json", 400),
        (json.dumps([HTTP_TASK] * 1001).encode(), "application/json", 400),
        (b'{"tasks":[1]}', "application/json", 400),
        (b'{"tasks":[{}],"mode":1}', "application/json", 400),
        (b"a: &a [1]\nb: *a", "text/yaml", 400),
        (b"!!python/object:os.system x", "application/x-yaml", 400),
        (b"name,schedule\n=cmd(),x", "text/csv", 415),
        (b"\x80\x04pickle", "application/octet-stream", 415),
    ],
)
async def test_bundles_that_are_none(world: World, raw: bytes, kind: str, status: int) -> None:
    answer = await world.ask("POST", "/scheduler/tasks/import", raw=raw, headers={"Content-Type": kind})

    assert answer.status_code == status


async def test_yaml_is_for_bundles_alone(world: World) -> None:
    answer = await world.ask("POST", "/scheduler/tasks", raw=b"name: x", headers={"Content-Type": "application/yaml"})

    assert answer.status_code == 415


async def test_a_preview_says_it_in_a_sentence(world: World) -> None:
    order = {"schedule": "0 30 2 * * *", "timezone": "Europe/Berlin", "count": 2}

    answer = (await world.ask("POST", "/scheduler/schedule/preview", order)).json()

    assert answer["description"].startswith("At 02:30 every day (Europe/Berlin)")
    assert answer["next"] == [
        {"at": "2026-01-01T01:30:00Z", "local": "2026-01-01T02:30:00+01:00"},
        {"at": "2026-01-02T01:30:00Z", "local": "2026-01-02T02:30:00+01:00"},
    ]
    assert len(answer["warnings"]) == 2


@pytest.mark.parametrize(
    ("order", "pointer"),
    [
        ({"schedule": "x"}, "/schedule"),
        ({"schedule": "@daily", "timezone": "X"}, "/timezone"),
        ({"schedule": "@daily", "count": 101}, "/count"),
        ({"schedule": "@daily", "count": 0}, "/count"),
        ({"schedule": "@daily", "dst_gap": "x"}, "/dst_gap"),
        ({}, "/schedule"),
    ],
)
async def test_a_wrong_preview_has_its_place(world: World, order: object, pointer: str) -> None:
    answer = await world.ask("POST", "/scheduler/schedule/preview", order)

    assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer]


async def test_a_far_preview_lets_others_have_their_turn(world: World) -> None:
    """A fifth Monday of February comes every 28 years: a hundred of them took a quarter of a second in one go."""
    order = {"schedule": "0 0 0 ? 2 MON#5", "timezone": "Europe/Berlin", "count": 100}
    asked = asyncio.create_task(world.ask("POST", "/scheduler/schedule/preview", order))
    turns = 0
    while not asked.done():
        await asyncio.sleep(0)
        turns += 1

    assert len((await asked).json()["next"]) == 100
    assert turns > 100
