"""Owns the small texts that all instances change together, in Redis; must not know what they say."""

from __future__ import annotations

from typing import Final

from peregrine.coordination.redis.link import Link
from peregrine.coordination.redis.scripts import SWAP
from peregrine.domain.moment import Duration
from peregrine.ports.entropy import Entropy
from peregrine.ports.shared import Shared

PREFIX: Final = "scheduler:shared:"


class RedisShared:
    """``ports.shared.SharedState`` over one server. A value stands there as ``<version> <text>``."""

    def __init__(self, link: Link, *, entropy: Entropy) -> None:
        self._link, self._entropy = link, entropy

    async def read(self, key: str) -> Shared:
        """What stands under *key* now. Raises Unavailable."""
        [answer] = await self._link.ask([("GET", PREFIX + key)])
        version, _, text = answer.decode().partition(" ") if answer else ("0", "", "")
        return Shared(text, int(version))

    async def swap(self, key: str, text: str, *, seen: int, ttl: Duration) -> bool:
        """Write *text* if the version is still *seen*; whether it was written. Raises Unavailable.

        A version is a new id: a counter would begin anew when the server is emptied.
        """
        version = int(self._entropy.new_id().replace("-", ""), 16)
        [answer] = await self._link.ask([("EVAL", SWAP, 1, PREFIX + key, seen, f"{version} {text}", ttl)])
        return bool(answer)
