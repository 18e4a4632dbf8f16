"""What a module of the house declares: each system task once, with its definition, its purpose and its work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from peregrine.domain.execution import Outcome
from peregrine.domain.ids import TaskId, is_system_id
from peregrine.domain.payload import JsonObject
from peregrine.domain.policy import Policy, Priority
from peregrine.ports.executor import RunContext

Handler: TypeAlias = Callable[[JsonObject, RunContext], Awaitable[Outcome]]
"""The work of a system task: parameters and the attempt's context in, the outcome out; cancelled like an executor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemTask:
    """One task that the service brings itself.

    ``task_name`` is the key in its payload, ``name`` what a person reads, ``purpose`` why it exists at all.
    """

    id: TaskId
    task_name: str
    name: str
    description: str
    purpose: str
    schedule: str
    handler: Handler
    timezone: str = "UTC"
    priority: Priority = Priority.NORMAL
    policy: Policy = field(default_factory=Policy)
    parameters: JsonObject = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    enabled: bool = True

    def __post_init__(self) -> None:
        assert is_system_id(self.id), f"{self.id}: a system task's id begins with 'system-'"
