"""Owns what a person may ask of tasks; must not know HTTP, JSON, which database, or the engine.

Every change goes one way: read, decide anew from what was read, account for what the old definition left undecided,
write if nobody was quicker; else again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from peregrine.domain import planning
from peregrine.domain.draft import Edit, Make, Making
from peregrine.domain.errors import Conflict, Invalid, NotFound, Stale, Unavailable, Unsure
from peregrine.domain.ids import ExecutionId, TaskId
from peregrine.domain.moment import MINUTE, Duration, Moment
from peregrine.domain.occurrence import LedgerEntry
from peregrine.domain.permission import Permission
from peregrine.domain.planning import DueTask, Plan
from peregrine.domain.query import Page, PageRequest, TaskFilter, TaskSort
from peregrine.domain.task import Pause, Task, TaskView
from peregrine.ports.bus import Topic
from peregrine.ports.identity import Asker
from peregrine.ports.store import CancelVerdict
from peregrine.ports.vault import opened_task, sealed_task
from peregrine.usecases.access import refuse_system, require
from peregrine.usecases.audit import REPEATED, Trail, state_of
from peregrine.usecases.means import Means

TRIES_MAX: Final = 8
"""How often a change is decided anew because a planner or another person was quicker."""

SOON: Final[Duration] = 2 * MINUTE
"""Planners look by themselves at least once a minute; of a task whose next moment is further away, and was so before it
was changed, they need not be told. A look costs as much as making the task."""


@dataclass(frozen=True, slots=True)
class Unless:
    """A precondition on the revision: None asks nothing; else the stored one must be among ``revisions``."""

    revisions: frozenset[int] | None = None

    def check(self, task: Task) -> None:
        """Raises Stale if the condition does not hold."""
        if self.revisions is not None and task.revision not in self.revisions:
            raise Stale(f"the task is at version {task.revision} by now: read it again")


ALWAYS: Final = Unless()


@dataclass(frozen=True, slots=True)
class Stopped:
    """What stopping or deleting a task ended: waiting executions at once, running ones by their workers soon."""

    task_id: TaskId
    cancelled: Sequence[ExecutionId]


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


async def list_tasks(
    means: Means, by: Asker, filter: TaskFilter, page: PageRequest, *, sort: TaskSort, descending: bool
) -> tuple[Page[TaskView], Moment]:
    """One page, and the moment at which it is true."""
    await require(means.grants, by, Permission.TASKS_READ)
    now = means.clock.now()
    return await means.store.list_tasks(filter, page, sort=sort, descending=descending, now=now), now


async def get_task(means: Means, by: Asker, task_id: TaskId) -> TaskView:
    """One task. Raises NotFound."""
    await require(means.grants, by, Permission.TASKS_READ)
    return await existing(means, task_id)


async def list_occurrences(means: Means, by: Asker, task_id: TaskId, page: PageRequest) -> Page[LedgerEntry]:
    """The ledger of a task: what ran, what did not, and why. Raises NotFound."""
    await require(means.grants, by, Permission.EXECUTIONS_READ)
    await existing(means, task_id)
    return await means.store.list_occurrences(task_id, page)


async def existing(means: Means, task_id: TaskId) -> TaskView:
    """The task, or NotFound."""
    view = await means.store.get_task(task_id)
    if view is None:
        raise NotFound("task", task_id)
    return view


# ── making and changing ──────────────────────────────────────────────────────────────────────────


async def create_task(means: Means, by: Asker, make: Make, *, id: TaskId | None = None) -> TaskView:
    """A new task. With an *id* chosen by the caller, asking twice makes one.

    Raises:  Invalid; Conflict ``name_taken``.
    """
    await require(means.grants, by, Permission.TASKS_WRITE)
    made = make(means.making(by, id=id or TaskId(means.entropy.new_id()), at=means.clock.now()))
    task = sealed_task(means.vault, made)
    async with Trail(means, by, "create_task", task.id) as trail:
        try:
            with trail.noted(after=state_of(task)) as note:
                await means.store.noting(note).create_tasks([task])
        except Unsure:
            await _read_back(means, task)
        except Conflict as conflict:
            if conflict.code != "id_taken" or id is None:
                raise
            view = await _made_before(means, task)
            trail.verdict = REPEATED
            return view
    view = TaskView.of_new(task)
    _tell_planners(means, view)
    # An id that the caller chose may have had a task before, of which something still runs.
    return view if id is None else await existing(means, task.id)


async def _made_before(means: Means, task: Task) -> TaskView:
    """The task that the same request made when it was sent first. Raises Conflict if it was another request."""
    view = await existing(means, task.id)
    if view.task.name != task.name:
        raise Conflict("This key was used for another task.", code="idempotency_key_reused")
    return view


async def update_task(means: Means, by: Asker, task_id: TaskId, edit: Edit, unless: Unless = ALWAYS) -> TaskView:
    """The task after *edit*. Raises NotFound; Protected; Invalid; Conflict; Stale."""
    await require(means.grants, by, Permission.TASKS_WRITE)
    return await _change(means, by, task_id, edit, unless, action="update_task")


async def set_enabled(means: Means, by: Asker, task_id: TaskId, unless: Unless = ALWAYS, *, to: bool) -> TaskView:
    """The task, enabled or disabled. Asking for what is so already changes nothing."""
    await require(means.grants, by, Permission.TASKS_WRITE)
    action = "enable_task" if to else "disable_task"
    return await _change(means, by, task_id, lambda task, _: replace(task, enabled=to), unless, action=action)


async def pause_task(
    means: Means, by: Asker, task_id: TaskId, unless: Unless = ALWAYS, *, reason: str = "", until: Moment | None = None
) -> TaskView:
    """The task, starting nothing by schedule until it is resumed, or until *until*. Raises Invalid for a past one."""
    await require(means.grants, by, Permission.TASKS_WRITE)
    if until is not None and until <= means.clock.now():
        raise Invalid.at("/until", "must lie in the future")
    edit = _pausing(reason, until)
    return await _change(means, by, task_id, edit, unless, action="pause_task", touches_system=True)


async def resume_task(means: Means, by: Asker, task_id: TaskId, unless: Unless = ALWAYS) -> TaskView:
    """The task without its pause."""
    await require(means.grants, by, Permission.TASKS_WRITE)
    return await _change(means, by, task_id, _resuming, unless, action="resume_task", touches_system=True)


async def stop_task(means: Means, by: Asker, task_id: TaskId, unless: Unless = ALWAYS) -> Stopped:
    """Pause the task first, so that nothing new starts, then cancel what waits and what runs."""
    await require(means.grants, by, Permission.TASKS_EXECUTE)
    await _change(means, by, task_id, _pausing("stopped", None), unless, action="stop_task", touches_system=True)
    found = await means.store.request_cancel(task_id=task_id, now=means.clock.now())
    means.bus.publish(Topic.CANCEL)
    return Stopped(task_id, [id for id, verdict in found if verdict is not CancelVerdict.ENDED])


async def delete_task(means: Means, by: Asker, task_id: TaskId, unless: Unless = ALWAYS) -> Stopped:
    """Delete a task and cancel what is left of it; its history stays until retention."""
    await require(means.grants, by, Permission.TASKS_DELETE)
    async with Trail(means, by, "delete_task", task_id) as trail:
        for _ in range(TRIES_MAX):
            view = await existing(means, task_id)
            if await let_come(means, [view]):
                continue
            refuse_system(view.task)
            unless.check(view.task)
            try:
                with trail.noted(before=state_of(view.task)) as note:
                    running = await means.store.noting(note).delete_task(
                        task_id, expected_revision=view.task.revision, now=means.clock.now()
                    )
            except Stale:
                continue
            means.bus.publish(Topic.CANCEL)
            means.bus.publish(Topic.TASKS)
            return Stopped(task_id, running)
        raise Unavailable("the task changes too fast")


def _resuming(task: Task, _: Making) -> Task:
    return replace(task, pause=None)


def _pausing(reason: str, until: Moment | None) -> Edit:
    return lambda task, making: replace(task, pause=Pause(since=making.at, by=making.by, reason=reason, until=until))


async def let_come(means: Means, views: Sequence[TaskView]) -> bool:
    """Wait for the moment of what is decided already but comes only now; False if there is nothing of that kind.

    What is asked for meanwhile comes after it: nothing of a task starts behind the back of whoever was told that it is
    paused (decision 0115).
    """
    now = means.clock.now()
    left = max((view.cursor - now for view in views if view.cursor - now <= planning.AHEAD), default=0)
    if left <= 0:
        return False
    await means.clock.sleep(left)
    return True


async def _change(
    means: Means, by: Asker, task_id: TaskId, edit: Edit, unless: Unless, *, action: str, touches_system: bool = False
) -> TaskView:
    """The task after *edit*, decided anew as long as others are quicker."""
    async with means.turns.of(task_id), Trail(means, by, action, task_id) as trail:
        for _ in range(TRIES_MAX):
            view = await existing(means, task_id)
            if await let_come(means, [view]):
                continue
            if not touches_system:
                refuse_system(view.task)
            elif view.task.is_system:
                await require(means.grants, by, Permission.TASKS_ADMIN)
            unless.check(view.task)
            # Never before the last change, or its occurrences would be decided twice after a clock went back.
            now = max(means.clock.now(), view.task.updated_at)
            stored = opened_task(means.vault, view.task)
            wanted = edit(stored, means.making(by, id=task_id, at=now))
            if _is_same(wanted, stored):
                return view
            changed = sealed_task(means.vault, wanted, over=view.task).changed(view.task, at=now, by=by.id)
            plan = undecided(view, now, means.queue_size)
            try:
                with trail.noted(before=state_of(view.task), after=state_of(changed)) as note:
                    written = await means.store.noting(note).put_task(
                        changed, expected_revision=view.task.revision, plan=plan
                    )
            except Stale:
                continue
            except Unsure:
                await _read_back(means, changed)
                written = None
            _tell_planners(means, view, written)
            if (plan is not None and plan.executions) or changed.policy.overlap is not view.task.policy.overlap:
                means.bus.publish(Topic.QUEUED)
            return written or await existing(means, task_id)
        raise Unavailable("the task changes too fast")


def _tell_planners(means: Means, *views: TaskView | None) -> None:
    """Wake them if what they know is due soon, or will be; *views*: before and after. None: that is not known."""
    soon = means.clock.now() + SOON
    if any(view is None or (view.next_run_at is not None and view.next_run_at < soon) for view in views):
        means.bus.publish(Topic.TASKS)


def _is_same(wanted: Task, stored: Task) -> bool:
    """Whether nothing but the moment and author of a pause differs."""
    if wanted.pause is not None and stored.pause is not None:
        same = (wanted.pause.reason, wanted.pause.until) == (stored.pause.reason, stored.pause.until)
        return same and replace(wanted, pause=stored.pause) == stored
    return wanted == stored


def undecided(view: TaskView, now: Moment, room: int) -> Plan | None:
    """What the stored definition left undecided up to *now*, so that no moment falls between it and its successor.

    The room is the whole queue: a change must be accounted for now, it can't wait for the queue to drain; what it
    may add is bounded by ``catchup_max``.
    """
    if not view.task.enabled:
        return None
    due = DueTask(view.task, view.cursor, view.running + view.queued)
    try:
        return planning.plan(due, now, max(room, view.task.policy.catchup_max))
    except ValueError:
        # Its schedule can't be read any more, so the planner has put it aside until it is edited: now, perhaps.
        return None


async def _read_back(means: Means, task: Task) -> None:
    """Return if the write of *task* is there after all; else nobody knows yet, and the caller must say so."""
    view = await means.store.get_task(task.id)
    if view is None or (view.task.revision, view.task.updated_at) != (task.revision, task.updated_at):
        raise Unsure("the answer of the store was lost")


# ── the rest ─────────────────────────────────────────────────────────────────────────────────────


async def reload_tasks(means: Means, by: Asker) -> int:
    """Have every planner look at the store anew, and judge grants anew; how many tasks there are."""
    await require(means.grants, by, Permission.TASKS_ADMIN)
    means.grants.refresh()
    means.bus.publish(Topic.TASKS)
    means.bus.publish(Topic.QUEUED)
    return (await means.store.statistics(means.clock.now())).total_tasks
