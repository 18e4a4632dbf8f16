"""When many ask at once, a few are served and the others wait in line: the loop is the engine's too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from peregrine.api.patience import AT_ONCE, Turns
from peregrine.stores.memory import MemoryStore
from peregrine.wire.problem import Refusal
from tests.api.world import HTTP_TASK, World


class Held(MemoryStore):
    """A store that looks a task up only when told to, and counts who waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = 0
        self.go = asyncio.Event()
        self.go.set()

    async def get_task(self, *args: Any, **kwargs: Any) -> Any:
        self.waiting += 1
        await self.go.wait()
        self.waiting -= 1
        return await super().get_task(*args, **kwargs)


async def breathe() -> None:
    """Let everything come as far as it can."""
    for _ in range(100):
        await asyncio.sleep(0)


async def test_of_many_requests_a_few_are_at_work_and_all_are_served() -> None:
    store = Held()
    world = World(store=store)
    task = await world.task()
    store.go.clear()
    # Each asks something else: those who ask the same are served together.
    paths = [f"/scheduler/tasks/{task['id']}?ask={number}" for number in range(5 * AT_ONCE)]
    asked = [asyncio.create_task(world.ask("GET", path)) for path in paths]
    await breathe()

    assert store.waiting == AT_ONCE
    assert (await world.ask("GET", "/healthz")).status_code == 200
    assert (await world.ask("GET", "/scheduler/status")).status_code == 200
    store.go.set()
    assert [answer.status_code for answer in await asyncio.gather(*asked)] == [200] * len(asked)


async def test_who_sends_slowly_keeps_nobody_waiting() -> None:
    world = World()
    rest = asyncio.Event()

    async def slow(name: str) -> AsyncIterator[bytes]:
        yield b'{"name": '
        await rest.wait()
        yield f'"{name}", "type": "http", "schedule": "@daily", "config": {{"url": "http://example.org/"}}}}'.encode()

    head = world.bearer("super_admin") | {"Content-Type": "application/json"}
    sending = [
        asyncio.create_task(world.client.post("/scheduler/tasks", content=slow(f"slow {one}"), headers=head))
        for one in range(2 * AT_ONCE)
    ]
    await breathe()

    assert (await world.ask("POST", "/scheduler/tasks", HTTP_TASK)).status_code == 201
    rest.set()
    assert {answer.status_code for answer in await asyncio.gather(*sending)} == {201}


async def test_who_waited_too_long_is_sent_away_with_a_word() -> None:
    turns = Turns(1, seconds=0.01)

    async with turns.taken():
        with pytest.raises(Refusal) as refused:
            async with turns.taken():
                raise AssertionError("there was no turn to take")

    assert (refused.value.code, refused.value.headers) == ("unavailable", {"Retry-After": "2"})


async def test_who_leaves_the_line_or_its_turn_takes_none_along() -> None:
    turns = Turns(1)
    for stays in (True, False):
        async with turns.taken() as turn:
            waiting = asyncio.create_task(turn.aside(asyncio.Event().wait()) if stays else _hold(turns))
            await breathe()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

    async with asyncio.timeout(5), turns.taken():
        pass


async def _hold(turns: Turns) -> None:
    async with turns.taken():
        raise AssertionError("there was no turn to take")
