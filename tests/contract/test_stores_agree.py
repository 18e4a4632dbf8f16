"""Every store tells the same story: what the reference answers to a scheduler gone mad, the others answer too."""

from __future__ import annotations

from pathlib import Path

import pytest

from peregrine.stores.memory import MemoryStore
from peregrine.stores.sqlite.store import SqliteStore
from peregrine.testing.store_contract.story import tell

pytestmark = pytest.mark.anyio

STEPS = 120


@pytest.mark.parametrize("seed", range(101, 104))
async def test_sqlite_tells_what_memory_tells(seed: int, tmp_path: Path) -> None:
    expected = await tell(MemoryStore(), seed, STEPS)
    store = SqliteStore(tmp_path / "store.db", ballast_bytes=0)
    await store.open()

    answers = await tell(store, seed, STEPS)

    await store.close()
    assert answers == expected
