"""Owns what may stand behind the question mark: filters, pages, sorting; must not know SQL, or which route asks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo

from peregrine.domain.errors import Fault, Invalid
from peregrine.domain.execution import Cause, ExecutionOutcome
from peregrine.domain.ids import TaskId, WorkerId
from peregrine.domain.payload import Kind
from peregrine.domain.policy import Priority
from peregrine.domain.query import (
    PAGE_MAX,
    PAGE_SIZE,
    PAGE_SIZE_MAX,
    ExecutionFilter,
    ExecutionStatus,
    PageRequest,
    TaskFilter,
    TaskSort,
    TaskStatus,
)
from peregrine.wire.shapes import TAGS_MAX, Text, When, Word, fault, faults_of

TEXT_MAX: Final = 200
Question = TypeVar("Question", bound="Query")
_FORBIDDEN = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


class Query(BaseModel):
    """What a list may be asked. Names that nobody knows are ignored; values outside their set are faults."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


class Whole(Text):
    """A whole number in digits, between two bounds."""

    def __init__(self, minimum: int, maximum: int) -> None:
        self._bounds = (minimum, maximum)
        self.schema = {"type": "integer", "minimum": minimum, "maximum": maximum}

    def read(self, given: Any, info: ValidationInfo) -> int:
        """The number."""
        minimum, maximum = self._bounds
        if not re.fullmatch(r"[0-9]{1,12}", given, re.ASCII) or not minimum <= int(given) <= maximum:
            raise fault(f"must be a whole number from {minimum} to {maximum}")
        return int(given)

    def written(self, value: Any) -> Any:
        """In JSON a number."""
        return value


class Flag(Text):
    """``true`` or ``false``."""

    schema: Mapping[str, Any] = {"type": "boolean"}

    def read(self, given: Any, info: ValidationInfo) -> bool:
        """The flag."""
        if given not in ("true", "false"):
            raise fault("must be true or false")
        return bool(given == "true")


class TagsText(Text):
    """Tags with commas between them."""

    schema: Mapping[str, Any] = {"type": "string", "description": "Tags with commas between them."}

    def read(self, given: Any, info: ValidationInfo) -> tuple[str, ...]:
        """The tags."""
        tags = tuple(dict.fromkeys(tag for part in given.split(",") if (tag := part.strip())))
        if len(tags) > TAGS_MAX:
            raise fault(f"must have at most {TAGS_MAX} tags")
        return tuple(_plain(tag) for tag in tags)


class SortText(Text):
    """What to sort by, with ``-`` in front for descending."""

    schema: Mapping[str, Any] = {
        "type": "string",
        "enum": [sign + sort.value for sort in TaskSort for sign in ("", "-")],
    }

    def read(self, given: Any, info: ValidationInfo) -> tuple[TaskSort, bool]:
        """What, and whether descending."""
        name = given.removeprefix("-")
        if name not in set(TaskSort):
            raise fault(f"must be one of {', '.join(TaskSort)}, with - in front for descending")
        return TaskSort(name), given.startswith("-")

    def written(self, value: Any) -> str:
        """As it is asked."""
        return f"{'-' * value[1]}{value[0].value}"


def _plain(text: str) -> str:
    if _FORBIDDEN.search(text):
        raise fault("must not hold control characters")
    return text


PlainText = Annotated[str, Field(max_length=TEXT_MAX), AfterValidator(_plain)]
PageNumber = Annotated[
    int,
    Whole(1, PAGE_MAX),
    Field(
        description="Counted from 1. A far page costs what the first one does where SQLite is the store, unless a "
        "filter other than one status or one task is given; MongoDB walks there. Where there is a `next_cursor`, it "
        "always costs the same."
    ),
]
PageSize = Annotated[int, Whole(1, PAGE_SIZE_MAX)]
CursorText = Annotated[str, Field(max_length=4096, description="`next_cursor` of the page before.")]


class Paged(Query):
    """Which part of a list. `limit` is another name of `page_size`."""

    page: PageNumber = 1
    page_size: PageSize = PAGE_SIZE
    limit: PageSize | None = None

    def request(self) -> PageRequest:
        """The page that is asked for."""
        return PageRequest(number=self.page, size=self._size())

    def _size(self) -> int:
        return self.page_size if self.limit is None or "page_size" in self.model_fields_set else self.limit


class CursorPaged(Paged):
    """The same, or everything behind a cursor."""

    cursor: CursorText | None = None

    def request(self) -> PageRequest:
        """The page that is asked for."""
        return PageRequest(number=self.page, size=self._size(), cursor=self.cursor or None)


class TaskQuery(Paged):
    """Filters of tasks; all that are given must hold."""

    status: Annotated[TaskStatus, Word(TaskStatus)] | None = None
    type: Annotated[Kind, Word(Kind)] | None = None
    enabled: Annotated[bool, Flag()] | None = None
    tags: Annotated[tuple[str, ...], TagsText()] = ()
    tags_all: Annotated[tuple[str, ...], TagsText()] = ()
    priority: Annotated[Priority, Word(Priority)] | None = None
    is_system: Annotated[bool, Flag()] | None = None
    created_by: PlainText | None = None
    q: Annotated[PlainText, Field(description="Part of name or description.")] | None = None
    sort: Annotated[tuple[TaskSort, bool], SortText()] = (TaskSort.UPDATED_AT, True)

    def filter(self) -> TaskFilter:
        """The filter that is asked for."""
        return TaskFilter(
            status=self.status,
            kind=self.type,
            enabled=self.enabled,
            tags_any=self.tags,
            tags_all=self.tags_all,
            priority=self.priority,
            is_system=self.is_system,
            created_by=self.created_by,
            text=self.q or None,
        )


class ExecutionQuery(CursorPaged):
    """Filters of executions; all must hold. `start_date` and `end_date` are other names of the moments."""

    status: Annotated[ExecutionStatus, Word(ExecutionStatus)] | None = None
    outcome: Annotated[ExecutionOutcome, Word(ExecutionOutcome)] | None = None
    task_id: PlainText | None = None
    trigger: Annotated[Cause, Word(Cause)] | None = None
    worker_id: PlainText | None = None
    started_after: Annotated[int, When()] | None = None
    started_before: Annotated[int, When()] | None = None
    start_date: Annotated[int, When()] | None = None
    end_date: Annotated[int, When()] | None = None
    q: Annotated[PlainText, Field(description="Part of output or error.")] | None = None

    def filter(self, task_id: TaskId | None = None) -> ExecutionFilter:
        """The filter that is asked for; *task_id* of the path wins."""
        asked = TaskId(self.task_id) if self.task_id else None
        return ExecutionFilter(
            status=self.status,
            outcome=self.outcome,
            task_id=task_id or asked,
            cause=self.trigger,
            worker_id=WorkerId(self.worker_id) if self.worker_id else None,
            started_after=self.start_date if self.started_after is None else self.started_after,
            started_before=self.end_date if self.started_before is None else self.started_before,
            text=self.q or None,
        )


def read_query(shape: type[Question], pairs: Iterable[tuple[str, str]]) -> Question:
    """The question that *pairs* ask; of a name that is given twice the last one counts. An empty value asks nothing.

    Raises:  Invalid with a pointer ``/<name>`` to each fault.
    """
    given = {name: text for name, text in pairs if text != ""}
    try:
        return shape.model_validate(given)
    except ValidationError as error:
        faults = faults_of(error)
        raise Invalid(Fault("/" + found.pointer.split("/")[1], found.message) for found in faults) from None
