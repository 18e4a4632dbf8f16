"""Owns the numbers that a Prometheus server reads; must not know stores, tasks' names or who asks.

No label grows with the users' tasks: a page has the same length with ten tasks and with a hundred thousand. What each
number means stands in ``docs/reference/metrics.md``, which a test holds against ``METRICS``.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Mapping, Sequence
from functools import singledispatchmethod
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, generate_latest

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
from peregrine.domain.execution import AttemptOutcome, Cause, ExecutionOutcome, Settlement
from peregrine.domain.occurrence import Reason
from peregrine.domain.statistics import Statistics
from peregrine.observers.histogram import BatchHistogram
from peregrine.ports.engine_view import EngineMode, EngineView, LockView

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
LATENESS_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 15, 60, 300, 3600)
RUNTIME_SECONDS: Final = (0.001, 0.005, 0.025, 0.1, 0.5, 1, 5, 30, 60, 300, 1800, 7200)
LOOPS: Final = ("planner", "claimer", "recorder", "keeper", "fence", "reaper", "cleaner")


class _Children(dict[str, Counter]):
    """The children of a family by their label's value; one that nobody foresaw is made when it comes."""

    def __init__(self, family: Counter, values: Iterable[str]) -> None:
        self._family = family
        super().__init__({str(value): family.labels(str(value)) for value in values})

    def __missing__(self, value: str) -> Counter:
        return self.setdefault(value, self._family.labels(value))


class MetricsObserver:
    """Counts what the engine tells; ``render`` gives the page."""

    def __init__(self, engine: EngineView | None = None) -> None:
        self.engine = engine
        self.locks: LockView | None = None
        """None: there is no lock service, and none is needed."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._gauges()
        self._flow()
        self._trouble()

    # ── what there is ──

    def _gauges(self) -> None:
        self._running = self._gauge("running", "Attempts that run in this process now.")
        self._slots = self._gauge("slots", "Attempts that this process may run at once.")
        self._ready = self._gauge("ready", "1 while the engine makes and starts work, else 0.")
        self._stale = self._gauge("stale", "Executions that run longer than the stale timeout.")
        self._failing = self._gauge("loops_failing", "Loops of the engine whose last turn failed.")
        self._skew = self._gauge("clock_skew_seconds", "Largest difference to another instance's wall clock.")
        self._makes = self._gauge("makes_occurrences", "0 while this clock is known to be wrong, else 1.")
        self._redis = self._gauge("redis_up", "1 while Redis answers in time, or none is used, else 0.")
        self._redis_latency = self._gauge("redis_latency_seconds", "How long Redis took to answer the last probe.")
        self._queue = self._gauge("queue", "Executions that wait, in the whole store.")
        self._tasks = self._gauge("tasks", "Tasks in the store.")
        self._enabled = self._gauge("tasks_enabled", "Tasks that are enabled.")
        self._store_bytes = self._gauge("store_bytes", "Size of the store's file.")
        self._store_log_bytes = self._gauge("store_log_bytes", "Size of the store's write-ahead log.")

    def _flow(self) -> None:
        self._lateness = self._histogram(
            "start_lateness_seconds", "From the scheduled moment to the first attempt's start.", LATENESS_SECONDS
        )
        self._runtime = self._histogram("attempt_seconds", "From start to end of an attempt.", RUNTIME_SECONDS)
        self._planned = self._counter("occurrences_queued", "Occurrences that became an execution.")
        self._skipped = self._labelled("occurrences_left_out", "Occurrences that did not run.", "reason", Reason)
        self._moved = self._counter("plans_moved", "Plans refused because another planner was quicker.")
        self._unplannable = self._counter("tasks_unplannable", "Tasks left alone because their schedule can't be read.")
        self._claims = self._counter("attempts_started", "Attempts started by this process.")
        self._attempts = self._labelled("attempts_ended", "Attempts that ended, by outcome.", "outcome", AttemptOutcome)
        self._ended = self._labelled("executions_ended", "Executions that ended.", "outcome", ExecutionOutcome)
        self._recovered = self._counter("recoveries", "Attempts ended because their worker was lost.")
        self._purged = self._labelled("purged", "Records removed by retention.", "what", ("executions", "ledger"))

    def _trouble(self) -> None:
        self._refused = self._counter("results_refused", "Late results refused: another worker had taken over.")
        self._leases = self._counter("leases_lost", "Runs stopped because their lease could not be kept.")
        self._abandoned = self._counter("attempts_abandoned", "Runs that did not stop when told.")
        self._went_stale = self._counter("went_stale", "Executions seen to run longer than the stale timeout.")
        self._steps = self._counter("clock_steps", "Times the wall clock was seen to jump.")
        self._reanchored = self._counter("cursors_reanchored", "Tasks set back to now after the clock had been wrong.")
        self._store = self._labelled("store_failures", "Turns that could not reach the store.", "loop", LOOPS)
        self._away = self._counter("store_away_seconds", "Time that loops waited for the store to answer again.")
        self._degraded = self._counter("redis_degraded", "Locks gone without because Redis did not answer in time.")
        self._redis_away = self._counter("redis_away", "Times that Redis stopped answering.")
        self._redis_away_time = self._counter("redis_away_seconds", "Time until Redis answered again.")
        self._put_back = self._counter("claims_put_back", "Claims given back: another execution had the task's lock.")
        self._astray = self._counter("clock_astray", "Times this wall clock was found to be wrong.")
        self._crashes = self._labelled("loop_crashes", "Turns that raised something unforeseen: bugs.", "loop", LOOPS)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"peregrine_{name}", text, registry=self.registry)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"peregrine_{name}", text, registry=self.registry)

    def _histogram(self, name: str, text: str, bounds: Sequence[float]) -> BatchHistogram:
        made = BatchHistogram(f"peregrine_{name}", text, bounds)
        self.registry.register(made)
        return made

    def _labelled(self, name: str, text: str, label: str, values: Iterable[str]) -> Mapping[str, Counter]:
        """A child per value, bound once and on the page from the start, so that a rate is defined at once."""
        return _Children(Counter(f"peregrine_{name}", text, [label], registry=self.registry), values)

    # ── what is told ──

    def observe(self, event: Event) -> None:
        """Count *event*."""
        self._count(event)

    @singledispatchmethod
    def _count(self, event: object) -> None:
        """Events that are not numbers pass."""

    @_count.register
    def _(self, event: Planned) -> None:
        self._moved.inc(event.moved)
        self._planned.inc(sum(len(plan.executions) for plan in event.plans))
        for plan in event.plans:
            for skip in plan.skips:
                self._skipped[skip.reason].inc(skip.count)

    @_count.register
    def _(self, event: Unplannable) -> None:
        self._unplannable.inc()

    @_count.register
    def _(self, event: Claimed) -> None:
        self._claims.inc(len(event.claims))
        by_schedule = Cause.SCHEDULE
        self._lateness.observe(
            max(0, event.started_at - claim.scheduled_for) / 1000
            for claim in event.claims
            if claim.attempt == 1 and claim.cause is by_schedule and claim.scheduled_for is not None
        )

    @_count.register
    def _(self, event: Settled) -> None:
        self._settled(event.settlements)

    @_count.register
    def _(self, event: Recovered) -> None:
        self._recovered.inc(len(event.settlements))
        self._settled(event.settlements)

    def _settled(self, settlements: Sequence[Settlement]) -> None:
        for attempt, count in Tally(one.attempt.outcome for one in settlements).items():
            if attempt is not None:
                self._attempts[attempt].inc(count)
        for execution, count in Tally(one.outcome for one in settlements).items():
            if execution is not None:
                self._ended[execution].inc(count)
        self._runtime.observe(max(0, one.ended_at - one.attempt.started_at) / 1000 for one in settlements)

    @_count.register
    def _(self, event: ResultRefused) -> None:
        self._refused.inc()

    @_count.register
    def _(self, event: LeaseLost) -> None:
        self._leases.inc()

    @_count.register
    def _(self, event: AttemptAbandoned) -> None:
        self._abandoned.inc()

    @_count.register
    def _(self, event: WentStale) -> None:
        self._went_stale.inc()

    @_count.register
    def _(self, event: ClockStepped) -> None:
        self._steps.inc()

    @_count.register
    def _(self, event: CursorReanchored) -> None:
        self._reanchored.inc(event.count)

    @_count.register
    def _(self, event: StoreFailed) -> None:
        self._store[event.loop].inc()

    @_count.register
    def _(self, event: StoreAnswered) -> None:
        self._away.inc(event.away_for / 1000)

    @_count.register
    def _(self, event: LocksFailed) -> None:
        self._redis_away.inc()

    @_count.register
    def _(self, event: LocksAnswered) -> None:
        self._redis_away_time.inc(event.away_for / 1000)

    @_count.register
    def _(self, event: WentUnlocked) -> None:
        self._degraded.inc(event.count)

    @_count.register
    def _(self, event: PutBack) -> None:
        self._put_back.inc()

    @_count.register
    def _(self, event: WentAstray) -> None:
        self._astray.inc()

    @_count.register
    def _(self, event: LoopCrashed) -> None:
        self._crashes[event.loop].inc()

    @_count.register
    def _(self, event: Purged) -> None:
        self._purged["executions"].inc(event.executions)
        self._purged["ledger"].inc(event.ledger)

    # ── what is read ──

    def note(self, statistics: Statistics) -> None:
        """Take the counts of the whole store, as of the last look."""
        self._queue.set(statistics.queued)
        self._tasks.set(statistics.total_tasks)
        self._enabled.set(statistics.enabled_tasks)

    def note_store(self, *, file_bytes: int, log_bytes: int) -> None:
        """Take the store's sizes, as of the last look."""
        self._store_bytes.set(file_bytes)
        self._store_log_bytes.set(log_bytes)

    def render(self) -> bytes:
        """The page, in the Prometheus text format."""
        if self.engine is not None:
            facts = self.engine.facts()
            self._running.set(facts.active)
            self._slots.set(facts.slots)
            self._ready.set(facts.mode is EngineMode.RUNNING)
            self._stale.set(facts.stale)
            self._failing.set(len(facts.failing))
            self._skew.set(facts.clock_skew / 1000)
            self._makes.set(facts.mode is EngineMode.RUNNING and not facts.is_astray)
        latency = self.locks.facts().latency if self.locks is not None else 0
        self._redis.set(latency is not None)
        self._redis_latency.set((latency or 0) / 1000)
        return generate_latest(self.registry)
