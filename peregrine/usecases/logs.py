"""Owns what a person may read of what executions say: once, or on and on while they run. Must not know HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from peregrine.domain.errors import NotFound
from peregrine.domain.execution import Execution, State
from peregrine.domain.ids import ExecutionId, TaskId
from peregrine.domain.journal import BEGINNING, Line, Place, Progress, Said, said_in
from peregrine.domain.moment import SECOND, Duration
from peregrine.domain.permission import Permission
from peregrine.ports.engine_view import EngineMode
from peregrine.ports.identity import Asker
from peregrine.usecases.access import require
from peregrine.usecases.means import Means

LOOK: Final[Duration] = 2 * SECOND
"""Longest time between two looks at the store for an execution that waits, or runs elsewhere: nobody wakes us then."""


@dataclass(frozen=True, slots=True)
class SaidLine:
    """A line together with whose it is."""

    attempt: int
    place: Place
    line: Line


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionLog:
    """One look at what an execution has said. ``place`` is where a reader stands after it."""

    execution: Execution
    is_live: bool
    """It runs in this process: lines come as they are said. Else they come when the attempt has ended."""
    lines: Sequence[SaidLine]
    progress: Progress | None
    place: Place


async def read_log(
    means: Means, by: Asker, execution_id: ExecutionId, *, task_id: TaskId | None = None, after: Place = BEGINNING
) -> ExecutionLog:
    """What was said behind *after*, by each attempt that has ended and by the one that runs here, oldest first.

    Raises:  NotFound, also if it belongs to another task than *task_id*.
    """
    await require(means.grants, by, Permission.EXECUTIONS_READ)
    return await _look(means, execution_id, task_id, after)


async def follow_log(
    means: Means, by: Asker, execution_id: ExecutionId, *, task_id: TaskId | None = None, after: Place = BEGINNING
) -> Following:
    """The same, to be read on and on; close it at the end."""
    await require(means.grants, by, Permission.EXECUTIONS_READ)
    return Following(means, execution_id, task_id, after)


class Following:
    """One reader of one execution, who goes on where they stood. Nothing of the store is held between two looks.

    What is not read yet is kept once, with the run, and not once for each reader: one slower than the run misses lines.
    """

    def __init__(self, means: Means, execution_id: ExecutionId, task_id: TaskId | None, after: Place) -> None:
        self._means = means
        self._execution_id = execution_id
        self._task_id = task_id
        self._place = after
        self._news = asyncio.Event()
        self._live: tuple[Execution, int] | None = None
        journal = means.journal
        self._unwatch = None if journal is None else journal.watch(execution_id, self._news.set)

    @property
    def is_over(self) -> bool:
        """Whether this process runs nothing any more, so that a reader had better ask another one."""
        return self._means.engine.facts().mode is EngineMode.STOPPED

    async def look(self) -> ExecutionLog:
        """What came since the last look. While the same attempt runs here, memory alone is read.

        Raises:  NotFound, also when it was purged meanwhile; Unavailable.
        """
        self._news.clear()
        said = _read(self._means, self._execution_id)
        if said is not None and self._live is not None and self._live[1] == said.epoch:
            log = _log_of(self._live[0], (said,), said, self._place)
        else:
            log = await _look(self._means, self._execution_id, self._task_id, self._place)
            self._live = (log.execution, said.epoch) if said is not None and log.is_live else None
        self._place = log.place
        return log

    async def wait(self, within: Duration) -> None:
        """Return when there may be something new; at the latest after *within*, or sooner where nobody wakes us."""
        try:
            async with asyncio.timeout((within if self._live else min(within, LOOK)) / SECOND):
                await self._news.wait()
        except TimeoutError:
            pass

    def close(self) -> None:
        """Let go."""
        if self._unwatch is not None:
            self._unwatch()


def with_progress(means: Means, execution: Execution) -> Execution:
    """*execution* with the progress of its run, if that is here and said any."""
    said = _read(means, execution.id) if execution.state is State.RUNNING else None
    return execution if said is None or said.progress is None else replace(execution, progress=said.progress)


def may_speak(means: Means, executions: Iterable[Execution]) -> bool:
    """Whether the progress of one of them may change although nothing is written: one that runs, perhaps here."""
    return means.journal is not None and any(execution.state is State.RUNNING for execution in executions)


async def _look(means: Means, execution_id: ExecutionId, task_id: TaskId | None, after: Place) -> ExecutionLog:
    # Asked on both sides of the store's answer: meanwhile the run may end, and its words move from here to there.
    before = _read(means, execution_id)
    execution = await means.store.get_execution(execution_id)
    if execution is None or (task_id is not None and execution.task_id != task_id):
        raise NotFound("execution", execution_id)
    kept = await _kept(means, execution)
    live = None if execution.state.is_ended else _read(means, execution_id) or before
    if live is not None and kept and live.epoch <= kept[-1].epoch:
        live = None  # its settlement is stored already
    said = kept if live is None else (*kept, live)
    return _log_of(execution, said, live, after)


def _read(means: Means, execution_id: ExecutionId) -> Said | None:
    return None if means.journal is None else means.journal.read(execution_id)


async def _kept(means: Means, execution: Execution) -> tuple[Said, ...]:
    """What the store keeps of the attempts that have ended, oldest first."""
    ended = [attempt for attempt in execution.attempts if attempt.completed_at is not None]
    earlier = await means.store.earlier_details(execution.id) if len(ended) > 1 else {}
    details = {**earlier, **({ended[-1].epoch: execution.detail} if ended else {})}
    return tuple(
        said_in(details.get(attempt.epoch, {}), attempt=attempt.attempt, epoch=attempt.epoch) for attempt in ended
    )


def _log_of(execution: Execution, said: Sequence[Said], live: Said | None, after: Place) -> ExecutionLog:
    """The log that the attempts in *said*, oldest first, come to for a reader who stands at *after*."""
    if after.number and not after.epoch:
        newest = max((one.epoch for one in said), default=0)
        after = replace(after, epoch=newest)
    lines = [
        SaidLine(one.attempt, Place(one.epoch, line.number), line) for one in said for line in one.behind(after)
    ]  # fmt: skip
    progress = said[-1].progress if said and (live is not None or execution.state.is_ended) else None
    return ExecutionLog(
        execution=execution,
        is_live=live is not None,
        lines=lines,
        progress=progress,
        place=lines[-1].place if lines else after,
    )
