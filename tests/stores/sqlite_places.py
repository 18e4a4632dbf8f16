"""Owns what the tests of the SQLite store share: where its files may lie, and how to look at them from outside."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from peregrine.domain.moment import DAY
from peregrine.stores.sqlite.store import SqliteStore
from peregrine.stores.sqlite.stretches import STRETCH

ROOT = Path(__file__).resolve().parents[2]
MEMORY = Path("/dev/shm")
RECOUNTS = {
    "SELECT tasks, enabled, queued FROM totals": """
        SELECT (SELECT count(*) FROM tasks), (SELECT count(*) FROM tasks WHERE enabled),
            (SELECT count(*) FROM executions WHERE state = 0)""",
    "SELECT start, listed, completed, failed FROM stretches WHERE listed <> 0 ORDER BY 1": f"""
        SELECT listed_at - (listed_at % {STRETCH} + {STRETCH}) % {STRETCH}, count(*), sum(state = 2), sum(state > 2)
        FROM executions WHERE listed_at IS NOT NULL GROUP BY 1""",
    "SELECT day, completed, failed, timed, runtime FROM days WHERE completed + failed <> 0 ORDER BY 1": f"""
        SELECT completed_at - completed_at % {DAY}, sum(state = 2), sum(state > 2), count(started_at),
            sum(ifnull(max(0, completed_at - started_at), 0))
        FROM executions WHERE state > 1 GROUP BY 1""",
    "SELECT no FROM segments ORDER BY 1": """
        SELECT s.no FROM segments s JOIN executions e ON (e.seq >> 13) = s.no GROUP BY 1
        HAVING ifnull(min(listed_at) >= listed_min AND max(listed_at) <= listed_max, 1)
            AND ifnull(min(scheduled_for) >= scheduled_min AND max(scheduled_for) <= scheduled_max, 1) ORDER BY 1""",
}
"""What a file keeps counted, and how it would be counted from the executions and tasks themselves."""


def quick_folder() -> Path | None:
    """A file system in memory, where a flush costs nothing; for tests that are not about the disk. None: no such."""
    return MEMORY if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) else None


class CountedStore(SqliteStore):
    """A store that counts what SQLite does: how often each statement ran, and the steps of its machine.

    Steps that write are counted by themselves: what only reads looks again when time says so, so its count varies.
    Of those that read, *looking* counts the ones on the lane that the engine waits for.
    """

    def __init__(self, path: Path) -> None:
        self.ran: Counter[str] = Counter()
        self.writing = self.reading = self.looking = 0
        super().__init__(path, ballast_bytes=0)

    def _connect(self, *, reads_only: bool) -> apsw.Connection:
        db = super()._connect(reads_only=reads_only)
        db.trace_v2(apsw.SQLITE_TRACE_PROFILE, self._note_reading if reads_only else self._note_writing)
        return db

    def _note_reading(self, seen: dict[str, Any]) -> None:
        steps = seen["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"]
        self.reading += steps
        self.looking += steps * threading.current_thread().name.startswith("store-look")

    def _note_writing(self, seen: dict[str, Any]) -> None:
        self.ran[seen["sql"].split(None, 1)[0].upper()] += 1
        self.writing += seen["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"]

    def forget(self) -> None:
        """Count from nothing again."""
        self.ran.clear()
        self.writing = self.reading = self.looking = 0


def a_store(path: Path, **settings: Any) -> SqliteStore:
    """A store without ballast."""
    return SqliteStore(path, **{"ballast_bytes": 0, **settings})


@contextmanager
def looked_at(path: Path) -> Iterator[apsw.Connection]:
    """The file as any SQLite program sees it."""
    db = apsw.Connection(str(path))
    try:
        yield db
    finally:
        db.close()


def is_sound(path: Path) -> bool:
    """Whether every page and index of the file is as it should be."""
    with looked_at(path) as db:
        return list(db.execute("PRAGMA integrity_check")) == [("ok",)]


def is_counted(path: Path) -> bool:
    """Whether all that the file counts by the way is what a recount gives, and each segment lies within its bounds."""
    with looked_at(path) as db:
        return all(list(db.execute(kept)) == list(db.execute(recount)) for kept, recount in RECOUNTS.items())


def a_process(program: str, *arguments: object) -> subprocess.Popen[str]:
    """Another Python that runs *program*; it says what it did on its standard output, line by line."""
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def said(process: subprocess.Popen[str]) -> str:
    """The next line that *process* says; empty when it has ended."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: subprocess.Popen[str], line: str) -> None:
    """Say *line* to *process*."""
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
