"""The strict reader takes JSON and nothing else, and names the place of every fault."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peregrine.domain.errors import Invalid
from peregrine.domain.payload import JsonValue
from peregrine.wire.strict_json import DEPTH_MAX, NUMBER_MAX, read_json

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-NUMBER_MAX, NUMBER_MAX)
    | st.floats(-NUMBER_MAX, NUMBER_MAX, allow_nan=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(values)
def test_what_json_can_say_comes_back(value: JsonValue) -> None:
    assert read_json(json.dumps(value).encode()) == value
    assert read_json(json.dumps(value, ensure_ascii=False).encode()) == value


@pytest.mark.parametrize(
    ("raw", "pointers"),
    [
        (b"", [""]),
        (b"{", [""]),
        (b"nul", [""]),
        (b"{} {}", [""]),
        (b"[1,]", [""]),
        (b"{'a': 1}", [""]),
        (b'{"a": 01}', [""]),
        (b'"\x01"', [""]),
        (b"\xff", [""]),
        (b"\xef\xbb\xbf{}", [""]),
        ('{"a": 1}'.encode("utf-16"), [""]),
        (b"NaN", [""]),
        (b'{"a": NaN, "b": [Infinity, -Infinity]}', ["/a", "/b/0", "/b/1"]),
        (b'{"a": 1e999, "b": -1e16}', ["/a", "/b"]),
        (b'{"a": 9007199254740993, "b": -9007199254740993}', ["/a", "/b"]),
        (b"[" + b"9" * 5000 + b"]", ["/0"]),
        (b'{"a": 1, "a": 2}', ["/a"]),
        (b'{"x": {"a/b": 1, "a/b": 2, "~": 1, "~": 1}}', ["/x/a~1b", "/x/~0"]),
        (b'{"a": "\\ud800", "b": "\\udc00\\ud800"}', ["/a", "/b"]),
        (b'{"\\ud800": 1}', ["/?"]),
        (b'{"a": "\\u0000"}', ["/a"]),
        (b"[" * (DEPTH_MAX + 1), [""]),
        (b"[" * 100_000, [""]),
        (b'{"a":' * 100_000, [""]),
    ],
)
def test_what_is_refused_has_a_place(raw: bytes, pointers: list[str]) -> None:
    with pytest.raises(Invalid) as caught:
        read_json(raw)

    assert [fault.pointer for fault in caught.value.faults] == pointers


def test_the_bounds_themselves_are_taken() -> None:
    assert read_json(b"[" * DEPTH_MAX + b"]" * DEPTH_MAX) is not None
    assert read_json(b"[9007199254740992, -9007199254740992]") == [NUMBER_MAX, -NUMBER_MAX]
    assert read_json(b'"\\ud83d\\ude00 [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["') is not None


@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:\\u0d8 \n1eE-.nulltrfas', max_size=60).map(str.encode))
def test_no_bytes_break_it(raw: bytes) -> None:
    try:
        value = read_json(raw)
    except Invalid:
        return
    assert not isinstance(value, float) or math.isfinite(value)
    assert json.loads(raw) == value
