"""Owns which addresses an outgoing request may reach; must not know requests, look-ups or any HTTP client.

Three looks at one target, each cheaper to fool than the next:

1. ``read_target`` reads a URL once, strictly. What a resolver would take for an address although nobody wrote one
   (``2130706433``, ``0x7f.1``, full-width digits) is no host here.
2. ``Egress.faults_of`` judges at save time what a URL already says: scheme, port, literal address.
3. ``Egress.open_socket`` judges the very address that is about to be connected to, at the moment it is. This is
   the one that holds: names change their answers, the first two only speak earlier and clearer.

The deny list is our own, not ``is_private`` or ``is_global``: those call a NAT64 of 127.0.0.1 global, and their
answer changes with the Python that asks.
"""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias
from urllib.parse import quote, urljoin

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network
AddressInfo: TypeAlias = tuple[int, int, int, str, tuple[object, ...]]
"""As ``getaddrinfo`` gives it: family, type, protocol, canonical name, socket address."""

SETTING: Final = "SCHEDULER_EGRESS_ALLOW"
PORTS: Final = frozenset({80, 443, 8080, 8443})
"""Ports open on the public internet; an allow-list entry opens others for its own target."""
URL_MAX: Final = 8192
HOST_MAX: Final = 253

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class BadTarget(ValueError):
    """The URL is not one that may be asked; the text says why and never repeats the URL."""


class Blocked(OSError):
    """The address may not be connected to; ``reason`` says why. An OSError, so that clients let it pass."""

    def __init__(self, reason: str) -> None:
        super().__init__(errno.EACCES, reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an address may be reached; if not, ``reason`` says why (``10.0.0.1 is private``) and what would help."""

    allowed: bool
    reason: str = ""


_ALLOWED: Final = Verdict(allowed=True)


def _refused(reason: str, *, remedy: str = "") -> Verdict:
    help_line = f"; an operator can allow it with {SETTING}={remedy}" if remedy else ""
    return Verdict(allowed=False, reason=reason + help_line)


# ── the deny list ────────────────────────────────────────────────────────────────────────────────

_PRIVATE: Final = "private"
_LOOPBACK: Final = "loopback (this machine)"
_LINK_LOCAL: Final = "link-local (cloud metadata lives there)"
_METADATA: Final = "a cloud's metadata service"
_DOCUMENTATION: Final = "reserved for documentation"
_MULTICAST: Final = "multicast"
_SHARED: Final = "shared address space (carrier NAT, cloud metadata)"
_UNIQUE_LOCAL: Final = "unique local (private)"
_RESERVED: Final = "reserved"

_DENIED_V4: Final = tuple(
    (IPv4Network(network), word)
    for network, word in (
        ("0.0.0.0/8", "this network (this machine)"),
        ("10.0.0.0/8", _PRIVATE),
        ("100.64.0.0/10", _SHARED),
        ("127.0.0.0/8", _LOOPBACK),
        ("168.63.129.16/32", _METADATA),
        ("169.254.0.0/16", _LINK_LOCAL),
        ("172.16.0.0/12", _PRIVATE),
        ("192.0.0.0/24", "reserved for protocols (cloud metadata lives there)"),
        ("192.0.2.0/24", _DOCUMENTATION),
        ("192.88.99.0/24", "a 6to4 relay"),
        ("192.168.0.0/16", _PRIVATE),
        ("198.18.0.0/15", "reserved for benchmarks"),
        ("198.51.100.0/24", _DOCUMENTATION),
        ("203.0.113.0/24", _DOCUMENTATION),
        ("224.0.0.0/4", _MULTICAST),
        ("240.0.0.0/4", _RESERVED),
    )
)
_DENIED_V6: Final = tuple(
    (IPv6Network(network), word)
    for network, word in (
        ("::1/128", _LOOPBACK),
        ("::/128", "unspecified (this machine)"),
        ("::/96", "IPv4-compatible, long out of use"),
        ("64:ff9b:1::/48", "a local NAT64"),
        ("100::/64", "a discard address"),
        ("2001::/23", "reserved for protocols (Teredo and others)"),
        ("2001:db8::/32", _DOCUMENTATION),
        ("3fff::/20", _DOCUMENTATION),
        ("5f00::/16", "a segment routing address"),
        ("fc00::/7", _UNIQUE_LOCAL),
        ("fe80::/10", _LINK_LOCAL),
        ("fec0::/10", "site-local (private)"),
        ("ff00::/8", _MULTICAST),
    )
)
# What an allow-listed *name* opens when it resolves there. The rest (metadata, multicast …) opens by address only:
# a name's answers belong to whoever runs its zone.
_OPEN_TO_NAMES: Final = frozenset({_PRIVATE, _LOOPBACK, _SHARED, _UNIQUE_LOCAL})

# Addresses that carry another one: the inner one decides as well.
_NAT64: Final = IPv6Network("64:ff9b::/96")
_NAT64_LOCAL: Final = IPv6Network("64:ff9b:1::/96")
_SIX_TO_FOUR: Final = IPv6Network("2002::/16")
_UNICAST: Final = IPv6Network("2000::/3")
"""All that was ever given out for the public internet; what lies outside and is not known above is denied too."""


def plain(address: str | Address) -> Address:
    """*address* without zone id; an IPv4-mapped one as the IPv4 address it is.

    Raises:  ValueError for a text that is no address.
    """
    found = ip_address(address.partition("%")[0]) if isinstance(address, str) else address
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped is not None:
            return found.ipv4_mapped
        return IPv6Address(int(found)) if found.scope_id else found
    return found


def class_of(address: Address) -> str:
    """What kind of address that is denied by default it is, in words; empty for a public one."""
    address = plain(address)
    if isinstance(address, IPv4Address):
        return next((word for network, word in _DENIED_V4 if address in network), "")
    inner, how = _carried(address)
    if inner is not None:
        word = class_of(inner)
        return f"a {how} of {inner}, which is {word}" if word else ""
    outside = "" if address in _UNICAST else "outside the public range"
    return next((word for network, word in _DENIED_V6 if address in network), outside)


def _carried(address: IPv6Address) -> tuple[IPv4Address | None, str]:
    """The IPv4 address that a translator or tunnel would reach, and by which."""
    if address in _NAT64 or address in _NAT64_LOCAL:
        return IPv4Address(int(address) & 0xFFFF_FFFF), "NAT64"
    if address in _SIX_TO_FOUR:
        return IPv4Address(int(address) >> 80 & 0xFFFF_FFFF), "6to4"
    return None, ""


# ── reading a URL ────────────────────────────────────────────────────────────────────────────────

# Nothing that one parser may skip and another keep: controls, blanks of any script, backslash, lone surrogates.
_UNCLEAN = re.compile(r"[\x00-\x20\x7f-\xa0\\\s\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\ud800-\udfff]")
_PARTS = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):(?://([^/?#]*))?([^#]*)(?:#.*)?", re.DOTALL)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")
_QUAD = re.compile(r"(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}", re.ASCII)
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*", re.ASCII)
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9\-]{0,61}[a-z0-9])?", re.ASCII)
_SAFE = "%/:?[]@!$&'()*+,;=-._~"


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that was read: lower-case ASCII host (IPv6 without brackets), port always said, path and query encoded."""

    scheme: str
    host: str
    port: int
    path: str
    """Path and query as they go on the wire; never empty. A fragment is never sent."""

    @property
    def address(self) -> Address | None:
        """The host, if it is a literal address."""
        return _literal(self.host)

    @property
    def origin(self) -> tuple[str, str, int]:
        return self.scheme, self.host, self.port

    @property
    def place(self) -> str:
        """``host:port`` for a reader."""
        return _place(self.host, self.port)

    @property
    def authority(self) -> str:
        """Host and port as a URL and the header ``Host`` write them: the port only if it isn't the scheme's own."""
        if self.port != _DEFAULT_PORTS[self.scheme]:
            return self.place
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


def _literal(host: str) -> Address | None:
    """The address that *host*, as it was read, is; None for a name."""
    return ip_address(host) if ":" in host or _QUAD.fullmatch(host) else None


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@lru_cache(maxsize=1024)
def read_target(url: str) -> Target:
    """The target that *url* names, read as strictly as nothing behind us does.

    Raises:  BadTarget.
    """
    if len(url) > URL_MAX:
        raise BadTarget(f"the address is longer than {URL_MAX} characters")
    if _UNCLEAN.search(url):
        raise BadTarget("the address holds blanks, backslashes or control characters")
    match = _PARTS.fullmatch(url)
    scheme = match[1].lower() if match else ""
    if match is None or scheme not in _DEFAULT_PORTS:
        raise BadTarget("only http:// and https:// addresses can be asked")
    authority, rest = match[2], match[3]
    if not authority:
        raise BadTarget("the address names no host")
    if "@" in authority:
        raise BadTarget("the address holds a user name or password; send an Authorization header instead")
    written, port = _split_port(authority, _DEFAULT_PORTS[scheme])
    host, _ = _read_host(written)
    path = quote(rest if rest.startswith("/") else f"/{rest}", safe=_SAFE)
    return Target(scheme, host, port, path)


def follow(base: Target, location: str) -> Target:
    """The target that a redirect from *base* leads to.

    Raises:  BadTarget.
    """
    location = location.strip(" \t")
    if len(location) > URL_MAX or _UNCLEAN.search(location):
        raise BadTarget("the redirect's address is too long or holds blanks, backslashes or control characters")
    # Joining is lenient with a scheme that no host follows ("http:x"); reading is not.
    if _SCHEME.match(location):
        return read_target(location)
    try:
        return read_target(urljoin(base.url, location))
    except ValueError as error:
        raise BadTarget(str(error)) from None


def _split_port(authority: str, default: int) -> tuple[str, int]:
    bracket = authority.rfind("]")
    host, _, digits = authority[bracket + 1 :].partition(":")
    if bracket >= 0 and host:
        raise BadTarget("the host is not an address in brackets")
    host = authority[: bracket + 1] + host
    if not digits:
        return host, default
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 5 and 1 <= int(digits) <= 65_535):
        raise BadTarget("the port is not a number from 1 to 65535")
    return host, int(digits)


def _read_host(written: str) -> tuple[str, Address | None]:
    """The canonical host, and the address if it is one."""
    if written.startswith("["):
        return _read_v6(written)
    name = _ascii_name(written)
    labels = name.split(".")
    if len(name) > HOST_MAX or not all(map(_LABEL.fullmatch, labels)):
        raise BadTarget("the host is no name of letters, digits and hyphens")
    if not _NUMBER.fullmatch(labels[-1]):
        return name, None
    # Resolvers read a last label that is a number as an address, in octal, hex and shorter forms too.
    if not _QUAD.fullmatch(name) or written.endswith("."):
        raise BadTarget("the host looks like an address in a form other than four decimal numbers")
    return name, IPv4Address(name)


def _read_v6(written: str) -> tuple[str, Address]:
    if "%" in written:
        raise BadTarget("an address with a zone reaches only this machine's own links")
    try:
        address = IPv6Address(written.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise BadTarget("the host in brackets is no IPv6 address") from None
    return str(address), address


def _ascii_name(written: str) -> str:
    """The host in lower-case ASCII, without a final dot. Other scripts go through IDNA and must come back the same.

    What does not come back stood for something else: full-width and circled digits, ligatures, invisible characters.
    """
    name = written.lower().removesuffix(".")
    if name.isascii():
        return name
    try:
        encoded = name.encode("idna").decode("ascii") if len(name) <= HOST_MAX else ""
        comes_back = encoded.encode("ascii").decode("idna") == name
    except UnicodeError:
        encoded, comes_back = "", False
    if not comes_back:
        raise BadTarget("the host name has characters that names can't hold; write its xn-- form")
    return encoded


# ── the allow list and the decision ──────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Entry:
    """One target that an operator named: a network (an address is one of size 1) or a host; maybe one port only."""

    network: Network | None
    host: str
    port: int | None

    @property
    def is_exact(self) -> bool:
        """Names one address and its port."""
        return self.network is not None and self.network.num_addresses == 1 and self.port is not None

    @property
    def is_wildcard(self) -> bool:
        """The way a listening socket says *every address of this machine*."""
        return self.is_exact and self.network is not None and self.network.network_address.is_unspecified

    def covers_port(self, port: int) -> bool:
        return self.port is None or self.port == port

    def covers_host(self, host: str, port: int) -> bool:
        return bool(self.host) and self.host == host and self.covers_port(port)

    def covers(self, address: Address, port: int) -> bool:
        """Whether *address* (plain) with *port* is meant; a host never covers an address."""
        return self.network is not None and self.covers_port(port) and address in self.network


def read_entry(text: str) -> Entry:
    """The entry that *text* writes: ``10.0.0.0/8``, ``10.0.0.5``, ``[::1]:9000``, ``intranet``, ``localhost:9000``.

    Raises:  ValueError with a sentence that names *text* and how to write it.
    """
    text = text.strip()
    try:
        return Entry(_network(text), "", None)
    except ValueError:
        pass
    try:
        written, port = _split_port(text, 0)
        host, address = _read_host(written)
    except BadTarget as error:
        raise ValueError(f"{text!r} is no address, network or host ({error}); write for example 10.0.0.5") from None
    return Entry(_network(str(address)) if address is not None else None, "" if address else host, port or None)


def _network(text: str) -> Network:
    network = ip_network(text, strict=False)
    if isinstance(network, IPv6Network) and network.prefixlen >= 96 and network.network_address.ipv4_mapped is not None:
        return IPv4Network((network.network_address.ipv4_mapped, network.prefixlen - 96))
    return network


class Egress:
    """Decides which addresses may be reached. Immutable; one for the whole process.

    *allow*: what an operator opens besides the public internet (``SCHEDULER_EGRESS_ALLOW``). An entry without port
    opens every port of its target.
    *deny*: what stays closed even so: our own listening sockets, Redis, MongoDB (``127.0.0.1:6379``;
    ``0.0.0.0:8000`` is every address of this machine). Only an allow entry that names the very address *and* port
    reopens one: that is not written by accident, a network that happens to hold it is.
    """

    def __init__(self, allow: Iterable[str] = (), *, deny: Iterable[str] = (), ports: Iterable[int] = PORTS) -> None:
        self._allow = tuple(read_entry(text) for text in allow if text.strip())
        self._deny = tuple(read_entry(text) for text in deny if text.strip())
        self._ports = frozenset(ports)
        self._foreseen = lru_cache(maxsize=4096)(self._foresee)
        self._own_ports = frozenset(entry.port for entry in self._deny if entry.is_wildcard)

    def verdict(self, address: str | Address, port: int, *, host: str = "") -> Verdict:
        """Whether *address* with *port* may be connected to, for a URL that named *host* (empty: the address itself).

        Shape:   pure; a refusal has a reason for a reader.
        """
        try:
            found = plain(address)
        except ValueError:
            return _refused("the look-up gave something that is no address")
        if self._is_reserved(found, port, host):
            return _refused(f"{found} port {port} belongs to the scheduler itself", remedy=f"{found}:{port}")
        if self._opens_address(found, port):
            return _ALLOWED
        word = class_of(found)
        if self._opens_name(host, port) and (not word or word in _OPEN_TO_NAMES):
            return _ALLOWED
        if word:
            return _refused(f"{found} is {word}", remedy=str(found))
        return _ALLOWED if port in self._ports else self._closed(host or str(found), port)

    def faults_of(self, url: str) -> Sequence[str]:
        """What is wrong with *url* as far as it can be told without a look-up; empty: nothing yet."""
        try:
            target = read_target(url)
        except BadTarget as error:
            return (str(error),)
        verdict = self.foresee(target)
        return () if verdict.allowed else (verdict.reason,)

    def foresee(self, target: Target) -> Verdict:
        """The verdict as far as it can be told without a look-up: a name is judged by its port alone."""
        return self._foreseen(target.host, target.port)

    def _foresee(self, host: str, port: int) -> Verdict:
        address = _literal(host)
        if address is not None:
            return self.verdict(address, port, host=host)
        if host == "localhost" or host.endswith(".localhost"):
            verdicts = [self.verdict(own, port, host=host) for own in ("::1", "127.0.0.1")]
            return next((verdict for verdict in verdicts if verdict.allowed), verdicts[-1])
        if any(entry.covers_host(host, port) for entry in self._deny):
            return _refused(f"{_place(host, port)} belongs to the scheduler itself")
        may_open = self._opens_name(host, port) or any(
            entry.network is not None and entry.covers_port(port) for entry in self._allow
        )
        if port in self._ports or may_open:
            return _ALLOWED
        return self._closed(host, port)

    def open_socket(self, info: AddressInfo, host: str) -> socket.socket:
        """A socket for the address in *info*, which a URL that named *host* leads to.

        Raises:  Blocked; then no socket was made.
        """
        family, kind, protocol, _, address = info
        text, port = str(address[0]), int(str(address[1]))
        verdict = self.verdict(text, port, host=host)
        if not verdict.allowed:
            raise Blocked(verdict.reason)
        if port in self._own_ports and _is_own(family, text) and not self._names_exactly(plain(text), port):
            raise Blocked(f"{text} port {port} belongs to the scheduler itself")
        return socket.socket(family=family, type=kind, proto=protocol)

    def _is_reserved(self, address: Address, port: int, host: str) -> bool:
        reserved = (address.is_loopback and port in self._own_ports) or any(
            entry.covers(address, port) or entry.covers_host(host, port) for entry in self._deny
        )
        return reserved and not self._names_exactly(address, port)

    def _names_exactly(self, address: Address, port: int) -> bool:
        return any(entry.is_exact and entry.covers(address, port) for entry in self._allow)

    def _opens_address(self, address: Address, port: int) -> bool:
        return any(entry.covers(address, port) for entry in self._allow)

    def _opens_name(self, host: str, port: int) -> bool:
        return any(entry.covers_host(host, port) for entry in self._allow)

    def _closed(self, host: str, port: int) -> Verdict:
        is_open = f"open are {', '.join(map(str, sorted(self._ports)))}"
        return _refused(f"port {port} is not open ({is_open})", remedy=_place(host, port))


def _is_own(family: int, address: str) -> bool:
    """Whether *address* is one of this machine's: only then can a socket be bound to it."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
