"""What a run leaves behind: the moment at which it began. The function that every subject runs does only this."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

STARTS: Final[list[float]] = []
"""Wall time of each run so far, in seconds, in the order in which they began."""
NEVER_MORE: Final = 0.002
"""Seconds between two looks at how many there are; what is measured stands in the marks."""


def nothing() -> None:
    """What is run."""
    STARTS.append(time.time())


async def nothing_async() -> None:
    """The same, for those who await it."""
    STARTS.append(time.time())


async def nothing_saq(context: Any) -> None:
    """The same, as SAQ calls it."""
    STARTS.append(time.time())


async def reached(count: int, within: float) -> bool:
    """Wait until so many have begun; False if they have not *within* so many seconds."""
    until = time.monotonic() + within
    while len(STARTS) < count:
        if time.monotonic() > until:
            return False
        await asyncio.sleep(NEVER_MORE)
    return True
