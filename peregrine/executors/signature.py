"""Owns what a function's type hints ask of a task's parameters; must not know registries, or how functions run.

A signature is read once, when the function is registered, into one shape per parameter. A shape reads a JSON value
strictly (``"5"`` is not 5, ``true`` is not 1) and says everything that is wrong, not only the first thing.
"""

from __future__ import annotations

import enum
import inspect
import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, Union, cast

from peregrine.domain.errors import BadConfiguration, Fault
from peregrine.domain.payload import JsonObject, JsonValue
from peregrine.executors.context import Context

SUPPORTED: Final = "int, float, bool, str, None, Any, list[…], dict[str, …], Literal, Enum, and unions of these"


class Shape(Protocol):
    """What one value must look like."""

    @property
    def words(self) -> str:
        """How to say it to a person: ``a whole number``."""
        ...

    def schema(self) -> JsonObject:
        """The same as JSON Schema, for those who show forms."""
        ...

    def read(self, value: JsonValue, at: str, faults: list[Fault]) -> object:
        """*value* as the function wants it; what is wrong is added to *faults* with a pointer below *at*."""
        ...


@dataclass(frozen=True, slots=True)
class _Anything:
    words: str = "any value"

    def schema(self) -> JsonObject:
        return {}

    def read(self, value: JsonValue, at: str, faults: list[Fault]) -> object:
        return value


@dataclass(frozen=True, slots=True)
class _Scalar:
    kind: type
    words: str
    json_name: str

    def schema(self) -> JsonObject:
        return {"type": self.json_name}

    def read(self, value: JsonValue, at: str, faults: list[Fault]) -> object:
        # `type is`, not isinstance: a bool is an int to Python and to nobody else.
        if type(value) is self.kind:
            return value
        if self.kind is float and type(value) is int and abs(value) < 1 << 1023:
            return float(value)
        faults.append(Fault(at, f"must be {self.words}"))
        return None


@dataclass(frozen=True, slots=True)
class _ListOf:
    item: Shape

    @property
    def words(self) -> str:
        return "a list"

    def schema(self) -> JsonObject:
        return {"type": "array", "items": self.item.schema()}

    def read(self, value: JsonValue, at: str, faults: list[Fault]) -> object:
        if not isinstance(value, list):
            faults.append(Fault(at, f"must be {self.words}"))
            return None
        return [self.item.read(each, f"{at}/{place}", faults) for place, each in enumerate(value)]


@dataclass(frozen=True, slots=True)
class _DictOf:
    item: Shape

    @property
    def words(self) -> str:
        return "an object"

    def schema(self) -> JsonObject:
        return {"type": "object", "additionalProperties": self.item.schema()}

    def read(self, value: JsonValue, at: str, faults: list[Fault]) -> object:
        if not isinstance(value, dict):
            faults.append(Fault(at, f"must be {self.words}"))
            return None
        return {key: self.item.read(each, f"{at}/{escape(key)}", faults) for key, each in value.items()}


@dataclass(frozen=True, slots=True)
class _OneOf:
    choices: tuple[tuple[JsonValue, object], ...]

    @property
    def words(self) -> str:
        return "one of " + ", ".join(_quoted(value) for value, _ in self.choices)

    def schema(self) -> JsonObject:
        return {"enum": [value for value, _ in self.choices]}

    def read(self, value: JsonValue, at: str, faults: list[Fault]) -> object:
        for choice, meant in self.choices:
            if type(choice) is type(value) and choice == value:
                return meant
        faults.append(Fault(at, f"must be {self.words}"))
        return None


@dataclass(frozen=True, slots=True)
class _AnyOf:
    shapes: tuple[Shape, ...]

    @property
    def words(self) -> str:
        return " or ".join(shape.words for shape in self.shapes)

    def schema(self) -> JsonObject:
        return {"anyOf": [shape.schema() for shape in self.shapes]}

    def read(self, value: JsonValue, at: str, faults: list[Fault]) -> object:
        deepest: list[Fault] = []
        for shape in self.shapes:
            wrong: list[Fault] = []
            found = shape.read(value, at, wrong)
            if not wrong:
                return found
            if wrong[0].pointer != at:
                deepest = wrong
        # `list[int] | None` given [1, "x"]: the fault in the list says more than "must be a list or null".
        faults.extend(deepest or [Fault(at, f"must be {self.words}")])
        return None


_PLAIN: Final = (bool, int, float, str)
_NULL: Final = _Scalar(type(None), "null", "null")
_SCALARS: Final[dict[object, Shape]] = {
    int: _Scalar(int, "a whole number", "integer"),
    float: _Scalar(float, "a number", "number"),
    bool: _Scalar(bool, "true or false", "boolean"),
    str: _Scalar(str, "a text", "string"),
    None: _NULL,
    type(None): _NULL,
    Any: _Anything(),
    list: _ListOf(_Anything()),
    dict: _DictOf(_Anything()),
}


def shape_of(hint: object) -> Shape:
    """The shape that the type hint *hint* asks for.

    Raises:  TypeError naming the part that JSON can't carry.
    """
    if (known := _known(hint)) is not None:
        return known
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return _AnyOf(tuple(shape_of(each) for each in arguments))
    if origin is Literal:
        return _OneOf(tuple((each, each) for each in _json_choices(hint, arguments)))
    if origin is list:
        return _ListOf(shape_of(arguments[0]))
    if origin is dict and arguments[0] is str:
        return _DictOf(shape_of(arguments[1]))
    if isinstance(hint, type) and issubclass(hint, enum.Enum) and len(hint):
        values = _json_choices(hint, [member.value for member in hint])
        return _OneOf(tuple(zip(values, hint, strict=True)))
    raise TypeError(f"{_name_of(hint)} can't be read from JSON; use {SUPPORTED}")


def _known(hint: object) -> Shape | None:
    try:
        return _SCALARS.get(hint)
    except TypeError:  # Some hints can't be hashed.
        return None


def _json_choices(hint: object, values: Sequence[object]) -> list[JsonValue]:
    choices = [value for value in values if value is None or type(value) in _PLAIN]
    if len(choices) < len(values):
        raise TypeError(f"{_name_of(hint)} holds what is no JSON value; use texts, numbers, true, false, None")
    return cast("list[JsonValue]", choices)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a function."""

    name: str
    shape: Shape
    required: bool
    default: object = None


@dataclass(frozen=True, slots=True)
class Signature:
    """What a function takes: its parameters in order, and whether a ``Context`` comes first."""

    parameters: tuple[Parameter, ...]
    takes_context: bool

    def read(self, values: Mapping[str, JsonValue]) -> tuple[dict[str, object], list[Fault]]:
        """The keyword arguments that *values* give, and what is wrong with them (pointers like ``/limit``)."""
        arguments: dict[str, object] = {}
        faults: list[Fault] = []
        known = set()
        for parameter in self.parameters:
            known.add(parameter.name)
            if parameter.name in values:
                at = f"/{parameter.name}"
                arguments[parameter.name] = parameter.shape.read(values[parameter.name], at, faults)
            elif parameter.required:
                faults.append(Fault(f"/{parameter.name}", "is required"))
        for name in values:
            if name not in known:
                said = f"the function takes {', '.join(sorted(known))}" if known else "the function takes none"
                faults.append(Fault(f"/{escape(name)}", f"is not a known parameter; {said}"))
        return arguments, faults

    def schema(self) -> JsonObject:
        """JSON Schema of the parameters object."""
        properties: JsonObject = {}
        required: list[JsonValue] = []
        for parameter in self.parameters:
            described = parameter.shape.schema()
            if parameter.required:
                required.append(parameter.name)
            else:
                default = parameter.default.value if isinstance(parameter.default, enum.Enum) else parameter.default
                if default is None or type(default) in _PLAIN:
                    described["default"] = cast("JsonValue", default)
            properties[parameter.name] = described
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def signature_of(call: Callable[..., object]) -> Signature:
    """The signature of *call* as its type hints say it.

    Raises:  BadConfiguration with a sentence that names the parameter and the way out.
    """
    try:
        hints = typing.get_type_hints(call, include_extras=True)
    except Exception as error:
        raise BadConfiguration(f"a type hint can't be resolved when the function is registered: {error}") from None
    parameters = list(inspect.signature(call).parameters.values())
    takes_context = bool(parameters) and hints.get(parameters[0].name) is Context
    return Signature(tuple(_parameter(each, hints) for each in parameters[takes_context:]), takes_context)


def _parameter(declared: inspect.Parameter, hints: Mapping[str, object]) -> Parameter:
    name = declared.name
    if declared.kind in (declared.VAR_POSITIONAL, declared.VAR_KEYWORD):
        raise BadConfiguration(f"{declared} takes anything, so nothing could be checked; name each parameter")
    if declared.kind is declared.POSITIONAL_ONLY:
        raise BadConfiguration(f"parameter {name!r} is positional-only; parameters are passed by name")
    if name not in hints:
        raise BadConfiguration(f"parameter {name!r} needs a type hint ({SUPPORTED})")
    if hints[name] is Context:
        raise BadConfiguration(f"parameter {name!r}: the Context must be the first parameter")
    try:
        shape = shape_of(hints[name])
    except TypeError as error:
        raise BadConfiguration(f"parameter {name!r}: {error}") from None
    if declared.default is declared.empty:
        return Parameter(name, shape, required=True)
    return Parameter(name, shape, required=False, default=declared.default)


def escape(key: str) -> str:
    """*key* as one step of a JSON pointer."""
    return key.replace("~", "~0").replace("/", "~1")


def _name_of(hint: object) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def _quoted(value: JsonValue) -> str:
    return json.dumps(value, ensure_ascii=False)
