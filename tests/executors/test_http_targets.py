"""Which targets are reached, proven by sockets that count: a refused target sees no connection at all."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Sequence

import pytest

from peregrine.domain.execution import AttemptOutcome, Outcome
from peregrine.domain.payload import HttpPayload
from peregrine.executors.client import Client
from peregrine.executors.egress import Egress, Target, Verdict, read_target
from peregrine.executors.http import HttpExecutor
from peregrine.testing.http_target import HttpTarget
from tests.executors.http_world import CLOCK, executor, run


@pytest.fixture
async def target() -> AsyncIterator[HttpTarget]:
    async with HttpTarget() as target:
        yield target


def names(**known: Sequence[str]) -> Names:
    return Names({name.replace("_", "."): list(addresses) for name, addresses in known.items()})


class Names:
    """A resolver under our control. It counts, and a name may answer differently each time."""

    def __init__(self, known: dict[str, list[str]]) -> None:
        self.known = known
        self.asked: list[str] = []

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        if host not in self.known:
            raise socket.gaierror(socket.EAI_NONAME, "no such name, with s3cr3t words of the resolver")
        return self.known[host]


def assert_blocked(outcome: Outcome, target: HttpTarget) -> None:
    assert outcome.verdict is AttemptOutcome.FAILED
    assert outcome.detail["code"] == "blocked_target"
    assert (outcome.error or "").startswith("target not allowed: ")
    assert not outcome.retryable
    assert target.accepted == 0


# {} stands for the port of a server that listens on 127.0.0.1; the port itself is open.
LOOPBACK_FORMS = [
    "http://127.0.0.1:{}/", "http://127.0.0.2:{}/", "http://localhost:{}/", "http://LOCALHOST:{}/",
    "http://localhost.:{}/",
    "http://a.localhost:{}/", "http://2130706433:{}/", "http://0x7f000001:{}/", "http://017700000001:{}/",
    "http://0177.0.0.1:{}/", "http://0x7f.1:{}/", "http://127.1:{}/", "http://127.0.1:{}/", "http://0:{}/",
    "http://0.0.0.0:{}/",
    "http://127.0.0.1.:{}/", "http://１２７.0.0.1:{}/", "http://①②⑦.⓪.⓪.①:{}/", "http://127。0。0。1:{}/",
    "http://ｌocalhost:{}/", "http://[::ffff:127.0.0.1]:{}/", "http://[::ffff:7f00:1]:{}/",
    "http://[0:0:0:0:0:ffff:127.0.0.1]:{}/",
    "http://[::127.0.0.1]:{}/", "http://[64:ff9b::127.0.0.1]:{}/", "http://[64:ff9b:1::7f00:1]:{}/",
    "http://[2002:7f00:1::]:{}/", "http://[::]:{}/", "http://[::1]:{}/", "http://[::1%25lo]:{}/",
    "http://[fe80::1]:{}/",
    "http://user@127.0.0.1:{}/", "http://example.com@127.0.0.1:{}/", "http://127.0.0.1:{}\\@example.com/",
    "http://127.0.0.1%2f@example.com:{}/", "http://%31%32%37.0.0.1:{}/", "http://127.0.0.1:{}:80/",
    "http:127.0.0.1:{}/",
    "http:///127.0.0.1:{}/", "//127.0.0.1:{}/", "127.0.0.1:{}", "gopher://127.0.0.1:{}/", "ftp://127.0.0.1:{}/",
    "file://127.0.0.1:{}/etc/passwd", "dict://127.0.0.1:{}/", "ws://127.0.0.1:{}/", "unix:///127.0.0.1:{}/",
    "https://127.0.0.1:{}/", "http://rebound.example:{}/", "http://mixed.example:{}/",
]  # fmt: skip


@pytest.mark.parametrize("url", LOOPBACK_FORMS)
async def test_no_form_of_loopback_is_reached(target: HttpTarget, url: str) -> None:
    look_up = names(
        localhost=["::1", "127.0.0.1"], rebound_example=["127.0.0.1"], mixed_example=["::ffff:127.0.0.1", "::1"]
    )
    async with executor(egress=Egress(ports={80, target.port}), look_up=look_up) as made:
        outcome = await run(made, url.format(target.port))

    assert_blocked(outcome, target)


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254", "[fd00:ec2::254]", "100.100.100.200", "192.0.0.192", "168.63.129.16", "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1", "[fe80::1]", "[fec0::1]", "224.0.0.1", "[ff02::1]", "255.255.255.255", "198.18.0.1",
        "192.0.2.1",
        "[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::a9fe:a9fe]", "[2002:a9fe:a9fe::]", "[::ffff:169.254.169.254]",
        "[2001::1]",
    ],
)  # fmt: skip
async def test_metadata_and_private_networks_are_refused_before_any_packet(target: HttpTarget, host: str) -> None:
    """Refused in no time: a packet that left would have to be waited for."""
    async with executor(egress=Egress()) as made:
        outcome = await run(made, f"http://{host}/latest/meta-data/", timeout=1000)

    assert_blocked(outcome, target)


async def test_ipv6_loopback_is_refused_and_reached_as_any_other() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    async with HttpTarget(host="::1") as target:
        async with executor(egress=Egress(ports={target.port})) as made:
            assert_blocked(await run(made, target.url()), target)
        async with executor("::1") as made:
            outcome = await run(made, target.url())

    assert outcome.verdict is AttemptOutcome.SUCCEEDED
    assert target.seen[0].header("host") == target.place


# ── names ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_name_that_changes_its_mind_is_judged_again(target: HttpTarget) -> None:
    """The first answer is allowed, the second leads home: what was saved and what ran once proves nothing."""
    look_up = names(rebinding_example=["127.0.0.2"])
    async with HttpTarget(host="127.0.0.2") as public:
        url = f"http://rebinding.example:{public.port}/ok"
        async with executor("127.0.0.2", look_up=look_up) as made:
            first = await run(made, url)
        look_up.known["rebinding.example"] = ["127.0.0.1"]
        async with executor("127.0.0.2", look_up=look_up) as made:
            second = await run(made, f"http://rebinding.example:{target.port}/ok")

    assert first.verdict is AttemptOutcome.SUCCEEDED
    assert_blocked(second, target)
    assert "rebinding.example leads to 127.0.0.1 is loopback" in (second.error or "")


async def test_of_several_answers_only_the_allowed_are_tried(target: HttpTarget) -> None:
    look_up = names(mixed_example=["127.0.0.1", "::1", "127.0.0.2"])
    async with HttpTarget(host="127.0.0.2") as public, executor("127.0.0.2", look_up=look_up) as made:
        outcome = await run(made, f"http://mixed.example:{public.port}/ok")

        assert outcome.verdict is AttemptOutcome.SUCCEEDED
        assert public.accepted == 1
    assert target.accepted == 0


async def test_the_name_stays_in_the_request(target: HttpTarget) -> None:
    async with executor(look_up=names(intranet_example=["127.0.0.1"])) as made:
        await run(made, target.url(host="Intranet.Example."))

    assert target.seen[0].header("host") == f"intranet.example:{target.port}"


async def test_an_allowed_name_opens_itself_alone(target: HttpTarget) -> None:
    look_up = names(intranet_example=["127.0.0.1"], evil_example=["127.0.0.1"])
    async with executor("intranet.example", look_up=look_up) as made:
        good = await run(made, target.url(host="intranet.example"))
        assert good.verdict is AttemptOutcome.SUCCEEDED
        bad = await run(made, target.url(host="evil.example"))
        literal = await run(made, target.url())

    assert bad.detail["code"] == literal.detail["code"] == "blocked_target"
    assert len(target.seen) == 1


async def test_an_allowed_name_does_not_open_metadata(target: HttpTarget) -> None:
    async with executor("intranet.example", look_up=names(intranet_example=["169.254.169.254"])) as made:
        outcome = await run(made, "http://intranet.example/", timeout=1000)

    assert_blocked(outcome, target)


async def test_localhost_is_reached_once_its_address_is_allowed(target: HttpTarget) -> None:
    """By the system's own resolver, which may name ::1 first."""
    async with executor("127.0.0.1/32") as made:
        outcome = await run(made, target.url(host="localhost"))

    assert outcome.verdict is AttemptOutcome.SUCCEEDED


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (socket.gaierror(socket.EAI_NONAME, "s3cr3t"), "name not found: nowhere.example"),
        (socket.gaierror(socket.EAI_AGAIN, "s3cr3t"), "the look-up of nowhere.example failed for now"),
        (OSError("s3cr3t"), "name not found: nowhere.example"),
        (None, "name not found: nowhere.example"),
    ],
)
async def test_a_name_without_address_is_said_plainly(error: OSError | None, says: str) -> None:
    async def look_up(host: str) -> Sequence[str]:
        if error is not None:
            raise error
        return []

    async with executor(look_up=look_up) as made:
        outcome = await run(made, "http://nowhere.example/?token=abcdefgh")

    assert outcome.error == says
    assert outcome.detail["code"] == "name"
    assert outcome.retryable
    assert "s3cr3t" not in repr(outcome)


async def test_the_systems_resolver_is_asked_in_the_background() -> None:
    async with executor() as made:
        outcome = await run(made, "http://nowhere.invalid/", timeout=10_000)

    assert outcome.detail["code"] in ("name", "timeout")


# ── the last line: the socket itself ─────────────────────────────────────────────────────────────


class Careless(Egress):
    """Forgets to look before a request: then only the connect-time check stands."""

    def __init__(self, *, ports: set[int]) -> None:
        super().__init__(ports=ports)

    def foresee(self, target: Target) -> Verdict:
        return Verdict(allowed=True)


class Blind(Careless):
    """Also believes every look-up."""

    def verdict(self, address: object, port: int, *, host: str = "") -> Verdict:
        return Verdict(allowed=True)

    def open_socket(self, info: object, host: str) -> socket.socket:
        return Egress(ports=self._ports).open_socket(info, host)  # type: ignore[arg-type]


@pytest.mark.parametrize("careless", [Careless, Blind])
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "rebound.example", "double.example"])
async def test_the_connect_time_check_stands_alone(target: HttpTarget, careless: type[Careless], host: str) -> None:
    look_up = names(rebound_example=["127.0.0.1"], double_example=["127.0.0.1", "::1", "127.0.0.3"])
    async with executor(egress=careless(ports={target.port}), look_up=look_up) as made:
        outcome = await run(made, f"http://{host}:{target.port}/")

    assert_blocked(outcome, target)


async def test_our_own_sockets_stay_closed(target: HttpTarget) -> None:
    async with executor(egress=Egress(["127.0.0.0/8", "::1"], deny=[f"0.0.0.0:{target.port}"])) as made:
        for host in ("127.0.0.1", "127.0.0.9", "localhost", "[::1]", "[::ffff:127.0.0.1]"):
            assert_blocked(await run(made, f"http://{host}:{target.port}/"), target)


# ── what a stranger's words may not do ───────────────────────────────────────────────────────────


async def test_a_refused_target_is_refused_at_save_time_and_at_run_time(target: HttpTarget) -> None:
    """A task may have been saved before the rule was there."""
    made = HttpExecutor(Egress(), CLOCK, version="1")
    payload = HttpPayload(url=target.url())

    faults = made.check(payload)
    outcome = await run(made, payload.url)
    await made.close()

    assert "target_not_allowed" in faults[0].message
    assert_blocked(outcome, target)


@pytest.mark.parametrize("byte", [*range(0x21), 0x7F])
async def test_no_control_byte_reaches_the_wire(target: HttpTarget, byte: int) -> None:
    """The doors refuse them; should one pass, nothing is sent."""
    async with executor() as made:
        in_url = await run(made, target.url(f"/ok{chr(byte)}x"))
        if byte not in (0x09, 0x20):
            in_header = await run(made, target.url(), headers=(("X-A", f"a{chr(byte)}b"),))
            assert in_header.verdict is AttemptOutcome.FAILED
        in_name = await run(made, target.url(), headers=((f"X{chr(byte)}A", "a"),))
        in_method = await run(made, target.url(), method=f"GE{chr(byte)}T")

    for outcome in (in_url, in_name, in_method):
        assert outcome.verdict is AttemptOutcome.FAILED
    assert target.seen == []


async def test_the_wire_says_what_was_judged() -> None:
    """The client's own URL parser changes nothing: host and port are those that were read."""
    client = Client(Egress(), CLOCK)
    for url in ("http://8.8.8.8:8080/a%2f..//b?c=%20+", "http://[2606:4700::1111]/", "https://xn--bcher-kva.example/"):
        target = read_target(url)
        place = client._connector(validate=True)._place(*target.origin)
        assert (place.url.scheme, place.url.raw_host, place.url.port) == target.origin
    await client.close()
