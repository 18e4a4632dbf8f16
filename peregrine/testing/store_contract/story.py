"""Owns long random stories over a few tasks, and what must be true all along.

The dice have a seed, so a story is the same every time and in every store; ``tell`` gives back what the store answered,
so that two stores can be compared word by word.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from peregrine.domain.errors import LimitReached, Stale
from peregrine.domain.execution import AttemptOutcome, Claim, Execution, Settlement, State
from peregrine.domain.ids import ExecutionId, TaskId
from peregrine.domain.moment import MINUTE, SECOND
from peregrine.domain.occurrence import Verdict
from peregrine.domain.planning import DueTask, plan
from peregrine.domain.policy import Misfire, Overlap, Policy, Priority
from peregrine.domain.retry import recover
from peregrine.domain.task import Pause, Task, TaskView
from peregrine.ports.store import PlanVerdict, RenewVerdict, SettleVerdict, Store
from peregrine.testing.builders import NOW, a_claim_request, a_new_execution, a_settlement, a_task
from peregrine.testing.store_contract.steps import all_executions, all_tasks, assert_adds_up, ledger, stored

QUEUE_SIZE: Final = 12
POLICIES: Final = (
    Policy(overlap=Overlap.SKIP, misfire=Misfire.RUN_ONCE, max_retries=1),
    Policy(overlap=Overlap.QUEUE, misfire=Misfire.RUN_ALL, catchup_max=5),
    Policy(overlap=Overlap.ALLOW, misfire=Misfire.SKIP, max_retries=0),
    Policy(overlap=Overlap.SKIP, misfire=Misfire.RUN_ALL, catchup_max=3, misfire_grace=0),
)


async def tell(store: Store, seed: int, steps: int) -> list[str]:
    """What an empty *store* answers to the story of *seed*; fails as soon as a promise is broken."""
    story = _Story(store, random.Random(seed))
    await story.begin()
    for step in range(steps):
        await story.go_on()
        if step % 25 == 0:
            await story.look()
    await story.look()
    return story.answers


@dataclass(slots=True)
class _Held:
    """A claim that somebody was given, and what became of it."""

    claim: Claim
    live: bool = True
    wrote: Settlement | None = None


class _Story:
    """A scheduler as a madman would run it; what it knows for certain it holds against the store."""

    def __init__(self, store: Store, dice: random.Random) -> None:
        self.answers: list[str] = []
        self._store = store
        self._dice = dice
        self._now = NOW
        self._made = 0
        self._held: list[_Held] = []
        self._epochs: dict[ExecutionId, int] = {}
        self._ended: dict[ExecutionId, Execution] = {}
        self._first = [a_task(f"task-{n}", policy=policy, priority=Priority(n)) for n, policy in enumerate(POLICIES)]
        self._turns: list[tuple[int, Callable[[], Awaitable[object]]]] = [
            (4, self._wait),
            (4, self._plan),
            (3, self._ask_to_run),
            (6, self._claim),
            (6, self._settle),
            (2, self._settle_again),
            (2, self._recover),
            (2, self._renew),
            (2, self._cancel),
            (1, self._cancel_a_task),
            (2, self._change),
        ]

    async def begin(self) -> None:
        await stored(self._store, *self._first)

    async def go_on(self) -> None:
        """One turn of somebody."""
        weights, turns = zip(*self._turns, strict=True)
        (turn,) = self._dice.choices(turns, weights)
        self.answers.append(f"{turn.__name__}: {await turn()}")

    # ── turns ────────────────────────────────────────────────────────────────────────────────────

    async def _wait(self) -> None:
        self._now += self._dice.choice((1, 20 * SECOND, MINUTE, 7 * MINUTE))

    async def _plan(self) -> object:
        batch = await self._store.due(self._now, 3)
        room = QUEUE_SIZE - batch.queued
        plans = []
        for due in batch.due:
            made = plan(due, self._now, max(0, room))
            if made is not None:
                room -= len(made.executions)
                plans.append(made)
        verdicts = await self._store.apply_plans(plans, self._now)
        assert set(verdicts) <= {PlanVerdict.APPLIED}, "nobody else plans"
        again = await self._store.apply_plans([made for made in plans if made.executions], self._now)
        assert set(again) <= {PlanVerdict.MOVED}
        return [made.task_id for made in plans], batch.queued, batch.next_due_at

    async def _ask_to_run(self) -> object:
        self._made += 1
        task = self._dice.choice(self._first)
        wait = self._dice.choice((0, 0, 0, MINUTE))
        new = a_new_execution(
            f"asked-{self._made:03}",
            task.id,
            priority=self._dice.choice(list(Priority)),
            queued_at=self._now,
            available_at=self._now + wait,
        )
        try:
            return (await self._store.enqueue(new, queue_limit=QUEUE_SIZE)).id
        except LimitReached as error:
            return error.code

    async def _claim(self) -> object:
        request = a_claim_request(self._dice.randrange(4), now=self._now, claim_id=f"claim-{len(self.answers)}")
        batch = await self._store.claim(request)
        for claim in batch.claims:
            assert claim.epoch > self._epochs.get(claim.execution_id, 0), "the epoch grows with every claim"
            assert not any(held.live and held.claim.execution_id == claim.execution_id for held in self._held)
            self._epochs[claim.execution_id] = claim.epoch
            self._held.append(_Held(claim))
        assert {claim.execution_id for claim in await self._store.claimed_by(request.claim_id)} == {
            claim.execution_id for claim in batch.claims
        }
        return [(claim.execution_id, claim.attempt, claim.failures) for claim in batch.claims], batch.next_available_at

    def _any_held(self) -> _Held | None:
        return self._dice.choice(self._held) if self._held else None

    async def _settle(self) -> object:
        held = self._any_held()
        if held is None:
            return None
        verdict = self._dice.choice([one for one in AttemptOutcome if one is not AttemptOutcome.FENCED])
        settlement = a_settlement(held.claim, verdict, at=max(self._now, held.claim.started_at))
        return await self._write(held, settlement)

    async def _write(self, held: _Held, settlement: Settlement) -> object:
        (answer,) = await self._store.settle([settlement])
        if held.live:
            assert answer in (SettleVerdict.APPLIED, SettleVerdict.CANCELLED), "the newest claim opens settle"
            held.live, held.wrote = False, settlement
        elif held.wrote != settlement:
            assert answer in (SettleVerdict.STALE, SettleVerdict.REPEATED), "an older claim writes nothing"
        return settlement.execution_id, settlement.attempt.outcome, answer

    async def _settle_again(self) -> object:
        held = self._any_held()
        if held is None or held.wrote is None:
            return None
        (answer,) = await self._store.settle([held.wrote])
        assert answer is SettleVerdict.REPEATED
        return held.claim.execution_id, answer

    async def _recover(self) -> object:
        running = sorted(await self._store.running(), key=lambda one: one.execution_id)
        if not running:
            return None
        one = self._dice.choice(running)
        (held,) = [held for held in self._held if held.live and held.claim.execution_id == one.execution_id]
        return await self._write(held, recover(one, "worker-2", max(self._now, one.started_at), 0.5))

    async def _renew(self) -> object:
        held = self._any_held()
        if held is None:
            return None
        (answer,) = await self._store.renew([(held.claim.execution_id, held.claim.epoch)])
        assert (answer is not RenewVerdict.LOST) == held.live
        return held.claim.execution_id, answer

    async def _cancel(self) -> object:
        executions = sorted(await all_executions(self._store), key=lambda one: one.id)
        if not executions:
            return None
        return await self._store.request_cancel(execution_id=self._dice.choice(executions).id, now=self._now)

    async def _cancel_a_task(self) -> object:
        task = self._dice.choice(self._first)
        return sorted(await self._store.request_cancel(task_id=task.id, now=self._now))

    async def _change(self) -> object:
        """Pause, go on, or change the priority; what the old definition left undecided is decided in the same write."""
        shown = await self._store.get_task(self._dice.choice(self._first).id)
        assert shown is not None
        pauses = (None, Pause(since=self._now), Pause(since=self._now, until=self._now + 3 * MINUTE))
        task = replace(shown.task, pause=self._dice.choice(pauses), priority=self._dice.choice(list(Priority))).changed(
            shown.task, at=self._now, by="ann"
        )
        decided = plan(DueTask(shown.task, shown.cursor, shown.running + shown.queued), self._now, QUEUE_SIZE)
        await self._store.put_task(task, expected_revision=shown.task.revision, plan=decided)
        try:
            await self._store.put_task(task, expected_revision=shown.task.revision)
        except Stale:
            return task.id, task.revision, task.generation
        raise AssertionError("the same change was taken twice")

    # ── what must be true ────────────────────────────────────────────────────────────────────────

    async def look(self) -> None:
        """Hold the store against what was done so far."""
        await assert_adds_up(self._store, now=self._now)
        executions, views = await all_executions(self._store), await all_tasks(self._store, now=self._now)
        self._look_at_ends({one.id: one for one in executions})
        live = {held.claim.execution_id for held in self._held if held.live}
        assert live == {one.id for one in executions if one.state is State.RUNNING}
        for shown in views:
            mine = [one for one in executions if one.task_id == shown.task.id]
            _look_at_tally(shown, mine)
            if shown.task.policy.overlap is not Overlap.ALLOW:
                assert sum(one.state is State.RUNNING for one in mine) <= 1
            await self._look_at_ledger(shown, mine)

    def _look_at_ends(self, executions: dict[ExecutionId, Execution]) -> None:
        for id, ended in self._ended.items():
            # A late result may have been noted on an attempt; the rest never changes (invariant I7).
            assert replace(executions[id], attempts=()) == replace(ended, attempts=())
        self._ended |= {id: one for id, one in executions.items() if one.state.is_ended}

    async def _look_at_ledger(self, shown: TaskView, mine: list[Execution]) -> None:
        """Every moment up to the cursor has exactly one line (invariants I1 and I2), and none was invented (I3)."""
        entries = await ledger(self._store, shown.task.id)
        trigger, begin = shown.task.trigger, _task(self._first, shown.task.id).updated_at
        assert sum(entry.count for entry in entries) == trigger.count_between(begin, shown.cursor)
        later = None
        for entry in entries:
            assert entry.last >= entry.scheduled_for
            assert later is None or entry.last < later, "two lines for one moment"
            assert entry.count == trigger.count_between(entry.scheduled_for - SECOND, entry.last)
            later = entry.scheduled_for
        ran = {entry.scheduled_for for entry in entries if entry.verdict is Verdict.RAN}
        assert ran == {one.scheduled_for for one in mine if one.scheduled_for is not None}


def _task(tasks: list[Task], id: TaskId) -> Task:
    return next(task for task in tasks if task.id == id)


def _look_at_tally(shown: TaskView, mine: list[Execution]) -> None:
    ended = [one for one in mine if one.completed_at is not None]
    succeeded = sum(one.state is State.COMPLETED for one in ended)
    tally = shown.tally
    assert (tally.total_runs, tally.success_count) == (len(ended), succeeded)
    assert tally.runtime_total == sum(one.duration or 0 for one in ended)
    assert tally.total_runs == 0 or tally.last_succeeded is not None
