"""Python is set for what the service is: seen in a process of its own, for it concerns all that is loaded."""

from __future__ import annotations

import subprocess
import sys

LOOK = """
import gc, sys
from peregrine.app import interpreter
interpreter.tune()
print(round(sys.getswitchinterval(), 6) == interpreter.SWITCH_SECONDS, gc.get_threshold() == interpreter.COLLECT_AFTER,
      gc.get_freeze_count() > 1000, gc.isenabled())
"""


def test_what_is_loaded_stays_and_threads_take_turns_soon() -> None:
    said = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True)

    assert said.stdout.split() == ["True"] * 4
