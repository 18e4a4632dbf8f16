"""A small keyed shelf beside the spine: policies, API keys, remembered answers, the audit trail.

One generic verb set, so that every store implements it with one table or one collection. A record is a JSON object
under (collection, key); ``revision`` starts at 1 and grows with each put. An expired record is as good as gone: no
verb shows it, and ``sweep`` removes it when there is time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from peregrine.domain.moment import Moment
from peregrine.domain.payload import JsonObject

ASKED: Final = "asked"
DONE: Final = "done"
"""What a note says of a change that was made; of one that was refused it says the code, and ``asked`` of any other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One document on the shelf."""

    collection: str
    key: str
    document: JsonObject = field(default_factory=dict)
    revision: int = 1
    expires_at: Moment | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """A record that is put with a change of something else, and says in ``verdict`` what became of that."""

    record: Record
    at: Moment

    def saying(self, verdict: str) -> Record:
        """The record, once that is known."""
        return replace(self.record, document=self.record.document | {"verdict": verdict})


class RecordStore(Protocol):
    """Each verb touches one record (or reads a range) and is atomic by itself. May raise ``Unavailable``."""

    async def put_record(self, record: Record, *, expected_revision: int | None, now: Moment) -> Record:
        """Store *record* and give it back with its new revision.

        ``expected_revision`` 0: only if there is none (an expired one does not count); n: only over revision n;
        None: whatever is there.

        Raises:  Stale when that is not so; Unavailable.
        """
        ...

    async def get_record(self, collection: str, key: str, *, now: Moment) -> Record | None: ...

    async def list_records(
        self, collection: str, *, after: str = "", limit: int, now: Moment, newest_first: bool = False
    ) -> Sequence[Record]:
        """Up to *limit* records in the order of their keys, those behind *after* (empty: from the start).

        With ``newest_first`` in the opposite order: keys of one maker sort by time.
        """
        ...

    async def delete_record(self, collection: str, key: str, *, now: Moment) -> bool:
        """Remove one; whether it was there."""
        ...

    async def sweep_records(self, *, now: Moment, limit: int) -> int:
        """Remove up to *limit* expired ones; how many."""
        ...
