"""The cookie: read like a token, and held to where a request comes from."""

from __future__ import annotations

import pytest

from tests.api.world import HTTP_TASK, World

pytestmark = pytest.mark.anyio

OWN = "http://peregrine.test"


def cookie(world: World, *groups: str) -> dict[str, str]:
    return {"Cookie": f"a=b; falcon_auth_token={world.token(*(groups or ('super_admin',)))}; c=d"}


async def test_the_cookie_reads_without_more(world: World) -> None:
    assert (await world.ask("GET", "/scheduler/tasks", groups=(), headers=cookie(world))).status_code == 200
    assert (await world.ask("HEAD", "/scheduler/tasks", groups=(), headers=cookie(world))).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": OWN},
        {"Origin": f"{OWN}:80"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Origin": OWN, "Sec-Fetch-Site": "same-origin"},
        {"Origin": "https://ops.example", "Sec-Fetch-Site": "cross-site"},
    ],
)
async def test_a_page_of_ours_may_change_things(headers: dict[str, str]) -> None:
    world = World(origins=("https://ops.example",))

    answer = await world.ask("POST", "/scheduler/tasks", HTTP_TASK, groups=(), headers=cookie(world) | headers)

    assert answer.status_code == 201


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "null"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://peregrine.test.evil.example"},
        {"Origin": "http://peregrine.test:8080"},
        {"Origin": "http://sub.peregrine.test"},
        {"Origin": "file://peregrine.test"},
        {"Origin": "http://peregrine.test:x"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": OWN, "Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "https://evil.example", "X-HTTP-Method-Override": "GET"},
        {"Origin": "https://evil.example", "Content-Type": "text/plain"},
        {"Referer": OWN},
    ],
)
async def test_a_page_of_others_may_not(world: World, headers: dict[str, str]) -> None:
    for method, path in (("POST", "/scheduler/tasks"), ("PUT", "/scheduler/tasks/x"), ("DELETE", "/scheduler/tasks/x")):
        answer = await world.ask(method, path, HTTP_TASK, groups=(), headers=cookie(world) | headers)

        assert (answer.status_code, answer.json()["code"]) == (403, "csrf")
    assert (await world.ask("GET", "/scheduler/tasks")).json()["total"] == 0


async def test_a_bearer_token_needs_no_origin(world: World) -> None:
    answer = await world.ask("POST", "/scheduler/tasks", HTTP_TASK, headers={"Origin": "https://evil.example"})

    assert answer.status_code == 201


async def test_a_form_can_not_post(world: World) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        headers = cookie(world) | {"Origin": OWN, "Content-Type": kind}
        answer = await world.ask("POST", "/scheduler/tasks", HTTP_TASK, groups=(), headers=headers)
        assert answer.status_code == 415


async def test_guessing_is_slowed_down() -> None:
    world = World()
    codes = [
        (
            await world.ask("GET", "/scheduler/tasks", groups=(), headers={"Authorization": f"Bearer {number}"})
        ).status_code
        for number in range(1010)
    ]

    assert codes[:1000] == [401] * 1000
    assert codes[1000:] == [429] * 10
    assert (await world.ask("GET", "/scheduler/tasks")).status_code == 200
    world.clock.pass_time(1000)
    refused = await world.ask("GET", "/scheduler/tasks", groups=(), headers={"Authorization": "Bearer x"})
    assert refused.status_code == 401
