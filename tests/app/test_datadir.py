"""What is kept in the data directory belongs to its owner alone, and is made once."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from peregrine.app.datadir import DataDir
from peregrine.domain.errors import BadConfiguration


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def data_dir(tmp_path: Path) -> DataDir:
    data_dir = DataDir(tmp_path / "deep" / "data")
    data_dir.prepare()
    return data_dir


def test_directory_and_secret_are_the_owners(data_dir: DataDir) -> None:
    data_dir.secret("jwt-secret")

    assert mode(data_dir.path) == 0o700
    assert mode(data_dir.path / "jwt-secret") == 0o600


def test_a_secret_is_made_once_and_long_enough(data_dir: DataDir) -> None:
    first = data_dir.secret("jwt-secret")

    assert data_dir.secret("jwt-secret") == first
    assert len(first) >= 32
    assert [path.name for path in data_dir.path.iterdir()] == ["jwt-secret"]


def test_of_many_that_make_it_at_once_one_wins(data_dir: DataDir) -> None:
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: data_dir.secret("jwt-secret"), range(64)))

    assert len(set(found)) == 1


def test_a_token_is_replaced_whole(data_dir: DataDir) -> None:
    data_dir.replace("operator-token", "one")
    data_dir.replace("operator-token", "two")

    assert data_dir.read_secret("operator-token") == "two"
    assert mode(data_dir.operator_token) == 0o600


def test_a_secret_that_others_can_read_is_refused(data_dir: DataDir) -> None:
    data_dir.secret("jwt-secret")
    (data_dir.path / "jwt-secret").chmod(0o644)

    with pytest.raises(BadConfiguration, match="other users can read it"):
        data_dir.secret("jwt-secret")


def test_an_empty_secret_is_refused(data_dir: DataDir) -> None:
    (data_dir.path / "jwt-secret").touch(0o600)

    with pytest.raises(BadConfiguration, match="is empty"):
        data_dir.secret("jwt-secret")


def test_a_directory_open_to_others_is_warned_of_and_left_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)

    DataDir(tmp_path).prepare()

    assert "mode 0755" in DataDir(tmp_path).warnings()[0]
    assert mode(tmp_path) == 0o755


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").touch()

    with pytest.raises(BadConfiguration, match="SCHEDULER_DATA_DIR="):
        DataDir(tmp_path / "data").prepare()
