"""``make bench``: every subject of the backlog, one after another and then again, on this machine in one sitting.

Rounds are interleaved, so that a neighbour's work falls on all of them. A fixed sum is timed before each measurement;
how much that varies is how noisy the machine was. Writes ``docs/benchmarks/results.md`` and ``results.json``.
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
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from benchmarks.backlog import SUBJECTS, Subject

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = ROOT / "docs" / "benchmarks"
NOISY: Final = 0.15
"""A machine whose fixed sum varied by more than this part is said to have been noisy."""
PACKAGES: Final = ("apscheduler", "huey", "sqlalchemy", "apsw")


@dataclass(frozen=True, slots=True)
class Figure:
    """One subject over all rounds: medians, and the worst and best of the rate."""

    subject: Subject
    rate: float
    least: float
    most: float
    cpu: float
    """Seconds of processor time for 1,000 runs, filling the backlog included."""


def main() -> int:
    """Measure, tell, write."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (5)")
    parser.add_argument("--only", default="", help="subjects whose names hold this text")
    parser.add_argument("--scale", type=float, default=1.0, help="so many times the usual number of runs (1)")
    parser.add_argument("--dry", action="store_true", help="write no files")
    options = parser.parse_args()
    chosen = [one for one in SUBJECTS if options.only.lower() in one.name.lower()]
    seen: dict[str, list[dict[str, Any]]] = {one.name: [] for one in chosen}
    sums: list[float] = []
    for number in range(options.rounds):
        for one in chosen:
            sums.append(_fixed_sum())
            seen[one.name].append(_measured(one, int(one.count * options.scale)))
            last = seen[one.name][-1]
            sys.stderr.write(f"round {number + 1}: {one.name}: {last['count'] / last['seconds']:,.0f} a second\n")
    figures = [_figure(one, seen[one.name]) for one in chosen]
    text = _page(figures, rounds=options.rounds, noise=statistics.pstdev(sums) / statistics.mean(sums))
    sys.stdout.write(text)
    if not options.dry:
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / "results.md").write_text(text)
        (RESULTS / "results.json").write_text(json.dumps(seen, indent=1) + "\n")
    return 0


def _fixed_sum() -> float:
    began = time.perf_counter()
    sum(number * number for number in range(1_000_000))
    return time.perf_counter() - began


def _measured(subject: Subject, count: int) -> dict[str, Any]:
    words = [sys.executable, "-m", "benchmarks.backlog", subject.name, str(count)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{subject.name} failed:\n{done.stderr[-3000:]}")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def _figure(subject: Subject, rounds: list[dict[str, Any]]) -> Figure:
    rates = [one["count"] / one["seconds"] for one in rounds]
    cpu = statistics.median(one["cpu"] / one["count"] * 1_000 for one in rounds)
    return Figure(subject, statistics.median(rates), min(rates), max(rates), cpu)


def _page(figures: list[Figure], *, rounds: int, noise: float) -> str:
    ours = figures[0]
    warning = ": a noisy machine, read the ratios only" if noise > NOISY else ""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    lines = [
        "# A due backlog",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}.",
        f"Medians of {rounds} interleaved rounds, least and most in brackets.",
        f"The fixed sum varied by {noise:.0%}{warning}.",
        "",
        "| | runs a second | ours to it | CPU s for 1,000, filling included | it keeps |",
        "|---|--:|--:|--:|---|",
    ]
    for one in figures:
        rate = f"{one.rate:,.0f} ({one.least:,.0f}–{one.most:,.0f})"
        ratio = f"{ours.rate / one.rate:.1f} ×"
        lines.append(f"| {one.subject.name} | {rate} | {ratio} | {one.cpu:.2f} | {one.subject.keeps} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
