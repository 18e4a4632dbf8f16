"""What a document holds is what was put in, whatever the values; and what others wrote is read as they meant it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import bson
import pytest
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.int64 import Int64
from bson.objectid import ObjectId
from hypothesis import given
from hypothesis import strategies as st

from peregrine.domain.moment import MINUTE, MOMENT_MAX, SECOND
from peregrine.domain.payload import FunctionPayload, JsonObject, Kind
from peregrine.domain.task import Task
from peregrine.stores.mongo.definitions import new_document, read_task
from peregrine.stores.mongo.executions import Numbers, execution_of
from peregrine.stores.mongo.executions import new_document as new_execution_document
from peregrine.stores.mongo.searching import containing
from peregrine.stores.mongo.values import date, duration_of, is_clean, json_of, moment_or_none, nested
from peregrine.testing.builders import NOW, a_new_execution, a_task
from peregrine.testing.store_contract import variety
from peregrine.testing.store_contract.steps import assert_same

_CODEC = CodecOptions[dict[str, Any]](datetime_conversion=DatetimeConversion.DATETIME_MS)

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
JSON_OBJECTS = st.dictionaries(
    st.sampled_from(["plain", "", "$set", "a.b", "$ref", "_id", "nul\0", "ключ"]), JSON_VALUES, max_size=4
)


def _stored(document: dict[str, Any]) -> dict[str, Any]:
    """*document* as a server gives it back."""
    return bson.decode(bson.encode(document), codec_options=_CODEC)


@pytest.mark.parametrize("task", list(variety.tasks()), ids=lambda task: task.id[:40])
def test_a_task_comes_back_to_the_last_bit(task: Task) -> None:
    assert_same(task, read_task(_stored(new_document(task, 1))))


@given(JSON_OBJECTS)
def test_any_json_object_can_be_a_config(parameters: JsonObject) -> None:
    payload = FunctionPayload(function_name="f", parameters=parameters)
    task = a_task(kind=Kind.FUNCTION, payload=payload)

    assert_same(payload, read_task(_stored(new_document(task, 1))).payload)


@given(JSON_OBJECTS)
def test_any_json_object_can_be_the_parameters_of_an_execution(parameters: JsonObject) -> None:
    new = a_new_execution(parameters=parameters)

    assert_same(parameters, execution_of(_stored(new_execution_document(new, 1))).parameters)


def test_numbers_of_creation_never_come_twice() -> None:
    numbers = Numbers()

    made = [numbers.next() for _ in range(1_000)]

    assert made == sorted(set(made))


@pytest.mark.parametrize(
    ("stored", "meant"),
    [
        (Int64(120 * 10**9), 2 * MINUTE),
        (1_500_000_000, 1_500),
        (1.5e9, 1_500),
        ("2m", 2 * MINUTE),
        ("1m30s", 90 * SECOND),
        ("PT2M", 2 * MINUTE),
        ("1.5s", 1_500),
        (0, 0),
        ("soon", 7),
        (None, 7),
        (True, 7),
        ({}, 7),
    ],
)
def test_durations_of_others_are_read(stored: object, meant: int) -> None:
    assert duration_of(stored, 7) == meant


@pytest.mark.parametrize(
    ("stored", "meant"),
    [
        (date(NOW), NOW),
        (date(-1), -1),
        (date(MOMENT_MAX), MOMENT_MAX),
        (datetime(2026, 1, 1, 12, tzinfo=UTC), NOW),
        ("2026-01-01T12:00:00Z", NOW),
        ("2026-01-01T14:00:00+02:00", NOW),
        (date(-62_135_596_800_000), None),
        ("yesterday", None),
        (None, None),
        (17, None),
    ],
)
def test_moments_of_others_are_read(stored: object, meant: int | None) -> None:
    assert moment_or_none(stored) == meant


def test_what_json_can_not_say_becomes_text() -> None:
    id = ObjectId("65a4f0a0a0a0a0a0a0a0a0a0")
    theirs = {"id": id, "at": date(NOW), "n": Int64(5), "list": [Int64(1), {"x": b"y"}], "yes": True}

    said = json_of(_stored(theirs))

    expected = {"id": str(id), "at": "2026-01-01T12:00:00Z", "n": 5, "list": [1, {"x": "b'y'"}], "yes": True}
    assert_same(expected, said)


@pytest.mark.parametrize(
    ("value", "clean"),
    [
        ({"a": [1, {"b": None}]}, True),
        ({"": 1}, False),
        ({"a.b": 1}, False),
        ({"$a": 1}, False),
        ({"a": [{"b\0": 1}]}, False),
        ({"a": 2**63 - 1}, True),
        ({"a": 2**63}, False),
        ({"a": -(2**63) - 1}, False),
    ],
)
def test_only_clean_values_are_sub_documents(value: object, *, clean: bool) -> None:
    assert is_clean(value) is clean


def test_paths_become_documents() -> None:
    assert nested({"a": 1, "b.c": 2, "b.d.e": 3}) == {"a": 1, "b": {"c": 2, "d": {"e": 3}}}


def test_what_a_person_seeks_is_no_pattern() -> None:
    assert containing("aZ9.*\0ä") == {"$regex": "[aA][zZ]9\\x2e\\x2a\\x00ä"}
