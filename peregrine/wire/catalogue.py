"""Owns how registered functions and executors go out; must not know how they are registered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from peregrine.domain.payload import JsonObject


class FunctionShape(Struct, frozen=True, kw_only=True):
    """A function that tasks of type `function` may name. `parameters` is a JSON Schema of `config.parameters`.

    `isolation` says where it runs: `process`, `thread` or `async`.
    """

    module: str
    function_name: str
    isolation: str
    description: str
    parameters: dict[str, Any]


class ExecutorShape(Struct, frozen=True, kw_only=True):
    """An executor that tasks of type `custom` may name. `parameters` is the JSON Schema of `config.parameters`."""

    executor: str
    description: str
    parameters: dict[str, Any]


class FunctionList(Struct, frozen=True, kw_only=True):
    """All registered functions, by module and name."""

    functions: list[FunctionShape]
    total: int


class ExecutorList(Struct, frozen=True, kw_only=True):
    """All registered executors, by name."""

    executors: list[ExecutorShape]
    total: int


def function_list(found: Sequence[JsonObject]) -> FunctionList:
    """Functions as they go out."""
    return FunctionList(functions=[msgspec.convert(one, FunctionShape) for one in found], total=len(found))


def executor_list(found: Sequence[JsonObject]) -> ExecutorList:
    """Executors as they go out."""
    return ExecutorList(executors=[msgspec.convert(one, ExecutorShape) for one in found], total=len(found))
