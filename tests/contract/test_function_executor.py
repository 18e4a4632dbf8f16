"""Functions keep every executor's promise, wherever they run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from peregrine.domain.payload import FunctionPayload, JsonObject
from peregrine.executors.answer import OUTPUT_BYTES_MAX
from peregrine.executors.callables import Isolation
from peregrine.executors.function import FunctionExecutor
from peregrine.executors.isolation import ChildProcesses, IsolationSettings
from peregrine.testing.executor_contract import PROMISES, Behaviour, Factory, HostClock, Promise
from tests.executors.processes import FUNCTIONS_MODULE, Doorbell, descendants, doorbell, isolated, until

# Few, so that the eleven attempts at once also wait for each other; no spare, so that fewer processes start.
SETTINGS = IsolationSettings(modules=(FUNCTIONS_MODULE,), processes_max=3, idle_min=0)
MODULES = {"process": "proof", "thread": "proof.thread", "async": "proof.async"}
NAMES = {
    Behaviour.SUCCEED: "succeed",
    Behaviour.FAIL: "fail",
    Behaviour.HANG: "hang",
    Behaviour.CRASH: "crash",
    Behaviour.FLOOD: "flood",
    Behaviour.LEAK: "leak",
    Behaviour.LEAK_AND_FAIL: "leak_and_fail",
    Behaviour.REFUSED: "no_such_function",
}


class FunctionSubject:
    output_max = OUTPUT_BYTES_MAX
    secret = "a-very-secret-token-0123456789"

    def __init__(self, place: Isolation, executor: FunctionExecutor, children: ChildProcesses, bell: Doorbell) -> None:
        self.executor = executor
        self.clock = HostClock()
        self._place = place
        self._children = children
        self._bell = bell

    def payload(self, behaviour: Behaviour) -> FunctionPayload | None:
        if behaviour not in NAMES or (behaviour is Behaviour.CRASH and self._place != "process"):
            return None
        parameters: JsonObject = {}
        if behaviour is Behaviour.HANG:
            parameters["path"] = self._bell.path
        if behaviour in (Behaviour.LEAK, Behaviour.LEAK_AND_FAIL):
            parameters["token"] = self.secret
        return FunctionPayload(function_name=NAMES[behaviour], module=MODULES[self._place], parameters=parameters)

    async def has_started(self) -> None:
        await self._bell.rung()

    async def leftovers(self) -> Sequence[str]:
        def is_clean() -> bool:
            return not self._left()

        await until(is_clean, within=1.0)
        return self._left()

    def _left(self) -> list[str]:
        left = [f"{self._children.busy} busy"] if self._children.busy else []
        left += [f"{self.executor.abandoned_threads} threads"] if self.executor.abandoned_threads else []
        # The idle ones are kept on purpose.
        running = descendants()
        return left + ([] if len(running) <= self._children.idle else [*running.values()])


@pytest.mark.parametrize("place", MODULES)
@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
async def test_functions(promise: Promise, place: Isolation) -> None:
    @asynccontextmanager
    async def factory() -> AsyncIterator[FunctionSubject]:
        async with doorbell() as bell, isolated(SETTINGS) as (executor, children):
            yield FunctionSubject(place, executor, children, bell)

    checked: Factory = factory
    await promise(checked)
