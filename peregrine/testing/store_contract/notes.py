"""Owns what every store must do with notes about changes of definitions: none without them, and they tell the truth.

The stores that are given have a shelf too, on which notes are put.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, TypeAlias, cast

from peregrine.domain.errors import Conflict, NotFound, PeregrineError, Stale
from peregrine.domain.ids import TaskId
from peregrine.domain.moment import DAY, MINUTE
from peregrine.ports.records import DONE, RecordStore
from peregrine.ports.store import TaskChange, TaskWrites
from peregrine.testing.builders import NOW, a_task
from peregrine.testing.store_contract.factory import StoreFactory
from peregrine.testing.store_contract.steps import NOTES, a_note, all_tasks, note_put, refused, said, stored

OLD: Final = a_task("old")
CHANGED: Final = replace(OLD, description="new", revision=2, updated_at=NOW + MINUTE)
Change: TypeAlias = Callable[[TaskWrites], Awaitable[object]]

GOOD: Final[dict[str, Change]] = {
    "create": lambda to: to.create_tasks([a_task("new")]),
    "put": lambda to: to.put_task(CHANGED, expected_revision=1),
    "put together": lambda to: to.put_tasks([a_task("new")], [TaskChange(task=CHANGED, expected_revision=1)]),
    "delete": lambda to: to.delete_task(OLD.id, expected_revision=1, now=NOW + MINUTE),
}
REFUSED: Final[dict[str, tuple[Change, type[PeregrineError], str]]] = {
    "create": (lambda to: to.create_tasks([a_task("new", name=OLD.name)]), Conflict, "name_taken"),
    "create again": (lambda to: to.create_tasks([OLD]), Conflict, "id_taken"),
    "put": (lambda to: to.put_task(CHANGED, expected_revision=7), Stale, "stale"),
    "put together": (
        lambda to: to.put_tasks([a_task("new")], [TaskChange(task=CHANGED, expected_revision=7)]), Stale, "stale",
    ),
    "delete": (
        lambda to: to.delete_task(TaskId("never"), expected_revision=None, now=NOW + MINUTE), NotFound, "not_found",
    ),
}  # fmt: skip


async def notes_say_of_a_change_that_it_was_made(factory: StoreFactory) -> None:
    for what, change in GOOD.items():
        store = await factory.fresh()
        await stored(store, OLD)
        before = await all_tasks(store)

        await change(store.noting(a_note("1"), a_note("2")))

        assert await all_tasks(store) != before, what
        assert [await said(store, key) for key in ("1", "2")] == [DONE, DONE], what
        record = await note_put(store, "1")
        assert record is not None
        assert (record.document["about"], record.expires_at) == ("1", NOW + DAY)


async def notes_say_what_a_change_was_refused_with(factory: StoreFactory) -> None:
    for what, (change, error, code) in REFUSED.items():
        store = await factory.fresh()
        await stored(store, OLD)
        before = await all_tasks(store)

        refusal = await refused(error, change(store.noting(a_note("1"))))

        assert refusal.code == code, what
        assert await all_tasks(store) == before, what
        assert await said(store, "1") == code, what


async def a_note_is_put_again_over_itself(factory: StoreFactory) -> None:
    store = await factory.fresh()
    await stored(store, OLD)
    change, error, _ = REFUSED["put"]

    await refused(error, change(store.noting(a_note("1"))))
    await GOOD["put"](store.noting(a_note("1")))

    assert await said(store, "1") == DONE
    assert len(await cast(RecordStore, store).list_records(NOTES, limit=9, now=NOW)) == 1


async def what_changes_without_notes_has_none(factory: StoreFactory) -> None:
    store = await factory.fresh()
    await stored(store, OLD)
    store.noting(a_note("1"))

    await GOOD["put"](store)

    assert await said(store, "1") == ""
