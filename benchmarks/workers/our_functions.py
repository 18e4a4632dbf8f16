"""What the service runs when it is asked over HTTP."""

from __future__ import annotations

from benchmarks import marks
from peregrine.executors.callables import function

function(name="nothing", module="bench")(marks.nothing_far_async)
