"""Owns the looks at what a service stands on: a backup that is checked, a doctor that changes nothing.

A check is a function that says what it saw; the list below is all that the doctor does.
"""

from __future__ import annotations

import asyncio
import contextlib
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from peregrine.app.credentials import holds, rules_of
from peregrine.app.datadir import ENCRYPTION_KEY, ENCRYPTION_KEYS_OLD, OPERATOR_TOKEN, SIGNING_SECRET, DataDir
from peregrine.app.settings import Settings
from peregrine.app.stores import SharedStore, shared_store
from peregrine.app.together import Footing, together
from peregrine.cli.house import Finding, Undone
from peregrine.coordination.clock import SystemClock, SystemEntropy
from peregrine.domain.errors import BadConfiguration, Invalid, PeregrineError, UnsafeStore
from peregrine.domain.moment import DAY, format_duration
from peregrine.observers.several import SeveralObservers
from peregrine.stores.sqlite import migrate, place
from peregrine.stores.sqlite.connection import open_connection
from peregrine.stores.sqlite.store import SqliteStore

Check = Callable[[Settings, DataDir], Sequence[Finding]]


def backup(settings: Settings, target: str) -> str:
    """The path of a whole, checked copy of the store, made while it may be in use.

    Raises:  Undone when there is no store, or the copy can't be written; UnsafeStore when it is not sound.
    """
    if settings.mongodb_uri is not None:
        raise Undone("the store is a MongoDB: `mongodump` backs it up; keep the encryption key elsewhere")
    data_dir, copy = _of(settings), Path(target).absolute()
    if not data_dir.store.exists():
        raise Undone(f"{data_dir.path}: there is no store in it; `serve` makes one")
    try:
        asyncio.run(_copy(data_dir.store, copy))
    except Invalid as error:
        raise Undone(f"{copy}: {error.faults[0].message}") from None
    except PeregrineError as error:
        raise Undone(f"{copy}: {error}") from None
    if faults := _store_faults(copy):
        raise UnsafeStore(f"{copy}: the copy is not sound ({faults[0]}); run `peregrine doctor` on the store itself")
    return str(copy)


async def _copy(source: Path, copy: Path) -> None:
    store = SqliteStore(source, ballast_bytes=0)
    await store.open()
    try:
        await store.backup(copy)
    finally:
        await store.close()


def examine(settings: Settings) -> Sequence[Finding]:
    """All that there is to say of the data directory; each finding says what was seen. Raises Undone without one."""
    data_dir = _of(settings)
    if not data_dir.path.is_dir():
        raise Undone(f"{data_dir.path}: there is no such directory; `serve` makes one")
    return [finding for check in CHECKS for finding in check(settings, data_dir)]


def _of(settings: Settings) -> DataDir:
    return DataDir(settings.data_dir.absolute())


# ── the checks ───────────────────────────────────────────────────────────────────────────────────


def _check_rights(settings: Settings, data_dir: DataDir) -> Sequence[Finding]:
    """Nobody else may read what is kept."""
    secrets = (SIGNING_SECRET, OPERATOR_TOKEN, ENCRYPTION_KEY, ENCRYPTION_KEYS_OLD)
    paths = [data_dir.path, data_dir.store, *(data_dir.path / name for name in secrets)]
    found = []
    for path in paths:
        if path.exists():
            mode = stat.S_IMODE(path.stat().st_mode)
            is_private = not mode & (stat.S_IRWXG | stat.S_IRWXO)
            found.append(Finding("rights", is_private, f"{path}: mode {mode:04o}"))
    return found


def _check_store(settings: Settings, data_dir: DataDir) -> Sequence[Finding]:
    """The store is ours, and every page and index of it is sound; one on a server answers."""
    shared = shared_store(settings)
    if shared is not None:
        return [asyncio.run(_asked(shared))]
    path = data_dir.store
    if not path.exists():
        return [Finding("store", False, f"{path}: there is none; `serve` makes one")]
    faults = _store_faults(path)
    seen = [Finding("store", False, f"{path}: {fault}") for fault in faults]
    return seen or [Finding("store", True, f"{path}: every page and index is sound")]


async def _asked(store: SharedStore) -> Finding:
    try:
        _, took = await store.server_time()
    except PeregrineError as error:
        return Finding("store", False, f"MONGODB_URI: {error}")
    finally:
        await store.close()
    return Finding("store", True, f"the MongoDB answers after {format_duration(took)}. {store.warning}".strip(". "))


def _check_redis(settings: Settings, data_dir: DataDir) -> Sequence[Finding]:
    """Redis, if one is set, takes what we write, and in time."""
    return [asyncio.run(_probed(settings))] if settings.redis_host else []


async def _probed(settings: Settings) -> Finding:
    footing = Footing(SystemClock(), SystemEntropy(), SeveralObservers([]))
    async with contextlib.AsyncExitStack() as stack:
        made = await together(settings, footing, stack)
        assert made.view is not None
        facts = made.view.facts()
    where = f"REDIS_HOST={settings.redis_host}"
    if facts.latency is None:
        return Finding("redis", False, f"{where}: {facts.reason}; the service works without it")
    return Finding("redis", True, f"{where}: answers after {format_duration(facts.latency)}")


def _store_faults(path: Path) -> list[str]:
    try:
        place.refuse_foreign(path)
        with contextlib.closing(open_connection(path, reads_only=True)) as db:
            return migrate.faults_of(db, "integrity_check")
    except (UnsafeStore, OSError) as error:
        return [str(error)]
    except Exception as error:  # a driver's error on a damaged file: it is what we came to find
        return [f"can't be read: {error}"]


def _check_token(settings: Settings, data_dir: DataDir) -> Sequence[Finding]:
    """The operator's token is one that the service takes."""
    if not data_dir.operator_token.exists():
        return [Finding("token", False, f"{data_dir.operator_token}: there is none; `serve` makes one")]
    try:
        rules = rules_of(settings, data_dir)
        left = asyncio.run(holds(data_dir.read_secret(OPERATOR_TOKEN), rules, SystemClock()))
    except BadConfiguration as error:
        return [Finding("token", False, str(error))]
    if left is None:
        return [Finding("token", False, "the operator's token is refused; the next start renews it")]
    return [Finding("token", True, f"the operator's token holds for {left // DAY} days")]


CHECKS: Final[tuple[Check, ...]] = (_check_rights, _check_store, _check_token, _check_redis)
