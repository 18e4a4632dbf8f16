"""The conformance suite of shared texts: what ``ports/shared.py`` promises, as checks for any place they may stand.

A check takes two ``SharedState`` that look at the same place, as two instances would; they may be one and the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from peregrine.domain.moment import MINUTE
from peregrine.ports.shared import Shared, SharedState

Check: TypeAlias = Callable[[SharedState, SharedState], Awaitable[None]]
SHORT: Final = 100
WAIT_SECONDS: Final = 10.0


async def check_nothing_stands_there_at_first(ours: SharedState, theirs: SharedState) -> None:
    assert await ours.read("k") == Shared("", 0)


async def check_what_one_writes_the_other_reads(ours: SharedState, theirs: SharedState) -> None:
    text = 'Grüße, \u2028 {"a": "b c"} 0 1'

    assert await ours.swap("k", text, seen=0, ttl=MINUTE)

    seen = await theirs.read("k")
    assert seen.text == text
    assert seen.version > 0
    assert await ours.read("other") == Shared()


async def check_an_old_version_is_refused(ours: SharedState, theirs: SharedState) -> None:
    await ours.swap("k", "one", seen=0, ttl=MINUTE)
    first = await ours.read("k")
    await theirs.swap("k", "two", seen=first.version, ttl=MINUTE)

    assert not await ours.swap("k", "three", seen=first.version, ttl=MINUTE)
    assert not await ours.swap("k", "three", seen=0, ttl=MINUTE)

    assert (await ours.read("k")).text == "two"


async def check_it_expires_and_no_version_comes_back(ours: SharedState, theirs: SharedState) -> None:
    await ours.swap("k", "one", seen=0, ttl=SHORT)
    first = await theirs.read("k")
    async with asyncio.timeout(WAIT_SECONDS):
        while await theirs.read("k") != Shared():  # noqa: ASYNC110
            await asyncio.sleep(SHORT / 10_000)

    assert not await ours.swap("k", "two", seen=first.version or 1, ttl=MINUTE)
    assert await ours.swap("k", "one", seen=0, ttl=MINUTE)

    assert (await ours.read("k")).version != first.version


async def check_of_many_who_count_none_is_lost(ours: SharedState, theirs: SharedState) -> None:
    async def count(place: SharedState) -> None:
        while True:
            seen = await place.read("k")
            if await place.swap("k", str(int(seen.text or "0") + 1), seen=seen.version, ttl=MINUTE):
                return

    await asyncio.gather(*(count(place) for place in (ours, theirs) * 5))

    assert (await ours.read("k")).text == "10"


SHARED_STATE_CHECKS: Final[tuple[Check, ...]] = tuple(
    check for name, check in sorted(globals().items()) if name.startswith("check_")
)
