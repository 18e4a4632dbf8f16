"""A page by its number costs what the first one does, however far it lies; and it is the page that cursors lead to."""

from __future__ import annotations

import random
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from peregrine.domain.execution import AttemptOutcome, ExecutionOutcome
from peregrine.domain.ids import TaskId
from peregrine.domain.moment import MINUTE, SECOND
from peregrine.domain.occurrence import Reason, Skip
from peregrine.domain.query import (
    PAGE_SIZE,
    PAGE_SIZE_MAX,
    ExecutionFilter,
    ExecutionStatus,
    PageRequest,
    TaskFilter,
    TaskSort,
)
from peregrine.ports.records import Record
from peregrine.stores.sqlite import history
from peregrine.testing.builders import NOW, a_claim_request, a_parallel_task, a_plan, a_settlement
from tests.stores.sqlite_places import CountedStore, is_counted, quick_folder

pytestmark = pytest.mark.anyio

TURN = 500
TURNS = 44
SKIPS = 60
"""So many ranges a turn that did not run."""
SOME = 7
"""So many executions a turn of a task that has few among all."""
ENDS = {AttemptOutcome.SUCCEEDED: 8, AttemptOutcome.CANCELLED: 1, AttemptOutcome.FAILED: 1}
"""How often an attempt ends so; what failed is tried again."""
LEFT = 20
"""So many wait at the end of a turn, beside what is tried again."""
WITHIN_A_TURN = 10_000
"""A turn's executions share a moment, so their order is looked up."""
MORE = {"ledger": 2}
LISTS = {
    "all": ExecutionFilter(),
    "completed": ExecutionFilter(status=ExecutionStatus.COMPLETED),
    "succeeded": ExecutionFilter(outcome=ExecutionOutcome.SUCCEEDED),
    "failed": ExecutionFilter(status=ExecutionStatus.FAILED),
    "one task": ExecutionFilter(task_id=TaskId("some")),
}


@pytest.fixture(scope="module")
async def store() -> AsyncIterator[CountedStore]:
    """A busy task and one with few executions, over some hours, by clocks that disagree; some runs failed, some were
    tried again much later, some wait, some never started."""
    with tempfile.TemporaryDirectory(dir=quick_folder()) as folder:
        path = Path(folder) / "store.db"
        store = CountedStore(path)
        await store.open()
        await store.create_tasks([a_parallel_task("busy"), a_parallel_task("some")])
        chance = random.Random(7)
        for turn in range(TURNS):
            await live(store, turn, chance)
        yield store
        await store.close()
        assert is_counted(path)


async def live(store: CountedStore, turn: int, chance: random.Random) -> None:
    start = NOW + turn * TURN * MINUTE
    for id, count in (("busy", TURN), ("some", SOME)):
        view = await store.get_task(TaskId(id))
        assert view is not None
        moments = [start + (number + 1) * MINUTE for number in range(count)]
        gaps = [moment + SECOND for moment in moments[:SKIPS]]
        skips = [Skip(first=gap, last=gap, count=1, reason=Reason.OVERLAP) for gap in gaps]
        await store.apply_plans([a_plan(view.task, *moments, skips=skips, cursor=view.cursor)], start)
    now = start + (TURN + chance.randint(0, 600)) * MINUTE
    waiting = await store.list_executions(ExecutionFilter(status=ExecutionStatus.PENDING), PageRequest())
    await store.request_cancel(execution_id=waiting.items[0].id, now=now)
    claims = (await store.claim(a_claim_request(waiting.total - LEFT, now=now))).claims
    ends = chance.choices(list(ENDS), list(ENDS.values()), k=len(claims))
    await store.settle([a_settlement(claim, end) for claim, end in zip(claims, ends, strict=True)])


async def shown(store: CountedStore, name: str, page: PageRequest) -> tuple[Sequence[object], str | None]:
    """What a page of a list shows, and the cursor behind it."""
    if name == "ledger":
        lines = await store.list_occurrences(TaskId("busy"), page)
        return lines.items, lines.next_cursor
    found = await store.list_executions(LISTS[name], page)
    return found.items, found.next_cursor


async def everything(store: CountedStore, name: str) -> list[object]:
    """The whole list, as its cursors lead."""
    found, cursor = await shown(store, name, PageRequest(size=PAGE_SIZE_MAX))
    whole = [*found]
    while cursor is not None:
        found, cursor = await shown(store, name, PageRequest(size=PAGE_SIZE_MAX, cursor=cursor))
        whole += found
    return whole


async def steps(store: CountedStore, name: str, number: int) -> int:
    """What a page costs, in steps of SQLite's machine, once it is known how."""
    store.forget()
    items, _ = await shown(store, name, PageRequest(number=number))
    assert len(items) == PAGE_SIZE
    return store.reading


@pytest.mark.parametrize("name", [*LISTS, "ledger"])
async def test_a_page_by_its_number_is_where_cursors_lead(
    store: CountedStore, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_FAR", 3)
    whole = await everything(store, name)

    for number in [*range(1, 40), *range(40, len(whole) // 7 + 3, 97)]:
        items, cursor = await shown(store, name, PageRequest(number=number, size=7))

        assert list(items) == whole[(number - 1) * 7 : number * 7]
        assert (cursor is None) == (number * 7 >= len(whole))


@pytest.mark.parametrize("name", [*LISTS, "ledger"])
async def test_a_far_page_costs_what_the_first_one_does(store: CountedStore, name: str) -> None:
    last = len(await everything(store, name)) // PAGE_SIZE

    first, far = await steps(store, name, 1), await steps(store, name, last)

    assert far <= first * MORE.get(name, 1) + WITHIN_A_TURN


async def test_a_cursor_down_the_shelf_costs_what_its_top_does(folder: Path) -> None:
    store = CountedStore(folder / "store.db")
    await store.open()
    for number in range(500):
        record = Record(collection="audit", key=f"{number:03}")
        await store.put_record(record, expected_revision=None, now=NOW)
    costs = []
    for before in ("", "020"):
        store.forget()
        found = await store.list_records("audit", after=before, limit=10, now=NOW, newest_first=True)
        costs.append(store.reading)
        assert len(found) == 10
    await store.close()

    assert costs[1] <= costs[0] + 10


async def test_a_task_on_the_way_to_a_far_page_is_not_looked_at(folder: Path) -> None:
    store = CountedStore(folder / "store.db")
    await store.open()
    await store.create_tasks([a_parallel_task(f"task-{number:04}") for number in range(2_000)])
    costs = []
    for number in (1, 100):
        store.forget()
        page = await store.list_tasks(
            TaskFilter(), PageRequest(number=number), sort=TaskSort.NAME, descending=False, now=NOW
        )
        assert page.items[0].task.id == f"task-{(number - 1) * PAGE_SIZE:04}"
        costs.append(store.reading)
    await store.close()

    assert costs[1] - costs[0] <= 4 * 2_000
