"""Owns how instances share work without getting into each other's way: pure sums over who else there is.
Must not know stores, clocks or loops.

Nobody leads and nobody is told what to do. Each takes its share first, offers the rest, and comes back for what is
left; each waits a random moment where all would move at once. Alone, an instance takes everything, at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from peregrine.domain.moment import Duration

STEP: Final[Duration] = 20
"""Waits are drawn from so much for each other instance: the first of them comes within this, however many there are."""
STAGGER_MAX: Final[Duration] = 500
OFFER: Final[Duration] = 20
"""How long what is left over is offered to the others before an instance with free slots takes more itself."""
JITTER: Final = 0.25
"""By so much of itself a poll is shortened at most."""


class Spread:
    """What is known of the others: how many there are, and their slots. The reaper keeps it true."""

    def __init__(self, slots: int, chance: Callable[[], float]) -> None:
        self._slots, self._chance = slots, chance
        self.rivals = 0
        self.rival_slots = 0

    def share(self, free: int) -> int:
        """How many of *free* slots to fill in one go."""
        return fair_share(free, self._slots, self.rival_slots)

    def stagger(self) -> Duration:
        """How long to wait before doing what all do at this moment."""
        return int(min(self.rivals * STEP, STAGGER_MAX) * self._chance()) if self.rivals else 0

    def jittered(self, pause: Duration) -> Duration:
        """*pause*, or a little less, so that instances which started together do not look together for ever."""
        return int(pause * (1 - JITTER * self._chance())) if self.rivals else pause


def fair_share(free: int, slots: int, rival_slots: int) -> int:
    """Of *free* slots those to fill in one go, by this instance's part of all slots; never less than one of them."""
    if free <= 0:
        return 0
    return max(1, -(-free * slots // (slots + rival_slots)))
