"""Owns an EVE of the tests' own, inside the process: what ESI and the SSO would say, and what was asked. Must not know
any module."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from peregrine.domain.moment import HOUR, MINUTE
from peregrine.ports.esi import (
    CorporationFacts,
    EsiRefused,
    EsiUnavailable,
    Seen,
    ServerStatus,
    SsoCharacter,
    SsoRefused,
    SsoUnavailable,
    TokenPair,
)
from peregrine.ports.eve import Affiliation, Alliance, Character
from peregrine.testing.clock import ManualClock


@dataclass
class Run:
    """An attempt's context that keeps what is said."""

    clock: ManualClock
    timeout: int = HOUR
    lines: list[str] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)
    claim: Any = None
    worker_id: str = "worker"
    deadline: int = 0

    def __post_init__(self) -> None:
        self.deadline = self.clock.monotonic() + self.timeout

    def log(self, line: str) -> None:
        self.lines.append(line)

    def progress(self, fraction: float, text: str = "") -> None:
        self.steps.append(fraction)


Trouble = Callable[[], Exception | None]


@dataclass
class TinyEsi:
    """Public facts by id. ``trouble`` is asked before each answer and may give what to raise."""

    clock: ManualClock
    members: dict[int, Affiliation] = field(default_factory=dict)
    alliances: dict[int, Alliance] = field(default_factory=dict)
    corporations: dict[int, CorporationFacts] = field(default_factory=dict)
    listed: list[int] | None = None
    poison: set[int] = field(default_factory=set)
    trouble: list[Exception | None] = field(default_factory=list)
    odd: dict[int, Exception] = field(default_factory=dict)
    asked: list[Any] = field(default_factory=list)
    at_once: int = 0
    at_once_max: int = 0
    seconds: float = 0.1

    async def _answer(self, question: Any) -> None:
        self.asked.append(question)
        self.at_once += 1
        self.at_once_max = max(self.at_once, self.at_once_max)
        try:
            await asyncio.sleep(self.seconds)  # not a wait: the question travels, in virtual time
        finally:
            self.at_once -= 1
        if self.trouble and (error := self.trouble.pop(0)) is not None:
            raise error

    async def affiliations(self, ids: Sequence[int]) -> Sequence[Affiliation]:
        await self._answer(list(ids))
        if not 1 <= len(ids) <= 1000 or len(set(ids)) < len(ids):
            raise EsiRefused(400, "1 to 1000 different ids")
        if self.poison.intersection(ids):
            raise EsiRefused(404, "No characters found!")
        return [self.members[id] for id in ids if id in self.members]

    async def alliance_ids(self) -> Sequence[int]:
        await self._answer("alliances")
        return sorted(self.alliances) if self.listed is None else self.listed

    async def alliance(self, alliance_id: int) -> Seen[Alliance]:
        await self._answer(alliance_id)
        if alliance_id in self.odd:
            raise self.odd[alliance_id]
        return Seen(self.alliances.get(alliance_id), False, 0)

    async def corporation(self, corporation_id: int) -> Seen[CorporationFacts]:
        await self._answer(corporation_id)
        if corporation_id in self.odd:
            raise self.odd[corporation_id]
        return Seen(self.corporations.get(corporation_id), False, 0)

    async def npc_corporation_ids(self) -> Sequence[int]:
        await self._answer("npc")
        return []

    async def character(self, character_id: int) -> Seen[Character]:
        await self._answer(character_id)
        return Seen(None, False, 0)

    async def status(self) -> ServerStatus:
        await self._answer("status")
        return ServerStatus(players=1, server_version="1", started_at=0)


@dataclass
class TinySso:
    """One rotating refresh token a character; used twice, it is dead, and so is what came after it."""

    clock: ManualClock
    current: dict[int, str] = field(default_factory=dict)
    owners: dict[int, str] = field(default_factory=dict)
    trouble: list[Exception | None] = field(default_factory=list)
    lost_answers: int = 0
    """So many answers are lost on their way back, after the token was changed."""
    rotates: bool = True
    seconds: float = 0.5
    asked: list[str] = field(default_factory=list)
    in_flight: set[int] = field(default_factory=set)
    doubles: list[int] = field(default_factory=list)
    issued: int = 0

    def new(self, character_id: int) -> TokenPair:
        self.issued += 1
        self.current[character_id] = f"refresh-{character_id}-{self.issued}"
        return TokenPair(
            f"access-{character_id}-{self.issued}", self.current[character_id], self.clock.now() + 20 * MINUTE
        )

    async def authorize_url(self, *, state: str, challenge: str, scopes: Sequence[str] = ()) -> str:
        return f"https://sso.example/authorize?state={state}&code_challenge={challenge}"

    async def exchange(self, code: str, *, verifier: str) -> TokenPair:
        if not code.startswith("code-"):
            raise SsoRefused("invalid_grant")
        return self.new(int(code.removeprefix("code-")))

    async def refresh(self, refresh_token: str) -> TokenPair:
        self.asked.append(refresh_token)
        if self.trouble and (error := self.trouble.pop(0)) is not None:
            raise error
        id = int(refresh_token.split("-")[1])
        if id in self.in_flight:
            self.doubles.append(id)
        self.in_flight.add(id)
        try:
            await asyncio.sleep(self.seconds)  # not a wait: the question travels, in virtual time
            if self.current.get(id) != refresh_token:
                raise SsoRefused("invalid_grant", "Invalid refresh token. Token missing/expired.")
            if self.rotates:
                pair = self.new(id)
            else:
                pair = replace(self.new(id), refresh_token=refresh_token)
                self.current[id] = refresh_token
        finally:
            self.in_flight.discard(id)
        if self.lost_answers:
            self.lost_answers -= 1
            raise SsoUnavailable("the connection was reset", in_doubt=True)
        return pair

    async def verify(self, access_token: str) -> SsoCharacter:
        id = int(access_token.split("-")[1])
        return SsoCharacter(id, f"Pilot {id}", self.owners.get(id, "hash="), (), self.clock.now() + 20 * MINUTE)


def away(retry_after: int = 1) -> EsiUnavailable:
    """ESI does not answer."""
    return EsiUnavailable("ESI is away", retry_after=retry_after)


class Distant:
    """A store that takes its time, as a true one does: whoever waits for it is overtaken."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        verb: Callable[..., Coroutine[Any, Any, Any]] = getattr(self._store, name)

        async def call(*given: Any, **named: Any) -> Any:
            await asyncio.sleep(0.01)  # not a wait: the question travels, in virtual time
            result = await verb(*given, **named)
            await asyncio.sleep(0.01)  # not a wait: and the answer back
            return result

        return call


def distant(store: Any) -> Any:
    """*store* from afar."""
    return Distant(store)


class Dying:
    """A store that dies ahead of its *at*-th call of one of *verbs*: from then on every call raises ``Dead``."""

    def __init__(self, store: Any, *, at: int, verbs: Sequence[str]) -> None:
        self._store = store
        self._left = at
        self._verbs = verbs
        self.is_dead = False

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        verb: Callable[..., Coroutine[Any, Any, Any]] = getattr(self._store, name)

        async def call(*given: Any, **named: Any) -> Any:
            if name in self._verbs:
                self._left -= 1
                self.is_dead = self.is_dead or self._left < 0
            if self.is_dead:
                raise Dead
            return await verb(*given, **named)

        return call


class Dead(Exception):
    """The process is gone: nothing it would do happens any more."""
