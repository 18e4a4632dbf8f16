"""Owns which executor runs which kind: the one `if` on kinds; must not know how any of them works."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from peregrine.domain.errors import Fault
from peregrine.domain.execution import Outcome
from peregrine.domain.payload import (
    CustomPayload,
    FunctionPayload,
    HttpPayload,
    JsonObject,
    Kind,
    Payload,
    SystemPayload,
)
from peregrine.ports.executor import Executor, RunContext


class Executors:
    """All kinds as one ``Executor``. A kind that was left out is refused when a task is saved, and when it runs."""

    def __init__(
        self,
        *,
        http: Executor | None = None,
        function: Executor | None = None,
        system: Executor | None = None,
        custom: Executor | None = None,
    ) -> None:
        self._http = http
        self._function = function
        self._system = system
        self._custom = custom

    def check(self, payload: Payload, parameters: JsonObject | None = None) -> Sequence[Fault]:
        kind, executor = self._found(payload)
        if executor is None:
            return [Fault("/type", _unavailable(kind))]
        return executor.check(payload, parameters)

    async def run(self, payload: Payload, context: RunContext) -> Outcome:
        kind, executor = self._found(payload)
        if executor is None:
            return Outcome.failed(_unavailable(kind), retryable=False)
        return await executor.run(payload, context)

    def _found(self, payload: Payload) -> tuple[Kind, Executor | None]:
        match payload:
            case HttpPayload():
                return Kind.HTTP, self._http
            case FunctionPayload():
                return Kind.FUNCTION, self._function
            case SystemPayload():
                return Kind.SYSTEM, self._system
            case CustomPayload():
                return Kind.CUSTOM, self._custom
            case _:
                assert_never(payload)


def _unavailable(kind: Kind) -> str:
    return f"tasks of type {kind.value!r} can't run here"
