"""The MongoDB of a service goes away, or answers nothing after the write: clear refusals, then all is accounted for."""

from __future__ import annotations

import asyncio
import base64
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.faults.checks import calm, check_effects, check_occurrences
from tests.faults.proxy import Fault, FaultyProxy
from tests.faults.service import Service, a_task
from tests.faults.test_redis import created, until
from tests.services.mongo_places import node_of

pytestmark = pytest.mark.services

BACK_WITHIN: Final = 30.0


class Line:
    """The way to a server, on a loop of its own, so that a test which waits does not stop it."""

    def __init__(self, host: str, port: int) -> None:
        self.proxy = FaultyProxy(host, port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._done(self.proxy.__aenter__())

    def be(self, fault: Fault) -> None:
        """From now on it fails so."""

        async def change() -> None:
            self.proxy.fault = fault
            if fault is Fault.REFUSE:
                self.proxy.cut()

        self._done(change())

    def close(self) -> None:
        """Take it down."""
        self._done(self.proxy.__aexit__())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _done(self, what: Any) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(30)


@pytest.fixture(name="line")
def _line(mongo_uri: str) -> Iterator[Line]:
    made = Line(*node_of(mongo_uri))
    yield made
    made.close()


@pytest.fixture(name="service")
def _service(line: Line, mongo_database: str, tmp_path: Path, make_service: Callable[..., Service]) -> Service:
    service = make_service(
        tmp_path,
        MONGODB_URI=f"mongodb://127.0.0.1:{line.proxy.port}/?directConnection=true",
        MONGODB_DATABASE=mongo_database,
        SCHEDULER_LEASE="6s",
        SCHEDULER_HEARTBEAT="2s",
        JWT_SECRET="a secret of the test that is long enough",
        SCHEDULER_ENCRYPTION_KEY=base64.b64encode(bytes(range(32))).decode(),
    )
    service.start()
    return service


def outage(service: Service, line: Line, fault: Fault, seconds: float) -> list[int]:
    """Three tasks a second each, a fault for so long, and what was said to whoever wanted to write meanwhile."""
    tasks = []
    for number in range(3):
        code, task = service.ask("POST", "/scheduler/tasks", a_task(f"each second {number}", overlap="queue"))
        assert code == 201, task
        tasks.append(task["id"])
    by_hand = created(service, "by hand", milliseconds=0)
    until(lambda: ran(service, tasks[0]) >= 3)
    line.be(fault)
    said: list[int] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        code, answer = service.ask("POST", f"/scheduler/tasks/{by_hand}/execute")
        said.append(code)
        assert code in (202, 503), answer
    line.be(Fault.NONE)
    healed = time.monotonic()
    until(lambda: service.ask("GET", "/readyz")[0] == 200, within=BACK_WITHIN)
    before = ran(service, tasks[0])
    until(lambda: ran(service, tasks[0]) >= before + 3, within=BACK_WITHIN)
    assert time.monotonic() - healed < BACK_WITHIN
    calm(service, [*tasks, by_hand])
    check_occurrences(service, tasks)
    check_effects(service)
    assert service.stop() == 0
    return said


def ran(service: Service, task: str) -> int:
    code, answer = service.ask("GET", f"/scheduler/tasks/{task}/history?status=completed")
    return int(answer["total"]) if code == 200 else 0


@pytest.mark.timeout(180)
@pytest.mark.parametrize("fault", [Fault.REFUSE, Fault.SILENCE, Fault.SWALLOW_ANSWERS], ids=lambda fault: fault.name)
def test_a_store_that_is_away_for_a_while_costs_nothing(service: Service, line: Line, fault: Fault) -> None:
    said = outage(service, line, fault, seconds=6)

    assert 503 in said


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", [Fault.REFUSE, Fault.SILENCE], ids=lambda fault: fault.name)
def test_a_store_that_is_away_for_a_minute_costs_nothing(service: Service, line: Line, fault: Fault) -> None:
    assert 503 in outage(service, line, fault, seconds=60)
