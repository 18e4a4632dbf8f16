"""What tasks may name is listed with its schema, in order, without secrets."""

from __future__ import annotations

from peregrine.domain.execution import Outcome
from peregrine.domain.payload import JsonObject
from peregrine.executors.callables import FunctionRegistry, function
from peregrine.executors.catalogue import Registered
from peregrine.executors.context import Context
from peregrine.executors.custom import CustomRegistry, executor

SCHEMA: JsonObject = {
    "type": "object",
    "properties": {"days": {"type": "integer"}, "api_key": {"type": "string", "default": "hush"}},
    "required": ["days"],
}


def registered() -> Registered:
    functions, customs = FunctionRegistry(), CustomRegistry()

    @function(module="b", registry=functions)
    def second(days: int, who: str = "me", password: str = "hush") -> None:
        """Reports."""

    @function(registry=functions)
    async def first(context: Context) -> None: ...

    @executor("mine", schema=SCHEMA, description="Does it.", registry=customs)
    async def mine(parameters: JsonObject, context: Context) -> Outcome:
        return Outcome.succeeded()

    @executor("also", registry=customs)
    async def also(parameters: JsonObject, context: Context) -> Outcome:
        return Outcome.succeeded()

    return Registered(functions, customs)


def test_functions_are_listed_by_module_and_name() -> None:
    first, second = registered().functions()

    assert first == {
        "module": "", "function_name": "first", "isolation": "async", "description": "",
        "parameters": {"type": "object", "properties": {}, "required": [], "additionalProperties": False},
    }  # fmt: skip
    assert (second["module"], second["function_name"], second["isolation"]) == ("b", "second", "process")
    assert second["parameters"] == {
        "type": "object",
        "properties": {
            "days": {"type": "integer"}, "who": {"type": "string", "default": "me"}, "password": {"type": "string"},
        },
        "required": ["days"],
        "additionalProperties": False,
    }  # fmt: skip


def test_executors_are_listed_by_name_with_the_schema_that_is_enforced() -> None:
    also, mine = registered().executors()

    assert also == {"executor": "also", "description": "", "parameters": {"type": "object"}}
    assert (mine["executor"], mine["description"]) == ("mine", "Does it.")
    assert mine["parameters"] == SCHEMA | {
        "properties": {"days": {"type": "integer"}, "api_key": {"type": "string"}}
    }  # fmt: skip


def test_what_is_shown_is_no_handle_on_what_is_enforced() -> None:
    shown = registered()

    assert SCHEMA["properties"] == {"days": {"type": "integer"}, "api_key": {"type": "string", "default": "hush"}}
    assert shown.executors()
