"""Owns the list of built-in system tasks; must not know how they are run or kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from peregrine.modules.builtin.health import Probe, health_check
from peregrine.modules.builtin.housekeeping import Sweep, state_cleanup, task_cleanup
from peregrine.ports.clock import Clock
from peregrine.ports.module import SystemTask
from peregrine.ports.records import RecordStore
from peregrine.ports.store import WorkStore


def builtin_tasks(
    *, store: WorkStore, records: RecordStore, probes: Mapping[str, Probe], sweeps: Sequence[Sweep] = (), clock: Clock
) -> tuple[SystemTask, ...]:
    """Every system task that needs nobody outside.

    *probes*: what the health check asks, by name. *sweeps*: what removes expired things beside the records.
    """
    return (health_check(probes, clock), state_cleanup(records, clock, *sweeps), task_cleanup(store, clock))
