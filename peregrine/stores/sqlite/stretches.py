"""Owns how many executions each five minutes of the list hold; must not know pages, or who counts.

Written in the transaction that lists, ends, or removes an execution, so it is never out of step with the list.
"""

from __future__ import annotations

from typing import Final

import apsw

from peregrine.domain.moment import MINUTE, Duration, Moment
from peregrine.stores.sqlite.queries import SQL

STRETCH: Final[Duration] = 5 * MINUTE
"""Long enough that a month is some thousands of rows, short enough that one is walked in no time (0120)."""


class Stretches:
    """Gathers what changes on the list, by the moment at which each execution is listed; fewer are negative."""

    def __init__(self) -> None:
        self._counts: dict[Moment, list[int]] = {}

    def add(self, listed_at: Moment, *, listed: int = 0, completed: int = 0, failed: int = 0) -> None:
        counts = self._counts.setdefault(listed_at - listed_at % STRETCH, [0, 0, 0])
        counts[0] += listed
        counts[1] += completed
        counts[2] += failed

    def write(self, db: apsw.Connection) -> None:
        db.executemany(SQL["count_stretch"], [(start, *counts) for start, counts in self._counts.items()])
        shrunk = [(start,) for start, (listed, *_) in self._counts.items() if listed < 0]
        db.executemany(SQL["drop_empty_stretch"], shrunk)
