"""Owns what a person may ask of many tasks at once: an operation, export, import; must not know their words."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from peregrine.domain.draft import Making
from peregrine.domain.errors import Conflict, Fault, Invalid, PeregrineError, Protected, Stale, Unavailable
from peregrine.domain.ids import TaskId, is_system_id
from peregrine.domain.permission import Permission
from peregrine.domain.query import PAGE_SIZE_MAX, PageRequest, TaskFilter, TaskSort
from peregrine.domain.task import Task, TaskView
from peregrine.ports.bus import Topic
from peregrine.ports.identity import Asker
from peregrine.ports.store import TaskChange
from peregrine.ports.vault import opened_task, sealed_task
from peregrine.usecases import tasks as one
from peregrine.usecases.access import refuse_system, require
from peregrine.usecases.audit import Trail, state_of
from peregrine.usecases.means import Means

TASKS_MAX: Final = 1000
BREATH: Final = 25
"""After so many tasks the loop gets its turn: reading a thousand takes longer than others may wait."""


class Operation(StrEnum):
    """What may be done to many tasks at once."""

    ENABLE = "enable"
    DISABLE = "disable"
    PAUSE = "pause"
    RESUME = "resume"
    DELETE = "delete"


_PERMISSIONS: Final[Mapping[Operation, Permission]] = {
    Operation.ENABLE: Permission.TASKS_WRITE,
    Operation.DISABLE: Permission.TASKS_WRITE,
    Operation.PAUSE: Permission.TASKS_WRITE,
    Operation.RESUME: Permission.TASKS_WRITE,
    Operation.DELETE: Permission.TASKS_DELETE,
}
_VERBS: Final[Mapping[Operation, Callable[[Means, Asker, TaskId], Awaitable[object]]]] = {
    Operation.ENABLE: lambda means, by, id: one.set_enabled(means, by, id, to=True),
    Operation.DISABLE: lambda means, by, id: one.set_enabled(means, by, id, to=False),
    Operation.PAUSE: one.pause_task,
    Operation.RESUME: one.resume_task,
    Operation.DELETE: one.delete_task,
}


async def operate(
    means: Means, by: Asker, operation: Operation, task_ids: Sequence[TaskId]
) -> tuple[Sequence[TaskId], Sequence[tuple[TaskId, PeregrineError]]]:
    """Do *operation* to each task: those it was done to, and why not for the others.

    System tasks are left alone by all of them: one that may be paused at all is paused by its own name.
    Raises:  Unavailable, when nothing was done.
    """
    await require(means.grants, by, _PERMISSIONS[operation])
    done: list[TaskId] = []
    failed: list[tuple[TaskId, PeregrineError]] = []
    known = {view.task.id: view.task for view in await means.store.get_tasks(list(dict.fromkeys(task_ids)))}
    for task_id in dict.fromkeys(task_ids):
        try:
            if task_id in known:
                refuse_system(known[task_id])
            await _VERBS[operation](means, by, task_id)
            done.append(task_id)
        except Unavailable as error:
            if not done:
                raise
            failed.append((task_id, error))
        except PeregrineError as error:
            failed.append((task_id, error))
    return done, failed


async def export_tasks(
    means: Means, by: Asker, filter: TaskFilter, *, sort: TaskSort, descending: bool
) -> Sequence[Task]:
    """All tasks that match, our own left out: they belong to the installation. Raises Invalid beyond a thousand."""
    await require(means.grants, by, Permission.TASKS_READ)
    found: list[Task] = []
    page = PageRequest(size=PAGE_SIZE_MAX)
    while True:
        got = await means.store.list_tasks(filter, page, sort=sort, descending=descending, now=means.clock.now())
        found += [view.task for view in got.items if not view.task.is_system]
        if len(found) > TASKS_MAX:
            raise Invalid.at("", f"more than {TASKS_MAX} tasks match; ask for fewer by a filter")
        if got.next_cursor is None:
            return found
        page = PageRequest(size=PAGE_SIZE_MAX, cursor=got.next_cursor)


class Bundled(Protocol):
    """One task of a bundle, in words that are somebody else's to read."""

    @property
    def at(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def is_system(self) -> bool: ...

    def make(self, making: Making) -> Task: ...

    def edit(self, stored: Task, making: Making) -> Task: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import did, or would do. With ``faults`` it did nothing."""

    imported: Sequence[str] = ()
    skipped: Sequence[str] = ()
    faults: Sequence[tuple[str, Fault]] = field(default_factory=tuple)
    """Name of the task, and what is wrong with it."""


@dataclass(slots=True)
class _Decided:
    """What an import will do, gathered task by task."""

    new: list[Task] = field(default_factory=list)
    changed: list[tuple[Bundled, TaskView]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    faults: list[tuple[str, Fault]] = field(default_factory=list)


async def import_tasks(
    means: Means, by: Asker, bundle: Sequence[Bundled], *, overwrite: bool, dry_run: bool
) -> Imported:
    """Make the tasks of *bundle*; names that are taken are skipped, or changed with *overwrite*.

    All or none, in one write: with one fault nothing is made.

    Raises:  Protected for a system task; Conflict for what others made or deleted meanwhile; Unavailable.
    """
    await require(means.grants, by, Permission.TASKS_WRITE)
    decided = await _decide(means, by, bundle, overwrite=overwrite)
    names = [task.name for task in decided.new] + [item.name for item, _ in decided.changed]
    if decided.faults:
        return Imported(faults=decided.faults)
    if not dry_run:
        await _write(means, by, decided)
    return Imported(imported=names, skipped=decided.skipped)


async def _write(means: Means, by: Asker, decided: _Decided) -> None:
    """Make it true in one write, decided anew as long as others are quicker. Raises Conflict, Unavailable."""
    views = [view for _, view in decided.changed]
    for _ in range(one.TRIES_MAX):
        try:
            if not await one.let_come(means, views):
                pairs = zip(decided.changed, views, strict=True)
                changes = [_change(means, by, item, view) for (item, _), view in pairs]
                await _put(means, by, decided.new, views, [change for change in changes if change is not None])
                return
        except Stale:
            pass
        views = list(await means.store.get_tasks([view.task.id for view in views]))
        if len(views) < len(decided.changed):
            raise Conflict("A task of this bundle was deleted meanwhile; send it again.")
    raise Unavailable("the tasks change too fast")


async def _put(
    means: Means, by: Asker, new: Sequence[Task], views: Sequence[TaskView], changes: Sequence[TaskChange]
) -> None:
    before = {view.task.id: view.task for view in views}
    async with AsyncExitStack() as entries:
        notes = []
        for task in [*new, *(change.task for change in changes)]:
            trail = await entries.enter_async_context(Trail(means, by, "import_task", task.id))
            noted = trail.noted(before=state_of(before.get(task.id)), after=state_of(task))
            notes.append(entries.enter_context(noted))
        await means.store.noting(*notes).put_tasks(new, changes)
    means.bus.publish(Topic.TASKS)
    means.bus.publish(Topic.QUEUED)


def _change(means: Means, by: Asker, item: Bundled, view: TaskView) -> TaskChange | None:
    """What *item* makes of the task of *view*; None if it is so already."""
    now = max(means.clock.now(), view.task.updated_at)
    stored = opened_task(means.vault, view.task)
    wanted = item.edit(stored, means.making(by, id=view.task.id, at=now, source="import"))
    if wanted == stored:
        return None
    return TaskChange(
        task=sealed_task(means.vault, wanted, over=view.task).changed(view.task, at=now, by=by.id),
        expected_revision=view.task.revision,
        plan=one.undecided(view, now, means.queue_size),
    )


async def _decide(means: Means, by: Asker, bundle: Sequence[Bundled], *, overwrite: bool) -> _Decided:
    decided = _Decided()
    taken = {view.task.name: view for view in await means.store.get_named([item.name for item in bundle])}
    seen: set[str] = set()
    for number, item in enumerate(bundle):
        if number % BREATH == 0:
            await asyncio.sleep(0)
        view = taken.get(item.name)
        if item.is_system or (view is not None and view.task.is_system and overwrite):
            raise Protected(f"A system task can't be imported ({item.at or '/'}).")
        if item.name and item.name in seen:
            decided.faults.append((item.name, Fault(f"{item.at}/name", "stands twice in this bundle")))
            continue
        seen.add(item.name)
        try:
            _place(means, by, item, view, decided, overwrite=overwrite)
        except Invalid as error:
            decided.faults.extend((item.name, fault) for fault in error.faults)
    return decided


def _place(
    means: Means, by: Asker, item: Bundled, view: TaskView | None, decided: _Decided, *, overwrite: bool
) -> None:
    """Put *item* where it belongs. Raises Invalid for its faults, also where it would be skipped."""
    if view is not None and overwrite:
        making = means.making(by, id=view.task.id, at=means.clock.now(), source="import")
        item.edit(opened_task(means.vault, view.task), making)
        decided.changed.append((item, view))
        return
    id = TaskId(means.entropy.new_id())
    assert not is_system_id(id)
    making = means.making(by, id=id, at=means.clock.now(), source="import")
    if view is not None:
        # What stays as it is may keep its secrets hidden: read as a change, it must still be well formed.
        item.edit(opened_task(means.vault, view.task), making)
        decided.skipped.append(item.name)
        return
    decided.new.append(sealed_task(means.vault, item.make(making)))
