"""Owns what the tests of the SQLite store share: where its files may lie, and how to look at them from outside."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from peregrine.stores.sqlite.store import SqliteStore

ROOT = Path(__file__).resolve().parents[2]
MEMORY = Path("/dev/shm")


def quick_folder() -> Path | None:
    """A file system in memory, where a flush costs nothing; for tests that are not about the disk. None: no such."""
    return MEMORY if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) else None


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
