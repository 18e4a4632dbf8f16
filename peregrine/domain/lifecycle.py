"""THE TABLE: state × event → state. Every move of an execution stands here; every other file only asks.

Two rules for this file: all transitions live here, and it knows neither time nor storage. The diagram in
the documentation is drawn from ``TABLE``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from peregrine.domain.errors import IllegalTransition
from peregrine.domain.execution import State


class Happening(StrEnum):
    """What can happen to an execution."""

    CLAIMED = "claimed"
    SUCCEEDED = "succeeded"
    FAILED_AGAIN = "failed, again"
    FAILED_LAST = "failed, last"
    CANCEL_ASKED = "cancel asked"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    LOST_AGAIN = "lease lost, again"
    LOST_LAST = "lease lost, last"


_Q, _R, _S, _F, _X = State.QUEUED, State.RUNNING, State.COMPLETED, State.FAILED, State.CANCELLED

TABLE: Final[dict[State, dict[Happening, State]]] = {
    _Q: {Happening.CLAIMED: _R, Happening.CANCEL_ASKED: _X},
    _R: {
        Happening.SUCCEEDED: _S,
        Happening.FAILED_AGAIN: _Q,
        Happening.FAILED_LAST: _F,
        Happening.CANCEL_ASKED: _R,
        Happening.CANCELLED: _X,
        Happening.INTERRUPTED: _Q,
        Happening.LOST_AGAIN: _Q,
        Happening.LOST_LAST: _F,
    },
    _S: {Happening.CANCEL_ASKED: _S},
    _F: {Happening.CANCEL_ASKED: _F},
    _X: {Happening.CANCEL_ASKED: _X},
}

_IF_MARKED: Final = {
    Happening.FAILED_AGAIN: Happening.CANCELLED,
    Happening.INTERRUPTED: Happening.CANCELLED,
    Happening.LOST_AGAIN: Happening.CANCELLED,
    Happening.LOST_LAST: Happening.CANCELLED,
}
"""A marked execution that would be tried again, or whose worker is lost, ends as cancelled."""


def next_state(state: State, happening: Happening, *, marked: bool = False) -> State:
    """The state after *happening*; *marked* says that a cancel was asked for before.

    Raises:  IllegalTransition, which is a bug of ours, never a user's error.
    """
    if marked and state is State.RUNNING:
        happening = _IF_MARKED.get(happening, happening)
    try:
        return TABLE[state][happening]
    except KeyError:
        raise IllegalTransition(f"{state} can't be {happening}") from None


def diagram() -> str:
    """The table as a Mermaid state diagram, for the documentation."""
    lines = ["stateDiagram-v2", "    [*] --> queued"]
    for state, moves in TABLE.items():
        for happening, target in moves.items():
            if not (state is target and state.is_ended):
                lines.append(f"    {state} --> {target}: {happening}")
        if state.is_ended:
            lines.append(f"    {state} --> [*]")
    return "\n".join(lines)
