"""The work of our own modules keeps every executor's promise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from peregrine.domain.execution import Outcome
from peregrine.domain.ids import TaskId
from peregrine.domain.payload import JsonObject, SystemPayload
from peregrine.executors.answer import OUTPUT_BYTES_MAX
from peregrine.executors.system import SystemExecutor
from peregrine.ports.executor import RunContext
from peregrine.ports.module import SystemTask
from peregrine.testing.executor_contract import PROMISES, Behaviour, HostClock, Promise

KNOWN = (Behaviour.SUCCEED, Behaviour.FAIL, Behaviour.HANG, Behaviour.FLOOD, Behaviour.REFUSED)


class SystemSubject:
    """A module of the house; it has no other side that could crash, and is told no secrets."""

    output_max = OUTPUT_BYTES_MAX
    secret = "nobody-tells-it-a-secret"

    def __init__(self) -> None:
        self.clock = HostClock()
        self._running = 0
        self._started = asyncio.Event()
        self.executor = SystemExecutor([_declared(behaviour, self._work) for behaviour in Behaviour])

    def payload(self, behaviour: Behaviour) -> SystemPayload | None:
        if behaviour not in KNOWN:
            return None
        return SystemPayload(task_name="nobody" if behaviour is Behaviour.REFUSED else behaviour.value)

    async def has_started(self) -> None:
        await self._started.wait()

    async def leftovers(self) -> Sequence[str]:
        return ["running"] * self._running

    async def _work(self, behaviour: Behaviour, context: RunContext) -> Outcome:
        self._running += 1
        try:
            await asyncio.sleep(0)
            context.log(f"it will {behaviour}")
            match behaviour:
                case Behaviour.HANG:
                    self._started.set()
                    await asyncio.Event().wait()
                case Behaviour.FAIL:
                    return Outcome.failed("a neighbour is down")
                case Behaviour.FLOOD:
                    return Outcome.succeeded("flood " * OUTPUT_BYTES_MAX)
            return Outcome.succeeded("all is well")
        finally:
            self._running -= 1


def _declared(behaviour: Behaviour, work: object) -> SystemTask:
    async def handler(parameters: JsonObject, context: RunContext) -> Outcome:
        outcome: Outcome = await work(behaviour, context)  # type: ignore[operator]
        return outcome

    return SystemTask(
        id=TaskId(f"system-{behaviour.name.lower().replace('_', '-')}"),
        task_name=behaviour.value,
        name=behaviour.value,
        description="",
        purpose="",
        schedule="@manual",
        handler=handler,
    )


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
async def test_system(promise: Promise) -> None:
    @asynccontextmanager
    async def factory() -> AsyncIterator[SystemSubject]:
        yield SystemSubject()

    await promise(factory)
