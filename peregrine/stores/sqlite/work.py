"""Owns the operations of the spine: the statements of each verb, in one transaction; must not know threads or files.

Each reads what it compares with, decides nothing but "is this still so", and writes. What it compares can't change in
between: all of it happens inside ``BEGIN IMMEDIATE``, also when other processes share the file.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import apsw

from peregrine.domain.errors import LimitReached, NotFound
from peregrine.domain.execution import (
    CANCELLED_ERROR,
    CANCELLED_OUTPUT,
    Attempt,
    AttemptOutcome,
    Execution,
    ExecutionOutcome,
    NewExecution,
    Running,
    Settlement,
    State,
)
from peregrine.domain.execution import Claim as Claimed
from peregrine.domain.ids import ExecutionId, TaskId, WorkerId
from peregrine.domain.moment import Moment
from peregrine.domain.planning import DueTask, Plan
from peregrine.domain.policy import Priority, rank
from peregrine.domain.statistics import day_start
from peregrine.domain.task import Task
from peregrine.ports.host import Instance
from peregrine.ports.store import (
    CancelVerdict,
    ClaimBatch,
    ClaimRequest,
    DueBatch,
    PlanVerdict,
    RenewVerdict,
    SettleVerdict,
)
from peregrine.stores.sqlite import rows
from peregrine.stores.sqlite.queries import SQL, SQL_FOR_ONE
from peregrine.stores.sqlite.rows import Definitions, Row

Item = TypeVar("Item")

_HIGHEST: Final = max(Priority)

PURGE_REACH: Final = 4
"""Among so many times the number wanted, those that started first, retention looks for those that ended first."""


# ── shared steps ─────────────────────────────────────────────────────────────────────────────────────────────────────


def integers(numbers: Iterable[int]) -> array[int]:
    """*numbers* in the form that ``carray`` takes; it must not be given an empty one."""
    return array("q", numbers)


def number(db: apsw.Connection, text: str, values: Mapping[str, Any] | Sequence[Any] = ()) -> int:
    """The one number that a query gives."""
    row = db.execute(text, values).fetchone()
    assert row is not None
    found: int = row[0]
    return found


def by_texts(db: apsw.Connection, query: str, texts: Sequence[str]) -> list[Row]:
    """What a query gives for a list of texts."""
    texts = tuple(map(str, texts))
    if len(texts) == 1 or any("\0" in text for text in texts):
        # Such a list can't hold a NUL; and one text by itself is quicker without.
        return [row for text in texts for row in db.execute(SQL_FOR_ONE[query], (text,))]
    return list(db.execute(SQL[query], (apsw.carray(texts),))) if texts else []


def number_of(db: apsw.Connection, of: str, id: str) -> int:
    """The number of the id of a ``task`` or ``worker``, made if it has none."""
    found = db.execute(SQL[f"{of}_number"], (id,)).fetchone()
    return number(db, SQL[f"add_{of}_number"], (id,)) if found is None else found[0]


def tasks_of(db: apsw.Connection, definitions: Definitions, stamps: Sequence[int]) -> dict[int, Task]:
    """The tasks of *stamps*; those not known yet are read in one go."""
    read: dict[int, str] = {}
    if missing := definitions.missing(stamps):
        read = dict(db.execute(SQL["definitions"], (apsw.carray(integers(missing)),)))
        for stamp, text in read.items():
            definitions.learn(stamp, text)
    # What was learnt can be thrown out again by a batch larger than the memory.
    return {s: definitions.task(s) or rows.read_definition(read[s]) for s in stamps}


def _without_repetition(items: Sequence[Item], ids: Sequence[str]) -> Iterator[tuple[Sequence[Item], Sequence[int]]]:
    """*items* in runs within which no id comes twice, so that each run can be worked off as a whole, in order."""
    if len(set(ids)) == len(ids):
        yield items, range(len(items))
        return
    seen: set[str] = set()
    start = 0
    for index, id in enumerate(ids):
        if id in seen:
            yield items[start:index], range(start, index)
            start = index
            seen.clear()
        seen.add(id)
    yield items[start:], range(start, len(items))


# ── due → queued ─────────────────────────────────────────────────────────────────────────────────────────────────────


def due(db: apsw.Connection, definitions: Definitions, now: Moment, limit: int) -> DueBatch:
    found = list(db.execute(SQL["due"], (now, max(limit, 0) + 1)))
    queued = number(db, SQL["queued"])
    if len(found) > limit:
        next_due_at = found[limit][2]
        found = found[:limit]
    else:
        next_due_at = rows.moment_or_none(number(db, SQL["next_due_at"], (now,)))
    tasks = tasks_of(db, definitions, [row[0] for row in found])
    return DueBatch([DueTask(tasks[stamp], cursor, active) for stamp, cursor, _, active in found], queued, next_due_at)


def apply_plans(db: apsw.Connection, plans: Sequence[Plan], now: Moment) -> Sequence[PlanVerdict]:
    verdicts = [PlanVerdict.MOVED] * len(plans)
    for run, places in _without_repetition(plans, [plan.task_id for plan in plans]):
        found = by_texts(db, "progress_of_tasks", [plan.task_id for plan in run])
        stands = {id: (no, cursor, generation) for id, no, cursor, generation in found}
        good: list[tuple[int, Plan]] = []
        for place, plan in zip(places, run, strict=True):
            no, cursor, generation = stands.get(plan.task_id, (0, None, None))
            if cursor == plan.cursor and generation == plan.generation:
                good.append((no, plan))
                verdicts[place] = PlanVerdict.APPLIED
        _write_plans(db, good, now)
    return verdicts


def write_plan(db: apsw.Connection, no: int, plan: Plan, now: Moment) -> None:
    """Write one plan that was found to fit."""
    _write_plans(db, [(no, plan)], now)


def _write_plans(db: apsw.Connection, plans: Sequence[tuple[int, Plan]], now: Moment) -> None:
    _queue_up(db, [new for _, plan in plans for new in plan.executions], {plan.task_id: no for no, plan in plans})
    skips = [(no, skip.first, skip.last, skip.count, skip.reason, now) for no, plan in plans for skip in plan.skips]
    if skips:
        db.executemany(SQL["add_skip"], skips)
    db.executemany(SQL["advance"], [(no, plan.cursor_after, rows.beyond(plan.next_run_at)) for no, plan in plans])


def _queue_up(db: apsw.Connection, news: Sequence[NewExecution], known: Mapping[TaskId, int]) -> None:
    """Queue *news*; one whose key exists is left as it is, and one whose task is gone could never run."""
    if not news:
        return
    strange = tuple({new.task_id for new in news} - known.keys())
    numbers = known
    if strange:
        numbers = {**known, **dict(by_texts(db, "numbers_of_tasks", strange))}
    before = db.total_changes()
    db.executemany(
        SQL["add_execution"], [rows.execution_row(new, numbers[new.task_id]) for new in news if new.task_id in numbers]
    )
    made = db.total_changes() - before
    if made:
        _spread_scheduled(db, db.last_insert_rowid(), made, news)
        _count_queued(db, made)


def _spread_scheduled(db: apsw.Connection, last: int, made: int, news: Sequence[NewExecution]) -> None:
    """Widen the bounds of the segments in which the *made* newest executions lie."""
    moments = [new.scheduled_for for new in news if new.scheduled_for is not None]
    bounds = (min(moments), max(moments)) if moments else (rows.INTEGER_MAX, rows.INTEGER_MIN)
    for segment in range(_segment(last - made + 1), _segment(last) + 1):
        db.execute(SQL["spread_scheduled"], (segment, *bounds))


def _spread_listed(db: apsw.Connection, seqs: Iterable[int], listed_at: Moment) -> None:
    """Widen the bounds of the segments in which *seqs* lie."""
    for segment in {_segment(seq) for seq in seqs}:
        db.execute(SQL["spread_listed"], (segment, listed_at))


def _segment(seq: int) -> int:
    return seq >> rows.SEGMENT_BITS


def _count_queued(db: apsw.Connection, more: int) -> None:
    if more:
        db.execute(SQL["count_queued"], (more,))


def enqueue(db: apsw.Connection, new: NewExecution, queue_limit: int) -> Execution:
    # The key comes first: a repeated request gets the first answer, even if the queue has filled meanwhile.
    seq = _seq_of_key(db, new)
    if seq is None:
        if db.execute(SQL["task_id_exists"], (new.task_id,)).fetchone() is None:
            raise NotFound("task", new.task_id)
        if number(db, SQL["queued"]) >= queue_limit:
            raise LimitReached(f"{queue_limit} executions are queued already", code="queue_full")
        _queue_up(db, [new], {})
        seq = _seq_of_key(db, new)
    assert seq is not None
    return executions_of(db, [seq])[seq]


def _seq_of_key(db: apsw.Connection, new: NewExecution) -> int | None:
    occurrence = rows.occurrence_of(new.key, new.task_id)
    if occurrence is None:
        found = db.execute(SQL["seq_of_key"], (new.key,)).fetchone()
    else:
        found = db.execute(SQL["seq_of_occurrence"], (new.task_id, occurrence)).fetchone()
    return None if found is None else found[0]


# ── queued → claimed ─────────────────────────────────────────────────────────────────────────────────────────────────


def claim(db: apsw.Connection, definitions: Definitions, request: ClaimRequest) -> ClaimBatch:
    chosen = _choose(db, request.now, request.limit)
    claims: list[Claimed] = []
    if chosen:
        seqs = integers(chosen)
        worker_no = number_of(db, "worker", request.worker_id)
        mark = rows.claim_mark(request.claim_id)
        db.execute(SQL["start"], (apsw.carray(seqs), worker_no, mark, request.now))
        _spread_listed(db, seqs, request.now)
        _count_queued(db, -len(chosen))
        tasks = tasks_of(db, definitions, list(chosen.values()))
        started = db.execute(SQL["claims"], (apsw.carray(seqs),))
        claims = [rows.claim(row, tasks[chosen[row[13]]], request.worker_id) for row in started]
    lowest = rank(_HIGHEST, request.now)
    row = db.execute(SQL["next_available_at"], (request.now, lowest)).fetchone()
    return ClaimBatch(claims, None if row is None else row[0])


def _choose(db: apsw.Connection, now: Moment, limit: int) -> dict[int, int]:
    """The numbers of what to claim, in the order of the queue, each with the stamp of its task."""
    chosen: dict[int, int] = {}
    offered: set[int] = set()
    if limit < 1:
        return chosen
    waiting = db.execute(SQL["waiting"], (now,))
    for seq, task_no, stamp, overlaps in waiting:
        if not overlaps:
            if task_no in offered:
                continue
            offered.add(task_no)
        chosen[seq] = stamp
        if len(chosen) == limit:
            break
    waiting.close()
    return chosen


def claimed_by(db: apsw.Connection, definitions: Definitions, claim_id: str) -> Sequence[Claimed]:
    found = list(db.execute(SQL["claimed_by"], (rows.claim_mark(claim_id),)))
    tasks = tasks_of(db, definitions, [row[13] for row in found])
    return [rows.claim(row, tasks[row[13]], WorkerId(row[14])) for row in found]


def renew(db: apsw.Connection, claims: Sequence[tuple[ExecutionId, int]]) -> Sequence[RenewVerdict]:
    found = by_texts(db, "claims_of", [id for id, _ in claims])
    stands = {(id, epoch): (seq, cancelled) for id, seq, epoch, cancelled in found}
    kept = [stands[key][0] for key in claims if key in stands]
    if kept:
        db.execute(SQL["renew"], (apsw.carray(integers(kept)),))
    return [
        RenewVerdict.LOST if key not in stands else RenewVerdict.CANCEL if stands[key][1] else RenewVerdict.KEPT
        for key in claims
    ]


def running(db: apsw.Connection, definitions: Definitions) -> Sequence[Running]:
    found = list(db.execute(SQL["running"]))
    tasks = tasks_of(db, definitions, [row[6] for row in found if row[6] is not None])
    return [rows.running(row, None if row[6] is None else tasks[row[6]]) for row in found]


# ── claimed → settled ────────────────────────────────────────────────────────────────────────────────────────────────


def settle(db: apsw.Connection, settlements: Sequence[Settlement]) -> Sequence[SettleVerdict]:
    verdicts: list[SettleVerdict] = []
    for run, _ in _without_repetition(settlements, [settlement.execution_id for settlement in settlements]):
        verdicts += _settle_run(db, run)
    return verdicts


def _settle_run(db: apsw.Connection, settlements: Sequence[Settlement]) -> list[SettleVerdict]:
    found = by_texts(db, "settled_against", [settlement.execution_id for settlement in settlements])
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
    return SettleVerdict.APPLIED if written is settlement or written == settlement else SettleVerdict.CANCELLED


def _settle_late(db: apsw.Connection, settlement: Settlement, seq: int) -> SettleVerdict:
    """A settlement that is not for the newest claim: a repetition, or too late and then noted where it was replaced.

    A second reaper that comes late brings no result, so there is nothing to note.
    """
    attempts = executions_of(db, [seq])[seq].attempts
    if any(settlement.wrote(attempt) for attempt in attempts):
        return SettleVerdict.REPEATED
    late = settlement.attempt.outcome
    if late is not None and late is not AttemptOutcome.LOST:
        for attempt in attempts:
            if attempt.epoch == settlement.epoch and attempt.outcome is AttemptOutcome.LOST:
                worker_no = number_of(db, "worker", attempt.worker_id)
                db.execute(SQL["add_attempt"], rows.attempt_row(seq, attempt.noting_late(late), worker_no))
                db.execute(SQL["forget_attempt_outcome"], (seq,))
    return SettleVerdict.STALE


class _SettleBatch:
    """Gathers the writes of settlements, to make them kind by kind."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._ended: list[Row] = []
        self._again: list[Row] = []
        self._attempts: list[tuple[int, Attempt]] = []
        self._results: list[Row] = []
        self._tallies = _Tallies(db)
        self._followups: list[NewExecution] = []

    def add(self, row: Row, written: Settlement) -> None:
        """Take up *written* for the running execution of *row* (``settled_against``)."""
        _, seq, task_no, _, epoch, _, attempt, priority, available_at, _, started_at, worker_id = row
        stays = _stands_in_row(written, (attempt, epoch, worker_id, started_at))
        if not stays:
            self._attempts.append((seq, written.attempt))
        result = rows.result_row(seq, written, first=attempt == 1)
        if result is not None:
            self._results.append(result)
        outcome = rows.OUTCOME_NUMBERS[written.outcome]
        if written.state is State.QUEUED:
            available_at = available_at if written.available_at is None else written.available_at
            place = rank(Priority(priority), available_at)
            self._again.append((seq, available_at, place, written.failures, written.losses, outcome))
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
            succeeded = written.state is State.COMPLETED
            self._tallies.add(task_no, started_at, ended_at, None if succeeded else written)
        self._followups += written.followups

    def write(self) -> None:
        db = self._db
        if self._ended:
            db.executemany(SQL["end_execution"], self._ended)
        if self._again:
            db.executemany(SQL["queue_again"], self._again)
            _count_queued(db, len(self._again))
        if self._results:
            db.executemany(SQL["put_result"], self._results)
        if self._attempts:
            numbers = {id: number_of(db, "worker", id) for id in {a.worker_id for _, a in self._attempts}}
            found = [rows.attempt_row(seq, a, numbers[a.worker_id]) for seq, a in self._attempts]
            db.executemany(SQL["add_attempt"], found)
        self._tallies.write()
        _queue_up(db, self._followups, {})


def _stands_in_row(written: Settlement, row: tuple[Any, ...]) -> bool:
    """Whether the row of the execution says all of the ended attempt, as it does for nearly every last one."""
    mine = written.attempt
    return (
        written.state is not State.QUEUED
        and (mine.attempt, mine.epoch, mine.worker_id, mine.started_at) == row
        and mine.error == written.error
        and mine.outcome is not None
    )


class _Tallies:
    """Gathers what ended executions add to their tasks and their days."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._tasks: list[Row] = []
        self._errors: dict[int, str | None] = {}
        self._days = _Days()

    def add(self, task_no: int, started_at: Moment | None, ended_at: Moment, failure: Settlement | str | None) -> None:
        """One more; *failure* says its error, None that it succeeded."""
        succeeded = failure is None
        runtime = None if started_at is None else max(0, ended_at - started_at)
        self._tasks.append((task_no, succeeded, started_at, runtime))
        if failure is not None:
            self._errors[task_no] = failure if isinstance(failure, str) else failure.error
        self._days.add(ended_at, runtime, 1, succeeded=succeeded)

    def write(self) -> None:
        if not self._tasks:
            return
        self._db.executemany(SQL["tally"], self._tasks)
        if self._errors:
            self._db.executemany(SQL["put_task_error"], list(self._errors.items()))
        self._days.write(self._db)


class _Days:
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


def executions_of(db: apsw.Connection, seqs: Sequence[int]) -> dict[int, Execution]:
    """Executions as readers see them, by number."""
    if not seqs:
        return {}
    wanted = apsw.carray(integers(seqs))
    found = list(db.execute(SQL["executions"], (wanted,)))
    apart: dict[int, list[Attempt]] = {}
    # One that was tried once and has ended, or runs, has nothing apart; that is nearly all of them.
    if any(row[12] > 1 or (row[12] == 1 and row[22] is None) for row in found):
        for row in db.execute(SQL["attempts"], (wanted,)):
            apart.setdefault(row[0], []).append(rows.attempt_apart(row))
    return {row[0]: rows.execution(row, apart.get(row[0], ())) for row in found}


# ── cancel ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def cancel_task(db: apsw.Connection, task_id: TaskId, now: Moment) -> list[tuple[ExecutionId, CancelVerdict]]:
    return _cancel(db, list(db.execute(SQL["active_of_task"], (task_id,))), now)


def cancel_execution(
    db: apsw.Connection, execution_id: ExecutionId, now: Moment
) -> list[tuple[ExecutionId, CancelVerdict]]:
    return _cancel(db, list(db.execute(SQL["state_of"], (execution_id,))), now)


def _cancel(db: apsw.Connection, found: Sequence[Row], now: Moment) -> list[tuple[ExecutionId, CancelVerdict]]:
    tallies = _Tallies(db)
    verdicts: list[tuple[ExecutionId, CancelVerdict]] = []
    outcome = rows.OUTCOME_NUMBERS[ExecutionOutcome.CANCELLED]
    for seq, id, task_no, state, started_at in found:
        if state == rows.QUEUED:
            db.execute(SQL["cancel_waiting"], (seq, now, outcome))
            db.execute(SQL["put_cancelled_result"], (seq, CANCELLED_OUTPUT, CANCELLED_ERROR))
            _spread_listed(db, [seq], now if started_at is None else started_at)
            _count_queued(db, -1)
            tallies.add(task_no, started_at, now, CANCELLED_ERROR)
            verdict = CancelVerdict.CANCELLED
        elif state == rows.RUNNING:
            db.execute(SQL["mark_cancel"], (seq,))
            verdict = CancelVerdict.MARKED
        else:
            verdict = CancelVerdict.ENDED
        verdicts.append((ExecutionId(id), verdict))
    tallies.write()
    return verdicts


# ── instances, care ──────────────────────────────────────────────────────────────────────────────────────────────────


def announce(db: apsw.Connection, instance: Instance, now: Moment) -> None:
    db.execute(SQL["announce"], rows.instance_row(instance, now))


def instances(db: apsw.Connection) -> Sequence[tuple[Instance, int, Moment]]:
    return [rows.instance(row) for row in db.execute(SQL["instances"])]


def retire(db: apsw.Connection, instance_ids: Sequence[WorkerId]) -> None:
    db.executemany(SQL["retire"], [(id,) for id in instance_ids])


def strayed(db: apsw.Connection, beyond: Moment) -> bool:
    """Whether any task was decided beyond a moment: asked first, since nearly always there is none."""
    return db.execute(SQL["strayed"], (beyond,)).fetchone() is not None


def reanchor(db: apsw.Connection, definitions: Definitions, beyond: Moment, now: Moment) -> int:
    found = list(db.execute(SQL["strayed"], (beyond,)))
    tasks = tasks_of(db, definitions, [stamp for _, stamp in found])
    db.executemany(SQL["advance"], [(no, now, rows.beyond(tasks[stamp].next_run_at(now))) for no, stamp in found])
    return len(found)


def purge(db: apsw.Connection, before: Moment, limit: int) -> tuple[int, int]:
    days = _Days()
    seqs: list[int] = []
    for seq, completed_at, state, started_at in db.execute(SQL["old_executions"], (before, limit, limit * PURGE_REACH)):
        runtime = None if started_at is None else max(0, completed_at - started_at)
        days.add(completed_at, runtime, -1, succeeded=state == rows.COMPLETED)
        seqs.append(seq)
    if seqs:
        for step in ("drop_results", "drop_attempts", "drop_executions"):
            db.execute(SQL[step], (apsw.carray(integers(seqs)),))
        db.executemany(SQL["drop_empty_segment"], [(segment,) for segment in {_segment(seq) for seq in seqs}])
        days.write(db)
        db.execute(SQL["drop_empty_days"])
    before_skips = db.total_changes()
    db.execute(SQL["drop_skips"], (before, limit))
    return len(seqs), db.total_changes() - before_skips


def ping(db: apsw.Connection) -> None:
    db.execute(SQL["ping"])
