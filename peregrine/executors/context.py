"""Owns what a user's function sees of its attempt, and what it may raise to steer it; must not know where it runs.

The same ``Context`` is given on the loop, in a thread and in a child process. What differs between them stands
behind ``Voice``.
"""

from __future__ import annotations

import importlib
import logging
import sys
import traceback
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath
from types import TracebackType
from typing import Final, Protocol

from peregrine.domain.moment import Moment, to_datetime

TRACEBACK_LINES_MAX: Final = 20

_NOT_THEIRS: Final = (str(PurePath(__file__).parent), str(PurePath(importlib.__file__).parent), "<frozen ")
"""Where frames are of no interest: our own, and the importer's."""


class PermanentError(Exception):
    """Raised by a function that trying again can't help: no retry is made."""


class RetryLater(Exception):
    """Raised by a function that failed and knows when trying again may help: after so many seconds."""

    def __init__(self, after: float, message: str = "") -> None:
        super().__init__(message or f"again in {after:g} s")
        self.after = after


class Cancelled(BaseException):
    """Raised inside a function that was told to stop; not an ``Exception``, so that a broad ``except`` lets it pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What stays the same for the whole attempt; plain, so that it can cross to a child process."""

    execution_id: str
    task_id: str
    attempt: int
    epoch: int
    scheduled_for: Moment | None = None


class Voice(Protocol):
    """How a running function is heard, and hears; one for each place where functions run."""

    def log(self, line: str) -> None: ...

    def progress(self, fraction: float, text: str) -> None: ...

    def remaining(self) -> float:
        """Seconds until the attempt times out."""
        ...

    def is_cancelled(self) -> bool: ...


class Context:
    """What a function may know of its attempt, and say while it runs.

    ``execution_id`` and ``idempotency_key`` stay the same over all attempts of an execution, so another system can
    tell a repetition; ``epoch`` grows with every attempt, so it can refuse an older one.
    """

    __slots__ = ("_logger", "_scheduled_for", "_voice", "attempt", "epoch", "execution_id", "task_id")

    def __init__(self, facts: Facts, voice: Voice) -> None:
        self.execution_id = facts.execution_id
        self.task_id = facts.task_id
        self.attempt = facts.attempt
        self.epoch = facts.epoch
        self._scheduled_for = facts.scheduled_for
        self._voice = voice
        self._logger: logging.Logger | None = None

    @property
    def scheduled_for(self) -> datetime | None:
        """The moment of the schedule that this run is for, in UTC; None for a run by hand."""
        return None if self._scheduled_for is None else to_datetime(self._scheduled_for)

    @property
    def idempotency_key(self) -> str:
        """The same text for every attempt of this execution, and for no other execution."""
        return self.execution_id

    @property
    def deadline(self) -> float:
        """Seconds left until the attempt times out and is stopped; never below 0."""
        return max(0.0, self._voice.remaining())

    @property
    def cancelled(self) -> bool:
        """Whether the attempt was told to stop: clean up and return, or be stopped."""
        return self._voice.is_cancelled()

    def raise_if_cancelled(self) -> None:
        """Unwind if the attempt was told to stop. In a thread this is the only way to be stopped: ask often."""
        if self.cancelled:
            raise Cancelled

    @property
    def logger(self) -> logging.Logger:
        """A logger whose lines are kept with the execution, and go nowhere else."""
        if self._logger is None:
            # Not `getLogger`: that one would be kept for ever, and pass its lines on to the service's own log.
            self._logger = logging.Logger(f"peregrine.{self.task_id}")  # noqa: LOG001
            self._logger.addHandler(_VoiceOutlet(self._voice))
        return self._logger

    def log(self, line: str) -> None:
        """Keep *line* with the execution."""
        self._voice.log(str(line))

    def progress(self, fraction: float, text: str = "") -> None:
        """Say how far the work is: 0 to 1, and a word about it."""
        self._voice.progress(min(1.0, max(0.0, float(fraction))), text)


class LineFormatter(logging.Formatter):
    """``LEVEL message``, an exception below it without a path of the machine."""

    def __init__(self) -> None:
        super().__init__("%(levelname)s %(message)s")

    def formatException(  # noqa: N802 - the name is logging's
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
    ) -> str:
        error = ei[1]
        return "" if error is None else "\n".join([summary(error), *(f"  {line}" for line in frames(error))])


class _VoiceOutlet(logging.Handler):
    def __init__(self, voice: Voice) -> None:
        super().__init__()
        self.setFormatter(LineFormatter())
        self._voice = voice

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._voice.log(self.format(record))
        except Exception:
            self._voice.log(f"{record.levelname} (a log line that can't be formatted: {sys.exc_info()[1]})")


def summary(error: BaseException) -> str:
    """``TypeName: message``, as the last line of a traceback has it."""
    try:
        message = str(error)
    except Exception:
        message = "(its message can't be shown)"
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def frames(error: BaseException) -> list[str]:
    """Where *error* came from, innermost last: ``file.py:12 in name``; without folders, without our own frames."""
    lines = [
        f"{PurePath(frame.f_code.co_filename).name}:{line} in {frame.f_code.co_name}"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not frame.f_code.co_filename.startswith(_NOT_THEIRS)
    ]
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        lines.append(f"while at: {summary(cause)[:200]}")
    return lines[-TRACEBACK_LINES_MAX:]
