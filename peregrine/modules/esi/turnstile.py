"""Owns the gate that every request passes: what ``throttle`` decides, kept together with all instances, and waited for.
Must not know what is asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import msgspec

from peregrine.domain.errors import Unavailable
from peregrine.domain.moment import HOUR, MINUTE, SECOND, Duration, Moment
from peregrine.modules.esi.exchange import Answer
from peregrine.modules.esi.throttle import Landing, Limits, Reason, Traffic, Wait, Wish, admit, land
from peregrine.ports.clock import Clock
from peregrine.ports.entropy import Entropy
from peregrine.ports.shared import Shared, SharedState

KEPT_FOR: Final[Duration] = HOUR
LOOK_EVERY: Final[Duration] = 30 * SECOND
"""How often a wait for the end of a downtime looks whether it is over already."""
SWAPS_MAX: Final = 100
TRY_AGAIN: Final[Duration] = 5 * SECOND
"""How long a place to share that was away is left alone: each try of it may take a while."""
_log = logging.getLogger(__name__)


class TooLong(Exception):
    """A polite request would have to wait longer than the caller wants; ``wait`` is how long, as far as is known."""

    def __init__(self, reason: Reason, wait: Duration) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait = wait


class LocalState:
    """A ``ports.shared.SharedState`` for one process: nobody else sees it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._texts: dict[str, tuple[Shared, int]] = {}
        self._version = 0

    async def read(self, key: str) -> Shared:
        """What stands under *key* now."""
        shared, until = self._texts.get(key, (Shared(), 0))
        return shared if until > self._clock.monotonic() else Shared()

    async def swap(self, key: str, text: str, *, seen: int, ttl: Duration) -> bool:
        """Write *text* if the version is still *seen*."""
        if (await self.read(key)).version != seen:
            return False
        self.put(key, text, ttl=ttl)
        return True

    def put(self, key: str, text: str, *, ttl: Duration) -> None:
        """Write *text*, whatever stands there."""
        self._version += 1
        self._texts[key] = (Shared(text, self._version), self._clock.monotonic() + ttl)


@dataclass(slots=True)
class Pass:
    """A request under way; whoever holds it says how it ended. Nothing said is no answer."""

    answer: Answer | None = None
    failed: bool = True
    is_said: bool = field(default=False, repr=False)

    def ended(self, answer: Answer | None, *, failed: bool) -> None:
        """*failed*: the other side is to blame (5xx, HTML, nothing)."""
        self.answer, self.failed, self.is_said = answer, failed, True


class Turnstile:
    """Lets requests through one by one, in the order in which they came, route by route.

    *shared*: where all instances keep what they know; while it is away, each goes on with what it saw there last, with
    what it does itself, and with what the other side says, which is the same for all.
    """

    def __init__(
        self,
        key: str,
        limits: Limits,
        clock: Clock,
        entropy: Entropy,
        *,
        shared: SharedState | None = None,
        patience: Duration = 2 * MINUTE,
    ) -> None:
        self._key = key
        self._limits = limits
        self._clock = clock
        self._entropy = entropy
        self._local = LocalState(clock)
        self._shared = shared
        self._away_until: int | None = None
        """Steady moment at which to try *shared* again; None while it is there."""
        self._patience = patience
        self._lanes: dict[str, asyncio.Lock] = {}
        self._landed = asyncio.Event()

    @asynccontextmanager
    async def through(
        self, route: str, *, always: bool = False, look: Callable[[], Awaitable[None]] | None = None
    ) -> AsyncIterator[Pass]:
        """A pass, once it is polite to have it. Cancelled while waiting, nothing was taken.

        *always*: in downtime too. *look*: asks for the cluster's status, to learn that a downtime is over.

        Raises:  TooLong.
        """
        id = self._entropy.new_id()
        came_at = self._clock.monotonic()
        async with self._lanes.setdefault(route, asyncio.Lock()):
            await self._wait(Wish(id, route, self._clock.now(), always), look, came_at)
        given = Pass()
        try:
            yield given
        finally:
            await self._land(id, route, given)

    async def cluster_is_up(self, since: Moment) -> None:
        """Note that the cluster's status says it is up since then."""
        await self._change(lambda traffic: (replace(traffic, up_since=since), None))

    # ── waiting ──────────────────────────────────────────────────────────────────────────────────

    async def _wait(self, wish: Wish, look: Callable[[], Awaitable[None]] | None, came_at: int) -> None:
        looked: int | None = None
        while True:
            self._landed.clear()
            now = self._clock.now()
            wait = await self._change(partial(admit, wish=replace(wish, now=now), limits=self._limits))
            if wait is None:
                return
            if wait.reason is Reason.DOWNTIME and look is not None:
                steady = self._clock.monotonic()
                if looked is None or steady - looked >= LOOK_EVERY:
                    looked = steady
                    await look()
                    continue
            spent = self._clock.monotonic() - came_at
            if spent + wait.until - now > self._patience:
                raise TooLong(wait.reason, wait.until - now)
            await self._sleep(wait, now)

    async def _sleep(self, wait: Wait, now: Moment) -> None:
        """Until *wait* is over, or until one of our own lands where that may help."""
        seconds = min(wait.until - now, LOOK_EVERY) / SECOND
        if wait.reason not in (Reason.FLIGHTS, Reason.ERRORS):
            await asyncio.sleep(seconds)
            return
        try:
            async with asyncio.timeout(seconds):
                await self._landed.wait()
        except TimeoutError:
            pass

    async def _land(self, id: str, route: str, given: Pass) -> None:
        answer = given.answer
        landing = Landing(
            id,
            route,
            self._clock.now(),
            None if answer is None else answer.status,
            {} if answer is None else answer.headers,
            failed=given.failed,
            cancelled=not given.is_said,
        )
        await self._change(lambda traffic: (land(traffic, landing), None))
        self._landed.set()

    # ── what is known ────────────────────────────────────────────────────────────────────────────

    async def _change(self, decide: Callable[[Traffic], tuple[Traffic, Wait | None]]) -> Wait | None:
        """Change what all know; by ourselves while the place for it is away, which is tried again now and then."""
        if self._shared is not None and self._clock.monotonic() >= (self._away_until or 0):
            try:
                wait = await self._change_in(self._shared, decide)
            except Unavailable:
                self._note_shared(is_there=False)
            else:
                self._note_shared(is_there=True)
                return wait
        return await self._change_in(self._local, decide)

    async def _change_in(
        self, state: SharedState, decide: Callable[[Traffic], tuple[Traffic, Wait | None]]
    ) -> Wait | None:
        for _ in range(SWAPS_MAX):
            before = await state.read(self._key)
            traffic, wait = decide(_traffic_of(before.text))
            if wait is not None:
                return wait
            text = msgspec.json.encode(traffic).decode()
            if await state.swap(self._key, text, seen=before.version, ttl=KEPT_FOR):
                self._local.put(self._key, text, ttl=KEPT_FOR)
                return None
            await asyncio.sleep(0)
        raise Unavailable("what instances share about EVE's limits changes too fast to be changed")

    def _note_shared(self, *, is_there: bool) -> None:
        was_there = self._away_until is None
        self._away_until = None if is_there else self._clock.monotonic() + TRY_AGAIN
        if is_there is not was_there:
            _log.warning("limits_shared_again" if is_there else "limits_not_shared", extra={"key": self._key})


def _traffic_of(text: str) -> Traffic:
    """What *text* says; nothing is known when it can't be read (another version's, perhaps)."""
    try:
        return msgspec.json.decode(text, type=Traffic) if text else Traffic()
    except (msgspec.MsgspecError, ValueError):
        return Traffic()
