"""Every store of what is kept of EVE Online keeps its contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from peregrine.ports.eve import EveStore
from peregrine.stores.memory_eve import MemoryEve
from peregrine.stores.sqlite.store import SqliteStore
from peregrine.testing.eve_contract import EVE_CHECKS, NOW, Check, a_character, a_profile

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["memory", "sqlite"])
async def eve(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EveStore]:
    if request.param == "memory":
        yield MemoryEve()
        return
    store = SqliteStore(tmp_path / "store.db", ballast_bytes=0)
    await store.open()
    yield store.eve
    await store.close()


@pytest.mark.parametrize("check", EVE_CHECKS, ids=lambda check: check.__name__)
async def test_eve(check: Check, eve: EveStore) -> None:
    await check(eve)


async def test_what_a_file_holds_outlives_the_process(tmp_path: Path) -> None:
    versions = []
    for _ in range(2):
        store = SqliteStore(tmp_path / "store.db", ballast_bytes=0)
        await store.open()
        await store.eve.put_characters([a_character(1)], now=NOW)
        versions.append((await store.eve.put_profile(a_profile(1), now=NOW)).token_version)
        await store.close()

    assert versions == [1, 2]
