"""What is kept of an executor's word: as JSON has it, whichever way it was read."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from peregrine.domain.execution import AttemptOutcome, Outcome
from peregrine.domain.payload import JsonObject
from peregrine.engine.belief import DETAIL_MAX, believed

plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(codec="utf-8"), max_size=20) | st.text(st.characters(codec="ascii"), max_size=20)
details = st.dictionaries(
    texts,
    st.recursive(plain | texts, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)),
    max_size=5,
)


def kept(detail: Any) -> JsonObject:
    return believed(Outcome(verdict=AttemptOutcome.SUCCEEDED, detail=detail)).detail


def same(one: object, other: object) -> bool:
    """Equal, and of the same kinds: to Python, true is 1 and 1 is 1.0."""
    return json.dumps(one) == json.dumps(other)


@given(details)
def test_detail_is_kept_as_json_has_it(detail: dict[str, Any]) -> None:
    assert same(kept(detail), json.loads(json.dumps(detail)))


def test_detail_is_kept_as_it_was_when_it_was_given() -> None:
    """Its author may still hold it, and change it."""
    detail: JsonObject = {"timings": {"total": 1}}
    taken = kept(detail)

    inside = detail["timings"]
    assert isinstance(inside, dict)
    inside["total"] = 2

    assert taken == {"timings": {"total": 1}}


def test_detail_may_take_all_its_room() -> None:
    """Whatever is quick to see about it, its bytes as JSON decide."""
    for count, text in ((1, "x" * (DETAIL_MAX - 20)), (2_000, "short"), (1, "\x01" * 10_000)):
        detail = {f"{number}": text for number in range(count)}
        assert kept(detail) == detail

    assert list(kept({"a": "\x01" * 11_000})) == ["left_out"]
    assert list(kept({str(number): None for number in range(7_000)})) == ["left_out"]


def test_nested_detail_is_kept_as_deep_as_json_goes() -> None:
    detail: JsonObject = {}
    for _ in range(200):
        detail = {"a": detail}

    assert kept(detail) == detail
