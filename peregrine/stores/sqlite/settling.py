"""Owns the end of attempts and executions: settlements, cancels, and what they add up to; not: how work began."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import apsw

from peregrine.domain.execution import (
    CANCELLED_ERROR,
    CANCELLED_OUTPUT,
    AttemptOutcome,
    ExecutionOutcome,
    NewExecution,
    Settlement,
    State,
)
from peregrine.domain.ids import ExecutionId, TaskId
from peregrine.domain.moment import Moment
from peregrine.domain.policy import Priority, rank
from peregrine.domain.statistics import day_start
from peregrine.ports.store import CancelVerdict, SettleVerdict
from peregrine.stores.sqlite import rows, steps
from peregrine.stores.sqlite.queries import SQL
from peregrine.stores.sqlite.rows import Row
from peregrine.stores.sqlite.stretches import Stretches

# By names of their own: on Python 3.11 to look a member up in its class costs as much as a row's share of a statement.
_QUEUED: Final = State.QUEUED
_COMPLETED: Final = State.COMPLETED
_APPLIED: Final = SettleVerdict.APPLIED


def settle(db: apsw.Connection, settlements: Sequence[Settlement]) -> Sequence[SettleVerdict]:
    verdicts: list[SettleVerdict] = []
    for run, _ in steps.without_repetition(settlements, [settlement.execution_id for settlement in settlements]):
        verdicts += _settle_run(db, run)
    return verdicts


def _settle_run(db: apsw.Connection, settlements: Sequence[Settlement]) -> list[SettleVerdict]:
    found = steps.by_texts(db, "settled_against", [settlement.execution_id for settlement in settlements])
    stands = {row[0]: row for row in found}
    batch = _SettleBatch(db)
    verdicts = [_settle_one(db, batch, settlement, stands.get(settlement.execution_id)) for settlement in settlements]
    batch.write()
    return verdicts


def _settle_one(db: apsw.Connection, batch: _SettleBatch, settlement: Settlement, row: Row | None) -> SettleVerdict:
    if row is None:
        return SettleVerdict.STALE
    _, seq, _, state, epoch, beat, _, _, _, cancelled, _, _ = row
    renewed = settlement.expected_beat is not None and settlement.expected_beat != beat
    if state != rows.RUNNING or epoch != settlement.epoch or renewed:
        return _settle_late(db, settlement, seq)
    # What runs with this epoch holds no ended attempt of it, so this can't be a repetition.
    written = settlement.if_cancelled() if cancelled else settlement
    batch.add(row, written)
    return _APPLIED if written is settlement or written == settlement else SettleVerdict.CANCELLED


def _settle_late(db: apsw.Connection, settlement: Settlement, seq: int) -> SettleVerdict:
    """A settlement that is not for the newest claim: a repetition, or too late and then noted where it was replaced.

    A second reaper that comes late brings no result, so there is nothing to note.
    """
    attempts = steps.executions_of(db, [seq])[seq].attempts
    if any(settlement.wrote(attempt) for attempt in attempts):
        return SettleVerdict.REPEATED
    late = settlement.attempt.outcome
    if late is not None and late is not AttemptOutcome.LOST:
        for attempt in attempts:
            if attempt.epoch == settlement.epoch and attempt.outcome is AttemptOutcome.LOST:
                worker_no = steps.number_of(db, "worker", attempt.worker_id)
                steps.write_rows(db, "add_attempt", [rows.attempt_row(seq, attempt.noting_late(late), worker_no)])
                db.execute(SQL["forget_attempt_outcome"], (seq,))
    return SettleVerdict.STALE


class _SettleBatch:
    """Gathers the writes of settlements, to make them kind by kind."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._ended: list[Row] = []
        self._again: list[Row] = []
        self._attempts: list[tuple[int, Settlement]] = []
        self._results: list[Row] = []
        self._tallies = _Tallies(db)
        self._stretches = Stretches()
        self._followups: list[NewExecution] = []

    def add(self, row: Row, written: Settlement) -> None:
        """Take up *written* for the running execution of *row* (``settled_against``)."""
        _, seq, task_no, _, epoch, _, attempt, priority, available_at, _, started_at, worker_id = row
        stays = _stands_in_row(written, (attempt, epoch, worker_id, started_at))
        if not stays:
            self._attempts.append((seq, written))
        result = rows.result_row(seq, written, first=attempt == 1)
        if result is not None:
            self._results.append(result)
        outcome = rows.OUTCOME_NUMBERS[written.outcome]
        if written.state is _QUEUED:
            available_at = available_at if written.available_at is None else written.available_at
            place = rank(Priority(priority), available_at)
            self._again.append((seq, available_at, place, written.failures, written.losses, outcome))
            self._stretches.add(started_at, listed=-1)
        else:
            ended_at = written.ended_at
            self._ended.append(
                (
                    seq,
                    rows.STATE_NUMBERS[written.state],
                    written.failures,
                    written.losses,
                    ended_at,
                    outcome,
                    rows.ATTEMPT_OUTCOME_NUMBERS[written.attempt.outcome] if stays else None,
                )
            )
            succeeded = written.state is _COMPLETED
            self._tallies.add(task_no, started_at, ended_at, None if succeeded else written)
            self._stretches.add(started_at, completed=succeeded, failed=not succeeded)
        self._followups += written.followups

    def write(self) -> None:
        db = self._db
        if self._ended:
            steps.write_rows(db, "end_execution", self._ended)
        if self._again:
            steps.write_rows(db, "queue_again", self._again)
            steps.count_queued(db, len(self._again))
        if self._results:
            steps.write_rows(db, "put_result", self._results)
        if self._attempts:
            workers = {written.attempt.worker_id for _, written in self._attempts}
            numbers = {id: steps.number_of(db, "worker", id) for id in workers}
            steps.write_rows(
                db,
                "add_attempt",
                [
                    rows.attempt_row(
                        seq,
                        written.attempt,
                        numbers[written.attempt.worker_id],
                        written.detail if written.state is _QUEUED else None,
                    )
                    for seq, written in self._attempts
                ],
            )
        self._tallies.write()
        self._stretches.write(db)
        steps.queue_up(db, self._followups, {})


def _stands_in_row(written: Settlement, row: tuple[Any, ...]) -> bool:
    """Whether the row of the execution says all of the ended attempt, as it does for nearly every last one."""
    mine = written.attempt
    return (
        written.state is not _QUEUED
        and (mine.attempt, mine.epoch, mine.worker_id, mine.started_at) == row
        and mine.error == written.error
        and mine.outcome is not None
    )


class _Tallies:
    """Gathers what ended executions add to their tasks and their days."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._tasks: dict[int, list[Any]] = {}
        self._errors: dict[int, str | None] = {}
        self._days = Days()

    def add(self, task_no: int, started_at: Moment | None, ended_at: Moment, failure: Settlement | str | None) -> None:
        """One more; *failure* says its error, None that it succeeded."""
        succeeded = failure is None
        runtime = None if started_at is None else max(0, ended_at - started_at)
        sums = self._tasks.get(task_no)
        if sums is None:
            sums = self._tasks[task_no] = [0, 0, 0, None, None, False]
        sums[0] += 1
        sums[1] += succeeded
        if runtime is not None:
            sums[2] += runtime
            sums[3], sums[4] = started_at, runtime
        sums[5] = succeeded
        if failure is not None:
            self._errors[task_no] = failure if isinstance(failure, str) else failure.error
        self._days.add(ended_at, runtime, 1, succeeded=succeeded)

    def write(self) -> None:
        if not self._tasks:
            return
        steps.write_rows(self._db, "tally", [(no, *sums) for no, sums in self._tasks.items()])
        if self._errors:
            steps.write_rows(self._db, "put_task_error", list(self._errors.items()))
        self._days.write(self._db)


class Days:
    """Gathers what ended executions add to their days, or take from them."""

    def __init__(self) -> None:
        self._days: dict[Moment, list[int]] = {}

    def add(self, ended_at: Moment, runtime: int | None, sign: int, *, succeeded: bool) -> None:
        day = day_start(ended_at)
        counts = self._days.get(day)
        if counts is None:
            counts = self._days[day] = [0, 0, 0, 0]
        counts[0 if succeeded else 1] += sign
        if runtime is not None:
            counts[2] += sign
            counts[3] += sign * runtime

    def write(self, db: apsw.Connection) -> None:
        db.executemany(SQL["count_day"], [(day, *counts) for day, counts in self._days.items()])


def cancel_task(db: apsw.Connection, task_id: TaskId, now: Moment) -> list[tuple[ExecutionId, CancelVerdict]]:
    return _cancel(db, list(db.execute(SQL["active_of_task"], (task_id,))), now)


def cancel_execution(
    db: apsw.Connection, execution_id: ExecutionId, now: Moment
) -> list[tuple[ExecutionId, CancelVerdict]]:
    return _cancel(db, list(db.execute(SQL["state_of"], (execution_id,))), now)


def _cancel(db: apsw.Connection, found: Sequence[Row], now: Moment) -> list[tuple[ExecutionId, CancelVerdict]]:
    tallies, stretches = _Tallies(db), Stretches()
    verdicts: list[tuple[ExecutionId, CancelVerdict]] = []
    outcome = rows.OUTCOME_NUMBERS[ExecutionOutcome.CANCELLED]
    for seq, id, task_no, state, started_at in found:
        if state == rows.QUEUED:
            db.execute(SQL["cancel_waiting"], (seq, now, outcome))
            db.execute(SQL["put_cancelled_result"], (seq, CANCELLED_OUTPUT, CANCELLED_ERROR))
            listed_at = now if started_at is None else started_at
            steps.spread_listed(db, [seq], listed_at, listed_at)
            stretches.add(listed_at, listed=1, failed=1)
            steps.count_queued(db, -1)
            tallies.add(task_no, started_at, now, CANCELLED_ERROR)
            verdict = CancelVerdict.CANCELLED
        elif state == rows.RUNNING:
            db.execute(SQL["mark_cancel"], (seq,))
            verdict = CancelVerdict.MARKED
        else:
            verdict = CancelVerdict.ENDED
        verdicts.append((ExecutionId(id), verdict))
    tallies.write()
    stretches.write(db)
    return verdicts
