"""Which functions may be called, what they take, and what a call comes to."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

import peregrine
from peregrine import Context, function
from peregrine.domain.errors import BadConfiguration
from peregrine.domain.execution import AttemptOutcome, Outcome
from peregrine.domain.payload import FunctionPayload, JsonObject
from peregrine.executors.callables import FUNCTIONS, FunctionRegistry
from peregrine.executors.function import FunctionExecutor
from peregrine.executors.isolation import ChildProcesses, IsolationSettings
from peregrine.executors.threads import ABANDONED_MAX
from peregrine.testing.executor_contract import ExampleContext, HostClock, example_context
from tests.executors.processes import FUNCTIONS_MODULE, doorbell, isolated, until

Call = Callable[..., Any]


@pytest.fixture(scope="module")
async def executor() -> AsyncIterator[FunctionExecutor]:
    async with isolated(IsolationSettings(modules=(FUNCTIONS_MODULE,), idle_min=0)) as (executor, _):
        yield executor


@pytest.fixture
def checker() -> FunctionExecutor:
    """For what needs no process."""
    return FunctionExecutor(FUNCTIONS, children=ChildProcesses(), clock=HostClock())


def asked(name: str, /, *, module: str = "", **parameters: Any) -> tuple[FunctionPayload, ExampleContext]:
    payload = FunctionPayload(function_name=name, module=module, parameters=parameters)
    return payload, example_context(payload, HostClock())


async def outcome_of(executor: FunctionExecutor, name: str, /, **parameters: Any) -> Outcome:
    return await executor.run(*asked(name, **parameters))


# ── registering ──────────────────────────────────────────────────────────────────────────────────


def registered(call: Call, **options: Any) -> FunctionRegistry:
    registry = FunctionRegistry()
    function(**options, registry=registry)(call)
    return registry


def test_the_decorator_leaves_the_function_as_it_was() -> None:
    def double(number: int) -> int:
        return 2 * number

    assert function(registry=FunctionRegistry())(double) is double


def test_a_function_is_found_by_its_own_name_or_the_one_given() -> None:
    def some_work() -> None: ...

    assert registered(some_work).get("", "some_work") is not None
    assert registered(some_work, name="w", module="m").get("m", "w") is not None


def test_functions_run_where_their_kind_says() -> None:
    def plain() -> None: ...
    async def coroutine() -> None: ...

    assert [f.isolation for f in registered(plain)] == ["process"]
    assert [f.isolation for f in registered(plain, isolation="thread")] == ["thread"]
    assert [f.isolation for f in registered(coroutine)] == ["async"]
    assert [f.isolation for f in registered(coroutine, isolation="process")] == ["process"]


def unhinted(limit) -> None: ...  # type: ignore[no-untyped-def]
def greedy(**everything: int) -> None: ...
def starred(*everything: int) -> None: ...
def positional(limit: int, /) -> None: ...
def late_context(limit: int, context: Context) -> None: ...
def foreign(path: Path) -> None: ...
def annotated(limit: Annotated[int, "above zero"]) -> None: ...
def unresolved(limit: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def odd_literal(kind: Literal[b"x"]) -> None: ...
def generating() -> Any:
    yield 1


def plain() -> None: ...
async def coroutine() -> None: ...


@pytest.mark.parametrize(
    ("call", "options", "said"),
    [
        (unhinted, {}, "'limit' needs a type hint"),
        (greedy, {}, "takes anything"),
        (starred, {}, "takes anything"),
        (positional, {}, "positional-only"),
        (late_context, {}, "Context must be the first"),
        (foreign, {}, "Path can't be read from JSON"),
        (annotated, {}, "can't be read from JSON"),
        (unresolved, {}, "'Nowhere' is not defined"),
        (odd_literal, {}, "no JSON value"),
        (generating, {}, "it yields"),
        (os.system, {}, "is not a function"),
        (Path, {}, "is not a function"),
        (plain, {"isolation": "async"}, "needs an `async def`"),
        (plain, {"isolation": "moon"}, "must be one of process, thread, async"),
        (plain, {"name": "no/slash"}, "must be letters"),
        (plain, {"name": ""}, "must be letters"),
        (plain, {"module": "x" * 129}, "must be letters"),
        (plain, {"memory_max_bytes": 1}, "at least"),
        (coroutine, {"memory_max_bytes": 1 << 30}, "needs isolation='process'"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_wrong_registration_says_what_to_change(call: Call, options: dict[str, Any], said: str) -> None:
    with pytest.raises(BadConfiguration, match=said):
        registered(call, **options)


def test_forgotten_brackets_are_noticed() -> None:
    with pytest.raises(BadConfiguration, match="brackets"):
        function(plain)  # type: ignore[arg-type]


def test_a_name_is_taken_once() -> None:
    registry = registered(plain, name="same")

    function("same", registry=registry)(plain)  # A reload registers the same one again.
    with pytest.raises(BadConfiguration, match="registered twice"):
        function("same", registry=registry)(coroutine)


def test_a_function_is_described_with_its_schema() -> None:
    described = next(f for f in FUNCTIONS if f.name == "take_all").described()

    schema: Any = described["parameters"]
    assert schema["required"] == ["limit", "name"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["limit"] == {"type": "integer"}
    assert schema["properties"]["mode"] == {"enum": ["fast", "slow"], "default": "fast"}
    assert schema["properties"]["colour"] == {"enum": ["red", "blue"], "default": "red"}
    assert schema["properties"]["numbers"] == {
        "anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "null"}],
        "default": None,
    }


# ── checking when a task is saved ────────────────────────────────────────────────────────────────

GOOD: JsonObject = {"limit": 5, "name": "x"}


def faults(checker: FunctionExecutor, parameters: JsonObject, overrides: JsonObject | None = None) -> dict[str, str]:
    payload = FunctionPayload(function_name="take_all", parameters=parameters)
    found = checker.check(payload, overrides)
    return {fault.pointer.removeprefix("/config/parameters"): fault.message for fault in found}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"ratio": 1},
        {"ratio": 0.25, "flag": True, "numbers": None, "labels": {}, "mode": "slow", "colour": "blue"},
        {"numbers": [], "free": {"any": ["thing", None]}},
    ],
)
def test_good_parameters_pass(checker: FunctionExecutor, more: JsonObject) -> None:
    assert faults(checker, GOOD | more) == {}


@pytest.mark.parametrize(
    ("wrong", "pointer", "said"),
    [
        ({"limit": "5"}, "/limit", "a whole number"),
        ({"limit": True}, "/limit", "a whole number"),
        ({"limit": 5.0}, "/limit", "a whole number"),
        ({"limit": None}, "/limit", "a whole number"),
        ({"name": 5}, "/name", "a text"),
        ({"ratio": "0.5"}, "/ratio", "a number"),
        ({"ratio": 10**400}, "/ratio", "a number"),
        ({"flag": 1}, "/flag", "true or false"),
        ({"numbers": "1,2"}, "/numbers", "a list or null"),
        ({"numbers": [1, "2", 3, True]}, "/numbers/1", "a whole number"),
        ({"labels": {"a/b~c": 1}}, "/labels/a~1b~0c", "a text"),
        ({"labels": []}, "/labels", "an object or null"),
        ({"mode": "Fast"}, "/mode", 'one of "fast", "slow"'),
        ({"colour": "RED"}, "/colour", 'one of "red", "blue"'),
        ({"speed": 1}, "/speed", "not a known parameter"),
        ({"a/b": 1}, "/a~1b", "not a known parameter"),
    ],
)
def test_a_wrong_parameter_has_a_fault_with_its_place(
    checker: FunctionExecutor, wrong: JsonObject, pointer: str, said: str
) -> None:
    found = faults(checker, GOOD | wrong)

    assert said in found[pointer]


def test_every_fault_is_told_at_once(checker: FunctionExecutor) -> None:
    found = faults(checker, {"limit": "x", "flag": 0, "numbers": ["a", "b"], "what": 1})

    assert set(found) == {"/limit", "/flag", "/numbers/0", "/numbers/1", "/name", "/what"}
    assert found["/name"] == "is required"


def test_parameters_of_one_run_stand_over_the_stored_ones(checker: FunctionExecutor) -> None:
    assert faults(checker, GOOD, {"limit": "many"}) == {"/limit": "must be a whole number"}
    assert faults(checker, {"name": "x"}, {"limit": 3}) == {}


def test_parameters_have_a_bound(checker: FunctionExecutor) -> None:
    assert "at most" in faults(checker, {"limit": 1, "name": "x" * 2_000_000})[""]


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("", "__import__"),
        ("", "os.system"),
        ("", "..functions.take_all"),
        ("tests.executors.functions", "take_all"),
        ("proof", "take_all"),
        ("", "succeed"),
    ],
)
async def test_only_registered_keys_name_a_function(checker: FunctionExecutor, module: str, name: str) -> None:
    """Importable names, names of another module and names without their module find nothing."""
    payload, context = asked(name, module=module)

    assert [fault.pointer for fault in checker.check(payload)] == ["/config/function_name"]
    outcome = await checker.run(payload, context)
    assert outcome.verdict is AttemptOutcome.FAILED
    assert not outcome.retryable


def test_an_unknown_name_lists_what_may_be_meant(checker: FunctionExecutor) -> None:
    def said(name: str, module: str = "") -> str:
        return checker.check(asked(name, module=module)[0])[0].message

    assert "did you mean 'take_all'" in said("takeall")
    assert "'succeed' of module 'proof'" in said("succeed")
    assert "did you mean" not in said("zzzzzzzz")


# ── calling ──────────────────────────────────────────────────────────────────────────────────────


async def test_parameters_arrive_as_their_types(executor: FunctionExecutor) -> None:
    outcome = await outcome_of(executor, "take_all", limit=3, name="ü", ratio=2, colour="blue", free={"a": [1]})

    assert outcome.error is None
    assert json.loads(outcome.output) == {
        "limit": 3,
        "name": "ü",
        "ratio": 2.0,
        "flag": False,
        "numbers": None,
        "labels": None,
        "mode": "fast",
        "colour": "BLUE",
        "free": {"a": [1]},
    }


async def test_the_context_knows_the_attempt(executor: FunctionExecutor) -> None:
    outcome = await outcome_of(executor, "tell")

    assert json.loads(outcome.output) == {
        "execution_id": "execution-1",
        "idempotency_key": "execution-1",
        "task_id": "task-1",
        "attempt": 1,
        "epoch": 1,
        "scheduled_for": "2026-03-01T06:30:00Z",
        "has_time": True,
        "cancelled": False,
    }


async def test_what_a_child_says_is_heard_in_order(executor: FunctionExecutor) -> None:
    payload, context = asked("speak")

    await executor.run(payload, context)

    *lines, last = context.lines
    traceback = lines.pop(8)
    assert lines == [
        "printed",
        "logged",
        "INFO at info",
        "to stderr",
        "WARNING from a library",
        "from below",
        "ERROR caught",
        "KeyError: 'inner'",
    ]
    assert traceback.startswith("  functions.py:")
    assert last == "no newline at the end"
    assert context.steps == [(0.25, "a quarter"), (1.0, "done")]


@pytest.mark.parametrize(
    ("which", "output"),
    [
        ("none", ""),
        ("bytes", '"AP8="'),
        ("nan", "null"),
        ("object", "(a type that can't be written as JSON)"),
        ("surrogate", "lone ? half"),
        ("set", "[1]"),
    ],
)
async def test_any_result_can_be_kept(executor: FunctionExecutor, which: str, output: str) -> None:
    outcome = await outcome_of(executor, "return_odd_things", which=which)

    assert outcome.error is None
    assert outcome.output in (output, "\"<class 'object'>\"")


async def test_an_error_is_told_without_folders(executor: FunctionExecutor) -> None:
    outcome = await outcome_of(executor, "fail_deep", depth=40)

    assert outcome.error == "FileNotFoundError: [Errno 2] No such file or directory: '/no/such/folder/at/all'"
    traceback: Any = outcome.detail["traceback"]
    assert len(traceback) == 20
    assert all(line.startswith("functions.py:") and line.endswith(" in fail_deep") for line in traceback)


async def test_a_function_can_forbid_the_retry_and_choose_its_time(executor: FunctionExecutor) -> None:
    given_up = await outcome_of(executor, "give_up")
    later = await outcome_of(executor, "ask_for_time")

    assert (given_up.error, given_up.retryable) == ("PermanentError: no such customer", False)
    assert (later.error, later.retryable, later.retry_after) == ("RetryLater: again in 90.5 s", True, 90_500)


async def test_leaving_is_a_failure_not_a_crash(executor: FunctionExecutor) -> None:
    for name in ("leave_politely", "exit_on_loop"):
        outcome = await outcome_of(executor, name)

        assert (outcome.error or "").startswith("SystemExit: ")
        assert "crashed" not in outcome.detail


async def test_a_coroutine_may_run_in_a_child_too(executor: FunctionExecutor) -> None:
    assert (await outcome_of(executor, "work_asynchronously", text="abc")).output == "cba"


async def test_wrong_parameters_at_run_time_fail_without_retry(executor: FunctionExecutor) -> None:
    outcome = await outcome_of(executor, "take_all", limit="x", name="y")

    assert outcome.error == "parameters: limit must be a whole number"
    assert not outcome.retryable


# ── on the loop ──────────────────────────────────────────────────────────────────────────────────


async def test_a_swallowed_cancel_is_a_cancel_all_the_same(executor: FunctionExecutor) -> None:
    async with doorbell() as bell:
        run = asyncio.create_task(executor.run(*asked("swallow_cancel", path=bell.path)))
        await bell.rung()

        run.cancel()
        await asyncio.wait({run}, timeout=5)

        assert run.cancelled()


async def test_a_cancel_from_inside_is_a_failure(executor: FunctionExecutor) -> None:
    outcome = await outcome_of(executor, "cancel_something_else")

    assert outcome.error == "CancelledError"


# ── in a thread ──────────────────────────────────────────────────────────────────────────────────


async def test_a_deaf_thread_is_abandoned_and_its_result_dropped() -> None:
    async with doorbell() as bell:
        release = f"{bell.path}.release"
        children = ChildProcesses()
        executor = FunctionExecutor(FUNCTIONS, children=children, clock=HostClock(), thread_grace=50)
        payload, context = asked("sit_in_thread", path=bell.path, release=release)
        run = asyncio.create_task(executor.run(payload, context))
        await bell.rung()

        run.cancel()
        done, _ = await asyncio.wait({run}, timeout=5)

        assert done
        assert run.cancelled()
        assert executor.abandoned_threads == 1
        assert [line for line in context.lines if line.startswith("abandoned:")]
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(release)
        assert await until(lambda: executor.abandoned_threads == 0)


async def test_abandoned_threads_have_a_bound() -> None:
    released = threading.Event()
    registry = FunctionRegistry()

    @function(isolation="thread", registry=registry)
    def sit() -> None:
        released.wait(30)

    executor = FunctionExecutor(registry, children=ChildProcesses(), clock=HostClock(), thread_grace=1)
    try:
        for _ in range(ABANDONED_MAX):
            run = asyncio.create_task(executor.run(*asked("sit")))
            await until(lambda: len(context_threads()) > executor.abandoned_threads)
            run.cancel()
            await asyncio.wait({run})
        refused = await outcome_of(executor, "sit")
    finally:
        released.set()

    assert "abandoned threads still run" in (refused.error or "")
    assert refused.retryable
    assert await until(lambda: executor.abandoned_threads == 0)


def context_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "function sit"]


async def test_a_thread_hears_the_cancel_and_cleans_up() -> None:
    registry = FunctionRegistry()
    started, ended = threading.Event(), threading.Event()

    @function(isolation="thread", registry=registry)
    def heed(context: Context) -> str:
        started.set()
        while not context.cancelled:
            ended.wait(0.001)
        ended.set()
        return "clean"

    executor = FunctionExecutor(registry, children=ChildProcesses(), clock=HostClock())
    run = asyncio.create_task(executor.run(*asked("heed")))
    await until(started.is_set)

    run.cancel()
    await asyncio.wait({run}, timeout=5)

    assert run.cancelled()
    assert ended.is_set()
    assert executor.abandoned_threads == 0


async def test_a_talkative_thread_is_cut_but_its_last_words_are_kept() -> None:
    registry = FunctionRegistry()

    @function(isolation="thread", registry=registry)
    def chatter(context: Context) -> None:
        for number in range(5000):
            context.log(f"line {number}")
            context.progress(number / 5000, str(number))

    executor = FunctionExecutor(registry, children=ChildProcesses(), clock=HostClock())
    payload, context = asked("chatter")

    await executor.run(payload, context)

    assert context.lines[:2] == ["line 0", "line 1"]
    assert context.lines[-1] == "line 4999"
    assert "(3980 lines dropped)" in context.lines
    assert len(context.lines) == 1021
    assert len(context.steps) < 1000
    assert context.steps[-1] == (4999 / 5000, "4999")


# ── the face ─────────────────────────────────────────────────────────────────────────────────────


def test_importing_the_face_costs_next_to_nothing() -> None:
    program = "import sys; old = set(sys.modules); import peregrine; print(*(set(sys.modules) - old))"
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )

    assert set(ran.stdout.split()) <= {"peregrine", "__future__"}


def test_the_face_has_its_names() -> None:
    assert peregrine.__version__ == "0.1.0"
    assert set(peregrine.__all__) <= set(dir(peregrine))
    assert peregrine.Context is Context
    with pytest.raises(AttributeError, match="no attribute 'functions'"):
        _ = peregrine.functions  # type: ignore[attr-defined]


class Size(Enum):
    BIG = 1


def test_enum_values_keep_their_type() -> None:
    def choose(size: Size) -> None: ...

    chosen = next(iter(registered(choose)))

    assert chosen.signature.read({"size": 1}) == ({"size": Size.BIG}, [])
    assert chosen.signature.read({"size": True})[1]
