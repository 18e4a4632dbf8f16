"""The conformance suite of locks: what ``ports/lock.py`` promises, as checks that any lock service can be held to.

A check takes two ``Locks`` that look at the same place, as two instances would; they may be one and the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from peregrine.domain.ids import ExecutionId, TaskId
from peregrine.domain.moment import MINUTE
from peregrine.ports.lock import Hold, Locks, LockVerdict

Check: TypeAlias = Callable[[Locks, Locks], Awaitable[None]]
HELD, TAKEN = LockVerdict.HELD, LockVerdict.TAKEN
SHORT: Final = 100
"""A lease that ends while one waits."""
WAIT_SECONDS: Final = 10.0


def a_hold(task: str = "task", execution: str = "execution", epoch: int = 1) -> Hold:
    """What a claim asks for."""
    return Hold(TaskId(task), ExecutionId(execution), epoch)


async def check_a_free_lock_is_taken_once(ours: Locks, theirs: Locks) -> None:
    mine, other = a_hold(execution="a"), a_hold(execution="b")

    assert await ours.acquire([mine], MINUTE) == [HELD]
    assert await theirs.acquire([other], MINUTE) == [TAKEN]
    assert await ours.acquire([mine], MINUTE) == [HELD]


async def check_a_batch_is_answered_in_its_order(ours: Locks, theirs: Locks) -> None:
    await theirs.acquire([a_hold("two", "b"), a_hold("four", "b")], MINUTE)

    verdicts = await ours.acquire([a_hold(name, "a") for name in ("one", "two", "three", "four")], MINUTE)

    assert verdicts == [HELD, TAKEN, HELD, TAKEN]
    assert await ours.acquire([], MINUTE) == []
    assert await ours.renew([], MINUTE) == []
    await ours.release([])


async def check_two_of_a_task_in_one_batch_get_it_once(ours: Locks, theirs: Locks) -> None:
    assert await ours.acquire([a_hold(execution="a"), a_hold(execution="b")], MINUTE) == [HELD, TAKEN]


async def check_what_is_released_is_free(ours: Locks, theirs: Locks) -> None:
    await ours.acquire([a_hold(execution="a")], MINUTE)

    assert await ours.release([a_hold(execution="a")])

    assert await theirs.acquire([a_hold(execution="b")], MINUTE) == [HELD]


async def check_only_its_own_claim_releases(ours: Locks, theirs: Locks) -> None:
    await ours.acquire([a_hold(execution="a", epoch=2)], MINUTE)

    await theirs.release([a_hold(execution="b", epoch=2), a_hold(execution="a", epoch=1), a_hold("unknown")])

    assert await theirs.acquire([a_hold(execution="b")], MINUTE) == [TAKEN]


async def check_the_next_claim_of_an_execution_inherits(ours: Locks, theirs: Locks) -> None:
    await ours.acquire([a_hold(epoch=3)], MINUTE)

    assert await theirs.acquire([a_hold(epoch=5)], MINUTE) == [HELD]
    assert await ours.acquire([a_hold(epoch=3)], MINUTE) == [TAKEN]
    await ours.release([a_hold(epoch=3)])
    assert await theirs.renew([a_hold(epoch=5)], MINUTE) == [HELD]
    assert await ours.acquire([a_hold(execution="another")], MINUTE) == [TAKEN]


async def check_a_lock_ends_with_its_lease(ours: Locks, theirs: Locks) -> None:
    await ours.acquire([a_hold(execution="a")], SHORT)

    async with asyncio.timeout(WAIT_SECONDS):
        while await theirs.acquire([a_hold(execution="b")], MINUTE) == [TAKEN]:  # noqa: ASYNC110
            await asyncio.sleep(SHORT / 10_000)

    assert await ours.renew([a_hold(execution="a")], MINUTE) == [TAKEN]


async def check_a_renewal_keeps_it(ours: Locks, theirs: Locks) -> None:
    await ours.acquire([a_hold(execution="a")], SHORT)

    assert await ours.renew([a_hold(execution="a")], MINUTE) == [HELD]

    await asyncio.sleep(2 * SHORT / 1000)
    assert await theirs.acquire([a_hold(execution="b")], MINUTE) == [TAKEN]


async def check_a_lost_lock_is_taken_again(ours: Locks, theirs: Locks) -> None:
    await theirs.acquire([a_hold("two", "b")], MINUTE)

    assert await ours.renew([a_hold("one"), a_hold("two"), a_hold("three")], MINUTE) == [HELD, TAKEN, HELD]
    assert await theirs.acquire([a_hold("one", "b"), a_hold("three", "b")], MINUTE) == [TAKEN, TAKEN]


async def check_of_many_rivals_one_wins(ours: Locks, theirs: Locks) -> None:
    rivals = [a_hold(execution=f"execution-{number}") for number in range(20)]

    asked = [(ours if number % 2 else theirs).acquire([hold], MINUTE) for number, hold in enumerate(rivals)]
    verdicts = [one for answer in await asyncio.gather(*asked) for one in answer]

    assert sorted(verdicts) == [HELD] + [TAKEN] * 19


LOCK_CHECKS: Final[tuple[Check, ...]] = tuple(
    check for name, check in sorted(globals().items()) if name.startswith("check_")
)
