"""The reader of bodies: a table of everything that is wrong, and thousands of bodies that nobody wrote by hand."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from peregrine.api.body import BODY_MAX, READ_AT_ONCE
from peregrine.api.patience import AT_ONCE
from peregrine.domain.payload import JsonValue
from peregrine.wire.strict_json import read_json
from tests.api.world import HTTP_TASK, World

pytestmark = pytest.mark.anyio

GOOD = json.dumps(HTTP_TASK).encode()
JSON = {"Content-Type": "application/json"}


def with_config(text: str) -> bytes:
    """A task whose parameters hold *text* as it stands."""
    return b'{"name":"n","type":"custom","schedule":"@daily","config":{"executor":"e","parameters":{"x":%s}}}' % (
        text.encode("utf-8", "surrogatepass")
    )


AT = "/config/parameters/x"
TABLE: list[tuple[str, bytes, dict[str, str], int, str | None]] = [
    ("no body", b"", JSON, 400, ""),
    ("half a body", GOOD[:-1], JSON, 400, ""),
    ("a list", b"[]", JSON, 400, ""),
    ("null", b"null", JSON, 400, None),
    ("depth 600", with_config("[" * 600 + "]" * 600), JSON, 400, ""),
    ("depth 100000", b"[" * 100_000, JSON, 400, ""),
    ("5000 digits", with_config("9" * 5000), JSON, 400, AT),
    ("2^70", with_config(str(2**70)), JSON, 400, AT),
    ("2^53 + 1", with_config(str(2**53 + 1)), JSON, 400, AT),
    ("NaN", with_config("NaN"), JSON, 400, AT),
    ("1e999", with_config("1e999"), JSON, 400, AT),
    ("Infinity", with_config("-Infinity"), JSON, 400, AT),
    ("a lone surrogate", with_config('"\\ud800"'), JSON, 400, AT),
    ("a raw surrogate", with_config('"\ud800"'), JSON, 400, ""),
    ("NUL", with_config('"\\u0000"'), JSON, 400, AT),
    ("a key twice", with_config('{"a":1,"a":2}'), JSON, 400, f"{AT}/a"),
    ("no UTF-8", GOOD.replace(b"API", b"\xff\xfe"), JSON, 400, ""),
    ("UTF-16", GOOD.decode().encode("utf-16"), JSON, 400, ""),
    ("a byte order mark", b"\xef\xbb\xbf" + GOOD, JSON, 400, ""),
    ("true for a number", b'{"name":"n","catchup_max":true}', JSON, 400, None),
    ("one byte too much", b'"' + b"x" * (BODY_MAX - 1) + b'"', JSON, 413, None),
    ("said to be large", b"{}", JSON | {"Content-Length": str(10**15)}, 413, None),
    ("no type", GOOD, {"Content-Type": ""}, 415, None),
    ("a form", GOOD, {"Content-Type": "application/x-www-form-urlencoded"}, 415, None),
    ("text", GOOD, {"Content-Type": "text/plain"}, 415, None),
    ("not quite JSON", GOOD, {"Content-Type": "application/jsonx"}, 415, None),
    ("another charset", GOOD, {"Content-Type": "application/json; charset=utf-16"}, 415, None),
    ("squeezed", GOOD, JSON | {"Content-Encoding": "gzip"}, 415, None),
]


@pytest.mark.parametrize(("raw", "headers", "status", "pointer"), [row[1:] for row in TABLE], ids=[r[0] for r in TABLE])
async def test_what_is_wrong_with_a_body(
    world: World, raw: bytes, headers: dict[str, str], status: int, pointer: str | None
) -> None:
    answer = await world.ask("POST", "/scheduler/tasks", raw=raw, headers=headers)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert "connection" not in answer.headers  # closed on, a client that still writes would never read this
    if pointer is not None:
        assert pointer in [fault["pointer"] for fault in answer.json()["errors"]]
    assert (await world.ask("GET", "/scheduler/tasks")).json()["total"] == 0


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "application/json; charset=utf-8",
        'APPLICATION/JSON;charset="UTF-8"',
        "application/merge+json",
    ],
)
async def test_types_that_are_taken(world: World, kind: str) -> None:
    answer = await world.ask("POST", "/scheduler/tasks", raw=GOOD, headers={"Content-Type": kind})

    assert answer.status_code == 201


async def test_a_body_of_just_the_largest_size_is_read(world: World) -> None:
    raw = b" " * (BODY_MAX - len(GOOD)) + GOOD

    assert (await world.ask("POST", "/scheduler/tasks", raw=raw)).status_code == 201


async def test_a_chunked_body_is_cut_off_at_the_bound(world: World) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 1
            yield b"x" * 65_536

    head = world.bearer("super_admin") | JSON
    answer = await world.client.post("/scheduler/tasks", content=endless(), headers=head)

    assert answer.status_code == 413
    assert sent < 20


async def test_large_bodies_are_read_one_at_a_time_and_beside_the_loop(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A megabyte of brackets takes a second to read; leases are renewed on the loop."""
    loop_turned, at_once, most = threading.Event(), 0, 0

    def slow(raw: bytes) -> JsonValue:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        assert loop_turned.wait(5)
        at_once -= 1
        return read_json(raw)

    monkeypatch.setattr("peregrine.api.body.read_json", slow)
    raw = GOOD + b" " * READ_AT_ONCE
    asked = [asyncio.create_task(world.ask("POST", "/scheduler/tasks", raw=raw)) for _ in range(2 * AT_ONCE)]
    while not at_once:  # noqa: ASYNC110 - a thread sets it, which has no bell for this loop
        await asyncio.sleep(0)
    assert (await world.ask("GET", "/scheduler/tasks")).status_code == 200
    loop_turned.set()

    codes = sorted([answer.status_code for answer in await asyncio.gather(*asked)])
    assert codes == [201] + [409] * (2 * AT_ONCE - 1)
    assert most == 1


async def test_who_may_not_come_in_is_told_so_first(world: World) -> None:
    for raw, headers in ((b"x" * (BODY_MAX + 1), JSON), (b"[" * 1000, JSON), (GOOD, {"Content-Type": "text/csv"})):
        for groups, status in (((), 401), (("monitoring",), 403)):
            answer = await world.ask("POST", "/scheduler/tasks", raw=raw, headers=headers, groups=groups)
            assert answer.status_code == status


@pytest.mark.parametrize("verb", ["stop", "enable", "disable", "resume"])
async def test_where_no_body_is_needed_an_empty_one_is_taken_and_another_refused(world: World, verb: str) -> None:
    path = f"/scheduler/tasks/{(await world.task())['id']}/{verb}"

    for raw in (b"", b"{}", b"null"):
        assert (await world.ask("POST", path, raw=raw)).status_code == 200
    for raw in (b'{"x":1}', b"[]", b"{", b'{"is_system":true}'):
        assert (await world.ask("POST", path, raw=raw)).status_code == 400
    assert (await world.ask("POST", path, raw=b"x" * (BODY_MAX + 1))).status_code == 413


async def test_a_client_that_goes_away_in_the_middle_does_no_harm(world: World) -> None:
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": b'{"na', "more_body": True}, {"type": "http.disconnect"},
    ]  # fmt: skip
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    head = (world.bearer("super_admin") | JSON).items()
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": "/scheduler/tasks", "raw_path": b"/scheduler/tasks", "root_path": "", "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in head], "client": ("1.1.1.1", 1),
        "server": ("peregrine.test", 80),
    }  # fmt: skip
    await world.app(scope, receive, send)

    assert sent[0]["status"] == 400
    assert (await world.ask("GET", "/scheduler/tasks")).json()["total"] == 0


# ── bodies that nobody wrote ─────────────────────────────────────────────────────────────────────

PIECES = [
    b"{", b"}", b"[", b"]", b":", b",", b'"', b"\\", b"null", b"true", b"NaN", b"1e999", b"-", b"0", b"9" * 40, b"\x00",
    b"\xff", b"\\ud800", b"\\u0000", b"/*", b"'", b"\n", "\u2028".encode(), b'"id":1,', b'"config":', b'"$gt":""',
    b'"__proto__":{}', b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
]  # fmt: skip
VALUES: list[Any] = [
    None, True, 0, -1, 1.5, 2**53, "", "x", "\u0000", "\ud800", [], {}, [[]], {"a": {}}, {"$gt": ""}, "x" * 300, "1s",
    "2h", "@daily", "* * * * * *", ["a"] * 40, {"": ""}, "***", "system", "http://127.0.0.1/", "\u202e", "' OR 1=1--",
]  # fmt: skip
NAMES = [*HTTP_TASK, "id", "is_system", "metadata", "timezone", "overlap", "misfire_grace", "catchup_max", "dst_gap"]
ROUTES = [
    ("POST", "/scheduler/tasks"), ("PUT", "/scheduler/tasks/{id}"), ("POST", "/scheduler/tasks/{id}/execute"),
    ("POST", "/scheduler/tasks/{id}/pause"), ("POST", "/scheduler/tasks/bulk"), ("POST", "/scheduler/tasks/import"),
    ("POST", "/scheduler/schedule/preview"), ("POST", "/scheduler/policies"), ("POST", "/scheduler/api-keys"),
    ("DELETE", "/scheduler/tasks/none"),
]  # fmt: skip


def broken(dice: random.Random) -> bytes:
    """A good body with a few bytes changed, dropped or pushed in."""
    raw = bytearray(GOOD)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(raw) + 1)
        raw[at : at + dice.choice([0, 1, 5])] = dice.choice(PIECES)
    return bytes(raw)


def odd(dice: random.Random) -> bytes:
    """A well-formed body with odd values in it."""
    body: Any = dict(HTTP_TASK) if dice.random() < 0.7 else {}
    for _ in range(dice.randint(1, 4)):
        name = dice.choice([*NAMES, "task_ids", "operation", "tasks", "until", "subject", "parameters", "schedule"])
        inner = {dice.choice([*NAMES, "timeout", "headers", "url"]): dice.choice(VALUES)}
        body[name] = dice.choice([dice.choice(VALUES), inner, [inner], [dice.choice(VALUES)]])
    return json.dumps(body).encode()


async def test_no_body_breaks_the_service(world: World) -> None:
    dice = random.Random(20260101)
    id = (await world.task())["id"]
    seen: dict[int, int] = {}
    for number in range(2000):
        raw = broken(dice) if number % 2 else odd(dice)
        method, path = dice.choice(ROUTES)
        answer = await world.ask(method, path.replace("{id}", id), raw=raw)
        seen[answer.status_code] = seen.get(answer.status_code, 0) + 1
        assert answer.status_code < 500, (method, path, raw)
        if number % 100 == 0:
            await asyncio.sleep(0)

    assert seen[400] > 1300
    assert (await world.ask("GET", f"/scheduler/tasks/{id}")).status_code == 200
