"""Answers of strangers: endless, huge, slow, strange ones cost little, are said plainly, and prove nothing."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peregrine.domain.moment import HOUR, SECOND
from peregrine.modules.esi import facts
from peregrine.modules.esi.client import Bounds, HttpClient
from peregrine.modules.esi.exchange import Corrupt, NoAnswer, Question, error_text, expires_at, seconds_to_wait, whole
from peregrine.testing.http_target import HttpTarget, reply_bytes
from tests.modules.esi.sky import NOON, VISITOR

READERS = {
    "affiliations": facts.affiliations,
    "ids": facts.ids,
    "alliance": lambda body: facts.alliance(1, body),
    "corporation": lambda body: facts.corporation(1, body),
    "character": lambda body: facts.character(1, body),
    "status": facts.status,
}


# ── sockets ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def target() -> AsyncIterator[HttpTarget]:
    async with HttpTarget() as target:
        yield target


async def failure(target: HttpTarget, path: str, bounds: Bounds | None = None) -> NoAnswer:
    """Why *path* gives no answer; afterwards nothing of it is left."""
    http = HttpClient(VISITOR, bounds or Bounds(patience=20 * SECOND, body_max=1024 * 1024))
    with pytest.raises(NoAnswer) as failed:
        await http.send(Question("GET", target.url(path)))
    await http.close()
    await target.deserted()
    return failed.value


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/endless?what=body", "larger than 1024 KiB"),
        ("/endless?what=chunks", "larger than 1024 KiB"),
        ("/endless?what=header", "broke off"),
        ("/flood?bytes=2000000", "larger than 1024 KiB"),
        ("/bomb?how=gzip", "larger than 1024 KiB"),
        ("/bomb?how=zlib", "not asked for"),
    ],
)
async def test_an_answer_without_end_is_ended(target: HttpTarget, path: str, words: str) -> None:
    failed = await failure(target, path)

    assert words in str(failed)
    assert failed.sent


@pytest.mark.parametrize("what", ["interim", "hints", "crumbs", "extension", "size", "trailers", "headers"])
async def test_what_is_endless_in_another_way_ends_with_our_patience(target: HttpTarget, what: str) -> None:
    failed = await failure(target, f"/endless?what={what}", Bounds(patience=SECOND // 4))

    assert str(failed)


async def test_a_compressed_body_that_lacks_its_end_is_no_answer() -> None:
    cut = gzip.compress(b"[]" * 1000)[:-6]
    raw = reply_bytes(cut, headers=(("Content-Encoding", "gzip"),))

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(say, "127.0.0.1", 0)
    http = HttpClient(VISITOR)
    async with server:
        with pytest.raises(NoAnswer, match="middle of its compressed stream"):
            await http.send(Question("GET", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"))
        await http.close()


async def test_nobody_sends_twice_by_himself(target: HttpTarget) -> None:
    http = HttpClient(VISITOR)
    await http.send(Question("GET", target.url("/ok")))
    with pytest.raises(NoAnswer):
        await http.send(Question("GET", target.url("/reset")))
    await http.close()

    assert [seen.path for seen in target.seen] == ["/ok", "/reset"]


async def test_a_cancel_closes_the_socket(target: HttpTarget) -> None:
    http = HttpClient(VISITOR)
    asking = asyncio.create_task(http.send(Question("GET", target.url("/hang"))))
    await target.hanging()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await target.quiet()
    await http.close()


async def test_no_redirect_is_followed_and_no_proxy_used(target: HttpTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    http = HttpClient(VISITOR)
    answer = await http.send(Question("GET", target.url("/redirect?to=/ok&code=302")))
    await http.close()

    assert answer.status == 302
    assert [seen.path for seen in target.seen] == ["/redirect"]
    assert target.seen[0].header("user-agent") == VISITOR.user_agent
    assert target.seen[0].header("accept-encoding") == "gzip"


# ── texts ────────────────────────────────────────────────────────────────────────────────────────

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([0, -1, 2**63, 10**400]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(
            [
                "character_id", "corporation_id", "alliance_id", "name", "ticker", "tax_rate", "tax_rates", "isk",
                "member_count", "date_founded", "creator_id", "creator_corporation_id", "birthday", "gender", "error",
                "race_id", "bloodline_id", "players", "server_version", "start_time",
            ]
        ),
        inner,
        max_size=20,
    ),
    max_leaves=25,
)  # fmt: skip


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@given(value=JSON)
def test_no_json_breaks_a_reader(read: Any, value: Any) -> None:
    try:
        text = json.dumps(value)
    except ValueError:
        return
    error_text(text.encode())
    try:
        read(text.encode())
    except Corrupt:
        return


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@given(body=st.binary(max_size=60))
def test_no_bytes_break_a_reader(read: Any, body: bytes) -> None:
    try:
        read(body)
    except Corrupt:
        return


NASTY = [b"[" * 100_000, b'{"a":' * 50_000, b"1" * 10_000, b'"\\ud800"', b"\xff", b"", b"NaN", b"<html>"]


@pytest.mark.parametrize("body", NASTY, ids=lambda body: repr(body[:12]))
@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_nasty_bodies_are_corrupt(read: Any, body: bytes) -> None:
    with pytest.raises(Corrupt):
        read(body)
    assert error_text(body) is None


GOOD = {
    "name": "N\x00a\ud800me", "ticker": "T", "member_count": 3, "tax_rates": {"isk": 5.6, "loyalty_point": 0},
    "description": "d" * 60_000, "url": "", "enlisted_faction_id": 500_001, "faction_id": 7, "home_station_id": 0,
    "shares": None, "war_eligible": "yes", "date_founded": "2000-01-23T04:56:07.000+00:00", "state": "sleeping",
    "type": 3, "palette": {"main_color": "x"}, "surprise": [],
}  # fmt: skip


def test_a_corporation_is_read_as_far_as_it_can_be() -> None:
    told = facts.corporation(5, json.dumps(GOOD).encode())

    read = told.corporation
    assert (read.name, read.tax_rate, read.faction_id) == ("N\ufffda?me", 0.056, 500_001)
    assert not told.is_closed
    assert (read.url, read.home_station_id, read.shares, read.war_eligible) == (None, None, None, None)
    assert len(read.description) == 50_000
    assert read.date_founded == 948_603_367_000


@pytest.mark.parametrize(
    "wrong",
    [
        {"alliance_id": "99000001"},
        {"alliance_id": -1},
        {"alliance_id": 1.5},
        {"alliance_id": True},
        {"tax_rates": {"isk": 101}},
        {"tax_rates": {"isk": None}},
        {"tax_rates": 5},
        {"name": None},
        {"member_count": -1},
        {"shares": "1000"},
    ],
)
def test_half_a_corporation_is_none(wrong: dict[str, object]) -> None:
    with pytest.raises(Corrupt):
        facts.corporation(5, json.dumps(GOOD | wrong).encode())


# ── headers ──────────────────────────────────────────────────────────────────────────────────────

TWELVE = "Thu, 01 Oct 2026 12:00:00 GMT"
ONE = "Thu, 01 Oct 2026 13:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "left"),
    [
        ({}, 0),
        ({"expires": ONE}, HOUR + SECOND),
        ({"expires": ONE, "date": TWELVE}, HOUR + SECOND),
        ({"expires": ONE, "date": "Thu, 01 Oct 2026 12:59:58 GMT"}, 3 * SECOND),
        ({"expires": TWELVE, "date": ONE}, 0),
        ({"expires": "0"}, 0),
        ({"expires": "-1", "date": TWELVE}, 0),
        ({"expires": "Fri, 31 Dec 9999 23:59:59 GMT", "date": TWELVE}, 24 * HOUR),
        ({"expires": ONE, "date": "now"}, HOUR + SECOND),
    ],
)
def test_expiry_is_counted_from_the_other_sides_own_clock(headers: dict[str, str], left: int) -> None:
    assert expires_at(headers, NOON) == NOON + left


@given(st.text(max_size=40))
def test_no_header_breaks_anything(text: str) -> None:
    assert NOON <= expires_at({"expires": text, "date": text}, NOON) <= NOON + 25 * HOUR
    assert 0 <= (seconds_to_wait(text, NOON) or 0) <= 24 * HOUR
    assert (whole(text) or 0) >= 0
