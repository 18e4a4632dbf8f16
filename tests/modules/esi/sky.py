"""Owns what the tests of this room share: clients of the fake, with and without sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

from peregrine.domain.moment import MINUTE, Duration, Moment
from peregrine.modules.esi.cache import MemoryCache
from peregrine.modules.esi.client import HttpClient, Visitor
from peregrine.modules.esi.exchange import Answer, NoAnswer, Question
from peregrine.modules.esi.sso import SsoClient, SsoSettings
from peregrine.modules.esi.throttle import Limits
from peregrine.modules.esi.turnstile import Turnstile
from peregrine.modules.esi.universe import EsiClient, EsiSettings
from peregrine.ports.clock import Clock
from peregrine.ports.esi import EsiCache
from peregrine.ports.shared import SharedState
from peregrine.testing.clock import ManualClock, SeededEntropy, run_virtual
from peregrine.testing.fake_esi import Application, Asked, FakeEsi, Reset, Size, World, serve

Result = TypeVar("Result")
NOON: Moment = 1_790_856_000_000
"""2026-10-01T12:00:00Z: after the pinned date, outside the downtime."""
VISITOR = Visitor(version="1.0", contact="pilot@example.com", source="https://example.com/peregrine")
LATENCY = 0.05


class Direct:
    """An ``Http`` that asks the fake without sockets, so that time can be virtual."""

    def __init__(self, fake: FakeEsi, *, patience: float = 20.0) -> None:
        self._fake = fake
        self._patience = patience
        self.sent: list[Question] = []

    async def send(self, question: Question) -> Answer:
        parts = urlsplit(question.url)
        headers = {name.lower(): value for name, value in question.headers.items()} | {"user-agent": VISITOR.user_agent}
        asked = Asked(question.method, parts.path, dict(parse_qsl(parts.query)), headers, question.body or b"")
        self.sent.append(question)
        try:
            async with asyncio.timeout(self._patience):
                told = await self._fake.exchange(asked)
        except (TimeoutError, Reset) as error:
            raise NoAnswer(type(error).__name__, sent=True) from None
        if told.is_cut or "Content-Encoding" in told.headers:
            raise NoAnswer("cut or too large", sent=True)
        return Answer(told.status, {name.lower(): value for name, value in told.headers.items()}, told.body)


class StepClock:
    """A clock that stands until it is moved; for sockets, where virtual time can't be."""

    def __init__(self, start: Moment = NOON) -> None:
        self._now = start

    def now(self) -> Moment:
        return self._now

    def monotonic(self) -> int:
        return self._now

    def pass_by(self, by: Duration) -> None:
        self._now += by


def made_world(*, characters: int = 2000, alliances: int = 12, corporations: int = 60) -> World:
    return World(Size(characters=characters, alliances=alliances, corporations=corporations), seed=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """How a client is put together, where a test wants it otherwise."""

    limits: Limits = field(default_factory=Limits)
    cache: EsiCache | None = None
    shared: SharedState | None = None
    patience: Duration = 5 * MINUTE
    seed: int = 0
    date: str = "2026-08-18"


def client_of(
    http: Direct | HttpClient, clock: Clock, rig: Rig | None = None, address: str = "http://127.0.0.1:1"
) -> EsiClient:
    rig = rig or Rig()
    entropy = SeededEntropy(rig.seed)
    turnstile = Turnstile("esi", rig.limits, clock, entropy, shared=rig.shared, patience=rig.patience)
    cache = MemoryCache() if rig.cache is None else rig.cache
    return EsiClient(http, turnstile, cache, clock, EsiSettings(address=address, compatibility_date=rig.date))


@dataclass(frozen=True, slots=True)
class Sky:
    """A fake and a client of it, on one virtual clock."""

    clock: ManualClock
    fake: FakeEsi
    http: Direct
    esi: EsiClient

    def another(self, rig: Rig) -> EsiClient:
        return client_of(self.http, self.clock, rig)


def sky(rig: Rig | None = None, *, start: Moment = NOON, latency: float = LATENCY, **fake: Any) -> Sky:
    """To be made while the virtual loop runs."""
    clock = ManualClock(start)
    made = FakeEsi(clock, made_world(), latency=latency, **fake)
    http = Direct(made)
    return Sky(clock, made, http, client_of(http, clock, rig))


@dataclass(frozen=True, slots=True)
class Gate:
    """A sign-in and a client of it, on one virtual clock."""

    clock: ManualClock
    fake: FakeEsi
    http: Direct
    sso: SsoClient

    def another(self, settings: SsoSettings) -> SsoClient:
        turnstile = Turnstile("sso", Limits(downtime=False), self.clock, SeededEntropy(9))
        return SsoClient(self.http, turnstile, self.clock, settings)


CALLBACK = "https://peregrine.example/auth/eve/callback"
SETTINGS = SsoSettings(
    client_id="fake-client", client_secret="fake-secret", callback=CALLBACK, address="http://127.0.0.1"
)


def gate(*, start: Moment = NOON, settings: SsoSettings = SETTINGS, application: Application | None = None) -> Gate:
    """To be made while the virtual loop runs."""
    clock = ManualClock(start)
    fake = FakeEsi(clock, made_world(), application=application, latency=LATENCY)
    http = Direct(fake)
    turnstile = Turnstile("sso", Limits(downtime=False), clock, SeededEntropy(1))
    return Gate(clock, fake, http, SsoClient(http, turnstile, clock, settings))


def in_virtual_time(main: Coroutine[Any, Any, Result]) -> Result:
    return run_virtual(main)


@asynccontextmanager
async def served_sky(
    clock: StepClock | None = None, rig: Rig | None = None
) -> AsyncIterator[tuple[FakeEsi, EsiClient]]:
    """The same on real sockets."""
    clock = clock or StepClock()
    fake = FakeEsi(clock, made_world())
    http = HttpClient(VISITOR)
    async with serve(fake) as served:
        try:
            yield fake, client_of(http, clock, rig, served.address)
        finally:
            await http.close()
