"""Executions over HTTP: run now, look, cancel."""

from __future__ import annotations

import pytest

from peregrine.domain.execution import AttemptOutcome, Claim, Outcome
from peregrine.domain.ids import WorkerId
from peregrine.domain.moment import SECOND
from peregrine.domain.retry import settle
from peregrine.ports.store import ClaimRequest
from tests.api.world import World
from tests.wire.words import sample

pytestmark = pytest.mark.anyio


async def claimed(world: World) -> Claim:
    """What a worker takes from the queue."""
    now = world.clock.now()
    request = ClaimRequest(claim_id=world.means.entropy.new_id(), worker_id=WorkerId("w1"), now=now, limit=1)
    (claim,) = (await world.store.claim(request)).claims
    return claim


async def ended(world: World, claim: Claim, outcome: Outcome, *, after: int = 45 * SECOND) -> None:
    world.clock.pass_time(after)
    await world.store.settle([settle(claim, outcome, world.clock.now(), 0.5)])


@pytest.mark.parametrize("verb", ["execute", "start"])
async def test_both_names_run_a_task_now(world: World, verb: str) -> None:
    task = await world.task()
    world.woken.clear()

    answer = await world.ask("POST", f"/scheduler/tasks/{task['id']}/{verb}")

    started = answer.json()
    assert answer.status_code == 202
    assert set(started) == {"execution_id", "status", "message", "started_at"}
    assert (started["status"], started["started_at"]) == ("pending", "2026-01-01T00:00:00Z")
    execution = (await world.ask("GET", answer.headers["location"])).json()
    assert (execution["id"], execution["trigger"], execution["metadata"]["requested_by"]) == (
        started["execution_id"], "manual", "alice",
    )  # fmt: skip
    assert world.woken == ["queued"]


async def test_an_order_may_say_parameters_and_priority(world: World) -> None:
    task = await world.task(type="function", config=sample("function_task")["config"])
    order = {"parameters": {"batch_size": 5}, "priority": "critical"}

    answer = await world.ask("POST", f"/scheduler/tasks/{task['id']}/execute", order)

    metadata = (await world.ask("GET", answer.headers["location"])).json()["metadata"]
    assert (metadata["parameters"], metadata["priority"]) == ({"batch_size": 5}, "critical")
    wrong = await world.ask("POST", f"/scheduler/tasks/{task['id']}/execute", {"parameters": {"nope": 1}})
    assert wrong.json()["errors"] == [{"pointer": "/parameters/nope", "message": "is not a parameter"}]


@pytest.mark.parametrize(
    ("order", "pointer"),
    [({"parameters": []}, "/parameters"), ({"priority": "urgent"}, "/priority"), ({"x": 1}, "/x"), ([], "")],
)
async def test_a_wrong_order_starts_nothing(world: World, order: object, pointer: str) -> None:
    task = await world.task()

    answer = await world.ask("POST", f"/scheduler/tasks/{task['id']}/execute", order)

    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, pointer)
    assert (await world.ask("GET", "/scheduler/executions")).json()["total"] == 0


async def test_a_disabled_task_does_not_run_and_a_paused_one_does(world: World) -> None:
    path = f"/scheduler/tasks/{(await world.task())['id']}"

    await world.ask("POST", f"{path}/pause")
    assert (await world.ask("POST", f"{path}/execute")).status_code == 202
    await world.ask("POST", f"{path}/disable")
    answer = await world.ask("POST", f"{path}/execute")

    assert (answer.status_code, answer.json()["code"]) == (409, "task_disabled")


async def test_a_full_queue_says_when_to_come_back() -> None:
    world = World(means={"queue_size": 1})
    path = f"/scheduler/tasks/{(await world.task())['id']}/execute"
    assert (await world.ask("POST", path)).status_code == 202

    answer = await world.ask("POST", path)

    assert (answer.status_code, answer.json()["code"]) == (503, "queue_full")
    assert int(answer.headers["retry-after"]) >= 1
    assert (await world.ask("GET", "/scheduler/executions")).json()["total"] == 1


async def test_a_run_is_told_from_start_to_end(world: World) -> None:
    task = await world.task()
    path = f"/scheduler/tasks/{task['id']}"
    id = (await world.ask("POST", f"{path}/execute")).json()["execution_id"]
    claim = await claimed(world)
    assert (await world.ask("GET", f"/scheduler/executions/{id}")).json()["status"] == "running"
    assert (await world.ask("GET", path)).json()["status"] == "running"

    await ended(world, claim, Outcome.succeeded("Task output or response"))

    execution = (await world.ask("GET", f"{path}/executions/{id}")).json()
    told = {"status": "completed", "duration": "45s", "output": "Task output or response", "worker_id": "w1",
            "retry_count": 0, "outcome": "succeeded"}  # fmt: skip
    assert execution | told == execution
    assert execution["attempts"] == [
        {"attempt": 1, "epoch": 1, "worker_id": "w1", "started_at": "2026-01-01T00:00:00Z",
         "completed_at": "2026-01-01T00:00:45Z", "outcome": "succeeded"}
    ]  # fmt: skip
    task = (await world.ask("GET", path)).json()
    assert (task["status"], task["last_run"], task["last_run_duration"]) == ("completed", "2026-01-01T00:00:00Z", "45s")
    assert (task["metadata"]["total_runs"], task["metadata"]["average_runtime"]) == (1, "45s")


async def test_a_cancelled_run_shows_the_seeds_words(world: World) -> None:
    task = await world.task()
    id = (await world.ask("POST", f"/scheduler/tasks/{task['id']}/execute")).json()["execution_id"]
    claim = await claimed(world)

    answer = await world.ask("POST", f"/scheduler/executions/{id}/cancel")
    await ended(world, claim, Outcome(verdict=AttemptOutcome.CANCELLED))

    assert (answer.status_code, answer.json()["metadata"]["cancel_requested"]) == (202, True)
    execution = (await world.ask("GET", f"/scheduler/executions/{id}")).json()
    wanted = sample("cancelled_execution")
    assert {name: execution[name] for name in ("status", "error", "output")} == {
        name: wanted[name] for name in ("status", "error", "output")
    }
    late = await world.ask("POST", f"/scheduler/executions/{id}/cancel")
    assert (late.status_code, late.json()["code"]) == (409, "already_ended")
    assert (await world.ask("GET", f"/scheduler/tasks/{task['id']}")).json()["status"] == "failed"


async def test_a_waiting_one_is_cancelled_at_once_and_the_task_goes_on(world: World) -> None:
    task = await world.task()
    id = (await world.ask("POST", f"/scheduler/tasks/{task['id']}/execute")).json()["execution_id"]

    execution = (await world.ask("POST", f"/scheduler/executions/{id}/cancel")).json()

    assert (execution["status"], execution["outcome"]) == ("failed", "cancelled")
    assert (await world.ask("GET", f"/scheduler/tasks/{task['id']}")).json()["enabled"]
    assert "pause" not in (await world.ask("GET", f"/scheduler/tasks/{task['id']}")).json()


async def test_an_execution_of_another_task_is_not_found(world: World) -> None:
    one, other = await world.task(name="one"), await world.task(name="other")
    id = (await world.ask("POST", f"/scheduler/tasks/{one['id']}/execute")).json()["execution_id"]

    assert (await world.ask("GET", f"/scheduler/tasks/{one['id']}/executions/{id}")).status_code == 200
    assert (await world.ask("GET", f"/scheduler/tasks/{other['id']}/executions/{id}")).status_code == 404


@pytest.mark.parametrize(("method", "verb"), [("GET", ""), ("POST", "/cancel")])
async def test_an_unknown_execution_is_not_found(world: World, method: str, verb: str) -> None:
    assert (await world.ask(method, f"/scheduler/executions/nobody{verb}")).status_code == 404


async def test_history_is_paged_by_number_and_by_cursor(world: World) -> None:
    task = await world.task()
    path = f"/scheduler/tasks/{task['id']}"
    ids = [(await world.ask("POST", f"{path}/execute")).json()["execution_id"] for _ in range(5)]

    first = (await world.ask("GET", f"{path}/history?page=1&page_size=2")).json()
    second = (await world.ask("GET", f"{path}/history?limit=2&cursor={first['next_cursor']}")).json()
    third = (await world.ask("GET", f"{path}/history?page=3&page_size=2")).json()

    seen = [one["id"] for page in (first, second, third) for one in page["executions"]]
    assert sorted(seen) == sorted(ids)
    assert (first["total"], first["total_pages"], "next_cursor" in third) == (5, 3, False)
    wrong = await world.ask("GET", f"{path}/history?cursor=AAAA")
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (400, "/cursor")
