"""A database that the earlier service filled is taken over as it is: read, run, changed, and nothing of it lost."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from bson.int64 import Int64
from bson.objectid import ObjectId

from peregrine.domain.errors import UnsafeStore
from peregrine.domain.execution import ExecutionOutcome, State
from peregrine.domain.ids import ExecutionId, TaskId
from peregrine.domain.moment import HOUR, MINUTE, SECOND, from_datetime
from peregrine.domain.payload import CustomPayload, FunctionPayload, HttpPayload, Kind, SystemPayload
from peregrine.domain.planning import plan
from peregrine.domain.policy import Priority
from peregrine.domain.query import ExecutionFilter, PageRequest, TaskFilter, TaskSort, TaskStatus
from peregrine.ports.store import PlanVerdict
from peregrine.stores.mongo.commands import EXECUTIONS, META, TASKS
from peregrine.testing.builders import a_claim_request, a_settlement
from tests.services.mongo_places import MongoStores, PlacedStore

pytestmark = [pytest.mark.anyio, pytest.mark.services]

CREATED = datetime(2024, 1, 15, 9, 15, tzinfo=UTC)
LAST_RUN = datetime(2024, 1, 15, 10, 30, tzinfo=UTC)
NEXT_RUN = datetime(2024, 1, 15, 12, 30, tzinfo=UTC)
TASK_ID, EXECUTION_ID = (
    TaskId("8f14e45f-ea5b-4f0e-9d3c-2f9b4a6f6a01"),
    ExecutionId("0cc175b9-c0f1-4b6a-831c-399e26977266"),
)


def an_old_task(**fields: Any) -> dict[str, Any]:
    """As the earlier service's documentation shows one, durations as its program stores them."""
    return {
        "_id": TASK_ID,
        "name": "Health Check",
        "description": "Task description",
        "type": "http",
        "schedule": "0 */2 * * *",
        "status": "completed",
        "priority": "high",
        "enabled": True,
        "config": {
            "url": "https://api.example.com/health",
            "method": "get",
            "headers": {"X-Probe": "1"},
            "expected_code": 200,
            "timeout": "30s",
            "retries_of_theirs": 7,
        },
        "metadata": {
            "max_retries": 3,
            "retry_interval": Int64(120 * 10**9),
            "timeout": "5m",
            "tags": ["monitoring", "system"],
            "is_system": False,
            "source": "api",
            "version": 4,
            "last_error": "",
            "success_count": Int64(150),
            "failure_count": Int64(5),
            "total_runs": Int64(155),
            "average_runtime": Int64(1_500_000_000),
            "shard_of_theirs": "eu-1",
        },
        "last_run": LAST_RUN,
        "next_run": NEXT_RUN,
        "created_at": CREATED,
        "updated_at": LAST_RUN,
        "created_by": "user-1",
        "updated_by": "system",
        "owner_of_theirs": ObjectId("65a4f0a0a0a0a0a0a0a0a0a0"),
    } | fields


def an_old_execution(**fields: Any) -> dict[str, Any]:
    return {
        "_id": EXECUTION_ID,
        "task_id": TASK_ID,
        "status": "completed",
        "started_at": LAST_RUN,
        "completed_at": datetime(2024, 1, 15, 10, 30, 45, tzinfo=UTC),
        "duration": Int64(45 * 10**9),
        "output": "Task output or response",
        "error": "",
        "metadata": {"worker_id": "worker-1", "retry_count": 0, "lock_key": f"lock:{TASK_ID}"},
        "worker_id": "worker-1",
        "retry_count": 0,
        "trace_of_theirs": {"span": "abc"},
    } | fields


async def _taken_over(
    stores: MongoStores, tasks: list[dict[str, Any]], executions: list[dict[str, Any]] | None = None
) -> PlacedStore:
    """A store opened on a database that held *tasks* and *executions* before."""
    before = await stores.fresh()
    await before.commands.insert(TASKS, tasks)
    await before.commands.insert(EXECUTIONS, executions or [])
    return await stores.reopen()


async def _document(store: PlacedStore, name: str, id: str) -> dict[str, Any]:
    (document,) = await store.commands.find(name, {"_id": id})
    return document


async def test_an_old_task_reads_as_it_was_meant(stores: MongoStores) -> None:
    store = await _taken_over(stores, [an_old_task()])

    shown = await store.get_task(TASK_ID)

    assert shown is not None
    task, tally = shown.task, shown.tally
    assert (task.name, task.kind, task.schedule, task.priority) == (
        "Health Check", Kind.HTTP, "0 */2 * * *", Priority.HIGH,
    )  # fmt: skip
    assert task.payload == HttpPayload(
        url="https://api.example.com/health", headers=(("X-Probe", "1"),), expected_codes=(200,), timeout=30 * SECOND
    )
    assert (task.policy.max_retries, task.policy.retry_interval, task.policy.timeout) == (3, 2 * MINUTE, 5 * MINUTE)
    assert (task.revision, task.tags, task.created_by) == (4, ("monitoring", "system"), "user-1")
    assert (task.created_at, task.updated_at) == (from_datetime(CREATED), from_datetime(LAST_RUN))
    assert (tally.total_runs, tally.success_count, tally.failure_count) == (155, 150, 5)
    assert (tally.average_runtime, tally.last_run_at) == (1_500, from_datetime(LAST_RUN))
    assert (tally.last_succeeded, tally.last_error) == (True, None)
    assert (shown.cursor, shown.next_run_at) == (from_datetime(LAST_RUN), from_datetime(LAST_RUN) + HOUR + 30 * MINUTE)


async def test_old_types_words_and_gaps_are_read(stores: MongoStores) -> None:
    theirs = {"exchange": "x", "$limit": Int64(5)}
    store = await _taken_over(
        stores,
        [
            an_old_task(
                _id="f", name="f", type="function", config={"function_name": "f", "parameters": {"n": Int64(1)}}
            ),
            an_old_task(_id="s", name="s", type="system", config={"task_name": "system-cleanup"}),
            an_old_task(_id="c", name="c", type="my_custom_type", config=theirs),
            an_old_task(_id="p", name="p", status="paused"),
            an_old_task(_id="bad", name="bad", schedule="every other tuesday"),
            {"_id": "bare", "name": "bare", "schedule": "@hourly", "type": "function"},
        ],
    )

    views = {
        view.task.id: view for view in await store.get_tasks([TaskId(id) for id in ("f", "s", "c", "p", "bad", "bare")])
    }

    assert views[TaskId("f")].task.payload == FunctionPayload(function_name="f", parameters={"n": 1})
    assert views[TaskId("s")].task.payload == SystemPayload(task_name="system-cleanup")
    assert views[TaskId("c")].task.payload == CustomPayload(
        executor="my_custom_type", parameters={"exchange": "x", "$limit": 5}
    )
    assert views[TaskId("p")].task.pause is not None
    assert views[TaskId("p")].next_run_at is None
    assert views[TaskId("bad")].next_run_at is None, "a schedule that can't be read is never due"
    assert views[TaskId("bare")].next_run_at is not None
    page = await store.list_tasks(TaskFilter(), PageRequest(), sort=TaskSort.PRIORITY, descending=True, now=0)
    assert page.total == 6
    paused = TaskFilter(status=TaskStatus.PAUSED)
    page = await store.list_tasks(paused, PageRequest(), sort=TaskSort.NAME, descending=False, now=0)
    assert [view.task.id for view in page.items] == ["p"]


async def test_what_a_program_left_there_survives_a_change(stores: MongoStores) -> None:
    store = await _taken_over(stores, [an_old_task()])
    shown = await store.get_task(TASK_ID)
    assert shown is not None
    later = from_datetime(LAST_RUN) + MINUTE
    changed = replace(shown.task, description="new", schedule="@every 1h").changed(shown.task, at=later, by="ann")

    await store.put_task(changed, expected_revision=4)

    document = await _document(store, TASKS, TASK_ID)
    assert document["owner_of_theirs"] == ObjectId("65a4f0a0a0a0a0a0a0a0a0a0")
    assert document["metadata"]["shard_of_theirs"] == "eu-1"
    assert document["config"]["retries_of_theirs"] == 7
    assert (document["description"], document["metadata"]["version"]) == ("new", 5)
    assert document["metadata"]["timeout"] == 300 * 10**9, "durations go out as a Go program reads them"
    assert isinstance(document["metadata"]["timeout"], int)
    again = await store.get_task(TASK_ID)
    assert again is not None
    assert (again.task, again.tally) == (changed, shown.tally)


async def test_an_old_task_runs_and_its_tally_goes_on(stores: MongoStores) -> None:
    store = await _taken_over(stores, [an_old_task()])
    now = from_datetime(NEXT_RUN)
    (due,) = (await store.due(now, 10)).due
    made = plan(due, now, 10)
    assert made is not None

    assert list(await store.apply_plans([made], now)) == [PlanVerdict.APPLIED]
    (claim,) = (await store.claim(a_claim_request(now=now))).claims
    await store.settle([a_settlement(claim)])

    document = await _document(store, TASKS, TASK_ID)
    metadata = document["metadata"]
    assert (metadata["total_runs"], metadata["success_count"], document["status"]) == (156, 151, "completed")
    assert metadata["average_runtime"] == (155 * 1_500 + 1_000) // 156 * 10**6
    execution = await _document(store, EXECUTIONS, claim.execution_id)
    assert (execution["status"], execution["worker_id"], execution["duration"]) == ("completed", "worker-1", 10**9)
    assert execution["metadata"] == {
        "worker_id": "worker-1", "retry_count": 0, "lock_key": f"scheduler:lock:{TASK_ID}",
    }  # fmt: skip


async def test_old_executions_are_history(stores: MongoStores) -> None:
    words = {"success": State.COMPLETED, "error": State.FAILED, "cancelled": State.CANCELLED, "timeout": State.FAILED}
    others = [an_old_execution(_id=word, status=word) for word in words]
    store = await _taken_over(stores, [an_old_task()], [an_old_execution(), *others])

    shown = await store.get_execution(EXECUTION_ID)
    listed = await store.list_executions(ExecutionFilter(task_id=TASK_ID), PageRequest())

    assert shown is not None
    assert (shown.state, shown.outcome, shown.duration) == (State.COMPLETED, ExecutionOutcome.SUCCEEDED, 45 * SECOND)
    assert (shown.output, shown.error, shown.worker_id, shown.attempt) == (
        "Task output or response",
        None,
        "worker-1",
        1,
    )
    assert {one.id: one.state for one in listed.items if one.id != EXECUTION_ID} == words
    view = await store.get_task(TASK_ID)
    assert view is not None
    assert view.tally.total_runs == 155, "what the earlier program counted is not counted again"


async def test_what_an_earlier_program_left_unfinished_is_closed(stores: MongoStores) -> None:
    """Nobody knows what it did, and work of long ago must not start now."""
    left = [
        an_old_execution(_id="ran", status="running", completed_at=None),
        an_old_execution(_id="waited", status="pending", started_at=None, completed_at=None),
    ]
    store = await _taken_over(stores, [an_old_task()], left)

    for id in ("ran", "waited"):
        shown = await store.get_execution(ExecutionId(id))
        assert shown is not None
        assert (shown.state, shown.outcome) == (State.FAILED, ExecutionOutcome.ABANDONED)
        assert shown.error == "left unfinished by an earlier program"
    assert (await _document(store, EXECUTIONS, "ran"))["trace_of_theirs"] == {"span": "abc"}
    assert list(await store.running()) == []
    facts = await store.facts()
    assert (facts["adopted_tasks"], facts["closed_executions"]) == (1, 2)


async def test_a_task_is_taken_over_once(stores: MongoStores) -> None:
    store = await _taken_over(stores, [an_old_task()])
    first = await _document(store, TASKS, TASK_ID)

    again = await stores.reopen()

    assert await _document(again, TASKS, TASK_ID) == first


async def test_two_old_tasks_of_one_name_stay(stores: MongoStores) -> None:
    store = await _taken_over(stores, [an_old_task(), an_old_task(_id="twin")])

    page = await store.list_tasks(TaskFilter(), PageRequest(), sort=TaskSort.NAME, descending=False, now=0)

    assert [view.task.name for view in page.items] == ["Health Check", "Health Check"]


async def test_the_database_of_a_stranger_or_of_a_newer_one_is_refused(stores: MongoStores) -> None:
    store = await stores.fresh()
    for change, said in (({"program": "another"}, "another program"), ({"oldest": 9, "version": 9}, "newer peregrine")):
        await store.commands.update(META, [({"_id": "schema"}, {"$set": change})])
        try:
            with pytest.raises(UnsafeStore, match=said):
                await stores.reopen()
        finally:
            ours = {"program": "peregrine", "oldest": 1, "version": 1}
            await store.commands.update(META, [({"_id": "schema"}, {"$set": ours})])


async def test_the_next_version_may_be_open_beside(stores: MongoStores) -> None:
    """It may write fields that are new; it raises ``oldest`` only when this version can't live with them any more."""
    store = await stores.fresh()
    await store.commands.update(META, [({"_id": "schema"}, {"$set": {"version": 2}})])

    await stores.reopen()

    await store.commands.update(META, [({"_id": "schema"}, {"$set": {"version": 1}})])
