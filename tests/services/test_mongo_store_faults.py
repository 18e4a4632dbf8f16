"""A bad line: what a lost answer leaves is read back, what never left is told apart from what perhaps was written."""

from __future__ import annotations

import gc
import warnings
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from peregrine.domain.errors import Unavailable, Unsure
from peregrine.domain.moment import MINUTE
from peregrine.ports.records import Record
from peregrine.ports.store import CancelVerdict, PlanVerdict, RenewVerdict, SettleVerdict
from peregrine.stores.mongo import commands, debts
from peregrine.stores.mongo.store import MongoStore
from peregrine.testing.builders import (
    NOW,
    a_claim_request,
    a_new_execution,
    a_plan,
    a_settlement,
    a_task,
    an_instance,
)
from peregrine.testing.store_contract.steps import (
    all_executions,
    all_tasks,
    assert_adds_up,
    claimed,
    ids,
    queued_ids,
    stored,
    view,
)
from tests.services.mongo_line import Fault, Line, a_line
from tests.services.mongo_places import MongoStores, PlacedStore

pytestmark = [pytest.mark.anyio, pytest.mark.services]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits seconds here for what never comes."""
    monkeypatch.setattr(commands, "SELECTION_MS", 1_000)
    monkeypatch.setattr(commands, "SOCKET_MS", 1_000)


@pytest.fixture(autouse=True)
def let_go() -> Iterator[None]:
    """The driver leaves a socket to the collector when it is closed while it looks for a server that is away."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@asynccontextmanager
async def _behind_a_line(stores: MongoStores) -> AsyncIterator[tuple[Line, MongoStore]]:
    async with a_line(stores.uri) as (line, uri):
        store = MongoStore(uri, stores.database)
        await store.open()
        try:
            yield line, store
        finally:
            line.mend()
            await store.close()


# ── one lost answer ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_one_lost_answer_of_any_write_changes_nothing(stores: MongoStores) -> None:
    """The driver asks again; whatever was written the first time must be known as ours the second."""
    await stores.fresh()
    async with _behind_a_line(stores) as (line, store):

        async def lossy(act: Awaitable[object], *verbs: str) -> object:
            line.spoil(Fault.SWALLOWED, *verbs, times=1)
            answer = await act
            assert line.left == 0, "no answer was lost"
            return answer

        task = a_task()
        await lossy(store.create_tasks([task]), "insert")
        await lossy(store.create_tasks([a_task("two"), a_task("three")]), "update")
        changed = replace(task, revision=2, description="new")
        await lossy(store.put_task(changed, expected_revision=1), "update")
        assert await lossy(store.apply_plans([a_plan(task, NOW + MINUTE)], NOW + MINUTE), "update") == [
            PlanVerdict.APPLIED
        ]
        made = await lossy(store.enqueue(a_new_execution("asked"), queue_limit=1_000), "insert")
        assert made == await store.get_execution(a_new_execution("asked").id)
        batch = await store.claim(a_claim_request(0))
        assert ids(batch.claims) == []
        line.spoil(Fault.SWALLOWED, "update", times=1)
        (claim,) = await claimed(store, now=NOW + MINUTE)
        assert line.left == 0
        renewed = await lossy(store.renew([(claim.execution_id, claim.epoch)]), "update")
        assert renewed == [RenewVerdict.KEPT]
        assert await lossy(store.settle([a_settlement(claim)]), "update") == [SettleVerdict.APPLIED]
        (second,) = await claimed(store, now=NOW + MINUTE)
        await store.settle([a_settlement(second)])
        await queued_ids(store, task, "cancelled")
        cancelled = await lossy(
            store.request_cancel(execution_id=a_new_execution("cancelled").id, now=NOW + MINUTE), "update"
        )
        assert cancelled == [("cancelled", CancelVerdict.CANCELLED)]
        kept = await lossy(store.put_record(Record(collection="c", key="k"), expected_revision=0, now=NOW), "insert")
        assert kept == Record(collection="c", key="k")
        await lossy(store.announce(an_instance(), now=NOW), "update")
        await lossy(store.delete_task(a_task("two").id, expected_revision=1, now=NOW), "update")

        assert {shown.task.id for shown in await all_tasks(store)} == {"task-1", "three"}
        assert (await view(store, task)).tally.total_runs == 3
        assert len(await all_executions(store)) == 3
        await assert_adds_up(store, now=NOW + MINUTE)


# ── all answers lost ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_claim_without_an_answer_is_read_back(stores: MongoStores) -> None:
    store, task = await stores.fresh(), a_task()
    await stored(store, task)
    await queued_ids(store, task, "one")
    request = a_claim_request()
    async with _behind_a_line(stores) as (line, cut_off):
        line.spoil(Fault.SWALLOWED, "update")
        with pytest.raises(Unsure):
            await cut_off.claim(request)
        line.mend()

        read = await cut_off.claimed_by(request.claim_id)

    assert ids(read) == ["one"]
    assert list(await store.renew([(read[0].execution_id, read[0].epoch)])) == [RenewVerdict.KEPT]


async def test_a_settlement_without_an_answer_is_known_again(stores: MongoStores) -> None:
    store, task = await stores.fresh(), a_task()
    await stored(store, task)
    await queued_ids(store, task, "one")
    (claim,) = await claimed(store)
    settlement = a_settlement(claim, followups=(a_new_execution("after"),))
    async with _behind_a_line(stores) as (line, cut_off):
        line.spoil(Fault.SWALLOWED, "update")
        with pytest.raises(Unsure):
            await cut_off.settle([settlement])
        line.mend()

        assert list(await cut_off.settle([settlement])) == [SettleVerdict.REPEATED]

    assert (await view(store, task)).tally.total_runs == 1
    assert len(await all_executions(store)) == 2
    await assert_adds_up(store)


async def test_a_verb_that_is_cut_off_behind_its_write_is_unsure(stores: MongoStores) -> None:
    """What fails is a read; but the end of the execution was written before it, so "unavailable" would be a lie."""
    store, task = await stores.fresh(), a_task()
    await stored(store, task)
    await queued_ids(store, task, "one")
    (claim,) = await claimed(store)
    settlement = a_settlement(claim)
    async with _behind_a_line(stores) as (line, cut_off):
        line.spoil(Fault.CUT, "find")
        with pytest.raises(Unsure):
            await cut_off.settle([settlement])
        line.mend()

        assert list(await cut_off.settle([settlement])) == [SettleVerdict.REPEATED]

    assert (await view(store, task)).tally.total_runs == 1


async def test_a_plan_without_an_answer_is_made_once(stores: MongoStores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debts, "LOOK_SECONDS", 0.0)
    store, task = await stores.fresh(), a_task()
    await stored(store, task)
    plan = a_plan(task, NOW + MINUTE)
    async with _behind_a_line(stores) as (line, cut_off):
        line.spoil(Fault.SWALLOWED, "update", "insert")
        with pytest.raises(Unsure):
            await cut_off.apply_plans([plan], NOW + MINUTE)
        line.mend()
        assert list(await cut_off.apply_plans([plan], NOW + MINUTE)) == [PlanVerdict.MOVED]
        for _ in range(2):
            await cut_off.due(NOW + MINUTE, 10)

    assert [one.scheduled_for for one in await all_executions(store)] == [NOW + MINUTE]
    assert (await view(store, task)).cursor == NOW + MINUTE
    await assert_adds_up(store)


async def test_a_request_without_an_answer_is_answered_by_its_key(stores: MongoStores) -> None:
    store = await stores.fresh()
    await stored(store, a_task())
    await store.enqueue(a_new_execution("before"), queue_limit=1)
    for place, limit in enumerate((1_000, 3)):
        new = a_new_execution(f"asked-{place}")
        async with _behind_a_line(stores) as (line, cut_off):
            line.spoil(Fault.SWALLOWED, "update", "insert")
            with pytest.raises(Unsure):
                await cut_off.enqueue(new, queue_limit=limit)
            line.mend()

            again = await cut_off.enqueue(replace(new, id=a_new_execution("other").id), queue_limit=limit)

        assert again.id == new.id
    assert len(await all_executions(store)) == 3


# ── what never arrives ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", [Fault.CUT, Fault.HOLE])
async def test_a_dead_line_is_told_in_bounded_time(fault: Fault, stores: MongoStores) -> None:
    """A read is unavailable, a write unsure: nobody here can know whether it arrived."""
    await stored(await stores.fresh(), a_task())
    async with _behind_a_line(stores) as (line, store):
        await store.ping()
        line.spoil(fault, "update", "insert")
        with pytest.raises(Unsure):
            await store.create_tasks([a_task("new")])
        line.spoil(fault, "find", "aggregate")
        with pytest.raises(Unavailable) as caught:
            await store.due(NOW, 10)
        assert not isinstance(caught.value, Unsure)
        line.mend()

        await store.ping()
        assert len(await all_tasks(store)) == 1


@pytest.mark.usefixtures("impatient")
async def test_nobody_there_is_unavailable_and_back_without_a_restart(stores: MongoStores) -> None:
    """A refused connection means that nothing was written, so a caller need not read anything back."""
    await stores.fresh()
    async with a_line(stores.uri) as (_, uri):
        pass
    store = MongoStore(uri, stores.database)
    for act in (store.open, store.ping, lambda: store.due(NOW, 10)):
        with pytest.raises(Unavailable) as caught:
            await act()
        assert not isinstance(caught.value, Unsure)
        assert "127.0.0.1" not in str(caught.value)
    facts = await store.facts()
    assert facts["file_bytes"] == 0
    await store.close()


@pytest.mark.usefixtures("impatient")
async def test_a_store_whose_server_is_gone_closes(stores: MongoStores) -> None:
    store, task = await stores.fresh(), a_task()
    await stored(store, task)
    await queued_ids(store, task, "one")
    (claim,) = await claimed(store)
    async with a_line(stores.uri) as (line, uri):
        cut_off = MongoStore(uri, stores.database)
        await cut_off.open()
        await cut_off.settle([a_settlement(claim)])
        line.spoil(Fault.CUT, "update", "hello")

        await cut_off.close()

    assert (await view(store, task)).tally.total_runs == 1


async def test_the_clock_of_the_server_is_read(stores: MongoStores) -> None:
    store: PlacedStore = await stores.fresh()

    moment, took = await store.server_time()

    assert moment > NOW
    assert took >= 0
    facts = await store.facts()
    assert {"topology", "mongodb", "file_bytes", "wal_bytes", "warning"} <= set(facts)
    await store.maintain()
    await store.rewrite()
