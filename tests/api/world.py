"""Owns the house that the door tests knock at: a real application on a memory store; must not know any test."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import httpx

from peregrine.api.app import ApiDeps, create_app
from peregrine.auth.grants import StoredGrants
from peregrine.auth.jwt import JwtProof, JwtRules, sign
from peregrine.auth.keys import KeyProof
from peregrine.auth.sessions import SessionProof
from peregrine.coordination.memory import MemoryBus
from peregrine.domain.errors import Fault, Unavailable
from peregrine.domain.ids import TaskId
from peregrine.domain.moment import HOUR, SECOND
from peregrine.domain.payload import FunctionPayload, JsonObject, Kind, Payload, SystemPayload
from peregrine.domain.permission import PUBLIC_PERMISSIONS, Permission
from peregrine.domain.task import Task
from peregrine.ports.engine_view import EngineFacts, EngineMode
from peregrine.stores.memory import MemoryStore
from peregrine.stores.memory_records import MemoryRecords
from peregrine.stores.sqlite.store import SqliteStore
from peregrine.testing.clock import START, SeededEntropy
from peregrine.usecases.means import Means
from tests.stores.sqlite_places import a_store

SECRET = b"0123456789abcdef0123456789abcdef"
HTTP_TASK: dict[str, Any] = {
    "name": "API Health Check",
    "description": "Check external API health",
    "type": "http",
    "schedule": "0 */10 * * * *",
    "priority": "normal",
    "enabled": True,
    "config": {
        "url": "https://api.example.com/health", "method": "GET", "expected_code": 200, "timeout": "30s",
    },
    "tags": ["monitoring", "health"],
}  # fmt: skip
"""The body of the seeds' own example."""


class HandClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.wall = START
        self.steady = 1_000_000

    def now(self) -> int:
        return self.wall

    def monotonic(self) -> int:
        return self.steady

    async def sleep(self, duration: int) -> None:
        self.pass_time(duration)

    def pass_time(self, by: int) -> None:
        self.wall += by
        self.steady += by


@dataclass
class StillEngine:
    """An engine view that says what a test wants."""

    now: EngineFacts = field(default_factory=lambda: EngineFacts(mode=EngineMode.RUNNING, slots=10, active=0))

    def facts(self) -> EngineFacts:
        return self.now


def check(payload: Payload, parameters: JsonObject | None) -> Sequence[Fault]:
    """One function is known, and it takes ``batch_size`` alone."""
    if not isinstance(payload, FunctionPayload):
        return ()
    if payload.function_name != "processData":
        return [Fault("/config/function_name", "is not a registered function")]
    given = payload.parameters if parameters is None else parameters
    return [Fault(f"/config/parameters/{name}", "is not a parameter") for name in given if name == "nope"]


class World:
    """One house and a client before its door."""

    def __init__(self, *, public: Sequence[Permission] = PUBLIC_PERMISSIONS, **changes: Any) -> None:
        self.clock = HandClock()
        self.store: MemoryStore = changes.pop("store", None) or MemoryStore()
        self.records: MemoryRecords = changes.pop("records", None) or MemoryRecords()
        if isinstance(self.store, MemoryStore):
            self.store.shelf = self.records
        self.bus = MemoryBus()
        self.engine = StillEngine()
        self.woken: list[str] = []
        for topic in ("queued", "tasks", "cancel"):
            self.bus.subscribe(topic, lambda topic=topic: self.woken.append(topic))  # type: ignore[misc, arg-type]
        self.proof = KeyProof(JwtProof(JwtRules(secret=SECRET), self.clock), self.records, self.clock)
        self.means = Means(
            store=self.store, records=self.records, bus=self.bus, clock=self.clock,
            entropy=SeededEntropy(7, clock=self.clock.now),
            grants=StoredGrants(self.records, self.clock, public=public),
            engine=self.engine, check=check, keys=self.proof, **changes.pop("means", {}),
        )  # fmt: skip
        self.sessions = SessionProof(self.proof, self.records, self.clock)
        self.deps = ApiDeps(
            means=self.means, identity=self.sessions, version="9.9.9",
            render_metrics=lambda: (b"# metrics\n", "text/plain; version=0.0.4"), memory=lambda: 64 << 20, **changes,
        )  # fmt: skip
        self.app = create_app(self.deps)
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app, raise_app_exceptions=False), base_url="http://peregrine.test"
        )

    def token(self, *groups: str, user: str = "alice", **claims: Any) -> str:
        given = {"user_id": user, "groups": list(groups), "exp": (self.clock.now() + HOUR) // SECOND} | claims
        return sign({name: value for name, value in given.items() if value is not None}, SECRET)

    def bearer(self, *groups: str, **claims: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(*groups, **claims)}"}

    async def ask(
        self, method: str, path: str, body: Any = None, *, groups: Sequence[str] = ("super_admin",),
        headers: Mapping[str, str] | None = None, raw: bytes | None = None,
    ) -> httpx.Response:  # fmt: skip
        """The answer to a request of somebody in *groups*."""
        head = (self.bearer(*groups) if groups else {}) | dict(headers or {})
        content = raw if raw is not None else None if body is None else json.dumps(body).encode()
        if content is not None:
            head.setdefault("Content-Type", "application/json")
        return await self.client.request(method, path, content=content, headers=head)

    async def task(self, **changes: Any) -> dict[str, Any]:
        """A task that exists."""
        answer = await self.ask("POST", "/scheduler/tasks", HTTP_TASK | changes)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def system_task(self) -> str:
        """A system task that exists; its id."""
        task = Task(
            id=TaskId("system-health-check"), name="Health Check", kind=Kind.SYSTEM,
            payload=SystemPayload(task_name="health_check"), schedule="0 */5 * * * *", anchor=START, is_system=True,
            source="system", created_at=START, updated_at=START,
        )  # fmt: skip
        await self.store.create_tasks([task])
        return task.id

    def is_stopped(self) -> None:
        self.engine.now = replace(self.engine.now, mode=EngineMode.STOPPED)


class Away:
    """A store that does not answer."""

    def version(self) -> None:
        return None

    def __getattr__(self, name: str) -> Any:
        async def away(*args: Any, **kwargs: Any) -> Any:
            raise Unavailable("driver text with secrets: mongodb://user:pw@host")

        return away


@asynccontextmanager
async def world_on_sqlite(folder: Path, *, kind: Callable[[Path], SqliteStore] = a_store) -> AsyncIterator[World]:
    """A house whose store is a file in *folder*."""
    store = kind(folder / "store.db")
    await store.open()
    world = World(store=cast(Any, store), records=cast(Any, store))
    yield world
    await world.client.aclose()
    await store.close()
