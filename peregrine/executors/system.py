"""Owns the kind ``system``: work that modules of the house declared, found by name; must not know its insides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from peregrine.domain.errors import Fault
from peregrine.domain.execution import Outcome
from peregrine.domain.payload import JsonObject, Payload, SystemPayload
from peregrine.ports.executor import RunContext
from peregrine.ports.module import SystemTask


class SystemExecutor:
    """Runs ``SystemPayload``."""

    def __init__(self, tasks: Iterable[SystemTask]) -> None:
        self._tasks: dict[str, SystemTask] = {}
        for task in tasks:
            assert task.task_name not in self._tasks, f"two modules declare {task.task_name}"
            self._tasks[task.task_name] = task

    def check(self, payload: Payload, parameters: JsonObject | None = None) -> Sequence[Fault]:
        """A task that no module declared. Parameters are the module's own affair: nobody else may set them."""
        assert isinstance(payload, SystemPayload)
        if payload.task_name not in self._tasks:
            return [Fault("/config/task_name", self._unknown(payload))]
        return []

    async def run(self, payload: Payload, context: RunContext) -> Outcome:
        assert isinstance(payload, SystemPayload)
        task = self._tasks.get(payload.task_name)
        if task is None:
            return Outcome.failed(self._unknown(payload), retryable=False)
        return await task.handler(payload.parameters, context)

    def _unknown(self, payload: SystemPayload) -> str:
        return f"no module declares the system task {payload.task_name!r}"
