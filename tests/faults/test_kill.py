"""kill -9 at random moments under load: nothing acknowledged is lost, doubled, unexplained or left running."""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.checks import calm, check_effects, check_occurrences
from tests.faults.service import REPO, Service, a_task

ROUNDS = 50


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
            often, overlap = len(self.often) < 12, self.random.choice(["skip", "queue", "allow"])
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
    calm(service, client.tasks)

    _check_acknowledged(service, client)
    assert len(client.often) >= 6
    check_occurrences(service, client.often)
    check_effects(service)
    assert client.refused == []
    assert statistics.median(starts[1:]) < max(2.0, 3 * statistics.median(loads)), sorted(starts[1:])
    assert service.stop() == 0


def _load_seconds() -> float:
    """How long a bare Python takes to load the service's modules now: on a busy machine all takes longer, this too."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import peregrine.app.life"], cwd=REPO, check=True)
    return time.monotonic() - began


def _check_acknowledged(service: Service, client: Client) -> None:
    assert len(client.tasks) >= 15
    assert len(client.executions) >= 50
    missing = [id for id in client.tasks if service.ask("GET", f"/scheduler/tasks/{id}")[0] != 200]
    assert missing == []
    missing = [id for id in client.executions if service.ask("GET", f"/scheduler/executions/{id}")[0] != 200]
    assert missing == []
