"""Owns the connection and every command that leaves for the database; must not know any verb.

One document is written at a time, or many that have nothing to do with each other; nothing here needs a transaction.
Each write is acknowledged by a majority with its journal, each decision reads what a majority has.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Final, TypeAlias, TypeVar

import pymongo
from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo import AsyncMongoClient, IndexModel, ReadPreference, UpdateOne, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import BulkWriteError, ConfigurationError, InvalidName, InvalidURI, PyMongoError
from pymongo.read_concern import ReadConcern

from peregrine.domain.errors import BadConfiguration, Unavailable, Unsure
from peregrine.stores.mongo.errors import HALFWAY, duplicates, is_conflict, translate

Document: TypeAlias = dict[str, Any]
Change: TypeAlias = tuple[Mapping[str, Any], Mapping[str, Any]]
"""Which document, as it must be (compare), and what becomes of it (swap)."""
Result = TypeVar("Result")

SELECTION_MS: Final = 3_000
CONNECT_MS: Final = 3_000
SOCKET_MS: Final = 10_000
POOL_WAIT_MS: Final = 5_000
WRITE_CONCERN_MS: Final = 5_000
READ_MS: Final = 7_500
"""The server gives up a read after so long: whoever asks for a list waits, and the next one behind him."""
ANSWER_SECONDS: Final = 8.0
"""After so long a command is given up, repetitions by the driver included, whatever became of the line."""
PATIENCE_SECONDS: Final = 900.0
"""The same for what looks through everything: indexes of a collection that was there before us, the count of a move."""
POOL_SIZE: Final = 32
CONFLICTS_MAX: Final = 8
CONFLICT_PAUSE_SECONDS: Final = 0.005

TASKS: Final = "scheduler_tasks"
EXECUTIONS: Final = "scheduler_executions"
SKIPS: Final = "scheduler_skips"
SLOTS: Final = "scheduler_slots"
INSTANCES: Final = "scheduler_instances"
RECORDS: Final = "scheduler_records"
BUNDLES: Final = "scheduler_bundles"
META: Final = "scheduler_meta"
PROFILES: Final = "user_profiles"
AUTH_STATES: Final = "auth_states"
CHARACTERS: Final = "characters"
ALLIANCES: Final = "alliances"
CORPORATIONS: Final = "corporations"
EVE: Final = (PROFILES, AUTH_STATES, CHARACTERS, ALLIANCES, CORPORATIONS)
"""What an earlier program calls so too, and shares with us."""
COLLECTIONS: Final = (TASKS, EXECUTIONS, SKIPS, SLOTS, INSTANCES, RECORDS, BUNDLES, META, *EVE)

_CODEC: Final = CodecOptions[Document](
    datetime_conversion=DatetimeConversion.DATETIME_MS, unicode_decode_error_handler="replace"
)


def connect(uri: str) -> AsyncMongoClient[Document]:
    """A client for the deployment at *uri*; it connects when it is first used.

    Raises:  BadConfiguration when *uri* can't be read. It may hold a password, so it is not repeated.
    """
    try:
        return AsyncMongoClient(
            uri,
            appname="peregrine",
            serverSelectionTimeoutMS=SELECTION_MS,
            connectTimeoutMS=CONNECT_MS,
            socketTimeoutMS=SOCKET_MS,
            waitQueueTimeoutMS=POOL_WAIT_MS,
            maxPoolSize=POOL_SIZE,
            retryWrites=True,
            retryReads=True,
        )
    except (InvalidURI, ConfigurationError, ValueError, TypeError) as error:
        raise BadConfiguration(
            f"MONGODB_URI can't be used ({type(error).__name__}); write mongodb://host:27017/ or"
            " mongodb://user:password@host:27017/?replicaSet=name"
        ) from None


def _database(client: AsyncMongoClient[Document], name: str) -> AsyncDatabase[Document]:
    """The database of this name, with all that safety needs, whatever the address of the server says.

    Raises:  BadConfiguration.
    """
    try:
        return client.get_database(
            name,
            codec_options=_CODEC,
            read_preference=ReadPreference.PRIMARY,
            write_concern=WriteConcern(w="majority", j=True, wtimeout=WRITE_CONCERN_MS),
            read_concern=ReadConcern("majority"),
        )
    except InvalidName:
        raise BadConfiguration(
            f"MONGODB_DATABASE can't be {name!r}; write a name without blanks, dots, slashes, quotes and dollars"
        ) from None


class Commands:
    """Every command goes through ``_run``, so every fault is told in the house's words and none waits for ever."""

    def __init__(self, client: AsyncMongoClient[Document], database: str) -> None:
        self._client = client
        self._database = _database(client, database)
        self._collections: dict[str, AsyncCollection[Document]] = {
            name: self._database.get_collection(name) for name in COLLECTIONS
        }

    async def statement(self) -> None:
        """About to send one more command."""

    async def close(self) -> None:
        await self._client.close()

    # ── reads ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def find(
        self,
        name: str,
        filter: Mapping[str, Any],
        *,
        fields: Mapping[str, Any] | None = None,
        sort: Sequence[tuple[str, int]] | None = None,
        page: tuple[int, int] = (0, 0),
    ) -> list[Document]:
        """The documents that match; *page* is how many to pass over, and how many at most (0: all)."""
        skip, limit = page

        async def read() -> list[Document]:
            cursor = self._collections[name].find(
                filter, fields, sort=sort, skip=skip, limit=limit, max_time_ms=READ_MS, batch_size=limit or 1_000
            )
            async with cursor:
                return await cursor.to_list(None)

        return await self._run(read, writes=False)

    async def count(self, name: str, filter: Mapping[str, Any], most: int) -> int:
        """How many documents match, up to *most*."""
        if most < 1:
            return 0
        collection = self._collections[name]
        return await self._run(lambda: collection.count_documents(filter, limit=most, maxTimeMS=READ_MS), writes=False)

    async def count_all(self, name: str, filter: Mapping[str, Any]) -> int:
        """How many documents match, however long that takes to find out."""
        return await self._run(
            lambda: self._collections[name].count_documents(filter), writes=False, within=PATIENCE_SECONDS
        )

    async def aggregate(self, name: str, pipeline: Sequence[Mapping[str, Any]]) -> list[Document]:
        async def read() -> list[Document]:
            cursor = await self._collections[name].aggregate(list(pipeline), maxTimeMS=READ_MS)
            async with cursor:
                return await cursor.to_list(None)

        return await self._run(read, writes=False)

    async def command(self, name: str, **arguments: Any) -> Document:
        """The answer to a command about the database, or the server behind it."""
        return await self._run(lambda: self._database.command(name, **arguments), writes=False)

    # ── writes ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def insert(self, name: str, documents: Sequence[Document]) -> set[int]:
        """Insert each that can be; the places of those whose key was taken."""
        if not documents:
            return set()

        async def write() -> set[int]:
            try:
                await self._collections[name].insert_many(documents, ordered=False)
            except BulkWriteError as error:
                taken = duplicates(error)
                if taken is None:
                    raise
                return taken
            return set()

        return await self._run(write, writes=True)

    async def update(self, name: str, changes: Sequence[Change], *, upsert: bool = False) -> int:
        """Make each change whose document is as it must be; how many were.

        After a lost answer the driver sends a change again, and then finds what it made itself: fewer than all means
        that the caller looks.

        Raises:  Taken when a change would take a unique key that is taken; the other changes are made.
        """
        if not changes:
            return 0
        operations = [UpdateOne(filter, change, upsert=upsert) for filter, change in changes]

        async def write() -> int:
            result = await self._collections[name].bulk_write(operations, ordered=False)
            return result.matched_count + result.upserted_count

        return await self._run(write, writes=True)

    async def release(self, filter: Mapping[str, Any], change: Mapping[str, Any]) -> None:
        """Make one harmless *change* to all tasks that match; safe to repeat."""
        await self._run(lambda: self._collections[TASKS].update_many(filter, change), writes=True)

    async def delete(self, name: str, filter: Mapping[str, Any]) -> int:
        """Remove what matches; how many."""

        async def write() -> int:
            return (await self._collections[name].delete_many(filter)).deleted_count

        return await self._run(write, writes=True)

    # ── indexes ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def index_names(self, name: str) -> set[str]:
        """The names of the indexes that a collection has; none if there is no such collection."""

        async def read() -> set[str]:
            return set(await self._collections[name].index_information())

        return await self._run(read, writes=False)

    async def index_keys(self, name: str) -> set[tuple[str, ...]]:
        """The fields of each index that a collection has, in order, whatever it is called."""

        async def read() -> set[tuple[str, ...]]:
            found = await self._collections[name].index_information()
            return {tuple(str(field) for field, _ in index["key"]) for index in found.values()}

        return await self._run(read, writes=False)

    async def make_indexes(self, name: str, indexes: Sequence[IndexModel]) -> None:
        await self._run(lambda: self._collections[name].create_indexes(indexes), writes=True, within=PATIENCE_SECONDS)

    async def drop_index(self, name: str, index: str) -> None:
        await self._run(lambda: self._collections[name].drop_index(index), writes=True)

    async def _run(
        self, operation: Callable[[], Awaitable[Result]], *, writes: bool, within: float = ANSWER_SECONDS
    ) -> Result:
        written = _written.get()
        for tries in range(CONFLICTS_MAX):
            await self.statement()
            try:
                with pymongo.timeout(within):
                    result = await operation()
                if writes and written is not None:
                    written.append(None)
                return result
            except PyMongoError as error:
                if not is_conflict(error) or tries == CONFLICTS_MAX - 1:
                    raise translate(error, writes=writes) from error
            await pause(tries)
        raise Unavailable("the database is too busy with rival writes")


_written: ContextVar[list[None] | None] = ContextVar("written", default=None)
"""What the verb under way has written so far: one entry for each command, shared by all that it sends together."""


async def told_truly(verb: Awaitable[Result]) -> Result:
    """What *verb* gives. ``Unavailable`` says that nothing was written: behind a write of its own it is ``Unsure``."""
    written: list[None] = []
    token = _written.set(written)
    try:
        return await verb
    except Unsure:
        raise
    except Unavailable as error:
        if written:
            raise Unsure(HALFWAY) from error
        raise
    finally:
        _written.reset(token)


async def pause(tries: int) -> None:
    """Let rivals pass each other: longer each time, and never in step."""
    await asyncio.sleep(random.uniform(0.2, 1.0) * CONFLICT_PAUSE_SECONDS * (tries + 1))


Left = TypeVar("Left")
Right = TypeVar("Right")


async def both(left: Awaitable[Left], right: Awaitable[Right]) -> tuple[Left, Right]:
    """What two commands give that go out together. If one fails the other is still waited for: none is left behind."""
    one, other = await asyncio.gather(left, right, return_exceptions=True)
    if isinstance(one, BaseException):
        raise one
    if isinstance(other, BaseException):
        raise other
    return one, other
