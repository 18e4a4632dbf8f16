"""What the lines say: each event a line worth its weight, bursts cut short, secrets never, in text and in JSON."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any, get_args

import pytest

from peregrine.domain.event import Claimed, Event, Purged, Settled, StoreFailed
from peregrine.domain.execution import AttemptOutcome
from peregrine.observers.log import BURST, TOLD_EACH, LogObserver, start_log
from peregrine.observers.redact import TRACEBACK_MAX
from peregrine.testing.builders import NOW
from tests.observers.scenes import ONE_OF_EACH, HandClock, a_claim, ended


@pytest.fixture(autouse=True)
def _root_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


class Book:
    """A log as JSON lines, an observer that writes it, and the clock it heeds."""

    def __init__(self, level: str = "debug", *, as_json: bool = True) -> None:
        self._stream = io.StringIO()
        self.clock = HandClock()
        self.logger = start_log(level=level, as_json=as_json, stream=self._stream)
        self.observer = LogObserver(self.logger, self.clock)

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    @property
    def names(self) -> list[str]:
        return [line["event"] for line in self.lines]


def test_every_event_has_its_line() -> None:
    assert {type(event) for event in ONE_OF_EACH} == set(get_args(Event))

    for event in ONE_OF_EACH:
        book = Book()
        book.observer.observe(event)
        assert book.lines
        assert "event_unknown" not in book.names


@pytest.mark.parametrize(
    ("verdict", "name", "level"),
    [
        (AttemptOutcome.SUCCEEDED, "succeeded", "debug"),
        (AttemptOutcome.FAILED, "attempt_failed", "info"),
        (AttemptOutcome.TIMED_OUT, "attempt_timed_out", "info"),
        (AttemptOutcome.CANCELLED, "attempt_cancelled", "info"),
        (AttemptOutcome.INTERRUPTED, "attempt_interrupted", "info"),
    ],
)
def test_the_weight_of_an_end(verdict: AttemptOutcome, name: str, level: str) -> None:
    book = Book()

    book.observer.observe(Settled([ended(verdict)]))

    (line,) = book.lines
    assert (line["event"], line["level"]) == (name, level)


def test_a_failure_says_where_why_and_what_follows() -> None:
    book = Book()

    book.observer.observe(Settled([ended(AttemptOutcome.FAILED)]))

    (line,) = book.lines
    assert line["task_id"] == "task-1"
    assert line["error"] == "it failed"
    assert line["next"] == "queued"
    assert line["again_at"].endswith("Z")


def test_successes_and_claims_are_one_line_a_batch_and_silent_at_info() -> None:
    loud, calm = Book("debug"), Book("info")
    for book in (loud, calm):
        book.logger = start_log(level="debug" if book is loud else "info", as_json=True, stream=book._stream)
        book.observer = LogObserver(book.logger, book.clock)
        book.observer.observe(Claimed([a_claim()] * 500, NOW))
        book.observer.observe(Settled([ended(AttemptOutcome.SUCCEEDED)] * 500))

    assert [(line["event"], line["count"]) for line in loud.lines] == [("claimed", 500), ("succeeded", 500)]
    assert calm.lines == []


def test_many_failures_of_a_batch_share_a_line() -> None:
    book = Book()

    book.observer.observe(Settled([ended(AttemptOutcome.FAILED)] * (TOLD_EACH + 7)))

    assert book.names == ["attempt_failed"] * TOLD_EACH + ["attempt_more"]
    assert book.lines[-1]["failed"] == 7


def test_a_burst_is_cut_short_and_counted() -> None:
    book = Book()

    for _ in range(BURST + 30):
        book.observer.observe(StoreFailed("planner", "away"))
    book.clock.millis += 1000
    book.observer.observe(StoreFailed("planner", "away"))

    assert len(book.lines) == BURST + 1
    assert book.lines[-1]["unsaid"] == 30


def test_a_burst_of_one_kind_does_not_silence_another() -> None:
    book = Book()

    for _ in range(BURST + 1):
        book.observer.observe(StoreFailed("planner", "away"))
    book.observer.observe(Purged(1, 1))

    assert book.names[-1] == "purged"


SECRETS = (
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJlLWNhbmFyeQ",
    "Bearer canary-0123456789",
    "mongodb://user:canary@db/",
    "https://x.test/?api_key=canary&a=1",
    "https://x.test/?access_token=canary",
    "password=canary",
)


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "text"])
@pytest.mark.parametrize("secret", SECRETS)
def test_secrets_are_never_written(secret: str, as_json: bool) -> None:  # noqa: FBT001
    book = Book(as_json=as_json)

    book.observer.observe(StoreFailed("planner", f"could not reach {secret}"))
    book.logger.warning("shown", detail={"Authorization": "canary", "deep": [{"client_secret": "canary"}]})
    logging.getLogger("a.library").error("failed with %s", secret, extra={"token": "canary"})

    assert "canary" not in book.text
    assert "c2lnbmF0dXJl" not in book.text


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "text"])
def test_no_text_forges_a_line_or_moves_a_cursor(as_json: bool) -> None:  # noqa: FBT001
    book = Book(as_json=as_json)

    book.observer.observe(StoreFailed("planner", "x\r\n2026-01-01 [info] forged\x1b[2J\x9b1m"))

    assert len(book.text.splitlines()) == 1
    assert "\x1b" not in book.text
    assert "\x9b" not in book.text or as_json


def test_of_a_long_traceback_the_end_is_kept_which_says_what_was_raised() -> None:
    book = Book("info")

    try:
        raise ValueError("\n".join(["in the canary's way", *["a line of it" * 10] * 100, "boom at the end"]))
    except ValueError:
        logging.getLogger("some.library").exception("it_broke")

    told = book.lines[0]["exception"]
    assert told.endswith("boom at the end")
    assert len(told) <= TRACEBACK_MAX + 2


def test_no_half_of_a_secret_is_left_where_a_traceback_is_cut() -> None:
    book = Book("info")
    secret = "Bearer " + "canary" * TRACEBACK_MAX

    try:
        raise ValueError(f"{secret}\nboom at the end")
    except ValueError:
        logging.getLogger("some.library").exception("it_broke")

    assert book.lines[0]["exception"] == "…\nboom at the end"


def test_what_libraries_log_goes_the_same_way() -> None:
    book = Book("info")

    logging.getLogger("some.library").info("hello %s", "you")
    try:
        raise ValueError("boom")
    except ValueError:
        logging.getLogger("some.library").exception("it_broke")

    first, second = book.lines
    assert (first["event"], first["logger"], first["level"]) == ("hello you", "some.library", "info")
    assert "ValueError: boom" in second["exception"]
