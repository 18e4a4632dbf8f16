"""Owns what this room keeps on the store's shelf: ESI's answers over restarts and instances, and what all instances
know of its limits where there is no Redis. Must not know what either says.
"""

from __future__ import annotations

from typing import Final

from peregrine.domain.errors import Stale, Unavailable
from peregrine.domain.moment import DAY, Duration
from peregrine.domain.payload import JsonObject
from peregrine.modules.esi.cache import MemoryCache
from peregrine.ports.clock import Clock
from peregrine.ports.esi import Kept
from peregrine.ports.records import Record, RecordStore
from peregrine.ports.shared import Shared

ANSWERS: Final = "esi_answers"
SHARED: Final = "esi_shared"
USEFUL_FOR: Final[Duration] = 8 * DAY
"""How long an answer stays beyond its expiry: until after the next weekly import, whose 304 it makes possible."""
BODY_MAX: Final = 512 * 1024
"""Larger answers are kept in this process only."""


class ShelfCache:
    """A ``ports.esi.EsiCache`` on the records, so that a restart or another instance does not ask before ``Expires``.

    This process's own memory comes first. It is politeness: while the store is away, that memory must do.
    """

    def __init__(self, records: RecordStore, clock: Clock, memory: MemoryCache | None = None) -> None:
        self._records = records
        self._clock = clock
        self._memory = memory or MemoryCache()

    async def get(self, key: str) -> Kept | None:
        """What is kept under *key*: the newest, if another instance has asked since."""
        near = await self._memory.get(key)
        if near is not None and near.expires_at > self._clock.now():
            return near
        try:
            record = await self._records.get_record(ANSWERS, key, now=self._clock.now())
        except Unavailable:
            return near
        far = None if record is None else _kept(record.document)
        if far is None or (near is not None and near.expires_at >= far.expires_at):
            return near
        await self._memory.put(key, far)
        return far

    async def put(self, key: str, kept: Kept) -> None:
        """Keep it here and on the shelf."""
        await self._memory.put(key, kept)
        record = _record(key, kept)
        if record is None:
            return
        try:
            await self._records.put_record(record, expected_revision=None, now=self._clock.now())
        except Unavailable:
            return


def _record(key: str, kept: Kept) -> Record | None:
    """*kept* as a record; None for what a shelf should not hold."""
    if len(kept.body) > BODY_MAX:
        return None
    try:
        body = kept.body.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if "\x00" in body:
        return None
    document: JsonObject = {
        "etag": kept.etag,
        "expires_at": kept.expires_at,
        "status": kept.status,
        "body": body,
    }
    return Record(collection=ANSWERS, key=key, document=document, expires_at=kept.expires_at + USEFUL_FOR)


def _kept(document: JsonObject) -> Kept | None:
    match document:
        case {"etag": str(etag), "expires_at": int(until), "status": int(status), "body": str(body)}:
            return Kept(etag, until, body.encode(), status)
    return None


class ShelfState:
    """A ``ports.shared.SharedState`` on the records, for several instances on one store without Redis.

    Each request to ESI costs two small writes then; with one instance, memory is enough. A record here never expires
    by itself: its revision must grow for ever, and there is one for each key.
    """

    def __init__(self, records: RecordStore, clock: Clock) -> None:
        self._records = records
        self._clock = clock

    async def read(self, key: str) -> Shared:
        """What stands under *key* now."""
        shared, _ = await self._read(key)
        return shared

    async def swap(self, key: str, text: str, *, seen: int, ttl: Duration) -> bool:
        """Write *text* if the version is still *seen*."""
        now = self._clock.now()
        shared, revision = await self._read(key)
        if shared.version != seen:
            return False
        record = Record(collection=SHARED, key=key, document={"text": text, "until": now + ttl})
        try:
            await self._records.put_record(record, expected_revision=revision, now=now)
        except Stale:
            return False
        return True

    async def _read(self, key: str) -> tuple[Shared, int]:
        """The text that has not expired, and the record's revision whether it has or not."""
        now = self._clock.now()
        record = await self._records.get_record(SHARED, key, now=now)
        if record is None:
            return Shared(), 0
        match record.document:
            case {"text": str(text), "until": int(until)} if until > now:
                return Shared(text, record.revision), record.revision
        return Shared(), record.revision
