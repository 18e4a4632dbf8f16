"""Owns places for MongoDB stores in tests: one database, emptied for each; and stores that die between two commands."""

from __future__ import annotations

import os
from contextlib import suppress

from pymongo import AsyncMongoClient

from peregrine.stores.mongo.commands import COLLECTIONS, META, Commands, Document, connect
from peregrine.stores.mongo.indexes import SCHEMA
from peregrine.stores.mongo.store import MongoStore
from peregrine.testing.store_contract import Died

URI = os.environ.get("TEST_MONGODB_URI", "mongodb://127.0.0.1:27117/?directConnection=true")


class PlacedCommands(Commands):
    """On a client that others share; dies when it is about to send one command too many."""

    left: int | None = None
    sent = 0

    async def statement(self) -> None:
        self.sent += 1
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Died

    async def close(self) -> None:
        """The client is closed by whoever shares it out."""


class PlacedStore(MongoStore):
    """A store on a client that others share."""

    def __init__(self, client: AsyncMongoClient[Document], database: str) -> None:
        self._shared = client
        super().__init__("", database)

    def _make_commands(self, uri: str, database: str) -> PlacedCommands:
        self.commands = PlacedCommands(self._shared, database)
        return self.commands


class MongoStores:
    """Gives stores on one database, which is emptied for each fresh one."""

    def __init__(self, uri: str, database: str) -> None:
        self.client = connect(uri)
        self.database = database
        self._given: list[PlacedStore] = []

    async def fresh(self) -> PlacedStore:
        store = await self.reopen()
        await self.empty(store)
        return store

    async def reopen(self) -> PlacedStore:
        store = PlacedStore(self.client, self.database)
        await store.open()
        self._given.append(store)
        return store

    async def dying(self, statements: int) -> PlacedStore:
        store = await self.reopen()
        store.commands.left = statements
        return store

    async def empty(self, store: PlacedStore) -> None:
        """Remove every document; the indexes stay."""
        for name in COLLECTIONS:
            await store.commands.delete(name, {"_id": {"$ne": SCHEMA}} if name == META else {})

    async def close(self) -> None:
        for store in self._given:
            with suppress(Died):
                await store.close()
        await self.client.close()
