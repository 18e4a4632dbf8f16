"""What stands behind the question mark: unknown names are ignored, values outside their set are faults."""

from __future__ import annotations

import pytest

from peregrine.domain.errors import Invalid
from peregrine.domain.execution import Cause, ExecutionOutcome
from peregrine.domain.ids import TaskId, WorkerId
from peregrine.domain.payload import Kind
from peregrine.domain.policy import Priority
from peregrine.domain.query import ExecutionFilter, ExecutionStatus, PageRequest, TaskFilter, TaskSort, TaskStatus
from peregrine.wire.queries import ExecutionQuery, Paged, Query, TaskQuery, read_query


def task_query(**given: str) -> TaskQuery:
    return read_query(TaskQuery, given.items())


def test_nothing_asked_is_the_first_page_of_all() -> None:
    query = task_query()

    assert query.filter() == TaskFilter()
    assert query.request() == PageRequest(number=1, size=20)
    assert query.sort == (TaskSort.UPDATED_AT, True)


def test_every_filter_of_tasks() -> None:
    query = task_query(
        status="running", type="http", enabled="true", tags="a, b,,a", tags_all="c", priority="high",
        is_system="false", created_by="bob", q="50%", sort="-name", page="3", page_size="100",
    )  # fmt: skip

    assert query.filter() == TaskFilter(
        status=TaskStatus.RUNNING, kind=Kind.HTTP, enabled=True, tags_any=("a", "b"), tags_all=("c",),
        priority=Priority.HIGH, is_system=False, created_by="bob", text="50%",
    )  # fmt: skip
    assert query.sort == (TaskSort.NAME, True)
    assert query.request() == PageRequest(number=3, size=100)


def test_every_filter_of_executions() -> None:
    query = read_query(
        ExecutionQuery,
        {
            "status": "failed", "outcome": "timed_out", "task_id": "t", "trigger": "manual", "worker_id": "w",
            "start_date": "2026-01-01T00:00:00Z", "started_before": "2026-01-01T01:00:00+01:00", "q": "x",
            "end_date": "2030-01-01T00:00:00Z", "cursor": "abc",
        }.items(),
    )  # fmt: skip

    assert query.filter() == ExecutionFilter(
        status=ExecutionStatus.FAILED,
        outcome=ExecutionOutcome.TIMED_OUT,
        task_id=TaskId("t"),
        cause=Cause.MANUAL,
        worker_id=WorkerId("w"),
        started_after=1_767_225_600_000,
        started_before=1_767_225_600_000,
        text="x",
    )
    assert query.request().cursor == "abc"


def test_limit_is_another_name_of_page_size() -> None:
    assert task_query(limit="7").request().size == 7
    assert task_query(limit="7", page_size="9").request().size == 9


def test_unknown_names_and_empty_values_ask_nothing() -> None:
    assert task_query(nonsense="1", status="", **{"status[$ne]": "x"}).filter() == TaskFilter()


def test_the_last_of_several_counts() -> None:
    assert read_query(Paged, [("page", "1"), ("page", "2")]).request().number == 2


@pytest.mark.parametrize(
    ("shape", "name", "value"),
    [
        *((TaskQuery, "page", text) for text in ("0", "-1", "1.0", "x", "1e3", "+1", " 1", "9" * 23, "１", "1000001")),
        *((TaskQuery, name, text) for name in ("page_size", "limit") for text in ("0", "101", "x")),
        (TaskQuery, "status", "asleep"),
        (TaskQuery, "type", "shell"),
        (TaskQuery, "enabled", "1"),
        (TaskQuery, "is_system", "TRUE"),
        (TaskQuery, "priority", "2"),
        (TaskQuery, "sort", "password"),
        (TaskQuery, "sort", "--name"),
        (TaskQuery, "q", "x" * 201),
        (TaskQuery, "q", "\x00"),
        (TaskQuery, "tags", ",".join(map(str, range(33)))),
        (TaskQuery, "tags", "a\x00"),
        (TaskQuery, "created_by", "a\nb"),
        (ExecutionQuery, "status", "cancelled"),
        (ExecutionQuery, "outcome", "lost"),
        (ExecutionQuery, "trigger", "cron"),
        (ExecutionQuery, "started_after", "yesterday"),
        (ExecutionQuery, "end_date", "2026-01-01"),
        (ExecutionQuery, "cursor", "x" * 5000),
    ],
)
def test_a_value_outside_its_set_is_a_fault(shape: type[Query], name: str, value: str) -> None:
    with pytest.raises(Invalid) as caught:
        read_query(shape, [(name, value)])

    assert [fault.pointer for fault in caught.value.faults] == [f"/{name}"]


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(Invalid) as caught:
        task_query(page="0", status="x", sort="x")

    assert {fault.pointer for fault in caught.value.faults} == {"/page", "/status", "/sort"}
