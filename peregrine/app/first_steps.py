"""The function of the first example: it needs no setting and no network, so a newcomer sees a task run at once."""

from __future__ import annotations

import time

from peregrine.executors.callables import function
from peregrine.executors.context import Context


@function("hello", module="peregrine")
async def hello(context: Context, name: str = "world") -> str:
    """A greeting, late by so many milliseconds."""
    late = time.time() - context.scheduled_for.timestamp() if context.scheduled_for else 0.0
    return f"hello {name}, {late * 1000:.0f} ms after the scheduled moment"
