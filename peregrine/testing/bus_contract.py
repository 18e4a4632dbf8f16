"""The conformance suite of wakes: what ``ports/bus.py`` promises, as checks that any bus can be held to.

A check takes two buses that reach each other, as two instances would; they may be one and the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from peregrine.ports.bus import Bus, Topic

Check: TypeAlias = Callable[[Bus, Bus], Awaitable[None]]
WAIT_SECONDS: Final = 10.0


class Sleeper:
    """Somebody who counts how often they are woken."""

    def __init__(self) -> None:
        self.woken = 0

    def wake(self) -> None:
        """Once more."""
        self.woken += 1

    async def is_woken(self, *, beyond: int = 0) -> None:
        """Return once that has happened more than *beyond* times."""
        async with asyncio.timeout(WAIT_SECONDS):
            while self.woken <= beyond:  # noqa: ASYNC110
                await asyncio.sleep(0.001)


async def check_who_listens_here_is_woken_at_once(ours: Bus, theirs: Bus) -> None:
    first, second, other = Sleeper(), Sleeper(), Sleeper()
    ours.subscribe(Topic.QUEUED, first.wake)
    ours.subscribe(Topic.QUEUED, second.wake)
    ours.subscribe(Topic.CANCEL, other.wake)

    ours.publish(Topic.QUEUED)

    assert (first.woken, second.woken, other.woken) == (1, 1, 0)


async def check_who_left_is_not_woken(ours: Bus, theirs: Bus) -> None:
    gone = Sleeper()
    leave = ours.subscribe(Topic.QUEUED, gone.wake)

    leave()
    leave()
    ours.publish(Topic.QUEUED)

    assert gone.woken == 0


async def check_one_that_fails_keeps_nobody_asleep(ours: Bus, theirs: Bus) -> None:
    def fail() -> None:
        raise ValueError("a subscriber's bug")

    second = Sleeper()
    ours.subscribe(Topic.SETTLED, fail)
    ours.subscribe(Topic.SETTLED, second.wake)

    ours.publish(Topic.SETTLED)

    assert second.woken == 1


async def check_a_wake_travels_both_ways(ours: Bus, theirs: Bus) -> None:
    for topic in Topic:
        if topic.travels:
            here, there = Sleeper(), Sleeper()
            leave = [ours.subscribe(topic, here.wake), theirs.subscribe(topic, there.wake)]

            ours.publish(topic)
            await there.is_woken()
            before = here.woken
            theirs.publish(topic)
            await here.is_woken(beyond=before)

            for one in leave:
                one()


async def check_a_flood_is_no_error(ours: Bus, theirs: Bus) -> None:
    there = Sleeper()
    theirs.subscribe(Topic.CANCEL, there.wake)

    for _ in range(10_000):
        ours.publish(Topic.CANCEL)

    await there.is_woken()


BUS_CHECKS: Final[tuple[Check, ...]] = tuple(
    check for name, check in sorted(globals().items()) if name.startswith("check_")
)
