"""What is said is kept with the execution and read back, whatever else stands there."""

from __future__ import annotations

from typing import Any

import pytest

from peregrine.domain.journal import LINES_MAX, Line, Place, Progress, Said, detail_of, parse_place, said_in
from peregrine.testing.clock import START

SAID = Said(
    attempt=2,
    epoch=3,
    lines=(Line(6, START, "begun"), Line(7, START + 1, "half\nof it"), Line(8, None, "old")),
    progress=Progress(0.5, "halfway"),
)


@pytest.mark.parametrize(
    "said", [SAID, Said(attempt=1, epoch=1), Said(attempt=1, epoch=1, lines=(Line(1, START, ""),))]
)
def test_what_is_kept_is_read_back(said: Said) -> None:
    assert said_in(detail_of(said), attempt=said.attempt, epoch=said.epoch) == said


def test_what_older_versions_kept_is_read_too() -> None:
    said = said_in({"log": ["one", "two"], "status_code": 200}, attempt=1, epoch=1)

    assert said.lines == (Line(1, None, "one"), Line(2, None, "two"))


@pytest.mark.parametrize(
    "detail",
    [
        {"log": "text"}, {"log": [1, None, [], {"line": 5}]}, {"log_dropped": "x"}, {"progress": 0.5},
        {"progress": {"fraction": True}}, {"progress": {"fraction": 0.5, "text": 1}}, {"log": {}},
    ],
)  # fmt: skip
def test_what_an_executor_wrote_there_itself_is_no_log(detail: Any) -> None:
    assert said_in(detail, attempt=1, epoch=1) == Said(attempt=1, epoch=1)


def test_a_moment_that_is_none_costs_the_moment_alone() -> None:
    said = said_in({"log": [{"at": "yesterday", "line": "kept"}], "log_dropped": -4}, attempt=1, epoch=1)

    assert said.lines == (Line(1, None, "kept"),)


def test_a_foreign_log_is_cut() -> None:
    said = said_in({"log": ["x" * 9999] * 500}, attempt=1, epoch=1)

    assert len(said.lines) == LINES_MAX
    assert len(said.lines[0].text) == 2000


@pytest.mark.parametrize(
    ("place", "numbers"),
    [
        (Place(), [6, 7, 8]), (Place(3, 6), [7, 8]), (Place(3, 8), []), (Place(2, 99), [6, 7, 8]), (Place(4, 0), []),
        (Place(0, 7), [8]),
    ],
)  # fmt: skip
def test_a_reader_gets_what_stands_behind_their_place(place: Place, numbers: list[int]) -> None:
    assert [line.number for line in SAID.behind(place)] == numbers


@pytest.mark.parametrize("place", [Place(), Place(0, 7), Place(3, 8)])
def test_a_place_is_written_and_read(place: Place) -> None:
    assert parse_place(str(place)) == place


@pytest.mark.parametrize("text", ["", "-1", "1-", "1-2-3", "x", "1.5", "٣", "9" * 16, " 1"])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="next"):
        parse_place(text)


def test_a_number_alone_is_a_place_too() -> None:
    assert parse_place("17") == Place(0, 17)
