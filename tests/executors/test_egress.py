"""Which addresses are reached: the decision alone, without a socket but in the one test that is about sockets."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from peregrine.executors.egress import (
    HOST_MAX,
    BadTarget,
    Blocked,
    Egress,
    class_of,
    follow,
    plain,
    read_entry,
    read_target,
)

DENIED_V4 = (
    "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 "
    "192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4"
).split()
DENIED_V6 = (
    "::/96 64:ff9b:1::/48 100::/64 2001::/23 2001:db8::/32 3fff::/20 5f00::/16 fc00::/7 fe80::/10 fec0::/10 ff00::/8"
).split()
PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450:4001::200e"]


def denied_v4() -> st.SearchStrategy[IPv4Address]:
    return st.sampled_from([IPv4Network(n) for n in DENIED_V4]).flatmap(
        lambda n: st.integers(0, n.num_addresses - 1).map(lambda i: n.network_address + i)
    )


def denied_v6() -> st.SearchStrategy[IPv6Address]:
    return st.sampled_from([IPv6Network(n) for n in DENIED_V6]).flatmap(
        lambda n: st.integers(0, n.num_addresses - 1).map(lambda i: n.network_address + i)
    )


def v4() -> st.SearchStrategy[IPv4Address]:
    return st.integers(0, 2**32 - 1).map(IPv4Address)


def carriers(inner: IPv4Address) -> list[IPv6Address]:
    """The forms in which an IPv6 socket or a translator on the way reaches *inner*."""
    number = int(inner)
    return [
        IPv6Address(int(IPv6Address("::ffff:0:0")) | number),
        IPv6Address(int(IPv6Address("64:ff9b::")) | number),
        IPv6Address(int(IPv6Address("64:ff9b:1::")) | number),
        IPv6Address(int(IPv6Address("2002::")) | number << 80),
        IPv6Address(int(IPv6Address("2002::1")) | number << 80),
    ]


# ── addresses ────────────────────────────────────────────────────────────────────────────────────


@given(denied_v4() | denied_v6())
def test_no_address_of_the_deny_list_is_reached(address: IPv4Address | IPv6Address) -> None:
    assert not Egress().verdict(address, 80).allowed
    assert not Egress().verdict(str(address), 443).allowed


@given(denied_v4())
def test_no_denied_address_is_reached_inside_another(inner: IPv4Address) -> None:
    for carrier in carriers(inner):
        assert not Egress().verdict(carrier, 80).allowed, carrier


@given(denied_v4())
def test_ipv4_compatible_addresses_are_denied_whatever_they_carry(inner: IPv4Address) -> None:
    assert not Egress().verdict(IPv6Address(int(inner)), 80).allowed
    assert not Egress().verdict(IPv6Address(int(IPv4Address("8.8.8.8"))), 80).allowed


@given(v4())
def test_a_mapped_address_is_judged_as_what_it_is(inner: IPv4Address) -> None:
    mapped = carriers(inner)[0]

    assert plain(mapped) == inner
    assert class_of(mapped) == class_of(inner)
    assert Egress().verdict(mapped, 80) == Egress().verdict(inner, 80)


@given(v4())
def test_what_the_deny_list_leaves_is_reached(address: IPv4Address) -> None:
    denied = any(address in IPv4Network(n) for n in DENIED_V4) or address == IPv4Address("168.63.129.16")

    assert Egress().verdict(address, 80).allowed is not denied


@given(st.integers(0, 2**128 - 1).map(IPv6Address), st.integers(1, 65_535))
@example(IPv6Address("64:ff9b:1:7f00:0:100::"), 80)
@example(IPv6Address("64:ff9b:1:7f00:1:0:808:808"), 80)
def test_a_verdict_is_total_and_says_why(address: IPv6Address, port: int) -> None:
    verdict = Egress().verdict(address, port)

    assert verdict.allowed is (verdict.reason == "")
    if address not in IPv6Network("2000::/3") and address not in IPv6Network("64:ff9b::/32"):
        assert address.ipv4_mapped is not None or not verdict.allowed


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("100.100.100.200", "shared address space"),
        ("192.0.0.192", "cloud metadata"),
        ("64:ff9b::7f00:1", "a NAT64 of 127.0.0.1, which is loopback"),
        ("64:ff9b:1::a9fe:a9fe", "a NAT64 of 169.254.169.254, which is link-local"),
        ("2002:7f00:1::", "a 6to4 of 127.0.0.1, which is loopback"),
        ("::127.0.0.1", "IPv4-compatible"),
        ("fec0::1", "site-local"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("::ffff:169.254.169.254", "169.254.169.254 is link-local"),
        ("fe80::1%eth0", "link-local"),
        ("::1%1", "loopback"),
        ("168.63.129.16", "metadata"),
        ("fd00:ec2::254", "unique local"),
        ("0.0.0.0", "this machine"),
        ("::", "this machine"),
        ("255.255.255.255", "reserved"),
        ("4000::1", "outside the public range"),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "Teredo"),
        ("nonsense", "no address"),
    ],
)
def test_a_refusal_names_the_kind_of_address(address: str, reason: str) -> None:
    verdict = Egress().verdict(address, 80)

    assert not verdict.allowed
    assert reason in verdict.reason


@pytest.mark.parametrize("address", [*PUBLIC, *(str(c) for c in carriers(IPv4Address("8.8.8.8"))[:4])])
def test_the_public_internet_is_reached(address: str) -> None:
    assert Egress().verdict(address, 443).allowed


# ── ports, allow list, deny list ─────────────────────────────────────────────────────────────────


@given(st.sampled_from(PUBLIC), st.integers(1, 65_535))
def test_public_addresses_have_few_open_ports(address: str, port: int) -> None:
    assert Egress().verdict(address, port).allowed is (port in {80, 443, 8080, 8443})
    assert Egress(ports={22}).verdict(address, port).allowed is (port == 22)


@given(st.integers(8, 32), v4(), v4(), st.integers(1, 65_535))
def test_an_allowed_network_opens_itself_with_every_port(
    size: int, first: IPv4Address, other: IPv4Address, port: int
) -> None:
    network = IPv4Network((first, size), strict=False)
    egress = Egress([str(network)])

    assert egress.verdict(first, port).allowed
    assert egress.verdict(carriers(first)[0], port).allowed
    if other not in network:
        assert egress.verdict(other, port) == Egress().verdict(other, port)


@pytest.mark.parametrize(
    ("allow", "opens", "leaves"),
    [
        ("127.0.0.1/32", ("127.0.0.1", 9000, ""), ("127.0.0.2", 80, "")),
        ("127.0.0.1", ("::ffff:127.0.0.1", 1, ""), ("64:ff9b::7f00:1", 80, "")),
        ("::ffff:127.0.0.0/120", ("127.0.0.9", 80, ""), ("127.0.1.9", 80, "")),
        ("127.0.0.1:9000", ("127.0.0.1", 9000, ""), ("127.0.0.1", 80, "")),
        ("[::1]:9000", ("::1", 9000, ""), ("::1", 80, "")),
        ("8.8.8.8", ("8.8.8.8", 53, ""), ("8.8.4.4", 53, "")),
        ("64:ff9b::/96", ("64:ff9b::7f00:1", 80, ""), ("127.0.0.1", 80, "")),
        ("intranet", ("10.0.0.5", 8000, "intranet"), ("10.0.0.5", 80, "elsewhere")),
        ("intranet:8000", ("10.0.0.5", 8000, "intranet"), ("10.0.0.5", 80, "intranet")),
        ("Intranet.Example.", ("fd00::5", 80, "intranet.example"), ("fd00::5", 80, "www.intranet.example")),
        ("localhost:9000", ("127.0.0.1", 9000, "localhost"), ("127.0.0.1", 9000, "")),
        ("api.example.com", ("8.8.8.8", 9443, "api.example.com"), ("8.8.8.8", 9443, "api.example.org")),
        ("bücher.example", ("10.0.0.5", 80, "xn--bcher-kva.example"), ("10.0.0.5", 80, "bucher.example")),
    ],
)
def test_an_entry_opens_what_it_names_and_nothing_else(
    allow: str, opens: tuple[str, int, str], leaves: tuple[str, int, str]
) -> None:
    egress = Egress([allow])

    assert egress.verdict(opens[0], opens[1], host=opens[2]).allowed
    assert not egress.verdict(leaves[0], leaves[1], host=leaves[2]).allowed


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "fe80::1", "224.0.0.1", "0.0.0.0", "192.0.0.192", "64:ff9b::a9fe:a9fe", "::7f00:1"]
)
def test_a_name_never_opens_what_is_no_ordinary_network(address: str) -> None:
    """A name's answers belong to whoever runs its zone."""
    assert not Egress(["intranet"]).verdict(address, 80, host="intranet").allowed
    assert Egress([address]).verdict(address, 80).allowed


@pytest.mark.parametrize(
    ("deny", "address", "port", "host"),
    [
        ("127.0.0.1:6379", "127.0.0.1", 6379, ""),
        ("127.0.0.1:6379", "::ffff:127.0.0.1", 6379, ""),
        ("127.0.0.1:6379", "127.0.0.1", 6379, "localhost"),
        ("0.0.0.0:8000", "127.0.0.1", 8000, ""),
        ("0.0.0.0:8000", "127.9.9.9", 8000, ""),
        ("0.0.0.0:8000", "::1", 8000, ""),
        ("[::]:8000", "127.0.0.1", 8000, ""),
        ("10.0.0.0/24", "10.0.0.7", 80, ""),
        ("redis.example:6379", "10.0.0.7", 6379, "redis.example"),
    ],
)
def test_what_is_ours_stays_closed_to_a_network_that_holds_it(deny: str, address: str, port: int, host: str) -> None:
    egress = Egress(["127.0.0.0/8", "::1", "10.0.0.0/8", "localhost"], deny=[deny])

    verdict = egress.verdict(address, port, host=host)

    assert "belongs to the scheduler itself" in verdict.reason
    assert egress.verdict("127.0.0.1", 9999).allowed


def test_what_is_ours_opens_to_its_very_address_and_port() -> None:
    egress = Egress(["127.0.0.1:8000"], deny=["0.0.0.0:8000"])

    assert egress.verdict("127.0.0.1", 8000).allowed
    assert not egress.verdict("127.0.0.2", 8000).allowed


@pytest.mark.parametrize(
    "text", ["10.0.0.0/33", "a b", "http://x", "x:0", "x:99999", "user@x", "2130706433", "-x", "[::1"]
)
def test_a_wrong_entry_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match=r"write for example"):
        read_entry(text)


def test_blank_entries_are_none() -> None:
    assert not Egress(["", " "]).verdict("127.0.0.1", 80).allowed


# ── URLs ─────────────────────────────────────────────────────────────────────────────────────────

NO_ADDRESS = [
    # Forms that a resolver takes for 127.0.0.1 or 0.0.0.0.
    "http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/", "http://127.1/", "http://0x7f.1/", "http://0/",
    "http://017700000001/", "http://127.0.1/", "http://127.0.0.1./", "http://0x7F.0x0.0x0.0x1/", "http://1.2.3.4.5/",
    "http://00.0.0.0/", "http://127.0.0.01/", "http://127.0.0.0x1/", "http://foo.0x7f/", "http://foo.1/",
    "http://256.1.1.1/",
    # Letters and digits that stand for others.
    "http://１２７.0.0.1/", "http://①②⑦.0.0.1/", "http://127。0。0。1/", "http://127．0．0．1/", "http://ⓛocalhost/",
    "http://ｌｏｃａｌｈｏｓｔ/", "http://ﬁle.example/", "http://straße.example/", "http://exa\u200bmple.com/",
    "http://exam\u00adple.com/", "http://example\u2024com/",
    # Names that are none.
    "http://my_host/", "http://-x.example/", "http://x-.example/", "http://a..b/", "http://.example/", "http:///x",
    "http://" + "a" * 64 + ".example/", "http://" + "a." * 127 + "ab/", "http://%31%32%37.0.0.1/",
    "http://exam%70le.com/",
    "http://[::1/", "http://[::1]x/", "http://[127.0.0.1]/", "http://[fe80::1%25eth0]/", "http://[::1%eth0]/",
    "http://[v1.a]/",
    # Another scheme, or none.
    "file:///etc/passwd", "gopher://127.0.0.1/", "ftp://x/", "dict://x:11211/", "javascript:alert(1)",
    "//example.com/",
    "example.com", "http:example.com", "http:/example.com", "", "ws://example.com/", "jar:http://x/",
    # Who is asked must not depend on who reads.
    "http://user@example.com/", "http://user:word@example.com/", "http://example.com@127.0.0.1/",
    "http://example.com\\@127.0.0.1/", "http://127.0.0.1\\.example.com/", "http://exa mple.com/",
    "http://example.com /",
    " http://example.com/", "http://example.com/\r\nX: y", "http://example.com/\x00", "http://example.com\t/",
    "http://example.com/a b", "http://example.com/\x7f", "http://example.com/\x85", "http://example.com/\u2028",
    "http://example.com/\ud800", "http://example.com:80:80/", "http://example.com:-1/", "http://example.com:0/",
    "http://example.com:65536/", "http://example.com:８０/", "http://example.com:8_0/", "http://example.com:+80/",
    "http://example.com/" + "a" * 9000,
]  # fmt: skip


@pytest.mark.parametrize("url", NO_ADDRESS)
def test_a_url_that_two_readers_could_read_in_two_ways_is_refused(url: str) -> None:
    with pytest.raises(BadTarget):
        read_target(url)
    assert Egress(["0.0.0.0/0", "::/0"]).faults_of(url)


@pytest.mark.parametrize(
    ("url", "sent", "host", "port"),
    [
        ("http://example.com", "http://example.com/", "example.com", 80),
        ("HTTPS://Example.COM:443/A?b=C#frag", "https://example.com/A?b=C", "example.com", 443),
        ("http://example.com.:8080/", "http://example.com:8080/", "example.com", 8080),
        ("http://example.com:/x", "http://example.com/x", "example.com", 80),
        ("http://example.com?q=1", "http://example.com/?q=1", "example.com", 80),
        ("http://example.com#frag", "http://example.com/", "example.com", 80),
        (
            "http://bücher.example/ä?ö=%FC",
            "http://xn--bcher-kva.example/%C3%A4?%C3%B6=%FC",
            "xn--bcher-kva.example",
            80,
        ),
        ("http://xn--bcher-kva.example/", "http://xn--bcher-kva.example/", "xn--bcher-kva.example", 80),
        ("http://[2606:4700:0::1111]:8080/", "http://[2606:4700::1111]:8080/", "2606:4700::1111", 8080),
        ("http://8.8.8.8/../a//b/;c='d'", "http://8.8.8.8/../a//b/;c='d'", "8.8.8.8", 80),
        ('http://example.com/{"a"}|^`<>', "http://example.com/%7B%22a%22%7D%7C%5E%60%3C%3E", "example.com", 80),
        ("http://123.example/", "http://123.example/", "123.example", 80),
        ("http://0x7f.example/", "http://0x7f.example/", "0x7f.example", 80),
    ],
)
def test_a_url_is_read_once_into_what_goes_on_the_wire(url: str, sent: str, host: str, port: int) -> None:
    target = read_target(url)

    assert (target.url, target.host, target.port) == (sent, host, port)
    assert Egress().faults_of(url) == ()


hosts = st.text(st.characters(codec="utf-8"), max_size=20) | st.from_regex(r"[0-9a-fx.\-]{1,20}", fullmatch=True)


@given(hosts)
@example("127.1")
@example("1e1")
def test_no_name_is_an_address_to_the_resolver(host: str) -> None:
    """What we take for a name, the C library must not take for an address."""
    try:
        target = read_target(f"http://{host}/")
    except BadTarget:
        return

    assert len(target.host) <= HOST_MAX
    if target.address is None:
        with pytest.raises(OSError, match=r".*"):
            socket.inet_aton(target.host)
    assert read_target(target.url) == target


@given(st.text())
def test_reading_is_total(text: str) -> None:
    for url in (text, f"http://{text}", f"http://example.com/{text}"):
        try:
            target = read_target(url)
        except BadTarget:
            continue
        assert target.url.isascii()
        assert read_target(target.url) == target


@pytest.mark.parametrize(
    ("url", "allow", "fault"),
    [
        ("http://127.0.0.1/", "", "127.0.0.1 is loopback"),
        ("http://127.0.0.1:9000/", "127.0.0.1/32", None),
        ("http://[::ffff:10.0.0.1]/", "", "10.0.0.1 is private"),
        ("http://localhost/", "", "loopback"),
        ("http://a.localhost/", "", "loopback"),
        ("http://localhost:9000/", "127.0.0.1/32", None),
        ("http://localhost:9000/", "localhost:9000", None),
        ("http://localhost:9000/", "::1", None),
        ("http://example.com:9000/", "", "port 9000 is not open"),
        ("http://example.com:9000/", "example.com", None),
        ("http://example.com:9000/", "example.com:9001", "port 9000 is not open"),
        ("http://example.com:9000/", "10.0.0.0/8", None),
        ("http://example.com:9000/", "10.0.0.5:9001", "port 9000 is not open"),
        ("http://10.0.0.1/", "", "SCHEDULER_EGRESS_ALLOW=10.0.0.1"),
        ("http://example.com:9000/", "", "SCHEDULER_EGRESS_ALLOW=example.com:9000"),
    ],
)
def test_a_url_is_judged_at_save_time_as_far_as_it_goes(url: str, allow: str, fault: str | None) -> None:
    """A name on an odd port waits for its address, if an address could open that port."""
    faults = Egress([allow]).faults_of(url)

    assert (faults == ()) if fault is None else (fault in faults[0])


@pytest.mark.parametrize(
    ("location", "leads_to"),
    [
        ("/b", "https://example.com:8443/b"),
        ("c?d", "https://example.com:8443/a/c?d"),
        ("../c", "https://example.com:8443/c"),
        ("?d", "https://example.com:8443/a/b?d"),
        ("#f", "https://example.com:8443/a/b?q"),
        ("//other.example/c", "https://other.example/c"),
        ("http://other.example", "http://other.example/"),
        (" /b\t", "https://example.com:8443/b"),
        ("", "https://example.com:8443/a/b?q"),
    ],
)
def test_a_redirect_is_read_against_where_it_came_from(location: str, leads_to: str) -> None:
    assert follow(read_target("https://example.com:8443/a/b?q"), location).url == leads_to


@pytest.mark.parametrize(
    "location",
    ["ht\ntp://x/", "javascript:x", "http://[::1", "http://a@b/", "/a b", "\\\\x\\y", "http://127.1/", "/\x00"],
)
def test_a_redirect_is_read_as_strictly(location: str) -> None:
    with pytest.raises(BadTarget):
        follow(read_target("https://example.com/"), location)


# ── the socket ───────────────────────────────────────────────────────────────────────────────────


def info(address: str, port: int) -> tuple[int, int, int, str, tuple[object, ...]]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port)


def test_a_socket_is_made_for_an_allowed_address_only() -> None:
    egress = Egress(["127.0.0.1"])

    egress.open_socket(info("127.0.0.1", 9000), "").close()
    with pytest.raises(Blocked, match=r"127\.0\.0\.2 is loopback"):
        egress.open_socket(info("127.0.0.2", 80), "")
    with pytest.raises(Blocked, match=r"::1 is loopback"):
        egress.open_socket(info("::1", 80), "")


def test_a_listening_socket_of_ours_is_closed_on_every_address_of_this_machine() -> None:
    """Which addresses are this machine's is asked at connect time: a list made at start would grow old."""
    own = own_address()
    if own is None:
        pytest.skip("this machine has loopback only")
    egress = Egress(["0.0.0.0/0", "::/0"], deny=["0.0.0.0:8000"])

    with pytest.raises(Blocked, match="belongs to the scheduler itself"):
        egress.open_socket(info(own, 8000), "")
    egress.open_socket(info(own, 8001), "").close()
    egress.open_socket(info("8.8.8.8", 8000), "").close()
    Egress(["0.0.0.0/0", f"{own}:8000"], deny=["0.0.0.0:8000"]).open_socket(info(own, 8000), "").close()


def own_address() -> str | None:
    """The address this machine would send from; asking sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address: str = probe.getsockname()[0]
        return None if address.startswith("127.") else address
