"""Owns answers without a known end: who may have one, how it is kept alive, and when it is cut; must not know routes.

Nothing is queued for a client: each piece is made when the one before has been taken, so a slow reader costs one piece
of memory, and is dropped when even that is not taken in time.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from peregrine.api.call import HEAD_ONLY
from peregrine.domain.errors import PeregrineError
from peregrine.domain.journal import Progress
from peregrine.domain.moment import SECOND, Duration, Moment
from peregrine.usecases.logs import ExecutionLog, Following
from peregrine.wire.logs import HEARTBEAT, MEDIA_TYPE, end_event, line_event, progress_event
from peregrine.wire.problem import Refusal

STREAMS_MAX: Final = 200
STREAMS_EACH_MAX: Final = 10
BEAT: Final[Duration] = 15 * SECOND
"""How often a client hears that we live, and how long a right that was taken away can still be used."""
TAKE_WITHIN: Final[Duration] = 10 * SECOND
"""How long a client may leave one piece untaken."""
RETRY: Final = b"retry: 2000\n\n"
_BUSY: Final = {"Retry-After": "5"}


class Seats:
    """How many streams there are, in all and for each caller."""

    def __init__(self, *, all_max: int = STREAMS_MAX, each_max: int = STREAMS_EACH_MAX) -> None:
        self._all_max = all_max
        self._each_max = each_max
        self._taken: Counter[str] = Counter()

    def take(self, caller: str) -> Callable[[], None]:
        """Take one for *caller*; the way to give it back, safe twice.

        Raises:  Refusal ``too_many_requests`` for a caller who has enough, ``unavailable`` when all are taken.
        """
        if self._taken[caller] >= self._each_max:
            raise Refusal("too_many_requests", f"You have {self._each_max} open streams already.", headers=_BUSY)
        if self._taken.total() >= self._all_max:
            raise Refusal("unavailable", "All streams are taken.", headers=_BUSY)
        self._taken[caller] += 1
        is_back = False

        def give_back() -> None:
            nonlocal is_back
            if not is_back:
                is_back = True
                self._taken -= Counter((caller,))

        return give_back


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """By which right a client reads on. ``check`` raises when it does not hold any more."""

    check: Callable[[], Awaitable[object]]
    now: Callable[[], Moment]
    expires_at: Moment | None = None

    def left(self) -> Duration:
        """How long the credentials are good at most; at least one beat when they don't say."""
        return BEAT if self.expires_at is None else self.expires_at - self.now()


class LogStream(Response):
    """What one execution says, until it ends, the client goes or is too slow, its right ends, or we stop.

    *first* is what was found when the client came. *let_go* is called once, at the very end.
    """

    media_type = MEDIA_TYPE

    def __init__(
        self, following: Following, first: ExecutionLog, right: Right, *, let_go: Callable[[], None]
    ) -> None:  # fmt: skip
        super().__init__(headers={"X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._following = following
        self._first = first
        self._right = right
        self._let_go = let_go
        self._progress: Progress | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if scope["state"].get(HEAD_ONLY):
                await send({"type": "http.response.body", "body": b""})
            else:
                await self._until_gone(receive, send)
        finally:
            self._let_go()

    async def _until_gone(self, receive: Receive, send: Send) -> None:
        telling = asyncio.ensure_future(self._tell(send))
        gone = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({telling, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            telling.cancel()
            gone.cancel()
            results = await asyncio.gather(telling, gone, return_exceptions=True)
        if isinstance(results[0], Exception):
            raise results[0]

    async def _tell(self, send: Send) -> None:
        try:
            await _give(send, RETRY + self._pieces(self._first))
            await self._go_on(send)
        except TimeoutError:
            return  # too slow: no word of ours would arrive; the server closes what has no end
        except (PeregrineError, Refusal):
            pass  # the right is gone, or the store is away: whoever comes back is told which
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _go_on(self, send: Send) -> None:
        loop = asyncio.get_running_loop()
        beat_at, log = loop.time() + BEAT / SECOND, self._first
        while not (log.execution.state.is_ended or self._following.is_over):
            beat_in = max(0, round((beat_at - loop.time()) * SECOND))
            await self._following.wait(min(beat_in, max(0, self._right.left())))
            if self._right.left() <= 0:
                return
            if loop.time() >= beat_at:
                await self._right.check()
                await _give(send, HEARTBEAT)
                beat_at = loop.time() + BEAT / SECOND
            log = await self._following.look()
            if pieces := self._pieces(log):
                await _give(send, pieces)

    def _pieces(self, log: ExecutionLog) -> bytes:
        pieces = [line_event(said.attempt, said.line, said.place) for said in log.lines]
        if log.progress is not None and log.progress != self._progress:
            self._progress = log.progress
            pieces.append(progress_event(log.progress))
        if log.execution.state.is_ended:
            pieces.append(end_event(log.execution))
        return b"".join(pieces)


async def _give(send: Send, piece: bytes) -> None:
    """Raises TimeoutError when the client does not take what was given before."""
    async with asyncio.timeout(TAKE_WITHIN / SECOND):
        await send({"type": "http.response.body", "body": piece, "more_body": True})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
