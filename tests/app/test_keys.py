"""Keys are kept, proved at the start and turned; no secret of a task lies on the disk in plain words."""

from __future__ import annotations

import base64
import json
import signal
import stat
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from peregrine.app.datadir import ENCRYPTION_KEY, ENCRYPTION_KEYS_OLD, DataDir
from peregrine.app.keys import Keys, rotate_keys
from peregrine.app.settings import load
from peregrine.cli.client import Refused
from peregrine.cli.house import Undone
from peregrine.domain.errors import BadConfiguration
from peregrine.domain.ids import TaskId
from peregrine.domain.payload import FunctionPayload, Kind
from peregrine.domain.redaction import HIDDEN
from peregrine.stores.sqlite.store import SqliteStore
from peregrine.testing.builders import a_task
from peregrine.vault.keys import new_key_text, read_key
from tests.app.process import Running, command, done, environment, serving
from tests.app.test_serve import BY_HAND, ended, eventually

WORK = {"SCHEDULER_FUNCTIONS": "tests.app.secret_work", "SCHEDULER_TIMEOUT_MIN": "1s"}
STORE = "peregrine.sqlite3"


def a_data_dir(folder: Path) -> DataDir:
    data_dir = DataDir(folder / "data")
    data_dir.prepare()
    return data_dir


def keys_of(data_dir: DataDir, **settings: str) -> Keys:
    return Keys(load(settings).settings, data_dir)


# ── where keys come from ─────────────────────────────────────────────────────────────────────────


def test_a_key_is_made_once_and_is_the_owners_alone(tmp_path: Path) -> None:
    data_dir = a_data_dir(tmp_path)
    first, again = keys_of(data_dir)(), keys_of(data_dir)()

    assert first == again
    assert len(first) == 1
    assert stat.S_IMODE((data_dir.path / ENCRYPTION_KEY).stat().st_mode) == 0o600


def test_a_given_key_leaves_none_behind(tmp_path: Path) -> None:
    data_dir, new, old = a_data_dir(tmp_path), new_key_text(), new_key_text()
    keys = keys_of(data_dir, SCHEDULER_ENCRYPTION_KEY=new, SCHEDULER_ENCRYPTION_KEYS_OLD=old)

    assert list(keys()) == [read_key(new), read_key(old)]
    assert not keys.is_kept
    assert list(data_dir.path.iterdir()) == []


def test_a_kept_key_still_opens_once_another_is_given(tmp_path: Path) -> None:
    data_dir, new = a_data_dir(tmp_path), new_key_text()
    kept = keys_of(data_dir)()

    assert list(keys_of(data_dir, SCHEDULER_ENCRYPTION_KEY=new)()) == [read_key(new), *kept]


def test_a_turn_is_learnt_by_who_runs_already(tmp_path: Path) -> None:
    data_dir = a_data_dir(tmp_path)
    keys, other = keys_of(data_dir), keys_of(data_dir)
    (first,) = keys()
    other.turn()
    other.turn()

    assert len(keys()) == 3
    assert keys()[-1] == first
    assert keys() == other()


def test_a_kept_key_that_others_can_read_is_refused_and_one_in_use_is_kept(tmp_path: Path) -> None:
    data_dir = a_data_dir(tmp_path)
    keys = keys_of(data_dir)
    before = keys()
    (data_dir.path / ENCRYPTION_KEY).write_text("nonsense")

    assert keys() == before
    with pytest.raises(BadConfiguration, match="encryption-key: holds no key: write 32 bytes"):
        keys_of(data_dir)
    (data_dir.path / ENCRYPTION_KEY).chmod(0o644)
    with pytest.raises(BadConfiguration, match="other users can read it"):
        keys_of(data_dir)


# ── the service ──────────────────────────────────────────────────────────────────────────────────


def a_body(name: str, token: str, **parameters: Any) -> dict[str, Any]:
    config = {"module": "test", "function_name": "blab", "parameters": {"token": token} | parameters}
    return {"name": name, "type": "function", "config": config, **BY_HAND}


def length_told(service: Running, task_id: str, **parameters: Any) -> str:
    """What a run of the task gives back: how long its secrets are."""
    body = {"parameters": parameters} if parameters else None
    run = service.client.post("tasks", task_id, "execute", body=body)
    return str(ended(service.client, str(run["execution_id"])).get("output"))


def every_answer(service: Running) -> Iterator[str]:
    """All that can be read over the API, as text."""
    paths = ["tasks", "tasks/export", "executions", "audit", "stats", "status", "functions", "executors"]
    client = service.client
    for task in client.get("tasks", page_size=100)["tasks"]:
        paths += [f"tasks/{task['id']}", f"tasks/{task['id']}/history", f"tasks/{task['id']}/occurrences"]
    for run in client.get("executions", page_size=100)["executions"]:
        paths += [f"executions/{run['id']}", f"executions/{run['id']}/logs"]
    for path in paths:
        asked = urllib.request.Request(
            f"{service.url}/scheduler/{path}", headers={"Authorization": f"Bearer {client.token}"}
        )
        with urllib.request.urlopen(asked) as answer:
            yield answer.read().decode()


def files_below(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in (ENCRYPTION_KEY, ENCRYPTION_KEYS_OLD):
            yield path.name, path.read_bytes()


def spelled(canaries: list[str]) -> list[bytes]:
    plain = [canary.encode() for canary in canaries]
    return plain + [base64.b64encode(canary)[:-4] for canary in plain]


def test_a_secret_in_twenty_places_is_on_no_disk_and_in_no_answer(tmp_path: Path) -> None:
    canaries = [f"qwcanary{number:02d}zx" for number in range(20)]
    c = iter(canaries)
    http = {"url": f"https://127.0.0.1/p?token={next(c)}&api_key={next(c)}&page=2", "headers": {
        "Authorization": f"Bearer {next(c)}", "X-Auth-Token": next(c), "Cookie": f"sid={next(c)}", "X-Api-Key": next(c),
    }}  # fmt: skip
    with serving(tmp_path, LOG_LEVEL="debug", SCHEDULER_EGRESS_ALLOW="127.0.0.1:1,127.0.0.1:443", **WORK) as service:
        client = service.client
        fetched = client.post("tasks", body={"name": "fetch", "type": "http", "config": http, **BY_HAND})
        told = client.post("tasks", body=a_body("tell", next(c), secret={"inner": next(c)}))
        failed = client.post("tasks", body=a_body("fail", next(c), secret={"inner": next(c)}, fails=True))
        config = {"executor": "none", "parameters": {"password": next(c), "deep": [{"client_secret": next(c)}],
                  "url": f"http://a/?sig={next(c)}", "credentials": [next(c)]}}  # fmt: skip
        with pytest.raises(Refused, match="executor"):
            client.post("tasks", body={"name": "custom", "type": "custom", "config": config, **BY_HAND})
        bundle = [a_body("imported", next(c), secret={"inner": next(c)})]
        assert client.post("tasks", "import", body={"tasks": bundle})["imported"] == 1
        changed = told | {"config": told["config"] | {"parameters": {"token": next(c), "secret": {"inner": "short"}}}}
        del changed["config"]["parameters"]["secret"]
        body = {"config": changed["config"]}
        assert client.ask("PUT", ("tasks", told["id"]), body=body)["config"]["parameters"]["token"] == HIDDEN

        assert length_told(service, told["id"]) == str(len(canaries[0]))
        given = {"token": next(c), "secret": {"inner": next(c)}}
        assert length_told(service, told["id"], **given) == str(2 * len(canaries[0]))
        for task in (fetched, failed):
            length_told(service, task["id"])
        client.post("tasks", fetched["id"], "execute", body={"parameters": {"api_key": next(c)}})
        answers = "".join(every_answer(service))
        done("backup", str(tmp_path / "copy.sqlite3"), cwd=tmp_path)
        while_open = list(files_below(tmp_path))
        service.end(signal.SIGKILL)
        after = list(files_below(tmp_path))

    assert next(c, None) is None
    assert {STORE, f"{STORE}-wal", "copy.sqlite3", "stderr"} <= {name for name, _ in while_open}
    assert b"sealed:v1:" in dict(while_open)["copy.sqlite3"]
    assert not [canary for canary in canaries if canary in answers]
    assert "sealed:" not in answers
    forms = spelled(canaries)
    assert not [(name, form) for name, raw in while_open + after for form in forms if form in raw]


def test_another_key_does_not_open_the_store(tmp_path: Path) -> None:
    with serving(tmp_path, **WORK) as service:
        task = service.client.post("tasks", body=a_body("tell", "a-secret-of-23-letters-"))
        service.end()
    (tmp_path / "data" / ENCRYPTION_KEY).rename(tmp_path / "kept")
    refused = done("serve", cwd=tmp_path, **WORK)
    wrong = done("serve", cwd=tmp_path, SCHEDULER_ENCRYPTION_KEY=new_key_text(), **WORK)
    mistyped = done("serve", cwd=tmp_path, SCHEDULER_ENCRYPTION_KEY="too short", **WORK)

    assert [one.returncode for one in (refused, wrong, mistyped)] == [78, 78, 78]
    for one in (refused, wrong):
        assert one.stderr.splitlines()[-1].startswith(
            "peregrine: SCHEDULER_ENCRYPTION_KEY: secrets in this store are sealed"
        )
        assert "Traceback" not in one.stderr
    assert "too short" not in mistyped.stderr
    assert "write 32 bytes" in mistyped.stderr

    # The right one may come from elsewhere.
    with serving(tmp_path, SCHEDULER_ENCRYPTION_KEY_FILE=str(tmp_path / "kept"), **WORK) as service:
        assert length_told(service, task["id"]) == "23"


def test_a_key_is_turned_under_a_running_service(tmp_path: Path) -> None:
    with serving(tmp_path, **WORK) as service:
        task = service.client.post("tasks", body=a_body("tell", "twelve-chars"))
        turned = done("keys", "rotate", cwd=tmp_path)
        later = service.client.post("tasks", body=a_body("later", "nine-char"))

        assert turned.returncode == 0, turned.stderr
        assert "1 tasks were sealed anew" in turned.stdout
        assert turned.stderr.startswith("looked at ")
        assert length_told(service, task["id"]) == "12"
        assert length_told(service, later["id"]) == "9"
        service.end()

    # The old key is for old backups alone: without it all is well.
    (tmp_path / "data" / ENCRYPTION_KEYS_OLD).unlink()
    with serving(tmp_path, **WORK) as service:
        assert length_told(service, task["id"]) == "12"
        assert length_told(service, later["id"]) == "9"
        assert "encryption_keys" not in (tmp_path / "stderr").read_text()


def test_a_rotation_that_is_killed_goes_on(tmp_path: Path) -> None:
    bundle = [a_body(f"t{number}", f"secret-{number:05d}") for number in range(400)]
    with serving(tmp_path, **WORK) as service:
        assert service.client.post("tasks", "import", body={"tasks": bundle})["imported"] == 400
        service.end()
    rotation = subprocess.Popen(
        command("keys", "rotate"), cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert rotation.stderr is not None
    assert rotation.stderr.readline().startswith("looked at 100 of ")
    rotation.kill()
    rotation.communicate()
    again = done("keys", "rotate", cwd=tmp_path)
    keys = (tmp_path / "data" / ENCRYPTION_KEYS_OLD).read_text().split()
    (tmp_path / "data" / ENCRYPTION_KEYS_OLD).unlink()

    assert again.returncode == 0, again.stderr
    assert 0 < int(again.stdout.split()[0]) < 400
    assert len(keys) == 1
    with serving(tmp_path, **WORK) as service:
        found = service.client.get("tasks", page_size=100, sort="created_at")["tasks"]
        assert length_told(service, next(task["id"] for task in found if not task["metadata"]["is_system"])) == "12"


def test_a_given_key_is_turned_by_who_gives_it(tmp_path: Path) -> None:
    old, new = new_key_text(), new_key_text()
    with serving(tmp_path, SCHEDULER_ENCRYPTION_KEY=old, **WORK) as service:
        task = service.client.post("tasks", body=a_body("tell", "twelve-chars"))
        service.end()
    early = done("keys", "rotate", cwd=tmp_path, SCHEDULER_ENCRYPTION_KEY=old)
    both = {"SCHEDULER_ENCRYPTION_KEY": new, "SCHEDULER_ENCRYPTION_KEYS_OLD": old}
    turned = done("keys", "rotate", cwd=tmp_path, **both)

    assert (early.returncode, turned.returncode) == (1, 0)
    assert "set a new one" in early.stderr
    with serving(tmp_path, SCHEDULER_ENCRYPTION_KEY=new, **WORK) as service:
        assert length_told(service, task["id"]) == "12"


def test_a_rotation_without_a_store_says_so(tmp_path: Path) -> None:
    refused = done("keys", "rotate", cwd=tmp_path)

    assert refused.returncode == 1
    assert "there is no store in it" in refused.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.anyio
async def test_what_was_stored_before_there_were_keys_is_sealed_at_the_start(tmp_path: Path) -> None:
    data_dir = a_data_dir(tmp_path)
    store = SqliteStore(data_dir.store, ballast_bytes=0)
    await store.open()
    payload = FunctionPayload(module="test", function_name="blab", parameters={"token": "qwcanary99zx"})
    await store.create_tasks([a_task("t1", kind=Kind.FUNCTION, payload=payload, schedule="@manual")])
    await store.close()
    with serving(tmp_path, LOG_FORMAT="json", **WORK) as service:
        assert length_told(service, TaskId("t1")) == "12"
        service.end()

    assert '"secrets_sealed"' in (tmp_path / "stderr").read_text()
    assert not [name for name, raw in files_below(tmp_path) if b"qwcanary99zx" in raw]


def test_who_asks_too_often_waits(tmp_path: Path) -> None:
    with serving(tmp_path, HTTP_RATE="1") as service:
        seen: list[Refused] = []

        def is_refused() -> bool:
            try:
                service.client.get("stats")
            except Refused as error:
                seen.append(error)
            return bool(seen)

        assert eventually(is_refused, True)
    assert (seen[0].status, seen[0].problem["code"]) == (429, "too_many_requests")
    assert json.dumps(seen[0].problem)


def test_a_key_that_is_kept_here_is_not_turned_for_a_store_that_others_share(tmp_path: Path) -> None:
    settings = load({"SCHEDULER_DATA_DIR": str(tmp_path / "data"), "MONGODB_URI": "mongodb://db"}).settings

    with pytest.raises(Undone, match="set a new SCHEDULER_ENCRYPTION_KEY for all"):
        rotate_keys(settings, lambda text: None)

    assert not (tmp_path / "data").exists()
