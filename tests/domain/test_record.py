"""Records that are made many times are frozen for the type checker alone, and values all the same."""

from __future__ import annotations

from dataclasses import replace

from peregrine.domain.execution import Attempt, Outcome
from peregrine.domain.ids import WorkerId


def an_attempt() -> Attempt:
    return Attempt(attempt=1, epoch=2, worker_id=WorkerId("w"), started_at=3)


def test_equal_records_are_one_value() -> None:
    assert an_attempt() == an_attempt()
    assert len({an_attempt(), an_attempt(), replace(an_attempt(), attempt=2)}) == 2


def test_a_change_of_a_field_is_refused_by_the_type_checker() -> None:
    """`make check` says so: an ignored error that is none is an error itself."""
    made = an_attempt()
    made.attempt = 3  # type: ignore[misc]

    assert made == replace(an_attempt(), attempt=3)


def test_no_two_records_share_a_default_that_can_be_changed() -> None:
    assert Outcome.failed("no").detail is not Outcome.failed("no").detail
