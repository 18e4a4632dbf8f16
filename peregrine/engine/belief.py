"""Owns what is believed of an executor's word: which verdicts are its to give, and what of it can be kept.
Must not know runs.

An executor may be anybody's code. One outcome that no store can write, or a verdict that only we may give, would hurt
every other execution; so what can be put right is put right, aloud, and the rest is a failure of that attempt alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Final

from peregrine.domain.execution import AttemptOutcome, Outcome
from peregrine.domain.moment import Duration
from peregrine.domain.payload import JsonObject

OUTPUT_MAX: Final = 64 * 1024
"""Bytes."""
DETAIL_MAX: Final = 64 * 1024
"""Bytes of JSON."""
ERROR_MAX: Final = 4 * 1024

_ITS_TO_SAY: Final = (AttemptOutcome.SUCCEEDED, AttemptOutcome.FAILED, AttemptOutcome.TIMED_OUT)


def believed(said: object) -> Outcome:
    """The outcome that an executor gave, as far as it is one and can be stored."""
    if not isinstance(said, Outcome):
        return Outcome.failed(f"the executor gave {type(said).__name__} instead of an outcome")
    if _says_nothing_more(said):
        return Outcome.succeeded()  # not *said*: its author may still hold it, and change it
    verdict, error = said.verdict, None if said.error is None else text_of(said.error)[:ERROR_MAX]
    if verdict not in _ITS_TO_SAY:
        verdict, error = AttemptOutcome.FAILED, f"the executor said {str(verdict)!r}, which is not its to say"
    elif verdict != AttemptOutcome.SUCCEEDED and not error:
        error = "the executor gave no reason"
    output = text_of(said.output)
    kept = _cut(output)
    return Outcome(
        verdict=verdict if type(verdict) is AttemptOutcome else AttemptOutcome(verdict),
        output=kept,
        error=error,
        truncated=bool(said.truncated) or len(kept) < len(output),
        detail=_plain(said.detail) if said.detail else {},
        retryable=bool(said.retryable),
        retry_after=None if said.retry_after is None else _wait(said.retry_after),
    )


def _says_nothing_more(said: Outcome) -> bool:
    """Whether *said* is that it went well, and there is nothing else in it to doubt; nearly every outcome is so."""
    return (
        said.verdict is AttemptOutcome.SUCCEEDED
        and said.output == ""
        and said.error is None
        and said.truncated is False
        and said.detail == {}
        and said.retry_after is None
        and said.began is True
    )


def failure_of(error: BaseException) -> Outcome:
    """What an attempt came to that raised *error*."""
    said = text_of(error)
    return Outcome.failed(f"{type(error).__name__}: {said}"[:ERROR_MAX] if said else type(error).__name__)


def text_of(value: object) -> str:
    """*value* as a text that can be written: no lone surrogates, which no store and no JSON reader takes."""
    if isinstance(value, BaseException):
        try:
            value = str(value)
        except Exception:  # its author's code; whatever it raises, there is no text
            pass
    if not isinstance(value, str):
        return f"(a {type(value).__name__} that is no text)"
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def _cut(text: str) -> str:
    if len(text) * 4 <= OUTPUT_MAX:
        return text
    return text.encode()[:OUTPUT_MAX].decode("utf-8", "ignore")


def _plain(detail: object) -> JsonObject:
    """*detail* as JSON has it: plain values under text keys, none that only Python knows."""
    if type(detail) is dict:
        try:
            return _copied(detail, DETAIL_MAX)[0]
        except _Uncommon:
            pass
    if not isinstance(detail, Mapping):
        return {"left_out": f"detail was a {type(detail).__name__}, not a mapping"}
    try:
        written = json.dumps(dict(detail), ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    except (TypeError, ValueError, RecursionError):
        return {"left_out": "detail could not be written as JSON"}
    if len(written) > DETAIL_MAX:
        return {"left_out": f"detail was longer than {DETAIL_MAX} bytes"}
    plain: JsonObject = json.loads(written)
    return plain


class _Uncommon(Exception):
    """A value is not of the few kinds that nearly every detail is made of."""


def _copied(detail: dict[object, object], room: int) -> tuple[JsonObject, int]:
    """What writing *detail* as JSON and reading it again gives, for the common kinds of values and without doing so;
    and how many bytes of *room* are left. It may think them taken where they are not: each character may be escaped.

    Raises:  _Uncommon where only JSON itself can tell.
    """
    copy: JsonObject = {}
    for key, value in detail.items():
        if type(key) is not str or not key.isascii():
            raise _Uncommon
        room -= 6 * len(key) + 32
        if type(value) is str and value.isascii():
            room -= 6 * len(value)
            copy[key] = value
        elif value is None or value is True or value is False or (type(value) is int and abs(value) < 2**63):
            copy[key] = value
        elif type(value) is dict and room > 1024:
            copy[key], room = _copied(value, room - 1024)  # so much that none is nested deeper than 64 times
        else:
            raise _Uncommon
    if room < 0:
        raise _Uncommon
    return copy, room


def _wait(retry_after: object) -> Duration | None:
    if not isinstance(retry_after, int | float) or not math.isfinite(retry_after):
        return None
    return max(0, int(retry_after))
