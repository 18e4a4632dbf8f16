"""Owns what every store must do with definitions: create, change, delete, read."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from peregrine.domain.errors import Conflict, NotFound, Stale
from peregrine.domain.execution import (
    CANCELLED_ERROR,
    CANCELLED_OUTPUT,
    AttemptOutcome,
    ExecutionOutcome,
    State,
)
from peregrine.domain.ids import ExecutionId, TaskId
from peregrine.domain.moment import DAY, MINUTE, SECOND
from peregrine.domain.occurrence import Reason, Skip, Verdict
from peregrine.domain.payload import FunctionPayload, HttpPayload, Kind
from peregrine.domain.task import Pause, Tally, Task
from peregrine.ports.store import CancelVerdict, PlanVerdict, RenewVerdict, SettleVerdict, TaskChange
from peregrine.testing.builders import NOW, a_parallel_task, a_plan, a_settlement, a_task, an_occurrence
from peregrine.testing.store_contract import variety
from peregrine.testing.store_contract.factory import StoreFactory
from peregrine.testing.store_contract.steps import (
    all_tasks,
    assert_adds_up,
    assert_same,
    claimed,
    execution,
    ledger,
    one_claim,
    photograph,
    queued,
    queued_ids,
    refused,
    settled,
    stored,
    view,
)

MISSED = Skip(NOW + MINUTE, NOW + 3 * MINUTE, 3, Reason.COALESCED)


def _next(task: Task, **changes: object) -> Task:
    """*task* after a change that touches nothing that is due."""
    return replace(task, revision=task.revision + 1, updated_at=NOW + SECOND, **changes)  # type: ignore[arg-type]


def _rescheduled(task: Task, **changes: object) -> Task:
    """*task* after a change that touches what is due."""
    return _next(task, **({"generation": task.generation + 1} | changes))


# ── create ───────────────────────────────────────────────────────────────────────────────────────


async def every_field_of_a_created_task_reads_back(factory: StoreFactory) -> None:
    store = await factory.fresh()
    tasks = list(variety.tasks())

    await store.create_tasks(tasks)

    listed = {shown.task.id: shown.task for shown in await all_tasks(store)}
    for task in tasks:
        assert_same(task, (await view(store, task)).task)
        assert_same(task, listed[task.id])
    got = await store.get_tasks([task.id for task in tasks])
    assert_same(tasks, [shown.task for shown in got])


async def creating_nothing_changes_nothing(factory: StoreFactory) -> None:
    store = await factory.fresh()

    await store.create_tasks([])

    assert await all_tasks(store) == []


async def many_tasks_are_created_at_once(factory: StoreFactory) -> None:
    store = await factory.fresh()
    tasks = [a_task(f"task-{number:04}") for number in range(1_000)]

    await store.create_tasks(tasks)

    assert [shown.task for shown in await all_tasks(store)] == tasks


async def a_new_task_stands_at_its_last_change(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_task(updated_at=NOW + 90 * SECOND)

    await stored(store, task)

    shown = await view(store, task)
    assert shown.cursor == NOW + 90 * SECOND
    assert shown.next_run_at == NOW + 2 * MINUTE
    assert (shown.running, shown.queued) == (0, 0)
    assert_same(Tally(), shown.tally)


async def what_never_fires_has_no_next_run(factory: StoreFactory) -> None:
    store = await factory.fresh()
    tasks = [
        a_task("disabled", enabled=False),
        a_task("paused", pause=Pause(since=NOW)),
        a_task("manual", schedule="@manual"),
        a_task("over", schedule="@at 2020-01-01T00:00:00Z"),
    ]

    await stored(store, *tasks)

    assert [shown.next_run_at for shown in await all_tasks(store)] == [None] * 4
    assert (await store.due(NOW + DAY, 10)).due == []


async def a_pause_with_an_end_is_due_after_it(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_task(pause=Pause(since=NOW, until=NOW + 10 * MINUTE))

    await stored(store, task)

    assert (await view(store, task)).next_run_at == NOW + 10 * MINUTE


async def a_taken_id_is_refused(factory: StoreFactory) -> None:
    store = await factory.fresh()
    first = a_task("one")
    await stored(store, first)

    error = await refused(Conflict, store.create_tasks([a_task("two"), a_task("one", name="another")]))

    assert error.code == "id_taken"
    assert [shown.task for shown in await all_tasks(store)] == [first]


async def a_taken_name_is_refused(factory: StoreFactory) -> None:
    store = await factory.fresh()
    first = a_task("one")
    await stored(store, first)

    error = await refused(Conflict, store.create_tasks([a_task("two"), a_task("three", name=first.name)]))

    assert error.code == "name_taken"
    assert [shown.task for shown in await all_tasks(store)] == [first]


async def a_batch_that_clashes_with_itself_is_refused(factory: StoreFactory) -> None:
    store = await factory.fresh()

    names = await refused(Conflict, store.create_tasks([a_task("one"), a_task("two", name="name of one")]))
    twice = await refused(Conflict, store.create_tasks([a_task("one"), a_task("one", name="another")]))

    assert (names.code, twice.code) == ("name_taken", "id_taken")
    assert await all_tasks(store) == []


async def new_tasks_and_changes_are_made_together(factory: StoreFactory) -> None:
    store = await factory.fresh()
    old = a_task("old")
    await stored(store, old)
    later = NOW + 3 * MINUTE
    changed = replace(old, name="renamed", schedule="@every 1h", revision=2, generation=2, updated_at=later)
    decided = a_plan(old, NOW + MINUTE)

    await store.put_tasks([a_task("new")], [TaskChange(task=changed, expected_revision=1, plan=decided)])

    assert {shown.task.name for shown in await all_tasks(store)} == {"name of new", "renamed"}
    shown = await view(store, changed)
    assert (shown.task, shown.cursor, shown.queued) == (changed, later, 1)
    await store.put_tasks([], [])


async def of_new_tasks_and_changes_all_or_none_are_made(factory: StoreFactory) -> None:
    store = await factory.fresh()
    one, two = a_task("one"), a_task("two")
    await stored(store, one, two)
    good = TaskChange(
        task=replace(one, description="changed", revision=2),
        expected_revision=1,
        plan=a_plan(one, NOW + MINUTE),
    )
    stale = TaskChange(task=replace(two, description="changed", revision=2), expected_revision=7)
    taken = TaskChange(task=replace(two, name=one.name, revision=2), expected_revision=1)
    gone = TaskChange(task=a_task("nobody"), expected_revision=1)
    before = await photograph(store)

    await refused(Stale, store.put_tasks([a_task("new")], [good, stale]))
    await refused(Conflict, store.put_tasks([a_task("new")], [good, taken]))
    await refused(NotFound, store.put_tasks([a_task("new")], [good, gone]))
    await refused(Conflict, store.put_tasks([a_task("new"), a_task("other", name="name of two")], [good]))

    assert await photograph(store) == before


async def names_differ_by_case_and_blanks(factory: StoreFactory) -> None:
    store = await factory.fresh()

    await stored(store, *(a_task(str(number), name=name) for number, name in enumerate(("a", "A", " a", "a ", "ä"))))

    assert len(await all_tasks(store)) == 5


async def of_two_creates_at_once_one_passes(factory: StoreFactory) -> None:
    store = await factory.fresh()
    rivals = [a_task("one", name="same"), a_task("two", name="same")]

    answers = await asyncio.gather(*(store.create_tasks([task]) for task in rivals), return_exceptions=True)

    assert [type(answer) for answer in answers if answer is not None] == [Conflict]
    assert len(await all_tasks(store)) == 1


# ── read ─────────────────────────────────────────────────────────────────────────────────────────


async def an_unknown_task_is_none(factory: StoreFactory) -> None:
    store = await factory.fresh()

    assert await store.get_task(TaskId("nobody")) is None


async def tasks_are_read_in_the_order_asked_for(factory: StoreFactory) -> None:
    store = await factory.fresh()
    await stored(store, *(a_task(id) for id in "abc"))

    got = await store.get_tasks([TaskId(id) for id in ("c", "nobody", "a")])

    assert [shown.task.id for shown in got] == ["c", "a"]
    assert list(await store.get_tasks([])) == []


async def tasks_are_read_by_name_in_the_order_asked_for(factory: StoreFactory) -> None:
    store = await factory.fresh()
    await stored(store, *(a_task(id, name=f"named {id}") for id in "abc"))

    got = await store.get_named(["named c", "named C", "nobody", "named a", "nul\0"])

    assert [shown.task.id for shown in got] == ["c", "a"]
    assert list(await store.get_named([])) == []


async def many_tasks_are_read_at_once(factory: StoreFactory) -> None:
    store = await factory.fresh()
    tasks = [a_task(f"task-{number}") for number in range(1_000)]
    await stored(store, *tasks)

    got = await store.get_tasks([task.id for task in tasks])

    assert [shown.task for shown in got] == tasks


async def what_a_reader_changes_stays_its_own(factory: StoreFactory) -> None:
    """Records are frozen, the JSON inside is not; a store that hands out its own would be changed by its readers."""
    store = await factory.fresh()
    given = a_parallel_task(payload=FunctionPayload(function_name="f", parameters={"list": [1]}))
    await stored(store, given)
    await queued(store, an_occurrence(given, NOW, parameters={"list": [1]}))
    for claim in await claimed(store):
        assert not isinstance(claim.task.payload, HttpPayload)
        claim.task.payload.parameters.clear()
        assert claim.parameters is not None
        claim.parameters.clear()

    (running,) = await store.running()
    assert running.task is not None
    assert not isinstance(running.task.payload, HttpPayload)
    assert running.task.payload.parameters == {"list": [1]}
    assert (await execution(store, running.execution_id)).parameters == {"list": [1]}


# ── change ───────────────────────────────────────────────────────────────────────────────────────


async def every_field_of_a_changed_task_reads_back(factory: StoreFactory) -> None:
    store = await factory.fresh()
    old = a_task()
    await stored(store, old)

    for number, new in enumerate(variety.tasks()):
        await store.put_task(replace(new, id=old.id, revision=number + 2), expected_revision=number + 1)

        assert_same(replace(new, id=old.id, revision=number + 2), (await view(store, old)).task)


async def a_change_gives_back_what_readers_see_or_nothing(factory: StoreFactory) -> None:
    store = await factory.fresh()
    old = a_parallel_task()
    await settled(store, await one_claim(store, old))
    await queued_ids(store, old, "waits", "runs")
    await claimed(store, limit=1)
    plan = a_plan(old, NOW + 4 * MINUTE, skips=[MISSED])

    for number, new in enumerate([_next(old), *variety.tasks()]):
        changed = replace(new, id=old.id, revision=number + 2, updated_at=NOW + 5 * MINUTE)
        given = await store.put_task(changed, expected_revision=number + 1, plan=plan if number == 0 else None)

        if given is not None:
            assert_same(await view(store, old), given)


async def a_change_keeps_the_tally_and_the_work(factory: StoreFactory) -> None:
    store = await factory.fresh()
    old = a_parallel_task()
    await settled(store, await one_claim(store, old))
    await queued_ids(store, old, "waits", "runs")
    await claimed(store, limit=1)
    before = await view(store, old)

    await store.put_task(_rescheduled(old, kind=Kind.FUNCTION, schedule="@manual"), expected_revision=1)

    after = await view(store, old)
    assert (after.running, after.queued) == (before.running, before.queued) == (1, 1)
    assert after.tally == before.tally
    await assert_adds_up(store)


async def a_change_of_an_old_revision_is_stale(factory: StoreFactory) -> None:
    store = await factory.fresh()
    old = a_task()
    await stored(store, old)
    new = _next(old, description="new")
    await store.put_task(new, expected_revision=1)

    await refused(Stale, store.put_task(_rescheduled(old, schedule="@manual"), expected_revision=1))
    await refused(Stale, store.put_task(_rescheduled(old, schedule="@manual"), expected_revision=3))

    assert (await view(store, old)).task == new


async def a_change_of_an_unknown_task_is_not_found(factory: StoreFactory) -> None:
    store = await factory.fresh()

    error = await refused(NotFound, store.put_task(a_task(), expected_revision=1))

    assert (error.what, error.id) == ("task", "task-1")
    assert await all_tasks(store) == []


async def of_two_changes_at_once_one_passes(factory: StoreFactory) -> None:
    store = await factory.fresh()
    old = a_task()
    await stored(store, old)
    rivals = [_next(old, description=text) for text in ("one", "two")]

    answers = await asyncio.gather(
        *(store.put_task(task, expected_revision=1) for task in rivals), return_exceptions=True
    )

    losers = [number for number, answer in enumerate(answers) if isinstance(answer, BaseException)]
    assert [type(answers[number]) for number in losers] == [Stale]
    assert (await view(store, old)).task == rivals[1 - losers[0]]


async def a_change_to_a_taken_name_is_refused_whole(factory: StoreFactory) -> None:
    store = await factory.fresh()
    one, two = a_task("one"), a_task("two")
    await stored(store, one, two)
    before = await view(store, two)
    plan = a_plan(two, NOW + MINUTE, skips=[MISSED])

    error = await refused(Conflict, store.put_task(_rescheduled(two, name=one.name), expected_revision=1, plan=plan))

    assert error.code == "name_taken"
    assert await view(store, two) == before
    assert await ledger(store, two.id) == []


async def a_change_frees_the_old_name(factory: StoreFactory) -> None:
    store = await factory.fresh()
    one = a_task("one")
    await stored(store, one)

    await store.put_task(_next(one, name="new name"), expected_revision=1)
    await store.put_task(replace(_next(one), name="new name", revision=3), expected_revision=2)

    await stored(store, a_task("two", name=one.name))
    await refused(Conflict, store.create_tasks([a_task("three", name="new name")]))


async def a_change_that_touches_nothing_due_leaves_the_cursor(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_task()
    await stored(store, task)

    await store.put_task(replace(_next(task), updated_at=NOW + DAY), expected_revision=1)

    shown = await view(store, task)
    assert (shown.cursor, shown.next_run_at) == (NOW, NOW + MINUTE)


async def a_change_of_what_is_due_moves_the_cursor_to_it(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_task()
    await stored(store, task)

    await store.put_task(
        _rescheduled(task, schedule="0 0 * * * *", enabled=True, description="hourly"), expected_revision=1
    )

    shown = await view(store, task)
    assert (shown.cursor, shown.next_run_at) == (NOW + SECOND, NOW + 60 * MINUTE)


async def disabling_a_task_takes_it_off_the_agenda_and_enabling_puts_it_back(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_task()
    await stored(store, task)

    off = _rescheduled(task, enabled=False)
    await store.put_task(off, expected_revision=1)
    assert (await view(store, task)).next_run_at is None
    assert (await store.due(NOW + DAY, 10)).due == []

    on = replace(off, revision=3, generation=3, enabled=True, updated_at=NOW + 10 * MINUTE)
    await store.put_task(on, expected_revision=2)
    shown = await view(store, task)
    assert (shown.cursor, shown.next_run_at) == (NOW + 10 * MINUTE, NOW + 11 * MINUTE)
    assert [due.task for due in (await store.due(NOW + DAY, 10)).due] == [on]


async def a_change_never_moves_the_cursor_back(factory: StoreFactory) -> None:
    """A clock that was set back must not make decided moments due again (invariant I13)."""
    store = await factory.fresh()
    task = a_task()
    await stored(store, task)
    await store.apply_plans([a_plan(task, NOW + 5 * MINUTE)], NOW + 5 * MINUTE)

    await store.put_task(_rescheduled(task), expected_revision=1)

    shown = await view(store, task)
    assert (shown.cursor, shown.next_run_at) == (NOW + 5 * MINUTE, NOW + 6 * MINUTE)


async def a_change_applies_its_plan_in_the_same_write(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_task()
    await stored(store, task)
    plan = a_plan(task, NOW + 4 * MINUTE, skips=[MISSED])
    changed = replace(_rescheduled(task, schedule="0 0 * * * *"), updated_at=NOW + 4 * MINUTE + SECOND)

    await store.put_task(changed, expected_revision=1, plan=plan)

    shown = await view(store, task)
    assert shown.task == changed
    assert (shown.cursor, shown.next_run_at) == (NOW + 4 * MINUTE + SECOND, NOW + 60 * MINUTE)
    assert shown.queued == 1
    assert [(entry.verdict, entry.scheduled_for) for entry in await ledger(store, task.id)] == [
        (Verdict.RAN, NOW + 4 * MINUTE),
        (Verdict.MISSED, NOW + MINUTE),
    ]
    await assert_adds_up(store)


async def a_plan_beside_a_harmless_change_sets_cursor_and_next_moment(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_task()
    await stored(store, task)

    plan = a_plan(task, NOW + MINUTE)
    await store.put_task(replace(_next(task), updated_at=NOW + DAY), expected_revision=1, plan=plan)

    shown = await view(store, task)
    assert (shown.cursor, shown.next_run_at) == (NOW + MINUTE, NOW + 2 * MINUTE)


async def a_change_with_a_plan_that_has_moved_is_stale(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_task()
    await stored(store, task)
    wrong = [
        a_plan(task, NOW + MINUTE, cursor=NOW - 1),
        a_plan(task, NOW + MINUTE, cursor=NOW + 1),
        a_plan(task, NOW + MINUTE, generation=2),
    ]

    for plan in wrong:
        await refused(Stale, store.put_task(_rescheduled(task), expected_revision=1, plan=plan))

    shown = await view(store, task)
    assert (shown.task, shown.cursor, shown.queued) == (task, NOW, 0)
    assert await ledger(store, task.id) == []


async def a_plan_made_before_a_change_is_refused_after_it(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_task()
    await stored(store, task)
    plan = a_plan(task, NOW + MINUTE)

    # The cursor alone would not tell: the change is as old as the task.
    await store.put_task(replace(_rescheduled(task), updated_at=NOW), expected_revision=1)

    assert list(await store.apply_plans([plan], NOW + MINUTE)) == [PlanVerdict.MOVED]
    assert (await view(store, task)).queued == 0


async def a_change_and_a_plan_at_once_leave_no_moment_twice(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_task()
    await stored(store, task)
    plan = a_plan(task, NOW + MINUTE)

    await asyncio.gather(
        store.put_task(_rescheduled(task), expected_revision=1, plan=plan),
        store.apply_plans([plan], NOW + MINUTE),
        return_exceptions=True,
    )

    assert [entry.scheduled_for for entry in await ledger(store, task.id)] == [NOW + MINUTE]
    assert (await view(store, task)).queued == 1


# ── delete ───────────────────────────────────────────────────────────────────────────────────────


async def a_deleted_task_is_gone(factory: StoreFactory) -> None:
    store = await factory.fresh()
    one, two = a_task("one"), a_task("two")
    await stored(store, one, two)

    running = await store.delete_task(one.id, expected_revision=1, now=NOW)

    assert list(running) == []
    assert await store.get_task(one.id) is None
    assert [shown.task for shown in await all_tasks(store)] == [two]
    assert [due.task for due in (await store.due(NOW + MINUTE, 10)).due] == [two]
    await stored(store, a_task("three", name=one.name))


async def deleting_an_unknown_task_is_not_found(factory: StoreFactory) -> None:
    store = await factory.fresh()
    await stored(store, a_task())

    await refused(NotFound, store.delete_task(TaskId("nobody"), expected_revision=None, now=NOW))
    await store.delete_task(TaskId("task-1"), expected_revision=None, now=NOW)
    await refused(NotFound, store.delete_task(TaskId("task-1"), expected_revision=None, now=NOW))


async def deleting_an_old_revision_is_stale(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_task(revision=3)
    await stored(store, task)
    await queued_ids(store, task, "waits")

    await refused(Stale, store.delete_task(task.id, expected_revision=2, now=NOW))

    assert (await view(store, task)).queued == 1
    assert (await execution(store, "waits")).state is State.QUEUED


async def of_two_deletes_at_once_one_passes(factory: StoreFactory) -> None:
    store = await factory.fresh()
    await one_claim(store, a_task(), "runs")

    answers = await asyncio.gather(
        *(store.delete_task(TaskId("task-1"), expected_revision=1, now=NOW) for _ in range(2)), return_exceptions=True
    )

    assert [type(answer) for answer in answers if isinstance(answer, Exception)] == [NotFound]
    assert [list(answer) for answer in answers if not isinstance(answer, BaseException)] == [["runs"]]


async def deleting_cancels_what_waits_and_marks_what_runs(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task, other = a_parallel_task(), a_parallel_task("other")
    await stored(store, task, other)
    await queued_ids(store, task, "ended", "runs", "runs too")
    await queued_ids(store, other, "stranger")
    claims = {claim.execution_id: claim for claim in await claimed(store)}
    await settled(store, claims[ExecutionId("ended")])
    await queued_ids(store, task, "waits", "waits too")

    running = await store.delete_task(task.id, expected_revision=None, now=NOW + MINUTE)

    assert sorted(running) == ["runs", "runs too"]
    for id in ("waits", "waits too"):
        shown = await execution(store, id)
        assert (shown.state, shown.outcome) == (State.CANCELLED, ExecutionOutcome.CANCELLED)
        assert (shown.completed_at, shown.started_at) == (NOW + MINUTE, None)
        assert (shown.error, shown.output) == (CANCELLED_ERROR, CANCELLED_OUTPUT)
    for id in ("runs", "runs too"):
        shown = await execution(store, id)
        assert (shown.state, shown.cancel_requested) == (State.RUNNING, True)
    assert (await execution(store, "ended")).state is State.COMPLETED
    stranger = await execution(store, "stranger")
    assert (stranger.state, stranger.cancel_requested) == (State.RUNNING, False)
    await assert_adds_up(store)


async def work_of_a_deleted_task_can_still_end(factory: StoreFactory) -> None:
    store = await factory.fresh()
    claim = await one_claim(store, a_task(), "runs")
    await store.delete_task(claim.task.id, expected_revision=None, now=NOW)

    (running,) = await store.running()
    assert (running.task, running.task_id, running.cancel_requested) == (None, claim.task.id, True)
    assert list(await store.renew([(claim.execution_id, claim.epoch)])) == [RenewVerdict.CANCEL]
    again = a_settlement(claim, AttemptOutcome.FAILED)
    assert again.state is State.QUEUED
    assert list(await store.settle([again])) == [SettleVerdict.CANCELLED]

    assert (await execution(store, "runs")).state is State.CANCELLED
    assert await claimed(store, now=NOW + DAY) == []
    await assert_adds_up(store)


async def work_of_a_deleted_task_can_still_be_cancelled(factory: StoreFactory) -> None:
    store = await factory.fresh()
    claim = await one_claim(store, a_task(), "runs")
    await store.delete_task(claim.task.id, expected_revision=None, now=NOW)

    answer = await store.request_cancel(task_id=claim.task.id, now=NOW)

    assert list(answer) == [("runs", CancelVerdict.MARKED)]


async def the_history_of_a_deleted_task_stays(factory: StoreFactory) -> None:
    store = await factory.fresh()
    task = a_task()
    await stored(store, task)
    await store.apply_plans([a_plan(task, NOW + 4 * MINUTE, skips=[MISSED])], NOW + 4 * MINUTE)
    before = await ledger(store, task.id)
    assert len(before) == 2

    await store.delete_task(task.id, expected_revision=None, now=NOW + 5 * MINUTE)

    assert await ledger(store, task.id) == before


async def an_id_can_be_used_again(factory: StoreFactory) -> None:
    store = await factory.fresh()
    old = a_task()
    await settled(store, await one_claim(store, old, "of the old one"))
    await store.delete_task(old.id, expected_revision=None, now=NOW + MINUTE)

    await stored(store, a_task(updated_at=NOW + 2 * MINUTE))

    shown = await view(store, old)
    assert (shown.cursor, shown.next_run_at) == (NOW + 2 * MINUTE, NOW + 3 * MINUTE)
    assert shown.tally == Tally()
