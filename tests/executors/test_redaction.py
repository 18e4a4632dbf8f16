"""Secrets stay inside, however they are spelled on the way out."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from peregrine.domain.redaction import HIDDEN
from peregrine.executors.redaction import SECRET_MIN, Redactor, is_secret_name, redacted_url, secrets_of

AROUND = "☃äöü "
secrets = st.text(st.characters(codec="utf-8", exclude_characters="*" + AROUND), min_size=SECRET_MIN, max_size=40)
around = st.text(AROUND, max_size=10)


@pytest.mark.parametrize(
    "name",
    [
        "Authorization", "authorization", "Proxy-Authorization", "Cookie", "Set-Cookie", "X-Api-Key", "apikey",
        "api_key", "X-Auth-Token", "X-Auth", "access_token", "client_secret", "password", "passwd", "pwd", "sig",
        "X-Signature", "X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token", "key", "jwt", "sessionid",
        "privateKey", "authKey", "Bearer",
    ],
)  # fmt: skip
def test_a_secret_shows_in_its_name(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "Accept", "Content-Type", "Idempotency-Key", "monkey", "keyboard", "author", "signal", "design", "page", "q",
        "X-Request-Id", "passage", "X-Scheduler-Execution-Id",
    ],
)  # fmt: skip
def test_an_ordinary_name_hides_nothing(name: str) -> None:
    assert not is_secret_name(name)


@given(secrets, around, around)
def test_every_spelling_is_hidden(secret: str, before: str, after: str) -> None:
    hide = Redactor([secret]).clean
    plain = (secret, quote(secret), quote(secret, safe=""), quote_plus(secret))
    as_json = (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1])

    for spelling in (*plain, *as_json):
        assert hide(before + spelling + after) == before + HIDDEN + after
    assert hide(base64.b64encode(secret.encode()).decode()).rstrip("=") == HIDDEN


@given(secrets, st.text(max_size=10), st.text(max_size=10))
def test_a_secret_inside_a_secret_leaves_no_rest(inner: str, before: str, after: str) -> None:
    outer = before + inner + after

    assert Redactor([inner, outer]).clean(outer) == HIDDEN
    assert Redactor([outer, inner]).clean(outer) == HIDDEN


def test_short_values_are_not_hidden() -> None:
    assert Redactor(["abc", ""]).clean("abc") == "abc"


@given(secrets, st.data())
def test_a_cut_leaves_no_beginning_of_a_secret(secret: str, data: st.DataObject) -> None:
    size = data.draw(st.integers(SECRET_MIN, max(SECRET_MIN, len(secret) - 1)))
    assume(size < len(secret))

    cleaned = Redactor([secret]).clean_end(" " + secret[:size])

    assert secret[:size] not in cleaned


def test_two_redactors_are_one() -> None:
    both = Redactor(["first-one"]) | Redactor(["second-one"])

    assert both.clean("first-one second-one") == "*** ***"
    assert (Redactor() | both).clean("first-one") == HIDDEN
    assert (both | Redactor()).longest == both.longest


@pytest.mark.parametrize(
    ("url", "headers", "body", "found"),
    [
        ("", [("Authorization", "Bearer abcdef")], "", {"Bearer abcdef", "abcdef"}),
        (
            "",
            [("authorization", "Basic " + base64.b64encode(b"me:hunter22").decode())],
            "",
            {"hunter22", "me:hunter22"},
        ),
        ("", [("Authorization", "Basic !!!")], "", {"Basic !!!"}),
        ("", [("Cookie", "sid=abcdefgh; theme=dark")], "", {"abcdefgh"}),
        ("", [("X-Api-Key", "abcdef")], "", {"abcdef"}),
        ("", [("Accept", "text/plain")], "", set()),
        ("http://x/?token=ab%2Fcdef&q=open", [], "", {"ab/cdef"}),
        ("http://x/?sort_key=name", [], "", set()),
        ("", [], '{"user": "me", "password": "hunter22", "deep": [{"api_key": ["abcdef"]}]}', {"hunter22", "abcdef"}),
        ("", [], "user=me&password=hunter22", {"hunter22"}),
        ("", [], '{"password": ', set()),
        ("", [], "[" * 100_000, set()),
        ("", [], "a&" * 2000 + "=", set()),
    ],
)
def test_what_a_request_carries_under_a_secret_name(
    url: str, headers: list[tuple[str, str]], body: str, found: set[str]
) -> None:
    got = set(secrets_of(url, headers, body))

    assert found <= got
    assert "dark" not in got
    if not found:
        assert got == set()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://x/a?b=c", "http://x/a?b=c"),
        ("http://x/?token=abc&q=1&api%5Fkey=z", "http://x/?token=***&q=1&api%5Fkey=***"),
        ("http://me:word@x/a", "http://***@x/a"),
        ("http://me@x?sig=1", "http://***@x?sig=***"),
        ("http://x/a@b", "http://x/a@b"),
        ("http://x", "http://x"),
        ("", ""),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert redacted_url(url) == shown
