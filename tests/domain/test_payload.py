"""Payloads: parse ∘ config = identity, and a fault for every wrong key, with a pointer to each."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peregrine.domain.errors import Invalid
from peregrine.domain.moment import HOUR, SECOND
from peregrine.domain.payload import (
    FORBIDDEN_HEADERS,
    HEADER_BYTES_MAX,
    HEADERS_MAX,
    METHODS,
    NAME_MAX,
    URL_MAX,
    CustomPayload,
    FunctionPayload,
    HttpPayload,
    JsonObject,
    JsonValue,
    Kind,
    Payload,
    SystemPayload,
    parse_payload,
    payload_config,
    with_parameters,
)

# ── what may be written ──────────────────────────────────────────────────────────────────────────

NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.:\-]{0,20}", fullmatch=True)
LEAVES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=9)
VALUES: st.SearchStrategy[JsonValue] = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
OBJECTS: st.SearchStrategy[JsonObject] = st.dictionaries(st.text(max_size=9), VALUES, max_size=4)
HEADER_NAMES = st.from_regex(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]{1,12}", fullmatch=True).filter(
    lambda name: name.lower() not in FORBIDDEN_HEADERS and not name.lower().startswith("proxy-")
)
HEADER_VALUES = st.text(max_size=20).filter(lambda value: not re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value))
URLS = st.from_regex(
    r"https?://[a-z0-9.\-]{1,20}(:\d{1,4})?(/[a-zA-Z0-9_~%.\-]{0,9}){0,3}(\?[a-z=&]{0,9})?", fullmatch=True
)

HTTP = st.builds(
    HttpPayload,
    url=URLS,
    method=st.sampled_from(METHODS),
    headers=st.dictionaries(HEADER_NAMES, HEADER_VALUES, max_size=4).map(lambda found: tuple(found.items())),
    body=st.none() | st.text(max_size=30),
    expected_codes=st.lists(st.integers(100, 599), max_size=5).map(tuple),
    timeout=st.none() | st.integers(SECOND, HOUR),
    follow_redirect=st.booleans(),
    validate_ssl=st.booleans(),
)
PAYLOADS: st.SearchStrategy[tuple[Kind, Payload]] = st.one_of(
    st.tuples(st.just(Kind.HTTP), HTTP),
    st.tuples(
        st.just(Kind.FUNCTION),
        st.builds(FunctionPayload, function_name=NAMES, module=st.just("") | NAMES, parameters=OBJECTS),
    ),
    st.tuples(st.just(Kind.SYSTEM), st.builds(SystemPayload, task_name=NAMES, parameters=OBJECTS)),
    st.tuples(st.just(Kind.CUSTOM), st.builds(CustomPayload, executor=NAMES, parameters=OBJECTS)),
)


@given(PAYLOADS)
def test_a_payload_is_read_as_it_was_written(written: tuple[Kind, Payload]) -> None:
    kind, payload = written
    config = payload_config(payload)

    read = parse_payload(kind, config)

    assert read == payload
    assert payload_config(read) == config == payload_config(payload), "and reading left what was given alone"


@pytest.mark.parametrize(
    ("kind", "config", "payload"),
    [
        (Kind.HTTP, {"url": "http://a"}, HttpPayload(url="http://a")),
        (Kind.HTTP, {"url": "HTTPS://a/b?c#d", "method": "post"}, HttpPayload(url="HTTPS://a/b?c#d", method="POST")),
        (Kind.HTTP, {"url": "http://[::1]:80/"}, HttpPayload(url="http://[::1]:80/")),
        (Kind.HTTP, {"url": "http://a/x@y"}, HttpPayload(url="http://a/x@y")),
        (Kind.HTTP, {"url": "http://a", "expected_code": 204}, HttpPayload(url="http://a", expected_codes=(204,))),
        (Kind.HTTP, {"url": "http://a", "timeout": "PT1M"}, HttpPayload(url="http://a", timeout=60 * SECOND)),
        (Kind.HTTP, {"url": "http://a", "headers": None, "body": None}, HttpPayload(url="http://a")),
        (Kind.FUNCTION, {"function_name": "f"}, FunctionPayload(function_name="f")),
        (Kind.FUNCTION, {"function_name": "f", "parameters": None}, FunctionPayload(function_name="f")),
        (Kind.SYSTEM, {"task_name": "t", "parameters": {"a": 1}}, SystemPayload(task_name="t", parameters={"a": 1})),
        (Kind.CUSTOM, {"executor": "e"}, CustomPayload(executor="e")),
    ],
)
def test_configs_that_people_write(kind: Kind, config: JsonObject, payload: Payload) -> None:
    assert parse_payload(kind, config) == payload


# ── what may not ─────────────────────────────────────────────────────────────────────────────────

NEEDED: dict[Kind, JsonObject] = {
    Kind.HTTP: {"url": "http://a"},
    Kind.FUNCTION: {"function_name": "f"},
    Kind.SYSTEM: {"task_name": "t"},
    Kind.CUSTOM: {"executor": "e"},
}


def pointers(kind: Kind, config: JsonObject, *, at: str = "/config") -> list[str]:
    """Where the faults of *config* are, which must have some."""
    with pytest.raises(Invalid) as caught:
        parse_payload(kind, config, at=at)
    assert all(fault.message for fault in caught.value.faults)
    return [fault.pointer for fault in caught.value.faults]


@pytest.mark.parametrize("kind", list(Kind))
def test_what_is_required_must_be_there(kind: Kind) -> None:
    (key,) = NEEDED[kind]

    assert pointers(kind, {}) == [f"/config/{key}"]
    wrongs: list[JsonValue] = [None, "", 5, True, [], {}, "x" * (URL_MAX + 1)]
    for wrong in wrongs:
        assert pointers(kind, {key: wrong}) == [f"/config/{key}"], wrong


@given(st.sampled_from(Kind), st.text(max_size=12), VALUES)
def test_an_unknown_key_is_a_fault(kind: Kind, key: str, value: JsonValue) -> None:
    known = {"url", "method", "headers", "body", "expected_code", "timeout", "follow_redirect", "validate_ssl"}
    if key in known | {"function_name", "module", "parameters", "task_name", "executor"}:
        return

    escaped = key.replace("~", "~0").replace("/", "~1")
    assert pointers(kind, NEEDED[kind] | {key: value}) == [f"/config/{escaped}"]


@pytest.mark.parametrize(
    ("kind", "foreign"),
    [
        (Kind.HTTP, "function_name"),
        (Kind.HTTP, "parameters"),
        (Kind.HTTP, "expected_codes"),
        (Kind.FUNCTION, "url"),
        (Kind.SYSTEM, "module"),
        (Kind.CUSTOM, "task_name"),
    ],
)
def test_a_key_of_another_kind_is_a_fault(kind: Kind, foreign: str) -> None:
    assert pointers(kind, NEEDED[kind] | {foreign: "x"}) == [f"/config/{foreign}"]


WRONG: dict[str, list[JsonValue]] = {
    "url": [
        "ftp://a", "a", "http://", "http:///x", "http://a b", "http://a\\b", "http://a\n", "http://a/\x00",
        " http://a", "http://user@a", "http://user:secret@a/", "javascript:alert(1)", "http://?x", "http://#x",
    ],
    "method": ["", "BREW", "GET ", "CONNECT", 5, None, ["GET"]],
    "headers": ["x", ["x"], 5, {f"h{number}": "x" for number in range(HEADERS_MAX + 1)}],
    "body": [5, {}, [], False],
    "expected_code": [99, 600, "200", True, [], [200, "x"], [[200]], 200.0, [200] * 51],
    "timeout": [5, "5", "0s", "999ms", "1h0.001s", "2d", "-1s", "", {}, True],
    "follow_redirect": ["true", 1, 0, None, []],
    "validate_ssl": ["false", 1, 0, None, []],
}  # fmt: skip


@pytest.mark.parametrize(("key", "wrong"), [(key, wrong) for key, wrongs in WRONG.items() for wrong in wrongs])
def test_a_wrong_http_setting_is_a_fault(key: str, wrong: JsonValue) -> None:
    assert pointers(Kind.HTTP, NEEDED[Kind.HTTP] | {key: wrong}) == [f"/config/{key}"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("", "x"),
        ("a b", "x"),
        ("a:b", "x"),
        ("ü", "x"),
        ("a\n", "x"),
        *((name, "x") for name in sorted(FORBIDDEN_HEADERS)),
        ("HOST", "x"),
        ("Proxy-Authorization", "x"),
        ("a", 5),
        ("a", None),
        ("a", "x\r\nInjected: y"),
        ("a", "\x00"),
        ("a", "x" * (HEADER_BYTES_MAX + 1)),
        ("a/b~c", "x"),
    ],
)
def test_a_wrong_header_is_a_fault(name: str, value: JsonValue) -> None:
    headers: JsonObject = {"ok": "x", name: value}
    escaped = name.replace("~", "~0").replace("/", "~1")

    assert pointers(Kind.HTTP, {"url": "http://a", "headers": headers}) == [f"/config/headers/{escaped}"]


@pytest.mark.parametrize("kind", [Kind.FUNCTION, Kind.SYSTEM, Kind.CUSTOM])
@pytest.mark.parametrize("wrong", ["a b", "ü", "-a", ".a", "a/b", "a\n", "x" * (NAME_MAX + 1)])
def test_a_wrong_name_is_a_fault(kind: Kind, wrong: str) -> None:
    (key,) = NEEDED[kind]

    assert pointers(kind, {key: wrong}) == [f"/config/{key}"]


@pytest.mark.parametrize("kind", [Kind.FUNCTION, Kind.SYSTEM, Kind.CUSTOM])
@pytest.mark.parametrize("wrong", ["x", 5, [], True])
def test_wrong_parameters_are_a_fault(kind: Kind, wrong: JsonValue) -> None:
    assert pointers(kind, NEEDED[kind] | {"parameters": wrong}) == ["/config/parameters"]


def test_every_fault_is_told_not_only_the_first() -> None:
    config: JsonObject = {
        "method": "BREW",
        "headers": {"host": "x", "ok": 5},
        "timeout": 5,
        "expected_code": "x",
        "a/b": 1,
    }

    assert sorted(pointers(Kind.HTTP, config, at="/tasks/3/config")) == [
        "/tasks/3/config/a~1b",
        "/tasks/3/config/expected_code",
        "/tasks/3/config/headers/host",
        "/tasks/3/config/headers/ok",
        "/tasks/3/config/method",
        "/tasks/3/config/timeout",
        "/tasks/3/config/url",
    ]


# ── one run ──────────────────────────────────────────────────────────────────────────────────────


def test_the_parameters_of_a_run_stand_over_the_stored_ones() -> None:
    stored = FunctionPayload(function_name="f", parameters={"a": 1, "b": 2})

    assert with_parameters(stored, {"b": 3, "c": 4}) == FunctionPayload(
        function_name="f", parameters={"a": 1, "b": 3, "c": 4}
    )
    assert stored.parameters == {"a": 1, "b": 2}
    assert with_parameters(stored, None) is stored
    http = HttpPayload(url="http://a")
    assert with_parameters(http, {"a": 1}) is http
