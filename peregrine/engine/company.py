"""Owns what the loops of an engine need to get along with other instances; must not know what the loops do with it."""

from __future__ import annotations

from dataclasses import dataclass

from peregrine.engine.locking import Locking
from peregrine.engine.needs import Needs
from peregrine.engine.spread import Spread


@dataclass(frozen=True, slots=True)
class Company:
    """Who else there is, and which locks are held against them; one of each for all loops."""

    spread: Spread
    locking: Locking

    @classmethod
    def of(cls, needs: Needs) -> Company:
        """That of one engine."""
        return cls(Spread(needs.settings.slots, needs.entropy.chance), Locking(needs))
