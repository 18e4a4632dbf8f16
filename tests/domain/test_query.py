"""Pages and cursors: what one list wrote, that list reads, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peregrine.domain.errors import Invalid
from peregrine.domain.execution import State
from peregrine.domain.moment import Moment
from peregrine.domain.query import (
    CURSOR_MAX,
    INT_MAX,
    ExecutionStatus,
    PageRequest,
    TaskFilter,
    TaskStatus,
    read_cursor,
    write_cursor,
)
from peregrine.domain.task import Pause, TaskView
from peregrine.testing.builders import NOW, a_task

# Lone surrogates cannot be stored, so no position holds one.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=100)
NUMBERS = st.integers(-INT_MAX, INT_MAX)


@given(TEXTS, NUMBERS, TEXTS)
def test_a_cursor_is_read_as_it_was_written(list_name: str, number: int, id: str) -> None:
    cursor = write_cursor(list_name, number, id)

    assert read_cursor(list_name, cursor, int, str) == (number, id)
    assert cursor.isascii()
    assert cursor.replace("-", "").replace("_", "").isalnum()


@given(TEXTS, TEXTS, NUMBERS, TEXTS)
def test_a_cursor_of_another_list_is_refused(one: str, other: str, number: int, id: str) -> None:
    if one != other:
        with pytest.raises(Invalid):
            read_cursor(other, write_cursor(one, number, id), int, str)


@pytest.mark.parametrize("shape", [(int,), (str, str), (int, int), (int, str, str), ()])
def test_a_cursor_of_another_shape_is_refused(shape: tuple[type[int] | type[str], ...]) -> None:
    with pytest.raises(Invalid):
        read_cursor("list", write_cursor("list", 1, "a"), *shape)


@given(st.one_of(st.text(max_size=60), st.from_regex(r"[A-Za-z0-9_-]{0,60}", fullmatch=True)))
def test_any_other_text_is_refused_with_a_pointer(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        read_cursor("list", text, int, str)

    assert [fault.pointer for fault in caught.value.faults] == ["/cursor"]


@pytest.mark.parametrize(
    "cursor",
    [
        "A" * (CURSOR_MAX + 1),
        write_cursor("list", INT_MAX + 1, "a"),
        write_cursor("list", 1, "a") + "=",
        write_cursor("list", 1, "a")[:-1],
        write_cursor("list", True, "a"),
        "WyJsaXN0IiwgMSwgImEiXQ",  # the same with blanks: not as we write it
        "W1tb" * 1_000,
    ],
)
def test_only_what_we_write_is_read(cursor: str) -> None:
    with pytest.raises(Invalid):
        read_cursor("list", cursor, int, str)


def test_a_page_number_becomes_an_offset_and_a_cursor_needs_none() -> None:
    assert PageRequest().offset == 0
    assert PageRequest(number=3, size=7).offset == 14
    assert PageRequest(number=3, size=7, cursor="x").offset == 0


def test_every_state_shows_as_one_word() -> None:
    shown = [state for status in ExecutionStatus for state in status.states]

    assert sorted(shown) == sorted(State)
    assert ExecutionStatus.FAILED.states == (State.FAILED, State.CANCELLED), "as existing clients want it"


MOMENTS = st.integers(NOW, NOW + 20)
PAUSES = st.one_of(st.none(), st.builds(Pause, since=st.just(NOW), until=st.one_of(st.none(), MOMENTS)))
TASKS = st.lists(st.tuples(PAUSES, st.booleans(), st.integers(0, 1)), max_size=4)
FILTERS = st.builds(
    TaskFilter, status=st.one_of(st.none(), st.sampled_from(TaskStatus)), enabled=st.one_of(st.none(), st.booleans())
)


@given(TASKS, FILTERS, MOMENTS, MOMENTS)
def test_a_page_of_tasks_says_how_long_it_holds(
    made: list[tuple[Pause | None, bool, int]], filter: TaskFilter, now: Moment, later: Moment
) -> None:
    views = [
        TaskView(
            task=a_task(f"t{number}", pause=pause, enabled=enabled),
            cursor=NOW, next_run_at=None, running=running, queued=0,
        )
        for number, (pause, enabled, running) in enumerate(made)
    ]  # fmt: skip

    def page(at: Moment) -> list[tuple[str, TaskStatus, bool]]:
        shown = [view for view in views if filter.lets_through(view, at)]
        return [(view.task.id, TaskStatus.of(view, at), view.task.is_paused(at)) for view in shown]

    until = filter.holds_until([view for view in views if filter.lets_through(view, now)], now)

    if now <= later and (until is None or later < until):
        assert page(later) == page(now)


def test_a_page_holds_until_the_first_pause_on_it_ends() -> None:
    ends = [NOW + 5, NOW + 2, NOW - 1, None]
    views = [
        TaskView(task=a_task(pause=Pause(since=NOW - 9, until=end)), cursor=NOW, next_run_at=None, running=0, queued=0)
        for end in ends
    ]

    assert TaskFilter().holds_until(views, NOW) == NOW + 2
    assert TaskFilter(enabled=True).holds_until(views[2:], NOW) is None
    assert TaskFilter(status=TaskStatus.DISABLED).holds_until(views[:1], NOW) == NOW + 5
    assert TaskFilter(status=TaskStatus.FAILED).holds_until([], NOW) == NOW
