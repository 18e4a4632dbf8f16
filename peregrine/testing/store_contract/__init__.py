"""The conformance suite of the store: what ``ports/store.py`` promises, as checks that any store can be held to.

A check is a plain coroutine function that takes a factory and fails with ``AssertionError``. Which factory a store can
offer says which checks it takes:

- ``STORE_CHECKS`` need a ``StoreFactory``: every store.
- ``SHARED_CHECKS`` need a ``SharedStoreFactory``: stores that outlive their process, and that several processes share.
- ``CRASH_CHECKS`` need a ``CrashingStoreFactory``: shared stores whose process can be made to die between two
  statements; each write verb is cut off after 0, 1, 2 … of them.

A whole test file::

    class Factory:
        async def fresh(self) -> Store: ...      # an open, empty store in a new place
        async def reopen(self) -> Store: ...     # another open store on that place (shared stores)
        async def dying(self, statements: int) -> Store: ...  # … that dies after so many statements
        async def close(self) -> None: ...       # the fixture's business: close all that were given

    @pytest.fixture
    async def factory(tmp_path): ...

    @pytest.mark.parametrize("check", STORE_CHECKS + SHARED_CHECKS + CRASH_CHECKS, ids=lambda c: c.__name__)
    async def test_contract(check, factory):
        await check(factory)

A conftest beside it says ``pytest.register_assert_rewrite("peregrine.testing.store_contract")``, so that a failure
shows its values. The protocols in ``factory.py`` say exactly what each of these must do.
"""

from __future__ import annotations

from peregrine.testing.store_contract.factory import (
    Check,
    CrashCheck,
    CrashingStoreFactory,
    Died,
    SharedCheck,
    SharedStoreFactory,
    StoreFactory,
)
from peregrine.testing.store_contract.suite import CRASH_CHECKS, SHARED_CHECKS, STORE_CHECKS

__all__ = [
    "CRASH_CHECKS",
    "SHARED_CHECKS",
    "STORE_CHECKS",
    "Check",
    "CrashCheck",
    "CrashingStoreFactory",
    "Died",
    "SharedCheck",
    "SharedStoreFactory",
    "StoreFactory",
]
