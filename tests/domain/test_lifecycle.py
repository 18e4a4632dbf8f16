"""THE TABLE: total, without a way back from an end, and the only source of the diagram."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peregrine.domain.errors import IllegalTransition
from peregrine.domain.execution import State
from peregrine.domain.lifecycle import TABLE, Happening, diagram, next_state

MOVES = [(state, happening) for state in State for happening in Happening]
ENDED = [state for state in State if state.is_ended]


def test_the_table_speaks_of_every_state() -> None:
    assert set(TABLE) == set(State)
    assert {happening for moves in TABLE.values() for happening in moves} == set(Happening)


@pytest.mark.parametrize(("state", "happening"), MOVES)
def test_every_pair_has_a_next_state_or_is_a_bug(state: State, happening: Happening) -> None:
    for marked in (False, True):
        if happening in TABLE[state]:
            assert next_state(state, happening, marked=marked) in State
        else:
            with pytest.raises(IllegalTransition, match=f"{state} can't be"):
                next_state(state, happening, marked=marked)


@pytest.mark.parametrize("state", ENDED)
def test_ended_is_ended(state: State) -> None:
    assert set(TABLE[state]) == {Happening.CANCEL_ASKED}
    assert next_state(state, Happening.CANCEL_ASKED) is state


@given(happenings=st.lists(st.sampled_from(Happening)), marked=st.booleans())
def test_no_walk_leaves_an_end(*, happenings: list[Happening], marked: bool) -> None:
    state, ended = State.QUEUED, None
    for happening in happenings:
        if happening in TABLE[state]:
            state = next_state(state, happening, marked=marked)
        assert ended is None or state is ended
        ended = state if state.is_ended else None


@pytest.mark.parametrize("state", list(State))
def test_every_state_can_be_reached_and_every_open_one_can_end(state: State) -> None:
    assert state in reachable(State.QUEUED)
    assert state.is_ended or reachable(state).issuperset(ENDED)


def reachable(state: State) -> set[State]:
    found, new = {state}, {state}
    while new:
        new = {target for one in new for target in TABLE[one].values()} - found
        found |= new
    return found


@pytest.mark.parametrize(
    ("happening", "ends"),
    [
        (Happening.FAILED_AGAIN, State.CANCELLED),
        (Happening.INTERRUPTED, State.CANCELLED),
        (Happening.LOST_AGAIN, State.CANCELLED),
        (Happening.LOST_LAST, State.CANCELLED),
        (Happening.CANCELLED, State.CANCELLED),
        (Happening.SUCCEEDED, State.COMPLETED),
        (Happening.FAILED_LAST, State.FAILED),
        (Happening.CANCEL_ASKED, State.RUNNING),
    ],
)
def test_a_marked_one_never_goes_back_to_the_queue(happening: Happening, ends: State) -> None:
    assert next_state(State.RUNNING, happening, marked=True) is ends


def test_only_a_claim_leads_to_running() -> None:
    ways = [(state, happening) for state in State for happening, to in TABLE[state].items() if to is State.RUNNING]

    assert ways == [(State.QUEUED, Happening.CLAIMED), (State.RUNNING, Happening.CANCEL_ASKED)]


def test_the_diagram_shows_every_move_that_changes_something() -> None:
    lines = diagram().splitlines()

    assert lines[0] == "stateDiagram-v2"
    for state, happening in MOVES:
        target = TABLE[state].get(happening)
        shown = f"    {state} --> {target}: {happening}" in lines
        assert shown == (target is not None and not state.is_ended)
    assert sum(line.endswith("--> [*]") for line in lines) == len(ENDED)
