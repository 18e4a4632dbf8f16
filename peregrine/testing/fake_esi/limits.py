"""Owns the fake's counting: the error limit of a fixed minute and the token buckets. Must not know routes' answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from peregrine.domain.moment import MINUTE, SECOND, Duration, Moment

ERRORS_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class BucketSize:
    """How many tokens a group has, and how long each one is gone."""

    tokens: int
    window: Duration = 15 * MINUTE

    @property
    def text(self) -> str:
        """As the headers say it."""
        return f"{self.tokens}/{self.window // MINUTE}m"


BUCKETS: Final[Mapping[str, BucketSize]] = {"status": BucketSize(600), "meta": BucketSize(150)}


class ErrorWindow:
    """Answers that are no 2xx or 3xx, in the fixed minute of the clock."""

    def __init__(self, most: int = ERRORS_MAX) -> None:
        self.most = most
        self._minute = 0
        self._count = 0

    def count(self, now: Moment) -> int:
        """How many in this minute so far."""
        return self._count if now // MINUTE == self._minute else 0

    def add(self, now: Moment, count: int = 1) -> None:
        """Count an error."""
        self._count = self.count(now) + count
        self._minute = now // MINUTE

    def headers(self, now: Moment) -> dict[str, str]:
        """What every answer of a route without a bucket says; the reset is in seconds left."""
        left = -(-(MINUTE - now % MINUTE) // SECOND)
        return {
            "X-ESI-Error-Limit-Remain": str(max(0, self.most - self.count(now))),
            "X-ESI-Error-Limit-Reset": str(left),
        }


class TokenBucket:
    """One group's tokens for one caller; each cost comes back one window later."""

    def __init__(self, name: str, size: BucketSize) -> None:
        self._name = name
        self._size = size
        self._spent: deque[tuple[Moment, int]] = deque()

    def left(self, now: Moment) -> int:
        """How many tokens there are."""
        while self._spent and self._spent[0][0] + self._size.window <= now:
            self._spent.popleft()
        return self._size.tokens - sum(cost for _, cost in self._spent)

    def spend(self, now: Moment, status: int) -> None:
        """Take what an answer of this status costs. Source: CCP's table of costs."""
        cost = 2 if status < 300 else 1 if status < 400 else 5 if status < 500 and status != 429 else 0
        if cost:
            self._spent.append((now, cost))

    def wait(self, now: Moment) -> Duration:
        """How long until the dearest answer could be paid."""
        missing = 5 - self.left(now)
        for at, cost in self._spent:
            if missing <= 0:
                break
            missing -= cost
            if missing <= 0:
                return at + self._size.window - now
        return SECOND

    def headers(self, now: Moment) -> dict[str, str]:
        """What every answer of the group says."""
        left = max(0, self.left(now))
        return {
            "X-Ratelimit-Group": self._name,
            "X-Ratelimit-Limit": self._size.text,
            "X-Ratelimit-Remaining": str(left),
            "X-Ratelimit-Used": str(self._size.tokens - left),
        }
