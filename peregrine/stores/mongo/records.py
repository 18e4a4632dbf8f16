"""Owns the operations on the shelf; must not know tasks, work, or what a document says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from peregrine.domain.errors import Stale, Unavailable
from peregrine.domain.moment import Moment
from peregrine.ports.records import Record
from peregrine.stores.mongo.commands import RECORDS, Commands, Document, pause
from peregrine.stores.mongo.definitions import new_token
from peregrine.stores.mongo.values import date, date_or_none, json_object, json_text, moment_of, moment_or_none

ROUNDS_MAX: Final = 50


class Shelf:
    """The verbs of records, each on one document."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    async def put(self, record: Record, expected_revision: int | None, now: Moment) -> Record:
        stamps: set[str] = set()
        for tries in range(ROUNDS_MAX):
            found = await self._commands.find(RECORDS, {"_id": _id_of(record.collection, record.key)})
            if found and found[0]["stamp"] in stamps:
                # Our own write, whose answer was lost.
                return record_of(found[0])
            revision = 0 if not found or _is_gone(found[0], now) else int(found[0]["revision"])
            if expected_revision is not None and revision != expected_revision:
                raise Stale(f"record {record.key!r} is at revision {revision}")
            kept = replace(record, revision=revision + 1)
            document = document_of(kept)
            stamps.add(document["stamp"])
            if await self._write(document, found[0]["stamp"] if found else None):
                return kept
            await pause(tries)
        raise Unavailable(f"record {record.key!r} changes too fast to be written")

    async def _write(self, document: Document, over: str | None) -> bool:
        if over is None:
            return not await self._commands.insert(RECORDS, [document])
        change = ({"_id": document["_id"], "stamp": over}, {"$set": document})
        return bool(await self._commands.update(RECORDS, [change]))

    async def get(self, collection: str, key: str, now: Moment) -> Record | None:
        found = await self._commands.find(RECORDS, {"_id": _id_of(collection, key)} | _there(now))
        return record_of(found[0]) if found else None

    async def list(
        self, collection: str, *, after: str, limit: int, now: Moment, newest_first: bool
    ) -> Sequence[Record]:
        if limit < 1:
            return []
        which: dict[str, Any] = {"collection": collection} | _there(now)
        if after:
            which["key"] = {"$lt" if newest_first else "$gt": after}
        sort = [("key", -1 if newest_first else 1)]
        return [record_of(one) for one in await self._commands.find(RECORDS, which, sort=sort, page=(0, limit))]

    async def delete(self, collection: str, key: str, now: Moment) -> bool:
        which = {"_id": _id_of(collection, key)}
        was_there = await self._commands.delete(RECORDS, which | _there(now))
        if not was_there:
            await self._commands.delete(RECORDS, which | _expired(now))
        return bool(was_there)

    async def sweep(self, now: Moment, limit: int) -> int:
        if limit < 1:
            return 0
        found = await self._commands.find(RECORDS, _expired(now), fields={"_id": 1}, page=(0, limit))
        if not found:
            return 0
        ids = [document["_id"] for document in found]
        return await self._commands.delete(RECORDS, {"_id": {"$in": ids}} | _expired(now))


def _id_of(collection: str, key: str) -> str:
    return f"{collection}/{key}"


def _there(now: Moment) -> dict[str, Any]:
    return {"$or": [{"expires_at": None}, {"expires_at": {"$gt": date(now)}}]}


def _expired(now: Moment) -> dict[str, Any]:
    return {"expires_at": {"$lte": date(now)}}


def _is_gone(document: Document, now: Moment) -> bool:
    expires_at = document["expires_at"]
    return expires_at is not None and moment_of(expires_at) <= now


def document_of(record: Record) -> Document:
    return {
        "_id": _id_of(record.collection, record.key),
        "collection": record.collection,
        "key": record.key,
        "revision": record.revision,
        "expires_at": date_or_none(record.expires_at),
        "document": json_text(record.document),
        "stamp": new_token(),
    }


def record_of(document: Document) -> Record:
    return Record(
        collection=document["collection"],
        key=document["key"],
        document=json_object(document["document"]),
        revision=int(document["revision"]),
        expires_at=moment_or_none(document["expires_at"]),
    )
