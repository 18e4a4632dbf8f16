"""`peregrine migrate` as a person uses it: stop, move, start there; what was left behind does not start again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from peregrine.app.moving import shown
from tests.app.process import done, serving

TASK = {"name": "kept", "type": "function", "schedule": "@manual"}


def test_a_service_goes_on_from_where_it_was_moved_to(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    with serving(old) as service:
        asker = service.client
        task = asker.post("tasks", body=TASK | {"config": {"module": "peregrine", "function_name": "hello"}})
        execution = asker.post("tasks", task["id"], "execute")["execution_id"]
        in_use = done("migrate", "--from", f"sqlite:{old / 'data'}", "--to", f"sqlite:{new / 'data'}", cwd=tmp_path)

    moved = done("migrate", "--from", f"sqlite:{old / 'data'}", "--to", f"sqlite:{new / 'data'}", cwd=tmp_path)
    left = done("serve", "--data-dir", str(old / "data"), "--port", "0", cwd=tmp_path)
    for name in ("encryption-key", "jwt-secret", "operator-token"):
        shutil.copy(old / "data" / name, new / "data" / name)

    assert (in_use.returncode, "is in use by process" in in_use.stderr) == (1, True), in_use.stderr
    assert moved.returncode == 0, moved.stderr
    assert "tasks: 8" in moved.stderr
    assert (left.returncode, "was moved to sqlite:" in left.stderr) == (78, True)
    with serving(new) as service:
        assert service.client.get("tasks", task["id"])["name"] == "kept"
        assert service.client.get("executions", execution)["task_id"] == task["id"]


@pytest.mark.services
def test_one_machine_becomes_many(tmp_path: Path, mongo_uri: str, mongo_database: str) -> None:
    """From SQLite to MongoDB: tasks and history are there, and the keys still open what they sealed."""
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    with serving(tmp_path / "old") as service:
        asker = service.client
        task = asker.post("tasks", body=TASK | {"config": {"module": "peregrine", "function_name": "hello"}})
        execution = asker.post("tasks", task["id"], "execute")["execution_id"]
    old, place = tmp_path / "old" / "data", mongo_uri.replace("/?", f"/{mongo_database}?")

    moved = done("migrate", "--from", f"sqlite:{old}", "--to", place, cwd=tmp_path)
    again = done("migrate", "--from", f"sqlite:{old}", "--to", place, cwd=tmp_path)

    assert moved.returncode == 0, moved.stderr
    assert "moved and compared" in moved.stdout
    assert (again.returncode, "holds what was moved from" in again.stderr) == (1, True)
    keys = {"SCHEDULER_ENCRYPTION_KEY_FILE": str(old / "encryption-key"), "JWT_SECRET_FILE": str(old / "jwt-secret")}
    with serving(tmp_path / "new", MONGODB_URI=mongo_uri, MONGODB_DATABASE=mongo_database, **keys) as service:
        assert service.client.get("tasks", task["id"])["name"] == "kept"
        assert service.client.get("executions", execution)["task_id"] == task["id"]
        assert service.client.get("tasks", task["id"], "history")["total"] == 1


def test_a_place_is_shown_without_its_password() -> None:
    assert shown("mongodb://user:pa%40ss@db1,db2/x?replicaSet=rs0") == "mongodb://db1,db2/x?replicaSet=rs0"
    assert shown("sqlite:data") == "sqlite:data"


def test_a_wrong_place_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    nowhere = done("migrate", "--from", f"sqlite:{tmp_path / 'empty'}", "--to", "sqlite:new", cwd=tmp_path)
    unknown = done("migrate", "--from", "postgres://x", "--to", "sqlite:new", cwd=tmp_path)
    half = done("migrate", "--from", "sqlite:old", cwd=tmp_path)

    assert (nowhere.returncode, "there is no store" in nowhere.stderr) == (1, True)
    assert (unknown.returncode, "write sqlite:DIRECTORY, or mongodb://" in unknown.stderr) == (1, True)
    assert half.returncode == 2
    assert not (tmp_path / "new").exists()
