"""Custom executors keep every executor's promise: the one that ships, in its child process, and one on the loop."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from peregrine import Context, executor
from peregrine.domain.payload import CustomPayload, JsonObject
from peregrine.executors.answer import OUTPUT_BYTES_MAX
from peregrine.executors.command import CommandSettings
from peregrine.executors.custom import CustomExecutor, CustomRegistry, command
from peregrine.executors.isolation import ChildProcesses, IsolationSettings
from peregrine.testing.executor_contract import PROMISES, Behaviour, HostClock, Promise
from tests.executors.processes import Doorbell, descendants, doorbell, until

PROGRAMS = {
    Behaviour.SUCCEED: "print('all is well')",
    Behaviour.FAIL: "raise SystemExit(1)",
    Behaviour.HANG: (
        "import os, socket, sys, time; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); "
        "s.sendall(b'%d\\n' % os.getpid()); time.sleep(600)"
    ),
    Behaviour.CRASH: "import os; os.abort()",
    Behaviour.FLOOD: "print('flood ' * 60000)",
    Behaviour.LEAK: "import os; print(os.environ['API_TOKEN'])",
    Behaviour.LEAK_AND_FAIL: "import os; raise SystemExit(os.environ['API_TOKEN'])",
    Behaviour.REFUSED: "",
}


class CustomSubject:
    output_max = OUTPUT_BYTES_MAX
    secret = "a-very-secret-token-0123456789"

    def __init__(self, executor: CustomExecutor, children: ChildProcesses, bell: Doorbell) -> None:
        self.executor = executor
        self.clock = HostClock()
        self._children = children
        self._bell = bell

    def payload(self, behaviour: Behaviour) -> CustomPayload | None:
        if behaviour not in PROGRAMS:
            return None
        program = "/bin/forbidden" if behaviour is Behaviour.REFUSED else sys.executable
        env: JsonObject = {"API_TOKEN": self.secret} if "API_TOKEN" in PROGRAMS[behaviour] else {}
        argv: list[object] = [program, "-c", PROGRAMS[behaviour], self._bell.path]
        return CustomPayload(executor="command", parameters={"argv": argv, "env": env})  # type: ignore[dict-item]

    async def has_started(self) -> None:
        await self._bell.rung()

    async def leftovers(self) -> Sequence[str]:
        await until(lambda: not self._left(), within=1.0)
        return self._left()

    def _left(self) -> list[str]:
        running = descendants()
        return [] if len(running) <= self._children.idle else [*running.values()]


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
async def test_command(promise: Promise) -> None:
    @asynccontextmanager
    async def factory() -> AsyncIterator[CustomSubject]:
        children = ChildProcesses(IsolationSettings(processes_max=3, idle_min=0))
        registry = CustomRegistry()
        registry.add(command(children, CommandSettings(allow=(sys.executable,), env_allow=("API_TOKEN",))))
        async with doorbell() as bell:
            yield CustomSubject(CustomExecutor(registry, clock=HostClock()), children, bell)
            await children.close()

    await promise(factory)


class LoopSubject:
    output_max = OUTPUT_BYTES_MAX
    secret = "a-very-secret-token-0123456789"

    def __init__(self) -> None:
        self.clock = HostClock()
        self._running = 0
        self._started = asyncio.Event()
        registry = CustomRegistry()
        executor("work", schema={"required": ["how"]}, registry=registry)(self._work)
        self.executor = CustomExecutor(registry, clock=self.clock)

    def payload(self, behaviour: Behaviour) -> CustomPayload | None:
        if behaviour in (Behaviour.CRASH, Behaviour.OVERSTAY):
            return None
        refused = behaviour is Behaviour.REFUSED
        return CustomPayload(
            executor="work", parameters={} if refused else {"how": behaviour.value, "token": self.secret}
        )

    async def _work(self, parameters: JsonObject, context: Context) -> str:
        self._running += 1
        try:
            await asyncio.sleep(0)
            match Behaviour(str(parameters["how"])):
                case Behaviour.HANG:
                    self._started.set()
                    await asyncio.Event().wait()
                case Behaviour.FAIL | Behaviour.LEAK_AND_FAIL:
                    raise RuntimeError(f"no access with {parameters['token']}")
                case Behaviour.FLOOD:
                    return "flood " * 60_000
                case Behaviour.LEAK:
                    context.logger.error("it is %s", parameters["token"])
                    return f"it is {parameters['token']}"
            return "all is well"
        finally:
            self._running -= 1

    async def has_started(self) -> None:
        await self._started.wait()

    async def leftovers(self) -> Sequence[str]:
        return ["running"] * self._running


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
async def test_on_the_loop(promise: Promise) -> None:
    @asynccontextmanager
    async def factory() -> AsyncIterator[LoopSubject]:
        yield LoopSubject()

    await promise(factory)
