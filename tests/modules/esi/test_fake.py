"""The fake is as strict as the real one, the same world every time, and misses no impoliteness."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest

from peregrine.domain.moment import HOUR, MINUTE, SECOND, parse_moment
from peregrine.testing.fake_esi import (
    Asked,
    BucketSize,
    FakeEsi,
    FaultKind,
    Reset,
    Size,
    Told,
    World,
    serve,
)
from tests.modules.esi.sky import NOON, VISITOR, StepClock, made_world

POLITE = {"user-agent": VISITOR.user_agent, "x-compatibility-date": "2026-08-18"}
CORPORATION = "/corporations/98000001"


async def ask(fake: FakeEsi, path: str, *, method: str = "GET", body: object = None, **headers: str) -> Told:
    """One request by a polite client."""
    named = POLITE | {name.replace("_", "-"): value for name, value in headers.items()}
    raw = b"" if body is None else json.dumps(body).encode()
    return await fake.exchange(Asked(method, path, {}, named, raw))


def fake(**more: Any) -> tuple[StepClock, FakeEsi]:
    clock = StepClock()
    return clock, FakeEsi(clock, made_world(), **more)


# ── the world ────────────────────────────────────────────────────────────────────────────────────


def test_the_same_seed_is_the_same_world() -> None:
    one, two, other = World(seed=1), World(seed=1), World(seed=2)

    ids = list(one.character_ids)[::50]
    assert [one.character(id) for id in ids] == [two.character(id) for id in ids]
    assert [one.home_of(id) for id in ids] != [other.home_of(id) for id in ids]


def test_everybody_belongs_to_what_exists() -> None:
    world = World(Size(characters=500, alliances=5, corporations=20), seed=3)

    for id in world.character_ids:
        row = world.affiliation(id)
        assert world.exists(row["corporation_id"])
        assert row.get("alliance_id") == world.league_of(row["corporation_id"])
        assert row.get("alliance_id") in (None, *world.alliance_ids)


def test_a_stir_moves_about_as_many_as_it_says() -> None:
    world = World(Size(characters=5000, corporations=1000), seed=3)
    before = [world.home_of(id) for id in world.character_ids]
    world.stir(100)
    after = [world.home_of(id) for id in world.character_ids]

    moved = sum(one != two for one, two in zip(before, after, strict=True))
    assert 350 < moved < 650


# ── routes ───────────────────────────────────────────────────────────────────────────────────────

BAD_BODIES: Mapping[str, object] = {
    "nothing": [],
    "twice": [90_000_001, 90_000_001],
    "too many": list(range(90_000_000, 90_001_001)),
    "no list": {"ids": [1]},
    "texts": ["90000001"],
    "truth": [True],
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)
async def test_a_bad_bulk_request_is_refused(body: object) -> None:
    _, made = fake()
    told = await ask(made, "/characters/affiliation", method="POST", body=body)

    assert told.status == 400
    assert "error" in json.loads(told.body)
    assert "Expires" not in told.headers


@pytest.mark.parametrize(
    ("date", "used", "is_new"),
    [
        ("", "2020-01-01", False),
        ("2025-12-20", "2025-12-16", False),
        ("2026-07-20", "2026-06-09", False),
        ("2026-07-21", "2026-07-21", True),
        ("2026-09-01", "2026-08-18", True),
    ],
)
async def test_the_date_chooses_the_schema_and_is_echoed(date: str, used: str, is_new: object) -> None:
    _, made = fake()
    told = await ask(made, CORPORATION, x_compatibility_date=date)

    assert told.headers["X-Compatibility-Date"] == used
    assert ("tax_rates" in json.loads(told.body)) is is_new


async def test_the_day_of_a_date_begins_at_eleven() -> None:
    clock, made = fake()
    clock.pass_by(parse_moment("2026-10-02T10:59:59Z") - clock.now())
    early = await ask(made, CORPORATION, x_compatibility_date="2026-10-02")
    clock.pass_by(SECOND)
    late = await ask(made, CORPORATION, x_compatibility_date="2026-10-02")

    assert (early.status, late.status) == (400, 200)
    assert made.journal.kinds == {"date": 1}


async def test_a_route_that_is_none_is_404_and_costs_nothing() -> None:
    _, made = fake()
    told = await ask(made, "/v1/nothing")

    assert told.status == 404
    assert made.errors.count(NOON) == 0


async def test_the_corporations_of_an_alliance_are_those_that_say_so() -> None:
    _, made = fake()
    told = await ask(made, "/alliances/99000001/corporations")

    ids = json.loads(told.body)
    assert ids == [id for id in made.world.corporation_ids if made.world.league_of(id) == 99_000_001]
    assert ids


# ── limits ───────────────────────────────────────────────────────────────────────────────────────


async def test_a_hundred_errors_close_every_route_until_the_minute_is_over() -> None:
    clock, made = fake()
    clock.pass_by(15 * SECOND)
    for number in range(100):
        told = await ask(made, "/alliances/7")
        assert told.status == 404
        assert told.headers["X-ESI-Error-Limit-Remain"] == str(99 - number)
    closed = [await ask(made, path) for path in (CORPORATION, "/status")]

    assert [told.status for told in closed] == [420, 420]
    assert closed[0].headers["X-ESI-Error-Limit-Reset"] == "45"
    assert made.journal.kinds["error_limit"] == 2
    clock.pass_by(45 * SECOND)
    assert (await ask(made, CORPORATION)).status == 200


async def test_tokens_come_back_one_window_later() -> None:
    clock, made = fake(buckets={"status": BucketSize(10, MINUTE), "meta": BucketSize(150)})
    answers = []
    for _ in range(5):
        answers.append(await ask(made, "/status"))
        clock.pass_by(SECOND)

    told = answers[-1]
    assert [one.status for one in answers] == [200, 200, 200, 429, 429]
    assert told.headers["X-Ratelimit-Limit"] == "10/1m"
    assert "X-ESI-Error-Limit-Remain" not in told.headers
    clock.pass_by(int(told.headers["Retry-After"]) * SECOND)
    assert (await ask(made, "/status")).status == 200


# ── the journal ──────────────────────────────────────────────────────────────────────────────────


async def impolite_agent(clock: StepClock, made: FakeEsi) -> None:
    await ask(made, CORPORATION, user_agent="python-requests/2.0")


async def impolite_date(clock: StepClock, made: FakeEsi) -> None:
    await ask(made, CORPORATION, x_compatibility_date="")


async def impolite_early(clock: StepClock, made: FakeEsi) -> None:
    for _ in range(2):
        await ask(made, CORPORATION)


async def impolite_pause(clock: StepClock, made: FakeEsi) -> None:
    made.faults.plan(FaultKind.TOO_MANY, count=1, seconds=10)
    await ask(made, CORPORATION)
    clock.pass_by(9 * SECOND)
    await ask(made, "/alliances")


async def impolite_hammering(clock: StepClock, made: FakeEsi) -> None:
    made.faults.plan(FaultKind.BAD_GATEWAY)
    for _ in range(81):
        clock.pass_by(100)
        await ask(made, CORPORATION)


async def impolite_concurrency(clock: StepClock, made: FakeEsi) -> None:
    made.latency = 0.01
    await asyncio.gather(*(ask(made, f"/corporations/{98_000_000 + n}") for n in range(26)))


async def impolite_spent_token(clock: StepClock, made: FakeEsi) -> None:
    await twice_refreshed(made, at_once=False)


async def impolite_double_flight(clock: StepClock, made: FakeEsi) -> None:
    made.latency = 0.01
    await twice_refreshed(made, at_once=True)


async def twice_refreshed(made: FakeEsi, *, at_once: bool) -> None:
    form = {"grant_type": "refresh_token", "refresh_token": made.sso.refresh_token(90_000_001)}
    form |= {"client_id": "fake-client", "client_secret": "fake-secret"}
    headers = {"content-type": "application/x-www-form-urlencoded", "user-agent": VISITOR.user_agent}
    asked = Asked("POST", "/v2/oauth/token", {}, headers, urlencode(form).encode())
    if at_once:
        await asyncio.gather(made.exchange(asked), made.exchange(asked))
    else:
        await made.exchange(asked)
        await made.exchange(asked)


IMPOLITE: Mapping[str, Callable[[StepClock, FakeEsi], Any]] = {
    "contact": impolite_agent,
    "date": impolite_date,
    "early": impolite_early,
    "pause": impolite_pause,
    "hammering": impolite_hammering,
    "concurrency": impolite_concurrency,
    "spent_token": impolite_spent_token,
    "double_flight": impolite_double_flight,
}


@pytest.mark.parametrize("kind", IMPOLITE)
async def test_no_impoliteness_is_missed(kind: str) -> None:
    clock, made = fake()
    await IMPOLITE[kind](clock, made)

    assert made.journal.kinds[kind] >= 1
    assert any(text.startswith(f"{kind}: ") for text in made.journal.violations())
    assert kind not in {text.partition(":")[0] for text in made.journal.violations(kind)}


async def test_a_polite_client_finds_nothing_in_the_journal() -> None:
    clock, made = fake()
    first = await ask(made, CORPORATION)
    clock.pass_by(HOUR)
    again = await ask(made, CORPORATION, if_none_match=first.headers["ETag"])

    assert (first.status, again.status, again.body) == (200, 304, b"")
    assert made.journal.violations() == []
    assert made.journal.peak == 1


async def test_esi_and_the_sign_in_are_two_servers() -> None:
    _, made = fake(latency=0.01)
    esi = [ask(made, f"/corporations/{98_000_000 + n}") for n in range(20)]
    sso = [ask(made, "/oauth/jwks") for _ in range(20)]
    await asyncio.gather(*esi, *sso)

    assert made.journal.peak == 20
    assert made.journal.violations() == []


async def test_a_daily_downtime_comes_and_goes() -> None:
    clock, made = fake()
    made.daily_downtime = 10 * MINUTE
    clock.pass_by(23 * HOUR)
    down = await ask(made, "/status")
    clock.pass_by(10 * MINUTE)
    up = await ask(made, "/status")

    assert (down.status, up.status) == (503, 200)
    assert parse_moment(json.loads(up.body)["start_time"]) == NOON + 23 * HOUR + 5 * MINUTE


@pytest.mark.parametrize("kind", list(FaultKind))
async def test_a_fault_hits_its_route_as_often_as_planned(kind: FaultKind) -> None:
    _, made = fake()
    made.faults.plan(kind, route="/corporations/*", count=2)
    spoilt = []
    for path in ("/alliances", CORPORATION, "/corporations/98000002", "/corporations/98000003"):
        try:
            told = await ask(made, path)
            json.loads(told.body or b"null")
            spoilt.append(told.status != 200 or told.is_cut or b"surprise" in told.body)
        except (Reset, ValueError):
            spoilt.append(True)

    assert spoilt == ([False] * 4 if kind is FaultKind.SLOW else [False, True, True, False])
    assert [entry.fault for entry in made.journal.entries] == ["", kind, kind, ""]


# ── on a port and as a process ───────────────────────────────────────────────────────────────────


async def test_it_is_steered_over_http() -> None:
    _, made = fake()
    async with serve(made) as served, aiohttp.ClientSession(served.address, headers=POLITE) as session:
        await session.post("/_fake/faults", json={"kind": "unavailable", "count": 1})
        first = (await session.get("/alliances/99000001")).status
        await session.post("/_fake/world", json={"vanish": 99_000_001, "stir": 5, "down_for": 0, "poison": 90_000_001})
        second = (await session.get("/alliances/99000001")).status
        bad = (await session.post("/_fake/faults", json={"kind": "earthquake"})).status
        unknown = (await session.get("/_fake/nothing")).status
        tokens = await (await session.get("/_fake/tokens?count=3")).json()
        kinds = await (await session.get("/_fake/faults")).json()
        await session.post("/_fake/faults", json={"kind": "bad_gateway"})
        await session.delete("/_fake/faults")
        third = (await session.get("/alliances")).status
        journal = await (await session.get("/_fake/journal")).json()

    assert (first, second, third, bad, unknown) == (503, 404, 200, 400, 404)
    assert tokens == {str(id): made.sso.refresh_token(id) for id in range(90_000_000, 90_000_003)}
    assert kinds == [str(kind) for kind in FaultKind]
    assert journal["requests"] == 3
    assert journal["violations"] == {}
    assert made.api.poison == {90_000_001}


async def test_it_runs_as_a_process_and_ends_when_told() -> None:
    words = ("-m", "peregrine.testing.fake_esi", "--characters", "100000", "--seed", "7", "--rotation", "grace")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *words,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[3],
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )
    assert process.stdout is not None
    try:
        line = (await asyncio.wait_for(process.stdout.readline(), 30)).decode()
        address = line.removeprefix("listening on ").strip()
        async with aiohttp.ClientSession(address, headers={"X-Compatibility-Date": "2020-01-01"}) as session:
            rows = await (await session.post("/characters/affiliation", json=[90_099_999])).json()
    finally:
        process.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(process.wait(), 30)

    assert rows == [World(Size(characters=100_000), seed=7).affiliation(90_099_999)]
    assert code == 0


# ── the how-to ───────────────────────────────────────────────────────────────────────────────────

HOWTO = Path(__file__).parents[3] / "docs" / "howto" / "fake-eve.md"


def test_the_howto_prints_what_it_says() -> None:
    [block] = re.findall(r"```python\n(.*?)```", HOWTO.read_text(encoding="utf-8"), re.DOTALL)
    done = subprocess.run([sys.executable, "-W", "error", "-c", block], capture_output=True, text=True, check=False)

    assert done.stdout.split()[:3] == ["502", "200", "200"], done.stderr
    assert "early: /alliances" in done.stdout


def test_the_howto_knows_every_kind_of_impoliteness() -> None:
    told = set(re.findall(r"`(\w+)`", HOWTO.read_text(encoding="utf-8").partition("calls impolite")[2]))

    assert {*IMPOLITE, "error_limit", "rate_limit"} <= told
