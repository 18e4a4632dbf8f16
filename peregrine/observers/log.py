"""Owns the lines that are written: the spine's events, and what other rooms and libraries log; must not know stores.

A line is an event name and fields. Successes are debug, what went differently is info, what somebody should look at is
warning or error. Batches are one line; a burst of one kind of line is cut short and the rest counted in ``unsaid``.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import singledispatchmethod
from typing import Any, Final, TextIO, TypeAlias

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor

from peregrine.domain.event import (
    AttemptAbandoned,
    Claimed,
    ClockStepped,
    CursorReanchored,
    Event,
    LeaseLost,
    LocksAnswered,
    LocksFailed,
    LoopCrashed,
    Planned,
    Purged,
    PutBack,
    Recovered,
    ResultRefused,
    Settled,
    StoreAnswered,
    StoreFailed,
    Unplannable,
    WentAstray,
    WentStale,
    WentUnlocked,
)
from peregrine.domain.execution import AttemptOutcome, Settlement, State
from peregrine.domain.moment import format_duration, format_moment
from peregrine.observers.redact import redact, redact_text
from peregrine.ports.clock import Clock

Logger: TypeAlias = FilteringBoundLogger
"""What lines are written with: ``logger.info("event_name", field=value)``."""

BURST: Final = 20
"""Lines of one name in a second; further ones are only counted."""
TOLD_EACH: Final = 5
"""Failures of one batch that get a line each; further ones share one."""
ERROR_MAX: Final = 300
QUIET: Final = ("asyncio", "casbin", "uvicorn.access")
"""Libraries whose lines below warning say nothing an operator needs."""

_CONTROL: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code not in (9, 10)}


def start_log(*, level: str, as_json: bool, stream: TextIO | None = None) -> Logger:
    """The logger of the service; lines of every library go the same way, to *stream* (standard error)."""
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _hide_secrets,
    ]
    rest: list[Processor] = (
        [_in_order, structlog.processors.JSONRenderer()] if as_json else [_plain_renderer(stream or sys.stderr)]
    )
    writer = logging.StreamHandler(stream or sys.stderr)
    writer.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, structlog.stdlib.ExtraAdder(), *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rest],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [writer]
    root.setLevel(level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logger: Logger = structlog.wrap_logger(
        logging.getLogger("peregrine"),
        wrapper_class=structlog.make_filtering_bound_logger(root.level),
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        cache_logger_on_first_use=True,
    )
    return logger


def _plain_renderer(stream: TextIO) -> Processor:
    render = structlog.dev.ConsoleRenderer(
        colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=28
    )

    def safely(logger: Any, name: str, line: EventDict) -> str:
        # A task's error text must not move the cursor of whoever reads the log.
        clean = {key: v.translate(_CONTROL) if isinstance(v, str) else v for key, v in line.items()}
        return render(logger, name, clean)

    return safely


def _hide_secrets(_logger: Any, _name: str, line: EventDict) -> EventDict:
    return {key: redact(value, key=key) for key, value in line.items()}


def _in_order(_logger: Any, _name: str, line: EventDict) -> EventDict:
    """When, how grave and what come first: that is what the eye looks for in a raw line."""
    first = {key: line[key] for key in ("timestamp", "level", "event") if key in line}
    return first | dict(line)


class _Throttle:
    """Lets *burst* lines of a name through in a second and counts the others."""

    def __init__(self, clock: Clock, burst: int) -> None:
        self._clock, self._burst = clock, burst
        self._said: Counter[str] = Counter()
        self._unsaid: Counter[str] = Counter()
        self._second = -1

    def pass_on(self, name: str) -> dict[str, int] | None:
        """None: keep silent; else the fields to add, ``unsaid`` if lines of that name were left out before."""
        second = self._clock.monotonic() // 1000
        if second != self._second:
            self._second = second
            self._said.clear()
        self._said[name] += 1
        if self._said[name] > self._burst:
            self._unsaid[name] += 1
            return None
        unsaid = self._unsaid.pop(name, 0)
        return {"unsaid": unsaid} if unsaid else {}


class LogObserver:
    """Writes a line for what the engine tells. At full speed it costs one debug check per batch."""

    def __init__(self, logger: Logger, clock: Clock, *, burst: int = BURST) -> None:
        self._logger = logger
        self._throttle = _Throttle(clock, burst)

    def observe(self, event: Event) -> None:
        """Write what *event* is worth."""
        self._tell(event)

    def _say(self, write: Callable[..., Any], name: str, **fields: object) -> None:
        extra = self._throttle.pass_on(name)
        if extra is not None:
            write(name, **fields, **extra)

    @singledispatchmethod
    def _tell(self, event: object) -> None:
        self._say(self._logger.warning, "event_unknown", kind=type(event).__name__)

    @_tell.register
    def _(self, event: Planned) -> None:
        queued = sum(len(plan.executions) for plan in event.plans)
        self._say(self._logger.debug, "planned", plans=len(event.plans), queued=queued, moved=event.moved)
        for plan in event.plans:
            for skip in plan.skips:
                self._say(
                    self._logger.info,
                    f"occurrences_{skip.reason.verdict}",
                    task_id=plan.task_id, reason=str(skip.reason), count=skip.count,
                    first=format_moment(skip.first), last=format_moment(skip.last),
                )  # fmt: skip

    @_tell.register
    def _(self, event: Unplannable) -> None:
        self._say(self._logger.error, "unplannable", task_id=event.task_id, error=event.error)

    @_tell.register
    def _(self, event: Claimed) -> None:
        self._say(self._logger.debug, "claimed", count=len(event.claims))

    @_tell.register
    def _(self, event: Settled) -> None:
        quiet = (AttemptOutcome.SUCCEEDED,)
        succeeded = sum(one.attempt.outcome in quiet for one in event.settlements)
        if succeeded:
            self._say(self._logger.debug, "succeeded", count=succeeded)
        self._each("attempt", [one for one in event.settlements if one.attempt.outcome not in quiet])

    @_tell.register
    def _(self, event: Recovered) -> None:
        self._each("recovered", event.settlements, self._logger.warning)

    def _each(self, name: str, settlements: Sequence[Settlement], write: Callable[..., Any] | None = None) -> None:
        for one in settlements[:TOLD_EACH]:
            # What was given up for good is worth waking up for; a retry is not.
            usual = self._logger.warning if one.state is State.FAILED else self._logger.info
            self._say(write or usual, _name(name, one), **_fields(one))
        if rest := settlements[TOLD_EACH:]:
            self._say(write or self._logger.info, f"{name}_more", **_counts(rest))

    @_tell.register
    def _(self, event: ResultRefused) -> None:
        self._say(self._logger.warning, "result_refused", execution_id=event.execution_id, epoch=event.epoch)

    @_tell.register
    def _(self, event: LeaseLost) -> None:
        self._say(self._logger.warning, "lease_lost", execution_id=event.execution_id, epoch=event.epoch)

    @_tell.register
    def _(self, event: AttemptAbandoned) -> None:
        self._say(self._logger.warning, "attempt_abandoned", execution_id=event.execution_id, epoch=event.epoch)

    @_tell.register
    def _(self, event: WentStale) -> None:
        running_for = format_duration(event.running_for)
        fields = {"execution_id": event.execution_id, "worker_id": event.worker_id, "running_for": running_for}
        self._say(self._logger.warning, "went_stale", **fields)

    @_tell.register
    def _(self, event: ClockStepped) -> None:
        self._say(self._logger.warning, "clock_stepped", by=format_duration(event.by), now=format_moment(event.now))

    @_tell.register
    def _(self, event: CursorReanchored) -> None:
        self._say(self._logger.warning, "cursors_reanchored", count=event.count)

    @_tell.register
    def _(self, event: StoreFailed) -> None:
        self._say(self._logger.error, "store_failed", loop=event.loop, error=event.error)

    @_tell.register
    def _(self, event: StoreAnswered) -> None:
        self._say(self._logger.info, "store_answered", loop=event.loop, away_for=format_duration(event.away_for))

    @_tell.register
    def _(self, event: LocksFailed) -> None:
        self._say(self._logger.warning, "redis_away", reason=event.error, hint="work goes on without it")

    @_tell.register
    def _(self, event: LocksAnswered) -> None:
        self._say(self._logger.info, "redis_back", away_for=format_duration(event.away_for))

    @_tell.register
    def _(self, event: WentUnlocked) -> None:
        self._say(self._logger.debug, "went_unlocked", count=event.count)

    @_tell.register
    def _(self, event: PutBack) -> None:
        self._say(self._logger.info, "put_back", execution_id=event.execution_id, task_id=event.task_id)

    @_tell.register
    def _(self, event: WentAstray) -> None:
        hint = "occurrences are left to the other instances"
        self._say(self._logger.error, "clock_astray", by=format_duration(event.by), hint=hint)

    @_tell.register
    def _(self, event: LoopCrashed) -> None:
        self._say(self._logger.error, "loop_crashed", loop=event.loop, error=event.error)

    @_tell.register
    def _(self, event: Purged) -> None:
        write = self._logger.info if event.executions or event.ledger else self._logger.debug
        self._say(write, "purged", executions=event.executions, ledger=event.ledger)


def _name(name: str, one: Settlement) -> str:
    if name != "attempt":
        return name
    return f"attempt_{one.attempt.outcome}"


def _fields(one: Settlement) -> dict[str, object]:
    fields: dict[str, object] = {
        "task_id": one.task_id,
        "execution_id": one.execution_id,
        "attempt": one.attempt.attempt,
        "next": str(one.state),
    }
    if one.state is State.QUEUED and one.available_at is not None:
        fields["again_at"] = format_moment(one.available_at)
    if error := one.attempt.error or one.error:
        fields["error"] = redact_text(error)[:ERROR_MAX]
    return fields


def _counts(settlements: Iterable[Settlement]) -> dict[str, int]:
    return dict(Counter(str(one.attempt.outcome) for one in settlements))
