"""The functions of the demonstration; a child process imports this module, as it would import yours."""

from __future__ import annotations

import time

from peregrine.executors.callables import function
from peregrine.executors.context import Context

MODULE = "demo"


@function("greet", module=MODULE)
def greet(context: Context, name: str = "world") -> str:
    """A greeting, late by so many milliseconds."""
    late = time.time() - context.scheduled_for.timestamp() if context.scheduled_for else 0.0
    return f"hello {name}, {late * 1000:.0f} ms after the scheduled moment"


@function("stumble", module=MODULE)
def stumble(context: Context, until: int = 3) -> str:
    """Fails until the attempt *until*."""
    if context.attempt < until:
        raise RuntimeError(f"attempt {context.attempt} stumbles")
    return f"attempt {context.attempt} made it"


@function("walk", module=MODULE)
def walk(context: Context, seconds: float = 90) -> str:
    """Takes its time and says how far it is; stops when it is told to."""
    started = time.monotonic()
    while (passed := time.monotonic() - started) < seconds:
        context.raise_if_cancelled()
        context.progress(passed / seconds, f"{passed:.0f} of {seconds:.0f} seconds")
        time.sleep(0.5)
    return f"walked {seconds:.0f} seconds"
