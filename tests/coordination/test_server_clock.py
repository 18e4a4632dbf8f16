"""The wall time of a server that all ask: one's own wall clock moves nothing, and a slow answer is not believed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from peregrine.coordination.clock import REFRESH_EVERY, ROUND_TRIP_MAX, ServerClock
from peregrine.domain.errors import Unavailable
from peregrine.domain.moment import HOUR, SECOND, Duration, Moment
from peregrine.testing.clock import START, ManualClock
from tests.engine.hall import virtual


@dataclass
class Server:
    """Its wall time is ahead of the test's by *ahead*; each way of a question takes *way*."""

    clock: ManualClock
    ahead: Duration = 0
    way: Duration = 5
    is_away: bool = False

    async def ask(self) -> tuple[Moment, Duration]:
        await self.clock.advance(self.way)
        if self.is_away:
            raise Unavailable("away")
        wall = self.clock.now() + self.ahead
        await self.clock.advance(self.way)
        return wall, 2 * self.way


def a_clock(**fields: Any) -> tuple[ServerClock, Server, ManualClock]:
    manual = ManualClock(START)
    server = Server(manual, **fields)
    return ServerClock(server.ask, manual), server, manual


@virtual
async def test_the_servers_time_counts_however_wrong_ours_is() -> None:
    clock, _, manual = a_clock(ahead=-3 * HOUR)
    await clock.refresh()
    asked_at = manual.now()

    assert clock.now() == asked_at - 3 * HOUR

    manual.step(HOUR)
    await manual.advance(10 * SECOND)

    assert clock.now() == asked_at + 10 * SECOND - 3 * HOUR
    assert clock.monotonic() == manual.monotonic()


@virtual
async def test_a_slow_answer_is_taken_only_if_there_is_none() -> None:
    clock, server, manual = a_clock(way=ROUND_TRIP_MAX)
    assert await clock.refresh()
    first = clock.now() - manual.now()

    server.ahead = 90 * SECOND
    assert not await clock.refresh()
    assert clock.now() - manual.now() == first

    server.way = 10
    assert await clock.refresh()
    assert clock.now() - manual.now() == 90 * SECOND


@virtual
async def test_it_is_kept_true_and_holds_while_the_server_is_away(caplog: pytest.LogCaptureFixture) -> None:
    clock, server, manual = a_clock()
    await clock.refresh()
    keeping = asyncio.create_task(clock.keep())
    await manual.advance(1)
    server.ahead, server.is_away = 4 * SECOND, True
    await manual.advance(3 * REFRESH_EVERY)

    assert clock.now() == manual.now()
    assert [record.message for record in caplog.records].count("clock_not_refreshed") == 1

    server.is_away = False
    await manual.advance(REFRESH_EVERY)

    assert clock.now() == manual.now() + 4 * SECOND
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
