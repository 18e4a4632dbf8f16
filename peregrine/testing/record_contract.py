"""The conformance suite of the shelf: what ``ports/records.py`` promises, as checks that any store can be held to.

A check is a coroutine function that takes an empty ``RecordStore`` and fails with ``AssertionError``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from peregrine.domain.errors import Stale
from peregrine.domain.payload import JsonObject
from peregrine.ports.records import Record, RecordStore

Check: TypeAlias = Callable[[RecordStore], Awaitable[None]]
NOW: Final = 1_767_225_600_000
DEEP: Final[JsonObject] = {"text": "Grüße, \u2028 and 'quotes'", "list": [1, 2.5, None, True], "deep": {"": {"a": []}}}


async def _put(
    store: RecordStore, key: str, *, expected: int | None = None, expires_at: int | None = None, collection: str = "c"
) -> Record:
    record = Record(collection=collection, key=key, document={"key": key}, expires_at=expires_at)
    return await store.put_record(record, expected_revision=expected, now=NOW)


async def check_what_is_put_comes_back(store: RecordStore) -> None:
    record = Record(collection="c", key="k", document=DEEP, expires_at=NOW + 1)

    kept = await store.put_record(record, expected_revision=None, now=NOW)

    assert kept.revision == 1
    assert await store.get_record("c", "k", now=NOW) == kept
    assert (kept.document, kept.expires_at) == (DEEP, NOW + 1)


async def check_revisions_grow_and_guard(store: RecordStore) -> None:
    assert (await _put(store, "k", expected=0)).revision == 1
    assert (await _put(store, "k", expected=1)).revision == 2
    assert (await _put(store, "k")).revision == 3
    for expected in (0, 1, 4):
        try:
            await _put(store, "k", expected=expected)
        except Stale:
            continue
        raise AssertionError(f"revision {expected} was taken for 3")


async def check_of_many_who_make_it_one_does(store: RecordStore) -> None:
    made = await asyncio.gather(*(_put(store, "k", expected=0) for _ in range(20)), return_exceptions=True)

    assert sum(isinstance(one, Record) for one in made) == 1
    assert sum(isinstance(one, Stale) for one in made) == 19


async def check_an_expired_one_is_gone(store: RecordStore) -> None:
    await _put(store, "k", expires_at=NOW + 10)

    assert await store.get_record("c", "k", now=NOW + 9) is not None
    assert await store.get_record("c", "k", now=NOW + 10) is None
    assert list(await store.list_records("c", limit=10, now=NOW + 10)) == []
    record = Record(collection="c", key="k", document={})
    assert (await store.put_record(record, expected_revision=0, now=NOW + 10)).revision == 1


async def check_lists_go_by_key(store: RecordStore) -> None:
    for key in ("b", "a", "d", "c"):
        await _put(store, key)
    await _put(store, "x", collection="other")

    async def keys(**asked: object) -> list[str]:
        found = await store.list_records("c", now=NOW, **asked)  # type: ignore[arg-type]
        return [record.key for record in found]

    assert await keys(limit=10) == ["a", "b", "c", "d"]
    assert await keys(limit=2) == ["a", "b"]
    assert await keys(limit=2, after="b") == ["c", "d"]
    assert await keys(limit=2, newest_first=True) == ["d", "c"]
    assert await keys(limit=2, after="c", newest_first=True) == ["b", "a"]
    assert await keys(limit=10, after="z", newest_first=True) == ["d", "c", "b", "a"]


async def check_deleting_says_whether_it_was_there(store: RecordStore) -> None:
    await _put(store, "k")
    await _put(store, "gone", expires_at=NOW)

    assert await store.delete_record("c", "k", now=NOW) is True
    assert await store.delete_record("c", "k", now=NOW) is False
    assert await store.delete_record("c", "gone", now=NOW) is False
    assert await store.get_record("c", "k", now=NOW) is None


async def check_sweeping_takes_the_expired_alone(store: RecordStore) -> None:
    for number in range(5):
        await _put(store, f"old{number}", expires_at=NOW - number)
    await _put(store, "new", expires_at=NOW + 1)
    await _put(store, "for ever")

    assert await store.sweep_records(now=NOW, limit=3) == 3
    assert await store.sweep_records(now=NOW, limit=3) == 2
    assert await store.sweep_records(now=NOW, limit=3) == 0
    assert [record.key for record in await store.list_records("c", limit=9, now=NOW)] == ["for ever", "new"]


RECORD_CHECKS: Final[tuple[Check, ...]] = (
    check_what_is_put_comes_back,
    check_revisions_grow_and_guard,
    check_of_many_who_make_it_one_does,
    check_an_expired_one_is_gone,
    check_lists_go_by_key,
    check_deleting_says_whether_it_was_there,
    check_sweeping_takes_the_expired_alone,
)
