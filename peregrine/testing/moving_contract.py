"""The conformance suite of moving: what ``ports/moving.py`` promises, as checks for any two stores.

A check is a coroutine function that takes two empty stores, where from and where to, and fails with
``AssertionError``. Both must be whole stores with a shelf.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, Protocol, TypeAlias

from peregrine.domain.errors import Stale
from peregrine.domain.execution import AttemptOutcome
from peregrine.domain.ids import ExecutionId
from peregrine.domain.moment import DAY, HOUR, MINUTE
from peregrine.domain.payload import JsonObject
from peregrine.ports.eve import Alliance, Character, Corporation, EveStore, Refreshing, Tokens
from peregrine.ports.moving import Item, Kind, MovableStore
from peregrine.ports.records import Record, RecordStore
from peregrine.ports.store import Store
from peregrine.testing.builders import NOW, a_new_execution, a_plan, a_task
from peregrine.testing.eve_contract import a_character, a_corporation, a_profile, an_alliance
from peregrine.testing.store_contract.steps import (
    all_executions,
    assert_adds_up,
    claimed,
    photograph,
    queued,
    queued_ids,
    settled,
    stored,
)
from peregrine.testing.store_contract.story import tell


class WholeStore(Store, RecordStore, MovableStore, Protocol):
    """Everything that a store in use can do, and to be moved."""

    @property
    def eve(self) -> EveStore:
        """What it keeps of EVE Online."""
        ...


Check: TypeAlias = Callable[[WholeStore, WholeStore], Awaitable[None]]
LATER: Final = NOW + 30 * DAY


async def move(source: WholeStore, target: WholeStore, *, limit: int = 100, most: int | None = None) -> int:
    """Move everything, or only the first *most* batches; how many items were new to the target."""
    laid = 0
    for kind in Kind:
        after: str | None = ""
        while after is not None and most != 0:
            load = await source.read_items(kind, after=after, limit=limit)
            assert len(load.items) <= limit
            laid += await target.lay_items(load.items)
            after, most = load.next, None if most is None else most - 1
    return laid


async def everything(store: WholeStore) -> list[Item]:
    """All items of a store, kind by kind, in their order."""
    found: list[Item] = []
    for kind in Kind:
        count, after = 0, ""
        while True:
            load = await store.read_items(kind, after=after, limit=3)
            found += load.items
            count += len(load.items)
            if load.next is None:
                break
            after = load.next
        assert count == await store.count_items(kind)
    return found


async def _lived(store: WholeStore, seed: int = 1) -> None:
    """A store in which much has happened, whatever can happen to an execution included."""
    await tell(store, seed, 200)
    retried = a_task("retried")
    await stored(store, retried)
    await queued_ids(store, retried, "tried twice")
    for one in await claimed(store, limit=1_000, now=NOW + HOUR):
        detail: JsonObject = {"log": [{"line": one.execution_id}]}
        await settled(store, one, AttemptOutcome.FAILED, detail=detail, at=NOW + HOUR)
    gone = a_task("gone")
    await stored(store, gone)
    await queued_ids(store, gone, "of a task that is gone")
    await store.delete_task(gone.id, expected_revision=None, now=NOW + MINUTE)
    for key in ("a", "b", "b", "c"):
        record = Record(collection="policies" if key != "c" else "audit", key=key, document={"key": key, "n": [1, 2.5]})
        await store.put_record(record, expected_revision=None, now=NOW)
    await _with_eve(store)


async def _with_eve(store: WholeStore) -> None:
    """Pilots in every state of a refresh; groups that have vanished, and such as lack all that may be absent."""
    eve = store.eve
    await eve.put_characters(
        [a_character(id) for id in range(1, 8)] + [Character(character_id=9, name="Bare")], now=NOW
    )
    await eve.put_alliances([an_alliance(1), an_alliance(2), Alliance(alliance_id=3, name="B", ticker="B")], now=NOW)
    await eve.put_corporations([a_corporation(1), Corporation(corporation_id=2, name="B", ticker="B")], now=NOW)
    await eve.vanish_alliances([2], now=NOW + 1)
    await eve.vanish_corporations([1], now=NOW + 2)
    for id in (1, 2, 3):
        await eve.put_profile(a_profile(id, scopes=()), now=NOW)
    wish = Refreshing(character_id=1, token_version=1, held_by=None, owner="somebody")
    await eve.claim_refresh(wish, now=NOW + 3)
    await eve.claim_refresh(replace(wish, character_id=2), now=NOW + 3)
    await eve.invalidate_token(2, owner="somebody", reason="revoked", now=NOW + 4)
    tokens = Tokens(access_token="a", refresh_token="r", expires_at=NOW + 5)
    await eve.store_tokens(3, tokens, token_version=1, now=NOW + 6)


async def check_pilots_are_refreshed_where_they_were_moved_to(source: WholeStore, target: WholeStore) -> None:
    """The right to refresh is moved too: whoever held it there can't be asked any more, and is watched here."""
    await _with_eve(source)
    await move(source, target)

    assert [await target.eve.profile_of(id) for id in (1, 2, 3)] == [
        await source.eve.profile_of(id) for id in (1, 2, 3)
    ]
    tokens = Tokens(access_token="n", refresh_token="n", expires_at=NOW + 7)
    assert not await target.eve.store_tokens(3, tokens, token_version=1, now=NOW)
    assert await target.eve.store_tokens(3, tokens, token_version=2, now=NOW)


async def check_everything_a_reader_sees_is_moved(source: WholeStore, target: WholeStore) -> None:
    await _lived(source)

    await move(source, target)

    before, after = await photograph(source, now=LATER), await photograph(target, now=LATER)
    assert {key: after.get(key) for key in before if key[0] != "instance"} == {
        key: seen for key, seen in before.items() if key[0] != "instance"
    }
    assert await everything(target) == await everything(source)
    await assert_adds_up(target, now=LATER)


async def check_an_empty_store_moves(source: WholeStore, target: WholeStore) -> None:
    assert await move(source, target) == 0
    assert await everything(target) == []


async def check_what_is_there_stays_as_it_is(source: WholeStore, target: WholeStore) -> None:
    await _lived(source)
    laid = await move(source, target)

    assert laid == len(await everything(source))
    assert await move(source, target, limit=7) == 0
    assert await everything(target) == await everything(source)


async def check_a_move_that_was_cut_off_is_repeated(source: WholeStore, target: WholeStore) -> None:
    await _lived(source, seed=2)
    for most in (1, 3, 9):
        await move(source, target, limit=5, most=most)

    await move(source, target, limit=50)

    assert await everything(target) == await everything(source)
    await assert_adds_up(target, now=LATER)


async def check_keys_guard_where_they_were_moved_to(source: WholeStore, target: WholeStore) -> None:
    task = a_task()
    await stored(source, task)
    await source.apply_plans([a_plan(task, NOW + MINUTE)], NOW + MINUTE)
    await queued(source, a_new_execution("asked for"))
    await move(source, target)
    before = await all_executions(target)

    again = await target.enqueue(a_new_execution("another id", key="m:task-1:asked for"), queue_limit=100)
    await target.apply_plans([a_plan(task, NOW + MINUTE, cursor=NOW + MINUTE)], NOW + MINUTE)

    assert again.id == "asked for"
    assert {one.id for one in await all_executions(target)} == {one.id for one in before}


async def check_work_goes_on_where_it_was_moved_to(source: WholeStore, target: WholeStore) -> None:
    task = a_task()
    await stored(source, task)
    await queued_ids(source, task, "runs")
    (claim,) = await claimed(source)
    await queued_ids(source, task, "waits")
    await move(source, target)

    assert await claimed(target) == [], "the other one of its task still runs"
    await settled(target, claim)
    (following,) = await claimed(target, now=NOW + MINUTE)

    assert following.execution_id == ExecutionId("waits")
    await assert_adds_up(target, now=NOW + MINUTE)


async def check_records_keep_their_revisions_and_their_end(source: WholeStore, target: WholeStore) -> None:
    record = Record(collection="c", key="k", document={"deep": {"": [None, True, 1, 1.5, "ü"]}}, expires_at=LATER)
    for _ in range(3):
        await source.put_record(record, expected_revision=None, now=NOW)
    await move(source, target)

    shown = await target.get_record("c", "k", now=NOW)
    assert shown == await source.get_record("c", "k", now=NOW)
    assert await target.get_record("c", "k", now=LATER) is None
    try:
        await target.put_record(record, expected_revision=2, now=NOW)
    except Stale:
        return
    raise AssertionError("revision 2 was taken for 3")


CHECKS: Final[tuple[Check, ...]] = tuple(value for name, value in list(globals().items()) if name.startswith("check_"))
