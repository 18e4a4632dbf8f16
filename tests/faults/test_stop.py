"""A stop ends what runs within two seconds, whatever and wherever it is; a busy function hurts nobody else."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.service import Service, a_task
from tests.faults.test_storage import eventually

SECONDS = 15


@pytest.fixture(name="drip")
def _drip() -> Iterator[int]:
    """The port of a server that sends the head of an answer and then its body, a byte each tenth of a second."""
    listener = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()

    def answer(connection: socket.socket) -> None:
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while not done.wait(0.1):
                try:
                    connection.sendall(b"x")
                except OSError:
                    return

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    done.set()
    listener.close()


def running(service: Service, task: str) -> list[dict[str, Any]]:
    """What runs of a task."""
    found: list[dict[str, Any]] = service.ask("GET", f"/scheduler/executions?task_id={task}&status=running")[1][
        "executions"
    ]
    return found


def begun(service: Service, body: dict[str, Any]) -> str:
    """Make a task, run it, and wait until it runs; its id."""
    status, task = service.ask("POST", "/scheduler/tasks", body | {"schedule": "@manual"})
    assert status == 201, task
    assert service.ask("POST", f"/scheduler/tasks/{task['id']}/execute")[0] == 202
    eventually(lambda: bool(running(service, task["id"])))
    return str(task["id"])


def stopped_within(asked: Service, ran_on: Service, task: str) -> float:
    """Stop a task; the seconds until its execution has ended."""
    began = time.monotonic()
    status, answer = asked.ask("POST", f"/scheduler/tasks/{task}/stop")
    assert status == 200, answer
    eventually(lambda: not running(ran_on, task))
    took = time.monotonic() - began
    (execution,) = ran_on.ask("GET", f"/scheduler/tasks/{task}/history")[1]["executions"]
    assert (execution["status"], execution["outcome"]) == ("failed", "cancelled")
    assert execution["error"] == "Task execution was cancelled"
    assert execution["output"] == "Execution stopped by user request"
    assert ran_on.ask("GET", f"/scheduler/tasks/{task}")[1]["status"] == "paused"
    return took


@pytest.mark.timeout(120)
def test_a_stop_ends_whatever_runs(tmp_path: Path, make_service: Callable[..., Service], drip: int) -> None:
    """Async code, a child that ignores every signal it can, and a body that never ends."""
    service = make_service(tmp_path, SCHEDULER_EGRESS_ALLOW="127.0.0.1/32")
    service.start()
    deaf = a_task("deaf", config={"function_name": "deaf", "module": "faults"})
    http = a_task("drip", type="http", config={"url": f"http://127.0.0.1:{drip}/"})

    took = {
        body["name"]: stopped_within(service, service, begun(service, body))
        for body in (a_task("async", milliseconds=60_000), deaf, http)
    }

    assert {name: seconds for name, seconds in took.items() if seconds > 2} == {}
    assert service.stop() == 0


@pytest.mark.timeout(120)
def test_a_stop_reaches_another_instance(tmp_path: Path, make_service: Callable[..., Service]) -> None:
    """Two processes on one store: the run is on one, the stop is asked of the other."""
    first = make_service(tmp_path, SCHEDULER_WORKER_COUNT="1")
    first.start()
    task = begun(first, a_task("elsewhere", milliseconds=60_000))
    second = make_service(tmp_path, SCHEDULER_WORKER_COUNT="1")
    second.start()

    took = stopped_within(second, first, task)

    assert took < 2
    assert second.stop() == 0
    assert first.stop() == 0


def _slowest(service: Service, task: str, *, seconds: float) -> float:
    """How long the slowest of a hundred requests takes (p99)."""
    times: list[float] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        assert service.ask("GET", f"/scheduler/tasks/{task}")[0] == 200
        times.append(time.monotonic() - began)
        time.sleep(0.02)  # not a wait: requests come at their own pace
    return sorted(times)[int(len(times) * 0.99)]


@pytest.mark.timeout(120)
def test_a_busy_function_hurts_nobody_else(tmp_path: Path, make_service: Callable[..., Service]) -> None:
    """While one sync function burns a processor, the API answers quickly and other tasks are punctual."""
    service = make_service(tmp_path, SCHEDULER_SHUTDOWN_GRACE="1s")
    service.start()
    tick = service.ask("POST", "/scheduler/tasks", a_task("tick"))[1]["id"]
    quiet = _slowest(service, tick, seconds=3)
    begun(service, a_task("busy", config={"function_name": "busy", "module": "faults"}))

    busy = _slowest(service, tick, seconds=SECONDS)

    assert busy < max(0.1, 3 * quiet)
    ran = [e for e in service.all(f"/scheduler/tasks/{tick}/history", "executions") if e["status"] == "completed"]
    assert len(ran) >= SECONDS - 2
    assert service.stop() == 0
