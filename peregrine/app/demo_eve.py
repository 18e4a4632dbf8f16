"""Owns the demonstration of the EVE tasks: the true service, a fake EVE beside it in a process of its own, a store full
of pilots, and all seven system tasks at once. Must not know what the tasks do, or how the fake judges them.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from peregrine.app.datadir import OPERATOR_TOKEN
from peregrine.app.greeting import say
from peregrine.app.keys import Keys
from peregrine.app.life import Started
from peregrine.app.serve import serve
from peregrine.app.settings import Settings, load
from peregrine.cli.client import Client, Document
from peregrine.domain.errors import BadConfiguration
from peregrine.domain.moment import MINUTE
from peregrine.ports.eve import Alliance, Character, Corporation, Profile, token_place
from peregrine.stores.sqlite.eve import SqliteEve
from peregrine.stores.sqlite.store import SqliteStore
from peregrine.vault.aes import AesVault

FAKE: Final = "peregrine.testing.fake_esi"
CLIENT_ID: Final = "fake-client"
CLIENT_SECRET: Final = "fake-secret"
LATENCY_SECONDS: Final = 0.05
BITE: Final = 5_000
LOOK_SECONDS: Final = 0.5
LONG_AGO: Final = 1_600_000_000_000
FIRST_CHARACTER: Final = 90_000_000
FIRST_CORPORATION: Final = 98_000_000
FIRST_ALLIANCE: Final = 99_000_000
"""Where the fake begins to count."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of EVE there is."""

    characters: int = 100_000
    alliances: int = 3_500
    corporations: int = 5_000
    pilots: int = 500
    """Characters with tokens that are about to end."""


def demo_eve(flags: Mapping[str, str], scale: Scale | None = None) -> int:
    """Show it, and end; 0 if every task succeeded and the fake found nothing to blame."""
    scale = scale or Scale()
    with _fake(scale) as address, tempfile.TemporaryDirectory(prefix="peregrine-demo-eve-") as folder:
        settings = {
            "SCHEDULER_DATA_DIR": folder,
            "HOST": "127.0.0.1",
            "PORT": flags.get("PORT", "0"),
            "API_PREFIX": "",
            "SCHEDULER_WORKER_COUNT": "10",
            "SCHEDULER_SHUTDOWN_GRACE": "1s",
            "LOG_LEVEL": "warning",
            "ESI_CONTACT": "demo@peregrine.example",
            "ESI_BASE_URL": address,
            "EVE_SSO_URL": address,
            "EVE_CLIENT_ID": CLIENT_ID,
            "EVE_CLIENT_SECRET": CLIENT_SECRET,
            "EVE_REDIRECT_URI": "http://127.0.0.1/auth/eve/callback",
        }
        loaded = load(settings)
        shown = EveDemonstration(loaded.settings, address, scale)
        code = serve(loaded, beside=shown.run)
        return code or (0 if shown.is_well else 1)


@contextlib.contextmanager
def _fake(scale: Scale) -> Iterator[str]:
    """The address of a fake EVE of that size, as long as the block lasts."""
    words = ["--characters", scale.characters, "--alliances", scale.alliances, "--corporations", scale.corporations,
             "--latency", LATENCY_SECONDS, "--while-stdin"]  # fmt: skip
    command = [sys.executable, "-m", FAKE, *map(str, words)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        told = process.stdout.readline().split()
        if not told:
            raise BadConfiguration(f"{FAKE}: did not start")
        yield told[-1]
    finally:
        process.terminate()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


@dataclass
class EveDemonstration:
    """Fills the store, runs the seven tasks, tells what came of them and what the fake thinks of it."""

    settings: Settings
    address: str
    scale: Scale
    is_well: bool = field(default=False, init=False)

    async def run(self, started: Started) -> None:
        """Show it once, then stop the service."""
        try:
            await self._fill(started)
            client = Client(started.url, started.data_dir.read_secret(OPERATOR_TOKEN))
            succeeded = await self._show(client)
            self.is_well = await asyncio.to_thread(self._judge) and succeeded
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    # ── the store ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _fill(self, started: Started) -> None:
        scale, began = self.scale, time.monotonic()
        say(f"A fake EVE Online listens on {self.address}.")
        store = SqliteStore(started.data_dir.store, ballast_bytes=0)
        await store.open()
        try:
            vault = AesVault(Keys(self.settings, started.data_dir))
            await _fill_characters(store.eve, range(FIRST_CHARACTER, FIRST_CHARACTER + scale.characters))
            await _fill_groups(store.eve, scale)
            tokens = await asyncio.to_thread(asked, self.address, f"/_fake/tokens?count={scale.pilots}")
            for id, token in tokens.items():
                await store.eve.put_profile(_pilot(int(id), str(token), vault), now=LONG_AGO)
        finally:
            await store.close()
        say(
            f"The store knows {scale.characters} characters, {scale.corporations} corporations, {scale.alliances // 2} "
            f"of {scale.alliances} alliances, and {len(tokens)} pilots whose tokens are about to end "
            f"({time.monotonic() - began:.0f} s).",
            "",
        )

    # ── the tasks ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _show(self, client: Client) -> bool:
        """Run all system tasks at once and tell of each as it ends; whether all succeeded."""
        found = await asyncio.to_thread(client.get, "tasks", is_system="true", page_size=100)
        waiting = {}
        for task in found["tasks"]:
            run = await asyncio.to_thread(client.post, "tasks", str(task["id"]), "execute")
            waiting[str(run["execution_id"])] = str(task["name"])
        say(f"{len(waiting)} system tasks run now; each is told of when it ends.", "")
        say(f"  {'task':<30}{'outcome':<12}{'took':>10}  result")
        outcomes = []
        while waiting:
            await asyncio.sleep(LOOK_SECONDS)
            for id in list(waiting):
                execution = await asyncio.to_thread(client.get, "executions", id)
                if "completed_at" in execution:
                    outcomes.append(str(execution.get("outcome")))
                    say(_row(waiting.pop(id), execution))
        return set(outcomes) == {"succeeded"}

    def _judge(self) -> bool:
        """Tell what the fake has seen; whether nothing of it was impolite."""
        seen = asked(self.address, "/_fake/journal")
        violations = seen["violations"]
        say(
            "",
            f"The fake counted {seen['requests']} requests, at most {seen['peak_in_flight']} at once, "
            f"{seen['refreshes']} refreshes; answers: {_counted(seen['statuses'])}.",
            "It has nothing to blame: no limit was passed, nothing was asked again before it expired, and no character "
            "had two refreshes at once."
            if not violations
            else f"It blames: {_counted(violations)}.",
            *(f"  {text}" for text in seen["first_violations"]),
        )
        return not violations


async def _fill_characters(eve: SqliteEve, ids: range) -> None:
    for start in range(0, len(ids), BITE):
        some = [Character(character_id=id, name=f"Pilot {id}") for id in ids[start : start + BITE]]
        await eve.put_characters(some, now=LONG_AGO)


async def _fill_groups(eve: SqliteEve, scale: Scale) -> None:
    ids = range(FIRST_CORPORATION, FIRST_CORPORATION + scale.corporations)
    await eve.put_corporations([Corporation(corporation_id=id, name="?", ticker="?") for id in ids], now=LONG_AGO)
    ids = range(FIRST_ALLIANCE, FIRST_ALLIANCE + scale.alliances // 2)
    await eve.put_alliances([Alliance(alliance_id=id, name="?", ticker="?") for id in ids], now=LONG_AGO)


def _pilot(id: int, token: str, vault: AesVault) -> Profile:
    return Profile(
        user_id=f"user-{id}",
        character_id=id,
        character_name=f"Pilot {id}",
        scopes=("publicData",),
        refresh_token=vault.seal(token, place=token_place(id, "refresh_token")),
        token_expiry=LONG_AGO + MINUTE,
    )


def _row(name: str, execution: Document) -> str:
    result = str(execution.get("error") or execution.get("output") or "").splitlines()[0][:200]
    return f"  {name:<30}{execution.get('outcome', '')!s:<12}{execution.get('duration', '')!s:>10}  {result}"


def _counted(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{count} × {name}" for name, count in numbers.items())


def asked(address: str, path: str) -> Any:
    """What the fake answers to whoever steers it."""
    parts = urlsplit(address)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    try:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()
