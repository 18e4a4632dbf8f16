"""Owns the list of what an engine needs from outside; must not know what stands behind it."""

from __future__ import annotations

from dataclasses import dataclass

from peregrine.engine.settings import EngineSettings
from peregrine.ports.bus import Bus
from peregrine.ports.clock import Clock, Reference
from peregrine.ports.entropy import Entropy
from peregrine.ports.executor import Executor
from peregrine.ports.host import Host, Instance
from peregrine.ports.lock import Locks
from peregrine.ports.observer import Observer
from peregrine.ports.store import WorkStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """Every port of the hall, who this process is, and the times and sizes it keeps."""

    store: WorkStore
    executor: Executor
    clock: Clock
    entropy: Entropy
    bus: Bus
    host: Host
    observer: Observer
    instance: Instance
    settings: EngineSettings
    locks: Locks | None = None
    """None: the store's claim is all that keeps two executions of a task apart, and it is enough."""
    reference: Reference | None = None
    """None: the wall clock is the store's own, or the only one there is."""
