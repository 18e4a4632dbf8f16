"""Owns answers kept in this process, bounded by their size; must not know what they say or when to ask again."""

from __future__ import annotations

import zlib
from collections import OrderedDict
from dataclasses import replace
from typing import Final

from peregrine.ports.esi import Kept

SIZE_MAX: Final = 64 * 1024 * 1024
"""Bytes: some 100,000 corporations."""
ENTRY_COST: Final = 400
"""What an entry weighs besides its body: key, ETag, objects, its place in the order."""
PACK_FROM: Final = 200
_PACKED: Final = b"z"
_PLAIN: Final = b"p"


class MemoryCache:
    """A ``ports.esi.EsiCache`` in this process. The longest unused entries go first."""

    def __init__(self, size_max: int = SIZE_MAX) -> None:
        self._size_max = size_max
        self._size = 0
        self._kept: OrderedDict[str, Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        return self._size

    async def get(self, key: str) -> Kept | None:
        """What is kept under *key*."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        self._kept.move_to_end(key)
        body = zlib.decompress(kept.body[1:]) if kept.body[:1] == _PACKED else kept.body[1:]
        return replace(kept, body=body)

    async def put(self, key: str, kept: Kept) -> None:
        """Keep it; what was kept longest without use makes room."""
        self._drop(key)
        packed = replace(kept, body=_packed(kept.body))
        if (cost := _cost(packed)) > self._size_max:
            return
        self._kept[key] = packed
        self._size += cost
        while self._size > self._size_max:
            _, oldest = self._kept.popitem(last=False)
            self._size -= _cost(oldest)

    def _drop(self, key: str) -> None:
        old = self._kept.pop(key, None)
        if old is not None:
            self._size -= _cost(old)


def _packed(body: bytes) -> bytes:
    small = zlib.compress(body, 1) if len(body) >= PACK_FROM else body
    return _PACKED + small if len(small) < len(body) else _PLAIN + body


def _cost(kept: Kept) -> int:
    return len(kept.body) + ENTRY_COST
