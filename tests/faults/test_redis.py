"""Two services on one store with a Redis between them: prompt while it answers, and right whatever becomes of it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest

from tests.faults import test_kill as kill
from tests.faults.checks import calm, check_effects, check_occurrences
from tests.faults.service import Service, a_task
from tests.services.processes import Redis

pytestmark = pytest.mark.services

SECRET: Final = "a word of the test"
AGAIN_WITHIN: Final = 10.0
SLOWEST: Final = 2.0
"""No request may take longer, as long as the machine itself is not slower than that."""
LONG: Final = 60_000
Pair: TypeAlias = Callable[..., tuple[Service, Service]]


@pytest.fixture(name="pair")
def _pair(
    request: pytest.FixtureRequest, tmp_path: Path, redis_server: Redis, make_service: Callable[..., Service]
) -> Pair:
    """Two services on one data directory, started; on a MongoDB if the test is asked to take place on one."""
    store: dict[str, str] = {}
    if getattr(request, "param", "sqlite") == "mongodb":
        store["MONGODB_URI"] = request.getfixturevalue("mongo_uri")
        store["MONGODB_DATABASE"] = request.getfixturevalue("mongo_database")

    def start(**settings: str) -> tuple[Service, Service]:
        place = {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(redis_server.port), **store}
        both = make_service(tmp_path, **place, **settings), make_service(tmp_path, **place, **settings)
        for service in both:
            service.start()
        for service in both:
            until(lambda service=service: len(status(service)["instances"]) == 2)  # type: ignore[misc]
            until(lambda service=service: redis_word(service) == "healthy")  # type: ignore[misc]
        return both

    return start


def until(is_so: Callable[[], Any], within: float = 3 * AGAIN_WITHIN) -> None:
    """Wait for a real process."""
    end = time.monotonic() + within
    while not is_so():
        assert time.monotonic() < end, "it did not become so"
        time.sleep(0.02)  # not a wait: a real process is looked at until it is so


def status(service: Service) -> dict[str, Any]:
    code, told = service.ask("GET", "/scheduler/status")
    assert code == 200
    return dict(told)


def redis_word(service: Service) -> str:
    return str(status(service)["dependencies"]["redis"])


def created(service: Service, name: str, **fields: Any) -> str:
    code, task = service.ask("POST", "/scheduler/tasks", a_task(name, schedule="@manual", **fields))
    assert code == 201, task
    return str(task["id"])


def started(service: Service, task: str) -> str:
    code, answer = service.ask("POST", f"/scheduler/tasks/{task}/execute")
    assert code == 202, answer
    return str(answer["execution_id"])


def execution(service: Service, id: str) -> dict[str, Any]:
    code, found = service.ask("GET", f"/scheduler/executions/{id}")
    assert code == 200, found
    return dict(found)


def worker(service: Service) -> str:
    """The instance that this service is."""
    return str(next(one["id"] for one in status(service)["instances"] if one["here"]))


def test_work_for_which_one_has_no_slot_starts_on_the_other(pair: Pair, redis_server: Redis) -> None:
    """Nobody looks by themselves for half a minute: only a wake can be the reason."""
    a, b = pair(SCHEDULER_WORKER_COUNT="1", SCHEDULER_POLL="30s")
    first, second = created(a, "first", milliseconds=LONG), created(a, "second", milliseconds=LONG)

    one = started(a, first)
    until(lambda: execution(a, one)["status"] == "running")
    two = started(a, second)
    until(lambda: execution(b, two)["status"] == "running", within=20)

    assert (execution(a, one)["worker_id"], execution(a, two)["worker_id"]) == (worker(a), worker(b))
    assert redis_server.value(f"scheduler:lock:{first}") == f"{one}:1"
    until(lambda: [len(told["running"]) for told in status(a)["instances"]] == [1, 1])
    assert execution(b, two)["metadata"]["lock_key"] == f"scheduler:lock:{second}"


@pytest.mark.parametrize("is_killed", [False, True], ids=["redis", "no redis"])
def test_a_stop_on_one_ends_a_run_on_the_other(pair: Pair, redis_server: Redis, *, is_killed: bool) -> None:
    a, b = pair(SCHEDULER_LEASE="9s", SCHEDULER_HEARTBEAT="3s")
    task = created(a, "long", milliseconds=LONG)
    run = started(a, task)
    until(lambda: execution(a, run)["status"] == "running")
    here, there = (a, b) if execution(a, run)["worker_id"] == worker(a) else (b, a)
    if is_killed:
        redis_server.kill()

    assert there.ask("POST", f"/scheduler/tasks/{task}/stop")[0] == 200
    until(lambda: execution(here, run)["status"] == "failed", within=20)

    assert execution(there, run)["outcome"] == "cancelled"
    assert [one["what"] for one in a.seen()] == ["began"]


def test_a_killed_instance_leaves_no_lock_that_holds_up_its_tasks(pair: Pair, redis_server: Redis) -> None:
    a, b = pair(SCHEDULER_LEASE="30s", SCHEDULER_HEARTBEAT="1s")
    task = created(a, "long", milliseconds=500, overlap="queue", on_worker_lost="fail", metadata={"max_retries": 0})
    code, _ = a.ask("PUT", f"/scheduler/tasks/{task}", {"config": a_task("", milliseconds=LONG)["config"]})
    assert code == 200
    run = started(a, task)
    until(lambda: execution(b, run)["status"] == "running")
    here, there = (a, b) if execution(a, run)["worker_id"] == worker(a) else (b, a)

    here.kill()
    until(lambda: execution(there, run)["status"] == "failed")
    again = started(there, task)

    until(lambda: execution(there, again)["status"] == "running", within=15)
    assert [one["attempt"] for one in execution(there, again)["attempts"]] == [1]


class Caller(kill.Client):
    """A client that holds a watch on every request."""

    def __init__(self, service: Service, seed: int) -> None:
        super().__init__(service, seed)
        self.slowest = 0.0
        ask = service.ask

        def timed(method: str, path: str, body: Any = None) -> tuple[int, Any]:
            if path == "/scheduler/tasks" and body is not None:
                # Names of its own, and short runs: those of one task wait for each other at the end.
                short = min(body["config"]["parameters"]["milliseconds"], 100)
                body = body | {"name": f"{body['name']} of {seed}", "config": a_task("", milliseconds=short)["config"]}
            began = time.monotonic()
            try:
                return ask(method, path, body)
            finally:
                self.slowest = max(self.slowest, time.monotonic() - began)

        service.ask = timed  # type: ignore[method-assign]

    def run(self) -> None:
        watch = threading.Thread(target=self._watch)
        watch.start()
        super().run()
        watch.join()

    def _watch(self) -> None:
        while not self.done.wait(0.1):
            code, answer = self.service.ask("GET", "/scheduler/status")
            if code != 200:
                self.refused.append((code, answer))


def flush(redis: Redis) -> None:
    redis.say("FLUSHALL")


def freeze(redis: Redis) -> None:
    redis.freeze()
    time.sleep(2)  # not a wait: so long it is frozen
    redis.thaw()


def answer_late(redis: Redis) -> None:
    for _ in range(4):
        redis.say("CLIENT", "PAUSE", "400", "ALL")
        time.sleep(0.5)  # not a wait: in between it answers


def refuse_the_password(redis: Redis) -> None:
    redis.say("CONFIG", "SET", "requirepass", SECRET)
    redis.say("CLIENT", "KILL", "TYPE", "normal", secret=SECRET)
    redis.say("CLIENT", "KILL", "TYPE", "pubsub", secret=SECRET)
    time.sleep(1)  # not a wait: so long it refuses them
    redis.say("CONFIG", "SET", "requirepass", "", secret=SECRET)


def die(redis: Redis) -> None:
    redis.kill()
    time.sleep(1)  # not a wait: so long it is dead
    redis.start()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("pair", ["sqlite", "mongodb"], indirect=True)
def test_whatever_becomes_of_redis_nothing_is_lost_doubled_or_refused(pair: Pair, redis_server: Redis) -> None:
    a, b = pair(SCHEDULER_WORKER_COUNT="20")
    callers = [Caller(service, seed) for seed, service in enumerate((a, b))]
    for caller in callers:
        caller.start()
    time.sleep(2)  # not a wait: what the machine itself costs is seen in peace
    usual = max(caller.slowest for caller in callers)
    blows = [flush, freeze, answer_late, refuse_the_password, die]
    random.Random(5).shuffle(blows)
    for blow in blows:
        time.sleep(1)  # not a wait: in between there is peace
        blow(redis_server)
    for service in (a, b):
        until(lambda service=service: redis_word(service) == "healthy", within=AGAIN_WITHIN)  # type: ignore[misc]
    for caller in callers:
        caller.done.set()
    for caller in callers:
        caller.join()
    tasks = [id for caller in callers for id in caller.tasks]
    calm(a, tasks)

    for caller in callers:
        kill._check_acknowledged(a, caller)
        assert caller.refused == []
        assert caller.slowest < max(SLOWEST, 4 * usual)
    check_occurrences(b, callers[0].often)
    check_effects(b)
    assert len({one["worker_id"] for one in a.all("/scheduler/executions", "executions")}) == 2
    assert (a.stop(), b.stop()) == (0, 0)
