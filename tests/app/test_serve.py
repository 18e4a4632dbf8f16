"""The whole service as a process: first start, second start, refusals to start, and both ways to stop."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from peregrine.cli.client import Client, Refused
from tests.app.process import SOON, Running, done, serving

WORK = {"SCHEDULER_FUNCTIONS": "tests.app.slow_work", "SCHEDULER_TIMEOUT_MIN": "1s"}
BY_HAND = {"schedule": "@manual", "metadata": {"max_retries": 0, "timeout": "1m"}}


def eventually(look: Any, wanted: Any) -> Any:
    """What *look* gives once it gives *wanted*; asking is the wait."""
    until = time.monotonic() + SOON
    found = look()
    while found != wanted and time.monotonic() < until:
        found = look()
    return found


def ended(client: Client, execution_id: str) -> dict[str, Any]:
    """The execution once it has ended."""
    eventually(lambda: client.get("executions", execution_id)["status"] in ("completed", "failed"), True)
    return client.get("executions", execution_id)


def called(client: Client, name: str, function: str, **parameters: Any) -> str:
    """The id of an execution of a new task that calls *function*."""
    config = {"module": "test", "function_name": function, "parameters": parameters}
    task = client.post("tasks", body={"name": name, "type": "function", "config": config, **BY_HAND})
    return str(client.post("tasks", task["id"], "execute")["execution_id"])


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("served")
    secrets = {"SCHEDULER_SECRET_CANARY": "canary", "JWT_ISSUER": "us", "JWT_AUDIENCE": "them"}
    with serving(folder, SCHEDULER_SHUTDOWN_GRACE="30s", **WORK, **secrets) as running:
        running.said += running.until("/scheduler/executions")
        yield running


# ── up ───────────────────────────────────────────────────────────────────────────────────────────


def test_the_first_start_shows_the_token_and_lines_to_paste(service: Running) -> None:
    token = (service.data_dir / "operator-token").read_text().strip()

    assert service.said.count(token) == 1
    assert f"curl -sS -X POST {service.url}/scheduler/tasks" in service.said
    assert str(service.data_dir) in service.said


def test_what_is_kept_is_the_owners_alone(service: Running) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in service.data_dir.iterdir()}

    assert stat.S_IMODE(service.data_dir.stat().st_mode) == 0o700
    assert {"operator-token", "jwt-secret", "peregrine.sqlite3"} <= set(modes)
    assert set(modes.values()) == {0o600}


def test_it_is_ready_and_knows_who_asks(service: Running) -> None:
    assert service.client.get("status")["status"] == "healthy"
    assert service.client.get("tasks", is_system=True)["total"] >= 1
    with pytest.raises(Refused, match="401"):
        Client(service.url).get("tasks")


def test_a_function_runs_without_the_secrets_of_the_service(service: Running) -> None:
    execution = ended(service.client, called(service.client, "names", "environment"))

    assert execution["outcome"] == "succeeded"
    assert "PATH" in execution["output"]
    assert "CANARY" not in execution["output"]


def test_tasks_may_not_reach_the_service_itself(service: Running) -> None:
    body = {"name": "inward", "type": "http", "config": {"url": f"{service.url}/healthz"}, **BY_HAND}

    with pytest.raises(Refused, match="target_not_allowed"):
        service.client.post("tasks", body=body)


def test_a_token_minted_for_a_group_has_its_rights_alone(service: Running) -> None:
    minted = done(
        "token",
        "--user",
        "eve",
        "--group",
        "monitoring",
        cwd=service.data_dir.parent,
        JWT_ISSUER="us",
        JWT_AUDIENCE="them",
    )
    client = Client(service.url, minted.stdout.strip())

    assert client.get("tasks")["tasks"] is not None
    with pytest.raises(Refused, match="403"):
        client.post("tasks", body={"name": "x", "type": "custom", "config": {"executor": "y"}, **BY_HAND})


def test_the_metrics_page_counts_the_store(service: Running) -> None:
    page = raw(service.url, b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").decode()

    assert "peregrine_ready 1.0" in page
    assert "server: uvicorn" not in page.lower()


def raw(url: str, sent: bytes) -> bytes:
    """All that the server says to these bytes until it closes."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=SOON) as connection:
        connection.sendall(sent)
        parts = []
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(65536):
                parts.append(part)
    return b"".join(parts)


def readiness(url: str, path: str = "/readyz") -> int:
    """The status of that answer."""
    answer = raw(url, f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
    return int(answer.split()[1])


@pytest.mark.slow
def test_half_a_header_is_closed_after_ten_seconds(service: Running) -> None:
    started = time.monotonic()
    answer = raw(service.url, b"GET /scheduler/tasks HTTP/1.1\r\nhost: x\r\nx-slow: ")

    assert answer.startswith(b"HTTP/1.1 408")
    assert 9 < time.monotonic() - started < 20


def test_the_data_directory_can_be_copied_and_examined_while_it_is_used(service: Running, tmp_path: Path) -> None:
    folder, copy = service.data_dir.parent, tmp_path / "copy.sqlite3"
    surroundings = {"JWT_ISSUER": "us", "JWT_AUDIENCE": "them"}

    copied = done("backup", str(copy), cwd=folder, **surroundings)
    examined = done("doctor", cwd=folder, **surroundings)
    again = done("backup", str(copy), cwd=folder, **surroundings)

    assert (copied.returncode, copied.stdout) == (0, f"{copy}\n")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert examined.returncode == 0, examined.stdout
    assert "every page and index is sound" in examined.stdout
    assert (again.returncode, "exists" in again.stderr) == (1, True)


def test_a_second_service_on_the_port_is_one_line_and_78(service: Running) -> None:
    address = urlsplit(service.url)

    second = done("serve", "--port", str(address.port), cwd=service.data_dir.parent)

    assert second.returncode == 78
    assert second.stderr == (
        f"peregrine: HOST=127.0.0.1 PORT={address.port}: the port is in use; "
        "stop the other program, or choose another port with --port or PORT\n"
    )


# ── down ─────────────────────────────────────────────────────────────────────────────────────────


def test_two_signals_skip_the_wait_and_a_start_takes_up_what_ran(service: Running, tmp_path: Path) -> None:
    """The last test on this service: it ends it, with work that would take half a minute more."""
    execution_id = called(service.client, "long", "sleep", seconds=30, trace=str(tmp_path / "begun"))
    eventually((tmp_path / "begun").exists, True)
    token = (service.data_dir / "operator-token").read_text()

    service.process.send_signal(signal.SIGTERM)
    assert eventually(lambda: readiness(service.url), 503) == 503
    assert readiness(service.url, "/healthz") == 200
    assert service.end(signal.SIGTERM) == 0

    (tmp_path / "begun").unlink()
    with serving(
        service.data_dir.parent, SCHEDULER_SHUTDOWN_GRACE="1s", **WORK, JWT_ISSUER="us", JWT_AUDIENCE="them"
    ) as second:
        assert token.strip() not in second.said
        assert (second.data_dir / "operator-token").read_text() == token
        eventually((tmp_path / "begun").exists, True)
        execution = second.client.get("executions", execution_id)
        assert [attempt["outcome"] for attempt in execution["attempts"][:1]] == ["interrupted"]
        assert second.end(signal.SIGINT) == 0


def test_a_token_that_holds_no_more_is_renewed_and_no_child_stays_behind(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(0o700)
    file = tmp_path / "data" / "operator-token"
    file.touch(0o600)
    file.write_text("expired long ago")

    with serving(tmp_path, **WORK) as running:
        assert "renewed" in running.said
        assert running.client.get("tasks")["total"] >= 0
        children = children_of(running.process.pid)
        assert running.end() == 0

    assert children
    assert [child for child in children if os.path.exists(f"/proc/{child}")] == []


def children_of(pid: int) -> list[str]:
    """The processes that it started and that live."""
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


# ── not up at all ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"SCHEDULER_LEASE": "30"}, "SCHEDULER_LEASE='30': write a duration"),
        ({"MONGODB_URI": "db:27017"}, "MONGODB_URI: must begin with mongodb:// or mongodb+srv://"),
        ({"REDIS_PORT": "many"}, "REDIS_PORT='many'"),
        ({"JWT_SECRET": "short"}, "JWT_SECRET: must have at least 32 bytes"),
        ({"SCHEDULER_FUNCTIONS": "no_such_module"}, "SCHEDULER_FUNCTIONS: no_such_module can't be imported"),
        ({"JWT_ALGORITHM": "RS256", "JWT_JWKS_FILE": "none.json"}, "JWT_JWKS_FILE=none.json: No such file"),
        ({"SCHEDULER_DATA_DIR": "/proc/nowhere"}, "SCHEDULER_DATA_DIR=/proc/nowhere: can't be made"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_what_keeps_it_from_starting_is_one_line_and_78(settings: dict[str, str], line: str, tmp_path: Path) -> None:
    refused = done("serve", cwd=tmp_path, **settings)

    assert refused.returncode == 78
    last = refused.stderr.splitlines()[-1]
    assert last.startswith(f"peregrine: {line}")
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("content", [b"", b"not a database at all" * 10], ids=["empty", "foreign"])
def test_a_store_that_is_not_safe_is_one_line_and_78_and_left_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data").mkdir(0o700)
    store = tmp_path / "data" / "peregrine.sqlite3"
    store.write_bytes(content)

    refused = done("serve", cwd=tmp_path)

    assert refused.returncode == 78
    assert refused.stderr.splitlines()[-1].startswith(f"peregrine: {store}: ")
    assert store.read_bytes() == content


# ── demonstration ────────────────────────────────────────────────────────────────────────────────


def test_the_demonstration_works_on_its_own_data_and_ends_clean(tmp_path: Path) -> None:
    with serving(tmp_path, "demo", "--port", "0") as running:
        told = running.until("Ctrl-C ends it")
        running.data_dir = tmp_path / "data-demo"
        line = running.until("completed")

        assert "6 tasks run now" in told
        assert "tasks stop" in told
        assert "today" in line
        assert not (tmp_path / "data").exists()
        assert running.client.get("executions", outcome="succeeded")["total"] >= 1
        assert running.end(signal.SIGINT) == 0
