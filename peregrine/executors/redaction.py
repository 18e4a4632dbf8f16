"""Owns keeping secrets out of what others read; must not know where a secret comes from or who reads."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final
from urllib.parse import parse_qsl, quote, quote_plus, unquote_plus

from peregrine.domain import redaction as settings
from peregrine.domain.payload import JsonValue
from peregrine.domain.redaction import HIDDEN

SECRET_MIN: Final = 4
"""Shorter values are not hidden: they would blank out ordinary text, and no secret is that short."""
GUESSED_MIN: Final = 6
"""The same for values that only their name makes a secret (``sort_key=name``)."""

_NEVER: Final = frozenset({"idempotency-key"})
_ANYWHERE = re.compile(
    r"token|secret|passw|api[-_]?key|authorization|cookie|credential|signature|session|bearer|private[-_]?key",
    re.IGNORECASE,
)
_WORDS: Final = frozenset({"auth", "jwt", "key", "pass", "pwd", "sid", "sig"})
_UNRESERVED = re.compile(r"[A-Za-z0-9_.\-~]+", re.ASCII)
"""What every spelling but base64 leaves as it is."""
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


@lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """Whether what stands under *name* (a header, a query key, a JSON key) is to be hidden.

    Wider than what makes a setting write-only: to hide too much of an output costs less than to hide too little.
    """
    if name.lower() in _NEVER:
        return False
    return (
        settings.is_secret_name(name)
        or bool(_ANYWHERE.search(name))
        or any(word.lower() in _WORDS for word in _WORD.findall(name))
    )


class Redactor:
    """Blanks known secret values out of texts, however they were escaped on the way."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._forms = tuple(sorted({form for secret in secrets for form in _forms(secret)}, key=len, reverse=True))

    @property
    def longest(self) -> int:
        """How many characters the longest hidden form has: what a cut must look ahead."""
        return len(self._forms[0]) if self._forms else 0

    def __or__(self, other: Redactor) -> Redactor:
        """Both, as one."""
        if not self._forms or not other._forms:
            return self if self._forms else other
        both = Redactor()
        both._forms = tuple(sorted({*self._forms, *other._forms}, key=len, reverse=True))
        return both

    def clean(self, text: str) -> str:
        """*text* without the secrets."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, HIDDEN)
        return text

    def clean_end(self, text: str) -> str:
        """*text*, which was cut somewhere, without the beginning of a secret at its very end."""
        for form in self._forms:
            for size in range(min(len(form) - 1, len(text)), SECRET_MIN - 1, -1):
                if text.endswith(form[:size]):
                    return text[:-size]
        return text


@lru_cache(maxsize=1024)
def _forms(secret: str) -> frozenset[str]:
    """The ways a value may be spelled: plain, percent-encoded, as JSON text, in base64."""
    if len(secret) < SECRET_MIN:
        return frozenset()
    encoded = base64.b64encode(secret.encode("utf-8", "replace")).decode("ascii").rstrip("=")
    if _UNRESERVED.fullmatch(secret):
        return frozenset((secret, encoded))
    texts = (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1])
    return frozenset((secret, encoded, quote(secret, safe=""), quote_plus(secret), quote(secret), *texts))


def secrets_of(url: str, headers: Iterable[tuple[str, str]], body: str) -> Iterator[str]:
    """The values that a request itself carries under names which say that they are secret."""
    for name, value in headers:
        if is_secret_name(name):
            yield from _credentials(value)
    guessed = [value for name, value in _query(url) if is_secret_name(name)]
    guessed += _body_secrets(body)
    yield from (value for value in guessed if len(value) >= GUESSED_MIN)


def _credentials(value: str) -> Iterator[str]:
    """A header's value, and what is inside it: ``Bearer <token>``, ``Basic <user:password>``, ``a=b; c=d``."""
    yield value
    scheme, _, rest = value.partition(" ")
    if rest:
        yield rest.strip()
    if scheme.lower() == "basic":
        try:
            pair = base64.b64decode(rest, validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError):
            return
        yield pair
        yield pair.partition(":")[2]
    for part in value.split(";"):
        cookie = part.partition("=")[2].strip()
        if len(cookie) >= GUESSED_MIN:
            yield cookie


def _query(url: str) -> list[tuple[str, str]]:
    query = url.partition("#")[0].partition("?")[2]
    if not query:
        return []
    return parse_qsl(query, keep_blank_values=False, errors="replace")


def _body_secrets(body: str) -> Iterator[str]:
    """Values under secret names in a JSON or form body."""
    if body.lstrip()[:1] in ("{", "["):
        try:
            yield from _named(json.loads(body), secret=False)
        except (ValueError, RecursionError):
            return
    elif "=" in body and not any(character.isspace() for character in body[:200]):
        try:
            pairs = parse_qsl(body, errors="replace", max_num_fields=1000)
        except ValueError:
            return
        yield from (value for name, value in pairs if is_secret_name(name))


def _named(value: JsonValue, *, secret: bool) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inside in value.items():
            yield from _named(inside, secret=secret or is_secret_name(name))
    elif isinstance(value, list):
        for inside in value:
            yield from _named(inside, secret=secret)
    elif secret and isinstance(value, str):
        yield value


def redacted_url(url: str) -> str:
    """*url* with the values of secret query keys, a user name and a password hidden."""
    scheme, separator, rest = url.partition("://")
    authority_end = min((i for i in map(rest.find, "/?#") if i >= 0), default=len(rest))
    authority, rest = rest[:authority_end], rest[authority_end:]
    if "@" in authority:
        authority = f"{HIDDEN}@{authority.rpartition('@')[2]}"
    path, mark, query = rest.partition("?")
    return f"{scheme}{separator}{authority}{path}{mark}{'&'.join(map(_redacted_pair, query.split('&')))}"


def _redacted_pair(pair: str) -> str:
    name, equals, _ = pair.partition("=")
    return f"{name}={HIDDEN}" if equals and is_secret_name(unquote_plus(name)) else pair
