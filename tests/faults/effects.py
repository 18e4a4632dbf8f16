"""Functions for the fault tests: each start is written to a file first, as the outside world would see it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time

from peregrine import Context, function


def _note(context: Context, what: str) -> None:
    line = json.dumps(
        {"what": what, "execution": context.execution_id, "attempt": context.attempt, "epoch": context.epoch}
    )
    with open(os.environ["EFFECTS_FILE"], "a", encoding="utf-8") as file:
        file.write(line + "\n")


@function("effect", module="faults")
async def effect(context: Context, milliseconds: int = 0) -> str:
    """Take a while, and leave a trace at both ends."""
    _note(context, "began")
    await asyncio.sleep(milliseconds / 1000)  # not a wait: the effect takes its time
    _note(context, "ended")
    return "done"


@function("deaf", module="faults")
def deaf(context: Context) -> str:
    """Ignore every polite request to stop."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _note(context, "began")
    while True:
        try:
            while True:
                time.sleep(0.05)  # not a wait: it holds its child process for ever
        except BaseException as error:  # it swallows even what would end a process
            _note(context, type(error).__name__)


@function("busy", module="faults")
def busy(context: Context) -> str:
    """Burn a processor without ever letting go of the interpreter."""
    _note(context, "began")
    number = 0
    while True:
        number += 1
