"""What surrounds every request: ids, protection, methods, other origins, and trouble behind the door."""

from __future__ import annotations

from typing import Any

import pytest

from peregrine.domain.errors import Stale, StorageFull, Unavailable, Unsure
from peregrine.domain.ids import TaskId
from peregrine.stores.memory import MemoryStore
from tests.api.matrix import ROWS
from tests.api.world import HTTP_TASK, Away, World

pytestmark = pytest.mark.anyio


async def test_a_request_has_an_id_from_end_to_end(world: World) -> None:
    given = await world.ask("GET", "/scheduler/nothing", headers={"X-Request-Id": "my-request.1"})
    made = await world.ask("GET", "/scheduler/nothing", headers={"X-Request-Id": "no good"})

    assert given.headers["x-request-id"] == given.json()["request_id"] == "my-request.1"
    assert made.headers["x-request-id"] == made.json()["request_id"] != "no good"


@pytest.mark.parametrize("path", ["/scheduler/tasks", "/healthz", "/nothing", "/docs", "/openapi.json"])
async def test_every_answer_protects_browsers(world: World, path: str) -> None:
    headers = (await world.ask("GET", path)).headers

    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "script-src 'unsafe-inline'" not in headers["content-security-policy"]
    assert "server" not in headers


async def test_nothing_is_asked_of_another_host_by_the_docs(world: World) -> None:
    page = await world.ask("GET", "/docs", groups=())

    assert "http" not in page.text.replace("http-equiv", "")
    for name in ("swagger-ui-bundle.js", "swagger-ui.css", "start.js", "favicon-32x32.png"):
        assert f'"docs/{name}"' in page.text
        assert (await world.ask("GET", f"/docs/{name}", groups=())).content


async def test_head_is_get_without_a_body(world: World) -> None:
    for path in ("/scheduler/tasks", "/healthz", "/scheduler/nothing"):
        get, head = await world.ask("GET", path), await world.ask("HEAD", path)

        assert (head.status_code, head.content) == (get.status_code, b"")
        assert head.headers["content-type"] == get.headers["content-type"]


@pytest.mark.parametrize("method", ["PATCH", "OPTIONS", "TRACE", "PROPFIND", "FOO"])
async def test_other_methods_are_told_what_there_is(world: World, method: str) -> None:
    answer = await world.ask(method, "/scheduler/tasks", groups=())

    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD, POST"
    assert answer.headers["content-type"] == "application/problem+json"


async def test_unknown_paths_are_problems(world: World) -> None:
    answer = await world.ask("GET", "/scheduler/no\u00e9thing/<script>", groups=())

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert "<" not in answer.text


async def test_the_prefix_stands_in_front_of_the_scheduler_alone() -> None:
    world = World(prefix="/api/v1")

    assert (await world.ask("GET", "/api/v1/scheduler/status")).status_code == 200
    assert (await world.ask("GET", "/scheduler/status")).status_code == 404
    assert (await world.ask("GET", "/healthz")).status_code == 200
    made = await world.ask("POST", "/api/v1/scheduler/tasks", HTTP_TASK)
    assert made.headers["location"].startswith("/api/v1/scheduler/tasks/")


# ── other origins ────────────────────────────────────────────────────────────────────────────────

ALLOWED = "https://ops.example"


async def test_an_allowed_origin_is_named_exactly() -> None:
    world = World(origins=(ALLOWED,))

    answer = await world.ask("GET", "/scheduler/tasks", headers={"Origin": ALLOWED})
    wish = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "If-Match"}
    preflight = await world.ask("OPTIONS", "/scheduler/tasks/x", groups=(), headers={"Origin": ALLOWED} | wish)

    assert answer.headers["access-control-allow-origin"] == ALLOWED
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert answer.headers["vary"] == "Origin"
    assert preflight.status_code == 204
    assert "PUT" in preflight.headers["access-control-allow-methods"]
    assert "If-Match" in preflight.headers["access-control-allow-headers"]


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "https://ops.example.evil.example", "http://ops.example", "null", "*", ""]
)
async def test_other_origins_are_told_nothing(origin: str) -> None:
    world = World(origins=(ALLOWED,))
    head = {"Origin": origin, "Access-Control-Request-Method": "GET"}

    for method in ("GET", "OPTIONS"):
        answer = await world.ask(method, "/scheduler/tasks", headers=head)
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["vary"] == "Origin"


# ── trouble behind the door ──────────────────────────────────────────────────────────────────────


class Broken(MemoryStore):
    """A store whose every verb fails in one way, after some point."""

    error: Exception | None = None

    def __getattribute__(self, name: str) -> Any:
        error = object.__getattribute__(self, "error")
        if error is None or name.startswith("_") or name in ("error", "version", "noting", "shelf"):
            return object.__getattribute__(self, name)

        async def fail(*args: Any, **kwargs: Any) -> Any:
            raise error

        return fail


ERRORS = [Unavailable("connect mongodb://user:canary@host failed"), Unsure("canary"), StorageFull("/canary is full")]
NEED_THE_STORE = {"/scheduler/stats", "/scheduler/reload", "/readyz"}


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_a_store_that_fails_is_a_calm_503(error: Exception) -> None:
    store = Broken()
    world = World(store=store)
    store.error = error

    for method, path, body, *_ in ROWS:
        answer = await world.ask(method, path.replace("{id}", "x").replace("{exec_id}", "x"), body)
        needs_store = path.startswith(("/scheduler/tasks", "/scheduler/executions")) or path in NEED_THE_STORE
        assert "canary" not in answer.text
        if needs_store:
            assert answer.status_code == 503, path
            assert int(answer.headers["retry-after"]) >= 1
        else:
            assert answer.status_code in (200, 201, 404), path


async def test_a_bug_of_ours_says_nothing_of_itself(world: World, caplog: pytest.LogCaptureFixture) -> None:
    store = Broken()
    other = World(store=store)
    store.error = RuntimeError("canary")

    answer = await other.ask("GET", "/scheduler/tasks")

    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "canary" not in answer.text
    assert "canary" in caplog.text


async def test_grants_that_can_not_be_read_open_nothing() -> None:
    world = World(records=Away())

    for method, path, body, *_ in ROWS:
        answer = await world.ask(method, path.replace("{id}", "x"), body)
        if path.startswith(("/docs", "/openapi")) or path in ("/healthz", "/readyz", "/metrics"):
            assert answer.status_code == 200
        elif path in ("/scheduler/status", "/scheduler/scheduler-status"):
            assert "metrics" not in answer.json()
        elif path.startswith("/auth/"):
            # What a token says of itself needs no store, and opens nothing; EVE is not configured here.
            assert answer.status_code == (404 if "eve" in path else 200)
        elif path == "/scheduler/tasks/bulk":
            assert answer.status_code == 503
        else:
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable"), path
            assert "secret" not in answer.text


async def test_a_task_that_always_moves_is_given_up() -> None:
    class Restless(MemoryStore):
        async def put_task(self, *args: Any, **kwargs: Any) -> None:
            raise Stale("moved")

        async def delete_task(self, *args: Any, **kwargs: Any) -> Any:
            raise Stale("moved")

    world = World(store=Restless())
    path = f"/scheduler/tasks/{TaskId((await world.task())['id'])}"

    assert (await world.ask("PUT", path, {"description": "x"})).status_code == 503
    assert (await world.ask("DELETE", path)).status_code == 503


async def test_one_who_asks_too_often_waits() -> None:
    from peregrine.api.patience import Rate

    world = World(rate=Rate(burst=3, per_second=1.0))

    codes = [(await world.ask("GET", "/scheduler/tasks")).status_code for _ in range(5)]
    other = await world.ask("GET", "/scheduler/tasks", groups=(), headers=world.bearer("monitoring", user="bob"))
    refused = await world.ask("GET", "/scheduler/tasks")
    world.clock.pass_time(1000)

    assert codes == [200, 200, 200, 429, 429]
    assert other.status_code == 200
    assert (refused.json()["code"], refused.headers["retry-after"]) == ("too_many_requests", "1")
    assert (await world.ask("GET", "/scheduler/tasks")).status_code == 200
