"""The verbs that show what executions say, and what tasks may name."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.cli.conftest import Machine, Said

Typed = Callable[..., Said]

LINE = {"n": 1, "attempt": 1, "at": "2030-01-01T00:00:00Z", "text": "one\ntwo \x1b[2J"}
PROGRESS = {"fraction": 0.5, "text": "halfway"}
END = {"execution_id": "e-1", "status": "completed", "outcome": "succeeded"}
FUNCTION = {
    "module": "analytics", "function_name": "report", "isolation": "process", "description": "Reports.\nAt length.",
    "parameters": {"type": "object", "properties": {"days": {"type": "integer"}, "who": {"type": ["string", "null"]},
                                                    "any": {}}, "required": ["days"]},
}  # fmt: skip


def page(**changes: Any) -> dict[str, Any]:
    return {"execution_id": "e-1", "status": "running", "live": True, "lines": [LINE], "next": "1-1"} | changes


def told(*events: tuple[str, Any], begin: bytes = b"retry: 2000\n\n: still here\n\n") -> bytes:
    """A stream as it travels."""
    blocks = [
        (f"id: 1-{document['n']}\n" if "n" in document else "") + f"event: {name}\ndata: {json.dumps(document)}\n\n"
        for name, document in events
    ]
    return begin + "".join(blocks).encode()


def test_logs_are_shown_line_by_line_and_obeyed_by_no_terminal(machine: Machine, peregrine: Typed) -> None:
    machine.lay_out(page(progress=PROGRESS))

    said = peregrine("executions", "logs", "e-1")

    assert machine.heard[0].path == "/scheduler/executions/e-1/logs"
    assert said.out == "2030-01-01T00:00:00Z  one\n2030-01-01T00:00:00Z  two \\x1b[2J\n"
    assert (said.err, said.code) == ("50% halfway\n", 0)


def test_a_run_on_another_instance_is_said_to_be_one(machine: Machine, peregrine: Typed) -> None:
    machine.lay_out(page(live=False, lines=[]))

    said = peregrine("executions", "logs", "e-1")

    assert (said.out, said.code) == ("", 0)
    assert "another instance" in said.err


@pytest.mark.parametrize(
    ("status", "remark"),
    [("completed", "logged nothing"), ("running", "logged nothing yet"), ("pending", "logged nothing yet")],
)
def test_a_run_that_logged_nothing_is_said_to(machine: Machine, peregrine: Typed, status: str, remark: str) -> None:
    """Nothing on standard output, and on the other one why."""
    machine.lay_out(page(status=status, lines=[]))

    said = peregrine("executions", "logs", "e-1")

    assert (said.out, said.err, said.code) == ("", f"{remark}\n", 0)


def test_the_page_as_it_came(machine: Machine, peregrine: Typed) -> None:
    machine.lay_out(page())

    assert json.loads(peregrine("executions", "logs", "e-1", "--json").out) == page()


def test_following_goes_on_where_a_closed_stream_stood(machine: Machine, peregrine: Typed) -> None:
    machine.lay_out(told(("line", LINE), ("progress", PROGRESS)))
    machine.lay_out(told(("line", LINE | {"n": 2, "text": "three"}), ("end", END)))

    said = peregrine("executions", "logs", "e-1", "--follow")

    assert [heard.path.partition("?")[2] for heard in machine.heard] == ["", "after=1-1"]
    assert said.out.splitlines()[-1] == "2030-01-01T00:00:00Z  three"
    assert (said.err.splitlines(), said.code) == (["50% halfway", "succeeded"], 0)


def test_following_as_json_is_an_event_a_line(machine: Machine, peregrine: Typed) -> None:
    machine.lay_out(told(("line", LINE), ("end", END)))

    said = peregrine("executions", "logs", "e-1", "-f", "--json")

    assert [json.loads(line) for line in said.out.splitlines()] == [{"event": "line"} | LINE, {"event": "end"} | END]


def test_a_stream_that_never_says_a_word_is_given_up(machine: Machine, peregrine: Typed) -> None:
    machine.lay_out(told())

    said = peregrine("executions", "logs", "e-1", "--follow")

    assert (len(machine.heard), said.code) == (3, 1)
    assert "says nothing" in said.err


def test_a_refused_stream_is_one_line(machine: Machine, peregrine: Typed) -> None:
    machine.lay_out({"detail": "You have 10 open streams already."}, status=429)

    said = peregrine("executions", "logs", "e-1", "--follow")

    assert (said.err, said.code) == ("peregrine: 429 You have 10 open streams already.\n", 1)


def test_functions_and_executors_are_listed_with_their_parameters(machine: Machine, peregrine: Typed) -> None:
    machine.lay_out({"functions": [FUNCTION], "total": 1})
    machine.lay_out({"executors": [{"executor": "command", "description": "", "parameters": {}}], "total": 1})

    functions, executors = peregrine("functions"), peregrine("executors")

    assert [heard.path for heard in machine.heard] == ["/scheduler/functions", "/scheduler/executors"]
    assert "analytics  report    process    days: integer, who?: string|null, any?  Reports." in functions.out
    assert "At length" not in functions.out
    assert executors.out.split() == ["EXECUTOR", "PARAMETERS", "DESCRIPTION", "command", "-", "-"]
