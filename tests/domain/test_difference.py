"""What differs is told field by field, in bounds."""

from __future__ import annotations

import json

from peregrine.domain.difference import FIELDS_MAX, VALUE_MAX, differences, plain_fields, task_fields
from peregrine.domain.payload import FunctionPayload
from peregrine.testing.builders import a_task


def test_what_stayed_is_not_told() -> None:
    task = a_task()

    assert differences(task_fields(task), task_fields(task)) == []
    assert differences(task_fields(task), task_fields(a_task(tags=("a", "b")))) == [
        {"field": "/tags", "before": [], "after": ["a", "b"]}
    ]


def test_what_stands_deep_is_told_where_it_stands() -> None:
    before = a_task(payload=FunctionPayload(function_name="greet", parameters={"a": {"b/c": 1, "same": [1]}, "d": {}}))
    after = a_task(payload=FunctionPayload(function_name="greet", parameters={"a": {"b/c": 2, "same": [1]}}))

    assert differences(task_fields(before), task_fields(after)) == [
        {"field": "/config/parameters/a/b~1c", "before": 1, "after": 2},
        {"field": "/config/parameters/d", "before": {}},
    ]


def test_a_secret_that_changed_is_told_and_not_shown() -> None:
    tasks = [
        a_task(
            payload=FunctionPayload(function_name="greet", parameters={"token": {"a": word}, "list": [{"pwd": word}]})
        )
        for word in ("one", "two")
    ]

    told = differences(*map(task_fields, tasks))

    assert told == [
        {"field": "/config/parameters/token", "before": "***", "after": "***"},
        {"field": "/config/parameters/list", "before": [{"pwd": "***"}], "after": [{"pwd": "***"}]},
    ]


def test_a_long_value_is_cut_and_so_is_a_long_list() -> None:
    before = plain_fields(text="", list=[], **{f"f{number}": number for number in range(FIELDS_MAX)})
    after = plain_fields(text="x" * 10_000, list=["y" * 200] * 9)

    told = differences(before, after)

    assert told[0] == {"field": "/text", "before": "", "after": "x" * VALUE_MAX + "…"}
    assert told[1] == {"field": "/list", "before": [], "after": json.dumps(["y" * 200] * 9)[:VALUE_MAX] + "…"}
    assert told[FIELDS_MAX] == {"field": "", "after": "… 2 more fields"}
    assert len(told) == FIELDS_MAX + 1
