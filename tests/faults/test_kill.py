"""kill -9 at random moments under load: nothing acknowledged is lost, doubled, unexplained or left running."""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.faults.service import REPO, Service, a_task

ROUNDS = 50
QUIET_WITHIN = 60.0


class Client(threading.Thread):
    """Somebody who creates tasks and runs them all the time, and writes down what was acknowledged."""

    def __init__(self, service: Service, seed: int) -> None:
        super().__init__(daemon=True)
        self.service = service
        self.random = random.Random(seed)
        self.tasks: list[str] = []
        self.often: list[str] = []
        """Those of them that are due each second."""
        self.executions: list[str] = []
        self.refused: list[Any] = []
        self.done = threading.Event()
        self.made = 0

    def run(self) -> None:
        while not self.done.is_set():
            try:
                self._one()
            except OSError:
                self.done.wait(0.01)

    def _one(self) -> None:
        if len(self.tasks) < 15 or self.random.random() < 0.05:
            self.made += 1
            often, overlap = self.made <= 12, self.random.choice(["skip", "queue", "allow"])
            body = a_task(
                f"load {self.made}",
                milliseconds=self.random.choice([0, 5, 50] if overlap == "queue" else [0, 5, 400, 1500]),
                schedule="* * * * * *" if often else "@manual",
                overlap=overlap,
                metadata={"retry_interval": "1s"},
            )
            status, answer = self.service.ask("POST", "/scheduler/tasks", body)
            if status == 201:
                self.tasks.append(answer["id"])
                self.often += [answer["id"]] if often else []
        else:
            task = self.random.choice(self.tasks)
            status, answer = self.service.ask("POST", f"/scheduler/tasks/{task}/execute")
            if status == 202:
                self.executions.append(answer["execution_id"])
        if status >= 500 and status != 503:
            self.refused.append((status, answer))
        self.done.wait(0.02)


@pytest.mark.timeout(400)
def test_kill_dash_nine_loses_nothing(tmp_path: Path, make_service: Callable[..., Service]) -> None:
    """Fifty kills: acknowledged writes stand, each occurrence has one record, each repeated start is explained.

    A restart takes less than two seconds, or on a busy machine at most three times what loading the modules does.
    """
    dice = random.Random(9)
    service = make_service(tmp_path, SCHEDULER_WORKER_COUNT="20")
    client = Client(service, seed=9)
    starts = [service.start()]
    loads = [_load_seconds()]
    client.start()
    for number in range(ROUNDS):
        time.sleep(dice.uniform(0.05, 0.8))  # not a wait: the random moment of the blow
        service.kill()
        starts.append(service.start())
        if number % 10 == 0:
            loads.append(_load_seconds())
    client.done.set()
    client.join()
    _calm(service, client.tasks)

    _check_acknowledged(service, client)
    assert len(client.often) >= 6
    _check_occurrences(service, client.often)
    check_effects(service)
    assert client.refused == []
    assert statistics.median(starts[1:]) < max(2.0, 3 * statistics.median(loads)), sorted(starts[1:])
    assert service.stop() == 0


def _load_seconds() -> float:
    """How long a bare Python takes to load the service's modules now: on a busy machine all takes longer, this too."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import peregrine.app.life"], cwd=REPO, check=True)
    return time.monotonic() - began


def _calm(service: Service, tasks: list[str]) -> None:
    """Disable everything and wait until nothing runs or waits."""
    for task in tasks:
        assert service.ask("POST", f"/scheduler/tasks/{task}/disable")[0] == 200
    until = time.monotonic() + QUIET_WITHIN
    active: list[int] = []
    while time.monotonic() < until:
        active = [
            service.ask("GET", f"/scheduler/executions?status={status}")[1]["total"]
            for status in ("running", "pending")
        ]
        if active == [0, 0]:
            return
        time.sleep(0.1)  # not a wait: the queue drains
    raise AssertionError(f"{active} executions still run or wait after {QUIET_WITHIN} s")


def _check_acknowledged(service: Service, client: Client) -> None:
    assert len(client.tasks) >= 15
    assert len(client.executions) >= 50
    missing = [id for id in client.tasks if service.ask("GET", f"/scheduler/tasks/{id}")[0] != 200]
    assert missing == []
    missing = [id for id in client.executions if service.ask("GET", f"/scheduler/executions/{id}")[0] != 200]
    assert missing == []


def _check_occurrences(service: Service, tasks: list[str]) -> None:
    for task in tasks:
        seen: Counter[int] = Counter()
        for entry in service.all(f"/scheduler/tasks/{task}/occurrences", "occurrences"):
            first, last = second_of(entry["scheduled_for"]), second_of(entry.get("last") or entry["scheduled_for"])
            assert entry["count"] == last - first + 1
            assert entry["verdict"] == "ran" or entry["reason"]
            seen.update(range(first, last + 1))
        twice = [moment for moment, count in seen.items() if count > 1]
        gaps = set(range(min(seen), max(seen) + 1)) - set(seen)
        assert (twice, sorted(gaps)) == ([], []), task


def second_of(text: str) -> int:
    """The second of a moment's text."""
    return round(datetime.fromisoformat(text).timestamp())


def check_effects(service: Service) -> None:
    """Every effect has its record, none came twice, and each attempt but the last says why there was another."""
    executions = {e["id"]: e for e in service.all("/scheduler/executions", "executions")}
    began = Counter((x["execution"], x["attempt"]) for x in service.seen() if x["what"] == "began")
    assert [key for key, count in began.items() if count > 1] == []
    recorded = {(id, a["attempt"]) for id, e in executions.items() for a in e["attempts"]}
    assert set(began) - recorded == set(), "effects without a record"
    for execution in executions.values():
        assert execution["status"] in ("completed", "failed"), execution
        for attempt in execution["attempts"][:-1]:
            assert attempt["outcome"] in ("lost", "failed", "timed_out", "interrupted"), execution
