"""Answers of strangers: big, slow, endless, compressed, broken; each costs little and is said plainly."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from peregrine.domain.execution import AttemptOutcome
from peregrine.executors.egress import AddressInfo, Egress
from peregrine.testing.http_target import HttpTarget, reply_bytes
from tests.executors.http_world import ask, executor, run

MEBIBYTE = 1024 * 1024


@pytest.fixture
async def target() -> AsyncIterator[HttpTarget]:
    async with HttpTarget() as target:
        yield target


@pytest.fixture(scope="module", params=[("asyncio", {}), ("asyncio", {"use_uvloop": True})], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


# ── bounds ───────────────────────────────────────────────────────────────────────────────────────

HEADERS = "the answer is too large: the headers are larger than 32 KiB"
BODY = "the answer is too large: the body is larger than 10 MiB"
FRAMING = "the answer is too large: it is framing more than body"


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/endless?what=headers", HEADERS),
        ("/endless?what=header", HEADERS),
        ("/endless?what=interim", HEADERS),
        ("/endless?what=hints", HEADERS),
        ("/endless?what=body", BODY),
        ("/endless?what=chunks", BODY),
        ("/endless?what=crumbs", FRAMING),
        ("/endless?what=extension", FRAMING),
        ("/endless?what=size", FRAMING),
        ("/endless?what=trailers", "the answer of {} ended in the middle of its body"),
        ("/flood?bytes=10485761", BODY),
        ("/bomb?how=gzip", BODY),
        ("/bomb?how=zlib", BODY),
        ("/bomb?how=bare", BODY),
    ],
)
async def test_an_answer_without_end_is_ended(target: HttpTarget, path: str, error: str) -> None:
    async with executor() as made:
        outcome = await run(made, target.url(path))
        await target.quiet()

    assert outcome.verdict is AttemptOutcome.FAILED
    assert outcome.error == error.format(target.place)
    assert outcome.detail["code"] == ("connection" if "trailers" in path else "response_too_large")
    assert len(outcome.output.encode()) <= 64 * 1024
    assert outcome.truncated is (error is not HEADERS)
    await target.deserted()


@pytest.mark.parametrize(("size", "headers"), [(1, 300), (90, 300), (10_000, 3)], ids=["many", "most", "long"])
async def test_large_headers_within_the_bound_are_read(target: HttpTarget, size: int, headers: int) -> None:
    said = tuple((f"X-{number}", "h" * size) for number in range(headers))
    raw = reply_bytes(b"all is well", headers=said).decode()

    outcome = await ask(target, "/ok")
    assert outcome.verdict is AttemptOutcome.SUCCEEDED
    large = await asyncio.start_server(lambda reader, writer: say(reader, writer, raw.encode()), "127.0.0.1", 0)
    async with large, executor() as made:
        outcome = await run(made, f"http://127.0.0.1:{large.sockets[0].getsockname()[1]}/")

    assert outcome.output == "all is well"


async def test_large_headers_that_come_with_the_body_are_refused() -> None:
    raw = reply_bytes(b"b" * 100_000, headers=tuple((f"X-{number}", "h" * 400) for number in range(100)))
    large = await asyncio.start_server(lambda reader, writer: say(reader, writer, raw), "127.0.0.1", 0)
    async with large, executor() as made:
        outcome = await run(made, f"http://127.0.0.1:{large.sockets[0].getsockname()[1]}/")

    assert outcome.error == HEADERS


async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, raw: bytes, *, stay: bool = False) -> None:
    """Answer anything with *raw*; *stay*: leave it to the other side to close."""
    await reader.readuntil(b"\r\n\r\n")
    try:
        writer.write(raw)
        await writer.drain()
        if stay:
            await writer.wait_closed()
    except OSError:
        pass
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("sent", "kept", "shown"),
    [
        (100, 64 * 1024, 100),
        (64 * 1024, 64 * 1024, 64 * 1024),
        (64 * 1024 + 1, 64 * 1024, 64 * 1024),
        (10 * MEBIBYTE, 64 * 1024, 64 * 1024),
        (2 * MEBIBYTE, MEBIBYTE, MEBIBYTE),
        (0, 10, 0),
        (11, 10, 10),
    ],
)
async def test_the_beginning_is_kept(target: HttpTarget, sent: int, kept: int, shown: int) -> None:
    async with executor(output_bytes=kept) as made:
        outcome = await run(made, target.url(f"/flood?bytes={sent}"))

    assert outcome.verdict is AttemptOutcome.SUCCEEDED
    assert len(outcome.output) == shown
    assert outcome.truncated is (sent > kept)
    assert outcome.detail["bytes"] == sent


async def test_what_takes_more_room_as_text_is_cut_too(target: HttpTarget) -> None:
    async with executor(output_bytes=100) as made:
        outcome = await run(made, target.url("/bomb?mebibytes=1"))

    assert outcome.verdict is AttemptOutcome.SUCCEEDED or outcome.detail["code"] == "bad_response"
    assert outcome.output == "\ufffd" * 33
    assert outcome.truncated


async def test_an_attempt_that_ends_does_not_touch_its_neighbours(target: HttpTarget) -> None:
    """A small compressed body has wholly arrived, and its connection serves the next, while it is still inflated."""
    async with executor() as made:
        bomb = asyncio.create_task(run(made, target.url("/bomb?mebibytes=12")))
        await target.arrived(1)
        await target.quiet()
        await turns(10)
        neighbour = asyncio.create_task(run(made, target.url("/hang")))

        assert (await bomb).error == BODY
        await target.hanging()
        await turns(10)
        assert target.accepted == 1, "the connection was not shared, so nothing is proven"
        assert not neighbour.done()
        neighbour.cancel()
        await asyncio.wait([neighbour])
        await target.quiet()


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


MEASURE = """
import asyncio, json, sys
from tests.executors.http_world import executor, run

def status(word):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(word)) / 1024

async def main():
    url, *paths = sys.argv[1:]
    async with executor(output_bytes=1024 * 1024) as made:
        for path in ("/ok", "/gzip"):
            await run(made, url + path)
        grown = {}
        for path in paths:
            before = status("VmRSS")
            with open("/proc/self/clear_refs", "w") as peak:
                peak.write("5")
            outcome = await run(made, url + path)
            grown[path] = [status("VmHWM") - before, outcome.error]
    print(json.dumps(grown))

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("anyio_backend", [("asyncio", {})], ids=["child"])
async def test_hostile_answers_cost_little_memory(target: HttpTarget) -> None:
    """Half a MiB of gzip that holds 512 MiB, heads and bodies without end: less than 20 MiB each, a MiB kept."""
    paths = [
        "/bomb?how=gzip", "/bomb?how=bare", "/flood?bytes=1073741824",
        *(f"/endless?what={what}" for what in ("headers", "header", "interim", "hints", "body", "chunks", "crumbs",
                                               "extension", "size", "trailers")),
    ]  # fmt: skip
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", MEASURE, target.url(""), *paths, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await child.communicate()

    grown = json.loads(said)
    assert set(grown) == set(paths)
    assert {path: mebibytes for path, (mebibytes, _) in grown.items() if mebibytes >= 20} == {}
    assert all(error for _, error in grown.values()), grown


# ── compression and text ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("path", "output", "error"),
    [
        ("/gzip", "all is well", None),
        ("/gzip?how=zlib", "all is well", None),
        ("/gzip?how=bare", "all is well", None),
        ("/gzip?how=twice", "all is wellall is well", None),
        ("/gzip?how=cut", "all is well", "the answer is damaged: the body ends in the middle of its compressed stream"),
        (
            "/gzip?how=broken",
            "",
            "the answer is damaged: the body does not inflate: it is damaged or not compressed as it says",
        ),
    ],
)
async def test_compressed_bodies_are_read(target: HttpTarget, path: str, output: str, error: str | None) -> None:
    outcome = await ask(target, path)

    assert (outcome.output, outcome.error) == (output, error)


@pytest.mark.parametrize(
    ("head", "body", "output"),
    [
        ("", "\xc3\xa4", "ä"),
        ("Content-Type: text/plain; charset=latin-1", "\xe4", "ä"),
        ("Content-Type: text/plain; charset=nonsense", "\xe4", "\ufffd"),
        ("Content-Type: text/plain; charset=punycode", "\xe4", "\ufffd"),
        ("Content-Encoding: br", "\x01\x02", "(2 bytes, encoded as 'br', not shown)"),
        ("Content-Encoding: gzip, gzip", "\x01\x02", "(2 bytes, encoded as 'gzip, gzip', not shown)"),
        ("Content-Encoding: identity", "plain", "plain"),
        ("", "a\x00b", "a\ufffdb"),
    ],
)
async def test_bodies_become_text(target: HttpTarget, head: str, body: str, output: str) -> None:
    raw = f"HTTP/1.1 200 OK\r\n{head}{head and chr(13) + chr(10)}Content-Length: {len(body)}\r\n\r\n{body}"
    quoted = "".join(f"%{byte:02X}" for byte in raw.encode("utf-8"))

    outcome = await ask(target, f"/raw?bytes={quoted}")

    assert (outcome.output, outcome.error) == (output, None)


@pytest.mark.parametrize(
    "raw", ["HTTP/1.0 200 OK\r\n\r\nuntil the end", "HTTP/1.1 200\r\nConnection: close\r\n\r\nuntil the end"]
)
async def test_a_body_may_end_with_its_connection(target: HttpTarget, raw: str) -> None:
    quoted = "".join(f"%{byte:02X}" for byte in raw.encode())

    outcome = await ask(target, f"/raw?bytes={quoted}")

    assert (outcome.output, outcome.error, outcome.truncated) == ("until the end", None, False)


# ── what breaks ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("path", "error", "output"),
    [
        ("/half", "the answer of {} ended in the middle of its body", "half of it"),
        ("/drop", "{} closed the connection without an answer", ""),
        ("/reset", "connection reset by {}", ""),
        ("/reset?when=body", "the answer of {} ended in the middle of its body", "half of it"),
        ("/garbage", "the answer is not valid HTTP", ""),
        (
            "/raw?bytes=HTTP/1.1+200+OK%0D%0ATransfer-Encoding:+chunked%0D%0A%0D%0Azz%0D%0A",
            "the answer is not valid HTTP",
            "",
        ),
        ("/raw?bytes=HTTP/1.1+200+OK%0D%0AContent-Length:+-1%0D%0A%0D%0A", "the answer is not valid HTTP", ""),
        (
            "/raw?bytes=HTTP/1.1+200+OK%0D%0AContent-Length:+5%0D%0AContent-Length:+9%0D%0A%0D%0Ahello",
            "the answer is not",
            "",
        ),
        (
            "/raw?bytes=HTTP/1.1+101+Switching%0D%0AUpgrade:+x%0D%0AConnection:+upgrade%0D%0A%0D%0A",
            "a 2xx status, got 101",
            "",
        ),
    ],
)
async def test_a_broken_answer_is_said_plainly(target: HttpTarget, path: str, error: str, output: str) -> None:
    outcome = await ask(target, path)

    assert outcome.verdict is AttemptOutcome.FAILED
    assert error.format(target.place) in (outcome.error or "")
    assert outcome.output == output
    assert outcome.truncated is bool(output)
    await target.deserted()


async def test_nobody_listens() -> None:
    async with HttpTarget() as target:
        url = target.url("/ok?token=abcdefgh")
    async with executor() as made:
        outcome = await run(made, url)

    assert outcome.error == f"connection refused by {target.place}"
    assert outcome.retryable
    assert "abcdefgh" not in repr(outcome)


async def test_what_nobody_asked_for_answers_nothing() -> None:
    """A target may speak while its connection is free; the next attempt must not take that for its answer."""
    said: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said.put_nowait(writer)
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(reply_bytes(b"as asked"))
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, executor() as made:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        await run(made, url)
        writer = await said.get()
        writer.write(reply_bytes(b"unasked"))
        await writer.drain()
        await turns(10)
        outcome = await run(made, url)

        assert outcome.output == "as asked"
        assert said.qsize() == 1, "another connection"


class Narrow(Egress):
    """Gives the system little room for what is to be sent: the rest waits in the client."""

    def open_socket(self, info: AddressInfo, host: str) -> socket.socket:
        made = super().open_socket(info, host)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return made


async def test_a_connection_that_is_still_sending_serves_no_other_attempt() -> None:
    """A target may answer before it has read the body; the next request would wait behind the rest of it."""
    accepted = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        await say(reader, writer, reply_bytes(b"all is well"), stay=True)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1024)
    server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    async with server, executor(egress=Narrow(["127.0.0.1"])) as made:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        first = await run(made, url, method="POST", body="x" * MEBIBYTE)
        second = await run(made, url)

    assert first.output == second.output == "all is well"
    assert accepted == 2


# ── secrets ──────────────────────────────────────────────────────────────────────────────────────

SECRET = "hush-hush/never+said&out"
PLACES: dict[str, dict[str, Any]] = {
    "header": {"headers": (("X-Any", "{{ secret.TOKEN }}"),)},
    "own header": {"headers": (("Authorization", f"Bearer {SECRET}"),)},
    "own cookie": {"headers": (("Cookie", f"a=b; sid={SECRET}"),)},
    "body": {"method": "POST", "body": "<{{ secret.TOKEN }}>"},
    "own body": {"method": "POST", "body": json.dumps({"deep": {"password": SECRET}})},
    "parameter": {"headers": (("X-Token", "{{ parameters.t }}"),), "parameters": {"t": SECRET}},
    "secret parameter": {"method": "POST", "body": "<{{ parameters.token }}>", "parameters": {"token": SECRET}},
}


@pytest.mark.parametrize("path", ["/echo", "/echo?code=500", "/redirect?to=/echo", "/gzip?say={}", "/half?say={}"])
@pytest.mark.parametrize("place", PLACES)
async def test_a_secret_that_the_target_repeats_is_not_shown(target: HttpTarget, place: str, path: str) -> None:
    quoted = "%68ush-hush%2Fnever%2Bsaid%26out"
    async with executor(secrets={"TOKEN": SECRET}) as made:
        outcome = await run(made, target.url(path.format(quoted)), follow_redirect=True, **PLACES[place])

    for spelling in (SECRET, "hush-hush%2Fnever%2Bsaid%26out", "hush-hush/never%2Bsaid%26out"):
        assert spelling not in repr(outcome)


@pytest.mark.parametrize("before", range(80, 101))
async def test_a_secret_across_the_cut_is_not_shown_in_part(target: HttpTarget, before: int) -> None:
    """Also when secrets before it are hidden and the text shrinks, so that more of it comes into view."""
    say = "x" * before + "hush-hush-never-said"
    shrinking = ("hush-hush-never-said" * 3 + "x" * 60)[:before] + "hush-hush-never-said"
    async with executor(secrets={"TOKEN": "hush-hush-never-said"}, output_bytes=100) as made:
        for text in (say, shrinking, shrinking * 2):
            for path in (f"/ok?say={text}", f"/half?say={text[:110]}"):
                outcome = await run(made, target.url(path))
                assert "hush" not in outcome.output
                assert len(outcome.output) <= 100
