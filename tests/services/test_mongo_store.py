"""MongoDB keeps the whole contract of the store, also when its process dies between any two commands."""

from __future__ import annotations

import pytest

from peregrine.testing.store_contract import (
    CRASH_CHECKS,
    SHARED_CHECKS,
    STORE_CHECKS,
    Check,
    CrashCheck,
    SharedCheck,
)
from tests.services.mongo_places import MongoStores

pytestmark = [pytest.mark.anyio, pytest.mark.services]


@pytest.mark.parametrize("check", [*STORE_CHECKS, *SHARED_CHECKS], ids=lambda check: check.__name__)
async def test_mongo_store(check: Check | SharedCheck, stores: MongoStores) -> None:
    await check(stores)


@pytest.mark.parametrize("check", CRASH_CHECKS, ids=lambda check: check.__name__)
async def test_mongo_store_cut_off(check: CrashCheck, stores: MongoStores) -> None:
    await check(stores)
