"""The doctor finds what is wrong and changes nothing; a copy is whole or not there."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from peregrine.app.care import backup, examine
from peregrine.app.credentials import prepare_credentials
from peregrine.app.datadir import DataDir
from peregrine.app.settings import Settings
from peregrine.cli.house import Undone
from peregrine.coordination.clock import SystemClock
from peregrine.stores.sqlite.store import SqliteStore


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(SCHEDULER_DATA_DIR=str(tmp_path / "data"))


@pytest.fixture
def data_dir(settings: Settings) -> DataDir:
    """A data directory as a service leaves it."""
    data_dir = DataDir(settings.data_dir)
    data_dir.prepare()
    asyncio.run(_used(settings, data_dir))
    return data_dir


async def _used(settings: Settings, data_dir: DataDir) -> None:
    store = SqliteStore(data_dir.store, ballast_bytes=0)
    await store.open()
    await store.close()
    await prepare_credentials(settings, data_dir, SystemClock(), None)


def complaints(settings: Settings) -> dict[str, str]:
    return {one.check: one.seen for one in examine(settings) if not one.is_well}


def test_all_is_well_after_a_clean_end(settings: Settings, data_dir: DataDir) -> None:
    assert {one.check for one in examine(settings)} == {"rights", "store", "token"}
    assert complaints(settings) == {}


def test_a_damaged_page_is_found(settings: Settings, data_dir: DataDir) -> None:
    with data_dir.store.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * 4096)

    assert str(data_dir.store) in complaints(settings)["store"]


def test_a_file_that_others_can_read_is_found(settings: Settings, data_dir: DataDir) -> None:
    data_dir.operator_token.chmod(0o644)

    assert "operator-token: mode 0644" in complaints(settings)["rights"]


def test_a_token_of_another_secret_is_found(settings: Settings, data_dir: DataDir) -> None:
    data_dir.replace("jwt-secret", "s" * 40)

    assert "refused" in complaints(settings)["token"]


def test_what_is_missing_is_said_and_not_made(settings: Settings, data_dir: DataDir) -> None:
    for name in ("jwt-secret", "peregrine.sqlite3"):
        (data_dir.path / name).unlink()
    before = sorted(data_dir.path.iterdir())

    found = complaints(settings)

    assert "there is none" in found["store"]
    assert "no signing secret" in found["token"]
    assert sorted(data_dir.path.iterdir()) == before


@pytest.mark.parametrize("verb", [examine, lambda settings: backup(settings, "copy")], ids=["doctor", "backup"])
def test_where_there_is_nothing_nothing_is_made(settings: Settings, verb: object) -> None:
    assert callable(verb)
    with pytest.raises(Undone, match="`serve` makes one"):
        verb(settings)

    assert not settings.data_dir.exists()


def test_a_copy_is_whole_and_overwrites_nothing(settings: Settings, data_dir: DataDir, tmp_path: Path) -> None:
    copy = tmp_path / "copy.sqlite3"

    assert backup(settings, str(copy)) == str(copy)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("copy")] == ["copy.sqlite3"]
    with pytest.raises(Undone, match="exists"):
        backup(settings, str(copy))


def test_a_copy_to_nowhere_is_said(settings: Settings, data_dir: DataDir, tmp_path: Path) -> None:
    with pytest.raises(Undone, match="could not be written"):
        backup(settings, str(tmp_path / "no" / "such" / "folder"))


def test_a_redis_that_does_not_answer_is_found(tmp_path: Path) -> None:
    settings = Settings(SCHEDULER_DATA_DIR=str(tmp_path), REDIS_HOST="127.0.0.1", REDIS_PORT="1")

    [found] = [finding for finding in examine(settings) if finding.check == "redis"]

    assert (found.is_well, found.seen) == (
        False,
        "REDIS_HOST=127.0.0.1: it can't be reached; the service works without it",
    )


def test_a_store_on_a_server_is_not_backed_up_by_us(tmp_path: Path) -> None:
    settings = Settings(SCHEDULER_DATA_DIR=str(tmp_path), MONGODB_URI="mongodb://db")

    with pytest.raises(Undone, match="mongodump"):
        backup(settings, str(tmp_path / "copy"))
