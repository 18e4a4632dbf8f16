"""Owns which version of the file readers see; must not know any query.

A connection of its own, which writes nothing, so that every commit is a foreign one to it, this process's own too:
SQLite counts those for it (``PRAGMA data_version``). To look takes some microseconds: SQLite compares the head of the
log's index, which all processes share in memory, and reads at most the first page.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import apsw

from peregrine.domain.errors import Unavailable


class Version:
    """Asked on the event loop. It waits for nobody: where SQLite would have it wait, nothing is known.

    When a process has died in the middle of a commit, the next to look mends the index, once, by reading the log.
    """

    def __init__(self, connect: Callable[[], apsw.Connection]) -> None:
        self._connect = connect
        self._db: apsw.Connection | None = None

    def open(self) -> None:
        """Begin to look; where that fails, nothing is ever known, and the store works without."""
        with suppress(apsw.Error, Unavailable):
            self._db = self._connect()
            self._db.set_busy_handler(None)

    def close(self) -> None:
        """Let go; safe twice."""
        if self._db is not None:
            self._db.close(force=True)
            self._db = None

    def now(self) -> int | None:
        """A number that was never told before whatever has been committed since; None: not known now."""
        try:
            found = None if self._db is None else self._db.pragma("data_version")
        except apsw.Error:
            # Somebody mends the log's index, or the disk fails: who reads will hear of it.
            return None
        assert found is None or isinstance(found, int)
        return found
