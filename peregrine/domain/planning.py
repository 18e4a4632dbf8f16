"""Owns the decision for one due task: what runs, what is recorded as not run, and when to look again.
Must not know how a plan is written.

Every instant in ``(cursor, now]`` gets exactly one verdict. The steps, oldest instant first: what fell into a pause
is skipped; what is older than ``catchup_window`` is too old; what is later than ``misfire_grace`` goes by the misfire
policy; the rest is in time. Then the overlap policy and the room in the queue have their say.
"""

from __future__ import annotations

from typing import Final

from peregrine.domain.execution import Cause, NewExecution
from peregrine.domain.ids import TaskId
from peregrine.domain.moment import SECOND, Duration, Moment
from peregrine.domain.occurrence import Reason, Skip, occurrence_execution_id, occurrence_key
from peregrine.domain.policy import Misfire, OnWorkerLost, Overlap
from peregrine.domain.record import record
from peregrine.domain.task import Task
from peregrine.domain.trigger import Trigger

QUEUE_PATIENCE: Final[Duration] = 2 * SECOND
"""How long an occurrence stays due while the queue is full, before it is recorded as skipped (decision 0014)."""
AHEAD: Final[Duration] = 80
"""How long before its moment an occurrence may be decided and claimed, where nothing else can come of it (decision
0115)."""
_REPLACED: Final = frozenset({Reason.COALESCED, Reason.CATCHUP_MAX})


@record(frozen=True, slots=True)
class DueTask:
    """A task whose next moment has come. ``active`` counts its executions that have not ended."""

    task: Task
    cursor: Moment
    active: int


@record(frozen=True, slots=True, kw_only=True)
class Plan:
    """The decision for one due task. Written whole or not at all: refused when the cursor or the generation moved."""

    task_id: TaskId
    generation: int
    cursor: Moment
    cursor_after: Moment
    next_run_at: Moment | None
    executions: tuple[NewExecution, ...] = ()
    skips: tuple[Skip, ...] = ()


def plan(due: DueTask, now: Moment, room: int) -> Plan | None:
    """The plan for *due* at *now*, or None to leave it due a little longer because the queue is full.

    Shape:   pure; at most ``catchup_max`` executions, oldest first, never more than *room*; ids and keys are made
             from (task, moment), so planning the same again gives the same.
    Units:   moments in milliseconds; scheduled ones are whole seconds.
    Source:  guarantees, step D; misfire words as in Quartz and Temporal; decisions 0007 and 0014.
    """
    task, trigger = due.task, due.task.trigger
    if (usual := _usual_plan(due, trigger, now, room)) is not None:
        return usual
    decided = _Decision(trigger)
    start = due.cursor
    if task.pause is not None:
        held_until = now if task.pause.until is None else min(now, task.pause.until - 1)
        if held_until > start:
            decided.leave_out(start, held_until, Reason.PAUSED)
            start = held_until
    runs = _choose(due, decided, start, now)
    if len(runs) > room:
        if now - decided.waiting_since(runs[0]) < QUEUE_PATIENCE:
            return None
        for moment in runs[room:]:
            decided.leave_out_one(moment, Reason.QUEUE_FULL)
        runs = runs[:room]
    last = max([due.cursor, *runs[-1:], *(skip.last for skip in decided.skips)])
    return Plan(
        task_id=task.id,
        generation=task.generation,
        cursor=due.cursor,
        cursor_after=last,
        next_run_at=task.next_run_at(last),
        executions=tuple(_execution(task, moment, now) for moment in runs),
        skips=decided.ranges(),
    )


def foreseen(due: DueTask, moment: Moment) -> Plan | None:
    """What ``plan`` will say of *due* at the coming *moment*, if nothing but a change of the task can alter that; else
    None.

    What may not run beside itself is foreseen if nothing of it is active: what a person asks for in between comes
    after it. Where a lost worker means a failure, nothing is: it would fail without ever having begun.
    """
    policy = due.task.policy
    if policy.on_worker_lost is OnWorkerLost.FAIL:
        return None
    return _usual_plan(due, due.task.trigger, moment, 1)


def _usual_plan(due: DueTask, trigger: Trigger, now: Moment, room: int) -> Plan | None:
    """The plan where exactly one moment is due, in time, and nothing stands in its way; None for every other case.

    Nearly every plan is this one; two steps of the trigger make it, and the second is ``next_run_at``.
    """
    task = due.task
    if task.pause is not None or room < 1 or (due.active and task.policy.overlap is Overlap.SKIP):
        return None
    moment = trigger.next_after(due.cursor)
    if moment is None or not now - task.policy.misfire_grace <= moment <= now:
        return None
    following = trigger.next_after(moment)
    if following is not None and following <= now:
        return None
    return Plan(
        task_id=task.id,
        generation=task.generation,
        cursor=due.cursor,
        cursor_after=moment,
        next_run_at=following,
        executions=(_execution(task, moment, now),),
    )


def _choose(due: DueTask, decided: _Decision, start: Moment, now: Moment) -> list[Moment]:
    """The moments in ``(start, now]`` to run, oldest first; all others are left out with a reason."""
    policy = due.task.policy
    # The window bounds what is caught up. What is in time is never too old, or a window of nothing would run nothing.
    too_old = max(start, now - max(policy.catchup_window, policy.misfire_grace) - 1)
    decided.leave_out(start, too_old, Reason.TOO_OLD)
    in_time_after = max(too_old, now - policy.misfire_grace - 1)
    if due.active and policy.overlap is Overlap.SKIP:
        return _choose_beside(due, decided, too_old, in_time_after, now)
    runs = _choose_late(due, decided, too_old, in_time_after) + decided.newest(in_time_after, now, policy.catchup_max)
    most, otherwise = policy.catchup_max, Reason.CATCHUP_MAX
    if policy.overlap is Overlap.SKIP and policy.misfire is not Misfire.RUN_ALL:
        # Several at once, since we were late: the newest runs in the place of all.
        most, otherwise = 1, Reason.COALESCED
    for moment in runs[:-most]:
        decided.leave_out_one(moment, otherwise)
    return runs[-most:]


def _choose_late(due: DueTask, decided: _Decision, after: Moment, upto: Moment) -> list[Moment]:
    policy = due.task.policy
    match policy.misfire:
        case Misfire.SKIP:
            decided.leave_out(after, upto, Reason.MISFIRE)
            return []
        case Misfire.RUN_ALL:
            return decided.newest(after, upto, policy.catchup_max)
        case Misfire.RUN_ONCE:
            return decided.newest(after, upto, 1, Reason.COALESCED)


def _choose_beside(due: DueTask, decided: _Decision, after: Moment, in_time_after: Moment, now: Moment) -> list[Moment]:
    """What ``overlap = skip`` lets through while an execution is active: a catch-up asked for by name, nothing else.

    Those caught up run one after another, since a claim waits for the one before.
    """
    if due.task.policy.misfire is Misfire.RUN_ONCE:
        decided.leave_out(after, now, Reason.OVERLAP)
        return []
    decided.leave_out(in_time_after, now, Reason.OVERLAP)
    return _choose_late(due, decided, after, in_time_after)


class _Decision:
    """Gathers what is left out, and joins neighbours of one reason to ranges."""

    def __init__(self, trigger: Trigger) -> None:
        self._trigger = trigger
        self.skips: list[Skip] = []

    def leave_out(self, after: Moment, upto: Moment, reason: Reason) -> None:
        """Record all moments in ``(after, upto]``, if there are any."""
        if upto <= after:
            return
        count = self._trigger.count_between(after, upto)
        if count:
            first = self._trigger.next_after(after)
            last = self._trigger.latest_between(after, upto, 1)[0]
            assert first is not None
            self.skips.append(Skip(first, last, count, reason))

    def newest(self, after: Moment, upto: Moment, most: int, otherwise: Reason = Reason.CATCHUP_MAX) -> list[Moment]:
        """The newest *most* moments in ``(after, upto]``; the older ones are left out."""
        if upto <= after:
            return []
        kept = self._trigger.latest_between(after, upto, most)
        if len(kept) == most:
            self.leave_out(after, kept[0] - 1, otherwise)
        return kept

    def waiting_since(self, oldest: Moment) -> Moment:
        """The first moment that waits for room: of the runs (their *oldest*) and of those that one runs in place of.

        Counted from the runs alone, a task of each second would never have waited long, and its record come never.
        """
        return min([oldest, *(skip.first for skip in self.skips if skip.reason in _REPLACED)])

    def leave_out_one(self, moment: Moment, reason: Reason) -> None:
        self.skips.append(Skip(moment, moment, 1, reason))

    def ranges(self) -> tuple[Skip, ...]:
        """What was left out, oldest first; neighbours with one reason and no moment between them are one range."""
        joined: list[Skip] = []
        for skip in sorted(self.skips, key=lambda s: s.first):
            before = joined[-1] if joined else None
            if before and before.reason is skip.reason and self._trigger.next_after(before.last) == skip.first:
                joined[-1] = Skip(before.first, skip.last, before.count + skip.count, skip.reason)
            else:
                joined.append(skip)
        return tuple(joined)


def _execution(task: Task, moment: Moment, now: Moment) -> NewExecution:
    return NewExecution(
        id=occurrence_execution_id(task.id, moment),
        key=occurrence_key(task.id, moment),
        task_id=task.id,
        cause=Cause.SCHEDULE,
        priority=task.priority,
        scheduled_for=moment,
        queued_at=now,
        available_at=moment,
    )
