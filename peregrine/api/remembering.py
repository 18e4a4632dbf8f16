"""Owns the answers that a repeated ``Idempotency-Key`` gets again; must not know what was asked.

The key is taken before the work begins and holds its answer after. A process that dies in between leaves it taken for a
minute; then the request runs anew, which for making and running tasks finds what the first one made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from starlette.responses import Response

from peregrine.api.call import Call
from peregrine.domain.errors import PeregrineError, Stale
from peregrine.domain.moment import DAY, MINUTE, Duration
from peregrine.domain.payload import JsonObject, JsonValue
from peregrine.ports.records import Record
from peregrine.ports.shelves import ANSWERS
from peregrine.wire.problem import Refusal

KEPT_FOR: Final[Duration] = DAY
TAKEN_FOR: Final[Duration] = MINUTE
_HEADERS: Final = ("content-type", "etag", "location")


async def once(call: Call, key: str, work: Callable[[], Awaitable[Response]]) -> Response:
    """The answer of *work*, or the one it gave when this key was sent first.

    Only success is kept: what was refused may be sent again, mended, under the same key.
    Raises:  Refusal while the first one is at work, and for a key that came with another request.
    """
    name, print_ = _name(call, key), await _print(call)
    try:
        await _keep(call, name, {"print": print_}, TAKEN_FOR, expected=0)
    except Stale:
        return await _again(call, name, print_)
    try:
        response = await work()
    except BaseException:
        await _release(call, name)
        raise
    if response.status_code >= 300:
        await _release(call, name)
        return response
    headers: dict[str, JsonValue] = {name: response.headers[name] for name in _HEADERS if name in response.headers}
    document: JsonObject = {
        "print": print_, "status": response.status_code, "headers": headers, "body": bytes(response.body).decode(),
    }  # fmt: skip
    await _keep(call, name, document, KEPT_FOR, expected=None)
    return response


async def _again(call: Call, name: str, print_: str) -> Response:
    record = await call.means.records.get_record(ANSWERS, name, now=call.means.clock.now())
    document: JsonObject = {"print": print_} if record is None else record.document
    if document["print"] != print_:
        raise Refusal("idempotency_key_reused", "This Idempotency-Key came with another request before.")
    status, headers, body = document.get("status"), document.get("headers"), document.get("body")
    if not isinstance(status, int) or not isinstance(headers, dict):
        raise Refusal(
            "idempotency_in_progress", "The first request with this key is at work.", headers={"Retry-After": "1"}
        )
    texts = {name: str(text) for name, text in headers.items()}
    return Response(str(body).encode(), status, texts | {"Idempotency-Replayed": "true"})


async def _release(call: Call, name: str) -> None:
    """Let the key be used again. If that can't be written, it comes free by itself."""
    with suppress(PeregrineError):
        await call.means.records.delete_record(ANSWERS, name, now=call.means.clock.now())


async def _keep(call: Call, name: str, document: JsonObject, lasts: Duration, *, expected: int | None) -> None:
    now = call.means.clock.now()
    record = Record(collection=ANSWERS, key=name, document=document, expires_at=now + lasts)
    await call.means.records.put_record(record, expected_revision=expected, now=now)


def _name(call: Call, key: str) -> str:
    return hashlib.blake2b(f"{call.asker.id}\0{key}".encode(), digest_size=16).hexdigest()


async def _print(call: Call) -> str:
    request = call.request
    head = f"{request.method}\0{request.url.path}\0{request.url.query}\0".encode()
    return hashlib.blake2b(head + await call.body.raw(), digest_size=16).hexdigest()
