"""Owns the removal of what is over: expired temporary records, old executions; not: live work.

In bounded bites, so that a long clean-up never holds up a claim; what was removed is counted, never guessed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeAlias

from peregrine.domain.execution import Outcome
from peregrine.domain.ids import TaskId
from peregrine.domain.moment import DAY, MINUTE, Duration, Moment, format_duration, parse_duration
from peregrine.domain.payload import JsonObject
from peregrine.domain.policy import Policy, Priority
from peregrine.ports.clock import Clock
from peregrine.ports.executor import RunContext
from peregrine.ports.module import SystemTask
from peregrine.ports.records import RecordStore
from peregrine.ports.store import WorkStore

BITE: Final = 1000
"""Most rows removed in one write (guarantees, retention)."""
KEEP_EXECUTIONS: Final[Duration] = 30 * DAY
KEEP_STATES: Final[Duration] = DAY


Sweep: TypeAlias = Callable[[Moment, int], Awaitable[int]]
"""Removes up to so many things that have expired at a moment; how many."""


def state_cleanup(records: RecordStore, clock: Clock, *others: Sweep) -> SystemTask:
    """The task that removes expired login states, remembered answers and other temporary records.

    *others* sweep what lies elsewhere.
    """

    async def work(parameters: JsonObject, context: RunContext) -> Outcome:
        now = clock.now()
        removed = await _in_bites(lambda: records.sweep_records(now=now, limit=BITE), context)
        for sweep in others:
            removed += await _in_bites(partial(sweep, now, BITE), context)
        return Outcome.succeeded(f"Removed {removed} expired records", removed=removed)

    return SystemTask(
        id=TaskId("system-state-cleanup"),
        task_name="state_cleanup",
        name="State Cleanup",
        description="Removes expired login states and other temporary data",
        purpose="Keeps what was only ever meant to live for a while from piling up",
        schedule="0 0 */2 * * *",
        policy=Policy(max_retries=2, retry_interval=5 * MINUTE, timeout=15 * MINUTE),
        parameters={"retention": format_duration(KEEP_STATES)},
        tags=("system", "cleanup"),
        handler=work,
    )


def task_cleanup(store: WorkStore, clock: Clock) -> SystemTask:
    """The task that removes executions which ended long ago, and the ledger rows of their time."""

    async def work(parameters: JsonObject, context: RunContext) -> Outcome:
        keep = parse_duration(str(parameters.get("retention", format_duration(KEEP_EXECUTIONS))))
        before = clock.now() - keep

        async def bite() -> int:
            executions, ledger = await store.purge(before=before, limit=BITE)
            return max(executions, ledger)

        removed = await _in_bites(bite, context)
        return Outcome.succeeded(f"Removed {removed} records older than {format_duration(keep)}", removed=removed)

    return SystemTask(
        id=TaskId("system-task-cleanup"),
        task_name="task_cleanup",
        name="Task History Cleanup",
        description="Removes execution records older than 30 days",
        purpose="Keeps the history to what people still look at, so that it stays fast and fits the disk",
        schedule="0 0 2 * * *",
        priority=Priority.LOW,
        policy=Policy(max_retries=2, retry_interval=30 * MINUTE, timeout=30 * MINUTE),
        parameters={"retention": format_duration(KEEP_EXECUTIONS)},
        tags=("system", "cleanup", "history"),
        handler=work,
    )


async def _in_bites(bite: Callable[[], Awaitable[int]], context: RunContext) -> int:
    """How many were removed in all; a cancel or a timeout ends it between two bites."""
    removed = 0
    while True:
        taken = await bite()
        removed += taken
        if taken:
            context.log(f"removed {removed} so far")
        if taken < BITE:
            return removed
