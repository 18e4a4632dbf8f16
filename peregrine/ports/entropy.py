"""The only source of chance."""

from __future__ import annotations

from typing import Protocol


class Entropy(Protocol):
    """New ids and chance; a seeded one makes the same world twice."""

    def new_id(self) -> str:
        """A new UUID text; never the same twice. Those made later sort later (version 7)."""
        ...

    def chance(self) -> float:
        """A uniform number in [0, 1)."""
        ...
