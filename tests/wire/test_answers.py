"""What goes out has the seeds' shape, hides secrets, and is never wrong because it was kept."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from peregrine.domain.errors import (
    Conflict,
    Fault,
    Forbidden,
    Invalid,
    LimitReached,
    NotFound,
    PeregrineError,
    Protected,
    Stale,
    StorageFull,
    Unauthenticated,
    Unavailable,
    Unsure,
)
from peregrine.domain.execution import (
    CANCELLED_ERROR,
    CANCELLED_OUTPUT,
    Attempt,
    AttemptOutcome,
    Cause,
    Execution,
    ExecutionOutcome,
    State,
)
from peregrine.domain.ids import ExecutionId, TaskId, WorkerId
from peregrine.domain.policy import Priority
from peregrine.domain.query import Page, PageRequest
from peregrine.domain.task import Pause, Tally, TaskView
from peregrine.testing.clock import START
from peregrine.wire.bundle import bundle_document, read_bundle
from peregrine.wire.envelope import encode
from peregrine.wire.execution import execution_page, execution_shape
from peregrine.wire.fragments import Fragments
from peregrine.wire.problem import headers_of, problem_of
from peregrine.wire.task import task_page, task_shape
from tests.wire.words import MAKING, made, sample

TASK = made(
    sample("create_http_task") | {"config": {"url": "http://x.example/?sig=s3cret", "headers": {"Cookie": "c"}}}
)
VIEW = TaskView(task=TASK, cursor=START, next_run_at=START + 600_000, running=0, queued=0)
ASKED = PageRequest(size=20)
KEPT = Fragments()
ENDED = Execution(
    id=ExecutionId("e"), task_id=TASK.id, cause=Cause.MANUAL, state=State.CANCELLED, priority=Priority.NORMAL,
    scheduled_for=None, queued_at=START, available_at=START, attempt=1, epoch=1, worker_id=WorkerId("w"),
    started_at=START + 1000, completed_at=START + 46_000, outcome=ExecutionOutcome.CANCELLED, error=CANCELLED_ERROR,
    output=CANCELLED_OUTPUT,
    attempts=(
        Attempt(attempt=1, epoch=1, worker_id=WorkerId("w"), started_at=START + 1000, completed_at=START + 46_000,
                outcome=AttemptOutcome.CANCELLED, error=CANCELLED_ERROR),
    ),
)  # fmt: skip


def shown(shape: msgspec.Struct) -> Any:
    return json.loads(encode(shape))


def test_a_task_has_every_field_of_the_seeds() -> None:
    task = shown(task_shape(VIEW, START))

    top = ("id name description type schedule status priority enabled config metadata next_run created_at updated_at "
           "created_by updated_by timezone")  # fmt: skip
    inner = ("max_retries retry_interval timeout tags is_system source version success_count failure_count total_runs "
             "average_runtime")  # fmt: skip
    assert set(top.split()) <= set(task)
    assert set(inner.split()) <= set(task["metadata"])
    assert task["metadata"]["retry_interval"] == "1m"
    assert task["next_run"] == "2026-01-01T00:10:00Z"
    assert "last_run" not in task
    assert "last_error" not in task["metadata"]


def test_a_task_never_shows_a_secret() -> None:
    text = encode(task_shape(VIEW, START)).decode() + json.dumps(bundle_document([TASK], START))

    assert "s3cret" not in text
    assert '"Cookie":"***"' in text


def test_a_cancelled_execution_reads_as_existing_clients_expect() -> None:
    execution = shown(execution_shape(ENDED))

    for name, value in sample("cancelled_execution").items():
        assert name in execution
        if name != "completed_at":
            assert execution[name] == value
    assert execution["outcome"] == "cancelled"
    assert execution["duration"] == "45s"
    assert execution["worker_id"] == execution["metadata"]["worker_id"] == "w"
    assert execution["retry_count"] == 0
    assert execution["metadata"]["lock_key"] == "scheduler:lock:t"


def test_a_waiting_execution_has_every_field_that_is_not_optional() -> None:
    waiting = replace(
        ENDED, state=State.QUEUED, attempt=0, epoch=0, worker_id=None, started_at=None, completed_at=None,
        outcome=None, error=None, output="", attempts=(),
    )  # fmt: skip

    execution = shown(execution_shape(waiting))

    assert {"id", "task_id", "status", "started_at", "duration", "metadata", "worker_id", "retry_count"} <= set(
        execution
    )
    assert (execution["status"], execution["started_at"], execution["duration"]) == (
        "pending", "2026-01-01T00:00:00Z", "0s",
    )  # fmt: skip
    assert not {"completed_at", "output", "error", "outcome"} & set(execution)


def test_half_of_a_surrogate_pair_in_an_output_is_shown_escaped() -> None:
    assert shown(execution_shape(replace(ENDED, output="a\ud800b")))["output"] == "a\ud800b"


@pytest.mark.parametrize(
    "other",
    [
        replace(VIEW, next_run_at=None),
        replace(VIEW, running=1),
        replace(VIEW, queued=3),
        replace(VIEW, tally=Tally(total_runs=1, success_count=1, last_succeeded=True)),
        replace(VIEW, task=replace(TASK, enabled=False, revision=2)),
        replace(VIEW, task=replace(TASK, pause=Pause(since=START, until=START + 1000), revision=3)),
        replace(VIEW, task=replace(TASK, name="born again", updated_at=START + 1)),
    ],
)
def test_a_kept_task_is_only_used_for_what_it_shows(other: TaskView) -> None:
    for view, now in ((VIEW, START), (other, START), (other, START + 5000), (VIEW, START)):
        page = shown(task_page(Page(items=[view], total=1), ASKED, now, KEPT))

        assert page["tasks"] == [shown(task_shape(view, now))]


def test_a_kept_execution_shows_a_note_that_came_later() -> None:
    noted = replace(ENDED, attempts=(ENDED.attempts[0].noting_late(AttemptOutcome.SUCCEEDED),))

    for execution in (ENDED, noted, ENDED):
        page = shown(execution_page(Page(items=[execution], total=1), ASKED, KEPT))

        assert page["executions"] == [shown(execution_shape(execution))]


@pytest.mark.parametrize(("total", "pages"), [(0, 0), (1, 1), (20, 1), (21, 2)])
def test_pages_are_counted(total: int, pages: int) -> None:
    page: Page[TaskView] = Page(items=[], total=total)

    assert shown(task_page(page, ASKED, START, KEPT)) == {
        "tasks": [], "total": total, "page": 1, "page_size": 20, "total_pages": pages,
    }  # fmt: skip


def test_a_total_that_is_a_lower_bound_says_so() -> None:
    page: Page[TaskView] = Page(items=[], total=100_000, total_exact=False)

    assert shown(task_page(page, ASKED, START, KEPT))["total_exact"] is False


def test_a_bundle_makes_equal_tasks() -> None:
    plain = made(sample("create_http_task") | {"overlap": "queue", "timezone": "Europe/Berlin"})

    bundle = read_bundle(bundle_document([plain], START))

    again = bundle.tasks[0].make(replace(MAKING, id=plain.id))
    assert again == plain


def test_a_bundle_may_hold_tasks_as_they_are_shown() -> None:
    plain = made(sample("create_http_task"))
    view = replace(VIEW, task=plain)

    bundle = read_bundle([shown(task_shape(view, START))])

    assert bundle.tasks[0].make(replace(MAKING, id=TaskId("t"))) == plain
    assert bundle.tasks[0].at == "/0"


@pytest.mark.parametrize(
    ("error", "status", "code", "headers"),
    [
        (Invalid.at("/x", "no"), 400, "invalid", {}),
        (Unauthenticated("why"), 401, "unauthenticated", {"WWW-Authenticate"}),
        (Forbidden("x"), 403, "forbidden", {}),
        (Protected("x"), 403, "system_task_protected", {}),
        (NotFound("task", "x"), 404, "not_found", {}),
        (Conflict("x", code="name_taken"), 409, "name_taken", {}),
        (Stale("x"), 412, "stale", {}),
        (LimitReached("x"), 429, "limit", {"Retry-After"}),
        (LimitReached("x", code="queue_full"), 503, "queue_full", {"Retry-After"}),
        (Unavailable("mongodb://secret"), 503, "unavailable", {"Retry-After"}),
        (Unsure("mongodb://secret"), 503, "unsure", {"Retry-After"}),
        (StorageFull("/var/secret"), 503, "storage_full", {"Retry-After"}),
    ],
)
def test_each_error_has_one_answer(error: PeregrineError, status: int, code: str, headers: set[str]) -> None:
    problem = problem_of(error)

    assert (problem.status, problem.code) == (status, code)
    assert set(headers_of(error)) == set(headers)
    assert "secret" not in encode(problem).decode()
    assert "why" not in encode(problem).decode()


def test_of_a_thousand_faults_a_hundred_are_shown_and_all_are_counted() -> None:
    """A body of a megabyte can hold a hundred thousand; nobody reads them, and making the answer held the loop."""
    problem = problem_of(Invalid([Fault(f"/{n}", "is not a known parameter") for n in range(1000)]))

    assert problem.detail == "1000 things are wrong."
    assert len(problem.errors) == 100  # type: ignore[arg-type]
