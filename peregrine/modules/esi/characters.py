"""Owns the update of all affiliations: which characters are asked about, and what of the answer is written. Must not
know HTTP, limits or SQL.

ESI answers for a thousand at once, and one id that it does not like may sink the thousand: the batch is halved until
that one is found, which is then left alone for a week.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from peregrine.domain.errors import Unavailable
from peregrine.domain.moment import DAY, SECOND, Duration
from peregrine.modules.esi.work import Holding, Tally, every_id, work_off
from peregrine.ports.clock import Clock
from peregrine.ports.esi import AFFILIATIONS_MAX, Esi, EsiRefused
from peregrine.ports.eve import Affiliation, CharacterStore
from peregrine.ports.eve_modules import AffiliationsUpdated
from peregrine.ports.executor import RunContext
from peregrine.ports.records import Record, RecordStore

WORKERS: Final = 3
DOOMHEIM: Final = 1_000_001
"""The corporation of deleted characters: nobody comes back from there, and ESI tells nothing new of them."""
QUARANTINE: Final = "eve_quarantine"
QUARANTINED_FOR: Final[Duration] = 7 * DAY
QUARANTINED_MAX: Final = 10_000
POISON_MAX: Final = 50
"""So many bad ids in one run, and it ends: something is wrong with the question, not with the ids. Each costs some
refusals of ESI's, of which it bears a hundred a minute."""


@dataclass(slots=True)
class _Counted:
    updated: int = 0
    failed: int = 0
    skipped: int = 0
    poison: int = 0


class Characters:
    """A ``CharacterModule``."""

    def __init__(self, esi: Esi, store: CharacterStore, records: RecordStore, clock: Clock) -> None:
        self._esi = esi
        self._store = store
        self._records = records
        self._clock = clock

    async def update_all_affiliations(self, context: RunContext) -> AffiliationsUpdated:
        """See the port. What was written before it is cut off stays; the next run goes on from what is stored."""
        began = self._clock.monotonic()
        ids, counted = await every_id(self._store.character_ids), _Counted()
        run = _Run(context, self._esi, Holding(context, self._clock), await self._quarantined(), counted)
        tally = Tally(context, len(ids), "characters", every=10 * AFFILIATIONS_MAX)

        async def update(batch: array[int]) -> None:
            await self._update(batch, run)
            tally.add(len(batch))

        batches = (ids[start : start + AFFILIATIONS_MAX] for start in range(0, len(ids), AFFILIATIONS_MAX))
        await work_off(batches, update, workers=WORKERS)
        return AffiliationsUpdated(
            updated_characters=counted.updated,
            failed_characters=counted.failed,
            skipped_characters=counted.skipped,
            duration=(self._clock.monotonic() - began) // SECOND,
        )

    async def _update(self, batch: Sequence[int], run: _Run) -> None:
        """Ask about one batch, and write what has changed."""
        counted = run.counted
        stored = {one.character_id: one for one in await self._store.affiliations_of(batch)}
        wanted = [id for id, one in stored.items() if one.corporation_id != DOOMHEIM and id not in run.quarantined]
        counted.skipped += len(stored) - len(wanted)
        found, poison = await run.affiliations(wanted)
        for id in poison:
            await self._quarantine(id, run)
        told = {one.character_id: one for one in found if one.character_id in stored}
        changes = [one for id, one in told.items() if stored[id] != one]
        updated = await self._store.set_affiliations(changes, now=self._clock.now())
        counted.updated += updated
        counted.skipped += len(told) - len(changes)
        counted.failed += len(wanted) - len(told)

    async def _quarantined(self) -> frozenset[int]:
        now = self._clock.now()
        records = await self._records.list_records(QUARANTINE, limit=QUARANTINED_MAX, now=now)
        return frozenset(int(record.key) for record in records)

    async def _quarantine(self, id: int, run: _Run) -> None:
        now = self._clock.now()
        record = Record(collection=QUARANTINE, key=str(id), document={"since": now}, expires_at=now + QUARANTINED_FOR)
        await self._records.put_record(record, expected_revision=None, now=now)
        run.context.log(f"character {id} is left alone for a week: ESI refuses every question about it")


@dataclass(frozen=True, slots=True)
class _Run:
    """One run's view of ESI."""

    context: RunContext
    esi: Esi
    holding: Holding
    quarantined: frozenset[int]
    counted: _Counted

    async def affiliations(self, ids: Sequence[int]) -> tuple[Sequence[Affiliation], Sequence[int]]:
        """What ESI says of *ids*, and which of them are poison. An id that could not be asked about is in neither.

        Raises:  Unavailable when ESI is away for good; EsiRefused when it refuses too much.
        """
        if not ids:
            return (), ()
        try:
            return await self.holding.ask(lambda: self.esi.affiliations(ids)), ()
        except Unavailable as error:
            self.holding.missed(error)
            return (), ()
        except EsiRefused:
            if len(ids) == 1:
                self.counted.poison += 1
                if self.counted.poison > POISON_MAX:
                    raise
                return (), ids
        middle = len(ids) // 2
        found, poison = await self.affiliations(ids[:middle])
        more, more_poison = await self.affiliations(ids[middle:])
        return [*found, *more], [*poison, *more_poison]
