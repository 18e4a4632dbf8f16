"""Who saw everything: checks each write as it happens and, at the end, the whole record against the effects.

The invariants are those of the guarantees (I1 to I16); ``accuse`` names the one that was broken.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from peregrine.domain.execution import AttemptOutcome, Claim, Execution, State
from peregrine.domain.ids import ExecutionId, TaskId, WorkerId
from peregrine.domain.moment import SECOND
from peregrine.domain.occurrence import Verdict
from peregrine.domain.policy import LOSSES_MAX, OnWorkerLost, Overlap
from peregrine.domain.query import ExecutionFilter, PageRequest
from peregrine.domain.task import Task, TaskView
from peregrine.ports.store import CancelVerdict, SettleVerdict
from peregrine.stores.memory import MemoryStore

if TYPE_CHECKING:
    from tests.simulation.world import World

Result = TypeVar("Result")
THAW_ALLOWANCE = 1.1
"""A thawed process looks at its leases within a second (``engine.FENCE_LOOK``)."""

SET_BACK_ALLOWANCE = 20.0
"""What was claimed by the clock as it was before begins within this, however slow the wire and long the freeze."""


def now_(coro: Coroutine[Any, Any, Result]) -> Result:
    """The result of a coroutine that never waits."""
    try:
        coro.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    raise AssertionError("the memory store waited")


@dataclass
class Effect:
    """What the outside world felt of an attempt, in true seconds."""

    execution_id: ExecutionId
    task_id: TaskId
    attempt: int
    epoch: int
    worker: WorkerId
    began: float
    ended: float | None = None
    stubborn: bool = False


@dataclass
class Segment:
    """A stretch of schedule time under one definition of a task; ``upto`` None: it is the present one."""

    task: Task
    after: int
    upto: int | None = None


@dataclass
class Seen:
    """One call under watch."""

    result: Any = None


@dataclass
class Witness:
    """See the module."""

    store: MemoryStore
    world: World
    accusations: list[str] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    created: set[TaskId] = field(default_factory=set)
    deleted: set[TaskId] = field(default_factory=set)
    segments: dict[TaskId, list[Segment]] = field(default_factory=lambda: defaultdict(list))
    overlapping: set[TaskId] = field(default_factory=set)
    once_only: dict[TaskId, bool] = field(default_factory=dict)
    most_retries: Counter[TaskId] = field(default_factory=Counter)
    acked: list[tuple[str, Any]] = field(default_factory=list)
    cancels: dict[ExecutionId, float] = field(default_factory=dict)
    _claims: dict[tuple[ExecutionId, int], float] = field(default_factory=dict)
    _open: dict[WorkerId, list[Effect]] = field(default_factory=lambda: defaultdict(list))

    def accuse(self, invariant: str, what: str) -> None:
        self.accusations.append(f"{invariant}: {what} (at {self._now():.3f} s)")

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    # ── effects ─────────────────────────────────────────────────────────────────────────────────

    def effect_begins(self, worker: WorkerId, claim: Claim) -> Effect:
        effect = Effect(claim.execution_id, claim.task.id, claim.attempt, claim.epoch, worker, self._now())
        row = now_(self.store.get_execution(claim.execution_id))
        if row is None or not any((a.attempt, a.epoch) == (claim.attempt, claim.epoch) for a in row.attempts):
            self.accuse("I4", f"{claim.execution_id} attempt {claim.attempt} began without a record")
        self._check_moment(worker, claim)
        marked = self.cancels.get(claim.execution_id)
        if marked is not None and self._claims.get((claim.execution_id, claim.attempt), 0.0) > marked:
            self.accuse("I15", f"{claim.execution_id} began an attempt claimed after its cancel")
        self.effects.append(effect)
        self._open[worker].append(effect)
        return effect

    def _check_moment(self, worker: WorkerId, claim: Claim) -> None:
        """It begins at its moment or later, by the clock of its process, unless that was just set back."""
        node, moment = self.world.everyone[worker], claim.available_at
        if node.now() < moment and node.set_back_at < self._now() - SET_BACK_ALLOWANCE:
            self.accuse("I3", f"{claim.execution_id} began {moment - node.now()} ms before its moment")

    def effect_ends(self, effect: Effect) -> None:
        if effect.ended is None:
            effect.ended = self._now()
            self._open[effect.worker].remove(effect)

    def died(self, worker: WorkerId) -> None:
        for effect in self._open.pop(worker, []):
            effect.ended = self._now()

    # ── each write ──────────────────────────────────────────────────────────────────────────────

    @contextlib.contextmanager
    def watching(self, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Seen]:
        seen = Seen()
        rows = {e: now_(self.store.get_execution(e)) for e in self._touched(verb, args, kwargs)}
        views = {t: now_(self.store.get_task(t)) for t in self._touched_tasks(verb, args)}
        yield seen
        if seen.result is None and verb not in ("create_tasks", "put_task"):
            return
        for execution_id, before in rows.items():
            self._check_move(verb, before, now_(self.store.get_execution(execution_id)))
        for task_id, view in views.items():
            self._check_task(verb, task_id, view, now_(self.store.get_task(task_id)))
        if verb == "claim":
            for claim in seen.result.claims:
                self._claims[claim.execution_id, claim.attempt] = self._now()
                self._check_claim(claim)
        if verb == "request_cancel":
            self._note_cancels(seen.result)
        if verb == "delete_task":
            self.cancels.update(dict.fromkeys(seen.result, self._now()))
        if verb == "settle":
            self._check_settled(args[0], seen.result, rows)

    @staticmethod
    def _touched(verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[ExecutionId]:
        match verb:
            case "settle":
                return [s.execution_id for s in args[0]]
            case "renew":
                return [e for e, _ in args[0]]
            case "request_cancel" if kwargs.get("execution_id"):
                return [kwargs["execution_id"]]
        return []

    @staticmethod
    def _touched_tasks(verb: str, args: tuple[Any, ...]) -> list[TaskId]:
        match verb:
            case "create_tasks":
                return [t.id for t in args[0]]
            case "put_task":
                return [args[0].id]
            case "apply_plans":
                return [p.task_id for p in args[0]]
            case "delete_task":
                return [args[0]]
        return []

    def _check_move(self, verb: str, before: Execution | None, after: Execution | None) -> None:
        if before is None or after is None:
            return
        if before.state.is_ended and (before.state, before.outcome, before.completed_at, before.output) != (
            after.state,
            after.outcome,
            after.completed_at,
            after.output,
        ):
            self.accuse("I7", f"{verb} changed {before.id} after its end: {before.state} → {after.state}")
        if after.epoch < before.epoch:
            self.accuse("I8", f"{verb} took the epoch of {before.id} back")
        if before.state is State.RUNNING and after.state is State.QUEUED and after.epoch <= before.epoch:
            self.accuse("I8", f"{verb} put {before.id} back into the queue without a new epoch")

    def _check_settled(self, settlements: Any, verdicts: Any, rows: dict[ExecutionId, Execution | None]) -> None:
        for settlement, verdict in zip(settlements, verdicts, strict=True):
            before = rows[settlement.execution_id]
            applied = verdict in (SettleVerdict.APPLIED, SettleVerdict.CANCELLED)
            if applied and (before is None or before.epoch != settlement.epoch or before.state is not State.RUNNING):
                self.accuse("I8", f"a settlement of {settlement.execution_id} was accepted with a stale epoch")

    def _check_claim(self, claim: Claim) -> None:
        row = now_(self.store.get_execution(claim.execution_id))
        if row is None or row.epoch != claim.epoch or row.state is not State.RUNNING:
            self.accuse("I4", f"claim of {claim.execution_id} is not what is stored")
        if claim.task.policy.overlap is not Overlap.ALLOW:
            others = [r for r in now_(self.store.running()) if r.task_id == claim.task.id]
            if len(others) > 1:
                self.accuse("I9", f"{claim.task.id} has {len(others)} claims at once")

    def _note_cancels(self, result: Any) -> None:
        for execution_id, verdict in result:
            if verdict is not CancelVerdict.ENDED:
                self.cancels.setdefault(execution_id, self._now())

    def _check_task(self, verb: str, task_id: TaskId, before: TaskView | None, after: TaskView | None) -> None:
        if before is not None and after is not None and after.cursor < before.cursor:
            self.accuse("I13", f"{verb} took the cursor of {task_id} back")
        if before is None and after is not None:
            self.created.add(task_id)
            self._note_definition(after.task)
            self.segments[task_id].append(Segment(after.task, after.cursor))
        elif before is not None and after is not None and before.task.revision != after.task.revision:
            self._note_definition(after.task)
            self.segments[task_id][-1].upto = after.cursor
            self.segments[task_id].append(Segment(after.task, after.cursor))
        elif before is not None and after is None:
            self.deleted.add(task_id)

    def _note_definition(self, task: Task) -> None:
        if task.policy.overlap is Overlap.ALLOW:
            self.overlapping.add(task.id)
        once = task.policy.on_worker_lost is OnWorkerLost.FAIL and task.policy.max_retries == 0
        self.once_only[task.id] = self.once_only.get(task.id, True) and once
        self.most_retries[task.id] = max(self.most_retries[task.id], task.policy.max_retries)

    def acknowledged(self, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        self.acked.append((verb, (args, kwargs, result)))

    # ── the end ─────────────────────────────────────────────────────────────────────────────────

    def active(self) -> bool:
        """Whether anything is queued or runs."""
        return any(not e.state.is_ended for e in self._executions())

    def _executions(self) -> list[Execution]:
        found: list[Execution] = []
        cursor: str | None = None
        while True:
            page = now_(self.store.list_executions(ExecutionFilter(), PageRequest(size=100, cursor=cursor)))
            found.extend(page.items)
            cursor = page.next_cursor
            if cursor is None:
                return found

    def judge(self) -> None:
        """Hold the whole record against the effects and the schedules."""
        executions = self._executions()
        self._judge_uniqueness(executions)
        self._judge_ends(executions)
        self._judge_effects(executions)
        self._judge_overlaps()
        for task_id in sorted(self.created - self.deleted):
            self._judge_occurrences(task_id, executions)
            self._judge_tally(task_id, executions)
        self._judge_acknowledged(executions)

    def _judge_uniqueness(self, executions: list[Execution]) -> None:
        keys = Counter((e.task_id, e.scheduled_for) for e in executions if e.scheduled_for is not None)
        for key, count in keys.items():
            if count > 1:
                self.accuse("I1", f"{key} has {count} executions")

    def _judge_ends(self, executions: list[Execution]) -> None:
        for e in executions:
            if not e.state.is_ended:
                self.accuse("I10", f"{e.id} of {e.task_id} is still {e.state} after the quiet")
            unexplained = [
                a
                for a in e.attempts[:-1]
                if a.outcome
                not in (
                    AttemptOutcome.FAILED,
                    AttemptOutcome.TIMED_OUT,
                    AttemptOutcome.LOST,
                    AttemptOutcome.INTERRUPTED,
                )
            ]
            if unexplained:
                self.accuse("I6", f"{e.id} was repeated after {unexplained[0].outcome}")
            outcomes = Counter(a.outcome for a in e.attempts)
            spare = outcomes[AttemptOutcome.LOST] + outcomes[AttemptOutcome.INTERRUPTED]
            if len(e.attempts) > 1 + self.most_retries[e.task_id] + spare:
                self.accuse("I11", f"{e.id} has {len(e.attempts)} attempts: {dict(outcomes)}")
            if outcomes[AttemptOutcome.LOST] > LOSSES_MAX:
                self.accuse("I11", f"{e.id} was recovered {outcomes[AttemptOutcome.LOST]} times")

    def _judge_effects(self, executions: list[Execution]) -> None:
        rows = {e.id: e for e in executions}
        for key, count in Counter((x.execution_id, x.attempt) for x in self.effects).items():
            if count > 1:
                self.accuse("I5", f"{key} had {count} effects")
        for x in self.effects:
            row = rows.get(x.execution_id)
            known = row is not None and any(
                (a.attempt, a.epoch, a.worker_id) == (x.attempt, x.epoch, x.worker) for a in row.attempts
            )
            if not known:
                self.accuse("I4", f"{x.execution_id} attempt {x.attempt} of {x.worker} left no record")
        starts = Counter(x.execution_id for x in self.effects)
        for execution_id, count in starts.items():
            row = rows.get(execution_id)
            if row is None:
                self.accuse("I4", f"{execution_id} had an effect and no record")
            elif count > 1 and self.once_only.get(row.task_id):
                self.accuse("P2", f"{execution_id} began {count} times, at most once was promised")

    def _judge_overlaps(self) -> None:
        by_execution: dict[str, list[Effect]] = defaultdict(list)
        by_task: dict[str, list[Effect]] = defaultdict(list)
        for x in self.effects:
            by_execution[x.execution_id].append(x)
            if x.task_id not in self.overlapping:
                by_task[x.task_id].append(x)
        for group in (*by_execution.values(), *by_task.values()):
            group.sort(key=lambda x: x.began)
            for i, x in enumerate(group):
                for y in group[i + 1 :]:
                    self._judge_pair(x, y)

    def _judge_pair(self, x: Effect, y: Effect) -> None:
        ended = x.ended if x.ended is not None else self._now()
        if x.stubborn or y.began >= ended or y.ended == y.began:
            return
        # Promise P5 excuses a process that was frozen for longer than its lease, until it has noticed.
        # Freezes in a row count together, also one between the asking for the claim and the beginning.
        freezes = self.world.everyone[x.worker].freezes
        frozen = [f for f in freezes if f[1] > x.began - LEASE_SECONDS and f[0] < ended]
        excused_until = max((thawed + THAW_ALLOWANCE for _, thawed in frozen), default=0.0)
        long_enough = sum(t1 - max(t0, x.began - LEASE_SECONDS) for t0, t1 in frozen) >= FROZEN_SECONDS
        if not (long_enough and ended <= excused_until):
            self.accuse(
                "I9",
                f"{x.execution_id}/{x.attempt} on {x.worker} [{x.began:.2f}, {ended:.2f}] and "
                f"{y.execution_id}/{y.attempt} on {y.worker} [{y.began:.2f}, {y.ended}]",
            )

    def _judge_occurrences(self, task_id: TaskId, executions: list[Execution]) -> None:
        view = now_(self.store.get_task(task_id))
        assert view is not None
        expected: set[int] = set()
        segments = self.segments[task_id]
        segments[-1].upto = view.cursor
        for s in segments:
            if s.task.enabled and s.upto is not None and s.upto > s.after:
                expected.update(s.task.trigger.latest_between(s.after, s.upto, 100_000))
        ran = Counter(e.scheduled_for for e in executions if e.task_id == task_id and e.scheduled_for is not None)
        skipped = self._skipped(task_id, segments)
        for moment in sorted(expected | set(ran) | set(skipped)):
            count = ran[moment] + skipped[moment]
            if moment not in expected:
                self.accuse("I3", f"{task_id} at {moment}: invented ({ran[moment]} ran, {skipped[moment]} skipped)")
            elif count != 1:
                self.accuse("I2", f"{task_id} at {moment}: {ran[moment]} ran, {skipped[moment]} skipped")

    def _skipped(self, task_id: TaskId, segments: list[Segment]) -> Counter[int]:
        skipped: Counter[int] = Counter()
        number = 1
        while True:
            page = now_(self.store.list_occurrences(task_id, PageRequest(number=number, size=100)))
            for entry in page.items:
                if entry.verdict is Verdict.RAN:
                    continue
                if entry.reason is None:
                    self.accuse("P9", f"{task_id} at {entry.scheduled_for} was skipped without a reason")
                moments = self._range(segments, entry.scheduled_for, entry.last)
                if len(moments) != entry.count:
                    self.accuse("I2", f"{task_id}: a range says {entry.count} and holds {len(moments)}")
                skipped.update(moments)
            if number * 100 >= page.total:
                return skipped
            number += 1

    @staticmethod
    def _range(segments: list[Segment], first: int, last: int) -> list[int]:
        for s in segments:
            if s.upto is not None and s.after < first and last <= s.upto and s.task.enabled:
                return s.task.trigger.latest_between(first - 1, last, 100_000)
        return []

    def _judge_tally(self, task_id: TaskId, executions: list[Execution]) -> None:
        view = now_(self.store.get_task(task_id))
        assert view is not None
        mine = [e for e in executions if e.task_id == task_id and e.state.is_ended]
        good = sum(e.state is State.COMPLETED for e in mine)
        told = (view.tally.total_runs, view.tally.success_count, view.tally.failure_count)
        if told != (len(mine), good, len(mine) - good):
            self.accuse("I14", f"{task_id} tells {told}, a recount finds {(len(mine), good, len(mine) - good)}")
        if view.running or view.queued:
            self.accuse("I14", f"{task_id} tells {view.running} running, {view.queued} queued after the quiet")

    def _judge_acknowledged(self, executions: list[Execution]) -> None:
        rows = {e.id: e for e in executions}
        for verb, (args, _, result) in self.acked:
            if verb == "enqueue" and result.id not in rows:
                self.accuse("I12", f"acknowledged execution {result.id} is gone")
            if verb == "create_tasks" and args[0][0].id not in self.created:
                self.accuse("I12", f"acknowledged task {args[0][0].id} is gone")
        for execution_id, marked in self.cancels.items():
            row = rows[execution_id]
            late = [x for x in self.effects if x.execution_id == execution_id and x.began > marked]
            claimed_late = [x for x in late if self._claims.get((x.execution_id, x.attempt), 0.0) > marked]
            if claimed_late:
                self.accuse("I15", f"{row.id} began again after its cancel was acknowledged")


LEASE_SECONDS = 6.0
FROZEN_SECONDS = 4.5
"""Lease less margin: a process frozen for less keeps its lease (``EngineSettings.margin``)."""

assert SECOND == 1000
