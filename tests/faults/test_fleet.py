"""Three instances on one MongoDB, each with another time on its wall: every occurrence once, whatever happens."""

from __future__ import annotations

import base64
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest

from tests.faults.checks import calm, check_effects, check_occurrences
from tests.faults.service import Service, a_task
from tests.services.processes import Redis

pytestmark = pytest.mark.services

LEASE: Final = 3
SECRETS: Final = {
    "JWT_SECRET": "a secret that all instances share, long enough",
    "SCHEDULER_ENCRYPTION_KEY": base64.b64encode(b"k" * 32).decode(),
}


class Instance(Service):
    """One of several on the same store, with a wall clock that can be set wrong."""

    def __init__(self, folder: Path, uri: str, database: str, redis: Redis, *, wrong_by: int) -> None:
        folder.mkdir()
        self._clock = folder / "clock"
        self.step(wrong_by)
        super().__init__(
            folder,
            MONGODB_URI=uri,
            MONGODB_DATABASE=database,
            REDIS_HOST=redis.host,
            REDIS_PORT=str(redis.port),
            EFFECTS_FILE=str(folder.parent / "effects.jsonl"),
            WRONG_CLOCK_FILE=str(self._clock),
            SCHEDULER_FUNCTIONS="tests.faults.effects,tests.faults.wrong_clock",
            SCHEDULER_LEASE=f"{LEASE}s",
            SCHEDULER_HEARTBEAT="1s",
            SCHEDULER_WORKER_COUNT="20",
            **SECRETS,
        )
        self.effects = folder.parent / "effects.jsonl"

    def step(self, seconds: int) -> None:
        """From now on its wall clock is wrong by so much."""
        self._clock.write_text(str(seconds))


class Blows:
    """What happens to instances: killed, frozen past their lease, their clocks stepped."""

    def __init__(self, instances: list[Instance], seed: int) -> None:
        self.instances = instances
        self.struck: Counter[str] = Counter()
        self._dice = random.Random(seed)

    def strike(self) -> None:
        """One of them, on one of the instances."""
        one = self._dice.choice(self.instances)
        blow = self._dice.choice(["kill", "freeze", "step", "step"])
        self.struck[blow] += 1
        match blow:
            case "kill":
                one.kill()
                one.start()
            case "freeze":
                one.send(signal.SIGSTOP)
                time.sleep(LEASE + 1.5)  # not a wait: it sleeps past its lease, and the others take over
                one.send(signal.SIGCONT)
            case "step":
                one.step(self._dice.choice([-3600, -60, 0, 2, 60, 3600]))


@pytest.fixture(name="fleet")
def _fleet(
    tmp_path: Path,
    mongo_uri: str,
    mongo_database: str,
    redis_server: Redis,
) -> Any:
    made = [
        Instance(tmp_path / f"instance-{number}", mongo_uri, mongo_database, redis_server, wrong_by=wrong_by)
        for number, wrong_by in enumerate((-2, 0, 2))
    ]
    for one in made:
        one.start()
    yield made
    for one in made:
        if one.is_running:
            one.kill()


def hold(fleet: list[Instance], *, tasks: int, seconds: float, seed: int) -> int:
    """Run *tasks* each second for so long, strike now and then, check everything; how many occurrences there were."""
    blows = Blows(fleet, seed)
    ids = []
    for number in range(tasks):
        asked = fleet[number % len(fleet)]
        status, answer = asked.ask("POST", "/scheduler/tasks", a_task(f"load {number}", overlap="allow"))
        assert status == 201, answer
        ids.append(answer["id"])
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(1.5)  # not a wait: the load goes on between two blows
        blows.strike()
    assert blows.struck.total() >= 3
    for one in fleet:
        one.step(0)
    calm(fleet[0], ids)
    occurrences = check_occurrences(fleet[1], ids)
    check_effects(fleet[2])
    assert [one.stop() for one in fleet] == [0, 0, 0]
    return occurrences


@pytest.mark.timeout(300)
def test_three_instances_run_each_occurrence_once(fleet: list[Instance]) -> None:
    """A short walk of the one below."""
    assert hold(fleet, tasks=8, seconds=25, seed=3) >= 8 * 20


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_three_instances_run_ten_thousand_occurrences_once(fleet: list[Instance]) -> None:
    """Fifty tasks each second, until there were ten thousand occurrences."""
    seed = int(os.environ.get("FLEET_SEED", "1"))
    assert hold(fleet, tasks=50, seconds=205, seed=seed) >= 10_000
