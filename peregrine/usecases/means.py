"""Owns what use cases stand on: the ports, in one frozen value; must not know what implements them."""

from __future__ import annotations

from dataclasses import dataclass, field

from peregrine.domain.draft import Check, Limits, Making
from peregrine.domain.ids import TaskId
from peregrine.domain.moment import Moment
from peregrine.ports.bus import Bus
from peregrine.ports.catalogue import Catalogue
from peregrine.ports.clock import WaitingClock
from peregrine.ports.engine_view import EngineView, LockView
from peregrine.ports.entropy import Entropy
from peregrine.ports.identity import Asker, Grants, KeyMint
from peregrine.ports.journal import RunJournal
from peregrine.ports.records import RecordStore
from peregrine.ports.store import Store
from peregrine.ports.vault import Vault
from peregrine.usecases.turns import Turns


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """Everything a use case may call."""

    store: Store
    records: RecordStore
    bus: Bus
    clock: WaitingClock
    entropy: Entropy
    grants: Grants
    engine: EngineView
    check: Check
    lock: LockView | None = None
    keys: KeyMint | None = None
    journal: RunJournal | None = None
    """None: nothing runs in this process."""
    catalogue: Catalogue | None = None
    """None: nothing is registered in this process."""
    vault: Vault | None = None
    """None: secrets are stored as they were written; never so where the store outlives the process."""
    queue_size: int = 1000
    limits: Limits = field(default_factory=Limits)
    turns: Turns = field(default_factory=Turns)

    def making(self, by: Asker, *, id: TaskId, at: Moment, source: str = "api") -> Making:
        """What a reader of documents needs to make the task *id*."""
        return Making(id=id, at=at, by=by.id, check=self.check, source=source, limits=self.limits)
