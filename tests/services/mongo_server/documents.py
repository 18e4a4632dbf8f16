"""Owns the commands that reach the database, each one SQL function of the extension; must not know the wire.

The functions take and give whole BSON documents, so nearly nothing is translated.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import asyncpg
import bson

from tests.services.mongo_server import codes

Connection: TypeAlias = Any
"""A connection of asyncpg's pool, which has no types."""

TRIES_MAX: Final = 20
_EMPTY: Final = len(bson.encode({}))
"""No job was begun: the index was made at once, since there was nothing to look through."""
CONNECTIONS_MAX: Final = 24

_WRITES: Final = {
    "insert": "SELECT p_result FROM documentdb_api.insert($1, $2, $3, NULL)",
    "update": "SELECT p_result FROM documentdb_api.update($1, $2, $3, NULL)",
    "delete": "SELECT p_result FROM documentdb_api.delete($1, $2, $3, NULL)",
}
_FIND_AND_MODIFY: Final = "SELECT p_result FROM documentdb_api.find_and_modify($1, $2, NULL)"
_CURSORS: Final = {
    "find": "find_cursor_first_page",
    "aggregate": "aggregate_cursor_first_page",
    "listcollections": "list_collections_cursor_first_page",
    "listindexes": "list_indexes_cursor_first_page",
}
_QUERIES: Final = {
    "count": "SELECT document FROM documentdb_api.count_query($1, $2)",
    "distinct": "SELECT document FROM documentdb_api.distinct_query($1, $2)",
    "create": "SELECT documentdb_api.create_collection_view($1, $2)",
}
_FIRST_PAGE: Final = "SELECT cursorpage, continuation, persistconnection, cursorid FROM documentdb_api.{name}($1, $2)"
_NEXT_PAGE: Final = "SELECT cursorpage, continuation FROM documentdb_api.cursor_get_more($1, $2, $3)"
_INDEXES: Final = "SELECT * FROM documentdb_api.create_indexes_background($1, $2)"
_INDEX_STATUS: Final = "SELECT * FROM documentdb_api_internal.check_build_index_status($1)"


class Unknown(Exception):
    """There is no such command here."""


@dataclass(slots=True)
class Cursor:
    """Where a reader stands; *connection* if it must go on where it began."""

    database: str
    continuation: bytes
    connection: Connection | None


@dataclass(frozen=True, slots=True)
class Order:
    """One command for one database, as it came."""

    name: str
    database: str
    command: bytes
    sequence: bytes | None

    def document(self) -> dict[str, Any]:
        """The command, decoded."""
        return bson.decode(self.command)


class Documents:
    """The database behind the gateway, through a bounded pool."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._pool: Any = None
        self._cursors: dict[int, Cursor] = {}
        self._transactions: dict[tuple[bytes, int], Connection] = {}

    async def open(self) -> None:
        """Connect."""
        self._pool = await asyncpg.create_pool(
            self._dsn,
            min_size=2,
            max_size=CONNECTIONS_MAX,
            init=_with_bson,
            server_settings={"search_path": "documentdb_api_catalog,documentdb_api,public"},
        )

    async def close(self) -> None:
        """Let go of every connection at once."""
        self._pool.terminate()

    async def run(self, order: Order, transaction: tuple[bytes, int] | None) -> bytes:
        """The answer to *order*. Raises ``asyncpg.PostgresError``, Unknown."""
        if transaction is not None:
            return await self._in_transaction(order, transaction)
        for attempt in range(TRIES_MAX):
            try:
                async with self._connection() as connection:
                    return await self._do(order, connection)
            except asyncpg.PostgresError as error:
                if attempt + 1 == TRIES_MAX or error.sqlstate not in codes.RETRIED:
                    raise
                await asyncio.sleep(0.002 * (attempt + 1))  # not a wait: rivals keep apart
        raise AssertionError("the last try raises")

    async def more(self, order: Order, id: int) -> bytes | None:
        """The next page of a cursor; None if there is no such cursor."""
        cursor = self._cursors.pop(id, None)
        if cursor is None:
            return None
        if cursor.connection is not None:
            return await self._page(order, id, cursor, cursor.connection)
        async with self._connection() as connection:
            return await self._page(order, id, cursor, connection)

    async def forget(self, ids: list[int]) -> list[int]:
        """End cursors; those that there were."""
        ended = [(id, self._cursors.pop(id)) for id in ids if id in self._cursors]
        for _, cursor in ended:
            if cursor.connection is not None:
                await self._pool.release(cursor.connection)
        return [id for id, _ in ended]

    async def begin(self, transaction: tuple[bytes, int]) -> None:
        """Open a transaction of several commands."""
        connection = await self._pool.acquire()
        await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        self._transactions[transaction] = connection

    async def end(self, transaction: tuple[bytes, int], *, is_kept: bool) -> None:
        """Commit or roll back; one that is not there has ended already."""
        connection = self._transactions.pop(transaction, None)
        if connection is not None:
            try:
                await connection.execute("COMMIT" if is_kept else "ROLLBACK")
            finally:
                await self._pool.release(connection)

    async def _in_transaction(self, order: Order, transaction: tuple[bytes, int]) -> bytes:
        try:
            return await self._do(order, self._transactions[transaction])
        except asyncpg.PostgresError:
            await self.end(transaction, is_kept=False)
            raise

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        """A connection for one command; a cursor may keep it."""
        connection = await self._pool.acquire()
        try:
            yield connection
        finally:
            if not any(cursor.connection is connection for cursor in self._cursors.values()):
                await self._pool.release(connection)

    async def _page(self, order: Order, id: int, cursor: Cursor, connection: Connection) -> bytes:
        row = await connection.fetchrow(_NEXT_PAGE, cursor.database, order.command, cursor.continuation)
        if row[1] is not None:
            cursor.continuation = row[1]
            self._cursors[id] = cursor
        elif cursor.connection is not None:
            await self._pool.release(cursor.connection)
        page: bytes = row[0]
        return page

    async def _do(self, order: Order, connection: Connection) -> bytes:
        name, database, command = order.name, order.database, order.command
        if name in _WRITES:
            return codes.with_codes(await connection.fetchval(_WRITES[name], database, command, order.sequence))
        if name == "findandmodify":
            return codes.with_codes(await connection.fetchval(_FIND_AND_MODIFY, database, command))
        if name in _CURSORS:
            return await self._first_page(order, connection)
        if name in _QUERIES:
            answer: bytes = await connection.fetchval(_QUERIES[name], database, command)
            return answer
        if name == "createindexes":
            return await _create_indexes(order, connection)
        return await self._administer(order, connection)

    async def _first_page(self, order: Order, connection: Connection) -> bytes:
        text = _FIRST_PAGE.format(name=_CURSORS[order.name])
        page, continuation, keeps_connection, id = await connection.fetchrow(text, order.database, order.command)
        if continuation is not None:
            self._cursors[id] = Cursor(order.database, continuation, connection if keeps_connection else None)
        first: bytes = page
        return first

    async def _administer(self, order: Order, connection: Connection) -> bytes:
        name, database = order.name, order.database
        match name:
            case "drop":
                await connection.fetchval(
                    "SELECT documentdb_api.drop_collection($1, $2)", database, order.document()["drop"]
                )
            case "dropdatabase":
                await connection.execute("SELECT documentdb_api.drop_database($1)", database)
                return bson.encode({"ok": 1.0, "dropped": database})
            case "dropindexes":
                row = await connection.fetchrow(
                    "CALL documentdb_api.drop_indexes($1, $2, NULL)", database, order.command
                )
                answer: bytes = row[0]
                return answer
            case "listdatabases":
                listed: bytes = await connection.fetchval("SELECT documentdb_api.list_databases($1)", order.command)
                return listed
            case "collmod":
                changed: bytes = await connection.fetchval(
                    "SELECT documentdb_api.coll_mod($1, $2, $3)", database, order.document()["collMod"], order.command
                )
                return changed
            case "dbstats":
                counted: bytes = await connection.fetchval("SELECT documentdb_api.db_stats($1)", database)
                return counted
            case _:
                raise Unknown(name)
        return bson.encode({"ok": 1.0})


async def _create_indexes(order: Order, connection: Connection) -> bytes:
    """Indexes are built by a job of the database; wait for it, as mongod's command does."""
    row = await connection.fetchrow(_INDEXES, order.database, order.command)
    answer: bytes = row[0]
    if row[1] and row[2] is not None and len(row[2]) > _EMPTY:
        for _ in range(1200):
            status = await connection.fetchrow(_INDEX_STATUS, row[2])
            if status is None or status[-1]:
                answer = answer if status is None else status[0]
                break
            await asyncio.sleep(0.02)  # not a wait: the database builds it in a job of its own
    document = bson.decode(answer)
    inner: dict[str, Any] = dict(next(iter(document["raw"].values()))) if "raw" in document else document
    if "code" in inner:
        inner["code"] = codes.unpacked(inner["code"])
    return bson.encode(inner)


async def _with_bson(connection: Connection) -> None:
    for name in ("bson", "bsonsequence"):
        await connection.set_type_codec(name, schema="documentdb_core", encoder=bytes, decoder=bytes, format="binary")
