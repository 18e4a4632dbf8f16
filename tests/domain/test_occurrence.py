"""Occurrences: keys and ids are made from task and moment alone, so that no moment can be run twice."""

from __future__ import annotations

from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peregrine.domain.ids import TaskId, is_system_id
from peregrine.domain.moment import SECOND
from peregrine.domain.occurrence import Reason, Verdict, occurrence_execution_id, occurrence_key
from peregrine.testing.builders import NOW

IDS = st.text(min_size=1, max_size=20).map(TaskId)
SECONDS = st.integers(0, 2**48 // SECOND - 1)


@given(IDS, SECONDS)
def test_an_occurrence_always_has_the_same_key_and_id(task_id: TaskId, second: int) -> None:
    moment = second * SECOND

    assert occurrence_key(task_id, moment) == f"c:{task_id}:{second}"
    assert occurrence_execution_id(task_id, moment) == occurrence_execution_id(TaskId(str(task_id)), moment)


@given(IDS, IDS, SECONDS, SECONDS)
def test_two_occurrences_never_share_key_or_id(one: TaskId, two: TaskId, first: int, second: int) -> None:
    if (one, first) == (two, second):
        return

    assert occurrence_key(one, first * SECOND) != occurrence_key(two, second * SECOND)
    assert occurrence_execution_id(one, first * SECOND) != occurrence_execution_id(two, second * SECOND)


@given(IDS, SECONDS)
def test_an_id_is_a_uuid_of_version_7(task_id: TaskId, second: int) -> None:
    made = occurrence_execution_id(task_id, second * SECOND)

    uuid = UUID(made)
    assert (str(uuid), uuid.version, uuid.variant) == (made, 7, RFC_4122)
    assert uuid.int >> 80 == second * SECOND, "its first 48 bits are the moment"


@given(IDS, IDS, SECONDS, SECONDS)
def test_ids_sort_by_moment(one: TaskId, two: TaskId, first: int, second: int) -> None:
    ids = [occurrence_execution_id(one, first * SECOND), occurrence_execution_id(two, second * SECOND)]

    assert first == second or (ids == sorted(ids)) == (first < second)


@pytest.mark.parametrize(
    ("reason", "verdict"),
    [
        (Reason.OVERLAP, Verdict.SKIPPED),
        (Reason.PAUSED, Verdict.SKIPPED),
        (Reason.QUEUE_FULL, Verdict.SKIPPED),
        (Reason.MISFIRE, Verdict.MISSED),
        (Reason.COALESCED, Verdict.MISSED),
        (Reason.TOO_OLD, Verdict.MISSED),
        (Reason.CATCHUP_MAX, Verdict.MISSED),
    ],
)
def test_what_was_left_out_on_purpose_is_skipped_what_came_late_is_missed(reason: Reason, verdict: Verdict) -> None:
    assert reason.verdict is verdict


def test_every_reason_has_a_verdict_and_none_says_that_it_ran() -> None:
    assert {reason.verdict for reason in Reason} == {Verdict.SKIPPED, Verdict.MISSED}


def test_a_moment_before_the_epoch_has_an_id_too() -> None:
    assert UUID(occurrence_execution_id(TaskId("task-1"), -SECOND)).version == 7


@pytest.mark.parametrize(("id", "is_system"), [("system-cleanup", True), ("system", False), ("my-system-task", False)])
def test_system_ids_have_a_name_space_of_their_own(*, id: str, is_system: bool) -> None:
    assert is_system_id(id) == is_system
    assert occurrence_key(TaskId(id), NOW).endswith(str(NOW // SECOND))
