"""Owns how a function in the service's own process is heard, on the loop or from a thread; must not know its result."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress

from peregrine.domain.moment import SECOND
from peregrine.executors.context import Facts
from peregrine.executors.hearing import Gate, Hearing
from peregrine.ports.clock import Clock
from peregrine.ports.executor import RunContext


def facts_of(context: RunContext) -> Facts:
    """What a function may know of the attempt."""
    claim = context.claim
    return Facts(
        execution_id=claim.execution_id,
        task_id=claim.task.id,
        attempt=claim.attempt,
        epoch=claim.epoch,
        scheduled_for=claim.scheduled_for,
    )


def remaining(context: RunContext, clock: Clock) -> float:
    """Seconds until the attempt times out."""
    return (context.deadline - clock.monotonic()) / SECOND


class LoopVoice:
    """For a coroutine on the service's loop."""

    __slots__ = ("_clock", "_context", "_task", "_veil")

    def __init__(self, context: RunContext, clock: Clock, veil: Callable[[str], str]) -> None:
        self._context = context
        self._clock = clock
        self._veil = veil
        self._task = asyncio.current_task()

    def log(self, line: str) -> None:
        self._context.log(self._veil(line))

    def progress(self, fraction: float, text: str) -> None:
        self._context.progress(fraction, self._veil(text))

    def remaining(self) -> float:
        return remaining(self._context, self._clock)

    def is_cancelled(self) -> bool:
        return self._task is not None and self._task.cancelling() > 0


class ThreadVoice:
    """For a thread: each word is carried over to the loop, until the loop stops listening."""

    def __init__(self, context: RunContext, clock: Clock, veil: Callable[[str], str]) -> None:
        self._context = context
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._told = threading.Event()
        self._is_deaf = False
        self._gate = Gate()
        self._held: tuple[float, str] | None = None
        self._hearing = Hearing(self._carry_line, self._carry_step, veil)

    def log(self, line: str) -> None:
        for each in line.splitlines() or [""]:
            self._hearing.line(each)

    def progress(self, fraction: float, text: str) -> None:
        self._held = (fraction, text)
        if self._gate.opens():
            self._flush()

    def remaining(self) -> float:
        return remaining(self._context, self._clock)

    def is_cancelled(self) -> bool:
        return self._told.is_set()

    def tell_to_stop(self) -> None:
        """Let the function see ``cancelled``."""
        self._told.set()

    def close(self) -> None:
        """Called in the thread at its end: say what was held back."""
        self._flush()
        self._hearing.finish()

    def deafen(self) -> None:
        """Drop whatever is said from now on."""
        self._is_deaf = True

    def abandon(self) -> None:
        """Say that nobody waits for the thread any more, and listen no longer."""
        self._context.log("abandoned: the thread did not stop when told; what it still does is not recorded")
        self._is_deaf = True

    def _flush(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            self._hearing.progress(*held)

    def _carry_line(self, line: str) -> None:
        self._carry(lambda: self._context.log(line))

    def _carry_step(self, fraction: float, text: str) -> None:
        self._carry(lambda: self._context.progress(fraction, text))

    def _carry(self, word: Callable[[], None]) -> None:
        def arrive() -> None:
            if not self._is_deaf:
                word()

        # A closed loop hears nothing, and that is no error of the function.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(arrive)
