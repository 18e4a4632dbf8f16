"""Owns how a long run goes through many ids: workers, waiting while EVE is away, and saying how far it is. Must not
know what is asked about an id.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Final, Protocol, TypeVar

from peregrine.domain.errors import Unavailable
from peregrine.domain.moment import MINUTE, SECOND, Duration, format_duration
from peregrine.ports.clock import Clock
from peregrine.ports.executor import RunContext

Item = TypeVar("Item")
Result = TypeVar("Result")

PAGE: Final = 10_000
"""Ids read from the store at once."""
SHORT: Final = 60
"""Seconds; a longer pause is asked for when all of EVE is away."""
SUSPECT: Final = 3
"""So many items in a row that EVE could not answer, and the run waits before it goes on."""
AWAY_AFTER: Final = 5
"""So many items in a row that EVE could not answer, and the run ends: it is away, not one of them odd."""
RESERVE: Final[Duration] = 30 * SECOND
"""What must be left of a run's time behind a wait."""
HELD_MAX: Final[Duration] = 20 * MINUTE
"""No run waits longer than this in all: a downtime takes fifteen minutes, and longer ones are no downtime."""


class PageOfIds(Protocol):
    """How a store tells ids."""

    async def __call__(self, *, after: int, limit: int) -> Sequence[int]: ...


async def every_id(page: PageOfIds) -> array[int]:
    """All ids, eight bytes each."""
    found: array[int] = array("q")
    while True:
        got = await page(after=found[-1] if found else 0, limit=PAGE)
        found.extend(got)
        if len(got) < PAGE:
            return found


async def work_off(items: Iterable[Item], work: Callable[[Item], Awaitable[None]], *, workers: int) -> None:
    """Let *workers* take one item after another, until there is none. What one of them raises ends all, and passes."""
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            await work(item)

    await all_of(worker() for _ in range(max(1, workers)))


async def all_of(calls: Iterable[Coroutine[object, object, Result]]) -> list[Result]:
    """What each gives, in order. What one of them raises ends all, and passes."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


class Holding:
    """One run's patience with EVE. A downtime is waited for where the run's time allows it; see decision 0105."""

    def __init__(self, context: RunContext, clock: Clock) -> None:
        self._context = context
        self._clock = clock
        self._began = clock.monotonic()
        self._held: Duration = 0
        self._until = 0
        self._missed = 0
        self._is_over = False

    async def ask(self, call: Callable[[], Awaitable[Result]], *, insists: bool = False) -> Result:
        """What *call* gives. While EVE is away, held and asked once more.

        One question without an answer is no reason to wait, since the client has tried it several times: unless others
        went the same way, EVE asks for a long pause, or the whole run hangs on it (*insists*).

        Raises:  Unavailable; see ``missed``.
        """
        try:
            return self.answered(await call())
        except Unavailable as error:
            if not insists and error.retry_after <= SHORT and self._missed + 1 < SUSPECT:
                raise
            await self._hold(error)
        return self.answered(await call())

    def answered(self, result: Result) -> Result:
        """Note that EVE answered; gives *result*."""
        self._missed = 0
        return result

    def missed(self, error: Unavailable) -> None:
        """Note an item that could not be asked about. Raises *error* when it is no use to go on with the next."""
        self._missed += 1
        if self._is_over or self._missed >= AWAY_AFTER:
            raise error

    async def _hold(self, error: Unavailable) -> None:
        """Wait as long as *error* asks. Many workers wait at once; that counts, and is told, once."""
        now, pause = self._clock.monotonic(), max(1, error.retry_after) * SECOND
        longer = max(0, now + pause - max(now, self._until))
        if now + pause > self._context.deadline - RESERVE or self._held + longer > HELD_MAX:
            self._is_over = True
            raise error
        if longer:
            self._until, self._held = now + pause, self._held + longer
            if longer >= 5 * SECOND:
                self._context.log(f"held for {format_duration(pause)}: {error}")
        await asyncio.sleep(pause / 1000)


class Tally:
    """How far a run is, told every so many items."""

    def __init__(self, context: RunContext, total: int, what: str, *, every: int = 100) -> None:
        self.done = 0
        self._context = context
        self._total = total
        self._what = what
        self._every = every

    def add(self, count: int = 1) -> None:
        """So many more are done."""
        before, self.done = self.done, self.done + count
        if self.done // self._every > before // self._every or self.done >= self._total:
            text = f"{self.done} of {self._total} {self._what}"
            self._context.progress(min(1.0, self.done / max(1, self._total)), text)
            self._context.log(text)
