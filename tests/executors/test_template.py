"""Placeholders: what they mean, what is refused at save time, and that a value stays a value wherever it lands."""

from __future__ import annotations

import json
from dataclasses import replace
from urllib.parse import parse_qsl, quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peregrine.domain.payload import HttpPayload, JsonValue
from peregrine.executors.template import FAULTS_MAX, BadValue, Place, Template, read_template, values_of
from peregrine.testing.executor_contract import example_claim

CLAIM = example_claim(HttpPayload(url="http://example.com/"), attempt=3, parameters={"x": "one", "n": 5, "none": None})
SECRETS = {"TOKEN": "hush-hush"}

texts = st.text(st.characters(codec="utf-8"))
values: st.SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(texts, inside, max_size=4),
    max_leaves=8,
)


def fill(text: str, place: Place = Place.BODY, **parameters: JsonValue) -> str:
    claim = replace(CLAIM, parameters=parameters) if parameters else CLAIM
    return read_template(text).fill(place, values_of(claim, SECRETS))


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("{{ task.id }}", "task-1"),
        ("{{task.name}}", "Nightly report"),
        ("<{{ execution.id }}>", "<execution-1>"),
        ("{{execution.attempt}}/{{ execution.attempt }}", "3/3"),
        ("{{ execution.scheduled_for }}", "2026-03-01T06:30:00Z"),
        ("{{ parameters.x }}", "one"),
        ("{{ parameters.n }}", "5"),
        ("{{ parameters.none }}", ""),
        ("{{ secret.TOKEN }}", "hush-hush"),
        ("{{\ttask.id\n}}", "task-1"),
        (r"\{{ task.id }}", "{{ task.id }}"),
        (r"\{{ {{ task.id }}", "{{ task-1"),
        ('{"a":{"b":1}}', '{"a":{"b":1}}'),
        ("}} { { }", "}} { { }"),
        ("", ""),
    ],
)
def test_a_placeholder_means(text: str, filled: str) -> None:
    assert fill(text) == filled


def test_a_run_by_hand_has_no_scheduled_moment() -> None:
    by_hand = values_of(replace(CLAIM, scheduled_for=None), {})

    template = read_template('{"at": {{ execution.scheduled_for }}, "text": "{{ execution.scheduled_for }}"}')

    assert template.fill(Place.JSON, by_hand) == '{"at": null, "text": ""}'


@pytest.mark.parametrize(
    "text",
    [
        "{{ task }}", "{{ task.owner }}", "{{ foo.bar }}", "{{}}", "{{ }}", "{{ parameters }}", "{{ parameters. }}",
        "{{ parameters.a.b }}", "{{ parameters.a + 1 }}", "{{ 1 + 1 }}", "{{ Task.id }}", "{{ secret.a b }}",
        "{{ parameters.ä }}", "{{ execution.scheduled_for | date }}", "{{ task.id }", "{{", "a {{ b {{ task.id }}",
        "{{ parameters." + "a" * 65 + " }}", "{{ __class__.x }}", "{{ task.__class__ }}", "{% task.id %}{{%",
    ],
)  # fmt: skip
def test_an_unknown_placeholder_is_a_fault(text: str) -> None:
    assert read_template(text).faults


def test_faults_are_few_and_printable() -> None:
    template = read_template("".join(f"{{{{ x{number}\x1b\x00 {'y' * 900} }}}}" for number in range(1000)))

    assert len(template.faults) == FAULTS_MAX
    assert all(len(fault) < 400 and fault.isprintable() for fault in template.faults)


@given(texts)
def test_reading_is_total(text: str) -> None:
    template = read_template(text)

    if not template.faults and not list(template.slots):
        assert template.fill(Place.BODY, values_of(CLAIM, {})) == text.replace(r"\{{", "{{")


@given(texts)
def test_any_text_can_be_written_as_itself(text: str) -> None:
    # A text that itself ends a backslash just before the braces has no way to be said; nobody asked for one.
    if r"\{{" in text or text.replace("{{", "").endswith("\\"):
        return
    escaped = text.replace("{{", r"\{{")

    assert read_template(escaped) == Template(read_template(escaped).parts)
    assert fill(escaped) == text


@pytest.mark.parametrize("size", [50_000])
@pytest.mark.parametrize("unit", ["{{", "{{ ", "}}", r"\{{", "{{ task.id }}", '"', "\\", "{{ a", '{"{{'])
def test_reading_takes_linear_time(unit: str, size: int) -> None:
    read_template(unit * size)


# ── filling in ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{{ parameters.y }}", r"parameters\.y .*was given no such value"),
        ("{{ secret.OTHER }}", r"secret\.OTHER .*no such secret"),
    ],
)
def test_a_missing_value_is_named(text: str, error: str) -> None:
    with pytest.raises(BadValue, match=error):
        fill(text)


@given(values)
def test_a_value_outside_quotes_is_a_json_value(value: JsonValue) -> None:
    told = json.loads(fill('{"a": {{ parameters.v }}, "b": 1}', Place.JSON, v=value))

    assert told == {"a": value, "b": 1}


@given(texts)
def test_a_text_inside_quotes_stays_inside(text: str) -> None:
    told = json.loads(fill(r'{"a\"": "<{{ parameters.v }}>", "b": "\\"}', Place.JSON, v=text))

    assert told == {'a"': f"<{text}>", "b": "\\"}


@given(values)
def test_any_value_inside_quotes_leaves_valid_json(value: JsonValue) -> None:
    told = json.loads(fill('["{{ parameters.v }}"]', Place.JSON, v=value))

    if isinstance(value, list | dict):
        assert json.loads(told[0]) == value


@given(texts.filter(lambda text: text not in (".", "..")))
def test_a_value_in_a_url_stays_one_part(text: str) -> None:
    filled = fill("http://example.com/a/{{ parameters.v }}/b?c={{ parameters.v }}&d=1", Place.URL, v=text)

    assert filled == f"http://example.com/a/{quote(text, safe='')}/b?c={quote(text, safe='')}&d=1"
    assert unquote(filled.split("/")[4]) == text


@pytest.mark.parametrize("climb", [".", ".."])
def test_a_value_cannot_climb_in_a_path(climb: str) -> None:
    with pytest.raises(BadValue, match="climb"):
        fill("http://example.com/a/{{ parameters.v }}/b", Place.URL, v=climb)


@given(texts)
def test_a_value_in_a_form_stays_one_field(text: str) -> None:
    filled = fill("a={{ parameters.v }}&b=1", Place.FORM, v=text)

    assert dict(parse_qsl(filled, keep_blank_values=True)) == {"a": text, "b": "1"}


@pytest.mark.parametrize("control", [*map(chr, range(0x20)), "\x7f"])
def test_a_header_refuses_each_control_character(control: str) -> None:
    with pytest.raises(BadValue, match=r"parameters\.v .*control characters") as caught:
        fill("a {{ parameters.v }}", Place.HEADER, v=f"secret-word{control}X: y")

    assert "secret-word" not in str(caught.value)


@pytest.mark.parametrize("place", list(Place))
def test_a_lone_surrogate_is_refused_everywhere(place: Place) -> None:
    with pytest.raises(BadValue, match="no valid text"):
        fill("{{ parameters.v }}", place, v="\ud800")
    with pytest.raises(BadValue, match="no valid text"):
        fill("{{ parameters.v }}", place, v=["\ud800"])
