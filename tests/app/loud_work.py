"""A function that a served test listens to while it runs."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from peregrine.executors.callables import function
from peregrine.executors.context import Context


@function("loud", module="test")
def loud(context: Context, go: str, password: str) -> str:
    """Prints, waits until the file *go* is there, prints again; tells its secret wherever it can."""
    sys.stdout.write(f"printed before, {password}\n")
    sys.stdout.flush()
    context.progress(0.5, f"halfway with {password}")
    while not Path(go).exists():
        time.sleep(0.02)  # not a wait: the test says when
    context.logger.warning("logged behind %s", password)
    os.write(2, f"error text {password}\n".encode())
    return f"done with {password}"
