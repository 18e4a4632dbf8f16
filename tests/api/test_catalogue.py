"""What tasks may name, over HTTP."""

from __future__ import annotations

import pytest

from peregrine.domain.payload import JsonObject
from tests.api.world import World

pytestmark = pytest.mark.anyio

FUNCTION: JsonObject = {
    "module": "analytics", "function_name": "report", "isolation": "process", "description": "Reports.",
    "parameters": {"type": "object", "properties": {"days": {"type": "integer"}}, "required": ["days"]},
}  # fmt: skip
EXECUTOR: JsonObject = {"executor": "command", "description": "Runs a program.", "parameters": {"type": "object"}}


class Shelf:
    """A catalogue with one of each."""

    def functions(self) -> list[JsonObject]:
        return [FUNCTION]

    def executors(self) -> list[JsonObject]:
        return [EXECUTOR]


async def test_functions_and_executors_are_shown_with_their_schema() -> None:
    world = World(means={"catalogue": Shelf()})

    functions = await world.ask("GET", "/scheduler/functions", groups=["monitoring"])
    executors = await world.ask("GET", "/scheduler/executors", groups=["monitoring"])

    assert functions.json() == {"functions": [FUNCTION], "total": 1}
    assert executors.json() == {"executors": [EXECUTOR], "total": 1}
    await world.client.aclose()


async def test_where_nothing_is_registered_the_lists_are_empty(world: World) -> None:
    assert (await world.ask("GET", "/scheduler/functions")).json() == {"functions": [], "total": 0}
    assert (await world.ask("GET", "/scheduler/executors")).json() == {"executors": [], "total": 0}
