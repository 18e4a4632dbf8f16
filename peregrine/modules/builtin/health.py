"""Owns the look at everything the service stands on; each word is measured when it is asked for."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from peregrine.domain.errors import PeregrineError
from peregrine.domain.execution import AttemptOutcome, Outcome
from peregrine.domain.ids import TaskId
from peregrine.domain.moment import MINUTE
from peregrine.domain.payload import JsonObject, JsonValue
from peregrine.domain.policy import Policy
from peregrine.ports.clock import Clock
from peregrine.ports.executor import RunContext
from peregrine.ports.module import SystemTask

Probe = Callable[[], Awaitable[None]]
"""Returns if the thing works now; raises a ``PeregrineError`` with the reason otherwise."""

DOWN: Final = "down"
UP: Final = "up"


def health_check(probes: Mapping[str, Probe], clock: Clock) -> SystemTask:
    """The task that asks every probe, tells the latencies, and fails when one is down."""

    async def work(parameters: JsonObject, context: RunContext) -> Outcome:
        found: dict[str, JsonValue] = {}
        for done, (name, probe) in enumerate(probes.items(), start=1):
            found[name] = await _ask(probe, clock)
            context.progress(done / len(probes), name)
        down = [name for name, state in found.items() if isinstance(state, dict) and state["status"] == DOWN]
        output = json.dumps(found, ensure_ascii=False)
        if down:
            return Outcome(verdict=AttemptOutcome.FAILED, output=output, error=f"down: {', '.join(sorted(down))}")
        return Outcome(verdict=AttemptOutcome.SUCCEEDED, output=output)

    return SystemTask(
        id=TaskId("system-health-check"),
        task_name="health_check",
        name="Health Check",
        description="Measures whether the store, the lock service and other neighbours answer, and how fast",
        purpose="Tells early, and in the history, when something that the service stands on is away or slow",
        schedule="0 */5 * * * *",
        policy=Policy(max_retries=1, retry_interval=MINUTE, timeout=MINUTE),
        tags=("system", "health", "monitoring"),
        handler=work,
    )


async def _ask(probe: Probe, clock: Clock) -> dict[str, JsonValue]:
    asked_at = clock.monotonic()
    try:
        await probe()
    except PeregrineError as error:
        return {"status": DOWN, "latency_ms": clock.monotonic() - asked_at, "error": str(error)}
    return {"status": UP, "latency_ms": clock.monotonic() - asked_at}
