"""A machine whose wall clock is wrong: the service that imports this reads it off by the seconds in WRONG_CLOCK_FILE.

Whoever changes that file steps the clock while the service runs. Only the wall clock: the steady one counts on.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from peregrine.coordination.clock import SystemClock

_FILE = Path(os.environ["WRONG_CLOCK_FILE"])


def _wrong_now(self: SystemClock) -> int:
    try:
        wrong_by = int(_FILE.read_text())
    except (OSError, ValueError):
        wrong_by = 0  # it is being written at this moment
    return time.time_ns() // 1_000_000 + wrong_by * 1000


SystemClock.now = _wrong_now  # type: ignore[method-assign]
