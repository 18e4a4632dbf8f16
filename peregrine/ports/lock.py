"""Mutual exclusion between instances, for politeness: what is in ``ports.store`` is the truth, this is a second belt.

A lock is taken after the store has given the claim, so nothing depends on it: where it can't be had, work goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from peregrine.domain.ids import ExecutionId, TaskId, lock_key
from peregrine.domain.moment import Duration


@dataclass(frozen=True, slots=True)
class Hold:
    """What a claim asks for: the lock of its task. ``epoch`` is the fencing token of the claim."""

    task_id: TaskId
    execution_id: ExecutionId
    epoch: int

    @property
    def key(self) -> str:
        """Where the lock stands."""
        return lock_key(self.task_id)

    @property
    def token(self) -> str:
        """What stands there: whose it is."""
        return f"{self.execution_id}:{self.epoch}"

    def follows(self, token: str) -> bool:
        """Whether *token* is of an earlier claim of the same execution, which the store has ended already."""
        execution_id, _, epoch = token.rpartition(":")
        return execution_id == self.execution_id and epoch.isdecimal() and int(epoch) < self.epoch


class LockVerdict(StrEnum):
    """What became of a lock that was asked for."""

    HELD = "held"
    """It is ours for as long as was asked."""
    TAKEN = "taken"
    """Another execution of the task has it."""
    UNKNOWN = "unknown"
    """The lock service did not answer in time, or not sensibly: go on without it."""


class Locks(Protocol):
    """The locks of tasks, in batches: one round trip each.

    No verb raises, and none waits longer than a short bound of its own, also when the lock service is away.
    """

    async def acquire(self, holds: Sequence[Hold], lease: Duration) -> Sequence[LockVerdict]:
        """Take each lock for *lease* milliseconds if it is free, or held for an earlier claim of that execution."""
        ...

    async def renew(self, holds: Sequence[Hold], lease: Duration) -> Sequence[LockVerdict]:
        """Keep each for *lease* more, from now; one that was lost in the meantime is taken again if it is free."""
        ...

    async def release(self, holds: Sequence[Hold]) -> bool:
        """Let go of those that are still held for exactly this claim; others are left alone. False: could not ask."""
        ...
