"""Owns the small typed texts that bodies are made of (names, durations, moments, closed sets of words) and how faults
found by pydantic become pointers; must not know any whole shape."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    ValidationInfo,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from peregrine.domain.errors import Fault
from peregrine.domain.moment import (
    HOW_TO_WRITE,
    MINUTE,
    Duration,
    Moment,
    format_duration,
    format_moment,
    parse_duration,
    parse_moment,
)
from peregrine.wire.strict_json import FAULTS_MAX, escape

NAME_MAX: Final = 100
DESCRIPTION_MAX: Final = 500
TAGS_MAX: Final = 32
TAG_MAX: Final = 64

_UNSEEN: Final = (
    r"\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
)
"""Controls, and what nobody sees or what turns the text around it: with these one name can look like another. The two
joiners are not among them, since scripts and emoji are written with them."""
_CONTROL = re.compile(f"[{_UNSEEN}]")


class Shape(BaseModel):
    """Strict: a text is a text, ``true`` is no number, and what has no name here is refused."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """As usual, with defaults as a person writes them."""
        document = handler.resolve_ref_schema(handler(schema))
        for name, field in cls.model_fields.items():
            text = next((one for one in field.metadata if isinstance(one, Text)), None)
            if text is not None and "default" in document["properties"][name]:
                document["properties"][name]["default"] = text.written(field.default)
        return document


def fault(message: str) -> PydanticCustomError:
    """A fault whose message stands as it is written."""
    return PydanticCustomError("fault", "{said}", {"said": message})


def _no_control(text: str) -> str:
    if _CONTROL.search(text):
        raise fault("must not hold line breaks, control characters or invisible signs")
    return text


def _visible(text: str) -> str:
    if not text.strip():
        raise fault("must not be blank")
    return _no_control(text)


def _tag(text: str) -> str:
    if "," in text:
        raise fault("must not hold a comma (lists of tags are separated by it)")
    return _visible(text)


def _unique(texts: list[str]) -> list[str]:
    return list(dict.fromkeys(texts))


class Text:
    """A value that is written as a text: how to read it, how to write it, and what the document says of it."""

    schema: Mapping[str, Any] = {}

    def read(self, given: Any, info: ValidationInfo) -> Any:
        """The value, or a fault."""
        raise NotImplementedError

    def written(self, value: Any) -> Any:
        """The text of *value*."""
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read by ``read`` alone; a default is documented as ``written`` shows it."""
        return core_schema.with_info_plain_validator_function(
            self.read, serialization=core_schema.plain_serializer_function_ser_schema(self.written)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """As the reader meets it."""
        return dict(self.schema)


class Span(Text):
    """A duration between two bounds; the validation context may move the lower one, by field name."""

    def __init__(self, minimum: Duration, maximum: Duration) -> None:
        self._bounds = (minimum, maximum)
        self.schema = {
            "type": "string",
            "description": f"{format_duration(minimum)} to {format_duration(maximum)}; {HOW_TO_WRITE}.",
            "examples": [format_duration(max(minimum, MINUTE))],
        }

    def read(self, given: Any, info: ValidationInfo) -> Duration:
        """Milliseconds."""
        if not isinstance(given, str):
            raise fault(f"{HOW_TO_WRITE} (a text with a unit)")
        try:
            duration = parse_duration(given)
        except ValueError as error:
            raise fault(str(error)) from None
        minimum, maximum = self._bounds
        minimum = (info.context or {}).get(info.field_name, minimum)
        if not minimum <= duration <= maximum:
            raise fault(f"must lie between {format_duration(minimum)} and {format_duration(maximum)}")
        return duration

    def written(self, value: Any) -> str:
        """The wire's form."""
        return format_duration(value)


class Word(Text):
    """One word out of a closed set; the value is the member."""

    def __init__(self, kind: type[Enum], *, undocumented: Sequence[Enum] = ()) -> None:
        self._members: Mapping[str, Any] = {_word(member): member for member in kind}
        shown = [word for word, member in self._members.items() if member not in undocumented]
        self.schema = {"type": "string", "enum": shown}

    def read(self, given: Any, info: ValidationInfo) -> Any:
        """The member of that word."""
        if not isinstance(given, str) or given not in self._members:
            raise fault(f"must be one of {', '.join(self._members)}")
        return self._members[given]

    def written(self, value: Any) -> str:
        """Its word."""
        return _word(value)


class When(Text):
    """A moment in RFC 3339."""

    schema: Mapping[str, Any] = {"type": "string", "format": "date-time", "description": "RFC 3339 with an offset."}

    def read(self, given: Any, info: ValidationInfo) -> Moment:
        """Milliseconds since the epoch."""
        try:
            if not isinstance(given, str):
                raise ValueError('write a moment as RFC 3339 with an offset, for example "2026-01-31T09:00:00Z"')
            return parse_moment(given)
        except ValueError as error:
            raise fault(str(error)) from None

    def written(self, value: Any) -> str:
        """RFC 3339 in UTC."""
        return format_moment(value)


def _word(member: Any) -> str:
    return str(getattr(member, "word", member.value))


_VISIBLE: Final = {"pattern": f"^[^{_UNSEEN}]*[^\\s{_UNSEEN}][^{_UNSEEN}]*$"}
_TAG: Final = {"pattern": f"^[^,{_UNSEEN}]*[^\\s,{_UNSEEN}][^,{_UNSEEN}]*$"}
NameText = Annotated[
    str, Field(min_length=1, max_length=NAME_MAX, json_schema_extra=_VISIBLE), AfterValidator(_visible)
]
DescriptionText = Annotated[str, Field(max_length=DESCRIPTION_MAX)]
TagText = Annotated[str, Field(min_length=1, max_length=TAG_MAX, json_schema_extra=_TAG), AfterValidator(_tag)]
TagList = Annotated[list[TagText], Field(max_length=TAGS_MAX), AfterValidator(_unique)]

_MESSAGES: Final[dict[str, str]] = {
    "missing": "is required",
    "extra_forbidden": "is not a known field",
    "string_type": "must be a text",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "list_type": "must be a list",
}


def faults_of(error: ValidationError, *, at: str = "", read_only: frozenset[str] = frozenset()) -> list[Fault]:
    """Each fault of *error* with its pointer below *at*; a field in *read_only* is said to be the server's."""
    return [_fault(found, at, read_only) for found in error.errors(include_url=False)[:FAULTS_MAX]]


def _fault(found: Any, at: str, read_only: frozenset[str]) -> Fault:
    place: Sequence[str | int] = found["loc"]
    pointer = at + "".join(f"/{escape(str(step))}" for step in place)
    if found["type"] == "extra_forbidden" and str(place[-1]) in read_only:
        return Fault(pointer, "is set by the server and can't be sent")
    return Fault(pointer, message_of(found))


def message_of(found: Any) -> str:
    """What is wrong, in our words."""
    kind, bounds = found["type"], found.get("ctx", {})
    if kind == "fault":
        return str(bounds["said"])
    if kind in ("string_too_long", "too_long"):
        return f"must have at most {bounds['max_length']} {'characters' if kind[0] == 's' else 'items'}"
    if kind in ("string_too_short", "too_short"):
        return "must not be empty"
    if kind in ("greater_than_equal", "less_than_equal"):
        return f"must be at {'least' if kind[0] == 'g' else 'most'} {bounds['ge' if kind[0] == 'g' else 'le']}"
    return _MESSAGES.get(kind, str(found["msg"]))
