"""Owns the trail of who changed what, and who tried to: append-only; must not know who reads it, or HTTP.

Nothing is changed without an entry: it becomes true together with the change, or it stands there, as ``asked``, before
the change, and says afterwards what became of it. So of a process that dies in between, or whose store goes away,
``asked`` is left: then perhaps it was done. Running a task needs no entry: the execution says who asked for it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Final, Self

from peregrine.domain.difference import Fields, differences, plain_fields, task_fields
from peregrine.domain.errors import PeregrineError, Stale, Unavailable, Unsure
from peregrine.domain.moment import DAY, Duration, Moment, format_moment
from peregrine.domain.payload import JsonObject, payload_config
from peregrine.domain.permission import Permission
from peregrine.domain.redaction import hidden
from peregrine.domain.task import Task
from peregrine.ports.identity import Asker
from peregrine.ports.records import ASKED, DONE, Note, Record
from peregrine.ports.shelves import AUDIT
from peregrine.usecases.access import require
from peregrine.usecases.means import Means

KEPT_FOR: Final[Duration] = 365 * DAY
REPEATED: Final = "repeated"
_UNTOLD: Final = frozenset({"digest", "created_by", "created_at"})
"""What records of rights hold and no entry repeats: who and when it says itself, and nobody reads a key's digest."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the trail. ``before`` and ``after`` name the states: equal ones are the same state. ``changes`` is
    what differs between them (``domain.difference.differences``); empty also in a line of an earlier version."""

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
    changes: Sequence[JsonObject]


_TEXTS: Final = frozenset(one.name for one in fields(Entry)) - {"id", "at", "changes"}


@dataclass(frozen=True, slots=True)
class State:
    """What a thing is before a change or after it: a short name of the state, and its fields."""

    name: str = ""
    fields: Fields = field(default_factory=dict)


NOTHING: Final = State()
"""It is not there."""


def state_of(task: Task | None) -> State:
    """The state of a task."""
    return NOTHING if task is None else State(digest(task), task_fields(task))


def state_of_record(record: Record | None) -> State:
    """The state of a policy, a membership, or a key: all that its record says and a reader may know."""
    if record is None:
        return NOTHING
    told = {name: value for name, value in record.document.items() if name not in _UNTOLD}
    words = [word for value in told.values() for word in (value if isinstance(value, list) else [value])]
    expires_at = None if record.expires_at is None else format_moment(record.expires_at)
    return State(" ".join(map(str, words)), plain_fields(**told, expires_at=expires_at))


def digest(task: Task) -> str:
    """A short digest of a definition; the same definition has the same, in every process.

    Made of what anybody may see, the revision included: a secret can't be guessed by its digest.
    """
    plain = [getattr(task, one.name) for one in fields(task) if one.name != "payload"]
    shown = repr([*plain, hidden(payload_config(task.payload))])
    return hashlib.blake2b(shown.encode(errors="surrogatepass"), digest_size=12).hexdigest()


class Trail:
    """One entry, around the change that it is about: ``async with Trail(…) as trail``, and inside it ``noted`` around a
    store that puts the entry with the change, or ``asked`` before any other write.

    At the end it says ``done``, or the code of what the change was refused with. Whether a change was made is not known
    when the store's answer was lost: then the entry says ``asked``, unless the store has kept it with the change.
    """

    def __init__(self, means: Means, by: Asker, action: str, target: str) -> None:
        self._means = means
        self._document: JsonObject = {
            "at": means.clock.now(), "who": by.id, "action": action, "target": target, "verdict": ASKED, "before": "",
            "after": "", "changes": [], "address": by.request.address, "request_id": by.request.request_id,
        }  # fmt: skip
        self._key = ""
        self._said: str | None = None
        """What the entry says now, if that is known."""
        self.verdict = DONE
        """What the entry says in the end, if nothing was raised."""

    @contextmanager
    def noted(self, *, before: State = NOTHING, after: State = NOTHING) -> Iterator[Note]:
        """The entry as a note, which the store puts with the change and which then says what became of it.

        To be entered once more if the change is decided anew: it stays one entry.
        """
        self._tell(before, after)
        try:
            yield Note(self._record(ASKED), self._means.clock.now())
        except PeregrineError as error:
            self._said = None if isinstance(error, Unavailable) else error.code
            raise
        self._said = DONE

    async def asked(self, *, before: State = NOTHING, after: State = NOTHING) -> None:
        """Write what is about to be changed; once more, if the change is decided anew. Raises Unavailable."""
        self._tell(before, after)
        await self._write(ASKED)

    async def refused(self) -> None:
        """Write at once what the verdict is. Raises Unavailable."""
        await self._write(self.verdict)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not self._key:
            return
        if error is None or (isinstance(error, PeregrineError) and not isinstance(error, Unavailable)):
            verdict = self.verdict if error is None else error.code
            if verdict != self._said:
                await self._end(verdict)
        elif self._said is None and _leaves_open(error):
            await self._end(ASKED, unless_there=True)

    async def _end(self, verdict: str, *, unless_there: bool = False) -> None:
        """Say what became of the change. That it can't be said changes nothing about it."""
        try:
            await self._write(verdict, expected_revision=0 if unless_there else None)
        except Stale:
            return  # the store has kept it
        except PeregrineError as away:
            entry = self._document | {"verdict": verdict}
            _log.error("audit_entry_not_finished", extra={"entry": entry, "reason": away.code})

    def _tell(self, before: State, after: State) -> None:
        changes = differences(before.fields, after.fields)
        self._document |= {"before": before.name, "after": after.name, "changes": changes}

    def _record(self, verdict: str) -> Record:
        self._key = self._key or self._means.entropy.new_id()
        document = self._document | {"verdict": verdict}
        return Record(collection=AUDIT, key=self._key, document=document, expires_at=self._means.clock.now() + KEPT_FOR)

    async def _write(self, verdict: str, *, expected_revision: int | None = None) -> None:
        record, now = self._record(verdict), self._means.clock.now()
        await self._means.records.put_record(record, expected_revision=expected_revision, now=now)
        self._said = verdict


def _leaves_open(error: BaseException) -> bool:
    """Whether a change that ended so was made perhaps: its answer was lost, or a bug of ours came in between."""
    return isinstance(error, Unsure) or (isinstance(error, Exception) and not isinstance(error, PeregrineError))


async def note_refusal(means: Means, by: Asker, action: str, target: str, verdict: str) -> None:
    """Write what was refused before anything was asked of the store. Never makes the refusal another one."""
    trail = Trail(means, by, action, target)
    trail.verdict = verdict
    try:
        await trail.refused()
    except PeregrineError as error:
        _log.error("audit_entry_not_written", extra={"action": action, "target": target, "reason": error.code})


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
    changes = document.get("changes", [])
    assert isinstance(changes, list)
    # What a newer version notes besides is not shown here.
    texts = {name: str(document[name]) for name in _TEXTS & document.keys()}
    return Entry(id=record.key, at=at, changes=[one for one in changes if isinstance(one, dict)], **texts)
