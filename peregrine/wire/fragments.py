"""Owns finished pieces of answers, kept because making them is what a list costs; must not know what is in them.

A piece is kept under everything that it shows, so it is never wrong, only unused. The store is asked every time.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import msgspec

from peregrine.wire.envelope import encode


class Fragments:
    """Encoded shapes by what they show, of one store: a bounded number, none of them large. Full, it starts anew."""

    def __init__(self, *, count_max: int = 4096, bytes_max: int = 8192) -> None:
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._kept: dict[Hashable, msgspec.Raw] = {}

    def get(self, shows: Hashable, make: Callable[[], msgspec.Struct]) -> msgspec.Raw:
        """The bytes of what *make* gives; *shows* must differ whenever they would."""
        found = self._kept.get(shows)
        if found is None:
            found = msgspec.Raw(encode(make()))
            if len(bytes(found)) <= self._bytes_max:
                if len(self._kept) >= self._count_max:
                    self._kept.clear()
                self._kept[shows] = found
        return found
