"""The seam to what tasks do: one attempt in, one outcome out.

An executor is a coroutine that can be cancelled. Deadline, cancel, lost lease and shutdown all reach it as
``asyncio.CancelledError`` at its current await; it must let go of what it holds (kill its child, close its socket)
and let the error pass. The runner decides the outcome then. Whatever else it raises becomes a failed attempt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from peregrine.domain.errors import Fault
from peregrine.domain.execution import Claim, Outcome
from peregrine.domain.payload import JsonObject, Payload


class RunContext(Protocol):
    """What an attempt may know and say while it runs."""

    @property
    def claim(self) -> Claim:
        """The claim: execution id, attempt, epoch, task, parameters."""
        ...

    @property
    def deadline(self) -> int:
        """When the attempt times out, on the steady clock (``Clock.monotonic`` milliseconds)."""
        ...

    @property
    def worker_id(self) -> str: ...

    def log(self, line: str) -> None:
        """Keep *line* with the execution (bounded, redacted)."""
        ...

    def progress(self, fraction: float, text: str = "") -> None:
        """Say how far it is, 0 to 1."""
        ...


class Executor(Protocol):
    """Runs payloads of one kind."""

    def check(self, payload: Payload, parameters: JsonObject | None = None) -> Sequence[Fault]:
        """What is wrong with *payload* already at save time (an unknown function, a refused address); empty: nothing.

        Pointers are relative to the task's document (``/config/function_name``).
        """
        ...

    async def run(self, payload: Payload, context: RunContext) -> Outcome:
        """The outcome of one attempt. The claim was committed before this is called."""
        ...
