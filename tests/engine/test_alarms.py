"""The end of a time: each is told of it at its moment, and one timer serves all that share it."""

from __future__ import annotations

import asyncio

from peregrine.engine.alarms import Alarms
from tests.engine.hall import moments, virtual


@virtual
async def test_each_is_rung_for_at_its_moment() -> None:
    rung: list[tuple[str, int]] = []
    loop = asyncio.get_running_loop()
    alarms = Alarms[str](lambda name: rung.append((name, round(loop.time() * 1000))))
    began = round(loop.time() * 1000)
    for name, within in (("late", 300), ("early", 100), ("too", 100)):
        alarms.set(began + within, within, name)

    await moments(400)

    assert rung == [("early", began + 100), ("too", began + 100), ("late", began + 300)]


@virtual
async def test_who_has_left_is_not_rung_for() -> None:
    rung: list[str] = []
    alarms = Alarms[str](rung.append)
    for name in ("one", "two", "three"):
        alarms.set(100, 100, name)

    alarms.drop(100, "two")
    alarms.drop(200, "one")
    await moments(150)
    alarms.drop(100, "one")

    assert rung == ["one", "three"]


@virtual
async def test_a_moment_has_one_timer_and_none_when_nobody_waits() -> None:
    """A thousand short runs with a long timeout must not leave a thousand timers behind."""
    alarms = Alarms[int](lambda _: None)
    for number in range(1000):
        alarms.set(100, 100, number)
    waiting = len(alarms._timers)

    for number in range(1000):
        alarms.drop(100, number)

    assert waiting == 1
    assert (alarms._timers, alarms._sleepers) == ({}, {})


@virtual
async def test_a_moment_can_be_set_again_after_all_have_left() -> None:
    rung: list[str] = []
    alarms = Alarms[str](rung.append)
    alarms.set(100, 100, "one")
    alarms.drop(100, "one")

    alarms.set(100, 100, "two")
    await moments(150)

    assert rung == ["two"]
