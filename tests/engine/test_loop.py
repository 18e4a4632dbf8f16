"""A background loop: it looks by itself, sooner when woken, survives what its turns raise, and ends when told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from peregrine.domain.errors import Unavailable, Unsure
from peregrine.domain.event import LoopCrashed, StoreAnswered, StoreFailed
from peregrine.domain.moment import SECOND, Duration, Moment
from peregrine.engine.loop import ANSWER_WITHIN, Loop, answered
from peregrine.testing.clock import ManualClock
from tests.engine.hall import Watcher, moments, virtual

Turn = Callable[[], Awaitable[Duration]]


class Turns:
    """A turn that keeps when it was made, and does the next of *deeds*; the last is repeated."""

    def __init__(self, clock: ManualClock, *deeds: Turn | BaseException | Duration) -> None:
        self.at: list[Moment] = []
        self._clock = clock
        self._deeds = list(deeds) or [SECOND]

    async def __call__(self) -> Duration:
        self.at.append(self._clock.monotonic())
        deed = self._deeds.pop(0) if len(self._deeds) > 1 else self._deeds[0]
        if isinstance(deed, BaseException):
            raise deed
        return deed if isinstance(deed, int) else await deed()

    @property
    def pauses(self) -> list[Duration]:
        """The time between one turn and the next."""
        return [later - sooner for sooner, later in zip(self.at, self.at[1:], strict=False)]


def a_loop(turn: Turn, watcher: Watcher | None = None, poll: Duration = SECOND) -> Loop:
    return Loop("planner", turn, clock=ManualClock(), observer=watcher or Watcher(), poll=poll)


@virtual
async def test_a_loop_looks_by_itself_at_least_every_poll() -> None:
    """A turn that would wait longer is asked again after the poll, since any wake may have been lost."""
    clock = ManualClock()
    turns = Turns(clock, 60 * SECOND)
    loop = a_loop(turns)

    loop.start()
    await clock.advance(3500)

    assert turns.pauses == [SECOND, SECOND, SECOND]
    await loop.stop()


@virtual
async def test_a_wake_makes_it_look_at_once() -> None:
    """A wake while it waits ends the wait."""
    clock = ManualClock()
    turns = Turns(clock)
    loop = a_loop(turns)
    loop.start()
    await clock.advance(300)

    loop.wake()
    await clock.advance(1)

    assert turns.pauses == [300]
    await loop.stop()


@virtual
async def test_a_wake_during_a_turn_is_not_lost() -> None:
    """What changed while it looked is looked at once more, and not after a poll."""
    clock = ManualClock()

    async def long_turn() -> Duration:
        await moments(400)
        return SECOND

    turns = Turns(clock, long_turn, SECOND)
    loop = a_loop(turns)
    loop.start()
    await clock.advance(100)

    loop.wake()
    await clock.advance(301)

    assert turns.pauses == [400]
    await loop.stop()


@virtual
async def test_many_wakes_are_one_look() -> None:
    """A thousand hints cost one turn."""
    clock = ManualClock()
    turns = Turns(clock)
    loop = a_loop(turns)
    loop.start()
    await clock.advance(300)

    for _ in range(1000):
        loop.wake()
    await clock.advance(1)

    assert len(turns.at) == 2
    await loop.stop()


@virtual
async def test_a_loop_with_work_without_end_lets_others_breathe() -> None:
    """Turns that never want to wait still hand over between two of them."""
    clock = ManualClock()
    turns = Turns(clock, 0)
    loop = a_loop(turns)

    loop.start()
    for _ in range(10):
        await asyncio.sleep(0)

    assert 5 <= len(turns.at) <= 11
    await loop.stop()


@virtual
async def test_a_store_that_is_away_is_asked_again_with_a_growing_pause() -> None:
    """The pause doubles, and never grows so long that a store which is back would be found too late."""
    clock = ManualClock()
    turns = Turns(clock, Unavailable("away"))
    loop = a_loop(turns, poll=10 * SECOND)

    loop.start()
    await clock.advance(5 * SECOND)

    assert turns.pauses[:7] == [50, 100, 200, 400, 800, SECOND, SECOND]
    await loop.stop()


@virtual
async def test_an_outage_is_told_once_and_so_is_its_end() -> None:
    """A store that is away for a minute makes two events of a loop, not one per try."""
    clock, watcher = ManualClock(), Watcher()
    turns = Turns(clock, *[Unavailable("away")] * 6, SECOND)
    loop = a_loop(turns, watcher)

    loop.start()
    await clock.advance(4 * SECOND)

    assert watcher.told(StoreFailed) == [StoreFailed("planner", "away")]
    assert [event.away_for for event in watcher.told(StoreAnswered)] == [2550]
    assert (loop.failing_since, loop.away_since, loop.failure) == (None, None, "")
    await loop.stop()


@virtual
async def test_a_crash_is_told_each_time_and_the_loop_goes_on() -> None:
    """A bug in a turn must be seen, and must not stop the hall."""
    clock, watcher = ManualClock(), Watcher()
    turns = Turns(clock, RuntimeError("in /var/lib"), RuntimeError("in /var/lib"), SECOND)
    loop = a_loop(turns, watcher)

    loop.start()
    await clock.advance(3 * SECOND)

    assert watcher.told(LoopCrashed) == [LoopCrashed("planner", "RuntimeError: in /var/lib")] * 2
    assert len(turns.at) > 3
    await loop.stop()


@virtual
async def test_what_a_loop_shows_of_a_crash_names_only_its_kind() -> None:
    """The status page shows it to anybody, so no text of a driver or path may be in it."""
    clock = ManualClock()
    loop = a_loop(Turns(clock, RuntimeError("in /var/lib")))

    loop.start()
    await clock.advance(SECOND)

    assert loop.failure == "a bug: RuntimeError"
    await loop.stop()


@virtual
async def test_a_crash_is_no_outage_of_the_store() -> None:
    """Only a store that can't be reached counts as away."""
    clock, watcher = ManualClock(), Watcher()
    loop = a_loop(Turns(clock, RuntimeError("bug"), RuntimeError("bug"), SECOND), watcher)

    loop.start()
    await clock.advance(60)
    failing, away = loop.failing_since, loop.away_since
    await clock.advance(3 * SECOND)

    assert failing is not None
    assert away is None
    assert watcher.told(StoreAnswered) == []
    await loop.stop()


@virtual
async def test_a_cancel_that_nobody_asked_for_does_not_end_the_loop() -> None:
    """A driver whose inner future is cancelled must not leave the hall without a planner, silently."""
    clock, watcher = ManualClock(), Watcher()
    turns = Turns(clock, asyncio.CancelledError(), SECOND)
    loop = a_loop(turns, watcher)

    loop.start()
    await clock.advance(3 * SECOND)

    assert len(turns.at) >= 3
    assert watcher.told(LoopCrashed) == [LoopCrashed("planner", "CancelledError: ")]
    await loop.stop()


@virtual
async def test_an_observer_that_raises_does_no_harm() -> None:
    """The loop goes on as if nobody listened."""

    class Broken(Watcher):
        def observe(self, event: object) -> None:
            raise RuntimeError("broken observer")

    clock = ManualClock()
    turns = Turns(clock, Unavailable("away"), RuntimeError("bug"), SECOND)
    loop = a_loop(turns, Broken())

    loop.start()
    await clock.advance(3 * SECOND)

    assert len(turns.at) >= 4
    await loop.stop()


@virtual
async def test_stop_lets_the_turn_under_way_finish() -> None:
    """What was begun is finished, and nothing is begun after it."""
    clock = ManualClock()
    finished: list[Moment] = []

    async def long_turn() -> Duration:
        await moments(3 * SECOND)
        finished.append(clock.monotonic())
        return 0

    turns = Turns(clock, long_turn)
    loop = a_loop(turns)
    loop.start()
    await clock.advance(SECOND)

    await loop.stop()
    await clock.advance(10 * SECOND)

    assert (len(turns.at), len(finished)) == (1, 1)


@virtual
async def test_stop_cuts_a_turn_that_takes_too_long() -> None:
    """A store that never answers can't hold up the shutdown."""
    clock = ManualClock()

    async def endless_turn() -> Duration:
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    loop = a_loop(endless_turn)
    loop.start()
    await clock.advance(SECOND)
    began = clock.monotonic()

    await loop.stop(within=2 * SECOND)

    assert clock.monotonic() - began == 2 * SECOND


@virtual
async def test_a_turn_that_survives_its_cut_is_the_last() -> None:
    """Started anew, the loop runs once, not beside what was left of itself."""
    clock = ManualClock()

    async def deaf_turn() -> Duration:
        try:
            await moments(5 * SECOND)
        except asyncio.CancelledError:
            await moments(5 * SECOND)
        return SECOND

    turns = Turns(clock, deaf_turn, SECOND)
    loop = a_loop(turns)
    loop.start()
    await clock.advance(SECOND)
    await loop.stop(within=SECOND)

    loop.start()
    await clock.advance(9500)

    assert turns.pauses[1:] == [SECOND] * 9
    await loop.stop()


@pytest.mark.parametrize("stops", [1, 2])
@virtual
async def test_stop_is_safe_without_start_and_safe_twice(stops: int) -> None:
    """Whoever tears down need not know how far it came."""
    clock = ManualClock()
    never, once = a_loop(Turns(clock)), a_loop(Turns(clock))
    once.start()

    for _ in range(stops):
        await never.stop()
        await once.stop()

    assert True


@virtual
async def test_start_twice_makes_one_loop() -> None:
    """A second start changes nothing."""
    clock = ManualClock()
    turns = Turns(clock)
    loop = a_loop(turns)

    loop.start()
    loop.start()
    await clock.advance(2500)

    assert len(turns.at) == 3
    await loop.stop()


@virtual
async def test_a_stopped_loop_can_be_started_again() -> None:
    """An engine that is embedded may be stopped and started as its host likes."""
    clock = ManualClock()
    turns = Turns(clock)
    loop = a_loop(turns)
    loop.start()
    await clock.advance(100)
    await loop.stop()

    loop.start()
    await clock.advance(100)

    assert len(turns.at) == 2
    await loop.stop()


@virtual
async def test_an_answer_that_never_comes_is_unsure() -> None:
    """After a while a call is given up: perhaps it was done, so the caller reads back or repeats."""
    clock = ManualClock()
    began = clock.monotonic()

    with pytest.raises(Unsure):
        await answered(asyncio.get_running_loop().create_future())

    assert clock.monotonic() - began == ANSWER_WITHIN


@virtual
async def test_an_answer_in_time_is_passed_on() -> None:
    """An answer and an error of the store come through as they are."""

    async def failing() -> int:
        raise Unavailable("away")

    async def slow() -> int:
        await moments(ANSWER_WITHIN - 1)
        return 7

    assert await answered(slow()) == 7
    with pytest.raises(Unavailable, match="away"):
        await answered(failing())
