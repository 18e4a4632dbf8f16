"""Owns the update of all corporations: what of each is kept, who left an alliance, who has vanished. Must not know
HTTP, limits or SQL."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from peregrine.domain.errors import Unavailable
from peregrine.domain.moment import Duration
from peregrine.modules.esi.work import Holding, Tally, every_id, work_off
from peregrine.ports.clock import Clock
from peregrine.ports.esi import CorporationFacts, Esi, EsiRefused, Seen
from peregrine.ports.eve import Corporation, CorporationStore, Upsert
from peregrine.ports.eve_modules import CorporationsUpdated
from peregrine.ports.executor import RunContext

WORKERS_MAX: Final = 50
PAUSE: Final[Duration] = 50
"""Of each worker behind each question: an upper bound of haste; the client asks slower where ESI wants it."""
BITE: Final = 100
"""Corporations in one write."""


@dataclass(slots=True)
class _Bite:
    """What was learnt and is not written yet."""

    live: list[Corporation] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)

    def add(self, id: int, facts: CorporationFacts | None) -> None:
        """None: ESI knows no such corporation."""
        if facts is not None:
            self.live.append(facts.corporation)
        if facts is None or facts.is_closed:
            self.closed.append(id)

    def __len__(self) -> int:
        return len(self.live) + len(self.closed)


class Corporations:
    """A ``CorporationModule``."""

    def __init__(self, esi: Esi, store: CorporationStore, clock: Clock) -> None:
        self._esi = esi
        self._store = store
        self._clock = clock
        self._behind = 0
        """Where a run was cut off, so that the next one begins there and none is starved; 0: none was."""

    async def update_all_corporations(self, context: RunContext, concurrent_workers: int) -> CorporationsUpdated:
        """See the port; at least one worker. A run that is cut off loses what it learnt of the last hundred."""
        ids = await every_id(self._store.corporation_ids)
        holding, tally = Holding(context, self._clock), Tally(context, len(ids), "corporations")
        counted: Counter[Upsert | str] = Counter()
        bite = _Bite()

        async def update(id: int) -> None:
            nonlocal bite
            seen = await self._seen(id, holding)
            if seen is None:
                counted["failed"] += 1
            else:
                bite.add(id, seen.facts)
            self._behind = id
            tally.add()
            if len(bite) >= BITE:
                full, bite = bite, _Bite()
                await self._write(full, counted)
            await asyncio.sleep(PAUSE / 1000)

        start = bisect_right(ids, self._behind)
        await work_off(chain(ids[start:], ids[:start]), update, workers=min(max(1, concurrent_workers), WORKERS_MAX))
        await self._write(bite, counted)
        self._behind = 0
        return CorporationsUpdated(
            total=len(ids),
            updated=counted[Upsert.CREATED] + counted[Upsert.UPDATED],
            unchanged=counted[Upsert.UNCHANGED],
            failed=counted["failed"],
            vanished=counted["vanished"],
        )

    async def _seen(self, id: int, holding: Holding) -> Seen[CorporationFacts] | None:
        """What ESI says of *id*; None: it said nothing."""
        try:
            return await holding.ask(lambda: self._esi.corporation(id))
        except Unavailable as error:
            holding.missed(error)
            return None
        except EsiRefused:
            return None

    async def _write(self, bite: _Bite, counted: Counter[Upsert | str]) -> None:
        now = self._clock.now()
        counted.update(await self._store.put_corporations(bite.live, now=now))
        vanished = await self._store.vanish_corporations(bite.closed, now=now)
        counted["vanished"] += vanished
