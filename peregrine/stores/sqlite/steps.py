"""Owns the steps that several verbs take: numbers for ids, rows for batches, entering the queue; not: any verb."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final, TypeVar

import apsw

from peregrine.domain.execution import Attempt, Execution, NewExecution
from peregrine.domain.ids import TaskId
from peregrine.domain.moment import Moment
from peregrine.domain.task import Task
from peregrine.stores.sqlite import rows
from peregrine.stores.sqlite.definitions import Definitions
from peregrine.stores.sqlite.queries import SQL, SQL_FOR_ONE, for_rows
from peregrine.stores.sqlite.rows import Row

Item = TypeVar("Item")

ROWS_MAX: Final = 256
"""Rows that one statement takes at most. Fewer go by powers of two: so few forms that all stay prepared."""


def integers(numbers: Iterable[int]) -> array[int]:
    """*numbers* in the form that ``carray`` takes; it must not be given an empty one."""
    return array("q", numbers)


def number(db: apsw.Connection, text: str, values: Mapping[str, Any] | Sequence[Any] = ()) -> int:
    """The one number that a query gives."""
    row = db.execute(text, values).fetchone()
    assert row is not None
    found: int = row[0]
    return found


def told(db: apsw.Connection, text: str, values: Sequence[Any]) -> list[Any]:
    """What a query tells that gives all of it as one JSON text: one step of SQLite, however much it is."""
    row = db.execute(text, values).fetchone()
    assert row is not None
    return rows.json_list(row[0])


def by_texts(db: apsw.Connection, query: str, texts: Sequence[str]) -> list[Any]:
    """What a query of that kind tells of a list of texts."""
    texts = tuple(map(str, texts))
    if len(texts) == 1 or any("\0" in text for text in texts):
        # Such a list can't hold a NUL; and one text by itself is quicker without.
        return [row for text in texts for row in told(db, SQL_FOR_ONE[query], (text,))]
    return told(db, SQL[query], (apsw.carray(texts),)) if texts else []


def write_rows(db: apsw.Connection, statement: str, batch: Sequence[Row]) -> None:
    """Work off *batch*, all of one width, with a statement that has places for ``{rows}``.

    SQLite lets go of the interpreter's lock for each step, and wins it back from a busy loop only after a while; so a
    batch is a few steps, not one a row.
    """
    start, left = 0, len(batch)
    while left:
        size = min(ROWS_MAX, 1 << (left.bit_length() - 1))
        values = chain.from_iterable(batch[start : start + size])
        db.execute(for_rows(statement, size, len(batch[start])), tuple(values))
        start, left = start + size, left - size


def number_of(db: apsw.Connection, of: str, id: str) -> int:
    """The number of the id of a ``task`` or ``worker``, made if it has none."""
    found = db.execute(SQL[f"{of}_number"], (id,)).fetchone()
    return number(db, SQL[f"add_{of}_number"], (id,)) if found is None else found[0]


def tasks_of(
    db: apsw.Connection, definitions: Definitions, stamps: Iterable[int], *, shared: bool = False
) -> dict[int, Task]:
    """The tasks of *stamps*; those not known yet are read in one go. *shared*: they are only read, by several."""
    known = definitions.shared if shared else definitions.task
    found = {stamp: known(stamp) for stamp in stamps}
    missing = [stamp for stamp, task in found.items() if task is None]
    if missing:
        for stamp, text in db.execute(SQL["definitions"], (apsw.carray(integers(missing)),)):
            found[stamp] = definitions.learn(stamp, text)
    return {stamp: task for stamp, task in found.items() if task is not None}


def without_repetition(items: Sequence[Item], ids: Sequence[str]) -> Iterator[tuple[Sequence[Item], Sequence[int]]]:
    """*items* in runs within which no id comes twice, so that each run can be worked off as a whole, in order."""
    if len(set(ids)) == len(ids):
        yield items, range(len(items))
        return
    seen: set[str] = set()
    start = 0
    for index, id in enumerate(ids):
        if id in seen:
            yield items[start:index], range(start, index)
            start = index
            seen.clear()
        seen.add(id)
    yield items[start:], range(start, len(items))


def executions_of(db: apsw.Connection, seqs: Sequence[int]) -> dict[int, Execution]:
    """Executions as readers see them, by number."""
    if not seqs:
        return {}
    wanted = apsw.carray(integers(seqs))
    found = list(db.execute(SQL["executions"], (wanted,)))
    apart: dict[int, list[Attempt]] = {}
    # One that was tried once and has ended, or runs, has nothing apart; that is nearly all of them.
    if any(row[12] > 1 or (row[12] == 1 and row[22] is None) for row in found):
        for row in db.execute(SQL["attempts"], (wanted,)):
            apart.setdefault(row[0], []).append(rows.attempt_apart(row))
    return {row[0]: rows.execution(row, apart.get(row[0], ())) for row in found}


def queue_up(db: apsw.Connection, news: Sequence[NewExecution], known: Mapping[TaskId, int]) -> None:
    """Queue *news*; one whose key exists is left as it is, and one whose task is gone could never run."""
    if not news:
        return
    strange = tuple({new.task_id for new in news} - known.keys())
    numbers = known
    if strange:
        numbers = {**known, **dict(by_texts(db, "numbers_of_tasks", strange))}
    before = db.total_changes()
    write_rows(
        db, "add_execution", [rows.execution_row(new, numbers[new.task_id]) for new in news if new.task_id in numbers]
    )
    made = db.total_changes() - before
    if made:
        _spread_scheduled(db, db.last_insert_rowid(), made, news)
        count_queued(db, made)


def _spread_scheduled(db: apsw.Connection, last: int, made: int, news: Sequence[NewExecution]) -> None:
    """Widen the bounds of the segments in which the *made* newest executions lie."""
    moments = [new.scheduled_for for new in news if new.scheduled_for is not None]
    bounds = (min(moments), max(moments)) if moments else (rows.INTEGER_MAX, rows.INTEGER_MIN)
    for segment in range(segment_of(last - made + 1), segment_of(last) + 1):
        db.execute(SQL["spread_scheduled"], (segment, *bounds))


def spread_listed(db: apsw.Connection, seqs: Iterable[int], first: Moment, last: Moment) -> None:
    """Widen the bounds of the segments in which *seqs* lie, listed from *first* to *last*."""
    for segment in {segment_of(seq) for seq in seqs}:
        db.execute(SQL["spread_listed"], (segment, first, last))


def segment_of(seq: int) -> int:
    return seq >> rows.SEGMENT_BITS


def count_queued(db: apsw.Connection, more: int) -> None:
    if more:
        db.execute(SQL["count_queued"], (more,))
