"""Owns the operations on definitions; must not know attempts or history."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import apsw

from peregrine.domain.errors import Conflict, NotFound, Stale
from peregrine.domain.ids import ExecutionId, TaskId
from peregrine.domain.moment import Moment
from peregrine.domain.planning import Plan
from peregrine.domain.query import (
    COUNT_MAX,
    Page,
    PageRequest,
    TaskFilter,
    TaskSort,
    TaskStatus,
    read_cursor,
    write_cursor,
)
from peregrine.domain.task import Task, TaskView
from peregrine.ports.store import CancelVerdict
from peregrine.stores.sqlite import definitions as kept
from peregrine.stores.sqlite import queueing, rows, settling, steps
from peregrine.stores.sqlite.definitions import Definitions
from peregrine.stores.sqlite.queries import SQL

_PLACES: Final = {
    TaskSort.UPDATED_AT: ("t.updated_at", "INDEXED BY tasks_by_update"),
    TaskSort.CREATED_AT: ("t.created_at", "INDEXED BY tasks_by_creation"),
    TaskSort.PRIORITY: ("t.priority", "INDEXED BY tasks_by_priority"),
    TaskSort.NAME: ("t.name", "INDEXED BY sqlite_autoindex_tasks_2"),
    TaskSort.NEXT_RUN: ("p.next_run_at", ""),
}

_STATUS_CONDITIONS: Final = {
    TaskStatus.DISABLED: ("task_is_disabled",),
    TaskStatus.PAUSED: ("task_is_paused",),
    TaskStatus.RUNNING: ("task_is_live", "task_is_running"),
    TaskStatus.COMPLETED: ("task_is_live", "task_is_idle", "task_last_succeeded"),
    TaskStatus.FAILED: ("task_is_live", "task_is_idle", "task_last_succeeded"),
    TaskStatus.PENDING: ("task_is_live", "task_is_idle", "task_last_succeeded"),
}
_FINDS_FEW: Final = frozenset(
    SQL[name]
    for name in (
        "task_is_disabled",
        "task_is_system",
        "task_is_running",
        "task_has_any_tag",
        "task_has_all_tags",
    )
)
_LAST_SUCCEEDED: Final = {TaskStatus.COMPLETED: 1, TaskStatus.FAILED: 0, TaskStatus.PENDING: None}


def create_tasks(db: apsw.Connection, tasks: Sequence[Task]) -> None:
    _refuse_clashes(db, tasks)
    add(db, [(task, task.updated_at, task.next_run_at(task.updated_at)) for task in tasks])


def _refuse_clashes(db: apsw.Connection, tasks: Sequence[Task]) -> None:
    """Raises:  Conflict for the first whose id or name is taken, in the store or by one before it."""
    ids = {id for id, _ in steps.by_texts(db, "numbers_of_tasks", [task.id for task in tasks])}
    names = {name for name, _ in steps.by_texts(db, "numbers_of_names", [task.name for task in tasks])}
    for task in tasks:
        if task.id in ids:
            raise Conflict(f"a task with id {task.id!r} exists", code="id_taken")
        if task.name in names:
            raise Conflict(f"a task named {task.name!r} exists", code="name_taken")
        ids.add(task.id)
        names.add(task.name)


def add(db: apsw.Connection, new: Sequence[tuple[Task, Moment, Moment | None]]) -> list[int]:
    """Write tasks that are not there, each with its cursor and its next moment; their numbers.

    Statement by statement for all of them: one by one, most of the time went into the statements themselves.
    """
    numbers = _numbers(db, [task.id for task, _, _ in new])
    stamps = db.executemany(SQL["add_definition"], [(kept.definition_text(task),) for task, _, _ in new])
    whole = [(no, stamp, *one) for no, (stamp,), one in zip(numbers, stamps, new, strict=True)]
    db.executemany(SQL["put_task"], [kept.task_row(no, task) for no, _, task, _, _ in whole])
    tags = [(tag, no) for no, _, task, _, _ in whole for tag in task.tags]
    if tags:
        db.executemany(SQL["add_tag"], tags)
    db.executemany(SQL["add_progress"], [kept.progress_row(*one) for one in whole])
    return numbers


def _numbers(db: apsw.Connection, ids: Sequence[TaskId]) -> list[int]:
    """The numbers of *ids*, none of which stands there twice; an id that is used again keeps its own."""
    known: dict[str, int] = dict(steps.by_texts(db, "numbers_of_ids", ids))
    strange = [id for id in ids if id not in known]
    made = db.executemany(SQL["add_task_number"], [(id,) for id in strange])
    known.update((id, no) for id, (no,) in zip(strange, made, strict=True))
    return [known[id] for id in ids]


def put_task(db: apsw.Connection, task: Task, expected_revision: int, plan: Plan | None) -> int:
    """Replace a definition; the task's number."""
    no, stamp, generation, cursor, next_run_at = _progress(db, task.id, expected_revision)
    if plan is not None and (plan.cursor, plan.generation) != (cursor, generation):
        raise Stale(f"task {task.id!r} has moved on since the plan was made")
    _refuse_taken_name(db, task)
    if plan is not None:
        queueing.write_plan(db, no, plan, task.updated_at)
        cursor, next_run_at = plan.cursor_after, rows.beyond(plan.next_run_at)
    if task.generation != generation:
        cursor = max(cursor, task.updated_at)
        next_run_at = rows.beyond(task.next_run_at(cursor))
    _write_definition(db, no, task)
    db.execute(SQL["put_progress"], kept.progress_row(no, _stamp(db, task), task, cursor, next_run_at))
    db.execute(SQL["drop_definition"], (stamp,))
    return no


def delete_task(
    db: apsw.Connection, task_id: TaskId, expected_revision: int | None, now: Moment
) -> Sequence[ExecutionId]:
    no, stamp, *_ = _progress(db, task_id, expected_revision)
    verdicts = settling.cancel_task(db, task_id, now)
    db.execute(SQL["drop_task"], (no,))
    db.execute(SQL["drop_definition"], (stamp,))
    return [id for id, verdict in verdicts if verdict is CancelVerdict.MARKED]


def _progress(
    db: apsw.Connection, task_id: TaskId, expected_revision: int | None
) -> tuple[int, int, int, Moment, Moment]:
    found = db.execute(SQL["progress_of"], (task_id,)).fetchone()
    if found is None:
        raise NotFound("task", task_id)
    no, stamp, revision, generation, cursor, next_run_at = found
    if expected_revision is not None and revision != expected_revision:
        raise Stale(f"task {task_id!r} is at revision {revision}, not {expected_revision}")
    return no, stamp, generation, cursor, next_run_at


def _refuse_taken_name(db: apsw.Connection, task: Task) -> None:
    holder = db.execute(SQL["task_named"], (task.name,)).fetchone()
    if holder is not None and holder[0] != task.id:
        raise Conflict(f"a task named {task.name!r} exists", code="name_taken")


def _write_definition(db: apsw.Connection, no: int, task: Task) -> None:
    db.execute(SQL["put_task"], kept.task_row(no, task))
    db.execute(SQL["drop_tags"], (no,))
    if task.tags:
        db.executemany(SQL["add_tag"], [(tag, no) for tag in task.tags])


def _stamp(db: apsw.Connection, task: Task) -> int:
    found = db.execute(SQL["add_definition"], (kept.definition_text(task),)).fetchone()
    assert found is not None
    stamp: int = found[0]
    return stamp


# ── reads ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def get_tasks(db: apsw.Connection, definitions: Definitions, task_ids: Sequence[TaskId]) -> Sequence[TaskView]:
    numbers: dict[str, int] = dict(steps.by_texts(db, "numbers_of_tasks", list(dict.fromkeys(task_ids))))
    views = views_of(db, definitions, numbers.values())
    return [views[numbers[task_id]] for task_id in task_ids if task_id in numbers]


def get_named(db: apsw.Connection, definitions: Definitions, names: Sequence[str]) -> Sequence[TaskView]:
    numbers: dict[str, int] = dict(steps.by_texts(db, "numbers_of_names", list(dict.fromkeys(names))))
    views = views_of(db, definitions, numbers.values())
    return [views[numbers[name]] for name in names if name in numbers]


def list_tasks(
    db: apsw.Connection,
    definitions: Definitions,
    filter: TaskFilter,
    page: PageRequest,
    *,
    sort: TaskSort,
    descending: bool,
    now: Moment,
) -> Page[TaskView]:
    conditions, values = _conditions(filter, now)
    total = _count(db, conditions, values)
    place, indexed = _PLACES[sort]
    if not _FINDS_FEW.isdisjoint(conditions):
        # Those few are found and then sorted; walking all tasks in order to meet them takes longer.
        indexed = ""
    list_name = f"tasks by {sort}{' down' if descending else ''}"
    if page.cursor:
        shape = str if sort is TaskSort.NAME else int
        values["at"], values["id"] = read_cursor(list_name, page.cursor, shape, str)
        # The first half follows from the second, and is the one that an index can use.
        first, both = ("<=", "<") if descending else (">=", ">")
        conditions = [*conditions, f"{place} {first} :at", f"({place}, t.id) {both} (:at, :id)"]
    direction = "DESC" if descending else "ASC"
    text = SQL["list_tasks_by_next_run" if sort is TaskSort.NEXT_RUN else "list_tasks"].format(
        place=place,
        indexed=indexed,
        joined=_joined(conditions),
        conditions=" AND ".join(conditions) or "1",
        order=f"{place} {direction}, t.id {direction}",
    )
    values |= {"limit": page.size + 1, "offset": page.offset}
    found = list(db.execute(text, values))
    shown = found[: page.size]
    views = views_of(db, definitions, [no for no, _, _ in shown])
    return Page(
        items=[views[no] for no, _, _ in shown],
        total=min(total, COUNT_MAX),
        total_exact=total <= COUNT_MAX,
        next_cursor=write_cursor(list_name, *shown[-1][1:]) if len(found) > len(shown) > 0 else None,
    )


def _count(db: apsw.Connection, conditions: list[str], values: dict[str, int | str | None]) -> int:
    if not conditions:
        return steps.number(db, SQL["count_all_tasks"])
    text = SQL["count_tasks"].format(joined=_joined(conditions), conditions=" AND ".join(conditions))
    return steps.number(db, text, values | {"most": COUNT_MAX + 1})


def _joined(conditions: list[str]) -> str:
    """Progress stands in another table: each task on the way is looked up there only if something is asked of it."""
    return "JOIN task_progress p ON p.no = t.no" if SQL["task_last_succeeded"] in conditions else ""


def _conditions(filter: TaskFilter, now: Moment) -> tuple[list[str], dict[str, int | str | None]]:
    """What *filter* asks, as conditions of ours and the values they need."""
    names: list[str] = []
    values: dict[str, int | str | None] = {"now": now}
    if filter.status is not None:
        names += _STATUS_CONDITIONS[filter.status]
        values["last_succeeded"] = _LAST_SUCCEEDED.get(filter.status)
    if filter.enabled is not None:
        names.append("task_is_enabled" if filter.enabled else "task_is_disabled")
    if filter.is_system is not None:
        names.append("task_is_system" if filter.is_system else "task_is_ordinary")
    asked: dict[str, tuple[str, int | str | None]] = {
        "task_has_kind": ("kind", filter.kind),
        "task_has_priority": ("priority", None if filter.priority is None else int(filter.priority)),
        "task_has_creator": ("created_by", filter.created_by),
        "task_has_text": ("text", rows.lowered(filter.text) or None),
        "task_has_any_tag": ("tags_any", _json_list(filter.tags_any)),
        "task_has_all_tags": ("tags_all", _json_list(filter.tags_all)),
    }
    for name, (key, value) in asked.items():
        if value is not None:
            names.append(name)
            values[key] = value
    return [SQL[name] for name in names], values


def _json_list(tags: tuple[str, ...]) -> str | None:
    return rows.json_text(sorted(set(tags))) if tags else None


def view_of(db: apsw.Connection, no: int, task: Task) -> TaskView:
    """*task*, whose number it is, as readers will see it once this transaction is committed.

    Nothing of it is remembered by its stamp: rolled back, that is given to another definition.
    """
    row = db.execute(SQL["task_views"], (apsw.carray(steps.integers([no])),)).fetchone()
    assert row is not None
    return kept.task_view(row, task)


def views_of(db: apsw.Connection, definitions: Definitions, numbers: Iterable[int]) -> dict[int, TaskView]:
    """Tasks as readers see them, by number."""
    if not (wanted := steps.integers(numbers)):
        return {}
    found = list(db.execute(SQL["task_views"], (apsw.carray(wanted),)))
    tasks = steps.tasks_of(db, definitions, [row[1] for row in found], shared=True)
    return {row[0]: definitions.view(row, tasks[row[1]]) for row in found}
