"""Owns wakes and locks within one process; must not know who listens or what is locked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from peregrine.domain.moment import Duration
from peregrine.ports.bus import Topic
from peregrine.ports.clock import Clock
from peregrine.ports.lock import Hold, LockVerdict

_log = logging.getLogger(__name__)


class MemoryBus:
    """The bus of a single process: a publish calls every subscriber at once, in order of subscription."""

    def __init__(self) -> None:
        self._wakes: dict[Topic, dict[object, Callable[[], None]]] = {topic: {} for topic in Topic}

    def publish(self, topic: Topic) -> None:
        """Wake every subscriber of *topic*; one that fails does not keep the others asleep."""
        for wake in tuple(self._wakes[topic].values()):
            try:
                wake()
            except Exception:
                _log.exception("wake_failed")

    def subscribe(self, topic: Topic, wake: Callable[[], None]) -> Callable[[], None]:
        """Call *wake* after each publish of *topic*; returns the way to stop that, which is safe twice."""
        ticket = object()
        self._wakes[topic][ticket] = wake

        def leave() -> None:
            self._wakes[topic].pop(ticket, None)

        return leave


@dataclass(frozen=True, slots=True)
class _Kept:
    """Whose a lock is, until a moment of the steady clock."""

    token: str
    until: int


class MemoryLocks:
    """The locks of a single process. Those that ran out are forgotten as they are met."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._held: dict[str, _Kept] = {}

    async def acquire(self, holds: Sequence[Hold], lease: Duration) -> Sequence[LockVerdict]:
        """Take each that is free or held for an earlier claim of the same execution."""
        return [self._take(hold, lease) for hold in holds]

    async def renew(self, holds: Sequence[Hold], lease: Duration) -> Sequence[LockVerdict]:
        """Keep what is held, take again what was lost."""
        return [self._take(hold, lease) for hold in holds]

    async def release(self, holds: Sequence[Hold]) -> bool:
        """Let go of what is still held for exactly these claims."""
        for hold in holds:
            if self.token(hold.key) == hold.token:
                del self._held[hold.key]
        return True

    def token(self, key: str) -> str:
        """Whose the lock is; empty if it is free."""
        kept = self._held.get(key)
        return kept.token if kept is not None and kept.until > self._clock.monotonic() else ""

    def _take(self, hold: Hold, lease: Duration) -> LockVerdict:
        token = self.token(hold.key)
        if token not in ("", hold.token) and not hold.follows(token):
            return LockVerdict.TAKEN
        self._held[hold.key] = _Kept(hold.token, self._clock.monotonic() + lease)
        return LockVerdict.HELD
