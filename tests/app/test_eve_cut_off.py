"""EVE's tasks in true processes: two at once, killed in the middle, keys turned; tokens stay whole and hidden."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from peregrine.app.datadir import DataDir
from peregrine.app.keys import Keys
from peregrine.app.settings import load
from peregrine.coordination.clock import SystemClock, SystemEntropy
from peregrine.domain.moment import HOUR
from peregrine.modules.esi.client import HttpClient, Visitor
from peregrine.modules.esi.shelf import ANSWERS
from peregrine.modules.esi.sso import SsoClient, SsoSettings
from peregrine.modules.esi.throttle import Limits
from peregrine.modules.esi.tokens import Refresher
from peregrine.modules.esi.turnstile import Turnstile
from peregrine.ports.eve import IN_DOUBT, Corporation, Profile, token_place
from peregrine.stores.sqlite.store import SqliteStore
from peregrine.testing.eve_contract import a_character, a_profile
from peregrine.testing.fake_esi.world import FIRST_CHARACTER, FIRST_CORPORATION
from peregrine.vault.aes import AesVault
from tests.app.process import Running, done, serving
from tests.app.test_eve import a_fake_eve, asked, configured, run
from tests.app.test_serve import ended, eventually

PILOTS = range(FIRST_CHARACTER, FIRST_CHARACTER + 40)


class Place:
    """A data directory, its keys, and its store as another process would open it."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = DataDir(folder / "data")
        self.data_dir.prepare()

    def vault(self) -> AesVault:
        return AesVault(Keys(load({}).settings, self.data_dir))

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[SqliteStore]:
        store = SqliteStore(self.data_dir.store, ballast_bytes=0)
        await store.open()
        try:
            yield store
        finally:
            await store.close()

    async def fill(self, tokens: dict[str, str], *, corporations: int = 0) -> None:
        """A pilot for each token, about to end; and corporations that nothing is known of."""
        vault = self.vault()
        async with self.opened() as store:
            for text, token in tokens.items():
                id = int(text)
                sealed = vault.seal(token, place=token_place(id, "refresh_token"))
                access = vault.seal(f"access of {id}", place=token_place(id, "access_token"))
                profile = a_profile(id, refresh_token=sealed, access_token=access, character_owner_hash="")
                await store.eve.put_profile(profile, now=1)
            await store.eve.put_characters([a_character(int(id), corporation_id=0) for id in tokens], now=1)
            ids = range(FIRST_CORPORATION, FIRST_CORPORATION + corporations)
            await store.eve.put_corporations([Corporation(corporation_id=id, name="", ticker="") for id in ids], now=1)

    async def kept_answers(self) -> list[str]:
        """The paths of ESI whose answers lie in the store."""
        async with self.opened() as store:
            records = await store.list_records(ANSWERS, limit=10_000, now=SystemClock().now())
            return ["/" + record.key.partition("/")[2] for record in records]

    async def pilots(self) -> dict[int, tuple[Profile, str]]:
        """Each pilot's profile, and the refresh token in plain words."""
        vault, found = self.vault(), {}
        async with self.opened() as store:
            for id in PILOTS:
                profile = await store.eve.profile_of(id)
                if profile is not None:
                    found[id] = (profile, vault.open(profile.refresh_token, place=token_place(id, "refresh_token")))
        return found


@pytest.mark.anyio
async def test_two_stores_on_one_file_refresh_each_token_once(tmp_path: Path) -> None:
    """Each with a client of its own, over true connections."""

    class Long:
        """An attempt that has an hour."""

        deadline = SystemClock().monotonic() + HOUR
        claim, worker_id = None, "w"

        def log(self, line: str) -> None: ...
        def progress(self, fraction: float, text: str = "") -> None: ...

    place, clock = Place(tmp_path), SystemClock()
    with a_fake_eve("--latency", "0.02") as address:
        tokens = asked(address, f"/_fake/tokens?count={len(PILOTS)}")
        await place.fill(tokens)

        async def instance() -> tuple[int, int]:
            http = HttpClient(Visitor(version="1", contact="tests@peregrine.example"))
            turnstile = Turnstile("sso", Limits(downtime=False), clock, SystemEntropy())
            settings = SsoSettings(client_id="fake-client", client_secret="fake-secret", address=address)
            async with place.opened() as store:
                sso = SsoClient(http, turnstile, clock, settings)
                refresher = Refresher(sso, store.eve, place.vault(), clock, SystemEntropy())
                try:
                    context: Any = Long()
                    return await refresher.refresh_expiring_tokens(context, 10)
                finally:
                    await refresher.close()
                    await http.close()

        results = await asyncio.gather(instance(), instance())
        journal = asked(address, "/_fake/journal")
        newest = asked(address, f"/_fake/tokens?count={len(PILOTS)}")

    assert (sum(good for good, _ in results), sum(bad for _, bad in results)) == (len(PILOTS), 0)
    assert (journal["refreshes"], journal["violations"]) == (len(PILOTS), {})
    assert {str(id): token for id, (_, token) in (await place.pilots()).items()} == newest


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_killed_in_the_middle_the_next_process_finds_all_true(tmp_path: Path) -> None:
    """Tokens that were asked for and not stored are in doubt, and no others; corporations and characters are whole.

    Asked for again early is what ESI had answered and nobody had stored, each once, and nothing else: decision 0140.
    """
    place = Place(tmp_path)
    words = ("--latency", "0.15", "--corporations", "300")
    with a_fake_eve(*words) as address:
        asyncio.run(place.fill(asked(address, f"/_fake/tokens?count={len(PILOTS)}"), corporations=300))
        settings = configured(address, SCHEDULER_LEASE="3s", SCHEDULER_HEARTBEAT="1s")
        with serving(tmp_path, **settings) as service:
            for task in ("token-refresh", "corporation-update", "character-affiliation-update"):
                service.client.post("tasks", f"system-{task}", "execute")
            assert eventually(lambda: int(asked(address, "/_fake/journal")["refreshes"]) >= 15, True)
            service.process.send_signal(signal.SIGKILL)
            service.process.wait()
        kept = asyncio.run(place.kept_answers())

        with serving(tmp_path, **settings) as service:
            all_ended(service)
            outcomes = {task: run(service, f"system-{task}") for task in ("token-refresh", "corporation-update")}
        journal = asked(address, "/_fake/journal")
        newest = asked(address, f"/_fake/tokens?count={len(PILOTS)}")

    assert {one["outcome"] for one in outcomes.values()} == {"succeeded"}
    assert set(journal["violations"]) <= {"spent_token", "early"}, journal["first_violations"]
    early = [text.split()[1] for text in journal["first_violations"] if text.startswith("early: ")]
    assert len(early) == len(set(early)) <= Limits().flights
    assert set(early).isdisjoint(kept), early
    lost = 0
    for id, (profile, token) in asyncio.run(place.pilots()).items():
        assert profile.refresh_owner is None
        if profile.valid:
            assert token == newest[str(id)]
        else:
            lost += 1
            assert profile.invalid_reason == IN_DOUBT
    assert lost <= 10  # no more than were in the air

    async def names() -> set[str]:
        async with place.opened() as store:
            ids = await store.eve.corporation_ids(after=FIRST_CORPORATION - 1, limit=1000)
            return {one.name for one in await store.eve.corporations_of(ids)}

    assert "" not in asyncio.run(names())


def all_ended(service: Running) -> None:
    """Wait for what the killed process had begun, and this one took over."""
    for one in service.client.get("executions", page_size=100)["executions"]:
        for _ in range(12):
            try:
                ended(service.client, str(one["id"]))
                break
            except AssertionError:
                continue


def test_turned_keys_seal_tokens_anew_and_no_file_shows_one(tmp_path: Path) -> None:
    place = Place(tmp_path)
    tokens = {str(id): f"c4n4ry-{id}" for id in PILOTS}
    with serving(tmp_path):
        pass
    asyncio.run(place.fill(tokens))
    before = place.vault().key_id

    result = done("keys", "rotate", cwd=tmp_path)

    assert result.returncode == 0, result.stderr
    assert f"the tokens of {len(PILOTS)} pilots were sealed anew" in result.stdout + result.stderr
    found = asyncio.run(place.pilots())
    assert {str(id): token for id, (_, token) in found.items()} == tokens
    assert all(before not in profile.refresh_token + profile.access_token for profile, _ in found.values())
    files = [file for file in (tmp_path / "data").rglob("*") if file.is_file()]
    assert [file.name for file in files if b"c4n4ry" in file.read_bytes() or b"access of" in file.read_bytes()] == []
