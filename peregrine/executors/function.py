"""Owns the kind ``function``: one call of a registered callable, where it was registered to run; must not know tasks.

A call on the loop costs a few microseconds, one in a thread tens, one in a warm child process some hundred.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Final

from peregrine.domain.errors import Fault
from peregrine.domain.execution import Outcome
from peregrine.domain.moment import Duration
from peregrine.domain.payload import FunctionPayload, JsonObject, Payload
from peregrine.executors.answer import Answer, Veil, answer_of, answer_of_error
from peregrine.executors.callables import Function, FunctionRegistry
from peregrine.executors.childprocess import StartFailed
from peregrine.executors.context import Context
from peregrine.executors.hearing import Hearing
from peregrine.executors.isolation import ChildProcesses
from peregrine.executors.outcomes import outcome_of, outcome_of_work, placed, size
from peregrine.executors.threads import THREAD_GRACE, Threads
from peregrine.executors.voices import LoopVoice, ThreadVoice, facts_of, remaining
from peregrine.ports.clock import Clock
from peregrine.ports.executor import RunContext

CRASHES_MAX: Final = 3
"""After so many attempts in a row that took their process with them, an execution is poison: no retry is made."""
CRASHES_REMEMBERED: Final = 10_000
PARAMETERS_BYTES_MAX: Final = 1 << 20


class FunctionExecutor:
    """Runs ``FunctionPayload``. The children are the caller's to start and to close."""

    def __init__(
        self,
        registry: FunctionRegistry,
        *,
        children: ChildProcesses,
        clock: Clock,
        thread_grace: Duration = THREAD_GRACE,
    ) -> None:
        self._registry = registry
        self._children = children
        self._clock = clock
        self._threads = Threads(grace=thread_grace)
        self._crashes = Crashes()

    @property
    def abandoned_threads(self) -> int:
        """Threads that were told to stop and still run."""
        return self._threads.abandoned

    def check(self, payload: Payload, parameters: JsonObject | None = None) -> Sequence[Fault]:
        """An unknown function, and every wrong, missing or unknown parameter."""
        assert isinstance(payload, FunctionPayload)
        function = self._registry.get(payload.module, payload.function_name)
        if function is None:
            return [Fault("/config/function_name", self._unknown(payload))]
        values = payload.parameters | (parameters or {})
        if size(values) > PARAMETERS_BYTES_MAX:
            return [Fault("/config/parameters", f"must be at most {PARAMETERS_BYTES_MAX} bytes of JSON")]
        _, faults = function.signature.read(values)
        return placed(faults)

    async def run(self, payload: Payload, context: RunContext) -> Outcome:
        """What the call came to. Whatever it raises is an outcome; only a cancel passes."""
        assert isinstance(payload, FunctionPayload)
        function = self._registry.get(payload.module, payload.function_name)
        if function is None:
            return Outcome.failed(self._unknown(payload), retryable=False)
        values = payload.parameters
        arguments, faults = function.signature.read(values)
        if faults:
            said = "; ".join(f"{fault.pointer[1:]} {fault.message}" for fault in faults)[:1000]
            return Outcome.failed(f"parameters: {said}", retryable=False)
        veil = Veil(values)
        match function.isolation:
            case "async":
                given = self._given(function, context, veil)
                return await outcome_of_work(function.call(*given, **arguments), veil)
            case "thread":
                return outcome_of(await self._in_thread(function, arguments, context, veil))
            case "process":
                answer = await self._in_child(function, values, context, veil)
                return outcome_of(self._crashes.judged(context.claim.execution_id, answer))

    def _given(self, function: Function, context: RunContext, veil: Veil) -> tuple[object, ...]:
        """What a function on the loop is called with before its parameters."""
        if not function.signature.takes_context:
            return ()
        return (Context(facts_of(context), LoopVoice(context, self._clock, veil)),)

    async def _in_thread(
        self, function: Function, arguments: dict[str, object], context: RunContext, veil: Veil
    ) -> Answer:
        voice = ThreadVoice(context, self._clock, veil)
        given = [Context(facts_of(context), voice)] if function.signature.takes_context else []

        def work() -> Answer:
            try:
                value = function.call(*given, **arguments)
                return answer_of(asyncio.run(value) if function.is_async else value, veil)
            except BaseException as error:
                return answer_of_error(error, veil)

        return await self._threads.call(function.label, work, voice)

    async def _in_child(self, function: Function, values: JsonObject, context: RunContext, veil: Veil) -> Answer:
        request: JsonObject = {
            "target": "function",
            "module": function.module,
            "name": function.name,
            "home": function.home,
            "parameters": values,
            "facts": asdict(facts_of(context)),
            "remaining": remaining(context, self._clock),
            "memory_max_bytes": function.memory_max_bytes,
        }
        try:
            return await self._children.call(request, Hearing(context.log, context.progress, veil))
        except StartFailed as error:
            return Answer(error=veil(str(error))[:1000])

    def _unknown(self, payload: FunctionPayload) -> str:
        asked = f"function {payload.function_name!r}" + (f" of module {payload.module!r}" if payload.module else "")
        near = self._registry.near(payload.module, payload.function_name)
        meant = " or ".join(f"{f.name!r}" + (f" of module {f.module!r}" if f.module else "") for f in near)
        return f"{asked} is not registered" + (f"; did you mean {meant}?" if near else "")


class Crashes:
    """Counts, for each execution, the attempts in a row that took their process with them.

    In memory, so the count begins anew with the service or on another instance; the retry limit bounds it there.
    """

    def __init__(self) -> None:
        self._counts: OrderedDict[str, int] = OrderedDict()

    def judged(self, execution_id: str, answer: Answer) -> Answer:
        """*answer*, or what it means after too many crashes: poison, not to be tried again."""
        count = self._counts.pop(execution_id, 0) + 1
        if not answer.crashed:
            return answer
        if count >= CRASHES_MAX:
            return replace(answer, error=f"poison: {answer.error} ({count} times in a row)", retryable=False)
        self._counts[execution_id] = count
        while len(self._counts) > CRASHES_REMEMBERED:
            self._counts.popitem(last=False)
        return answer
