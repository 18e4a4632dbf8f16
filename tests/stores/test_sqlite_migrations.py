"""A file of an older version is brought forward, whole or not at all; one of a newer version is left alone."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import apsw
import pytest

from peregrine.domain.errors import UnsafeStore
from peregrine.stores.sqlite import migrate
from tests.stores.sqlite_places import ROOT, a_process, is_counted, is_sound, looked_at, said, tell

ONE = ["CREATE TABLE first (x INTEGER) STRICT; INSERT INTO first VALUES (1), (2), (3);"]
TWO = [*ONE, "CREATE TABLE second (x INTEGER) STRICT; INSERT INTO second SELECT x * 10 FROM first; DROP TABLE first;"]

ADD_TASK = (
    "INSERT INTO tasks VALUES (?1, 't' || ?1, 'task ' || ?1, '', 'function', ?2, NULL, 1, 0, 'somebody', 0, 0)"
    " ON CONFLICT (no) DO UPDATE SET enabled = excluded.enabled"
)


def a_store_of(path: Path, steps: list[str]) -> None:
    migrate.create(path, steps)


def shape(path: Path) -> tuple[object, list[str]]:
    """The version of a file, and its tables."""
    with looked_at(path) as db:
        names = [str(name) for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY 1")]
        return db.pragma("user_version"), names


def copies(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir() if ".bak" in file.name or ".new" in file.name)


def test_an_older_file_is_brought_forward_and_a_copy_is_kept(folder: Path) -> None:
    path = folder / "store.db"
    a_store_of(path, ONE)

    migrate.migrate(path, TWO)

    assert shape(path) == (2, ["second"])
    assert copies(folder) == ["store.db.bak-1"]
    copy = folder / "store.db.bak-1"
    assert shape(copy) == (1, ["first"])
    assert copy.stat().st_mode & 0o777 == 0o600


def test_a_file_of_this_version_is_left_alone(folder: Path) -> None:
    path = folder / "store.db"
    a_store_of(path, TWO)

    migrate.migrate(path, TWO)

    assert copies(folder) == []


def test_a_newer_file_is_refused_and_left_alone(folder: Path) -> None:
    path = folder / "store.db"
    a_store_of(path, TWO)
    before = path.read_bytes()

    with pytest.raises(UnsafeStore, match="newer version"):
        migrate.migrate(path, ONE)

    assert path.read_bytes() == before


def test_a_step_that_fails_leaves_the_version_it_found(folder: Path) -> None:
    path = folder / "store.db"
    a_store_of(path, ONE)

    with pytest.raises(apsw.SQLError):
        migrate.migrate(path, [*ONE, "CREATE TABLE second (x); DELETE FROM first; SELECT nonsense;"])

    assert shape(path) == (1, ["first"])
    with looked_at(path) as db:
        assert list(db.execute("SELECT count(*) FROM first")) == [(3,)]


def test_a_new_store_that_fails_leaves_nothing(folder: Path) -> None:
    with pytest.raises(apsw.SQLError):
        migrate.create(folder / "store.db", [*ONE, "SELECT nonsense;"])

    assert list(folder.iterdir()) == []


def test_a_store_made_meanwhile_stays(folder: Path) -> None:
    path = folder / "store.db"
    a_store_of(path, ONE)

    migrate.create(path, TWO)

    assert shape(path) == (1, ["first"])


# Stops ahead of a statement of the migration, says so, and waits for its end.
DIES_IN_THE_MIDDLE = """
import sys
from pathlib import Path
from peregrine.stores.sqlite import migrate
path, steps, ahead_of = Path(sys.argv[1]), eval(sys.argv[2]), sys.argv[3]
opened = migrate.open_connection
def watched(path, **settings):
    db = opened(path, **settings)
    def trace(cursor, statement, bindings):
        if statement.strip().startswith(ahead_of):
            print("there", flush=True)
            sys.stdin.readline()
        return True
    db.exec_trace = trace
    return db
migrate.open_connection = watched
migrate.migrate(path, steps) if path.exists() else migrate.create(path, steps)
print("done", flush=True)
"""


@pytest.mark.parametrize("ahead_of", ["BEGIN EXCLUSIVE", "INSERT INTO second", "DROP TABLE", "COMMIT"])
def test_killed_in_the_middle_the_old_version_is_intact(folder: Path, ahead_of: str) -> None:
    path = folder / "store.db"
    a_store_of(path, ONE)
    process = a_process(DIES_IN_THE_MIDDLE, path, TWO, ahead_of)
    assert said(process) == "there"

    process.send_signal(signal.SIGKILL)
    process.communicate()

    assert is_sound(path)
    assert shape(path) == (1, ["first"])
    migrate.migrate(path, TWO)
    assert shape(path) == (2, ["second"])


def test_killed_while_a_store_is_made_there_is_none(folder: Path) -> None:
    path = folder / "store.db"
    process = a_process(DIES_IN_THE_MIDDLE, path, TWO, "COMMIT")
    assert said(process) == "there"

    process.send_signal(signal.SIGKILL)
    process.communicate()

    assert not path.exists()
    migrate.create(path, TWO)
    assert shape(path) == (2, ["second"])


def test_of_two_that_migrate_at_once_one_waits(folder: Path) -> None:
    path = folder / "store.db"
    a_store_of(path, ONE)
    first = a_process(DIES_IN_THE_MIDDLE, path, TWO, "DROP TABLE")
    assert said(first) == "there"
    second = a_process(DIES_IN_THE_MIDDLE, path, TWO, "nothing that is ever said")

    tell(first, "go on")

    assert said(first) == "done"
    assert said(second) == "done"
    for process in (first, second):
        process.communicate()
    assert shape(path) == (2, ["second"])


def test_tasks_of_an_older_file_are_counted_and_those_of_an_older_process_too(folder: Path) -> None:
    """Such a process writes to the file as if nobody counted."""
    path = folder / "store.db"
    a_store_of(path, migrate.migrations()[:6])
    with looked_at(path) as db:
        for no in range(1, 6):
            db.execute(ADD_TASK, (no, no % 2))
        migrate.migrate(path, migrate.migrations())
        assert is_counted(path)

        db.execute(ADD_TASK, (7, 1))
        db.execute("DELETE FROM tasks WHERE no IN (1, 2)")
        db.execute("UPDATE tasks SET enabled = 1 - enabled WHERE no IN (3, 4, 7)")
        db.execute("UPDATE tasks SET enabled = enabled, priority = 2")

        assert list(db.execute("SELECT tasks, enabled FROM totals")) == [(4, 2)]
    assert is_counted(path)


@pytest.mark.parametrize(
    "wrong",
    [
        "UPDATE totals SET tasks = tasks + 1",
        "UPDATE totals SET enabled = enabled + 1",
        "UPDATE totals SET queued = queued + 1",
        "INSERT INTO days VALUES (0, 1, 0, 1, 5)",
        "INSERT INTO stretches VALUES (0, 1, 1, 0)",
        "INSERT INTO segments VALUES (3, 0, 0, 0, 0)",
    ],
)
def test_a_count_that_is_wrong_is_seen_by_these_tests(folder: Path, wrong: str) -> None:
    path = folder / "store.db"
    a_store_of(path, migrate.migrations())
    assert is_counted(path)

    with looked_at(path) as db:
        db.execute(wrong)

    assert not is_counted(path)


def test_the_steps_are_numbered_without_a_gap() -> None:
    folder = ROOT / "peregrine" / "stores" / "sqlite" / "migrations"

    assert len(migrate.migrations()) == len([file for file in os.listdir(folder) if file.endswith(".sql")])
