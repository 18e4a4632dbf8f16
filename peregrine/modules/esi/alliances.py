"""Owns the import of all alliances: which there are, what of each is kept, and who has vanished. Must not know HTTP,
limits or SQL."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Final

from peregrine.domain.errors import Unavailable
from peregrine.domain.moment import Duration
from peregrine.modules.esi.work import Holding, Tally, all_of, every_id
from peregrine.ports.clock import Clock
from peregrine.ports.esi import Esi, EsiRefused
from peregrine.ports.eve import Alliance, AllianceStore, Upsert
from peregrine.ports.eve_modules import AlliancesImported
from peregrine.ports.executor import RunContext

BATCH: Final = 10
PAUSE: Final[Duration] = 200
"""Between two batches. Both are upper bounds; the client asks slower where ESI wants it."""
VANISHED_SHARE: Final = 10
VANISHED_MIN: Final = 10
"""A list that lacks more than so many known alliances, and more than a tenth of them, is not believed."""


class Alliances:
    """An ``AllianceModule``."""

    def __init__(self, esi: Esi, store: AllianceStore, clock: Clock) -> None:
        self._esi = esi
        self._store = store
        self._clock = clock

    async def bulk_import_alliances(self, context: RunContext) -> AlliancesImported:
        """See the port. What was written before it is cut off stays."""
        holding = Holding(context, self._clock)
        listed = await holding.ask(self._esi.alliance_ids, insists=True)
        counted: Counter[Upsert | None] = Counter()
        tally = Tally(context, len(listed), "alliances")
        for start in range(0, len(listed), BATCH):
            if start:
                await asyncio.sleep(PAUSE / 1000)
            batch = listed[start : start + BATCH]
            counted.update(await self._import(batch, holding))
            tally.add(len(batch))
        await self._mark_vanished(listed, context)
        return AlliancesImported(
            total=len(listed),
            processed=sum(counted.values()),
            created=counted[Upsert.CREATED],
            updated=counted[Upsert.UPDATED],
            failed=counted[None],
            skipped=counted[Upsert.UNCHANGED],
        )

    async def _import(self, ids: Sequence[int], holding: Holding) -> Sequence[Upsert | None]:
        """What became of each of *ids*; None: it could not be had."""
        found = await all_of(self._alliance(id, holding) for id in ids)
        known = [one for one in found if one is not None]
        verdicts = await self._store.put_alliances(known, now=self._clock.now())
        return [*verdicts, *[None] * found.count(None)]

    async def _alliance(self, id: int, holding: Holding) -> Alliance | None:
        try:
            return (await holding.ask(lambda: self._esi.alliance(id))).facts
        except Unavailable as error:
            holding.missed(error)
            return None
        except EsiRefused:
            return None

    async def _mark_vanished(self, listed: Sequence[int], context: RunContext) -> None:
        """Mark the known ones that are not listed any more; not when the list looks cut off."""
        known = await every_id(self._store.alliance_ids)
        missing = sorted(set(known) - set(listed))
        if len(missing) > max(VANISHED_MIN, len(known) // VANISHED_SHARE):
            context.log(f"ESI's list lacks {len(missing)} of {len(known)} known alliances: none of them is marked")
            return
        if missing:
            marked = await self._store.vanish_alliances(missing, now=self._clock.now())
            context.log(f"{marked} alliances have vanished")
