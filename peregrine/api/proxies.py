"""Owns whose address a request came from when proxies stand before the door; must not know what is asked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

HOUSEHOLDS_MAX: Final = 1024
"""Addresses whose household need not be worked out again; most requests come from few."""

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

_WITH_PORT = re.compile(r"\[([^\]]*)\](?::\d+)?|(\d+\.\d+\.\d+\.\d+):\d+", re.ASCII)


class Proxies:
    """Those whose word about a client's address is believed; everybody else may write what they like."""

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        self._trusted: Sequence[Network] = tuple(ip_network(text) for text in trusted)

    def client_of(self, peer: str, forwarded: Sequence[str]) -> str:
        """The address of the client: *peer*, or, as far as every hop on the way is trusted, who it says it speaks for.

        *forwarded* are the values of ``X-Forwarded-For``. Each proxy adds the one it speaks for at the end, so they are
        read from there; what stands before the first one that is not trusted is anybody's invention.
        """
        if not self._trusted or not forwarded:
            return peer
        client = peer
        for hop in reversed(",".join(forwarded).split(",")):
            if not self._is_trusted(client):
                break
            address = _read(hop)
            if address is None:
                break
            client = str(address)
        return client

    def _is_trusted(self, text: str) -> bool:
        address = _read(text)
        return address is not None and any(address in network for network in self._trusted)


@lru_cache(HOUSEHOLDS_MAX)
def household(address: str) -> str:
    """Whom *address* belongs to, as far as can be told: of IPv6 everybody has a /64, 2^64 addresses to ask from."""
    read = _read(address)
    return str(ip_network((read, 64), strict=False)) if isinstance(read, IPv6Address) else address


def _read(text: str) -> Address | None:
    """The address in *text*, a port cut off; one of IPv4 inside IPv6 is the former."""
    text = text.strip()
    if found := _WITH_PORT.fullmatch(text):
        text = found[1] or found[2]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
