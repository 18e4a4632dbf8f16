"""Two versions on one database: what a newer one wrote is kept by every write, and what only it understands is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from peregrine.domain.errors import Conflict, UnsafeStore
from peregrine.domain.execution import AttemptOutcome
from peregrine.domain.ids import TaskId, WorkerId
from peregrine.domain.moment import DAY, HOUR, MINUTE
from peregrine.domain.occurrence import Reason, Skip, Verdict
from peregrine.domain.query import ExecutionFilter, PageRequest, TaskFilter, TaskSort
from peregrine.domain.retry import recover
from peregrine.domain.task import Pause
from peregrine.ports.moving import Kind as Moved
from peregrine.ports.records import Record
from peregrine.ports.store import SettleVerdict, TaskChange
from peregrine.stores.mongo import store as mongo_store
from peregrine.stores.mongo.commands import (
    BUNDLES,
    EXECUTIONS,
    INSTANCES,
    META,
    RECORDS,
    SKIPS,
    SLOTS,
    TASKS,
    Change,
    Document,
)
from peregrine.stores.mongo.debts import BUNDLE, OPEN
from peregrine.stores.mongo.indexes import SCHEMA
from peregrine.testing.builders import NOW, a_new_execution, a_plan, a_settlement, a_task, an_instance
from peregrine.testing.store_contract.steps import (
    claimed,
    execution,
    queued_ids,
    refused,
    settled,
    stored,
    view,
)
from tests.services.mongo_next import ITS, changing_with_its, keeps_its, with_its
from tests.services.mongo_places import MongoStores, PlacedCommands, PlacedStore

pytestmark = [pytest.mark.anyio, pytest.mark.services]


class NextCommands(PlacedCommands):
    """Commands of the next version: each document, and each part of one, says more than we know."""

    async def insert(self, name: str, documents: Sequence[Document]) -> set[int]:
        return await super().insert(name, [with_its(one) for one in documents])

    async def update(self, name: str, changes: Sequence[Change], *, upsert: bool = False) -> int:
        return await super().update(name, [changing_with_its(one) for one in changes], upsert=upsert)


class NextStore(PlacedStore):
    """A store of the next version."""

    def _make_commands(self, uri: str, database: str) -> PlacedCommands:
        self.commands = NextCommands(self._shared, database)
        return self.commands


async def both_versions(stores: MongoStores) -> tuple[PlacedStore, NextStore]:
    """Today's store and the next version's, on one empty database."""
    ours = await stores.fresh()
    its = NextStore(stores.client, stores.database)
    await its.open()
    return ours, its


async def everything(store: PlacedStore, name: str) -> list[Document]:
    return await store.commands.find(name, {}, sort=[("_id", 1)])


async def look_everywhere(store: PlacedStore) -> None:
    """Every read and every turn that an instance takes by itself."""
    later = NOW + HOUR
    await store.due(later, 100)
    await claimed(store, now=later)
    await store.running()
    await store.instances()
    await store.maintain()
    await store.reanchor(beyond=NOW - DAY, now=NOW)
    await store.statistics(later)
    await store.list_executions(ExecutionFilter(), PageRequest())
    page = await store.list_tasks(TaskFilter(), PageRequest(), sort=TaskSort.NAME, descending=False, now=later)
    for shown in page.items:
        await store.list_occurrences(shown.task.id, PageRequest())
    await store.sweep_records(now=later, limit=100)


# ── what is kept ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_every_write_to_a_task_keeps_what_the_next_version_says_there(stores: MongoStores) -> None:
    ours, its = await both_versions(stores)
    task, other = a_task("one", pause=Pause(since=NOW, reason="theirs")), a_task("two")
    await its.create_tasks([task, other])
    await ours.put_task(replace(task, revision=2, description="changed here"), expected_revision=1)
    again = TaskChange(task=replace(task, revision=3, tags=("both",)), expected_revision=2)
    await ours.put_tasks([a_task("three")], [again])
    await ours.apply_plans([a_plan(other, NOW + MINUTE, skips=[Skip(NOW, NOW, 1, Reason.OVERLAP)])], NOW + MINUTE)
    (claim,) = await claimed(ours, now=NOW + MINUTE)
    await settled(ours, claim)
    await ours.reanchor(beyond=NOW, now=NOW)
    await ours.maintain()

    one, two = [document for document in await everything(ours, TASKS) if document["_id"] != "three"]
    assert keeps_its(one)
    assert keeps_its(two)
    assert one["pause"]["reason"] == "theirs"
    assert one["metadata"]["version"] == 3
    assert two["metadata"]["total_runs"] == 1


@pytest.mark.parametrize("verdict", [AttemptOutcome.SUCCEEDED, AttemptOutcome.FAILED, AttemptOutcome.CANCELLED])
async def test_every_write_to_an_execution_keeps_it_too(stores: MongoStores, verdict: AttemptOutcome) -> None:
    ours, its = await both_versions(stores)
    await stored(its, a_task("one"))
    await queued_ids(its, a_task("one"), "run")
    (claim,) = await claimed(its)
    assert [document["its"] for document in await everything(ours, SLOTS)] == [ITS]
    await ours.renew([(claim.execution_id, claim.epoch)])
    await ours.request_cancel(execution_id=claim.execution_id, now=NOW)
    await settled(ours, claim, verdict)
    for again in await claimed(ours, now=NOW + HOUR):
        await settled(ours, again)

    await ours.maintain()
    (run,) = await everything(ours, EXECUTIONS)
    assert run["its"] == ITS
    assert run["metadata"]["its"] == ITS
    assert run["attempts"][0]["its"] == ITS
    assert run["attempts"][0]["outcome"] is not None


async def test_what_the_next_version_left_running_is_recovered_with_all_it_said(stores: MongoStores) -> None:
    ours, its = await both_versions(stores)
    await stored(its, a_task("one"))
    await queued_ids(its, a_task("one"), "run")
    await claimed(its, worker="next")

    (row,) = await ours.running()
    assert await ours.settle([recover(row, WorkerId("here"), NOW + MINUTE, 0.5)]) == [SettleVerdict.APPLIED]

    (run,) = await everything(ours, EXECUTIONS)
    assert run["attempts"][0]["its"] == ITS
    assert run["attempts"][0]["outcome"] == "lost"


async def test_instances_records_and_the_gate_keep_it(stores: MongoStores) -> None:
    ours, its = await both_versions(stores)
    await its.announce(an_instance("next"), now=NOW)
    await ours.announce(an_instance("next"), now=NOW)
    record = Record(collection="policies", key="p", document={"effect": "ask"})
    await its.put_record(record, expected_revision=0, now=NOW)
    await ours.put_record(replace(record, document={"effect": "deny"}), expected_revision=1, now=NOW)
    await stored(ours, a_task("one"))
    await its.enqueue(a_new_execution("a", "one"), queue_limit=3)
    await ours.enqueue(a_new_execution("b", "one"), queue_limit=3)

    for name in (INSTANCES, RECORDS):
        assert [document["its"] for document in await everything(ours, name)] == [ITS]
    gate = next(one for one in await everything(ours, META) if one["_id"] == "gate")
    assert (gate["its"], gate["passing"]) == (ITS, None)
    assert len(await everything(ours, EXECUTIONS)) == 2


async def test_the_plan_of_the_next_version_is_finished_with_all_that_it_made(stores: MongoStores) -> None:
    """It died behind the decision: what it decided is written by us as it stood."""
    ours, its = await both_versions(stores)
    await stored(its, a_task("one"))
    its.commands.left = 1
    with pytest.raises(BaseException):  # noqa: B017 - it dies
        await its.apply_plans([a_plan(a_task("one"), NOW + MINUTE, skips=[Skip(NOW, NOW, 1, Reason.PAUSED)])], NOW)
    await stores.reopen()

    ((run,), (skip,)) = await everything(ours, EXECUTIONS), await everything(ours, SKIPS)
    assert (run["status"], skip["reason"]) == ("pending", "paused")
    assert (await everything(ours, TASKS))[0]["its"] == ITS


# ── what is left ─────────────────────────────────────────────────────────────────────────────────────────────────────

NEWER_TASKS: list[dict[str, Any]] = [
    {"needs": 2},
    {"type": "workflow", "config": {"steps": ["a", "b"]}},
    {"overlap": "replace"},
    {"misfire": "spread"},
    {"on_worker_lost": "ask"},
    {"dst_gap": "warp"},
    {"dst_overlap": "warp"},
    {"priority": "urgent", "priority_class": 9},
]


@pytest.mark.parametrize("newer", NEWER_TASKS, ids=lambda fields: next(iter(fields)))
async def test_a_task_of_a_newer_version_is_left_to_it_and_the_others_go_on(
    stores: MongoStores, newer: dict[str, Any]
) -> None:
    ours = await stores.fresh()
    theirs, usual = a_task("a-theirs"), a_task("usual")
    await stored(ours, theirs, usual)
    await queued_ids(ours, theirs, "a-waits")
    await queued_ids(ours, usual, "b-waits")
    await ours.commands.update(TASKS, [({"_id": "a-theirs"}, {"$set": newer})])
    before = await ours.commands.find(TASKS, {"_id": "a-theirs"})

    due = await ours.due(NOW + HOUR, 10)
    claims = await claimed(ours)
    await look_everywhere(ours)
    error = await refused(Conflict, ours.put_task(replace(theirs, revision=2), expected_revision=1))
    together = await refused(
        Conflict, ours.put_tasks([], [TaskChange(task=replace(theirs, revision=2), expected_revision=1)])
    )
    moved = await refused(Conflict, ours.read_items(Moved.TASKS, limit=10))

    assert [one.task.id for one in due.due] == ["usual"]
    assert [claim.execution_id for claim in claims] == ["b-waits"]
    assert {error.code, together.code, moved.code} == {"needs_newer_version"}
    assert await ours.commands.find(TASKS, {"_id": "a-theirs"}) == before
    (waits,) = await ours.commands.find(EXECUTIONS, {"_id": "a-waits"})
    assert (waits["status"], waits["attempt"]) == ("pending", 0)


async def test_as_many_of_them_as_you_like_keep_nothing_else_from_being_due(stores: MongoStores) -> None:
    ours = await stores.fresh()
    await stored(ours, *(a_task(f"a-{number}") for number in range(5)), a_task("usual"))
    await ours.commands.update(TASKS, [({"_id": f"a-{number}"}, {"$set": {"needs": 2}}) for number in range(5)])

    batch = await ours.due(NOW + HOUR, 2)

    assert [one.task.id for one in batch.due] == ["usual"]


async def test_a_task_of_the_next_version_that_runs_there_is_not_taken_from_it(stores: MongoStores) -> None:
    """Not even recovered: what its loss means only the newer version knows."""
    ours = await stores.fresh()
    await stored(ours, a_task("theirs"))
    await queued_ids(ours, a_task("theirs"), "run")
    await claimed(ours, worker="next")
    await ours.commands.update(TASKS, [({"_id": "theirs"}, {"$set": {"overlap": "replace"}})])

    assert await ours.running() == []
    assert (await view(ours, a_task("theirs"))).running == 1


@pytest.mark.parametrize("newer", [{"needs": 2}, {"cause": "sensor"}, {"owes": {"letter": "to somebody"}}], ids=str)
async def test_an_execution_of_a_newer_version_is_left_to_it(stores: MongoStores, newer: dict[str, Any]) -> None:
    ours = await stores.fresh()
    await stored(ours, a_task("one"), a_task("two"))
    await queued_ids(ours, a_task("one"), "a-theirs")
    await queued_ids(ours, a_task("two"), "b-ours")
    await ours.commands.update(EXECUTIONS, [({"_id": "a-theirs"}, {"$set": newer})])
    before = await ours.commands.find(EXECUTIONS, {"_id": "a-theirs"})

    claims = await claimed(ours)
    await look_everywhere(ours)

    assert [claim.execution_id for claim in claims] == ["b-ours"]
    assert await ours.commands.find(EXECUTIONS, {"_id": "a-theirs"}) == before


async def test_a_status_that_is_new_to_us_is_shown_and_left_and_ends_with_its_task(stores: MongoStores) -> None:
    ours = await stores.fresh()
    await stored(ours, a_task("one"))
    await queued_ids(ours, a_task("one"), "run")
    await claimed(ours, worker="next")
    await ours.commands.update(EXECUTIONS, [({"_id": "run"}, {"$set": {"status": "suspended"}})])

    await look_everywhere(ours)
    assert not (await execution(ours, "run")).state.is_ended
    assert await ours.delete_task(TaskId("one"), expected_revision=None, now=NOW) == ["run"]

    (run,) = await everything(ours, EXECUTIONS)
    assert (run["status"], run["cancel_requested"]) == ("suspended", True)


async def test_words_that_are_new_to_us_in_what_has_ended_are_shown_as_well_as_can_be(stores: MongoStores) -> None:
    ours = await stores.fresh()
    await stored(ours, a_task("one"))
    skip = Skip(NOW + MINUTE, NOW + MINUTE, 1, Reason.OVERLAP)
    await ours.apply_plans([a_plan(a_task("one"), NOW + 2 * MINUTE, skips=[skip])], NOW)
    (claim,) = await claimed(ours, now=NOW + 2 * MINUTE)
    await settled(ours, claim)
    newer = {"attempts.0.outcome": "superseded", "outcome": "superseded", "status": "superseded", "cause": "sensor"}
    await ours.commands.update(EXECUTIONS, [({"_id": claim.execution_id}, {"$set": newer})])
    await ours.commands.update(SKIPS, [({"task_id": "one"}, {"$set": {"reason": "holiday"}})])

    await look_everywhere(ours)
    shown = await execution(ours, claim.execution_id)
    ran, left_out = (await ours.list_occurrences(TaskId("one"), PageRequest())).items
    late = await ours.settle([a_settlement(claim)])

    assert (shown.state.is_ended, shown.attempts[0].outcome) == (True, None)
    assert (ran.verdict, left_out.verdict, left_out.reason) == (Verdict.RAN, Verdict.SKIPPED, None)
    assert late == [SettleVerdict.STALE]


async def test_a_debt_that_only_a_newer_version_can_pay_stays_when_ours_is_paid(stores: MongoStores) -> None:
    ours = await stores.fresh()
    await stored(ours, a_task("one"))
    await queued_ids(ours, a_task("one"), "run")
    (claim,) = await claimed(ours, worker="next")
    await settled(ours, claim)
    await ours.maintain()
    # As the next version leaves it that dies behind its settlement: the tally is owed, and a letter.
    owed = {"owes": {"tally": True, "letter": {"to": "somebody"}}, "owing": True}
    tally = {"metadata.total_runs": 0, "metadata.success_count": 0, "counted": []}
    await ours.commands.update(EXECUTIONS, [({"_id": "run"}, {"$set": owed})])
    await ours.commands.update(TASKS, [({"_id": "one"}, {"$set": tally})])

    again = await stores.reopen()
    await look_everywhere(again)
    await (await stores.reopen()).maintain()

    (run,) = await everything(ours, EXECUTIONS)
    assert (run["owes"], run["owing"]) == ({"letter": {"to": "somebody"}}, True)
    assert (await view(ours, a_task("one"))).tally.total_runs == 1


async def test_a_batch_and_a_torn_task_that_need_a_newer_version_are_not_touched(stores: MongoStores) -> None:
    ours = await stores.fresh()
    await stored(ours, a_task("torn"), a_task("usual"))
    batch: Document = {"_id": "theirs", "state": OPEN, "needs": 2, "at": 2**62}
    await ours.commands.insert(BUNDLES, [batch])
    (torn,) = await ours.commands.find(TASKS, {"_id": "torn"})
    mark = {"torn": BUNDLE, "bundle": "theirs", "hidden": BUNDLE, "needs": 2}
    await ours.commands.update(TASKS, [({"_id": "torn"}, {"$set": mark})])

    again = await stores.reopen()
    await look_everywhere(again)

    assert await ours.commands.find(TASKS, {"_id": "torn"}) == [torn | mark]
    assert await everything(ours, BUNDLES) == [batch]


# ── who may open ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_next_version_says_so_and_the_oldest_that_may_open_only_grows(
    stores: MongoStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = await stores.fresh()

    async def schema() -> tuple[int, int]:
        (document,) = await ours.commands.find(META, {"_id": SCHEMA})
        return document["version"], document["oldest"]

    try:
        with monkeypatch.context() as newer:
            newer.setattr(mongo_store, "VERSION", 2)
            await stores.reopen()
            assert await schema() == (2, 1)
            await stores.reopen()
            newer.setattr(mongo_store, "OLDEST", 2)
            await stores.reopen()
            assert await schema() == (2, 2)
        with pytest.raises(UnsafeStore, match="written by a newer peregrine"):
            await stores.reopen()
    finally:
        await ours.commands.update(META, [({"_id": SCHEMA}, {"$set": {"version": 1, "oldest": 1}})])
