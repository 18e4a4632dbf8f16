"""What is secret goes out as ``***``, and ``***`` sent back keeps what is stored."""

from __future__ import annotations

import pytest

from peregrine.domain.payload import JsonObject
from peregrine.domain.redaction import HIDDEN, hidden, is_secret_name, restored, secret_texts, with_secrets

SECRET = ["Authorization", "AUTHORIZATION", "token", "X-Auth-Token", "client_secret", "clientSecret", "PASSWORD",
          "db_password", "api_key", "apikey", "APIKEY", "X-Api-Key", "Cookie", "private_key", "sig"]  # fmt: skip
PLAIN = ["", "url", "max_tokens", "token_count", "key", "monkey", "timeout", "batch_size", "author", "passwordless"]


@pytest.mark.parametrize("name", SECRET)
def test_a_name_of_a_secret_is_known_in_any_spelling(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", PLAIN)
def test_other_names_are_not(name: str) -> None:
    assert not is_secret_name(name)


CONFIG: JsonObject = {
    "url": "https://example.com/a?x=a%20b&api_key=canary&x=2#f",
    "headers": {"Authorization": "Bearer canary", "Accept": "*/*"},
    "parameters": {"list": [{"token": "canary", "n": 1}], "password": {"deep": "canary"}, "secret": None},
}


def test_hiding_leaves_no_trace_and_touches_nothing_else() -> None:
    shown = hidden(CONFIG)

    assert "canary" not in str(shown)
    assert shown["url"] == f"https://example.com/a?x=a%20b&api_key={HIDDEN}&x=2#f"
    assert shown["headers"] == {"Authorization": HIDDEN, "Accept": "*/*"}


def test_a_key_is_secret_in_an_address_alone() -> None:
    config: JsonObject = {"url": "https://example.com/?key=canary&monkey=1", "key": "plain"}

    assert hidden(config) == {"url": f"https://example.com/?key={HIDDEN}&monkey=1", "key": "plain"}
    assert restored(hidden(config), config) == (config, [])


def test_what_was_hidden_comes_back_whole() -> None:
    assert restored(hidden(CONFIG), CONFIG) == (CONFIG, [])


def test_keeping_nothing_is_a_fault_with_its_place() -> None:
    _, faults = restored({"headers": {"Authorization": HIDDEN}, "url": f"http://e.x/?token={HIDDEN}"}, {})

    assert [fault.pointer for fault in faults] == ["/config/headers/Authorization", "/config/url"]


@pytest.mark.parametrize(
    "url",
    ["https://example.org/a?api_key=***", "http://example.com/a?api_key=***", "https://example.com:8443/?api_key=***",
     "https://example.com.evil.org?api_key=***", "https://evil.org?https://example.com/&api_key=***"],
)  # fmt: skip
def test_no_secret_is_kept_for_another_address(url: str) -> None:
    whole, faults = restored({"url": url, "headers": {"Authorization": HIDDEN}}, CONFIG)

    assert "canary" not in str(whole)
    assert [fault.pointer for fault in faults] == ["/config/url", "/config/headers/Authorization"]
    assert "same receiver" in faults[0].message


@pytest.mark.parametrize("url", ["https://example.com/other?api_key=***&b=2", "HTTPS://Example.COM?api_key=***"])
def test_a_secret_is_kept_for_another_path_of_the_same_address(url: str) -> None:
    whole, faults = restored({"url": url, "headers": {"Authorization": HIDDEN}}, CONFIG)

    assert faults == []
    assert whole == {"url": url.replace(HIDDEN, "canary"), "headers": {"Authorization": "Bearer canary"}}


def test_no_secret_is_kept_by_who_stops_the_check_of_the_receiver() -> None:
    sent: JsonObject = {"url": "https://example.com/", "headers": {"Authorization": HIDDEN}}
    unchecked: JsonObject = {"validate_ssl": False}

    whole, faults = restored(sent | unchecked, CONFIG)

    assert "canary" not in str(whole)
    assert [fault.pointer for fault in faults] == ["/config/headers/Authorization"]
    assert restored(sent | unchecked, CONFIG | unchecked)[1] == []
    assert restored(sent | {"validate_ssl": True}, CONFIG | unchecked)[1] == []


@pytest.mark.parametrize(
    "other", [{"function_name": "shout"}, {"function_name": "f", "module": "m"}, {"executor": "shout"}]
)
def test_no_secret_is_kept_for_another_function_or_executor(other: JsonObject) -> None:
    stored: JsonObject = {"function_name": "f", "parameters": {"password": "canary", "size": 1}}

    whole, faults = restored(other | {"parameters": {"password": HIDDEN, "size": 2}}, stored)

    assert "canary" not in str(whole)
    assert [fault.pointer for fault in faults] == ["/config/parameters/password"]
    assert restored(other | {"parameters": {"password": "new"}}, stored)[1] == []


def test_stars_elsewhere_are_just_stars() -> None:
    assert restored({"body": HIDDEN, "parameters": {"note": HIDDEN}}, {}) == (
        {"body": HIDDEN, "parameters": {"note": HIDDEN}},
        [],
    )


def test_each_secret_has_a_place_of_its_own() -> None:
    places: list[str] = []
    with_secrets(CONFIG | {"a/b~c": {"token": "x"}, "jwt": ""}, lambda value, place: places.append(place), at="/at")

    assert places == [
        "/at/url?api_key",
        "/at/headers/Authorization",
        "/at/parameters/list/0/token",
        "/at/parameters/password",
        "/at/a~1b~0c/token",
    ]


def test_what_must_not_be_said_is_every_leaf_of_a_secret() -> None:
    config: JsonObject = {
        "secret": {"a": ["x", 1234, True, None], "url": "y"}, "url": "http://e.x/?token=a%20b&page=2", "n": "plain",
    }  # fmt: skip

    assert secret_texts(config) == ["x", "1234", "y", "a%20b", "a b"]
