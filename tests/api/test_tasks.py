"""Tasks over HTTP, as clients of both older documents ask for them."""

from __future__ import annotations

import pytest

from peregrine.domain.moment import MINUTE
from peregrine.domain.redaction import HIDDEN
from tests.api.world import HTTP_TASK, World
from tests.wire.words import SEEDS

pytestmark = pytest.mark.anyio


async def test_the_seeds_request_makes_a_task_to_the_letter(world: World) -> None:
    body = (SEEDS / "create_http_task.json").read_bytes()

    answer = await world.ask("POST", "/scheduler/tasks", raw=body)

    task = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/scheduler/tasks/{task['id']}"
    assert answer.headers["etag"] == '"1"'
    assert (await world.ask("GET", answer.headers["location"])).json() == task
    assert (task["status"], task["next_run"], task["created_by"]) == ("pending", "2026-01-01T00:10:00Z", "alice")
    assert world.woken == []  # planners look by themselves long before it is due


async def test_the_seeds_list_is_filtered_and_paged(world: World) -> None:
    for name in ("a", "b"):
        await world.task(name=name)

    page = (await world.ask("GET", "/scheduler/tasks?status=pending&type=http&page=1&page_size=1")).json()

    assert {key: page[key] for key in ("total", "page", "page_size", "total_pages")} == {
        "total": 2, "page": 1, "page_size": 1, "total_pages": 2,
    }  # fmt: skip
    assert [task["name"] for task in page["tasks"]] in (["a"], ["b"])
    empty = (await world.ask("GET", "/scheduler/tasks?status=running&type=http&page=1&page_size=20")).json()
    assert (empty["tasks"], empty["total"]) == ([], 0)


async def test_a_taken_name_is_a_conflict(world: World) -> None:
    await world.task()

    answer = await world.ask("POST", "/scheduler/tasks", HTTP_TASK)

    assert (answer.status_code, answer.json()["code"]) == (409, "name_taken")


async def test_a_change_keeps_what_it_does_not_name(world: World) -> None:
    task = await world.task()
    world.clock.pass_time(MINUTE)

    answer = await world.ask("PUT", f"/scheduler/tasks/{task['id']}", {"description": "new"})

    changed = answer.json()
    assert changed == task | {
        "description": "new", "updated_at": "2026-01-01T00:01:00Z", "metadata": task["metadata"] | {"version": 2},
    }  # fmt: skip
    assert answer.headers["etag"] == '"2"'


async def test_secrets_go_in_and_never_out(world: World) -> None:
    config = {"url": "https://x.example/?api_key=canary", "headers": {"Authorization": "Bearer canary", "A": "b"}}
    task = await world.task(config=config)
    path = f"/scheduler/tasks/{task['id']}"

    answer = await world.ask("PUT", path, {"config": task["config"]})
    execution = await world.ask("POST", f"{path}/execute", {"parameters": {"token": "canary"}})

    texts = [answer.text, (await world.ask("GET", path)).text, (await world.ask("GET", "/scheduler/tasks")).text]
    texts += [
        (await world.ask("GET", "/scheduler/tasks/export")).text,
        (await world.ask("GET", "/scheduler/audit")).text,
    ]
    texts += [(await world.ask("GET", execution.headers["location"])).text]
    assert not any("canary" in text for text in texts)
    stored = await world.store.get_task(task["id"])
    assert stored is not None
    assert str(stored.task.payload).count("canary") == 2
    wrong = await world.ask("PUT", path, {"config": config | {"headers": {"Cookie": HIDDEN}}})
    assert [fault["pointer"] for fault in wrong.json()["errors"]] == ["/config/headers/Cookie"]


async def test_if_match_guards_every_change(world: World) -> None:
    task = await world.task()
    path = f"/scheduler/tasks/{task['id']}"
    stale = {"If-Match": '"7"'}

    for method, where in (("PUT", path), ("DELETE", path), *(("POST", f"{path}/{verb}") for verb in
                          ("pause", "resume", "enable", "disable", "stop"))):  # fmt: skip
        answer = await world.ask(method, where, {}, headers=stale)
        assert (answer.status_code, answer.json()["code"]) == (412, "stale"), where
    for good in ('"1"', '"5", "1"', "*"):
        assert (await world.ask("PUT", path, {}, headers={"If-Match": good})).status_code == 200
    for bad in ('W/"1"', "1", '"', '"x"', '"1', '"' + "9" * 40 + '"', ""):
        assert (await world.ask("PUT", path, {}, headers={"If-Match": bad})).status_code == 412, bad


async def test_of_two_changes_to_one_version_one_wins(world: World) -> None:
    task = await world.task()
    path, guard = f"/scheduler/tasks/{task['id']}", {"If-Match": '"1"'}

    first = await world.ask("PUT", path, {"description": "first"}, headers=guard)
    second = await world.ask("PUT", path, {"description": "second"}, headers=guard)

    assert [first.status_code, second.status_code] == [200, 412]
    assert (await world.ask("GET", path)).json()["description"] == "first"


async def test_pause_and_resume(world: World) -> None:
    path = f"/scheduler/tasks/{(await world.task())['id']}"

    paused = (await world.ask("POST", f"{path}/pause", {"reason": "holiday", "until": "2026-01-01T01:00:00Z"})).json()
    again = (await world.ask("POST", f"{path}/pause", {"reason": "holiday", "until": "2026-01-01T01:00:00Z"})).json()
    resumed = (await world.ask("POST", f"{path}/resume")).json()

    assert paused["status"] == "paused"
    assert paused["pause"] == {"since": "2026-01-01T00:00:00Z", "by": "alice", "reason": "holiday",
                               "until": "2026-01-01T01:00:00Z"}  # fmt: skip
    assert again == paused
    assert (resumed["status"], "pause" in resumed) == ("pending", False)
    assert (await world.ask("POST", f"{path}/resume")).json()["metadata"]["version"] == resumed["metadata"]["version"]


async def test_a_pause_can_not_end_in_the_past(world: World) -> None:
    path = f"/scheduler/tasks/{(await world.task())['id']}/pause"

    answer = await world.ask("POST", path, {"until": "2026-01-01T00:00:00Z"})

    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/until")


async def test_disable_and_enable(world: World) -> None:
    path = f"/scheduler/tasks/{(await world.task())['id']}"

    disabled = (await world.ask("POST", f"{path}/disable")).json()
    enabled = (await world.ask("POST", f"{path}/enable")).json()

    assert (disabled["status"], disabled["enabled"], "next_run" in disabled) == ("disabled", False, False)
    assert (enabled["status"], enabled["enabled"]) == ("pending", True)


async def test_a_deleted_task_is_gone_and_its_history_stays(world: World) -> None:
    task = await world.task()
    path = f"/scheduler/tasks/{task['id']}"
    started = (await world.ask("POST", f"{path}/execute")).json()

    deleted = await world.ask("DELETE", path)

    assert (deleted.status_code, deleted.json()["message"]) == (200, "Task deleted successfully")
    assert deleted.json()["task_id"] == task["id"]
    for gone in (path, f"{path}/history", f"{path}/occurrences"):
        assert (await world.ask("GET", gone)).status_code == 404
    execution = (await world.ask("GET", f"/scheduler/executions/{started['execution_id']}")).json()
    assert (execution["status"], execution["outcome"]) == ("failed", "cancelled")


async def test_stop_pauses_the_task_and_cancels_what_waits(world: World) -> None:
    task = await world.task()
    path = f"/scheduler/tasks/{task['id']}"
    ids = [(await world.ask("POST", f"{path}/execute")).json()["execution_id"] for _ in range(2)]

    stopped = (await world.ask("POST", f"{path}/stop")).json()

    assert stopped["message"] == "Task stopped successfully"
    assert (stopped["task_id"], stopped["cancelled"], sorted(stopped["cancelled_executions"])) == (
        task["id"], 2, sorted(ids),
    )  # fmt: skip
    assert (await world.ask("GET", path)).json()["status"] == "paused"
    found = (await world.ask("GET", f"/scheduler/executions?task_id={task['id']}&status=failed")).json()["executions"]
    assert len([one for one in found if one["error"] == "Task execution was cancelled"]) == 2
    assert "cancel" in world.woken


async def test_the_ledger_tells_what_did_not_run(world: World) -> None:
    path = f"/scheduler/tasks/{(await world.task(schedule='0 * * * * *'))['id']}"
    await world.ask("POST", f"{path}/pause")
    world.clock.pass_time(3 * MINUTE)

    await world.ask("POST", f"{path}/resume")

    page = (await world.ask("GET", f"{path}/occurrences")).json()
    assert page["total"] == 1
    assert page["occurrences"] == [
        {"scheduled_for": "2026-01-01T00:01:00Z", "last": "2026-01-01T00:03:00Z", "count": 3, "verdict": "skipped",
         "reason": "paused", "decided_at": "2026-01-01T00:03:00Z"}
    ]  # fmt: skip


SYSTEM_REFUSALS = [
    ("PUT", "", {"description": "x"}), ("DELETE", "", None), ("POST", "/enable", None), ("POST", "/disable", None),
]  # fmt: skip


@pytest.mark.parametrize("group", ["super_admin", "administrators"])
@pytest.mark.parametrize(("method", "verb", "body"), SYSTEM_REFUSALS)
async def test_a_system_task_is_protected_whatever_the_role(
    world: World, method: str, verb: str, body: object, group: str
) -> None:
    id = await world.system_task()
    before = await world.store.get_task(id)  # type: ignore[arg-type]

    answer = await world.ask(method, f"/scheduler/tasks/{id}{verb}", body, groups=[group])

    assert (answer.status_code, answer.json()["code"]) == (403, "system_task_protected")
    assert await world.store.get_task(id) == before  # type: ignore[arg-type]


async def test_a_system_task_can_be_run_by_who_may_and_stopped_by_an_admin(world: World) -> None:
    path = f"/scheduler/tasks/{await world.system_task()}"

    assert (await world.ask("POST", f"{path}/execute", groups=["task_managers"])).status_code == 202
    for verb in ("pause", "resume", "stop"):
        assert (await world.ask("POST", f"{path}/{verb}", groups=["task_managers"])).status_code == 403, verb
        assert (await world.ask("POST", f"{path}/{verb}", groups=["administrators"])).status_code == 200, verb


async def test_reload_wakes_the_planners(world: World) -> None:
    await world.task()
    world.woken.clear()

    answer = (await world.ask("POST", "/scheduler/reload")).json()

    assert answer == {"message": "Tasks reloaded successfully", "total_tasks": 1}
    assert "tasks" in world.woken


@pytest.mark.parametrize(
    "id", ["nobody", "x" * 129, "a b", "%00", "..%2f..%2fetc", "$ne", "' OR 1=1--", "%F0%9F%98%80"]
)
@pytest.mark.parametrize(
    ("method", "verb"),
    [("GET", ""), ("PUT", ""), ("DELETE", ""), ("POST", "/execute"), ("POST", "/start"), ("POST", "/stop"),
     ("POST", "/pause"), ("POST", "/resume"), ("POST", "/enable"), ("POST", "/disable"), ("GET", "/history"),
     ("GET", "/occurrences"), ("GET", "/executions/x")],
)  # fmt: skip
async def test_an_unknown_task_is_not_found_on_every_route(world: World, method: str, verb: str, id: str) -> None:
    answer = await world.ask(method, f"/scheduler/tasks/{id}{verb}", {} if method == "PUT" else None)

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
