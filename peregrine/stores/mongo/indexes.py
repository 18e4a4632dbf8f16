"""Owns which indexes the collections have; must not know which verb needs which, but says it in words.

Made when the store is opened, and only those that are missing: on a large collection that takes long. Indexes that
others made are left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

from pymongo import IndexModel

from peregrine.stores.mongo.commands import EXECUTIONS, META, RECORDS, SKIPS, TASKS, Commands

SCHEMA: Final = "schema"


@dataclass(frozen=True, slots=True)
class Index:
    """One index: its name says what it is for, and changes when the index does."""

    collection: str
    name: str
    keys: tuple[tuple[str, int], ...]
    options: Mapping[str, Any] = field(default_factory=dict)


def _index(collection: str, name: str, *keys: str, **options: Any) -> Index:
    parsed = tuple((key.removeprefix("-"), -1 if key.startswith("-") else 1) for key in keys)
    return Index(collection, f"peregrine_{name}", parsed, options)


def _only(**condition: Any) -> dict[str, Any]:
    return {"partialFilterExpression": condition}


INDEXES: Final = (
    _index(TASKS, "name", "name_key", unique=True, **_only(name_key={"$type": "string"})),
    _index(TASKS, "due", "due_at", "_id"),
    _index(TASKS, "torn", "torn", sparse=True),
    _index(TASKS, "updated", "updated_at", "_id"),
    _index(TASKS, "created", "created_at", "_id"),
    _index(TASKS, "by_priority", "priority_class", "_id"),
    _index(TASKS, "by_name", "name", "_id"),
    _index(TASKS, "made", "seq", "_id"),
    _index(EXECUTIONS, "key", "key", unique=True, **_only(key={"$type": "string"})),
    _index(EXECUTIONS, "queue", "rank", "available_at", "seq", **_only(status="pending")),
    _index(EXECUTIONS, "waiting", "available_at", **_only(status="pending")),
    _index(EXECUTIONS, "active", "task_id", **_only(active=True)),
    _index(EXECUTIONS, "claim", "claim_id", sparse=True),
    _index(EXECUTIONS, "owing", "owing", sparse=True),
    _index(EXECUTIONS, "listed", "-started_at", "-_id"),
    _index(EXECUTIONS, "of_task", "task_id", "-started_at", "-_id"),
    _index(EXECUTIONS, "by_status", "status", "-started_at", "-_id"),
    _index(EXECUTIONS, "ended", "completed_at", "status", **_only(completed_at={"$exists": True})),
    _index(EXECUTIONS, "ledger", "task_id", "-scheduled_for", "-seq", **_only(scheduled_for={"$exists": True})),
    _index(SKIPS, "ledger", "task_id", "-first", "-seq"),
    _index(SKIPS, "decided", "decided_at", "_id"),
    _index(RECORDS, "key", "collection", "key"),
    _index(RECORDS, "expires", "expires_at"),
)


def fingerprint() -> str:
    """What tells this set of indexes from any other."""
    return blake2b(repr(INDEXES).encode(), digest_size=8).hexdigest()


async def make_missing(commands: Commands) -> None:
    """Make each index that is not there yet, and remember that all are."""
    for collection in dict.fromkeys(index.collection for index in INDEXES):
        there = await commands.index_names(collection)
        missing = [index for index in INDEXES if index.collection == collection and index.name not in there]
        if missing:
            models = [IndexModel(list(index.keys), name=index.name, **index.options) for index in missing]
            await commands.make_indexes(collection, models)
    await commands.update(META, [({"_id": SCHEMA}, {"$set": {"indexes": fingerprint()}})])
