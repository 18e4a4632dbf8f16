"""Owns how the service is doing, measured; must not know HTTP, drivers, or the engine itself (only its view).

What is measured is kept for a second, and callers who come meanwhile wait for the same measurement: nobody can make
the store work by asking.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from peregrine.domain.errors import StorageFull, Unavailable
from peregrine.domain.execution import Running
from peregrine.domain.ids import WorkerId
from peregrine.domain.moment import SECOND, Duration, Moment
from peregrine.domain.permission import Permission
from peregrine.domain.statistics import Statistics
from peregrine.ports.clock import SKEW_TOLERATED
from peregrine.ports.engine_view import EngineFacts, EngineMode, LockFacts
from peregrine.ports.host import Instance
from peregrine.ports.identity import Asker
from peregrine.usecases.access import require
from peregrine.usecases.means import Means

KEPT_FOR: Final[Duration] = SECOND
PATIENCE_SECONDS: Final = 5.0
"""A store that answers later than this counts as away."""


class Health(StrEnum):
    """The one word for it."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    """It works, but something behind it does not."""
    UNHEALTHY = "unhealthy"
    """Nothing can be promised now: the store is away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One look at everything. ``None`` for what could not be had at that moment."""

    health: Health
    message: str
    at: Moment
    facts: EngineFacts
    store_latency: Duration | None
    lock: LockFacts | None
    """None: there is no lock service, and none is needed."""
    instances: Sequence[Member]
    """Every process that has announced itself, the oldest first; the newest that could be had."""
    statistics: Statistics | None
    """The newest ones that could be had."""
    memory_bytes: int

    @property
    def is_ready(self) -> bool:
        """Whether work sent here would be accepted and done."""
        return self.store_latency is not None and self.facts.mode is EngineMode.RUNNING


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One process among those that share the store."""

    instance: Instance
    seen_at: Moment
    """When it last announced itself, by its own clock."""
    skew: Duration
    """How far its clock is ahead of the one here, as far as can be told."""
    is_here: bool
    running: Sequence[Running]


class StatusBoard:
    """Measures, and remembers for a second."""

    def __init__(self, means: Means, memory: Callable[[], int]) -> None:
        self._means = means
        self._memory = memory
        self._turn = asyncio.Lock()
        self._last: Measured | None = None
        self._measured_at = 0

    async def status(self, by: Asker) -> Measured:
        """How the service is doing, for whoever may know."""
        try:
            await require(self._means.grants, by, Permission.READ)
        except Unavailable:
            # The grants can't be read because the store is away. That much may be known: readiness says it too.
            measured = await self.measure()
            return replace(measured, statistics=None)
        return await self.measure()

    async def statistics(self, by: Asker) -> tuple[Statistics, EngineFacts]:
        """The counts. Raises Unavailable when there are none of this moment."""
        await require(self._means.grants, by, Permission.READ)
        measured = await self.measure()
        if measured.statistics is None or measured.store_latency is None:
            raise Unavailable("the store does not answer")
        return measured.statistics, measured.facts

    async def measure(self) -> Measured:
        """What is true, at most a second old."""
        if (fresh := self._fresh()) is not None:
            return fresh
        async with self._turn:
            if (fresh := self._fresh()) is not None:
                return fresh
            measured = await self._measure()
            self._last, self._measured_at = measured, self._means.clock.monotonic()
            return measured

    def _fresh(self) -> Measured | None:
        age = self._means.clock.monotonic() - self._measured_at
        return self._last if self._last is not None and age < KEPT_FOR else None

    async def _measure(self) -> Measured:
        means = self._means
        trouble: list[str] = []
        statistics, store_latency = (self._last.statistics if self._last is not None else None), None
        instances = self._last.instances if self._last is not None else ()
        facts = means.engine.facts()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                started = means.clock.monotonic()
                await means.store.ping()
                store_latency = means.clock.monotonic() - started
                statistics = await means.store.statistics(means.clock.now())
                instances = await self._members(facts)
        except StorageFull:
            trouble.append("no room to write")
        except (Unavailable, TimeoutError):
            trouble.append("the store does not answer")
            store_latency = None
        lock = means.lock.facts() if means.lock is not None else None
        health = Health.UNHEALTHY if trouble else Health.HEALTHY
        trouble += troubles(facts, lock)
        if trouble and health is Health.HEALTHY:
            health = Health.DEGRADED
        return Measured(
            health=health,
            message="; ".join(trouble).capitalize() if trouble else "All scheduler services operational",
            at=means.clock.now(),
            facts=facts,
            store_latency=store_latency,
            lock=lock,
            instances=instances,
            statistics=statistics,
            memory_bytes=self._memory(),
        )

    async def _members(self, facts: EngineFacts) -> Sequence[Member]:
        """Who shares the store, and who runs what."""
        by_worker: dict[WorkerId, list[Running]] = {}
        for row in await self._means.store.running():
            by_worker.setdefault(row.worker_id, []).append(row)
        announced = await self._means.store.instances()
        return [
            Member(
                instance=instance,
                seen_at=seen_at,
                skew=facts.skews.get(instance.id, 0),
                is_here=instance.id == facts.instance,
                running=by_worker.get(instance.id, ()),
            )
            for instance, _, seen_at in sorted(announced, key=lambda row: (row[0].started_at, row[0].id))
        ]


def troubles(facts: EngineFacts, lock: LockFacts | None) -> list[str]:
    """What is not as it should be, in words that may be shown to anybody."""
    found = []
    if facts.mode is not EngineMode.RUNNING:
        found.append(f"the engine is {facts.mode}")
    if lock is not None and lock.latency is None:
        found.append("the lock service does not answer (work goes on without it)")
    if facts.store_away_since is not None:
        found.append("the engine waits for the store")
    if facts.failing:
        found.append(f"{len(facts.failing)} engine loop(s) fail")
    if facts.stale:
        found.append(f"{facts.stale} execution(s) run for too long")
    if facts.quiet_for > 0:
        found.append("the clock went back, tasks wait until it has caught up")
    if facts.clock_skew > SKEW_TOLERATED:
        found.append("the clocks of the instances differ")
    if facts.is_astray:
        found.append("the clock of this instance is wrong, it makes no occurrences")
    return found
