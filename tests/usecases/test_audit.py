"""Nothing is changed without an entry, an entry says what became of the change, and strangers can't fill the trail."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from peregrine.domain.errors import Conflict, Stale, Unavailable, Unsure
from peregrine.domain.ids import TaskId
from peregrine.domain.task import Task, TaskView
from peregrine.ports.records import Note, Record
from peregrine.ports.shelves import AUDIT
from peregrine.ports.store import TaskWrites
from peregrine.stores.memory import MemoryStore
from peregrine.stores.memory_records import MemoryRecords
from peregrine.usecases import audit, tasks
from peregrine.wire.task_input import read_new_task
from tests.api.world import HTTP_TASK, World
from tests.usecases.test_changes import BOSS, described, task_of

pytestmark = pytest.mark.anyio


class Shelf(MemoryRecords):
    """A shelf that may be away for the trail."""

    is_away = False
    left = -1
    """So many entries are written until it goes away; -1: all."""

    async def put_record(self, record: Record, **how: Any) -> Record:
        if record.collection == AUDIT:
            if self.left == 0:
                raise Unavailable("away")
            self.left -= 1
        return await super().put_record(record, **how)


class Answers(MemoryStore):
    """A store that raises what it is told at a change: before it, or after it."""

    before: Exception | None = None
    after: Exception | None = None

    async def put_task(self, task: Task, **how: Any) -> None:
        if self.before is not None:
            raise self.before
        await super().put_task(task, **how)
        if self.after is not None:
            raise self.after


async def made(world: World) -> Task:
    """A task, made a while ago: entries are in the order of their moments."""
    task = await task_of(world)
    world.clock.pass_time(10)
    return task


async def trail(world: World) -> list[tuple[str, str]]:
    """Actions and verdicts, oldest first."""
    records = await world.records.list_records(AUDIT, limit=100, now=world.clock.now())
    return [(str(record.document["action"]), str(record.document["verdict"])) for record in records]


async def test_an_entry_stands_before_the_change_and_says_what_became_of_it() -> None:
    world = World(store=Answers())
    task = await made(world)
    assert isinstance(world.store, Answers)
    world.store.before = RuntimeError("the process dies here")

    with pytest.raises(RuntimeError):
        await tasks.update_task(world.means, BOSS, task.id, described("new"))
    world.store.before = None
    world.clock.pass_time(10)
    await tasks.update_task(world.means, BOSS, task.id, described("newer"))

    assert await trail(world) == [("create_task", "done"), ("update_task", "asked"), ("update_task", "done")]


async def test_without_an_entry_nothing_is_changed() -> None:
    world = World(records=Shelf())
    task = await made(world)
    assert isinstance(world.records, Shelf)
    world.records.left = 0

    for change in (
        tasks.update_task(world.means, BOSS, task.id, described("new")),
        tasks.delete_task(world.means, BOSS, task.id),
        tasks.create_task(world.means, BOSS, lambda making: read_new_task(HTTP_TASK | {"name": "b"}, making)),
    ):
        with pytest.raises(Unavailable):
            await change

    assert (await tasks.get_task(world.means, BOSS, task.id)).task == task
    assert (await world.store.statistics(0)).total_tasks == 1


async def test_a_change_that_was_made_stays_though_its_entry_can_not_be_finished() -> None:
    world = World(records=Shelf())
    task = await made(world)
    assert isinstance(world.records, Shelf)
    world.records.left = 1

    view = await tasks.update_task(world.means, BOSS, task.id, described("new"))

    assert view.task.description == "new"
    assert (await trail(world))[-1] == ("update_task", "asked")


async def test_what_was_refused_says_by_what() -> None:
    world = World(store=Answers())
    task = await made(world)
    assert isinstance(world.store, Answers)
    world.store.before = Conflict("taken", code="name_taken")

    with pytest.raises(Conflict):
        await tasks.update_task(world.means, BOSS, task.id, described("new"))

    assert (await trail(world))[-1] == ("update_task", "name_taken")


async def test_of_a_lost_answer_nobody_knows() -> None:
    world = World(store=Answers())
    task = await made(world)
    assert isinstance(world.store, Answers)
    world.store.before = Unsure("lost")

    with pytest.raises(Unsure):
        await tasks.update_task(world.means, BOSS, task.id, described("new"))

    assert (await trail(world))[-1] == ("update_task", "asked")


class Losing(MemoryStore):
    """A store whose answer to a noted change is lost, with what it wrote or without; then it is away."""

    is_losing = False
    keeps = False
    error: Exception = Unsure("lost")

    def noting(self, *notes: Note) -> TaskWrites:
        return cast(TaskWrites, LostAnswers(self, super().noting(*notes))) if self.is_losing else super().noting(*notes)

    async def get_task(self, task_id: TaskId) -> TaskView | None:
        view = await super().get_task(task_id)
        if view is not None and view.task.revision > 1:
            raise Unavailable("away")
        return view


class LostAnswers:
    def __init__(self, store: Losing, verbs: TaskWrites) -> None:
        self._store = store
        self._verbs = verbs

    async def put_task(self, task: Task, **how: Any) -> None:
        if self._store.keeps:
            await self._verbs.put_task(task, **how)
        raise self._store.error


@pytest.mark.parametrize("error", [Unsure("lost"), RuntimeError("a bug")])
@pytest.mark.parametrize("says", ["asked", "done"])
async def test_of_a_lost_answer_the_entry_says_what_the_store_has_kept(says: str, error: Exception) -> None:
    store = Losing()
    world = World(store=store)
    task = await made(world)
    store.is_losing, store.keeps = True, says == "done"
    store.error = error

    with pytest.raises((Unavailable, RuntimeError)):
        await tasks.update_task(world.means, BOSS, task.id, described("new"))

    assert (await trail(world))[-1] == ("update_task", says)


async def test_a_change_that_is_given_up_was_not_made() -> None:
    world = World(store=Answers())
    task = await made(world)
    assert isinstance(world.store, Answers)
    world.store.before = Stale("somebody was quicker")

    for change in (
        tasks.update_task(world.means, BOSS, task.id, described("new")),
        tasks.pause_task(world.means, BOSS, task.id),
    ):
        with pytest.raises(Unavailable):
            await change

    assert [verdict for _, verdict in await trail(world)] == ["done", "stale", "stale"]


async def test_a_change_that_is_decided_anew_has_one_entry() -> None:
    world = World(store=Answers())
    task = await made(world)
    store = world.store
    assert isinstance(store, Answers)
    store.before = Stale("somebody was quicker")
    tries: list[int] = []

    def edit(stored: Task, _: Any) -> Task:
        tries.append(stored.revision)
        if len(tries) == 3:
            store.before = None
        return described("new")(stored, _)

    await tasks.update_task(world.means, BOSS, task.id, edit)

    assert len(tries) == 3
    assert await trail(world) == [("create_task", "done"), ("update_task", "done")]


async def test_what_changes_nothing_has_no_entry() -> None:
    world = World()
    task = await made(world)

    await tasks.set_enabled(world.means, BOSS, task.id, to=True)

    assert await trail(world) == [("create_task", "done")]


async def test_who_proves_nothing_is_told_of_now_and_then() -> None:
    world = World()

    for number in range(40):
        answer = await world.ask(
            "POST", "/scheduler/tasks", HTTP_TASK, headers={"Authorization": f"Bearer no-{number}"}
        )
        assert answer.status_code == 401
    seen = await trail(world)
    world.clock.pass_time(60_000)
    await world.ask("DELETE", "/scheduler/tasks/some-id", headers={"Authorization": "Bearer no"})

    assert seen == [("create_task", "unauthenticated")] * len(seen)
    assert 1 <= len(seen) <= 10
    records = await world.records.list_records(AUDIT, limit=100, now=world.clock.now(), newest_first=True)
    assert (records[0].document["target"], records[0].document["who"]) == ("some-id", "anonymous")


async def test_an_entry_of_a_newer_version_is_read_without_what_is_new_in_it() -> None:
    world = World()
    await made(world)
    (record,) = await world.records.list_records(AUDIT, limit=1, now=world.clock.now())
    newer = replace(record, document=dict(record.document) | {"approved_by": "somebody"})
    await world.records.put_record(newer, expected_revision=None, now=world.clock.now())

    (entry,) = await audit.list_entries(world.means, BOSS, before="", limit=10)

    assert (entry.action, entry.verdict) == ("create_task", "done")
