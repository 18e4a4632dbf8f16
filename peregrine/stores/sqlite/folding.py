"""Owns when the log is folded into the file (SQLite's checkpoint); must not know what is written.

Folding copies pages and waits for the disk, so it has a thread and a connection of its own: the writer goes on
meanwhile, at the end of the log. Under load it never quite catches up, and the log can only begin anew when all of it
is folded; so when the log has grown long the writer folds the little that is left, between two groups.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

import apsw

from peregrine.stores.sqlite.connection import be_patient

PAGES_SOON: Final = 1_000
"""The log is folded on the side from here on (4 MiB)."""
PAGES_NOW: Final = 8_000
"""The writer itself folds what is left (32 MiB)."""


class Folding:
    """One thread that folds when it is woken."""

    def __init__(self, connect: Callable[[], apsw.Connection]) -> None:
        self._connect = connect
        self._woken = threading.Event()
        self._ends = False
        self._thread: threading.Thread | None = None
        self._pages = 0

    def start(self) -> None:
        self._ends = False
        self._thread = threading.Thread(target=self._serve, name="store-folding", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End; waits for a fold under way. Safe twice."""
        self._ends = True
        self._woken.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def watch(self, db: apsw.Connection) -> None:
        """Let *db*, the writer's connection, tell how long the log is, instead of folding it in a commit."""
        db.set_wal_hook(self._after_commit)

    def _after_commit(self, _: apsw.Connection, __: str, pages: int) -> int:
        self._pages = pages
        if pages >= PAGES_SOON:
            self._woken.set()
        return apsw.SQLITE_OK

    def between_groups(self, db: apsw.Connection) -> None:
        """The writer has a moment: fold what is left of a log that has grown long."""
        if self._pages >= PAGES_NOW:
            self._pages = 0
            fold(db)

    def _serve(self) -> None:
        db: apsw.Connection | None = None
        while self._woken.wait() and not self._ends:
            self._woken.clear()
            try:
                db = db or self._connect()
                fold(db)
            except Exception:
                # The log only grows a little longer; whoever writes meets the same trouble, and says so.
                _close(db)
                db = None
        _close(db)


def fold(db: apsw.Connection) -> None:
    """Fold as much as can be folded without waiting for anybody."""
    try:
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    except apsw.BusyError:
        # Somebody else is at it.
        return


def fold_all(db: apsw.Connection) -> None:
    """Fold all of the log and cut it off. Who reads an old snapshot prevents that, and is not waited for."""
    db.set_busy_handler(None)
    try:
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    except apsw.BusyError:
        return
    finally:
        be_patient(db)


def _close(db: apsw.Connection | None) -> None:
    if db is not None:
        db.close(force=True)
