"""Owns the way from no file, or an older one, to the newest shape; must not know what the tables mean.

Forward only, each step in one transaction together with its number, so a process killed in the middle leaves the
version it found. A new store is made under another name and linked to its own when it is whole: there is no moment at
which half a store, or an empty file, stands at the path. Before an existing file is changed, a copy is kept beside it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Final

import apsw

from peregrine.domain.errors import UnsafeStore
from peregrine.stores.sqlite.connection import open_connection, time_limit
from peregrine.stores.sqlite.place import APPLICATION_ID, flush_folder, new_draft

_NAME: Final = re.compile(r"(\d{4})_\w+\.sql")
COPY_PAGES: Final = 4_096
CHECK_PAGES: Final = 200
"""Pages that a check reads between two looks at the time: with a cold cache each may be a visit to the disk."""


def migrations() -> list[str]:
    """The steps, in order; the version of a file is how many of them it has seen."""
    found = sorted(
        (int(match[1]), entry.read_text(encoding="utf-8"))
        for entry in (files(__package__) / "migrations").iterdir()
        if (match := _NAME.fullmatch(entry.name))
    )
    assert [number for number, _ in found] == list(range(1, len(found) + 1)), "migrations are numbered without a gap"
    return [text for _, text in found]


def create(path: Path, steps: list[str]) -> None:
    """A new store at *path*; if another process is quicker, its store stays."""
    draft = new_draft(path)
    try:
        db = open_connection(draft)
        try:
            db.pragma("application_id", APPLICATION_ID)
            _climb(db, steps)
            db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        finally:
            db.close()
        try:
            os.link(draft, path)
        except FileExistsError:
            return
        flush_folder(path.parent)
    finally:
        _forget(draft)


def migrate(path: Path, steps: list[str]) -> None:
    """Bring an existing store to the newest shape.

    Raises:  UnsafeStore for a file of a newer version; apsw.Error.
    """
    db = open_connection(path)
    try:
        version = _version(db)
        if version > len(steps):
            raise UnsafeStore(
                f"{path}: was written by a newer version (format {version}, this one knows {len(steps)}); "
                "run that version, or restore a backup"
            )
        if version < len(steps):
            keep_copy(db, path.with_name(f"{path.name}.bak-{version}"))
            _climb(db, steps)
    finally:
        db.close()


def _climb(db: apsw.Connection, steps: list[str]) -> None:
    """Take every step that is missing. Another process may be at it too: each looks again when it has the lock."""
    while _version(db) < len(steps):
        with _exclusive(db):
            version = _version(db)
            if version < len(steps):
                db.execute(steps[version])
                db.pragma("user_version", version + 1)


@contextmanager
def _exclusive(db: apsw.Connection) -> Iterator[None]:
    db.execute("BEGIN EXCLUSIVE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _version(db: apsw.Connection) -> int:
    found = db.pragma("user_version")
    assert isinstance(found, int)
    return found


def keep_copy(db: apsw.Connection, to: Path) -> None:
    """A whole copy of the store at *to*, consistent, readable by us alone; written aside and then renamed."""
    draft = new_draft(to)
    try:
        copy = apsw.Connection(str(draft), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            with copy.backup("main", db, "main") as backup:
                while not backup.done:
                    backup.step(COPY_PAGES)
            # A copy is one file: without this it would want a log beside it before it can be read.
            copy.pragma("journal_mode", "delete")
        finally:
            copy.close()
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(to)
        flush_folder(to.parent)
    finally:
        _forget(draft)


def _forget(draft: Path) -> None:
    for file in (draft, Path(f"{draft}-wal"), Path(f"{draft}-shm"), Path(f"{draft}-journal")):
        file.unlink(missing_ok=True)


def quick_faults(db: apsw.Connection, *, seconds: float) -> list[str] | None:
    """What ``quick_check`` says is wrong with the pages; None when the time was not enough to say."""
    try:
        with time_limit(db, seconds, every=CHECK_PAGES):
            return faults_of(db, "quick_check")
    except apsw.InterruptError:
        return None


def faults_of(db: apsw.Connection, check: str) -> list[str]:
    """What SQLite's *check* (``quick_check`` or ``integrity_check``) reports; empty: sound."""
    found = [str(row[0]) for row in db.execute(f"PRAGMA {check}")]
    return [] if found == ["ok"] else found
