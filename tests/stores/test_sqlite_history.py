"""A long history is read as exactly as a short one, and slows nothing: no query of the spine looks through it."""

from __future__ import annotations

import random
import re
import tempfile
from array import array
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest

from peregrine.domain.execution import Cause, Execution, State
from peregrine.domain.ids import WorkerId
from peregrine.domain.moment import MINUTE, SECOND
from peregrine.domain.occurrence import LedgerEntry
from peregrine.domain.policy import Priority
from peregrine.domain.query import PAGE_SIZE_MAX, ExecutionFilter, ExecutionStatus, PageRequest
from peregrine.domain.task import Task
from peregrine.ports.store import Store
from peregrine.stores.sqlite import claiming, history, migrate, rows
from peregrine.stores.sqlite.connection import open_connection
from peregrine.stores.sqlite.queries import SQL, load
from peregrine.stores.sqlite.store import SqliteStore
from peregrine.testing.builders import NOW, a_claim_request, a_parallel_task, a_plan, a_settlement
from tests.stores.sqlite_places import ROOT, a_store, quick_folder

pytestmark = pytest.mark.anyio

SEGMENT = 2**rows.SEGMENT_BITS
TABLES = ("segments", "executions", "days", "results", "stretches")
BATCH = 1_000


@pytest.fixture(scope="module")
async def long() -> AsyncIterator[tuple[SqliteStore, Task, Task]]:
    """A store with three segments: a busy task, and one that ran a few times in between.

    They were claimed with clocks that disagree, so what started is not in the order in which it was made.
    """
    with tempfile.TemporaryDirectory(dir=quick_folder()) as folder:
        store = a_store(Path(folder) / "store.db")
        await store.open()
        busy, rare = a_parallel_task("busy"), a_parallel_task("rare")
        await store.create_tasks([busy, rare])
        chance = random.Random(5)
        for turn in range(2 * SEGMENT // BATCH + 1):
            await worked_off(store, busy, rare, turn, chance)
        yield store, busy, rare
        await store.close()


async def worked_off(store: Store, busy: Task, rare: Task, turn: int, chance: random.Random) -> None:
    start = NOW + turn * BATCH * MINUTE
    for task, count in ((busy, BATCH), (rare, 3)):
        view = await store.get_task(task.id)
        assert view is not None
        moments = [start + (number + 1) * MINUTE for number in range(count)]
        await store.apply_plans([a_plan(task, *moments, cursor=view.cursor)], start)
    # Beyond the last moment, since what is not available yet is not claimed.
    now = NOW + 10**6 * MINUTE + chance.randint(0, 20) * SECOND
    claims = (await store.claim(a_claim_request(2 * BATCH, now=now))).claims
    await store.settle([a_settlement(claim) for claim in claims if chance.random() < 0.999])


async def every_execution(store: Store, **sought: object) -> list[Execution]:
    found: list[Execution] = []
    page = PageRequest(size=PAGE_SIZE_MAX)
    while True:
        shown = await store.list_executions(ExecutionFilter(**sought), page)  # type: ignore[arg-type]
        found += shown.items
        if shown.next_cursor is None:
            assert shown.total == len(found)
            return found
        page = PageRequest(size=PAGE_SIZE_MAX, cursor=shown.next_cursor)


async def every_line(store: Store, task: Task) -> list[LedgerEntry]:
    found: list[LedgerEntry] = []
    page = PageRequest(size=PAGE_SIZE_MAX)
    while True:
        shown = await store.list_occurrences(task.id, page)
        found += shown.items
        if shown.next_cursor is None:
            assert shown.total == len(found)
            return found
        page = PageRequest(size=PAGE_SIZE_MAX, cursor=shown.next_cursor)


@pytest.mark.parametrize("which", ["busy", "rare"])
async def test_one_task_s_history_is_a_part_of_the_whole_in_the_same_order(
    long: tuple[SqliteStore, Task, Task], which: str
) -> None:
    store, *_ = long
    everything = await every_execution(store)
    assert [e.id for e in everything] == [
        e.id for e in sorted(everything, key=lambda e: (e.listed_at, e.id), reverse=True)
    ]

    found = await every_execution(store, task_id=which)

    assert [e.id for e in found] == [e.id for e in everything if e.task_id == which]


async def test_filters_hold_across_segments(long: tuple[SqliteStore, Task, Task]) -> None:
    store, *_ = long
    everything = await every_execution(store, task_id="busy")

    running = await every_execution(store, task_id="busy", status=ExecutionStatus.RUNNING)

    assert [e.id for e in running] == [e.id for e in everything if e.state is State.RUNNING]
    assert running


@pytest.mark.parametrize("which", [1, 2], ids=["busy", "rare"])
async def test_the_ledger_is_whole_across_segments(long: tuple[SqliteStore, Task, Task], which: int) -> None:
    store, task = long[0], long[which]
    assert isinstance(task, Task)
    expected = sorted(
        (e.scheduled_for for e in await every_execution(store, task_id=task.id) if e.scheduled_for), reverse=True
    )

    assert [line.scheduled_for for line in await every_line(store, task)] == expected


FILTERS = [
    pytest.param({}, id="all"),
    pytest.param({"task_id": "busy"}, id="one task"),
    pytest.param({"status": ExecutionStatus.COMPLETED}, id="a state"),
    pytest.param({"cause": Cause.SCHEDULE, "worker_id": WorkerId("worker-1")}, id="cause and worker"),
]


@pytest.mark.parametrize("many", [1_000, history._LOOKS_MAX], ids=["by index", "by segments"])
@pytest.mark.parametrize("sought", FILTERS)
async def test_a_page_by_number_is_the_same_page(
    long: tuple[SqliteStore, Task, Task], sought: dict[str, object], many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of these executions started at the same moment, so where a page begins is told by ids alone."""
    monkeypatch.setattr(history, "_LOOKS_MAX", many)
    store, *_ = long
    everything = await every_execution(store, **sought)

    for number in (3, 120, 163, 900):
        request = PageRequest(number=number, size=100)
        shown = await store.list_executions(ExecutionFilter(**sought), request)  # type: ignore[arg-type]

        assert [e.id for e in shown.items] == [e.id for e in everything[request.offset :][:100]]


@pytest.mark.parametrize("sought", FILTERS)
async def test_a_search_for_a_text_stops_early_and_its_cursor_goes_on(
    long: tuple[SqliteStore, Task, Task], sought: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_LOOKS_MAX", 1_000)
    store, *_ = long
    everything = [e.id for e in await every_execution(store, **sought) if e.output == "done"]
    filter = ExecutionFilter(text="DON", **sought)  # type: ignore[arg-type]

    first = page = await store.list_executions(filter, PageRequest(size=PAGE_SIZE_MAX))
    found = [e.id for e in page.items]
    while page.next_cursor is not None:
        page = await store.list_executions(filter, PageRequest(size=PAGE_SIZE_MAX, cursor=page.next_cursor))
        found += [e.id for e in page.items]

    assert found == everything
    assert 0 < first.total < len(everything)
    assert not first.total_exact


async def test_a_text_that_nobody_wrote_is_not_looked_for_in_all_of_history(
    long: tuple[SqliteStore, Task, Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_LOOKS_MAX", 1_000)
    store, *_ = long

    page = await store.list_executions(ExecutionFilter(text="nowhere"), PageRequest())

    assert (list(page.items), page.total, page.total_exact) == ([], 0, False)
    assert page.next_cursor is not None


async def test_a_purge_leaves_no_empty_segment(folder: Path) -> None:
    store = a_store(folder / "store.db")
    await store.open()
    task = a_parallel_task()
    await store.create_tasks([task])
    await store.apply_plans([a_plan(task, NOW + MINUTE)], NOW)
    (claim,) = (await store.claim(a_claim_request(now=NOW + MINUTE))).claims
    await store.settle([a_settlement(claim)])

    assert await store.purge(before=NOW + 10 * MINUTE, limit=10) == (1, 0)

    await store.close()
    db = open_connection(folder / "store.db")
    left = {table: list(db.execute(f"SELECT * FROM {table}")) for table in TABLES}
    db.close()
    assert left == {table: [] for table in TABLES}


# ── the statements themselves ────────────────────────────────────────────────────────────────────

MAY_LOOK_THROUGH = {
    "count_all_records": "a move counts all there is",
    "count_all_tasks": "one row",
    "count_ended": "a row for each day",
    "count_newer_of_ledger": "a sum of two counts",
    "count_tasks": "up to a bound",
    "counts_of_task": "a row for 8,192 executions",
    "drop_empty_days": "a row for each day",
    "instances": "a row for each process",
    "lay_skip": "one row of its own making",
    "segments": "a row for 8,192 executions",
    "segments_listed": "a row for 8,192 executions",
    "segments_scheduled": "a row for 8,192 executions",
    "statistics": "one row",
    "pieces_of_ledger": "a row for 8,192 executions",
    "pieces_of_task": "a row for 8,192 executions",
    "strayed": "once a clock was wrong",
    "queued": "one row",
    "waiting": "what each class gave",
    "count_queued": "one row",
    "ping": "one row",
}
QUERIES = [name for name, text in SQL.items() if text.startswith(("SELECT", "INSERT", "UPDATE", "DELETE"))]
PARTS = {
    "conditions": "1",
    "counted": "listed",
    "joined": "",
    "indexed": "",
    "classes": "SELECT 1 AS seq, 1 AS available_at, 1 AS rank, 1 AS stamp, 1 AS overlaps",
    "priority": "1",
    "ahead": "60000",
    "place": "t.updated_at",
    "order": "t.updated_at, t.id",
}


def plan_of(db: apsw.Connection, text: str) -> list[str]:
    """The steps that SQLite would take."""
    if "{rows}" in text:
        places = re.findall(r"column(\d+)", text) or range(1, text.split(")", 1)[0].count(",") + 2)
        text = text.replace("{rows}", ", ".join([f"({', '.join('1' * max(map(int, places)))})"] * 2))
    for part, example in PARTS.items():
        text = text.replace(f"{{{part}}}", example)
    numbers = apsw.carray(array("q", [1]))
    named = {name: numbers if name == "segments" else 1 for name in re.findall(r":(\w+)", text)}
    most = max((int(number) for number in re.findall(r"\?(\d+)", text)), default=0)
    numbered = [numbers if f"carray(?{number})" in text else 1 for number in range(1, most + 1)]
    return [str(row[3]) for row in db.execute("EXPLAIN QUERY PLAN " + text, named or numbered)]


@pytest.mark.parametrize("name", QUERIES)
def test_no_query_looks_through_a_table(name: str, folder: Path) -> None:
    migrate.create(folder / "store.db", migrate.migrations())
    db = open_connection(folder / "store.db")

    steps = plan_of(db, SQL[name])

    db.close()
    whole = [
        step
        for step in steps
        if re.match(r"SCAN (?!carray|[cr]\b|\d+-ROW VALUES|json_each|\()", step) and " USING " not in step
    ]
    assert not whole or name in MAY_LOOK_THROUGH, whole


def test_each_class_is_read_in_the_order_of_its_index(folder: Path) -> None:
    """What was taken of each is sorted, not what waits."""
    migrate.create(folder / "store.db", migrate.migrations())
    db = open_connection(folder / "store.db")

    steps = plan_of(db, claiming.WAITING)

    db.close()
    walked = "SEARCH e USING COVERING INDEX executions_waiting (priority=? AND available_at<?)"
    assert steps.count(walked) == len(Priority)
    assert sum("TEMP B-TREE" in step for step in steps) == len(Priority)


def test_every_query_is_asked_by_somebody() -> None:
    sources = "".join(file.read_text() for file in (ROOT / "peregrine" / "stores" / "sqlite").glob("*.py"))
    # Made of two words where it is asked.
    made = {"task_number", "worker_number", "add_task_number", "add_worker_number"}

    assert [name for name in SQL if f'"{name}"' not in sources and name not in made] == []


def test_what_has_places_for_rows_is_given_rows() -> None:
    sources = "".join(file.read_text() for file in (ROOT / "peregrine" / "stores" / "sqlite").glob("*.py"))

    assert [name for name, text in SQL.items() if "{rows}" in text and f'SQL["{name}"]' in sources] == []


def test_a_query_needs_a_name_of_its_own_and_a_description() -> None:
    good = "-- name: one\n-- Says so.\nSELECT 1;\n"

    assert load(good) == {"one": "SELECT 1"}
    with pytest.raises(AssertionError, match="two queries"):
        load(good + good)
    with pytest.raises(AssertionError, match="without description"):
        load("-- name: one\nSELECT 1;\n")


def test_the_schema_and_the_code_mean_the_same_segments() -> None:
    texts = [*migrate.migrations(), *SQL.values()]

    assert {int(bits) for text in texts for bits in re.findall(r">> (\d+)", text)} == {rows.SEGMENT_BITS}
    assert f"+ {SEGMENT - 1})" in SQL["drop_empty_segment"]
