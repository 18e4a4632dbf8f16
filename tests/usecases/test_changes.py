"""A change is decided anew from what is stored, accounts for what was undecided, and is honest when unsure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from peregrine.domain import planning
from peregrine.domain.draft import Making
from peregrine.domain.errors import (
    Conflict,
    Forbidden,
    NotFound,
    Protected,
    Stale,
    Unauthenticated,
    Unavailable,
    Unsure,
)
from peregrine.domain.ids import ExecutionId, TaskId, WorkerId
from peregrine.domain.moment import MINUTE, SECOND, Moment
from peregrine.domain.occurrence import Reason, Verdict
from peregrine.domain.permission import Membership, Policy
from peregrine.domain.planning import DueTask, Plan
from peregrine.domain.policy import Overlap
from peregrine.domain.query import ExecutionFilter, PageRequest, TaskFilter, TaskSort
from peregrine.domain.task import Task, TaskView
from peregrine.ports.identity import NOBODY, Asker, Principal
from peregrine.ports.store import ClaimRequest
from peregrine.stores.memory import MemoryStore
from peregrine.usecases import audit, bundles, executions, keys, policies, tasks
from peregrine.usecases.executions import Order
from peregrine.usecases.means import Means
from peregrine.usecases.tasks import Unless
from peregrine.usecases.turns import Turns
from peregrine.wire.bundle import read_bundle
from peregrine.wire.task_input import read_new_task
from tests.api.world import HTTP_TASK, World

pytestmark = pytest.mark.anyio

BOSS = Asker(principal=Principal(id="boss", subjects=("user:boss", "group:super_admin")))
READER = Asker(principal=Principal(id="reader", subjects=("user:reader", "group:monitoring", "group:authenticated")))
STRANGER = Asker(principal=NOBODY)
EVERY_MINUTE = HTTP_TASK | {"schedule": "0 * * * * *"}


def making(body: dict[str, Any]) -> Callable[[Making], Task]:
    return lambda making: read_new_task(body, making)


async def task_of(world: World, **changes: Any) -> Task:
    return (await tasks.create_task(world.means, BOSS, making(EVERY_MINUTE | changes))).task


def described(text: str) -> Callable[[Task, Making], Task]:
    return lambda stored, _: replace(stored, description=text)


class Flaky(MemoryStore):
    """Loses answers, or is beaten by others, as often as it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.unsure_before = 0
        self.unsure_after = 0
        self.rivals: list[Callable[[], Awaitable[Any]]] = []

    async def _write(self, write: Awaitable[Any]) -> Any:
        if self.unsure_before:
            self.unsure_before -= 1
            write.close()  # type: ignore[attr-defined]
            raise Unsure("lost before it was written")
        result = await write
        if self.unsure_after:
            self.unsure_after -= 1
            raise Unsure("lost after it was written")
        return result

    async def create_tasks(self, new: Any) -> None:
        await self._write(super().create_tasks(new))

    async def put_task(self, task: Task, *, expected_revision: int, plan: Plan | None = None) -> TaskView | None:
        if self.rivals:
            await self.rivals.pop()()
        view: TaskView | None = await self._write(
            super().put_task(task, expected_revision=expected_revision, plan=plan)
        )
        return view

    async def enqueue(self, new: Any, *, queue_limit: int) -> Any:
        return await self._write(super().enqueue(new, queue_limit=queue_limit))


@pytest.fixture
def store() -> Flaky:
    return Flaky()


@pytest.fixture
def world(store: Flaky) -> World:
    return World(store=store)


# ── what the old definition left undecided ───────────────────────────────────────────────────────


async def test_what_fell_due_before_a_change_still_runs(world: World) -> None:
    task = await task_of(world)
    world.clock.pass_time(MINUTE + 5 * SECOND)

    await tasks.update_task(world.means, BOSS, task.id, lambda stored, _: replace(stored, schedule="0 0 0 1 1 *"))

    (entry,) = (await world.store.list_occurrences(task.id, PageRequest())).items
    assert (entry.verdict, entry.scheduled_for) == (Verdict.RAN, task.created_at + MINUTE)
    assert "queued" in world.woken


async def test_what_a_pause_held_back_is_told_when_it_ends(world: World) -> None:
    task = await task_of(world)
    await tasks.pause_task(world.means, BOSS, task.id)
    world.clock.pass_time(10 * MINUTE)

    await tasks.resume_task(world.means, BOSS, task.id)

    (entry,) = (await world.store.list_occurrences(task.id, PageRequest())).items
    assert (entry.verdict, entry.reason, entry.count) == (Verdict.SKIPPED, Reason.PAUSED, 10)
    assert (await world.store.list_executions(ExecutionFilter(), PageRequest())).total == 0


async def decided_ahead(world: World, task: Task, left: int) -> Moment:
    """The task's next moment, decided and claimed *left* milliseconds before it comes."""
    moment = task.created_at + MINUTE
    world.clock.pass_time(MINUTE - left)
    early = [planning.foreseen(one, moment) for one in (await world.store.due(moment, 9)).due]
    await world.store.apply_plans([one for one in early if one is not None], world.clock.now())
    assert (await world.store.get_tasks([task.id]))[0].cursor == moment
    return moment


@pytest.mark.parametrize("left", [1, planning.AHEAD])
async def test_a_change_waits_for_a_moment_that_is_decided_already(world: World, left: int) -> None:
    """Whoever hears that a task is paused sees nothing of it start any more."""
    task = await task_of(world)
    moment = await decided_ahead(world, task, left)

    paused = await tasks.pause_task(world.means, BOSS, task.id)

    assert world.clock.now() == moment
    assert paused.task.updated_at == moment


async def test_what_is_asked_for_just_before_a_moment_that_is_decided_comes_after_it(world: World) -> None:
    """It would keep the other from running, where one may not run beside the other."""
    alone = await task_of(world)
    beside = await task_of(world, name="beside", overlap="allow")
    moment = await decided_ahead(world, alone, 20)

    at_once = await executions.execute_task(world.means, BOSS, beside.id)
    after = await executions.execute_task(world.means, BOSS, alone.id)

    assert (at_once.queued_at, after.queued_at) == (moment - 20, moment)


async def test_a_task_is_deleted_after_a_moment_that_is_decided_already(world: World) -> None:
    task = await task_of(world)
    moment = await decided_ahead(world, task, 20)

    await tasks.delete_task(world.means, BOSS, task.id)

    assert world.clock.now() == moment


async def test_an_import_waits_for_the_last_moment_that_is_decided_already(world: World) -> None:
    task = await task_of(world)
    moment = await decided_ahead(world, task, 20)
    bundle = read_bundle([EVERY_MINUTE | {"description": "imported"}])

    await bundles.import_tasks(world.means, BOSS, bundle.tasks, overwrite=True, dry_run=False)

    assert (await tasks.get_task(world.means, BOSS, task.id)).task.updated_at == moment


async def test_a_clock_that_was_set_back_keeps_no_change_waiting(world: World) -> None:
    task = await task_of(world)
    moment = await decided_ahead(world, task, planning.AHEAD + 1)

    await tasks.pause_task(world.means, BOSS, task.id)

    assert world.clock.now() == moment - planning.AHEAD - 1


async def test_a_task_whose_schedule_can_not_be_read_any_more_can_be_mended(world: World) -> None:
    """Its zone left the zone data: the planner has put it aside until somebody edits it, and that must be possible."""
    task = await task_of(world)
    world.store._tasks[task.id].task = replace(task, timezone="Nowhere/Atall")
    world.clock.pass_time(10 * MINUTE)

    stopped = await tasks.set_enabled(world.means, BOSS, task.id, to=False)
    await tasks.update_task(world.means, BOSS, task.id, lambda stored, _: replace(stored, timezone="UTC"))
    mended = await tasks.set_enabled(world.means, BOSS, task.id, to=True)

    assert not stopped.task.enabled
    assert mended.next_run_at == world.clock.now() + MINUTE


async def test_nothing_is_owed_for_the_time_a_task_was_disabled(world: World) -> None:
    task = await task_of(world)
    await tasks.set_enabled(world.means, BOSS, task.id, to=False)
    world.clock.pass_time(10 * MINUTE)

    view = await tasks.set_enabled(world.means, BOSS, task.id, to=True)

    assert (await world.store.list_occurrences(task.id, PageRequest())).total == 0
    assert view.next_run_at == world.clock.now() + MINUTE


async def test_a_full_queue_does_not_keep_a_change_from_accounting() -> None:
    world = World(means={"queue_size": 1})
    task = await task_of(world)
    await executions.execute_task(world.means, BOSS, (await task_of(world, name="other")).id)
    world.clock.pass_time(MINUTE)

    await tasks.update_task(world.means, BOSS, task.id, described("x"))

    assert (await world.store.list_occurrences(task.id, PageRequest())).total == 1


async def test_a_clock_that_went_back_does_not_decide_twice(world: World) -> None:
    task = await task_of(world)
    world.clock.pass_time(MINUTE)
    await tasks.set_enabled(world.means, BOSS, task.id, to=False)
    await tasks.set_enabled(world.means, BOSS, task.id, to=True)
    world.clock.wall -= 30 * SECOND

    view = await tasks.update_task(world.means, BOSS, task.id, described("x"))

    assert view.task.updated_at == task.created_at + MINUTE
    assert (await world.store.list_occurrences(task.id, PageRequest())).total == 1


# ── rivals ───────────────────────────────────────────────────────────────────────────────────────


def elsewhere(world: World) -> Means:
    """The same store in another process, where nobody waits for a turn of ours."""
    return replace(world.means, turns=Turns())


async def plan_by_rival(world: World, task_id: TaskId) -> None:
    """What a planner on another instance does at the same moment."""
    view = await tasks.existing(world.means, task_id)
    decided = planning.plan(DueTask(view.task, view.cursor, 0), world.clock.now(), 100)
    assert decided is not None
    await world.store.apply_plans([decided], world.clock.now())


async def test_a_planner_that_is_quicker_is_no_trouble(world: World, store: Flaky) -> None:
    task = await task_of(world)
    world.clock.pass_time(MINUTE)
    store.rivals.append(lambda: plan_by_rival(world, task.id))

    view = await tasks.update_task(world.means, BOSS, task.id, described("x"))

    assert (view.task.description, view.task.revision) == ("x", 2)
    assert (await world.store.list_occurrences(task.id, PageRequest())).total == 1


async def test_a_person_who_is_quicker_is_built_upon(world: World, store: Flaky) -> None:
    task = await task_of(world)
    store.rivals.append(
        lambda: tasks.update_task(elsewhere(world), BOSS, task.id, lambda stored, _: replace(stored, tags=("theirs",)))
    )

    view = await tasks.update_task(world.means, BOSS, task.id, described("mine"))

    assert (view.task.description, view.task.tags, view.task.revision) == ("mine", ("theirs",), 3)


async def test_a_person_who_is_quicker_is_a_stale_precondition(world: World, store: Flaky) -> None:
    task = await task_of(world)
    store.rivals.append(lambda: tasks.update_task(elsewhere(world), BOSS, task.id, described("theirs")))

    with pytest.raises(Stale):
        await tasks.update_task(world.means, BOSS, task.id, described("mine"), Unless(frozenset({1})))

    assert (await tasks.existing(world.means, task.id)).task.description == "theirs"


# ── who is told ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("schedule", "told"),
    [
        ("0 * * * * *", ["tasks"]),
        ("@every 119s", ["tasks"]),
        ("@every 3m", []),
        ("@manual", []),
    ],
)
async def test_planners_are_told_of_what_is_due_before_they_look(world: World, schedule: str, told: list[str]) -> None:
    task = await task_of(world, schedule=schedule)
    assert world.woken == told

    await tasks.update_task(world.means, BOSS, task.id, described("x"))
    assert world.woken == 2 * told


@pytest.mark.parametrize(("before", "after"), [("0 * * * * *", "@manual"), ("@manual", "0 * * * * *")])
async def test_planners_are_told_of_what_was_due_soon_or_will_be(world: World, before: str, after: str) -> None:
    task = await task_of(world, schedule=before)
    world.woken.clear()

    await tasks.update_task(world.means, BOSS, task.id, lambda stored, _: replace(stored, schedule=after))

    assert world.woken == ["tasks"]


async def test_workers_are_told_of_what_may_run_side_by_side_now(world: World) -> None:
    task = await task_of(world, schedule="@manual")
    world.woken.clear()

    def parallel(stored: Task, _: Making) -> Task:
        return replace(stored, policy=replace(stored.policy, overlap=Overlap.ALLOW))

    await tasks.update_task(world.means, BOSS, task.id, parallel)

    assert world.woken == ["queued"]


# ── lost answers ─────────────────────────────────────────────────────────────────────────────────


async def test_a_write_whose_answer_was_lost_is_read_back(world: World, store: Flaky) -> None:
    store.unsure_after = 1
    task = await task_of(world)
    store.unsure_after = 1

    view = await tasks.update_task(world.means, BOSS, task.id, described("x"))

    assert (view.task.description, view.task.revision) == ("x", 2)
    assert store.unsure_after == 0


async def test_a_write_that_may_be_lost_is_not_claimed(world: World, store: Flaky) -> None:
    task = await task_of(world)

    for attempt in (
        lambda: tasks.update_task(world.means, BOSS, task.id, described("x")),
        lambda: task_of(world, name="other"),
    ):
        store.unsure_before = 1
        with pytest.raises(Unsure):
            await attempt()

    page = await tasks.list_tasks(world.means, BOSS, TaskFilter(), PageRequest(), sort=TaskSort.NAME, descending=False)
    assert [view.task.description for view in page[0].items] == [task.description]


@pytest.mark.parametrize("lost", ["before", "after"])
async def test_running_now_survives_a_lost_answer(world: World, store: Flaky, lost: str) -> None:
    task = await task_of(world)
    setattr(store, f"unsure_{lost}", 1)

    execution = await executions.execute_task(world.means, BOSS, task.id)

    assert await world.store.get_execution(execution.id) == execution
    assert (await world.store.list_executions(ExecutionFilter(), PageRequest())).total == 1


async def test_running_now_that_stays_unsure_says_so(world: World, store: Flaky) -> None:
    task = await task_of(world)
    store.unsure_before = 2

    with pytest.raises(Unsure):
        await executions.execute_task(world.means, BOSS, task.id)


async def test_the_same_key_gives_the_same_execution(world: World) -> None:
    task = await task_of(world)

    one = await executions.execute_task(world.means, BOSS, task.id, Order(key="k"))
    two = await executions.execute_task(world.means, BOSS, task.id, Order(key="k"))
    other = await executions.execute_task(world.means, BOSS, task.id, Order(key="l"))

    assert one == two != other


# ── stop ─────────────────────────────────────────────────────────────────────────────────────────


async def test_stop_marks_what_runs_and_ends_what_waits(world: World) -> None:
    task = await task_of(world, overlap="allow")
    running = await executions.execute_task(world.means, BOSS, task.id)
    request = ClaimRequest(claim_id="c", worker_id=WorkerId("w"), now=world.clock.now(), limit=1)
    await world.store.claim(request)
    waiting = await executions.execute_task(world.means, BOSS, task.id)

    stopped = await tasks.stop_task(world.means, BOSS, task.id)

    assert set(stopped.cancelled) == {running.id, waiting.id}
    marked = await world.store.get_execution(running.id)
    assert marked is not None
    assert marked.cancel_requested
    assert not marked.state.is_ended
    view = await tasks.existing(world.means, task.id)
    assert view.task.pause is not None
    assert (view.next_run_at, view.task.pause.by) == (None, "boss")


# ── who may ──────────────────────────────────────────────────────────────────────────────────────

NONE = TaskId("none")
NO_RUN = ExecutionId("none")
WRITES: dict[str, Callable[[Any, Asker], Awaitable[Any]]] = {
    "create": lambda m, by: tasks.create_task(m, by, making(HTTP_TASK)),
    "update": lambda m, by: tasks.update_task(m, by, NONE, described("x")),
    "enable": lambda m, by: tasks.set_enabled(m, by, NONE, to=True),
    "pause": lambda m, by: tasks.pause_task(m, by, NONE),
    "resume": lambda m, by: tasks.resume_task(m, by, NONE),
    "stop": lambda m, by: tasks.stop_task(m, by, NONE),
    "delete": lambda m, by: tasks.delete_task(m, by, NONE),
    "reload": tasks.reload_tasks,
    "execute": lambda m, by: executions.execute_task(m, by, NONE),
    "cancel": lambda m, by: executions.cancel_execution(m, by, NO_RUN),
    "bulk": lambda m, by: bundles.operate(m, by, bundles.Operation.DELETE, [NONE]),
    "import": lambda m, by: bundles.import_tasks(m, by, [], overwrite=True, dry_run=False),
    "policies": policies.list_policies,
    "policy": lambda m, by: policies.add_policy(m, by, Policy(subject="user:1", permission="*")),
    "no policy": lambda m, by: policies.remove_policy(m, by, "x"),
    "memberships": policies.list_memberships,
    "membership": lambda m, by: policies.add_membership(m, by, Membership(subject="user:1", member_of="role:x")),
    "no membership": lambda m, by: policies.remove_membership(m, by, "x"),
    "keys": keys.list_keys,
    "key": lambda m, by: keys.add_key(m, by, name="k", groups=["g"], expires_at=None),
    "no key": lambda m, by: keys.remove_key(m, by, "x"),
    "trail": lambda m, by: audit.list_entries(m, by, before="", limit=1),
}
READS: dict[str, Callable[[Any, Asker], Awaitable[Any]]] = {
    "list": lambda m, by: tasks.list_tasks(m, by, TaskFilter(), PageRequest(), sort=TaskSort.NAME, descending=True),
    "get": lambda m, by: tasks.get_task(m, by, NONE),
    "ledger": lambda m, by: tasks.list_occurrences(m, by, NONE, PageRequest()),
    "execution": lambda m, by: executions.get_execution(m, by, NO_RUN),
    "executions": lambda m, by: executions.list_executions(m, by, ExecutionFilter(), PageRequest()),
    "history": lambda m, by: executions.list_history(m, by, NONE, ExecutionFilter(), PageRequest()),
    "export": lambda m, by: bundles.export_tasks(m, by, TaskFilter(), sort=TaskSort.NAME, descending=True),
}


@pytest.mark.parametrize("verb", [*WRITES, *READS])
async def test_permission_is_asked_for_before_anything_else(world: World, verb: str) -> None:
    """By the use case itself: whoever calls it without a door in front is held to the same."""
    ask = (WRITES | READS)[verb]

    with pytest.raises(Unauthenticated):
        await ask(world.means, STRANGER)
    if verb in WRITES:
        with pytest.raises(Forbidden):
            await ask(world.means, READER)
    try:
        await ask(world.means, BOSS if verb in WRITES else READER)
    except (Unauthenticated, Forbidden):
        pytest.fail("was refused")
    except (NotFound, Conflict, Protected, Unavailable):
        pass


async def test_an_import_that_fails_leaves_nothing_of_it(world: World, store: Flaky) -> None:
    for name in ("a", "b"):
        await task_of(world, name=name)
    bundle = read_bundle([HTTP_TASK | {"name": name, "description": "new"} for name in ("a", "b", "c")])
    store.rivals = [_away, _nothing]

    with pytest.raises(Unavailable):
        await bundles.import_tasks(world.means, BOSS, bundle.tasks, overwrite=True, dry_run=False)
    left = {view.task.name: view.task.description for view in await world.store.get_named(["a", "b", "c"])}
    store.rivals.clear()
    done = await bundles.import_tasks(world.means, BOSS, bundle.tasks, overwrite=True, dry_run=False)

    assert left == dict.fromkeys(("a", "b"), HTTP_TASK["description"])
    assert sorted(done.imported) == ["a", "b", "c"]
    views = await world.store.get_named(["a", "b", "c"])
    assert {view.task.description for view in views} == {"new"}


async def test_an_import_that_others_are_quicker_than_is_decided_anew(world: World) -> None:
    task = await task_of(world, name="a")
    bundle = read_bundle([HTTP_TASK | {"name": "a", "description": "new"}])
    writes = world.store.put_tasks

    async def beaten(new: Any, changes: Any) -> None:
        world.store.put_tasks = writes  # type: ignore[method-assign]
        await tasks.set_enabled(world.means, BOSS, task.id, to=False)
        await writes(new, changes)

    world.store.put_tasks = beaten  # type: ignore[method-assign]

    await bundles.import_tasks(world.means, BOSS, bundle.tasks, overwrite=True, dry_run=False)

    view = await tasks.get_task(world.means, BOSS, task.id)
    assert (view.task.description, view.task.revision) == ("new", 3)


async def _nothing() -> None:
    """Nobody is quicker."""


async def _away() -> None:
    raise Unavailable("away")
