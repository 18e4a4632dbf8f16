"""Owns what instances get along by: wakes, locks and the clock, in this process or over servers that they share.
Must not know what is woken or locked.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from peregrine.app.settings import Settings
from peregrine.app.stores import SharedStore, need_driver
from peregrine.coordination.clock import ServerClock, SystemClock
from peregrine.coordination.memory import MemoryBus, MemoryLocks
from peregrine.domain.errors import BadConfiguration
from peregrine.domain.ids import WorkerId
from peregrine.ports.bus import Bus
from peregrine.ports.clock import Clock, Reference
from peregrine.ports.engine_view import LockView
from peregrine.ports.entropy import Entropy
from peregrine.ports.lock import Locks
from peregrine.ports.observer import Observer
from peregrine.ports.shared import SharedState

_PAPERS: Final = ("redis_ca_file", "redis_cert_file", "redis_key_file")


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """How this process gets along with the others. ``view`` and ``shared`` None: there are no others to speak of."""

    me: WorkerId
    bus: Bus
    locks: Locks
    view: LockView | None = None
    shared: SharedState | None = None
    reference: Reference | None = None


@dataclass(frozen=True, slots=True)
class Footing:
    """What getting along stands on: clock, chance, and who is told of trouble."""

    clock: Clock
    entropy: Entropy
    observer: Observer


async def clock_of(store: SharedStore | None) -> SystemClock | ServerClock:
    """The clock that schedules are judged by: the store's own where many hosts share it, else this host's.

    Raises:  Unavailable.
    """
    if store is None:
        return SystemClock()
    clock = ServerClock(store.server_time)
    await clock.refresh()
    return clock


async def together(settings: Settings, footing: Footing, stack: AsyncExitStack) -> Together:
    """Everything, open; it is closed with *stack*. A Redis that does not answer keeps nobody from starting.

    Raises:  BadConfiguration where the driver is not installed, or a certificate can't be used.
    """
    me = WorkerId(footing.entropy.new_id())
    if settings.redis_host:
        return await _over_redis(settings, footing, stack, me)
    return Together(me=me, bus=MemoryBus(), locks=MemoryLocks(footing.clock))


async def _over_redis(settings: Settings, footing: Footing, stack: AsyncExitStack, me: WorkerId) -> Together:
    need_driver("REDIS_HOST", "redis", "redis")
    from peregrine.coordination.redis.bus import RedisBus
    from peregrine.coordination.redis.link import Link, Place, Tls
    from peregrine.coordination.redis.locks import RedisLocks
    from peregrine.coordination.redis.shared import RedisShared

    secret = settings.redis_password
    tls = Tls(ca=settings.redis_ca_file, certificate=settings.redis_cert_file, key=settings.redis_key_file)
    place = Place(
        host=settings.redis_host,
        port=settings.redis_port,
        db=settings.redis_db,
        user=settings.redis_username,
        secret=secret.get_secret_value() if secret is not None else "",
        tls=tls if settings.redis_tls else None,
    )
    try:
        link = Link(place, clock=footing.clock, entropy=footing.entropy, observer=footing.observer)
    except OSError as error:
        raise BadConfiguration(f"{_name_of(settings, error.filename)}: can't be used: {error.strerror}") from None
    stack.push_async_callback(link.close)
    await link.open()
    bus = RedisBus(link, me=me, entropy=footing.entropy)
    stack.push_async_callback(bus.close)
    await bus.open()
    return Together(
        me=me,
        bus=bus,
        locks=RedisLocks(link),
        view=link,
        shared=RedisShared(link, entropy=footing.entropy),
        # Where the wall clock is the store's own there is nothing better to hold it against.
        reference=link if isinstance(footing.clock, SystemClock) else None,
    )


def _name_of(settings: Settings, path: str) -> str:
    """The setting that names *path*, as it was written."""
    fields = Settings.model_fields
    names = (str(fields[name].alias) for name in _PAPERS if str(getattr(settings, name)) == path)
    return f"{next(names, 'REDIS_TLS')}={path}"
