"""Owns what a call of a user's function came to, as bounded plain values; must not know where it ran.

Everything here ends in a store and before a reader: text is UTF-8 that can be written, sizes have a bound, values
given under secret names are hidden, and no folder of the machine is shown.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Final

from peregrine.domain.moment import SECOND, Duration
from peregrine.domain.payload import JsonObject
from peregrine.domain.redaction import HIDDEN, secret_texts
from peregrine.executors.context import PermanentError, RetryLater, frames, summary

OUTPUT_BYTES_MAX: Final = 64 * 1024
ERROR_CHARS_MAX: Final = 1000
SECRET_CHARS_MIN: Final = 4
"""A shorter secret hides nothing but makes every text unreadable."""
_RETRY_AFTER_MAX: Final = 366 * 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a call came to. ``error`` None: it succeeded. ``crashed``: it took its process with it."""

    output: str = ""
    truncated: bool = False
    error: str | None = None
    traceback: tuple[str, ...] = ()
    retryable: bool = True
    retry_after: Duration | None = None
    crashed: bool = False
    exit_code: int | None = None

    def encode(self) -> JsonObject:
        """The plain mapping that ``decode`` reads back."""
        return asdict(self)

    @classmethod
    def decode(cls, plain: JsonObject) -> Answer:
        answer = cls(**plain)  # type: ignore[arg-type]
        return replace(answer, traceback=tuple(answer.traceback))


class Veil:
    """Hides the values that were given under secret names (``token``, ``password``) wherever they turn up."""

    __slots__ = ("_secrets",)

    def __init__(self, *parameters: JsonObject) -> None:
        found = {form for each in parameters if each for secret in secret_texts(each) for form in _forms(secret)}
        # Longest first: a secret may contain another.
        self._secrets = [one for one in sorted(found, key=len, reverse=True) if len(one) >= SECRET_CHARS_MIN]

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return text


def _forms(secret: str) -> Iterable[str]:
    """It may also show in its JSON form, where quotes are written differently, and, a private key, line by line."""
    lines = [line for line in secret.splitlines() if len(line) >= 2 * SECRET_CHARS_MIN]
    return (secret, *lines, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1])


def answer_of(value: object, veil: Callable[[str], str]) -> Answer:
    """The success whose output says *value*: a text as it is, nothing for None, else JSON."""
    if value is None:
        return Answer()
    output, truncated = cut(veil(value if isinstance(value, str) else _as_json(value)))
    return Answer(output=output, truncated=truncated)


def _as_json(value: object) -> str:
    import msgspec  # Functions that return texts or nothing never pay for it.

    try:
        return msgspec.json.encode(value, enc_hook=str).decode()
    except Exception:
        # The work is done; that its result can't be told is no reason to call it failed and do it again.
        return f"(a {type(value).__name__} that can't be written as JSON)"


def answer_of_error(error: BaseException, veil: Callable[[str], str]) -> Answer:
    """The failure that *error* means."""
    said = writable(veil(summary(error)))
    retry_after = None
    if isinstance(error, RetryLater):
        retry_after = int(min(max(error.after, 0.0), _RETRY_AFTER_MAX) * SECOND)
    return Answer(
        error=said if len(said) <= ERROR_CHARS_MAX else said[: ERROR_CHARS_MAX - 1] + "…",
        traceback=tuple(writable(veil(line)) for line in frames(error)),
        retryable=not isinstance(error, PermanentError),
        retry_after=retry_after,
    )


def cut(text: str) -> tuple[str, bool]:
    """*text* as UTF-8 can say it, at most ``OUTPUT_BYTES_MAX`` bytes of it; and whether something was left out."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= OUTPUT_BYTES_MAX:
        return encoded.decode(), False
    return encoded[:OUTPUT_BYTES_MAX].decode("utf-8", "ignore"), True


def writable(text: str) -> str:
    """*text* without lone surrogates, which no store and no JSON reader takes."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
