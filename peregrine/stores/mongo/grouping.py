"""Owns how a batch is cut so that no document comes twice in one part; must not know what is in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def without_repetition(items: Sequence[Item], name: Callable[[Item], str]) -> Iterator[Sequence[Item]]:
    """*items* in runs within which no name comes twice, so that each run can be written as a whole, in order."""
    seen: set[str] = set()
    start = 0
    for index, item in enumerate(items):
        if name(item) in seen:
            yield items[start:index]
            start = index
            seen.clear()
        seen.add(name(item))
    if items:
        yield items[start:]
