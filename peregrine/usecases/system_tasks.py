"""Owns how declared system tasks meet the stored ones at start: new ones stored, changed ones updated, dropped ones
retired, an operator's pause kept. Must not know what the tasks do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from peregrine.domain.errors import Conflict, NotFound, Stale
from peregrine.domain.moment import Moment, format_moment
from peregrine.domain.payload import Kind, SystemPayload
from peregrine.domain.planning import DueTask, plan
from peregrine.domain.query import PageRequest, TaskFilter, TaskSort
from peregrine.domain.task import Task, TaskView
from peregrine.ports.clock import Clock
from peregrine.ports.module import SystemTask
from peregrine.ports.store import Store
from peregrine.ports.vault import Vault, opened_task, sealed_task

SYSTEM: Final = "system"
TRIES: Final = 5
"""A planner, or another instance that starts at the same time, may be quicker; then it is looked at again."""


@dataclass(frozen=True, slots=True)
class Synchronised:
    """What a synchronisation changed."""

    created: Sequence[str]
    updated: Sequence[str]
    retired: Sequence[str]


async def synchronise(
    store: Store, clock: Clock, declared: Sequence[SystemTask], vault: Vault | None = None
) -> Synchronised:
    """Make the stored system tasks equal to *declared*, their secrets sealed.

    A pause is the operator's and stays. What is not declared any more is deleted, its history kept.

    Raises:  Unavailable.
    """
    created: list[str] = []
    updated: list[str] = []
    for declaration in declared:
        match await _settle(store, clock, declaration, vault):
            case "created":
                created.append(declaration.id)
            case "updated":
                updated.append(declaration.id)
    retired = await _retire_others(store, clock, {declaration.id for declaration in declared})
    return Synchronised(created, updated, retired)


async def _settle(store: Store, clock: Clock, declaration: SystemTask, vault: Vault | None) -> str:
    name = declaration.name
    for _ in range(TRIES):
        now = clock.now()
        view = await store.get_task(declaration.id)
        definition = replace(_definition(declaration, now), name=name)
        try:
            if view is None:
                await store.create_tasks([sealed_task(vault, definition)])
                return "created"
            return await _update(store, view, definition, vault, now)
        except (Conflict, NotFound) as error:
            if error.code == "name_taken":
                # A task of somebody's has it. That keeps no system task away, and no service from starting.
                own = f"{declaration.name} ({declaration.id}, {format_moment(now)})"
                name = own if view is None else view.task.name
    raise Stale(f"{declaration.id} is being changed by somebody else all the time")


async def _update(store: Store, view: TaskView, declared: Task, vault: Vault | None, now: Moment) -> str:
    stored = opened_task(vault, view.task)
    wanted = replace(
        declared,
        pause=stored.pause,
        anchor=stored.anchor,
        created_at=stored.created_at,
        revision=stored.revision,
        generation=stored.generation,
        updated_at=stored.updated_at,
        updated_by=stored.updated_by,
    )
    if wanted == stored:
        return "kept"
    due = DueTask(stored, view.cursor, view.running + view.queued)
    undecided = plan(due, now, room=1_000_000) if stored.enabled else None
    changed = sealed_task(vault, wanted, over=view.task).changed(stored, at=now, by=SYSTEM)
    await store.put_task(changed, expected_revision=stored.revision, plan=undecided)
    return "updated"


def _definition(declaration: SystemTask, now: Moment) -> Task:
    return Task(
        id=declaration.id,
        name=declaration.name,
        description=declaration.description,
        kind=Kind.SYSTEM,
        payload=SystemPayload(task_name=declaration.task_name, parameters=declaration.parameters),
        schedule=declaration.schedule,
        timezone=declaration.timezone,
        anchor=now - now % 1000,
        priority=declaration.priority,
        enabled=declaration.enabled,
        policy=declaration.policy,
        tags=declaration.tags,
        is_system=True,
        source=SYSTEM,
        created_at=now,
        updated_at=now,
        created_by=SYSTEM,
        updated_by=SYSTEM,
    )


async def _retire_others(store: Store, clock: Clock, declared: set[str]) -> list[str]:
    retired: list[str] = []
    page = await store.list_tasks(
        TaskFilter(is_system=True), PageRequest(size=100), sort=TaskSort.NAME, descending=False, now=clock.now()
    )
    for view in page.items:
        if view.task.id not in declared:
            try:
                await store.delete_task(view.task.id, expected_revision=None, now=clock.now())
            except NotFound:
                continue
            retired.append(view.task.id)
    return retired
