"""Owns which executor runs which kind: the one `if` on kinds; must not know how any of them works.

Here secrets are opened, at the last moment before they are used: behind this everything is in plain words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import assert_never

from peregrine.domain.errors import Fault
from peregrine.domain.execution import Claim, Outcome
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
from peregrine.ports.vault import CannotOpen, Vault, opened_parameters, opened_payload


class Executors:
    """All kinds as one ``Executor``. A kind that was left out is refused when a task is saved, and when it runs."""

    def __init__(
        self,
        *,
        http: Executor | None = None,
        function: Executor | None = None,
        system: Executor | None = None,
        custom: Executor | None = None,
        vault: Vault | None = None,
    ) -> None:
        self._http = http
        self._function = function
        self._system = system
        self._custom = custom
        self._vault = vault

    def check(self, payload: Payload, parameters: JsonObject | None = None) -> Sequence[Fault]:
        kind, executor = self._found(payload)
        if executor is None:
            return [Fault("/type", _unavailable(kind))]
        return executor.check(payload, parameters)

    async def run(self, payload: Payload, context: RunContext) -> Outcome:
        kind, executor = self._found(payload)
        if executor is None:
            return Outcome.failed(_unavailable(kind), retryable=False)
        try:
            opened = opened_payload(self._vault, context.claim.task.id, payload)
            hearing = self._hearing(context)
        except CannotOpen as error:
            return Outcome.failed(f"a secret of this task: {error}", retryable=False)
        return await executor.run(opened, hearing)

    def _hearing(self, context: RunContext) -> RunContext:
        """*context*, with what this run was given in plain words. Raises CannotOpen."""
        claim = context.claim
        if not claim.parameters:
            return context
        parameters = opened_parameters(self._vault, claim.task.id, claim.parameters)
        return _Opened(context, replace(claim, parameters=parameters))

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


@dataclass(frozen=True, slots=True)
class _Opened:
    """A context whose claim is in plain words."""

    inner: RunContext
    claim: Claim

    @property
    def deadline(self) -> int:
        return self.inner.deadline

    @property
    def worker_id(self) -> str:
        return self.inner.worker_id

    def log(self, line: str) -> None:
        self.inner.log(line)

    def progress(self, fraction: float, text: str = "") -> None:
        self.inner.progress(fraction, text)


def _unavailable(kind: Kind) -> str:
    return f"tasks of type {kind.value!r} can't run here"
