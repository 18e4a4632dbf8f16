"""Owns the readable reference of the shelf: what every verb of ``ports.records`` means; must not know another store."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace

from peregrine.domain.errors import Stale
from peregrine.domain.moment import Moment
from peregrine.ports.records import Record


class MemoryRecords:
    """Records in dictionaries; gone with the process."""

    def __init__(self) -> None:
        self._records: dict[tuple[str, str], Record] = {}
        self._in_order: dict[str, list[str]] = {}

    async def put_record(self, record: Record, *, expected_revision: int | None, now: Moment) -> Record:
        """See the port."""
        place = (record.collection, record.key)
        stored = await self.get_record(*place, now=now)
        revision = 0 if stored is None else stored.revision
        if expected_revision is not None and revision != expected_revision:
            raise Stale(f"record {record.key!r} is at revision {revision}")
        kept = replace(record, revision=revision + 1, document=deepcopy(record.document))
        if place not in self._records:
            insort(self._in_order.setdefault(record.collection, []), record.key)
        self._records[place] = kept
        return kept

    async def get_record(self, collection: str, key: str, *, now: Moment) -> Record | None:
        """See the port."""
        record = self._records.get((collection, key))
        return None if record is None or _is_gone(record, now) else record

    async def list_records(
        self, collection: str, *, after: str = "", limit: int, now: Moment, newest_first: bool = False
    ) -> Sequence[Record]:
        """See the port."""
        keys = self._in_order.get(collection, [])
        if newest_first:
            upto = bisect_right(keys, after) - (1 if after in keys else 0) if after else len(keys)
            found = reversed(keys[:upto])
        else:
            found = iter(keys[bisect_right(keys, after) :] if after else keys)
        records = (self._records[collection, key] for key in found)
        return [record for record in records if not _is_gone(record, now)][:limit]

    async def delete_record(self, collection: str, key: str, *, now: Moment) -> bool:
        """See the port."""
        record = self._records.pop((collection, key), None)
        if record is None:
            return False
        self._in_order[collection].remove(key)
        return not _is_gone(record, now)

    async def sweep_records(self, *, now: Moment, limit: int) -> int:
        """See the port."""
        gone = [place for place, record in self._records.items() if _is_gone(record, now)][:limit]
        for collection, key in gone:
            await self.delete_record(collection, key, now=now)
        return len(gone)


def _is_gone(record: Record, now: Moment) -> bool:
    return record.expires_at is not None and record.expires_at <= now
