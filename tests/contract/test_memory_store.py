"""The reference store keeps the contract that it is the reference for."""

from __future__ import annotations

import pytest

from peregrine.ports.store import Store
from peregrine.stores.memory import MemoryStore
from peregrine.testing.store_contract import STORE_CHECKS, Check

pytestmark = pytest.mark.anyio


class MemoryStores:
    """What a memory store holds ends with it, so it can be neither reopened nor shared."""

    async def fresh(self) -> Store:
        store = MemoryStore()
        await store.open()
        return store


@pytest.mark.parametrize("check", STORE_CHECKS, ids=lambda check: check.__name__)
async def test_memory_store(check: Check) -> None:
    await check(MemoryStores())
