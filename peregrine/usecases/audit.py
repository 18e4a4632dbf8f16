"""Owns the trail of who changed what, and who tried to: append-only; must not know who reads it, or HTTP.

An entry is written after the change, by itself: it never makes a change fail, and one that can't be written is told to
the log in its place. Running a task needs no entry: the execution says who asked for it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

from peregrine.domain.errors import PeregrineError
from peregrine.domain.moment import DAY, Duration, Moment
from peregrine.domain.payload import JsonObject, payload_config
from peregrine.domain.permission import Permission
from peregrine.domain.redaction import hidden
from peregrine.domain.task import Task
from peregrine.ports.identity import Asker
from peregrine.ports.records import Record
from peregrine.ports.shelves import AUDIT
from peregrine.usecases.access import require
from peregrine.usecases.means import Means

KEPT_FOR: Final[Duration] = 365 * DAY
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the trail. ``before`` and ``after`` are digests: enough to see that and where a thing changed."""

    id: str
    at: Moment
    who: str
    action: str
    target: str
    verdict: str
    before: str
    after: str
    address: str
    request_id: str


def digest(task: Task | None) -> str:
    """A short digest of a definition; the same definition has the same, in every process.

    Made of what anybody may see, the revision included: a secret can't be guessed by its digest.
    """
    if task is None:
        return ""
    plain = [getattr(task, field.name) for field in fields(task) if field.name != "payload"]
    shown = repr([*plain, hidden(payload_config(task.payload))])
    return hashlib.blake2b(shown.encode(errors="surrogatepass"), digest_size=12).hexdigest()


async def note(
    means: Means, by: Asker, action: str, target: str, *, before: str = "", after: str = "", verdict: str = "done"
) -> None:
    """Write one line."""
    now = means.clock.now()
    document: JsonObject = {
        "at": now, "who": by.id, "action": action, "target": target, "verdict": verdict, "before": before,
        "after": after, "address": by.request.address, "request_id": by.request.request_id,
    }  # fmt: skip
    record = Record(collection=AUDIT, key=means.entropy.new_id(), document=document, expires_at=now + KEPT_FOR)
    try:
        await means.records.put_record(record, expected_revision=0, now=now)
    except PeregrineError as error:
        _log.error("audit_entry_not_written", extra={"entry": document, "reason": error.code})


async def list_entries(means: Means, by: Asker, *, before: str, limit: int) -> Sequence[Entry]:
    """The newest lines, or those before the line *before*."""
    await require(means.grants, by, Permission.TASKS_ADMIN)
    now = means.clock.now()
    records = await means.records.list_records(AUDIT, after=before, limit=limit, now=now, newest_first=True)
    return [_entry(record) for record in records]


def _entry(record: Record) -> Entry:
    document = record.document
    at = document["at"]
    assert isinstance(at, int)
    texts = {name: str(document[name]) for name in document if name != "at"}
    return Entry(id=record.key, at=at, **texts)
