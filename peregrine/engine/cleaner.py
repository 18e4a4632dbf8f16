"""Owns retention, in bounded bites, and what a wrong clock left in the future. Must not know live work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from peregrine.domain.event import CursorReanchored, Purged
from peregrine.domain.moment import DAY, Duration
from peregrine.engine.loop import answered, tell
from peregrine.engine.needs import Needs

BITE: Final = 1000
"""Most rows removed in one write: a long delete would hold up every claim (guarantees, retention)."""
FUTURE_MAX: Final[Duration] = DAY
"""A cursor or a wait further ahead than this was written under a wrong clock."""


class Cleaner:
    """The turn of the cleaning loop: one bite. *on_reanchored* hears when cursors were set back."""

    def __init__(self, needs: Needs, *, on_reanchored: Callable[[], None]) -> None:
        self._settings = needs.settings
        self._store = needs.store
        self._clock = needs.clock
        self._observer = needs.observer
        self._on_reanchored = on_reanchored
        self._clean_again_at = 0
        """Steady-clock moment of the next cleaning; 0 while one is under way."""
        self._is_asked = False

    def soon(self) -> None:
        """Do not wait for the interval: the clock went back, and cursors may lie in the future."""
        self._is_asked = True

    async def turn(self) -> Duration:
        """Take one bite if it is time; again at once while there is more."""
        now = self._clock.monotonic()
        if now < self._clean_again_at and not self._is_asked:
            return self._clean_again_at - now
        self._is_asked, self._clean_again_at = False, 0  # until it is done
        wall = self._clock.now()
        moved = await answered(self._store.reanchor(beyond=wall + FUTURE_MAX, now=wall))
        if moved:
            tell(self._observer, CursorReanchored(moved))
            self._on_reanchored()
        executions, ledger = await answered(self._store.purge(before=wall - self._settings.retention, limit=BITE))
        if executions or ledger:
            tell(self._observer, Purged(executions, ledger))
        if executions >= BITE or ledger >= BITE:
            return 0
        self._clean_again_at = now + self._settings.cleanup_interval
        return self._settings.cleanup_interval
