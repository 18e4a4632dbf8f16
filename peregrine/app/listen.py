"""Owns the listening socket, and how many files connections may take; must not know HTTP.

The socket is taken before anything else, so that a port in use costs nothing.
"""

from __future__ import annotations

import errno
import resource
import socket
from typing import Final

from peregrine.domain.errors import BadConfiguration

BACKLOG: Final = 1024
FILES_WANTED: Final = 16_384


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on *host* and *port* (0: any free one).

    Raises:  BadConfiguration with one line that says why not.
    """
    family, address = _address(host, port)
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise BadConfiguration(f"HOST={host} PORT={port}: {_reason(error)}") from None
    return listener


def _address(host: str, port: int) -> tuple[socket.AddressFamily, tuple[object, ...]]:
    """IPv4 first: what a name such as localhost means to most who call it."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise BadConfiguration(f"HOST={host}: there is no such address or host name") from None
    family, _, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    return family, address


def _reason(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "the port is in use; stop the other program, or choose another port with --port or PORT"
        case errno.EACCES:
            return "this user may not listen there; ports below 1024 need a right"
        case errno.EADDRNOTAVAIL:
            return "this machine has no such address"
        case _:
            return f"can't listen there: {error.strerror}"


def url_of(listener: socket.socket) -> str:
    """Where a program on this machine finds the service."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_loopback(listener: socket.socket) -> bool:
    """Whether only this machine can reach it."""
    host = str(listener.getsockname()[0])
    return host.startswith("127.") or host == "::1"


def raise_file_limit() -> None:
    """As many open files as this user may have, so that connections and children do not run out of them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_WANTED if hard == resource.RLIM_INFINITY else min(hard, FILES_WANTED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            pass  # a sandbox may forbid it; then there are fewer connections


def connections_within(wanted: int) -> int:
    """*wanted*, but half of the open files that this process may have at most.

    The other half is for the store, the children, and what tasks connect to: who opens connections and does nothing
    with them must not stop the work.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if soft == resource.RLIM_INFINITY else min(wanted, max(1, soft // 2))
