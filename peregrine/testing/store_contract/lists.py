"""Owns what every store must do when it is read: filters, order, pages, cursors, totals, statistics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from peregrine.domain.errors import Invalid
from peregrine.domain.execution import AttemptOutcome, Cause, Execution, ExecutionOutcome, State
from peregrine.domain.ids import ExecutionId, TaskId, WorkerId
from peregrine.domain.moment import DAY, HOUR, MINUTE, SECOND
from peregrine.domain.occurrence import LedgerEntry, Reason, Skip, Verdict
from peregrine.domain.payload import HttpPayload, Kind, SystemPayload
from peregrine.domain.policy import Overlap, Policy, Priority
from peregrine.domain.query import (
    ExecutionFilter,
    ExecutionStatus,
    Item,
    Page,
    PageRequest,
    TaskFilter,
    TaskSort,
    TaskStatus,
)
from peregrine.domain.statistics import Statistics, day_start
from peregrine.domain.task import Pause, Task, TaskView
from peregrine.ports.store import Store
from peregrine.testing.builders import (
    NOW,
    a_new_execution,
    a_parallel_task,
    a_plan,
    a_settlement,
    a_task,
)
from peregrine.testing.store_contract import variety
from peregrine.testing.store_contract.factory import StoreFactory
from peregrine.testing.store_contract.steps import (
    all_executions,
    assert_adds_up,
    assert_same,
    claimed,
    execution,
    one_claim,
    queued,
    queued_ids,
    refused,
    settled,
    stored,
)

WHOLE = PageRequest(size=100)


async def _task_ids(
    store: Store, filter: TaskFilter | None = None, *, sort: TaskSort = TaskSort.CREATED_AT, descending: bool = False
) -> list[str]:
    page = await store.list_tasks(filter or TaskFilter(), WHOLE, sort=sort, descending=descending, now=NOW)
    assert page.total == len(page.items)
    return [shown.task.id for shown in page.items]


async def _execution_ids(store: Store, **filter: object) -> list[str]:
    page = await store.list_executions(ExecutionFilter(**filter), WHOLE)  # type: ignore[arg-type]
    assert page.total == len(page.items)
    return [shown.id for shown in page.items]


# ── filters of tasks ─────────────────────────────────────────────────────────────────────────────


async def tasks_are_filtered_by_each_field(factory: StoreFactory) -> None:
    store = await factory.fresh()
    http = HttpPayload(url="http://localhost/")
    await stored(
        store,
        a_task("plain"),
        a_task("http", kind=Kind.HTTP, payload=http, tags=("a", "b"), created_by="ann"),
        a_task("off", enabled=False, tags=("b", "c"), priority=Priority.CRITICAL),
        a_task("system", kind=Kind.SYSTEM, payload=SystemPayload(task_name="x"), is_system=True, tags=("abc",)),
    )
    expected: list[tuple[TaskFilter, set[str]]] = [
        (TaskFilter(), {"plain", "http", "off", "system"}),
        (TaskFilter(kind=Kind.FUNCTION), {"plain", "off"}),
        (TaskFilter(kind=Kind.HTTP), {"http"}),
        (TaskFilter(kind=Kind.CUSTOM), set()),
        (TaskFilter(enabled=True), {"plain", "http", "system"}),
        (TaskFilter(enabled=False), {"off"}),
        (TaskFilter(tags_any=("a",)), {"http"}),
        (TaskFilter(tags_any=("a", "c", "nobody's")), {"http", "off"}),
        (TaskFilter(tags_any=("A",)), set()),
        (TaskFilter(tags_all=("a", "b")), {"http"}),
        (TaskFilter(tags_all=("b",)), {"http", "off"}),
        (TaskFilter(tags_all=("a", "c")), set()),
        (TaskFilter(tags_any=("b",), tags_all=("c",)), {"off"}),
        (TaskFilter(priority=Priority.CRITICAL), {"off"}),
        (TaskFilter(priority=Priority.LOW), set()),
        (TaskFilter(is_system=True), {"system"}),
        (TaskFilter(is_system=False), {"plain", "http", "off"}),
        (TaskFilter(created_by="ann"), {"http"}),
        (TaskFilter(created_by="an"), set()),
        (TaskFilter(created_by=""), set()),
        (TaskFilter(kind=Kind.HTTP, enabled=True, created_by="ann", tags_any=("b",)), {"http"}),
        (TaskFilter(kind=Kind.HTTP, enabled=False), set()),
    ]

    for filter, found in expected:
        assert set(await _task_ids(store, filter)) == found, filter


async def tasks_are_filtered_by_their_computed_status(factory: StoreFactory) -> None:
    store = await factory.fresh()
    policy = Policy(overlap=Overlap.ALLOW, max_retries=0)
    await stored(
        store,
        *(a_task(id, policy=policy) for id in ("pending", "queued", "running", "completed", "failed", "cancelled")),
        a_task("disabled", enabled=False, pause=Pause(since=NOW)),
        a_task("disabled, running", enabled=False, policy=policy),
        a_task("paused", pause=Pause(since=NOW)),
        a_task("paused, running", pause=Pause(since=NOW, until=NOW + 1), policy=policy),
        a_task("pause is over", pause=Pause(since=NOW - DAY, until=NOW)),
        a_task("completed, running", policy=policy),
    )
    ends = {"completed": AttemptOutcome.SUCCEEDED, "failed": AttemptOutcome.FAILED}
    ends |= {"cancelled": AttemptOutcome.CANCELLED, "completed, running": AttemptOutcome.SUCCEEDED}
    for id in ("running", "disabled, running", "paused, running", *ends):
        await queued(store, a_new_execution(f"first of {id}", id))
    for claim in await claimed(store):
        if claim.task.id in ends:
            await settled(store, claim, ends[claim.task.id])
    await queued(store, a_new_execution("second", "completed, running"))
    await claimed(store)
    await queued(store, a_new_execution("waits", "queued"))

    found = {status: set(await _task_ids(store, TaskFilter(status=status))) for status in TaskStatus}

    assert found == {
        TaskStatus.DISABLED: {"disabled", "disabled, running"},
        TaskStatus.PAUSED: {"paused", "paused, running"},
        TaskStatus.RUNNING: {"running", "completed, running"},
        TaskStatus.COMPLETED: {"completed"},
        TaskStatus.FAILED: {"failed", "cancelled"},
        TaskStatus.PENDING: {"pending", "queued", "pause is over"},
    }


async def tasks_are_found_by_text_as_it_stands(factory: StoreFactory) -> None:
    store = await factory.fresh()
    texts = [
        "Plain Name",
        "100% sure",
        "under_score",
        "back\\slash",
        "dot.star.*",
        "brackets [a-z]",
        "Ärger 日本",
        "^a$",
    ]
    await stored(store, *(a_task(text, name=text) for text in texts))
    await stored(store, a_task("described", description="it has a plain description"), a_task("other", tags=("plain",)))

    expected = {
        "plain": {"Plain Name", "described"},
        "PLAIN": {"Plain Name", "described"},
        "n n": {"Plain Name"},
        "%": {"100% sure"},
        "_": {"under_score"},
        "\\": {"back\\slash"},
        ".*": {"dot.star.*"},
        "[a-z]": {"brackets [a-z]"},
        "rger 日": {"Ärger 日本"},
        "^a$": {"^a$"},
        "*": {"dot.star.*"},
        "nowhere": set(),
        "task-": set(),
        "": {*texts, "described", "other"},
    }

    for text, found in expected.items():
        assert set(await _task_ids(store, TaskFilter(text=text))) == found, text


# ── order of tasks ───────────────────────────────────────────────────────────────────────────────


async def tasks_are_sorted_both_ways(factory: StoreFactory) -> None:
    store = await factory.fresh()
    await stored(
        store,
        a_task("c", name="ä", created_at=NOW - 1, updated_at=NOW + 3, priority=Priority.LOW),
        a_task("a", name="b", created_at=NOW - 3, updated_at=NOW + 2, priority=Priority.HIGH, schedule="@manual"),
        a_task("b", name="B", created_at=NOW - 2, updated_at=NOW + 3, priority=Priority.NORMAL, schedule="@every 1h"),
        a_task("d", name="a", created_at=NOW - 2, updated_at=NOW + 1, priority=Priority.NORMAL, enabled=False),
        a_task(
            "e", name="😀", created_at=NOW - 4, updated_at=NOW + 4, priority=Priority.CRITICAL, schedule="@every 1m"
        ),
    )
    expected = {
        TaskSort.UPDATED_AT: "dabce",
        TaskSort.CREATED_AT: "eabdc",
        TaskSort.NAME: "bdace",
        TaskSort.PRIORITY: "cbdae",
        TaskSort.NEXT_RUN: "cebad",
    }

    for sort, order in expected.items():
        assert await _task_ids(store, sort=sort) == list(order), sort
        assert await _task_ids(store, sort=sort, descending=True) == list(order[::-1]), sort


async def the_list_of_tasks_shows_where_they_stand(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_parallel_task()
    await settled(store, await one_claim(store, task))
    await queued_ids(store, task, *"abc")
    await claimed(store, limit=1)
    await store.apply_plans([a_plan(task, NOW + MINUTE)], NOW + MINUTE)

    page = await store.list_tasks(TaskFilter(), WHOLE, sort=TaskSort.NAME, descending=False, now=NOW)

    (shown,) = page.items
    assert_same(await store.get_task(task.id), shown)
    assert (shown.running, shown.queued, shown.tally.total_runs) == (1, 3, 1)
    assert (shown.cursor, shown.next_run_at) == (NOW + MINUTE, NOW + 2 * MINUTE)


# ── pages ────────────────────────────────────────────────────────────────────────────────────────


async def _walk(ask: Callable[[PageRequest], Awaitable[Page[Item]]], size: int) -> list[Item]:
    """All items, by cursors, in pages of *size*; each page full but the last, and no empty one behind it."""
    found: list[Item] = []
    cursor: str | None = None
    while True:
        page = await ask(PageRequest(size=size, cursor=cursor))
        found += page.items
        if page.next_cursor is None:
            return found
        assert len(page.items) == size
        cursor = page.next_cursor


async def _numbered(ask: Callable[[PageRequest], Awaitable[Page[Item]]], size: int, total: int) -> list[Item]:
    """All items, by page numbers."""
    found: list[Item] = []
    for number in range(1, -(-total // size) + 1):
        page = await ask(PageRequest(size=size, number=number))
        assert (page.total, page.total_exact) == (total, True)
        found += page.items
    beyond = await ask(PageRequest(size=size, number=total + 1))
    assert (list(beyond.items), beyond.total, beyond.next_cursor) == ([], total, None)
    return found


async def an_empty_list_is_one_empty_page(factory: StoreFactory) -> None:
    store = await factory.fresh()

    for page in (
        await store.list_tasks(TaskFilter(), WHOLE, sort=TaskSort.NAME, descending=True, now=NOW),
        await store.list_executions(ExecutionFilter(), WHOLE),
        await store.list_occurrences(TaskId("nobody"), WHOLE),
    ):
        assert (list(page.items), page.total, page.total_exact, page.next_cursor) == ([], 0, True, None)


async def tasks_come_in_pages(factory: StoreFactory) -> None:
    store = await factory.fresh()
    # Every key has ties, so that a page often ends inside one.
    await stored(
        store,
        *(
            a_task(
                f"task-{number:02}",
                name=f"{'ä' if number % 2 else 'a'} {number:02}",
                created_at=NOW + number % 3,
                updated_at=NOW + number % 2,
                priority=Priority(number % 4),
                schedule="@manual" if number % 3 == 0 else f"@every {number % 3}h",
            )
            for number in range(23)
        ),
    )
    for sort in TaskSort:
        for descending in (False, True):

            async def ask(page: PageRequest, sort: TaskSort = sort, *, down: bool = descending) -> Page[TaskView]:
                return await store.list_tasks(TaskFilter(), page, sort=sort, descending=down, now=NOW)

            whole = list((await ask(WHOLE)).items)
            assert len(whole) == 23
            for size in (1, 4, 22, 23, 24):
                assert await _walk(ask, size) == whole
                assert await _numbered(ask, size, 23) == whole


async def a_cursor_of_tasks_is_steady_under_change(factory: StoreFactory) -> None:
    store = await factory.fresh()
    await stored(store, *(a_task(f"task-{letter}", name=letter) for letter in "bdfh"))

    async def ask(cursor: str | None) -> Page[TaskView]:
        request = PageRequest(size=2, cursor=cursor)
        return await store.list_tasks(TaskFilter(), request, sort=TaskSort.NAME, descending=False, now=NOW)

    first = await ask(None)
    await stored(store, *(a_task(f"task-{letter}", name=letter) for letter in "aceg"))
    await store.delete_task(TaskId("task-d"), expected_revision=None, now=NOW)
    rest = await ask(first.next_cursor)
    last = await ask(rest.next_cursor)

    names = [shown.task.name for page in (first, rest, last) for shown in page.items]
    assert names == ["b", "d", "e", "f", "g", "h"], "what came before the cursor is not shown, and nothing comes twice"
    assert rest.total == 7


async def a_strange_cursor_is_refused(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_parallel_task()
    await stored(store, task, a_task("task-2"), a_task("task-3"))
    await queued_ids(store, task, *"abc")
    await store.apply_plans([a_plan(task, NOW + MINUTE, NOW + 2 * MINUTE)], NOW + 2 * MINUTE)
    small = PageRequest(size=1)
    by_name = await store.list_tasks(TaskFilter(), small, sort=TaskSort.NAME, descending=False, now=NOW)
    executions = await store.list_executions(ExecutionFilter(), small)
    occurrences = await store.list_occurrences(task.id, small)
    for text in (by_name.next_cursor, executions.next_cursor, occurrences.next_cursor):
        assert text
        assert text.isascii()
        assert not set(text) & set("+/=&?# %")
    strange = ["x", "!!", "ä", "AAAA", "bnVsbA", "W10", "A" * 100_000, "[" * 1_000, str(executions.next_cursor)[:-2]]

    async def tasks(cursor: str, sort: TaskSort = TaskSort.NAME, *, descending: bool = False) -> object:
        page = PageRequest(cursor=cursor)
        return await store.list_tasks(TaskFilter(), page, sort=sort, descending=descending, now=NOW)

    for cursor in strange:
        page = PageRequest(cursor=cursor)
        for act in (
            tasks(cursor),
            store.list_executions(ExecutionFilter(), page),
            store.list_occurrences(task.id, page),
        ):
            error = await refused(Invalid, act)
            assert [fault.pointer for fault in error.faults] == ["/cursor"]
    await refused(Invalid, tasks(str(by_name.next_cursor), descending=True))
    await refused(Invalid, tasks(str(by_name.next_cursor), TaskSort.CREATED_AT))
    await refused(Invalid, tasks(str(executions.next_cursor)))
    foreign = PageRequest(cursor=by_name.next_cursor)
    await refused(Invalid, store.list_executions(ExecutionFilter(), foreign))
    await refused(Invalid, store.list_occurrences(task.id, foreign))
    await refused(Invalid, store.list_executions(ExecutionFilter(), PageRequest(cursor=occurrences.next_cursor)))


# ── executions ───────────────────────────────────────────────────────────────────────────────────


async def _a_day_of_work(store: Store) -> None:
    """Executions of two tasks in every state, started a minute apart, their ids in the order of their making."""
    policy = Policy(overlap=Overlap.ALLOW, max_retries=1, retry_interval=MINUTE)
    await stored(store, a_task("one", policy=policy), a_task("two", policy=policy))
    ends = [
        ("e1", "one", AttemptOutcome.SUCCEEDED, "all fine: 100%"),
        ("e2", "two", AttemptOutcome.FAILED, "broken_pipe"),
        ("e3", "one", AttemptOutcome.TIMED_OUT, "Too Slow"),
        ("e4", "one", AttemptOutcome.CANCELLED, ""),
        ("e5", "two", AttemptOutcome.SUCCEEDED, ""),
    ]
    for number, (id, task_id, verdict, text) in enumerate(ends):
        cause = Cause.RETRY if id == "e2" else Cause.MANUAL
        await queued(store, a_new_execution(id, task_id, cause=cause))
        (claim,) = await claimed(store, now=NOW + number * MINUTE, worker=f"worker-{number % 2}")
        settlement = a_settlement(claim, verdict)
        if verdict is AttemptOutcome.SUCCEEDED:
            settlement = replace(settlement, output=text)
        elif verdict is not AttemptOutcome.CANCELLED:
            settlement = replace(settlement, error=text)
            if verdict is AttemptOutcome.FAILED:
                settlement = replace(settlement, state=State.FAILED, outcome=ExecutionOutcome.FAILED, available_at=None)
            else:
                settlement = replace(settlement, available_at=NOW + DAY)
        await store.settle([settlement])
    await queued(store, a_new_execution("e6", "two"))
    await store.request_cancel(execution_id=ExecutionId("e6"), now=NOW + 3 * MINUTE + 30 * SECOND)
    await queued(store, a_new_execution("e7", "two"), a_new_execution("e8", "one", available_at=NOW + HOUR))
    await claimed(store, now=NOW + 10 * MINUTE, limit=1)


async def executions_are_listed_waiting_first_then_by_start(factory: StoreFactory) -> None:
    """One that was cancelled before it started stands where it ended, not among those that wait."""
    store = await factory.fresh()
    await _a_day_of_work(store)

    assert (await execution(store, "e3")).state is State.QUEUED
    assert (await execution(store, "e7")).state is State.RUNNING
    assert await _execution_ids(store) == ["e8", "e3", "e7", "e5", "e6", "e4", "e2", "e1"]


async def executions_that_started_at_once_are_listed_by_id(factory: StoreFactory) -> None:
    store = await factory.fresh()
    await stored(store, a_parallel_task())
    await queued(store, *(a_new_execution(id) for id in "cabed"))

    assert await _execution_ids(store) == list("edcba")
    await claimed(store)
    assert await _execution_ids(store) == list("edcba")


async def executions_are_filtered_by_each_field(factory: StoreFactory) -> None:
    store = await factory.fresh()
    await _a_day_of_work(store)
    expected: list[tuple[dict[str, object], list[str]]] = [
        ({"status": ExecutionStatus.PENDING}, ["e8", "e3"]),
        ({"status": ExecutionStatus.RUNNING}, ["e7"]),
        ({"status": ExecutionStatus.COMPLETED}, ["e5", "e1"]),
        ({"status": ExecutionStatus.FAILED}, ["e6", "e4", "e2"]),
        ({"outcome": ExecutionOutcome.SUCCEEDED}, ["e5", "e1"]),
        ({"outcome": ExecutionOutcome.CANCELLED}, ["e6", "e4"]),
        ({"outcome": ExecutionOutcome.FAILED}, ["e2"]),
        ({"outcome": ExecutionOutcome.ABANDONED}, []),
        ({"task_id": TaskId("one")}, ["e8", "e3", "e4", "e1"]),
        ({"task_id": TaskId("nobody")}, []),
        ({"cause": Cause.RETRY}, ["e2"]),
        ({"cause": Cause.SCHEDULE}, []),
        ({"worker_id": WorkerId("worker-1")}, ["e7", "e4", "e2"]),
        ({"worker_id": WorkerId("worker-0")}, ["e3", "e5", "e1"]),
        ({"started_after": NOW + 3 * MINUTE}, ["e7", "e5", "e4"]),
        ({"started_after": NOW + 3 * MINUTE + 1}, ["e7", "e5"]),
        ({"started_before": NOW + 3 * MINUTE}, ["e3", "e2", "e1"]),
        ({"started_before": NOW + 3 * MINUTE + 1}, ["e3", "e4", "e2", "e1"]),
        ({"started_after": NOW + MINUTE, "started_before": NOW + 2 * MINUTE}, ["e2"]),
        ({"started_after": NOW + MINUTE, "started_before": NOW + MINUTE}, []),
        ({"text": "FINE"}, ["e1"]),
        ({"text": "slow"}, ["e3"]),
        ({"text": "%"}, ["e1"]),
        ({"text": "_"}, ["e2"]),
        ({"text": "cancelled"}, ["e6", "e4"]),
        ({"text": "stopped by user"}, ["e6", "e4"]),
        ({"text": "nowhere"}, []),
        ({"status": ExecutionStatus.FAILED, "task_id": TaskId("two"), "text": "pipe"}, ["e2"]),
        ({"status": ExecutionStatus.FAILED, "task_id": TaskId("one"), "text": "pipe"}, []),
    ]
    # The running one was made by the claimer under its default name.
    assert (await execution(store, "e7")).worker_id == "worker-1"

    for filter, found in expected:
        assert await _execution_ids(store, **filter) == found, filter


async def executions_come_in_pages(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_parallel_task()
    await stored(store, task)
    await queued(store, *(a_new_execution(f"execution-{number:02}") for number in range(23)))
    # Several start in the same millisecond, so that a page often ends inside a tie.
    for number in range(5):
        for claim in await claimed(store, limit=3, now=NOW + number // 2):
            await settled(store, claim)

    async def ask(page: PageRequest) -> Page[Execution]:
        return await store.list_executions(ExecutionFilter(), page)

    whole = list((await ask(WHOLE)).items)
    assert [one.listed_at for one in whole] == sorted((one.listed_at for one in whole), reverse=True)
    for size in (1, 4, 22, 23, 24):
        assert await _walk(ask, size) == whole
        assert await _numbered(ask, size, 23) == whole


async def a_filtered_list_has_pages_of_its_own(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task, other = a_parallel_task(), a_parallel_task("other")
    await stored(store, task, other)
    for number in range(9):
        await queued(store, a_new_execution(f"{number}", (task.id, other.id)[number % 2]))

    async def ask(page: PageRequest) -> Page[Execution]:
        return await store.list_executions(ExecutionFilter(task_id=other.id), page)

    assert [one.id for one in await _walk(ask, 1)] == ["7", "5", "3", "1"]
    assert [one.id for one in await _numbered(ask, 3, 4)] == ["7", "5", "3", "1"]


async def a_cursor_of_executions_is_steady_under_change(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_parallel_task()
    await stored(store, task)
    for number in range(6):
        await queued_ids(store, task, f"ended-{number}")
        for claim in await claimed(store, now=NOW + number):
            await settled(store, claim)
    first = await store.list_executions(ExecutionFilter(), PageRequest(size=3))

    await queued_ids(store, task, "new", "newer")
    await claimed(store, limit=1, now=NOW + DAY)
    rest = await store.list_executions(ExecutionFilter(), PageRequest(size=3, cursor=first.next_cursor))

    assert [one.id for one in (*first.items, *rest.items)] == [f"ended-{number}" for number in range(5, -1, -1)]
    assert (rest.total, rest.next_cursor) == (8, None)


async def an_unknown_execution_is_none(factory: StoreFactory) -> None:
    store = await factory.fresh()

    assert await store.get_execution(ExecutionId("nobody")) is None


async def a_list_shows_what_a_look_shows(factory: StoreFactory) -> None:
    store = await factory.fresh()
    await _a_day_of_work(store)
    await queued(store, *(a_new_execution(f"of {n}", "one", parameters=v) for n, v in enumerate(variety.OBJECTS)))

    for listed in await all_executions(store):
        assert_same(await execution(store, listed.id), listed)


# ── occurrences ──────────────────────────────────────────────────────────────────────────────────


async def _a_ledger(store: Store, task: Task) -> None:
    """Fifty minutes: 1-10 too old, 11-12 ran, then by turns skipped and ran, one range of three at the end."""
    skips = [Skip(NOW + MINUTE, NOW + 10 * MINUTE, 10, Reason.TOO_OLD)]
    skips += [Skip(NOW + n * MINUTE, NOW + n * MINUTE, 1, Reason.OVERLAP) for n in range(13, 47, 2)]
    skips += [Skip(NOW + 48 * MINUTE, NOW + 50 * MINUTE, 3, Reason.QUEUE_FULL)]
    runs = [NOW + n * MINUTE for n in (11, *range(12, 47, 2))]
    await store.apply_plans([a_plan(task, *runs, skips=skips)], NOW + HOUR)


async def the_ledger_is_told_newest_first(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task, other = a_parallel_task(), a_task("other")
    await stored(store, task, other)
    await _a_ledger(store, task)
    await store.apply_plans([a_plan(other, NOW + MINUTE)], NOW + MINUTE)
    await queued_ids(store, task, "asked for by a person")

    page = await store.list_occurrences(task.id, WHOLE)

    moments = [entry.scheduled_for for entry in page.items]
    assert moments == sorted(moments, reverse=True)
    assert page.total == len(page.items) == 38
    assert [(entry.count, entry.reason) for entry in page.items[:1]] == [(3, Reason.QUEUE_FULL)]
    assert page.items[-1].last == NOW + 10 * MINUTE
    assert {entry.verdict for entry in page.items} == set(Verdict)
    for entry in page.items:
        assert (entry.verdict is Verdict.RAN) == (entry.execution_id is not None) == (entry.reason is None)


async def the_ledger_comes_in_pages(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_parallel_task()
    await stored(store, task)
    await _a_ledger(store, task)

    async def ask(page: PageRequest) -> Page[LedgerEntry]:
        return await store.list_occurrences(task.id, page)

    whole = list((await ask(WHOLE)).items)
    for size in (1, 5, 37, 38, 39):
        assert await _walk(ask, size) == whole
        assert await _numbered(ask, size, 38) == whole


async def a_cursor_of_the_ledger_is_steady_under_change(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_task()
    await stored(store, task)
    made = a_plan(task, *(NOW + n * MINUTE for n in range(1, 6)))
    await store.apply_plans([made], NOW + HOUR)
    first = await store.list_occurrences(task.id, PageRequest(size=2))

    more = a_plan(task, NOW + 6 * MINUTE, NOW + 7 * MINUTE, cursor=made.cursor_after)
    await store.apply_plans([more], NOW + HOUR)
    rest = await store.list_occurrences(task.id, PageRequest(size=9, cursor=first.next_cursor))

    moments = [(entry.scheduled_for - NOW) // MINUTE for entry in (*first.items, *rest.items)]
    assert (moments, rest.total) == ([5, 4, 3, 2, 1], 7)


# ── statistics ───────────────────────────────────────────────────────────────────────────────────


async def an_empty_store_adds_up_to_nothing(factory: StoreFactory) -> None:
    store = await factory.fresh()

    expected = Statistics(
        total_tasks=0,
        enabled_tasks=0,
        running=0,
        queued=0,
        completed_today=0,
        failed_today=0,
        average_runtime=0,
        next_run_at=None,
    )
    assert_same(expected, await store.statistics(NOW))


async def statistics_equal_a_recount(factory: StoreFactory) -> None:
    store = await factory.fresh()
    await _a_day_of_work(store)
    await stored(store, a_task("off", enabled=False), a_task("paused", pause=Pause(since=NOW)))

    shown = await store.statistics(NOW + HOUR)

    assert (shown.total_tasks, shown.enabled_tasks) == (4, 3)
    assert (shown.running, shown.queued) == (1, 2)
    assert (shown.completed_today, shown.failed_today) == (2, 3)
    assert shown.average_runtime == SECOND, "what never started has no runtime"
    assert shown.next_run_at == NOW + MINUTE
    await assert_adds_up(store, now=NOW + HOUR)


async def today_begins_at_midnight_utc(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_parallel_task()
    await stored(store, task)
    midnight = day_start(NOW) + DAY
    for number, ended_at in enumerate((midnight - 2, midnight - 1, midnight, midnight + 1)):
        await queued_ids(store, task, f"{number}")
        (claim,) = await claimed(store, now=midnight - 10)
        await settled(store, claim, at=ended_at)

    before, after = await store.statistics(midnight - 1), await store.statistics(midnight + HOUR)

    assert (after.completed_today, after.average_runtime) == (2, 10)
    assert before.completed_today >= 2
    await assert_adds_up(store, now=midnight + HOUR)
