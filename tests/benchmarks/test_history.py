"""A history that was grown from a sample is one that the store could have written: all that reads it, or tidies it up,
finds it in order."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from benchmarks import history, marks
from benchmarks.subjects.ours import Peregrine
from peregrine.domain.execution import Cause, Execution, State
from peregrine.domain.ids import TaskId
from peregrine.domain.query import ExecutionFilter, ExecutionStatus, PageRequest
from peregrine.stores.sqlite.store import SqliteStore
from tests.stores.sqlite_places import is_counted, is_sound

pytestmark = pytest.mark.anyio

TASKS = [TaskId(f"t{n}") for n in range(100)]
SAMPLE = 400
SIZE = 20_001
"""More than one segment, more than one transaction, and no multiple of the sample."""


@pytest.fixture
async def grown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[SqliteStore, Path, int]]:
    """The store, its path and the moment before which all of its history lies."""
    monkeypatch.setattr(marks, "STARTS", [])
    monkeypatch.setattr(history, "AT_ONCE", 7_000)
    one, path = Peregrine(), tmp_path / "store.sqlite3"
    await one.open(tmp_path)
    await history.sample(one, SAMPLE)
    until = one.clock.now() - 1_000
    await one.close()
    history.grow(path, SIZE, until)
    await one.store.open()
    yield one.store, path, until
    await one.store.close()


async def test_what_is_counted_is_what_is_there(grown: tuple[SqliteStore, Path, int]) -> None:
    store, path, until = grown

    assert is_sound(path)
    assert is_counted(path)
    assert (await store.list_executions(ExecutionFilter(), PageRequest())).total == SIZE
    assert sum(one.tally.success_count for one in await store.get_tasks(TASKS)) == SIZE
    assert (await store.statistics(until)).queued == 0


@pytest.mark.parametrize(
    "sought",
    [
        ExecutionFilter(),
        ExecutionFilter(status=ExecutionStatus.COMPLETED),
        ExecutionFilter(cause=Cause.MANUAL),
        ExecutionFilter(task_id=TASKS[7]),
    ],
    ids=["all", "completed", "asked for", "one task"],
)
async def test_every_page_follows_the_one_before(grown: tuple[SqliteStore, Path, int], sought: ExecutionFilter) -> None:
    store, _, until = grown
    found: list[Execution] = []
    page = PageRequest(size=100)
    while True:
        shown = await store.list_executions(sought, page)
        found += shown.items
        if shown.next_cursor is None:
            break
        page = PageRequest(size=100, cursor=shown.next_cursor)

    assert len({one.id for one in found}) == len(found) == shown.total
    moments = [one.listed_at for one in found]
    assert moments == sorted(moments, reverse=True)
    assert until - history.SPAN <= moments[-1] < moments[0] < until
    assert {one.state for one in found} == {State.COMPLETED}
    for number in (1, len(found) // 2 // 100 + 1):
        by_number = await store.list_executions(sought, PageRequest(size=100, number=number))
        assert [one.id for one in by_number.items] == [one.id for one in found[(number - 1) * 100 :][:100]]


async def test_the_ledger_holds_what_a_schedule_made(grown: tuple[SqliteStore, Path, int]) -> None:
    store, *_ = grown

    # A task has every hundredth place; a quarter of all places, four times over, was asked for.
    totals = [(await store.list_occurrences(task, PageRequest())).total for task in TASKS]

    scheduled = await store.list_executions(ExecutionFilter(cause=Cause.SCHEDULE), PageRequest())
    assert sum(totals) == scheduled.total
    assert scheduled.total == pytest.approx(SIZE * (1 - 1 / history.ASKED_FOR), rel=0.01)


async def test_retention_takes_all_of_it_away(grown: tuple[SqliteStore, Path, int]) -> None:
    store, path, until = grown
    removed = 0
    while bite := (await store.purge(before=until, limit=5_000))[0]:
        removed += bite
        assert is_counted(path)

    assert removed == SIZE
    assert (await store.list_executions(ExecutionFilter(), PageRequest())).total == 0


async def test_what_takes_the_same_on_both_is_once_as_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole scene, small: the history is no larger than what is worked off beside it."""
    monkeypatch.setattr(marks, "STARTS", [])
    for name, small in (("SAMPLE", 100), ("BATCH", 200), ("ROUNDS", 1), ("LOOKS", 1)):
        monkeypatch.setattr(history, name, small)

    seen = await history.compared(tmp_path, 500)

    kinds = ("runs", "list", "page", "stats", "task")
    assert {f"{kind}_{what}" for kind in kinds for what in ("ratio", "cpu_ratio")} < seen.keys()
    assert all(value >= 0 for value in seen.values())


async def test_a_disk_without_room_is_told_and_not_filled(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="GB are needed"):
        await history.compared(tmp_path, 10**15)

    assert not os.listdir(tmp_path)
