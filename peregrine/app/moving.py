"""Owns which stores ``peregrine migrate`` opens by their names; must not know what is in them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, cast
from urllib.parse import urlsplit

from peregrine.app.datadir import ENCRYPTION_KEY, SIGNING_SECRET, STORE
from peregrine.app.settings import Settings, on_server
from peregrine.app.stores import shared_store
from peregrine.cli.house import Move, Undone
from peregrine.coordination.clock import SystemClock
from peregrine.coordination.host import ProcHost
from peregrine.domain.errors import PeregrineError
from peregrine.stores.sqlite.store import SqliteStore
from peregrine.usecases import moving
from peregrine.usecases.moving import Road, WholeStore

SQLITE: Final = "sqlite:"
MONGODB: Final = ("mongodb://", "mongodb+srv://")
SAME_KEYS: Final = (
    f"Start the service there with the same keys: {ENCRYPTION_KEY} and {SIGNING_SECRET} of the source's data directory,"
    " copied, or named by SCHEDULER_ENCRYPTION_KEY_FILE and JWT_SECRET_FILE"
)

Tell = Callable[[str], None]
Count = Callable[[str, int, int], None]


def migrate(settings: Settings, wanted: Move, tell: Tell, count: Count) -> str:
    """Move everything as *wanted* says, prove it, and say what is true now. Raises Undone, UnsafeStore."""
    try:
        return asyncio.run(_migrate(settings, wanted, tell, count))
    except PeregrineError as error:
        raise Undone(f"{error}; nothing was taken from {shown(wanted.source)}, and the same command goes on") from None


def release(settings: Settings, place: str) -> str:
    """Let the store at *place* be started again although it was moved. Raises Undone, UnsafeStore."""
    return asyncio.run(_release(settings, place))


def shown(place: str) -> str:
    """*place* as it may be shown and kept: without a user's name and password."""
    return re.sub(r"//[^/]*@", "//", place)


async def _migrate(settings: Settings, wanted: Move, tell: Tell, count: Count) -> str:
    names = shown(wanted.source), shown(wanted.target)
    async with (
        _opened(wanted.source, settings, is_there=True) as source,
        _opened(wanted.target, settings, is_there=False) as target,
    ):
        for name, store in zip(names, (source, target), strict=True):
            await _refuse_used(name, store, settings, tell)
        road = Road(source=source, target=target, source_name=names[0], target_name=names[1], clock=SystemClock())
        moved = await moving.move(road, lambda kind, done, of: count(kind.value, done, of))
        if not wanted.is_copy:
            await moving.close_source(road)
    said = ", ".join(f"{number} {kind}" for kind, number in moved.items())
    after = "the source can be started still" if wanted.is_copy else "the source will not start any more"
    return f"moved and compared: {said}; {after}. {SAME_KEYS}"


async def _release(settings: Settings, place: str) -> str:
    async with _opened(place, settings, is_there=True) as store:
        was_moved = await moving.release(store, SystemClock())
    return f"{shown(place)} can be started" + ("" if was_moved else "; it could before")


async def _refuse_used(place: str, store: WholeStore, settings: Settings, tell: Tell) -> None:
    async def wait() -> None:
        await asyncio.sleep(settings.lease / 1000)

    user = await moving.user_of(store, ProcHost(), wait, lambda text: tell(f"{place}: {text}"))
    if user is not None:
        raise Undone(f"{place} is in use by process {user.pid} on {user.host}; stop it first")


@asynccontextmanager
async def _opened(place: str, settings: Settings, *, is_there: bool) -> AsyncIterator[WholeStore]:
    store = _store(place, settings, is_there=is_there)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def _store(place: str, settings: Settings, *, is_there: bool) -> WholeStore:
    if place.startswith(MONGODB):
        return _server(place, settings)
    if not place.startswith(SQLITE):
        raise Undone(f"{shown(place)}: write sqlite:DIRECTORY, or mongodb://HOST/DATABASE")
    path = Path(place.removeprefix(SQLITE)).absolute()
    file = path / STORE if path.is_dir() or not path.suffix else path
    if is_there and not file.exists():
        raise Undone(f"{file}: there is no store; name the data directory of a service")
    return SqliteStore(file, ballast_bytes=0)


def _server(uri: str, settings: Settings) -> WholeStore:
    """The MongoDB at *uri*; its database is the one in the address, else that of the settings."""
    named = urlsplit(uri).path.strip("/")
    store = shared_store(on_server(settings, uri, named or settings.mongodb_database))
    assert store is not None
    return cast(WholeStore, store)
