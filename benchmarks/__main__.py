"""``make bench``: other schedulers and ours, the same work, on this machine in one sitting.

Rounds are interleaved, so that a neighbour's work falls on all of them, and each measurement is a process of its own. A
fixed sum is timed before and after each; how much that varies is how noisy the machine was. Writes a table, a chart
and every single figure into ``docs/benchmarks``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Final, TypeAlias

from benchmarks import chart
from benchmarks.subjects import SUBJECTS, Entry

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = ROOT / "docs" / "benchmarks"
NOISY: Final = 0.15
"""A machine whose fixed sum varied by more than this part is said to have been noisy."""
PACKAGES: Final = ("apscheduler", "huey", "saq", "sqlalchemy", "apsw", "uvloop")
WITHIN: Final = 900
Seen: TypeAlias = dict[str, float]
OURS: Final = ("peregrine",)
ALL: Final = tuple(one.key for one in SUBJECTS)
BARE: Final = Entry("bare-loop", "a bare asyncio loop", SUBJECTS[0].make, "nothing", 10_000)


@dataclass(frozen=True, slots=True)
class Part:
    """One scene with its sizes, its subjects, and how its columns are called. ``size`` None: by the subject's pace."""

    scene: str
    title: str
    who: Sequence[str]
    columns: dict[str, str]
    size: int | None = None
    level: int = 1
    """0: also in a quick look; 1: usually; 2: only when all is asked for."""


LATE: Final = {"done": "begun in time", "p50_ms": "late, p50", "p99_ms": "late, p99"}
IDLE: Final = {"memory_mib": "memory", "start_ms": "start", "cpu_percent": "idle processor", "page_ms": "page of 50"}
HISTORY: Final = {"rate_ratio": "backlog: empty to full", "page_ms": "page of 50", "page_ratio": "page: full to empty"}
PARTS: Final = (
    Part("backlog", "A due backlog", ALL, {"rate": "runs a second", "cpu_ms": "processor for 1,000"}, None, 0),
    Part("now", "Run now, until it starts", ALL, {"p50_ms": "p50", "p99_ms": "p99"}, 200, 0),
    Part("burst", "1,000 runs on each second", ALL, LATE, 1_000),
    Part("burst", "5,000 runs on each second", ("peregrine", "aps-memory"), LATE, 5_000),
    Part("spread", "1,000 runs spread over each second", (*OURS, "bare-loop", "aps-wal", "aps-memory"), LATE, 1_000),
    Part("register", "Registering", ALL, {"rate": "one by one, a second", "bulk_rate": "in bulk"}, 1_000, 0),
    Part("idle", "1,000 tasks, none due", ("peregrine", "aps-wal", "aps-memory"), IDLE, 1_000),
    Part("idle", "10,000 tasks, none due", ("peregrine", "aps-wal", "aps-memory"), IDLE, 10_000),
    Part("idle", "100,000 tasks, none due", OURS, IDLE, 100_000),
    Part("idle", "1,000,000 tasks, none due", OURS, IDLE, 1_000_000, 2),
    Part("history", "A history of 100,000", OURS, HISTORY, 100_000),
    Part("history", "A history of 1,000,000", OURS, HISTORY, 1_000_000, 2),
)
UNITS: Final[dict[str, Callable[[float], str]]] = {
    "done": lambda v: f"{v:.0%}",
    "memory_mib": lambda v: f"{v:.0f} MiB",
    "cpu_percent": lambda v: f"{v:.1f} %",
    "rate_ratio": lambda v: f"{v:.2f} ×",
    "page_ratio": lambda v: f"{v:.2f} ×",
    "rate": lambda v: f"{v:,.0f}",
    "bulk_rate": lambda v: f"{v:,.0f}",
}


@dataclass(slots=True)
class Sitting:
    """All that was seen: for each part and subject the measurements, one a round; and the fixed sums."""

    seen: dict[tuple[str, str], list[Seen]] = field(default_factory=dict)
    sums: list[float] = field(default_factory=list)

    @property
    def noise(self) -> float:
        return statistics.pstdev(self.sums) / statistics.mean(self.sums)


def main() -> int:
    """Measure, tell, write."""
    options = _options()
    left_out = [one for one in SUBJECTS if not one.is_here]
    for one in left_out:
        print(f"left out: {one.name}: there is no {one.needs} here", file=sys.stderr)
    level = 0 if options.quick else 2 if options.full else 1
    parts = [one for one in PARTS if one.level <= level and _is_wanted(one.scene, options.only)]
    sitting = Sitting()
    for number in range(options.rounds or (1 if options.quick else 3)):
        # What takes long is measured in every other round.
        chosen = [part for part in parts if part.level == 0 or number % 2 == 0]
        for part, entry in _pairs(chosen, options.peers, {one.key for one in left_out}):
            _measure(part, entry, options.scale * (0.3 if options.quick else 1), sitting)
            print(f"round {number + 1}: {part.title}: {entry.name}: {_line(sitting, part, entry)}", file=sys.stderr)
    text = _page(parts, sitting, [one.name for one in left_out])
    print(text)
    if not options.dry:
        _write(text, sitting)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="a look: few scenes, small, one round")
    add("--full", action="store_true", help="a million tasks and a million ended runs too; this takes long")
    add(
        "--rounds",
        type=int,
        default=0,
        help="how often each is measured, long scenes in every other round (3; 1 with --quick)",
    )
    add("--only", default="", help="scenes, with commas: backlog,now,burst,spread,register,idle,history")
    add("--peers", default="", help=f"subjects, with commas: {','.join(ALL)}")
    add("--scale", type=float, default=1.0, help="so many times the usual backlog (1)")
    add("--dry", action="store_true", help="write no files")
    return parser.parse_args()


def _is_wanted(word: str, wanted: str) -> bool:
    return not wanted or word in wanted.split(",")


def _pairs(parts: Sequence[Part], peers: str, left_out: set[str]) -> Iterator[tuple[Part, Entry]]:
    for part in parts:
        for entry in (*SUBJECTS, BARE):
            if entry.key in part.who and entry.key not in left_out and _is_wanted(entry.key, peers):
                yield part, entry


def _measure(part: Part, entry: Entry, scale: float, sitting: Sitting) -> None:
    size = part.size or max(500, int(entry.pace * 3 * scale))
    words = [sys.executable, "-m", "benchmarks.scenes", part.scene, entry.key, str(size)]
    sitting.sums.append(_fixed_sum())
    try:
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=WITHIN)
        told = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None
        reason = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
    except subprocess.TimeoutExpired:
        told, reason = None, f"not done within {WITHIN} s"
    sitting.sums.append(_fixed_sum())
    if told is None:
        print(f"{part.title}: {entry.name} could not be measured: {reason}", file=sys.stderr)
    else:
        sitting.seen.setdefault((part.title, entry.key), []).append(told)


def _fixed_sum() -> float:
    began = time.perf_counter()
    sum(number * number for number in range(1_000_000))
    return time.perf_counter() - began


def _line(sitting: Sitting, part: Part, entry: Entry) -> str:
    rounds = sitting.seen.get((part.title, entry.key), [])
    return ", ".join(f"{name} {_cell(rounds[-1:], key)}" for key, name in part.columns.items()) if rounds else "nothing"


def _cell(rounds: Sequence[Seen], key: str) -> str:
    """The median, with the least and the most of several rounds in brackets."""
    values = [one[key] for one in rounds if key in one]
    if not values:
        return "–"
    write = UNITS.get(key, _milliseconds)
    middle = write(statistics.median(values))
    return middle if len({write(v) for v in values}) == 1 else f"{middle} ({write(min(values))}–{write(max(values))})"


def _milliseconds(value: float) -> str:
    return f"{value:,.1f} ms"


def _page(parts: Sequence[Part], sitting: Sitting, left_out: Sequence[str]) -> str:
    warning = ": **a noisy machine, read the ratios only**" if sitting.noise > NOISY else ""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    lines = [
        "# Beside other schedulers",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}.",
        "Medians of the rounds; least and most in brackets where they differ.",
        f"The fixed sum varied by {sitting.noise:.0%}{warning}.",
        *(f"Left out, since a program is missing: {name}." for name in left_out),
    ]
    for part in parts:
        rows = [
            (entry, rounds) for entry in (*SUBJECTS, BARE) if (rounds := sitting.seen.get((part.title, entry.key), []))
        ]
        if rows:
            lines += ["", f"## {part.title}", "", *_table(part, rows)]
    return "\n".join(lines) + "\n"


def _table(part: Part, rows: Sequence[tuple[Entry, list[Seen]]]) -> Iterator[str]:
    key = next(iter(part.columns)) if part.scene != "now" else "p50_ms"
    has_ratio = part.scene in ("backlog", "register") and rows[0][0].key in OURS
    yield "| | " + " | ".join([*part.columns.values(), *(["ours to it"] if has_ratio else []), "it keeps"]) + " |"
    yield "|---|" + "--:|" * (len(part.columns) + has_ratio) + "---|"
    ours = statistics.median(one[key] for one in rows[0][1])
    for entry, rounds in rows:
        cells = [_cell(rounds, column) for column in part.columns]
        ratio = [f"{ours / statistics.median(one[key] for one in rounds):.2g} ×"] if has_ratio else []
        yield "| " + " | ".join([entry.name, *cells, *ratio, entry.keeps]) + " |"


def _write(text: str, sitting: Sitting) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    every = {f"{title}: {key}": rounds for (title, key), rounds in sitting.seen.items()}
    (RESULTS / "results.md").write_text(text)
    (RESULTS / "results.json").write_text(json.dumps({"sums": sitting.sums, "seen": every}, indent=1) + "\n")
    rates = [
        (entry.name, statistics.median(one["rate"] for one in rounds))
        for entry in SUBJECTS
        if (rounds := sitting.seen.get(("A due backlog", entry.key)))
    ]
    if rates:
        (RESULTS / "backlog.svg").write_text(chart.bars("A due backlog: runs a second", rates))


if __name__ == "__main__":
    sys.exit(main())
