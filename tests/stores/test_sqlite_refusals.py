"""A store that is not safe to use is refused in one line that names it and says what to do, and is left as it was."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from peregrine.domain.errors import UnsafeStore
from peregrine.domain.task import Task
from peregrine.stores.sqlite import place
from peregrine.stores.sqlite.store import refuse_version
from peregrine.testing.builders import a_task
from tests.stores.sqlite_places import a_store, looked_at

pytestmark = pytest.mark.anyio


async def a_closed_store(path: Path, *tasks: Task) -> None:
    store = a_store(path)
    await store.open()
    await store.create_tasks(tasks)
    await store.close()


async def refusal(path: Path) -> str:
    with pytest.raises(UnsafeStore) as caught:
        await a_store(path).open()
    return str(caught.value)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def with_a_broken_header(path: Path) -> None:
    path.write_bytes(b"SQLite formal 4\0" + path.read_bytes()[16:])


def cut_within_the_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def cut_in_the_middle(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: 4096 * 9])


def with_broken_pages(path: Path) -> None:
    pages = bytearray(path.read_bytes())
    chance = random.Random(7)
    for number in range(3, len(pages) // 4096):
        pages[number * 4096 : number * 4096 + 200] = chance.randbytes(200)
    path.write_bytes(pages)


def of_another_program(path: Path) -> None:
    path.unlink()
    with looked_at(path) as db:
        db.execute("CREATE TABLE theirs (x)")


def of_a_newer_version(path: Path) -> None:
    with looked_at(path) as db:
        db.pragma("user_version", 999)


def a_folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("change", "says", "advice"),
    [
        (emptied, "is empty", "restore a backup"),
        (with_a_broken_header, "is damaged or no SQLite file", "restore a backup"),
        (cut_within_the_header, "is damaged or no SQLite file", "restore a backup"),
        (cut_in_the_middle, "is damaged", "restore a backup"),
        (with_broken_pages, "is damaged", "restore a backup"),
        (of_another_program, "belongs to another program", "choose another path"),
        (of_a_newer_version, "was written by a newer version (format 999", "run that version"),
        (a_folder_instead, "is not a file", "choose another path"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
async def test_a_bad_file_is_refused_in_one_line(
    folder: Path, change: Callable[[Path], None], says: str, advice: str
) -> None:
    path = folder / "store.db"
    await a_closed_store(path, *(a_task(f"t{number}") for number in range(50)))
    change(path)
    before = path.read_bytes() if path.is_file() else None

    line = await refusal(path)

    assert "\n" not in line
    assert line.startswith(f"{path}: ")
    assert says in line
    assert advice in line
    assert before is None or path.read_bytes() == before


async def test_a_folder_that_can_not_be_made_is_refused(folder: Path) -> None:
    (folder / "file").touch()

    line = await refusal(folder / "file" / "below" / "store.db")

    assert line.startswith(f"{folder / 'file' / 'below'}: can't make this folder")
    assert "choose another path" in line


async def test_a_folder_that_can_not_be_written_is_refused() -> None:
    # Nobody, whatever his rights, makes a file there.
    line = await refusal(Path("/proc/store.db"))

    assert line.startswith("/proc: can't write into this folder")
    assert "\n" not in line


@pytest.mark.skipif(os.geteuid() == 0, reason="rights do not bind this user")
async def test_a_file_of_somebody_else_is_refused(folder: Path) -> None:
    path = folder / "store.db"
    await a_closed_store(path)
    path.chmod(0o000)

    assert "can't be read" in await refusal(path)


MOUNTS = """\
/dev/vda / ext4 rw 0 0
server:/export /srv/data nfs4 rw 0 0
/dev/vdb /srv/data/local ext4 rw 0 0
//server/share /mnt/with\\040blank cifs rw 0 0
me@host: /home/me/far fuse.sshfs rw 0 0
server:/over /srv/over nfs rw 0 0
/dev/vdc /srv/over ext4 rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/data/store.db", "nfs4"),
        ("/mnt/with blank/deep/store.db", "cifs"),
        ("/home/me/far/store.db", "fuse.sshfs"),
        ("/srv/data/local/store.db", None),
        ("/srv/database/store.db", None),
        ("/srv/over/store.db", None),
        ("/var/lib/store.db", None),
    ],
)
def test_network_file_systems_are_refused(path: str, kind: str | None) -> None:
    if kind is None:
        place.refuse_network(Path(path), MOUNTS)
        return

    with pytest.raises(UnsafeStore) as caught:
        place.refuse_network(Path(path), MOUNTS)

    assert f"{path}: lies on a network file system ({kind})" in str(caught.value)


def test_without_a_list_of_mounts_nothing_is_refused() -> None:
    place.refuse_network(Path("/srv/data/store.db"), "")


@pytest.mark.parametrize("version", ["3.7.0", "3.40.1", "3.44.5", "3.45.0", "3.50.6", "3.51.0", "3.51.2"])
def test_a_sqlite_that_can_corrupt_is_refused(version: str) -> None:
    with pytest.raises(UnsafeStore, match="install apsw"):
        refuse_version(version)


@pytest.mark.parametrize(
    "version", ["3.44.6", "3.50.7", "3.51.3", "3.53.0", "3.54.1", "4.0.0", apsw.sqlite_lib_version()]
)
def test_a_sqlite_without_the_bug_is_taken(version: str) -> None:
    refuse_version(version)
