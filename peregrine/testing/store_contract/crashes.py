"""Owns what must hold when a process dies between any two statements of a write: whole or absent, and completed by
asking again. Each check cuts its verb off after 0, 1, 2 … statements until it comes through.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final, TypeVar

from peregrine.domain.errors import Conflict, NotFound, Stale
from peregrine.domain.execution import AttemptOutcome, Claim, Execution
from peregrine.domain.ids import ExecutionId, WorkerId
from peregrine.domain.moment import DAY, MINUTE
from peregrine.domain.occurrence import Reason, Skip
from peregrine.domain.planning import Plan
from peregrine.domain.policy import Overlap, Policy
from peregrine.domain.retry import recover
from peregrine.domain.task import Task, TaskView
from peregrine.ports.records import ASKED, DONE
from peregrine.ports.store import ClaimRequest, SettleVerdict, Store, TaskChange
from peregrine.testing.builders import (
    NOW,
    a_claim_request,
    a_new_execution,
    a_parallel_task,
    a_plan,
    a_settlement,
    a_task,
    an_instance,
)
from peregrine.testing.store_contract.factory import CrashingStoreFactory
from peregrine.testing.store_contract.notes import GOOD, OLD
from peregrine.testing.store_contract.steps import (
    a_note,
    all_tasks,
    assert_adds_up,
    assert_same,
    claimed,
    one_claim,
    photograph,
    queued,
    queued_ids,
    said,
    settled,
    stored,
)

Given = TypeVar("Given")
Seen = dict[tuple[str, str], object]
Arrange = Callable[[Store], Awaitable[Given]]
Act = Callable[[Store, Given], Awaitable[object]]

STATEMENTS_MAX: Final = 1_000
"""No verb needs more for what these checks ask of it."""


async def _cut(
    factory: CrashingStoreFactory, arrange: Arrange[Given], act: Act[Given], *, each_execution: bool = False
) -> None:
    """Fail unless *act*, cut off anywhere and then asked again, leaves what it leaves when nothing happens.

    *act* takes its own repetition calmly. After the cut each item is as before or as after: an item is a task with all
    its executions and ledger, or (*each_execution*) every execution by itself.
    """
    store = await factory.fresh()
    given = await arrange(store)
    before = await photograph(store)
    await act(store, given)
    after = await photograph(store)
    for statements in range(STATEMENTS_MAX):
        given = await arrange(await factory.fresh())
        died = await _dies(act(await factory.dying(statements), given))
        reopened = await factory.reopen()
        found = await photograph(reopened)
        for item, keys in _items(found | before | after, each_execution=each_execution).items():
            absent, whole, seen = ([photo.get(key) for key in keys] for photo in (before, after, found))
            assert seen in (absent, whole), f"{item} is torn after {statements} statements: {seen!r}"
        await assert_adds_up(reopened)
        await act(reopened, given)
        assert_same(after, await photograph(reopened), f"asked again after {statements} statements")
        if not died:
            return
    raise AssertionError(f"the verb did not come through within {STATEMENTS_MAX} statements")


async def _dies(act: Awaitable[object]) -> bool:
    try:
        await act
    except Exception:
        # Whatever the store makes of its death; a fault of its own would show when the verb is asked again.
        return True
    return False


def _items(everything: Seen, *, each_execution: bool) -> dict[str, list[tuple[str, str]]]:
    """The keys of each item that can be seen."""
    items: dict[str, list[tuple[str, str]]] = {}
    for key, value in everything.items():
        item = _item(key, value, each_execution=each_execution)
        if item is not None:
            items.setdefault(item, []).append(key)
    return items


def _item(key: tuple[str, str], value: object, *, each_execution: bool) -> str | None:
    kind, id = key
    if each_execution:
        return id if kind == "execution" else None
    match value:
        case TaskView():
            return value.task.id
        case Execution():
            return value.task_id
        case _:
            return id if kind in ("ledger", "instance") else None


# ── definitions ──────────────────────────────────────────────────────────────────────────────────


async def create_is_whole_or_absent(factory: CrashingStoreFactory) -> None:
    async def arrange(store: Store) -> None:
        await stored(store, a_task("there before"))

    async def act(store: Store, _: None) -> None:
        with suppress(Conflict):
            await store.create_tasks([a_task(tags=("a", "b"))])

    await _cut(factory, arrange, act)


async def new_tasks_and_changes_are_whole_or_absent(factory: CrashingStoreFactory) -> None:
    old = [a_task(f"old-{n}") for n in range(2)]
    changed = [replace(task, name=f"renamed {task.id}", revision=2, updated_at=NOW + MINUTE) for task in old]

    async def arrange(store: Store) -> None:
        await stored(store, *old)

    async def act(store: Store, _: None) -> None:
        with suppress(Conflict, Stale):
            await store.put_tasks(
                [a_task("new-1"), a_task("new-2", tags=("a",))],
                [TaskChange(task=task, expected_revision=1) for task in changed],
            )

    await _cut(factory, arrange, act)


async def a_change_is_whole_or_absent(factory: CrashingStoreFactory) -> None:
    changed = a_task(name="renamed", revision=2, generation=2, schedule="@every 1h", updated_at=NOW + MINUTE)

    async def arrange(store: Store) -> None:
        await stored(store, a_task(tags=("old",)))

    async def act(store: Store, _: None) -> None:
        with suppress(Stale):
            await store.put_task(changed, expected_revision=1)

    await _cut(factory, arrange, act)


def _a_full_plan(task: Task) -> Plan:
    skips = [Skip(NOW + n * MINUTE, NOW + (n + 1) * MINUTE, 2, Reason.COALESCED) for n in (1, 5)]
    return a_plan(task, NOW + 3 * MINUTE, NOW + 4 * MINUTE, NOW + 7 * MINUTE, skips=skips)


async def a_change_with_a_plan_is_whole_or_absent(factory: CrashingStoreFactory) -> None:
    task = a_task()
    changed = replace(task, revision=2, generation=2, enabled=False, updated_at=NOW + 8 * MINUTE)

    async def arrange(store: Store) -> None:
        await stored(store, task)

    async def act(store: Store, _: None) -> None:
        with suppress(Stale):
            await store.put_task(changed, expected_revision=1, plan=_a_full_plan(task))

    await _cut(factory, arrange, act)


async def a_delete_is_whole_or_absent(factory: CrashingStoreFactory) -> None:
    task = a_parallel_task()

    async def arrange(store: Store) -> None:
        await stored(store, task)
        await queued_ids(store, task, "ended", "runs", "runs too")
        await settled(store, (await claimed(store))[0])
        await queued_ids(store, task, "waits", "waits too")

    async def act(store: Store, _: None) -> None:
        with suppress(NotFound):
            await store.delete_task(task.id, expected_revision=1, now=NOW + MINUTE)

    await _cut(factory, arrange, act)


async def no_change_is_there_without_its_notes(factory: CrashingStoreFactory) -> None:
    for what, change in GOOD.items():
        for statements in range(STATEMENTS_MAX):
            store = await factory.fresh()
            await stored(store, OLD)
            before = await all_tasks(store)
            died = await _dies(change((await factory.dying(statements)).noting(a_note("1"), a_note("2"))))
            reopened = await factory.reopen()
            notes = {await said(reopened, key) for key in ("1", "2")}
            if await all_tasks(reopened) != before:
                assert notes <= {ASKED, DONE}, f"{what}: changed without a note after {statements} statements"
            else:
                assert DONE not in notes, f"{what}: told and not done after {statements} statements"
            if not died:
                break


# ── due → queued ─────────────────────────────────────────────────────────────────────────────────


async def each_plan_is_whole_or_absent(factory: CrashingStoreFactory) -> None:
    """An occurrence is never both run and skipped, nor neither, wherever the planner dies (invariant I2)."""
    tasks = [a_task("one"), a_task("two")]

    async def arrange(store: Store) -> None:
        await stored(store, *tasks)

    async def act(store: Store, _: None) -> None:
        await store.apply_plans([_a_full_plan(task) for task in tasks], NOW + 8 * MINUTE)

    await _cut(factory, arrange, act)


async def enqueue_is_whole_or_absent(factory: CrashingStoreFactory) -> None:
    async def arrange(store: Store) -> None:
        await stored(store, a_task())

    async def act(store: Store, _: None) -> None:
        assert (await store.enqueue(a_new_execution("one"), queue_limit=1)).id == "one"

    await _cut(factory, arrange, act)


# ── queued → claimed → settled ───────────────────────────────────────────────────────────────────


async def each_claim_is_whole_or_absent(factory: CrashingStoreFactory) -> None:
    """What was claimed can be read back by the request; what was not is still there to claim."""

    async def arrange(store: Store) -> ClaimRequest:
        for id in ("one", "two", "three"):
            await stored(store, a_task(id))
            await queued(store, a_new_execution(f"of {id}", id), a_new_execution(f"next of {id}", id))
        return a_claim_request(2)

    async def act(store: Store, request: ClaimRequest) -> None:
        found = await store.claimed_by(request.claim_id)
        await store.claim(replace(request, limit=request.limit - len(found)))

    await _cut(factory, arrange, act)


async def a_renewal_is_whole_or_absent(factory: CrashingStoreFactory) -> None:
    async def arrange(store: Store) -> Sequence[Claim]:
        return [await one_claim(store, a_task(id), f"of {id}") for id in ("one", "two")]

    async def act(store: Store, claims: Sequence[Claim]) -> None:
        await store.renew([(claim.execution_id, claim.epoch) for claim in claims])

    await _cut(factory, arrange, act)


async def _two_that_run(store: Store) -> list[Claim]:
    return [await one_claim(store, a_task(id), f"of {id}") for id in ("one", "two")]


async def each_end_is_whole_or_absent(factory: CrashingStoreFactory) -> None:
    """Outcome, tally and followups come together."""

    async def act(store: Store, claims: list[Claim]) -> None:
        settlements = [
            a_settlement(
                claim,
                detail={"code": 200},
                followups=tuple(a_new_execution(f"{n} after {claim.task.id}", claim.task.id) for n in range(2)),
            )
            for claim in claims
        ]
        verdicts = await store.settle(settlements)
        assert set(verdicts) <= {SettleVerdict.APPLIED, SettleVerdict.REPEATED}

    await _cut(factory, _two_that_run, act)


async def each_return_to_the_queue_is_whole_or_absent(factory: CrashingStoreFactory) -> None:
    async def act(store: Store, claims: list[Claim]) -> None:
        verdicts = await store.settle([a_settlement(claim, AttemptOutcome.FAILED) for claim in claims])
        assert set(verdicts) <= {SettleVerdict.APPLIED, SettleVerdict.REPEATED}

    await _cut(factory, _two_that_run, act)


async def each_second_end_is_whole_or_absent(factory: CrashingStoreFactory) -> None:
    async def arrange(store: Store) -> Claim:
        first = await one_claim(store, a_task())
        await settled(store, first, AttemptOutcome.FAILED, available_at=NOW)
        (second,) = await claimed(store)
        return second

    async def act(store: Store, claim: Claim) -> None:
        await store.settle([a_settlement(claim)])

    await _cut(factory, arrange, act)


async def each_cancelled_end_is_whole_or_absent(factory: CrashingStoreFactory) -> None:
    async def arrange(store: Store) -> list[Claim]:
        claims = await _two_that_run(store)
        for claim in claims:
            await store.request_cancel(execution_id=claim.execution_id, now=NOW)
        return claims

    async def act(store: Store, claims: list[Claim]) -> None:
        verdicts = await store.settle([a_settlement(claim, AttemptOutcome.FAILED) for claim in claims])
        assert set(verdicts) <= {SettleVerdict.CANCELLED, SettleVerdict.REPEATED}

    await _cut(factory, arrange, act)


async def each_recovery_is_whole_or_absent(factory: CrashingStoreFactory) -> None:
    async def arrange(store: Store) -> None:
        await _two_that_run(store)

    async def act(store: Store, _: None) -> None:
        running = await store.running()
        await store.settle([recover(one, "worker-2", NOW + MINUTE, 0.5) for one in running])

    await _cut(factory, arrange, act)


async def a_note_of_a_late_result_is_whole_or_absent(factory: CrashingStoreFactory) -> None:
    async def arrange(store: Store) -> Claim:
        claim = await one_claim(store, a_task())
        (running,) = await store.running()
        await store.settle([recover(running, "worker-2", NOW + MINUTE, 0.5)])
        return claim

    async def act(store: Store, claim: Claim) -> None:
        assert await settled(store, claim) is SettleVerdict.STALE

    await _cut(factory, arrange, act)


# ── cancel ───────────────────────────────────────────────────────────────────────────────────────


async def _three_that_wait_and_run(store: Store) -> Task:
    task = a_parallel_task()
    await stored(store, task)
    await queued_ids(store, task, "runs", "waits", "waits too")
    await claimed(store, limit=1)
    return task


async def a_cancel_is_whole_or_absent(factory: CrashingStoreFactory) -> None:
    async def waiting(store: Store, _: Task) -> None:
        await store.request_cancel(execution_id=ExecutionId("waits"), now=NOW + MINUTE)

    async def running(store: Store, _: Task) -> None:
        await store.request_cancel(execution_id=ExecutionId("runs"), now=NOW + MINUTE)

    await _cut(factory, _three_that_wait_and_run, waiting)
    await _cut(factory, _three_that_wait_and_run, running)


async def each_cancel_of_a_whole_task_is_whole_or_absent(factory: CrashingStoreFactory) -> None:
    async def act(store: Store, task: Task) -> None:
        await store.request_cancel(task_id=task.id, now=NOW + MINUTE)

    await _cut(factory, _three_that_wait_and_run, act, each_execution=True)


# ── care ─────────────────────────────────────────────────────────────────────────────────────────


async def an_announcement_is_whole_or_absent(factory: CrashingStoreFactory) -> None:
    async def arrange(store: Store) -> None:
        await store.announce(an_instance("worker-2"), now=NOW)

    async def announce(store: Store, _: None) -> None:
        await store.announce(an_instance(), now=NOW + MINUTE)

    async def retire(store: Store, _: None) -> None:
        await store.retire([WorkerId("worker-2")])

    await _cut(factory, arrange, announce)
    await _cut(factory, arrange, retire)


async def a_reanchor_is_whole_or_absent(factory: CrashingStoreFactory) -> None:
    async def arrange(store: Store) -> None:
        await stored(store, *(a_task(id, updated_at=NOW + 3 * DAY) for id in ("one", "two")), a_task("three"))
        await queued(store, a_new_execution("late", "three", available_at=NOW + 3 * DAY))

    async def act(store: Store, _: None) -> None:
        await store.reanchor(beyond=NOW + DAY, now=NOW)

    await _cut(factory, arrange, act)


async def a_purge_is_whole_or_absent(factory: CrashingStoreFactory) -> None:
    task = a_task(policy=Policy(overlap=Overlap.ALLOW, max_retries=0))

    async def arrange(store: Store) -> None:
        await stored(store, task)
        await queued_ids(store, task, *"abc")
        for claim in await claimed(store):
            await settled(store, claim)
        skips = [Skip(NOW + n * MINUTE, NOW + n * MINUTE, 1, Reason.OVERLAP) for n in (1, 3)]
        await store.apply_plans([a_plan(task, skips=skips)], NOW + MINUTE)

    async def act(store: Store, _: None) -> None:
        await store.purge(before=NOW + DAY, limit=10)

    await _cut(factory, arrange, act, each_execution=True)
