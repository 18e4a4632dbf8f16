"""Answers that requests share: whatever is written, by whomever, the next answer shows it, and only to who may see."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import pytest
from starlette.requests import Request
from starlette.responses import Response

from peregrine.api.app import build
from peregrine.api.call import EVER, Call, Desk
from peregrine.api.lasting import ENTRY_BYTES, Lasting
from peregrine.api.patience import Buckets, Rate
from peregrine.domain.execution import Outcome
from peregrine.domain.ids import WorkerId
from peregrine.domain.journal import Progress, Said
from peregrine.domain.moment import MINUTE, SECOND, format_moment
from peregrine.domain.retry import settle
from peregrine.ports.identity import Asker, Principal
from peregrine.ports.store import ClaimRequest
from peregrine.stores.memory import MemoryStore
from peregrine.stores.sqlite.store import SqliteStore
from peregrine.testing.builders import a_task
from tests.api.matrix import READERS, ROLES, ROWS
from tests.api.world import World, world_on_sqlite
from tests.house.test_costs import counted

pytestmark = pytest.mark.anyio

TASKS = "/scheduler/tasks"
LASTING = {
    "list_tasks", "get_task", "list_occurrences", "list_history", "list_executions", "get_execution",
    "get_execution_of_task",
}  # fmt: skip


class Reads(MemoryStore):
    """A store that counts what is read of it, and answers a list only when told to."""

    def __init__(self, *, tells: bool = True) -> None:
        super().__init__()
        self.reads = 0
        self.go = asyncio.Event()
        self.go.set()
        self.error: Exception | None = None
        self._tells = tells

    def version(self) -> Any:
        return super().version() if self._tells else None

    async def list_tasks(self, *args: Any, **kwargs: Any) -> Any:
        self.reads += 1
        page = await super().list_tasks(*args, **kwargs)
        await self.go.wait()
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return page


class Silent:
    """A store that does not tell its version."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def version(self) -> None:
        return None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


async def breathe() -> None:
    """Let everything come as far as it can."""
    for _ in range(50):
        await asyncio.sleep(0)


def names(answer: Any) -> list[str]:
    return sorted(task["name"] for task in answer.json()["tasks"])


# ── while nothing is written ─────────────────────────────────────────────────────────────────────


async def test_the_same_question_is_answered_without_reading_while_nothing_is_written() -> None:
    store = Reads()
    world = World(store=store)
    await world.task()

    first = await world.ask("GET", TASKS)
    again = [await world.ask("GET", TASKS) for _ in range(5)]
    head = await world.ask("HEAD", TASKS)

    assert store.reads == 1
    assert {answer.content for answer in again} == {first.content}
    assert {answer.headers["x-request-id"] for answer in again}.isdisjoint({first.headers["x-request-id"]})
    assert [sorted(answer.headers) for answer in again] == [sorted(first.headers)] * 5
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(first.content)))


async def test_another_question_gets_another_answer() -> None:
    world = World(store=Reads())
    for name in ("a", "b"):
        await world.task(name=name, description="")

    asked = [await world.ask("GET", f"{TASKS}?{question}") for question in ("q=a", "q=b", "q=a", "page_size=1", "")]

    assert [names(answer) for answer in asked[:3]] == [["a"], ["b"], ["a"]]
    assert [len(names(answer)) for answer in asked[3:]] == [1, 2]


async def test_what_is_refused_is_refused_each_time() -> None:
    world = World()

    for _ in range(2):
        assert (await world.ask("GET", f"{TASKS}?page_size=no")).status_code == 400
        assert (await world.ask("GET", f"{TASKS}/nobody")).status_code == 404


# ── when something is written ────────────────────────────────────────────────────────────────────


@pytest.fixture(params=["memory", "sqlite"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    if request.param == "memory":
        world = World()
        yield world
        await world.client.aclose()
        return
    async with world_on_sqlite(tmp_path) as world:
        yield world


async def work_one_off(world: World) -> None:
    """Somebody claims what waits, and it ends."""
    request = ClaimRequest(claim_id=str(world.clock.now()), worker_id=WorkerId("w"), now=world.clock.now(), limit=1)
    for claim in (await world.store.claim(request)).claims:
        await world.store.settle([settle(claim, Outcome.succeeded("done"), world.clock.now(), 0.5)])


QUESTIONS = (
    TASKS, f"{TASKS}?status=paused", f"{TASKS}?status=pending&page_size=2", f"{TASKS}?enabled=false",
    f"{TASKS}?sort=name&page=2&page_size=1", "/scheduler/executions", "/scheduler/executions?status=completed",
    "{task}", "{task}/history", "{task}/occurrences", "/scheduler/executions/{execution}",
)  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
async def test_each_answer_is_what_the_store_says_at_that_moment(world: World, seed: int) -> None:
    """Whatever happens, in whatever order: one door that keeps answers says the same as one that can't."""
    chance = random.Random(seed)
    forgetful = World(store=cast(Any, Silent(world.store)), records=world.records)
    tasks = [(await world.task(name=f"task {number}"))["id"] for number in range(3)]
    execution = (await world.ask("POST", f"{TASKS}/{tasks[0]}/execute")).json()["execution_id"]

    async def happen() -> None:
        path = f"{TASKS}/{chance.choice(tasks)}"
        match chance.randrange(9):
            case 0:
                until = format_moment(world.clock.now() + chance.randrange(1, 4) * MINUTE)
                await world.ask("POST", f"{path}/pause", {"until": until})
            case 1:
                await world.ask("POST", f"{path}/resume")
            case 2:
                await world.ask("PUT", path, {"description": str(chance.random())})
            case 3:
                await world.ask("POST", f"{path}/{chance.choice(['enable', 'disable'])}")
            case 4:
                await world.ask("POST", f"{path}/execute")
            case 5:
                await work_one_off(world)
            case 6 | 7:
                world.clock.pass_time(chance.choice([SECOND, MINUTE, MINUTE]))
            case 8:
                world.clock.wall -= MINUTE

    for _ in range(25):
        await happen()
        for question in chance.sample(QUESTIONS, 6):
            path = question.format(task=f"{TASKS}/{tasks[0]}", execution=execution)
            kept = [(await world.ask("GET", path)).json() for _ in range(2)]
            forgetful.clock.wall, forgetful.clock.steady = world.clock.wall, world.clock.steady
            fresh = (await forgetful.ask("GET", path, groups=(), headers=world.bearer("super_admin"))).json()
            assert kept == [fresh, fresh], path
    await forgetful.client.aclose()


async def test_what_another_process_writes_shows_at_once(tmp_path: Path) -> None:
    stores = [SqliteStore(tmp_path / "store.db", ballast_bytes=0) for _ in range(2)]
    for store in stores:
        await store.open()
    world = World(store=cast(Any, stores[0]), records=cast(Any, stores[0]))

    for number in range(5):
        assert (await world.ask("GET", TASKS)).json()["total"] == number
        assert (await world.ask("GET", TASKS)).json()["total"] == number
        await stores[1].create_tasks([a_task(f"t{number}")])

    await world.client.aclose()
    for store in stores:
        await store.close()


# ── when time passes ─────────────────────────────────────────────────────────────────────────────


async def test_a_pause_that_ends_by_itself_is_over_in_every_answer(world: World) -> None:
    task = await world.task()
    path = f"{TASKS}/{task['id']}"
    end = world.clock.now() + MINUTE
    await world.ask("POST", f"{path}/pause", {"until": format_moment(end)})

    async def seen() -> list[Any]:
        page, one = (await world.ask("GET", TASKS)).json(), (await world.ask("GET", path)).json()
        paused = (await world.ask("GET", f"{TASKS}?status=paused")).json()
        return [page["tasks"][0]["status"], one["status"], "pause" in one, paused["total"]]

    for wall, wanted in ((end - 1, ["paused", "paused", True, 1]), (end, ["pending", "pending", False, 0])) * 2:
        world.clock.wall = wall
        assert await seen() == wanted
        assert await seen() == wanted


class Speaker:
    """A journal of which a test says what stands in it."""

    def __init__(self) -> None:
        self.fraction = 0.0

    def read(self, execution_id: object) -> Said:
        return Said(attempt=1, epoch=1, lines=(), progress=Progress(self.fraction, ""))


async def test_the_progress_of_a_run_shows_though_nobody_writes_it() -> None:
    speaker = Speaker()
    world = World(means={"journal": speaker})
    path = f"{TASKS}/{(await world.task())['id']}"
    execution = (await world.ask("POST", f"{path}/execute")).json()["execution_id"]
    await world.store.claim(
        ClaimRequest(claim_id="c", worker_id=WorkerId("w"), now=world.clock.now(), limit=1)
    )  # fmt: skip

    for fraction in (0.25, 0.5):
        speaker.fraction = fraction
        for where in ("/scheduler/executions", f"{path}/history"):
            (shown,) = (await world.ask("GET", where)).json()["executions"]
            assert shown["progress"]["fraction"] == fraction
        for where in (f"/scheduler/executions/{execution}", f"{path}/executions/{execution}"):
            assert (await world.ask("GET", where)).json()["progress"]["fraction"] == fraction


# ── who may see ──────────────────────────────────────────────────────────────────────────────────


async def test_these_routes_and_no_others_share_answers() -> None:
    world = World()

    operations = build(world.deps)[1]

    assert {operation.name for operation in operations if operation.lasts} == LASTING
    assert {operation.method for operation in operations if operation.lasts} == {"GET"}
    await world.client.aclose()


async def test_what_one_was_shown_nobody_gets_who_may_not_see_it(world: World) -> None:
    path = f"{TASKS}/{(await world.task())['id']}"
    execution = (await world.ask("POST", f"{path}/execute")).json()["execution_id"]
    paths = [
        TASKS, path, f"{path}/history", f"{path}/occurrences", f"{path}/executions/{execution}",
        "/scheduler/executions", f"/scheduler/executions/{execution}",
    ]  # fmt: skip
    expired = {"Authorization": f"Bearer {world.token('super_admin', exp=(world.clock.now() - MINUTE) // SECOND)}"}

    for where in paths:
        shown = (await world.ask("GET", where)).content
        for role in ROLES:
            answer = await world.ask("GET", where, groups=[role])
            assert answer.status_code == (200 if role in READERS else 403), (where, role)
            assert (answer.content == shown) is (role in READERS), (where, role)
        for headers in ({}, expired):
            answer = await world.ask("GET", where, groups=(), headers=headers)
            assert answer.status_code == 401, where
            assert answer.content != shown


async def test_an_answer_is_kept_for_those_who_count_as_the_same() -> None:
    store = Reads()
    world = World(store=store)

    reads = []
    for bearer in (world.bearer("monitoring"), world.bearer("super_admin"), world.bearer("monitoring", user="bob")) * 2:
        assert (await world.ask("GET", TASKS, groups=(), headers=bearer)).status_code == 200
        reads.append(store.reads)

    assert reads == [1, 2, 3, 3, 3, 3]


async def test_who_loses_a_right_loses_what_was_kept(world: World) -> None:
    rule = {"subject": "user:bob", "permission": "scheduler.tasks.read"}
    bob = world.bearer(user="bob")
    made = (await world.ask("POST", "/scheduler/policies", rule)).json()["id"]
    assert (await world.ask("GET", TASKS, groups=(), headers=bob)).status_code == 200

    assert (await world.ask("DELETE", f"/scheduler/policies/{made}")).status_code == 200

    assert (await world.ask("GET", TASKS, groups=(), headers=bob)).status_code == 403


# ── many at once ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("store", [Reads(), Reads(tells=False)], ids=["tells its version", "does not"])
async def test_of_many_who_ask_at_once_nobody_gets_what_was_read_before_they_came(store: Reads) -> None:
    world = World(store=store)
    await world.task(name="early")
    store.go.clear()
    early = asyncio.create_task(world.ask("GET", TASKS))
    await breathe()
    await world.task(name="late")
    late = [asyncio.create_task(world.ask("GET", TASKS)) for _ in range(5)]
    await breathe()
    assert store.reads == 1

    store.go.set()

    assert names(await early) == ["early"]
    for one in late:
        assert names(await one) == ["early", "late"]
    assert store.reads == 2


async def test_of_many_who_ask_at_once_the_first_reads_for_all_if_nothing_is_written() -> None:
    store = Reads()
    world = World(store=store)
    await world.task()
    store.go.clear()
    asked = [asyncio.create_task(world.ask("GET", TASKS)) for _ in range(6)]
    await breathe()

    store.go.set()

    assert {(await one).status_code for one in asked} == {200}
    assert store.reads == 1


async def test_who_waited_for_one_that_failed_asks_again() -> None:
    store = Reads(tells=False)
    world = World(store=store)
    store.go.clear()
    asked = [asyncio.create_task(world.ask("GET", TASKS)) for _ in range(3)]
    await breathe()
    asked[0].cancel()
    await breathe()
    store.error = RuntimeError("once")
    asyncio.get_running_loop().call_soon(setattr, store, "error", None)

    store.go.set()

    assert [answer.status_code for answer in await asyncio.gather(*asked[1:])] == [200, 200]
    assert store.reads >= 2


# ── what it costs ────────────────────────────────────────────────────────────────────────────────


async def test_a_page_that_is_kept_takes_few_calls(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store.db", ballast_bytes=0)
    await store.open()
    world = World(store=cast(Any, store), records=cast(Any, store))
    await store.create_tasks([a_task(f"t{number}") for number in range(50)])
    token = world.token("super_admin").encode()
    scope = {
        "type": "http", "http_version": "1.1", "method": "GET", "path": TASKS, "raw_path": TASKS.encode(),
        "query_string": b"page_size=50", "root_path": "", "scheme": "http", "server": ("host", 80),
        "client": ("127.0.0.1", 1), "headers": [(b"host", b"host"), (b"authorization", b"Bearer " + token)],
    }  # fmt: skip
    told: list[Any] = []

    async def nothing() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def tell(message: Any) -> None:
        told.append(message)

    ours: list[int] = []
    for change in (True, True, False):
        if change:
            await store.create_tasks([a_task(f"new {len(ours)}")])
        with counted() as calls:
            await world.app({**scope}, nothing, tell)
        ours.append(calls.ours)

    assert {message["status"] for message in told[::2]} == {200}
    assert ours[1] <= 250
    assert ours[2] <= 55
    await world.client.aclose()
    await store.close()


async def test_no_request_changes_what_readers_share(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store.db", ballast_bytes=0)
    await store.open()
    world = World(store=cast(Any, store), records=cast(Any, store))
    given = {"region": {"ids": [1, 2]}, "api_key": "secret", "empty": {}}
    config = {"module": "m", "function_name": "processData", "parameters": given}
    task = await world.task(type="function", config=config)
    execution = (await world.ask("POST", f"{TASKS}/{task['id']}/execute")).json()["execution_id"]
    stamps = range(1, 50)
    before = {stamp: deepcopy(found) for stamp in stamps if (found := store._definitions.shared(stamp)) is not None}
    assert [found.payload.parameters for found in before.values()] == [given]  # type: ignore[union-attr]

    for method, path, body, *_ in ROWS:
        if "_id}" not in path.replace("{exec_id}", "") and method != "DELETE":
            await world.ask(method, path.replace("{id}", task["id"]).replace("{exec_id}", execution), body)
    shown = (await world.ask("PUT", f"{TASKS}/{task['id']}", {"config": config | {"parameters": {"region": 1}}})).json()

    assert shown["config"]["parameters"] == {"region": 1}
    assert {stamp: store._definitions.shared(stamp) for stamp in before} == before
    await world.client.aclose()
    await store.close()


# ── how much is kept ─────────────────────────────────────────────────────────────────────────────


async def test_what_is_kept_is_bounded() -> None:
    world = World()
    never = Buckets(Rate(burst=1, per_second=1.0), world.clock.monotonic)
    desk = Desk(means=world.means, identity=world.proof, failures=never, refusals=never, strangers=never)
    asker = Asker(principal=Principal(id="a", subjects=("user:a",)))
    made: Counter[str] = Counter()

    async def work(call: Call) -> Response:
        path = call.request.scope["path"]
        made[path] += 1
        call.span = EVER
        return Response(b"x" * int(path[1:]))

    lasting = Lasting(bytes_max=3 * (ENTRY_BYTES + 100))

    async def ask(path: str, question: str = "") -> None:
        scope = {"type": "http", "path": path, "query_string": question.encode(), "headers": []}
        await lasting.answer(Call(desk, Request(scope), asker), work)

    for _ in range(2):
        for question in "abc":
            await ask("/100", question)
    assert made["/100"] == 3

    await ask("/100", "d")
    await ask("/100", "a")
    assert made["/100"] == 5
    for _ in range(2):
        await ask("/9000")
    assert made["/9000"] == 2
    await world.client.aclose()
