"""What a process can know of other processes on its own machine: the fast way to notice a dead worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from peregrine.domain.ids import WorkerId
from peregrine.domain.moment import Moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One running process. ``place`` names kernel boot and pid namespace: pids mean something only there.

    ``process_started`` is the kernel's start time of the pid (clock ticks), so a reused pid is not mistaken.
    """

    id: WorkerId
    host: str
    place: str
    pid: int
    process_started: int
    version: str
    slots: int
    started_at: Moment


class Host(Protocol):
    """Tells whether a neighbour process is gone for certain."""

    def is_gone(self, instance: Instance) -> bool:
        """True only if *instance* lived in this very place and its process no longer exists; False when in doubt."""
        ...
