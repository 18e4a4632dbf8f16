"""A client's address is its own word only when a proxy that we trust vouches for it; who asks too often waits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from peregrine.api.patience import Rate
from peregrine.api.proxies import Proxies
from peregrine.ports.shelves import AUDIT
from tests.api.world import World

pytestmark = pytest.mark.anyio

TRUSTED = ("10.0.0.0/8", "2001:db8::1")
NEAR, FAR = "10.0.0.1", "203.0.113.7"


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        (FAR, [], FAR),
        (FAR, ["1.1.1.1"], FAR),
        (NEAR, [], NEAR),
        (NEAR, ["1.1.1.1"], "1.1.1.1"),
        (NEAR, ["1.1.1.1, 2.2.2.2"], "2.2.2.2"),
        (NEAR, ["1.1.1.1, 2.2.2.2", "10.9.9.9"], "2.2.2.2"),
        (NEAR, ["10.1.1.1,10.2.2.2"], "10.1.1.1"),
        (NEAR, ["1.1.1.1, nonsense"], NEAR),
        (NEAR, ["1.1.1.1, nonsense, 10.3.3.3"], "10.3.3.3"),
        (NEAR, [""], NEAR),
        (NEAR, ["1.1.1.1:4711"], "1.1.1.1"),
        (NEAR, ["[2001:db8::9]:80"], "2001:db8::9"),
        (NEAR, ["::ffff:1.1.1.1"], "1.1.1.1"),
        (f"::ffff:{NEAR}", ["1.1.1.1"], "1.1.1.1"),
        ("2001:db8::1", ["2001:DB8:0::9"], "2001:db8::9"),
        ("", ["1.1.1.1"], ""),
    ],
)
def test_only_trusted_hops_are_believed(peer: str, forwarded: list[str], client: str) -> None:
    assert Proxies(TRUSTED).client_of(peer, forwarded) == client


def test_nobody_is_trusted_unless_told() -> None:
    assert Proxies().client_of("127.0.0.1", ["1.1.1.1"]) == "127.0.0.1"


async def asked(world: World, peer: str, path: str = "/scheduler/status", **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(world.app, client=(peer, 4711))
    async with httpx.AsyncClient(transport=transport, base_url="http://peregrine.test") as client:
        return await client.get(path, headers=headers)


async def codes(world: World, peer: str, each: list[Mapping[str, str]]) -> list[int]:
    return [(await asked(world, peer, **headers)).status_code for headers in each]


def forwarded(address: str) -> Mapping[str, str]:
    return {"X-Forwarded-For": address}


async def test_a_stranger_can_t_ask_as_many_by_inventing_addresses() -> None:
    world = World(rate=Rate(burst=2, per_second=1.0), proxies=TRUSTED)
    each = [forwarded(f"1.1.1.{number}") for number in range(4)]

    assert await codes(world, FAR, each) == [200, 200, 429, 429]
    assert await codes(world, NEAR, each) == [200, 200, 200, 200]


async def test_a_stranger_can_t_ask_as_many_by_the_addresses_of_one_network() -> None:
    world = World(rate=Rate(burst=2, per_second=1.0))
    own = [await asked(world, f"2001:db8:0:1::{number}") for number in range(3)]
    other = await asked(world, "2001:db8:0:2::1")

    assert [answer.status_code for answer in [*own, other]] == [200, 200, 429, 200]


async def test_clients_behind_one_proxy_have_a_bucket_each() -> None:
    world = World(rate=Rate(burst=1, per_second=1.0), proxies=TRUSTED)

    assert await codes(world, NEAR, [forwarded("1.1.1.1"), forwarded("1.1.1.2"), forwarded("1.1.1.1")]) == [
        200,
        200,
        429,
    ]
    world.clock.pass_time(1000)
    assert await codes(world, NEAR, [forwarded("1.1.1.1")]) == [200]


async def test_a_user_has_one_bucket_from_wherever_they_ask() -> None:
    world = World(rate=Rate(burst=2, per_second=0.1))
    head = world.bearer("super_admin", user="alice")
    answers = [await asked(world, f"1.1.1.{number}", "/scheduler/tasks", **head) for number in range(3)]
    other = await asked(world, "1.1.1.1", "/scheduler/tasks", **world.bearer("super_admin", user="bob"))

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].headers["retry-after"] == "10"
    assert answers[2].json()["code"] == "too_many_requests"
    assert other.status_code == 200


async def test_the_trail_tells_the_address_that_is_believed() -> None:
    world = World(proxies=TRUSTED)
    body: Any = {"subject": "user:x", "permission": "*", "effect": "allow"}
    for peer in (NEAR, FAR):
        transport = httpx.ASGITransport(world.app, client=(peer, 4711))
        async with httpx.AsyncClient(transport=transport, base_url="http://peregrine.test") as client:
            head = {**world.bearer("super_admin"), **forwarded("1.1.1.1")}
            await client.post("/scheduler/policies", json=body | {"subject": f"user:{peer}"}, headers=head)
    records = await world.records.list_records(AUDIT, limit=10, now=world.clock.now())

    assert sorted(str(record.document["address"]) for record in records) == ["1.1.1.1", FAR]
