"""Each route × each role × each state of the credentials, against the hand-written table."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.routing import BaseRoute, Route, WebSocketRoute

from peregrine.api.app import build, refuse_undeclared
from peregrine.api.call import Desk
from peregrine.api.patience import Buckets, Rate
from peregrine.domain.moment import SECOND
from peregrine.domain.permission import Permission
from tests.api.matrix import ANYBODY, NO_IDENTITY, ROLES, ROWS
from tests.api.world import SECRET, World

pytestmark = pytest.mark.anyio


async def settled(world: World, path: str) -> str:
    """*path* with ids of things that exist."""
    if "{id}" not in path and "{exec_id}" not in path and "_id}" not in path:
        return path
    task = await world.task(name=f"for {len(world.woken)}")
    execution = (await world.ask("POST", f"/scheduler/tasks/{task['id']}/execute")).json()["execution_id"]
    if path.endswith("/stream"):
        # What has ended is told to its end at once.
        await world.ask("POST", f"/scheduler/executions/{execution}/cancel")
    made = {
        "policy_id": ("policies", {"subject": f"user:{task['id']}", "permission": "scheduler.read"}),
        "membership_id": ("memberships", {"subject": f"user:{task['id']}", "member_of": "group:monitoring"}),
        "key_id": ("api-keys", {"name": "k", "groups": ["monitoring"]}),
    }
    for name, (collection, body) in made.items():
        if name in path:
            id = (await world.ask("POST", f"/scheduler/{collection}", body)).json()["id"]
            path = path.replace("{" + name + "}", id)
    return path.replace("{id}", task["id"]).replace("{exec_id}", execution)


@pytest.mark.parametrize(("method", "path", "body", "status", "who"), ROWS, ids=[f"{r[0]} {r[1]}" for r in ROWS])
async def test_each_role_gets_what_the_table_says(
    world: World, method: str, path: str, body: Any, status: int, who: frozenset[str]
) -> None:
    got = {}
    for role in ROLES:
        fresh = body | {"name": role} if isinstance(body, dict) and "name" in body else body
        fresh = fresh | {"subject": f"user:{role}"} if isinstance(fresh, dict) and "subject" in fresh else fresh
        got[role] = (await world.ask(method, await settled(world, path), fresh, groups=[role])).status_code
    got["nobody"] = (await world.ask(method, await settled(world, path), body, groups=())).status_code

    wanted = {role: status if role in who else 403 for role in ROLES}
    wanted["nobody"] = status if "nobody" in who else 401
    assert got == wanted


def bad_credentials(world: World) -> dict[str, dict[str, str]]:
    good = world.token("super_admin")
    past = world.token("super_admin", exp=(world.clock.now() - 60 * SECOND) // SECOND)
    return {
        "expired": {"Authorization": f"Bearer {past}"},
        "forged": {"Authorization": f"Bearer {good[:-3]}AAA"},
        "no token": {"Authorization": "Bearer"},
        "another scheme": {"Authorization": f"Basic {good}"},
        "bare": {"Authorization": good},
        "expired cookie": {"Cookie": f"falcon_auth_token={past}", "Origin": "http://peregrine.test"},
        "the secret itself": {"Authorization": f"Bearer {SECRET.decode()}"},
    }


@pytest.mark.parametrize(("method", "path"), [row[:2] for row in ROWS], ids=[f"{r[0]} {r[1]}" for r in ROWS])
async def test_bad_credentials_are_refused_alike_everywhere(world: World, method: str, path: str) -> None:
    bodies = set()
    for name, headers in bad_credentials(world).items():
        answer = await world.ask(method, path, groups=(), headers=headers)
        if path in NO_IDENTITY or path.startswith("/docs"):
            assert answer.status_code == (404 if path.startswith("/auth/eve") else 200), name
            continue
        assert answer.status_code == 401, name
        assert answer.headers["www-authenticate"].startswith("Bearer")
        bodies.add(answer.text.replace(answer.headers["x-request-id"], ""))
    assert len(bodies) <= 1


async def test_every_route_has_a_row(world: World) -> None:
    app, _ = build(world.deps)
    routes = {
        (method, getattr(route, "path", ""))
        for route in app.routes
        for method in getattr(route, "methods", ())
        if method != "HEAD"
    }

    assert routes == {(method, path) for method, path, *_ in ROWS}


async def forgotten(request: Any) -> Any: ...


class Forgotten:
    """An application of its own, which takes any method."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


@pytest.mark.parametrize(
    "route",
    [Route("/scheduler/secret", forgotten), WebSocketRoute("/scheduler/secret", forgotten),
     Route("/scheduler/secret", Forgotten())],
    ids=["a method", "a socket", "any method"],
)  # fmt: skip
async def test_a_route_without_a_permission_stops_the_start(world: World, route: BaseRoute) -> None:
    app, operations = build(world.deps)
    app.router.routes.append(route)

    nobody = Buckets(Rate(1, 1), world.means.clock.monotonic)
    desk = Desk(
        means=world.means, identity=world.deps.identity, failures=nobody, refusals=nobody, strangers=nobody
    )  # fmt: skip
    with pytest.raises(AssertionError, match="no permission"):
        refuse_undeclared(app, desk, operations)


async def test_what_the_public_sees_can_be_closed() -> None:
    world = World(public=(), metrics_public=False)

    for path in ("/scheduler/status", "/scheduler/scheduler-status", "/scheduler/stats", "/metrics"):
        assert (await world.ask("GET", path, groups=())).status_code == 401, path
        assert (await world.ask("GET", path, groups=["strangers"])).status_code == 200, path
    assert (await world.ask("GET", "/healthz", groups=())).status_code == 200


SIDE_DOORS = [
    "/scheduler/tasks/", "//scheduler/tasks", "/scheduler//tasks", "/SCHEDULER/tasks", "/scheduler/Tasks",
    "/scheduler/./tasks", "/scheduler/x/../tasks", "/scheduler/%2e/tasks", "/scheduler/tasks%2f", "/scheduler/tasks;x",
    "/scheduler/tasks%00", "/scheduler/tasks.json",
]  # fmt: skip


@pytest.mark.parametrize("path", SIDE_DOORS)
async def test_there_are_no_side_doors(world: World, path: str) -> None:
    answer = await world.ask("GET", path, groups=())

    assert answer.status_code in (401, 404)


@pytest.mark.parametrize(
    "headers",
    [
        {"X-HTTP-Method-Override": "GET"}, {"X-Original-URL": "/healthz"}, {"X-Rewrite-URL": "/healthz"},
        {"X-Forwarded-For": "127.0.0.1"}, {"X-Forwarded-User": "admin"}, {"X-Auth-Token": "x"},
        {"Cookie": "falcon_auth_token="}, {"Cookie": "other=1; falcon_auth_token2=x"},
    ],
)  # fmt: skip
async def test_headers_that_open_nothing(world: World, headers: dict[str, str]) -> None:
    assert (await world.ask("GET", "/scheduler/tasks", groups=(), headers=headers)).status_code == 401
    query = f"/scheduler/tasks?access_token={world.token('super_admin')}"
    assert (await world.ask("GET", query, groups=(), headers=headers)).status_code == 401


async def test_two_credentials_that_disagree(world: World) -> None:
    good, other = world.token("super_admin"), world.token("monitoring", user="bob")
    twice = [("Authorization", f"Bearer {good}"), ("Authorization", f"Bearer {other}")]
    cookies = {"Cookie": f"falcon_auth_token={good}; falcon_auth_token={other}"}

    assert (await world.client.get("/scheduler/tasks", headers=twice)).status_code == 401
    assert (await world.ask("GET", "/scheduler/tasks", groups=(), headers=cookies)).status_code == 401
    header_wins = {"Authorization": "Bearer bad", "Cookie": f"falcon_auth_token={good}"}
    assert (await world.ask("GET", "/scheduler/tasks", groups=(), headers=header_wins)).status_code == 401


async def test_a_refused_attempt_changes_nothing_and_is_on_the_trail(world: World) -> None:
    task = await world.task()
    path = f"/scheduler/tasks/{task['id']}"

    await world.ask("DELETE", path, groups=["monitoring"], headers={"X-Request-Id": "r-1"})

    assert (await world.ask("GET", path)).json() == task
    entries = (await world.ask("GET", "/scheduler/audit")).json()["entries"]
    refused = [entry for entry in entries if entry["verdict"] == "forbidden"]
    assert [(entry["action"], entry["target"], entry["request_id"]) for entry in refused] == [
        ("delete_task", task["id"], "r-1")
    ]


def test_the_table_knows_every_role_and_permission() -> None:
    assert {row[4] for row in ROWS if row[4] != ANYBODY}
    assert len(Permission) == 7
