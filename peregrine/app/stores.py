"""Owns which store the settings ask for, and how a start waits for it; must not know what is in it.

A driver is an extra: it is imported when its store is asked for, and where it is not installed one line says so.
"""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol, TypeVar

from peregrine.app.datadir import DataDir
from peregrine.app.settings import Settings
from peregrine.cli.house import Undone
from peregrine.domain.errors import BadConfiguration, Unavailable
from peregrine.domain.moment import MINUTE, SECOND, Duration, Moment, format_duration
from peregrine.ports.clock import Clock
from peregrine.ports.eve import EveStore
from peregrine.ports.records import RecordStore
from peregrine.ports.store import Store
from peregrine.stores.sqlite.store import SqliteStore

Reached = TypeVar("Reached")

WAIT_FOR_STORE: Final[Duration] = MINUTE
"""How long a start waits for a store that does not answer: longer than a database needs that starts with us."""
TRY_AGAIN_AFTER: Final[Duration] = 2 * SECOND


class HouseStore(Store, RecordStore, Protocol):
    """A store that a service can live on: the verbs, the shelf, EVE's collections, and what its care needs."""

    @property
    def eve(self) -> EveStore:
        """What is known of EVE Online."""
        ...

    async def facts(self) -> Mapping[str, str | int]:
        """What an operator may want to know of it; ``file_bytes`` and ``wal_bytes`` among it, 0 where there is none."""
        ...

    async def maintain(self) -> None:
        """Let it tidy itself up, now and then."""
        ...

    async def rewrite(self) -> None:
        """Leave nothing that was overwritten or removed lying about, as far as the store can."""
        ...


class SharedStore(HouseStore, Protocol):
    """One that many hosts share, and whose clock is therefore the one that counts."""

    @property
    def warning(self) -> str:
        """What an operator should know of the deployment; empty: nothing."""
        ...

    async def server_time(self) -> tuple[Moment, Duration]:
        """Its wall time, and how long it took to ask. Raises Unavailable."""
        ...


def embedded_store(settings: Settings, data_dir: DataDir, *, beside: bool = False) -> SqliteStore | None:
    """The file in the data directory, unless the settings name a server; *beside*: a service may be using it."""
    if settings.mongodb_uri is not None:
        return None
    return SqliteStore(data_dir.store, ballast_bytes=0) if beside else SqliteStore(data_dir.store)


def shared_store(settings: Settings) -> SharedStore | None:
    """The server that the settings name, if they do.

    Raises:  BadConfiguration where its driver is not installed, or the address is none.
    """
    if settings.mongodb_uri is None:
        return None
    need_driver("MONGODB_URI", "pymongo", "mongo")
    from peregrine.stores.mongo.store import MongoStore

    return MongoStore(settings.mongodb_uri.get_secret_value(), settings.mongodb_database)


def need_driver(setting: str, package: str, extra: str) -> None:
    """Raises BadConfiguration where *package* is not installed, which *setting* needs."""
    if importlib.util.find_spec(package) is None:
        raise BadConfiguration(
            f"{setting} is set, but its driver is not installed: pip install 'peregrine[{extra}]', or unset it"
        )


async def patiently(reach: Callable[[], Awaitable[Reached]], clock: Clock, tell: Callable[[str], None]) -> Reached:
    """What *reach* gives; tried again for a while if the store does not answer yet. *tell* hears each new reason.

    Raises:  UnsafeStore; Undone when it did not answer at all. That is no wrong setting for certain, so the exit code
             is the one after which a service is started again.
    """
    until, told = clock.monotonic() + WAIT_FOR_STORE, ""
    while True:
        try:
            return await reach()
        except Unavailable as error:
            reason = str(error)
            if clock.monotonic() >= until:
                waited = format_duration(WAIT_FOR_STORE)
                raise Undone(f"the store did not answer for {waited}: {reason}; is MONGODB_URI right?") from None
            if reason != told:
                told = reason
                tell(reason)
        await asyncio.sleep(TRY_AGAIN_AFTER / 1000)


def hints_of(settings: Settings) -> list[str]:
    """What does not keep a service with these settings from starting, but may surprise its operator."""
    hints = []
    is_shared, has_redis = settings.mongodb_uri is not None, bool(settings.redis_host)
    if is_shared and not has_redis:
        hints.append("MONGODB_URI without REDIS_HOST: instances hear of each other's work within SCHEDULER_POLL")
    if is_shared and settings.jwt_secret is None:
        hints.append("MONGODB_URI without JWT_SECRET: other hosts refuse the tokens of this one; give all the same")
    if is_shared and settings.encryption_key is None:
        hints.append(
            "MONGODB_URI without SCHEDULER_ENCRYPTION_KEY: an instance with another data directory will not start;"
            " give all the same key"
        )
    if settings.redis_password is not None and not has_redis:
        hints.append("REDIS_PASSWORD without REDIS_HOST: Redis is not used")
    files = (settings.redis_ca_file, settings.redis_cert_file)
    if has_redis and not settings.redis_tls and any(file is not None for file in files):
        hints.append("certificates for Redis without REDIS_TLS: it is reached in plain words")
    return hints


def check_drivers(settings: Settings) -> None:
    """Raises BadConfiguration where a server is asked for whose driver is not installed."""
    if settings.mongodb_uri is not None:
        need_driver("MONGODB_URI", "pymongo", "mongo")
    if settings.redis_host:
        need_driver("REDIS_HOST", "redis", "redis")
