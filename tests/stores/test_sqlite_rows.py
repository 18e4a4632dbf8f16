"""Between rows and values nothing is lost, nothing is shared, and no number changes its meaning."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import msgspec
import pytest

from peregrine.domain.execution import AttemptOutcome, Cause, ExecutionOutcome, State
from peregrine.domain.moment import MOMENT_MAX
from peregrine.domain.occurrence import occurrence_key
from peregrine.domain.payload import FunctionPayload, HttpPayload, Kind
from peregrine.domain.policy import Priority
from peregrine.stores.sqlite import definitions, rows
from peregrine.stores.sqlite.definitions import Definitions
from peregrine.testing.builders import NOW, a_claim_request, a_new_execution, a_parallel_task, a_task
from tests.stores.sqlite_places import a_store

pytestmark = pytest.mark.anyio

# The numbers in every file that was ever written. A line may be added; none may change.
KEPT = {
    State: ["queued", "running", "completed", "failed", "cancelled"],
    Cause: ["schedule", "manual", "retry", "workflow"],
    ExecutionOutcome: ["succeeded", "failed", "timed_out", "cancelled", "abandoned"],
    AttemptOutcome: ["succeeded", "failed", "timed_out", "cancelled", "lost", "interrupted", "fenced"],
}
WORDS = {State: rows.STATES, Cause: rows.CAUSES, ExecutionOutcome: rows.OUTCOMES, AttemptOutcome: rows.ATTEMPT_OUTCOMES}


@pytest.mark.parametrize("of", KEPT)
def test_a_number_keeps_its_meaning(of: type[StrEnum]) -> None:
    assert [str(word) for word in WORDS[of]][: len(KEPT[of])] == KEPT[of]


@pytest.mark.parametrize("of", KEPT)
def test_every_word_has_a_number(of: type[StrEnum]) -> None:
    assert set(WORDS[of]) == set(of)


def test_every_priority_is_its_number() -> None:
    assert [int(priority) for priority in rows.PRIORITIES] == list(range(len(Priority)))


@pytest.mark.parametrize(
    ("key", "second"),
    [
        (occurrence_key(a_task().id, NOW), NOW // 1000),
        ("c:task-1:0", 0),
        ("c:task-1:-5", -5),
        ("c:task-1:007", None),
        ("c:task-1:+7", None),
        ("c:task-1:1_000", None),
        ("c:task-1: 7", None),
        ("c:task-1:٧", None),
        ("c:task-1:", None),
        ("c:task-1:7:7", None),
        ("c:task-2:7", None),
        ("c:7", None),
        (f"c:task-1:{2**63}", None),
        ("m:task-1:7", None),
        ("", None),
    ],
)
def test_a_key_is_shortened_only_where_it_can_be_told_again(key: str, second: int | None) -> None:
    assert rows.occurrence_of(key, a_task().id) == second
    if second is not None:
        assert f"c:task-1:{second}" == key


def test_a_definition_of_a_newer_version_can_be_read() -> None:
    """Two versions may share a store while one replaces the other."""
    document = msgspec.json.decode(definitions.definition_text(a_task()))
    document["colour"] = "green"
    document["policy"]["patience"] = 7
    document["payload"]["sandbox"] = True

    assert definitions.read_definition(rows.json_text(document)) == a_task()


@pytest.mark.parametrize(
    "payload",
    [
        HttpPayload(url="https://example.org/", headers=(("A", "b"), ("a", "c")), expected_codes=(200, 204), body=""),
        FunctionPayload(function_name="f", parameters={"x": [1, 1.0, True, None, {"y": "z"}], "": ""}),
    ],
)
def test_a_definition_reads_back(payload: HttpPayload | FunctionPayload) -> None:
    kind = Kind.HTTP if isinstance(payload, HttpPayload) else Kind.FUNCTION
    task = a_task(kind=kind, payload=payload, tags=("a", "b"))

    assert definitions.read_definition(definitions.definition_text(task)) == task


def test_the_memory_of_definitions_is_bounded() -> None:
    kept = Definitions(most=3)
    for stamp in range(10):
        kept.learn(stamp, definitions.definition_text(a_task(f"t{stamp}")))

    assert [stamp for stamp in range(10) if kept.task(stamp) is not None] == [7, 8, 9]


@pytest.mark.parametrize("parameters", [{}, {"x": [1]}], ids=["empty", "full"])
def test_nobody_changes_what_is_remembered(parameters: dict[str, list[int]]) -> None:
    kept = Definitions()
    payload = FunctionPayload(function_name="f", parameters=dict(parameters))  # type: ignore[arg-type]
    kept.learn(1, definitions.definition_text(a_task(payload=payload)))
    first = kept.task(1)
    assert first is not None
    assert isinstance(first.payload, FunctionPayload)

    first.payload.parameters["x"] = "spoilt"

    second = kept.task(1)
    assert second is not None
    assert isinstance(second.payload, FunctionPayload)
    assert second.payload.parameters == parameters


def test_readers_share_what_no_run_has_touched() -> None:
    kept = Definitions()
    for stamp, parameters in ((1, {}), (2, {"x": [1]})):
        payload = FunctionPayload(function_name="f", parameters=dict(parameters))  # type: ignore[arg-type]
        kept.learn(stamp, definitions.definition_text(a_task(payload=payload)))

    for stamp, parameters in ((1, {}), (2, {"x": [1]})):
        shared, run = kept.shared(stamp), kept.task(stamp)
        assert shared is kept.shared(stamp)
        assert run is not None
        assert isinstance(run.payload, FunctionPayload)
        run.payload.parameters["x"] = "spoilt"
        seen = kept.shared(stamp)
        assert seen is not None
        assert isinstance(seen.payload, FunctionPayload)
        assert seen.payload.parameters == parameters
    assert kept.shared(3) is None


def test_a_view_is_made_anew_when_its_row_or_its_task_is_another() -> None:
    kept = Definitions(most=2)
    task = a_task()
    row = (7, 1, NOW, NOW, 0, 0, 3, 2, 9, NOW, 3, 0, None)

    first = kept.view(row, task)

    assert kept.view((*row,), task) is first
    for column in range(2, len(row)):
        moved = (*row[:column], 5, *row[column + 1 :])
        assert kept.view(moved, task) == definitions.task_view(moved, task) != first
    other = a_task(description="changed")
    assert kept.view(row, other).task is other
    for number in (8, 9):
        kept.view((number, *row[1:]), task)
    assert kept.view(row, task) is not first


def test_never_sorts_behind_every_moment() -> None:
    assert rows.beyond(None) > MOMENT_MAX
    assert rows.moment_or_none(rows.beyond(None)) is None
    assert rows.moment_or_none(rows.beyond(MOMENT_MAX)) == MOMENT_MAX


async def test_a_definition_changed_by_another_process_is_seen_at_once(folder: Path) -> None:
    """A task that is deleted and made anew begins at revision 1 again, so a revision would not tell them apart."""
    one, two = a_store(folder / "store.db"), a_store(folder / "store.db")
    await one.open()
    await two.open()
    old = a_parallel_task(description="old")
    await one.create_tasks([old])
    assert (await one.get_tasks([old.id]))[0].task == old
    await two.delete_task(old.id, expected_revision=1, now=NOW)
    new = a_parallel_task(description="new")
    await two.create_tasks([new])

    await one.enqueue(a_new_execution(), queue_limit=10)
    (claim,) = (await one.claim(a_claim_request())).claims

    assert claim.task == new
    assert [due.task for due in (await one.due(NOW + 10**9, 10)).due] == [new]
    await one.close()
    await two.close()
