"""Owns the small bodies that ask for something to be done, and what is said when it was; must not know use cases."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from msgspec import Struct
from pydantic import Field, ValidationError

from peregrine.domain.errors import Invalid
from peregrine.domain.payload import JsonValue
from peregrine.domain.policy import Priority
from peregrine.wire.shapes import Shape, When, Word, faults_of

Body = TypeVar("Body", bound=Shape)
REASON_MAX = 200


class ExecuteOrder(Shape):
    """How to run a task now."""

    parameters: Annotated[dict[str, Any], Field(description="In place of the task's own parameters.")] | None = None
    priority: Annotated[Priority, Word(Priority)] | None = None


class PauseOrder(Shape):
    """Why, and until when; without `until` until it is resumed."""

    reason: Annotated[str, Field(max_length=REASON_MAX)] = ""
    until: Annotated[int, When()] | None = None


class NoOrder(Shape):
    """Nothing needs to be said."""


class Stopped(Struct, frozen=True, kw_only=True):
    """What was stopped: `cancelled` executions waited or ran; those that run are told and end soon."""

    message: str
    task_id: str
    cancelled: int
    cancelled_executions: list[str]


class Reloaded(Struct, frozen=True, kw_only=True):
    """The tasks were read anew."""

    message: str
    total_tasks: int


def read_body(shape: type[Body], document: JsonValue) -> Body:
    """*document* as *shape*; no body at all reads as an empty object.

    Raises:  Invalid with every fault.
    """
    try:
        return shape.model_validate({} if document is None else document)
    except ValidationError as error:
        raise Invalid(faults_of(error)) from None
