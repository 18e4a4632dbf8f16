"""One executor for all kinds: each payload finds its own, and a kind that is missing is refused twice."""

from __future__ import annotations

import pytest

from peregrine.domain.execution import AttemptOutcome, Outcome
from peregrine.domain.ids import TaskId
from peregrine.domain.payload import (
    CustomPayload,
    FunctionPayload,
    HttpPayload,
    JsonObject,
    Payload,
    SystemPayload,
)
from peregrine.executors.callables import FunctionRegistry
from peregrine.executors.custom import CustomExecutor, CustomRegistry
from peregrine.executors.function import FunctionExecutor
from peregrine.executors.isolation import ChildProcesses
from peregrine.executors.registry import Executors
from peregrine.executors.system import SystemExecutor
from peregrine.ports.executor import RunContext
from peregrine.ports.module import SystemTask
from peregrine.testing.executor_contract import HostClock, example_context


async def sweep(parameters: JsonObject, context: RunContext) -> Outcome:
    context.log(f"swept for {context.claim.task.id}")
    return Outcome.succeeded(f"swept {parameters['rooms']}")


SWEEP = SystemTask(
    id=TaskId("system-sweep"),
    task_name="sweep",
    name="Sweep",
    description="Sweeps.",
    purpose="Dust.",
    schedule="@daily",
    parameters={"rooms": 2},
    handler=sweep,
)
PAYLOADS: list[Payload] = [
    HttpPayload(url="http://example.org/"),
    FunctionPayload(function_name="none"),
    SystemPayload(task_name="none"),
    CustomPayload(executor="none"),
]


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: type(payload).__name__)
async def test_a_kind_without_executor_is_refused_twice(payload: Payload) -> None:
    executors = Executors()

    outcome = await executors.run(payload, example_context(payload, HostClock()))

    assert [fault.pointer for fault in executors.check(payload)] == ["/type"]
    assert outcome.verdict is AttemptOutcome.FAILED
    assert not outcome.retryable


@pytest.mark.parametrize(
    ("payload", "pointer"),
    [
        (PAYLOADS[1], "/config/function_name"),
        (PAYLOADS[2], "/config/task_name"),
        (PAYLOADS[3], "/config/executor"),
    ],
)
def test_each_kind_finds_its_own(payload: Payload, pointer: str) -> None:
    executors = Executors(
        function=FunctionExecutor(FunctionRegistry(), children=ChildProcesses(), clock=HostClock()),
        system=SystemExecutor([SWEEP]),
        custom=CustomExecutor(CustomRegistry(), clock=HostClock()),
    )

    assert [fault.pointer for fault in executors.check(payload)] == [pointer]


async def test_a_system_task_runs_what_its_module_declared() -> None:
    executors = Executors(system=SystemExecutor([SWEEP]))
    payload = SystemPayload(task_name="sweep", parameters={"rooms": 3})
    context = example_context(payload, HostClock())

    outcome = await executors.run(payload, context)

    assert outcome.output == "swept 3"
    assert context.lines == ["swept for task-1"]
    assert not executors.check(payload)


def test_a_run_of_a_system_task_may_only_change_what_is_declared() -> None:
    executors = Executors(system=SystemExecutor([SWEEP]))
    payload = SystemPayload(task_name="sweep", parameters={"rooms": 3})

    found = executors.check(payload, {"rooms": "all", "floors": 2})

    assert not executors.check(payload, {"rooms": 5})
    assert {fault.pointer for fault in found} == {"/config/parameters/rooms", "/config/parameters/floors"}


def test_two_declarations_of_one_name_are_a_bug() -> None:
    with pytest.raises(AssertionError, match="two modules declare sweep"):
        SystemExecutor([SWEEP, SWEEP])


def test_a_system_task_s_id_says_so() -> None:
    with pytest.raises(AssertionError, match="begins with 'system-'"):
        SystemTask(**{name: getattr(SWEEP, name) for name in SWEEP.__slots__} | {"id": TaskId("sweep")})
