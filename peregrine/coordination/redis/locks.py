"""Owns the locks of tasks in Redis; must not know what a lock is for, or what follows from one.

``SET NX PX`` for a lease, told apart by a token, renewed and released by comparing it. Nothing here is the truth: the
store's claim is (decision 0003), so a server that is away, emptied or replaced costs nobody a run.
"""

from __future__ import annotations

from collections.abc import Sequence

from peregrine.coordination.redis.link import Command, Link
from peregrine.coordination.redis.scripts import ACQUIRE, RELEASE, RENEW
from peregrine.domain.errors import Unavailable
from peregrine.domain.moment import Duration
from peregrine.ports.lock import Hold, LockVerdict


class RedisLocks:
    """``ports.lock.Locks`` over one server."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def acquire(self, holds: Sequence[Hold], lease: Duration) -> Sequence[LockVerdict]:
        """Take each that is free or held for an earlier claim of the same execution."""
        try:
            return await self._acquire(holds, lease)
        except Unavailable:
            return [LockVerdict.UNKNOWN] * len(holds)

    async def renew(self, holds: Sequence[Hold], lease: Duration) -> Sequence[LockVerdict]:
        """Keep what is held; what is not held any more (the server was emptied) is taken again."""
        try:
            kept = await self._ask([_renew(hold, hold.token, lease) for hold in holds])
            lost = [hold for hold, answer in zip(holds, kept, strict=True) if not answer]
            again = iter(await self._acquire(lost, lease))
            return [LockVerdict.HELD if answer else next(again) for answer in kept]
        except Unavailable:
            return [LockVerdict.UNKNOWN] * len(holds)

    async def release(self, holds: Sequence[Hold]) -> bool:
        """Let go of what is still held for exactly these claims; what can't be reached runs out by itself."""
        try:
            await self._ask([("EVAL", RELEASE, 1, hold.key, hold.token) for hold in holds])
        except Unavailable:
            return False
        return True

    async def _acquire(self, holds: Sequence[Hold], lease: Duration) -> list[LockVerdict]:
        answers = await self._ask([("EVAL", ACQUIRE, 1, hold.key, hold.token, lease) for hold in holds])
        tokens = [answer.decode(errors="replace") if isinstance(answer, bytes) else "" for answer in answers]
        # What an earlier claim of the same execution left behind is ours to take: the store has ended that claim.
        old = [_renew(hold, token, lease) for hold, token in zip(holds, tokens, strict=True) if hold.follows(token)]
        inherited = iter(await self._ask(old))
        verdicts = []
        for hold, token in zip(holds, tokens, strict=True):
            is_ours = bool(next(inherited)) if hold.follows(token) else token == hold.token
            verdicts.append(LockVerdict.HELD if is_ours else LockVerdict.TAKEN)
        return verdicts

    async def _ask(self, commands: Sequence[Command]) -> list[object]:
        return await self._link.ask(commands) if commands else []


def _renew(hold: Hold, token: str, lease: Duration) -> Command:
    return ("EVAL", RENEW, 1, hold.key, token, hold.token, lease)
