"""The how-to promises nothing that does not work: its code runs, and its tasks are accepted."""

from __future__ import annotations

import json
import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from peregrine.domain.payload import CustomPayload, Kind, parse_payload
from peregrine.executors.callables import FUNCTIONS
from peregrine.executors.custom import CUSTOMS, CustomExecutor
from peregrine.executors.function import FunctionExecutor
from peregrine.executors.isolation import ChildProcesses
from peregrine.testing.executor_contract import HostClock, example_context

TEXT = (Path(__file__).parents[2] / "docs" / "howto" / "functions.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture(scope="module")
def shown() -> dict[str, Any]:
    """What the how-to's code defines."""
    module = types.ModuleType("shown")
    sys.modules["shown"] = module
    exec("\n".join(blocks("python")), module.__dict__)
    return module.__dict__


def test_its_task_is_accepted(shown: dict[str, Any]) -> None:
    config = json.loads(blocks("json")[0])
    executor = FunctionExecutor(FUNCTIONS, children=ChildProcesses(), clock=HostClock())

    assert not executor.check(parse_payload(Kind.FUNCTION, config))
    config["parameters"]["limit"] = "many"
    assert [f.pointer for f in executor.check(parse_payload(Kind.FUNCTION, config))] == ["/config/parameters/limit"]


def test_its_functions_stay_callable(shown: dict[str, Any]) -> None:
    with pytest.raises(shown["PermanentError"]):
        shown["sync_customer"](-1)
    with pytest.raises(shown["RetryLater"], match="pause"):
        shown["sync_customer"](0)


async def test_its_executor_greets(shown: dict[str, Any]) -> None:
    payload = CustomPayload(executor="greet", parameters={"name": "Ada"})
    executor = CustomExecutor(CUSTOMS, clock=HostClock())

    outcome = await executor.run(payload, example_context(payload, HostClock()))

    assert outcome.output == "hello Ada"
    assert executor.check(CustomPayload(executor="greet", parameters={}))
