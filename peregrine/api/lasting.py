"""Owns the answers that several requests may share: one that holds until the store changes, one that is being made.

A page that is watched is asked for again and again, and mostly nothing has happened in between. The store tells its
version without being read: while that is the same, and no moment has come that the answer itself names, it is what the
store would say once more. Where it has changed, or can't tell, those who ask the same at once share one look at it, if
that began after they came. So nobody is ever told what was no longer so when they asked (decision 0170). Must not know
what was asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from starlette.responses import Response

from peregrine.api.call import Call, Span

BYTES_MAX: Final = 16 * 2**20
ENTRY_BYTES: Final = 1024
"""What an answer takes beside its body, roughly."""

Key: TypeAlias = tuple[tuple[str, ...], str, bytes]
"""All that an answer depends on beside store and clock: what the asker counts as, the path, the question."""
Work: TypeAlias = Callable[[Call], Awaitable[Response]]


class Lasting:
    """Answers of one version of the store, in a bounded number of bytes. Full, it starts anew."""

    def __init__(self, *, bytes_max: int = BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._version: int | None = None
        self._kept: dict[Key, tuple[Response, Span]] = {}
        self._under_way: dict[Key, asyncio.Future[Response | None]] = {}

    async def answer(self, call: Call, work: Work) -> Response:
        """The answer of *work*, or one that it gave to another and would give now. Raises what *work* raises."""
        key = _key(call)
        if (found := self._look(key, call)) is not None:
            return found
        if (under_way := self._under_way.get(key)) is not None:
            await asyncio.shield(under_way)
            # That one began before we came, so it counts only if nothing has changed; the next one counts in any case.
            if (found := self._look(key, call)) is not None:
                return found
            following = self._under_way.get(key)
            if following is not None and (found := await asyncio.shield(following)) is not None:
                return found
        return await self._make(key, call, work)

    def _look(self, key: Key, call: Call) -> Response | None:
        """The answer that is kept, if it holds. Afterwards only answers of the store's version are."""
        version = call.means.store.version()
        if version != self._version or version is None:
            self._forget()
            self._version = version
        kept = self._kept.get(key)
        return kept[0] if kept is not None and kept[1].includes(call.means.clock.now()) else None

    async def _make(self, key: Key, call: Call, work: Work) -> Response:
        version, made = self._version, None
        ended = self._under_way[key] = asyncio.get_running_loop().create_future()
        try:
            made = await work(call)
        finally:
            if self._under_way.get(key) is ended:
                del self._under_way[key]
            ended.set_result(made)
        # It is not older than the version that was looked at before; if it is newer, the next look sees a newer one.
        if call.span is not None and version is not None and version == self._version:
            self._keep(key, made, call.span)
        return made

    def _keep(self, key: Key, made: Response, span: Span) -> None:
        size = len(made.body) + ENTRY_BYTES
        if size > self._bytes_max:
            return
        if self._bytes + size > self._bytes_max:
            self._forget()
        self._bytes += size
        self._kept[key] = made, span

    def _forget(self) -> None:
        self._kept.clear()
        self._bytes = 0


def _key(call: Call) -> Key:
    scope = call.request.scope
    return call.asker.principal.subjects, scope["path"], scope["query_string"]
