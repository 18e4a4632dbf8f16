"""Two services that share nothing but a MongoDB, a Redis and their keys, as on two hosts."""

from __future__ import annotations

import base64
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

import pytest

from tests.app.process import command, environment
from tests.faults.checks import calm, check_effects, check_occurrences
from tests.faults.service import Service, a_task
from tests.faults.test_redis import created, execution, started, status, until, worker
from tests.services.processes import Redis

pytestmark = pytest.mark.services

SAME: Final = {
    "JWT_SECRET": "a secret that all instances of a store share",
    "SCHEDULER_ENCRYPTION_KEY": base64.b64encode(bytes(range(32))).decode(),
    "SCHEDULER_LEASE": "6s",
    "SCHEDULER_HEARTBEAT": "2s",
}
Hosts: TypeAlias = Callable[..., Service]


@pytest.fixture(name="host")
def _host(
    tmp_path: Path, mongo_uri: str, mongo_database: str, redis_server: Redis, make_service: Callable[..., Service]
) -> Hosts:
    """``host(name, **settings)``: a service with a data directory of its own, not started."""

    def made(name: str, **settings: str) -> Service:
        (tmp_path / name).mkdir()
        place = {
            "MONGODB_URI": mongo_uri, "MONGODB_DATABASE": mongo_database,
            "REDIS_HOST": redis_server.host, "REDIS_PORT": str(redis_server.port),
            "EFFECTS_FILE": str(tmp_path / "effects.jsonl"),
        }  # fmt: skip
        service = make_service(tmp_path / name, **place, **SAME | settings)
        service.effects = tmp_path / "effects.jsonl"
        return service

    return made


def test_two_hosts_do_each_moment_once_and_one_goes_on_alone(host: Hosts) -> None:
    a, b = host("a"), host("b")
    a.start()
    b.start()
    until(lambda: len(status(a)["instances"]) == 2)
    tasks = []
    for number in range(5):
        code, task = a.ask("POST", "/scheduler/tasks", a_task(f"second {number}", milliseconds=200, overlap="queue"))
        assert code == 201
        tasks.append(task["id"])
    until(lambda: b.ask("GET", "/scheduler/executions?status=completed")[1]["total"] >= 30)
    long = created(a, "long", milliseconds=60_000, on_worker_lost="retry")
    run = started(b, long)
    until(lambda: execution(a, run)["status"] == "running")
    dies, lives = (a, b) if execution(a, run)["worker_id"] == worker(a) else (b, a)
    workers = {one["worker_id"] for one in lives.all("/scheduler/executions", "executions")}

    dies.kill()
    until(lambda: len(execution(lives, run)["attempts"]) == 2)
    until(lambda: execution(lives, run)["status"] == "running")
    lives.ask("POST", f"/scheduler/executions/{run}/cancel")
    calm(lives, [*tasks, long])

    check_occurrences(lives, tasks)
    check_effects(lives)
    assert len(workers) == 2
    assert [one["outcome"] for one in execution(lives, run)["attempts"]] == ["lost", "cancelled"]
    assert lives.stop() == 0


def test_an_instance_with_another_key_does_not_start(host: Hosts) -> None:
    a = host("a")
    a.start()
    code, _ = a.ask(
        "POST", "/scheduler/tasks",
        {"name": "secret", "type": "http", "schedule": "@manual",
         "config": {"url": "https://example.org", "headers": {"Authorization": "Bearer word"}}},
    )  # fmt: skip
    assert code == 201
    other = host("other", SCHEDULER_ENCRYPTION_KEY=base64.b64encode(bytes(32)).decode())

    with pytest.raises(AssertionError, match="exit 78"):
        other.start()

    assert "Traceback" not in other.log.read_text()
    assert a.stop() == 0


def test_an_instance_with_another_signing_secret_says_so(host: Hosts) -> None:
    a = host("a")
    a.start()
    other = host("other", JWT_SECRET="another secret, and that is a slip of a pen")
    other.start()

    assert "signing_secret_differs" in other.log.read_text()
    assert "signing_secret_differs" not in a.log.read_text()


def test_the_same_secret_opens_every_instance(host: Hosts) -> None:
    a, b = host("a"), host("b")
    a.start()
    b.start()

    (b.folder / "data" / "operator-token").write_text(a.token)
    assert b.ask("GET", "/scheduler/tasks")[0] == 200


def test_a_start_that_waits_for_its_store_ends_when_told(tmp_path: Path) -> None:
    away = environment(MONGODB_URI="mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=500")
    process = subprocess.Popen(
        command("serve"), cwd=tmp_path, env=away, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    with process, process.stderr:
        said = next(line for line in process.stderr if "store_awaited" in line)
        process.send_signal(signal.SIGTERM)

        assert process.wait(30) == 0
        assert "127.0.0.1" not in said
