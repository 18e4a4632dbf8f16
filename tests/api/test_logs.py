"""Logs over HTTP, end to end on virtual time: an engine runs tasks on a memory store behind the real application."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from peregrine.api import streams
from peregrine.api.app import ApiDeps, create_app
from peregrine.auth.grants import StoredGrants
from peregrine.auth.jwt import JwtProof, JwtRules, sign
from peregrine.auth.keys import KeyProof
from peregrine.domain.errors import Unavailable
from peregrine.domain.execution import Outcome
from peregrine.domain.ids import ExecutionId
from peregrine.domain.moment import HOUR, MINUTE, SECOND
from peregrine.domain.payload import FunctionPayload, Kind
from peregrine.domain.policy import Policy
from peregrine.engine.engine import Engine
from peregrine.executors.callables import FunctionRegistry, function
from peregrine.executors.context import Context
from peregrine.executors.function import FunctionExecutor
from peregrine.executors.isolation import ChildProcesses
from peregrine.ports.executor import RunContext
from peregrine.ports.records import Record
from peregrine.stores.memory_records import MemoryRecords
from peregrine.testing.builders import a_task
from peregrine.testing.clock import SeededEntropy
from peregrine.usecases.means import Means
from tests.api.world import SECRET
from tests.engine.hall import Hall, Work, moments, virtual

ID = ExecutionId("execution-1")
PAGE = f"/scheduler/executions/{ID}/logs"
STREAM = f"{PAGE}/stream"


async def talking(context: RunContext) -> Outcome:
    """Says a line a second, for five seconds."""
    for number in range(1, 6):
        context.log(f"line {number}")
        context.progress(number / 5, f"{number} of 5")
        await moments(SECOND)
    return Outcome.succeeded("done")


@dataclass
class Answer:
    """What a client of a stream has been given so far."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    last: bool = False

    def is_complete(self) -> bool:
        """Whether the end has come; a method, because time passes between two questions."""
        return self.last

    @property
    def events(self) -> list[tuple[str, Any]]:
        """Name and document of each event."""
        found = []
        for block in self.body.decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
            if "data" in fields:
                found.append((fields["event"], json.loads(fields["data"])))
        return found

    @property
    def texts(self) -> list[str]:
        return [document["text"] for name, document in self.events if name == "line"]

    @property
    def ids(self) -> list[str]:
        return [line[4:] for line in self.body.decode().splitlines() if line.startswith("id: ")]

    @property
    def document(self) -> Any:
        return json.loads(self.body)


class House:
    """A hall with an engine and the application that shows it. Make it inside the virtual loop."""

    def __init__(self, work: Work, *, runs_here: bool = True, hall: Hall | None = None, **policy: Any) -> None:
        self.hall = hall or Hall(work=work)
        self.policy = policy
        self.engine = self.hall.engine()
        self.records = MemoryRecords()
        clock = self.hall.clock
        proof = KeyProof(JwtProof(JwtRules(secret=SECRET), clock), self.records, clock)
        self.means = Means(
            store=self.hall.store, records=self.records, bus=self.hall.bus, clock=clock, entropy=SeededEntropy(7),
            grants=StoredGrants(self.records, clock), engine=self.engine, check=lambda payload, parameters: (),
            journal=self.engine.journal if runs_here else Engine(self.hall.needs("worker-2")).journal,
        )  # fmt: skip
        deps = ApiDeps(means=self.means, identity=proof, version="1", render_metrics=lambda: (b"", "text/plain"))
        self.app = create_app(deps)

    async def begin(self) -> None:
        """Queue one execution and start the engine."""
        await self.queue()
        await self.engine.start()

    async def queue(self, *, within: int = 0) -> None:
        """Queue one execution that may begin *within* so long."""
        await self.hall.store.create_tasks([a_task(policy=Policy(**self.policy))])
        await self.hall.queue(ID, available_at=self.hall.clock.now() + within)

    async def wait(self, *, within: int = HOUR) -> None:
        """Queue one, and start the engine, which lets it wait."""
        await self.queue(within=within)
        await self.engine.start()

    def call(
        self, path: str, *, method: str = "GET", groups: tuple[str, ...] = ("monitoring",), user: str = "alice",
        lasts: int = HOUR, send: Callable[[Any], Awaitable[None]] | None = None, **headers: str,
    ) -> Client:  # fmt: skip
        """Somebody in *groups* asks for *path*; the answer grows while time passes."""
        claims = {"user_id": user, "groups": list(groups), "exp": (self.hall.clock.now() + lasts) // SECOND}
        head = [(b"authorization", f"Bearer {sign(claims, SECRET)}".encode())] if groups else []
        head += [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
        where, _, query = path.partition("?")
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": where, "raw_path": where.encode(), "query_string": query.encode(), "root_path": "",
            "headers": head, "server": ("peregrine.test", 80), "client": ("192.0.2.1", 5), "state": {},
        }  # fmt: skip
        return Client(self.app, scope, send)

    async def get(self, path: str, **how: Any) -> Answer:
        client = self.call(path, **how)
        await client.done
        return client.answer


class Client:
    """One request that runs beside the test."""

    def __init__(self, app: Any, scope: Any, send: Callable[[Any], Awaitable[None]] | None) -> None:
        self.answer = Answer()
        self._gone = asyncio.Event()
        self._slow = send
        self.done = asyncio.ensure_future(app(scope, self._receive, self._send))

    def leave(self) -> None:
        self._gone.set()

    async def _receive(self) -> Any:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.answer.status = message["status"]
            self.answer.headers = {name.decode(): text.decode() for name, text in message["headers"]}
            return
        if self._slow is not None:
            await self._slow(message)
        self.answer.body += message.get("body", b"")
        self.answer.last = not message.get("more_body", False)


# ── the page ─────────────────────────────────────────────────────────────────────────────────────


@virtual
async def test_a_page_shows_what_was_said_so_far_and_how_to_go_on() -> None:
    house = House(talking)
    await house.begin()
    await moments(1500)

    first = (await house.get(PAGE)).document
    await moments(SECOND)
    second = (await house.get(f"{PAGE}?after={first['next']}")).document

    assert first == {
        "execution_id": ID, "status": "running", "live": True, "progress": {"fraction": 0.4, "text": "2 of 5"},
        "lines": [
            {"n": 1, "attempt": 1, "at": "2026-01-01T12:00:00Z", "text": "line 1"},
            {"n": 2, "attempt": 1, "at": "2026-01-01T12:00:01Z", "text": "line 2"},
        ],
        "next": "1-2",
    }  # fmt: skip
    assert ([line["n"] for line in second["lines"]], second["next"]) == ([3], "1-3")
    assert [line["n"] for line in (await house.get(f"{PAGE}?after=2")).document["lines"]] == [3]
    execution = (await house.get(f"/scheduler/executions/{ID}")).document
    assert execution["progress"] == {"fraction": 0.6, "text": "3 of 5"}
    listed = (await house.get("/scheduler/executions")).document["executions"]
    assert listed == [execution]
    await house.engine.stop()


@virtual
async def test_what_was_said_survives_the_process() -> None:
    house = House(talking)
    await house.begin()
    await moments(10 * SECOND)
    await house.engine.stop()

    another = House(talking, hall=house.hall)
    page = (await another.get(PAGE)).document

    assert (page["status"], page["live"], page["next"]) == ("completed", False, "1-5")
    assert [line["text"] for line in page["lines"]] == [f"line {number}" for number in range(1, 6)]
    assert page["progress"] == {"fraction": 1.0, "text": "5 of 5"}
    assert (await another.get(f"{PAGE}?after=1-4")).document["lines"] == page["lines"][4:]
    assert (await another.get(f"{PAGE}?after=1-5")).document["next"] == "1-5"
    assert "progress" not in (await another.get(f"/scheduler/executions/{ID}")).document


@virtual
async def test_a_run_on_another_instance_is_not_live_until_it_has_ended() -> None:
    house = House(talking, runs_here=False)
    await house.begin()
    await moments(2500)

    running = (await house.get(PAGE)).document
    client = house.call(STREAM)
    await moments(MINUTE)

    assert (running["status"], running["live"], running["lines"]) == ("running", False, [])
    assert client.answer.texts == [f"line {number}" for number in range(1, 6)]
    assert client.answer.events[-1][0] == "end"
    assert client.answer.is_complete()
    await house.engine.stop()


@virtual
async def test_lines_of_every_attempt_stay() -> None:
    async def failing(context: RunContext) -> Outcome:
        context.log(f"attempt {context.claim.attempt}")
        await moments(10 * SECOND)
        return Outcome.failed("no") if context.claim.attempt == 1 else Outcome.succeeded()

    house = House(failing, max_retries=1, retry_interval=SECOND)
    await house.begin()
    client = house.call(STREAM)
    await moments(5 * SECOND)
    first = (await house.get(PAGE)).document
    await moments(10 * SECOND)

    second = (await house.get(PAGE)).document
    behind = (await house.get(f"{PAGE}?after={first['next']}")).document
    await moments(MINUTE)

    assert [(line["attempt"], line["n"], line["text"]) for line in second["lines"]] == [
        (1, 1, "attempt 1"), (2, 1, "attempt 2"),
    ]  # fmt: skip
    assert [line["text"] for line in behind["lines"]] == ["attempt 2"]
    assert client.answer.texts == ["attempt 1", "attempt 2"]
    assert client.answer.ids == ["1-1", "3-1"]
    assert (await house.get(PAGE)).document["lines"] == second["lines"]
    await house.engine.stop()


@pytest.mark.parametrize("path", [f"{PAGE}?after=x", f"{STREAM}?after=1.5", f"{PAGE}?after=-1"])
@virtual
async def test_a_place_that_is_none_is_refused(path: str) -> None:
    house = House(talking)
    await house.queue()

    answer = await house.get(path)

    assert (answer.status, answer.document["errors"][0]["pointer"]) == (400, "/after")
    again = await house.get(STREAM, last_event_id="nonsense")
    assert (again.status, again.document["errors"][0]["pointer"]) == (400, "/Last-Event-ID")


@virtual
async def test_an_execution_that_is_not_there_or_not_of_the_task_is_not_found() -> None:
    house = House(talking)
    await house.begin()
    await moments(10 * SECOND)

    for path in ("/scheduler/executions/nobody/logs", f"/scheduler/tasks/another/executions/{ID}/logs"):
        assert (await house.get(path)).status == 404
        assert (await house.get(f"{path}/stream")).status == 404
    page, stream = [await house.get(f"/scheduler/tasks/task-1/executions/{ID}/logs{end}") for end in ("", "/stream")]
    assert (page.status, len(page.document["lines"]), len(stream.texts)) == (200, 5, 5)
    await house.engine.stop()


# ── the stream ───────────────────────────────────────────────────────────────────────────────────


@virtual
async def test_a_stream_tells_each_line_as_it_is_said_and_ends_with_the_execution() -> None:
    house = House(talking)
    await house.wait(within=5 * SECOND)
    client = house.call(STREAM)
    await moments(5 * SECOND - 1)
    assert (client.answer.status, client.answer.events) == (200, [])
    assert client.answer.headers["content-type"].startswith("text/event-stream")
    assert client.answer.headers["cache-control"] == "no-store"
    assert "content-length" not in client.answer.headers

    await moments(1500)
    assert client.answer.texts == ["line 1", "line 2"]
    assert not client.answer.is_complete()
    await moments(10 * SECOND)

    steps = [document["fraction"] for name, document in client.answer.events if name == "progress"]
    assert client.answer.texts == [f"line {number}" for number in range(1, 6)]
    assert (client.answer.ids, steps) == ([f"1-{n}" for n in range(1, 6)], [0.2, 0.4, 0.6, 0.8, 1.0])
    assert client.answer.events[-1] == (
        "end", {"execution_id": ID, "status": "completed", "outcome": "succeeded"},
    )  # fmt: skip
    assert client.answer.is_complete()
    await house.engine.stop()


@virtual
async def test_who_comes_back_goes_on_where_they_stood() -> None:
    house = House(talking)
    await house.begin()
    client = house.call(STREAM)
    await moments(1500)
    client.leave()
    await client.done
    await moments(SECOND)

    back = house.call(f"{STREAM}?after=1-1", last_event_id=client.answer.ids[-1])
    await moments(MINUTE)
    late = await house.get(STREAM, last_event_id="1-5")

    assert client.answer.ids + back.answer.ids == [f"1-{number}" for number in range(1, 6)]
    assert (late.texts, late.events[-1][0], late.is_complete()) == ([], "end", True)
    await house.engine.stop()


@virtual
async def test_a_silent_stream_is_kept_alive_and_holds_no_read_of_the_store() -> None:
    async def silent(context: RunContext) -> Outcome:
        await moments(MINUTE)
        return Outcome.succeeded()

    house = House(silent)
    await house.begin()
    await moments(SECOND)
    reads = Reads(house)
    client = house.call(STREAM)

    await moments(50 * SECOND)

    assert client.answer.body.count(b": still here\n\n") == 3
    assert reads.count == 1, "while it runs here, only memory is read"
    await moments(MINUTE)
    assert client.answer.is_complete()
    await house.engine.stop()


class Reads:
    """Counts how often the store is asked for an execution."""

    def __init__(self, house: House) -> None:
        self.count = 0
        self._read = house.hall.store.get_execution
        house.hall.store.get_execution = self._get  # type: ignore[method-assign]

    async def _get(self, execution_id: ExecutionId) -> Any:
        self.count += 1
        return await self._read(execution_id)


@virtual
async def test_head_shows_the_head_alone() -> None:
    house = House(talking)
    await house.queue()

    answer = await house.get(STREAM, method="HEAD")

    assert (answer.status, answer.body, answer.is_complete()) == (200, b"", True)


@virtual
async def test_a_stream_ends_with_the_token() -> None:
    house = House(talking)
    await house.wait()
    client = house.call(STREAM, lasts=7 * SECOND)

    await moments(6 * SECOND)
    assert not client.answer.is_complete()
    await moments(SECOND + 1)

    assert client.answer.is_complete()
    assert client.answer.events == []
    await house.engine.stop()


@virtual
async def test_a_right_that_is_taken_away_ends_the_stream_with_the_next_beat() -> None:
    house = House(talking)
    await house.wait()
    client = house.call(STREAM)
    await moments(SECOND)
    deny = {"subject": "user:alice", "permission": "scheduler.executions.read", "effect": "deny"}
    await house.records.put_record(
        Record(collection="policies", key="p1", document={**deny, "created_by": "root", "created_at": 0}),
        expected_revision=None, now=house.hall.clock.now(),
    )  # fmt: skip

    await moments(13 * SECOND)
    assert not client.answer.is_complete()
    await moments(2 * SECOND)

    assert client.answer.is_complete()
    assert b"still here" not in client.answer.body
    await house.engine.stop()


@virtual
async def test_without_the_permission_there_is_no_stream() -> None:
    house = House(talking)
    await house.queue()

    assert (await house.get(STREAM, groups=("strangers",))).status == 403
    assert (await house.get(STREAM, groups=())).status == 401


@virtual
async def test_one_person_has_so_many_streams_and_all_together_too() -> None:
    house = House(talking)
    await house.wait()
    clients = [house.call(STREAM) for _ in range(streams.STREAMS_EACH_MAX)]
    await moments(SECOND)

    refused = await house.get(STREAM)
    assert (refused.status, refused.document["code"]) == (429, "too_many_requests")
    assert refused.headers["retry-after"] == "5"
    for person in range(streams.STREAMS_MAX // streams.STREAMS_EACH_MAX - 1):
        clients += [house.call(STREAM, user=f"user{person}") for _ in range(streams.STREAMS_EACH_MAX)]
    await moments(SECOND)
    full = await house.get(STREAM, user="last")
    assert (full.status, full.document["code"]) == (503, "unavailable")
    clients[0].leave()
    await clients[0].done
    again = house.call(STREAM)
    await moments(SECOND)

    assert again.answer.status == 200
    for client in (*clients, again):
        client.leave()
        await client.done
    await house.engine.stop()


@virtual
async def test_a_reader_that_takes_nothing_is_dropped_and_its_seat_is_free() -> None:
    async def never(message: Any) -> None:
        await asyncio.Event().wait()

    house = House(talking)
    await house.begin()
    client = house.call(STREAM, send=never)

    await moments(9 * SECOND)
    assert not client.done.done()
    await moments(2 * SECOND)

    assert client.done.done()
    assert not client.answer.is_complete(), "the server closes what has no end"
    await house.engine.stop()


@virtual
async def test_a_slow_reader_costs_no_more_than_the_run_keeps() -> None:
    """Lines that were dropped meanwhile show as a gap in the numbers."""

    async def flood(context: RunContext) -> Outcome:
        for number in range(1, 5001):
            context.log(f"line {number}")
            if number % 100 == 0:
                await moments(100)
        return Outcome.succeeded()

    async def slowly(message: Any) -> None:
        await moments(2 * SECOND)

    house = House(flood)
    await house.queue()
    client = house.call(STREAM, send=slowly)
    await house.engine.start()

    await moments(MINUTE)

    numbers = [document["n"] for name, document in client.answer.events if name == "line"]
    assert numbers == sorted(set(numbers))
    assert len(numbers) < 2000
    assert (numbers[-1], client.answer.is_complete()) == (5000, True)
    await house.engine.stop()


@virtual
async def test_streams_end_when_the_service_stops() -> None:
    house = House(talking)
    await house.begin()
    await moments(10 * SECOND)
    await house.hall.queue("execution-2", available_at=house.hall.clock.now() + HOUR)
    client = house.call("/scheduler/executions/execution-2/logs/stream")
    await moments(SECOND)

    await house.engine.stop()
    await moments(10)

    assert client.answer.is_complete()
    assert client.answer.events == []


@virtual
async def test_a_store_that_goes_away_ends_the_stream_and_whoever_comes_back_is_told() -> None:
    house = House(talking)
    await house.wait()
    client = house.call(STREAM)
    await moments(SECOND)

    async def away(execution_id: ExecutionId) -> Any:
        raise Unavailable("driver text")

    house.hall.store.get_execution = away  # type: ignore[method-assign]
    await moments(3 * SECOND)

    assert client.answer.is_complete()
    assert (await house.get(STREAM)).status == 503


# ── secrets ──────────────────────────────────────────────────────────────────────────────────────


@virtual
async def test_a_secret_that_a_task_tells_is_in_no_answer() -> None:
    canary = "canary-8c1f"
    registry = FunctionRegistry()

    async def leak(context: Context, api_key: str) -> str:
        context.log(f"the key is {api_key}")
        context.progress(0.5, f"with {api_key}")
        context.logger.error("again %s", api_key)
        await moments(5 * SECOND)
        try:
            raise ValueError(f"bad key {api_key}")
        except ValueError:
            context.logger.exception("it failed")
        raise RuntimeError(api_key)

    function("leak", registry=registry)(leak)
    hall = Hall()
    executor = FunctionExecutor(registry, children=ChildProcesses(), clock=hall.clock)
    house = House(talking, hall=hall)
    house.engine = hall.engine(executor=executor)
    house.means = replace(house.means, engine=house.engine, journal=house.engine.journal)
    house.app = create_app(
        ApiDeps(means=house.means, identity=JwtProof(JwtRules(secret=SECRET), hall.clock), version="1",
                render_metrics=lambda: (b"", "text/plain"))
    )  # fmt: skip
    payload = FunctionPayload(function_name="leak", parameters={"api_key": canary})
    await hall.store.create_tasks(
        [a_task(kind=Kind.FUNCTION, payload=payload, policy=Policy(max_retries=0))]
    )  # fmt: skip
    await hall.queue(ID)
    await house.engine.start()
    client = house.call(STREAM)
    await moments(SECOND)

    said = [await house.get(path) for path in (PAGE, f"/scheduler/executions/{ID}")]
    await moments(MINUTE)
    said += [await house.get(path) for path in (PAGE, STREAM, f"/scheduler/executions/{ID}",
                                                "/scheduler/tasks/task-1/history")]  # fmt: skip

    for answer in (*said, client.answer):
        assert answer.status == 200
        assert canary.encode() not in answer.body
    assert client.answer.texts[0] == "the key is ***"
    assert len(client.answer.texts) == 3
    assert canary not in repr(await hall.execution(ID))
    await house.engine.stop()
