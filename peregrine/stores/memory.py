"""Owns the readable reference of the store: what every verb means, in plain Python; must not know any other store.

No verb waits inside, so on one event loop each is atomic. What it holds ends with the process: it serves tests,
simulations, and programs that embed the scheduler and want nothing kept. Read ``ports/store.py`` first; where that
leaves a doubt, this file and ``testing/store_contract.py`` are the answer.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import wraps
from itertools import islice
from typing import Any, Concatenate, Generic, ParamSpec, TypeAlias, TypeVar

from peregrine.domain.errors import Conflict, LimitReached, NotFound, PeregrineError, Stale
from peregrine.domain.execution import (
    CANCELLED_ERROR,
    CANCELLED_OUTPUT,
    Attempt,
    AttemptOutcome,
    Claim,
    Execution,
    ExecutionOutcome,
    NewExecution,
    Running,
    Settlement,
    State,
)
from peregrine.domain.ids import ExecutionId, TaskId, WorkerId
from peregrine.domain.moment import Moment
from peregrine.domain.occurrence import LedgerEntry, Skip, Verdict
from peregrine.domain.payload import HttpPayload, JsonObject
from peregrine.domain.planning import DueTask, Plan
from peregrine.domain.policy import Overlap, rank
from peregrine.domain.query import (
    COUNT_MAX,
    ExecutionFilter,
    Page,
    PageRequest,
    TaskFilter,
    TaskSort,
    read_cursor,
    write_cursor,
)
from peregrine.domain.statistics import Statistics, day_start
from peregrine.domain.task import Tally, Task, TaskView
from peregrine.ports.host import Instance
from peregrine.ports.records import Note, RecordStore
from peregrine.ports.store import (
    CancelVerdict,
    ClaimBatch,
    ClaimRequest,
    DueBatch,
    PlanVerdict,
    RenewVerdict,
    SettleVerdict,
    TaskChange,
    TaskWrites,
)
from peregrine.stores.memory_records import MemoryRecords
from peregrine.stores.noting import Noting

Item = TypeVar("Item")
Asked = ParamSpec("Asked")
Told = TypeVar("Told")
Entry = TypeVar("Entry", bound=tuple[object, ...])
Place: TypeAlias = tuple[int | str, str]
"""Where an item stands in a list: what the list is sorted by, then what breaks a tie."""


@dataclass(slots=True)
class _TaskRow:
    task: Task
    cursor: Moment
    next_run_at: Moment | None
    tally: Tally


@dataclass(slots=True)
class _Row:
    """An execution as readers see it, and what only the store needs to know of it."""

    execution: Execution
    key: str
    number: int
    """The order of creation."""
    claim_id: str = ""
    details: dict[int, JsonObject] = field(default_factory=dict)
    """What attempts that were tried again left behind, by epoch."""

    @property
    def turn(self) -> tuple[int, Moment, int, ExecutionId]:
        """Its place in the queue."""
        waiting = self.execution
        return rank(waiting.priority, waiting.available_at), waiting.available_at, self.number, waiting.id


@dataclass(frozen=True, slots=True)
class _SkipRow:
    skip: Skip
    decided_at: Moment
    number: int


class _Ordered(Generic[Entry]):
    """A sorted list whose items are all different."""

    def __init__(self) -> None:
        self._items: list[Entry] = []

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: Entry) -> None:
        insort(self._items, item)

    def remove(self, item: Entry) -> None:
        index = bisect_left(self._items, item)
        assert self._items[index] == item, "an index lost track of its rows"
        del self._items[index]


Verb: TypeAlias = Callable[Concatenate["MemoryStore", Asked], Coroutine[Any, Any, Told]]


def _writes(verb: Verb[Asked, Told]) -> Verb[Asked, Told]:
    """A verb that may change what others read."""

    @wraps(verb)
    async def counted(store: MemoryStore, /, *asked: Asked.args, **named: Asked.kwargs) -> Told:
        store._writes += 1
        return await verb(store, *asked, **named)

    return counted


class MemoryStore(MemoryRecords):
    """A whole store in dictionaries, its shelf included."""

    def __init__(self) -> None:
        super().__init__()
        self.shelf: RecordStore | None = None
        """Where notes are put, if not on the own shelf."""
        self._tasks: dict[TaskId, _TaskRow] = {}
        self._names: dict[str, TaskId] = {}
        self._agenda: _Ordered[tuple[Moment, TaskId]] = _Ordered()
        self._rows: dict[ExecutionId, _Row] = {}
        self._keys: dict[str, ExecutionId] = {}
        self._queue: _Ordered[tuple[int, Moment, int, ExecutionId]] = _Ordered()
        self._ended: _Ordered[tuple[Moment, ExecutionId]] = _Ordered()
        self._running: dict[ExecutionId, _Row] = {}
        self._active: dict[TaskId, dict[ExecutionId, _Row]] = {}
        self._busy: Counter[TaskId] = Counter()
        self._skips: dict[TaskId, list[_SkipRow]] = {}
        self._instances: dict[WorkerId, tuple[Instance, int, Moment]] = {}
        self._numbers = 0
        self._writes = 0

    # ── the door ─────────────────────────────────────────────────────────────────────────────────

    async def open(self) -> None:
        """Nothing to make ready."""

    async def close(self) -> None:
        """Nothing to let go of; what was stored can still be read."""

    async def ping(self) -> None:
        """Always there."""

    def version(self) -> int:
        """How many writes there were."""
        return self._writes

    # ── definitions ──────────────────────────────────────────────────────────────────────────────

    @_writes
    async def create_tasks(self, tasks: Sequence[Task]) -> None:
        ids, names = set(self._tasks), set(self._names)
        for task in tasks:
            if task.id in ids:
                raise Conflict(f"a task with id {task.id!r} exists", code="id_taken")
            if task.name in names:
                raise Conflict(f"a task named {task.name!r} exists", code="name_taken")
            ids.add(task.id)
            names.add(task.name)
        for task in tasks:
            row = _TaskRow(_own_task(task), task.updated_at, None, Tally())
            self._tasks[task.id] = row
            self._names[task.name] = task.id
            self._set_next(row, task.next_run_at(row.cursor))

    @_writes
    async def put_task(self, task: Task, *, expected_revision: int, plan: Plan | None = None) -> TaskView | None:
        row = self._task_row(task.id, expected_revision)
        if plan is not None and not _fits(row, plan):
            raise Stale(f"task {task.id!r} has moved on since the plan was made")
        if self._names.get(task.name, task.id) != task.id:
            raise Conflict(f"a task named {task.name!r} exists", code="name_taken")
        if plan is not None:
            self._write_plan(row, plan, task.updated_at)
        self._change(row, task)
        return self._view(row)

    @_writes
    async def put_tasks(self, new: Sequence[Task], changes: Sequence[TaskChange]) -> None:
        before = deepcopy({name: value for name, value in self.__dict__.items() if name != "shelf"})
        try:
            await self.create_tasks(new)
            for change in changes:
                await self.put_task(change.task, expected_revision=change.expected_revision, plan=change.plan)
        except PeregrineError:
            self.__dict__.update(before)
            raise

    def _change(self, row: _TaskRow, task: Task) -> None:
        due_changed = task.generation != row.task.generation
        del self._names[row.task.name]
        self._names[task.name] = task.id
        row.task = _own_task(task)
        if due_changed:
            row.cursor = max(row.cursor, task.updated_at)
            self._set_next(row, task.next_run_at(row.cursor))

    @_writes
    async def delete_task(
        self, task_id: TaskId, *, expected_revision: int | None, now: Moment
    ) -> Sequence[ExecutionId]:
        row = self._task_row(task_id, expected_revision)
        verdicts = self._cancel_all(task_id, now)
        self._set_next(row, None)
        del self._names[row.task.name]
        del self._tasks[task_id]
        return [execution_id for execution_id, verdict in verdicts if verdict is CancelVerdict.MARKED]

    def noting(self, *notes: Note) -> TaskWrites:
        return Noting(self, self if self.shelf is None else self.shelf, notes)

    async def get_task(self, task_id: TaskId) -> TaskView | None:
        row = self._tasks.get(task_id)
        return None if row is None else self._view(row)

    async def get_tasks(self, task_ids: Sequence[TaskId]) -> Sequence[TaskView]:
        return [self._view(self._tasks[task_id]) for task_id in task_ids if task_id in self._tasks]

    async def get_named(self, names: Sequence[str]) -> Sequence[TaskView]:
        return await self.get_tasks([self._names[name] for name in names if name in self._names])

    async def list_tasks(
        self, filter: TaskFilter, page: PageRequest, *, sort: TaskSort, descending: bool, now: Moment
    ) -> Page[TaskView]:
        views = [view for row in self._tasks.values() if filter.lets_through(view := self._view(row), now)]
        list_name = f"tasks by {sort}{' down' if descending else ''}"
        found = [((sort.key(view), str(view.task.id)), view) for view in views]
        return _page(found, page, list_name, descending=descending)

    def _task_row(self, task_id: TaskId, expected_revision: int | None) -> _TaskRow:
        row = self._tasks.get(task_id)
        if row is None:
            raise NotFound("task", task_id)
        if expected_revision is not None and row.task.revision != expected_revision:
            raise Stale(f"task {task_id!r} is at revision {row.task.revision}, not {expected_revision}")
        return row

    def _view(self, row: _TaskRow) -> TaskView:
        active, busy = len(self._active.get(row.task.id, ())), self._busy[row.task.id]
        return TaskView(
            task=_own_task(row.task),
            cursor=row.cursor,
            next_run_at=row.next_run_at,
            running=busy,
            queued=active - busy,
            tally=row.tally,
        )

    def _set_next(self, row: _TaskRow, next_run_at: Moment | None) -> None:
        """Every change of a task's next moment goes through here, so the agenda never differs."""
        if row.next_run_at is not None:
            self._agenda.remove((row.next_run_at, row.task.id))
        row.next_run_at = next_run_at
        if next_run_at is not None:
            self._agenda.add((next_run_at, row.task.id))

    # ── due → queued ─────────────────────────────────────────────────────────────────────────────

    async def due(self, now: Moment, limit: int) -> DueBatch:
        due: list[DueTask] = []
        next_due_at = None
        for moment, task_id in self._agenda:
            if moment > now or len(due) >= limit:
                next_due_at = moment
                break
            row = self._tasks[task_id]
            due.append(DueTask(_own_task(row.task), row.cursor, len(self._active.get(task_id, ()))))
        return DueBatch(due, len(self._queue), next_due_at)

    @_writes
    async def apply_plans(self, plans: Sequence[Plan], now: Moment) -> Sequence[PlanVerdict]:
        return [self._apply_plan(plan, now) for plan in plans]

    def _apply_plan(self, plan: Plan, now: Moment) -> PlanVerdict:
        row = self._tasks.get(plan.task_id)
        if row is None or not _fits(row, plan):
            return PlanVerdict.MOVED
        self._write_plan(row, plan, now)
        return PlanVerdict.APPLIED

    def _write_plan(self, row: _TaskRow, plan: Plan, now: Moment) -> None:
        for new in plan.executions:
            self._queue_up(new)
        for skip in plan.skips:
            self._skips.setdefault(plan.task_id, []).append(_SkipRow(skip, now, self._number()))
        row.cursor = plan.cursor_after
        self._set_next(row, plan.next_run_at)

    @_writes
    async def enqueue(self, new: NewExecution, *, queue_limit: int) -> Execution:
        # The key comes first: a repeated request gets the first answer, even if the queue has filled meanwhile.
        if new.key not in self._keys:
            if new.task_id not in self._tasks:
                raise NotFound("task", new.task_id)
            if len(self._queue) >= queue_limit:
                raise LimitReached(f"{queue_limit} executions are queued already", code="queue_full")
            self._queue_up(new)
        return _own_execution(self._rows[self._keys[new.key]].execution)

    def _queue_up(self, new: NewExecution) -> None:
        """Queue *new*, unless its key exists (it was done before) or its task is gone (nobody could run it)."""
        if new.key in self._keys or new.task_id not in self._tasks:
            return
        queued = Execution(
            id=new.id,
            task_id=new.task_id,
            cause=new.cause,
            state=State.QUEUED,
            priority=new.priority,
            scheduled_for=new.scheduled_for,
            queued_at=new.queued_at,
            available_at=new.available_at,
            parameters=deepcopy(new.parameters),
            requested_by=new.requested_by,
            follows=new.follows,
        )
        self._keys[new.key] = new.id
        self._rows[new.id] = row = _Row(queued, new.key, self._number())
        self._enter(row)

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    # ── queued → claimed → settled ───────────────────────────────────────────────────────────────

    @_writes
    async def claim(self, request: ClaimRequest) -> ClaimBatch:
        chosen = list(islice(self._eligible(request.now), max(0, request.limit)))
        claims = [self._start(row, request) for row in chosen]
        early = max(0, min(request.early, request.limit - len(claims)))
        chosen = list(islice(self._eligible(request.early_until), early))
        claims += [self._start(row, request) for row in chosen]
        if len(claims) >= request.limit:
            return ClaimBatch(claims, None)
        looked_until = request.now if len(chosen) >= early else request.early_until
        waiting = [available_at for _, available_at, _, _ in self._queue if available_at > looked_until]
        return ClaimBatch(claims, min(waiting, default=None))

    def _eligible(self, now: Moment) -> Iterator[_Row]:
        """What may be claimed at *now*, in the order of the queue; of a task that allows no overlap only one."""
        offered: set[TaskId] = set()
        for _, available_at, _, execution_id in self._queue:
            row = self._rows[execution_id]
            task = self._tasks[row.execution.task_id].task
            alone = task.policy.overlap is not Overlap.ALLOW
            if available_at > now or (alone and (self._busy[task.id] or task.id in offered)):
                continue
            offered.add(task.id)
            yield row

    def _start(self, row: _Row, request: ClaimRequest) -> Claim:
        waiting = row.execution
        attempt = Attempt(
            attempt=waiting.attempt + 1,
            epoch=waiting.epoch + 1,
            worker_id=request.worker_id,
            started_at=max(request.now, waiting.available_at),
        )
        row.claim_id = request.claim_id
        self._move(
            row,
            replace(
                waiting,
                state=State.RUNNING,
                attempt=attempt.attempt,
                epoch=attempt.epoch,
                worker_id=attempt.worker_id,
                started_at=attempt.started_at,
                attempts=(*waiting.attempts, attempt),
            ),
        )
        return self._claim_of(row)

    def _claim_of(self, row: _Row) -> Claim:
        running = row.execution
        assert running.worker_id is not None
        assert running.started_at is not None
        return Claim(
            execution_id=running.id,
            epoch=running.epoch,
            attempt=running.attempt,
            task=_own_task(self._tasks[running.task_id].task),
            cause=running.cause,
            priority=running.priority,
            worker_id=running.worker_id,
            scheduled_for=running.scheduled_for,
            queued_at=running.queued_at,
            available_at=running.available_at,
            started_at=running.started_at,
            parameters=deepcopy(running.parameters),
            failures=running.failures,
            losses=running.losses,
            beat=running.beat,
        )

    async def claimed_by(self, claim_id: str) -> Sequence[Claim]:
        rows = [row for row in self._running.values() if row.claim_id == claim_id]
        # Of a task that was deleted since there is nothing left to run; the mark for cancel is set already.
        return [self._claim_of(row) for row in rows if row.execution.task_id in self._tasks]

    @_writes
    async def renew(self, claims: Sequence[tuple[ExecutionId, int]]) -> Sequence[RenewVerdict]:
        return [self._renew(execution_id, epoch) for execution_id, epoch in claims]

    def _renew(self, execution_id: ExecutionId, epoch: int) -> RenewVerdict:
        row = self._running.get(execution_id)
        if row is None or row.execution.epoch != epoch:
            return RenewVerdict.LOST
        row.execution = replace(row.execution, beat=row.execution.beat + 1)
        return RenewVerdict.CANCEL if row.execution.cancel_requested else RenewVerdict.KEPT

    @_writes
    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[SettleVerdict]:
        return [self._settle(settlement) for settlement in settlements]

    def _settle(self, settlement: Settlement) -> SettleVerdict:
        row = self._rows.get(settlement.execution_id)
        if row is None:
            return SettleVerdict.STALE
        if any(settlement.wrote(attempt) for attempt in row.execution.attempts):
            return SettleVerdict.REPEATED
        if not _may_settle(row.execution, settlement):
            _note_late(row, settlement)
            return SettleVerdict.STALE
        written = settlement.if_cancelled() if row.execution.cancel_requested else settlement
        self._end_attempt(row, written)
        for new in written.followups:
            self._queue_up(new)
        return SettleVerdict.APPLIED if written == settlement else SettleVerdict.CANCELLED

    def _end_attempt(self, row: _Row, written: Settlement) -> None:
        running = row.execution
        again = written.state is State.QUEUED
        if again and written.detail:
            row.details[running.epoch] = deepcopy(written.detail)
        settled = replace(
            running,
            state=written.state,
            available_at=running.available_at if written.available_at is None else written.available_at,
            epoch=running.epoch + (1 if again else 0),
            failures=written.failures,
            losses=written.losses,
            completed_at=None if again else written.ended_at,
            outcome=written.outcome,
            output=written.output,
            error=written.error,
            truncated=written.truncated,
            detail=deepcopy(written.detail),
            attempts=(*running.attempts[:-1], written.attempt),
        )
        self._move(row, settled)
        self._count(settled)

    def _count(self, execution: Execution) -> None:
        """Add an execution to its task's tally, if it has just ended and the task is still there."""
        task_row = self._tasks.get(execution.task_id)
        if task_row is not None and execution.completed_at is not None:
            task_row.tally = task_row.tally.counting(
                succeeded=execution.state is State.COMPLETED,
                started_at=execution.started_at,
                ended_at=execution.completed_at,
                error=execution.error,
            )

    @_writes
    async def request_cancel(
        self, *, execution_id: ExecutionId | None = None, task_id: TaskId | None = None, now: Moment
    ) -> Sequence[tuple[ExecutionId, CancelVerdict]]:
        if task_id is not None:
            return self._cancel_all(task_id, now)
        row = None if execution_id is None else self._rows.get(execution_id)
        return [] if row is None else [(row.execution.id, self._cancel(row, now))]

    def _cancel_all(self, task_id: TaskId, now: Moment) -> list[tuple[ExecutionId, CancelVerdict]]:
        active = list(self._active.get(task_id, {}).values())
        return [(row.execution.id, self._cancel(row, now)) for row in active]

    def _cancel(self, row: _Row, now: Moment) -> CancelVerdict:
        if row.execution.state.is_ended:
            return CancelVerdict.ENDED
        marked = replace(row.execution, cancel_requested=True)
        if marked.state is State.RUNNING:
            self._move(row, marked)
            return CancelVerdict.MARKED
        cancelled = replace(
            marked,
            state=State.CANCELLED,
            completed_at=now,
            outcome=ExecutionOutcome.CANCELLED,
            output=CANCELLED_OUTPUT,
            error=CANCELLED_ERROR,
        )
        self._move(row, cancelled)
        self._count(cancelled)
        return CancelVerdict.CANCELLED

    async def cancel_wishes(self, worker_id: WorkerId) -> Sequence[tuple[ExecutionId, int]]:
        running = [row.execution for row in self._running.values()]
        return [(e.id, e.epoch) for e in running if e.worker_id == worker_id and e.cancel_requested]

    async def running(self) -> Sequence[Running]:
        return [self._running_of(row.execution) for row in self._running.values()]

    def _running_of(self, execution: Execution) -> Running:
        task_row = self._tasks.get(execution.task_id)
        assert execution.worker_id is not None
        assert execution.started_at is not None
        return Running(
            execution_id=execution.id,
            epoch=execution.epoch,
            beat=execution.beat,
            attempt=execution.attempt,
            worker_id=execution.worker_id,
            started_at=execution.started_at,
            task=None if task_row is None else _own_task(task_row.task),
            task_id=execution.task_id,
            scheduled_for=execution.scheduled_for,
            failures=execution.failures,
            losses=execution.losses,
            cancel_requested=execution.cancel_requested,
        )

    def _move(self, row: _Row, execution: Execution) -> None:
        """Let *execution* be the newest of *row*. Every change of state goes through here, so no index ever differs."""
        self._leave(row)
        row.execution = execution
        self._enter(row)

    def _leave(self, row: _Row) -> None:
        old = row.execution
        if old.completed_at is not None:
            self._ended.remove((old.completed_at, old.id))
            return
        del self._active[old.task_id][old.id]
        if not self._active[old.task_id]:
            del self._active[old.task_id]
        if old.state is State.QUEUED:
            self._queue.remove(row.turn)
        else:
            del self._running[old.id]
            self._busy[old.task_id] -= 1

    def _enter(self, row: _Row) -> None:
        new = row.execution
        if new.completed_at is not None:
            self._ended.add((new.completed_at, new.id))
            return
        self._active.setdefault(new.task_id, {})[new.id] = row
        if new.state is State.QUEUED:
            self._queue.add(row.turn)
        else:
            self._running[new.id] = row
            self._busy[new.task_id] += 1

    # ── instances, care ──────────────────────────────────────────────────────────────────────────

    @_writes
    async def announce(self, instance: Instance, *, now: Moment) -> None:
        _, counter, _ = self._instances.get(instance.id, (instance, 0, now))
        self._instances[instance.id] = (instance, counter + 1, now)

    async def instances(self) -> Sequence[tuple[Instance, int, Moment]]:
        return list(self._instances.values())

    @_writes
    async def retire(self, instance_ids: Sequence[WorkerId]) -> None:
        for instance_id in instance_ids:
            self._instances.pop(instance_id, None)

    @_writes
    async def reanchor(self, *, beyond: Moment, now: Moment) -> int:
        strayed = [row for row in self._tasks.values() if row.cursor > beyond]
        for row in strayed:
            row.cursor = now
            self._set_next(row, row.task.next_run_if_readable(now))
        put_off = [self._rows[id] for _, available_at, _, id in self._queue if available_at > beyond]
        for waiting in put_off:
            self._move(waiting, replace(waiting.execution, available_at=now))
        return len(strayed) + len(put_off)

    @_writes
    async def purge(self, *, before: Moment, limit: int) -> tuple[int, int]:
        old = [execution_id for ended_at, execution_id in islice(self._ended, limit) if ended_at < before]
        for execution_id in old:
            row = self._rows.pop(execution_id)
            del self._keys[row.key]
            self._leave(row)
        return len(old), self._purge_skips(before, limit)

    def _purge_skips(self, before: Moment, limit: int) -> int:
        rows = [(row.decided_at, row.number, task_id, row) for task_id, rows in self._skips.items() for row in rows]
        old = sorted(entry for entry in rows if entry[0] < before)[:limit]
        for _, _, task_id, row in old:
            self._skips[task_id].remove(row)
            if not self._skips[task_id]:
                del self._skips[task_id]
        return len(old)

    # ── reads ────────────────────────────────────────────────────────────────────────────────────

    async def get_execution(self, execution_id: ExecutionId) -> Execution | None:
        row = self._rows.get(execution_id)
        return None if row is None else _own_execution(row.execution)

    async def earlier_details(self, execution_id: ExecutionId) -> Mapping[int, JsonObject]:
        row = self._rows.get(execution_id)
        return {} if row is None else deepcopy(row.details)

    async def list_executions(self, filter: ExecutionFilter, page: PageRequest) -> Page[Execution]:
        every = (row.execution for row in self._rows.values())
        found: list[tuple[Place, Execution]] = [((e.listed_at, e.id), e) for e in every if filter.lets_through(e)]
        listed = _page(found, page, "executions", descending=True)
        return replace(listed, items=[_own_execution(execution) for execution in listed.items])

    async def list_occurrences(self, task_id: TaskId, page: PageRequest) -> Page[LedgerEntry]:
        entries = [*self._ran(task_id), *self._not_run(task_id)]
        return _page(entries, page, "occurrences", descending=True)

    def _ran(self, task_id: TaskId) -> Iterator[tuple[Place, LedgerEntry]]:
        for row in self._rows.values():
            execution = row.execution
            if execution.task_id == task_id and execution.scheduled_for is not None:
                moment = execution.scheduled_for
                yield (
                    (moment, f"{row.number:020}"),
                    LedgerEntry(
                        scheduled_for=moment,
                        last=moment,
                        count=1,
                        verdict=Verdict.RAN,
                        execution_id=execution.id,
                        decided_at=execution.queued_at,
                    ),
                )

    def _not_run(self, task_id: TaskId) -> Iterator[tuple[Place, LedgerEntry]]:
        for row in self._skips.get(task_id, ()):
            skip = row.skip
            yield (
                (skip.first, f"{row.number:020}"),
                LedgerEntry(
                    scheduled_for=skip.first,
                    last=skip.last,
                    count=skip.count,
                    verdict=skip.reason.verdict,
                    reason=skip.reason,
                    decided_at=row.decided_at,
                ),
            )

    async def statistics(self, now: Moment) -> Statistics:
        today = [self._rows[id].execution for ended_at, id in self._ended if ended_at >= day_start(now)]
        completed = sum(execution.state is State.COMPLETED for execution in today)
        runtimes = [execution.duration for execution in today if execution.duration is not None]
        return Statistics(
            total_tasks=len(self._tasks),
            enabled_tasks=sum(row.task.enabled for row in self._tasks.values()),
            running=len(self._running),
            queued=len(self._queue),
            completed_today=completed,
            failed_today=len(today) - completed,
            average_runtime=sum(runtimes) // len(runtimes) if runtimes else 0,
            next_run_at=next((moment for moment, _ in self._agenda), None),
        )


def _fits(row: _TaskRow, plan: Plan) -> bool:
    return row.cursor == plan.cursor and row.task.generation == plan.generation


def _may_settle(execution: Execution, settlement: Settlement) -> bool:
    renewed = settlement.expected_beat is not None and settlement.expected_beat != execution.beat
    return execution.state is State.RUNNING and execution.epoch == settlement.epoch and not renewed


def _note_late(row: _Row, settlement: Settlement) -> None:
    """Note a refused result on the attempt that was ended as lost in its place; a second reaper brings no result."""
    late = settlement.attempt.outcome
    if late is None or late is AttemptOutcome.LOST:
        return
    row.execution = replace(
        row.execution,
        attempts=tuple(
            attempt.noting_late(late)
            if attempt.epoch == settlement.epoch and attempt.outcome is AttemptOutcome.LOST
            else attempt
            for attempt in row.execution.attempts
        ),
    )


# ── values are nobody else's ─────────────────────────────────────────────────────────────────────
# Records are frozen, but the JSON inside them is not: a function that empties its parameters must not empty the store.


def _own_task(task: Task) -> Task:
    if isinstance(task.payload, HttpPayload) or not task.payload.parameters:
        return task
    return replace(task, payload=deepcopy(task.payload))


def _own_execution(execution: Execution) -> Execution:
    if not execution.parameters and not execution.detail:
        return execution
    return replace(execution, parameters=deepcopy(execution.parameters), detail=deepcopy(execution.detail))


# ── pages ────────────────────────────────────────────────────────────────────────────────────────


def _page(found: Iterable[tuple[Place, Item]], page: PageRequest, list_name: str, *, descending: bool) -> Page[Item]:
    """The part of *found*, in the order of the places, that *page* asks for."""
    ordered = sorted(found, key=lambda entry: entry[0], reverse=descending)
    rest = ordered[page.offset :]
    if page.cursor:
        shape = str if list_name.startswith("tasks by name") else int
        after = read_cursor(list_name, page.cursor, shape, str)
        rest = [entry for entry in ordered if (entry[0] < after if descending else entry[0] > after)]
    shown = rest[: page.size]
    return Page(
        items=[item for _, item in shown],
        total=min(len(ordered), COUNT_MAX),
        total_exact=len(ordered) <= COUNT_MAX,
        next_cursor=write_cursor(list_name, *shown[-1][0]) if len(rest) > len(shown) > 0 else None,
    )
