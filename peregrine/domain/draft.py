"""Owns what is needed to make a task of a person's words: its id, moment, author, bounds and checks; must not know
how the words are written (that is ``wire``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from peregrine.domain.errors import Fault
from peregrine.domain.ids import TaskId
from peregrine.domain.moment import SECOND, Duration, Moment
from peregrine.domain.payload import JsonObject, Payload
from peregrine.domain.policy import TIMEOUT_MIN
from peregrine.domain.task import Task

Check: TypeAlias = Callable[[Payload, JsonObject | None], Sequence[Fault]]
"""What is wrong with a payload already at save time (``ports.executor.Executor.check`` of its kind)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds and defaults that a setting may move."""

    timeout_min: Duration = TIMEOUT_MIN
    misfire_grace: Duration = 60 * SECOND
    """``misfire_grace`` of tasks that do not say their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """What a reader of documents gets from the house to make or change a task."""

    id: TaskId
    at: Moment
    by: str
    check: Check
    source: str = "api"
    limits: Limits = field(default_factory=Limits)


Make: TypeAlias = Callable[[Making], Task]
"""Makes a new task. Raises Invalid with every fault of the words."""

Edit: TypeAlias = Callable[[Task, Making], Task]
"""The task as it shall be, from the one that is stored. Raises Invalid with every fault of the words."""
