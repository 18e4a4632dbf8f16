"""Two versions at work on one MongoDB and one Redis, and one replaced by the other under load."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

import pymongo
import pytest

from tests.faults.checks import calm, check_effects, check_occurrences
from tests.faults.service import REPO, Service, a_task
from tests.faults.test_kill import Client
from tests.faults.test_many import SAME
from tests.faults.test_redis import status, until, worker
from tests.services.mongo_next import keeps_its
from tests.services.processes import Redis

pytestmark = pytest.mark.services

EARLIER: Final = "7c307fb"
"""A revision of this repository that fleets of today may be upgraded from."""
Hosts: TypeAlias = Callable[..., Service]


@pytest.fixture(name="host")
def _host(
    tmp_path: Path, mongo_uri: str, mongo_database: str, redis_server: Redis, make_service: Callable[..., Service]
) -> Hosts:
    """``host(name, tree=…, functions=…)``: a service on a host of its own, not started."""

    def made(name: str, *, tree: Path = REPO, functions: str = "") -> Service:
        (tmp_path / name).mkdir()
        service = make_service(
            tmp_path / name,
            MONGODB_URI=mongo_uri,
            MONGODB_DATABASE=mongo_database,
            REDIS_HOST=redis_server.host,
            REDIS_PORT=str(redis_server.port),
            EFFECTS_FILE=str(tmp_path / "effects.jsonl"),
            SCHEDULER_FUNCTIONS=f"tests.faults.effects{functions}",
            SCHEDULER_WORKER_COUNT="20",
            **SAME,
        )
        service.effects = tmp_path / "effects.jsonl"
        service.tree = tree
        return service

    return made


@pytest.fixture(name="earlier", scope="session")
def _earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of the earlier revision."""
    words = ["git", "-C", str(REPO), "archive", EARLIER, "peregrine"]
    try:
        done = subprocess.run(words, capture_output=True, check=False)
    except OSError as error:
        pytest.skip(f"no git here: {error.strerror}")
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        pytest.skip(f"revision {EARLIER} can't be had from this clone, a shallow one perhaps: {said}")
    tree = tmp_path_factory.mktemp("earlier")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(tree, filter="data")
    return tree


@contextmanager
def load_on(*services: Service) -> Iterator[list[Client]]:
    """Somebody at each of *services* who creates tasks and runs them all the time."""
    clients = [Client(service, seed) for seed, service in enumerate(services)]
    for client in clients:
        client.start()
    yield clients
    for client in clients:
        client.done.set()
    for client in clients:
        client.join()


def done_by(service: Service) -> int:
    """How many executions have ended, whoever ran them."""
    return int(service.ask("GET", "/scheduler/executions?status=completed")[1]["total"])


def created(service: Service, name: str) -> str:
    code, task = service.ask("POST", "/scheduler/tasks", a_task(name, milliseconds=20, overlap="allow"))
    assert code == 201, task
    return str(task["id"])


def changed(service: Service, task: str, **fields: Any) -> tuple[int, Any]:
    return service.ask("PUT", f"/scheduler/tasks/{task}", fields)


@pytest.mark.timeout(180)
def test_today_and_the_next_version_side_by_side(host: Hosts, mongo_uri: str, mongo_database: str) -> None:
    """Each does what it understands, nothing that the newer one wrote is lost, and nothing runs twice."""
    ours, its = host("ours"), host("its", functions=",tests.faults.next_version")
    its.start()
    ours.start()
    until(lambda: len(status(ours)["instances"]) == 2)
    shared = [created(one, f"task {number}") for number, one in enumerate((ours, its, ours, its))]
    newer = [created(its, f"next {number}") for number in range(2)]
    with pymongo.MongoClient[dict[str, Any]](mongo_uri) as client:
        database = client[mongo_database]
        database["scheduler_records"].insert_one(
            {"_id": "policies/newer", "collection": "policies", "key": "newer", "revision": 1, "expires_at": None,
             "stamp": "newer", "document": '{"subject":"role:nobody","permission":"scheduler.*","effect":"ask",'
             '"created_by":"somebody","created_at":1}'}
        )  # fmt: skip
        began = done_by(ours)
        until(lambda: done_by(ours) >= began + 12)
        for task in shared:
            assert changed(its, task, description="changed by the next version")[0] == 200
            assert changed(ours, task, priority="high")[0] == 200
        refused = [changed(ours, task, description="mine") for task in newer]
        runs = [ours.ask("POST", f"/scheduler/tasks/{task}/execute")[0] for task in (*shared, *newer)]
        until(lambda: done_by(ours) >= began + 30)
        calm(its, [*shared, *newer])

        assert [(code, told["code"]) for code, told in refused] == [(409, "needs_newer_version")] * 2
        assert runs == [202] * 6
        check_occurrences(ours, [*shared, *newer])
        check_effects(ours)
        executions = ours.all("/scheduler/executions", "executions")
        assert {one["worker_id"] for one in executions if one["task_id"] in newer} == {worker(its)}
        assert {one["worker_id"] for one in executions if one["task_id"] in shared} == {worker(ours), worker(its)}
        written = [one for one in database["scheduler_tasks"].find() if one["_id"] in (*shared[1::2], *newer)]
        assert [keeps_its(one) for one in written] == [True] * 4
        assert {one["description"] for one in written if one["_id"] in shared} == {"changed by the next version"}
        assert database["scheduler_instances"].count_documents({"its": {"$exists": True}}) == 1
    assert "Traceback" not in ours.log.read_text()
    assert ours.ask("GET", "/scheduler/policies")[0] == 200
    assert [ours.stop(), its.stop()] == [0, 0]


def replaced(service: Service, tree: Path) -> None:
    """Stop it, and start it as another version."""
    assert service.stop() == 0
    service.tree = tree
    service.start()


def upgrade(host: Hosts, earlier: Path, turns: Sequence[tuple[int, bool]]) -> None:
    """Under load, replace one of two at each of *turns*, by today's version or the earlier; then look at everything."""
    both = host("a", tree=earlier), host("b", tree=earlier)
    for one in both:
        one.start()
    with load_on(both[0]) as (client,):
        until(lambda: len(client.often) >= 5)
        for place, is_today in turns:
            replaced(both[place], REPO if is_today else earlier)
            had = done_by(both[place])
            until(lambda had=had, one=both[place]: done_by(one) >= had + 10)  # type: ignore[misc]
    a, b = both
    calm(b, client.tasks)

    assert client.refused == []
    for kind, made in (("tasks", client.tasks), ("executions", client.executions)):
        assert [id for id in made if a.ask("GET", f"/scheduler/{kind}/{id}")[0] != 200] == []
    check_occurrences(a, client.often)
    check_effects(b)
    assert [a.stop(), b.stop()] == [0, 0]
    for one in both:
        assert "Traceback" not in one.log.read_text()


@pytest.mark.timeout(300)
def test_an_earlier_version_is_replaced_by_this_one_under_load(host: Hosts, earlier: Path) -> None:
    """Side by side, then today's alone."""
    upgrade(host, earlier, [(1, True), (0, True)])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_earlier_version_and_this_one_take_turns_for_long(host: Hosts, earlier: Path) -> None:
    """Who was upgraded goes back as well."""
    upgrade(host, earlier, [(0, True), (1, True), (0, False), (1, False)] * 5 + [(0, True), (1, True)])
