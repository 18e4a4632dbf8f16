"""Owns the conversation with one driver: what is answered here, what goes to the database; must not know its SQL."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
import bson

from tests.services.mongo_server import codes, messages
from tests.services.mongo_server.documents import Documents, Order, Unknown

VERSION: Final = (7, 0, 0)
OK: Final = bson.encode({"ok": 1.0})
_log = logging.getLogger(__name__)


class Gateway:
    """A MongoDB server on one port, as far as a driver can tell."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._server: asyncio.Server | None = None

    async def start(self, port: int = 0) -> int:
        """Listen on loopback; the port."""
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", port)
        listening: int = self._server.sockets[0].getsockname()[1]
        return listening

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, messages.BadMessage):
            while True:
                message = await messages.read(reader)
                document = await self._answer(message)
                if message.wants_answer:
                    writer.write(messages.answer(message, document))
                    await writer.drain()
        writer.close()

    async def _answer(self, message: messages.Message) -> bytes:
        command = bson.decode(message.command)
        try:
            name = next(iter(command)).lower()
            here = self._here(name, command)
            if here is not None:
                return here
            order = Order(name, command.get("$db", "admin"), message.command, message.sequence)
            return await self._beyond(order, command)
        except asyncpg.PostgresError as error:
            return bson.encode(_labelled(codes.failure(error.sqlstate or "XX000", str(error)), command))
        except Unknown as error:
            document = {"ok": 0.0, "errmsg": f"no such command: '{error}'", "code": 59, "codeName": "CommandNotFound"}
            return bson.encode(document)
        except Exception as error:  # a fault of the gateway is an answer too, or the driver waits for ever
            _log.exception("gateway")
            return bson.encode({"ok": 0.0, "code": 1, "codeName": "InternalError", "errmsg": repr(error)})

    def _here(self, name: str, command: dict[str, Any]) -> bytes | None:
        """What needs no database."""
        match name:
            case "hello" | "ismaster":
                return bson.encode(_hello())
            case "ping" | "endsessions" | "killsessions" | "refreshsessions":
                return OK
            case "buildinfo":
                version = ".".join(map(str, VERSION))
                return bson.encode({"version": version, "versionArray": [*VERSION, 0], "ok": 1.0})
            case _:
                return None

    async def _beyond(self, order: Order, command: dict[str, Any]) -> bytes:
        transaction = _transaction(command)
        match order.name:
            case "getmore":
                page = await self._documents.more(order, command["getMore"])
                gone = {"ok": 0.0, "code": 43, "codeName": "CursorNotFound", "errmsg": "cursor not found"}
                return bson.encode(gone) if page is None else page
            case "killcursors":
                killed = await self._documents.forget(command["cursors"])
                unknown = [id for id in command["cursors"] if id not in killed]
                return bson.encode({"cursorsKilled": killed, "cursorsNotFound": unknown, "cursorsAlive": [], "ok": 1.0})
            case "committransaction" | "aborttransaction" if transaction is not None:
                await self._documents.end(transaction, is_kept=order.name == "committransaction")
                return OK
        if transaction is not None and command.get("startTransaction"):
            await self._documents.begin(transaction)
        return await self._documents.run(order, transaction)


def _hello() -> dict[str, Any]:
    return {
        "ismaster": True,
        "isWritablePrimary": True,
        "msg": "isdbgrid",  # sessions and transactions without a replica set: what a router of shards offers
        "maxBsonObjectSize": 16_777_216,
        "maxMessageSizeBytes": messages.MESSAGE_BYTES_MAX,
        "maxWriteBatchSize": 100_000,
        "localTime": datetime.now(UTC),
        "logicalSessionTimeoutMinutes": 30,
        "connectionId": 1,
        "minWireVersion": 0,
        "maxWireVersion": 21,
        "readOnly": False,
        "ok": 1.0,
    }


def _transaction(command: dict[str, Any]) -> tuple[bytes, int] | None:
    if command.get("autocommit") is not False or "txnNumber" not in command:
        return None
    return bytes(command["lsid"]["id"]), command["txnNumber"]


def _labelled(failure: dict[str, Any], command: dict[str, Any]) -> dict[str, Any]:
    """In a transaction a write conflict is the driver's to repeat."""
    if failure["code"] == codes.WRITE_CONFLICT and _transaction(command) is not None:
        return failure | {"errorLabels": ["TransientTransactionError"]}
    return failure
