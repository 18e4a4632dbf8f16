"""The memory of the house: three narrow protocols, judged by one suite (``peregrine.testing.store_contract``).

Rules for every verb. It takes and gives batches; each item is atomic by itself; SQLite writes a batch in one
transaction, MongoDB each item as operations on single documents that finish what a crash left torn. It may raise
``Unavailable`` (nothing was written, unless it is ``Unsure``: then perhaps) and nothing else but what it names. It
takes no decision: what depends on time, policy or chance is in the values it is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from peregrine.domain.execution import Claim, Execution, NewExecution, Running, Settlement
from peregrine.domain.ids import ExecutionId, TaskId, WorkerId
from peregrine.domain.moment import Moment
from peregrine.domain.occurrence import LedgerEntry
from peregrine.domain.payload import JsonObject
from peregrine.domain.planning import DueTask, Plan
from peregrine.domain.query import ExecutionFilter, Page, PageRequest, TaskFilter, TaskSort
from peregrine.domain.statistics import Statistics
from peregrine.domain.task import Task, TaskView
from peregrine.ports.host import Instance
from peregrine.ports.records import Note


@dataclass(frozen=True, slots=True)
class DueBatch:
    """What the planner sees in one look: tasks due now, how much is queued in all, and when to look again."""

    due: Sequence[DueTask]
    queued: int
    next_due_at: Moment | None
    """The earliest ``next_run_at`` of all tasks not in ``due``; may be in the past when the batch was full."""


@dataclass(frozen=True, slots=True)
class ClaimBatch:
    """What the claimer got, and when it is worth while to ask again."""

    claims: Sequence[Claim]
    next_available_at: Moment | None
    """When the first becomes available that still waits for its moment; up to ``early_until`` one that was left
    for want of room. None: none waits, or the claimer got as many as it asked for, and had better ask again as soon as
    it has room."""


class PlanVerdict(StrEnum):
    """What became of a plan."""

    APPLIED = "applied"
    MOVED = "moved"
    """Refused: the cursor or the generation is not what the plan was made from. Nothing of it was written."""


class RenewVerdict(StrEnum):
    """What became of a renewal."""

    KEPT = "kept"
    CANCEL = "cancel"
    """Kept, and a cancel was asked for."""
    LOST = "lost"
    """The claim is not the newest any more, or the execution has ended: stop the run."""


class SettleVerdict(StrEnum):
    """What became of a settlement."""

    APPLIED = "applied"
    CANCELLED = "cancelled"
    """Applied as ``Settlement.if_cancelled``, because a cancel had been asked for, and that was not what was asked."""
    REPEATED = "repeated"
    """This very settlement was stored before (its answer had been lost): ``Settlement.wrote`` an attempt there."""
    STALE = "stale"
    """Refused: the claim is not the newest, or (reaper) the owner renewed. The late result was noted."""


class CancelVerdict(StrEnum):
    """What a cancel found."""

    CANCELLED = "cancelled"
    """It was queued and has ended now."""
    MARKED = "marked"
    """It runs; its worker will be told."""
    ENDED = "ended"
    """It had ended before; nothing changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRequest:
    """Who asks for how many attempts. ``claim_id`` is new for every request, so an unsure answer can be read back."""

    claim_id: str
    worker_id: WorkerId
    now: Moment
    limit: int
    rivals: int = 0
    """How many others may ask at this moment; where they could take the same ones, a store lets them go apart."""
    early: int = 0
    """Of ``limit``, how many may be claimed before their moment."""
    early_until: Moment = 0
    """Those that become available after ``now``, and no later than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskChange:
    """One change of a definition, as ``put_task`` takes it."""

    task: Task
    expected_revision: int
    plan: Plan | None = None


class TaskWrites(Protocol):
    """What changes definitions of tasks."""

    async def create_tasks(self, tasks: Sequence[Task]) -> None:
        """Store new tasks, all or none; the cursor of each starts at its ``updated_at``. Names compare exactly.

        Raises:  Conflict ``name_taken`` or ``id_taken`` (the first that clashes); Unavailable.
        """
        ...

    async def put_task(self, task: Task, *, expected_revision: int, plan: Plan | None = None) -> TaskView | None:
        """Replace a definition whose revision is *expected_revision*, and with it, in the same write, apply *plan*.

        What readers see of the task comes back, as it stands with this write; None where that would be a read.

        *plan* holds what the old definition left undecided up to now, so no occurrence falls between the two.
        Afterwards the cursor is ``max(plan.cursor_after or cursor, task.updated_at)`` if the generation changed, and
        the next moment is computed from it; else both stay as they were, or as *plan* says. What *plan* leaves out was
        decided at ``task.updated_at``.

        Raises:  NotFound; Stale (revision or plan's cursor moved: read again); Conflict ``name_taken``; Unavailable.
        """
        ...

    async def put_tasks(self, new: Sequence[Task], changes: Sequence[TaskChange]) -> None:
        """Create *new* as ``create_tasks`` does and make *changes* as ``put_task`` does, all of it or none.

        No task stands twice in it, and none takes a name that another gives up in it: that may be refused as taken,
        since a name is never free for a stranger in between. A store of single documents may show a part of it for a
        moment; after a crash it is finished, or none of it was done.

        Raises:  what those two raise, for the first that can't be done.
        """
        ...

    async def delete_task(
        self, task_id: TaskId, *, expected_revision: int | None, now: Moment
    ) -> Sequence[ExecutionId]:
        """Delete a task; what waits ends as cancelled, what runs is marked for cancel (those ids come back).

        Executions and ledger stay until they are purged. Name and id are free at once; a task made with them anew
        starts with an empty tally.

        Raises:  NotFound; Stale; Unavailable.
        """
        ...


class TaskStore(TaskWrites, Protocol):
    """Definitions of tasks. Those that are read may be shared by all who read: JSON in a payload is not changed."""

    def noting(self, *notes: Note) -> TaskWrites:
        """The verbs that change, each of which puts *notes* too: no change is there without them.

        A store that can writes them with the change, as ``done``; another one puts them as ``asked`` before it, and as
        ``done`` after it. When a change is refused they say the code of that, by the time it is raised; only
        Unavailable leaves them as ``asked`` or leaves none. Where they can't be put, nothing is changed.
        """
        ...

    async def get_task(self, task_id: TaskId) -> TaskView | None: ...

    async def get_tasks(self, task_ids: Sequence[TaskId]) -> Sequence[TaskView]:
        """Those of *task_ids* that exist, in the same order."""
        ...

    async def get_named(self, names: Sequence[str]) -> Sequence[TaskView]:
        """The tasks of those of *names* that some task has, in the same order."""
        ...

    async def list_tasks(
        self, filter: TaskFilter, page: PageRequest, *, sort: TaskSort, descending: bool, now: Moment
    ) -> Page[TaskView]:
        """One page; ``now`` decides which pauses hold.

        Raises:  Invalid for a cursor that this list, in this order, did not give.
        """
        ...


class WorkStore(Protocol):
    """The spine's verbs: the only ways in which work moves."""

    async def due(self, now: Moment, limit: int) -> DueBatch:
        """Up to *limit* tasks whose ``next_run_at`` is at or before *now*, the longest due first."""
        ...

    async def apply_plans(self, plans: Sequence[Plan], now: Moment) -> Sequence[PlanVerdict]:
        """Write each plan whole or not at all: executions whose key exists already are left as they are, ledger rows,
        then cursor and next moment by compare-and-swap on (cursor, generation)."""
        ...

    async def enqueue(self, new: NewExecution, *, queue_limit: int) -> Execution:
        """Queue one execution that somebody asked for; with a key that exists, the execution made then comes back.

        The key comes first: a repeated request gets the first answer though the queue is full now or the task gone.

        Raises:  NotFound (task); LimitReached ``queue_full`` when *queue_limit* are queued; Unavailable.
        """
        ...

    async def claim(self, request: ClaimRequest) -> ClaimBatch:
        """Give up to ``limit`` queued executions, durably, to the worker; only then may their effects begin.

        Eligible: queued, ``available_at <= now``, and no other execution of the same task is running unless its
        overlap policy is ``allow`` (nor two in one batch). Order: ``policy.rank``, then ``available_at``, then the
        order of creation. Each claim grows the epoch and the attempt by one and is visible to ``claimed_by`` at once.
        Whether the task is enabled or paused does not matter: what is queued runs.

        If all that is available leaves room, up to ``early`` of those that become so by ``early_until`` are claimed
        with it, in the same order: their attempts start at the moment for which they were queued, not before.
        """
        ...

    async def claimed_by(self, claim_id: str) -> Sequence[Claim]:
        """The running executions that a claim request got: the read-back after an unsure answer.

        Not those whose task was deleted since: nothing is left to run, and the reaper ends them.
        """
        ...

    async def renew(self, claims: Sequence[tuple[ExecutionId, int]]) -> Sequence[RenewVerdict]:
        """Grow the beat of each ``(execution, epoch)`` that is still the newest claim of a running execution."""
        ...

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[SettleVerdict]:
        """End attempts: outcome, next state, the task's tally and followups in one write each.

        Applied only if the execution runs with exactly that epoch (and ``expected_beat``, if set); going back to the
        queue grows the epoch. Output, error, detail, failures and losses are then what the settlement says, also in
        the queue, where the detail is kept for ``earlier_details`` too; ``started_at`` and ``worker_id`` stay those of
        the newest attempt. An end is added to the task's
        tally by ``Tally.counting``, if the task is still there. Of the followups those are made whose key is new and
        whose task exists. A refused result (not a reaper's) of an attempt that was ended as lost by somebody else is
        noted there, once, by ``Attempt.noting_late``.
        """
        ...

    async def request_cancel(
        self, *, execution_id: ExecutionId | None = None, task_id: TaskId | None = None, now: Moment
    ) -> Sequence[tuple[ExecutionId, CancelVerdict]]:
        """Cancel one execution, or all of a task that have not ended. Unknown ids give an empty list.

        Either way ``cancel_requested`` is set. What was queued ends now, with the words of ``Settlement.if_cancelled``,
        and counts in the task's tally as a failure.
        """
        ...

    async def cancel_wishes(self, worker_id: WorkerId) -> Sequence[tuple[ExecutionId, int]]:
        """The running executions of one worker, each with its epoch, for which a cancel was asked. A cheap read."""
        ...

    async def running(self) -> Sequence[Running]:
        """Everything that runs now, on all instances (never more than there are slots)."""
        ...

    async def announce(self, instance: Instance, *, now: Moment) -> None:
        """Write or refresh this process's row; with it go its wall time and a counter that others watch."""
        ...

    async def instances(self) -> Sequence[tuple[Instance, int, Moment]]:
        """All announced processes, each with its counter and the wall time it last wrote."""
        ...

    async def retire(self, instance_ids: Sequence[WorkerId]) -> None:
        """Remove rows of processes that have ended."""
        ...

    async def reanchor(self, *, beyond: Moment, now: Moment) -> int:
        """Mend what a wrong clock wrote: set cursors later than *beyond* back to *now* and compute their next moments
        anew (none for a schedule that can't be read any more), and let what is queued for later than *beyond* be
        available *now*, or its task would wait for it. How many of both.
        """
        ...

    async def purge(self, *, before: Moment, limit: int) -> tuple[int, int]:
        """Remove up to *limit* executions that ended before a moment, and as many ledger rows that were decided before
        it, the oldest first; how many of each. Tallies keep what they counted, and cursors guard what has lost its key.
        """
        ...


class HistoryStore(Protocol):
    """Reads of what happened."""

    async def get_execution(self, execution_id: ExecutionId) -> Execution | None: ...

    async def earlier_details(self, execution_id: ExecutionId) -> Mapping[int, JsonObject]:
        """What the attempts that were tried again left behind (``Settlement.detail``, if any), by their epoch.

        Apart from the execution, since a list of many has no use for it. What the newest left stands in the execution.
        """
        ...

    async def list_executions(self, filter: ExecutionFilter, page: PageRequest) -> Page[Execution]:
        """One page by ``Execution.listed_at``, then id, both descending: waiting ones first, then the newest start.

        A deep page by cursor costs what the first does; a search for a text in very many may stop early (see ``Page``).

        Raises:  Invalid for a cursor that this list did not give.
        """
        ...

    async def list_occurrences(self, task_id: TaskId, page: PageRequest) -> Page[LedgerEntry]:
        """The ledger of a task, newest first: its executions that were scheduled, and the ranges that did not run.

        Raises:  Invalid for a cursor that this list did not give.
        """
        ...

    async def statistics(self, now: Moment) -> Statistics: ...


class Store(TaskStore, WorkStore, HistoryStore, Protocol):
    """All three, and the door."""

    async def open(self) -> None:
        """Make ready; safe to call once. Raises UnsafeStore when the store must not be used."""
        ...

    async def close(self) -> None:
        """Finish what is under way and let go; safe twice."""
        ...

    async def ping(self) -> None:
        """Answer if the store can be written now. Raises Unavailable with the reason."""
        ...

    def version(self) -> int | None:
        """A number that tells whether anything was written, by whichever process; None: this store can't tell, or not
        now.

        If it is the same twice, every read between the two says the same, but for what *now* decides. A write that was
        acknowledged has changed it. It is asked before each answer, so it takes microseconds and waits for nothing.
        """
        ...
