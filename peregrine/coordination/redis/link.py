"""Owns the way to one Redis server: bounded, never waited for while it is away, found again by itself.
Must not know locks, wakes, or what is kept there.

Whoever asks gets an answer or ``Unavailable`` within ``answer_within``. After one failure nobody asks any more, and a
probe looks every second; the first one that is answered in time opens the way again. A probe writes, since a replica,
or a server without room, answers a ping as well.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn, TypeAlias, TypeVar

from redis.asyncio import BlockingConnectionPool, Connection, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from peregrine.domain.errors import Unavailable
from peregrine.domain.event import LocksAnswered, LocksFailed
from peregrine.domain.moment import SECOND, Duration, format_duration
from peregrine.ports.clock import Clock
from peregrine.ports.engine_view import LockFacts
from peregrine.ports.entropy import Entropy
from peregrine.ports.observer import Observer

_log = logging.getLogger(__name__)

Command: TypeAlias = tuple[str | int, ...]
Loaded = TypeVar("Loaded")

ANSWER_WITHIN: Final[Duration] = 200
"""The longest that anything here is waited for; an instance that needs longer goes on without Redis."""
PROBE_WITHIN: Final[Duration] = SECOND
"""A probe may take longer, since it may have to connect first; it counts only if its answer came in time."""
PROBE_EVERY: Final[Duration] = SECOND
CONNECTIONS_MAX: Final = 32
PROBE_KEY: Final = "scheduler:probe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How an encrypted way to the server is proved: who vouches for it (None: whom this host believes), and who we
    are, if it asks."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """All of it, read. The name and the certificate of the server must fit.

        Raises:  OSError, with the path in it, for a file that can't be used.
        """
        context = _loaded(lambda: ssl.create_default_context(cafile=self.ca), self.ca)
        if self.certificate is not None:
            certificate = self.certificate
            _loaded(lambda: context.load_cert_chain(certificate, self.key), certificate)
        return context


def _loaded(load: Callable[[], Loaded], path: Path | None) -> Loaded:
    try:
        return load()
    except ssl.SSLError as error:
        raise OSError(error.errno, "holds no certificate, or one of another key", str(path)) from None
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(error.filename or path)) from None


class _Encrypted(Connection):
    """A connection over TLS. The driver's own reads all certificates anew for each one, which takes longer than we wait
    for an answer."""

    def __init__(self, *, context: ssl.SSLContext, **rest: Any) -> None:
        super().__init__(**rest)
        self._context = context

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {**super()._connection_arguments(), "ssl": self._context}


def _over(tls: Tls) -> dict[str, Any]:
    return {"connection_class": _Encrypted, "context": tls.context()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the server is, and as whom we come. ``secret`` is the password of ``user``; empty: none, and the default
    user. Without ``tls`` everything is said in plain words."""

    host: str
    port: int = 6379
    db: int = 0
    user: str = ""
    secret: str = field(default="", repr=False)
    tls: Tls | None = None
    answer_within: Duration = ANSWER_WITHIN


class Link:
    """One server as this process reaches it. Is the ``LockView`` of the status page, and a reference for the clock."""

    def __init__(self, place: Place, *, clock: Clock, entropy: Entropy, observer: Observer) -> None:
        """Raises OSError for a certificate that can't be used."""
        self.place = place
        self._clock, self._entropy, self._observer = clock, entropy, observer
        self._pool = BlockingConnectionPool(
            max_connections=CONNECTIONS_MAX,
            timeout=None,
            host=place.host,
            port=place.port,
            db=place.db,
            username=place.user or None,
            password=place.secret or None,
            socket_timeout=None,
            socket_connect_timeout=PROBE_WITHIN / 1000,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            driver_info=None,
            **({} if place.tls is None else _over(place.tls)),
        )
        self.client = Redis(connection_pool=self._pool)
        self._latency: Duration | None = None
        self._reason = "not asked yet"
        self._away_since: int | None = None
        self._deviation: Duration | None = None
        self._failed = asyncio.Event()
        self._probing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Look once, and go on looking. A server that is away keeps nobody from starting."""
        await self._probe()
        self._probing = asyncio.create_task(self._probe_on(), name="redis-probe")

    async def close(self) -> None:
        """Let go of the server; safe twice."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)
            self._probing = None
        await self._pool.disconnect()

    @property
    def is_away(self) -> bool:
        """Whether the last thing that was tried failed."""
        return self._latency is None

    @property
    def deviation(self) -> Duration | None:
        """How far this wall clock is ahead of the server's; None if that is not known now."""
        return None if self.is_away else self._deviation

    def facts(self) -> LockFacts:
        """How the server is doing (``ports.engine_view``)."""
        return LockFacts(latency=self._latency, reason=self._reason)

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to *commands*, sent together.

        Raises:  Unavailable, at once while the server is away, else within ``answer_within``; then all, some or none
                 of them were done.
        """
        if self.is_away:
            raise Unavailable(self._reason)
        try:
            async with asyncio.timeout(self.place.answer_within / 1000):
                return await self._send(commands)
        except (RedisError, OSError, ValueError) as error:
            self._fail(error)

    async def _send(self, commands: Sequence[Command]) -> list[Any]:
        async with self.client.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            answers: list[Any] = await pipe.execute(raise_on_error=False)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    async def _probe_on(self) -> None:
        while True:
            # Not all instances at once, and a failure is looked into sooner.
            pause = PROBE_EVERY * (0.5 + 0.5 * self._entropy.chance()) / 1000
            try:
                async with asyncio.timeout(pause):
                    await self._failed.wait()
                await asyncio.sleep(pause / 2)
            except TimeoutError:
                pass
            self._failed.clear()
            try:
                await self._probe()
            except Exception:  # nobody else looks: one odd answer must not be the last that is asked for
                _log.exception("redis_probe_failed")
                self._note("it answers what makes no sense")

    async def _probe(self) -> None:
        began = self._clock.monotonic()
        try:
            async with asyncio.timeout(PROBE_WITHIN / 1000):
                await self._send([("SET", PROBE_KEY, 1, "PX", 10 * PROBE_EVERY)])
                asked = self._clock.monotonic()
                [(seconds, microseconds)] = await self._send([("TIME",)])
        except (RedisError, OSError, ValueError) as error:
            self._note(_words(error))
            return
        latency = self._clock.monotonic() - asked
        self._deviation = self._clock.now() - latency // 2 - (int(seconds) * 1000 + int(microseconds) // 1000)
        if latency > self.place.answer_within:
            self._note(f"it answers after {format_duration(self._clock.monotonic() - began)}")
            return
        self._latency, self._reason = latency, ""
        if self._away_since is not None:
            self._tell(LocksAnswered(self._clock.monotonic() - self._away_since))
            self._away_since = None

    def _fail(self, error: Exception) -> NoReturn:
        self._note(_words(error))
        self._failed.set()
        raise Unavailable(self._reason) from error

    def _note(self, reason: str) -> None:
        """It is away, for *reason*. Told once: a server that fails in several ways fails them all again and again."""
        self._latency, self._reason = None, reason
        if self._away_since is None:
            self._away_since = self._clock.monotonic()
            self._tell(LocksFailed(reason))

    def _tell(self, event: LocksFailed | LocksAnswered) -> None:
        try:
            self._observer.observe(event)
        except Exception:  # observers may fail without harm
            pass


def _words(error: Exception) -> str:
    """What went wrong, in words that may be shown to anybody: no address, no password, no text of the driver."""
    match error:
        case TimeoutError():
            return "it does not answer in time"
        case AuthenticationError():
            return "it refuses the user or the password"
        case NoPermissionError():
            return "its user may not do what is needed"
        case OutOfMemoryError():
            return "it has no room"
        case ReadOnlyError():
            return "it is a replica that may only be read"
        case ResponseError():
            return "it refuses what it is asked"
        case _ if isinstance(error.__context__, ssl.SSLCertVerificationError):
            return "its certificate is not believed"
        case _:
            return "it can't be reached"
