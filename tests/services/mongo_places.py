"""Owns places for MongoDB stores in tests: one database, emptied for each; and stores that die between two commands."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from pymongo import AsyncMongoClient

from peregrine.stores.mongo.commands import COLLECTIONS, META, Change, Commands, Document, connect
from peregrine.stores.mongo.indexes import SCHEMA
from peregrine.stores.mongo.store import MongoStore
from peregrine.testing.store_contract import Died


def node_of(uri: str) -> tuple[str, int]:
    """Host and port of the first server that *uri* names."""
    node = uri.split("//", 1)[1].rsplit("@", maxsplit=1)[-1].split("/", 1)[0].split(",", maxsplit=1)[0]
    host, _, port_text = node.partition(":")
    return host, int(port_text or 27017)


class Hold:
    """Where a process freezes: before it updates (or finds) documents of a collection, after *passing* other times."""

    def __init__(self, name: str, passing: int = 0, verb: str = "update") -> None:
        self.name, self.verb = name, verb
        self.passing = passing
        self.reached = asyncio.Event()
        self.thawed = asyncio.Event()


class PlacedCommands(Commands):
    """On a client that others share; dies when it is about to send one command too many, or freezes where told."""

    left: int | None = None
    sent = 0
    hold: Hold | None = None

    async def update(self, name: str, changes: Sequence[Change], *, upsert: bool = False) -> int:
        if changes:
            await self._freeze("update", name)
        return await super().update(name, changes, upsert=upsert)

    async def find(self, name: str, filter: Mapping[str, Any], **asked: Any) -> list[Document]:
        await self._freeze("find", name)
        return await super().find(name, filter, **asked)

    async def _freeze(self, verb: str, name: str) -> None:
        hold = self.hold
        if hold is None or (verb, name) != (hold.verb, hold.name):
            return
        hold.passing -= 1
        if hold.passing < 0:
            self.hold = None
            hold.reached.set()
            await hold.thawed.wait()

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
        self.uri, self.database = uri, database
        self.client = connect(uri)
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
