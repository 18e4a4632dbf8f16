"""Pages and cursors: what one list wrote, that list reads, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peregrine.domain.errors import Invalid
from peregrine.domain.execution import State
from peregrine.domain.query import CURSOR_MAX, INT_MAX, ExecutionStatus, PageRequest, read_cursor, write_cursor

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
