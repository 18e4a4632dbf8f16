"""TLS: checked unless the task says otherwise, and a connection made without a check never serves one that wants it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence

import pytest
import trustme

from peregrine.domain.execution import AttemptOutcome
from peregrine.testing.http_target import HttpTarget
from tests.executors.http_world import executor, run


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(scope="module", params=[("asyncio", {}), ("asyncio", {"use_uvloop": True})], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


def serving(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


@pytest.fixture
async def target(authority: trustme.CA) -> AsyncIterator[HttpTarget]:
    async with HttpTarget(tls=serving(authority, "127.0.0.1", "intranet.example")) as target:
        yield target


async def look_up(host: str) -> Sequence[str]:
    return ["127.0.0.1"]


async def test_a_trusted_server_is_asked(target: HttpTarget, trusting: ssl.SSLContext) -> None:
    async with executor(tls=trusting, look_up=look_up) as made:
        by_address = await run(made, target.url())
        by_name = await run(made, target.url(host="intranet.example"))

    assert by_address.verdict is by_name.verdict is AttemptOutcome.SUCCEEDED
    await target.deserted()


async def test_a_stranger_is_refused_unless_the_task_says_so(target: HttpTarget) -> None:
    async with executor() as made:
        checked = await run(made, target.url("/ok?token=abcdefgh"))
        unchecked = await run(made, target.url(), validate_ssl=False)

    assert checked.verdict is AttemptOutcome.FAILED
    assert checked.detail["code"] == "tls"
    assert (checked.error or "").startswith(f"the TLS certificate of {target.place} is not valid: ")
    assert "abcdefgh" not in repr(checked)
    assert unchecked.verdict is AttemptOutcome.SUCCEEDED
    assert [seen.path for seen in target.seen] == ["/ok"]


async def test_a_wrong_name_is_refused(target: HttpTarget, trusting: ssl.SSLContext) -> None:
    async with executor(tls=trusting, look_up=look_up) as made:
        outcome = await run(made, target.url(host="elsewhere.example"))

    assert "elsewhere.example" in (outcome.error or "")
    assert outcome.detail["code"] == "tls"
    assert target.seen == []


async def test_an_unchecked_connection_serves_no_checked_request(target: HttpTarget) -> None:
    """It is kept and free, host and port are the same; still the check is made anew, and fails."""
    async with executor() as made:
        await run(made, target.url(), validate_ssl=False)
        assert target.open == 1
        checked = await run(made, target.url())
        again = await run(made, target.url(), validate_ssl=False)

    assert checked.detail["code"] == "tls"
    assert again.verdict is AttemptOutcome.SUCCEEDED
    assert len(target.seen) == 2


async def test_a_server_that_speaks_no_tls() -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    plain = await asyncio.start_server(speak, "127.0.0.1", 0)
    async with plain, executor() as made:
        place = f"127.0.0.1:{plain.sockets[0].getsockname()[1]}"
        outcome = await run(made, f"https://{place}/")

    assert (outcome.error or "").startswith(f"no TLS connection to {place}: ")
    assert outcome.detail["code"] == "tls"


async def test_https_is_not_left_by_a_redirect(target: HttpTarget, trusting: ssl.SSLContext) -> None:
    async with HttpTarget() as plain, executor(tls=trusting) as made:
        outcome = await run(made, target.url(f"/redirect?to={plain.url()}"), follow_redirect=True)

        assert outcome.error == "a redirect from https to http is not followed"
        assert plain.accepted == 0


@pytest.mark.parametrize("path", ["/hang", "/hang-body", "/drip", "/endless?what=body"])
async def test_a_tls_connection_is_let_go_at_once(target: HttpTarget, trusting: ssl.SSLContext, path: str) -> None:
    async with executor(tls=trusting) as made:
        outcome = await run(made, target.url(path), timeout=100)

        assert outcome.verdict is not AttemptOutcome.SUCCEEDED
        await target.deserted()
