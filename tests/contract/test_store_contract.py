"""The suite of the store bites: a check that cannot fail protects nothing, so bugs are planted and must be found.

``PlacedStore`` is a memory store in a place: every verb is a transaction of three statements (begin, write, commit). It
lets the checks of sharing and of crashes be tried here, quickly, with a store that keeps them and with some that tear.
"""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from typing import cast

import pytest

from peregrine.domain.execution import Execution, Settlement, State
from peregrine.domain.ids import ExecutionId, TaskId
from peregrine.domain.moment import Moment
from peregrine.domain.planning import Plan
from peregrine.domain.task import Task
from peregrine.ports.records import DONE, Note
from peregrine.ports.store import CancelVerdict, PlanVerdict, SettleVerdict, Store, TaskWrites
from peregrine.stores import memory
from peregrine.stores.memory import MemoryStore
from peregrine.stores.noting import Noting, Told
from peregrine.testing.store_contract import CRASH_CHECKS, SHARED_CHECKS, STORE_CHECKS, CrashCheck, Died
from peregrine.testing.store_contract.story import tell

pytestmark = pytest.mark.anyio

Verb = Callable[..., Awaitable[object]]
CHECKS: dict[str, CrashCheck] = {check.__name__: check for check in (*STORE_CHECKS, *SHARED_CHECKS, *CRASH_CHECKS)}


# ── a store in a place ───────────────────────────────────────────────────────────────────────────


class Place:
    """What has been committed."""

    def __init__(self, kind: type[MemoryStore]) -> None:
        self.committed = pickle.dumps(kind())


class PlacedStore:
    """One process's view of a place; after *statements* more it is dead."""

    def __init__(self, place: Place, statements: int | None = None, notes: Sequence[Note] = ()) -> None:
        self._place = place
        self._left = statements
        self._notes = notes

    def __getattr__(self, name: str) -> Verb:
        async def verb(*args: object, **named: object) -> object:
            self.statement()
            store: MemoryStore = pickle.loads(self._place.committed)
            self.statement()
            if isinstance(store, TearingStore):
                store.commit = lambda: self._commit(store)
            verbs = store.noting(*self._notes) if self._notes else store
            try:
                return await getattr(verbs, name)(*args, **named)
            finally:
                self._commit(store)

        return verb

    def noting(self, *notes: Note) -> PlacedStore:
        """The same, with notes about what it changes."""
        return PlacedStore(self._place, self._left, notes)

    def version(self) -> None:
        """Not known: each verb reads the place anew."""

    def statement(self) -> None:
        """About to run one more."""
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise Died

    def _commit(self, store: MemoryStore) -> None:
        self.statement()
        self._place.committed = pickle.dumps(store)


class PlacedStores:
    def __init__(self, kind: type[MemoryStore] = MemoryStore) -> None:
        self._kind = kind
        self._place = Place(kind)

    async def fresh(self) -> Store:
        self._place = Place(self._kind)
        return await self.reopen()

    async def reopen(self) -> Store:
        return cast(Store, PlacedStore(self._place))

    async def dying(self, statements: int) -> Store:
        return cast(Store, PlacedStore(self._place, statements))


@pytest.mark.parametrize("check", [*SHARED_CHECKS, *CRASH_CHECKS], ids=lambda check: check.__name__)
async def test_a_store_of_whole_transactions_passes(check: CrashCheck) -> None:
    await check(PlacedStores())


# ── stores that tear ─────────────────────────────────────────────────────────────────────────────


class TearingStore(MemoryStore):
    """Commits in the middle of a verb, as a store without transactions would that gave no thought to the order."""

    commit: Callable[[], None]
    """Set by the process that runs the verb."""

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name != "commit"}


class InsertsFirst(TearingStore):
    """Executions, then (perhaps never) the skips and the cursor: an occurrence may be both run and missed."""

    async def apply_plans(self, plans: Sequence[Plan], now: Moment) -> Sequence[PlanVerdict]:
        for plan in plans:
            for new in plan.executions:
                self._queue_up(new)
            self.commit()
        return await super().apply_plans(plans, now)


class MovesTheCursorFirst(TearingStore):
    """The cursor, then (perhaps never) the executions: occurrences are lost."""

    async def apply_plans(self, plans: Sequence[Plan], now: Moment) -> Sequence[PlanVerdict]:
        verdicts = await super().apply_plans([replace(plan, executions=(), skips=()) for plan in plans], now)
        self.commit()
        for plan in plans:
            self._write_plan(self._tasks[plan.task_id], plan, now)
        return verdicts


class PlansFirst(TearingStore):
    """A change of a task applies its plan in a write of its own."""

    async def put_task(self, task: Task, *, expected_revision: int, plan: Plan | None = None) -> None:
        if plan is not None:
            self._apply_plan(plan, task.updated_at)
            self.commit()
        await super().put_task(task, expected_revision=expected_revision)


class CountsLater(TearingStore):
    """The end of an execution, then (perhaps never) its task's tally."""

    def _count(self, execution: Execution) -> None:
        self.commit()
        super()._count(execution)


class FollowsUpLater(TearingStore):
    """The end of an execution, then (perhaps never) what follows it."""

    def _settle(self, settlement: Settlement) -> SettleVerdict:
        verdict = super()._settle(replace(settlement, followups=()))
        self.commit()
        for new in settlement.followups:
            self._queue_up(new)
        return verdict


class CancelsFirst(TearingStore):
    """A delete cancels what waits in a write of its own."""

    def _cancel_all(self, task_id: TaskId, now: Moment) -> list[tuple[ExecutionId, CancelVerdict]]:
        verdicts = super()._cancel_all(task_id, now)
        self.commit()
        return verdicts


class NotesLater(TearingStore):
    """A change, then (perhaps never) the notes about it."""

    def noting(self, *notes: Note) -> TaskWrites:
        return TornNoting(self, self, notes)


class TornNoting(Noting):
    async def _noted(self, verb: Callable[[], Awaitable[Told]]) -> Told:
        assert isinstance(self._store, TearingStore)
        told = await verb()
        self._store.commit()
        await self._end(DONE)
        return told


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        (InsertsFirst, "each_plan_is_whole_or_absent"),
        (MovesTheCursorFirst, "each_plan_is_whole_or_absent"),
        (PlansFirst, "a_change_with_a_plan_is_whole_or_absent"),
        (CountsLater, "each_end_is_whole_or_absent"),
        (CountsLater, "each_cancelled_end_is_whole_or_absent"),
        (CountsLater, "a_cancel_is_whole_or_absent"),
        (FollowsUpLater, "each_end_is_whole_or_absent"),
        (CancelsFirst, "a_delete_is_whole_or_absent"),
        (NotesLater, "no_change_is_there_without_its_notes"),
        (NotesLater, "notes_say_what_a_change_was_refused_with"),
    ],
)
async def test_a_store_that_tears_is_found(kind: type[MemoryStore], check: str) -> None:
    with pytest.raises(AssertionError):
        await CHECKS[check](PlacedStores(kind))


# ── stores that forget ───────────────────────────────────────────────────────────────────────────


class BareStores(PlacedStores):
    """Without the copies that a place makes of everything."""

    async def reopen(self) -> Store:
        return MemoryStore()


def settles_any_epoch(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(memory, "_may_settle", lambda execution, _: execution.state is State.RUNNING)


def heeds_no_beat(patch: pytest.MonkeyPatch) -> None:
    may = memory._may_settle
    patch.setattr(memory, "_may_settle", lambda execution, s: may(execution, replace(s, expected_beat=None)))


def plans_from_any_cursor(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(memory, "_fits", lambda row, plan: row.task.generation == plan.generation)


def plans_for_any_generation(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(memory, "_fits", lambda row, plan: row.cursor == plan.cursor)


def knows_no_repetition(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Settlement, "wrote", lambda *_: False)


def notes_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(memory, "_note_late", lambda *_: None)


def cancels_nothing_in_between(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Settlement, "if_cancelled", lambda settlement: settlement)


def counts_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MemoryStore, "_count", lambda *_: None)


def queues_by_arrival(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(memory, "rank", lambda *_: 0)


def lets_executions_overlap(patch: pytest.MonkeyPatch) -> None:
    eligible = MemoryStore._eligible

    def all_alone(self: MemoryStore, now: Moment) -> Iterator[object]:
        self._busy.clear()
        return eligible(self, now)

    patch.setattr(MemoryStore, "_eligible", all_alone)


def shares_its_values(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(memory, "deepcopy", lambda value: value)


@pytest.mark.parametrize(
    ("sabotage", "check"),
    [
        (settles_any_epoch, "only_the_newest_claim_can_settle"),
        (settles_any_epoch, "random_stories_keep_every_promise"),
        (heeds_no_beat, "recovery_is_refused_when_the_owner_renewed"),
        (plans_from_any_cursor, "a_plan_is_applied_once"),
        (plans_from_any_cursor, "random_stories_keep_every_promise"),
        (plans_for_any_generation, "a_plan_made_before_a_change_is_refused_after_it"),
        (knows_no_repetition, "a_settlement_whose_answer_was_lost_is_known_again"),
        (notes_nothing, "a_late_result_is_refused_and_noted"),
        (cancels_nothing_in_between, "what_would_try_again_ends_as_cancelled_when_marked"),
        (counts_nothing, "the_tally_follows_every_end"),
        (counts_nothing, "random_stories_keep_every_promise"),
        (queues_by_arrival, "the_queue_goes_by_rank_then_moment_then_creation"),
        (lets_executions_overlap, "a_task_that_skips_or_queues_runs_one_at_a_time"),
        (shares_its_values, "what_a_reader_changes_stays_its_own"),
    ],
)
async def test_a_store_that_forgets_is_found(
    sabotage: Callable[[pytest.MonkeyPatch], None], check: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await CHECKS[check](BareStores())
    sabotage(monkeypatch)

    with pytest.raises(AssertionError):
        await CHECKS[check](BareStores())


# ── the suite itself ─────────────────────────────────────────────────────────────────────────────


def test_no_two_checks_have_one_name() -> None:
    assert len(CHECKS) == len(STORE_CHECKS) + len(SHARED_CHECKS) + len(CRASH_CHECKS)


async def test_a_story_is_the_same_every_time() -> None:
    stories = [await tell(MemoryStore(), 7, 60) for _ in range(2)]

    assert stories[0] == stories[1]
    assert stories[0] != await tell(MemoryStore(), 8, 60)


def test_checks_take_only_a_factory() -> None:
    for check in CHECKS.values():
        assert list(inspect.signature(check).parameters) == ["factory"]
