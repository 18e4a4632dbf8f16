"""``python -m peregrine.testing.fake_esi``: an EVE to try things on, until it is interrupted."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import Sequence

from peregrine.domain.moment import MINUTE
from peregrine.testing.fake_esi.fake import FakeEsi
from peregrine.testing.fake_esi.server import WallClock, serve
from peregrine.testing.fake_esi.sso import Application, Rotation
from peregrine.testing.fake_esi.world import Size, World


def parsed(words: Sequence[str] | None = None) -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = argparse.ArgumentParser(prog="python -m peregrine.testing.fake_esi", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: a free one; the first line printed says which")
    parser.add_argument("--characters", type=int, default=1000)
    parser.add_argument("--alliances", type=int, default=35)
    parser.add_argument("--corporations", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds that each answer takes")
    parser.add_argument("--client-id", default=Application().id)
    parser.add_argument("--client-secret", default=Application().secret, help="empty: a client with PKCE only")
    parser.add_argument("--rotation", choices=[str(rotation) for rotation in Rotation], default=str(Rotation.STRICT))
    parser.add_argument("--downtime", type=int, default=0, help="minutes of downtime at 11:00 UTC")
    parser.add_argument(
        "--while-stdin", action="store_true", help="end with standard input: so with whoever holds the other end of it"
    )
    return parser.parse_args(words)


def made(asked: argparse.Namespace) -> FakeEsi:
    """The fake that was asked for."""
    size = Size(characters=asked.characters, alliances=asked.alliances, corporations=asked.corporations)
    application = Application(id=asked.client_id, secret=asked.client_secret)
    fake = FakeEsi(WallClock(), World(size, seed=asked.seed), application=application, latency=asked.latency)
    fake.sso.rotation = Rotation(asked.rotation)
    fake.daily_downtime = asked.downtime * MINUTE
    return fake


async def run(asked: argparse.Namespace) -> None:
    """Serve until SIGINT or SIGTERM, or the end of standard input where that was asked for."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, ended.set)
    if asked.while_stdin:
        loop.add_reader(sys.stdin.fileno(), ended.set)  # nobody writes to it: what there is to read is its end
    async with serve(made(asked), host=asked.host, port=asked.port) as served:
        sys.stdout.write(f"listening on {served.address}\n")
        sys.stdout.flush()
        await ended.wait()


if __name__ == "__main__":
    asyncio.run(run(parsed()))
