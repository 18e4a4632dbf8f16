"""A real Redis that speaks TLS alone, to its own users alone: reached with the right papers, and never without."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest
import trustme

from peregrine.coordination.clock import SystemEntropy
from peregrine.coordination.redis.link import Link, Place, Tls
from peregrine.coordination.redis.locks import RedisLocks
from peregrine.coordination.redis.shared import RedisShared
from peregrine.testing.bus_contract import BUS_CHECKS
from peregrine.testing.lock_contract import LOCK_CHECKS
from peregrine.testing.shared_contract import SHARED_STATE_CHECKS
from tests.faults.service import Service
from tests.faults.test_redis import created, execution, started, status
from tests.faults.test_redis import until as wait_until
from tests.services.fixtures import had
from tests.services.processes import Redis
from tests.services.test_redis import PATIENT, Ears, listening, reached, until

# TLS says goodbye after we have let go of a connection; a loop that ends sooner finds its socket unclosed, and says so.
pytestmark = [
    pytest.mark.anyio, pytest.mark.services,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]  # fmt: skip

USER, SECRET = "peregrine", "a word with ü and @/:"
MAY: Final = (
    "on", f">{SECRET}", "resetkeys", "~scheduler:*", "resetchannels", "&scheduler:wakes:*", "-@all", "+ping", "+set",
    "+get", "+del", "+eval", "+time", "+publish", "+subscribe", "+unsubscribe", "+select",
)  # fmt: skip
"""All that the service needs, as docs/many-instances.md says it."""


@dataclass(frozen=True)
class Papers:
    """Certificates as files: who vouches, ours, and one that somebody else signed."""

    ca: Path
    server: Path
    ours: Path
    strangers_ca: Path


@pytest.fixture(name="papers", scope="session")
def _papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    folder, ca = tmp_path_factory.mktemp("papers"), trustme.CA()
    papers = Papers(*(folder / name for name in ("ca.pem", "server.pem", "ours.pem", "stranger.pem")))
    ca.cert_pem.write_to_path(papers.ca)
    ca.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(papers.server)
    ca.issue_cert("peregrine").private_key_and_cert_chain_pem.write_to_path(papers.ours)
    trustme.CA().cert_pem.write_to_path(papers.strangers_ca)
    return papers


@pytest.fixture(name="closed")
def _closed(papers: Papers) -> Iterator[Redis]:
    """A Redis that asks for a certificate, a user and a password, and speaks in no plain word."""
    context = ssl.create_default_context(cafile=papers.ca)
    context.load_cert_chain(papers.ours)
    settings = (
        "--tls-cert-file", str(papers.server), "--tls-key-file", str(papers.server), "--tls-ca-cert-file",
        str(papers.ca), "--user", "default", "on", "nopass", "resetkeys", "-@all", "+info", "--user", USER, *MAY,
    )  # fmt: skip
    server = had(lambda: Redis(*settings, tls=context))
    yield server
    server.close()


def whole(papers: Papers, **other: Any) -> dict[str, Any]:
    """Everything that is needed to be let in."""
    return {"user": USER, "secret": SECRET, "tls": Tls(ca=papers.ca, certificate=papers.ours), **PATIENT, **other}


async def left_alone(server: Redis) -> None:
    """Return when nobody but who asks is connected: the farewell of TLS takes a few words each way."""
    await until(lambda: b"connected_clients:1\r" in server.say("INFO", "clients"))
    await asyncio.sleep(0.01)  # not a wait: what the server said last is heard


@pytest.fixture(name="pair")
async def _pair(closed: Redis, papers: Papers) -> AsyncIterator[tuple[Link, Link]]:
    ears = Ears()
    async with (
        reached(closed.port, ears, **whole(papers)) as ours,
        reached(closed.port, ears, **whole(papers)) as theirs,
    ):
        yield ours, theirs
    await left_alone(closed)
    assert ears.events == []


@pytest.mark.parametrize("check", LOCK_CHECKS, ids=lambda check: check.__name__)
async def test_locks_need_no_more_rights_than_we_say(check: Any, pair: tuple[Link, Link]) -> None:
    await check(RedisLocks(pair[0]), RedisLocks(pair[1]))


@pytest.mark.parametrize("check", BUS_CHECKS, ids=lambda check: check.__name__)
async def test_wakes_need_no_more_rights_than_we_say(check: Any, pair: tuple[Link, Link]) -> None:
    async with listening(pair[0], "ours") as ours, listening(pair[1], "theirs") as theirs:
        await check(ours, theirs)


@pytest.mark.parametrize("check", SHARED_STATE_CHECKS, ids=lambda check: check.__name__)
async def test_shared_texts_need_no_more_rights_than_we_say(check: Any, pair: tuple[Link, Link]) -> None:
    ours, theirs = (RedisShared(link, entropy=SystemEntropy()) for link in pair)
    await check(ours, theirs)
    assert pair[0].deviation is not None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"secret": "another word"}, "it refuses the user or the password"),
        ({"user": "somebody"}, "it refuses the user or the password"),
        ({"user": "", "secret": ""}, "its user may not do what is needed"),
        ({"tls": None}, "it can't be reached"),
    ],
    ids=["password", "user", "nobody", "plain"],
)
async def test_without_the_right_papers_it_stays_away(
    closed: Redis, papers: Papers, change: dict[str, Any], words: str
) -> None:
    async with reached(closed.port, **whole(papers, **change)) as link:
        assert (link.is_away, link.facts().reason) == (True, words)
    await left_alone(closed)


async def test_a_server_that_nobody_vouches_for_is_told_nothing(closed: Redis, papers: Papers) -> None:
    ears = Ears()
    async with reached(closed.port, ears, **whole(papers, tls=Tls(ca=papers.strangers_ca))) as link:
        assert link.facts().reason == "its certificate is not believed"
    await left_alone(closed)
    assert SECRET not in str(ears.events)


def test_a_secret_is_in_no_picture_of_the_place(papers: Papers) -> None:
    assert SECRET not in repr(Place(host="h", **whole(papers)))


@pytest.mark.parametrize("what", ["ca", "certificate", "key"])
def test_a_paper_that_can_not_be_used_is_named(papers: Papers, tmp_path: Path, what: str) -> None:
    Tls(ca=papers.ca, certificate=papers.ours).context()
    empty = tmp_path / "empty.pem"
    for text in (None, "no paper"):
        if text is not None:
            empty.write_text(text)
        given = {"certificate": papers.ours} | {what: empty}
        with pytest.raises(OSError) as caught:
            Tls(**given).context()
        assert caught.value.strerror
        assert caught.value.filename in (str(empty), str(papers.ours))


def test_a_service_gets_along_over_tls_and_says_no_secret(closed: Redis, papers: Papers, tmp_path: Path) -> None:
    url = f"rediss://{USER}:{quote(SECRET, safe='')}@{closed.host}:{closed.port}/0"
    service = Service(tmp_path, REDIS_URL=url, REDIS_CA_FILE=str(papers.ca), REDIS_CERT_FILE=str(papers.ours))
    try:
        service.start()
        wait_until(lambda: status(service)["dependencies"]["redis"] == "healthy")
        run = started(service, created(service, "one"))
        wait_until(lambda: execution(service, run)["status"] == "completed")
        assert b"peregrine_redis_up 1.0" in service.ask("GET", "/metrics")[1]
        shown = (str(status(service)), service.ask("GET", "/metrics")[1].decode(), service.log.read_text())
        assert service.stop() == 0
    finally:
        if service.is_running:
            service.kill()
    for text in (*shown, service.log.read_text()):
        assert SECRET not in text
        assert quote(SECRET, safe="") not in text


def test_a_service_does_not_start_with_a_paper_that_is_not_there(tmp_path: Path) -> None:
    service = Service(tmp_path, REDIS_URL="rediss://u:hunter2@127.0.0.1:1", REDIS_CA_FILE=str(tmp_path / "ca.pem"))

    with pytest.raises(AssertionError, match="exit 78"):
        service.start()

    (line,) = [line for line in service.log.read_text().splitlines() if "REDIS_" in line]
    assert "REDIS_CA_FILE=" in line
    assert "No such file" in line
    assert "hunter2" not in service.log.read_text()
