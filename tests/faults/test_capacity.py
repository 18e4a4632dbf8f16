"""Two services on one MongoDB and one Redis carry nearly twice what one does, where the runs wait for somebody else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Final

import pytest

from tests.faults.service import Service
from tests.faults.test_many import SAME
from tests.faults.test_redis import status, until
from tests.services.processes import Redis

pytestmark = pytest.mark.services

SLOTS: Final = 4
DELAY: Final = 1.0
"""Seconds that each answer takes: beside that, what a busy machine adds hardly counts."""
WAITS: Final = 8
"""So many times an answer's delay the runs are counted."""
MORE: Final = 1.7


class Slow(ThreadingHTTPServer):
    """Answers whoever asks, a while later, and counts the answers."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.answered = 0
        self.waiting = 0
        self._turn = Lock()

    def count(self, *, waiting: int, answered: int = 0) -> None:
        """One began to wait, or one got its answer."""
        with self._turn:
            self.waiting += waiting
            self.answered += answered

    def handle_error(self, *_: object) -> None:
        """Who went away hears no answer."""


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Slow

    def do_GET(self) -> None:
        self.server.count(waiting=1)
        time.sleep(DELAY)  # not a wait: the answer takes so long
        self.server.count(waiting=-1, answered=1)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(name="slow")
def _slow() -> Iterator[Slow]:
    with Slow() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def queue_up(service: Service, task: str, runs: int) -> None:
    assert {service.ask("POST", f"/scheduler/tasks/{task}/execute")[0] for _ in range(runs)} == {202}


def carried(slow: Slow) -> int:
    """How many runs end in so many waits."""
    before = slow.answered
    time.sleep(WAITS * DELAY)  # not a wait: so long they are counted
    return slow.answered - before


@pytest.mark.timeout(180)
def test_two_carry_nearly_twice_what_one_does(
    tmp_path: Path,
    mongo_uri: str,
    mongo_database: str,
    redis_server: Redis,
    slow: Slow,
    make_service: Callable[..., Service],
) -> None:
    place = {
        "MONGODB_URI": mongo_uri, "MONGODB_DATABASE": mongo_database, "REDIS_HOST": redis_server.host,
        "REDIS_PORT": str(redis_server.port), "SCHEDULER_WORKER_COUNT": str(SLOTS),
        "SCHEDULER_EGRESS_ALLOW": "127.0.0.1/32",
    }  # fmt: skip
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    one, other = (make_service(tmp_path / name, **place, **SAME) for name in ("one", "other"))
    one.start()
    asks = {"url": f"http://127.0.0.1:{slow.server_port}/", "method": "GET"}
    code, task = one.ask(
        "POST", "/scheduler/tasks",
        {"name": "waits", "type": "http", "schedule": "@manual", "overlap": "allow", "config": asks},
    )  # fmt: skip
    assert code == 201, task

    queue_up(one, task["id"], 3 * SLOTS * WAITS)
    until(lambda: slow.waiting == SLOTS)
    alone = carried(slow)
    other.start()
    until(lambda: len(status(one)["instances"]) == 2)
    queue_up(one, task["id"], 4 * SLOTS * WAITS)
    until(lambda: slow.waiting == 2 * SLOTS)
    together = carried(slow)

    assert one.ask("GET", "/scheduler/executions?status=pending")[1]["total"] > 0, "there was enough to do all the time"
    assert together >= MORE * alone
    assert one.ask("POST", f"/scheduler/tasks/{task['id']}/stop")[0] == 200
    assert [one.stop(), other.stop()] == [0, 0]
