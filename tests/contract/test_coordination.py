"""What coordinates the parts of one process keeps the contracts of what coordinates many."""

from __future__ import annotations

import pytest

from peregrine.coordination.clock import SystemClock
from peregrine.coordination.memory import MemoryBus, MemoryLocks
from peregrine.testing import bus_contract, lock_contract

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("check", lock_contract.LOCK_CHECKS, ids=lambda check: check.__name__)
async def test_memory_locks(check: lock_contract.Check) -> None:
    locks = MemoryLocks(SystemClock())

    await check(locks, locks)


@pytest.mark.parametrize("check", bus_contract.BUS_CHECKS, ids=lambda check: check.__name__)
async def test_memory_bus(check: bus_contract.Check) -> None:
    bus = MemoryBus()

    await check(bus, bus)
