"""Owns finished pieces of answers, kept because making them is what a list costs; must not know what is in them.

A piece is kept together with everything that it shows, so it is never wrong, only replaced. The store is asked first.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from peregrine.wire.envelope import encode


class Fragments:
    """The newest encoded shape of each thing in one store: a bounded number, none large. Full, it starts anew."""

    def __init__(self, *, count_max: int = 4096, bytes_max: int = 8192) -> None:
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._kept: dict[str, tuple[tuple[object, ...], msgspec.Raw]] = {}

    def get(self, id: str, shows: tuple[object, ...], make: Callable[[], msgspec.Struct]) -> msgspec.Raw:
        """The bytes of what *make* gives of the thing *id*; *shows* must differ whenever they would."""
        kept = self._kept.get(id)
        if kept is not None and kept[0] == shows:
            return kept[1]
        found = msgspec.Raw(encode(make()))
        if len(bytes(found)) <= self._bytes_max:
            if len(self._kept) >= self._count_max:
                self._kept.clear()
            self._kept[id] = shows, found
        return found
