"""Owns which settings of a task are secret, where they stand, how they are hidden, and how a hidden one keeps what is
stored.

A secret is found by its name, in any spelling: ``Authorization``, ``api_key``, ``clientSecret``, ``X-Auth-Token``.
Hidden, it reads ``***``; ``***`` sent back means "keep what you have". Must not know who reads or stores.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Final, TypeAlias
from urllib.parse import unquote_plus

from peregrine.domain.errors import Fault
from peregrine.domain.payload import HttpPayload, JsonObject, JsonValue, Payload

HIDDEN: Final = "***"
Change: TypeAlias = Callable[[JsonValue, str], JsonValue]
"""A secret and its place (a JSON pointer below the config; in an address ``<pointer>?<key>``) in, what replaces it out.
In an address both are texts."""

_ELSEWHERE: Final = f"{HIDDEN} keeps what is stored only for the same receiver; send the value"
_RECEIVERS: Final = ("function_name", "module", "executor", "task_name")
_ORIGIN = re.compile(r"[^:/?#]+://[^/?#]*")
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_LAST_WORDS: Final = frozenset({
    "accesskey", "accesstoken", "apikey", "auth", "authorization", "authtoken", "bearer", "clientsecret", "cookie",
    "credential", "credentials", "jwt", "passphrase", "passwd", "password", "passwords", "privatekey", "pwd",
    "refreshtoken", "secret", "secretkey", "secrets", "sig", "signature", "token",
})  # fmt: skip
_KEY_KINDS: Final = frozenset({"access", "api", "auth", "encryption", "private", "secret", "signing"})


@lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """Whether a setting of this name is write-only."""
    words = [word.lower() for word in _WORDS.findall(name)]
    if not words:
        return False
    if words[-1] in _LAST_WORDS or "".join(words) in _LAST_WORDS:
        return True
    return len(words) > 1 and words[-1] == "key" and words[-2] in _KEY_KINDS


def _is_secret_in_query(key: str) -> bool:
    """The same for the query of an address, where a plain ``key`` is what many services call their API key."""
    return key.lower() == "key" or is_secret_name(key)


def hidden(config: JsonObject) -> JsonObject:
    """*config* with every secret replaced by ``***``, at any depth, in the query of an address too."""
    return with_secrets(config, lambda value, place: HIDDEN)


def with_secrets(config: JsonObject, change: Change, *, at: str = "") -> JsonObject:
    """*config* with every secret that has a value passed through *change*. Places begin with *at*."""
    return {name: _changed(name, value, f"{at}/{_escaped(name)}", change) for name, value in config.items()}


def secret_texts(config: JsonObject) -> list[str]:
    """The texts and numbers that are secret in *config*: what must not show where it is spoken of."""
    found: list[JsonValue] = []

    def note(value: JsonValue, place: str) -> JsonValue:
        found.append(value)
        return value

    with_secrets(config, note)
    return [text for value in found for text in _leaves(value)]


def payload_with_secrets(payload: Payload, change: Change) -> Payload:
    """*payload* with every secret passed through *change*; the places are those in its config."""
    if not isinstance(payload, HttpPayload):
        if not payload.parameters:
            return payload
        return replace(payload, parameters=with_secrets(payload.parameters, change, at="/parameters"))
    shown = with_secrets({"url": payload.url, "headers": dict(payload.headers)}, change)
    headers = shown["headers"]
    assert isinstance(headers, dict)
    return replace(payload, url=str(shown["url"]), headers=tuple((name, str(value)) for name, value in headers.items()))


def restored(config: JsonObject, stored: JsonObject, *, at: str = "/config") -> tuple[JsonObject, list[Fault]]:
    """*config* with each hidden secret replaced by what *stored* holds in its place; a fault where that is nothing.

    What is kept goes where it went before: who may change a task may not have its secrets sent to a place of theirs,
    nor stop the check (``validate_ssl``) that it is the same place.
    """
    if stored and (_receiver(config) != _receiver(stored) or _is_unproved(config) > _is_unproved(stored)):
        whole, faults = _restored(config, {}, at)
        return whole, [Fault(fault.pointer, _ELSEWHERE) for fault in faults]
    return _restored(config, stored, at)


def _changed(name: str, value: JsonValue, at: str, change: Change) -> JsonValue:
    if value is None or value == "":
        return value
    if is_secret_name(name):
        return change(value, at)
    if isinstance(value, dict):
        return with_secrets(value, change, at=at)
    if isinstance(value, list):
        return [_changed("", item, f"{at}/{index}", change) for index, item in enumerate(value)]
    if name == "url" and isinstance(value, str):
        return _with_query(
            value, lambda key, text: str(change(text, f"{at}?{key}")) if text and _is_secret_in_query(key) else text
        )
    return value


def _receiver(config: JsonObject) -> list[JsonValue]:
    """Who is given the secrets in *config*: the origin of an address, a function, an executor."""
    url = config.get("url")
    origin = _ORIGIN.match(url) if isinstance(url, str) else None
    return [origin[0].lower() if origin else url, *(config.get(name) for name in _RECEIVERS)]


def _is_unproved(config: JsonObject) -> bool:
    """Whether nobody checks who the receiver is."""
    return config.get("validate_ssl") is False


def _restored(config: JsonObject, stored: JsonObject, at: str) -> tuple[JsonObject, list[Fault]]:
    faults: list[Fault] = []
    whole = {name: _restored_member(name, value, stored.get(name), f"{at}/{_escaped(name)}", faults)
             for name, value in config.items()}  # fmt: skip
    return whole, faults


def _restored_member(name: str, value: JsonValue, stored: JsonValue, at: str, faults: list[Fault]) -> JsonValue:
    if value == HIDDEN and is_secret_name(name):
        if stored is None or stored == HIDDEN:
            faults.append(Fault(at, f"{HIDDEN} keeps what is stored, but nothing is stored here; send the value"))
            return value
        return stored
    if isinstance(value, dict):
        before = stored if isinstance(stored, dict) else {}
        return {key: _restored_member(key, item, before.get(key), f"{at}/{_escaped(key)}", faults)
                for key, item in value.items()}  # fmt: skip
    if isinstance(value, list):
        olds = stored if isinstance(stored, list) else []
        return [
            _restored_member("", item, olds[index] if index < len(olds) else None, f"{at}/{index}", faults)
            for index, item in enumerate(value)
        ]
    if name == "url" and isinstance(value, str) and HIDDEN in value:
        return _restored_url(value, stored if isinstance(stored, str) else "", at, faults)
    return value


def _restored_url(url: str, stored: str, at: str, faults: list[Fault]) -> str:
    query = stored.partition("?")[2].partition("#")[0]
    known = {unquote_plus(key): text for key, _, text in (pair.partition("=") for pair in query.split("&"))}

    def fill(key: str, text: str) -> str:
        if text != HIDDEN or not _is_secret_in_query(key):
            return text
        if known.get(key, HIDDEN) == HIDDEN:
            faults.append(Fault(at, f"{HIDDEN} in {key!r} keeps what is stored, but nothing is stored here"))
        return known.get(key, text)

    return _with_query(url, fill)


def _with_query(url: str, change: Callable[[str, str], str]) -> str:
    """*url* with each value of its query passed through *change*; the rest stays to the letter."""
    head, mark, rest = url.partition("?")
    query, hash_mark, fragment = rest.partition("#")
    pairs = []
    for pair in query.split("&"):
        key, equals, text = pair.partition("=")
        pairs.append(f"{key}={change(unquote_plus(key), text)}" if equals else pair)
    return head + mark + "&".join(pairs) + hash_mark + fragment


def _leaves(value: JsonValue) -> list[str]:
    """The texts in *value*, also as they read behind the escapes of an address."""
    if isinstance(value, dict):
        return [text for item in value.values() for text in _leaves(item)]
    if isinstance(value, list):
        return [text for item in value for text in _leaves(item)]
    if isinstance(value, str):
        return list(dict.fromkeys((value, unquote_plus(value))))
    return [] if value is None or isinstance(value, bool) else [str(value)]


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
