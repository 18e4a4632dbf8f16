"""The built-in system tasks do what they say, measured on a real (memory) store."""

from __future__ import annotations

import json
from dataclasses import replace

from peregrine.domain.errors import Unavailable
from peregrine.domain.execution import AttemptOutcome, Outcome
from peregrine.domain.ids import TaskId
from peregrine.domain.moment import DAY
from peregrine.domain.payload import JsonObject, SystemPayload
from peregrine.domain.task import Pause
from peregrine.modules.builtin.catalogue import builtin_tasks
from peregrine.modules.builtin.health import Probe
from peregrine.ports.executor import RunContext
from peregrine.ports.module import SystemTask
from peregrine.stores.memory import MemoryStore
from peregrine.testing.builders import a_task
from peregrine.testing.clock import ManualClock, run_virtual
from peregrine.usecases.system_tasks import synchronise


class Silence:
    """A run's context that keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, line: str) -> None:
        self.lines.append(line)

    def progress(self, fraction: float, text: str = "") -> None:
        self.lines.append(f"{fraction:.0%} {text}")


class Sweeper:
    """A shelf with so many expired records."""

    def __init__(self, expired: int) -> None:
        self.expired = expired

    async def sweep_records(self, *, now: int, limit: int) -> int:
        taken = min(limit, self.expired)
        self.expired -= taken
        return taken


class Attic:
    """A store with so many old executions; remembers from when on."""

    def __init__(self, old: int) -> None:
        self.old = old
        self.before = 0

    async def purge(self, *, before: int, limit: int) -> tuple[int, int]:
        self.before = before
        taken = min(limit, self.old)
        self.old -= taken
        return taken, 0


async def fine() -> None:
    """A neighbour that answers."""


async def away() -> None:
    """A neighbour that does not."""
    raise Unavailable("connection refused")


def tasks(
    clock: ManualClock, *, records: object = None, store: object = None, probes: dict[str, Probe] | None = None
) -> dict[str, SystemTask]:
    made = builtin_tasks(
        store=store or Attic(0),  # type: ignore[arg-type]
        records=records or Sweeper(0),  # type: ignore[arg-type]
        probes=probes or {"store": fine},
        clock=clock,
    )
    return {task.id: task for task in made}


def run(task: SystemTask, parameters: JsonObject | None = None) -> Outcome:
    async def attempt() -> Outcome:
        context: RunContext = Silence()  # type: ignore[assignment]
        return await task.handler(task.parameters if parameters is None else parameters, context)

    return run_virtual(attempt())


def test_the_health_check_measures_each_neighbour() -> None:
    """Every probe is asked, and its answer told with a latency."""
    outcome = run(tasks(ManualClock(), probes={"store": fine, "locks": fine})["system-health-check"])

    told = json.loads(outcome.output)
    assert outcome.verdict is AttemptOutcome.SUCCEEDED
    assert {name: state["status"] for name, state in told.items()} == {"store": "up", "locks": "up"}
    assert all(state["latency_ms"] >= 0 for state in told.values())


def test_the_health_check_fails_when_one_is_down() -> None:
    """One neighbour away fails the check by name, and the others are told all the same."""
    outcome = run(tasks(ManualClock(), probes={"store": fine, "locks": away})["system-health-check"])

    assert outcome.verdict is AttemptOutcome.FAILED
    assert outcome.error == "down: locks"
    assert json.loads(outcome.output)["store"]["status"] == "up"


def test_the_state_cleanup_counts_what_it_removed() -> None:
    """More than one bite of expired records is removed, and the number told is the number removed."""
    shelf = Sweeper(2345)

    outcome = run(tasks(ManualClock(), records=shelf)["system-state-cleanup"])

    assert (outcome.output, shelf.expired) == ("Removed 2345 expired records", 0)


def test_the_state_cleanup_sweeps_other_shelves_too() -> None:
    """What lies elsewhere is removed in the same bites, and counted."""
    shelf, logins = Sweeper(3), Sweeper(1500)

    async def sweep(now: int, limit: int) -> int:
        return await logins.sweep_records(now=now, limit=limit)

    made = builtin_tasks(
        store=Attic(0),  # type: ignore[arg-type]
        records=shelf,  # type: ignore[arg-type]
        probes={},
        sweeps=[sweep],
        clock=ManualClock(),
    )
    task = next(one for one in made if one.task_name == "state_cleanup")

    assert (run(task).output, logins.expired) == ("Removed 1503 expired records", 0)


def test_the_task_cleanup_keeps_thirty_days() -> None:
    """Executions older than the retention in its parameters go, in bites; younger ones are not asked for."""
    attic = Attic(1500)

    async def attempt() -> tuple[Outcome, int]:
        clock = ManualClock()
        task = tasks(clock, store=attic)["system-task-cleanup"]
        context: RunContext = Silence()  # type: ignore[assignment]
        return await task.handler(task.parameters, context), clock.now()

    outcome, now = run_virtual(attempt())

    assert outcome.output == "Removed 1500 records older than 720h"
    assert attic.before == now - 30 * DAY


def test_definitions_follow_the_declarations() -> None:
    """New ones are stored, changed ones updated, dropped ones retired; a second time nothing changes."""

    async def story() -> None:
        clock, store = ManualClock(), MemoryStore()
        declared = list(tasks(clock).values())

        first = await synchronise(store, clock, declared)
        again = await synchronise(store, clock, declared)
        changed = [replace(declared[0], schedule="0 */10 * * * *"), declared[1]]
        later = await synchronise(store, clock, changed)

        assert len(first.created) == 3
        assert (again.created, again.updated, again.retired) == ([], [], [])
        assert (later.updated, later.retired) == ([declared[0].id], [declared[2].id])
        view = await store.get_task(TaskId(declared[0].id))
        assert view is not None
        assert view.task.schedule == "0 */10 * * * *"
        assert view.task.payload == SystemPayload(task_name="health_check", parameters={})

    run_virtual(story())


def test_a_name_that_somebody_took_keeps_no_system_task_away() -> None:
    """Nor the service from starting: it comes under a longer name, and under its own when that is free again."""

    async def story() -> None:
        clock, store = ManualClock(), MemoryStore()
        declared = list(tasks(clock).values())
        taken = a_task("mine", name=declared[0].name)
        await store.create_tasks([taken])

        first = await synchronise(store, clock, declared)
        again = await synchronise(store, clock, declared)
        await store.delete_task(taken.id, expected_revision=None, now=clock.now())
        later = await synchronise(store, clock, declared)

        assert (len(first.created), again.updated, later.updated) == (3, [], [declared[0].id])
        view = await store.get_task(declared[0].id)
        assert view is not None
        assert (view.task.name, view.task.is_system) == (declared[0].name, True)

    run_virtual(story())


def test_an_operators_pause_survives_a_new_definition() -> None:
    """The pause is the operator's wish: an upgrade that changes the schedule keeps it."""

    async def story() -> None:
        clock, store = ManualClock(), MemoryStore()
        declared = list(tasks(clock).values())
        await synchronise(store, clock, declared)
        view = await store.get_task(declared[0].id)
        assert view is not None
        pause = Pause(since=clock.now(), by="somebody")
        paused = replace(view.task, pause=pause).changed(view.task, at=clock.now(), by="somebody")
        await store.put_task(paused, expected_revision=view.task.revision)

        await synchronise(store, clock, [replace(declared[0], schedule="0 */7 * * * *"), *declared[1:]])

        after = await store.get_task(declared[0].id)
        assert after is not None
        assert (after.task.pause, after.task.schedule) == (pause, "0 */7 * * * *")

    run_virtual(story())
