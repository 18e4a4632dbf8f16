"""Owns the operations on definitions; must not know attempts or history.

A batch of new tasks and changes is all or none: new tasks are inserted hidden, changes are written down beside what
still holds, each names the batch, and one write to the batch's own document commits them. A removal is committed by
hiding the task. The rest of both is owed (``debts``).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from peregrine.domain.errors import Conflict, NotFound, PeregrineError, Stale, Unavailable
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
from peregrine.ports.store import TaskChange
from peregrine.stores.mongo.commands import BUNDLES, EXECUTIONS, TASKS, Commands, Document, both, pause
from peregrine.stores.mongo.debts import BUNDLE, CHANGE, COMMITTED, OPEN, REMOVAL, Debts
from peregrine.stores.mongo.definitions import (
    VISIBLE,
    WITHOUT_DEBTS,
    Activity,
    Definitions,
    cursor_of,
    definition_fields,
    is_beyond,
    moved_fields,
    new_document,
    new_token,
    progress_fields,
    read_tally,
    revision_of,
    status_of,
)
from peregrine.stores.mongo.errors import Taken
from peregrine.stores.mongo.executions import RUNS, Numbers
from peregrine.stores.mongo.queueing import owing_fields, plan_document
from peregrine.stores.mongo.searching import containing
from peregrine.stores.mongo.values import date, moment_of

ROUNDS_MAX: Final = 30
PATIENCE: Final = 5
"""So many rounds a batch of somebody else that holds a name may take to be committed, before it is dropped."""

_PLACES: Final = {
    TaskSort.UPDATED_AT: "updated_at",
    TaskSort.CREATED_AT: "created_at",
    TaskSort.PRIORITY: "priority_class",
    TaskSort.NAME: "name",
    TaskSort.NEXT_RUN: "due_at",
}
_DATES: Final = frozenset({"updated_at", "created_at"})


class Tasks:
    """The verbs of definitions."""

    def __init__(self, commands: Commands, definitions: Definitions, debts: Debts, numbers: Numbers) -> None:
        self._commands = commands
        self._definitions = definitions
        self._debts = debts
        self._numbers = numbers

    # ── create ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def create_tasks(self, tasks: Sequence[Task]) -> None:
        _refuse_repetition(tasks)
        if not tasks:
            return
        documents = [new_document(task, self._numbers.next()) for task in tasks]
        for tries in range(ROUNDS_MAX):
            taken = await self._insert_one(documents) if len(documents) == 1 else await self._insert_all(documents)
            if not taken:
                return
            await self._refuse_taken(tasks, drops=tries >= PATIENCE)
            await pause(tries)
        raise Unavailable("others create tasks of the same names over and over")

    async def _insert_one(self, documents: list[Document]) -> bool:
        """Whether its id or name is taken. One document needs no batch."""
        return bool(await self._commands.insert(TASKS, documents)) and not await self._are_ours(documents)

    async def _insert_all(self, documents: list[Document]) -> bool:
        """Insert all hidden and commit them, or leave nothing; whether any id or name was taken."""
        bundle_id = await self._open_bundle()
        if not await self._insert_hidden(documents, bundle_id) and await self._commit(bundle_id):
            return False
        await self._debts.finish_bundle(bundle_id)
        return True

    async def _open_bundle(self) -> str:
        bundle_id = new_token()
        await self._commands.insert(BUNDLES, [{"_id": bundle_id, "state": OPEN, "at": time.time_ns()}])
        return bundle_id

    async def _insert_hidden(self, documents: Sequence[Document], bundle_id: str) -> bool:
        """Whether any id or name was taken."""
        hidden = [one | {"hidden": BUNDLE, "torn": BUNDLE, "bundle": bundle_id} for one in documents]
        return bool(await self._commands.insert(TASKS, hidden)) and not await self._are_ours(hidden)

    async def _commit(self, bundle_id: str) -> bool:
        """Commit a batch and lift it; False when somebody dropped it, who waited for one of its names too long."""
        commit = ({"_id": bundle_id, "state": OPEN}, {"$set": {"state": COMMITTED}})
        if not await self._commands.update(BUNDLES, [commit]):
            # Or it was this very commit, whose answer was lost.
            found = await self._commands.find(BUNDLES, {"_id": bundle_id})
            if not found or found[0]["state"] != COMMITTED:
                return False
        await self._debts.lift(bundle_id)
        await self._commands.delete(BUNDLES, {"_id": bundle_id})
        return True

    async def _are_ours(self, documents: Sequence[Document]) -> bool:
        """Whether all of *documents* are there as we made them: then a key was taken by our own lost write."""
        wanted = {"_id": {"$in": [one["_id"] for one in documents]}}
        found = await self._commands.find(TASKS, wanted, fields={"born": 1})
        return {(one["_id"], one.get("born")) for one in found} == {(one["_id"], one["born"]) for one in documents}

    async def _refuse_taken(self, tasks: Sequence[Task], *, drops: bool, mine: str = "") -> None:
        """Raise Conflict for the first that clashes with a task; see to what only stands in the way for a while."""
        ids, names = [task.id for task in tasks], [task.name for task in tasks]
        fields = {"name": 1, "hidden": 1, "torn": 1, "bundle": 1, "removed_at": 1}
        clash = {"$or": [{"_id": {"$in": ids}}, {"name_key": {"$in": names}}]}
        found = await self._commands.find(TASKS, clash, fields=fields)
        found = [one for one in found if not mine or one.get("bundle") != mine]
        for one in found:
            if one.get("torn") == REMOVAL or (one.get("torn") in (BUNDLE, CHANGE) and drops):
                await self._debts.pay_tasks([one])
        shown = [one for one in found if one.get("hidden") is None]
        taken_ids, taken_names = {one["_id"] for one in shown}, {one.get("name") for one in shown}
        for task in tasks:
            if task.id in taken_ids:
                raise Conflict(f"a task with id {task.id!r} exists", code="id_taken")
            if task.name in taken_names:
                raise _name_taken(task.name, in_batch=bool(mine))

    # ── change ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def put_task(self, task: Task, expected_revision: int, plan: Plan | None) -> None:
        stamps: set[str] = set()
        for tries in range(ROUNDS_MAX):
            found = await self._commands.find(TASKS, {"_id": task.id} | VISIBLE, fields={"counted": 0})
            if found and found[0].get("stamp") in stamps:
                # Our own change, whose answer was lost.
                await self._debts.finish_plans([one for one in found if "plan" in one])
                return
            document = _at_revision(found, task.id, expected_revision)
            _refuse_beyond(document)
            if plan is not None and not _fits(document, plan):
                raise Stale(f"task {task.id!r} has moved on since the plan was made")
            if "torn" in document:
                await self._clear_way(document, drops=tries >= PATIENCE)
                await pause(tries)
            elif await self._put(document, task, plan, stamps):
                return
            else:
                await pause(tries)
        raise Unavailable(f"task {task.id!r} changes too fast to be changed")

    async def _clear_way(self, document: Document, *, drops: bool) -> None:
        """See to what is owed or under way on a task that is to be changed: a batch of somebody else may be alive."""
        if "plan" in document or drops:
            await self._debts.pay_tasks([document])

    async def _put(self, document: Document, task: Task, plan: Plan | None, stamps: set[str]) -> bool:
        """Replace the definition if *document* still stands so; whether it did."""
        fields, owed = self._changed_fields(document, task, plan)
        if owed is not None:
            fields |= owing_fields(owed, fields["stamp"])
        stamps.add(fields["stamp"])
        try:
            if not await self._commands.update(TASKS, [(_as_it_stands(document), {"$set": fields})]):
                return False
        except Taken:
            await self._refuse_taken_name(task)
            return False
        if owed is not None:
            await self._debts.finish_plans([{"_id": task.id, "plan": owed}])
        return True

    def _changed_fields(self, document: Document, task: Task, plan: Plan | None) -> tuple[Document, Document | None]:
        """What is set, by path, when *task* replaces what *document* defines; and what *plan* then owes."""
        previous = self._definitions.task(document)
        fields = definition_fields(task, previous)
        if document.get("pause") is not None and task.pause == previous.pause:
            # What a newer version says about the pause stays with it.
            del fields["pause"]
        fields["status"] = status_of(task, read_tally(document))
        cursor = cursor_of(document) if plan is None else plan.cursor_after
        if task.generation != previous.generation:
            fields |= progress_fields(task, max(cursor, task.updated_at))
        elif plan is not None:
            fields |= moved_fields(plan.cursor_after, plan.next_run_at)
        elif "cursor" not in document:
            fields |= progress_fields(task, cursor)
        return fields, None if plan is None else plan_document(plan, fields["stamp"], task.updated_at, self._numbers)

    async def _refuse_taken_name(self, task: Task, mine: str = "") -> None:
        """Raise Conflict if a task has the name; see to a batch that only reserved it, unless that is *mine*."""
        holders = await self._commands.find(TASKS, {"name_key": task.name}, fields={"plan": 0, "counted": 0})
        for holder in holders:
            named_so = holder.get("hidden") is None and holder["name"] == task.name
            if holder["_id"] != task.id and (named_so or (mine and holder.get("bundle") == mine)):
                raise _name_taken(task.name, in_batch=bool(mine))
        await self._debts.pay_tasks([one for one in holders if one.get("torn") in (BUNDLE, CHANGE)])

    # ── together ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def put_tasks(self, new: Sequence[Task], changes: Sequence[TaskChange]) -> None:
        if not changes:
            await self.create_tasks(new)
            return
        _refuse_repetition(new)
        documents = [new_document(task, self._numbers.next()) for task in new]
        for tries in range(ROUNDS_MAX):
            bundle_id = await self._open_bundle()
            try:
                ready = await self._prepare_new(new, documents, bundle_id, drops=tries >= PATIENCE)
                for change in changes if ready else ():
                    ready = ready and await self._prepare(change, bundle_id)
            except PeregrineError:
                await self._debts.finish_bundle(bundle_id)
                raise
            if ready and await self._commit(bundle_id):
                return
            await self._debts.finish_bundle(bundle_id)
            await pause(tries)
        raise Unavailable("the tasks change too fast to be changed together")

    async def _prepare_new(
        self, new: Sequence[Task], documents: Sequence[Document], bundle_id: str, *, drops: bool
    ) -> bool:
        """Insert new tasks hidden; whether all could be."""
        if not await self._insert_hidden(documents, bundle_id):
            return True
        await self._refuse_taken(new, drops=drops, mine=bundle_id)
        return False

    async def _prepare(self, change: TaskChange, bundle_id: str) -> bool:
        """Write the change into its task's document, as what will be, with the name reserved; whether it could be.

        From then on nobody else changes or plans the task before the batch is committed or dropped.
        """
        task = change.task
        for tries in range(ROUNDS_MAX):
            found = await self._commands.find(TASKS, {"_id": task.id} | VISIBLE, fields={"counted": 0})
            if found and found[0].get("bundle") == bundle_id:
                return True
            document = _at_revision(found, task.id, change.expected_revision)
            _refuse_beyond(document)
            if change.plan is not None and not _fits(document, change.plan):
                raise Stale(f"task {task.id!r} has moved on since the plan was made")
            if "torn" in document:
                await self._clear_way(document, drops=tries >= PATIENCE)
                await pause(tries)
                continue
            fields, owed = self._changed_fields(document, task, change.plan)
            parts = [{"path": path, "value": value} for path, value in fields.items()]
            names = {name for name in (document.get("name_key"), task.name) if isinstance(name, str)}
            prepared = {
                "torn": CHANGE,
                "bundle": bundle_id,
                "change": {"fields": parts, "plan": owed},
                "name_key": sorted(names) if len(names) > 1 else task.name,
            }
            try:
                if await self._commands.update(TASKS, [(_as_it_stands(document), {"$set": prepared})]):
                    return True
            except Taken:
                await self._refuse_taken_name(task, bundle_id)
                return False
        return False

    # ── delete ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def delete_task(self, task_id: TaskId, expected_revision: int | None, now: Moment) -> Sequence[ExecutionId]:
        removal = new_token()
        for tries in range(ROUNDS_MAX):
            found = await self._commands.find(TASKS, {"_id": task_id}, fields={"counted": 0})
            if not found or found[0].get("removal") != removal:
                document = _at_revision([one for one in found if one.get("hidden") is None], task_id, expected_revision)
                if "torn" in document:
                    await self._clear_way(document, drops=tries >= PATIENCE)
                    await pause(tries)
                    continue
                must = {name: document.get(name) for name in ("_id", "born", "stamp")} | {"torn": None} | VISIBLE
                marks = {"hidden": REMOVAL, "torn": REMOVAL, "removed_at": date(now), "removal": removal}
                change = (must, {"$set": marks, "$unset": {"name_key": "", "due_at": ""}})
                if not await self._commands.update(TASKS, [change]):
                    await pause(tries)
                    continue
            return [ExecutionId(id) for id in await self._debts.finish_removal(task_id, now)]
        raise Unavailable(f"task {task_id!r} changes too fast to be removed")

    # ── reads ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def get_tasks(self, task_ids: Sequence[TaskId]) -> Sequence[TaskView]:
        views = await self._views_of("_id", task_ids)
        by_id = {view.task.id: view for view in views}
        return [by_id[task_id] for task_id in task_ids if task_id in by_id]

    async def get_named(self, names: Sequence[str]) -> Sequence[TaskView]:
        views = await self._views_of("name", names)
        by_name = {view.task.name: view for view in views}
        return [by_name[name] for name in names if name in by_name]

    async def _views_of(self, field: str, values: Sequence[str]) -> list[TaskView]:
        if not values:
            return []
        which = {field: {"$in": list(dict.fromkeys(values))}} | VISIBLE
        return await self._views(await self._commands.find(TASKS, which, fields=WITHOUT_DEBTS))

    async def _views(self, documents: Sequence[Document]) -> list[TaskView]:
        activity = await self._activity([one["_id"] for one in documents])
        return [self._definitions.view(one, activity.get(one["_id"], Activity())) for one in documents]

    async def _activity(self, task_ids: Sequence[str]) -> dict[str, Activity]:
        """How many executions of each task run and wait."""
        if not task_ids:
            return {}
        groups = await self._commands.aggregate(
            EXECUTIONS,
            [
                {"$match": {"active": True, "task_id": {"$in": list(task_ids)}}},
                {"$group": {"_id": {"task": "$task_id", "status": "$status"}, "number": {"$sum": 1}}},
            ],
        )
        counts: dict[str, list[int]] = {}
        for group in groups:
            running_queued = counts.setdefault(group["_id"]["task"], [0, 0])
            running_queued[0 if group["_id"]["status"] == RUNS else 1] += int(group["number"])
        return {id: Activity(running, queued) for id, (running, queued) in counts.items()}

    async def list_tasks(
        self, filter: TaskFilter, page: PageRequest, *, sort: TaskSort, descending: bool, now: Moment
    ) -> Page[TaskView]:
        list_name = f"tasks by {sort}{' down' if descending else ''}"
        place, way = _PLACES[sort], -1 if descending else 1
        after = None
        if page.cursor:
            after = read_cursor(list_name, page.cursor, str if sort is TaskSort.NAME else int, str)
        conditions = await self._conditions(filter, now)
        every = {"$and": [VISIBLE, *conditions]}
        part = every if after is None else {"$and": [*every["$and"], _behind(place, after, descending=descending)]}
        total, found = await both(
            self._commands.count(TASKS, every, COUNT_MAX + 1),
            self._commands.find(
                TASKS, part, fields=WITHOUT_DEBTS, sort=[(place, way), ("_id", way)], page=(page.offset, page.size + 1)
            ),
        )
        shown = found[: page.size]
        views = await self._views(shown)
        more = len(found) > len(shown) > 0
        return Page(
            items=views,
            total=min(total, COUNT_MAX),
            total_exact=total <= COUNT_MAX,
            next_cursor=write_cursor(list_name, _place(shown[-1], place), shown[-1]["_id"]) if more else None,
        )

    async def _conditions(self, filter: TaskFilter, now: Moment) -> list[Mapping[str, Any]]:
        """What *filter* asks, one condition each."""
        found: list[Mapping[str, Any]] = []
        if filter.status is not None:
            found += _status_conditions(filter.status, now, await self._running_tasks(filter.status))
        if filter.enabled is not None:
            found.append({"enabled": filter.enabled})
        if filter.kind is not None:
            found.append({"type": filter.kind.value})
        if filter.priority is not None:
            found.append({"priority": filter.priority.word})
        if filter.is_system is not None:
            found.append({"metadata.is_system": filter.is_system})
        if filter.created_by is not None:
            found.append({"created_by": filter.created_by})
        if filter.tags_any:
            found.append({"metadata.tags": {"$in": list(filter.tags_any)}})
        if filter.tags_all:
            found.append({"metadata.tags": {"$all": list(filter.tags_all)}})
        if filter.text:
            found.append({"$or": [{"name": containing(filter.text)}, {"description": containing(filter.text)}]})
        return found

    async def _running_tasks(self, status: TaskStatus) -> list[str]:
        """The tasks of which an execution runs; never more than there are slots."""
        if status in (TaskStatus.DISABLED, TaskStatus.PAUSED):
            return []
        found = await self._commands.find(EXECUTIONS, {"status": RUNS, "active": True}, fields={"task_id": 1})
        return sorted({one["task_id"] for one in found})


def _name_taken(name: str, *, in_batch: bool) -> Conflict:
    """Two documents can't exchange a name while it is reserved all the time, so within a batch none is free yet."""
    note = "; one that is given up in the same batch is free only afterwards" if in_batch else ""
    return Conflict(f"a task named {name!r} exists{note}", code="name_taken")


def _refuse_repetition(tasks: Sequence[Task]) -> None:
    """Raise Conflict for the first task that clashes with one before it."""
    ids: set[str] = set()
    names: set[str] = set()
    for task in tasks:
        if task.id in ids:
            raise Conflict(f"a task with id {task.id!r} exists", code="id_taken")
        if task.name in names:
            raise Conflict(f"a task named {task.name!r} exists", code="name_taken")
        ids.add(task.id)
        names.add(task.name)


def _at_revision(found: Sequence[Document], task_id: TaskId, expected_revision: int | None) -> Document:
    if not found:
        raise NotFound("task", task_id)
    revision = revision_of(found[0])
    if expected_revision is not None and revision != expected_revision:
        raise Stale(f"task {task_id!r} is at revision {revision}, not {expected_revision}")
    return found[0]


def _refuse_beyond(document: Document) -> None:
    """Raise Conflict for a task that only a newer version understands: what we wrote there could mean anything."""
    if is_beyond(document):
        raise Conflict(
            f"task {document['_id']!r} was written by a newer version; change it there", code="needs_newer_version"
        )


def _as_it_stands(document: Document) -> Document:
    """What must be true of a task for a change that was made from *document*; nothing may be owed there."""
    must = {name: document.get(name) for name in ("_id", "born", "stamp", "cursor", "generation")}
    return must | {"torn": None, "metadata.version": document.get("metadata", {}).get("version")} | VISIBLE


def _fits(document: Document, plan: Plan) -> bool:
    return cursor_of(document) == plan.cursor and document.get("generation", 1) == plan.generation


def _status_conditions(status: TaskStatus, now: Moment, running: list[str]) -> list[Mapping[str, Any]]:
    """The conditions of a computed status, in the order in which it is computed."""
    paused = {"pause": {"$ne": None}, "$or": [{"pause.until": None}, {"pause.until": {"$gt": date(now)}}]}
    if status is TaskStatus.DISABLED:
        return [{"enabled": False}]
    if status is TaskStatus.PAUSED:
        return [{"enabled": True}, paused]
    live: list[Mapping[str, Any]] = [{"enabled": True}, {"$nor": [paused]}]
    if status is TaskStatus.RUNNING:
        return [*live, {"_id": {"$in": running}}]
    last = {TaskStatus.COMPLETED: True, TaskStatus.FAILED: False}.get(status)
    return [*live, {"_id": {"$nin": running}}, {"last_succeeded": last}]


def _behind(place: str, after: tuple[int | str, ...], *, descending: bool) -> Mapping[str, Any]:
    """The condition for what comes after a position in the list."""
    at: Any = date(int(after[0])) if place in _DATES else after[0]
    way = "$lt" if descending else "$gt"
    return {"$or": [{place: {way: at}}, {place: at, "_id": {way: after[1]}}]}


def _place(document: Document, place: str) -> int | str:
    value = document[place]
    return moment_of(value) if place in _DATES else value if isinstance(value, str) else int(value)
