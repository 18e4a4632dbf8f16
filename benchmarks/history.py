"""What a long history costs: the same small pieces of work on a store that has one and on a store that has none.

A history of millions is not worked off but grown: a sample is, and its rows are repeated, each at a moment of its own,
over the month that is kept by default. What the store counts by the way (segments, stretches, days, tallies) is counted
anew from them, as a migration does.

Both stores are asked in turn, many times, in one process: what a neighbour takes falls on both. Each pair gives a
ratio, and the median of them is told.
"""

from __future__ import annotations

import asyncio
import math
import os
import shutil
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

import apsw

from benchmarks import marks
from benchmarks.subjects.ours import QUEUE_MAX, Peregrine
from benchmarks.subjects.processes import own_time

SAMPLE: Final = 16_384
BATCH: Final = 2_000
"""Runs that are worked off at once."""
ROUNDS: Final = 15
LOOKS: Final = 25
"""How often a list is asked for in each round."""
PAGE: Final = 50
PATIENCE: Final = 120.0
DAY: Final = 86_400_000
SPAN: Final = 30 * DAY
"""Milliseconds over which the history is spread."""
AT_ONCE: Final = 2**18
"""Rows in one transaction."""
BYTES_EACH: Final = 400
"""Room on the disk for each execution, its log and its indexes included, with some to spare."""
ASKED_FOR: Final = 4
"""One in so many was asked for by somebody, the others by a schedule."""

_MOVED: Final = ("queued_at", "available_at", "rank", "started_at", "completed_at", "listed_at")
_MADE: Final = {
    "seq": "number",
    "id": "printf('%08x-%04x-7000-8000-%012x', at >> 16, at & 65535, number)",
    "occurrence": "CASE WHEN occurrence IS NOT NULL THEN at / 1000 END",
    "key": "key || ':' || number",
    "scheduled_for": "CASE WHEN scheduled_for IS NOT NULL THEN at / 1000 * 1000 END",
} | {name: f"{name} + at - listed_at" for name in _MOVED}
"""What is different in each repetition; all else stays as it was."""
_COUNTED: Final = """
DELETE FROM segments; DELETE FROM stretches; DELETE FROM days;
INSERT INTO segments SELECT seq >> 13, min(listed_at), max(listed_at),
    ifnull(min(scheduled_for), 9223372036854775807), ifnull(max(scheduled_for), -9223372036854775807 - 1)
FROM executions GROUP BY 1;
INSERT INTO stretches SELECT listed_at - listed_at % 300000, count(*), count(*), 0 FROM executions GROUP BY 1;
INSERT INTO days SELECT completed_at - completed_at % 86400000, count(*), 0, count(*), sum(completed_at - started_at)
FROM executions GROUP BY 1;
UPDATE task_progress SET total_runs = its.many, success_count = its.many, runtime_total = its.runtime,
    last_run_at = its.newest
FROM (SELECT task_no, count(*) AS many, sum(completed_at - started_at) AS runtime, max(started_at) AS newest
    FROM executions GROUP BY 1) its WHERE its.task_no = task_progress.no;
"""
"""All of the sample has succeeded, and so has all of the history."""


def grow(path: Path, size: int, until: int) -> None:
    """Replace what stands in the closed store at *path*, all of which has succeeded, by *size* repetitions of it.

    The last of them is listed a little before the moment *until*, in milliseconds.
    """
    db = apsw.Connection(str(path))
    try:
        db.pragma("journal_mode", "off")  # a store that was only made to be measured may break
        db.pragma("synchronous", "off")
        db.pragma("cache_size", -262_144)
        names = [str(row[1]) for row in db.execute("PRAGMA table_info (executions)")]
        db.execute(
            "CREATE TEMP TABLE sample AS SELECT row_number() OVER (ORDER BY seq) - 1 AS place, * FROM executions"
        )
        (many,) = next(iter(db.execute("SELECT count(*) FROM sample")))
        db.execute("CREATE UNIQUE INDEX sample_by_place ON sample (place); DELETE FROM executions")
        values = ", ".join(_MADE.get(name, name) for name in names)
        # A subquery that nobody may look into: else its `seq` and `at` would be worked out once for each use.
        text = f"""
            WITH RECURSIVE numbers (number) AS (
                SELECT :first UNION ALL SELECT number + 1 FROM numbers WHERE number < :last)
            INSERT INTO executions ({", ".join(names)}) SELECT {values} FROM (
                SELECT number, :until - (:size - number + 1) * :span / :size AS at, s.*
                FROM numbers CROSS JOIN sample s ON s.place = number % :many LIMIT -1)"""
        for first in range(1, size + 1, AT_ONCE):
            last = min(first + AT_ONCE - 1, size)
            bounds = {"first": first, "last": last, "until": until, "size": size, "span": SPAN, "many": many}
            with db:
                db.execute(text, bounds)
        with db:
            db.execute(_COUNTED)
    finally:
        db.close()
    with path.open("rb") as file:
        os.fsync(file.fileno())  # or the system writes it out while the store is measured


async def sample(one: Peregrine, count: int) -> None:
    """Work off so many, most of them by a schedule."""
    from peregrine.testing.builders import a_new_execution, an_occurrence

    now, new = one.clock.now(), []
    tasks = await one.tasks()
    for number in range(count):
        task = tasks[number % len(tasks)]
        moment = (now // 1_000 - number // len(tasks)) * 1_000
        asked = a_new_execution(f"sample{number}", task.id, queued_at=moment, available_at=moment)
        new.append(an_occurrence(task, moment) if number % ASKED_FOR else asked)
    for start in range(0, count, 1_000):
        await asyncio.gather(*(one.store.enqueue(each, queue_limit=QUEUE_MAX) for each in new[start : start + 1_000]))
    await _run(one, count)


async def _run(one: Peregrine, count: int) -> None:
    """Let an engine live until so many more runs are recorded."""
    before, begun = await one.recorded(), marks.look()
    await one.go()
    await marks.reached(begun + count, PATIENCE)
    await one.until_recorded(before + count)
    await one.engine.stop()


@dataclass(slots=True)
class Kept:
    """One of the two stores: what it is asked, and how long each of the answers took, on the wall and the processor."""

    one: Peregrine
    runs: int
    """How many its history holds."""
    took: dict[str, list[float]] = field(default_factory=dict)
    spent: dict[str, list[float]] = field(default_factory=dict)

    async def work_off(self) -> None:
        """A batch: from the start of an engine until all is recorded and it has ended."""
        await self.one.add_due(BATCH)
        await self.one.store.maintain()  # what was queued is folded into the file before the clock starts
        await self._measure("runs", lambda: _run(self.one, BATCH))

    async def look(self, at: str) -> None:
        """The newest executions, some in the middle of all, the newest of one task, or the statistics."""
        from peregrine.domain.ids import TaskId
        from peregrine.domain.query import ExecutionFilter, PageRequest

        if at == "stats":
            await self._measure(at, lambda: self.one.store.statistics(self.one.clock.now()))
            return
        filter = ExecutionFilter(task_id=TaskId("t7") if at == "task" else None)
        page = PageRequest(size=PAGE, number=self.runs // 2 // PAGE if at == "page" else 1)
        await self._measure(at, lambda: self.one.store.list_executions(filter, page))

    async def _measure(self, name: str, work: Callable[[], Awaitable[object]]) -> None:
        spent, began = own_time(), time.perf_counter()
        await work()
        self.took.setdefault(name, []).append(time.perf_counter() - began)
        self.spent.setdefault(name, []).append(own_time() - spent)


async def compared(folder: Path, size: int) -> dict[str, float]:
    """Ratios of the store with so many ended executions to the one without, and how long a page takes."""
    free = shutil.disk_usage(folder).free
    if free < size * BYTES_EACH:
        raise SystemExit(f"{size * BYTES_EACH / 1e9:.0f} GB are needed in {folder.parent}, {free / 1e9:.0f} are free")
    began = time.perf_counter()
    path = folder / "full"
    one = Peregrine()
    await one.open(path)
    await sample(one, SAMPLE)
    until = one.clock.now() - 600_000
    await one.close()
    await asyncio.to_thread(grow, path / "store.sqlite3", size, until)
    full, empty = Kept(Peregrine(), size), Kept(Peregrine(), BATCH)
    await full.one.open(path)
    await empty.one.open(folder / "empty")
    filled = time.perf_counter() - began
    for number in range(ROUNDS + 1):
        both = (empty, full) if number % 2 else (full, empty)
        for kept in both:
            await kept.work_off()
        for at in ("list", "page", "stats", "task"):
            for look in range(LOOKS):
                for kept in both if look % 2 else reversed(both):
                    await kept.look(at)
        if number == 0:  # the first round only warms both
            for kept in both:
                kept.took.clear()
                kept.spent.clear()
    for kept in (full, empty):
        await kept.one.close()
    seen = {"fill_s": filled, "page_ms": median(full.took["list"]) * 1_000}
    for name in full.took:
        seen[f"{name}_ratio"] = _times(full.took[name], empty.took[name])
        seen[f"{name}_cpu_ratio"] = _times(full.spent[name], empty.spent[name])
    return seen


def _times(some: Sequence[float], others: Sequence[float]) -> float:
    """How many times as much the one is as the other that was measured beside it: the median of all such pairs."""
    # A coarse clock of the processor may have seen nothing of one.
    return median([one / other for one, other in zip(some, others, strict=True) if other] or [math.nan])
