"""A few small texts that all instances change together, such as how much of a neighbour's limit is spent.

Politeness, never truth: it may be lost as a whole (a restart of Redis), and then everybody begins afresh.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from peregrine.domain.moment import Duration


@dataclass(frozen=True, slots=True)
class Shared:
    """A text and its version. Version 0: nobody has written it, or it has expired; ``text`` is empty then."""

    text: str = ""
    version: int = 0


class SharedState(Protocol):
    """Texts by key, changed by compare-and-swap only. Keys and texts are short (some KiB).

    Raises:  Unavailable when the place can't be reached; a swap may have come through then.
    """

    async def read(self, key: str) -> Shared:
        """What stands under *key* now."""
        ...

    async def swap(self, key: str, text: str, *, seen: int, ttl: Duration) -> bool:
        """Write *text* if the version is still *seen* (0: if nothing stands there); whether it was written.

        Each write has a version that *key* never had before, so that nobody takes a text for another one that was
        written, expired and written again. It expires *ttl* milliseconds after this write.
        """
        ...
