"""Asking ESI: what comes back, what is asked for again and when, what a failure of each kind becomes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from peregrine.domain.errors import BadConfiguration
from peregrine.domain.moment import DAY, HOUR, SECOND, parse_moment
from peregrine.modules.esi.cache import MemoryCache
from peregrine.modules.esi.client import HttpClient, Visitor
from peregrine.modules.esi.exchange import NoAnswer, Question
from peregrine.modules.esi.universe import EsiClient, EsiSettings
from peregrine.ports.esi import EsiMisconfigured, EsiRefused, EsiUnavailable
from peregrine.testing.fake_esi import FaultKind
from tests.modules.esi.sky import NOON, VISITOR, Rig, StepClock, client_of, in_virtual_time, served_sky, sky

CORPORATION = 98_000_003
ALLIANCE = 99_000_002
FIRST = 90_000_000


# ── facts ────────────────────────────────────────────────────────────────────────────────────────


async def test_every_route_tells_its_facts() -> None:
    async with served_sky() as (fake, esi):
        character, alliance = await esi.character(FIRST), await esi.alliance(ALLIANCE)
        corporation, status = await esi.corporation(CORPORATION), await esi.status()
        ids, npcs = await esi.alliance_ids(), await esi.npc_corporation_ids()
        rows = await esi.affiliations(range(FIRST, FIRST + 1000))

    assert character.facts is not None
    assert character.facts.name == fake.world.name_of(FIRST)
    assert alliance.facts is not None
    assert alliance.facts.executor_corporation_id == alliance.facts.creator_corporation_id
    assert corporation.facts is not None
    assert corporation.facts.corporation.alliance_id == fake.world.league_of(CORPORATION)
    assert not status.vip
    assert list(ids) == list(fake.world.alliance_ids)
    assert len(npcs) == 40
    assert {row.character_id: row.corporation_id for row in rows} == {
        id: fake.world.home_of(id) for id in range(FIRST, FIRST + 1000)
    }
    assert fake.journal.violations() == []


@pytest.mark.parametrize("date", ["2020-01-01", "2025-12-16", "2026-07-21", "2026-08-18"])
async def test_both_schemas_of_a_corporation_read_the_same(date: str) -> None:
    async with served_sky() as (_, newest), served_sky(rig=Rig(date=date)) as (fake, esi):
        now = (await newest.corporation(CORPORATION)).facts
        then = (await esi.corporation(CORPORATION)).facts

    assert now is not None
    assert then is not None
    same = ("name", "ticker", "tax_rate", "alliance_id", "ceo_id", "creator_id", "faction_id", "home_station_id",
            "member_count")  # fmt: skip
    assert [getattr(then.corporation, name) for name in same] == [getattr(now.corporation, name) for name in same]
    assert fake.journal.entries[0].date == date


async def test_a_closed_corporation_says_so_and_has_no_chief() -> None:
    async with served_sky() as (fake, esi):
        fake.world.close(CORPORATION)
        facts = (await esi.corporation(CORPORATION)).facts

    assert facts is not None
    assert (facts.is_closed, facts.corporation.ceo_id) == (True, None)


async def test_what_does_not_exist_is_no_error() -> None:
    async with served_sky() as (fake, esi):
        fake.world.vanish(ALLIANCE)
        seen = await esi.alliance(ALLIANCE)

    assert seen.facts is None


async def test_a_clock_far_behind_asks_for_no_future_date() -> None:
    clock = StepClock(parse_moment("2026-03-02T10:59:59Z"))
    async with served_sky(clock) as (fake, esi):
        await esi.corporation(CORPORATION)

    assert fake.journal.entries[0].date == "2026-03-01"
    assert fake.journal.violations() == []


async def test_the_visitor_gives_a_contact() -> None:
    async with served_sky() as (fake, esi):
        await esi.status()

    assert fake.journal.entries[0].agent == "Peregrine/1.0 (pilot@example.com; +https://example.com/peregrine)"


@pytest.mark.parametrize("contact", ["", "nobody", "me@localhost", "a@b.c\r\nX-Evil: 1", "a@b.c)", "ftp://x.y", " "])
def test_nobody_visits_without_a_contact(contact: str) -> None:
    with pytest.raises(BadConfiguration, match="contact"):
        Visitor(version="1", contact=contact)


@pytest.mark.parametrize(
    "address",
    [
        "http://esi.evetech.net",
        "esi.evetech.net",
        "https://me:pw@esi.evetech.net",
        "https://e.net?x=1",
        "",
        "https://",
        "https://[::1",
        "https://e.net:port",
        "https://e.net:0",
        "https://e .net",
        "https://e.net/\r\nX: y",
        "https://ё.net",
    ],
)
def test_only_safe_addresses_are_asked(address: str) -> None:
    with pytest.raises(BadConfiguration, match="https"):
        EsiSettings(address=address)


# ── Expires and ETag ─────────────────────────────────────────────────────────────────────────────


async def test_nothing_is_asked_for_before_it_expires_and_then_by_its_etag() -> None:
    clock = StepClock()
    async with served_sky(clock) as (fake, esi):
        first = await esi.corporation(CORPORATION)
        again = await esi.corporation(CORPORATION)
        clock.pass_by(first.expires_at - clock.now())
        later = await esi.corporation(CORPORATION)

    assert [seen.unchanged for seen in (first, again, later)] == [False, True, True]
    assert first.facts == again.facts == later.facts
    assert later.expires_at >= first.expires_at + HOUR
    assert [entry.status for entry in fake.journal.entries] == [200, 304]
    assert fake.journal.violations() == []


async def test_what_changed_is_told_after_it_expired() -> None:
    clock = StepClock()
    async with served_sky(clock) as (fake, esi):
        fake.world.join(CORPORATION, ALLIANCE)
        before = await esi.corporation(CORPORATION)
        fake.world.join(CORPORATION, None)
        held = await esi.corporation(CORPORATION)
        clock.pass_by(HOUR)
        after = await esi.corporation(CORPORATION)

    assert before.facts is not None
    assert held.facts == before.facts
    assert before.facts.corporation.alliance_id == ALLIANCE
    assert after.facts is not None
    assert after.facts.corporation.alliance_id is None
    assert not after.unchanged


async def test_what_is_gone_is_not_asked_for_again_before_it_expires() -> None:
    clock = StepClock()
    async with served_sky(clock) as (fake, esi):
        fake.world.vanish(ALLIANCE)
        seen = [await esi.alliance(ALLIANCE) for _ in range(3)]
        clock.pass_by(HOUR + SECOND)
        seen.append(await esi.alliance(ALLIANCE))

    assert [(one.facts, one.unchanged) for one in seen] == [(None, False), (None, True), (None, True), (None, True)]
    assert fake.journal.total == 2
    assert fake.journal.violations() == []


async def test_a_clock_of_ours_that_goes_wrong_does_not_ask_early() -> None:
    clock, wrong = StepClock(), StepClock(NOON + 3 * HOUR)
    async with served_sky(clock) as (fake, _):
        http = HttpClient(VISITOR)
        esi = client_of(http, wrong, address=fake.sso.issuer)
        try:
            first = await esi.corporation(CORPORATION)
            await esi.corporation(CORPORATION)
            clock.pass_by(first.expires_at - wrong.now())
            wrong.pass_by(first.expires_at - wrong.now())
            await esi.corporation(CORPORATION)
        finally:
            await http.close()

    assert fake.journal.total == 2
    assert fake.journal.violations() == []


async def test_what_another_esi_said_is_not_taken_for_ours() -> None:
    clock, cache = StepClock(), MemoryCache()
    async with served_sky(clock, Rig(cache=cache)) as (_, one), served_sky(clock, Rig(cache=cache)) as (fake, two):
        await one.corporation(CORPORATION)
        fake.world.join(CORPORATION, ALLIANCE)
        seen = await two.corporation(CORPORATION)

    assert seen.facts is not None
    assert (seen.facts.corporation.alliance_id, seen.unchanged) == (ALLIANCE, False)


def test_who_asks_for_the_same_at_once_asks_once() -> None:
    async def main() -> tuple[int, int]:
        made = sky()
        seen = await asyncio.gather(*(made.esi.corporation(CORPORATION) for _ in range(50)))
        return made.fake.journal.total, sum(not one.unchanged for one in seen)

    assert in_virtual_time(main()) == (1, 1)


def test_the_list_of_npc_corporations_holds_until_five_past_eleven() -> None:
    async def main() -> list[int]:
        made = sky()
        totals = []
        for wait in (0, 22 * HOUR, 2 * HOUR):
            await made.clock.advance(wait)
            await made.esi.npc_corporation_ids()
            totals.append(made.fake.journal.routes["/corporations/npccorps"])
        assert made.fake.journal.violations() == []
        return totals

    assert in_virtual_time(main()) == [1, 1, 2]


def test_a_bulk_answer_is_never_kept() -> None:
    async def main() -> tuple[int, int]:
        made = sky()
        home = (await made.esi.affiliations([FIRST]))[0].corporation_id
        made.fake.world.move(FIRST, home + 1)
        return home, (await made.esi.affiliations([FIRST]))[0].corporation_id

    home, moved = in_virtual_time(main())
    assert moved == home + 1


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────


async def test_a_poison_id_is_refused_without_another_try() -> None:
    async with served_sky() as (fake, esi):
        fake.api.poison.add(FIRST + 5)
        with pytest.raises(EsiRefused, match="No characters found!") as refused:
            await esi.affiliations(range(FIRST, FIRST + 10))

    assert refused.value.status == 404
    assert fake.journal.total == 1


@pytest.mark.parametrize("ids", [[], [1, 1], range(1001)])
async def test_what_the_specification_forbids_is_not_sent(ids: list[int]) -> None:
    async with served_sky() as (fake, esi):
        with pytest.raises(ValueError, match="1 to 1000"):
            await esi.affiliations(ids)

    assert fake.journal.total == 0


async def test_a_date_that_esi_does_not_take_is_ours_to_mend() -> None:
    clock = StepClock(parse_moment("2026-08-20T12:00:00Z"))
    async with served_sky(clock) as (fake, _):
        ahead = StepClock(clock.now() + 400 * DAY)
        http = HttpClient(VISITOR)
        esi = client_of(http, ahead, Rig(date="2027-01-01"), fake.sso.issuer)
        try:
            with pytest.raises(EsiMisconfigured, match="compatibility date"):
                await esi.corporation(CORPORATION)
        finally:
            await http.close()


# ── failures ─────────────────────────────────────────────────────────────────────────────────────

ASKS: dict[str, Callable[[EsiClient], Awaitable[object]]] = {
    "one": lambda esi: esi.corporation(CORPORATION),
    "bulk": lambda esi: esi.affiliations(range(FIRST, FIRST + 100)),
    "list": lambda esi: esi.alliance_ids(),
}
PASSING = [kind for kind in FaultKind if kind is not FaultKind.SLOW]


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
@pytest.mark.parametrize("kind", PASSING)
def test_one_failure_of_any_kind_is_made_good(kind: FaultKind, ask: Callable[[EsiClient], Awaitable[object]]) -> None:
    async def main() -> tuple[object, object, int]:
        made = sky()
        expected = await ask(sky().esi)
        made.fake.faults.plan(kind, count=1, seconds=5)
        answer = await ask(made.esi)
        assert made.fake.journal.violations() == []
        return answer, expected, made.fake.journal.total

    answer, expected, total = in_virtual_time(main())
    assert repr(answer).partition("expires")[0] == repr(expected).partition("expires")[0]
    assert total == 2


@pytest.mark.parametrize("kind", PASSING)
def test_a_lasting_failure_of_any_kind_is_told_in_words(kind: FaultKind) -> None:
    async def main() -> EsiUnavailable:
        made = sky()
        made.fake.faults.plan(kind, seconds=5)
        with pytest.raises(EsiUnavailable) as away:
            await made.esi.corporation(CORPORATION)
        assert made.fake.journal.total <= 3
        assert made.fake.journal.violations() == []
        return away.value

    away = in_virtual_time(main())
    assert "/corporations/{id}" in str(away) or "has to wait" in str(away)
    assert away.retry_after >= 1


def test_an_answer_that_takes_too_long_is_given_up() -> None:
    async def main() -> int:
        made = sky()
        made.fake.faults.plan(FaultKind.SLOW, seconds=60, count=1)
        await made.esi.corporation(CORPORATION)
        return made.fake.journal.statuses[0]

    assert in_virtual_time(main()) == 1


@pytest.mark.parametrize("kind", [FaultKind.NOT_FOUND_HTML, FaultKind.MALFORMED, FaultKind.WRONG_SHAPE])
def test_a_gateway_makes_nothing_vanish(kind: FaultKind) -> None:
    async def main() -> None:
        made = sky()
        made.fake.faults.plan(kind)
        with pytest.raises(EsiUnavailable):
            await made.esi.alliance(ALLIANCE)

    in_virtual_time(main())


SOCKETS = [
    FaultKind.BAD_GATEWAY, FaultKind.RESET, FaultKind.LOST, FaultKind.TRUNCATED, FaultKind.MALFORMED, FaultKind.BOMB,
    FaultKind.REDIRECT, FaultKind.GATEWAY_TIMEOUT,
]  # fmt: skip


@pytest.mark.parametrize("kind", SOCKETS)
async def test_real_sockets_fail_and_are_asked_again(kind: FaultKind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peregrine.modules.esi.universe.PAUSES", (0, 0))
    async with served_sky() as (fake, esi):
        await esi.alliance_ids()
        fake.faults.plan(kind, count=1)
        seen = await esi.corporation(CORPORATION)

    assert seen.facts is not None
    assert [entry.fault for entry in fake.journal.entries] == ["", kind, ""]


async def test_nobody_there_is_told_without_the_address() -> None:
    http = HttpClient(VISITOR)
    with pytest.raises(NoAnswer, match=r"^no connection$") as failed:
        await http.send(Question("GET", "http://127.0.0.1:9/status?secret=1"))
    await http.close()

    assert not failed.value.sent
