"""Owns the kind ``system``: work that modules of the house declared, found by name; must not know its insides."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

from peregrine.domain.errors import Fault
from peregrine.domain.execution import Outcome
from peregrine.domain.payload import JsonObject, Payload, SystemPayload
from peregrine.executors.outcomes import outcome_of_work, placed
from peregrine.executors.signature import escape
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
        """A task that no module declared, and a parameter that its declaration does not have, or in another type."""
        assert isinstance(payload, SystemPayload)
        task = self._tasks.get(payload.task_name)
        if task is None:
            return [Fault("/config/task_name", self._unknown(payload))]
        return placed(_faults(task.parameters, payload.parameters | (parameters or {})))

    async def run(self, payload: Payload, context: RunContext) -> Outcome:
        assert isinstance(payload, SystemPayload)
        task = self._tasks.get(payload.task_name)
        if task is None:
            return Outcome.failed(self._unknown(payload), retryable=False)
        # A host's module may stand behind it, so whatever comes of it is judged as a function's end is.
        return await outcome_of_work(task.handler(payload.parameters, context), lambda text: text)

    def _unknown(self, payload: SystemPayload) -> str:
        return f"no module declares the system task {payload.task_name!r}"


def _faults(declared: JsonObject, given: JsonObject) -> Iterator[Fault]:
    for name, value in given.items():
        if name not in declared:
            yield Fault(f"/{escape(name)}", "is not a parameter of this task")
        elif type(value) is not type(declared[name]):
            yield Fault(f"/{escape(name)}", f"must be of the same type as {json.dumps(declared[name])}")
