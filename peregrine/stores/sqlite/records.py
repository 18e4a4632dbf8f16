"""Owns the operations on the shelf; must not know tasks, work, or what a document says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import apsw
import msgspec

from peregrine.domain.errors import Stale
from peregrine.domain.moment import Moment
from peregrine.ports.records import Record
from peregrine.stores.sqlite.queries import SQL


def put_record(db: apsw.Connection, record: Record, expected_revision: int | None, now: Moment) -> Record:
    if expected_revision is not None:
        stored = get_record(db, record.collection, record.key, now)
        revision = 0 if stored is None else stored.revision
        if revision != expected_revision:
            raise Stale(f"record {record.key!r} is at revision {revision}")
    text = msgspec.json.encode(record.document).decode()
    put = db.execute(SQL["put_record"], (record.collection, record.key, now, record.expires_at, text)).fetchone()
    assert put is not None
    return replace(record, revision=put[0])


def get_record(db: apsw.Connection, collection: str, key: str, now: Moment) -> Record | None:
    found = db.execute(SQL["record"], (collection, key, now)).fetchone()
    return None if found is None else _record(collection, key, *found)


def list_records(db: apsw.Connection, collection: str, after: str, limit: int, now: Moment) -> Sequence[Record]:
    found = db.execute(SQL["records_after"], (collection, after, now, limit))
    return [_record(collection, *row) for row in found]


def list_newest(db: apsw.Connection, collection: str, before: str, limit: int, now: Moment) -> Sequence[Record]:
    found = db.execute(SQL["records_before"], (collection, before or b"", now, limit))
    return [_record(collection, *row) for row in found]


def delete_record(db: apsw.Connection, collection: str, key: str, now: Moment) -> bool:
    found = db.execute(SQL["drop_record"], (collection, key)).fetchone()
    return found is not None and (found[0] is None or found[0] > now)


def sweep_records(db: apsw.Connection, now: Moment, limit: int) -> int:
    db.execute(SQL["sweep_records"], (now, limit))
    return db.changes()


def _record(collection: str, key: str, revision: int, expires_at: Moment | None, text: str) -> Record:
    document = msgspec.json.decode(text, type=dict)
    return Record(collection=collection, key=key, document=document, revision=revision, expires_at=expires_at)
