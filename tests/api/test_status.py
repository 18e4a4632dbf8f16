"""How the service is doing: measured, kept for a second, and no more than each caller may know."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from peregrine.domain.errors import Unavailable
from peregrine.domain.moment import SECOND
from peregrine.ports.engine_view import EngineFacts, EngineMode, LockFacts
from peregrine.stores.memory import MemoryStore
from peregrine.testing.builders import a_claim_request, an_instance
from tests.api.world import World

pytestmark = pytest.mark.anyio


class CountingStore(MemoryStore):
    """Counts how often it is measured, and can go away."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.is_away = False

    async def ping(self) -> None:
        self.asked += 1
        await asyncio.sleep(0)
        if self.is_away:
            raise Unavailable("mongodb://user:canary@host")

    async def statistics(self, now: int) -> Any:
        if self.is_away:
            raise Unavailable("canary")
        return await super().statistics(now)


class Lock:
    def __init__(self) -> None:
        self.is_away = False

    def facts(self) -> LockFacts:
        return LockFacts(latency=None, reason="it can't be reached") if self.is_away else LockFacts(latency=3)


async def status(world: World, *groups: str) -> dict[str, Any]:
    answer = await world.ask("GET", "/scheduler/status", groups=groups)
    assert answer.status_code == 200
    assert "canary" not in answer.text
    return dict(answer.json())


async def test_the_status_has_every_field_and_each_is_measured(world: World) -> None:
    await world.task()
    world.engine.now = EngineFacts(mode=EngineMode.RUNNING, slots=7, active=3)

    told = await status(world, "monitoring")

    assert (
        told | {"module": "scheduler", "status": "healthy", "engine": True, "last_checked": "2026-01-01T00:00:00Z"}
        == told
    )
    assert told["dependencies"] == {
        "database": "healthy", "database_latency": "0ms", "redis": "not_configured", "engine": "running",
    }  # fmt: skip
    assert told["metrics"] == {
        "total_tasks": 1, "enabled_tasks": 1, "running_tasks": 0, "completed_today": 0, "failed_today": 0,
        "worker_count": 7, "active_workers": 3, "queue_size": 0, "average_runtime": "0s",
        "next_scheduled_run": "2026-01-01T00:10:00Z", "memory_usage_mb": 64.0, "success_rate": 100.0,
    }  # fmt: skip


async def test_the_older_status_has_its_four_fields(world: World) -> None:
    told = (await world.ask("GET", "/scheduler/scheduler-status", groups=())).json()

    assert told == {"module": "scheduler", "status": "running", "version": "1.0.0", "engine": True}


async def test_statistics_have_every_field(world: World) -> None:
    await world.task()

    told = (await world.ask("GET", "/scheduler/stats", groups=())).json()

    assert told == {
        "total_tasks": 1, "enabled_tasks": 1, "running_tasks": 0, "completed_today": 0, "failed_today": 0,
        "average_runtime": "0s", "next_scheduled_run": "2026-01-01T00:10:00Z", "worker_count": 10, "queue_size": 0,
    }  # fmt: skip


async def test_strangers_see_counts_and_no_versions_or_reasons(world: World) -> None:
    world.engine.now = replace(world.engine.now, failing={"planner": "why it fails"}, stale=2)

    stranger, reader = await status(world), await status(world, "monitoring")

    assert set(reader) - set(stranger) == {"diagnostics", "instances"}
    assert (stranger["version"], reader["version"]) == ("1.0.0", "9.9.9")
    assert "why it fails" not in str(stranger)
    assert reader["diagnostics"]["failing_loops"] == {"planner": "why it fails"}
    assert stranger["status"] == "degraded"


async def test_many_callers_measure_once_a_second() -> None:
    store = CountingStore()
    world = World(store=store)

    await asyncio.gather(*(status(world) for _ in range(50)))
    await world.ask("GET", "/readyz")
    assert store.asked == 1
    world.clock.pass_time(SECOND)
    await status(world)
    assert store.asked == 2


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        ({"mode": EngineMode.STOPPED}, "engine"),
        ({"mode": EngineMode.DRAINING}, "engine"),
        ({"failing": {"claimer": "x"}}, "loop"),
        ({"stale": 1}, "too long"),
        ({"quiet_for": 5}, "clock"),
        ({"clock_skew": 6 * SECOND}, "clocks"),
        ({"store_away_since": 1}, "store"),
    ],
)
async def test_what_is_not_as_it_should_be_degrades(world: World, facts: dict[str, Any], word: str) -> None:
    world.engine.now = replace(world.engine.now, **facts)

    told = await status(world)

    assert told["status"] == "degraded"
    assert word in told["message"]


async def test_a_store_that_is_away_is_told_with_what_was_known_last() -> None:
    store = CountingStore()
    world = World(store=store)
    await world.task()
    assert (await status(world))["status"] == "healthy"
    assert (await world.ask("GET", "/readyz", groups=())).json()["status"] == "ready"

    store.is_away = True
    world.clock.pass_time(SECOND)

    told = await status(world)
    assert (told["status"], told["dependencies"]["database"]) == ("unhealthy", "unhealthy")
    assert "database_latency" not in told["dependencies"]
    assert told["metrics"]["total_tasks"] == 1
    ready = await world.ask("GET", "/readyz", groups=())
    assert (ready.status_code, ready.json()["checks"]["database"]) == (503, "unhealthy")
    assert (await world.ask("GET", "/scheduler/stats")).status_code == 503
    assert (await world.ask("GET", "/healthz", groups=())).status_code == 200


async def test_an_engine_that_does_not_run_is_not_ready(world: World) -> None:
    world.is_stopped()

    answer = await world.ask("GET", "/readyz", groups=())

    assert (answer.status_code, answer.json()["checks"]["engine"]) == (503, "stopped")


async def test_a_lock_service_that_is_away_only_degrades() -> None:
    lock = Lock()
    world = World(means={"lock": lock})
    assert (await status(world))["dependencies"] | {"redis": "healthy", "redis_latency": "3ms"} == (
        await status(world)
    )["dependencies"]

    lock.is_away = True
    world.clock.pass_time(SECOND)

    told = await status(world)
    assert (told["status"], told["dependencies"]["redis"]) == ("degraded", "degraded")
    assert "redis_latency" not in told["dependencies"]
    assert told["message"] == "The lock service does not answer (work goes on without it)"
    assert "diagnostics" not in told
    assert (await status(world, "monitoring"))["diagnostics"]["redis_trouble"] == "it can't be reached"
    assert (await world.ask("GET", "/readyz", groups=())).status_code == 200


async def test_who_is_known_sees_who_shares_the_store_and_who_runs_what(world: World) -> None:
    task = await world.task()
    await world.ask("POST", f"/scheduler/tasks/{task['id']}/execute")
    here, there = an_instance("a-here", host="one"), an_instance("b-there", host="two")
    for instance in (here, there):
        await world.store.announce(instance, now=world.clock.now())
    [claim] = (await world.store.claim(a_claim_request(10, worker_id=there.id, now=world.clock.now()))).claims
    world.engine.now = EngineFacts(
        mode=EngineMode.RUNNING, instance=here.id, slots=10, active=0, skews={there.id: -2500}
    )

    stranger = await status(world)
    world.clock.pass_time(SECOND)
    told = await status(world, "monitoring")

    assert "instances" not in stranger
    one, two = told["instances"]
    assert (one["id"], one["here"], one["host"], one["active"], one["skew"]) == ("a-here", True, "one", 0, "0s")
    assert (two["id"], two["here"], two["host"], two["active"], two["skew"]) == ("b-there", False, "two", 1, "-2.5s")
    assert two["last_seen"] == "2026-01-01T00:00:00Z"
    [running] = two["running"]
    assert (running["execution_id"], running["task_id"]) == (claim.execution_id, task["id"])


async def test_an_instance_whose_clock_is_wrong_says_so(world: World) -> None:
    world.engine.now = EngineFacts(mode=EngineMode.RUNNING, slots=10, active=0, is_astray=True)

    told = await status(world, "monitoring")

    assert (told["status"], told["diagnostics"]["makes_occurrences"]) == ("degraded", False)
    assert "makes no occurrences" in told["message"]


async def test_metrics_are_what_the_observers_wrote(world: World) -> None:
    answer = await world.ask("GET", "/metrics", groups=())

    assert (answer.text, answer.headers["content-type"]) == ("# metrics\n", "text/plain; version=0.0.4; charset=utf-8")
