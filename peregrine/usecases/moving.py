"""Owns the move of everything from one store to another, and the proof that it arrived; must not know which stores.

On the shelf of each store stands what was moved into it and out of it. So a move that was cut off goes on when it is
asked for again, a store that holds half of another is not started, and neither is one whose tasks live elsewhere now:
two stores with the same tasks would run everything twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final, Protocol, TypeAlias

from peregrine.domain.errors import Conflict, UnsafeStore
from peregrine.domain.moment import Moment, format_moment
from peregrine.ports.clock import Clock
from peregrine.ports.host import Host, Instance
from peregrine.ports.moving import Item, Kind, MovableStore
from peregrine.ports.records import Record, RecordStore
from peregrine.ports.store import Store

MOVES: Final = "moves"
CAME, WENT = "came", "went"
BATCH: Final = 500

Tell: TypeAlias = Callable[[Kind, int, int], None]
"""Told after each batch: what is moved, how many items of it, of how many."""


class WholeStore(Store, RecordStore, MovableStore, Protocol):
    """Everything that a store in use can do, and to be moved."""


class Neighbours(Host, Protocol):
    """Knows of processes on this machine."""

    def is_alive(self, instance: Instance) -> bool:
        """True only if *instance* runs on this very machine; False when in doubt."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Road:
    """Where from, where to, by the names that a person gave them (no secret in them)."""

    source: WholeStore
    target: WholeStore
    source_name: str
    target_name: str
    clock: Clock


@dataclass(frozen=True, slots=True)
class Sum:
    """How many items there are of a kind, and a digest of all of them that does not ask for their order."""

    count: int = 0
    digest: int = 0

    def adding(self, items: Sequence[Item]) -> Sum:
        """This sum with *items*."""
        return Sum(self.count + len(items), (self.digest + sum(map(_digest, items))) % 2**256)


def _digest(item: Item) -> int:
    text = json.dumps(asdict(item), sort_keys=True, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest(), "big")


async def move(road: Road, tell: Tell) -> Mapping[Kind, int]:
    """Move everything and prove that it is there; how many items of each kind the source holds.

    Raises:  Conflict when the target holds something else, or what arrived is not what was sent; Unavailable.
    """
    await _begin(road)
    sums: dict[Kind, Sum] = {}
    for kind in Kind:
        sums[kind] = await _carry(road, kind, tell)
    for kind in Kind:
        arrived = await _sum(road.target, kind)
        if arrived != sums[kind]:
            raise Conflict(
                f"{kind}: {arrived.count} of {sums[kind].count} arrived, or not as they were; is a store in use?",
                code="move_differs",
            )
    await _note(road.target, CAME, {"from": road.source_name, "finished": True}, road.clock.now())
    return {kind: sum.count for kind, sum in sums.items()}


async def close_source(road: Road) -> None:
    """Note in the source where everything is now, so that nobody starts it by mistake."""
    await _note(road.source, WENT, {"to": road.target_name}, road.clock.now())


async def release(store: RecordStore, clock: Clock) -> bool:
    """Let a store be started although everything in it was moved elsewhere; whether it had been."""
    return await store.delete_record(MOVES, WENT, now=clock.now())


async def refuse_moved(store: RecordStore, clock: Clock) -> None:
    """Raises UnsafeStore when *store* must not be started: half of it is elsewhere, or all of it lives elsewhere."""
    now = clock.now()
    came = await store.get_record(MOVES, CAME, now=now)
    if came is not None and not came.document.get("finished"):
        raise UnsafeStore(
            f"the move from {came.document['from']} was not finished; run `peregrine migrate` again, it goes on"
        )
    went = await store.get_record(MOVES, WENT, now=now)
    if went is not None:
        when = format_moment(int(str(went.document["at"])))
        raise UnsafeStore(
            f"all of it was moved to {went.document['to']} at {when}: start the service there. To use this one again "
            "all the same, run `peregrine migrate --release` with it"
        )


async def user_of(
    store: Store, host: Neighbours, wait: Callable[[], Awaitable[None]], tell: Callable[[str], None]
) -> Instance | None:
    """A process that uses *store* now; None if there is none.

    One that is not gone for certain is watched for as long as *wait* takes: whoever lives, counts on in that time.
    """
    seen = await store.instances()
    before = {one.id: counter for one, counter, _ in seen if not host.is_gone(one)}
    if not before:
        return None
    for one, _, _ in seen:
        if host.is_alive(one):
            return one
    tell(f"waiting to see whether {len(before)} processes that used it are still alive")
    await wait()
    for one, counter, _ in await store.instances():
        if counter != before.get(one.id, counter) or (one.id not in before and not host.is_gone(one)):
            return one
    return None


async def _begin(road: Road) -> None:
    now = road.clock.now()
    came = await road.target.get_record(MOVES, CAME, now=now)
    if came is None:
        for kind in Kind:
            if count := await road.target.count_items(kind):
                held = f"{road.target_name} holds {count} {kind} already"
                raise Conflict(f"{held}; move into an empty store", code="used")
    elif came.document["from"] != road.source_name or came.document.get("finished"):
        raise Conflict(f"{road.target_name} holds what was moved from {came.document['from']}", code="used")
    await _note(road.target, CAME, {"from": road.source_name, "finished": False}, now)


async def _note(store: RecordStore, key: str, document: Mapping[str, str | bool], now: Moment) -> None:
    record = Record(collection=MOVES, key=key, document={**document, "at": now})
    await store.put_record(record, expected_revision=None, now=now)


async def _carry(road: Road, kind: Kind, tell: Tell) -> Sum:
    total, moved, after = await road.source.count_items(kind), Sum(), ""
    while True:
        load = await road.source.read_items(kind, after=after, limit=BATCH)
        items = _without_moves(load.items)
        await road.target.lay_items(items)
        moved = moved.adding(items)
        tell(kind, moved.count, max(total, moved.count))
        if load.next is None:
            return moved
        after = load.next


async def _sum(store: MovableStore, kind: Kind) -> Sum:
    found, after = Sum(), ""
    while True:
        load = await store.read_items(kind, after=after, limit=BATCH)
        found = found.adding(_without_moves(load.items))
        if load.next is None:
            return found
        after = load.next


def _without_moves(items: Sequence[Item]) -> Sequence[Item]:
    """*items* without our own notes, which belong to one store."""
    return [item for item in items if not (isinstance(item, Record) and item.collection == MOVES)]
