"""Child processes: they can always be stopped, they fall alone, they leave nothing behind and hurt nobody."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from peregrine.domain.execution import AttemptOutcome, Outcome
from peregrine.domain.ids import ExecutionId
from peregrine.domain.payload import FunctionPayload
from peregrine.executors.callables import FUNCTIONS, FunctionRegistry, function
from peregrine.executors.childprocess import StartFailed
from peregrine.executors.function import FunctionExecutor
from peregrine.executors.hearing import LINES_MAX
from peregrine.executors.isolation import ChildProcesses, IsolationSettings
from peregrine.testing.executor_contract import ExampleContext, HostClock, example_context
from tests.executors import functions
from tests.executors.processes import (
    FUNCTIONS_MODULE,
    Doorbell,
    descendants,
    doorbell,
    is_running,
    isolated,
    open_files,
    state_of,
    until,
)

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = IsolationSettings(modules=(FUNCTIONS_MODULE,), idle_min=0, grace=500)
GRACE = SETTINGS.grace / 1000
KIB_64 = 64 * 1024


class World:
    """One pool, and what a test wants of it."""

    def __init__(self, executor: FunctionExecutor, children: ChildProcesses, bell: Doorbell) -> None:
        self.executor = executor
        self.children = children
        self.bell = bell
        self.context: ExampleContext
        self._numbers = itertools.count()

    def start(self, name: str, /, *, execution: str = "", **parameters: Any) -> asyncio.Task[Outcome]:
        """A run of one attempt, of an execution of its own unless *execution* names one."""
        payload = FunctionPayload(function_name=name, parameters=parameters)
        self.context = example_context(payload, HostClock())
        id = ExecutionId(execution or f"execution-{next(self._numbers)}")
        self.context.claim = replace(self.context.claim, execution_id=id)
        return asyncio.create_task(self.executor.run(payload, self.context))

    async def started(self, name: str, /) -> tuple[asyncio.Task[Outcome], int]:
        """A run of a function that rings when it is at work, and its pid."""
        run = self.start(name, path=self.bell.path)
        ring = asyncio.create_task(self.bell.rung())
        await asyncio.wait({run, ring}, return_when=asyncio.FIRST_COMPLETED)
        assert not run.done(), run.result()
        return run, await ring


@pytest.fixture(scope="module")
async def world() -> AsyncIterator[World]:
    async with doorbell() as bell, isolated(SETTINGS) as (executor, children):
        yield World(executor, children, bell)


async def cancel(run: asyncio.Task[Outcome]) -> float:
    """Cancel *run* and wait for its end. Seconds it took."""
    loop = asyncio.get_running_loop()
    before = loop.time()
    run.cancel()
    await asyncio.wait({run}, timeout=10)
    assert run.cancelled()
    return loop.time() - before


# ── crashes ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_segfault_fails_alone(world: World) -> None:
    neighbour, _ = await world.started("spin")
    outcome = await world.start("segfault")
    said = world.context.lines

    assert outcome.error == "function process died: SIGSEGV"
    assert outcome.verdict is AttemptOutcome.FAILED
    assert outcome.detail == {"crashed": True}
    assert said == ["about to fall"]
    assert not neighbour.done()
    await cancel(neighbour)


async def test_os_exit_is_a_crash_with_its_code(world: World) -> None:
    payload = FunctionPayload(function_name="crash", module="proof")

    outcome = await world.executor.run(payload, example_context(payload, HostClock()))

    assert outcome.error == "function process died: exit code 7"
    assert outcome.detail == {"crashed": True}


async def test_a_signal_from_outside_is_named(world: World) -> None:
    for signum in (signal.SIGKILL, signal.SIGTERM):
        run, pid = await world.started("spin")

        os.kill(pid, signum)

        assert (await run).error == f"function process died: {signum.name}"


async def test_too_much_memory_fails_alone(world: World) -> None:
    outcome = await world.start("eat_memory")

    assert outcome.error == "out of memory: more than 64 MiB on top of the idle process"
    assert outcome.detail["crashed"] is True
    assert (await world.start("eat_a_little")).output == str(16 << 20)


async def test_a_closed_channel_is_a_crash(world: World) -> None:
    outcome = await world.start("close_everything")

    assert "closed its channel" in (outcome.error or "")
    assert outcome.detail == {"crashed": True}
    assert await until(lambda: len(descendants()) <= world.children.idle)


async def test_three_crashes_in_a_row_are_poison(world: World) -> None:
    outcomes = [await world.start("segfault", execution="a") for _ in range(3)]

    assert [outcome.retryable for outcome in outcomes] == [True, True, False]
    assert outcomes[2].error == "poison: function process died: SIGSEGV (3 times in a row)"


async def test_an_ordinary_end_between_crashes_begins_a_new_count(world: World) -> None:
    crashed = [await world.start("segfault", execution="b") for _ in range(2)]
    survived = await world.start("give_up", execution="b")
    again = await world.start("segfault", execution="b")

    assert all(outcome.detail["crashed"] for outcome in crashed)
    assert survived.error == "PermanentError: no such customer"
    assert again.retryable


# ── output ───────────────────────────────────────────────────────────────────────────────────────


async def test_endless_printing_is_cut_and_the_loop_stays_free(world: World) -> None:
    idle = await idle_lag()
    run = world.start("print_without_end", lines=60_000)

    lag = await worst_lag(run)
    outcome = await run

    assert outcome.output == "done"
    assert world.context.lines[0].startswith("line 0 ")
    assert world.context.lines[-1].startswith("line 59999 ")
    assert len(world.context.lines) < LINES_MAX + 30
    assert any("lines dropped" in line for line in world.context.lines)
    assert lag < max(0.1, 5 * idle)


async def test_a_large_result_is_cut(world: World) -> None:
    payload = FunctionPayload(function_name="flood", module="proof")

    outcome = await world.executor.run(payload, example_context(payload, HostClock()))

    assert outcome.truncated
    assert len(outcome.output.encode()) == KIB_64


# ── stopping ─────────────────────────────────────────────────────────────────────────────────────


async def test_a_busy_loop_is_stopped_at_once(world: World) -> None:
    run, pid = await world.started("spin")

    took = await cancel(run)

    assert took < GRACE
    assert not state_of(pid)


@pytest.mark.parametrize("name", ["clean_up_when_stopped", "clean_up_a_coroutine_when_stopped"])
async def test_finally_blocks_run_and_are_heard(world: World, name: str) -> None:
    run, pid = await world.started(name)

    await cancel(run)

    assert world.context.lines == ["cleaned up, cancelled is True"]
    assert not state_of(pid)


@pytest.mark.parametrize("name", ["ignore_sigterm", "swallow_everything"])
async def test_who_does_not_listen_is_killed_after_the_grace(world: World, name: str) -> None:
    run, pid = await world.started(name)

    took = await cancel(run)

    assert GRACE <= took < GRACE + 1
    assert not state_of(pid)


async def test_a_second_cancel_does_not_wait_for_the_grace(world: World) -> None:
    run, pid = await world.started("ignore_sigterm")
    run.cancel()
    await asyncio.sleep(0)

    took = await cancel(run)

    assert took < GRACE
    assert await until(lambda: not state_of(pid))


async def test_the_whole_family_is_killed(world: World) -> None:
    run, pid = await world.started("raise_a_family")
    assert await until(lambda: len(descendants(pid)) == 4)
    family = descendants(pid)

    await cancel(run)

    assert await until(lambda: not any(map(is_running, family)))
    assert not state_of(pid)


async def test_what_a_call_leaves_behind_ends_with_it(world: World) -> None:
    for name in ("leave_a_process_behind", "leave_an_orphan_behind"):
        left = int((await world.start(name)).output)

        assert await until(lambda pid=left: not is_running(pid)), name  # type: ignore[misc]


async def test_cancelled_before_a_child_is_ready_leaves_nothing() -> None:
    async with isolated(SETTINGS) as (executor, children):
        before = descendants().keys()
        run = asyncio.create_task(succeed(executor))
        assert await until(lambda: bool(descendants().keys() - before))

        await cancel(run)

        assert not descendants().keys() - before
        assert children.busy == 0


# ── nothing is left ──────────────────────────────────────────────────────────────────────────────


async def test_no_process_zombie_or_descriptor_is_left() -> None:
    async def use_it() -> None:
        async with doorbell() as bell, isolated(SETTINGS) as (executor, children):
            world = World(executor, children, bell)
            await world.start("take_all", limit=1, name="")
            await world.start("segfault")
            await world.start("eat_memory")
            for name in ("spin", "ignore_sigterm", "raise_a_family"):
                run, _ = await world.started(name)
                await cancel(run)
            await world.started("spin")  # Busy when the pool is closed.

    processes, files = descendants().keys(), open_files()
    await use_it()

    assert not descendants().keys() - processes
    assert len(open_files()) <= len(files), open_files()


SERVICE = """
import asyncio, sys, tests.executors.functions
from peregrine.domain.payload import FunctionPayload
from peregrine.testing.executor_contract import HostClock, example_context
from tests.executors.processes import isolated

async def main():
    async with isolated() as (executor, children):
        await children.start()
        for name in ("spin", "raise_a_family", "ignore_sigterm"):
            payload = FunctionPayload(function_name=name, parameters={"path": sys.argv[1]})
            asyncio.create_task(executor.run(payload, example_context(payload, HostClock())))
        await asyncio.Event().wait()

asyncio.run(main())
"""


def serve(bell: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", SERVICE, bell], cwd=ROOT)


async def test_kill_9_of_the_service_leaves_no_child() -> None:
    async with doorbell() as bell:
        service = serve(bell.path)
        children = [await bell.rung() for _ in range(3)]
        # Three busy ones, a spare, and the family but for the one that made itself a session of its own.
        assert await until(lambda: len(descendants(service.pid)) >= 8)
        family = descendants(service.pid)
        outside = [pid for pid, line in family.items() if line.startswith("sleep 601")]

        service.kill()
        service.wait()

        inside = [pid for pid in family if pid not in outside]
        assert await until(lambda: not any(map(is_running, inside))), [family[p] for p in inside if is_running(p)]
        assert set(children) <= set(inside)
        for pid in outside:
            os.kill(pid, signal.SIGKILL)


# ── manners ──────────────────────────────────────────────────────────────────────────────────────


async def worst_lag(run: asyncio.Task[Any], *, share: float = 0.99) -> float:
    """Seconds that the loop came late to a 5 ms beat while *run* ran, but for the worst 1 - *share* of them."""
    loop = asyncio.get_running_loop()
    lags = []
    while not run.done():
        before = loop.time()
        await asyncio.wait({run}, timeout=0.005)
        lags.append(max(0.0, loop.time() - before - 0.005))
    return sorted(lags)[int(share * (len(lags) - 1))]


async def idle_lag() -> float:
    """What the machine's other work costs a loop that does nothing now."""
    nothing = asyncio.get_running_loop().create_future()
    return await worst_lag(asyncio.create_task(asyncio.wait([nothing], timeout=0.5)))


async def test_busy_children_leave_the_loop_and_their_neighbours_punctual(world: World) -> None:
    idle = await idle_lag()
    spinners = [await world.started("spin") for _ in range(3)]

    async def neighbours() -> None:
        for _ in range(40):
            assert (await world.start("take_all", limit=1, name="")).error is None

    lag = await worst_lag(asyncio.create_task(neighbours()))

    assert lag < max(0.1, 5 * idle)
    assert all(os.getpriority(os.PRIO_PROCESS, pid) >= 5 for _, pid in spinners)
    await asyncio.gather(*(cancel(run) for run, _ in spinners))


def kernel_says(pid: int, what: str) -> str:
    return Path(f"/proc/{pid}/{what}").read_text(encoding="ascii")


async def test_a_child_is_first_to_go_when_memory_is_short(world: World) -> None:
    run, pid = await world.started("spin")

    assert int(kernel_says(pid, "oom_score_adj")) >= 500
    assert "Max core file size        0 " in kernel_says(pid, "limits")
    assert os.getpgid(pid) == os.getsid(pid) == pid
    await cancel(run)


async def test_a_child_inherits_only_its_own_descriptors(world: World) -> None:
    with tempfile.TemporaryFile() as ours:
        os.set_inheritable(ours.fileno(), True)
        run, pid = await world.started("ignore_sigterm")
        held = {what.split(":")[0] for what in open_files(pid).values()}

    assert held <= {"/dev/null", "pipe", "socket"}
    await cancel(run)


# ── the pool ─────────────────────────────────────────────────────────────────────────────────────


async def succeed(executor: FunctionExecutor) -> Outcome:
    payload = FunctionPayload(function_name="succeed", module="proof")
    return await executor.run(payload, example_context(payload, HostClock()))


async def test_a_child_takes_many_calls_and_is_replaced_in_time() -> None:
    settings = IsolationSettings(modules=(FUNCTIONS_MODULE,), idle_min=0, calls_max=3)
    async with isolated(settings) as (executor, children):
        others = descendants().keys()
        seen: set[int] = set()
        for _ in range(6):
            await succeed(executor)
            seen |= descendants().keys()

        assert len(seen - others) == 2
        assert children.busy == 0


async def test_one_is_kept_warm() -> None:
    settings = IsolationSettings(modules=(FUNCTIONS_MODULE,), idle_min=1)
    async with isolated(settings) as (executor, children), doorbell() as bell:
        await children.start()
        assert children.idle == 1
        run, _ = await World(executor, children, bell).started("spin")

        assert await until(lambda: children.idle == 1)
        await cancel(run)


async def test_more_calls_than_room_wait_in_order() -> None:
    settings = IsolationSettings(modules=(FUNCTIONS_MODULE,), idle_min=0, processes_max=1)
    async with isolated(settings) as (executor, children):
        outcomes = await asyncio.gather(*(succeed(executor) for _ in range(5)))

        assert children.idle == 1
        assert all(outcome.error is None for outcome in outcomes)


async def test_what_was_idle_too_long_goes() -> None:
    settings = IsolationSettings(modules=(FUNCTIONS_MODULE,), idle_min=1, idle_for=50)
    async with isolated(settings) as (executor, children):
        others = descendants().keys()
        await asyncio.gather(succeed(executor), succeed(executor))

        assert await until(lambda: children.idle == 1 and len(descendants().keys() - others) == 1)


async def test_modules_that_fail_to_import_say_so() -> None:
    before = descendants().keys()
    children = ChildProcesses(IsolationSettings(modules=("no_such_module",)))
    executor = FunctionExecutor(FUNCTIONS, children=children, clock=HostClock())

    outcome = await succeed(executor)

    assert outcome.error == (
        "a function process could not import the functions: ModuleNotFoundError: No module named 'no_such_module'"
    )
    with pytest.raises(StartFailed, match="no_such_module"):
        await children.start()
    await children.close()
    assert not descendants().keys() - before


async def test_a_function_that_a_child_can_not_find_says_so() -> None:
    registry = FunctionRegistry()
    function(registry=registry)(functions.not_registered)

    async with isolated(IsolationSettings(idle_min=0)) as (_, children):
        executor = FunctionExecutor(registry, children=children, clock=HostClock())
        payload = FunctionPayload(function_name="not_registered")
        outcome = await executor.run(payload, example_context(payload, HostClock()))

    assert "registers no function 'not_registered' in a child process" in (outcome.error or "")


async def test_a_function_s_module_is_found_without_being_listed() -> None:
    async with isolated(IsolationSettings(idle_min=0)) as (executor, _):
        assert (await succeed(executor)).output == "all is well"


SCRIPT = """
import asyncio
from peregrine import Context, function

@function()
def greet(context: Context, name: str) -> str:
    return f"hello {name}, attempt {context.attempt}"

async def main():
    from peregrine.domain.payload import FunctionPayload
    from peregrine.testing.executor_contract import HostClock, example_context
    from tests.executors.processes import isolated
    from peregrine.executors.isolation import IsolationSettings
    async with isolated(IsolationSettings()) as (executor, _):
        payload = FunctionPayload(function_name="greet", parameters={"name": "Ada"})
        print((await executor.run(payload, example_context(payload, HostClock()))).output)

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_functions_of_a_script_work_too(tmp_path: Path) -> None:
    script = tmp_path / "host.py"
    script.write_text(SCRIPT, encoding="utf-8")

    ran = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )

    assert ran.stdout == "hello Ada, attempt 1\n", ran.stderr
