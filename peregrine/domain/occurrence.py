"""Owns (task, scheduled_for) and its verdict with reason: the ledger; must not know attempts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from typing import Final

from peregrine.domain.ids import ExecutionId, TaskId
from peregrine.domain.moment import Moment


class Verdict(StrEnum):
    """What became of an occurrence. Every one gets exactly one verdict (promise P1)."""

    RAN = "ran"
    """It has an execution."""
    SKIPPED = "skipped"
    """It was left out on purpose: overlap, pause, a full queue."""
    MISSED = "missed"
    """It was noticed too late to run, by the task's misfire policy."""


class Reason(StrEnum):
    """Why an occurrence did not run."""

    OVERLAP = "overlap"
    """An earlier execution of the task had not ended, and ``overlap`` is ``skip``."""
    PAUSED = "paused"
    """The task was paused."""
    QUEUE_FULL = "queue_full"
    """The queue held ``SCHEDULER_QUEUE_SIZE`` executions and no room came free in time."""
    MISFIRE = "misfire"
    """Later than ``misfire_grace``, and ``misfire`` is ``skip``."""
    COALESCED = "coalesced"
    """A newer occurrence of the same plan ran in its place."""
    TOO_OLD = "too_old"
    """Older than ``catchup_window``."""
    CATCHUP_MAX = "catchup_max"
    """More than ``catchup_max`` were waiting; the newest ran."""

    @property
    def verdict(self) -> Verdict:
        """Skipped for what was left out on purpose, missed for what came too late."""
        on_purpose = (Reason.OVERLAP, Reason.PAUSED, Reason.QUEUE_FULL)
        return Verdict.SKIPPED if self in on_purpose else Verdict.MISSED


@dataclass(frozen=True, slots=True)
class Skip:
    """All occurrences of a task from ``first`` to ``last`` (``count`` of them) that did not run, for one reason."""

    first: Moment
    last: Moment
    count: int
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One line of a task's ledger: an occurrence that ran, or a range that did not. Newest first when listed."""

    scheduled_for: Moment
    last: Moment
    count: int
    verdict: Verdict
    reason: Reason | None = None
    execution_id: ExecutionId | None = None
    decided_at: Moment


_VARIANT: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
"""The digit that stands for the variant of a UUID, two bits of chance kept."""


def occurrence_key(task_id: TaskId, scheduled_for: Moment) -> str:
    """The natural key ``c:<task>:<epoch seconds>`` of an occurrence: unique in the store, so none can run twice.

    The task's generation is left out on purpose: editing, reloading, or disabling and enabling again must not
    make the same instant run twice (guarantees, Records).
    """
    return f"c:{task_id}:{scheduled_for // 1000}"


def occurrence_execution_id(task_id: TaskId, scheduled_for: Moment) -> ExecutionId:
    """The execution id of an occurrence: a UUID of version 7's layout, made from the key alone.

    Made, not drawn: every planner on every instance gives the same id, so repeating a plan is harmless; the
    leading 48 bits are the moment, so ids sort by time and new rows land at the end of the index.
    """
    digest = blake2b(f"{task_id}:{scheduled_for}".encode(), digest_size=10).hexdigest()
    moment = f"{scheduled_for & (2**48 - 1):012x}"
    variant = _VARIANT[digest[4]]
    return ExecutionId(f"{moment[:8]}-{moment[8:]}-7{digest[1:4]}-{variant}{digest[5:8]}-{digest[8:]}")
