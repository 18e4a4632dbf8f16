"""Owns the doors on a memory store as a process of its own, which says its address and a token; must not know tests."""

from __future__ import annotations

import socket
import sys

import uvicorn

from peregrine.testing.clock import START
from tests.api.world import World


def main() -> None:
    """Serve until a signal comes."""
    world = World()
    # The world's clock stands still at START, and so do the tokens.
    assert world.clock.now() == START
    listener = socket.create_server(("127.0.0.1", 0))
    sys.stdout.write(f"http://127.0.0.1:{listener.getsockname()[1]}\n{world.token('super_admin')}\n")
    sys.stdout.flush()
    uvicorn.Server(uvicorn.Config(world.app, lifespan="off", ws="none", log_level="error")).run(sockets=[listener])


if __name__ == "__main__":
    main()
