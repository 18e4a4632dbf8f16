"""What we want to be, and whether this sitting says that we are. Each verdict is derived from the figures seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.parts import (
    BACKLOG,
    BURST,
    BY_KEY,
    DURABLE,
    HISTORIES,
    HTTP_TASKS,
    IDLES,
    INSTANCES,
    LIST,
    MINUTE,
    NOW,
    SPREAD,
)
from benchmarks.sitting import Sitting

OURS: Final = "peregrine"
HISTORY_COLUMNS: Final = {
    "runs_ratio": "claim and settle",
    "list_ratio": "list",
    "page_ratio": "a page in the middle",
    "stats_ratio": "statistics",
}
"""What may not grow with the history. The list of one task may: it tells how many that task has."""


@dataclass(frozen=True, slots=True)
class Check:
    """One figure beside its bound. ``met`` None: it was not measured."""

    words: str
    met: bool | None


@dataclass(frozen=True, slots=True)
class Goal:
    """A goal in words, and what is looked at to judge it."""

    name: str
    wanted: str
    checks: Callable[[Sitting], Iterator[Check]]

    def judged(self, sitting: Sitting) -> tuple[str, str]:
        """What was measured, and the verdict."""
        checks = list(self.checks(sitting))
        seen = [check for check in checks if check.met is not None]
        missing = "; ".join(f"{check.words} not measured" for check in checks if check.met is None)
        if not seen:
            return "–", "not measured in this run"
        words = "; ".join(check.words + ("" if check.met else " (**missed**)") for check in seen)
        if not all(check.met for check in seen):
            return "; ".join(filter(None, [words, missing])), "**missed**"
        return words, "met" if not missing else f"met as far as measured: {missing}"


def _at_most(value: float | None, bound: float, words: str, what: str) -> Check:
    """*words* tell the value, *what* names it where there is none."""
    return Check(what, None) if value is None else Check(words.format(value), value <= bound)


def _at_least(value: float | None, bound: float, words: str, what: str) -> Check:
    return Check(what, None) if value is None else Check(words.format(value), value >= bound)


def _times(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other else None


def _backlog(at: Sitting) -> Iterator[Check]:
    rate = at.median(BACKLOG, OURS, "rate")
    yield _at_least(rate, 7_500, "{:,.0f} a second", "the backlog")
    for peer, factor in (("aps-sqlite", 20), ("huey", 6), ("bullmq", 2)):
        name = BY_KEY[peer].name
        yield _at_least(_times(rate, at.median(BACKLOG, peer, "rate")), factor, "{:.3g} × " + name, name)


def _processor(at: Sitting) -> Iterator[Check]:
    ours = at.median(BACKLOG, OURS, "cpu_ms")
    yield _at_most(ours, 150, "{:.0f} ms for 1,000", "the backlog")
    ratios = [(ratio, peer) for peer in DURABLE if (ratio := _times(at.median(BACKLOG, peer, "cpu_ms"), ours))]
    least, peer = min(ratios, default=(None, ""))
    name = BY_KEY[peer].name if peer else "the durable peers"
    yield _at_least(least, 3, "{:.2g} × less than the nearest, " + name, name)


def _burst(at: Sitting) -> Iterator[Check]:
    p99 = at.median(BURST, OURS, "p99_ms")
    yield _at_least(at.median(BURST, OURS, "done"), 1, "{:.0%} begun in time", "the share")
    yield _at_most(p99, 200, "p99 {:.0f} ms", "p99")
    times = _times(at.median(BURST, "aps-wal", "p99_ms"), p99)
    yield _at_least(times, 10, "{:.3g} × less late than APScheduler 3 in WAL", "APScheduler 3 in WAL")


def _minute(at: Sitting) -> Iterator[Check]:
    p99 = at.median(MINUTE, OURS, "p99_ms")
    tail = "" if p99 is None else f", p99 {p99:,.0f} ms"
    yield _at_least(at.median(MINUTE, OURS, "done"), 1, "{:.0%} begun in time" + tail, "the minute")


def _spread(at: Sitting) -> Iterator[Check]:
    ours, bare = at.median(SPREAD, OURS, "p99_ms"), at.median(SPREAD, "bare-loop", "p99_ms")
    tail = "" if ours is None else f" ({ours:.1f} ms)"
    yield _at_most(_times(ours, bare), 10, "p99 {:.2g} × the bare loop's" + tail, "the bare loop")


def _now(at: Sitting) -> Iterator[Check]:
    yield _at_most(at.median(NOW, OURS, "p50_ms"), 2, "p50 {:.1f} ms in process", "in process")
    yield _at_most(at.median(NOW, "service", "p50_ms"), 5, "{:.1f} ms over HTTP", "over HTTP")


def _idle(at: Sitting) -> Iterator[Check]:
    for size, start in ((100_000, 1_000), (1_000_000, 2_000)):
        part, many = IDLES[size], f"{size:,}"
        yield _at_most(at.median(part, OURS, "memory_mib"), 100, many + ": {:.0f} MiB", f"{many} tasks")
        if at.rounds(part, OURS):
            yield _at_most(at.median(part, OURS, "first_ms"), start, "{:,.0f} ms to the first run", "the first run")
            yield _at_most(at.median(part, OURS, "cpu_percent"), 1, "{:.1f} % idle", "idle processor")
            yield _at_most(at.median(part, OURS, "page_ms"), 20, "a page in {:.1f} ms", "a page")
            yield _at_most(at.median(part, OURS, "add_ms"), 2, "adding one {:.2f} ms", "adding one")
            yield _at_least(at.median(part, OURS, "bulk_rate"), 10_000, "in bulk {:,.0f} a second", "in bulk")


def _history(at: Sitting) -> Iterator[Check]:
    wanted = max(HISTORIES)
    size = max((size for size, part in HISTORIES.items() if at.rounds(part, OURS)), default=wanted)
    for column, what in HISTORY_COLUMNS.items():
        words = f"{what} {{:.2f}} × at {size:,}"
        yield _at_most(at.median(HISTORIES[size], OURS, column), 1.2, words, what)
    if size < wanted:
        yield Check(f"{wanted:,}", None)


def _list(at: Sitting) -> Iterator[Check]:
    yield _at_least(at.median(LIST, "service", "share"), 0.25, "{:.0%}", "pages")


def _http_tasks(at: Sitting) -> Iterator[Check]:
    yield _at_least(at.median(HTTP_TASKS, OURS, "share"), 0.5, "{:.0%}", "HTTP tasks")


def _mongo(at: Sitting) -> Iterator[Check]:
    yield _at_least(at.median(INSTANCES, "fleet", "times"), 1.7, "{:.2f} ×", "two instances")


GOALS: Final = (
    Goal("G1", "a backlog: about 7,500 a second; ≥ 20 × APScheduler 3 on SQLite, 6 × huey, 2 × BullMQ", _backlog),
    Goal("G2", "processor for 1,000 runs ≤ 150 ms, ≤ ⅓ of each durable peer's", _processor),
    Goal("G3", "1,000 on each second: all, p99 ≤ 200 ms and ≤ ⅒ of APScheduler 3's in WAL", _burst),
    Goal("G4", "5,000 on each second: all, for a minute", _minute),
    Goal("G5", "1,000 spread over each second: p99 ≤ 10 × a bare loop's", _spread),
    Goal("G6", "run now, until it starts: p50 ≤ 2 ms in process, ≤ 5 ms over HTTP", _now),
    Goal(
        "G7",
        "100,000 and 1,000,000 tasks, none due: ≤ 100 MiB, first run after ≤ 1 s and 2 s, idle ≤ 1 %, a page ≤ 20 ms,"
        " adding one ≤ 2 ms, in bulk ≥ 10,000 a second",
        _idle,
    ),
    Goal("G8", "a history of 10,000,000: claim, settle, list, page and statistics ≤ 1.2 × of an empty one", _history),
    Goal("G9", "pages of 50 tasks over HTTP ≥ 25 % of the same server's ready-made answer", _list),
    Goal("G10", "HTTP tasks ≥ 50 % of the bare client's rate", _http_tasks),
    Goal("G11", "two instances on MongoDB ≥ 1.7 × one, on tasks that wait", _mongo),
)


def table(sitting: Sitting) -> Sequence[str]:
    """The goals as lines of Markdown."""
    rows = [(goal, *goal.judged(sitting)) for goal in GOALS]
    return [
        "| | goal | in this run | |",
        "|---|---|---|---|",
        *(f"| {goal.name} | {goal.wanted} | {words} | {verdict} |" for goal, words, verdict in rows),
    ]
