"""Functions that a served test calls."""

from __future__ import annotations

import os
import time
from pathlib import Path

from peregrine.executors.callables import function


@function("sleep", module="test")
def sleep(seconds: float, trace: str) -> str:
    """Takes so long, and leaves a trace when it has begun."""
    Path(trace).touch()
    time.sleep(seconds)  # not a wait: it is the work that must be stopped
    return "slept"


@function("environment", module="test")
def names() -> list[str]:
    """The names of all variables that a child process sees."""
    return sorted(os.environ)
