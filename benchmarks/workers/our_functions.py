"""What the service runs when it is asked over HTTP."""

from __future__ import annotations

import asyncio
from typing import Final

from benchmarks import marks
from peregrine.executors.callables import function

WAIT_SECONDS: Final = 1.0


async def _wait() -> None:
    await asyncio.sleep(WAIT_SECONDS)
    marks.nothing_far()


function(name="nothing", module="bench")(marks.nothing_far_async)
function(name="wait", module="bench")(_wait)
