"""What a subject of a measurement is: a scheduler behind a few verbs, set up as its own documentation says.

A subject is driven from a process of its own and keeps what it keeps in one folder. Times are wall seconds.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Subject(Protocol):
    """One scheduler. ``open`` begins nothing yet; ``go`` lets it work."""

    async def open(self, folder: Path) -> None:
        """Make it ready, its store new and empty or as an earlier process left it."""
        ...

    async def add_due(self, count: int) -> None:
        """Have so many runs wait that are due already."""
        ...

    async def add_later(self, start: int, count: int) -> None:
        """Register so many tasks, from number *start* on, that fall due in a year, one by one."""
        ...

    async def add_ticks(self, count: int, first: int, seconds: int, *, spread: bool) -> None:
        """Register *count* runs for each of so many seconds from *first* on: all on the second, or *spread* over it."""
        ...

    async def run_now(self) -> float:
        """Ask for one run at once; the wall time of the asking."""
        ...

    async def go(self) -> None:
        """Work from now on."""
        ...

    async def close(self) -> None:
        """Let go of everything."""
        ...

    def spent(self) -> float:
        """Seconds of processor time so far, of all its processes."""
        ...

    def memory(self) -> float:
        """Mebibytes that all its processes hold."""
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """A subject in the tables."""

    key: str
    name: str
    make: Callable[[], Subject]
    keeps: str
    pace: int
    """About so many runs a second: how much work makes a measurement of some seconds."""
    needs: tuple[str, ...] = ()
    """Programs without which it is left out."""
    recurs: bool = True
    """Whether a schedule of every second is registered once, or each of its runs by itself."""

    lacks: Callable[[], str] = lambda: ""
    """Says what else is missing here, or nothing; it may take the time to bring it here."""

    @property
    def missing(self) -> str:
        """The first program that it lacks here, or nothing."""
        return next((program for program in self.needs if shutil.which(program) is None), "")
