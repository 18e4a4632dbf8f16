"""Owns how registered functions and executors are listed for readers; must not know who reads."""

from __future__ import annotations

from collections.abc import Sequence

from peregrine.domain.payload import JsonObject
from peregrine.executors.callables import FunctionRegistry
from peregrine.executors.custom import CustomRegistry
from peregrine.executors.redaction import is_secret_name


class Registered:
    """The ``Catalogue`` of two registries, as they are when it is asked."""

    def __init__(self, functions: FunctionRegistry, customs: CustomRegistry) -> None:
        self._functions = functions
        self._customs = customs

    def functions(self) -> Sequence[JsonObject]:
        found = sorted(self._functions, key=lambda function: (function.module, function.name))
        return [function.described() | {"parameters": _without_secrets(function.signature.schema())}
                for function in found]  # fmt: skip

    def executors(self) -> Sequence[JsonObject]:
        found = sorted(self._customs, key=lambda custom: custom.name)
        return [custom.described() | {"parameters": _without_secrets(custom.schema)} for custom in found]


def _without_secrets(schema: JsonObject) -> JsonObject:
    """*schema* without the defaults of parameters whose name says that they are secret."""
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return schema
    shown: JsonObject = {
        name: {key: value for key, value in shape.items() if key not in ("default", "examples", "const")}
        if isinstance(shape, dict) and is_secret_name(name)
        else shape
        for name, shape in properties.items()
    }
    return schema | {"properties": shown}
