"""Owns the small steps that checks are made of, and how two values or two stores are compared."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import TypeVar, cast

from peregrine.domain.execution import AttemptOutcome, Claim, Execution, NewExecution, State
from peregrine.domain.ids import ExecutionId, TaskId, WorkerId
from peregrine.domain.moment import DAY, Moment
from peregrine.domain.occurrence import LedgerEntry
from peregrine.domain.query import (
    PAGE_SIZE_MAX,
    ExecutionFilter,
    PageRequest,
    TaskFilter,
    TaskSort,
)
from peregrine.domain.statistics import day_start
from peregrine.domain.task import Task, TaskView
from peregrine.ports.records import ASKED, Note, Record, RecordStore
from peregrine.ports.store import SettleVerdict, Store
from peregrine.testing.builders import NOW, a_claim_request, a_new_execution, a_settlement

Error = TypeVar("Error", bound=Exception)

QUEUE_LIMIT = 1_000_000
NOTES = "notes"
"""The collection in which notes of checks are put."""


async def stored(store: Store, *tasks: Task) -> None:
    """Store *tasks*."""
    await store.create_tasks(tasks)


async def queued(store: Store, *new: NewExecution) -> None:
    """Queue each of *new*, in this order."""
    for one in new:
        await store.enqueue(one, queue_limit=QUEUE_LIMIT)


async def queued_ids(store: Store, task: Task, *ids: str) -> None:
    """Queue an execution of *task* under each of *ids*, in this order."""
    await queued(store, *(a_new_execution(id, task.id) for id in ids))


async def claimed(store: Store, *, now: Moment = NOW, limit: int = 100, worker: str = "worker-1") -> list[Claim]:
    """Claim what may be claimed."""
    batch = await store.claim(a_claim_request(limit, now=now, worker_id=WorkerId(worker)))
    return list(batch.claims)


async def one_claim(store: Store, task: Task, id: str = "execution-1", *, now: Moment = NOW) -> Claim:
    """Store *task*, queue one execution of it, claim it."""
    await stored(store, task)
    await queued_ids(store, task, id)
    (claim,) = await claimed(store, now=now)
    return claim


async def settled(
    store: Store,
    claim: Claim,
    verdict: AttemptOutcome = AttemptOutcome.SUCCEEDED,
    *,
    at: Moment | None = None,
    **changes: object,
) -> SettleVerdict:
    """Settle *claim* as the domain decides for *verdict*; what the store answers."""
    (answer,) = await store.settle([a_settlement(claim, verdict, at=at, **changes)])
    return answer


async def view(store: Store, task: Task) -> TaskView:
    """What the store shows of *task*, which must exist."""
    shown = await store.get_task(task.id)
    assert shown is not None, f"{task.id} is not there"
    return shown


async def execution(store: Store, id: str) -> Execution:
    """The execution *id*, which must exist."""
    shown = await store.get_execution(ExecutionId(id))
    assert shown is not None, f"{id} is not there"
    return shown


def ids(claims: Sequence[Claim]) -> list[str]:
    """The execution ids of *claims*, in their order."""
    return [claim.execution_id for claim in claims]


async def refused(error: type[Error], act: Awaitable[object]) -> Error:
    """The *error* that awaiting *act* raises; anything else is a failure."""
    try:
        answer = await act
    except error as caught:
        return caught
    raise AssertionError(f"expected {error.__name__}, got the answer {answer!r}")


def assert_same(given: object, read: object, where: str = "value") -> None:
    """Fail unless *read* is *given* to the last bit: values **and** types, so that 1 is neither True nor 1.0."""
    assert type(given) is type(read), f"{where}: {given!r} came back as {read!r}"
    if is_dataclass(given) and not isinstance(given, type):
        for field in fields(given):
            assert_same(getattr(given, field.name), getattr(read, field.name), f"{where}.{field.name}")
    elif isinstance(given, dict) and isinstance(read, dict):
        assert set(given) == set(read), f"{where}: keys {sorted(given)} came back as {sorted(read)}"
        for key in given:
            assert_same(given[key], read[key], f"{where}[{key!r}]")
    elif isinstance(given, list | tuple) and isinstance(read, list | tuple):
        assert len(given) == len(read), f"{where}: {given!r} came back as {read!r}"
        for index, (one, other) in enumerate(zip(given, read, strict=True)):
            assert_same(one, other, f"{where}[{index}]")
    else:
        assert given == read, f"{where}: {given!r} came back as {read!r}"


# ── everything a store shows ─────────────────────────────────────────────────────────────────────


def a_note(key: str) -> Note:
    """A note that was not put yet."""
    record = Record(collection=NOTES, key=key, document={"about": key, "verdict": ASKED}, expires_at=NOW + DAY)
    return Note(record, NOW)


async def note_put(store: Store, key: str) -> Record | None:
    """What became of a note: the stores that are given have a shelf too."""
    return await cast(RecordStore, store).get_record(NOTES, key, now=NOW)


async def said(store: Store, key: str) -> str:
    """What a note says; empty: it is not there."""
    record = await note_put(store, key)
    return "" if record is None else str(record.document["verdict"])


async def all_tasks(store: Store, *, now: Moment = NOW) -> list[TaskView]:
    """Every task, by pages."""
    found: list[TaskView] = []
    page = PageRequest(size=PAGE_SIZE_MAX)
    while True:
        shown = await store.list_tasks(TaskFilter(), page, sort=TaskSort.NAME, descending=False, now=now)
        found += shown.items
        if shown.next_cursor is None:
            return found
        page = PageRequest(size=PAGE_SIZE_MAX, cursor=shown.next_cursor)


async def all_executions(store: Store, filter: ExecutionFilter | None = None) -> list[Execution]:
    """Every execution that *filter* lets through, by pages."""
    found: list[Execution] = []
    page = PageRequest(size=PAGE_SIZE_MAX)
    while True:
        shown = await store.list_executions(filter or ExecutionFilter(), page)
        found += shown.items
        if shown.next_cursor is None:
            return found
        page = PageRequest(size=PAGE_SIZE_MAX, cursor=shown.next_cursor)


async def ledger(store: Store, task_id: TaskId) -> list[LedgerEntry]:
    """The whole ledger of a task, by pages."""
    found: list[LedgerEntry] = []
    page = PageRequest(size=PAGE_SIZE_MAX)
    while True:
        shown = await store.list_occurrences(task_id, page)
        found += shown.items
        if shown.next_cursor is None:
            return found
        page = PageRequest(size=PAGE_SIZE_MAX, cursor=shown.next_cursor)


async def photograph(store: Store, *, now: Moment = NOW) -> dict[tuple[str, str], object]:
    """Everything a reader can see, by kind and id. Beats and counters are left out: they only say that time passes."""
    views, executions = await all_tasks(store, now=now), await all_executions(store)
    seen: dict[tuple[str, str], object] = {("task", shown.task.id): shown for shown in views}
    seen |= {("execution", one.id): replace(one, beat=0) for one in executions}
    for task_id in {shown.task.id for shown in views} | {one.task_id for one in executions}:
        seen["ledger", task_id] = await ledger(store, task_id)
    for running in await store.running():
        seen["running", running.execution_id] = replace(running, beat=0)
    for instance, _, wall in await store.instances():
        seen["instance", instance.id] = (instance, wall)
    due = await store.due(now, 1_000)
    seen["due", ""] = ({one.task.id: one for one in due.due}, due.queued, due.next_due_at)
    seen["statistics", ""] = await store.statistics(now)
    return seen


async def assert_adds_up(store: Store, *, now: Moment = NOW) -> None:
    """Fail unless everything the store counts is what a recount of its rows gives (invariant I14)."""
    views, executions = await all_tasks(store, now=now), await all_executions(store)
    assert len({one.id for one in executions}) == len(executions), "an execution is listed twice"
    queued_rows = [one for one in executions if one.state is State.QUEUED]
    running_rows = [one for one in executions if one.state is State.RUNNING]
    for shown in views:
        assert shown.queued == sum(one.task_id == shown.task.id for one in queued_rows)
        assert shown.running == sum(one.task_id == shown.task.id for one in running_rows)
        assert shown.tally.total_runs == shown.tally.success_count + shown.tally.failure_count
    assert {one.execution_id for one in await store.running()} == {one.id for one in running_rows}
    today = [one for one in executions if one.completed_at is not None and one.completed_at >= day_start(now)]
    runtimes = [one.duration for one in today if one.duration is not None]
    statistics = await store.statistics(now)
    assert statistics.total_tasks == len(views)
    assert statistics.enabled_tasks == sum(shown.task.enabled for shown in views)
    assert statistics.running == len(running_rows)
    assert statistics.queued == len(queued_rows)
    assert statistics.completed_today == sum(one.state is State.COMPLETED for one in today)
    assert statistics.failed_today == sum(one.state is not State.COMPLETED for one in today)
    assert statistics.average_runtime == (sum(runtimes) // len(runtimes) if runtimes else 0)
    next_moments = [shown.next_run_at for shown in views if shown.next_run_at is not None]
    assert statistics.next_run_at == min(next_moments, default=None)
