"""YAML bodies say what JSON can say, and bombs stay unlit."""

from __future__ import annotations

import pytest
from hypothesis import given

from peregrine.domain.errors import Invalid
from peregrine.domain.payload import JsonValue
from peregrine.wire import yaml_text
from peregrine.wire.yaml_text import read_yaml, write_yaml
from tests.wire.test_strict_json import values


@given(values)
def test_what_is_written_is_read_back(value: JsonValue) -> None:
    assert read_yaml(write_yaml(value)) == value


@pytest.mark.parametrize(
    "text",
    ["yes", "no", "on", "2024-01-01", "1:30", "0x10", "07x", "1_000", "=", "- a", "<<x"],
)
def test_plain_words_stay_words(text: str) -> None:
    assert read_yaml(f"a: {text!r}".encode()) == {"a": text}


def test_people_write_it_as_they_like() -> None:
    raw = b"""
    # a comment
    tasks:
      - {name: Health, enabled: true, tags: [a, "b"], until: ~}
      - name: >
          two
          lines
        count: 3
        rate: 1.5
        day: 2024-01-01
    """
    assert read_yaml(raw) == {
        "tasks": [
            {"name": "Health", "enabled": True, "tags": ["a", "b"], "until": None},
            {"name": "two lines\n", "count": 3, "rate": 1.5, "day": "2024-01-01"},
        ]
    }


@pytest.mark.parametrize(
    "raw",
    [
        b"a: &x [1]\nb: *x",
        b"a: &x 1",
        b"!!python/object/apply:os.system [ls]",
        b"a: !!binary aGk=",
        b"a: !thing 1",
        b"<<: {a: 1}",
        b"1: 2",
        b"? [a]\n: b",
        b"a: 1\n---\nb: 2",
        b"a: .inf",
        b"a: .NaN",
        b"a: 1e999",
        b"a: 99999999999999999999",
        b"a: 1\na: 2",
        b'a: "\\ud800"',
        b"a\x00b",
        b"\xff\xfe",
        b"[" * 33,
        b"{a: b",
        b"%YAML 9.9\n---\na",
    ],
)
def test_what_is_no_plain_value_is_refused(raw: bytes) -> None:
    with pytest.raises(Invalid):
        read_yaml(raw)


def test_a_bomb_costs_no_more_than_its_bytes() -> None:
    bomb = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
        b"%c: &%c [%s]\n" % (i, i, b",".join([b"*" + bytes([i - 1])] * 9)) for i in range(ord("b"), ord("i"))
    )

    with pytest.raises(Invalid):
        read_yaml(bomb)


def test_too_many_values_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_text, "EVENTS_MAX", 100)

    assert read_yaml(b"[1,2,3]") == [1, 2, 3]
    with pytest.raises(Invalid, match="too many"):
        read_yaml(b"[" + b"1," * 200 + b"1]")
