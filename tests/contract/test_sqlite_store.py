"""The SQLite store keeps the contract, shared by several processes and cut off between any two statements."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import apsw
import pytest

from peregrine.ports.store import Store
from peregrine.stores.sqlite.store import SqliteStore
from peregrine.testing.store_contract import (
    CRASH_CHECKS,
    SHARED_CHECKS,
    STORE_CHECKS,
    Check,
    CrashCheck,
    Died,
    SharedCheck,
)
from tests.stores.sqlite_places import is_counted, quick_folder

pytestmark = pytest.mark.anyio


class DyingStore(SqliteStore):
    """A store whose process dies ahead of a statement: from there on nothing it says reaches the file."""

    statements: int | None = None
    """How many it may still run; None: the count has not begun."""

    def _connect(self, *, reads_only: bool) -> apsw.Connection:
        if self.statements is not None and self.statements <= 0:
            raise Died
        db = super()._connect(reads_only=reads_only)
        db.exec_trace = self._before_statement
        return db

    def _before_statement(self, *_: object) -> bool:
        if self.statements is not None:
            self.statements -= 1
            if self.statements < 0:
                raise Died
        return True


class SqliteStores:
    """Each fresh store has a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._places = 0
        self._given: list[SqliteStore] = []

    @property
    def path(self) -> Path:
        return self._folder / str(self._places) / "store.db"

    async def fresh(self) -> Store:
        self._places += 1
        return await self.reopen()

    async def reopen(self) -> Store:
        return await self._opened(SqliteStore(self.path, ballast_bytes=0))

    async def dying(self, statements: int) -> Store:
        store = DyingStore(self.path, ballast_bytes=0)
        await self._opened(store)
        # A connection is made when it is first needed, and making it is no part of any verb.
        await store.ping()
        store.statements = statements
        return store

    async def close(self) -> None:
        for store in self._given:
            with suppress(Died):
                await store.close()
        assert all(is_counted(path) for path in self._folder.glob("*/store.db"))

    async def _opened(self, store: SqliteStore) -> SqliteStore:
        await store.open()
        self._given.append(store)
        return store


@pytest.fixture
async def factory() -> AsyncIterator[SqliteStores]:
    with tempfile.TemporaryDirectory(dir=quick_folder()) as folder:
        stores = SqliteStores(Path(folder))
        yield stores
        await stores.close()


@pytest.mark.parametrize("check", [*STORE_CHECKS, *SHARED_CHECKS], ids=lambda check: check.__name__)
async def test_sqlite_store(check: Check | SharedCheck, factory: SqliteStores) -> None:
    await check(factory)


@pytest.mark.parametrize("check", CRASH_CHECKS, ids=lambda check: check.__name__)
async def test_sqlite_store_cut_off(check: CrashCheck, factory: SqliteStores) -> None:
    await check(factory)
