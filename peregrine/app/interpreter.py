"""Owns how Python itself is set for one busy loop beside threads that compute; must not know what is loaded."""

from __future__ import annotations

import gc
import sys
from typing import Final

SWITCH_SECONDS: Final = 0.0002
"""How long a thread that wants the interpreter waits for one that computes. With Python's own 5 ms the store's writer
stands still beside a busy loop, for each of its steps anew (decision 0112)."""
COLLECT_AFTER: Final = (50_000, 10, 10)
"""How many new objects make Python look for cycles, and after how many such looks it looks further. With its own 700 it
looks several times for each batch of runs that are under way, and finds none (decision 0112). The further looks stay as
Python has them: what was in use at a look, and is a lost cycle later, is found by these alone."""


def tune() -> None:
    """To be called when all is loaded: what is there now stays, and no collection need look at it again."""
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
